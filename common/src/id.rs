//! Names and identities. Every one is a newtype, so that a step's name cannot be passed where a
//! pipeline's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is not the identity it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

impl IdError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            expected,
        }
    }
}

/// The longest name of a pipeline, step, connection, pool or worker, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// True for `[a-z][a-z0-9_]{0,62}`, the form of every name that a user gives.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(IdError::new(text, $expected)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a pipeline: `[a-z][a-z0-9_]{0,62}`. A pipeline's history hangs on it.
    PipelineName, "a pipeline name: a lower-case letter, then at most 62 of a-z, 0-9 and _"
);
name!(
    /// The name of a step within its pipeline: `[a-z][a-z0-9_]{0,62}`.
    StepName, "a step name: a lower-case letter, then at most 62 of a-z, 0-9 and _"
);
name!(
    /// The name of a connection within its pipeline: `[a-z][a-z0-9_]{0,62}`.
    ConnectionName, "a connection name: a lower-case letter, then at most 62 of a-z, 0-9 and _"
);
name!(
    /// The name of a pool, of a pipeline or of the cluster: `[a-z][a-z0-9_]{0,62}`.
    PoolName, "a pool name: a lower-case letter, then at most 62 of a-z, 0-9 and _"
);

macro_rules! bits128 {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// The identity of these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The identity as bytes, most significant first.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self).ok_or_else(|| IdError::new(text, $expected))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

bits128!(
    /// One execution of one version of a pipeline. People see and type a unique prefix: `r-71c`.
    RunId, "a run id: 32 hexadecimal digits"
);
bits128!(
    /// The unit of leasing, derived from run, generation, step and what is to be done: see
    /// [`TaskId::derive`].
    TaskId, "a task id: 32 hexadecimal digits"
);
bits128!(
    /// One cluster: one store and everything it commands. A target remembers whose it is.
    ClusterId, "a cluster id: 32 hexadecimal digits"
);
bits128!(
    /// One connected life of a worker process. A worker that lost its session begins another.
    SessionId, "a session id: 32 hexadecimal digits"
);

impl RunId {
    /// H(pipeline, instant): the run that a pipeline's schedule begins for an instant, in
    /// microseconds since 1970. Whoever begins it, and however often: it is one run.
    #[must_use]
    pub fn of_schedule(pipeline: &PipelineName, instant_micros: i64) -> Self {
        let mut hash = Sha256::new();
        hash.update("schedule/");
        hash.update(pipeline.as_str());
        hash.update("/");
        hash.update(instant_micros.to_be_bytes());
        Self(truncate(&hash.finalize()))
    }

    /// The form people see: `r-` and the first `digits` hexadecimal digits.
    #[must_use]
    pub fn short(&self, digits: usize) -> String {
        let all = self.to_string();
        format!("r-{}", all.get(..digits.clamp(1, 32)).unwrap_or(&all))
    }
}

impl TaskId {
    /// H(run, generation, step, phase, work): the first 16 bytes of SHA-256 over the
    /// length-prefixed parts. `work` is the text of what the task does, such as a partition's
    /// range, so one plan always has the same ids.
    #[must_use]
    pub fn derive(run: &RunId, generation: u32, step: &StepName, phase: u8, work: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(run.as_bytes());
        hash.update(generation.to_be_bytes());
        hash.update([phase]);
        for part in [step.as_str(), work] {
            hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(truncate(&hash.finalize()))
    }

    /// The id of the receipt for the part of the task that is committed while the task goes on.
    #[must_use]
    pub fn part(&self) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update("part");
        Self(truncate(&hash.finalize()))
    }
}

/// What a worker calls itself: unique among the workers of a cluster, chosen by its operator or
/// made from the host's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(String);

impl WorkerId {
    /// The longest worker id, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !text.is_empty() && text.len() <= Self::BYTES_MAX && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::new(
                text,
                "a worker id: at most 128 letters, digits, dots, dashes and underscores",
            ))
        }
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of an attempt of a task, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptNo(u32);

impl AttemptNo {
    /// The first attempt.
    pub const FIRST: Self = Self(1);

    /// The attempt numbered `no`; 0 is taken for the first.
    #[must_use]
    pub const fn new(no: u32) -> Self {
        Self(if no == 0 { 1 } else { no })
    }

    /// The number, at least 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for AttemptNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 over a canonical document: a spec's, a plan's or an order's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DocumentDigest([u8; 32]);

impl DocumentDigest {
    /// The digest of `canonical`, whose bytes must already be in canonical form.
    #[must_use]
    pub fn of(canonical: &[u8]) -> Self {
        Self(Sha256::digest(canonical).into())
    }

    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The form people see: the first six hexadecimal digits.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(6).collect()
    }
}

impl fmt::Display for DocumentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for DocumentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for DocumentDigest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text)
            .map(Self)
            .ok_or_else(|| IdError::new(text, "a digest: 64 hexadecimal digits"))
    }
}

impl TryFrom<String> for DocumentDigest {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<DocumentDigest> for String {
    fn from(digest: DocumentDigest) -> Self {
        digest.to_string()
    }
}

fn truncate(digest: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(digest)
        .for_each(|(byte, of_digest)| *byte = *of_digest);
    bytes
}

/// Writes a piece at once: every key of the store has ids in it, and is written for each task.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for piece in bytes.chunks(32) {
        let mut text = [0; 64];
        let mut length: usize = 0;
        for (pair, byte) in text.chunks_exact_mut(2).zip(piece) {
            pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
            length = length.saturating_add(2);
        }
        let text = text.get(..length).unwrap_or_default();
        f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

/// The digit of a number below 16.
const fn hex_digit(number: u8) -> u8 {
    match number {
        0..=9 => b'0'.saturating_add(number),
        _ => b'a'.saturating_add(number.saturating_sub(10)),
    }
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != N {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_their_text_form() {
        let id = RunId::from_bytes([0x71; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(3), "r-717");
        assert!("71".parse::<RunId>().is_err());
        assert!("Orders".parse::<StepName>().is_err());
        assert!("orders_2".parse::<StepName>().is_ok());
    }

    #[test]
    fn task_ids_depend_on_every_part() {
        let (run, step) = (
            RunId::from_bytes([1; 16]),
            "orders".parse::<StepName>().expect("a legal name"),
        );
        let id = TaskId::derive(&run, 1, &step, 1, "[1, 2)");
        assert_eq!(id, TaskId::derive(&run, 1, &step, 1, "[1, 2)"));
        assert_ne!(id, TaskId::derive(&run, 2, &step, 1, "[1, 2)"));
        assert_ne!(id, TaskId::derive(&run, 1, &step, 1, "[1, 3)"));
        assert_ne!(
            id,
            TaskId::derive(&RunId::from_bytes([2; 16]), 1, &step, 1, "[1, 2)")
        );
    }
}
