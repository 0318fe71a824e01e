//! What it takes to extend Highwater, tried by doing it on a copy of the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use highwater_integration_tests::{Binary, Finished, repository, target_folder};

use crate::site::{LIMIT, assert_exit, assert_says};

/// How long the contract of a connector may take.
const CONTRACT_LIMIT: Duration = Duration::from_mins(3);

/// A strategy that waits.
mod pause {
    /// The files that it has for itself, and what is in them.
    pub(super) const OWN: [(&str, &str); 2] = [
        (
            "common/src/strategy/pause.rs",
            include_str!("../../throwaway/pause/common.rs"),
        ),
        (
            "worker/src/strategy/pause.rs",
            include_str!("../../throwaway/pause/worker.rs"),
        ),
    ];

    /// What it adds to the files that list all strategies: the lines before, and what comes behind
    /// them.
    pub(super) const LISTED: [(&str, &str, &str); 10] = [
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
            "common/src/spec/strategy_keys.rs",
            "    Word::new(\"noop\"),",
            "    Word::new(\"pause\"),",
        ),
        (
            "common/src/spec/strategy_keys.rs",
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
}

/// A database that is a folder: a document in it, replaced as a whole by each commit.
mod folder {
    /// The files that it has for itself, and what is in them.
    pub(super) const OWN: [(&str, &str); 8] = [
        (
            "common/src/plan/type_compat/into_folder.rs",
            include_str!("../../throwaway/folder/into_folder.rs"),
        ),
        (
            "worker/src/connector/folder/mod.rs",
            include_str!("../../throwaway/folder/mod.rs"),
        ),
        (
            "worker/src/connector/folder/ledger.rs",
            include_str!("../../throwaway/folder/ledger.rs"),
        ),
        (
            "worker/src/connector/folder/source.rs",
            include_str!("../../throwaway/folder/source.rs"),
        ),
        (
            "worker/src/connector/folder/store.rs",
            include_str!("../../throwaway/folder/store.rs"),
        ),
        (
            "worker/src/connector/folder/table.rs",
            include_str!("../../throwaway/folder/table.rs"),
        ),
        (
            "worker/src/connector/folder/target.rs",
            include_str!("../../throwaway/folder/target.rs"),
        ),
        (
            "worker/tests/folder.rs",
            include_str!("../../throwaway/folder/tests.rs"),
        ),
    ];

