//! Values: what SQLite gives it gets back, and what comes as text becomes what its kind says.

use async_trait::async_trait;
use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{ColumnFacts, ColumnKind, CursorForm, Engine};
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, TaskId};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{ColumnRules, ExistingRows, OnSchemaChange, Triggers, WriteMode};
use highwater_common::stream::PlanMark;
use highwater_common::token::{Fence, FencingToken, Nonce};

use super::{File, column, table, text};
use crate::connector::{
    Claim, ClaimOutcome, CommitOutcome, ConnectorError, GuardOutcome, GuardStep, MergeBy,
    PrepareRequest, ReadRequest, RowBatch, RowFormat, RowStream, Rows, SliceRows, Source,
    SourceProbe, StreamRequest, Target, TargetProbe, Value, WriteRequest,
};

pub(super) struct GivenRows(pub(super) Option<Vec<Vec<Value>>>, pub(super) u64);

#[async_trait]
impl RowStream for GivenRows {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        let batch = self.0.take();
        self.1 += batch.as_ref().map_or(0, |rows| rows.len() as u64);
        Ok(batch.map(RowBatch::Rows))
    }

    fn rows(&self) -> u64 {
        self.1
    }

    fn bytes(&self) -> u64 {
        self.1
    }
}

/// Makes the table and loads the rows of `slice` into it, as an attempt does.
pub(super) async fn load(
    file: &File,
    source: Engine,
    columns: &[ColumnFacts],
    (slice, form): (Slice, CursorForm),
    rows: &mut dyn RowStream,
) -> Result<Receipt, ConnectorError> {
    let (cluster, target) = (ClusterId::from_bytes([1; 16]), file.target());
    let partition_column = columns[0].name.clone();
    target
        .prepare(&PrepareRequest {
            twin: None,
            cluster,
            table: table("t"),
            source: table("t").into(),
            columns: columns.to_vec(),
            source_engine: source,
            key: Vec::new(),
            placing: None,
            partition_column: Some(partition_column.clone()),
            mode: WriteMode::ReplacePartition,
            triggers: Triggers::Fire,
            on_schema_change: OnSchemaChange::Fail,
            stream: StreamRequest {
                stream: "s".to_owned(),
                run: RunId::from_bytes([7; 16]),
                plan: Some(PlanMark::of(1, &DocumentDigest::of(b"cut"))),
                token: FencingToken::new(1, 0).expect("in range"),
                kind: Some(CursorKind::Integer),
            },
        })
        .await?;
    let claim = Claim {
        cluster,
        run: RunId::from_bytes([7; 16]),
        task: TaskId::from_bytes([5; 16]),
        generation: 1,
        phase: 1,
        ordinal: 0,
        plan: PlanMark::of(1, &DocumentDigest::of(b"cut")),
        step: "orders".parse().expect("a legal name"),
        stream: "s".to_owned(),
        slice: Some(slice),
        runs_alone: false,
        attempt: AttemptNo::FIRST,
        fence: Fence {
            token: FencingToken::new(1, 1).expect("in range"),
            nonce: Nonce::new(1),
        },
        spec_digest: DocumentDigest::of(b"spec"),
        fingerprint: String::new(),
    };
    let ClaimOutcome::Held(claimed) = target.claim(&claim).await? else {
        panic!("held")
    };
    let request = WriteRequest {
        table: table("t"),
        columns: columns.to_vec(),
        rows: Rows::Slice(SliceRows {
            column: partition_column,
            form,
            slice,
        }),
        mode: WriteMode::ReplacePartition,
        merge_by: MergeBy::default(),
        triggers: Triggers::Fire,
        resident: ExistingRows::Fail,
        shrinking: highwater_common::spec::Shrinking::default(),
        format: RowFormat::Values,
        stream: "s".to_owned(),
    };
    let (tx, receipt) = claimed.begin().await?.write(&request, rows).await?;
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await? else {
        panic!("holds")
    };
    match guarded.commit().await {
        CommitOutcome::Committed(_) => Ok(receipt),
        CommitOutcome::Refused(error) | CommitOutcome::Unknown(error) => Err(error),
    }
}

const ALL: Slice = Slice::Range(CursorRange::ALL);

