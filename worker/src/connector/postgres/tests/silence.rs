//! A server whose packets are dropped: it neither answers nor closes, and its sessions live on
//! there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_common::assignment::AttemptError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::*;
use crate::patience::{Call, answered};

/// Forwards to a server until a client says `word`. That and whatever comes after it on the line is
/// swallowed, both ways, and the test's clock runs as fast as it can.
struct Line {
    port: u16,
    /// Whether it listens for the word.
    listens: Arc<AtomicBool>,
    /// One for each line that went silent and that its client has closed since.
    left: Arc<Semaphore>,
}

impl Line {
    async fn silent_at(server: &Server, word: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (behind, left) = (server.port(), Arc::new(Semaphore::new(0)));
        let listens = Arc::new(AtomicBool::new(true));
        let (leaving, listening) = (Arc::clone(&left), Arc::clone(&listens));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", behind))
                    .await
                    .expect("the server is up");
                tokio::spawn(forward(
                    client,
                    server,
                    word,
                    Arc::clone(&listening),
                    Arc::clone(&leaving),
                ));
            }
        });
        Self {
            port,
            listens,
            left,
        }
    }

    fn target(&self, world: &World) -> PostgresTarget {
        let url = format!(
            "postgres://postgres:{}@127.0.0.1:{}/wh",
            server::PASSWORD,
            self.port
        );
        PostgresTarget::new(
            &url,
            "wh".parse().expect("a name"),
            world.supervisor.clone(),
        )
        .expect("a good url")
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    word: &'static str,
    listens: Arc<AtomicBool>,
    left: Arc<Semaphore>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let silence = CancellationToken::new();
    let heard = silence.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = heard.cancelled() => {}
            _ = tokio::io::copy(&mut from_server, &mut to_client) => return,
        }
        std::future::pending::<()>().await; // dropping its side of the line would close it
    });
    let (mut chunk, mut is_silent) = (vec![0; 64 * 1024], false);
    while let Ok(length) = from_client.read(&mut chunk).await {
        let said = &chunk[..length];
        if length == 0 {
            break;
        }
        if !is_silent
            && listens.load(Ordering::Relaxed)
            && String::from_utf8_lossy(said).contains(word)
        {
            is_silent = true;
            silence.cancel();
            tokio::time::pause();
        }
        if !is_silent {
            to_server.write_all(said).await.ok();
        }
    }
    if is_silent {
        left.add_permits(1);
        // The server never hears of it.
        std::future::pending::<()>().await;
    }
}

/// What comes of a call at a server that goes silent when it hears `word`.
async fn silenced<T>(
    call: Call,
    word: &'static str,
    ask: impl AsyncFnOnce(&World, &PostgresTarget, &Claim) -> Result<T, AttemptError>,
) {
    // GIVEN a target that is prepared, behind a line
    let world = World::with_orders(10).await;
    let claim = world.claim_of(1, all()).await;
    let line = Line::silent_at(&world.server, word).await;
    // WHEN the line goes silent in the midst of the call
    let asked = ask(&world, &line.target(&world), &claim).await;
    let error = asked.err().expect("nobody answers");
    tokio::time::resume();
    // THEN the call is given up by this side's clock, and its session is closed
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::Unreachable, "silent"),
        "{call}: {}",
        error.message
    );
    line.left.acquire().await.expect("open").forget();
}

#[tokio::test]
async fn a_silent_host_is_left_when_the_time_of_a_call_is_over() {
    let name = "wh".parse().expect("a name");
    let stall = Duration::from_mins(10);
    silenced(
        Call::Claim,
        "insert into highwater.task",
        async |_, target, claim| answered(Call::Claim, &name, stall, target.claim(claim)).await,
    )
    .await;
    silenced(Call::Ledger, "highwater.task", async |_, target, claim| {
        answered(
            Call::Ledger,
            &name,
            stall,
            target.ledger_row(&claim.run, &claim.task),
        )
        .await
    })
    .await;
    silenced(Call::Fence, "highwater.run", async |_, target, claim| {
        answered(
            Call::Fence,
            &name,
            stall,
            target.fence_run(&claim.cluster, &claim.run),
        )
        .await
    })
    .await;
    silenced(Call::Columns, "pg_attribute", async |_, target, _| {
        answered(
            Call::Columns,
            &name,
            stall,
            target.columns(&table_name("orders")),
        )
        .await
    })
    .await;
    silenced(
        Call::Prepare,
        "pg_advisory_xact_lock",
        async |world, target, _| {
            let request = prepare_request(world.columns().await);
            answered(Call::Prepare, &name, stall, target.prepare(&request)).await
        },
    )
    .await;
    silenced(Call::Probe, "pg_attribute", async |_, target, _| {
        let probe = TargetProbe {
            twin: None,
            cluster: CLUSTER,
            table: table_name("orders"),
            source_engine: Engine::Postgres,
            columns: Vec::new(),
            partition: None,
            stream: STREAM.into(),
            triggers: Triggers::Fire,
            exchange: false,
        };
        answered(Call::Probe, &name, stall, target.probe(&probe)).await
    })
    .await;
}

#[tokio::test]
async fn a_begin_without_an_answer_is_waited_for_a_minute_and_never_cancelled() {
    // GIVEN a claim that stands, on a line that goes silent when it begins
    let world = World::with_orders(10).await;
    let claim = world.claim_of(1, all()).await;
    let line = Line::silent_at(&world.server, "begin isolation level").await;
    line.listens.store(false, Ordering::Relaxed);
    let ClaimOutcome::Held(held) = line.target(&world).claim(&claim).await.expect("no fault")
    else {
        panic!("held")
    };
    line.listens.store(true, Ordering::Relaxed);
    // WHEN it begins its transaction
    let error = held.begin().await.err().expect("nobody answers");
    // THEN the wait is over by this side's clock
    assert_eq!(
        (error.report.class, error.report.code.as_str()),
        (ErrorClass::Unreachable, "silent")
    );
    // AND the begin itself goes on: its session is still there, and a worker that ends waits for it
    // no longer than its time
    assert_eq!(line.left.available_permits(), 0);
    assert!(
        world
            .supervisor
            .wait(Duration::from_secs(10))
            .await
            .is_err(),
        "the begin has not ended"
    );
}
