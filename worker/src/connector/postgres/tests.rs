//! The connector against a real PostgreSQL, one of its own for each test.
#![allow(
    clippy::disallowed_methods,
    reason = "tests own their time and their loops"
)]

mod commits;
mod contract;
mod facts;
mod horizons;
mod left_out;
mod moves;
mod nulls;
mod policies;
mod positions;
mod races;
mod refusals;
mod server;
mod session_pool;
mod settings;
mod silence;
mod swaps;
mod swaps_beside;
mod triggers;
mod type_pairs;
mod untyped;
mod urls;

use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{ColumnFacts, CursorForm, Engine, TableFacts};
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, TaskId};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{
    ColumnRules, ExistingRows, OnSchemaChange, Shrinking, TableName, Triggers, WriteMode,
};
use highwater_common::stream::PlanMark;
use highwater_common::token::{Fence, FencingToken, Nonce};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

use self::server::Server;
use super::{PostgresSource, PostgresTarget, SessionOptions};
use crate::connector::{
    Claim, ClaimOutcome, CommitOutcome, ConnectorError, DataTx, GuardOutcome, GuardStep, Guarded,
    HeldClaim, MergeBy, PrepareOutcome, PrepareRequest, ReadRequest, RowFormat, RowStream, Rows,
    SliceRows, Source, SourceProbe, StreamRequest, Target, TargetProbe, WriteRequest,
};
use crate::supervisor::Supervisor;

const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);
const RUN: RunId = RunId::from_bytes([2; 16]);
const TASK: TaskId = TaskId::from_bytes([3; 16]);
const STREAM: &str = "shop/orders/legacy:public.orders/public.orders";

/// A server with two databases, `legacy` to read and `wh` to write, and the connector to both.
struct World {
    legacy: PgConnection,
    wh: PgConnection,
    source: PostgresSource,
    target: PostgresTarget,
    supervisor: Supervisor,
    server: Server,
}

impl World {
    async fn start() -> Self {
        let server = Server::start();
        let mut postgres = PgConnection::connect(&server.url("postgres"))
            .await
            .expect("the server is up");
        postgres
            .execute("create database legacy")
            .await
            .expect("created");
        postgres
            .execute("create database wh")
            .await
            .expect("created");
        let supervisor = Supervisor::new(CancellationToken::new());
        let options = SessionOptions {
            claim_lock_timeout: std::time::Duration::from_millis(200),
            ..SessionOptions::default()
        };
        let (legacy_name, wh_name) = (
            "legacy".parse().expect("a name"),
            "wh".parse().expect("a name"),
        );
        Self {
            legacy: PgConnection::connect(&server.url("legacy"))
                .await
                .expect("connected"),
            wh: PgConnection::connect(&server.url("wh"))
                .await
                .expect("connected"),
            source: PostgresSource::new(&server.url("legacy"), legacy_name, supervisor.clone())
                .expect("a good url"),
            target: PostgresTarget::with_options(
                &server.url("wh"),
                wh_name,
                supervisor.clone(),
                options,
            )
            .expect("a good url"),
            supervisor,
            server,
        }
    }

    /// A world with `orders (id bigint primary key, note text)`, `rows` of them in the source,
    /// prepared in the target.
    async fn with_orders(rows: i64) -> Self {
        let mut world = Self::start().await;
        world
            .legacy("create table orders (id bigint primary key, note text)")
            .await;
        world
            .legacy(&format!(
                "insert into orders select n, 'note ' || n from generate_series(1, \
                               {rows}) n"
            ))
            .await;
        world.prepare().await.expect("prepared");
        world
    }

    async fn legacy(&mut self, sql: &str) {
        self.legacy
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await
            .expect("legacy runs it");
    }

    async fn wh(&mut self, sql: &str) {
        self.wh
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await
            .expect("wh runs it");
    }