    /// What it adds to the files that list all databases: the lines before, and what comes behind
    /// them.
    pub(super) const LISTED: [(&str, &str, &str); 24] = [
        (
            "common/src/engine.rs",
            "    /// SQLite 3.\n    Sqlite,",
            "    /// A folder.\n    Folder,",
        ),
        (
            "common/src/engine.rs",
            "        Self::Postgres,",
            "        Self::Folder,",
        ),
        (
            "common/src/engine.rs",
            "            Self::Sqlite => \"sqlite\",",
            "            Self::Folder => \"folder\",",
        ),
        (
            "common/src/engine.rs",
            "            Self::Postgres => one == two,",
            "            Self::Folder => one == two,",
        ),
        (
            "common/src/engine.rs",
            "            Self::Sqlite => \"text\",",
            "            Self::Folder => \"text\",",
        ),
        (
            "common/src/spec/connection.rs",
            "pub enum Connection {",
            "    /// A folder.\n    Folder {\n        /// Where.\n        folder: String,\n        \
             /// Refuse to write.\n        read_only: bool,\n    },",
        ),
        (
            "common/src/spec/connection.rs",
            "            Self::Sqlite { .. } => Engine::Sqlite,",
            "            Self::Folder { .. } => Engine::Folder,",
        ),
        (
            "common/src/spec/connection.rs",
            "    pub const fn is_read_only(&self) -> bool {\n        match self {",
            "            Self::Folder { read_only, .. } => *read_only,",
        ),
        (
            "common/src/spec/connection.rs",
            "            Self::Sqlite { .. } => None,",
            "            Self::Folder { .. } => None,",
        ),
        (
            "common/src/spec/connection.rs",
            "    pub(super) fn table_id(&self, table: &TableName) -> (String, String, String) {\n        \
             match self {",
            "            Self::Folder { folder, .. } => (\n                format!(\"folder \
             {folder}\"),\n                String::new(),\n                table.name.clone(),\n            ),",
        ),
        (
            "common/src/spec/connection.rs",
            "        match node.get(\"type\")?.as_text()? {",
            "            \"folder\" => Some(Self::Folder {\n                folder: \
             node.get(\"folder\")?.as_text()?.to_owned(),\n                read_only,\n            }),",
        ),
        (
            "common/src/spec/connection.rs",
            "    pub(crate) fn document(&self) -> Json {\n        match self {",
            "            Self::Folder { folder, read_only } => {\n                json!({\"type\": \
             \"folder\", \"folder\": folder, \"read_only\": read_only})\n            }",
        ),
        (
            "common/src/spec/keys.rs",
            "    Word::new(\"sqlite\"),",
            "    Word::new(\"folder\"),",
        ),
        (
            "common/src/spec/keys.rs",
            "        .only(SQLITE),",
            "        Key::new(\"folder\", Shape::File, \"Where.\").required().only(&[\"folder\"]),",
        ),
        (
            "common/src/error_code.rs",
            "    ValueTooLarge = \"value_too_large\",",
            "    /// A value is none of its column's type.\n    ValueRefused = \"value_refused\",",
        ),
        (
            "common/src/plan/type_compat.rs",
            "mod exceptions;",
            "mod into_folder;",
        ),
        (
            "common/src/plan/type_compat.rs",
            "    match (source, target) {",
            "        (Engine::Folder, _) | (_, Engine::Folder) => {\n            \
             into_folder::of_whole_numbers_and_texts(from, to)\n        }",
        ),
        (
            "common/src/plan/position_forms.rs",
            "    let fits = match (facts.target.engine, held) {",
            "        (Engine::Folder, held) => held.is_none_or(|held| held == written),",
        ),
        (
            "common/src/plan/position_forms.rs",
            "    match (facts.source.engine, facts.target.engine) {",
            "        (Engine::Folder, _) | (_, Engine::Folder) => column.form,",
        ),
        (
            "worker/Cargo.toml",
            "rand.workspace = true",
            "serde.workspace = true",
        ),
        (
            "worker/src/connector/mod.rs",
            "pub mod copy_text;",
            "pub mod folder;",
        ),
        (
            "worker/src/connector/open.rs",
            "use super::postgres::{PostgresSource, PostgresTarget, SessionPool};",
            "use super::folder::{FolderSource, FolderTarget, Place};",
        ),
        (
            "worker/src/connector/open.rs",
            ") -> Result<Box<dyn Source>, AttemptError> {\n    Ok(match connection {",
            "        Connection::Folder { folder, .. } => {\n            \
             Box::new(FolderSource(Place::new(below(base_dir, folder), name.clone())))\n        }",
        ),
        (
            "worker/src/connector/open.rs",
            ") -> Result<Box<dyn Target>, AttemptError> {\n    Ok(match connection {",
            "        Connection::Folder { folder, .. } => Box::new(FolderTarget::new(\n            \
             Place::new(below(base_dir, folder), name.clone()),\n            \
             supervisor.clone(),\n        )),",
        ),
    ];
}

/// A copy of what is needed to build the programs, with something in it that is not in ours.
struct Extended {
    tree: PathBuf,
    touched: BTreeSet<PathBuf>,
}

impl Extended {
    /// The copy stays where it is from one run to the next, so that what has not changed is not
    /// built again. It has all that is not in ours at once, so that it is built once for all tests.
    fn with(own: &[(&str, &str)], listed: &[(&str, &str, &str)]) -> Self {
        let tree = target_folder().unwrap().join("extended");
        let mut files = files_of_the_tree();
        let all = [
            (pause::OWN.as_slice(), pause::LISTED.as_slice()),
            (folder::OWN.as_slice(), folder::LISTED.as_slice()),
        ];
        for (own, listed) in all {
            for (file, text) in own {
                files.insert(PathBuf::from(file), text.as_bytes().to_vec());
            }
            for (file, lines, behind) in listed {
                let text = files.get_mut(Path::new(file)).expect("a file of ours");
                *text = added_to(file, text, lines, behind);
            }
        }
        rename(&mut files);
        write(&tree, &files);
        let own = own.iter().map(|(file, _)| PathBuf::from(file));
        let listed = listed.iter().map(|(file, ..)| PathBuf::from(file));
        Self {
            tree,
            touched: own.chain(listed).collect(),
        }
    }

    /// Nothing was touched but what the page says, and all of that was. A folder of the page stands
    /// for the files in it.
    fn assert_told(&self, page: &str, name: &str) {
        let told = told(page, name);
        let told_as = |file: &PathBuf| {
            let of_folder = told.iter().find(|told| file.starts_with(told));
            of_folder.unwrap_or(file).clone()
        };
        let touched: BTreeSet<PathBuf> = self.touched.iter().map(told_as).collect();
        assert_eq!(touched, told);
    }
}

fn files_of_the_tree() -> BTreeMap<PathBuf, Vec<u8>> {
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let files = listed.lines().filter_map(|file| {
        let text = std::fs::read(repository().join(file)).ok()?;
        Some((PathBuf::from(file), text))
    });
    files.collect()
}

fn added_to(file: &str, text: &[u8], lines: &str, behind: &str) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    let lines = format!("{lines}\n");
    assert_eq!(text.matches(&lines).count(), 1, "{file}: {lines}");
    let with = format!("{lines}{behind}\n");
    text.replacen(&lines, &with, 1).into_bytes()
}

