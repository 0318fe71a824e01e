//! Where a target keeps how far its streams have come.

use async_trait::async_trait;
use highwater_common::spec::TableName;
use highwater_common::window::StoredWatermark;

use super::log::LogPosition;
use super::{ConnectorError, ForgetOutcome, PlaceRequest};

/// Where the watermarks of a target's streams stand. They move with the rows alone
/// ([`GuardStep::watermark`](super::GuardStep::watermark)), and go back where their rows are
/// forgotten.
#[async_trait]
pub trait Watermarks: Send + Sync {
    /// Where a stream's watermark stands; `None` of one that has none. Changes nothing.
    ///
    /// # Errors
    /// Permanent `ledger_unreadable` when it holds what no version has written.
    async fn watermark(&self, stream: &str) -> Result<Option<StoredWatermark>, ConnectorError>;

    /// The same of a stream that follows a source's log, with what is kept beside a position in it. A
    /// ledger that an earlier version has made gets room for that.
    ///
    /// # Errors
    /// Permanent `ledger_unreadable` when it holds what no version has written.
    async fn log_position(&self, stream: &str) -> Result<Option<LogPosition>, ConnectorError> {
        let watermark = self.watermark(stream).await?;
        Ok(watermark.map(|watermark| LogPosition {
            watermark,
            identity: None,
            reached_at: None,
            live_since: None,
        }))
    }

    /// Whether a person has said that the rows of the table are the stream's own and to be copied anew
    /// ([`ForgetRequest::resyncs`](super::ForgetRequest::resyncs)), and it still is the table that they were written to.
    async fn is_resynced(&self, _stream: &str, _table: &TableName) -> Result<bool, ConnectorError> {
        Ok(false)
    }

    /// Takes a stream as [`Target::prepare`](super::Target::prepare) does, and puts its watermark elsewhere, or takes it
    /// away.
    ///
    /// # Errors
    /// Permanent `bad_position` when the text is no position of the watermark's kind.
    async fn place(&self, request: &PlaceRequest) -> Result<ForgetOutcome, ConnectorError>;
}