    async fn count(&mut self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.wh)
            .await
            .expect("wh counts")
    }

    async fn orders(&mut self) -> i64 {
        self.count("select count(*) from orders").await
    }

    async fn facts(&self, table: &str, partition: &str) -> Result<TableFacts, ConnectorError> {
        let partition_column = Some(partition.to_owned());
        self.source
            .probe(&SourceProbe {
                defined: false,
                relation: table_name(table).into(),
                columns: ColumnRules::default(),
                bounds_declared: false,
                placing: None,
                partition_column,
            })
            .await
    }

    async fn columns(&self) -> Vec<ColumnFacts> {
        self.facts("orders", "id").await.expect("probed").columns
    }

    async fn prepare(&self) -> Result<Vec<String>, ConnectorError> {
        Ok(self
            .target
            .prepare(&prepare_request(self.columns().await))
            .await?
            .warnings())
    }

    async fn fingerprint(&self) -> String {
        let probe = TargetProbe {
            twin: None,
            cluster: CLUSTER,
            table: table_name("orders"),
            source_engine: Engine::Postgres,
            columns: Vec::new(),
            partition: None,
            stream: STREAM.into(),
            triggers: Triggers::Fire,
            exchange: false,
        };
        self.target.probe(&probe).await.expect("probed").fingerprint
    }

    async fn claim_of(&self, lo: u32, slice: Slice) -> Claim {
        Claim {
            cluster: CLUSTER,
            run: RUN,
            task: TASK,
            generation: 1,
            phase: 1,
            ordinal: 0,
            plan: PlanMark::of(1, &DocumentDigest::of(b"cut")),
            step: "orders".parse().expect("a name"),
            stream: STREAM.into(),
            slice: Some(slice),
            runs_alone: false,
            attempt: AttemptNo::new(lo),
            fence: fence(lo),
            spec_digest: DocumentDigest::of(b"spec"),
            fingerprint: self.fingerprint().await,
        }
    }

    /// A claim with token `1.lo` that stands.
    async fn held(&self, lo: u32) -> HeldClaim {
        self.held_for(&self.claim_of(lo, all()).await).await
    }

    async fn held_for(&self, claim: &Claim) -> HeldClaim {
        match self.target.claim(claim).await.expect("no fault") {
            ClaimOutcome::Held(held) => held,
            other => panic!("the claim does not stand: {other:?}"),
        }
    }

    async fn read_request(&self, slice: Slice, format: RowFormat) -> ReadRequest {
        ReadRequest {
            relation: table_name("orders").into(),
            columns: self.columns().await,
            rows: Rows::Slice(SliceRows {
                column: "id".into(),
                form: CursorForm::Native,
                slice,
            }),
            format,
        }
    }

    async fn read(&self, slice: Slice, format: RowFormat) -> Box<dyn RowStream> {
        self.source
            .read(&self.read_request(slice, format).await)
            .await
            .expect("reading")
    }

    async fn write_request(&self, slice: Slice, format: RowFormat) -> WriteRequest {
        WriteRequest {
            table: table_name("orders"),
            columns: self.columns().await,
            rows: Rows::Slice(SliceRows {
                column: "id".into(),
                form: CursorForm::Native,
                slice,
            }),
            mode: WriteMode::ReplacePartition,
            merge_by: MergeBy::default(),
            triggers: Triggers::Fire,
            resident: ExistingRows::Fail,
            shrinking: Shrinking::default(),
            format,
            stream: STREAM.into(),
        }
    }

    /// An attempt that has claimed and written everything, up to its guard.
    async fn written(&self, lo: u32) -> Result<(DataTx, Receipt), ConnectorError> {
        let tx = self.held(lo).await.begin().await.expect("begun");
        self.write(tx, &self.write_request(all(), RowFormat::CopyBinary).await)
            .await
    }

    async fn write(
        &self,
        tx: DataTx,
        request: &WriteRequest,
    ) -> Result<(DataTx, Receipt), ConnectorError> {
        let mut rows = self.read(slice_of(request), request.format).await;
        tx.write(request, rows.as_mut()).await
    }

    /// An attempt up to its COMMIT.
    async fn guarded(&self, lo: u32) -> Guarded {
        let (tx, receipt) = self.written(lo).await.expect("written");
        match tx.guard(&GuardStep::last(receipt)).await.expect("no fault") {
            GuardOutcome::Holds(guarded) => guarded,
            GuardOutcome::Lost => panic!("the guard does not hold"),
        }
    }

    /// Waits until the server has ended every session of the connector that holds a transaction;
    /// the server's answer is the event, and it has ten seconds.
    async fn no_open_transaction(&mut self) {
        for _ in 0..500 {
            let open = "select count(*) from pg_stat_activity \
                        where application_name = 'highwater' and (xact_start is not null or state \
                        like 'idle in%')";
            if self.count(open).await == 0 {
                return;
            }
            self.wh
                .execute("select pg_sleep(0.02)")
                .await
                .expect("wh waits");
        }
        panic!("a transaction stays open");
    }
}

fn fence(lo: u32) -> Fence {
    Fence {
        token: FencingToken::new(1, lo).expect("in range"),
        nonce: Nonce::new(u128::from(lo)),
    }
}

fn all() -> Slice {
    Slice::Range(CursorRange::ALL)
}

fn ids(start: Option<i64>, end: Option<i64>) -> Slice {
    Slice::Range(
        CursorRange::new(start.map(Cursor::Integer), end.map(Cursor::Integer)).expect("not empty"),
    )
}

fn table_name(text: &str) -> TableName {
    match text.split_once('.') {
        Some((schema, name)) => TableName {
            schema: Some(schema.to_owned()),
            name: name.to_owned(),
        },
        None => TableName {
            schema: None,
            name: text.to_owned(),
        },
    }
}

fn prepare_request(columns: Vec<ColumnFacts>) -> PrepareRequest {
    PrepareRequest {
        twin: None,
        cluster: CLUSTER,
        table: table_name("orders"),
        source: table_name("orders").into(),
        columns,
        source_engine: Engine::Postgres,
        key: vec!["id".into()],
        placing: None,
        partition_column: Some("id".into()),
        mode: WriteMode::ReplacePartition,
        triggers: Triggers::Fire,
        on_schema_change: OnSchemaChange::Fail,
        stream: StreamRequest {
            stream: STREAM.into(),
            run: RUN,
            plan: Some(PlanMark::of(1, &DocumentDigest::of(b"cut"))),
            token: fence(0).token,
            kind: Some(CursorKind::Integer),
        },
    }
}

#[track_caller]
fn refused<T>(result: Result<T, ConnectorError>, class: ErrorClass, code: &str) -> String {
    let error = result.map(drop).expect_err("refused");
    assert_eq!(
        (error.report.class, error.report.code.as_str()),
        (class, code),
        "{}",
        error.report.message
    );
    error.report.message
}

/// The slice that a request of these tests writes.
fn slice_of(request: &WriteRequest) -> Slice {
    request.rows.slice().expect("of a slice").slice
}
