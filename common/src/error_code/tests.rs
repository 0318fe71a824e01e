use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::tests::made_page::{repository, shows};

/// The table of the codes with this beginning, or of those without any.
fn table(begins: Option<&str>) -> String {
    let of = |code: &str| match begins {
        Some(begins) => code.starts_with(begins),
        None => !code.contains("::"),
    };
    let mut table = "| code | it tells |\n|---|---|\n".to_owned();
    for code in ErrorCode::ALL.iter().filter(|code| of(code.as_str())) {
        writeln!(table, "| `{code}` | {} |", code.meaning().trim()).expect("memory");
    }
    table
}

#[test]
fn the_page_of_errors_lists_every_code() {
    shows(
        "errors.md",
        [
            ("spec", table(Some("spec::"))),
            ("plan", table(Some("plan::"))),
            ("attempt", table(None)),
        ],
    );
}

#[test]
fn every_code_is_said_once() {
    let codes: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), ErrorCode::ALL.len());
}

#[test]
fn every_code_is_raised_somewhere() {
    // GIVEN what the programs are made of, without their tests
    let mut sources = String::new();
    for folder in ["common", "coordinator", "worker", "cli", "proto", "runtime"] {
        read(&repository().join(folder).join("src"), &mut sources);
    }
    // WHEN each code is looked for
    let is_named = |code: &&ErrorCode| {
        let name = format!("ErrorCode::{code:?}");
        sources.match_indices(&name).any(|(at, _)| {
            let next = sources[at + name.len()..].chars().next();
            next.is_none_or(|next| !next.is_alphanumeric())
        })
    };
    // THEN each is there: one that nobody raises is deleted
    let unused: Vec<_> = ErrorCode::ALL
        .iter()
        .filter(|code| !is_named(code))
        .collect();
    assert_eq!(unused, [] as [&ErrorCode; 0]);
}

fn read(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_test = ["tests", "contract", "simulation", "error_code"]
            .iter()
            .any(|test| name.trim_end_matches(".rs") == *test)
            || name.contains("fixtures");
        if path.is_dir() && !is_test {
            read(&path, into);
        } else if name.ends_with(".rs") && !is_test {
            let text = std::fs::read_to_string(&path).expect("text");
            let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
            into.push_str(&text[..tests]);
        }
    }
}