#[tokio::test]
async fn every_value_keeps_its_storage_class_from_sqlite_to_sqlite() {
    // GIVEN a table with values that its types do not announce
    let from = File::fresh();
    from.run(
        "create table t (id integer primary key, n int, r double, x text, b blob, free, d datetime, m decimal(12,2),
                         g as (n + 1) stored);
         insert into t (id, n, r, x, b, free, d, m) values
           (1, 9223372036854775807, 0.1, 'a' || char(0) || 'b', x'', 1, '2013-01-01', 12.5),
           (2, 'stray', -1e308, '', x'00ff', '1', 1357362000, '12.50 EUR'),
           (3, 1.5, 9e999, '12', 'text in a blob', x'01', null, 7), (4, null, null, null, null, 2.0, 2.5, 1e20)",
    )
    .await;
    let facts = Source::probe(
        &from.source(),
        &SourceProbe {
            defined: false,
            relation: table("t").into(),
            columns: ColumnRules {
                exclude: vec!["g".to_owned()],
                ..ColumnRules::default()
            },
            bounds_declared: false,
            placing: None,
            partition_column: Some("id".to_owned()),
        },
    )
    .await
    .expect("probes");
    let request = ReadRequest {
        relation: table("t").into(),
        columns: facts.columns.clone(),
        rows: Rows::Slice(SliceRows {
            column: "id".to_owned(),
            form: CursorForm::Native,
            slice: ALL,
        }),
        format: RowFormat::Values,
    };
    // WHEN it is copied
    let to = File::fresh();
    let mut rows = Source::read(&from.source(), &request).await.expect("reads");
    let receipt = load(
        &to,
        Engine::Sqlite,
        &facts.columns,
        (ALL, CursorForm::Native),
        rows.as_mut(),
    )
    .await
    .expect("loads");
    // THEN both hold the same, to the storage class
    assert_eq!(receipt.rows, 4);
    let all = "select group_concat(l, char(10)) from (select id || typeof(n) || quote(n) || typeof(r) || quote(r) || typeof(x) ||
               hex(x) || typeof(b) || quote(b) || typeof(free) || quote(free) || typeof(d) || quote(d) || typeof(m) ||
               quote(m) as l from t order by id)";
    assert_eq!(text(&from, all).await, text(&to, all).await);
    let types = "select group_concat(type) from pragma_table_info('t')";
    assert_eq!(
        text(&to, types).await.to_lowercase(),
        "integer,int,double,text,blob,,datetime,decimal(12,2)"
    );
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_carried_as_it_is_between_files_of_sqlite() {
    // GIVEN texts that are not UTF-8 among others that are
    let from = File::fresh();
    from.run(
        "create table t (id integer primary key, x text, y);
         insert into t values (1, 'a', 1), (2, cast(x'ff41' as text), 'b'), (3, 'c', cast(x'80' as text)), (4, 'd', x'ff'), (5, null, 2.5)",
    )
    .await;
    let columns = [
        column("id", "integer", ColumnKind::Int64, false),
        column("x", "text", ColumnKind::Text, true),
        column("y", "", ColumnKind::Any, true),
    ];
    let request = ReadRequest {
        relation: table("t").into(),
        columns: columns.to_vec(),
        rows: Rows::Slice(SliceRows {
            column: "id".to_owned(),
            form: CursorForm::Native,
            slice: ALL,
        }),
        format: RowFormat::Values,
    };
    // WHEN they are copied THEN every byte and every class is the same
    let to = File::fresh();
    let mut rows = Source::read(&from.source(), &request).await.expect("reads");
    let receipt = load(
        &to,
        Engine::Sqlite,
        &columns,
        (ALL, CursorForm::Native),
        rows.as_mut(),
    )
    .await
    .expect("loads");
    assert_eq!(receipt.rows, 5);
    let all = "select group_concat(l, char(10)) from
               (select id || typeof(x) || coalesce(hex(x), '-') || typeof(y) || hex(y) as l from t order by id)";
    assert_eq!(text(&from, all).await, text(&to, all).await);
    // AND a file of another encoding, where the bytes would be another text, refuses them by column
    let wide = File::fresh();
    wide.run("pragma encoding = 'UTF-16le'; create table other (x)")
        .await;
    let mut rows = Source::read(&from.source(), &request).await.expect("reads");
    let refusal = load(
        &wide,
        Engine::Sqlite,
        &columns,
        (ALL, CursorForm::Native),
        rows.as_mut(),
    )
    .await;
    let refusal = refusal.expect_err("not UTF-8").report;
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "not_utf8")
    );
    assert!(refusal.message.contains("`x`"), "{}", refusal.message);
}

fn postgres_columns() -> Vec<ColumnFacts> {
    vec![
        column("at", "timestamp with time zone", ColumnKind::Instant, true),
        column("i", "bigint", ColumnKind::Int64, true),
        column("f", "double precision", ColumnKind::Float64, true),
        column("n", "numeric(12,2)", ColumnKind::Numeric, true),
        column("b", "boolean", ColumnKind::Bool, true),
        column("y", "bytea", ColumnKind::Bytes, true),
        column("j", "jsonb", ColumnKind::Json, true),
        column("a", "integer[]", ColumnKind::Other, true),
    ]
}

fn postgres_row(at: &str, f: &str) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.to_owned());
    vec![
        text(at),
        text("-7"),
        text(f),
        text("0012.50"),
        text("t"),
        Value::Bytes(vec![0, 255]),
        text("{\"a\": 1}"),
        text("{1,2}"),
    ]
}

