//! Rows on their way: nothing lost, nothing changed, nothing twice.

use highwater_common::facts::ColumnKind;

use super::*;
use crate::connector::{CommitOutcome, GuardOutcome, GuardStep, RowBatch, Rows, SliceRows, Value};

const ODD_TABLE: &str = "create table orders (
    id bigint, small smallint not null, amount numeric(20,4), anything numeric, ratio double precision, single real,
    note text, code varchar(9), payload bytea, day date, at timestamptz, seen timestamp, open time, span interval,
    who uuid, doc json, docb jsonb, tags text[], flag boolean, net inet, double_id bigint generated always as (id * 2) stored)";

const ODD_ROWS: &str = r#"insert into orders (id, small, amount, anything, ratio, single, note, code, payload, day, at, seen,
    open, span, who, doc, docb, tags, flag, net)
    select n, n % 100, n / 7.0, (array['NaN', 'Infinity', '12345678901234567890123456789012.5'])[1 + n % 3]::numeric,
    n / 3.0, n / 3.0::real, E'tab\t newline\n return\r back\\slash \\N ' || n || ' ü', case when n % 5 > 0 then 'c' || n % 99 end,
    decode(md5(n::text), 'hex') || '\x005c0a09', case n % 4 when 0 then 'infinity' else date '2013-01-01' + n end,
    case n % 4 when 0 then '-infinity' else timestamptz '294276-01-01' - n * interval '1 h' end,
    timestamp '0044-03-15 12:00:00.000001 BC' + n * interval '1 us', time '23:59:59.999999', interval '1 mon -1 day 0.5 s' * n,
    md5(n::text)::uuid, '{"a" : 1,  "a":2}'::json, '{"b": [1, null]}'::jsonb, array['x', null, 'with "quote"', E'\\'],
    n % 2 = 0, inet '10.0.0.0/8' from generate_series(-2000, 2000) n
    union all select null, 1, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
    null, null from generate_series(1, 3)"#;

async fn digest(conn: &mut PgConnection) -> (i64, String) {
    sqlx::query_as(
        "select count(*), md5(string_agg(o::text, '|' order by id, o::text)) from \
                    orders o",
    )
    .fetch_one(conn)
    .await
    .expect("a digest")
}

#[tokio::test]
async fn rows_of_every_type_arrive_as_they_were_in_every_format() {
    // GIVEN a table of many types, its worst values among them, and rows without a position
    let mut world = World::start().await;
    world.legacy(ODD_TABLE).await;
    world.legacy(ODD_ROWS).await;
    let columns = world.columns().await;
    assert!(
        columns.iter().all(|column| column.name != "double_id"),
        "a generated column is nobody's to write"
    );
    let formats = world.source.formats(&columns);
    assert_eq!(
        formats,
        [
            RowFormat::CopyBinary,
            RowFormat::CopyText,
            RowFormat::Values
        ]
    );
    let expected: (i64, String) = sqlx::query_as(
        "select count(*), md5(string_agg(o::text, '|' order by id, o::text)) from (select id, \
         small, amount, anything, \
         ratio, single, note, code, payload, day, at, seen, open, span, who, doc, docb, tags, \
         flag, net from orders) o",
    )
    .fetch_one(&mut world.legacy)
    .await
    .expect("a digest");
    let mut request = prepare_request(columns);
    request.key.clear();
    world.target.prepare(&request).await.expect("prepared");
    for (at, format) in formats.into_iter().enumerate() {
        world.wh("truncate orders").await;
        // WHEN it is moved in three slices, each a task of its own
        for (slot, slice) in [ids(None, Some(-7)), ids(Some(-7), None), Slice::Null]
            .into_iter()
            .enumerate()
        {
            let mut claim = world.claim_of(1, slice).await;
            claim.task = TaskId::from_bytes([u8::try_from(10 * at + slot).expect("small"); 16]);
            let tx = world.held_for(&claim).await.begin().await.expect("begun");
            let (tx, receipt) = world
                .write(tx, &world.write_request(slice, format).await)
                .await
                .expect("written");
            let GuardOutcome::Holds(guarded) =
                tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
            else {
                panic!("lost")
            };
            assert!(matches!(
                guarded.commit().await,
                CommitOutcome::Committed(_)
            ));
            // THEN the receipt says what was written
            let row = world
                .target
                .ledger_row(&RUN, &claim.task)
                .await
                .expect("read")
                .expect("there");
            assert_eq!(row.receipt, receipt);
            assert_eq!(receipt.rows, [1993, 2008, 3][slot], "{format:?}");
        }
        // and every value is what it was
        assert_eq!(digest(&mut world.wh).await, expected, "{format:?}");
    }
}

