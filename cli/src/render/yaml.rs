//! A document as YAML: maps as blocks, lists of plain values on their line, text in quotes wherever a
//! reader could take it for something else.

use serde_json::{Map, Value as Json};

/// Keys that come first, in this order; the others follow by name.
const FIRST: [&str; 9] = [
    "version",
    "name",
    "type",
    "connections",
    "strategy",
    "depends_on",
    "from",
    "to",
    "partition",
];

/// The document, which is a map.
#[must_use]
pub(crate) fn yaml(document: &Json) -> String {
    let mut text = String::new();
    match document {
        Json::Object(entries) => block(entries, 0, &mut text),
        other => {
            text.push_str(&flow(other));
            text.push('\n');
        }
    }
    text
}

fn block(entries: &Map<String, Json>, depth: usize, text: &mut String) {
    let mut keys: Vec<&String> = entries.keys().collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key);
    keys.sort_by_key(|key| (rank(key).unwrap_or(FIRST.len()), key.as_str()));
    for key in keys {
        let Some(value) = entries.get(key) else {
            continue;
        };
        text.push_str(&format!("{}{}:", "  ".repeat(depth), scalar(key)));
        match value {
            Json::Object(below) if !below.is_empty() => {
                text.push('\n');
                block(below, depth + 1, text);
            }
            other => text.push_str(&format!(" {}\n", flow(other))),
        }
    }
}

/// A value on one line.
fn flow(value: &Json) -> String {
    match value {
        Json::String(text) => scalar(text),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(entries) => {
            let entries = entries.iter();
            let entries: Vec<String> = entries
                .map(|(key, value)| format!("{}: {}", scalar(key), flow(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.to_string(),
    }
}

/// Text as it is where nothing else can be meant, and quoted otherwise: what JSON quotes, YAML reads.
fn scalar(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/');
    let is_other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    match begins && !is_other && text.chars().all(is_word) {
        true => text.to_owned(),
        false => Json::String(text.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use highwater_common::spec;

    use super::*;

    #[test]
    fn a_resolved_file_is_read_as_the_same_pipeline() {
        let text = r#"
version: 1
name: shop
connections:
  old: {type: postgres, url: "postgres://u:${env:PW}@h/x"}
  new: {type: sqlite, path: "a b.db"}
steps:
  orders:
    strategy: {type: backfill, start: 2024-01-01, end: 2025-01-01}
    from: {connection: old, table: 'sales."Odd, name: x"', columns: {"a: b": {exclude: true}, "no": {rename: "on"}}}
    to: {connection: new, table: orders}
    partition: {by: calendar, column: at, grain: day}
    write: {mode: replace_partition, key: [id, "true"]}
    labels: {zone: "1"}
  kpis:
    strategy: sql
    depends_on: [{step: orders, when: done}]
    to: {connection: new, table: kpis}
    sql: |
      delete from kpis;
      insert into kpis select '{}', "x" from y
"#;
        let spec = spec::parse(text, &BTreeMap::new()).unwrap();
        let resolved = yaml(&spec.to_document());
        let again = spec::parse(&resolved, &BTreeMap::new());
        assert_eq!(again.as_ref(), Ok(&spec), "{resolved}");
        insta::assert_snapshot!(resolved, @r#"
        version: 1
        name: shop
        connections:
          new:
            type: sqlite
            path: "a b.db"
            read_only: false
          old:
            type: postgres
            read_only: false
            url: "postgres://u:${env:PW}@h/x"
        steps:
          kpis:
            strategy:
              type: sql
            depends_on: [{step: orders, when: done}]
            to:
              connection: new
              table: kpis
            limits:
              stall: "10m"
            retries:
              initial: "1s"
              max: "5m"
              max_attempts: 5
              unreachable: "1h"
            sql: "delete from kpis;\ninsert into kpis select '{}', \"x\" from y\n"
            tolerate:
              dead: 0
          orders:
            strategy:
              type: backfill
              end: "2025-01-01"
              order: oldest
              reprocess: missing
              start: "2024-01-01"
            depends_on: []
            from:
              columns:
                "a: b":
                  exclude: true
                "no":
                  rename: "on"
              connection: old
              rows: all
              table: "sales.\"Odd, name: x\""
            to:
              connection: new
              table: orders
            partition:
              by: calendar
              column: at
              grain: day
              nulls: partition
              tz: UTC
            chunk:
              max_bytes: "64MiB"
              max_rows: 500000
              target: "10s"
            labels:
              zone: "1"
            limits:
              stall: "10m"
            retries:
              initial: "1s"
              max: "5m"
              max_attempts: 5
              unreachable: "1h"
            tolerate:
              dead: 0
            write:
              key: [id, "true"]
              mode: replace_partition
              on_schema_change: fail
              resident: fail
              triggers: fire
        "#);
    }
}
