//! Triggers and rules of a target: told, skipped or refused, and never a surprise.

use crate::site::{Engine, Side, Site, assert_exit, assert_says};

/// One step that copies `t` by its number, in hundreds.
fn step(write: &str) -> String {
    format!(
        "steps:\n  t:\n    strategy: {{type: backfill, reprocess: missing}}\n    from: \
         {{connection: source, table: t}}\n    to: {{connection: target, table: t}}\n    \
         partition: {{by: integer, column: id, width: 100}}\n    write: {{{write}}}\n"
    )
}

/// 250 rows that were touched in 2020, and a target whose trigger, as many an ORM makes it, would
/// touch them now.
async fn with_touching_target() -> Site {
    let site = Site::empty(Engine::Postgres).await;
    let source = "create table t (id int primary key, touched timestamptz);
                  insert into t select i, '2020-01-01' from generate_series(1, 250) i";
    let target = "create table t (id int primary key, touched timestamptz);
                  create function touch() returns trigger language plpgsql as
                      'begin new.touched = now(); return new; end';
                  create function note() returns trigger language plpgsql as 'begin return null; end';
                  create trigger touch before insert or update on t for each row execute function touch();
                  create trigger gone after delete on t execute function note();
                  create trigger off before insert on t for each row execute function touch();
                  alter table t disable trigger off";
    site.execute(Side::Source, source).await;
    site.execute(Side::Target, target).await;
    site
}

/// How many rows of the target were touched when they were loaded.
async fn touched(site: &Site) -> i64 {
    site.numbers(
        Side::Target,
        ["count(*)"],
        "from t where touched > '2021-01-01'",
    )
    .await[0]
}

#[tokio::test]
async fn triggers_of_the_target_are_told() {
    // GIVEN a target with triggers that fire for rows inserted and deleted, and one that is
    // disabled
    let mut site = with_touching_target().await;
    for (mode, deletes) in [("append", false), ("replace_partition", true)] {
        site.write_pipeline(&step(&format!("mode: {mode}")));
        // WHEN it is planned, and run THEN both name those that this mode fires, and what they fire
        // on
        let plan = site.finish(&["plan", "pipeline.yaml"]).await;
        assert_exit(&plan, 0);
        let run = site.run().await;
        assert_exit(&run, 0);
        for printed in [&plan.stdout, &run.stdout] {
            assert_says(
                printed,
                "trigger touch of public.t fires for this load (before insert or update, each row)",
            );
            let gone =
                "trigger gone of public.t fires for this load (after delete, each statement)";
            assert_eq!(printed.contains(gone), deletes, "{mode}: {printed}");
            assert!(!printed.contains("trigger off"), "{mode}: {printed}");
        }
        assert_eq!(touched(&site).await, 250, "{mode}");
        site.execute(Side::Target, "drop schema highwater cascade; delete from t")
            .await;
        // WHEN they are to be skipped THEN the rows arrive as they are, and the plan says what else
        // is skipped
        site.write_pipeline(&step(&format!("mode: {mode}, triggers: skip")));
        let plan = site.finish(&["plan", "pipeline.yaml"]).await;
        let run = site.run().await;
        assert_exit(&run, 0);
        for printed in [&plan.stdout, &run.stdout] {
            assert_says(printed, "triggers of t are skipped");
            assert_says(printed, "foreign keys and deferrable keys are not checked");
        }
        assert_eq!(
            (
                touched(&site).await,
                site.numbers(Side::Target, ["count(*)"], "from t").await
            ),
            (0, [250])
        );
        site.execute(Side::Target, "drop schema highwater cascade; delete from t")
            .await;
    }
    // GIVEN a role that may not skip triggers THEN the plan refuses, and names the right that is
    // missing
    let clerk = "create role clerk login; grant all on t to clerk; grant create on database target \
                 to clerk";
    site.execute(Side::Target, clerk).await;
    let url = site.server().url("target");
    site.point("TARGET_URL", url.replace("postgres@", "clerk@"));
    site.write_pipeline(&step("mode: append, triggers: skip"));
    for command in ["plan", "run"] {
        let refused = site.finish(&[command, "pipeline.yaml"]).await;
        assert_exit(&refused, 7);
        let printed = format!("{}{}", refused.stdout, refused.stderr);
        assert_says(
            &printed,
            "grant set on parameter session_replication_role to clerk",
        );
    }
    // GIVEN a rule in place of inserts, which COPY goes past THEN the plan refuses it by name
    site.point("TARGET_URL", url);
    site.execute(
        Side::Target,
        "create rule aside as on insert to t do instead nothing",
    )
    .await;
    site.write_pipeline(&step("mode: append"));
    let refused = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&refused, 7);
    assert_says(
        &refused.stderr,
        "rule aside of public.t puts something else in place of an insert",
    );
}

#[tokio::test]
async fn triggers_of_a_sqlite_target_are_told_and_cannot_be_skipped() {
    // GIVEN a file with a trigger that fires for inserted rows
    let site = Site::empty(Engine::Sqlite).await;
    site.execute(
        Side::Source,
        "create table t (id integer primary key, v text); insert into t \
                                values (1, 'a')",
    )
    .await;
    let sql = "create table t (id integer primary key, v text); create table log (id integer);
               create trigger noted after insert on t begin insert into log values (new.id); end;
               create trigger aside after update on t begin select 1; end";
    site.execute(Side::Target, sql).await;
    // WHEN they are to be skipped THEN it is refused, for there is no such switch
    site.write_pipeline(&step("mode: append, triggers: skip"));
    let refused = site.run().await;
    assert_exit(&refused, 7);
    assert_says(
        &format!("{}{}", refused.stdout, refused.stderr),
        "SQLite has no switch that keeps the triggers of t",
    );
    // WHEN it is run as it is THEN it is told which one fires
    site.write_pipeline(&step("mode: append"));
    let run = site.run().await;
    assert_exit(&run, 0);
    assert_says(
        &run.stdout,
        "trigger noted of t fires for this load (after insert, each row)",
    );
    assert!(!run.stdout.contains("trigger aside"), "{}", run.stdout);
}
