//! How a run is left, and what happens when the coordinator leaves.

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::connect::{Connection, Destination};
use crate::control::client;
use crate::embedded::Embedded;
use crate::follow::{Followed, Follower, Until};
use crate::progress::Reporter;

/// A run of this process that goes on for ever, and what its process has of it.
async fn own_process() -> (
    Connection,
    CancellationToken,
    CancellationToken,
    oneshot::Sender<Result<(), CliError>>,
) {
    let url = Scripted::new(Script::endless()).on_port().await;
    let channel = tonic::transport::Endpoint::from_shared(url)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let (end, ended) = oneshot::channel();
    let embedded = Embedded {
        client: client(channel, crate::token::Token::None),
        drain: drain.clone(),
        stop: stop.clone(),
        ended,
    };
    let place = Destination::Embedded;
    (
        Connection::of_process(embedded, place, "embedded .highwater, 4 workers".to_owned()),
        drain,
        stop,
        end,
    )
}

async fn follow(shell: &mut Shell, connection: &mut Connection) -> Result<Followed, CliError> {
    let reporter = Reporter::new(&shell.cli.global, &shell.output);
    let follower = Follower {
        connection,
        run: samples::RUN.to_string(),
        until: Until::Ended,
        come_back: "highwater run pipeline.yaml".to_owned(),
        output: &mut shell.output,
        interrupts: &mut shell.interrupts,
    };
    follower.follow(reporter).await
}

#[tokio::test]
async fn ctrl_c_leaves_a_cluster_run_running_and_tells_how_to_come_back() {
    // GIVEN a run that is followed
    let scripted = Scripted::new(Script::endless());
    let url = scripted.on_port().await;
    let mut shell = Shell::new(&format!("highwater run pipeline.yaml --coordinator {url}"));
    let (stderr, ctrl_c) = (shell.stderr.clone(), shell.ctrl_c.clone());
    // WHEN Ctrl-C comes once the run is seen
    let press = async {
        while !stderr.text().contains("r-71c shop running") {
            tokio::task::yield_now().await;
        }
        ctrl_c.send(()).await.unwrap();
    };
    let (exit, ()) = tokio::join!(shell.run(), press);
    // THEN nobody cancels it
    assert_eq!(exit.unwrap(), ExitCode::Interrupted);
    let back = format!(
        "detached, the run goes on; come back with: highwater --coordinator {url} status r-71c003\n"
    );
    assert!(stderr.text().ends_with(&back), "{}", stderr.text());
    assert!(
        scripted
            .asked()
            .iter()
            .all(|question| !question.starts_with("cancel"))
    );
}

#[tokio::test]
async fn the_first_ctrl_c_drains_this_process_and_waits_for_its_end() {
    let (mut connection, drain, stop, end) = own_process().await;
    let mut shell = Shell::new("highwater run pipeline.yaml");
    shell.ctrl_c.send(()).await.unwrap();
    let process = async {
        drain.cancelled().await;
        end.send(Ok(())).unwrap();
    };
    let (followed, ()) = tokio::join!(follow(&mut shell, &mut connection), process);
    assert!(matches!(followed, Ok(Followed::Left)));
    assert!(!stop.is_cancelled());
    let text = shell.stderr.text();
    assert!(
        text.contains(
            "draining, Ctrl-C again stops at once; go on later with: highwater run pipeline.yaml"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn the_second_ctrl_c_stops_at_once() {
    let (mut connection, drain, stop, _end) = own_process().await;
    let mut shell = Shell::new("highwater run pipeline.yaml");
    shell.ctrl_c.send(()).await.unwrap();
    shell.ctrl_c.send(()).await.unwrap();
    assert!(matches!(
        follow(&mut shell, &mut connection).await,
        Ok(Followed::Left)
    ));
    assert!(drain.is_cancelled() && stop.is_cancelled());
}

#[tokio::test]
async fn a_process_that_ends_by_itself_is_an_error_with_its_cause() {
    let (mut connection, _, _, end) = own_process().await;
    let mut shell = Shell::new("highwater run pipeline.yaml");
    end.send(Err(CliError::new(
        ExitCode::Refused,
        "another process took the store",
    )))
    .unwrap();
    let error = follow(&mut shell, &mut connection).await.unwrap_err();
    assert_eq!(error.exit(), ExitCode::Refused);
    assert!(
        error
            .render(&shell.output.talk_look)
            .contains("next: highwater run pipeline.yaml")
    );
}

#[tokio::test]
async fn a_change_of_leaders_is_endured() {
    // GIVEN a leader that resigns in the middle, and one that answers afterwards
    let mut script = Script::ending_with(samples::succeeded());
    script
        .watches
        .insert(0, Watch(vec![samples::run()], Then::Break));
    let scripted = Scripted::new(script);
    let url = scripted.on_port().await;
    // WHEN the run is followed, THEN it is followed to its end
    let mut shell = Shell::new(&format!("highwater run pipeline.yaml --coordinator {url}"));
    assert_eq!(shell.run().await.unwrap(), ExitCode::Success);
    assert_eq!(
        scripted
            .asked()
            .iter()
            .filter(|question| question.starts_with("watch"))
            .count(),
        2
    );
}

#[tokio::test]
async fn a_process_that_went_away_is_not_waited_for() {
    // GIVEN another process of this machine, whose run this one retries
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::endless();
    script.watches = vec![Watch(vec![samples::run()], Then::Break)];
    Scripted::new(script).in_folder(dir.path());
    // WHEN it ends in the middle, THEN this command ends too, and says why
    let mut shell = Shell::new(&format!(
        "highwater retry r-71c --state {}",
        dir.path().display()
    ));
    assert_eq!(shell.execute().await, 5);
    assert!(
        shell.stderr.text().contains("why: the leader has resigned"),
        "{}",
        shell.stderr.text()
    );
}
