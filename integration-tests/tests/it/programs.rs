//! Steps that are programs of the user's own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions};
use highwater_integration_tests::{Finished, Running, until};

use crate::site::{Engine, LIMIT, Site, assert_exit, assert_says};

/// A folder with a pipeline of one step, whose program is this script, and more keys of the step.
async fn site(script: &str, more: &str) -> Site {
    let site = Site::empty(Engine::Sqlite).await;
    program(&site, "job", script);
    let job = site.path("job").display().to_string();
    site.write_pipeline(&format!(
        "steps:\n  job:\n    strategy: exec\n    command: [{job}, \"{{run.id}}\", \"a b; touch evil $(touch \
         evil)\", '*']\n    retries: {{initial: 10ms, max: 10ms, max_attempts: 3}}\n{more}"
    ));
    site
}

/// Writes a program of the folder.
fn program(site: &Site, name: &str, script: &str) {
    let path = site.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

async fn run(site: &Site, more: &[&str]) -> Finished {
    let folder = site.path("").display().to_string();
    let args = ["run", "pipeline.yaml", "--allow-exec", &folder];
    site.finish(&[&args[..], more].concat()).await
}

async fn start(site: &Site, failpoints: &str) -> Running {
    let folder = site.path("").display().to_string();
    site.highwater(&["run", "pipeline.yaml", "--allow-exec", &folder])
        .await
        .failpoints(failpoints)
        .start()
        .unwrap()
}

/// The lines of a file of the folder.
fn lines(site: &Site, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(site.path(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn until_there(site: &Site, name: &str) -> PathBuf {
    let path = site.path(name);
    until(name, LIMIT, async || Ok(path.exists().then_some(())))
        .await
        .unwrap();
    path
}

#[tokio::test]
async fn arguments_never_meet_a_shell() {
    // GIVEN a program that tells its arguments and its environment
    let script = "printf '%s\\n' \"$@\" > arguments; env | sort > variables; ls -A > files";
    let site = site(script, "    env: {GREETING: \"it's $HOME\"}\n").await;
    let planned = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&planned, 0);
    assert_says(&planned.stdout, "NOT one transaction: at most once");
    // WHEN it runs THEN each of them is as it was written
    assert_exit(&run(&site, &[]).await, 0);
    let run = site.status().await["run"].as_str().unwrap().to_owned();
    let expected = [run.as_str(), "a b; touch evil $(touch evil)", "*"];
    assert_eq!(lines(&site, "arguments"), expected);
    assert!(!site.path("evil").exists());
    // AND nothing of ours is among its variables
    let names = [
        "GREETING=",
        "HIGHWATER_",
        "LANG=",
        "PATH=",
        "PWD=",
        "SHLVL=",
        "_=",
        "OLDPWD=",
    ];
    let variables = lines(&site, "variables");
    for variable in &variables {
        assert!(
            names.iter().any(|name| variable.starts_with(name)),
            "{variable}"
        );
    }
    assert!(variables.contains(&"GREETING=it's $HOME".to_owned()));
    assert!(variables.contains(&format!("HIGHWATER_RUN={run}")));
    assert!(variables.contains(&"HIGHWATER_STEP=job".to_owned()));
}

#[tokio::test]
async fn a_program_that_nobody_allows_does_not_run() {
    let site = site("touch ran", "").await;
    let refused = site.run().await;
    assert_exit(&refused, 6);
    assert_says(&refused.stderr, "--allow-exec");
    let elsewhere = site.path("other").display().to_string();
    std::fs::create_dir(&elsewhere).unwrap();
    let args = ["run", "pipeline.yaml", "--allow-exec", &elsewhere];
    assert_exit(&site.finish(&args).await, 6);
    assert!(!site.path("ran").exists());
}

#[tokio::test]
async fn what_a_program_answers_says_whether_it_is_tried_again() {
    // 75: it wants to be tried again
    let site = site("echo x >> tries; [ $(wc -l < tries) -ge 3 ] || exit 75", "").await;
    assert_exit(&run(&site, &[]).await, 0);
    assert_eq!(lines(&site, "tries").len(), 3);
    // anything else: it does not, and what it said is told
    program(
        &site,
        "job",
        "echo tried >> failures; echo 'no disk in drive B' >&2; exit 3",
    );
    let failed = run(&site, &["--new"]).await;
    assert_exit(&failed, 7);
    assert_says(&failed.stdout, "code 3");
    assert_says(&failed.stdout, "no disk in drive B");
    assert_eq!(lines(&site, "failures").len(), 1);
    // and a person may
    program(&site, "job", "touch done");
    let folder = site.path("").display().to_string();
    let retried = site.finish(&["retry", "--allow-exec", &folder]).await;
    assert_exit(&retried, 0);
    assert!(site.path("done").exists());
}

#[tokio::test]
async fn exec_killed_between_effect_and_commit_is_in_doubt_not_rerun() {
    for verdict in ["--applied", "--not-applied"] {
        // GIVEN a program that did its work, and a process that died before it could say so
        let site = site("echo x >> effects", "").await;
        let mut dying = start(&site, "attempt::after_program=return(abort)").await;
        let ended = dying.wait(LIMIT).await.unwrap();
        assert_eq!(
            ended.code(),
            None,
            "{} {}",
            dying.stdout().unwrap(),
            dying.stderr().unwrap()
        );
        // WHEN the run goes on THEN it does not run again, and a person is asked
        let doubted = run(&site, &[]).await;
        assert_exit(&doubted, 6);
        assert_says(&doubted.stderr, "highwater resolve");
        let waited = site.finish(&["wait"]).await;
        assert_exit(&waited, 9);
        assert_says(&waited.stdout, "1 in_doubt");
        assert_says(&waited.stdout, "highwater resolve");
        assert_eq!(lines(&site, "effects").len(), 1);
        let tasks = site.finish(&["tasks", "--in-state", "in_doubt"]).await;
        assert_says(&tasks.stdout, "command");
        // AND a retry does not touch it
        let folder = site.path("").display().to_string();
        let allow = ["--allow-exec", &folder];
        let retried = site.finish(&[&["retry"][..], &allow].concat()).await;
        assert_exit(&retried, 4);
        // WHEN the person says so THEN the run goes on behind it, or it runs again
        let args = [
            "resolve",
            "pipeline.yaml",
            "job",
            verdict,
            "--reason",
            "I looked",
        ];
        let resolved = site.finish(&[&args[..], &allow].concat()).await;
        assert_exit(&resolved, 0);
        let effects = match verdict {
            "--applied" => 1,
            _ => 2,
        };
        assert_eq!(lines(&site, "effects").len(), effects, "{verdict}");
        let again = site.finish(&[&args[..], &allow].concat()).await;
        assert_exit(&again, 6);
    }
}

#[tokio::test]
async fn a_crash_between_effect_and_commit_is_never_rerun_unprobed() {
    // GIVEN a probe that sees the effect
    let probe = |site: &Site| format!("    probe: [{}]\n", site.path("probe").display());
    let site = site("echo x >> effects", "").await;
    program(&site, "probe", "echo x >> probes; [ -e effects ] || exit 1");
    let file = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    std::fs::write(site.path("pipeline.yaml"), file + &probe(&site)).unwrap();
    // WHEN the process dies behind the effect, and the run goes on THEN the probe has said that it is
    // done
    let mut dying = start(&site, "attempt::after_program=return(abort)").await;
    assert!(!dying.wait(LIMIT).await.unwrap().success());
    assert_exit(&run(&site, &[]).await, 0);
    assert_eq!(
        (lines(&site, "effects").len(), lines(&site, "probes").len()),
        (1, 2)
    );
}

#[tokio::test]
async fn a_probe_that_says_done_completes_without_running() {
    let site = site("touch ran", "").await;
    program(&site, "probe", "exit 0");
    let file = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    let probe = format!("    probe: [{}]\n", site.path("probe").display());
    std::fs::write(site.path("pipeline.yaml"), file + &probe).unwrap();
    assert_exit(&run(&site, &[]).await, 0);
    assert!(!site.path("ran").exists());
    // and one that cannot tell fails the step
    program(&site, "probe", "echo 'no network'; exit 2");
    let failed = run(&site, &["--new"]).await;
    assert_exit(&failed, 7);
    assert_says(&failed.stdout, "no network");
    assert!(!site.path("ran").exists());
}

#[tokio::test]
async fn a_cancel_ends_grandchildren() {
    // GIVEN a program whose child writes for as long as it lives
    let script = "(while true; do date +%s%N > heart; sleep 0.05; done) & touch began; wait";
    let site = site(script, "    idempotent: true\n").await;
    let running = start(&site, "").await;
    until_there(&site, "began").await;
    until_there(&site, "heart").await;
    // WHEN its worker is killed THEN the child is, too
    drop(running);
    let beats = || std::fs::read_to_string(site.path("heart")).unwrap_or_default();
    until("a still heart", LIMIT, async || {
        let before = beats();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        Ok((before == beats()).then_some(()))
    })
    .await
    .unwrap();
    // AND when its attempt takes too long
    std::fs::remove_file(site.path("began")).unwrap();
    let file = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    let timed = file + "    limits: {attempt: 700ms}\n";
    std::fs::write(site.path("pipeline.yaml"), timed).unwrap();
    let ended = run(&site, &["--new"]).await;
    assert_exit(&ended, 7);
    assert_says(&ended.stdout, "limits.attempt");
    assert!(site.path("began").exists());
    let before = beats();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(before, beats());
}

#[tokio::test]
async fn secrets_reach_neither_argv_nor_logs() {
    // GIVEN a program that is given a secret, and says it
    let script = "tr '\\0' ' ' < /proc/$$/cmdline > argv; echo \"the key is $KEY\"; echo \"$KEY\" > key; exit 3";
    let mut site = site(script, "    env: {KEY: \"${env:JOB_KEY}\"}\n").await;
    site.point("JOB_KEY", "hunter22-secret".to_owned());
    // WHEN it fails, as loudly as it can THEN nobody is told
    let failed = run(&site, &["-vv"]).await;
    assert_exit(&failed, 7);
    assert_says(&failed.stdout, "the key is ***");
    assert_eq!(lines(&site, "key"), ["hunter22-secret"]);
    let status = site.finish(&["status", "-o", "json"]).await;
    let logs = site.finish(&["logs"]).await;
    let argv = lines(&site, "argv").concat();
    for told in [
        &failed.stdout,
        &failed.stderr,
        &status.stdout,
        &logs.stdout,
        &argv,
    ] {
        assert!(!told.contains("hunter22"), "{told}");
    }
}

/// How a worker is lost that has a program in hand.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Killed,
    DrainedForTooLong,
    Cancelled,
}

#[tokio::test]
async fn a_program_whose_worker_is_lost_is_in_doubt_and_does_not_run_again() {
    for loss in [Loss::Killed, Loss::DrainedForTooLong, Loss::Cancelled] {
        // GIVEN a program that works for long, on one of two workers
        let folder = tempfile::tempdir().unwrap();
        let (job, heart) = (folder.path().join("job"), folder.path().join("heart"));
        let (effects, path) = (folder.path().join("effects"), folder.path().display());
        let script = format!(
            "#!/bin/sh\necho x >> {path}/effects; while true; do date +%s%N > {path}/heart; sleep 0.1; done"
        );
        std::fs::write(&job, script).unwrap();
        std::fs::set_permissions(&job, PermissionsExt::from_mode(0o755)).unwrap();
        let mut cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
        let coordinator = cluster.address(0).to_owned();
        let allow = format!("--allow-exec={path}");
        for id in ["w1", "w2"] {
            let worker = cluster.prepare_worker(id, 1, &coordinator).await.unwrap();
            worker.args([allow.as_str(), "--drain-timeout=300ms"]);
        }
        cluster.worker("w1").start().await.unwrap();
        let pipeline = format!(
            "version: 1\nname: jobs\nconnections: {{unused: {{type: sqlite, path: unused.db}}}}\nsteps:\n  job: {{strategy: exec, \
             command: [{}]}}\n",
            job.display()
        );
        let run = cluster.submit(&pipeline).await.unwrap();
        until("the program", LIMIT, async || {
            Ok(heart.exists().then_some(()))
        })
        .await
        .unwrap();
        cluster.worker("w2").start().await.unwrap();
        // WHEN that one is lost with it
        match loss {
            Loss::Killed => cluster.worker("w1").kill().unwrap(),
            Loss::DrainedForTooLong => cluster.worker("w1").terminate().unwrap(),
            Loss::Cancelled => {
                let args = ["cancel", run.as_str(), "--reason", "wrong", "-y"];
                let cancelled = cluster.highwater(0, args, LIMIT).await.unwrap();
                assert!(cancelled.status.success(), "{cancelled:?}");
            }
        }
        // THEN a person is asked, and nothing runs any more
        let ended = cluster.until_ended(LIMIT).await.unwrap();
        assert_eq!(
            ended["tasks"]["in_doubt"],
            1,
            "{loss:?} {ended:#}\n{}",
            cluster.logs()
        );
        let waited = cluster.highwater(0, ["wait", &run], LIMIT).await.unwrap();
        assert_exit(&waited, 9);
        let before = std::fs::read_to_string(&heart).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(before, std::fs::read_to_string(&heart).unwrap());
        let ran = || std::fs::read_to_string(&effects).unwrap().lines().count();
        assert_eq!(ran(), 1, "{loss:?}");
        // AND once the person has said that it was not done, it runs again
        if matches!(loss, Loss::Killed) {
            let args = [
                "resolve",
                &run,
                "job",
                "--not-applied",
                "--reason",
                "I looked",
                "--detach",
            ];
            assert_exit(&cluster.highwater(0, args, LIMIT).await.unwrap(), 0);
            until(
                "another run",
                LIMIT,
                async || Ok((ran() == 2).then_some(())),
            )
            .await
            .unwrap();
        }
    }
}
