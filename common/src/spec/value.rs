//! How single values are written: durations, table names, bounds, zones, the types of parameters.

use std::fmt;
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZoneDatabase;
use serde::{Deserialize, Serialize};

/// The longest duration that a file may name: 366 days.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `1h30m`, `45m`, `1s` or `50ms`: units from large to small, each at most once.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut units = UNITS.iter();
    let (mut millis, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (count, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(count.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = after;
    }
    let duration = Duration::from_millis(millis);
    (!text.is_empty() && duration <= DURATION_MAX).then_some(duration)
}

/// Writes a duration as a pipeline file does.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (millis, "ms"),
    ];
    let text: String = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

const BYTE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads `64MiB`, `512KiB`, `1GiB` or a plain number of bytes; none is no number of them.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let unit = BYTE_UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (count, factor) = unit.unwrap_or((text, 1));
    let is_written_out = count.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = count.parse::<u64>().ok()?.checked_mul(factor)?;
    (is_written_out && bytes > 0).then_some(bytes)
}

/// Writes a number of bytes as [`bytes`] reads it.
pub(super) fn bytes_text(bytes: u64) -> String {
    let unit = BYTE_UNITS
        .iter()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    match unit.and_then(|(unit, factor)| Some((unit, bytes.checked_div(*factor)?))) {
        Some((unit, count)) => format!("{count}{unit}"),
        None => bytes.to_string(),
    }
}

/// The IANA name of a zone as its database spells it; `None` for a zone that the database, which is
/// part of the program, does not know. The machine's own database is not asked: two machines would
/// plan differently.
pub(super) fn zone(name: &str) -> Option<String> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    zone.iana_name().map(str::to_owned)
}

/// What a bound can be read as, as far as its text tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundForm {
    /// A whole number: `42`.
    Whole(i64),
    /// A day: `2013-01-01`.
    Date(civil::Date),
    /// A reading of a clock: `2013-01-01T05:00:00`, or with a space.
    Civil(civil::DateTime),
    /// A point in time: `2013-01-01T05:00:00Z`, or with an offset.
    Instant(jiff::Timestamp),
}

impl BoundForm {
    /// Whether this comes before `other`; `None` when the two cannot be compared before a zone is
    /// known.
    #[must_use]
    pub fn is_before(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a < b),
            (Self::Date(a), Self::Date(b)) => Some(a < b),
            (Self::Civil(a), Self::Civil(b)) => Some(a < b),
            (Self::Date(a), Self::Civil(b)) => Some(a.at(0, 0, 0, 0) < b),
            (Self::Civil(a), Self::Date(b)) => Some(a < b.at(0, 0, 0, 0)),
            (Self::Instant(a), Self::Instant(b)) => Some(a < b),
            (Self::Whole(_) | Self::Date(_) | Self::Civil(_) | Self::Instant(_), _) => None,
        }
    }
}

/// In the place of a bound: as far as is safe.
pub(super) const NOW: &str = "now";

/// A bound as the user wrote it: read once the partition column's kind is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bound(pub String);

impl Bound {
    /// Whether it is no position but up to where nothing more is committed when the plan is made.
    #[must_use]
    pub fn is_now(&self) -> bool {
        self.0 == NOW
    }

    /// What the text can be read as. Every bound of a pipeline that was parsed can, unless it is
    /// [`Bound::is_now`].
    #[must_use]
    pub fn form(&self) -> Option<BoundForm> {
        bound(&self.0)
    }
}

