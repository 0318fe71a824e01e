//! Every folder of `examples` runs as it says, so that none is shown that does not.

use std::path::{Path, PathBuf};

use highwater_integration_tests::{Binary, Postgres, repository};

use crate::site::LIMIT;

/// What an example makes when it runs, and does not ship.
const MADE: [&str; 2] = ["out", ".highwater"];

/// The folders of `examples`.
fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join("examples")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name())
        };
        if MADE.iter().any(|made| name == *made) {
            continue;
        }
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(std::fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn every_example_runs_and_prints_what_it_says() {
    let programs = tempfile::tempdir().unwrap();
    let highwater = Binary::highwater().await.unwrap();
    let flights = env!("CARGO_BIN_EXE_flights");
    for (program, name) in [
        (highwater.path(), "highwater"),
        (Path::new(flights), "flights"),
    ] {
        std::os::unix::fs::symlink(program, programs.path().join(name)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", programs.path().display());
    let examples = examples();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        // GIVEN an example with what every one has: what it is, a script that runs it, and what that
        // prints
        let name = example.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            read(example.join("README.md")).contains("./run.sh"),
            "{name}"
        );
        let (script, expected) = (
            read(example.join("run.sh")),
            read(example.join("expected.txt")),
        );
        let folder = tempfile::tempdir().unwrap();
        copy(&example, folder.path());
        let mut run = Binary::at("bash").args(["run.sh"]).env("PATH", &path);
        // WHEN it runs, between two empty databases of a server if it asks for them
        let server = match script.contains("SOURCE_URL") {
            true => Some(Postgres::start().await.unwrap()),
            false => None,
        };
        if let Some(server) = &server {
            for (variable, database) in [("SOURCE_URL", "source"), ("TARGET_URL", "target")] {
                run = run.env(variable, server.create_database(database).await.unwrap());
            }
        }
        let ran = run.current_folder(folder.path()).run(LIMIT).await.unwrap();
        // THEN it prints that, and nothing else
        let said = format!("{name}:\n{}\n{}", ran.stdout, ran.stderr);
        assert_eq!(ran.status.code(), Some(0), "{said}");
        assert_eq!(ran.stdout, expected, "{said}");
    }
}
