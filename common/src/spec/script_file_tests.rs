//! Statements in files of their own.

use std::cell::RefCell;

use super::super::tests::report;
use super::super::{Overlay, Problem, Spec, Strategy, read, read_with};
use super::*;

const KPIS: &str = r#"version: 1
name: shop
params: {since: {type: date, default: 2024-01-01}}
connections:
  wh: {type: sqlite, path: wh.db}
steps:
  kpis:
    strategy: sql
    to: {connection: wh, table: kpis}
    sql: {file: kpis.sql}
environments:
  dev: {steps: {kpis: {sql: {file: dev.sql}}}}
  inline: {steps: {kpis: {sql: "delete from kpis;"}}}
"#;
const TEXT: &str = "delete from kpis\nwhere day >= ${param:since};\n";

fn lookup(name: &str) -> Result<String, FileFault> {
    match name {
        "kpis.sql" => Ok(TEXT.to_owned()),
        "dev.sql" => Ok("select 'dev'".to_owned()),
        "broken.sql" => Ok("select 1;\nselect 'open".to_owned()),
        "blank.sql" => Ok(" \n".to_owned()),
        "large.sql" => Ok("x".repeat(ALL_BYTES_MAX + 1)),
        "secret.sql" => Ok("select ${env:PASSWORD}".to_owned()),
        other => Err(FileFault {
            message: format!("there is no file {other}"),
            hint: "look for it".to_owned(),
        }),
    }
}

fn overlay(environment: Option<&str>, sets: &[&str]) -> Overlay {
    Overlay {
        environment: environment.map(str::to_owned),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        ..Overlay::default()
    }
}

fn sql_of(spec: &Spec) -> String {
    let step = spec.steps.values().next().expect("a step");
    let Strategy::Sql(script) = &step.strategy else {
        panic!("{:?} has no statements", step.strategy)
    };
    script.sql.clone()
}

fn reads(text: &str, environment: Option<&str>, sets: &[&str]) -> Spec {
    let reading = read_with(text, &overlay(environment, sets), &lookup);
    reading
        .unwrap_or_else(|problems| panic!("{}", report(&problems)))
        .spec
}

fn only(text: &str) -> Problem {
    let problems = read_with(text, &Overlay::default(), &lookup).expect_err("a problem");
    assert_eq!(problems.len(), 1, "{}", report(&problems));
    problems.into_iter().next().expect("one")
}

#[test]
fn the_content_of_a_file_is_the_statements_and_its_name_is_nothing() {
    // GIVEN the same statements in a file, in another one, and in the pipeline file itself
    let beside = reads(KPIS, None, &[]);
    let inline = TEXT.replace('\n', "\\n");
    let inside = reads(
        &KPIS.replace("{file: kpis.sql}", &format!("\"{inline}\"")),
        None,
        &[],
    );
    let named = |_: &str| Ok(TEXT.to_owned());
    let renamed = KPIS.replace("kpis.sql", "sql/other.sql");
    let renamed = read_with(&renamed, &Overlay::default(), &named).expect("legal");
    // THEN it is one pipeline
    assert_eq!(beside, inside);
    assert_eq!(beside.digest(), renamed.spec.digest());
    // AND where they came from is told
    let files: Vec<String> = renamed.files.values().cloned().collect();
    assert_eq!(files, ["sql/other.sql"]);
    // parameters are values in them, as they are in the file itself
    assert!(sql_of(&beside).contains("{date:"), "{}", sql_of(&beside));
    // AND a file that says something else is another pipeline
    let other = |_: &str| Ok(TEXT.replace(">=", ">"));
    let other = read_with(KPIS, &Overlay::default(), &other).expect("legal");
    assert_ne!(beside.digest(), other.spec.digest());
}

