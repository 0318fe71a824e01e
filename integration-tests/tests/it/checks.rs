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
