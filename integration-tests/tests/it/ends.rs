//! Values at the ends of what a column can hold, and panics: neither ends a process.

use std::ffi::OsStr;
use std::time::Duration;

use highwater_integration_tests::cluster::{Cluster, ClusterOptions, Orders};

use crate::site::{Engine, Side, Site, assert_exit};

const LIMIT: Duration = Duration::from_secs(120);

/// A day with a typing error, the last days and instants that a server knows, and a table without
/// any of them.
const TABLES: &str = "create table d (id int primary key, at date);
    insert into d values (1, '2024-01-01'), (2, '22024-01-15'), (3, 'infinity'), (4, '5874897-12-31'), (5, '4713-01-01 BC');
    create table i (id int primary key, at timestamptz);
    insert into i values (1, '2024-01-01 00:00+00'), (2, '294276-12-31 23:59:59.999999+00'), (3, '-infinity'),
        (4, '4714-11-24 00:00+00 BC'), (5, '294247-01-10 04:00:54.775807+00');
    create table good (id int primary key);
    insert into good select generate_series(1, 5)";

fn step(table: &str, strategy: &str, partition: &str) -> String {
    format!(
        "  {table}:\n    strategy: {strategy}\n    from: {{connection: source, table: \
         {table}}}\n    to: {{connection: target, table: {table}}}\n    partition: \
         {{{partition}}}\n    write: {{mode: replace_partition}}\n"
    )
}

#[tokio::test]
async fn a_date_at_the_end_of_time_ends_no_process() {
    // GIVEN an embedded coordinator, and tables with such rows
    let site = Site::empty(Engine::Postgres).await;
    site.execute(Side::Source, TABLES).await;
    let by_year = "by: calendar, column: at, grain: year";
    // WHEN the year 2024 of them is copied, THEN its rows arrive
    let of_2024 = "{type: backfill, start: 2024-01-01, end: 2025-01-01}";
    let steps =
        ["d", "i"].map(|table| step(table, of_2024, "by: calendar, column: at, grain: month"));
    site.write_pipeline(&format!("steps:\n{}", steps.concat()));
    assert_exit(&site.run().await, 0);
    for table in ["d", "i"] {
        assert_eq!(
            site.numbers(Side::Target, ["count(*)"], &format!("from {table}"))
                .await,
            [1],
            "{table}"
        );
    }
    // WHEN all of them are, THEN all arrive
    let steps = ["d", "i"].map(|table| step(table, "backfill", by_year));
    site.write_pipeline(&format!(
        "steps:\n{}{}",
        steps.concat(),
        step("good", "backfill", "by: integer, column: id")
    ));
    assert_exit(&site.run().await, 0);
    for (table, rows) in [("d", 5), ("i", 5), ("good", 5)] {
        assert_eq!(
            site.numbers(Side::Target, ["count(*)"], &format!("from {table}"))
                .await,
            [rows],
            "{table}"
        );
        let read = format!("from {table} order by id");
        let column = if table == "good" {
            "id::text"
        } else {
            "at::text"
        };
        assert_eq!(
            site.texts(Side::Source, column, &read).await,
            site.texts(Side::Target, column, &read).await
        );
    }
    // GIVEN two coordinators
    let options = ClusterOptions {
        coordinators: 2,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).await.unwrap();
    sqlx::raw_sql(TABLES)
        .execute(&mut cluster.source.connect("postgres").await.unwrap())
        .await
        .unwrap();
    cluster.add_worker("w1", 2, "").await.unwrap();
    // WHEN they are given such a table, one leads after the other, and then comes another pipeline
    let head = "version: 1\nname: NAME\nconnections:\n  source: {type: postgres, url: \
                \"${env:SOURCE_URL}\"}\n  target: {type: postgres, url: \
                \"${env:TARGET_URL}\"}\nsteps:\n";
    cluster
        .submit(&format!(
            "{}{}",
            head.replace("NAME", "odd"),
            step("d", "backfill", by_year)
        ))
        .await
        .unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    let leader = cluster.leader().await.unwrap();
    cluster.coordinator(leader).kill().unwrap();
    cluster.restart_coordinator(leader).await.unwrap();
    cluster.next_leader(&[leader]).await.ok();
    cluster.leader().await.unwrap();
    let good = step("good", "backfill", "by: integer, column: id");
    cluster
        .submit(&format!("{}{good}", head.replace("NAME", "other")))
        .await
        .unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    // THEN all goes on
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    assert!(!cluster.logs().contains("panicked"), "{}", cluster.logs());
    for no in 0..2 {
        assert!(cluster.coordinator(no).is_running(), "{}", cluster.logs());
    }
}

#[tokio::test]
async fn a_panic_in_planning_damages_one_run() {
    // GIVEN two coordinators that panic while they plan the pipeline `bad`, and while they load
    // what they planned of `worse`
    let orders = Orders { days: 5, rows: 10 };
    let mut cluster = Cluster::start(ClusterOptions {
        coordinators: 2,
        ..ClusterOptions::default()
    })
    .await
    .unwrap();
    for no in 0..2 {
        let daemon = cluster.coordinator(no);
        daemon.kill().unwrap();
        daemon.env("FAILPOINTS", "plan::bad=return;load::worse=return");
        cluster.restart_coordinator(no).await.unwrap();
    }
    cluster.leader().await.unwrap();
    orders.load(&cluster).await.unwrap();
    cluster
        .add_worker("w1", 1, "attempt::reading=return(stall 200)")
        .await
        .unwrap();
    let pipeline = orders.pipeline("");
    let named = |name: &str| {
        let head = pipeline
            .lines()
            .find(|line| line.starts_with("name:"))
            .expect("a name");
        pipeline.replacen(head, &format!("name: {name}"), 1)
    };
    // WHEN they plan it, THEN the run fails with the panic's text, and nobody ends
    let id = cluster.submit(&named("bad")).await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "failed", "{run:#}");
    let reason = run["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("planning panicked") && reason.contains("plan::bad struck"),
        "{reason}"
    );
    // WHEN the next leader loads a run of which it panics, THEN that run fails
    cluster.submit(&named("worse")).await.unwrap();
    cluster.until_done(1).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    cluster.coordinator(leader).kill().unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "failed", "{run:#}\n{}", cluster.logs());
    assert!(
        run["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("load::worse struck"),
        "{run:#}"
    );
    cluster.restart_coordinator(leader).await.unwrap();
    // AND both can be cancelled, and another pipeline runs
    let other = cluster.leader().await.unwrap();
    for id in [id.as_str(), run["run"].as_str().unwrap_or_default()] {
        let args = ["cancel", id, "--reason", "enough", "-y"].map(OsStr::new);
        let cancelled = cluster.highwater(other, args, LIMIT).await.unwrap();
        assert!(
            cancelled.status.success(),
            "{cancelled:?}\n{}",
            cluster.logs()
        );
    }
    // What the runs that failed have written is theirs.
    sqlx::raw_sql("drop table orders")
        .execute(&mut cluster.target.connect("postgres").await.unwrap())
        .await
        .unwrap();
    cluster.submit(&named("good")).await.unwrap();
    let run = cluster.until_ended(LIMIT).await.unwrap();
    assert_eq!(run["status"], "success", "{run:#}\n{}", cluster.logs());
    for no in 0..2 {
        assert!(cluster.coordinator(no).is_running(), "{}", cluster.logs());
    }
}