/// Gives the copy's packages a version of their own. Cargo tells packages of two trees that share
/// a target folder by nothing else, and would take what was built of the one for the other's.
fn rename(files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let ours = "version = \"0.1.0\"\n";
    let theirs = "version = \"0.1.0-extended\"\n";
    for (file, before) in [
        ("Cargo.toml", "[workspace.package]\n"),
        ("Cargo.lock", "\"\n"),
    ] {
        let text = files.get_mut(Path::new(file)).expect("a file of ours");
        let all = std::str::from_utf8(text).unwrap();
        let packages = all
            .split_inclusive("\n\n")
            .map(|part| match file == "Cargo.lock" {
                true if !part.contains("name = \"highwater-") => part.to_owned(),
                _ => part.replacen(&format!("{before}{ours}"), &format!("{before}{theirs}"), 1),
            });
        let renamed: String = packages.collect();
        assert_ne!(renamed, all, "{file}");
        *text = renamed.into_bytes();
    }
}

/// Makes a folder hold just these files; those that are as they should be keep their times.
fn write(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (file, text) in files {
        let path = folder.join(file);
        if std::fs::read(&path).ok().as_ref() != Some(text) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // whole or not at all: another test may be building it
            let whole = folder.with_extension(std::process::id().to_string());
            std::fs::write(&whole, text).unwrap();
            std::fs::rename(whole, path).unwrap();
        }
    }
    remove_others(folder, folder, files);
}

fn remove_others(folder: &Path, at: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            remove_others(folder, &path, files);
        } else if !files.contains_key(path.strip_prefix(folder).unwrap()) {
            std::fs::remove_file(path).ok(); // another test may have been faster
        }
    }
}

/// The files that the page tells somebody to touch, with the new one's name for `NAME`.
fn told(page: &str, name: &str) -> BTreeSet<PathBuf> {
    let page = std::fs::read_to_string(repository().join(page)).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let first = rows.filter_map(|row| row.split('`').nth(1));
    first
        .map(|path| PathBuf::from(path.replace("NAME", name)))
        .collect()
}

/// Runs `highwater` of another tree in a folder.
async fn highwater(folder: &Path, args: &[&str], limit: Duration) -> Finished {
    let program = Binary::at(folder.join("highwater"));
    let started = program.args(args).current_folder(folder);
    started.run(limit).await.unwrap()
}

#[tokio::test]
async fn a_new_strategy_touches_only_its_own_files() {
    // GIVEN a copy of the tree, with a strategy that is not in ours
    let extended = Extended::with(&pause::OWN, &pause::LISTED);
    // THEN nothing was touched but what the page says
    extended.assert_told("docs/adding-a-strategy.md", "pause");
    // AND it is a program that knows the strategy: in the file, in the plan, and on a worker
    let folder = tempfile::tempdir().unwrap();
    let program = Binary::of_tree(&extended.tree, folder.path())
        .await
        .unwrap();
    drop(program);
    let pipeline = "version: 1\nname: waiting\nsteps:\n  first: {strategy: {type: pause, lasts: 20ms}}\n  \
                    then: {strategy: {type: pause, lasts: 10ms}, depends_on: [first]}\n";
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    let plan = highwater(folder.path(), &["plan", "pipeline.yaml"], LIMIT).await;
    assert_exit(&plan, 0);
    assert_says(&plan.stdout, "waits for 20 ms");
    let run = highwater(
        folder.path(),
        &["run", "pipeline.yaml"],
        Duration::from_mins(1),
    )
    .await;
    assert_exit(&run, 0);
    let odd = pipeline.replace("lasts: 20ms", "last: 20ms");
    std::fs::write(folder.path().join("pipeline.yaml"), odd).unwrap();
    let refused = highwater(folder.path(), &["validate", "pipeline.yaml"], LIMIT).await;
    assert_exit(&refused, 2);
    assert_says(&refused.stderr, "did you mean `lasts`?");
}

#[tokio::test]
async fn a_new_connector_passes_the_contract_by_its_own_files() {
    // GIVEN a copy of the tree, with a database that is not in ours
    let extended = Extended::with(&folder::OWN, &folder::LISTED);
    // THEN nothing was touched but what the page says
    extended.assert_told("docs/adding-a-database.md", "folder");
    // AND every case of the contract passes on it, as a source and as a target
    let kept = tempfile::tempdir().unwrap();
    let contract = Binary::test_of_tree(&extended.tree, kept.path(), "folder");
    let ended = contract.await.unwrap().run(CONTRACT_LIMIT).await.unwrap();
    assert!(ended.status.success(), "{}", ended.stdout);
    for case in ["target::", "source::"] {
        assert_says(&ended.stdout, &format!("test {case}"));
    }
    assert_says(&ended.stdout, " 0 failed; 0 ignored;");
}
