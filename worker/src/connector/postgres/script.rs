//! Runs statements of the user's own in the data transaction: as the role of the connection, with
//! its own search path, and without a limit of time but the attempt's.

use async_trait::async_trait;
use highwater_common::cursor_form::CursorForm;
use sqlx::{AssertSqlSafe, Executor};

use super::data::OpenTx;
use super::errors::is_state;
use super::pins::{Path, set_path};
use crate::connector::position;
use crate::connector::script::ended_transaction;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{BoundStatement, BoundValue, ConnectorError, ScriptTx};

/// By this it is known that the transaction is still the same.
const BEGIN: &str = "savepoint highwater_script; set local statement_timeout = 0; set local \
     idle_in_transaction_session_timeout = 0";
const NO_SUCH_SAVEPOINT: &str = "3B001";
const NO_TRANSACTION: &str = "25P01";

#[async_trait]
impl ScriptTx for OpenTx {
    async fn run(&mut self, statements: &[BoundStatement]) -> Result<u64, ConnectorError> {
        let failed = self.session.failed("run statements");
        let place = self.session.endpoint.to_string();
        let timeout = self.session.endpoint.session().statement_timeout;
        self.session.is_spent = true;
        let conn = &mut self.session.conn;
        conn.execute(sqlx::raw_sql(BEGIN)).await.map_err(&failed)?;
        set_path(conn, Path::Own).await.map_err(&failed)?;
        let mut changed: u64 = 0;
        for statement in statements {
            let failed = self.session.failed(&statement.told_as);
            let query = sqlx::query(AssertSqlSafe(statement.text.as_str()));
            let query = statement
                .values
                .iter()
                .fold(query, |query, value| match value {
                    BoundValue::Integer(value) => query.bind(value.to_string()),
                    BoundValue::Text(value) => query.bind(value.as_str()),
                    // The statement says of which type it is.
                    BoundValue::Position(at, CursorForm::Native | CursorForm::Oid) => {
                        query.bind(at.to_string())
                    }
                    BoundValue::Position(at, form) => match position::bound(*at, *form) {
                        position::Bound::Integer(value) => query.bind(value.to_string()),
                        position::Bound::Text(value) => query.bind(value),
                    },
                });
            let done = query
                .execute(&mut self.session.conn)
                .await
                .map_err(failed)?;
            if statement.changes_rows {
                changed = changed.saturating_add(done.rows_affected());
            }
        }
        let conn = &mut self.session.conn;
        let released = conn.execute("release savepoint highwater_script").await;
        match released {
            Ok(_) => {}
            Err(error)
                if is_state(&error, NO_SUCH_SAVEPOINT) || is_state(&error, NO_TRANSACTION) =>
            {
                return Err(ConnectorError::of_report(ended_transaction(&place)));
            }
            Err(error) => return Err(failed(error)),
        }
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let back = Sql::new(
            Dialect::Postgres,
            "reset session authorization; reset role; set local synchronous_commit = on; set local \
             statement_timeout = ",
        );
        let back = back.integer(millis).into_statement();
        conn.execute(sqlx::raw_sql(back)).await.map_err(&failed)?;
        set_path(conn, Path::Catalog).await.map_err(&failed)?;
        Ok(changed)
    }
}
