//! What a file tells for a recommendation. It counts neither writes nor deletes, and keeps no log
//! that others could read.

use async_trait::async_trait;
use highwater_common::advise::{LogAccess, MovedBy, Sight, TargetAsFound, moved_by_name};
use highwater_common::spec::{TableName, TablesFound};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::catalog::{self, LEDGER_PREFIX};
use super::session::{Purpose, Session};
use super::source::SqliteSource;
use super::sql;
use crate::connector::{
    ConnectorError, ServerAsFound, Stamping, Survey, SurveyRequest, Surveys, TABLES_MAX,
};

/// Rows whose size stands for that of all.
const SAMPLED_ROWS: u32 = 1_000;

impl SqliteSource {
    /// The first so many tables, by name.
    async fn list(&self, most: u32) -> Result<Vec<TableName>, ConnectorError> {
        let mut session = Session::open(self.place(), Purpose::Read).await?;
        let listed = sqlx::query_scalar::<_, String>(
            "select name from pragma_table_list where schema = 'main' and type = 'table' \
             and name not like 'sqlite\\_%' escape '\\' and substr(name, 1, ?1) <> ?2 \
             order by name limit ?3",
        )
        .bind(i64::try_from(LEDGER_PREFIX.len()).unwrap_or(i64::MAX))
        .bind(LEDGER_PREFIX)
        .bind(most)
        .fetch_all(session.conn())
        .await;
        session.close().await;
        let names = listed.map_err(self.place().failed("list the tables"))?;
        let table = |name| TableName { schema: None, name };
        Ok(names.into_iter().map(table).collect())
    }
}

#[async_trait]
impl Surveys for SqliteSource {
    async fn server(&self) -> Result<ServerAsFound, ConnectorError> {
        let is_there = tokio::fs::try_exists(self.place().path()).await;
        if !is_there.unwrap_or(true) {
            return Ok(ServerAsFound {
                version: "SQLite".to_owned(),
                says: vec!["the file is not there yet".to_owned()],
                lacks_as_source: vec!["there is nothing to read".to_owned()],
                ..ServerAsFound::default()
            });
        }
        let mut session = Session::open(self.place(), Purpose::Read).await?;
        let version = sqlx::query_scalar::<_, String>("select sqlite_version()")
            .fetch_one(session.conn())
            .await;
        session.close().await;
        let version = version.map_err(self.place().failed("ask for the version"))?;
        Ok(ServerAsFound {
            version: format!("SQLite {version}"),
            ..ServerAsFound::default()
        })
    }

    async fn tables(&self) -> Result<Vec<TableName>, ConnectorError> {
        self.list(TABLES_MAX).await
    }

    async fn tables_found(&self) -> Result<TablesFound, ConnectorError> {
        Ok(TablesFound {
            tables: self.list(u32::MAX).await?,
            // They are part of the statement that makes a table.
            foreign_keys: Vec::new(),
        })
    }

    async fn survey(&self, request: &SurveyRequest) -> Result<Survey, ConnectorError> {
        let mut session = Session::open(self.place(), Purpose::Read).await?;
        let found = self.read(session.conn(), request).await;
        session.close().await;
        found
    }

    /// Its sessions enforce no foreign keys, and nothing takes the place of a table.
    async fn as_target(&self, table: &TableName) -> Result<Option<TargetAsFound>, ConnectorError> {
        if !tokio::fs::try_exists(self.place().path())
            .await
            .unwrap_or(true)
        {
            return Ok(None);
        }
        let mut session = Session::open(self.place(), Purpose::Read).await?;
        let found = catalog::find(session.conn(), self.place(), table).await;
        session.close().await;
        Ok(found?.map(|_| TargetAsFound::default()))
    }
}

impl SqliteSource {
    async fn read(
        &self,
        conn: &mut SqliteConnection,
        request: &SurveyRequest,
    ) -> Result<Survey, ConnectorError> {
        let table = catalog::existing(conn, self.place(), &request.table).await?;
        let failed = || {
            self.place()
                .failed(format!("look at how {} is written", request.table))
        };
        let schema = sql::ident(sql::schema(&request.table));
        let triggers: Vec<String> = sql::once(format!(
            "select lower(sql) from {schema}.sqlite_schema where type = 'trigger' \
             and tbl_name = ? collate nocase and sql is not null"
        ))
        .bind(&request.table.name)
        .fetch_all(&mut *conn)
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(failed())?;
        let stamping = |(column, _): &(String, _)| {
            let name = column.to_ascii_lowercase();
            let is_set = |text: &String| assigns(text, &request.table.name, &name);
            Stamping {
                moved_by: match triggers.iter().any(is_set) {
                    true => MovedBy::Server,
                    false => moved_by_name(column),
                },
                doubts: Vec::new(),
            }
        };
        let sizes: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let name = sql::ident(&column.facts.name);
                format!("coalesce(length(cast({name} as blob)), 0) + 1")
            })
            .collect();
        let name = sql::table(&request.table);
        let question = format!(
            "select coalesce(cast(avg(bytes) as integer), 0), (select count(*) from {name}) from \
             (select {} as bytes from {name} limit {SAMPLED_ROWS})",
            sizes.join(" + ")
        );
        let row = sql::once(question).fetch_one(&mut *conn).await;
        let row = row.map_err(failed())?;
        let (of_row, rows): (i64, i64) = (
            row.try_get(0).map_err(failed())?,
            row.try_get(1).map_err(failed())?,
        );
        Ok(Survey {
            changes: None,
            sight: Sight::OneWriter,
            log: LogAccess::NoLog,
            bytes: u64::try_from(of_row.saturating_mul(rows)).ok(),
            key_cuts: false,
            columns: request.columns.iter().map(stamping).collect(),
        })
    }
}

/// Whether the text of a trigger, in lower case, acts on every update and updates this column of this
/// table.
fn assigns(trigger: &str, table: &str, column: &str) -> bool {
    let Some((when, body)) = trigger.split_once("begin") else {
        return false;
    };
    let words: Vec<&str> = when.split_whitespace().collect();
    let is_of_all = words.contains(&"update") && !words.contains(&"of") && !words.contains(&"when");
    let is_quote = |c: char| matches!(c, '"' | '`' | '[' | ']');
    let plain = body.replace(is_quote, "");
    let table = table.to_ascii_lowercase();
    let updates = plain.split(';').filter(|statement| {
        let mut words = statement.split_whitespace();
        words.next() == Some("update") && words.next() == Some(table.as_str())
    });
    let sets = updates.filter_map(|statement| statement.split_once(" set "));
    is_of_all
        && sets
            .flat_map(|(_, set)| set.split(','))
            .filter_map(|one| one.split_once('='))
            .any(|(left, _)| left.trim() == column)
}

#[cfg(test)]
mod tests {
    use super::assigns;

    #[test]
    fn a_trigger_stamps_the_column_that_it_sets_and_no_other() {
        let of = |text: &str, column: &str| assigns(&text.to_lowercase(), "Events", column);
        let stamps = "create trigger t after update on events begin update events set n = n + 1, \
                      \"updated_at\" = datetime('now') where id = new.id; end";
        assert!(of(stamps, "updated_at"));
        assert!(!of(stamps, "at") && !of(stamps, "date") && !of(stamps, "id"));
        for other in [
            stamps.replace("after update on", "after update of n on"),
            stamps.replace("begin", "when new.n > 1 begin"),
            stamps.replace("update events set", "update audit set"),
            stamps.replace("after update", "after insert"),
        ] {
            assert!(!of(&other, "updated_at"), "{other}");
        }
    }
}
