//! Checks of a step: what they find decides whether its rows are published, and is told.

use serde_json::{Value as Json, json};

use crate::site::{Engine, LIMIT, ROWS, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

fn refresh(checks: &str) -> String {
    format!(
        "steps:\n  events:\n    strategy: {{type: full_refresh, allow_shrink: true}}\n    from: \
         {{connection: source, table: events}}\n    to: {{connection: target, table: events}}\n    \
         retries: {{initial: 10ms, max: 10ms, max_attempts: 3}}\n    checks: {checks}\n"
    )
}

/// A run of its own, with these steps.
async fn run(site: &Site, steps: &str) -> highwater_integration_tests::Finished {
    site.write_pipeline(steps);
    site.finish(&["run", "pipeline.yaml", "--new"]).await
}

/// What `status` tells of the checks of the latest run: each as it is written, whether it passed,
/// and what it found.
async fn told(site: &Site) -> Vec<Json> {
    let status = site.status().await;
    let checks = status["steps"][0]["checks"].as_array();
    let told = |check: &Json| json!([check["check"], check["passed"], check["found"]]);
    checks.map_or_else(Vec::new, |checks| checks.iter().map(told).collect())
}

#[tokio::test]
async fn a_refresh_whose_check_fails_keeps_the_old_rows_and_says_what_it_found() {
    for engine in BOTH {
        // GIVEN a table that was refreshed, with checks that it passed
        let site = Site::empty(engine).await;
        site.make_events("not null").await;
        let checks = format!("[{{min_rows: 1}}, {{min_rows: {ROWS}}}]");
        let first = run(&site, &refresh(&checks)).await;
        assert_exit(&first, 0);
        let found = format!("{ROWS} rows");
        let passed = [
            json!(["min_rows: 1", true, found]),
            json!([format!("min_rows: {ROWS}"), true, found]),
        ];
        assert_eq!(told(&site).await, passed);
        assert_says(&first.stdout, "check passed min_rows: 1: found");
        let before = site.fingerprint().await;
        // WHEN the source has lost a row
        site.execute(Side::Source, "delete from events where id = 7")
            .await;
        let failed = run(&site, &refresh(&checks)).await;
        // THEN the step fails at once, by the check's name, and the table is as it was
        assert_exit(&failed, 7);
        assert_says(
            &failed.stdout,
            "dead events[publish] attempt 1 permanent check_failed",
        );
        let less = ROWS - 1;
        let why = format!("`min_rows: {ROWS}` expects at least {ROWS} rows, found {less} rows");
        assert_says(&failed.stdout, &why);
        assert_eq!(site.fingerprint().await.0, before.0);
        // AND both answers are told
        let found = format!("{less} rows");
        let answers = [
            json!(["min_rows: 1", true, found]),
            json!([format!("min_rows: {ROWS}"), false, found]),
        ];
        assert_eq!(told(&site).await, answers);
        let status = site.finish(&["status"]).await;
        assert_says(&status.stdout, "check   failed min_rows:");
        // AND with a check that holds the rows are published
        let mended = run(&site, &refresh(&format!("[{{min_rows: {less}}}]"))).await;
        assert_exit(&mended, 0);
        let (source, target) = site.digests().await;
        assert_eq!(source, target);
    }
}

#[tokio::test]
async fn a_refresh_that_dies_around_its_checks_goes_on() {
    for engine in BOTH {
        let site = Site::empty(engine).await;
        site.make_events("not null").await;
        let checks = format!("[{{min_rows: 1}}, {{min_rows: {ROWS}}}]");
        site.write_pipeline(&refresh(&checks));
        // GIVEN a process that dies between two checks, and one that dies before it knows that it
        // has committed
        for strike in [
            "attempt::before_check=1*off->1*return(abort)",
            "attempt::after_commit=1*return(abort)",
        ] {
            let died = site.start(strike).await.wait(LIMIT).await.unwrap();
            assert!(!died.success());
        }
        // WHEN the run goes on THEN the table is published, once, and what the checks came to is
        // told, though what they found went with the process
        assert_exit(&site.run().await, 0);
        let (source, target) = site.digests().await;
        assert_eq!(source, target);
        assert_eq!(site.tasks('C').await, 1);
        let proven = [
            json!(["min_rows: 1", true, ""]),
            json!([format!("min_rows: {ROWS}"), true, ""]),
        ];
        assert_eq!(told(&site).await, proven);
    }
}

#[tokio::test]
async fn every_check_is_asked_and_told() {
    for engine in BOTH {
        // GIVEN rows of which some have no note, and many share one
        let site = Site::empty(engine).await;
        site.make_events("not null").await;
        let spoil = "update events set note = 'n' || id; \
                     update events set note = null where id <= 3; update events set note = 'one' where id between 10 and 12";
        site.execute(Side::Source, spoil).await;
        let good = "[{row_count: {tolerance: 0}}, {not_null: [id, at]}, {unique: [id]}, \
                    {sql: \"select count(*) = count(distinct id) from {table};\"}]";
        assert_exit(&run(&site, &refresh(good)).await, 0);
        let passed: Vec<Json> = told(&site)
            .await
            .iter()
            .map(|told| told[1].clone())
            .collect();
        assert_eq!(passed, [true, true, true, true]);
        // WHEN it is asked what is not so THEN all of it is told, and nothing is published
        site.execute(Side::Source, "update events set amount = 0 where id = 20")
            .await;
        let before = site.fingerprint().await.0;
        let bad = "[{row_count: {tolerance: 0}}, {not_null: [id, note]}, {unique: [note]}, \
                   {sql: \"select min(id) > 1 from {table}\"}]";
        let failed = run(&site, &refresh(bad)).await;
        assert_exit(&failed, 7);
        assert_says(&failed.stdout, "3 of 4 checks of events on");
        assert_says(
            &failed.stdout,
            "`not_null: [id, note]` expects no NULL in id, note, found 3 rows",
        );
        assert_eq!(site.fingerprint().await.0, before);
        let count = format!("{ROWS} rows and {ROWS} in the source");
        let answers = told(&site).await;
        assert_eq!(
            answers[0],
            json!(["row_count: {tolerance: 0}", true, count])
        );
        assert_eq!(
            answers[1],
            json!(["not_null: [id, note]", false, "3 rows with NULL"])
        );
        assert_eq!(answers[2][1], false);
        assert_eq!(answers[3][2], "false");
        // AND a column that is not there is a problem of the plan
        let unknown = run(&site, &refresh("[{not_null: [id, nota]}]")).await;
        assert_exit(&unknown, 7);
        assert_says(&unknown.stdout, "names the column nota");
    }
}

fn backfill(checks: &str) -> String {
    format!(
        "steps:\n  events:\n    strategy: {{type: backfill}}\n    from: {{connection: source, table: \
         events}}\n    to: {{connection: target, table: events}}\n    partition: {{by: integer, \
         column: id, width: 500}}\n    write: {{mode: append}}\n    checks: {checks}\n"
    )
}

#[tokio::test]
async fn a_backfill_whose_check_fails_keeps_its_rows_and_is_no_success() {
    for engine in BOTH {
        let site = Site::empty(engine).await;
        site.make_events("not null").await;
        let checks =
            "[{row_count: {tolerance: 0}}, {sql: \"select count(*) < 2000 from {table}\"}]";
        // GIVEN a process that dies while it checks
        site.write_pipeline(&backfill(checks));
        let strike = "attempt::before_check=1*off->1*return(abort)";
        let died = site.start(strike).await.wait(LIMIT).await.unwrap();
        assert!(!died.success());
        // WHEN the run goes on, and a check fails
        let failed = site.run().await;
        // THEN the run says so, and the rows stay
        assert_exit(&failed, 3);
        assert_says(&failed.stdout, "1 of 2 checks of events on target failed");
        assert_says(&failed.stdout, "The rows that were loaded stay");
        let (source, target) = site.digests().await;
        assert_eq!(source, target);
        let found = format!("{ROWS} rows and {ROWS} in the source");
        let answers = told(&site).await;
        assert_eq!(
            answers[0],
            json!(["row_count: {tolerance: 0}", true, found])
        );
        assert_eq!(answers[1][1], false);
        // AND once the rows are as they should be, a retry only asks again
        let mend = "delete from events where id > 1990";
        site.execute(Side::Target, mend).await;
        site.execute(Side::Source, mend).await;
        let status = site.status().await;
        let short = status["short"].as_str().unwrap();
        assert_exit(&site.finish(&["retry", short]).await, 0);
        assert!(told(&site).await.iter().all(|told| told[1] == true));
    }
}

#[tokio::test]
async fn a_swap_whose_check_fails_publishes_nothing() {
    let site = Site::empty(Engine::Postgres).await;
    site.make_events("not null").await;
    let swap = |checks: &str| {
        format!(
            "steps:\n  events:\n    strategy: {{type: swap, allow_shrink: true}}\n    from: \
             {{connection: source, table: events}}\n    to: {{connection: target, table: events}}\n    \
             partition: {{by: integer, column: id, width: 500}}\n    checks: {checks}\n"
        )
    };
    let checks = "[{row_count: {tolerance: 0}}, {unique: [id]}, {not_null: [note]}, \
                  {sql: \"select count(*) > 0 from {table}\"}]";
    let fill = "update events set note = 'n' || id";
    site.execute(Side::Source, fill).await;
    // GIVEN a table that was swapped, with checks that it passed, by a process that died meanwhile
    site.write_pipeline(&swap(checks));
    let strike = "attempt::before_check=2*off->1*return(abort)";
    let died = site.start(strike).await.wait(LIMIT).await.unwrap();
    assert!(!died.success());
    assert_exit(&site.run().await, 0);
    assert!(told(&site).await.iter().all(|told| told[1] == true));
    let before = site.fingerprint().await.0;
    // WHEN rows come that a check does not let pass
    site.execute(Side::Source, "update events set note = null where id <= 4")
        .await;
    let failed = run(&site, &swap(checks)).await;
    // THEN nothing is published, and the table that was loaded is named and stays
    assert_exit(&failed, 3);
    assert_says(
        &failed.stdout,
        "expects no NULL in note, found 4 rows with NULL",
    );
    assert_says(&failed.stdout, "Nothing was published");
    assert_eq!(site.fingerprint().await.0, before);
    let shadows = "from pg_class where relkind = 'r' and relname like '%highwater_new%'";
    let count = async || site.numbers(Side::Target, ["count(*)"], shadows).await[0];
    assert_eq!(count().await, 1);
    // AND a run that may passes, and clears it away
    let passing = run(&site, &swap("[{min_rows: 1}]")).await;
    assert_exit(&passing, 0);
    assert_eq!(count().await, 0);
    let (source, target) = site.digests().await;
    assert_eq!(source, target);
}
