//! What a source of PostgreSQL says to whoever compares all of its keys.

use async_trait::async_trait;
use highwater_common::spec::TableName;

use super::catalog::{find_table, is_indexed, qualified};
use super::errors::classify;
use super::session::SessionRole;
use super::source::PostgresSource;
use crate::connector::{ComparedKeys, ConnectorError};

#[async_trait]
impl ComparedKeys for PostgresSource {
    fn is_one_server(&self) -> bool {
        self.endpoint().route().is_one_server()
    }

    async fn is_led_by(&self, table: &TableName, column: &str) -> Result<bool, ConnectorError> {
        let endpoint = self.endpoint();
        let mut conn = endpoint.open(SessionRole::Source).await?;
        let table = qualified(&mut conn, endpoint, table).await?;
        let failed = |error| classify(endpoint, &format!("look at the indexes of {table}"), error);
        match find_table(&mut conn, &table).await.map_err(failed)? {
            Some(found) => is_indexed(&mut conn, found.oid, column)
                .await
                .map_err(failed),
            None => Ok(false),
        }
    }
}
