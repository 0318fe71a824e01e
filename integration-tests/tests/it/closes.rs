//! Targets that are put back to an older state under a run: what they lost is noticed, and loaded
//! again, before the step has ended.

use std::path::Path;

use highwater_integration_tests::{Signal, until};

use crate::site::{DAYS, Engine, LIMIT, Side, Site, assert_exit, assert_says};

const REPLACE: &str = "{mode: replace_partition}";
const APPEND: &str = "{mode: append}";
const IN_THE_MIDST: &str = "attempt::after_commit=6*off->1*return(abort)";
/// At the end of a run that went on: its first close is the comparison with which it began.
const AT_CLOSE: &str = "attempt::before_close=1*off->1*return(abort)";

/// Runs the pipeline until it strikes there.
async fn killed(site: &Site, failpoints: &str) {
    let mut run = site.start(failpoints).await;
    let status = run.wait(LIMIT).await.unwrap();
    assert_ne!(status.code(), Some(0), "{}", run.stderr().unwrap());
    assert_says(&run.stderr().unwrap(), "struck");
}

/// A copy of a database file that nobody has open, and of what stands beside it.
fn copy(from: &Path, to: &Path) {
    for beside in ["", "-wal", "-shm"] {
        let name = |path: &Path| format!("{}{beside}", path.display());
        let _ = std::fs::remove_file(name(to));
        if Path::new(&name(from)).exists() {
            std::fs::copy(name(from), name(to)).unwrap();
        }
    }
}

/// `cp backup.db target.db`: the file that is there keeps its device and its inode.
fn cp(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(format!("{}-wal", to.display()));
    let _ = std::fs::remove_file(format!("{}-shm", to.display()));
    std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
}

/// The target's file holds everything, and nothing stands beside it.
async fn settle(site: &Site) {
    site.execute(Side::Target, "pragma wal_checkpoint(truncate)")
        .await;
}

/// The target as it is, kept; nobody has it open.
async fn save(site: &mut Site, engine: Engine) {
    match engine {
        Engine::Sqlite => {
            settle(site).await;
            copy(&site.path("target.db"), &site.path("backup.db"));
        }
        Engine::Postgres => {
            site.server_mut().save().await.unwrap();
            site.server_mut().restart().await.unwrap();
        }
    }
}

/// Puts back what was kept: a file by `cp`, a server by its data folder.
async fn put_back(site: &mut Site, engine: Engine) {
    match engine {
        Engine::Sqlite => {
            settle(site).await;
            cp(&site.path("backup.db"), &site.path("target.db"));
        }
        Engine::Postgres => site.server_mut().put_back().await.unwrap(),
    }
}

#[tokio::test]
async fn a_target_restored_from_a_copy_is_noticed_before_the_step_ends() {
    for (engine, write) in [(Engine::Sqlite, APPEND), (Engine::Postgres, REPLACE)] {
        // GIVEN a run that was killed in its midst, a copy of its target from then, and the run
        // gone on to the end of its loads
        let mut site = Site::with_events(engine, write).await;
        killed(&site, IN_THE_MIDST).await;
        let before = site.tasks('C').await;
        assert!((6..DAYS).contains(&before), "{before} tasks");
        save(&mut site, engine).await;
        killed(&site, AT_CLOSE).await;
        assert_eq!(site.tasks('C').await, DAYS);
        // WHEN the copy is put in the target's place, and the run goes on
        put_back(&mut site, engine).await;
        assert_eq!(site.tasks('C').await, before);
        let finished = site.run().await;
        // THEN it has loaded again what was lost, every row is there once, and it says so
        assert_exit(&finished, 0);
        site.assert_copied_once(DAYS).await;
        let status = site.status().await;
        let step = &status["steps"][0];
        let lost = format!(
            "{} tasks whose rows the target had lost were loaded again",
            DAYS - before
        );
        assert!(step["warnings"].to_string().contains(&lost), "{status:#}");
        let rows = site
            .numbers(Side::Source, ["count(*)"], "from events")
            .await[0];
        assert_eq!(
            (step["status"].as_str(), step["rows"].as_i64()),
            (Some("success"), Some(rows)),
            "{status:#}"
        );
        // AND the next run finds nothing to do
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(DAYS).await;
    }
}

