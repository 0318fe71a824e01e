//! Graphs of steps: what becomes of those behind one that fails, and how it is drawn; environments,
//! settings of the command line, and steps that are not enabled.

use std::os::unix::fs::PermissionsExt;

use highwater_integration_tests::Finished;
use serde_json::Value;

use crate::site::{Engine, Site, assert_exit, assert_says};

/// A folder with a pipeline of programs, each with the steps that it waits for; each writes its name
/// into a file, and one ends well unless a file `<step>.fails` is there.
async fn site(steps: &[(&str, &str)]) -> Site {
    let site = Site::empty(Engine::Sqlite).await;
    let path = site.path("job");
    let folder = site.path("");
    let script = format!(
        "#!/bin/sh\ncd {}\necho \"$HIGHWATER_STEP\" >> ran\ntest ! -e \"$HIGHWATER_STEP.fails\"\n",
        folder.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let mut text = "defaults: {idempotent: true, retries: {max_attempts: 1}}\nsteps:\n".to_owned();
    for (step, on) in steps {
        text.push_str(&format!(
            "  {step}: {{strategy: exec, command: [{}], depends_on: {on}}}\n",
            path.display()
        ));
    }
    site.write_pipeline(&text);
    site
}

async fn run(site: &Site, more: &[&str]) -> Finished {
    let folder = site.path("").display().to_string();
    let args = ["run", "pipeline.yaml", "--allow-exec", &folder];
    site.finish(&[&args[..], more].concat()).await
}

fn ran(site: &Site) -> Vec<String> {
    let text = std::fs::read_to_string(site.path("ran")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The status and the reason of each step, as the graph of the latest run has them.
async fn graph(site: &Site) -> Vec<(String, String, String)> {
    let finished = site.finish(&["graph", "-o", "json"]).await;
    assert_exit(&finished, 0);
    let graph: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(graph["schema"], "graph/v1");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = graph["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            (
                text(&step["step"]),
                text(&step["status"]),
                text(&step["reason"]),
            )
        })
        .collect()
}

const DIAMOND: [(&str, &str); 6] = [
    ("alone", "[]"),
    ("join", "[left, right]"),
    ("left", "[top]"),
    ("report", "[join]"),
    ("right", "[top]"),
    ("top", "[]"),
];

#[tokio::test]
async fn failed_step_skips_only_its_descendants() {
    // GIVEN a diamond, a step behind it and one beside it, of which one side fails
    let site = site(&DIAMOND).await;
    std::fs::write(site.path("left.fails"), "").unwrap();
    // WHEN it runs
    let finished = run(&site, &[]).await;
    // THEN what needs that side has not run and says why, and everything else has
    assert_exit(&finished, 3);
    assert_eq!(ran(&site), ["alone", "left", "right", "top"]);
    let told = graph(&site).await;
    let told: Vec<(&str, &str)> = told
        .iter()
        .map(|(step, status, _)| (step.as_str(), status.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("alone", "success"),
            ("top", "success"),
            ("left", "failed"),
            ("right", "success"),
            ("join", "skipped"),
            ("report", "skipped"),
        ]
    );
    let drawn = site.finish(&["graph"]).await;
    for line in [
        "└─ right",
        "   └─ join",
        "      └─ report",
        "skipped",
        "after left, right",
        "(left failed)",
    ] {
        assert_says(&drawn.stdout, line);
    }
    // AND once it is mended, a retry runs what has not run
    std::fs::remove_file(site.path("left.fails")).unwrap();
    let folder = site.path("").display().to_string();
    assert_exit(&site.finish(&["retry", "--allow-exec", &folder]).await, 0);
    assert_eq!(
        ran(&site),
        ["alone", "join", "left", "left", "report", "right", "top"]
    );
}

#[tokio::test]
async fn a_diamond_skips_its_join_once() {
    // GIVEN a diamond of which both sides fail
    let site = site(&DIAMOND).await;
    std::fs::write(site.path("left.fails"), "").unwrap();
    std::fs::write(site.path("right.fails"), "").unwrap();
    // WHEN it runs THEN the join is skipped once, for the first of them, and so is what is behind it
    assert_exit(&run(&site, &[]).await, 3);
    assert_eq!(ran(&site), ["alone", "left", "right", "top"]);
    let told = graph(&site).await;
    let skipped: Vec<&(String, String, String)> = told
        .iter()
        .filter(|(_, status, _)| status == "skipped")
        .collect();
    assert_eq!(skipped.len(), 2, "{told:?}");
    for (step, _, reason) in skipped {
        assert!(
            reason == "left failed" || reason == "right failed",
            "{step}: {reason}"
        );
    }
    let reasons: Vec<&str> = told
        .iter()
        .filter(|(_, status, _)| status == "skipped")
        .map(|(_, _, reason)| reason.as_str())
        .collect();
    assert_eq!(
        reasons[0], reasons[1],
        "the first ancestor is named all the way"
    );
}

#[tokio::test]
async fn a_graph_of_a_file_needs_no_run_and_a_circle_is_told_with_its_path() {
    let site = site(&[("a", "[]"), ("b", "[{step: a, when: done}]")]).await;
    let drawn = site.finish(&["graph", "pipeline.yaml"]).await;
    assert_exit(&drawn, 0);
    assert_says(&drawn.stdout, "└─ b  exec  after a (done)");
    let mermaid = site
        .finish(&["graph", "pipeline.yaml", "-o", "mermaid"])
        .await;
    assert_says(&mermaid.stdout, "step_a -. done .-> step_b");
    let dot = site.finish(&["graph", "pipeline.yaml", "-o", "dot"]).await;
    assert_says(&dot.stdout, "\"a\" -> \"b\"");
    assert_exit(&site.finish(&["ls", "-o", "dot"]).await, 2);
    let circle = self::site(&[("a", "[b]"), ("b", "[a]")]).await;
    let refused = circle.finish(&["graph", "pipeline.yaml"]).await;
    assert_exit(&refused, 2);
    assert_says(&refused.stderr, "a → b → a");
}

#[tokio::test]
async fn an_environment_and_what_is_set_reach_the_run() {
    // GIVEN a chain, whose last step an environment leaves out
    let site = site(&[("a", "[]"), ("b", "[a]"), ("c", "[{step: b, when: done}]")]).await;
    let path = site.path("pipeline.yaml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("environments: {dev: {steps: {b: {enabled: false}}}}\n");
    std::fs::write(&path, text).unwrap();
    // WHEN it runs there THEN that step does not, and the run is a success
    let finished = run(&site, &["--env", "dev"]).await;
    assert_exit(&finished, 0);
    assert_says(&finished.stderr, "environment dev · not enabled: b");
    assert_eq!(ran(&site), ["a", "c"]);
    // WHEN it is set THEN it does
    let args = ["--env", "dev", "--set", "steps.b.enabled=true"];
    assert_exit(&run(&site, &args).await, 0);
    assert_eq!(ran(&site), ["a", "a", "b", "c", "c"]);
    // AND what is wrong is named by itself, and nothing runs
    let refused = run(&site, &["--set", "steps.b.limits.tasks=0"]).await;
    assert_exit(&refused, 2);
    assert_says(
        &refused.stderr,
        "--set steps.b.limits.tasks=0: spec::out_of_range",
    );
    let refused = run(&site, &["--set", "steps.a.enabled=false"]).await;
    assert_exit(&refused, 2);
    assert_says(&refused.stderr, "`a` is not enabled");
    assert_eq!(ran(&site).len(), 5);
    // AND the resolved file is the same pipeline
    let resolved = site
        .finish(&["plan", "pipeline.yaml", "--env", "dev", "--resolved"])
        .await;
    assert_exit(&resolved, 0);
    std::fs::write(site.path("resolved.yaml"), &resolved.stdout).unwrap();
    let spec = async |args: &[&str]| {
        let validated = site
            .finish(&[&["validate", "-o", "json"][..], args].concat())
            .await;
        let document: Value = serde_json::from_str(&validated.stdout).unwrap();
        document["spec"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        spec(&["resolved.yaml"]).await,
        spec(&["pipeline.yaml", "--env", "dev"]).await
    );
}

#[tokio::test]
async fn a_database_is_asked_what_it_is_and_one_that_is_away_is_code_5() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let mut site = Site::with_events(engine, "{mode: append}").await;
        // WHEN both are asked THEN each answers with its version
        let tested = site.finish(&["connections", "test", "pipeline.yaml"]).await;
        assert_exit(&tested, 0);
        assert_eq!(
            tested.stdout.matches(" ok: ").count(),
            2,
            "{}",
            tested.stdout
        );
        if engine == Engine::Postgres {
            assert_says(&tested.stdout, "wal ");
            // AND one that nobody listens for is told, and the other is asked all the same
            site.point("TARGET_URL", "postgres://postgres@127.0.0.1:1/x".to_owned());
            let away = site.finish(&["connections", "test", "pipeline.yaml"]).await;
            assert_exit(&away, 5);
            assert_says(&away.stdout, "source  ok: ");
            assert_says(&away.stdout, "target  unreachable: ");
            let one = ["connections", "test", "pipeline.yaml", "source"];
            assert_exit(&site.finish(&one).await, 0);
        }
        let none = ["connections", "test", "pipeline.yaml", "nobody"];
        assert_exit(&site.finish(&none).await, 4);
    }
}
