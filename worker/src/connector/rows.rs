//! Rows on their way: which of a table are meant, in what form they travel, and their values.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use highwater_common::facts::CursorForm;
use highwater_common::placing::Placing;
use highwater_common::range::{CursorRange, Slice};

use super::ConnectorError;

/// Which rows of a table are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    All,
    /// Those of a slice of a partition column.
    Slice(SliceRows),
    /// Those that the source itself places in a slice.
    Placed(PlacedRows),
}

/// The rows of a slice, as one server finds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceRows {
    /// The partition column.
    pub column: String,
    /// How its positions are written for this server.
    pub form: CursorForm,
    /// Which of them.
    pub slice: Slice,
}

/// The rows that a source places in a slice: nobody else knows which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRows {
    /// The rule by which it does.
    pub placing: Placing,
    /// Which of them.
    pub slice: Slice,
}

impl PlacedRows {
    /// Whether they are all rows of a table that nothing cuts.
    #[must_use]
    pub fn are_all(&self) -> bool {
        matches!(&self.placing, Placing::Keys(keys) if keys.columns.is_empty())
            && self.slice == Slice::Range(CursorRange::ALL)
    }
}

impl Rows {
    /// The slice of a column, where rows of one are meant.
    #[must_use]
    pub const fn slice(&self) -> Option<&SliceRows> {
        match self {
            Self::All | Self::Placed(_) => None,
            Self::Slice(rows) => Some(rows),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all rows"),
            Self::Slice(rows) => rows.slice.fmt(f),
            Self::Placed(rows) => rows.slice.fmt(f),
        }
    }
}

/// How rows travel between a source and a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// PostgreSQL's binary COPY stream, passed through untouched; only between identical portable
    /// types.
    CopyBinary,
    /// PostgreSQL's text COPY stream, passed through untouched.
    CopyText,
    /// Typed values.
    Values,
}

/// A value on its way, in a form that loses nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A whole number, where the server keeps it as one (SQLite).
    Integer(i64),
    /// A double, where the server keeps it as one (SQLite).
    Real(f64),
    /// Text, or the server's own text form of any other type.
    Text(String),
    /// What SQLite holds as text and is none: bytes that are not UTF-8.
    RawText(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A bounded piece of the rows being read.
#[derive(Debug, Clone, PartialEq)]
pub enum RowBatch {
    /// Bytes of a COPY stream; a frame may end inside a row.
    Copy(Bytes),
    /// Whole rows, each with one value per requested column.
    Rows(Vec<Vec<Value>>),
}

/// Rows being read. Dropping it closes the connection behind it, which is never used again.
#[async_trait]
pub trait RowStream: Send {
    /// The next piece, at most about 1 MiB; `None` once the source has ended well.
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError>;
    /// Whole rows seen so far; the number read once `next` gave `None`.
    fn rows(&self) -> u64;
    /// Bytes seen so far.
    fn bytes(&self) -> u64;
}
