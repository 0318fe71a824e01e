//! Secrets are references. Tells references from literal passwords, and masks what must not be
//! shown. Never resolves a reference: only the worker that connects does.

use serde::{Deserialize, Serialize};

/// Text that may hold references to secrets, such as `${env:LEGACY_URL}` or
/// `${file:/run/secrets/url}`; kept as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The text as written. The parser has checked that it holds no literal password.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text with its references unresolved.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.0
    }
}

/// A part of a text that may hold references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPart {
    /// Text that stands for itself.
    Literal(String),
    /// `${env:NAME}`: the variable `NAME` of the worker's environment.
    Env(String),
    /// `${file:/path}`: the content of a file on the worker, without its last line break.
    File(String),
}

/// A reference that cannot be read. Does not repeat it: it may hold what should have been referred
/// to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// `${` without `}`.
    #[error("a reference begins with `${{` and is not closed by `}}`")]
    Unclosed,
    /// Neither `env:` nor `file:`.
    #[error("a reference is neither `${{env:NAME}}` nor `${{file:/path}}`")]
    Unknown,
    /// The name of a variable that cannot be one.
    #[error("the name in `${{env:…}}` is not made of letters, digits and underscores")]
    Variable,
    /// A path that depends on where the worker was started.
    #[error("the path in `${{file:…}}` is not absolute")]
    Path,
}

/// The parts of `text`: references, and what stands between them.
///
/// # Errors
/// [`SecretError`] for a reference that cannot be read.
pub fn secret_parts(text: &str) -> Result<Vec<SecretPart>, SecretError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("${") {
        if !before.is_empty() {
            parts.push(SecretPart::Literal(before.to_owned()));
        }
        let (inner, after) = from.split_once('}').ok_or(SecretError::Unclosed)?;
        parts.push(reference(inner)?);
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(SecretPart::Literal(rest.to_owned()));
    }
    Ok(parts)
}

fn reference(inner: &str) -> Result<SecretPart, SecretError> {
    if let Some(name) = inner.strip_prefix("env:") {
        let legal = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let begins = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        return if legal && begins {
            Ok(SecretPart::Env(name.to_owned()))
        } else {
            Err(SecretError::Variable)
        };
    }
    match inner.strip_prefix("file:") {
        Some(path)
            if path.len() > 1 && path.starts_with('/') && !path.contains(char::is_control) =>
        {
            Ok(SecretPart::File(path.to_owned()))
        }
        Some(_) => Err(SecretError::Path),
        None => Err(SecretError::Unknown),
    }
}

/// What is wrong with the URL of a PostgreSQL server, its references left unresolved. Never repeats
/// a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlFault {
    Reference(SecretError),
    Password,
    Scheme,
}

/// Judges a URL as written.
pub(super) fn judge_url(text: &str) -> Result<(), UrlFault> {
    /// Stands for a reference, and occurs in no URL.
    const REFERENCE: char = '\u{1}';
    let mut url = String::new();
    for part in secret_parts(text).map_err(UrlFault::Reference)? {
        match part {
            SecretPart::Literal(literal) => url.extend(literal.chars().filter(|c| *c != REFERENCE)),
            SecretPart::Env(_) | SecretPart::File(_) => url.push(REFERENCE),
        }
    }
    let is_literal = |value: &str| value.chars().any(|c| c != REFERENCE);
    let (scheme, rest) = url.split_once("://").unwrap_or(("", &url));
    // A keyword string may have spaces around its =, and its values may stand in quotes.
    let tight = tightened(&url);
    let is_password = |value: &str| is_literal(value.trim_matches('\''));
    if credentials(rest).is_some_and(is_literal) || query_passwords(&tight).any(is_password) {
        return Err(UrlFault::Password);
    }
    let is_keywords = scheme.is_empty() && begins_with_keyword(rest);
    let known = is_keywords
        || scheme.eq_ignore_ascii_case("postgres")
        || scheme.eq_ignore_ascii_case("postgresql");
    if known || (scheme.is_empty() && url.starts_with(REFERENCE)) || scheme.starts_with(REFERENCE) {
        Ok(())
    } else {
        Err(UrlFault::Scheme)
    }
}

