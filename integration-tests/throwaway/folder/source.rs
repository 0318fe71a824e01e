//! The read side: what a document says, as of one commit.

use std::time::Duration;

use async_trait::async_trait;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{CursorForm, Engine, PartitionFacts, TableFacts};
use highwater_common::left_out::{LeftOut, Tally};
use highwater_common::spec::{Relation, TableName};

use super::store::Place;
use super::table::{position, value};
use crate::connector::{
    ConnectorError, LeftOutRequest, ReadRequest, RowBatch, RowStream, Rows, SliceRows, Source,
    SourceProbe, Value,
};

/// Rows of a batch.
const BATCH_ROWS: usize = 500;

/// A folder to read from.
#[derive(Debug)]
pub struct FolderSource(pub Place);

#[async_trait]
impl Source for FolderSource {
    async fn probe(&self, probe: &SourceProbe) -> Result<TableFacts, ConnectorError> {
        let data = self.0.load()?;
        let table = self.0.table(&data, table_of(&self.0, &probe.relation)?)?;
        for name in probe.columns.named().chain(&probe.partition_column) {
            table.known(&self.0, name)?;
        }
        if !probe.columns.casts.is_empty() {
            return Err(self.0.permanent(ErrorCode::CastImpossible, "a folder casts nothing"));
        }
        let partition = probe.partition_column.as_ref().and_then(|name| {
            let at = table.at(name)?;
            let found = || table.rows.iter().filter_map(|row| position(row, at));
            Some(PartitionFacts {
                column: name.clone(),
                kind: CursorKind::Integer,
                form: CursorForm::Native,
                min: found().min(),
                max: found().max(),
                nullable: table.columns[at].nullable,
                null_rows: u64::try_from(table.rows.len() - found().count()).ok(),
                left_out: None,
                indexed: true,
                placing: None,
                histogram: Vec::new(),
                empty: Vec::new(),
            })
        });
        let is_read = |name: &String| !probe.columns.exclude.contains(name);
        let columns = table.columns.iter().filter(|own| is_read(&own.name));
        Ok(TableFacts {
            definition: None,
            engine: Engine::Folder,
            columns: columns.cloned().collect(),
            key: match table.key.iter().all(is_read) {
                true => table.key.clone(),
                false => Vec::new(),
            },
            rows: table.rows.len() as u64,
            rows_exact: true,
            bytes: serde_json::to_vec(&table.rows).map_or(0, |bytes| bytes.len() as u64),
            filtered: false,
            partition,
        })
    }

    async fn count_left_out(&self, request: &LeftOutRequest) -> Result<LeftOut, ConnectorError> {
        let data = self.0.load()?;
        let table = self.0.table(&data, &request.table)?;
        let at = table.known(&self.0, &request.partition_column)?;
        let mut found = LeftOut::NONE;
        for row in &table.rows {
            let kind = match position(row, at) {
                None => &mut found.null,
                Some(at) if request.whole.start().is_some_and(|start| at < start) => {
                    &mut found.before
                }
                Some(at) if request.whole.end().is_some_and(|end| at >= end) => &mut found.behind,
                Some(_) => continue,
            };
            *kind = kind.plus(Tally::Exactly(1));
        }
        Ok(found)
    }

    async fn read(&self, request: &ReadRequest) -> Result<Box<dyn RowStream>, ConnectorError> {
        let data = self.0.load()?;
        let table = self.0.table(&data, table_of(&self.0, &request.relation)?)?;
        let wanted = request
            .columns
            .iter()
            .map(|own| table.known(&self.0, own.source_name()));
        let wanted: Vec<usize> = wanted.collect::<Result<_, _>>()?;
        let meant = table.meant(&self.0, &request.rows)?;
        let rows = table.rows.iter().filter(|row| meant(row));
        let rows = rows.map(|row| wanted.iter().map(|at| value(&row[*at])).collect());
        Ok(Box::new(FolderRows {
            left: rows.collect::<Vec<_>>().into_iter(),
            rows: 0,
            bytes: 0,
        }))
    }

    async fn position_at(
        &self,
        name: &TableName,
        of: &SliceRows,
        _: CursorKind,
        before: u64,
    ) -> Result<Option<Cursor>, ConnectorError> {
        let data = self.0.load()?;
        let table = self.0.table(&data, name)?;
        let at = table.known(&self.0, &of.column)?;
        let meant = table.meant(&self.0, &Rows::Slice(of.clone()))?;
        let rows = table.rows.iter().filter(|row| meant(row));
        let mut found: Vec<Cursor> = rows.filter_map(|row| position(row, at)).collect();
        found.sort();
        Ok(usize::try_from(before)
            .ok()
            .and_then(|before| found.get(before).copied()))
    }

    async fn count(
        &self,
        from: &Relation,
        rows: &[Rows],
        _: Duration,
    ) -> Result<u64, ConnectorError> {
        let data = self.0.load()?;
        let table = self.0.table(&data, table_of(&self.0, from)?)?;
        let mut all = 0;
        for kind in rows {
            let meant = table.meant(&self.0, kind)?;
            all += table.rows.iter().filter(|row| meant(row)).count() as u64;
        }
        Ok(all)
    }
}

/// A folder has tables alone.
fn table_of<'a>(place: &Place, from: &'a Relation) -> Result<&'a TableName, ConnectorError> {
    let refused = || place.permanent(ErrorCode::QueryRefused, "a folder answers no query");
    from.table().ok_or_else(refused)
}

/// The rows of a slice, read at once.
struct FolderRows {
    left: std::vec::IntoIter<Vec<Value>>,
    rows: u64,
    bytes: u64,
}

#[async_trait]
impl RowStream for FolderRows {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        let batch: Vec<Vec<Value>> = self.left.by_ref().take(BATCH_ROWS).collect();
        let size = |value: &Value| match value {
            Value::Text(text) => text.len() as u64,
            _ => 8,
        };
        self.rows += batch.len() as u64;
        self.bytes += batch.iter().flatten().map(size).sum::<u64>();
        Ok((!batch.is_empty()).then_some(RowBatch::Rows(batch)))
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
