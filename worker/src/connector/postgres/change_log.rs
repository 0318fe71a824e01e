//! The log of a server's changes, by a replication slot and SQL: what a slot tells is peeked at in
//! bounded pieces, and let go once the target holds it. No connection of the replication protocol
//! is needed.

use std::time::Duration;

use async_trait::async_trait;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind};
use highwater_common::log::{Follower, LogEvent, Lsn, Unfollowed, decode};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;

use super::catalog::qualified;
use super::copy_out::{CopyOrder, CopyOut};
use super::errors::{classify, permanent};
use super::log_identity;
use super::session::{Endpoint, SessionRole};
use super::slot::{Slot, check_table, gap, make_publication, make_slot, position, still_open};
use super::slot_standing;
use super::source::PostgresSource;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{
    ChangeLog, ChangeStream, ConnectorError, LogEnd, LogOpened, LogRequest, LogShown, RowBatch,
    RowFormat, RowStream, Value,
};

/// A piece of the log ends with the transaction that reaches so many messages. The server keeps a
/// piece on its disk while it is read.
const PIECE_MESSAGES: i64 = 200_000;
const PAUSE: Duration = Duration::from_millis(50);

#[async_trait]
impl ChangeLog for PostgresSource {
    async fn open(
        &self,
        request: &LogRequest,
        after: Option<Lsn>,
        within: Duration,
    ) -> Result<LogOpened, ConnectorError> {
        let endpoint = &self.endpoint;
        // What makes a slot changes settings of its session, which nobody gets after it.
        let mut conn = match after {
            Some(_) => endpoint.open_or_take(SessionRole::Source).await?,
            None => endpoint.open(SessionRole::Source).await?,
        };
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        let request = &LogRequest {
            table,
            ..request.clone()
        };
        let found = Slot::find(&mut conn, endpoint, &request.slot).await?;
        if after.is_none() && found.is_none() {
            make_publication(&mut conn, endpoint, request).await?;
        }
        check_table(&mut conn, endpoint, request).await?;
        let begins = match (found, after) {
            (Some(slot), after) => slot.begins(endpoint, request, after)?,
            (None, Some(after)) => {
                let why = format!("there is no replication slot {}", request.slot);
                return Err(gap(endpoint, request, after, &why));
            }
            (None, None) => make_slot(&mut conn, endpoint, request, within).await?,
        };
        if let Some(after) = after {
            let ends = end(&mut conn, endpoint).await?;
            if ends < after {
                let why = format!("its log ends at {ends}: was the server put back to a backup?");
                return Err(gap(endpoint, request, after, &why));
            }
        }
        let identity = log_identity::read(&mut conn, endpoint, request).await?;
        match after {
            Some(_) => endpoint.keep_or_close(conn).await,
            None => drop(conn.close().await),
        }
        Ok(LogOpened { begins, identity })
    }

