//! A table too large to be replaced as it is read: several sessions read it at one point in time,
//! its rows wait beside the target's table, and are published at one instant.

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

const MANY: i64 = 120_000;

/// Slow enough that something can happen between two pieces of the table.
const SLOW: &str = "attempt::before_piece=sleep(60)";

fn pipeline(more: &str) -> String {
    format!(
        "steps:\n  events:\n    strategy: {{type: full_refresh{more}}}\n    from: {{connection: \
         source, table: events}}\n    to: {{connection: target, table: events}}\n    retries: \
         {{initial: 10ms, max: 10ms, max_attempts: 3}}\n"
    )
}

/// A source with more rows than are replaced as they are read.
async fn large() -> Site {
    let site = Site::empty(Engine::Postgres).await;
    site.make_events("not null").await;
    let many = format!(
        "insert into events select g, '2024-05-01T00:00:00Z', 100, repeat('x', 60) from \
         generate_series(10001, {}) g; analyze events",
        10_000 + MANY
    );
    site.execute(Side::Source, &many).await;
    site.write_pipeline(&pipeline(""));
    site
}

async fn refresh(site: &Site) -> highwater_integration_tests::Finished {
    site.finish(&["run", "pipeline.yaml", "--new"]).await
}

async fn assert_equal(site: &Site) {
    let (source, target) = site.digests().await;
    assert_eq!(source, target);
}

/// The tables that are left beside.
async fn beside(site: &Site) -> i64 {
    let like = "from pg_class where relname like '\\_highwater\\_%' and relkind = 'r'";
    site.numbers(Side::Target, ["count(*)"], like).await[0]
}

