//! What holds for every file: the schema and the decoder know the same keys, and no text makes a
//! reading panic.

use std::collections::BTreeSet;

use crate::error_code::ErrorCode;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::tests::{FLIGHTS, FULL, none, read_full, report};
use super::{Problem, Spec, from_canonical, json_schema, masked, node, parse};

/// Every key of the schema, as (path with names left out, key).
fn schema_keys(schema: &Json, path: &str, keys: &mut BTreeSet<(String, String)>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (key, below) in properties {
            keys.insert((path.to_owned(), key.clone()));
            schema_keys(below, &node::join(path, key), keys);
        }
    }
    if schema["additionalProperties"].is_object() {
        schema_keys(
            &schema["additionalProperties"],
            &node::join(path, "*"),
            keys,
        );
    }
    for form in schema["anyOf"].as_array().into_iter().flatten() {
        schema_keys(form, path, keys);
    }
    if schema["items"].is_object() {
        schema_keys(&schema["items"], &node::join(path, "[]"), keys);
    }
}

/// Every place of a document, as (path with names left out, pointer).
fn places(document: &Json, schema_path: &str, pointer: &str, found: &mut Vec<(String, String)>) {
    match document {
        Json::Object(entries) => {
            found.push((schema_path.to_owned(), pointer.to_owned()));
            for (key, below) in entries {
                let is_named = [
                    "connections",
                    "pools",
                    "steps",
                    "params",
                    "columns",
                    "labels",
                ]
                .iter()
                .any(|map| schema_path == *map || schema_path.ends_with(&format!(".{map}")));
                let key_path = if is_named { "*" } else { key };
                places(
                    below,
                    &node::join(schema_path, key_path),
                    &format!("{pointer}/{key}"),
                    found,
                );
            }
        }
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                places(
                    item,
                    &node::join(schema_path, "[]"),
                    &format!("{pointer}/{at}"),
                    found,
                );
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn parse_json(document: &Json) -> Result<Spec, Vec<Problem>> {
    read_full(&document.to_string())
}

#[test]
fn spec_schema_equals_decoder() {
    let mut keys = BTreeSet::new();
    schema_keys(&json_schema(), "", &mut keys);
    let full: Json = serde_saphyr::from_str(FULL).expect("YAML");
    let whole = parse_json(&full).expect("a legal file");
    let mut found = Vec::new();
    places(&full, "", "", &mut found);

    // GIVEN any place of the file; WHEN every key of the whole schema is put there, with a value of
    // no legal shape
    let names: BTreeSet<&str> = keys
        .iter()
        .map(|(_, key)| key.as_str())
        .chain(["frobnicate", "throttle"])
        .collect();
    for (path, pointer) in found
        .iter()
        .filter(|(path, _)| keys.iter().any(|(location, _)| location == path))
    {
        let mut changed = full.clone();
        let location = changed
            .pointer_mut(pointer)
            .and_then(Json::as_object_mut)
            .expect("a map");
        let added: Vec<&&str> = names
            .iter()
            .filter(|name| !location.contains_key(**name))
            .collect();
        added
            .iter()
            .for_each(|name| drop(location.insert((**name).to_owned(), json!([[["?"]]]))));
        let problems = parse_json(&changed).expect_err("no key takes this value");
        // THEN the decoder knows it exactly where the schema does
        let below = path_of(pointer);
        for name in added {
            let is_refused = |problem: &&Problem| {
                problem.path == node::join(&below, name)
                    && matches!(
                        problem.code,
                        ErrorCode::SpecUnknownKey | ErrorCode::SpecNotSupportedYet
                    )
            };
            let is_known = problems
                .iter()
                .find(is_refused)
                .is_none_or(|problem| problem.message.contains("has no meaning with"));
            assert_eq!(
                is_known,
                keys.contains(&(path.clone(), (**name).to_owned())),
                "{below} {name}: {}",
                report(&problems)
            );
        }
    }

    // GIVEN the file that has every key of the schema; WHEN any of them is left out
    let mut missing = keys.clone();
    for (path, pointer) in &found {
        let entries = full
            .pointer(pointer)
            .and_then(Json::as_object)
            .expect("a map")
            .clone();
        for key in entries.keys() {
            missing.remove(&(path.clone(), key.clone()));
            let mut changed = full.clone();
            let location = changed
                .pointer_mut(pointer)
                .and_then(Json::as_object_mut)
                .expect("a map");
            location.remove(key);
            // THEN the pipeline is another one, or none; so the decoder reads every key
            // What is different in a place that is not chosen changes nothing.
            let is_elsewhere = path.starts_with("environments") || key == "environments";
            let is_idle = matches!(
                (path.as_str(), key.as_str()),
                // It is overlaid everywhere, or its only legal value is the default.
                ("defaults", "strategy" | "depends_on")
                    // A step that is not enabled is as if it were not there.
                    | ("steps", "retired")
                    // Until somebody knows the tables it is one step, whatever they are.
                    | ("steps.*.tables", "exclude" | "foreign_keys")
                    | ("connections.*", "read_only")
                    | ("steps.*.strategy", "consistency")
            );
            assert!(
                is_idle
                    || is_elsewhere
                    || parse_json(&changed).as_ref() != Ok(&whole)
                    || is_repeated(path, key),
                "{pointer} {key}"
            );
        }
    }
    // What may stand in `defaults` is what may stand in a step.
    let below = |root: &str| -> BTreeSet<(String, String)> {
        keys.iter()
            .filter_map(|(path, key)| Some((path.strip_prefix(root)?.to_owned(), key.clone())))
            .collect()
    };
    assert_eq!(below("defaults"), below("steps.*"));
    // And one strategy does not take all of it.
    missing.retain(|(path, _)| {
        path != "defaults" && !path.starts_with("defaults.") && !path.starts_with("environments.")
    });
    assert_eq!(
        missing,
        BTreeSet::new(),
        "the full example lacks keys of the schema"
    );
}

/// A JSON pointer as a path of the file: `/steps/a/depends_on/0` is `steps.a.depends_on[0]`.
fn path_of(pointer: &str) -> String {
    pointer
        .split('/')
        .skip(1)
        .fold(String::new(), |path, part| match part.parse::<usize>() {
            Ok(at) => format!("{path}[{at}]"),
            Err(_) => node::join(&path, part),
        })
}

/// Keys that the full example gives the value they would have without it.
fn is_repeated(path: &str, key: &str) -> bool {
    // In a step, `defaults` gives the same; in an empty list or a default there is nothing to lose.
    (path.starts_with("steps.*")
        && matches!(
            key,
            "connection" | "mode" | "by" | "resident" | "exclude" | "depends_on" | "when"
        ))
        || (path == "steps.*.strategy" && matches!(key, "type" | "until"))
        || path.starts_with("defaults")
}

/// What a reading must never do, whatever it reads.
fn judge(text: &str) -> Result<(), TestCaseError> {
    match read_full(text) {
        Ok(spec) => {
            let bytes = spec.canonical_json();
            prop_assert_eq!(from_canonical(&bytes), Ok(spec.clone()), "{}", text);
            prop_assert_eq!(
                parse(&spec.to_document().to_string(), &none()),
                Ok(spec),
                "{}",
                text
            );
        }
        Err(problems) => {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert_ne!(problem.code, "spec::unreadable", "{}", text);
                let Problem {
                    line,
                    column,
                    offset,
                    length,
                    ..
                } = problem;
                prop_assert!(
                    line >= 1 && column >= 1 && offset + length <= text.len(),
                    "{:?}",
                    problem
                );
            }
        }
    }
    prop_assert_eq!(masked(text, &[]).len(), text.len());
    Ok(())
}

/// Pieces that turn a legal file into all sorts of others.
const PIECES: [&str; 34] = [
    "\n",
    " ",
    ":",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "- ",
    "|",
    "~",
    "null",
    "true",
    "0x1f",
    "-1",
    "1e9",
    ".nan",
    "${param:since}",
    "${env:X}",
    "${",
    "{source.schema}",
    "{{",
    "now",
    "noop",
    "append",
    "integer",
    "postgres://u:p@h",
    "ü",
    "\u{feff}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics_on_arbitrary_text(text in "(?s).{0,200}") {
        judge(&text)?;
    }

    #[test]
    fn reading_never_panics_on_a_damaged_file(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, 0..PIECES.len()), 1..6),
        is_full: bool,
    ) {
        let mut text = if is_full { FULL } else { FLIGHTS }.to_owned();
        for (at, cut, piece) in edits {
            let at = text.floor_char_boundary(at.index(text.len()));
            let end = text.floor_char_boundary((at + cut).min(text.len()));
            text.replace_range(at..end.max(at), PIECES[piece]);
        }
        judge(&text)?;
    }

    #[test]
    fn no_password_is_ever_repeated(password in "[a-zA-Z0-9/?#@:&=%.,;!*-]{3,16}", in_query: bool) {
        // A marker, so that a short password is not found by accident.
        let password = format!("Zq{password}xW");
        let url = if in_query { format!("postgres://h/x?password={password}") } else { format!("postgres://u:{password}@h/x") };
        let text = FLIGHTS.replace("${env:TARGET_URL}", &url);
        let problems = parse(&text, &none()).expect_err("the URL holds a password");
        prop_assert_eq!(problems[0].code, "spec::literal_password");
        for shown in [format!("{problems:?}"), masked(&text, &problems)] {
            prop_assert!(!shown.contains("Zq") && !shown.contains("xW"), "{}", shown);
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_always_reported(at in any::<prop::sample::Index>(), piece in 0..PIECES.len()) {
        // A whole scalar is replaced, so the file stays YAML and reaches the decoder.
        let mut document: Json = serde_saphyr::from_str(FULL).expect("YAML");
        let mut leaves = Vec::new();
        scalars(&document, "", &mut leaves);
        let location = document.pointer_mut(&leaves[at.index(leaves.len())]).expect("there");
        *location = serde_json::from_str(PIECES[piece]).unwrap_or_else(|_| json!(PIECES[piece]));
        judge(&document.to_string())?;
    }
}

fn scalars(document: &Json, pointer: &str, found: &mut Vec<String>) {
    match document {
        Json::Object(entries) => entries
            .iter()
            .for_each(|(key, below)| scalars(below, &format!("{pointer}/{key}"), found)),
        Json::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, item)| scalars(item, &format!("{pointer}/{at}"), found));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            found.push(pointer.to_owned())
        }
    }
}