#[tokio::test]
async fn batches_are_bounded_and_an_oversized_row_fails_by_name() {
    // GIVEN rows of about 3 MiB, and one of 17 MiB
    let mut world = World::start().await;
    world
        .legacy("create table orders (id bigint primary key, note text)")
        .await;
    world
        .legacy("insert into orders select n, repeat('x', 3000000) from generate_series(1, 3) n")
        .await;
    world
        .legacy("insert into orders values (9, repeat('y', 17 * 1024 * 1024))")
        .await;
    let options = SessionOptions {
        row_bytes_max: 16 << 20,
        ..SessionOptions::default()
    };
    let (url, name) = (
        world.server.url("legacy"),
        "legacy".parse().expect("a name"),
    );
    world.source = PostgresSource::with_options(&url, name, options).expect("a good url");
    // WHEN the smaller ones are read
    let mut rows = world.read(ids(None, Some(9)), RowFormat::CopyBinary).await;
    let mut bytes = 0;
    while let Some(batch) = rows.next().await.expect("read") {
        let RowBatch::Copy(batch) = batch else {
            panic!("bytes")
        };
        // THEN no batch is larger than it may be
        assert!(batch.len() <= 1024 * 1024);
        bytes += batch.len() as u64;
    }
    assert_eq!((rows.rows(), rows.bytes()), (3, bytes));
    // and the large one is refused by its place
    let request = world
        .read_request(ids(Some(9), None), RowFormat::CopyText)
        .await;
    let message = refused(
        world.source.read(&request).await.map(drop),
        ErrorClass::Permanent,
        "row_too_large",
    );
    assert!(
        message.contains("row 1 of [9, +inf) of public.orders"),
        "{message}"
    );
}

/// The most memory that this process has had, in MiB.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("kilobytes")
        / 1024
}

#[tokio::test]
async fn a_row_of_a_hundred_megabytes_travels() {
    const DIGEST: &str = "select count(*) from orders where md5(note) = (select \
                          md5(repeat('0123456789', 10000000)))";
    // GIVEN a small row and one of 100 MB
    let mut world = World::start().await;
    world
        .legacy("create table orders (id bigint primary key, note text)")
        .await;
    world
        .legacy(
            "insert into orders values (1, 'small'), (2, repeat('0123456789', 10000000)), (3, \
                  'small')",
        )
        .await;
    world.prepare().await.expect("prepared");
    let before = memory_peak();
    for (task, format) in [(1, RowFormat::CopyBinary), (2, RowFormat::CopyText)] {
        world.wh("truncate orders; truncate highwater.task").await;
        // WHEN they are moved as the server's own bytes
        let mut claim = world.claim_of(1, all()).await;
        claim.task = TaskId::from_bytes([task; 16]);
        let tx = world.held_for(&claim).await.begin().await.expect("begun");
        let (tx, receipt) = world
            .write(tx, &world.write_request(all(), format).await)
            .await
            .expect("written");
        let GuardOutcome::Holds(guarded) =
            tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
        else {
            panic!("lost")
        };
        assert!(matches!(
            guarded.commit().await,
            CommitOutcome::Committed(_)
        ));
        // THEN they are there, and no more memory was needed than some copies of the row
        assert_eq!(
            (
                receipt.rows,
                world.orders().await,
                world.count(DIGEST).await
            ),
            (3, 3, 1),
            "{format:?}"
        );
    }
    let copied = memory_peak() - before;
    assert!(copied < 400, "{copied} MiB");
    // and as values, for a target of another engine
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wh.db");
    let name = "file".parse().expect("a name");
    let target =
        crate::connector::sqlite::SqliteTarget::new(path.clone(), name, world.supervisor.clone());
    target
        .prepare(&prepare_request(world.columns().await))
        .await
        .expect("prepared");
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
    let mut claim = world.claim_of(1, all()).await;
    claim.fingerprint = target.probe(&probe).await.expect("probed").fingerprint;
    let ClaimOutcome::Held(held) = target.claim(&claim).await.expect("no fault") else {
        panic!("the claim stands")
    };
    let write = world.write_request(all(), RowFormat::Values).await;
    let mut rows = world.read(all(), RowFormat::Values).await;
    let (tx, receipt) = held
        .begin()
        .await
        .expect("begun")
        .write(&write, rows.as_mut())
        .await
        .expect("written");
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
    else {
        panic!("lost")
    };
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut file = sqlx::SqliteConnection::connect_with(&options)
        .await
        .expect("opened");
    let kept: (i64, i64) = sqlx::query_as(
        "select count(*), max(length(note)) from orders where id = 2 and note like \
                        '0123%'",
    )
    .fetch_one(&mut file)
    .await
    .expect("counted");
    assert_eq!((receipt.rows, kept), (3, (1, 100_000_000)));
    let peak = memory_peak() - before;
    assert!(peak < 1_000, "{peak} MiB");
}

