//! Positions in PostgreSQL's log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cursor::Cursor;

/// A position in PostgreSQL's log: every byte of it has one, and what is committed later has a
/// larger one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Lsn(u64);

impl Lsn {
    /// The position of a byte.
    #[must_use]
    pub const fn new(byte: u64) -> Self {
        Self(byte)
    }

    /// Which byte it is.
    #[must_use]
    pub const fn byte(self) -> u64 {
        self.0
    }

    /// The position as a ledger keeps it. A log would have to hold eight exbibytes to leave the
    /// range of a cursor.
    #[must_use]
    pub fn to_cursor(self) -> Cursor {
        Cursor::Integer(i64::try_from(self.0).unwrap_or(i64::MAX))
    }

    /// The position that a ledger keeps; `None` of a cursor that is none.
    #[must_use]
    pub fn of_cursor(cursor: Cursor) -> Option<Self> {
        match cursor {
            Cursor::Integer(byte) => u64::try_from(byte).ok().map(Self),
            Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) | Cursor::Placed(..) => None,
        }
    }
}

impl fmt::Display for Lsn {
    /// As the server writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no position in a log")]
pub struct NoPosition(String);

impl FromStr for Lsn {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let half = |part: &str| u32::from_str_radix(part, 16).ok().map(u64::from);
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| NoPosition(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_as_the_server_writes_it() {
        for (text, byte) in [
            ("0/0", 0),
            ("1A/7F22B0C8", 0x1A_7F22_B0C8),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Lsn(byte)));
            assert_eq!(Lsn(byte).to_string(), text);
        }
        for text in ["", "1", "/", "1/", "1/100000000", "-1/0", "g/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
        assert_eq!(Lsn::of_cursor(Lsn(7).to_cursor()), Some(Lsn(7)));
        assert_eq!(Lsn::of_cursor(Cursor::Integer(-1)), None);
    }
}