#[tokio::test]
async fn a_refresh_through_a_snapshot_is_one_point_in_time() {
    let site = large().await;
    let plan = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_exit(&plan, 0);
    assert_says(&plan.stdout, "at one point in time");
    let money = async |side| {
        site.numbers(side, ["sum(amount)", "count(*)"], "from events")
            .await
    };
    let before = money(Side::Source).await;
    // GIVEN somebody who moves money between rows that lie far apart, and never stops
    let move_money = async || {
        for turn in 0_i64.. {
            let (from, to) = (10_001 + turn % 900, 10_000 + MANY - turn % 900);
            let (from, to) = if turn % 2 == 0 {
                (from, to)
            } else {
                (to, from)
            };
            let both = format!(
                "begin; update events set amount = amount - 7 where id = {from}; \
                 update events set amount = amount + 7 where id = {to}; commit"
            );
            site.execute(Side::Source, &both).await;
        }
    };
    // WHEN the table is refreshed meanwhile, once from nothing and once more
    for _ in 0..2 {
        let run = site.highwater(&["run", "pipeline.yaml", "--new"]).await;
        let refreshed = tokio::select! {
            finished = run.failpoints(SLOW).run(LIMIT) => finished.unwrap(),
            () = move_money() => unreachable!("it never stops"),
        };
        assert_exit(&refreshed, 0);
        // THEN not a coin is missing or there twice
        assert_eq!(money(Side::Target).await, before);
        assert_eq!(beside(&site).await, 0);
    }
    // AND once nobody moves any more it is the source
    assert_exit(&refresh(&site).await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn a_snapshot_holder_that_dies_begins_the_copy_anew() {
    let site = large().await;
    // GIVEN a refresh whose rows are on their way
    let run = site
        .highwater(&["run", "pipeline.yaml", "--new", "-v"])
        .await;
    let mut running = run
        .failpoints("attempt::before_piece=2*off->1*return(stall 3000)->off")
        .start()
        .unwrap();
    let stands = running.until_stderr_holds("attempt::before_piece struck", LIMIT);
    stands.await.unwrap();
    // WHEN the session that holds the point in time is ended, and the source changes
    let end = "do $$ begin perform pg_terminate_backend(pid) from pg_stat_activity where state = \
               'idle in transaction' and query like '%pg_export_snapshot%'; if not found then \
               raise 'nobody holds it'; end if; end $$; \
               update events set amount = 1 where id % 1000 = 0";
    site.execute(Side::Source, end).await;
    // THEN the copy begins anew at a later point in time, and none of what was read before is there
    assert!(running.wait(LIMIT).await.unwrap().success());
    assert_says(&running.stderr().unwrap(), "snapshot_lost");
    assert_equal(&site).await;
    assert_eq!(beside(&site).await, 0);
}

#[tokio::test]
async fn a_killed_refresh_is_begun_anew_and_leaves_nothing_beside() {
    let site = large().await;
    assert_exit(&site.run().await, 0);
    site.execute(Side::Source, "update events set note = 'new'")
        .await;
    let (before, _) = site.fingerprint().await;
    for place in ["attempt::before_piece", "attempt::before_guard"] {
        // GIVEN a refresh that is killed where it reads, and where it publishes
        let run = site
            .highwater(&["run", "pipeline.yaml", "--new", "-v"])
            .await;
        let mut running = run
            .failpoints(&format!("{place}=1*return(stall 60000)"))
            .start()
            .unwrap();
        let stands = running.until_stderr_holds("struck", LIMIT);
        stands.await.unwrap();
        running.kill().unwrap();
        // THEN nobody sees any of it
        assert_eq!(site.fingerprint().await.0, before);
        assert_eq!(beside(&site).await, 1);
    }
    // AND the next one ends well, and drops what the others have left
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
    assert_eq!(beside(&site).await, 0);
}

#[tokio::test]
async fn a_publish_that_waits_for_a_lock_reads_nothing_again() {
    let site = large().await;
    assert_exit(&site.run().await, 0);
    site.execute(Side::Source, "update events set note = 'new'")
        .await;
    // GIVEN somebody who has written the target's table, and does not commit
    let mut writer = site.server().connect("target").await.unwrap();
    sqlx::raw_sql("begin; update events set note = 'his' where id = 1")
        .execute(&mut writer)
        .await
        .unwrap();
    // WHEN it is refreshed THEN the rows are read once, however long they wait to be published
    let run = site
        .highwater(&["run", "pipeline.yaml", "--new", "-vv"])
        .await;
    let mut running = run.start().unwrap();
    let blocked = running.until_stderr_holds("lock_timeout", LIMIT);
    blocked.await.unwrap();
    sqlx::raw_sql("commit").execute(&mut writer).await.unwrap();
    assert!(running.wait(LIMIT).await.unwrap().success());
    let stderr = running.stderr().unwrap();
    assert_eq!(stderr.matches("holding a snapshot").count(), 1, "{stderr}");
    assert_equal(&site).await;
    assert_eq!(beside(&site).await, 0);
}

#[tokio::test]
async fn only_rows_that_differ_are_touched() {
    let site = large().await;
    // GIVEN a target that was refreshed once, with another unique column and somebody who points
    // to it
    let more = "alter table events add other integer unique deferrable, add code integer; \
                update events set code = id; alter table events add unique (code)";
    site.execute(Side::Source, more).await;
    assert_exit(&site.run().await, 0);
    let child = "create table child (event bigint references events deferrable); \
                 insert into child select id from events where id % 100 = 0; \
                 create unique index on events (code); \
                 create table seen as select id, xmin::text as version from events";
    site.execute(Side::Target, child).await;
    // WHEN rows of the source change, come and go, and two trade what has to be unique
    let change = "update events set note = 'changed' where id between 20000 and 20099; \
                  delete from events where id between 30001 and 30020; \
                  insert into events (id, at, amount) select g, now(), 1 from \
                  generate_series(500001, 500010) g; \
                  update events set code = -1 where id = 40001; \
                  update events set code = 40001 where id = 40002; \
                  update events set code = 40002 where id = 40001";
    site.execute(Side::Source, change).await;
    assert_exit(&refresh(&site).await, 0);
    // THEN the target is the source again, and all other rows are the ones that were there
    assert_equal(&site).await;
    let touched = site.numbers(
        Side::Target,
        ["count(*)"],
        "from events e left join seen s using (id) where e.xmin::text is distinct from s.version",
    );
    assert_eq!(touched.await, [100 + 10 + 2]);
    // AND a refresh of a table without any key replaces all of them
    let keyless = "alter table child drop constraint child_event_fkey; do $$ declare c record; \
                   begin for c in select conname from pg_constraint where conrelid = \
                   'events'::regclass and contype in ('p', 'u') loop execute \
                   format('alter table events drop constraint %I', c.conname); end loop; end $$; \
                   drop index events_code_idx";
    site.execute(Side::Target, keyless).await;
    assert_exit(&refresh(&site).await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn what_fails_at_the_end_leaves_the_old_rows_and_nothing_beside() {
    let site = large().await;
    assert_exit(&site.run().await, 0);
    let (before, _) = site.fingerprint().await;
    // GIVEN a check that the new rows do not pass
    let checked = format!("{}    checks: [{{min_rows: 100000000}}]\n", pipeline(""));
    site.write_pipeline(&checked);
    site.execute(Side::Source, "update events set note = 'new'")
        .await;
    // WHEN the table is refreshed THEN the step fails and the old rows stay
    assert_exit(&refresh(&site).await, 7);
    assert_eq!(
        (site.fingerprint().await.0, beside(&site).await),
        (before.clone(), 0)
    );
    // AND so they do when the source has lost nearly all of its rows since it was planned
    site.write_pipeline(&pipeline(""));
    let run = site
        .highwater(&["run", "pipeline.yaml", "--new", "-v"])
        .await;
    let mut running = run
        .failpoints("attempt::after_stage=1*return(stall 3000)")
        .start()
        .unwrap();
    let stands = running.until_stderr_holds("attempt::after_stage struck", LIMIT);
    stands.await.unwrap();
    site.execute(Side::Source, "delete from events where id > 20000")
        .await;
    assert_eq!(running.wait(LIMIT).await.unwrap().code(), Some(7));
    assert_eq!(
        (site.fingerprint().await.0, beside(&site).await),
        (before, 0)
    );
}

#[tokio::test]
async fn a_connection_with_few_sessions_is_read_by_fewer() {
    let site = large().await;
    // GIVEN limits that leave one session to read with, and none beside the one that would hold the
    // point in time
    for max in [2, 1] {
        let text = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
        let limit = format!("type: postgres, max_connections: {max}, url");
        let text = text.replace("type: postgres, url", &limit);
        std::fs::write(site.path("limited.yaml"), text).unwrap();
        // WHEN the table is refreshed
        let run = site.highwater(&["run", "limited.yaml", "--new"]).await;
        let run = run.failpoints("attempt::reading=sleep(20)");
        let reading = "from pg_stat_activity where state = 'active' and query like 'copy (select%'";
        let mut seen = 0;
        let watching = async {
            loop {
                let now = site.numbers(Side::Source, ["count(*)"], reading).await;
                seen = seen.max(now[0]);
            }
        };
        let refreshed = tokio::select! {
            finished = run.run(LIMIT) => finished.unwrap(),
            () = watching => unreachable!("it never stops"),
        };
        // THEN one session reads it
        assert_exit(&refreshed, 0);
        assert_eq!(seen, 1);
        assert_equal(&site).await;
    }
}
