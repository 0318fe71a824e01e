//! Resolves references to secrets, at the last moment and only here: the one reader of the
//! environment beside configuration. What it returns never leaves the connector that asked for it,
//! and its errors name the reference, never the value.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::{SecretPart, SecretText, secret_parts};

/// The text of a connection's URL with every `${env:X}` and `${file:/path}` replaced by what it
/// refers to, in the forms that it may mean, to be tried in their order.
///
/// A reference that is the whole text is taken as it is. One inside a URL or a keyword string is a
/// value: what would mean something there is escaped. A value of a URL that may be percent-encoded
/// already, which cannot be told for certain, is first taken to be so, and then as it stands.
///
/// # Errors
/// Permanent, naming worker and reference: a variable that is not set, a file that cannot be read.
pub(crate) fn resolve(text: &SecretText, worker: &str) -> Result<Vec<String>, AttemptError> {
    Ok(put_together(&pieces(text, worker)?))
}

fn pieces(text: &SecretText, worker: &str) -> Result<Vec<Piece>, AttemptError> {
    let refuse = |code, message: String| AttemptError::new(ErrorClass::Permanent, code, message);
    let parts = secret_parts(text.as_written())
        .map_err(|error| refuse(ErrorCode::MalformedReference, error.to_string()))?;
    let mut pieces = Vec::new();
    for part in parts {
        pieces.push(match part {
            SecretPart::Literal(text) => Piece::Written(text),
            SecretPart::Env(name) => Piece::Value(environment(&name).ok_or_else(|| {
                let message = format!(
                    "the variable {name}, which `${{env:{name}}}` refers to, is not set for worker \
                     {worker}: set it there and try again"
                );
                refuse(ErrorCode::UnsetVariable, message)
            })?),
            SecretPart::File(path) => {
                let content = std::fs::read_to_string(&path).map_err(|error| {
                    let message = format!(
                        "worker {worker} cannot read {path}, which `${{file:{path}}}` \
                                 refers to: {error}"
                    );
                    refuse(ErrorCode::UnreadableSecret, message)
                })?;
                Piece::Value(content.trim_end_matches(['\n', '\r']).to_owned())
            }
        });
    }
    Ok(pieces)
}

/// The value of a variable, with every reference replaced by what it refers to, and those values by
/// themselves, which nobody may read.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn value(
    text: &SecretText,
    worker: &str,
) -> Result<(String, Vec<String>), AttemptError> {
    let pieces = pieces(text, worker)?;
    let mut secrets = Vec::new();
    for piece in &pieces {
        if let Piece::Value(secret) = piece {
            secrets.push(secret.clone());
        }
    }
    Ok((join(&pieces, |_, value| value.to_owned()), secrets))
}

/// A part of a URL.
enum Piece {
    Written(String),
    Value(String),
}

/// Stands for a value where only the shape of a text matters.
const VALUE: char = '\u{1}';

fn put_together(pieces: &[Piece]) -> Vec<String> {
    let shape: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Written(text) => text.as_str(),
            Piece::Value(_) => "\u{1}",
        })
        .collect();
    let written = shape.trim_start_matches(VALUE);
    if written.len() < shape.len() {
        // It begins with a reference: all of it, or its scheme.
        return vec![join(pieces, |_, value| value.to_owned())];
    }
    let Some(begin) = shape.find("://") else {
        return vec![join(pieces, quoted)];
    };
    let begin = begin + "://".len();
    let end = shape[begin..]
        .find(['/', '?', '#'])
        .map_or(shape.len(), |at| begin + at);
    let host = shape[begin..end]
        .rfind('@')
        .map_or(begin, |at| begin + at + 1);
    let escape = |before: &str, value: &str| match (host..=end).contains(&before.len()) {
        // Several hosts, and a port, may be one value.
        true => escaped(value, b":,[]%"),
        false => escaped(value, b""),
    };
    let as_it_stands = join(pieces, escape);
    let mut forms = Vec::new();
    if pieces
        .iter()
        .any(|piece| matches!(piece, Piece::Value(value) if looks_escaped(value)))
    {
        forms.push(join(pieces, |before, value| match looks_escaped(value) {
            true => value.to_owned(),
            false => escape(before, value),
        }));
    }
    forms.push(as_it_stands);
    forms
}