/// The text without white space around its equals signs.
fn tightened(text: &str) -> String {
    let mut parts = text.split('=');
    let mut tight = parts.next().unwrap_or_default().trim_end().to_owned();
    let last = text.matches('=').count();
    for (part, nth) in parts.zip(1..) {
        tight.push('=');
        tight.push_str(if nth == last {
            part.trim_start()
        } else {
            part.trim()
        });
    }
    tight
}

/// Whether the text is libpq's other form, `host=… user=… dbname=…`.
fn begins_with_keyword(text: &str) -> bool {
    let Some((key, _)) = text.split_once('=') else {
        return false;
    };
    let key = key.trim();
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The password before the host, if there is one. A password may itself hold `/`, `?`, `#` and `@`,
/// written without the escapes it needs; so what cannot be a port is taken for one.
fn credentials(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if let Some((user, _)) = authority.rsplit_once('@') {
        return user.split_once(':').map(|(_, password)| password);
    }
    let (_, after) = rest.split_once(':')?;
    let (candidate, _) = after.rsplit_once('@')?;
    let port = candidate.split(['/', '?', '#']).next().unwrap_or(candidate);
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let in_path = candidate.find('?').is_none();
    (!is_port || in_path).then_some(candidate)
}

/// The values of parameters that are named like passwords.
fn query_passwords(url: &str) -> impl Iterator<Item = &str> {
    url.split(['?', '&', ';', '#', ' ', '\t', '\n'])
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            PASSWORD_KEYS
                .contains(&unescaped(key.trim()).to_ascii_lowercase().as_str())
                .then_some(value)
        })
}

const PASSWORD_KEYS: [&str; 5] = ["password", "passwd", "pwd", "sslpassword", "pass"];

/// The key with its percent escapes read, as the driver reads it.
fn unescaped(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escape
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|_| *first == b'%')
        {
            Some(byte) => (bytes.push(byte), rest = tail.get(2..).unwrap_or_default()),
            None => (bytes.push(*first), rest = tail),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text with what looks like a password masked, and what stands in the ranges `hidden`; of the
/// same length.
pub(super) fn masked_ranges(text: &str, mut hidden: Vec<(usize, usize)>) -> String {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let in_text =
            |(start, end): (usize, usize)| (start.saturating_add(at), end.saturating_add(at));
        hidden.extend(passwords_in(line).into_iter().map(in_text));
        at = at.saturating_add(line.len());
    }
    hidden.sort_unstable();
    let mut ranges = hidden.into_iter().peekable();
    let mut hidden_to = 0;
    let mut out = String::with_capacity(text.len());
    for (offset, c) in text.char_indices() {
        while let Some((_, end)) = ranges.next_if(|(start, _)| *start <= offset) {
            hidden_to = hidden_to.max(end);
        }
        if offset < hidden_to && c != '\n' {
            out.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

/// Where passwords seem to stand in a line. Rather too much than too little: it is only shown.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    reason = "every place is that of an ASCII text that was found in the line, or right behind one"
)]
fn passwords_in(line: &str) -> Vec<(usize, usize)> {
    let mut hidden = Vec::new();
    let last = line.rfind('@').unwrap_or(0);
    // What is hidden already is not looked at again, so that no line takes longer than its length
    // allows.
    let mut hidden_to = 0;
    for (at, _) in line.match_indices("://") {
        if at < hidden_to {
            continue;
        }
        let start = at + "://".len();
        let Some(end) = Some(last).filter(|end| *end > start) else {
            continue;
        };
        let Some(colon) = line[start..end].find(':').map(|colon| start + colon + 1) else {
            continue;
        };
        if !is_reference(&line[colon..line[colon..].find('@').map_or(end, |first| colon + first)]) {
            hidden.push((colon, end));
            hidden_to = end;
        }
    }
    // ASCII only, so that offsets stay those of the line.
    let lower = line.to_ascii_lowercase();
    for key in PASSWORD_KEYS {
        let mut hidden_to = 0;
        for (at, _) in lower.match_indices(key) {
            if at >= hidden_to
                && let Some((start, end)) = assigned(line, at + key.len())
            {
                hidden.push((start, end));
                hidden_to = end;
            }
        }
    }
    hidden
}

/// The value that is assigned by `=` or `:` at `from`, if one is.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    reason = "what is left of the line ends where the line does, and is cut behind ASCII"
)]
fn assigned(line: &str, from: usize) -> Option<(usize, usize)> {
    let after = line[from..].trim_start_matches(['"', '\'', ' ']);
    let value = after.strip_prefix(['=', ':'])?.trim_start();
    let (quote, value) = match value.chars().next()? {
        quote @ ('"' | '\'') => (Some(quote), &value[1..]),
        _ => (None, value),
    };
    let start = line.len() - value.len();
    let ends = |c: char| match quote {
        Some(quote) => c == quote,
        None => matches!(c, '&' | ',' | '}' | '"' | '\'' | '`') || c.is_whitespace(),
    };
    let length = value.find(ends).unwrap_or(value.len());
    let is_shown = length == 0
        || value.starts_with("${")
            && is_reference(&line[start..=start + length.min(value.len() - 1)]);
    (!is_shown).then_some((start, start + length))
}

