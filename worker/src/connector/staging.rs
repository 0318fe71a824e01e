//! What a source and a target can do beyond their contracts for a table that is read at one point in
//! time by several sessions, into a table beside the one that it is to be published in.

use std::fmt;

use async_trait::async_trait;
use highwater_common::id::RunId;
use highwater_common::spec::TableName;
use highwater_common::token::Fence;

use super::ConnectorError;
use super::requests::{ReadRequest, WriteRequest};
use super::rows::RowStream;

/// Points in time of a source that several sessions can read at.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Holds the point in time that is now: every row that was committed before, and no other one,
    /// until this is dropped. The table cannot be altered meanwhile. It is cut into pieces for
    /// `readers` that read at once.
    ///
    /// # Errors
    /// Those of [`Source::read`](super::Source::read).
    async fn hold(
        &self,
        request: &ReadRequest,
        readers: u32,
    ) -> Result<Box<dyn Snapshot>, ConnectorError>;
}

/// A point in time of a table, as long as it is held.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// Pieces that have no row in common, and all rows of the table together.
    fn pieces(&self) -> &[Pages];

    /// Begins to read a piece, by a session of its own.
    ///
    /// # Errors
    /// Those of [`Source::read`](super::Source::read), and transient `snapshot_lost` when nobody
    /// holds the point in time any more: no other one shows the same rows.
    async fn read(&self, piece: Pages) -> Result<Box<dyn RowStream>, ConnectorError>;
}

/// Some of the pages that a table's rows lie in: those from `start`, up to `end` and without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// The first of them.
    pub start: u64,
    /// The first behind them; `None` of a piece that has all to the end, however far that is.
    pub end: Option<u64>,
}

impl Pages {
    /// All of a table.
    pub const ALL: Self = Self {
        start: 0,
        end: None,
    };

    /// A table of `pages`, cut for so many readers: into several pieces for each, so that all of them
    /// end at about the same time, and none smaller than it is worth a session's beginning.
    #[must_use]
    pub fn cut(pages: u64, readers: u32) -> Vec<Self> {
        const PIECES_EACH: u64 = 4;
        const PAGES_MIN: u64 = 64;
        let pieces = u64::from(readers.max(1)).saturating_mul(PIECES_EACH);
        let each = pages.div_ceil(pieces).max(PAGES_MIN);
        let pieces = pages.div_ceil(each).max(1);
        let bound = |piece: u64| piece.saturating_mul(each);
        let piece = |at: u64| Self {
            start: bound(at),
            end: (at + 1 < pieces).then(|| bound(at + 1)),
        };
        (0..pieces).map(piece).collect()
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (0, None) => f.write_str("all rows"),
            (start, None) => write!(f, "the pages from {start}"),
            (start, Some(end)) => write!(f, "the pages [{start}, {end})"),
        }
    }
}

/// Whose rows are to wait beside which table.
#[derive(Debug, Clone)]
pub struct StageRequest {
    /// The table that they are to be published in.
    pub table: TableName,
    /// The run.
    pub run: RunId,
    /// The stream whose run it is.
    pub stream: String,
    /// The attempt, by its fence: no other one ever writes there.
    pub attempt: Fence,
}

/// Tables of a target that rows wait in until all of them are there. Each is one attempt's own, so
/// that whatever another one still writes is nothing to it.
#[async_trait]
pub trait Stages: Send + Sync {
    /// Makes an empty one with these columns of the table that is written, and nobody else's to
    /// read. A server that crashes may lose its rows.
    async fn make(
        &self,
        request: &StageRequest,
        columns: &[&str],
    ) -> Result<TableName, ConnectorError>;

    /// Writes every row of `rows` there, to `request.table`, in a transaction of its own; tells how
    /// many the server says it took.
    async fn fill(
        &self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError>;
}

/// What a data transaction does beyond [`TargetTx`](super::TargetTx) where rows can wait in a table
/// beside.
#[async_trait]
pub trait ReplaceTx: Send {
    /// Brings the held table to hold the rows that wait in `stage`, and no other ones; touches none
    /// that it holds already, where it can tell.
    async fn replace_by(
        &mut self,
        request: &WriteRequest,
        stage: &TableName,
    ) -> Result<(), ConnectorError>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn the_pieces_of_a_table_meet_and_reach_from_end_to_end(
            pages in 0_u64..1_000_000,
            readers in 0_u32..64,
        ) {
            let pieces = Pages::cut(pages, readers);
            prop_assert_eq!(pieces[0].start, 0);
            for both in pieces.windows(2) {
                prop_assert_eq!(both[0].end, Some(both[1].start));
                prop_assert!(both[0].start < both[1].start);
            }
            prop_assert_eq!(pieces[pieces.len() - 1].end, None);
            prop_assert!(pieces.len() <= 4 * readers.max(1) as usize);
        }
    }

    #[test]
    fn a_small_table_is_one_piece_and_a_large_one_several_for_each_reader() {
        assert_eq!(Pages::cut(0, 4), [Pages::ALL]);
        assert_eq!(Pages::cut(64, 4), [Pages::ALL]);
        assert_eq!(Pages::cut(65, 4).len(), 2);
        assert_eq!(Pages::cut(1_000_000, 4).len(), 16);
        assert_eq!(Pages::ALL.to_string(), "all rows");
        let last = Pages {
            start: 64,
            end: None,
        };
        assert_eq!(last.to_string(), "the pages from 64");
    }
}