#[tokio::test]
async fn a_target_put_back_while_nobody_led_is_noticed_when_the_next_term_begins() {
    for (engine, write) in [(Engine::Sqlite, APPEND), (Engine::Postgres, APPEND)] {
        // GIVEN a run that was killed in its midst, a copy of its target from then, and the run
        // gone on, and killed in its midst once more
        let mut site = Site::with_events(engine, write).await;
        killed(&site, IN_THE_MIDST).await;
        let before = site.tasks('C').await;
        save(&mut site, engine).await;
        killed(&site, "attempt::after_commit=4*off->1*return(abort)").await;
        let after = site.tasks('C').await;
        assert!((before + 4..DAYS).contains(&after), "{before}, {after}");
        // WHEN the copy is put in the target's place, and the run goes on so slowly that none of
        // its tasks comes to its claim
        put_back(&mut site, engine).await;
        assert_eq!(site.tasks('C').await, before);
        let mut slow = site
            .start("attempt::before_claim=return(stall 600000)")
            .await;
        // THEN it is noticed at once
        until("the lost tasks are told", LIMIT, async || {
            let told = site.finish(&["status", "-o", "json"]).await;
            Ok(told
                .stdout
                .contains("had lost were loaded again")
                .then_some(()))
        })
        .await
        .unwrap();
        let status = site.status().await;
        let step = &status["steps"][0];
        assert_eq!(step["status"].as_str(), Some("running"), "{status:#}");
        let done = step["tasks"]["done"].as_i64().unwrap();
        assert!((1..=before).contains(&done), "{status:#}");
        slow.signal(Signal::Kill).unwrap();
        slow.wait(LIMIT).await.unwrap();
        // AND when the run goes on, nothing is lost, and nothing is there twice
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(DAYS).await;
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(DAYS).await;
    }
}

#[tokio::test]
async fn promoted_lagging_standby_is_noticed_and_repaired() {
    for killed_at in [AT_CLOSE, "attempt::after_commit=4*off->1*return(abort)"] {
        // GIVEN a run that was killed in its midst, a standby that has what the target had then and
        // no more, and the run gone on
        let mut site = Site::with_events(Engine::Postgres, APPEND).await;
        killed(&site, IN_THE_MIDST).await;
        let before = site.tasks('C').await;
        let standby = site.server().standby().await.unwrap();
        standby.cut_off().await.unwrap();
        killed(&site, killed_at).await;
        assert!(site.tasks('C').await > before);
        // WHEN the standby takes the target's place
        standby.promote().await.unwrap();
        site.point("TARGET_URL", standby.url("target"));
        let finished = site.run().await;
        // THEN the run loads there what the standby lacks, whether a claim or the close was the
        // first to notice, and every row is there once
        assert_exit(&finished, 0);
        let mut target = standby.connect("target").await.unwrap();
        let held: (i64, i64) = sqlx::query_as("select count(*), count(distinct id) from events")
            .fetch_one(&mut target)
            .await
            .unwrap();
        let committed: i64 = sqlx::query_scalar(
            "select count(*) from highwater.task where state = \
            'C'",
        )
        .fetch_one(&mut target)
        .await
        .unwrap();
        let rows = site
            .numbers(Side::Source, ["count(*)"], "from events")
            .await[0];
        assert_eq!(
            (held, committed),
            ((rows, rows), DAYS),
            "{}",
            finished.stderr
        );
        let status = site.status().await;
        assert!(
            status["steps"][0]["warnings"]
                .to_string()
                .contains("had lost were loaded again"),
            "{status:#}"
        );
    }
}

#[tokio::test]
async fn a_receipt_the_store_does_not_know_is_not_loaded_twice() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        // GIVEN a run that was killed before its store heard of the last commit, a copy of that
        // store, and the run gone on to its close
        let site = Site::with_events(engine, APPEND).await;
        let table = site
            .events_table("not null", "")
            .replace(" primary key", "");
        site.execute(Side::Target, &table).await;
        killed(&site, IN_THE_MIDST).await;
        site.copy_state(".highwater", "older");
        killed(&site, AT_CLOSE).await;
        let receipts = site.fingerprint().await;
        // WHEN the store is put back to that copy, and the run goes on
        std::fs::remove_dir_all(site.path(".highwater")).unwrap();
        site.copy_state("older", ".highwater");
        assert_exit(&site.run().await, 0);
        // THEN every receipt was met, and no row was written again
        site.assert_rows_once(DAYS).await;
        assert_eq!(site.fingerprint().await, receipts);
    }
}
