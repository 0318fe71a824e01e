//! The file of people's tokens: names, roles and digests, so that whoever reads the file has no token
//! yet. Never holds a token itself.
//!
//! ```text
//! # name   role      digest of the token                until            pipelines
//! ci       operator  sha256:9f86d081884c7d659a2feaa…     until=2027-01-31 pipelines=shop,shop_*
//! grafana  viewer    sha256:60303ae22b998861bce3b28…
//! ```

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::grant::{Grant, patterns};
use super::principal::Principal;
use super::role::Role;
use crate::id::DocumentDigest;

/// The longest file that is read, in bytes: each call with a token reads it anew.
const BYTES_MAX: usize = 256 << 10;
/// The longest name of a token, in characters.
const NAME_CHARS_MAX: usize = 63;

/// The tokens of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenFile {
    tokens: Vec<Token>,
}

/// One of them: what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is called in records.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    digest: DocumentDigest,
    /// When it ends, in microseconds since 1970.
    until_micros: Option<i64>,
}

/// Why a file of tokens cannot be used. Never repeats what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// A line is wrong.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It is too long to be read at each call.
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// It is in no line.
    #[error(
        "the token that was sent is not known here: it was changed or taken away, or belongs to \
         another cluster; --token-file or HIGHWATER_TOKEN names the one to send"
    )]
    Unknown,
    /// Its time is over.
    #[error("the token `{name}` has ended: ask for another one whoever keeps the tokens_file")]
    Ended {
        /// What it is called.
        name: String,
    },
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        if text.len() > BYTES_MAX {
            return Err(TokenFileError::TooLong);
        }
        let mut tokens: Vec<Token> = Vec::new();
        let mut digests = BTreeSet::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = |why: String| TokenFileError::Line { line, why };
            let token = token(text).map_err(wrong)?;
            if !digests.insert(*token.digest.as_bytes()) {
                return Err(wrong("the same token stands in two lines".to_owned()));
            }
            tokens.push(token);
        }
        // Half of a line could say more than all of it: what limits a token stands at the end.
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(TokenFileError::Line {
                line: text.lines().count(),
                why: "the line has no end: was the file written whole? End it with a line break"
                    .to_owned(),
            });
        }
        Ok(Self { tokens })
    }

    /// Who sends this token. Each digest is compared to its last byte, whether or not one was found
    /// before, so that the time taken says nothing of what they are.
    ///
    /// # Errors
    /// It lets nobody in.
    pub fn find(&self, token: &str, now_micros: i64) -> Result<Principal, TokenRefused> {
        let digest = DocumentDigest::of(token.as_bytes());
        let mut found = None;
        for known in &self.tokens {
            if is_same(known.digest.as_bytes(), digest.as_bytes()) {
                found = Some(known);
            }
        }
        let found = found.ok_or(TokenRefused::Unknown)?;
        if found.until_micros.is_some_and(|until| until <= now_micros) {
            return Err(TokenRefused::Ended {
                name: found.name.clone(),
            });
        }
        Ok(Principal {
            who: format!("{} (token)", found.name),
            grants: vec![found.grant.clone()],
        })
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differing = one
        .iter()
        .zip(other)
        .fold(0, |differing, (one, other)| differing | (one ^ other));
    std::hint::black_box(differing) == 0
}

fn token(line: &str) -> Result<Token, String> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(role), Some(digest)) = (words.next(), words.next(), words.next()) else {
        return Err("a line is NAME ROLE sha256:DIGEST [until=TIME] [pipelines=A,B]".to_owned());
    };
    let is_name = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.' | '@');
    if name.len() > NAME_CHARS_MAX || !name.chars().all(is_name) {
        return Err(format!(
            "the name of a token is letters, digits and -_.@, at most {NAME_CHARS_MAX} of them"
        ));
    }
    // Not repeated: somebody may have written a token where the role belongs.
    let role: Role = role
        .parse()
        .map_err(|_| "the role is viewer, operator or admin".to_owned())?;
    if !role.is_of_person() {
        return Err(format!(
            "a {role} is known by its certificate, and has no token"
        ));
    }
    let digest = digest
        .strip_prefix("sha256:")
        .and_then(|digest| digest.to_ascii_lowercase().parse().ok())
        .ok_or(
            "the digest is sha256: and 64 hexadecimal digits, as `printf %s TOKEN | sha256sum` \
             prints them",
        )?;
    let mut token = Token {
        name: name.to_owned(),
        grant: Grant::everywhere(role),
        digest,
        until_micros: None,
    };
    for word in words {
        match word.split_once('=') {
            Some(("until", _)) if token.until_micros.is_some() => {
                return Err("until= is given twice".to_owned());
            }
            Some(("pipelines", _)) if !token.grant.pipelines.is_empty() => {
                return Err("pipelines= is given twice".to_owned());
            }
            Some(("until", until)) => token.until_micros = Some(instant(until)?),
            Some(("pipelines", of)) => {
                token.grant.pipelines = patterns(of)?;
                if token.grant.pipelines.is_empty() {
                    return Err("pipelines= names none".to_owned());
                }
            }
            _ => {
                return Err("behind the digest there is until=TIME or pipelines=A,B".to_owned());
            }
        }
    }
    Ok(token)
}

/// An instant, or the beginning of a day in UTC.
fn instant(text: &str) -> Result<i64, String> {
    let read = text.parse::<Timestamp>().ok().or_else(|| {
        let date = text.parse::<Date>().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    });
    read.map(Timestamp::as_microsecond)
        .ok_or_else(|| "until= is a day such as 2027-01-31, or 2027-01-31T12:00:00Z".to_owned())
}