#[tokio::test]
async fn values_of_another_server_become_what_their_kind_says_and_lose_nothing() {
    let file = File::fresh();
    // GIVEN rows of one day, as another server writes its instants
    let times = [
        "2013-01-01 00:00:00+00",
        "2013-01-01 12:00:00.5+00",
        "2013-01-01 23:59:59.999999+00",
    ];
    let mut rows = GivenRows(
        Some(
            times
                .iter()
                .map(|at| postgres_row(at, "Infinity"))
                .collect(),
        ),
        0,
    );
    let day = |day: i64| Some(Cursor::Instant((15_706 + day) * 86_400_000_000));
    let slice = Slice::Range(CursorRange::new(day(0), day(1)).expect("not empty"));
    // WHEN they are loaded, and counted again by the same bounds
    let receipt = load(
        &file,
        Engine::Postgres,
        &postgres_columns(),
        (slice, CursorForm::Native),
        &mut rows,
    )
    .await;
    // THEN all are there, each in the form that loses nothing
    assert_eq!(receipt.expect("loads").rows, 3);
    assert_eq!(
        text(
            &file,
            "select quote(i) || quote(f) || quote(n) || quote(b) || quote(y) || quote(j) \
                     || quote(a) from t"
        )
        .await,
        "-79.0e+999'0012.50'1X'00FF''{\"a\": 1}''{1,2}'"
    );
    assert_eq!(
        text(
            &file,
            "select group_concat(type) from pragma_table_info('t')"
        )
        .await,
        "TEXT,INTEGER,REAL,TEXT,INTEGER,BLOB,TEXT,TEXT"
    );
    // AND a later probe finds the form by which they can be replaced
    let probe = TargetProbe {
        twin: None,
        cluster: ClusterId::from_bytes([1; 16]),
        table: table("t"),
        source_engine: Engine::Postgres,
        columns: Vec::new(),
        partition: Some((
            "at".to_owned(),
            highwater_common::cursor::CursorKind::Instant,
        )),
        stream: "s".to_owned(),
        triggers: Triggers::Fire,
        exchange: false,
    };
    let facts = file.target().probe(&probe).await.expect("probes");
    let form = CursorForm::TextTime {
        separator_t: false,
        fraction_digits: 0,
        zulu: false,
    };
    assert_eq!(facts.table.expect("it is there").partition_form, Some(form));
    assert_eq!(facts.covered.len(), 1);
}

#[tokio::test]
async fn a_number_that_sqlite_cannot_keep_is_refused_by_column() {
    let file = File::fresh();
    let mut rows = GivenRows(Some(vec![postgres_row("2013-01-01 00:00:00+00", "NaN")]), 0);
    let refusal = load(
        &file,
        Engine::Postgres,
        &postgres_columns(),
        (ALL, CursorForm::Native),
        &mut rows,
    )
    .await;
    let refusal = refusal.expect_err("NaN").report;
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "value_does_not_fit")
    );
    assert!(
        refusal.message.contains("`f`") && refusal.message.contains("NaN"),
        "{}",
        refusal.message
    );
    assert_eq!(file.number("select count(*) from t").await, 0);
}

#[tokio::test]
async fn wide_rows_travel_in_bounded_pieces_and_a_very_wide_one_whole() {
    // GIVEN ten rows of a megabyte
    let from = File::fresh();
    from.run(
        "create table t (id integer primary key, b blob);
         with recursive n (i) as (select 1 union all select i + 1 from n where i < 10)
         insert into t select i, randomblob(1000000) from n",
    )
    .await;
    let columns = [
        column("id", "INTEGER", ColumnKind::Int64, false),
        column("b", "BLOB", ColumnKind::Bytes, true),
    ];
    let request = ReadRequest {
        relation: table("t").into(),
        columns: columns.to_vec(),
        rows: Rows::Slice(SliceRows {
            column: "id".to_owned(),
            form: CursorForm::Native,
            slice: ALL,
        }),
        format: RowFormat::Values,
    };
    // WHEN they are read and copied
    let mut rows = Source::read(&from.source(), &request).await.expect("reads");
    while let Some(batch) = rows.next().await.expect("reads") {
        let RowBatch::Rows(batch) = batch else {
            panic!("values")
        };
        assert!(batch.len() <= 2);
    }
    let to = File::fresh();
    let mut rows = Source::read(&from.source(), &request).await.expect("reads");
    load(
        &to,
        Engine::Sqlite,
        &columns,
        (ALL, CursorForm::Native),
        rows.as_mut(),
    )
    .await
    .expect("loads");
    // THEN all bytes arrive
    let sum = "select cast(count(*) as text) || max(hex(substr(b, -8))) from t";
    assert_eq!(text(&from, sum).await, text(&to, sum).await);
    // AND so does one of many times a batch
    from.run("insert into t values (11, zeroblob(40000000))")
        .await;
    let to = File::fresh();
    let mut rows = Source::read(&from.source(), &request).await.expect("reads");
    load(
        &to,
        Engine::Sqlite,
        &columns,
        (ALL, CursorForm::Native),
        rows.as_mut(),
    )
    .await
    .expect("loads");
    assert_eq!(
        to.number("select count(*) from t where length(b) = 40000000")
            .await,
        1
    );
}
