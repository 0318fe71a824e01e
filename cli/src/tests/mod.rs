//! The verbs from the command line to the streams and the exit code, against a coordinator that
//! answers by a script.
#![allow(clippy::disallowed_methods, reason = "tests own their tasks")]

mod coordinator;
mod leaving;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use highwater_common::document::RunDocument;
use highwater_common::id::DocumentDigest;
use highwater_common::spec::Overlay;
use highwater_common::status::RunStatus;
use highwater_runtime::Interrupts;
use tokio::sync::mpsc;
use tonic::Code;

use self::coordinator::{Script, Scripted, Then, Watch};
use crate::commands::Context;
use crate::commands::plan::{AfterPlan, plan_file};
use crate::commands::run::{Submission, submit_and_follow};
use crate::connect::Where;
use crate::contexts::Contexts;
use crate::error::CliError;
use crate::pipeline_file::PipelineFile;
use crate::{Cli, ExitCode, Output, execute, samples};

/// What a command wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
        .unwrap()
    }
}

/// A reader that has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(ErrorKind::BrokenPipe.into())
    }
}

/// A command line, its streams and its signals.
struct Shell {
    cli: Cli,
    contexts: Contexts,
    output: Output,
    stdout: Written,
    stderr: Written,
    interrupts: Interrupts,
    ctrl_c: mpsc::Sender<()>,
}

impl Shell {
    fn new(line: &str) -> Self {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let (stdout, stderr) = (Written::default(), Written::default());
        let output = Output::to(
            &cli.global,
            Box::new(stdout.clone()),
            Box::new(stderr.clone()),
        );
        let (ctrl_c, interrupts) = mpsc::channel(4);
        Self {
            cli,
            contexts: Contexts::default(),
            output,
            stdout,
            stderr,
            interrupts: Interrupts::from_channel(interrupts),
            ctrl_c,
        }
    }

    fn context(&mut self) -> Context<'_> {
        Context {
            global: &self.cli.global,
            given: &self.cli.given,
            contexts: &self.contexts,
            output: &mut self.output,
            interrupts: &mut self.interrupts,
        }
    }

    async fn execute(&mut self) -> u8 {
        execute(
            &self.cli,
            &self.contexts,
            &mut self.output,
            &mut self.interrupts,
        )
        .await
        .number()
    }

    /// `run` of a file that has been read already.
    async fn run(&mut self) -> Result<ExitCode, CliError> {
        let place = Where::new(&self.cli.global, 4);
        let submission = Submission {
            fresh: false,
            detach: false,
        };
        submit_and_follow(&mut self.context(), &place, &pipeline(), submission).await
    }
}

fn pipeline() -> PipelineFile {
    PipelineFile {
        path: PathBuf::from("pipeline.yaml"),
        typed: "pipeline.yaml".to_owned(),
        overlay: Overlay::default(),
        groups: Vec::new(),
        disabled: Vec::new(),
        files: Default::default(),
        selections: Vec::new(),
        saved: None,
        base_dir: PathBuf::from("/"),
        name: "shop".to_owned(),
        steps: 2,
        digest: DocumentDigest::of(b"spec"),
        spec: b"{}".to_vec(),
    }
}

/// The shell after a run that ended like `end`, and the exit code.
async fn ran(flags: &str, end: RunDocument) -> (Shell, ExitCode) {
    let url = Scripted::new(Script::ending_with(end)).on_port().await;
    let mut shell = Shell::new(&format!(
        "highwater run pipeline.yaml --coordinator {url} {flags}"
    ));
    let exit = shell.run().await.unwrap();
    (shell, exit)
}

