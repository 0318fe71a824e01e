//! A table that is loaded beside the one that is read, whose rows then come into that one's place;
//! and how long a table that was exchanged is kept.

use crate::site::{LIMIT, ROWS, Side, assert_exit, assert_says};
use crate::swaps::{assert_equal, left, pipeline, swap, swapping};

const IN_PLACE: &str = ", publish: in_place";

#[tokio::test]
async fn a_swap_in_place_keeps_the_table_and_touches_only_rows_that_differ() {
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    // GIVEN a table with something that no exchange takes along
    site.execute(
        Side::Target,
        "create materialized view monthly as select count(*) as n from events; \
         create table before as select id, xmin::text as version, 'events'::regclass::oid as own \
         from events",
    )
    .await;
    site.execute(
        Side::Source,
        "update events set note = 'changed' where id between 100 and 199; \
         delete from events where id > 1990; \
         insert into events values (9000, '2024-03-02T00:00:00Z', 7, 'new')",
    )
    .await;
    let refused = swap(&site).await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "publish: in_place");
    // WHEN it is swapped in place
    site.write_pipeline(&pipeline("events", IN_PLACE));
    let plan = site.finish(&["plan", "pipeline.yaml"]).await;
    assert_says(&plan.stdout, "then its rows in their place");
    assert_says(&plan.stdout, "not one point in time");
    assert_exit(&swap(&site).await, 0);
    // THEN it is the source, the same table as before, and most of its rows are, too
    assert_equal(&site).await;
    let touched = site.numbers(
        Side::Target,
        [
            "count(*)",
            "count(*) filter (where b.own is distinct from 'events'::regclass)",
        ],
        "from events e left join before b using (id) where e.xmin::text is distinct from b.version",
    );
    assert_eq!(touched.await, [101, 1]);
    assert_eq!(left(&site).await, ["_highwater_old"]);
    // AND there is no table before that could come back
    let undone = site
        .finish(&[
            "swap",
            "undo",
            "pipeline.yaml",
            "events",
            "--reason",
            "x",
            "-y",
        ])
        .await;
    assert_exit(&undone, 6);
}

#[tokio::test]
async fn a_check_that_fails_publishes_nothing_in_place() {
    let site = swapping().await;
    let checked = |least: u64| {
        format!(
            "{}    checks: [{{min_rows: {least}}}]\n",
            pipeline("events", IN_PLACE)
        )
    };
    site.write_pipeline(&checked(ROWS.unsigned_abs()));
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
    let (before, _) = site.fingerprint().await;
    site.execute(Side::Source, "update events set note = 'new'")
        .await;
    site.write_pipeline(&checked(1_000_000));
    assert_exit(&swap(&site).await, 3);
    assert_eq!(site.fingerprint().await.0, before);
}

#[tokio::test]
async fn a_killed_swap_in_place_goes_on_with_what_it_has_loaded() {
    let site = swapping().await;
    site.write_pipeline(&pipeline("events", IN_PLACE));
    assert_exit(&site.run().await, 0);
    site.execute(Side::Source, "update events set note = 'new'")
        .await;
    let (_, before) = site.digests().await;
    let mut args = vec!["run", "pipeline.yaml", "--new", "-v"];
    for place in [
        // in a load, and behind the commit of the publish
        "attempt::before_guard=4*off->1*return(stall 60000)",
        "attempt::before_close=1*return(stall 60000)",
    ] {
        let run = site.highwater(&args).await;
        args = vec!["run", "pipeline.yaml", "-v"];
        let mut running = run.failpoints(place).start().unwrap();
        let stands = running.until_stderr_holds("struck", LIMIT);
        stands.await.unwrap();
        running.kill().unwrap();
        let (source, now) = site.digests().await;
        assert!(now == before || now == source, "{place}");
    }
    assert_exit(&site.run().await, 0);
    assert_equal(&site).await;
    assert!(left(&site).await.is_empty());
    // AND it was one run all the time, that loaded each part once
    let runs = "from highwater.task where state = 'C' and run_id = (select run_id from \
                highwater.task order by token desc limit 1)";
    let parts = site
        .numbers(Side::Target, ["count(*)", "count(distinct task_id)"], runs)
        .await;
    assert_eq!(parts[0], parts[1]);
}

#[tokio::test]
async fn a_key_that_would_cascade_is_refused_in_place() {
    let site = swapping().await;
    site.write_pipeline(&pipeline("events", IN_PLACE));
    assert_exit(&site.run().await, 0);
    let child = "create table child (event bigint references events on delete cascade); \
                 insert into child select id from events where id <= 10";
    site.execute(Side::Target, child).await;
    let refused = swap(&site).await;
    assert_exit(&refused, 7);
    assert_says(&refused.stdout, "child_event_fkey");
}

#[tokio::test]
async fn a_table_before_is_kept_as_long_as_is_said() {
    let site = swapping().await;
    let kept = async |keep_old: &str| {
        site.write_pipeline(&pipeline("events", keep_old));
        assert_exit(&swap(&site).await, 0);
        assert_equal(&site).await;
        left(&site).await.len()
    };
    // GIVEN nothing said THEN the next swap drops it
    assert_eq!(kept("").await, 1);
    assert_eq!(kept("").await, 1);
    // GIVEN a time THEN it stays as long, beside those that came later
    assert_eq!(kept(", keep_old: 1h").await, 2);
    assert_eq!(kept(", keep_old: 1h").await, 3);
    // GIVEN none at all THEN each of them goes at once
    assert_eq!(kept(", keep_old: 0s").await, 0);
}
