//! What a table is cut by that nobody has chosen a rule for. It depends on what stays: on its key and
//! its columns, and not on how many rows it has today, for a later run has to choose the same.

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnKind, PartitionFacts};

use super::catalog::Table;
use super::errors::classify;
use super::hashes::{self, can_hash};
use super::keysets::read_ordered_keys;
use super::nulls::is_inherited;
use super::probe::Probe;
use crate::connector::{ConnectorError, KeyProbe, SourceProbe};

/// The columns that a hash is made of at most: those that are added to a table later come last, and
/// change nothing.
const COLUMNS_MAX: usize = 8;
/// The parts that a key cuts a large table into at most.
const PARTS_MAX: u64 = 1_000;

impl Probe<'_> {
    /// The facts of a table in whole numbers of its key, ranges of its key, ranges of a hash, or in one
    /// piece: the first that it can be cut by.
    pub(super) async fn chosen(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        (key, keeps_bounds): (&KeyProbe, bool),
        rows: i64,
    ) -> Result<PartitionFacts, ConnectorError> {
        let endpoint = self.endpoint;
        let what = format!("read the catalog of {}", asked.relation);
        let failed = |error| classify(endpoint, &what, error);
        let keys = match is_inherited(self.conn, table.oid).await.map_err(failed)? {
            true => Vec::new(), // no key of it covers the rows of its children
            false => read_ordered_keys(self.conn, table.oid)
                .await
                .map_err(failed)?,
        };
        let own = keys.into_iter().find(|key| key.is_whole);
        if let Some(own) = own.map(|own| own.columns) {
            if let [name] = own.as_slice()
                && table
                    .column(name)
                    .is_some_and(|column| is_whole_number(column.facts.kind))
            {
                return self.partition(asked, table, name, rows).await;
            }
            if keeps_bounds {
                let many = u64::try_from(rows).unwrap_or(0) / PARTS_MAX;
                let key = KeyProbe {
                    columns: own,
                    max_rows: key.max_rows.max(many),
                    ..key.clone()
                };
                match self.keyed(asked, table, (&key, rows)).await {
                    Err(error) if is_no_way(&error) => {}
                    found => return found,
                }
            }
        }
        let hashed = hashes::hashable(self.conn, table.oid, COLUMNS_MAX)
            .await
            .map_err(failed)?;
        if can_hash(self.conn) && !hashed.is_empty() {
            match self.hashed(asked, table, &hashed).await {
                Err(error) if is_no_way(&error) => {}
                found => return found,
            }
        }
        Ok(PartitionFacts::in_one_piece())
    }
}

const fn is_whole_number(kind: ColumnKind) -> bool {
    matches!(
        kind,
        ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64
    )
}

/// Whether the table cannot be cut so, which is no fault of the server.
fn is_no_way(error: &ConnectorError) -> bool {
    error.report.code == ErrorCode::UnsupportedPartitionColumn.to_string()
}
