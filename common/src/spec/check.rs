//! Holds the tree to the table of keys and reports everything that does not fit. Makes nothing of
//! it: that is decoding.

use super::keys::FILE;
use super::node::{Entry, Node, Scalar, ScalarKind, Value, join, shortened};
use super::problem::{Problem, Problems};
use super::scalars::{
    NAME_HINT, TABLES_MAX, check_bound, check_text, check_url, check_whole, check_word, wrong_type,
};
use super::shape::{Fields, Form, Key, List, Named, Shape, tag_of};
use super::suggest::{listed, nearest};
use crate::error_code::ErrorCode;
use crate::id::is_name;

/// Whether a map must have all it needs, or is laid under others that have the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Partial,
}

/// Reports whatever of `node` is not of `shape`.
pub(super) fn check(
    node: &Node,
    shape: &Shape,
    path: &str,
    extent: Extent,
    problems: &mut Problems,
) {
    if node.is_broken() {
        return;
    }
    match shape {
        Shape::Fields(fields) => check_fields(node, fields, path, extent, problems),
        Shape::Partial(fields) => check_fields(node, fields, path, Extent::Partial, problems),
        Shape::Named(named) => check_named(node, named, path, extent, problems),
        Shape::List(list) => check_list(node, list, path, problems),
        Shape::Words(words) => check_word(node, words, path, problems),
        Shape::Whole(min, max) => check_whole(node, *min, *max, path, problems),
        Shape::Bool => {
            if !matches!(
                node.value,
                Value::Scalar(Scalar {
                    kind: ScalarKind::Bool(_),
                    ..
                })
            ) {
                wrong_type(node, "`true` or `false`", path, problems);
            }
        }
        Shape::Bound => check_bound(node, path, problems),
        Shape::Written => match &node.value {
            Value::Scalar(Scalar {
                kind: ScalarKind::Null,
                ..
            })
            | Value::List(_)
            | Value::Map(_) => {
                wrong_type(node, "a value", path, problems);
            }
            Value::Scalar(_) => {}
        },
        Shape::Url => check_url(node, path, problems),
        Shape::Tables => check_tables(node, path, problems),
        Shape::Text
        | Shape::File
        | Shape::Name
        | Shape::Table
        | Shape::Target
        | Shape::Type
        | Shape::Query
        | Shape::Script
        | Shape::Duration
        | Shape::Lag
        | Shape::Bytes
        | Shape::Zone => {
            check_text(node, shape, path, problems);
        }
    }
}

fn check_fields(
    node: &Node,
    fields: &'static Fields,
    path: &str,
    extent: Extent,
    problems: &mut Problems,
) {
    let Value::Map(entries) = &node.value else {
        return wrong_type(
            node,
            &format!("a map that describes {}", fields.what),
            path,
            problems,
        );
    };
    let word = tag_of(fields, node);
    for entry in entries {
        let below = join(path, &entry.key);
        match fields.key(&entry.key) {
            Some(Key {
                form: Form::Later,
                doc,
                ..
            }) => {
                let message = format!("`{}` is not supported yet", entry.key);
                problems
                    .add(
                        ErrorCode::SpecNotSupportedYet,
                        &below,
                        entry.location,
                        message,
                    )
                    .hint(*doc);
            }
            Some(
                key @ Key {
                    form: Form::Now(shape),
                    ..
                },
            ) => {
                if key.goes_with(word) {
                    check(&entry.node, shape, &below, extent, problems);
                } else if !entry.is_laid {
                    foreign_key(entry, key, fields, word, &below, problems);
                }
            }
            None => unknown_key(entry, fields, word, &below, problems),
        }
    }
    if extent == Extent::Whole {
        for key in fields.keys.iter().filter(|key| is_missing(key, node, word)) {
            let message = format!("{} needs `{}`", fields.what, key.name);
            problems
                .add(ErrorCode::SpecMissingKey, path, node.location, message)
                .hint(key.doc);
        }
    }
}

/// Whether a key that must be there is not. A key that goes with some words only is not asked for
/// while the word is unknown.
fn is_missing(key: &Key, node: &Node, word: Option<&str>) -> bool {
    let is_asked = key.only.is_empty() || word.is_some_and(|word| key.only.contains(&word));
    key.is_required && is_asked && node.get(key.name).is_none()
}

fn foreign_key(
    entry: &Entry,
    key: &Key,
    fields: &Fields,
    word: Option<&str>,
    path: &str,
    problems: &mut Problems,
) {
    let (tag, word) = (fields.tag.unwrap_or_default(), word.unwrap_or_default());
    let message = format!("`{}` has no meaning with `{tag}: {word}`", entry.key);
    problems
        .add(ErrorCode::SpecUnknownKey, path, entry.location, message)
        .hint(format!("it goes with `{tag}: {}`", key.only.join("` or `")));
}

