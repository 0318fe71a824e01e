//! What a file says of a table that is to be written.

use highwater_common::cursor::CursorKind;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{CursorForm, TargetFacts, TargetTableFacts};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::super::catalog::{self, Table};
use super::super::errors::DatabaseFile;
use super::super::rows::value_of;
use super::super::{ledger, position, receipts, sql, triggers};
use crate::connector::{ConnectorError, TargetProbe, Value};

pub(super) struct Probing<'a> {
    pub(super) place: &'a DatabaseFile,
    pub(super) probe: &'a TargetProbe,
}

impl Probing<'_> {
    pub(super) async fn fill(
        &self,
        conn: &mut SqliteConnection,
        facts: &mut TargetFacts,
    ) -> Result<(), ConnectorError> {
        let meta = ledger::meta(conn, self.place).await?;
        if let Some(meta) = &meta {
            ledger::belongs(self.place, meta, &self.probe.cluster)?;
        }
        facts.fingerprint = ledger::fingerprint(self.place, meta.as_ref()).await?;
        let table = catalog::find(conn, self.place, &self.probe.table).await?;
        if let (Some(_), Some((_, kind))) = (&meta, &self.probe.partition) {
            receipts::check(
                conn,
                self.place,
                &self.probe.stream,
                &self.probe.table,
                table.is_some(),
            )
            .await?;
            let coverage =
                ledger::coverage(conn, self.place, &self.probe.stream, *kind, None).await?;
            if table.is_some() {
                (facts.covered, facts.covered_null) = (coverage.told(*kind), coverage.null());
            }
        }
        if let Some(table) = table {
            facts.table = Some(self.table(conn, &table).await?);
        }
        Ok(())
    }

    async fn table(
        &self,
        conn: &mut SqliteConnection,
        table: &Table,
    ) -> Result<TargetTableFacts, ConnectorError> {
        let has_rows = self.value(conn, "1", "limit 1").await? != Value::Null;
        let partition = self
            .probe
            .cut_column()
            .filter(|(column, _)| table.column(column).is_some());
        let partition_form = match partition {
            Some((column, kind)) => self.form(conn, column, kind).await?,
            None => None,
        };
        Ok(TargetTableFacts {
            partition_form,
            partition_indexed: partition.is_some_and(|(column, _)| table.leads_with(column)),
            has_rows,
            reactions: triggers::read(conn, self.place, &self.probe.table).await?,
            ..table.as_target()
        })
    }

    /// The one form that the values there have. `None` without values: then the rows' own form will
    /// be the column's.
    async fn form(
        &self,
        conn: &mut SqliteConnection,
        column: &str,
        kind: CursorKind,
    ) -> Result<Option<CursorForm>, ConnectorError> {
        let quoted = sql::ident(column);
        let finite = format!("where {quoted} not in {}", position::INFINITIES);
        let sample = self
            .value(conn, &quoted, &format!("{finite} limit 1"))
            .await?;
        if sample == Value::Null {
            return Ok((kind == CursorKind::Integer).then_some(CursorForm::Native));
        }
        let strict = match &sample {
            Value::Integer(_) if kind != CursorKind::Integer => {
                let ends = [
                    self.value(conn, &format!("min({quoted})"), &finite).await?,
                    self.value(conn, &format!("max({quoted})"), &finite).await?,
                ];
                match ends {
                    [Value::Integer(min), Value::Integer(max)] => position::epoch_form(min, max),
                    _ => None,
                }
            }
            other => position::form_of(other).map(|(_, form)| form),
        };
        if let Some(form) = strict
            && self
                .all(conn, &finite, &position::has_form(column, form))
                .await?
        {
            return Ok(Some(form));
        }
        for separator_t in [false, true] {
            if self
                .all(
                    conn,
                    &finite,
                    &position::has_free_fraction(column, separator_t, None),
                )
                .await?
            {
                return Ok(Some(CursorForm::TextTime {
                    separator_t,
                    fraction_digits: 0,
                    zulu: false,
                }));
            }
        }
        let message = format!(
            "column `{column}` of the target table `{}` holds values of several forms, so that its \
             ranges cannot be replaced. Bring them to one form, or load another table",
            self.probe.table
        );
        Err(self.place.permanent(ErrorCode::PartitionForm, message))
    }

    async fn all(
        &self,
        conn: &mut SqliteConnection,
        finite: &str,
        condition: &str,
    ) -> Result<bool, ConnectorError> {
        let stray = format!("{finite} and not ({condition}) limit 1");
        Ok(self.value(conn, "1", &stray).await? == Value::Null)
    }

    async fn value(
        &self,
        conn: &mut SqliteConnection,
        what: &str,
        rest: &str,
    ) -> Result<Value, ConnectorError> {
        let failed = || {
            self.place
                .failed(format!("look at the rows of {}", self.probe.table))
        };
        let text = format!(
            "select {what} from {} {rest}",
            sql::table(&self.probe.table)
        );
        let row = sql::once(text)
            .fetch_optional(conn)
            .await
            .map_err(failed())?;
        let Some(row) = row else {
            return Ok(Value::Null);
        };
        let raw = row.try_get_raw(0).map_err(failed())?;
        value_of(raw).map_err(|reason| self.place.permanent(ErrorCode::ValueUnreadable, reason))
    }
}