/// The pieces one after another; `form` is told what stands before a value, with each value before
/// it as one letter.
fn join(pieces: &[Piece], form: impl Fn(&str, &str) -> String) -> String {
    let (mut text, mut shape) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Written(written) => {
                text.push_str(written);
                shape.push_str(written);
            }
            Piece::Value(value) => {
                text.push_str(&form(&shape, value));
                shape.push(VALUE);
            }
        }
    }
    text
}

/// The value in a keyword string: in quotes, unless it stands in some already.
fn quoted(before: &str, value: &str) -> String {
    let inside = value.replace('\\', "\\\\").replace('\'', "\\'");
    let is_open = before.matches('\'').count() % 2 == 1;
    if is_open {
        inside
    } else {
        format!("'{inside}'")
    }
}

/// The value with everything percent-encoded but what stands for itself everywhere in a URL, and
/// `kept`.
fn escaped(value: &str, kept: &[u8]) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match is_plain(byte) || kept.contains(&byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether the value is what percent-encoding makes of some other.
fn looks_escaped(value: &str) -> bool {
    let mut parts = value.split('%');
    let first = parts.next().unwrap_or_default();
    let is_escape = |part: &str| {
        let (hex, rest) = part.as_bytes().split_at_checked(2).unwrap_or((b"-", b""));
        hex.iter().all(u8::is_ascii_hexdigit) && rest.iter().copied().all(is_plain)
    };
    first.bytes().all(is_plain) && value.contains('%') && parts.all(is_escape)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that resolves secrets"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_names_worker_and_reference() {
        let error = resolve(
            &SecretText::new("postgres://u:${env:HIGHWATER_NOT_SET}@h/db"),
            "w-1",
        )
        .expect_err("not set");
        assert_eq!(error.code, "unset_variable");
        assert!(
            error.message.contains("HIGHWATER_NOT_SET") && error.message.contains("w-1"),
            "{}",
            error.message
        );
    }

    fn texts(written: &str, value: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), format!("{value}\n")).expect("written");
        let reference = format!("${{file:{}}}", file.path().display());
        resolve(&SecretText::new(written.replace("REF", &reference)), "w-1").expect("resolved")
    }

    #[test]
    fn a_reference_inside_a_url_is_a_value() {
        assert_eq!(
            texts("postgres://u:REF@h/db", "s3cret"),
            ["postgres://u:s3cret@h/db"]
        );
        assert_eq!(
            texts("postgres://u:REF@h/db", "a/b#c?d@e f"),
            ["postgres://u:a%2Fb%23c%3Fd%40e%20f@h/db"]
        );
        assert_eq!(
            texts("postgres://h/db?password=REF", "x&y=z"),
            ["postgres://h/db?password=x%26y%3Dz"]
        );
        assert_eq!(
            texts("postgres://u@REF/db", "h1:5432,h2"),
            ["postgres://u@h1:5432,h2/db"]
        );
        assert_eq!(
            texts("postgres://u:p@h:REF/db", "5432"),
            ["postgres://u:p@h:5432/db"]
        );
        assert_eq!(
            texts("postgres://u@REF/db", "/run/pg"),
            ["postgres://u@%2Frun%2Fpg/db"]
        );
        assert_eq!(
            texts("REF", "postgres://u:a%2Fb@h/db"),
            ["postgres://u:a%2Fb@h/db"]
        );
        assert_eq!(
            texts("host=h password=REF", r"it's \ me"),
            [r"host=h password='it\'s \\ me'"]
        );
        assert_eq!(
            texts("host=h password='REF'", "it's"),
            [r"host=h password='it\'s'"]
        );
    }

    #[test]
    fn a_value_that_may_be_encoded_is_taken_both_ways() {
        assert_eq!(
            texts("postgres://u:REF@h/db", "a%2Fb"),
            ["postgres://u:a%2Fb@h/db", "postgres://u:a%252Fb@h/db"]
        );
        assert_eq!(
            texts("postgres://u:REF@h/db", "a%b"),
            ["postgres://u:a%25b@h/db"]
        );
        assert_eq!(
            texts("postgres://u:REF@h/db", "a%2Fb/c"),
            ["postgres://u:a%252Fb%2Fc@h/db"]
        );
    }
}
