//! What a table is cut by that nobody has chosen a rule for: its key and nothing else, because other
//! columns change, and a row that moved to another part while the table is read would be lost or there
//! twice. It does not depend on how many rows there are, for a later run has to choose the same.

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnKind, PartitionFacts};

use super::catalog::Table;
use super::errors::classify;
use super::keysets::{key_columns, read_ordered_keys};
use super::nulls::is_inherited;
use super::probe::Probe;
use crate::connector::{ConnectorError, KeyProbe, SourceProbe};

/// The parts that a key cuts a large table into at most.
const PARTS_MAX: u64 = 1_000;

impl Probe<'_> {
    /// The facts of a table in whole numbers of its primary key, ranges of its key, ranges of a hash of
    /// its key, or in one piece: the first that it can be cut by.
    pub(super) async fn chosen(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        (key, keeps_bounds): (&KeyProbe, bool),
        rows: i64,
    ) -> Result<PartitionFacts, ConnectorError> {
        let endpoint = self.endpoint;
        let relation = &asked.relation;
        let what = format!("read the catalog of {relation}");
        let failed = |error| classify(endpoint, &what, error);
        let keys = match is_inherited(self.conn, table.oid).await.map_err(failed)? {
            true => Vec::new(), // no key of it covers the rows of its children
            false => read_ordered_keys(self.conn, table.oid)
                .await
                .map_err(failed)?,
        };
        let Some(own) = keys.into_iter().find(|key| key.is_whole) else {
            return Ok(PartitionFacts::in_one_piece());
        };
        let arrives = |name: &String| {
            !asked.columns.exclude.contains(name) && !asked.columns.casts.contains_key(name)
        };
        if let [name] = own.columns.as_slice()
            && own.is_primary
            && arrives(name)
            && table
                .column(name)
                .is_some_and(|column| is_whole_number(column.facts.kind))
        {
            return self.partition(asked, table, name, rows).await;
        }
        let ordered = key_columns(self.conn, endpoint, relation, table, &own.columns).await;
        if keeps_bounds && is_a_way(ordered)? {
            let many = u64::try_from(rows).unwrap_or(0) / PARTS_MAX;
            let key = KeyProbe {
                columns: own.columns,
                max_rows: key.max_rows.max(many),
                ..key.clone()
            };
            return self.keyed(asked, table, (&key, rows)).await;
        }
        let hashed = self.hashed(asked, table, &own.columns).await;
        match hashed {
            Err(error) if is_no_way(&error) => Ok(PartitionFacts::in_one_piece()),
            found => found,
        }
    }
}

/// Whether the table can be cut so; that it cannot is no fault of the server.
fn is_a_way<T>(tried: Result<T, ConnectorError>) -> Result<bool, ConnectorError> {
    match tried {
        Ok(_) => Ok(true),
        Err(error) if is_no_way(&error) => Ok(false),
        Err(error) => Err(error),
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
    error.report.code == ErrorCode::UnsupportedPartitionColumn
}
