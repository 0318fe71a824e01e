//! Rows that a step leaves out: never in silence.

use crate::site::{Engine, Side, Site, assert_exit, assert_says};

/// Steps that copy `table` by its column, one for each way with rows without a position, into a table of that way's name.
fn ways_with_nulls(site: &Site, table: &str, partition: &str, mode: &str, ways: &[&str]) {
    let step = |way: &&str| {
        format!(
            "  {way}:\n    strategy: backfill\n    from: {{connection: source, table: {table}}}\n    \
             to: {{connection: target, table: {table}_{mode}_{way}}}\n    \
             partition: {{{partition}, nulls: {way}}}\n    write: {{mode: {mode}}}\n"
        )
    };
    let steps: String = ways.iter().map(step).collect();
    site.write_pipeline(&format!("steps:\n{steps}"));
}

/// A parent whose child has dropped its NOT NULL, and a foreign table that only declares one: 8 and 20 rows, of which 2 and
/// 4 have no day.
async fn with_broken_promises() -> Site {
    let site = Site::empty(Engine::Postgres).await;
    let url = site.server().url("source");
    let place = url.rsplit('@').next().unwrap();
    let (host_port, database) = place.split_once('/').unwrap();
    let (host, port) = host_port.rsplit_once(':').unwrap();
    let sql = format!(
        "create table parent (id int primary key, at date not null); create table child () inherits (parent);
         alter table child alter at drop not null;
         insert into parent select i, date '2024-01-01' + i from generate_series(1, 5) i;
         insert into child values (5, null), (101, null), (102, '2024-01-03');
         create table remote (id int primary key, at date);
         insert into remote select i, case when i % 5 > 0 then date '2024-01-01' + i end from generate_series(1, 20) i;
         create extension postgres_fdw;
         create server itself foreign data wrapper postgres_fdw options (host '{host}', port '{port}', dbname '{database}');
         create user mapping for public server itself options (user 'postgres');
         create foreign table afar (id int not null, at date not null) server itself options (table_name 'remote')"
    );
    site.execute(Side::Source, &sql).await;
    site
}

#[tokio::test]
async fn null_rows_of_a_child_table_are_not_lost() {
    // GIVEN tables whose catalogue says NOT NULL and whose rows do not keep to it
    let postgres = with_broken_promises().await;
    let sqlite = Site::empty(Engine::Sqlite).await;
    sqlite
        .execute(
            Side::Source,
            "create table items (id integer primary key desc, v int); insert into items values (null, 1), (null, 2), (5, 3)",
        )
        .await;
    let by_month = "by: calendar, column: at, grain: month";
    for (site, table, partition, column, nulls, rows) in [
        (&postgres, "parent", by_month, "at", 2, 8),
        (&postgres, "afar", by_month, "at", 4, 20),
        (&sqlite, "items", "by: integer, column: id", "id", 2, 3),
    ] {
        for mode in ["append", "replace_partition"] {
            // WHEN it is copied with the NULL rows, and without them
            ways_with_nulls(site, table, partition, mode, &["partition", "ignore"]);
            let finished = site.run().await;
            // THEN all rows arrive, or all with a position
            assert_exit(&finished, 0);
            for (way, arrived) in [("partition", rows), ("ignore", rows - nulls)] {
                let from = format!("from {table}_{mode}_{way}");
                assert_eq!(site.numbers(Side::Target, ["count(*)"], &from).await, [arrived], "{from}");
            }
            // AND those that are left where they are, are told
            let plan = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_says(&plan.stdout, &format!("{nulls} rows of {table} without {column}"));
            // WHEN there shall be none THEN it is refused, and says how many there are
            ways_with_nulls(site, table, partition, mode, &["fail"]);
            let refused = site.run().await;
            assert_exit(&refused, 7);
            assert_says(&refused.stdout, &format!("{nulls} rows of {table} have no {column}"));
        }
    }
}