    async fn settle(&self, within: Duration) -> Result<(), ConnectorError> {
        let endpoint = &self.endpoint;
        let mut conn = endpoint.open(SessionRole::Source).await?;
        let failed = |error| classify(endpoint, "look at the open transactions", error);
        let asked: i64 = sqlx::query_scalar("select pg_current_xact_id()::text::int8")
            .fetch_one(&mut conn)
            .await
            .map_err(failed)?;
        let begun = Instant::now();
        loop {
            let over: bool = sqlx::query_scalar(
                "select pg_snapshot_xmin(pg_current_snapshot())::text::int8 >= $1",
            )
            .bind(asked)
            .fetch_one(&mut conn)
            .await
            .map_err(failed)?;
            if over {
                conn.close().await.ok();
                return Ok(());
            }
            if begun.elapsed() >= within {
                return Err(still_open(&mut conn, endpoint).await);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn end(&self, within: Duration) -> Result<LogEnd, ConnectorError> {
        let endpoint = &self.endpoint;
        let mut conn = endpoint.open_or_take(SessionRole::Source).await?;
        // What commits later is later by the clock, too.
        let clock = "select (extract(epoch from clock_timestamp()) * 1000000)::int8";
        let at: i64 = sqlx::query_scalar(clock)
            .fetch_one(&mut conn)
            .await
            .map_err(|error| classify(endpoint, "read the clock", error))?;
        let position = end(&mut conn, endpoint).await?;
        let begun = Instant::now();
        let is_durable = loop {
            let durable: bool =
                sqlx::query_scalar("select pg_current_wal_flush_lsn() >= $1::text::pg_lsn")
                    .bind(position.to_string())
                    .fetch_one(&mut conn)
                    .await
                    .map_err(|error| classify(endpoint, "read where the log ends", error))?;
            // What is committed is on disk. What is not may wait there for long, and then its end is
            // no place to begin at: it may lie within what is written next.
            if durable || begun.elapsed() >= within {
                break durable;
            }
            tokio::time::sleep(PAUSE).await;
        };
        endpoint.keep_or_close(conn).await;
        Ok(LogEnd {
            position,
            is_durable,
            at,
        })
    }

    async fn read(
        &self,
        request: &LogRequest,
        after: Lsn,
        end: Lsn,
    ) -> Result<Box<dyn ChangeStream>, ConnectorError> {
        let endpoint = &self.endpoint;
        let mut conn = endpoint.open_or_take(SessionRole::Source).await?;
        let table = qualified(&mut conn, endpoint, &request.table).await?;
        let publication = format!("\"{}\"", request.publication.replace('"', "\"\""));
        let copy = Sql::new(Dialect::Postgres, "copy (select data from ")
            .text("pg_catalog.pg_logical_slot_peek_binary_changes(")
            .literal(&request.slot)
            .text(", ")
            .literal(&end.to_string())
            .text(", ")
            .integer(PIECE_MESSAGES)
            .text(", 'proto_version', '1', 'publication_names', ")
            .literal(&publication)
            .text(")) to stdout (format text)");
        let what = format!("the replication slot {}", request.slot);
        let begin = conn.execute("begin").await;
        begin.map_err(|error| classify(endpoint, &format!("read {what}"), error))?;
        let order = CopyOrder {
            endpoint: endpoint.clone(),
            what,
            statement: copy.as_str().to_owned(),
            format: RowFormat::Values,
            columns: vec![data_column()],
        };
        let columns: Vec<String> = request.columns.iter().map(source_name).collect();
        let key = request.key.iter().filter_map(|name| {
            let columns = &request.columns;
            columns.iter().position(|column| column.name == *name)
        });
        let follower = Follower::new(
            table,
            columns,
            request.left_out.clone(),
            key.collect(),
            after,
        );
        Ok(Box::new(Changes {
            messages: CopyOut::begin(conn, order).await?,
            follower,
            place: endpoint.to_string(),
        }))
    }

    async fn standing(&self, request: &LogRequest) -> Result<LogShown, ConnectorError> {
        slot_standing::read(&self.endpoint, request).await
    }

    async fn drop_slot(&self, request: &LogRequest) -> Result<(), ConnectorError> {
        slot_standing::drop_slot(&self.endpoint, request).await
    }

    async fn confirm(&self, request: &LogRequest, up_to: Lsn) -> Result<(), ConnectorError> {
        let endpoint = &self.endpoint;
        let mut conn = endpoint.open_or_take(SessionRole::Source).await?;
        sqlx::query(
            "select pg_replication_slot_advance(slot_name, $2::text::pg_lsn) from \
             pg_replication_slots where slot_name = $1 and confirmed_flush_lsn < $2::text::pg_lsn",
        )
        .bind(&request.slot)
        .bind(up_to.to_string())
        .execute(&mut conn)
        .await
        .map_err(|error| {
            let what = format!("confirm the replication slot {}", request.slot);
            classify(endpoint, &what, error)
        })?;
        endpoint.keep_or_close(conn).await;
        Ok(())
    }
}

fn source_name(column: &ColumnFacts) -> String {
    column.source_name().to_owned()
}

/// The one column of what a slot tells.
fn data_column() -> ColumnFacts {
    ColumnFacts {
        name: "data".to_owned(),
        type_name: "bytea".to_owned(),
        kind: ColumnKind::Bytes,
        nullable: false,
        binary_portable: true,
        definition: None,
        origin: None,
    }
}

/// Where the log ends: behind a record, and before the next.
async fn end(conn: &mut PgConnection, endpoint: &Endpoint) -> Result<Lsn, ConnectorError> {
    let text: String = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text")
        .fetch_one(conn)
        .await
        .map_err(|error| classify(endpoint, "read where the log ends", error))?;
    position(endpoint, &text)
}

/// A piece of the log.
struct Changes {
    messages: CopyOut,
    follower: Follower,
    /// For messages.
    place: String,
}

#[async_trait]
impl ChangeStream for Changes {
    async fn next(&mut self) -> Result<Option<Vec<LogEvent>>, ConnectorError> {
        let Some(batch) = self.messages.next().await? else {
            return Ok(None);
        };
        let RowBatch::Rows(rows) = batch else {
            return Err(self.unreadable("what a slot tells came in another form than was asked"));
        };
        let mut events = Vec::new();
        for row in rows {
            let [Value::Bytes(bytes)] = row.as_slice() else {
                return Err(self.unreadable("a slot tells something that is no message"));
            };
            let message = decode(bytes).map_err(|error| self.unreadable(&error.to_string()))?;
            match self.follower.take(message) {
                Ok(event) => events.extend(event),
                Err(error) => return Err(self.unfollowed(&error)),
            }
        }
        Ok(Some(events))
    }

    fn is_at_end(&self) -> bool {
        i64::try_from(self.messages.rows()).is_ok_and(|rows| rows < PIECE_MESSAGES)
    }
}

impl Changes {
    fn unreadable(&self, why: &str) -> ConnectorError {
        let message = format!("cannot read the log of {}: {why}", self.place);
        permanent(ErrorCode::LogUnreadable, message)
    }

    fn unfollowed(&self, error: &Unfollowed) -> ConnectorError {
        match error {
            Unfollowed::Columns { .. } => {
                let message = format!(
                    "{error} (on {}). Nothing behind that is applied: alter the target likewise, \
                     and copy the table anew (`highwater cdc resync FILE STEP --reason TEXT`)",
                    self.place
                );
                permanent(ErrorCode::SchemaChanged, message)
            }
            Unfollowed::NoKey { .. } | Unfollowed::NoRelation => {
                self.unreadable(&error.to_string())
            }
        }
    }
}
