//! Plans that are saved: carried out as they were shown, or refused.

use serde_json::Value;

use crate::site::{DAYS, Engine, Side, Site, assert_exit, assert_says};

const APPEND: &str = "{mode: append}";

fn plan_of(site: &Site) -> Value {
    let text = std::fs::read_to_string(site.path("plan.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn save(site: &Site) -> Value {
    let saved = site
        .finish(&["plan", "pipeline.yaml", "--out", "plan.json", "--exit-code"])
        .await;
    assert_exit(&saved, 10);
    assert_says(&saved.stderr, "next: highwater run plan.json");
    plan_of(site)
}

#[tokio::test]
async fn saved_plan_runs_as_shown_or_exits_6() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        // GIVEN a plan in a file, which holds no task and no secret
        let site = Site::with_events(engine, APPEND).await;
        let plan = save(&site).await;
        assert_eq!(plan["schema"], "saved-plan/v1");
        assert!(plan["shown"]["tasks"].as_i64() >= Some(DAYS), "{plan}");
        // WHEN it runs
        let finished = site.finish(&["run", "plan.json"]).await;
        // THEN it does what was shown, at the time of the plan
        assert_exit(&finished, 0);
        site.assert_copied_once(DAYS).await;
        let status = site.status().await;
        assert_eq!(status["reference_time"], plan["shown"]["reference_time"]);
        assert_eq!(status["spec"], plan["spec_digest"]);
        assert_eq!(status["saved_plan"], true);
        // AND it does so once
        let again = site.finish(&["run", "plan.json"]).await;
        assert_exit(&again, 6);
        assert_says(&again.stderr, "the plan is stale");
        assert_says(&again.stderr, "was begun by it, and is success");
        // AND there is nothing left to do
        let args = ["plan", "pipeline.yaml", "--exit-code"];
        assert_exit(&site.finish(&args).await, 0);
    }
}

#[tokio::test]
async fn a_plan_whose_file_has_changed_is_stale() {
    // GIVEN a plan, and a file that was changed since
    let site = Site::with_events(Engine::Sqlite, APPEND).await;
    save(&site).await;
    let path = site.path("pipeline.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    site.pipeline(
        "{type: backfill}",
        "{mode: append, on_schema_change: add_columns}",
    );
    // WHEN it is run THEN it is refused, and what changed is named
    let refused = site.finish(&["run", "plan.json"]).await;
    assert_exit(&refused, 6);
    assert_says(&refused.stderr, "the plan is stale");
    assert_says(&refused.stderr, "steps.events.");
    assert_says(&refused.stderr, "plan pipeline.yaml --out plan.json");
    // AND nothing has begun
    assert_exit(
        &site.finish(&["plan", "pipeline.yaml", "--exit-code"]).await,
        10,
    );
    // WHEN the file is as it was THEN the plan holds
    std::fs::write(&path, text).unwrap();
    assert_exit(&site.finish(&["run", "plan.json"]).await, 0);
    site.assert_copied_once(DAYS).await;
}

#[tokio::test]
async fn a_plan_is_stale_once_another_run_has_begun() {
    // GIVEN a plan, and a run of the pipeline after it
    let site = Site::with_events(Engine::Sqlite, APPEND).await;
    save(&site).await;
    assert_exit(&site.run().await, 0);
    // WHEN the plan is run THEN it is refused, and no row comes twice
    let refused = site.finish(&["run", "plan.json"]).await;
    assert_exit(&refused, 6);
    assert_says(&refused.stderr, "has begun or gone on since");
    site.assert_copied_once(DAYS).await;
    // AND so is one that a person takes its receipts from
    save_nothing(&site).await;
    let args = [
        "coverage",
        "forget",
        "pipeline.yaml",
        "events",
        "--reason",
        "x",
        "-y",
    ];
    assert_exit(&site.finish(&args).await, 0);
    assert_exit(&site.finish(&["run", "plan.json"]).await, 6);
}

async fn save_nothing(site: &Site) {
    let saved = site
        .finish(&["plan", "pipeline.yaml", "--out", "plan.json"])
        .await;
    assert_exit(&saved, 0);
}

#[tokio::test]
async fn a_ledger_that_is_not_as_it_was_planned_is_found_before_anything_moves() {
    // GIVEN a plan of everything, and a ledger that a store which is gone has written since
    let site = Site::with_events(Engine::Sqlite, APPEND).await;
    save(&site).await;
    site.copy_state(".highwater", "before");
    assert_exit(&site.run().await, 0);
    std::fs::remove_dir_all(site.path(".highwater")).unwrap();
    site.copy_state("before", ".highwater");
    // WHEN the plan is run by the store that knows nothing of it
    let refused = site.finish(&["run", "plan.json"]).await;
    // THEN it is refused, and no row comes twice
    assert_exit(&refused, 6);
    assert_says(&refused.stdout, "the plan is stale");
    assert_says(&refused.stderr, "plan pipeline.yaml --out plan.json");
    let rows = site
        .numbers(Side::Target, ["count(*)"], "from events")
        .await;
    let source = site
        .numbers(Side::Source, ["count(*)"], "from events")
        .await;
    assert_eq!(rows, source);
}

#[tokio::test]
async fn a_plan_that_was_edited_is_refused() {
    let site = Site::with_events(Engine::Sqlite, APPEND).await;
    let mut plan = save(&site).await;
    plan["reference_time_micros"] = 1.into();
    std::fs::write(site.path("plan.json"), plan.to_string()).unwrap();
    let refused = site.finish(&["run", "plan.json"]).await;
    assert_exit(&refused, 6);
    assert_says(&refused.stderr, "the plan is stale");
    // AND what would make it another one is refused as well
    assert_exit(
        &site
            .finish(&["run", "plan.json", "--set", "limits.tasks=1"])
            .await,
        2,
    );
}
