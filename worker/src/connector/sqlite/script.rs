//! Runs statements of the user's own in the data transaction.

use async_trait::async_trait;

use super::sql;
use super::transaction::SqliteTx;
use crate::connector::position;
use crate::connector::script::ended_transaction;
use crate::connector::{BoundStatement, BoundValue, ConnectorError, ScriptTx};

#[async_trait]
impl ScriptTx for SqliteTx {
    async fn run(&mut self, statements: &[BoundStatement]) -> Result<u64, ConnectorError> {
        let place = self.attempt.place.clone();
        let conn = self.session.conn();
        sql::run(conn, sqlx::query("savepoint highwater_script"))
            .await
            .map_err(place.failed("run statements"))?;
        let mut changed: u64 = 0;
        for statement in statements {
            let query = sql::once(statement.text.clone());
            let query = statement
                .values
                .iter()
                .fold(query, |query, value| match value {
                    BoundValue::Integer(value) => query.bind(*value),
                    BoundValue::Text(value) => query.bind(value.clone()),
                    BoundValue::Position(at, form) => match position::bound(*at, *form) {
                        position::Bound::Integer(value) => query.bind(value),
                        position::Bound::Text(value) => query.bind(value),
                    },
                });
            let done = sql::run(self.session.conn(), query).await;
            let rows = done.map_err(place.failed(statement.told_as.clone()))?;
            // Of any other statement it says what the one before has changed.
            if statement.changes_rows {
                changed = changed.saturating_add(rows);
            }
        }
        let release = sqlx::query("release highwater_script");
        match sql::run(self.session.conn(), release).await {
            Ok(_) => Ok(changed),
            Err(_) => Err(ConnectorError::of_report(ended_transaction(
                &place.to_string(),
            ))),
        }
    }
}
