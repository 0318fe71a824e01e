use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A daemon that is ready when the test says so.
#[derive(Default)]
struct Told(Mutex<Option<String>>);

impl Told {
    fn waits_for(&self, what: Option<&str>) {
        *self.0.lock().expect("no panic") = what.map(ToOwned::to_owned);
    }
}

impl Ready for Told {
    fn ready(&self) -> Result<(), String> {
        self.0.lock().expect("no panic").clone().map_or(Ok(()), Err)
    }
}

fn settled(named: Option<&str>, file: Option<&str>) -> Result<AdminListen, Ending> {
    let args = AdminArgs {
        admin_listen: named.map(ToOwned::to_owned),
    };
    args.settle(file.map(ToOwned::to_owned))
}

/// The status of the answer, and its body.
async fn ask(address: SocketAddr, what: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{what} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

#[tokio::test]
async fn startup_and_ready_say_what_is_waited_for_and_what_started_stays_so() {
    // GIVEN a daemon that waits for its store
    let daemon = Arc::new(Told::default());
    daemon.waits_for(Some("the store cannot be read"));
    let listen = settled(Some("127.0.0.1:0"), None).expect("an address");
    let metrics = Metrics::new("0.1.0", &crate::telemetry::Telemetry::default()).expect("set up");
    let admin = open(listen, Arc::<Told>::clone(&daemon), metrics).await;
    let admin = admin.expect("it listens").expect("it is on");
    let at = admin.address();
    // THEN it lives, but is neither started nor ready, and says why
    let waits = (503, "the store cannot be read\n".to_owned());
    assert_eq!(ask(at, "GET /health/live").await, (200, "ok\n".to_owned()));
    assert_eq!(ask(at, "GET /health/startup").await, waits);
    assert_eq!(ask(at, "GET /health/ready").await, waits);
    // WHEN the store is there
    daemon.waits_for(None);
    assert_eq!(ask(at, "GET /health/startup").await.0, 200);
    assert_eq!(ask(at, "GET /health/ready").await.0, 200);
    // AND goes away, THEN it is not ready, and has started all the same
    daemon.waits_for(Some("the store cannot be read"));
    assert_eq!(ask(at, "GET /health/ready").await, waits);
    assert_eq!(ask(at, "GET /health/startup").await.0, 200);
    // AND the numbers are there, and nothing else is
    let (status, text) = ask(at, "GET /metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("highwater_build_info"), "{text}");
    assert_eq!(ask(at, "GET /").await.0, 404);
    assert_eq!(ask(at, "POST /metrics").await.0, 405);
    // AND it is over with its owner
    drop(admin);
    gone(at).await;
}

/// Waits until nobody listens there any more.
async fn gone(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_only_where_it_was_named() {
    // GIVEN a port that somebody else has
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let metrics =
        || Metrics::new("0.1.0", &crate::telemetry::Telemetry::default()).expect("set up");
    let ready = || Arc::new(Told::default());
    // THEN a daemon that was told of none goes on without
    let off = open(AdminListen::IfFree(address), ready(), metrics()).await;
    assert!(off.expect("it goes on").is_none());
    let off = open(AdminListen::Off, ready(), metrics()).await;
    assert!(off.expect("it goes on").is_none());
    // AND one that was told to listen there says that it cannot
    let refused = open(AdminListen::At(address), ready(), metrics()).await;
    let refused = refused.expect_err("it is taken");
    assert!(
        refused.message.contains(&address.to_string()),
        "{refused:?}"
    );
}

#[test]
fn the_flag_beats_the_file_and_the_file_the_default() {
    let at = |text: &str| AdminListen::At(text.parse().expect("an address"));
    let settle = |named, file| settled(named, file).expect("legal");
    assert_eq!(settle(None, None), AdminListen::IfFree(DEFAULT));
    assert_eq!(settle(None, Some("0.0.0.0:1")), at("0.0.0.0:1"));
    assert_eq!(settle(Some("[::]:2"), Some("0.0.0.0:1")), at("[::]:2"));
    assert_eq!(settle(Some("off"), Some("0.0.0.0:1")), AdminListen::Off);
    let wrong = settled(Some("7072"), None).expect_err("no address");
    assert_eq!(wrong.exit, crate::ExitCode::Usage);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_does_not_keep_others_out() {
    // GIVEN as many callers as there are places, who say nothing
    let listen = AdminListen::At("127.0.0.1:0".parse().expect("an address"));
    let metrics = Metrics::new("0.1.0", &crate::telemetry::Telemetry::default()).expect("set up");
    let admin = open(listen, Arc::new(Told::default()), metrics).await;
    let admin = admin.expect("it listens").expect("it is on");
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(
            TcpStream::connect(admin.address())
                .await
                .expect("it listens"),
        );
    }
    // WHEN somebody asks, THEN he is answered once the time for a question has passed
    let asked = tokio::time::Instant::now();
    assert_eq!(ask(admin.address(), "GET /health/live").await.0, 200);
    assert!(asked.elapsed() <= HEADER_WAIT * 2, "{:?}", asked.elapsed());
    // AND those who said nothing were let go
    let mut end = [0; 1];
    for mut stream in silent {
        assert!(matches!(stream.read(&mut end).await, Ok(0) | Err(_)));
    }
}
