//! A pipeline file of what is recommended, with the reasons as comments.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::advice::{Advice, Ranked, Way};
use super::case::{Case, IN_PLACE_ROWS};
use super::columns::{Cut, cut, may_hold_null, stamp};
use super::facts::{PositionColumn, Sight, TableAsFound, Wishes};
use super::whole::is_swapped_in_parts;
use crate::cursor::CursorKind;
use crate::id::{ConnectionName, PipelineName};
use crate::number::{bytes, count};
use crate::spec::{Connection, TableName, parse, table_text};

/// A longer time is cut by month, and so is one whose days have fewer rows.
const DAYS_MAX: u64 = 1_000;
const DAY_ROWS_MIN: u64 = 1_000;
/// Rows of a part of a key where nobody says it, and parts that are enough.
const KEY_ROWS: u64 = 500_000;
const KEY_PARTS: u64 = 1_000;
const PART_ROWS_MAX: u64 = 1_000_000_000_000;
/// The longest name of a step, less what keeps two apart.
const NAME_MAX: usize = 48;

/// What a file is written for.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The pipeline's name.
    pub name: PipelineName,
    /// The databases by name.
    pub connections: BTreeMap<ConnectionName, Connection>,
    /// What was wished.
    pub wishes: &'a Wishes,
    /// The tables, each with what is recommended for it.
    pub tables: Vec<DraftTable<'a>>,
}

/// A table that a file is written for.
#[derive(Debug)]
pub struct DraftTable<'a> {
    /// The table.
    pub found: &'a TableAsFound,
    /// What is recommended.
    pub advice: &'a Advice,
    /// The connection that it is read by.
    pub from: ConnectionName,
    /// The connection that it is written by.
    pub to: ConnectionName,
    /// What it is called there.
    pub as_table: TableName,
    /// The name that its step should have.
    pub step: String,
    /// Why a person has to write its step, if that is so.
    pub by_hand: Option<String>,
}

/// The file: of each table the first way that this version runs. `None` where there is none of any.
/// What it says can be read by [`parse`].
#[must_use]
pub fn pipeline_file(draft: &Draft<'_>) -> Option<String> {
    let mut file = head(draft);
    let mut names = BTreeSet::new();
    let mut is_empty = true;
    for table in &draft.tables {
        file.push('\n');
        file.push_str(&comments(table));
        if let Some(why) = &table.by_hand {
            file.push_str(&comment(&format!("not written: {why}")));
            continue;
        }
        let case = Case {
            found: table.found,
            wishes: draft.wishes,
        };
        let mut is_written = false;
        for way in table.advice.ranked.iter().filter(|way| way.runs_here) {
            let steps = steps(&case, table, way, &mut names);
            match parse(&format!("{file}{steps}"), &BTreeMap::new()) {
                Ok(_) => {
                    file.push_str(&steps);
                    (is_empty, is_written) = (false, true);
                    break;
                }
                Err(problems) => {
                    let why = problems.first().map(|one| one.message.as_str());
                    let why = why.unwrap_or("nobody knows why");
                    let told = format!("{} cannot be written: {why}", way.name);
                    file.push_str(&comment(&told));
                }
            }
        }
        if !is_written {
            file.push_str(&comment("no way that this version runs fits it"));
        }
    }
    (!is_empty).then_some(file)
}

fn head(draft: &Draft<'_>) -> String {
    let mut text = comment_at(
        "",
        "What `highwater advise` recommends. Read it before it runs.",
    );
    text.push_str(&format!("version: 1\nname: {}\nconnections:\n", draft.name));
    for (name, connection) in &draft.connections {
        let document = connection.document();
        let fields = document.as_object().into_iter().flatten();
        let is_said = |value: &Json| *value != Json::Bool(false) && !value.is_null();
        let fields: Vec<String> = fields
            .filter(|(_, value)| is_said(value))
            .map(|(key, value)| match value {
                Json::String(text) => format!("{key}: {}", scalar(text)),
                other => format!("{key}: {other}"),
            })
            .collect();
        text.push_str(&format!("  {name}: {{{}}}\n", fields.join(", ")));
    }
    text.push_str("steps:\n");
    text
}