/// Reads a bound: `42`, `2013-01-01`, `2013-01-01T05:00:00` or with an offset behind it.
pub(super) fn bound(text: &str) -> Option<BoundForm> {
    if let Ok(whole) = text.parse() {
        return Some(BoundForm::Whole(whole));
    }
    if text.contains('[') {
        return None;
    }
    // A date is ten characters; jiff would also read the date out of a longer text and forget the
    // rest.
    if text.len() == 10 {
        return text.parse().ok().map(BoundForm::Date);
    }
    if let Ok(instant) = text.parse() {
        return Some(BoundForm::Instant(instant));
    }
    let has_time = text
        .get(10..11)
        .is_some_and(|separator| matches!(separator, "T" | " " | "t"));
    if has_time {
        text.parse().ok().map(BoundForm::Civil)
    } else {
        None
    }
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParamType {
    Text,
    Integer,
    Date,
    Timestamp,
}

impl ParamType {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "integer" => Some(Self::Integer),
            "date" => Some(Self::Date),
            "timestamp" => Some(Self::Timestamp),
            _ => None,
        }
    }

    /// What a value of this type is, for a message.
    pub(super) const fn described(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "a whole number",
            Self::Date => "a date such as 2013-01-01",
            Self::Timestamp => "a timestamp such as 2013-01-01T05:00:00Z",
        }
    }

    /// Whether `text` is a value of this type.
    pub(super) fn admits(self, text: &str) -> bool {
        match (self, bound(text)) {
            (Self::Text, _)
            | (Self::Integer, Some(BoundForm::Whole(_)))
            | (Self::Date, Some(BoundForm::Date(_)))
            | (Self::Timestamp, Some(BoundForm::Civil(_) | BoundForm::Instant(_))) => true,
            (Self::Integer | Self::Date | Self::Timestamp, Some(_) | None) => false,
        }
    }
}

/// Why a table's name cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TableError {
    #[error("a part of the name is empty")]
    Empty,
    #[error("a name has at most two parts: schema and table")]
    Parts,
    #[error("a double quote is not closed, or text follows it")]
    Quote,
    #[error("`{0}` must stand in double quotes")]
    Character(char),
    #[error("`{{{0}}}` is not known here")]
    Placeholder(String),
    #[error("a brace is not closed; a brace itself is written twice")]
    Brace,
    #[error("the source's name has no schema that `{{source.schema}}` could stand for")]
    NoSchema,
    #[error("a part of the name is longer than 128 bytes")]
    Long,
}

/// The name of a table, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema; `None` leaves it to the server (`public`, `main`).
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Reads `table` or `schema.table`, each part as it is or in double quotes. Letters keep their
/// case.
pub(super) fn table(text: &str) -> Result<TableName, TableError> {
    parts(text, None)
}

/// Reads the name of a target, in which `{source.table}` and `{source.schema}` stand for the
/// source's. Without a known source they are checked and stand for anything.
pub(super) fn target(text: &str, source: Option<&TableName>) -> Result<TableName, TableError> {
    let anything = TableName {
        schema: Some("x".to_owned()),
        name: "x".to_owned(),
    };
    parts(text, Some(source.unwrap_or(&anything)))
}

/// Whether the name of a target asks for the source's.
pub(super) fn holds_source(text: &str) -> bool {
    text.replace("{{", "").contains("{source.")
}

