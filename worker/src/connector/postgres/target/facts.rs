//! What a probe finds out of the target: its table as it stands, or what would become of one that
//! is made.

use highwater_common::facts::{CreatedAs, TargetTableFacts, Uncarried};
use highwater_common::spec::TableName;
use sqlx::PgConnection;

use super::super::catalog::{find_table, is_indexed, qualified_or_new, read_key, read_unique};
use super::super::created::created_type;
use super::super::exchange::read_exchange_facts;
use super::super::forms::position_form;
use super::super::policies::look_at_target;
use super::super::references::read_references;
use super::super::triggers::read_reactions;
use super::super::twin::{Making, is_unfinished, try_making};
use super::PostgresTarget;
use crate::connector::{ConnectorError, TargetProbe};

impl PostgresTarget {
    /// What prepare would create in another type than the source's.
    pub(super) async fn created_as(
        &self,
        conn: &mut PgConnection,
        probe: &TargetProbe,
    ) -> Result<Vec<CreatedAs>, ConnectorError> {
        let column = probe
            .partition
            .as_ref()
            .map_or("", |(column, _)| column.as_str());
        let mut told = Vec::new();
        for one in &probe.columns {
            let made = created_type(conn, probe.source_engine, one, Some(column)).await;
            told.extend(
                made.map_err(self.failed("look for the source's types"))?
                    .told()
                    .cloned(),
            );
        }
        Ok(told)
    }

    /// What a table that is made like the source's would not get.
    pub(super) async fn uncarried(
        &self,
        conn: &mut PgConnection,
        probe: &TargetProbe,
        found: Option<&TargetTableFacts>,
    ) -> Result<Vec<Uncarried>, ConnectorError> {
        let Some(twin) = &probe.twin else {
            return Ok(Vec::new());
        };
        let table = match found {
            Some(found) if !found.unfinished => return Ok(Vec::new()),
            None => qualified_or_new(conn, &self.endpoint, &probe.table).await?,
            Some(_) => TableName {
                name: "_highwater_tried".to_owned(),
                ..probe.table.clone()
            },
        };
        let making = Making {
            table: &table,
            twin,
            columns: &probe.columns,
            partition_column: probe.cut_column().map(|(column, _)| column),
            stream: &probe.stream,
        };
        let tried = try_making(conn, &making).await;
        tried.map_err(self.failed("try what the source's table is made of"))
    }

    pub(super) async fn table_facts(
        &self,
        conn: &mut PgConnection,
        probe: &TargetProbe,
    ) -> Result<Option<TargetTableFacts>, ConnectorError> {
        let failed = self.failed("probe the target");
        let Some(table) = find_table(conn, &probe.table).await.map_err(&failed)? else {
            return Ok(None);
        };
        let (mut partition_form, mut partition_indexed) = (None, false);
        if let Some((name, kind)) = probe.cut_column() {
            if let Some(column) = table.column(name) {
                partition_form =
                    position_form(conn, &self.endpoint, &probe.table, column, kind).await?;
            }
            partition_indexed = is_indexed(conn, table.oid, name).await.map_err(&failed)?;
        }
        look_at_target(conn, &self.endpoint, &probe.table).await?;
        let exchange = match probe.exchange {
            true => Some(
                read_exchange_facts(conn, table.oid)
                    .await
                    .map_err(&failed)?,
            ),
            false => None,
        };
        let has_rows = self.any_row(conn, &probe.table).await?;
        Ok(Some(TargetTableFacts {
            key: read_key(conn, table.oid, false).await.map_err(&failed)?,
            unique: read_unique(conn, table.oid).await.map_err(&failed)?,
            partition_form,
            partition_indexed,
            has_rows,
            unfinished: is_unfinished(conn, &probe.table, &probe.stream)
                .await
                .map_err(&failed)?,
            reactions: read_reactions(conn, table.oid).await.map_err(&failed)?,
            exchange,
            referenced_by: read_references(conn, table.oid).await.map_err(&failed)?,
            ..table.as_target()
        }))
    }
}