#[tokio::test]
async fn each_row_can_carry_the_token_of_its_attempt() {
    // GIVEN a target table that takes the token as a default
    let mut world = World::with_orders(10).await;
    world
        .wh(
            "alter table orders add token bigint default current_setting('highwater.token', \
              true)::bigint",
        )
        .await;
    // WHEN an attempt commits
    assert!(matches!(
        world.guarded(5).await.commit().await,
        CommitOutcome::Committed(_)
    ));
    // THEN each row has it
    let token = fence(5).token.raw();
    assert_eq!(
        world
            .count(&format!(
                "select count(*) from orders where token = {token}"
            ))
            .await,
        10
    );
}

/// Rows of another engine, typed one by one.
struct TypedRows {
    rows: Vec<Vec<Value>>,
    seen: u64,
}

#[async_trait::async_trait]
impl RowStream for TypedRows {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        self.seen += self.rows.len() as u64;
        let rows = std::mem::take(&mut self.rows);
        Ok((!rows.is_empty()).then_some(RowBatch::Rows(rows)))
    }

    fn rows(&self) -> u64 {
        self.seen
    }

    fn bytes(&self) -> u64 {
        self.seen
    }
}

#[tokio::test]
async fn typed_values_of_another_engine_arrive_exactly_or_are_refused() {
    // GIVEN columns of another engine's kinds, and a table made for them
    let mut world = World::start().await;
    let kinds = [
        ("id", ColumnKind::Int64),
        ("flag", ColumnKind::Bool),
        ("note", ColumnKind::Any),
        ("raw", ColumnKind::Bytes),
    ];
    let columns = kinds.map(|(name, kind)| ColumnFacts {
        name: name.into(),
        type_name: "ANYTHING".into(),
        kind,
        nullable: true,
        binary_portable: false,
        definition: None,
        origin: None,
    });
    let mut request = prepare_request(columns.to_vec());
    (request.source_engine, request.key) = (Engine::Sqlite, Vec::new());
    world.target.prepare(&request).await.expect("prepared");
    let mut write = world_write(&columns);
    let text = |text: &str| Value::Text(text.into());
    let row = |id, note: Value| {
        vec![
            Value::Integer(id),
            Value::Integer(id % 2),
            note,
            Value::Bytes(vec![0, 9, 92]),
        ]
    };
    // WHEN typed rows are written THEN each value is what it was
    let notes = vec![
        row(1, text("a\tb\\N\n")),
        row(2, Value::Real(0.1)),
        row(3, Value::Null),
        row(4, text("\\N")),
    ];
    let tx = world.held(1).await.begin().await.expect("begun");
    let (tx, receipt) = tx
        .write(
            &write,
            &mut TypedRows {
                rows: notes,
                seen: 0,
            },
        )
        .await
        .expect("written");
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
    else {
        panic!("lost")
    };
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
    let exact = r"select count(*) from orders where flag = (id % 2 = 1) and raw = '\x00095c'
                  and note is not distinct from (array[E'a\tb\\N\n', '0.1', null, '\N'])[id]";
    assert_eq!(world.count(exact).await, 4);
    // WHEN one has no exact form THEN the attempt fails by the column's name, and nothing of it is
    // there
    let slice = ids(Some(5), None);
    write.rows = Rows::Slice(SliceRows {
        column: "id".into(),
        form: CursorForm::Native,
        slice,
    });
    let mut claim = world.claim_of(1, slice).await;
    claim.task = TaskId::from_bytes([9; 16]);
    let tx = world.held_for(&claim).await.begin().await.expect("begun");
    let mut rows = TypedRows {
        rows: vec![row(5, Value::Null), row(6, text("a\0b"))],
        seen: 0,
    };
    let message = refused(
        tx.write(&write, &mut rows).await,
        ErrorClass::Permanent,
        "nul_in_text",
    );
    assert!(message.contains("column note"), "{message}");
    world.no_open_transaction().await;
    assert_eq!(world.orders().await, 4);
}

fn world_write(columns: &[ColumnFacts]) -> WriteRequest {
    WriteRequest {
        table: table_name("orders"),
        columns: columns.to_vec(),
        rows: Rows::Slice(SliceRows {
            column: "id".into(),
            form: CursorForm::Native,
            slice: all(),
        }),
        mode: WriteMode::ReplacePartition,
        merge_by: MergeBy::default(),
        triggers: Triggers::Fire,
        resident: ExistingRows::Fail,
        shrinking: highwater_common::spec::Shrinking::default(),
        format: RowFormat::Values,
        stream: STREAM.into(),
    }
}