/// What is known of a table, and why it is loaded as it is.
fn comments(table: &DraftTable<'_>) -> String {
    let advice = table.advice;
    let about = if advice.rows_exact { "" } else { "about " };
    let mut facts = vec![
        format!("{about}{} rows", count(advice.rows)),
        bytes(advice.bytes),
    ];
    facts.push(match advice.key.as_slice() {
        [] => "no key".to_owned(),
        key => format!("key {}", key.join(", ")),
    });
    facts.extend(advice.stamp.clone());
    let mut text = comment(&format!("{}: {}", advice.table, facts.join(" · ")));
    for way in &advice.ranked {
        let Ranked {
            name,
            cadence,
            brings,
            because,
            ..
        } = way;
        if way.runs_here {
            let because = because.join(", ");
            text.push_str(&comment(&format!(
                "{name}, {cadence}: {brings} ({because})"
            )));
            for caution in &way.cautions {
                text.push_str(&comment(&format!("mind: {caution}")));
            }
            break;
        }
        text.push_str(&comment(&format!(
            "{name} would be first: {brings}; this version cannot run it"
        )));
    }
    for refused in &advice.refused {
        for why in &refused.because {
            text.push_str(&comment(&format!("not {}: {}", refused.name, why.fact)));
        }
    }
    text
}

fn steps(
    case: &Case<'_>,
    table: &DraftTable<'_>,
    way: &Ranked,
    names: &mut BTreeSet<String>,
) -> String {
    let step = name_of(&table.step, "", names);
    let by = cut(case.found);
    let stamped = stamp(case.found);
    let history = |by, mode| load("backfill", table, Some(by), Some(mode));
    match way.way {
        Way::FullRefresh => entry(&step, &load("full_refresh", table, None, None)),
        Way::Nightly => entry(&step, &nightly(case, table)),
        Way::Swap | Way::SwapInPlace => {
            let strategy = match way.way == Way::SwapInPlace {
                true => "{type: swap, publish: in_place}",
                false => "swap",
            };
            let by = by.filter(|_| is_swapped_in_parts(case));
            entry(&step, &load(strategy, table, by, None))
        }
        Way::Backfill => by.map_or_else(String::new, |by| {
            let mode = match by {
                Cut::Column(_) if by.stays() => "replace_partition",
                Cut::Column(_) | Cut::Key => "append",
            };
            entry(&step, &history(by, mode))
        }),
        Way::Incremental => stamped.map_or_else(String::new, |by| {
            let strategy = following(case, by, None);
            entry(&step, &load(&strategy, table, None, Some("merge")))
        }),
        Way::BackfillIncremental => stamped.map_or_else(String::new, |by| {
            let first = name_of(&table.step, "_history", names);
            let once = "{type: backfill, end: now}";
            let once = load(once, table, Some(Cut::Column(by)), Some("append"));
            let strategy = following(case, by, Some(&first));
            let then = load(&strategy, table, None, Some("merge"));
            format!("{}{}", entry(&first, &once), entry(&step, &then))
        }),
        Way::Cdc | Way::BackfillCdc => {
            let strategy = format!("{{type: cdc, slot: {step}_log, publication: {step}_changes}}");
            entry(&step, &load(&strategy, table, None, Some("merge")))
        }
    }
}

fn entry(name: &str, lines: &[String]) -> String {
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!("  {name}:\n{lines}")
}

fn load(
    strategy: &str,
    table: &DraftTable<'_>,
    by: Option<Cut<'_>>,
    mode: Option<&str>,
) -> Vec<String> {
    let from = scalar(&table_text(&table.found.table, false));
    let mut lines = vec![
        format!("strategy: {strategy}"),
        format!("from: {{connection: {}, table: {from}}}", table.from),
        into(table),
    ];
    lines.extend(by.map(|by| partition(table.found, by)));
    lines.extend(mode.map(|mode| format!("write: {{mode: {mode}}}")));
    lines
}

