//! Rows that a step leaves out: never in silence.

use crate::site::{Engine, Side, Site, assert_exit, assert_says};

/// Steps that copy `table` by its column, one for each way with rows without a position, into a
/// table of that way's name.
fn ways_with_nulls(site: &Site, table: &str, partition: &str, mode: &str, ways: &[&str]) {
    let step = |way: &&str| {
        format!(
            "  {way}:\n    strategy: backfill\n    from: {{connection: source, table: \
             {table}}}\n    to: {{connection: target, table: {table}_{mode}_{way}}}\n    \
             partition: {{{partition}, nulls: {way}}}\n    write: {{mode: {mode}}}\n"
        )
    };
    let steps: String = ways.iter().map(step).collect();
    site.write_pipeline(&format!("steps:\n{steps}"));
}

/// A parent whose child has dropped its NOT NULL, and a foreign table that only declares one: 8 and
/// 20 rows, of which 2 and 4 have no day.
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
    // GIVEN tables whose catalog says NOT NULL and whose rows do not keep to it
    let postgres = with_broken_promises().await;
    let sqlite = Site::empty(Engine::Sqlite).await;
    sqlite
        .execute(
            Side::Source,
            "create table items (id integer primary key desc, v int); insert into items values \
             (null, 1), (null, 2), (5, 3)",
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
                assert_eq!(
                    site.numbers(Side::Target, ["count(*)"], &from).await,
                    [arrived],
                    "{from}"
                );
            }
            // AND those that are left where they are, are told
            let plan = site.finish(&["plan", "pipeline.yaml"]).await;
            assert_says(
                &plan.stdout,
                &format!("{nulls} rows of {table} without {column}"),
            );
            // WHEN there shall be none THEN it is refused, and says how many there are
            ways_with_nulls(site, table, partition, mode, &["fail"]);
            let refused = site.run().await;
            assert_exit(&refused, 7);
            assert_says(
                &refused.stdout,
                &format!("{nulls} rows of {table} have no {column}"),
            );
        }
    }
}

#[tokio::test]
async fn row_level_security_is_told_or_refused() {
    // GIVEN a source whose policies let the role that reads see a quarter of its rows
    let mut site = Site::empty(Engine::Postgres).await;
    let sql = "create table orders (id int primary key, tenant int); create role clerk login;
               insert into orders select i, i % 4 from generate_series(1, 100) i;
               alter table orders enable row level security; create policy own on orders using (tenant = 1);
               grant select on orders to clerk";
    site.execute(Side::Source, sql).await;
    let [source, target] = ["source", "target"].map(|database| site.server().url(database));
    site.point("SOURCE_URL", source.replace("postgres@", "clerk@"));
    let steps = |rows: &str| {
        format!(
            "steps:\n  orders:\n    strategy: backfill\n    from: {{connection: source, table: \
             orders{rows}}}\n    to: {{connection: target, table: orders}}\n    partition: {{by: \
             integer, column: id}}\n    write: {{mode: append}}\n"
        )
    };
    site.write_pipeline(&steps(""));
    // WHEN it is planned, or run THEN it is refused, and says why and what to do
    for command in ["plan", "run"] {
        let finished = site.finish(&[command, "pipeline.yaml"]).await;
        assert_exit(&finished, 7);
        for text in [
            "row level security of public.orders",
            "hides rows from clerk",
            "from.rows: \
            visible",
        ] {
            assert_says(&format!("{}{}", finished.stdout, finished.stderr), text);
        }
    }
    // WHEN the visible rows are meant THEN they are loaded, and the plan says that there may be
    // others
    site.write_pipeline(&steps(", rows: visible"));
    let plan = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&plan, 0);
    assert_says(&plan.stdout, "rows of orders that row level security hides");
    assert_exit(&site.run().await, 0);
    assert_eq!(
        site.numbers(Side::Target, ["count(*)", "min(tenant)"], "from orders")
            .await,
        [25, 1]
    );
    // GIVEN a target whose policies hold for the role that writes
    let sql = "alter table orders enable row level security; create policy own on orders using (tenant = 1);
               grant all on orders to clerk; grant create on database target to clerk";
    site.execute(Side::Target, sql).await;
    site.execute(
        Side::Target,
        "grant all on schema highwater to clerk; grant all on all tables in schema highwater to \
         clerk",
    )
    .await;
    site.point("TARGET_URL", target.replace("postgres@", "clerk@"));
    // WHEN it is planned THEN it is refused, too
    let plan = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&plan, 7);
    assert_says(&plan.stderr, "row level security of public.orders");
    assert_says(&plan.stderr, "holds for clerk");
}

/// The step of a status document.
fn step<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    status["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["step"] == name)
        .unwrap()
}