#[tokio::test]
async fn every_exit_code_is_reachable() {
    let mut seen = Vec::new();
    // Runs that ended.
    let nothing_committed = RunDocument {
        committed: false,
        ..samples::failed_run()
    };
    for end in [
        samples::succeeded(),
        samples::failed_run(),
        nothing_committed,
        samples::cancelled(),
    ] {
        seen.push(ran("", end).await.1.number());
    }
    // A run that was left.
    let url = Scripted::new(Script::endless()).on_port().await;
    let mut shell = Shell::new(&format!("highwater run pipeline.yaml --coordinator {url}"));
    shell.ctrl_c.send(()).await.unwrap();
    seen.push(match shell.run().await {
        Ok(exit) => exit.number(),
        Err(error) => error.exit().number(),
    });
    // Refusals, failures and unknown names.
    for code in [
        Code::Internal,
        Code::InvalidArgument,
        Code::NotFound,
        Code::Unauthenticated,
        Code::FailedPrecondition,
    ] {
        let url = Scripted::new(Script::refusing(code, "because"))
            .on_port()
            .await;
        seen.push(
            Shell::new(&format!("highwater status --coordinator {url}"))
                .execute()
                .await,
        );
    }
    // A task that waits for a person.
    let mut in_doubt = samples::failed_run();
    in_doubt.tasks.in_doubt = 1;
    seen.push(ran("", in_doubt).await.1.number());
    // A plan with something to do, asked for by its code.
    let planned = RunDocument {
        status: RunStatus::Planned,
        ..samples::run()
    };
    let url = Scripted::new(Script::ending_with(planned)).on_port().await;
    let mut shell = Shell::new(&format!("highwater plan p.yaml --coordinator {url}"));
    let place = Where::new(&shell.cli.global, 4);
    let after = AfterPlan {
        exit_code: true,
        ..AfterPlan::default()
    };
    let exit = plan_file(&mut shell.context(), &place, &pipeline(), after).await;
    seen.push(exit.unwrap().number());
    // A run that takes longer than somebody waits.
    let url = Scripted::new(Script::endless()).on_port().await;
    seen.push(
        Shell::new(&format!(
            "highwater wait r-71c --timeout 50ms --coordinator {url}"
        ))
        .execute()
        .await,
    );
    assert_eq!(seen, [0, 3, 7, 8, 130, 1, 2, 4, 5, 6, 9, 10, 124]);
    // And there is no other.
    seen.sort_unstable();
    let all: Vec<u8> = ExitCode::ALL.into_iter().map(ExitCode::number).collect();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable_and_says_so() {
    // GIVEN a port that was free a moment ago
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    // WHEN it is asked
    let mut shell = Shell::new(&format!(
        "highwater ls --coordinator http://127.0.0.1:{port}"
    ));
    // THEN the error has a place, a cause and a way on
    assert_eq!(shell.execute().await, 5);
    let text = shell.stderr.text().replace(&port.to_string(), "PORT");
    insta::assert_snapshot!(text, @r"
    error: cannot reach the coordinator
      where: cluster http://127.0.0.1:PORT
      why: Connection refused (os error 111)
      next: start it, or leave --coordinator and HIGHWATER_COORDINATOR away to run in this process
    ");
    assert_eq!(shell.stdout.text(), "");
}

#[tokio::test]
async fn an_address_that_is_none_is_a_usage_error() {
    for url in ["https://c-1:7070", "http://"] {
        assert_eq!(
            Shell::new(&format!("highwater ls --coordinator {url}"))
                .execute()
                .await,
            2,
            "{url}"
        );
    }
}

#[tokio::test]
async fn stdout_is_only_data() {
    let (shell, _) = ran("--progress lines", samples::succeeded()).await;
    assert_eq!(
        shell.stdout.text(),
        "Run r-71c success in 5.2 s: 31 tasks · 27,004 rows\n"
    );
    assert!(
        shell.stderr.text().starts_with("cluster http://127.0.0.1:"),
        "{}",
        shell.stderr.text()
    );
    let (shell, _) = ran("-o json", samples::succeeded()).await;
    let document: RunDocument = serde_json::from_str(&shell.stdout.text()).unwrap();
    assert_eq!(document, samples::succeeded());
    let (shell, _) = ran("-o name", samples::succeeded()).await;
    assert_eq!(shell.stdout.text(), format!("{}\n", samples::RUN));
}

#[tokio::test]
async fn piped_output_is_plain_lines() {
    let (shell, _) = ran("", samples::failed_run()).await;
    let text = shell.stderr.text();
    assert!(!text.contains(['\r', '\u{1b}']), "{text}");
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert!(
        lines.len() > 3 && lines.iter().all(|line| line.starts_with("r-71c ")),
        "{text}"
    );
}

#[tokio::test]
async fn quiet_leaves_stderr_to_errors() {
    let (shell, _) = ran("-q", samples::failed_run()).await;
    assert_eq!(shell.stderr.text(), "");
    assert!(
        shell
            .stdout
            .text()
            .starts_with("Run r-71c failed, part committed,")
    );
}

#[tokio::test]
async fn progress_as_json_is_one_document_a_line_on_stderr() {
    let (shell, _) = ran("--progress json", samples::succeeded()).await;
    let text = shell.stderr.text();
    let statuses: Vec<RunStatus> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<RunDocument>(line).unwrap().status)
        .collect();
    assert_eq!(statuses, [RunStatus::Running, RunStatus::Success]);
}

#[tokio::test]
async fn a_closed_pipe_ends_quietly() {
    let scripted = Scripted::new(Script::ending_with(samples::failed_run()));
    let url = scripted.on_port().await;
    let mut shell = Shell::new(&format!("highwater run pipeline.yaml --coordinator {url}"));
    shell.output = Output::to(&shell.cli.global, Box::new(Gone), Box::new(Gone));
    assert_eq!(shell.run().await.unwrap(), ExitCode::PartCommitted);
}

#[tokio::test]
async fn a_plan_is_made_and_shown_and_nothing_runs() {
    let planned = RunDocument {
        status: RunStatus::Planned,
        ..samples::run()
    };
    let scripted = Scripted::new(Script::ending_with(planned));
    let url = scripted.on_port().await;
    let mut shell = Shell::new(&format!(
        "highwater plan pipeline.yaml --progress none --coordinator {url}"
    ));
    let place = Where::new(&shell.cli.global, 4);
    let exit = plan_file(
        &mut shell.context(),
        &place,
        &pipeline(),
        AfterPlan::default(),
    )
    .await
    .unwrap();
    assert_eq!(exit, ExitCode::Success);
    assert!(
        shell.stdout.text().contains("exactly-once effect"),
        "{}",
        shell.stdout.text()
    );
    let run = samples::RUN;
    assert_eq!(
        scripted.asked(),
        [
            "submit plan_only=true fresh=false".to_owned(),
            format!("watch {run}"),
            "plan".into()
        ]
    );
}

#[tokio::test]
async fn a_refused_run_names_the_commands_that_lead_on() {
    let url = Scripted::new(Script::refusing(
        Code::FailedPrecondition,
        "run r-71c of shop is active",
    ))
    .on_port()
    .await;
    let mut shell = Shell::new(&format!("highwater run pipeline.yaml --coordinator {url}"));
    let error = shell.run().await.unwrap_err();
    let text = error.render(&shell.output.talk_look).replace(&url, "URL");
    insta::assert_snapshot!(text, @r"
    error: cannot start the run
      where: cluster URL
      why: run r-71c of shop is active
      next: highwater --coordinator URL status, or highwater --coordinator URL run pipeline.yaml --new to cancel the unfinished run first
    ");
}

#[tokio::test]
async fn a_live_process_is_reached_through_its_socket_and_not_joined_by_a_run() {
    // GIVEN a process that holds a folder
    let dir = tempfile::tempdir().unwrap();
    let scripted = Scripted::new(Script::endless());
    scripted.in_folder(dir.path());
    let state = dir.path().display();
    // WHEN it is asked for a run, THEN it answers
    let mut shell = Shell::new(&format!("highwater status --state {state}"));
    assert_eq!(shell.execute().await, 0, "{}", shell.stderr.text());
    assert!(
        shell.stdout.text().starts_with("r-71c shop running"),
        "{}",
        shell.stdout.text()
    );
    // WHEN a second run wants the same folder, THEN it is refused
    let mut shell = Shell::new(&format!("highwater run pipeline.yaml --state {state}"));
    assert_eq!(shell.run().await.unwrap_err().exit(), ExitCode::Refused);
}

#[tokio::test]
async fn a_folder_that_does_not_exist_has_no_runs_and_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("none");
    for verb in ["status", "ls", "cluster status"] {
        let mut shell = Shell::new(&format!("highwater {verb} --state {}", state.display()));
        assert_eq!(shell.execute().await, 4, "{verb}");
    }
    assert!(!state.exists());
}

#[tokio::test]
async fn a_cancel_needs_a_yes_and_names_the_whole_id() {
    let scripted = Scripted::new(Script::endless());
    let url = scripted.on_port().await;
    // GIVEN nobody to ask, THEN nothing is cancelled
    let line = format!("highwater cancel r-71c --reason wrong --coordinator {url}");
    let mut shell = Shell::new(&format!("{line} --no-input"));
    assert_eq!(shell.execute().await, 6);
    assert!(
        shell
            .stderr
            .text()
            .contains("cancels run r-71c of shop: 4 open and 15 waiting tasks")
    );
    assert_eq!(scripted.asked(), ["get r-71c"]);
    // GIVEN a yes, THEN the run that was shown is cancelled
    let mut shell = Shell::new(&format!("{line} -y"));
    assert_eq!(shell.execute().await, 0);
    assert_eq!(
        scripted.asked().last(),
        Some(&format!("cancel {} because wrong", samples::RUN))
    );
    assert!(
        shell
            .stdout
            .text()
            .starts_with("Run r-71c cancelled in 12 s")
    );
}

#[tokio::test]
async fn a_retry_follows_the_run_to_its_end() {
    let scripted = Scripted::new(Script::ending_with(samples::succeeded()));
    let url = scripted.on_port().await;
    let mut shell = Shell::new(&format!(
        "highwater retry r-71c --step orders --coordinator {url}"
    ));
    assert_eq!(shell.execute().await, 0);
    assert_eq!(
        scripted.asked(),
        [
            "retry r-71c step=orders".to_owned(),
            format!("watch {}", samples::RUN)
        ]
    );
}

#[tokio::test]
async fn a_run_of_this_process_cannot_be_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().display();
    for verb in ["run pipeline.yaml", "retry r-71c"] {
        assert_eq!(
            Shell::new(&format!("highwater {verb} --detach --state {state}"))
                .execute()
                .await,
            2,
            "{verb}"
        );
    }
}

#[tokio::test]
async fn tables_names_and_documents_come_from_the_same_answer() {
    let url = Scripted::new(Script::endless()).on_port().await;
    for (verb, name) in [
        ("ls", samples::RUN.to_string()),
        ("cluster status", samples::cluster().cluster.to_string()),
    ] {
        let mut shell = Shell::new(&format!("highwater {verb} -o name --coordinator {url}"));
        assert_eq!(shell.execute().await, 0);
        assert_eq!(shell.stdout.text().lines().next(), Some(name.as_str()));
        let mut shell = Shell::new(&format!("highwater {verb} -o json --coordinator {url}"));
        assert_eq!(shell.execute().await, 0);
        assert!(
            shell.stdout.text().contains("\"schema\": \""),
            "{}",
            shell.stdout.text()
        );
    }
}

#[tokio::test]
async fn the_version_is_data_in_every_form() {
    for form in ["table", "json", "name"] {
        let mut shell = Shell::new(&format!("highwater version -o {form}"));
        assert_eq!(shell.execute().await, 0);
        assert!(
            shell.stdout.text().contains(env!("CARGO_PKG_VERSION")),
            "{form}"
        );
        assert_eq!(shell.stderr.text(), "");
    }
}