fn into(table: &DraftTable<'_>) -> String {
    let to = scalar(&table_text(&table.as_table, true));
    format!("to: {{connection: {}, table: {to}}}", table.to)
}

/// More rows than one transaction replaces of a table are read by a query.
fn nightly(case: &Case<'_>, table: &DraftTable<'_>) -> Vec<String> {
    if case.found.rows <= IN_PLACE_ROWS {
        return load("full_refresh", table, None, None);
    }
    let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    let TableName { schema, name } = &table.found.table;
    let parts = schema.iter().chain([name]).map(|part| quoted(part));
    let query = format!("select * from {}", parts.collect::<Vec<_>>().join("."));
    vec![
        "strategy: full_refresh".to_owned(),
        format!(
            "from: {{connection: {}, query: {}}}",
            table.from,
            scalar(&query)
        ),
        into(table),
    ]
}

fn following(case: &Case<'_>, by: &PositionColumn, history: Option<&str>) -> String {
    let mut keys = vec![
        "type: incremental".to_owned(),
        format!("cursor: {}", scalar(&by.name)),
    ];
    if may_hold_null(by) {
        keys.push("nulls: reload".to_owned());
    }
    keys.extend(history.map(|step| format!("continues: {step}")));
    format!("{{{}{}}}", keys.join(", "), zone(case, by))
}

/// Whose clock stamps a time without a zone: a guess that a person has to look at.
fn zone(case: &Case<'_>, by: &PositionColumn) -> &'static str {
    let is_civil = matches!(by.kind, CursorKind::Civil | CursorKind::Date);
    match is_civil && case.found.sight != Sight::OneWriter {
        true => ", tz: UTC",
        false => "",
    }
}

fn partition(found: &TableAsFound, by: Cut<'_>) -> String {
    let by = match by {
        Cut::Column(by) => by,
        Cut::Key if found.rows / KEY_ROWS < KEY_PARTS => {
            return "partition: {by: keyset}".to_owned();
        }
        Cut::Key => {
            let rows = found.rows.div_ceil(KEY_PARTS).min(PART_ROWS_MAX);
            return format!("partition: {{by: keyset, max_rows: {rows}}}");
        }
    };
    let column = scalar(&by.name);
    match by.kind {
        CursorKind::Integer | CursorKind::Placed(_) => {
            format!("partition: {{by: integer, column: {column}}}")
        }
        CursorKind::Instant | CursorKind::Civil | CursorKind::Date => {
            let has_rows = |days: u64| found.rows >= days.saturating_mul(DAY_ROWS_MIN);
            let grain = match by.span_days {
                Some(days @ 0..=DAYS_MAX) if has_rows(days) => "day",
                Some(_) | None => "month",
            };
            format!("partition: {{by: calendar, column: {column}, grain: {grain}, tz: UTC}}")
        }
    }
}

/// A name for a step that no other one has.
fn name_of(wanted: &str, behind: &str, names: &mut BTreeSet<String>) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
        _ => '_',
    };
    let mut name: String = wanted.chars().map(letter).take(NAME_MAX).collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("t{name}");
    }
    name.push_str(behind);
    let mut free = name.clone();
    for number in 2_u32.. {
        if names.insert(free.clone()) {
            break;
        }
        free = format!("{name}_{number}");
    }
    free
}

/// A text that YAML reads as that text, also within braces.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = words.contains(&text.to_ascii_lowercase().as_str());
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_plain) && !is_word
    {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn comment(text: &str) -> String {
    comment_at("  ", text)
}

/// One line, whatever the text holds.
fn comment_at(indent: &str, text: &str) -> String {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let text: String = text
        .chars()
        .map(|c| if is_break(c) { ' ' } else { c })
        .collect();
    format!("{indent}# {text}\n")
}