#[tokio::test]
async fn rows_in_no_partition_are_an_error() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        // GIVEN a table that has neither a NULL nor a stray value when the run is planned, and gets
        // them while the run is under way: its first step loads a table of the other steps' source,
        // whose trigger puts them there
        let site = Site::empty(engine).await;
        site.execute(
            Side::Target,
            "create table seed (id integer not null primary key)",
        )
        .await;
        site.execute(Side::Target, "insert into seed values (1)")
            .await;
        let (pos, trigger) = match engine {
            Engine::Postgres => (
                "pos int",
                "create function late() returns trigger language plpgsql as
                   $$ begin insert into events values (100, null); return null; end $$;
                 create trigger late after insert on gate for each row execute function late()",
            ),
            Engine::Sqlite => (
                "pos",
                "create trigger late after insert on gate begin
                   insert into events values (100, null); insert into words values (100, 'n/a');
                 end",
            ),
        };
        for table in ["events", "words"] {
            let sql = format!(
                "create table {table} (id integer not null primary key, {pos}); insert into {table} \
                 with recursive n (i) as (select 1 union all select i + 1 from n where i < 30) \
                 select i, i from n"
            );
            site.execute(Side::Source, &sql).await;
        }
        site.execute(
            Side::Source,
            "create table gate (id integer not null primary key)",
        )
        .await;
        site.execute(Side::Source, trigger).await;
        let step_of = |name: &str, table: &str, nulls: &str| {
            format!(
                "  {name}:\n    strategy: {{type: backfill, start: 10, end: 20}}\n    depends_on: \
                 [gate]\n    from: {{connection: source, table: {table}}}\n    to: {{connection: \
                 target, table: {name}}}\n    partition: {{by: integer, column: pos, width: 5, \
                 nulls: {nulls}}}\n    write: {{mode: append}}\n"
            )
        };
        site.write_pipeline(&format!(
            "steps:\n  gate:\n    strategy: backfill\n    from: {{connection: target, table: \
             seed}}\n    to: {{connection: source, table: gate}}\n    partition: {{by: integer, \
             column: id}}\n    write: {{mode: append}}\n{}{}{}{}",
            step_of("failing", "events", "fail"),
            step_of("ignoring", "events", "ignore"),
            step_of("taking", "events", "partition"),
            step_of("wording", "words", "ignore"),
        ));
        // WHEN it is run
        let finished = site.run().await;
        // THEN the step that declared nothing of them is no success, and says how many there are
        // and what to do
        assert_exit(&finished, 3);
        let status = site.status().await;
        let failing = step(&status, "failing");
        assert_eq!(
            (&failing["status"], &failing["rows"]),
            (&"failed".into(), &10.into()),
            "{failing}"
        );
        assert_eq!(
            failing["dead"][0]["code"], "rows_in_no_partition",
            "{failing}"
        );
        for text in ["1 row without pos", "nulls: partition", "nulls: ignore"] {
            assert_says(failing["reason"].as_str().unwrap(), text);
            assert_says(&finished.stdout, text);
        }
        // AND those that declared what they leave out are, and tell it, row by row
        let outside = [
            "9 rows of events whose pos lies before 10",
            "11 rows of events whose pos lies at or behind 20",
        ];
        for (name, rows, told) in [
            (
                "ignoring",
                10,
                [&outside[..], &["1 row of events without pos"]].concat(),
            ),
            ("taking", 11, outside.to_vec()),
        ] {
            let step = step(&status, name);
            assert_eq!(
                (&step["status"], &step["rows"]),
                (&"success".into(), &rows.into()),
                "{step}"
            );
            assert_eq!(step["not_loaded"], serde_json::json!(told), "{step}");
            for line in told {
                assert_says(&finished.stdout, &format!("{name} not loaded: {line}"));
            }
        }
        // AND a text among numbers, outside of the bounds, is no row that was declared
        let wording = step(&status, "wording");
        match engine {
            Engine::Postgres => assert_eq!(wording["status"], "success", "{wording}"),
            Engine::Sqlite => {
                assert_eq!(wording["status"], "failed", "{wording}");
                assert_says(
                    wording["reason"].as_str().unwrap(),
                    "1 row whose pos is not written as the others' are",
                );
            }
        }
    }
}

#[tokio::test]
async fn a_plan_counts_the_rows_outside_of_what_is_declared() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        // GIVEN a step that declares a part of its days, and ignores rows without one
        let site = Site::empty(engine).await;
        site.make_events("").await;
        site.execute(
            Side::Source,
            "insert into events values (9001, null, 1, null), (9002, null, \
                                    1, null)",
        )
        .await;
        site.pipeline(Site::BACKFILL, "{mode: append}");
        let path = site.path("pipeline.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text
            .replace("grain: day", "grain: day, nulls: ignore")
            .replace("2024-03-01", "2024-03-02");
        std::fs::write(&path, text.replace("2024-03-21", "2024-03-20")).unwrap();
        // WHEN it is planned THEN the plan says how many rows stay where they are
        let plan = site.finish(&["plan", "pipeline.yaml"]).await;
        assert_exit(&plan, 0);
        for rows in [
            "100 rows of events whose at lies before 2024-03-02",
            "100 rows of events whose at lies at or behind 2024-03-20",
            "2 rows of events without at",
        ] {
            assert_says(&plan.stdout, rows);
        }
    }
}