fn parts(text: &str, source: Option<&TableName>) -> Result<TableName, TableError> {
    let mut parts = vec![String::new()];
    let mut rest = text;
    let (mut quoted, mut closed) = (false, false);
    while let Some(c) = rest.chars().next() {
        let part = parts.last_mut().ok_or(TableError::Empty)?;
        let mut used = c.len_utf8();
        match c {
            '"' if quoted && rest.starts_with("\"\"") => {
                part.push('"');
                used = 2;
            }
            '"' if quoted => (quoted, closed) = (false, true),
            '"' if part.is_empty() && !closed => quoted = true,
            '.' if !quoted => {
                parts.push(String::new());
                closed = false;
            }
            _ if closed => return Err(TableError::Quote),
            '{' | '}' if source.is_some() => {
                let (text, length) = braced(rest, source)?;
                part.push_str(&text);
                used = length;
            }
            '"' | '{' | '}' if !quoted => return Err(TableError::Character(c)),
            c if c.is_control() || (!quoted && c.is_whitespace()) => {
                return Err(TableError::Character(c));
            }
            c => part.push(c),
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    if quoted {
        return Err(TableError::Quote);
    }
    if parts.iter().any(String::is_empty) {
        return Err(TableError::Empty);
    }
    if parts.iter().any(|part| part.len() > 128) {
        return Err(TableError::Long);
    }
    match <[String; 2]>::try_from(parts) {
        Ok([schema, name]) => Ok(TableName {
            schema: Some(schema),
            name,
        }),
        Err(mut parts) => match (parts.len(), parts.pop()) {
            (1, Some(name)) => Ok(TableName { schema: None, name }),
            (_, Some(_) | None) => Err(TableError::Parts),
        },
    }
}

/// What a brace stands for, and the bytes it takes.
fn braced(rest: &str, source: Option<&TableName>) -> Result<(String, usize), TableError> {
    if rest.starts_with("{{") || rest.starts_with("}}") {
        return Ok((rest.chars().take(1).collect(), 2));
    }
    let inner = rest
        .strip_prefix('{')
        .and_then(|inner| inner.split_once('}'))
        .ok_or(TableError::Brace)?
        .0;
    let text = match (inner, source) {
        ("source.table", Some(source)) => source.name.clone(),
        ("source.schema", Some(source)) => source.schema.clone().ok_or(TableError::NoSchema)?,
        _ => return Err(TableError::Placeholder(inner.to_owned())),
    };
    Ok((text, inner.len().saturating_add(2)))
}

/// Writes a name as a pipeline file does, of a target when `is_template`: braces mean something
/// there.
#[must_use]
pub fn table_text(table: &TableName, is_template: bool) -> String {
    let part = |name: &str| {
        let braced = if is_template {
            name.replace('{', "{{").replace('}', "}}")
        } else {
            name.to_owned()
        };
        let plain = name
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '.' | '"' | '{' | '}'));
        if plain {
            braced
        } else {
            format!("\"{}\"", braced.replace('"', "\"\""))
        }
    };
    let name = part(&table.name);
    table
        .schema
        .as_deref()
        .map_or_else(|| name.clone(), |schema| format!("{}.{name}", part(schema)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_are_read_and_written_alike() {
        for (text, count) in [
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("3KiB", 3072),
            ("1000000", 1_000_000),
        ] {
            assert_eq!(bytes(text), Some(count), "{text}");
            assert_eq!(bytes_text(count), text);
        }
        for text in [
            "",
            "0",
            "0MiB",
            "MiB",
            "64MB",
            "-1",
            "+1",
            "1.5MiB",
            "64 MiB",
            "99999999999GiB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_written_alike() {
        for (text, millis) in [
            ("1s", 1000),
            ("45m", 2_700_000),
            ("50ms", 50),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        for text in [
            "",
            "5",
            "1d",
            "1m1h",
            "1s1s",
            "-1s",
            "1.5s",
            "s",
            "99999999999h",
            "1 s",
            "1µs",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn table_names_are_read_with_and_without_quotes() {
        let name = |schema: Option<&str>, name: &str| TableName {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        };
        assert_eq!(table("orders"), Ok(name(None, "orders")));
        assert_eq!(table("public.Orders"), Ok(name(Some("public"), "Orders")));
        assert_eq!(
            table("\"a.b\".\"c \"\"d{\""),
            Ok(name(Some("a.b"), "c \"d{"))
        );
        for bad in [
            "", ".", "a.", "a.b.c", "a b", "\"a", "\"a\"b", "a\"b", "a{b}", "\"\"",
        ] {
            assert!(table(bad).is_err(), "{bad}");
        }
        let source = name(None, "or{ders");
        assert_eq!(
            target("analytics.{source.table}_x", Some(&source)),
            Ok(name(Some("analytics"), "or{ders_x"))
        );
        assert_eq!(target("a{{b}}", Some(&source)), Ok(name(None, "a{b}")));
        assert_eq!(
            target("{source.schema}.x", Some(&source)),
            Err(TableError::NoSchema)
        );
        assert_eq!(
            target("{step}", None),
            Err(TableError::Placeholder("step".to_owned()))
        );
        assert_eq!(target("{source.table", None), Err(TableError::Brace));
    }

    #[test]
    fn bounds_tell_their_form() {
        assert_eq!(bound("42"), Some(BoundForm::Whole(42)));
        assert!(matches!(bound("2013-01-01"), Some(BoundForm::Date(_))));
        assert!(matches!(
            bound("2013-01-01 05:00:00"),
            Some(BoundForm::Civil(_))
        ));
        assert!(matches!(
            bound("2013-01-01T05:00:00+02:00"),
            Some(BoundForm::Instant(_))
        ));
        assert_eq!(bound("2013-13-01"), None);
        assert_eq!(bound("yesterday"), None);
        assert_eq!(
            zone("america/new_york").as_deref(),
            Some("America/New_York")
        );
        assert_eq!(zone("Mars/Olympus"), None);
    }
}
