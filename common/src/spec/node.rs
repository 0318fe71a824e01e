//! The file as a tree that keeps the place of every key and value. Never decides what a key means.
//!
//! The tree is read through a type of our own and not through derived structs: those stop at the
//! first problem, and those that the reader has to buffer lose the place.

use std::collections::HashMap;
use std::fmt;

use crate::error_code::ErrorCode;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    DefaultMessageFormatter, DuplicateKeyPolicy, Location as YamlLocation, MergeKeyPolicy,
    MessageFormatter, NonFiniteFloatPolicy, Options, Spanned,
};

use super::problem::{Location, Problems};

/// The largest file read, in bytes.
pub(super) const BYTES_MAX: usize = 1 << 20;
/// The deepest nesting read; the deepest legal file needs eight levels.
const DEPTH_MAX: usize = 32;
/// The most nodes read, those repeated through aliases included.
const NODES_MAX: usize = 200_000;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) location: Location,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A value without parts: what YAML takes it for, and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    pub(super) kind: ScalarKind,
    /// The text's value for [`ScalarKind::Text`], the source's spelling for all others.
    pub(super) written: String,
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ScalarKind {
    Null,
    Bool(bool),
    Whole(i128),
    Real,
    Text,
    /// A value that is already reported and must not be reported again.
    Broken,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) location: Location,
    pub(super) node: Node,
    /// True when `defaults` laid it here, so that it may mean nothing to this step.
    pub(super) is_laid: bool,
}

impl Node {
    pub(super) fn text(text: impl Into<String>, location: Location) -> Self {
        Self {
            value: Value::Scalar(Scalar {
                kind: ScalarKind::Text,
                written: text.into(),
            }),
            location,
        }
    }

    /// The text, when it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Scalar {
                kind: ScalarKind::Text,
                written,
            }) => Some(written),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// True for a value that is already reported.
    pub(super) fn is_broken(&self) -> bool {
        matches!(
            self.value,
            Value::Scalar(Scalar {
                kind: ScalarKind::Broken,
                ..
            })
        )
    }

    /// The entries, when it is a map.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// The items, when it is a list.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// What it is, for a message; with its text unless it may be a secret.
    pub(super) fn described(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null | ScalarKind::Broken => "nothing".to_owned(),
                ScalarKind::Bool(value) => format!("`{value}`"),
                ScalarKind::Whole(_) | ScalarKind::Real => {
                    format!("the number {}", shortened(&scalar.written))
                }
                ScalarKind::Text => format!("the text `{}`", shortened(&scalar.written)),
            },
        }
    }
}

/// The text on one line, its middle left out when it is long.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    let head: String = text.chars().take(CHARS_MAX - 1).collect();
    format!("{head}…")
}

/// Reads YAML into a tree. Problems of syntax end the reading, keys that repeat or are no text are
/// left out.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Node> {
    if text.len() > BYTES_MAX {
        problems.add(
            ErrorCode::SpecTooLarge,
            "",
            Location::START,
            format!("the file is larger than {BYTES_MAX} bytes"),
        );
        return None;
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(root) => Builder { text, problems }.node(root, None, ""),
        Err(error) => {
            let location = error
                .location()
                .map_or(Location::START, |location| place_of(text, location));
            // The reader's own messages speak of characters and tags, never of a value.
            let message = DefaultMessageFormatter
                .format_message(error.without_snippet())
                .into_owned();
            problems.add(
                ErrorCode::SpecYaml,
                "",
                location,
                format!("not YAML: {message}"),
            );
            None
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES_MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        leading_zero_numbers_as_strings: false,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

/// The place of a part of `text`. Some places are told in characters only.
fn place_of(text: &str, location: YamlLocation) -> Location {
    let whole = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).max(1);
    let span = location.span();
    // Places do not count a byte order mark.
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mark = text.len().saturating_sub(body.len());
    let (offset, length) = match (span.byte_offset(), span.byte_len()) {
        (Some(offset), Some(length)) => (whole(offset), whole(length)),
        (Some(_) | None, None) | (None, Some(_)) => {
            let offset = body
                .char_indices()
                .nth(whole(span.offset()))
                .map_or(body.len(), |(at, _)| at);
            (
                offset,
                body.get(offset..)
                    .unwrap_or_default()
                    .chars()
                    .take(whole(span.len()))
                    .map(char::len_utf8)
                    .sum(),
            )
        }
    };
    let offset = offset.min(body.len());
    let length = length.min(body.len().saturating_sub(offset));
    Location {
        line: short(location.line()),
        column: short(location.column()),
        offset: offset.saturating_add(mark),
        length,
        set: None,
    }
}

/// Turns what was read into nodes.
struct Builder<'a> {
    text: &'a str,
    problems: &'a mut Problems,
}

impl Builder<'_> {
    /// `key` is the place of the node's key: maps, lists and missing values are marked by it.
    fn node(&mut self, raw: Spanned<Raw>, key: Option<Location>, path: &str) -> Option<Node> {
        let own = place_of(self.text, raw.defined);
        let by_key = key.unwrap_or(own);
        Some(match raw.value {
            Raw::List(items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (at, item) in items.into_iter().enumerate() {
                    nodes.extend(self.node(item, None, &format!("{path}[{at}]")));
                }
                Node {
                    value: Value::List(nodes),
                    location: by_key,
                }
            }
            Raw::Map(pairs) => Node {
                value: Value::Map(self.entries(pairs, path)),
                location: by_key,
            },
            Raw::Text(written) => scalar(ScalarKind::Text, written, own),
            Raw::Null => scalar(
                ScalarKind::Null,
                String::new(),
                if own.length == 0 { by_key } else { own },
            ),
            Raw::Bool(value) => scalar(ScalarKind::Bool(value), value.to_string(), own),
            Raw::Whole(value) => scalar(ScalarKind::Whole(value), self.written(own), own),
            Raw::Real => scalar(ScalarKind::Real, self.written(own), own),
        })
    }

    fn written(&self, location: Location) -> String {
        self.text
            .get(location.offset..location.offset.saturating_add(location.length))
            .unwrap_or_default()
            .to_owned()
    }

    fn entries(&mut self, pairs: Vec<(Spanned<Raw>, Spanned<Raw>)>, path: &str) -> Vec<Entry> {
        let mut first: HashMap<String, Location> = HashMap::new();
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let location = place_of(self.text, key.defined);
            let Raw::Text(key) = key.value else {
                let written = shortened(&self.written(location));
                self.problems
                    .add(
                        ErrorCode::SpecKeyIsNoText,
                        path,
                        location,
                        format!("the key `{written}` is no text"),
                    )
                    .hint(format!("quote it: \"{written}\""));
                continue;
            };
            let below = join(path, &key);
            if let Some(earlier) = first.get(&key) {
                let message = format!(
                    "`{}` is given twice; first in line {}",
                    shortened(&key),
                    earlier.line
                );
                self.problems
                    .add(ErrorCode::SpecDuplicateKey, &below, location, message);
                continue;
            }
            first.insert(key.clone(), location);
            if let Some(node) = self.node(value, Some(location), &below) {
                entries.push(Entry {
                    key,
                    location,
                    node,
                    is_laid: false,
                });
            }
        }
        entries
    }
}

/// A scalar as a node.
pub(super) fn scalar(kind: ScalarKind, written: String, location: Location) -> Node {
    Node {
        value: Value::Scalar(Scalar { kind, written }),
        location,
    }
}

/// The path of `key` under `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// What the reader hands over, before it is given a place.
enum Raw {
    Null,
    Bool(bool),
    Whole(i128),
    Real,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Whole(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Real)
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
