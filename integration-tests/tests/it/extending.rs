//! What it takes to extend Highwater, tried by doing it on a copy of the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use highwater_integration_tests::{Binary, repository};
use tempfile::TempDir;

use crate::site::{LIMIT, assert_exit, assert_says};

/// The files that the strategy has for itself, and what is in them.
const OWN: [(&str, &str); 2] = [
    (
        "common/src/strategy/pause.rs",
        include_str!("../../throwaway/pause/common.rs"),
    ),
    (
        "worker/src/strategy/pause.rs",
        include_str!("../../throwaway/pause/worker.rs"),
    ),
];

/// What it adds to the files that list all strategies: the line before, and what comes behind it.
const LISTED: [(&str, &str, &str); 10] = [
    (
        "common/src/spec/model.rs",
        "    Noop(Noop),",
        "    /// One task that waits.\n    Pause(Pause),",
    ),
    (
        "common/src/spec/model.rs",
        "    pub hold: Duration,\n}",
        "\n/// One task that waits.\n\
         #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]\n\
         pub struct Pause {\n    #[serde(with = \"millis\")]\n    pub lasts: Duration,\n}",
    ),
    (
        "common/src/spec/step_keys.rs",
        "    Word::new(\"noop\"),",
        "    Word::new(\"pause\"),",
    ),
    (
        "common/src/spec/step_keys.rs",
        "        Key::new(\"hold\", Shape::Duration, \"How long each takes; 0s.\").only(NOOP),",
        "        Key::new(\"lasts\", Shape::Duration, \"How long.\").required().only(&[\"pause\"]),",
    ),
    (
        "common/src/spec/decode.rs",
        "    match strategy.get(\"type\")?.as_text()? {",
        "        \"pause\" => Some(Strategy::Pause(super::model::Pause {\n\
         lasts: duration(strategy.get(\"lasts\")?)?,\n        })),",
    ),
    (
        "common/src/spec/document.rs",
        "        Strategy::Backfill(of) => backfill(of),",
        "        Strategy::Pause(of) => {\n\
         json!({\"strategy\": {\"type\": \"pause\", \"lasts\": duration_text(of.lasts)}})\n}",
    ),
    ("common/src/strategy/mod.rs", "mod noop;", "mod pause;"),
    (
        "common/src/strategy/mod.rs",
        "            Self::Noop(noop) => noop,",
        "            Self::Pause(pause) => pause,",
    ),
    ("worker/src/strategy/mod.rs", "mod noop;", "mod pause;"),
    (
        "worker/src/strategy/mod.rs",
        "        Strategy::Noop(noop) => noop,",
        "        Strategy::Pause(pause) => pause,",
    ),
];

/// A copy of what is needed to build the programs.
fn copy_of_the_tree() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .unwrap();
    for file in String::from_utf8(listed.stdout).unwrap().lines() {
        let (from, to) = (repository().join(file), copy.path().join(file));
        if from.is_file() {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(from, to).unwrap();
        }
    }
    copy
}

fn add_to(file: &Path, line: &str, behind: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let line = format!("{line}\n");
    assert_eq!(text.matches(&line).count(), 1, "{}: {line}", file.display());
    let with = format!("{line}{behind}\n");
    std::fs::write(file, text.replacen(&line, &with, 1)).unwrap();
}

/// The files that the page tells somebody to touch, with the strategy's name for `NAME`.
fn told(page: &str, name: &str) -> BTreeSet<PathBuf> {
    let page = std::fs::read_to_string(repository().join(page)).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let first = rows.filter_map(|row| row.split('`').nth(1));
    first
        .map(|path| PathBuf::from(path.replace("NAME", name)))
        .collect()
}

#[tokio::test]
async fn a_new_strategy_touches_only_its_own_files() {
    // GIVEN a copy of the tree, with a strategy that is not in ours
    let copy = copy_of_the_tree();
    let mut touched = BTreeSet::new();
    for (file, text) in OWN {
        std::fs::write(copy.path().join(file), text).unwrap();
        touched.insert(PathBuf::from(file));
    }
    for (file, line, behind) in LISTED {
        add_to(&copy.path().join(file), line, behind);
        touched.insert(PathBuf::from(file));
    }
    // THEN nothing was touched but what the page says
    assert_eq!(touched, told("docs/adding-a-strategy.md", "pause"));
    // AND it is a program that knows the strategy: in the file, in the plan, and on a worker
    let folder = tempfile::tempdir().unwrap();
    let program = Binary::of_tree(copy.path(), folder.path()).await.unwrap();
    drop(program);
    let highwater = |args: &[&str]| {
        let program = folder.path().join("highwater");
        Binary::at(program).args(args).current_folder(folder.path())
    };
    let pipeline = "version: 1\nname: waiting\nsteps:\n  first: {strategy: {type: pause, lasts: 20ms}}\n  \
                    then: {strategy: {type: pause, lasts: 10ms}, depends_on: [first]}\n";
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let plan = highwater(&["plan", "pipeline.yaml"])
        .run(LIMIT)
        .await
        .unwrap();
    assert_exit(&plan, 0);
    assert_says(&plan.stdout, "waits for 20 ms");
    let run = highwater(&["run", "pipeline.yaml"])
        .run(Duration::from_secs(60))
        .await
        .unwrap();
    assert_exit(&run, 0);
    let odd = pipeline.replace("lasts: 20ms", "last: 20ms");
    std::fs::write(folder.path().join("pipeline.yaml"), odd).unwrap();
    let refused = highwater(&["validate", "pipeline.yaml"])
        .run(LIMIT)
        .await
        .unwrap();
    assert_exit(&refused, 2);
    assert_says(&refused.stderr, "did you mean `lasts`?");
}
