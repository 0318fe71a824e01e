//! Rows of a target whose keys its source has no more: found by comparing keys, and removed.

use async_trait::async_trait;

use highwater_common::spec::TableName;

use super::ConnectorError;
use super::requests::WriteRequest;
use super::rows::RowStream;

/// What a comparison of keys came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compared {
    /// Keys of the source.
    pub came: u64,
    /// Rows of the target that were compared: those that are marked as deleted are not.
    pub held: u64,
    /// Rows among them that were removed.
    pub gone: u64,
}

impl Compared {
    /// This and what came of other rows.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            came: self.came.saturating_add(other.came),
            held: self.held.saturating_add(other.held),
            gone: self.gone.saturating_add(other.gone),
        }
    }
}

/// What a source says to whoever compares all of its keys.
#[async_trait]
pub trait ComparedKeys: Send + Sync {
    /// Whether all sessions are of one server, or of whichever writes: what is read in one of them is no older than
    /// what was read before in another.
    fn is_one_server(&self) -> bool;

    /// Whether an index leads with the column: then a range of it is found without reading the others.
    async fn is_led_by(&self, table: &TableName, column: &str) -> Result<bool, ConnectorError>;
}

/// What a data transaction does beyond [`TargetTx`](super::TargetTx) where rows can be removed
/// because others do not name them.
#[async_trait]
pub trait ReconcileTx: Send {
    /// Compares the rows of the held table in `request.rows` with the keys that come, all of those
    /// that the source has in the same range, and removes the rows that none of them names: it
    /// deletes them, or, where `request.merge_by.marks` names a column, sets that to now. The
    /// request's columns are the key's. A row with a NULL in its key stays. Holds no key in memory
    /// but those on their way.
    async fn remove_missing(
        &mut self,
        request: &WriteRequest,
        keys: &mut dyn RowStream,
    ) -> Result<Compared, ConnectorError>;
}
