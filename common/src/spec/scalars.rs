//! Holds single values to their shape, and says what is wrong with one.

use super::columns::is_type_name;
use super::node::{Node, Scalar, ScalarKind, Value, shortened};
use super::problem::{Location, Problems};
use super::secret::{UrlFault, judge_url};
use super::shape::{Shape, Word};
use super::suggest::{listed, nearest};
use super::{relation, value};
use crate::error_code::ErrorCode;
use crate::id::is_name;

pub(super) const NAME_HINT: &str =
    "a name is a lower-case letter, then at most 62 of a-z, 0-9 and _";
/// In the place of a duration: as long as it takes.
pub(super) const AUTO: &str = "auto";
/// The most patterns of tables that are listed.
pub(super) const TABLES_MAX: usize = 100;
const TABLE_HINT: &str = "write table or schema.table, a part in double quotes where it needs them";
const TARGET_HINT: &str =
    "write table or schema.table; {source.table} and {source.schema} stand for the source's";

pub(super) fn check_word(node: &Node, words: &[Word], path: &str, problems: &mut Problems) {
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
            let problem = problems.add(ErrorCode::SpecUnknownWord, path, node.location, message);
            if let Some(meant) = nearest(text, known()) {
                problem.hint(format!("did you mean `{meant}`?"));
            }
        }
    }
}

pub(super) fn check_whole(node: &Node, min: u64, max: u64, path: &str, problems: &mut Problems) {
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
                    ErrorCode::SpecOutOfRange,
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

pub(super) fn check_bound(node: &Node, path: &str, problems: &mut Problems) {
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
    if text == value::NOW {
        return; // where it means nothing, a rule of the step says so
    }
    if value::bound(text).is_none() {
        let message = format!("`{}` is no date, time or whole number", shortened(text));
        problems
            .add(ErrorCode::SpecBadValue, path, node.location, message)
            .hint("such as 2013-01-01, 2013-01-01T05:00:00Z or 42");
    }
}

pub(super) fn check_url(node: &Node, path: &str, problems: &mut Problems) {
    let Some(text) = node.as_text() else {
        return wrong_type(node, "a URL", path, problems);
    };
    const REFERENCES: &str = "${env:NAME} or ${file:/path}";
    match judge_url(text) {
        Ok(()) => {}
        Err(UrlFault::Password) => problems
            .add(
                ErrorCode::SpecLiteralPassword,
                path,
                node.location,
                "the URL holds a password; the file is stored, so it would be too",
            )
            .hint(format!("put a reference in its place: {REFERENCES}")),
        Err(UrlFault::Reference(error)) => {
            problems
                .add(
                    ErrorCode::SpecBadReference,
                    path,
                    node.location,
                    error.to_string(),
                )
                .hint(format!("write {REFERENCES}"));
        }
        Err(UrlFault::Scheme) => problems
            .add(
                ErrorCode::SpecBadValue,
                path,
                node.location,
                "the URL begins neither with `postgres://`, nor with a keyword such as `host=`, \
                 nor with a reference",
            )
            .hint("such as postgres://user:${env:PASSWORD}@host/database"),
    }
}

pub(super) fn check_text(node: &Node, shape: &Shape, path: &str, problems: &mut Problems) {
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
        Shape::Lag => (text != AUTO && value::duration(text).is_none()).then(|| {
            (
                format!("`{short}` is neither `auto` nor a duration"),
                "such as auto, 10m or 1h30m",
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
        Shape::Query => relation::query(text).is_none().then(|| {
            (
                "the query is empty, or is no single statement".to_owned(),
                "write one SELECT; a semicolon may end it",
            )
        }),
        // Where the statements end is looked at once it is known for which database they are.
        Shape::Script => text.trim().is_empty().then(|| {
            (
                "there is no statement".to_owned(),
                "write the statements of the target, with a semicolon behind each",
            )
        }),
        Shape::Type => (!is_type_name(text)).then(|| {
            (
                format!("`{short}` is the name of no type"),
                "such as text, bigint or numeric(12,2), as the source's server writes it",
            )
        }),
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
        | Shape::Tables
        | Shape::Bound
        | Shape::Written
        | Shape::Whole(..)
        | Shape::Bool
        | Shape::Words(_) => None,
        Shape::Fields(_) | Shape::Partial(_) | Shape::Named(_) | Shape::List(_) => None,
    };
    if let Some((message, hint)) = fault {
        problems
            .add(ErrorCode::SpecBadValue, path, node.location, message)
            .hint(hint);
    }
}

/// A value that is no text where text belongs. What YAML took for a number or a boolean has lost
/// its spelling.
fn no_text(node: &Node, shape: &Shape, path: &str, problems: &mut Problems) {
    let expected = match shape {
        Shape::Duration => "a duration such as 10s",
        Shape::Lag => "`auto`, or a duration such as 10m",
        Shape::Bytes => "a number of bytes such as 64MiB",
        Shape::Name => "a name",
        Shape::Table | Shape::Target | Shape::Tables => "the name of a table",
        Shape::Zone => "a time zone",
        Shape::Type => "the name of a type",
        Shape::Query => "the text of a query",
        Shape::Script => "the text of statements",
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
                .add(ErrorCode::SpecQuoteIt, path, node.location, message)
                .hint(format!("quote it: \"{}\"", shortened(&scalar.written)));
        }
        (Value::Scalar(_) | Value::List(_) | Value::Map(_), _) => {
            wrong_type(node, expected, path, problems)
        }
    }
}

pub(super) fn not_yet(
    word: &str,
    hint: &str,
    location: Location,
    path: &str,
    problems: &mut Problems,
) {
    problems
        .add(
            ErrorCode::SpecNotSupportedYet,
            path,
            location,
            format!("`{word}` is not supported yet"),
        )
        .hint(hint);
}

pub(super) fn wrong_type(node: &Node, expected: &str, path: &str, problems: &mut Problems) {
    let found = if path.ends_with(".url") {
        "something else".to_owned()
    } else {
        node.described()
    };
    problems.add(
        ErrorCode::SpecWrongType,
        path,
        node.location,
        format!("expected {expected}, found {found}"),
    );
}
