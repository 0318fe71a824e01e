//! Runs of some steps of a pipeline.

use serde_json::Value;

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

/// `first`, then `middle`, then `last`, each of which writes down that it ran; and `broken`, whose
/// target is not there.
async fn site() -> Site {
    let site = Site::empty(Engine::Sqlite).await;
    site.execute(Side::Target, "create table ran (step text not null)")
        .await;
    let step = |name: &str, connection: &str, after: &str| {
        format!(
            "  {name}:\n    strategy: sql\n    depends_on: [{after}]\n    to: {{connection: {connection}, table: {name}_done}}\n    \
             sql: insert into ran values ({{step}})\n"
        )
    };
    site.write_pipeline(&format!(
        "  away: {{type: sqlite, path: nowhere/away.db}}\nsteps:\n{}{}{}{}",
        step("first", "target", ""),
        step("middle", "target", "first"),
        step("last", "target", "middle"),
        step("broken", "away", ""),
    ));
    site
}

async fn ran(site: &Site) -> Vec<String> {
    site.texts(Side::Target, "step", "from ran order by rowid")
        .await
}

fn stands(status: &Value, name: &str) -> (String, String) {
    let steps = status["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["step"] == name).unwrap();
    let text = |key: &str| step[key].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

#[tokio::test]
async fn a_run_of_some_steps_leaves_the_others_out_and_is_a_success() {
    let site = site().await;
    // WHEN two steps are asked for, the one between them and a broken one are not
    let ended = site
        .finish(&["run", "pipeline.yaml", "last", "first"])
        .await;
    // THEN they run in the order of the file, and the run is a success
    assert_exit(&ended, 0);
    assert_says(&ended.stderr, "only last first");
    assert_eq!(ran(&site).await, ["first", "last"]);
    // AND the others are shown, with the reason
    let status = site.status().await;
    assert_eq!(status["status"], "success");
    assert_eq!(stands(&status, "last").0, "success");
    for name in ["middle", "broken"] {
        let left_out = (
            "skipped".to_owned(),
            "not selected: the run is of last first".to_owned(),
        );
        assert_eq!(stands(&status, name), left_out);
    }
    // AND a step with all that waits for it, or all that it waits for
    assert_exit(&site.finish(&["run", "pipeline.yaml", "middle+"]).await, 0);
    assert_eq!(ran(&site).await[2..], ["middle", "last"]);
    assert_exit(&site.finish(&["run", "pipeline.yaml", "+middle"]).await, 0);
    assert_eq!(ran(&site).await[4..], ["first", "middle"]);
    // AND what was asked for is in the audit
    let audit = site.finish(&["cluster", "audit", "-o", "json"]).await;
    assert_says(&audit.stdout, "of +middle");
}

#[tokio::test]
async fn what_a_run_cannot_be_of_is_told() {
    let site = site().await;
    for (args, code, says) in [
        (
            &["run", "pipeline.yaml", "frist"][..],
            4,
            "`frist` selects no step",
        ),
        (
            &["run", "pipeline.yaml", "first[2024]"],
            2,
            "a run takes whole steps",
        ),
        (&["run", "pipeline.yaml", "first+["], 2, "is no selection"),
        (
            &["plan", "pipeline.yaml", "first", "--out", "p.json"],
            2,
            "cannot be used with",
        ),
    ] {
        let refused = site.finish(args).await;
        assert_exit(&refused, code);
        assert_says(&refused.stderr, says);
    }
    // A plan of some steps is of them alone.
    let planned = site
        .finish(&["plan", "pipeline.yaml", "first", "-o", "json"])
        .await;
    assert_exit(&planned, 0);
    let plan: Value = serde_json::from_str(&planned.stdout).unwrap();
    let steps: Vec<&str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["first"]);
    // AND a saved plan is run as it was shown
    std::fs::create_dir(site.path("nowhere")).unwrap();
    assert_exit(
        &site
            .finish(&["plan", "pipeline.yaml", "--out", "plan.json"])
            .await,
        0,
    );
    let refused = site.finish(&["run", "plan.json", "first"]).await;
    assert_exit(&refused, 2);
    assert_says(
        &refused.stderr,
        "a saved plan is run once, and as it was shown",
    );
}

#[tokio::test]
async fn a_run_that_was_cut_off_goes_on_with_the_same_steps_and_with_no_others() {
    // GIVEN a run of some steps that was killed in their midst
    let site = site().await;
    let mut running = site
        .highwater(&["run", "pipeline.yaml", "middle+"])
        .await
        .failpoints("attempt::before_commit=return(stall 60000)")
        .start()
        .unwrap();
    let began = running
        .until_stderr_holds("step middle running", crate::site::LIMIT)
        .await;
    began.unwrap();
    running.kill().unwrap();
    // WHEN other steps are asked for, or all THEN it is refused: the run has not ended
    for args in [
        &["run", "pipeline.yaml"][..],
        &["run", "pipeline.yaml", "first"],
    ] {
        let refused = site.finish(args).await;
        assert_exit(&refused, 6);
        assert_says(&refused.stderr, "is of other steps");
    }
    // WHEN the same are asked for in other words THEN it goes on, and runs nothing else
    let ended = site
        .finish(&["run", "pipeline.yaml", "last", "middle"])
        .await;
    assert_exit(&ended, 0);
    assert_says(&ended.stderr, "an unfinished run of the same file goes on");
    assert_eq!(ran(&site).await, ["middle", "last"]);
}

#[tokio::test]
async fn an_increment_alone_begins_where_the_history_has_ended() {
    // GIVEN a history, and what goes on from its end
    let site = Site::empty(Engine::Sqlite).await;
    site.make_events("not null").await;
    let side =
        "from: {connection: source, table: events}\n    to: {connection: target, table: events}";
    site.write_pipeline(&format!(
        "steps:
  history:
    strategy: {{type: backfill, end: now}}
    {side}
    partition: {{by: calendar, column: at, grain: day, tz: UTC}}
    write: {{mode: merge, key: [id]}}
  live:
    strategy: {{type: incremental, cursor: at, continues: history}}
    {side}
    write: {{mode: merge, key: [id]}}
"
    ));
    let count = async || {
        site.numbers(Side::Target, ["count(*)"], "from events")
            .await[0]
    };
    // WHEN the increment runs alone before there is a history THEN it loads nothing, and says why
    let alone = site.finish(&["run", "pipeline.yaml", "live"]).await;
    assert_exit(&alone, 0);
    // AND the history is not lost to it
    assert_exit(&site.finish(&["run", "pipeline.yaml", "history"]).await, 0);
    // but for the newest row: others may still come at its moment, so it is the increment's
    assert_eq!(count().await, 1999);
    // WHEN rows come THEN the increment alone loads them, and none twice
    let more = "insert into events values (2001, '2024-03-25T00:00:00Z', 1, 'new')";
    site.execute(Side::Source, more).await;
    assert_exit(&site.finish(&["run", "pipeline.yaml", "live"]).await, 0);
    assert_eq!(count().await, 2001);
    // AND the whole file finds nothing to do
    assert_exit(&site.run().await, 0);
    assert_eq!(count().await, 2001);
}

#[tokio::test]
async fn an_increment_does_not_go_on_from_a_history_that_has_not_ended() {
    // GIVEN a history of which a day has died, and an increment that appends behind its end
    let site = Site::empty(Engine::Sqlite).await;
    site.make_events("not null").await;
    let side =
        "from: {connection: source, table: events}\n    to: {connection: target, table: events}";
    site.write_pipeline(&format!(
        "steps:
  history:
    strategy: {{type: backfill, end: now}}
    {side}
    partition: {{by: calendar, column: at, grain: day, tz: UTC}}
    write: {{mode: append}}
    retries: {{max_attempts: 1}}
  live:
    strategy: {{type: incremental, cursor: at, continues: history}}
    {side}
    write: {{mode: append}}
"
    ));
    let columns = site.events_table("not null", ", check (id <> 1000)");
    site.execute(Side::Target, &columns).await;
    assert_exit(&site.run().await, 3);
    // WHEN the increment is asked for alone THEN it is refused, and says what can be done
    let alone = site.finish(&["run", "pipeline.yaml", "live"]).await;
    assert_exit(&alone, 6);
    assert_says(&alone.stderr, "has not come to its end");
    assert_says(&alone.stderr, "`+live`");
}

#[tokio::test]
async fn a_doubt_outlives_a_run_of_other_steps() {
    // GIVEN a program that nobody knows the end of, and another step
    let site = Site::empty(Engine::Sqlite).await;
    site.execute(Side::Target, "create table ran (step text not null)")
        .await;
    let job = site.path("job");
    std::fs::write(&job, "#!/bin/sh\necho x >> effects\n").unwrap();
    std::fs::set_permissions(&job, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    site.write_pipeline(&format!(
        "steps:\n  pay: {{strategy: exec, command: [{}]}}\n  other:\n    strategy: sql\n    \
         to: {{connection: target, table: ran}}\n    sql: insert into ran values ({{step}})\n",
        job.display()
    ));
    let folder = site.path("").display().to_string();
    let run = async |more: &[&str]| {
        let args = [&["run", "pipeline.yaml", "--allow-exec", &folder][..], more].concat();
        site.finish(&args).await
    };
    let args = ["run", "pipeline.yaml", "pay", "--allow-exec", &folder];
    let dying = site.highwater(&args).await;
    let mut dying = dying
        .failpoints("attempt::after_program=return(abort)")
        .start()
        .unwrap();
    dying.wait(LIMIT).await.unwrap();
    let doubted = run(&["pay"]).await;
    assert!(!doubted.status.success());
    // WHEN the other step runs THEN nothing of it stands in its way
    assert_exit(&run(&["other", "--new"]).await, 0);
    assert_exit(&run(&["other"]).await, 0);
    // AND the program does not run again unasked
    let refused = run(&[]).await;
    assert_exit(&refused, 6);
    assert_eq!(
        std::fs::read_to_string(site.path("effects")).unwrap(),
        "x\n"
    );
}