fn is_reference(text: &str) -> bool {
    /// Longer than any path of a file.
    const BYTES_MAX: usize = 5000;
    if text.len() > BYTES_MAX {
        return false;
    }
    let text = text.trim_end_matches(['"', '\'', '&', ' ', ',', '\n']);
    secret_parts(text)
        .is_ok_and(|parts| matches!(parts.as_slice(), [SecretPart::Env(_) | SecretPart::File(_)]))
}

/// A message as it may be shown.
pub(super) fn masked_message(message: &str) -> String {
    masked_ranges(message, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_may_stand_where_a_password_does() {
        for good in [
            "${env:URL}",
            "${file:/run/secrets/url}",
            "postgres://localhost/x",
            "postgresql://u@host:5432/x?sslmode=require",
            "postgres://u:${env:PW}@host:5432/x",
            "postgres://${env:USER}:${file:/pw}@host/x?application_name=a",
            "postgres://host/x?password=${env:PW}",
            "postgres://u:@host/x",
            "host=h user=u dbname=x",
            "host=/run/pg password=${env:PW}",
            "host=h password = '${env:PW}' user=u",
        ] {
            assert_eq!(judge_url(good), Ok(()), "{good}");
        }
        for bad in [
            "postgres://u:secret@host/x",
            "postgres://u:sec${env:PW}@host/x",
            "postgres://u:se/cret@host/x",
            "postgres://u:12/3@host/x",
            "postgres://u:p?x@host/x",
            "postgres://host/x?password=secret",
            "postgres://host/x?a=b&p%61ssword=secret",
            "host=h password=secret",
            "host=h password = secret",
            "host=h password='${env:PW}secret' user=u",
            "host=h password= 'sec ret'",
            "u:secret@host",
        ] {
            assert_eq!(judge_url(bad), Err(UrlFault::Password), "{bad}");
        }
        assert_eq!(judge_url("mysql://host"), Err(UrlFault::Scheme));
        assert_eq!(
            judge_url("postgres://u:${hunter2}@host"),
            Err(UrlFault::Reference(SecretError::Unknown))
        );
        assert_eq!(
            judge_url("${env:URL"),
            Err(UrlFault::Reference(SecretError::Unclosed))
        );
        assert_eq!(
            judge_url("${env:1}"),
            Err(UrlFault::Reference(SecretError::Variable))
        );
        assert_eq!(
            judge_url("${file:x}"),
            Err(UrlFault::Reference(SecretError::Path))
        );
    }

    #[test]
    fn a_masked_text_keeps_its_length_and_loses_its_passwords() {
        for (text, shown) in [
            (
                "url: postgres://u:secret@h/x",
                "url: postgres://u:******@h/x",
            ),
            (
                "url: postgres://u:p@ss@h/x\nnext: 1",
                "url: postgres://u:****@h/x\nnext: 1",
            ),
            ("{password: hunter2, a: 1}", "{password: *******, a: 1}"),
            ("x?password=abc&y=1", "x?password=***&y=1"),
            ("password: \"a b\"", "password: \"***\""),
            (
                "url: postgres://u:${env:PW}@h/x",
                "url: postgres://u:${env:PW}@h/x",
            ),
            ("url: postgres://h:5432/x", "url: postgres://h:5432/x"),
        ] {
            assert_eq!(masked_message(text), shown);
            assert_eq!(shown.len(), text.len());
        }
    }
}
