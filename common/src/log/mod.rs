//! A database's log of committed changes: positions in it, what it says, and what a batch of it
//! comes to in a table that follows.

mod fold;
mod pgoutput;
mod project;

use std::fmt;
use std::str::FromStr;

pub use fold::{Net, Partial, Step, fold};
pub use pgoutput::{
    ColumnDefinition, LogFault, Message, OldTuple, RelationDefinition, ReplicaTuple, decode,
};
pub use project::{Follower, LogEvent, Unfollowed};

use crate::cursor::Cursor;

/// A position in PostgreSQL's log: every byte of it has one, and what is committed later has a
/// larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// The position of a byte.
    #[must_use]
    pub const fn new(byte: u64) -> Self {
        Self(byte)
    }

    /// How many bytes lie between an earlier position and this one.
    #[must_use]
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
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
            Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) => None,
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

/// A value of a row in the log, as its server writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// NULL.
    Null,
    /// Not in the log, because the change left it as it was.
    Unchanged,
    /// The server's text.
    Text(Vec<u8>),
}

/// What happened to a row of a table, in the columns that are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// It was inserted, or updated and kept its key.
    Put(Vec<Field>),
    /// It was updated, and has another key since.
    Move {
        /// The key that it had.
        from: Vec<Field>,
        /// The row since.
        row: Vec<Field>,
    },
    /// It was deleted.
    Delete {
        /// The key that it had.
        key: Vec<Field>,
    },
    /// All rows were.
    Truncate,
}

impl RowChange {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |row: &[Field]| {
            row.iter()
                .map(|field| match field {
                    Field::Null | Field::Unchanged => size_of::<Field>(),
                    Field::Text(text) => text.len().saturating_add(size_of::<Field>()),
                })
                .fold(size_of::<Self>(), usize::saturating_add)
        };
        match self {
            Self::Put(row) => of(row),
            Self::Move { from, row } => of(from).saturating_add(of(row)),
            Self::Delete { key } => of(key),
            Self::Truncate => of(&[]),
        }
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
