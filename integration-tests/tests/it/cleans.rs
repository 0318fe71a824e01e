//! What ended runs have left beside the tables that are read, dropped by a person's word.

use highwater_integration_tests::Finished;
use serde_json::Value;

use crate::site::{LIMIT, Side, Site, assert_exit, assert_says};
use crate::swaps::{assert_equal, left, pipeline, swap, swapping};

async fn clean(site: &Site, more: &[&str]) -> Finished {
    site.finish(&[&["swap", "clean", "pipeline.yaml"], more].concat())
        .await
}

/// A table that was swapped, and a run that has failed with a part of its shadow loaded from `feed`.
async fn failed_halfway() -> Site {
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    site.execute(
        Side::Source,
        "create view feed as select id, at, (amount / (id - 1900))::numeric(12,2) as amount, note \
         from events",
    )
    .await;
    site.write_pipeline(&pipeline("feed", ""));
    assert_exit(&swap(&site).await, 3);
    assert_eq!(left(&site).await, ["_highwater_new", "_highwater_old"]);
    site
}

#[tokio::test]
async fn clean_drops_what_ended_runs_have_left_and_no_more() {
    // GIVEN a step that reads another table than the run that left its shadow
    let site = failed_halfway().await;
    let failed = site.status().await["short"].as_str().unwrap().to_owned();
    site.write_pipeline(&pipeline("events", ""));
    // WHEN somebody looks, or says no yes, THEN it is shown, and everything stays
    let shown = clean(&site, &["--dry-run", "-o", "json"]).await;
    assert_exit(&shown, 0);
    let document: Value = serde_json::from_str(&shown.stdout).unwrap();
    let found = document["beside"]["events"].as_array().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["kind"], &found[0]["dropped"]),
        (&"shadow".into(), &false.into())
    );
    assert_exit(&clean(&site, &[]).await, 6);
    assert_eq!(left(&site).await, ["_highwater_new", "_highwater_old"]);
    // WHEN it is cleaned THEN the shadow goes, and the table that was read before stays
    let cleaned = clean(&site, &["events", "-y"]).await;
    assert_exit(&cleaned, 0);
    assert_says(&cleaned.stdout, &format!("of run {failed}"));
    assert_says(&cleaned.stdout, ", dropped");
    assert_eq!(left(&site).await, ["_highwater_old"]);
    // AND the run that had loaded it never goes on
    site.write_pipeline(&pipeline("feed", ""));
    assert_exit(&site.finish(&["retry", &failed]).await, 8);
    // AND the kept table goes when that is said, and then there is nothing left
    site.write_pipeline(&pipeline("events", ""));
    assert_exit(&clean(&site, &["--kept", "-y"]).await, 0);
    assert!(left(&site).await.is_empty());
    let nothing = clean(&site, &["--kept"]).await;
    assert_exit(&nothing, 0);
    assert_says(&nothing.stdout, "nothing to drop");
    // AND the next run swaps as ever
    assert_exit(&swap(&site).await, 0);
    assert_equal(&site).await;
}

#[tokio::test]
async fn clean_leaves_a_running_runs_shadow() {
    let site = swapping().await;
    assert_exit(&site.run().await, 0);
    site.execute(Side::Source, "update events set note = 'later'")
        .await;
    // GIVEN a run that has loaded its shadow and stands still
    let run = site
        .highwater(&["run", "pipeline.yaml", "--new", "-v"])
        .await;
    let mut running = run
        .failpoints("attempt::before_build=1*return(stall 5000)")
        .start()
        .unwrap();
    let stands = running.until_stderr_holds("attempt::before_build struck", LIMIT);
    stands.await.unwrap();
    // WHEN somebody cleans THEN that is refused, and the run ends as ever
    let refused = clean(&site, &["--kept", "-y"]).await;
    assert_exit(&refused, 6);
    assert_says(&refused.stderr, "is under way");
    assert_eq!(left(&site).await, ["_highwater_new", "_highwater_old"]);
    assert!(running.wait(LIMIT).await.unwrap().success());
    assert_equal(&site).await;
}

#[tokio::test]
async fn clean_drops_nothing_that_somebodys_view_depends_on() {
    let site = failed_halfway().await;
    let view = "do $$ begin execute (select 'create view mine as select * from ' || relname from \
                pg_class where relname like '\\_highwater\\_old\\_%' and relkind = 'r'); end $$";
    site.execute(Side::Target, view).await;
    let cleaned = clean(&site, &["--kept", "-y"]).await;
    assert_exit(&cleaned, 3);
    assert_says(&cleaned.stdout, "not dropped");
    assert_says(&cleaned.stdout, "mine");
    assert_eq!(left(&site).await, ["_highwater_old"]);
    let seen = site.numbers(Side::Target, ["count(*)"], "from mine").await;
    assert_eq!(seen, [0]);
}
