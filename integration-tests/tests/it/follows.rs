//! Statements that follow a load: each period once its rows are committed.

use highwater_integration_tests::until;

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

/// Rows of ninety days from 2024-01-01 on, three a day, with a time of day; the target's tables are
/// there.
async fn site(engine: Engine, more: &str) -> Site {
    let site = Site::empty(engine).await;
    let (at, fill) = match engine {
        Engine::Postgres => (
            "timestamptz",
            "insert into orders select n, timestamptz '2024-01-01 00:00:00+00' + n * interval '8 hours', n \
             from generate_series(0, 269) n",
        ),
        Engine::Sqlite => (
            "text",
            "with recursive r(n) as (select 0 union all select n + 1 from r where n < 269) insert into \
             orders select n, strftime('%Y-%m-%d %H:%M:%S', '2024-01-01', (n * 8) || ' hours'), n from r",
        ),
    };
    let make = format!(
        "create table orders (id bigint primary key, placed {at} not null, v bigint not null)"
    );
    site.execute(Side::Source, &format!("{make}; {fill}")).await;
    let bad = "check (v <> 100)";
    let make = match more {
        "refuses a day" => make.replace("v bigint not null", &format!("v bigint not null {bad}")),
        _ => make,
    };
    site.execute(
        Side::Target,
        &format!("{make}; create table months (starts text not null, rows bigint not null, loaded bigint not null)"),
    )
    .await;
    site.write_pipeline(
        "limits: {tasks: 2}
steps:
  orders:
    strategy: {type: backfill, start: 2024-01-01, end: 2024-03-31}
    from: {connection: source, table: orders}
    to: {connection: target, table: orders}
    partition: {by: calendar, column: placed, grain: day, tz: UTC}
    write: {mode: replace_partition}
    retries: {initial: 10ms, max: 10ms, max_attempts: 3}
  months:
    strategy: sql
    partition: {follow: orders, grain: month}
    to: {connection: target, table: months}
    retries: {initial: 10ms, max: 10ms, max_attempts: 3}
    sql: |
      insert into months
        select cast({partition.start} as text), count(*), (select count(*) from orders)
        from orders where placed >= {partition.start} and placed < {partition.end}
",
    );
    site
}

/// What the statements have written: rows of each month, in order.
async fn months(site: &Site) -> Vec<String> {
    site.texts(Side::Target, "rows", "from months order by starts")
        .await
}

#[tokio::test]
async fn a_month_starts_when_its_days_are_committed() {
    for engine in BOTH {
        // GIVEN a load by day, and statements that follow it month by month
        let site = site(engine, "").await;
        let planned = site.finish(&["plan", "pipeline.yaml"]).await;
        assert_exit(&planned, 0);
        assert_says(
            &planned.stdout,
            "statements that write months, for each month of orders once its rows are there",
        );
        // WHEN it runs, slowly enough that the months come one by one
        let mut running = site.start("attempt::reading=return(stall 20)").await;
        // THEN the first month is there before the last day is, and was whole when it was counted
        let first = until("the first month", LIMIT, async || {
            let found = site
                .texts(Side::Target, "loaded", "from months order by loaded")
                .await;
            Ok(found.first().map(|loaded| loaded.parse::<i64>().unwrap()))
        })
        .await
        .unwrap();
        assert!((93..270).contains(&first), "{first}");
        assert_eq!(
            running.wait(LIMIT).await.unwrap().code(),
            Some(0),
            "{engine:?}"
        );
        // AND each month once, with all of its rows
        assert_eq!(months(&site).await, ["93", "87", "90"], "{engine:?}");
        // AND a run that finds nothing to load runs the statements of every month again
        assert_exit(&site.run().await, 0);
        assert_eq!(months(&site).await.len(), 6);
    }
}

#[tokio::test]
async fn a_month_with_a_day_that_died_is_not_run() {
    for engine in BOTH {
        // GIVEN a day of February that the target refuses
        let site = site(engine, "refuses a day").await;
        // WHEN the run has ended THEN every other month is there, and the step says why that one is not
        assert_exit(&site.run().await, 3);
        assert_eq!(months(&site).await, ["93", "90"], "{engine:?}");
        let shown = site.finish(&["status", "pipeline.yaml"]).await;
        assert_says(
            &shown.stdout,
            "upstream: 1 of 3 periods have rows that orders has not committed, the first is [2024-02-01",
        );
        // WHEN the target takes the day, and the run is retried
        let mend = match engine {
            Engine::Postgres => "alter table orders drop constraint orders_v_check",
            Engine::Sqlite => {
                "pragma writable_schema = on; update sqlite_schema set sql = replace(sql, 'check (v <> 100)', \
                 '') where name = 'orders'; pragma writable_schema = reset"
            }
        };
        site.execute(Side::Target, mend).await;
        assert_exit(&site.finish(&["retry", "pipeline.yaml"]).await, 0);
        // THEN the month is run, and no other one again
        assert_eq!(months(&site).await, ["93", "87", "90"], "{engine:?}");
    }
}

#[tokio::test]
async fn a_killed_run_that_follows_goes_on_and_runs_each_month_once() {
    for killed_after in 1..=2 {
        // GIVEN a run that is killed between two months
        let site = site(Engine::Postgres, "").await;
        let mut running = site.start("attempt::reading=return(stall 5)").await;
        until("a month", LIMIT, async || {
            Ok((months(&site).await.len() >= killed_after).then_some(()))
        })
        .await
        .unwrap();
        running.kill().unwrap();
        // WHEN it goes on THEN each month is there once
        assert_exit(&site.run().await, 0);
        assert_eq!(months(&site).await, ["93", "87", "90"], "{killed_after}");
    }
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_by_the_file() {
    let site = site(Engine::Sqlite, "").await;
    let file = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
    for (from, to, told) in [
        (
            "follow: orders",
            "follow: nothing",
            "steps.months.partition.follow: no step is named `nothing`",
        ),
        (
            "start: 2024-01-01, ",
            "",
            "`orders` does not say where it begins and ends",
        ),
        (
            "grain: month",
            "by: calendar, column: x, grain: month",
            "partition",
        ),
        (
            "    partition: {follow: orders, grain: month}\n",
            "",
            "run once for all",
        ),
        (
            "partition: {by: calendar, column: placed, grain: day, tz: UTC}",
            "partition: {by: integer, column: id, width: 10}",
            "is not cut by civil periods",
        ),
        ("follow: orders", "follow: months", "wait for each other"),
    ] {
        let changed = file.replace(from, to);
        assert_ne!(changed, file, "{from}");
        std::fs::write(site.path("pipeline.yaml"), changed).unwrap();
        let refused = site.finish(&["validate", "pipeline.yaml"]).await;
        assert_exit(&refused, 2);
        assert_says(&refused.stderr, told);
    }
}
