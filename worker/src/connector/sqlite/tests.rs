//! The contract on real files, and what only SQLite does.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_common::commit::LedgerState;
use highwater_common::facts::{ColumnFacts, ColumnKind, Engine};
use highwater_common::spec::TableName;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{SqliteSource, SqliteTarget};
use crate::connector::contract::merges::MergeFixture;
use crate::connector::contract::{Row, SourceFixture, TableChange, TargetFixture, Writers};
use crate::connector::{Source, Target};
use crate::supervisor::Supervisor;
use crate::{check_contract, merge_contract, source_contract, target_contract};

/// A folder with one database in it.
pub(super) struct File {
    folder: TempDir,
}

impl File {
    pub(super) fn fresh() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub(super) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("data.db")
    }

    pub(super) async fn open(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(true)
            .connect()
            .await
            .expect("opens")
    }

    pub(super) async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.open().await)
            .await
            .expect("runs");
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.open().await)
            .await
            .expect("counts")
    }

    pub(super) fn source(&self) -> SqliteSource {
        SqliteSource::new(
            self.path(),
            "legacy".parse().expect("a legal name"),
            supervisor(),
        )
    }

    pub(super) fn target(&self) -> SqliteTarget {
        SqliteTarget::new(
            self.path(),
            "wh".parse().expect("a legal name"),
            supervisor(),
        )
    }
}

/// The one value of a query, as text.
pub(super) async fn text(file: &File, sql: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&mut file.open().await)
        .await
        .expect("a text")
}

pub(super) fn table(name: &str) -> TableName {
    TableName {
        schema: None,
        name: name.to_owned(),
    }
}

fn supervisor() -> Supervisor {
    Supervisor::new(CancellationToken::new())
}

pub(super) fn column(name: &str, type_name: &str, kind: ColumnKind, nullable: bool) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        kind,
        nullable,
        binary_portable: false,
        definition: None,
        origin: None,
    }
}

#[async_trait]
impl TargetFixture for File {
    const WRITERS: Writers = Writers::One;

    async fn fresh() -> Self {
        File::fresh()
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(File::target(self))
    }

    fn source_engine(&self) -> Engine {
        Engine::Sqlite
    }

    fn table(&self) -> TableName {
        table("items")
    }

    fn columns(&self) -> Vec<ColumnFacts> {
        vec![
            column("id", "BIGINT", ColumnKind::Int64, false),
            column("pos", "INTEGER", ColumnKind::Int64, true),
            column("note", "TEXT", ColumnKind::Text, true),
        ]
    }

    async fn change(&self, change: &TableChange) {
        self.run(&change.sql("items")).await;
    }

    async fn rows(&self, from: Option<i64>) -> Vec<Row> {
        let from = from.map_or(String::new(), |from| format!(" where pos >= {from}"));
        let all = format!("select id, pos, note from items{from}");
        let all = sqlx::query_as(AssertSqlSafe(all));
        let all: Vec<(i64, Option<i64>, Option<String>)> =
            all.fetch_all(&mut self.open().await).await.expect("reads");
        let row = |(id, pos, note)| Row { id, pos, note };
        all.into_iter().map(row).collect()
    }

    async fn swallow(&self, id: i64) {
        self.run(&format!(
            "create trigger swallow after insert on items when new.id = {id} begin delete from \
             items where id = {id}; end"
        ))
        .await;
    }

    async fn forget_claims(&self) {
        self.run("delete from _highwater_task").await;
    }

    async fn alter_claim(&self, start: i64, state: LedgerState, later: i64, renewed: bool) {
        let nonce = if renewed { "randomblob(16)" } else { "nonce" };
        let state = state.letter();
        self.run(&format!(
            "update _highwater_task set state = '{state}', token = token + {later}, nonce = \
             {nonce} where range_start = {start}"
        ))
        .await;
    }

    async fn count_a_chunk(&self, start: i64) {
        self.run(&format!(
            "update _highwater_task set chunk = chunk + 1 where range_start = {start} and not part"
        ))
        .await;
    }
}

#[async_trait]
impl SourceFixture for File {
    async fn fresh(rows: i64) -> Self {
        let file = File::fresh();
        file.run(&format!(
            "create table items (id integer primary key, pos integer, note text); create index by_pos on items (pos);
             with recursive n (i) as (select 1 where {rows} > 0 union all select i + 1 from n where i < {rows})
             insert into items select i, iif(i % 7 = 0, null, i * 10), iif(i % 5 = 0, null, 'note ' || i) from n"
        ))
        .await;
        file
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(File::source(self))
    }
}

mod affinities;
mod between;
mod files;
mod left_out;
mod nulls;
mod positions;
mod values;

impl MergeFixture for File {
    async fn unique_notes(&self) {
        self.run("create unique index notes on items (note)").await;
    }
}

target_contract!(target, File);
merge_contract!(merge, File);
check_contract!(check, File);
source_contract!(source, File);