#[test]
fn a_file_and_a_text_take_each_others_place() {
    for (environment, sets, expected) in [
        (Some("dev"), &[][..], "select 'dev'"),
        (Some("inline"), &[], "delete from kpis;"),
        (
            Some("inline"),
            &["steps.kpis.sql={file: dev.sql}"],
            "select 'dev'",
        ),
        (
            Some("inline"),
            &["steps.kpis.sql.file=dev.sql"],
            "select 'dev'",
        ),
        (None, &["steps.kpis.sql=select 7"], "select 7"),
        (None, &["steps.kpis.sql.text=select 7"], "select 7"),
    ] {
        assert_eq!(sql_of(&reads(KPIS, environment, sets)), expected);
    }
    // AND what a step says replaces what `defaults` says
    let laid = KPIS.replace(
        "steps:\n  kpis",
        "defaults: {sql: {file: dev.sql}}\nsteps:\n  kpis",
    );
    assert_eq!(reads(&laid, None, &[]), reads(KPIS, None, &[]));
    let below = laid.replace("    sql: {file: kpis.sql}\n", "");
    assert_eq!(sql_of(&reads(&below, None, &[])), "select 'dev'");
}

#[test]
fn what_is_wrong_with_a_file_is_told_where_it_is_named() {
    for (from, to, code, says) in [
        (
            "kpis.sql",
            "gone.sql",
            ErrorCode::SpecUnreadableFile,
            "there is no file gone.sql",
        ),
        (
            "kpis.sql",
            "large.sql",
            ErrorCode::SpecUnreadableFile,
            "more than 524288 bytes",
        ),
        (
            "kpis.sql",
            "broken.sql",
            ErrorCode::SpecBadScript,
            "line 2 of broken.sql: a quote is not closed",
        ),
        (
            "kpis.sql",
            "blank.sql",
            ErrorCode::SpecBadValue,
            "there is no statement",
        ),
        (
            "kpis.sql",
            "secret.sql",
            ErrorCode::SpecMisplacedSecret,
            "a reference to a secret",
        ),
        (
            "kpis.sql",
            "\"${param:since}.sql\"",
            ErrorCode::SpecBadReference,
            "no reference may stand",
        ),
        (
            "{file: kpis.sql}",
            "{file: kpis.sql, text: select 1}",
            ErrorCode::SpecConflict,
            "here and in a file",
        ),
        (
            "{file: kpis.sql}",
            "{}",
            ErrorCode::SpecMissingKey,
            "neither statements nor",
        ),
        (
            "{file: kpis.sql}",
            "{file: 7}",
            ErrorCode::SpecQuoteIt,
            "found the number 7",
        ),
        (
            "{file: kpis.sql}",
            "{file: \"\"}",
            ErrorCode::SpecBadValue,
            "the text is empty",
        ),
        (
            "{file: kpis.sql}",
            "[kpis.sql]",
            ErrorCode::SpecWrongType,
            "found a list",
        ),
    ] {
        let problem = only(&KPIS.replace(from, to));
        assert_eq!((problem.code, problem.line), (code, 10), "{to}: {problem}");
        assert!(
            problem.path.starts_with("steps.kpis.sql"),
            "{}",
            problem.path
        );
        assert!(problem.message.contains(says), "{to}: {problem}");
    }
    // An environment that is not chosen is held to the same.
    let problem = only(&KPIS.replace("dev.sql", "gone.sql"));
    assert_eq!(problem.path, "environments.dev.steps.kpis.sql.file");
}

#[test]
fn nobody_reads_a_file_who_was_not_given_a_way_to() {
    let problems = read(KPIS, &Overlay::default()).expect_err("no way to read files");
    assert!(
        problems
            .iter()
            .all(|of| of.code == ErrorCode::SpecUnreadableFile)
    );
    // AND a file that no step names is not read
    let asked = RefCell::new(Vec::new());
    let count = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        lookup(name)
    };
    let plain = KPIS.replace("{file: kpis.sql}", "select 1");
    let plain = plain.split("environments:").next().expect("a head");
    let plain = plain.replace("${param:since}", "x");
    read_with(&plain, &Overlay::default(), &count).expect("legal");
    assert_eq!(asked.into_inner(), Vec::<String>::new());
}
