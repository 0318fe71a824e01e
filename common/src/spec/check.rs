//! Holds the tree to the table of keys and reports everything that does not fit. Makes nothing of
//! it: that is decoding.

use super::keys::FILE;
use super::node::{Entry, Node, Scalar, ScalarKind, Value, join, shortened};
use super::problem::{Location, Problem, Problems};
use super::secret::{LITERAL_PASSWORD, UrlFault, judge_url};
use super::shape::{Fields, Form, Key, List, Named, Shape, Word};
use super::suggest::{listed, nearest};
use super::value;
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
        Shape::Text
        | Shape::File
        | Shape::Name
        | Shape::Table
        | Shape::Target
        | Shape::Duration
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
                    .add("spec::not_supported_yet", &below, entry.location, message)
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
                .add("spec::missing_key", path, node.location, message)
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

/// The word of the tag, when it is one that says which keys are legal.
pub(super) fn tag_of<'a>(fields: &Fields, node: &'a Node) -> Option<&'a str> {
    let tag = node.get(fields.tag?)?;
    let word = tag.as_text().or_else(|| tag.get("type")?.as_text())?;
    fields.variants().contains(&word).then_some(word)
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
        .add("spec::unknown_key", path, entry.location, message)
        .hint(format!("it goes with `{tag}: {}`", key.only.join("` or `")));
}

fn unknown_key(
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
        .add("spec::unknown_key", path, entry.location, message)
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
            | Shape::Url
            | Shape::Bound => {}
            Shape::Written
            | Shape::Whole(..)
            | Shape::Bool
            | Shape::Duration
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
        problems.add("spec::wrong_count", path, node.location, message);
    }
    for entry in entries {
        let below = join(path, &entry.key);
        if !named.is_any_text && !is_name(&entry.key) {
            let message = format!("`{}` cannot name {}", shortened(&entry.key), named.what);
            problems
                .add("spec::bad_name", &below, entry.location, message)
                .hint(NAME_HINT);
        }
        check(&entry.node, &named.each, &below, extent, problems);
    }
}

const NAME_HINT: &str = "a name is a lower-case letter, then at most 62 of a-z, 0-9 and _";

fn check_list(node: &Node, list: &List, path: &str, problems: &mut Problems) {
    let Value::List(items) = &node.value else {
        if let Some((word, hint)) = list.later.filter(|(word, _)| node.as_text() == Some(word)) {
            return not_yet(word, hint, node.location, path, problems);
        }
        return wrong_type(node, "a list", path, problems);
    };
    if items.len() < list.items_min || items.len() > list.items_max {
        let message = format!(
            "{} items; between {} and {} are legal",
            items.len(),
            list.items_min,
            list.items_max
        );
        problems.add("spec::wrong_count", path, node.location, message);
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

fn check_word(node: &Node, words: &[Word], path: &str, problems: &mut Problems) {
    let known = || {
        words
            .iter()
            .filter(|word| word.later.is_none())
            .map(|word| word.text)
    };
    let Some(text) = node.as_text() else {
        return wrong_type(node, &format!("one of {}", listed(known())), path, problems);
    };
    match words.iter().find(|word| word.text == text) {
        Some(Word { later: None, .. }) => {}
        Some(Word {
            later: Some(hint), ..
        }) => not_yet(text, hint, node.location, path, problems),
        None => {
            let message = format!("`{}` is none of {}", shortened(text), listed(known()));
            let problem = problems.add("spec::unknown_word", path, node.location, message);
            if let Some(meant) = nearest(text, known()) {
                problem.hint(format!("did you mean `{meant}`?"));
            }
        }
    }
}

fn not_yet(word: &str, hint: &str, location: Location, path: &str, problems: &mut Problems) {
    problems
        .add(
            "spec::not_supported_yet",
            path,
            location,
            format!("`{word}` is not supported yet"),
        )
        .hint(hint);
}

fn check_whole(node: &Node, min: u64, max: u64, path: &str, problems: &mut Problems) {
    match &node.value {
        Value::Scalar(Scalar {
            kind: ScalarKind::Whole(value),
            ..
        }) => {
            if !(i128::from(min)..=i128::from(max)).contains(value) {
                let legal = if min == max {
                    format!("only {min} is")
                } else {
                    format!("{min} to {max} are")
                };
                problems.add(
                    "spec::out_of_range",
                    path,
                    node.location,
                    format!("{value} is out of range: {legal} legal"),
                );
            }
        }
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            let is_quoted = node
                .as_text()
                .is_some_and(|text| text.parse::<i128>().is_ok());
            wrong_type(node, "a whole number", path, problems);
            if is_quoted {
                problems.last_hint("write the number without quotes");
            }
        }
    }
}

fn check_bound(node: &Node, path: &str, problems: &mut Problems) {
    let text = match &node.value {
        Value::Scalar(Scalar {
            kind: ScalarKind::Text,
            written,
        }) => written,
        Value::Scalar(Scalar {
            kind: ScalarKind::Whole(_),
            ..
        }) => return,
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            return wrong_type(node, "a date, a time or a whole number", path, problems);
        }
    };
    if text == "now" {
        let hint =
            "name the first position that is not wanted, or leave `end` out to go to the last row";
        return not_yet("now", hint, node.location, path, problems);
    }
    if value::bound(text).is_none() {
        let message = format!("`{}` is no date, time or whole number", shortened(text));
        problems
            .add("spec::bad_value", path, node.location, message)
            .hint("such as 2013-01-01, 2013-01-01T05:00:00Z or 42");
    }
}

