//! Targets that are put back to an older state under a run: what they lost is noticed, and loaded again, before the step has ended.

use std::path::Path;

use crate::site::{DAYS, Engine, LIMIT, Side, Site, assert_exit, assert_says};

const REPLACE: &str = "{mode: replace_partition}";
const APPEND: &str = "{mode: append}";
const AT_CLOSE: &str = "attempt::before_close=1*return(abort)";

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
    site.execute(Side::Target, "pragma wal_checkpoint(truncate)").await;
}

#[tokio::test]
async fn a_target_restored_from_a_copy_is_noticed_before_the_step_ends() {
    for write in [REPLACE, APPEND] {
        // GIVEN a run that was killed in its midst, a copy of its target from then, and the run gone on to the end of its loads
        let site = Site::with_events(Engine::Sqlite, write).await;
        killed(&site, "attempt::after_commit=6*off->1*return(abort)").await;
        settle(&site).await;
        let before = site.tasks('C').await;
        assert!((6..DAYS).contains(&before), "{before} tasks");
        copy(&site.path("target.db"), &site.path("backup.db"));
        killed(&site, AT_CLOSE).await;
        assert_eq!(site.tasks('C').await, DAYS);
        // WHEN the copy is put in the target's place, and the run goes on
        settle(&site).await;
        cp(&site.path("backup.db"), &site.path("target.db"));
        assert_eq!(site.tasks('C').await, before);
        let finished = site.run().await;
        // THEN it has loaded again what was lost, every row is there once, and it says so
        assert_exit(&finished, 0);
        site.assert_copied_once(DAYS).await;
        let status = site.status().await;
        let step = &status["steps"][0];
        let lost = format!("{} tasks whose rows the target had lost were loaded again", DAYS - before);
        assert!(step["warnings"].to_string().contains(&lost), "{status:#}");
        let rows = site.numbers(Side::Source, ["count(*)"], "from events").await[0];
        assert_eq!((step["status"].as_str(), step["rows"].as_i64()), (Some("success"), Some(rows)), "{status:#}");
        // AND the next run finds nothing to do
        assert_exit(&site.run().await, 0);
        site.assert_copied_once(DAYS).await;
    }
}