pub(super) fn unknown_key(
    entry: &Entry,
    fields: &Fields,
    word: Option<&str>,
    path: &str,
    problems: &mut Problems,
) {
    let legal: Vec<&str> = fields
        .keys
        .iter()
        .filter(|key| key.is_now() && key.goes_with(word))
        .map(|key| key.name)
        .collect();
    let hint = if let Some(meant) = nearest(&entry.key, legal.iter().copied()) {
        format!("did you mean `{meant}`?")
    } else if fields.what == "a connection" && is_credential(&entry.key) {
        "put it into `url`, as a reference: ${env:NAME} or ${file:/path}".to_owned()
    } else {
        match places_of(&entry.key).as_slice() {
            [] => format!("legal here: {}", listed(legal)),
            places => format!(
                "it is legal under {}",
                listed(places.iter().map(String::as_str))
            ),
        }
    };
    let message = format!("unknown key `{}`", shortened(&entry.key));
    problems
        .add(ErrorCode::SpecUnknownKey, path, entry.location, message)
        .hint(hint);
}

fn is_credential(key: &str) -> bool {
    [
        "password", "passwd", "pwd", "pass", "user", "username", "host", "port", "database",
    ]
    .contains(&key)
}

/// Where a key would be legal: `steps.<step>.partition`. At most four places.
fn places_of(key: &str) -> Vec<String> {
    fn walk(fields: &'static Fields, path: &str, key: &str, places: &mut Vec<String>) {
        for each in fields.keys {
            let Form::Now(shape) = &each.form else {
                continue;
            };
            if each.name == key {
                places.push(if path.is_empty() {
                    "the top".to_owned()
                } else {
                    path.to_owned()
                });
            }
            descend(shape, &join(path, each.name), key, places);
        }
    }
    fn descend(shape: &'static Shape, path: &str, key: &str, places: &mut Vec<String>) {
        match shape {
            Shape::Fields(fields) => walk(fields, path, key, places),
            Shape::Named(named) => {
                descend(&named.each, &join(path, named.placeholder), key, places)
            }
            Shape::List(list) => descend(&list.each, &format!("{path}[]"), key, places),
            // What may stand in `defaults` may stand in a step: naming the step is enough.
            Shape::Partial(_) => {}
            Shape::Text
            | Shape::File
            | Shape::Name
            | Shape::Table
            | Shape::Target
            | Shape::Tables
            | Shape::Type
            | Shape::Query
            | Shape::Script
            | Shape::Url
            | Shape::Bound => {}
            Shape::Written
            | Shape::Whole(..)
            | Shape::Bool
            | Shape::Duration
            | Shape::Lag
            | Shape::Bytes
            | Shape::Zone
            | Shape::Words(_) => {}
        }
    }
    let mut places = Vec::new();
    walk(&FILE, "", key, &mut places);
    places.truncate(4);
    places
}

fn check_named(node: &Node, named: &Named, path: &str, extent: Extent, problems: &mut Problems) {
    let Value::Map(entries) = &node.value else {
        return wrong_type(
            node,
            &format!("a map that gives each name {}", named.what),
            path,
            problems,
        );
    };
    if entries.len() < named.entries_min || entries.len() > named.entries_max {
        let message = format!(
            "{} entries; between {} and {} are legal",
            entries.len(),
            named.entries_min,
            named.entries_max
        );
        problems.add(ErrorCode::SpecWrongCount, path, node.location, message);
    }
    for entry in entries {
        let below = join(path, &entry.key);
        if !named.is_any_text {
            check_name(entry, named.what, &below, problems);
        }
        check(&entry.node, &named.each, &below, extent, problems);
    }
}

/// Reports what names no tables: a pattern, or a list of them.
fn check_tables(node: &Node, path: &str, problems: &mut Problems) {
    let Value::List(items) = &node.value else {
        return check_text(node, &Shape::Table, path, problems);
    };
    if items.is_empty() || items.len() > TABLES_MAX {
        let message = format!(
            "{} items; between 1 and {TABLES_MAX} are legal",
            items.len()
        );
        problems.add(ErrorCode::SpecWrongCount, path, node.location, message);
    }
    for (at, item) in items.iter().enumerate() {
        check_text(item, &Shape::Table, &format!("{path}[{at}]"), problems);
    }
}

/// Reports a key that is no name.
pub(super) fn check_name(entry: &Entry, what: &str, path: &str, problems: &mut Problems) {
    if !is_name(&entry.key) {
        let message = format!("`{}` cannot name {what}", shortened(&entry.key));
        problems
            .add(ErrorCode::SpecBadName, path, entry.location, message)
            .hint(NAME_HINT);
    }
}

fn check_list(node: &Node, list: &List, path: &str, problems: &mut Problems) {
    let Value::List(items) = &node.value else {
        if list.word.is_none() || node.as_text() != list.word {
            wrong_type(node, "a list", path, problems);
        }
        return;
    };
    if items.len() < list.items_min || items.len() > list.items_max {
        let message = format!(
            "{} items; between {} and {} are legal",
            items.len(),
            list.items_min,
            list.items_max
        );
        problems.add(ErrorCode::SpecWrongCount, path, node.location, message);
    }
    for (at, item) in items.iter().enumerate() {
        check(
            item,
            &list.each,
            &format!("{path}[{at}]"),
            Extent::Whole,
            problems,
        );
    }
}

impl Problem {
    /// Whether a reader must never see the marked text.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.code == ErrorCode::SpecLiteralPassword
    }
}