fn check_url(node: &Node, path: &str, problems: &mut Problems) {
    let Some(text) = node.as_text() else {
        return wrong_type(node, "a URL", path, problems);
    };
    const REFERENCES: &str = "${env:NAME} or ${file:/path}";
    match judge_url(text) {
        Ok(()) => {}
        Err(UrlFault::Password) => problems
            .add(
                LITERAL_PASSWORD,
                path,
                node.location,
                "the URL holds a password; the file is stored, so it would be too",
            )
            .hint(format!("put a reference in its place: {REFERENCES}")),
        Err(UrlFault::Reference(error)) => {
            problems
                .add(
                    "spec::bad_reference",
                    path,
                    node.location,
                    error.to_string(),
                )
                .hint(format!("write {REFERENCES}"));
        }
        Err(UrlFault::Scheme) => problems
            .add(
                "spec::bad_value",
                path,
                node.location,
                "the URL begins neither with `postgres://`, nor with a keyword such as `host=`, \
                 nor with a reference",
            )
            .hint("such as postgres://user:${env:PASSWORD}@host/database"),
    }
}

fn check_text(node: &Node, shape: &Shape, path: &str, problems: &mut Problems) {
    let Some(text) = node.as_text() else {
        return no_text(node, shape, path, problems);
    };
    let short = shortened(text);
    let fault: Option<(String, &str)> = match shape {
        Shape::Name => (!is_name(text)).then(|| (format!("`{short}` is no name"), NAME_HINT)),
        Shape::Duration => value::duration(text).is_none().then(|| {
            (
                format!("`{short}` is no duration"),
                "such as 1h30m, 45m, 10s or 50ms",
            )
        }),
        Shape::Bytes => value::bytes(text).is_none().then(|| {
            (
                format!("`{short}` is no number of bytes"),
                "such as 64MiB, 512KiB, 1GiB or 1000000",
            )
        }),
        Shape::Zone => value::zone(text).is_none().then(|| {
            (
                format!("`{short}` is no known time zone"),
                "such as UTC or Europe/Berlin",
            )
        }),
        Shape::Table => value::table(text)
            .err()
            .map(|error| (format!("`{short}` names no table: {error}"), TABLE_HINT)),
        Shape::Target => value::target(text, None)
            .err()
            .map(|error| (format!("`{short}` names no table: {error}"), TARGET_HINT)),
        Shape::Text | Shape::File => {
            let is_legal = !text.is_empty() && !text.contains(char::is_control);
            (!is_legal).then(|| {
                (
                    "the text is empty or holds a control character".to_owned(),
                    "write some text",
                )
            })
        }
        Shape::Url
        | Shape::Bound
        | Shape::Written
        | Shape::Whole(..)
        | Shape::Bool
        | Shape::Words(_) => None,
        Shape::Fields(_) | Shape::Partial(_) | Shape::Named(_) | Shape::List(_) => None,
    };
    if let Some((message, hint)) = fault {
        problems
            .add("spec::bad_value", path, node.location, message)
            .hint(hint);
    }
}

const TABLE_HINT: &str = "write table or schema.table, a part in double quotes where it needs them";
const TARGET_HINT: &str =
    "write table or schema.table; {source.table} and {source.schema} stand for the source's";

/// A value that is no text where text belongs. What YAML took for a number or a boolean has lost
/// its spelling.
fn no_text(node: &Node, shape: &Shape, path: &str, problems: &mut Problems) {
    let expected = match shape {
        Shape::Duration => "a duration such as 10s",
        Shape::Bytes => "a number of bytes such as 64MiB",
        Shape::Name => "a name",
        Shape::Table | Shape::Target => "the name of a table",
        Shape::Zone => "a time zone",
        Shape::Text
        | Shape::File
        | Shape::Url
        | Shape::Bound
        | Shape::Written
        | Shape::Whole(..) => "text",
        Shape::Bool
        | Shape::Words(_)
        | Shape::Fields(_)
        | Shape::Partial(_)
        | Shape::Named(_)
        | Shape::List(_) => "text",
    };
    match (&node.value, shape) {
        (Value::Scalar(scalar), Shape::Text | Shape::File | Shape::Table | Shape::Target)
            if scalar.kind != ScalarKind::Null =>
        {
            let message = format!("expected {expected}, found {}", node.described());
            problems
                .add("spec::quote_it", path, node.location, message)
                .hint(format!("quote it: \"{}\"", shortened(&scalar.written)));
        }
        (Value::Scalar(_) | Value::List(_) | Value::Map(_), _) => {
            wrong_type(node, expected, path, problems)
        }
    }
}

fn wrong_type(node: &Node, expected: &str, path: &str, problems: &mut Problems) {
    let found = if path.ends_with(".url") {
        "something else".to_owned()
    } else {
        node.described()
    };
    problems.add(
        "spec::wrong_type",
        path,
        node.location,
        format!("expected {expected}, found {found}"),
    );
}

impl Problem {
    /// Whether a reader must never see the marked text.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.code == LITERAL_PASSWORD
    }
}
