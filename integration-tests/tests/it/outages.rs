//! Databases that go away in the midst of a run and come back: nobody's attempts are counted, and
//! nothing is lost or doubled.

use std::time::Duration;

use highwater_integration_tests::{Postgres, until};
use sqlx::{Executor, Row};

use crate::site::{Engine, HOURS, Side, Site, assert_exit, assert_says};

/// What a run with an outage in its midst may take on a busy machine.
const LONG: Duration = Duration::from_secs(180);
/// Makes each attempt long enough to be met in its midst.
const SLOW: &str = "attempt::reading=sleep(50)";

/// A site whose target is on a server of its own.
async fn with_another_target() -> (Site, Postgres) {
    let mut site = Site::with_hours(Engine::Postgres, "{mode: append}").await;
    let target = Postgres::start().await.unwrap();
    site.point(
        "TARGET_URL",
        target.create_database("target").await.unwrap(),
    );
    (site, target)
}

/// One number from a server's database.
pub(crate) async fn number(server: &Postgres, database: &str, sql: &'static str) -> i64 {
    let mut conn = server.connect(database).await.unwrap();
    sqlx::query(sql)
        .fetch_one(&mut conn)
        .await
        .map_or(0, |row| row.get(0))
}

#[tokio::test]
async fn a_target_that_goes_away_in_the_midst_of_a_run_costs_no_attempt() {
    // GIVEN a run in the midst of its work
    let (site, mut target) = with_another_target().await;
    let mut run = site.start(SLOW).await;
    const DONE: &str = "select count(*) from highwater.task where state = 'C'";
    until("committed tasks", LONG, async || {
        Ok((number(&target, "target", DONE).await >= 10).then_some(()))
    })
    .await
    .unwrap();
    // WHEN its target crashes, and stays away until the run says so
    target.kill().unwrap();
    let said = "target is unreachable since ";
    until(said, LONG, async || {
        Ok(run.stderr()?.contains(said).then_some(()))
    })
    .await
    .unwrap();
    let status = site.status().await;
    assert!(
        status["steps"][0]["waits"][0]
            .as_str()
            .unwrap()
            .contains("asked"),
        "{status}"
    );
    target.restart().await.unwrap();
    // THEN it goes on by itself, and ends well
    let ended = run.wait(LONG).await.unwrap();
    let printed = run.stderr().unwrap();
    assert!(ended.success(), "{printed}");
    assert!(
        !printed.contains(" dead ") && !printed.contains("attempt 2"),
        "{printed}"
    );
    // AND every row is there once, and each task took one attempt that counts
    assert_eq!(
        number(&target, "target", "select count(*) from events").await,
        400
    );
    assert_eq!(
        number(&target, "target", "select count(distinct id) from events").await,
        400
    );
    assert_eq!(
        number(
            &target,
            "target",
            "select max(attempt)::int8 from highwater.task"
        )
        .await,
        1
    );
    assert_eq!(number(&target, "target", DONE).await, HOURS);
}

#[tokio::test]
async fn an_unreachable_source_holds_back_only_its_own_tasks() {
    // GIVEN two steps, one of which reads from a server of its own
    let mut site = Site::with_hours(Engine::Postgres, "{mode: append}").await;
    let mut far = Postgres::start().await.unwrap();
    let url = far.create_database("far").await.unwrap();
    site.point("FAR_URL", url);
    let fill = "create table events as select i as id, timestamptz '2024-03-01' + i * interval '1 \
                h' as at from generate_series(0, 47) i";
    far.connect("far")
        .await
        .unwrap()
        .execute(fill)
        .await
        .unwrap();
    let step = |name: &str, from: &str| {
        format!(
            "  {name}:\n    strategy: {{type: backfill, start: 2024-03-01, end: 2024-03-05}}\n    \
             from: {{connection: {from}, table: events}}\n    to: {{connection: target, table: \
             {name}}}\n    partition: {{by: calendar, column: at, grain: hour, tz: UTC}}\n    \
             write: {{mode: append}}\n"
        )
    };
    site.write_pipeline(&format!(
        "steps:\n{}{}",
        step("near", "source"),
        step("far", "far")
    ));
    let text = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    let text = text.replace(
        "connections:\n",
        "connections:\n  far: {type: postgres, url: \"${env:FAR_URL}\"}\n",
    );
    std::fs::write(site.path("pipeline.yaml"), text).unwrap();
    let mut run = site.start(SLOW).await;
    site.until_committed(6).await;
    // WHEN that server is away
    far.stop().await.unwrap();
    // THEN the other step comes to its end meanwhile
    let ended = "step near success";
    until(ended, LONG, async || {
        Ok(run.stderr()?.contains(ended).then_some(()))
    })
    .await
    .unwrap();
    assert_says(&run.stderr().unwrap(), "far is unreachable since ");
    // AND when it is back everything is loaded, and no attempt was counted
    far.restart().await.unwrap();
    assert!(
        run.wait(LONG).await.unwrap().success(),
        "{}",
        run.stderr().unwrap()
    );
    assert_eq!(
        site.numbers(Side::Target, ["count(*)"], "from near").await,
        [400]
    );
    assert_eq!(
        site.numbers(Side::Target, ["count(*)"], "from far").await,
        [48]
    );
    assert_eq!(
        site.numbers(Side::Target, ["max(attempt)"], "from highwater.task")
            .await,
        [1]
    );
}

#[tokio::test]
async fn a_connection_that_stays_away_is_given_up_and_says_since_when() {
    // GIVEN a step that gives an outage three seconds, and nobody at its source's address
    let mut site = Site::with_hours(Engine::Postgres, "{mode: append}").await;
    let text = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    std::fs::write(
        site.path("pipeline.yaml"),
        format!("{text}    retries: {{unreachable: 3s}}\n"),
    )
    .unwrap();
    let mut gone = Postgres::start().await.unwrap();
    site.point("SOURCE_URL", gone.url("source"));
    gone.stop().await.unwrap();
    // WHEN it runs THEN it is refused after that time, and says so
    let finished = site.run().await;
    assert_exit(&finished, 7);
    assert_says(&finished.stdout, "source was unreachable for ");
    assert_says(&finished.stdout, "retries.unreachable");
}
