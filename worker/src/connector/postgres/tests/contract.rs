//! The contract of sources and targets, on a server of each case's own.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_common::commit::LedgerState;
use highwater_common::facts::ColumnKind;

use super::*;
use crate::connector::contract::merges::MergeFixture;
use crate::connector::contract::swaps::SwapFixture;
use crate::connector::contract::{Row, SourceFixture, TableChange, TargetFixture, Writers};
use crate::{
    check_contract, merge_contract, source_contract, staging_contract, swap_contract,
    target_contract,
};

/// A server; what it holds is in its first database.
struct Fixture {
    server: Server,
}

impl Fixture {
    fn url(&self) -> String {
        self.server.url("postgres")
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url())
            .await
            .expect("the server is up")
    }

    async fn execute(&self, sql: &str) {
        self.connect()
            .await
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await
            .expect("runs");
    }
}

fn supervisor() -> Supervisor {
    Supervisor::new(CancellationToken::new())
}

#[async_trait]
impl TargetFixture for Fixture {
    const WRITERS: Writers = Writers::Many;

    async fn fresh() -> Self {
        Self {
            server: Server::start(),
        }
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(
            PostgresTarget::new(&self.url(), "wh".parse().expect("a name"), supervisor())
                .expect("a good url"),
        )
    }

    fn source_engine(&self) -> Engine {
        Engine::Postgres
    }

    fn table(&self) -> TableName {
        table_name("items")
    }

    fn columns(&self) -> Vec<ColumnFacts> {
        let column = |name: &str, type_name: &str, kind, nullable| ColumnFacts {
            name: name.into(),
            type_name: type_name.into(),
            kind,
            nullable,
            binary_portable: true,
            definition: None,
            origin: None,
        };
        vec![
            column("id", "bigint", ColumnKind::Int64, false),
            column("pos", "bigint", ColumnKind::Int64, true),
            column("note", "text", ColumnKind::Text, true),
        ]
    }

    async fn change(&self, change: &TableChange) {
        self.execute(&change.sql("items")).await;
    }

    async fn rows(&self, from: Option<i64>) -> Vec<Row> {
        let from = from.map_or(String::new(), |from| format!(" where pos >= {from}"));
        let all = format!("select id, pos, note from items{from}");
        let all = sqlx::query_as(AssertSqlSafe(all));
        let all: Vec<(i64, Option<i64>, Option<String>)> = all
            .fetch_all(&mut self.connect().await)
            .await
            .expect("reads");
        let row = |(id, pos, note)| Row { id, pos, note };
        all.into_iter().map(row).collect()
    }

    async fn swallow(&self, id: i64) {
        self.execute(&format!(
            "create function swallow() returns trigger language plpgsql as \
               $$ begin delete from items where id = {id}; return null; end $$; \
               create trigger swallow after insert on items for each row when (new.id = {id}) \
               execute function swallow()"
        ))
        .await;
    }

    async fn forget_claims(&self) {
        self.execute("delete from highwater.task").await;
    }

    async fn alter_claim(&self, start: i64, state: LedgerState, later: i64, renewed: bool) {
        let nonce = if renewed {
            "gen_random_uuid()"
        } else {
            "nonce"
        };
        let state = state.letter();
        self.execute(&format!(
            "update highwater.task set state = '{state}', token = token + {later}, nonce = {nonce} \
             where range_start = {start}"
        ))
        .await;
    }

    async fn count_a_chunk(&self, start: i64) {
        self.execute(&format!(
            "update highwater.task set chunk = chunk + 1 where range_start = {start} and not part"
        ))
        .await;
    }
}

#[async_trait]
impl SourceFixture for Fixture {
    async fn fresh(rows: i64) -> Self {
        let fixture = Self {
            server: Server::start(),
        };
        fixture
            .execute(&format!(
                "create table items (id bigint primary key, pos bigint, note text); create index \
                 on items (pos); \
                 insert into items select i, case when i % 7 > 0 then i * 10 end, case when i % 5 \
                 > 0 then 'note ' || i end \
                 from generate_series(1, {rows}) i"
            ))
            .await;
        fixture
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(
            PostgresSource::new(&self.url(), "legacy".parse().expect("a name"), supervisor())
                .expect("a good url"),
        )
    }
}

impl MergeFixture for Fixture {
    async fn unique_notes(&self) {
        self.execute("alter table items add unique (note)").await;
    }
}

impl SwapFixture for Fixture {
    async fn keep_reading(&self) -> Box<dyn Any + Send> {
        let mut reader = self.connect().await;
        let reading = "begin; select from items";
        reader.execute(sqlx::raw_sql(reading)).await.expect("reads");
        Box::new(reader)
    }
}

target_contract!(target, Fixture);
merge_contract!(merge, Fixture);
staging_contract!(staging, Fixture);
check_contract!(check, Fixture);
swap_contract!(swap, Fixture);
source_contract!(source, Fixture);
