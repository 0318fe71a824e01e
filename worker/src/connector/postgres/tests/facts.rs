//! What probes find out and what prepare makes.

use std::time::Duration;

use highwater_common::cursor::CursorKind;

use super::*;
use crate::connector::Doing;

#[tokio::test]
async fn a_probe_reads_rows_bounds_and_keys() {
    let mut world = World::start().await;
    // GIVEN a table with infinities, NULLs, an index, and a unique key beside no primary one
    world
        .legacy(
            "create type mood as enum ('good', 'bad'); \
             create table orders (id integer not null unique, at timestamptz, day date not null, \
             seen timestamp, m mood); \
             create index on orders (at); \
             insert into orders select n, timestamptz '2013-01-01 00:00:00.000001Z' + n * interval \
             '1 day', \
             date '2013-01-01' + n, timestamp '2013-01-01' + n * interval '1 h', 'good' from \
             generate_series(0, 9) n; \
             insert into orders values (10, 'infinity', '-infinity', null, 'bad'), (11, \
             '-infinity', 'infinity', null, null), \
             (12, null, '2020-01-01', null, null); \
             analyze orders",
        )
        .await;
    // WHEN it is probed by each of its kinds of positions THEN the infinities lie in the open ends
    let at = world.facts("orders", "at").await.expect("probed");
    assert_eq!(
        (at.rows, at.rows_exact, at.key.as_slice()),
        (13, true, ["id".to_owned()].as_slice())
    );
    assert!(at.bytes > 0);
    let partition = at.partition.expect("asked for");
    let start = 1_356_998_400_000_001;
    assert_eq!(partition.min, Some(Cursor::Instant(start)));
    assert_eq!(
        partition.max,
        Some(Cursor::Instant(start + 9 * 86_400_000_000))
    );
    assert_eq!(
        (partition.nullable, partition.null_rows, partition.indexed),
        (true, Some(1), true)
    );
    let day = world
        .facts("orders", "day")
        .await
        .expect("probed")
        .partition
        .expect("asked for");
    assert_eq!(
        (day.min, day.max),
        (Some(Cursor::Date(15_706)), Some(Cursor::Date(18_262)))
    );
    assert_eq!(
        (day.nullable, day.null_rows, day.indexed),
        (false, Some(0), false)
    );
    let seen = world
        .facts("orders", "seen")
        .await
        .expect("probed")
        .partition
        .expect("asked for");
    assert_eq!(
        (seen.kind, seen.min),
        (
            CursorKind::Civil,
            Some(Cursor::Civil(1_356_998_400_000_000))
        )
    );
    let id = world.facts("orders", "id").await.expect("probed");
    let partition = id.partition.expect("asked for");
    assert_eq!(
        (partition.min, partition.max),
        (Some(Cursor::Integer(0)), Some(Cursor::Integer(12)))
    );
    assert_eq!(partition.histogram.len(), 13);
    // AND an enum has no portable binary form
    let portable: Vec<_> = id
        .columns
        .iter()
        .map(|column| column.binary_portable)
        .collect();
    assert_eq!(portable, [true, true, true, true, false]);
    assert_eq!(
        world.source.formats(&id.columns),
        [RowFormat::CopyText, RowFormat::Values]
    );
    // WHEN the table is empty THEN it has no bounds
    world.legacy("truncate orders").await;
    let partition = world
        .facts("orders", "at")
        .await
        .expect("probed")
        .partition
        .expect("asked for");
    assert_eq!((partition.min, partition.max), (None, None));
}

/// A view that stands for a table whose scan takes `seconds`: its partition column is told only by
/// waiting.
async fn slow(world: &mut World, rows: u32, seconds: f64) -> PostgresSource {
    world
        .legacy(&format!(
            "create table base as select n as id, date '2024-01-01' + n as at from \
             generate_series(1, {rows}) n; \
             create function slow(date) returns date language plpgsql volatile \
             as 'begin perform pg_sleep({seconds}); return $1; end'; \
             create view v as select id, slow(at) as at from base"
        ))
        .await;
    let options = SessionOptions {
        probe_timeout: Duration::from_secs(2),
        look_every: Duration::from_millis(300),
        ..SessionOptions::default()
    };
    PostgresSource::with_options(
        &world.server.url("legacy"),
        "src".parse().expect("a name"),
        options,
    )
    .expect("a source")
}

fn of_the_view(bounds_declared: bool) -> SourceProbe {
    SourceProbe {
        defined: false,
        relation: table_name("v").into(),
        columns: ColumnRules::default(),
        bounds_declared,
        placing: None,
        partition_column: Some("at".into()),
    }
}

#[tokio::test]
async fn a_table_without_an_index_is_planned() {
    // GIVEN a table whose bounds take a scan of several times the probe's time
    let mut world = World::start().await;
    let mut source = slow(&mut world, 10, 0.4).await;
    let doing = Doing::default();
    source.tell(&doing);
    // WHEN it is probed, THEN it says what it does, and the server is seen at work on it
    let asked = of_the_view(false);
    let mut probed = source.probe(&asked);
    while doing.signs() == 0 {
        let looked = tokio::time::timeout(Duration::from_millis(100), &mut probed).await;
        assert!(looked.is_err(), "it was over before anybody saw it at work");
    }
    let (words, said) = (
        doing.words(),
        " value of at in public.v by a full scan, no index leads with it",
    );
    assert!(
        words.starts_with("reading the ") && words.ends_with(said),
        "{words}"
    );
    // AND its bounds are found, and what can be done without is not waited for
    let partition = probed.await.expect("probed").partition.expect("asked for");
    assert_eq!(
        (partition.min, partition.max),
        (Some(Cursor::Date(19_724)), Some(Cursor::Date(19_733)))
    );
    assert_eq!((partition.indexed, partition.null_rows), (false, None));
}

#[tokio::test]
async fn declared_bounds_are_not_looked_for() {
    // GIVEN a table whose scan takes longer than anybody waits
    let mut world = World::start().await;
    let source = slow(&mut world, 1_000, 60.0).await;
    // WHEN it is probed for a step that declares its bounds, THEN nothing is looked for
    let probed =
        tokio::time::timeout(Duration::from_secs(60), source.probe(&of_the_view(true))).await;
    let partition = probed
        .expect("no scan")
        .expect("probed")
        .partition
        .expect("asked for");
    assert_eq!(
        (partition.min, partition.max, partition.null_rows),
        (None, None, None)
    );
}

#[tokio::test]
async fn a_source_that_writes_when_it_is_read_is_refused_and_not_waited_for() {
    // GIVEN a view whose function keeps a log
    let mut world = World::start().await;
    world
        .legacy(
            "create table base (id int primary key); insert into base values (1); create table log (id int);
             create function logged(id int) returns int language sql volatile as 'insert into public.log values (1); select id';
             create view v as select id, date '2024-01-01' + logged(id) as at from base",
        )
        .await;
    let (url, name) = (world.server.url("legacy"), "src".parse().expect("a name"));
    let source = PostgresSource::with_options(&url, name, SessionOptions::default());
    // WHEN it is probed THEN it is no server that is away, but a table that cannot be a source
    let refused = source
        .expect("a source")
        .probe(&of_the_view(false))
        .await
        .map(drop)
        .expect_err("it writes")
        .report;
    assert_eq!(
        (refused.class, refused.code.as_str()),
        (ErrorClass::Permanent, "source_writes")
    );
    assert!(
        refused.message.contains("writes when it is read"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn two_prepares_at_once_make_one_table_and_a_repeat_is_harmless() {
    let mut world = World::start().await;
    world
        .legacy(
            "create type mood as enum ('good'); create table orders (id bigint not null, m \
                 mood, d numeric(9,2))",
        )
        .await;
    let mut request = prepare_request(world.columns().await);
    request.table = table_name("mart.orders");
    request.key = vec!["d".into()];
    // WHEN two prepare at once, and then one again
    let (one, two) = tokio::join!(
        world.target.prepare(&request),
        world.target.prepare(&request)
    );
    let (mut told, two) = (
        one.expect("prepared").warnings(),
        two.expect("prepared").warnings(),
    );
    told.extend(two);
    assert_eq!(
        told,
        ["column m of mart.orders is created as text: the target has no type public.mood"]
    );
    request.key.clear();
    // THEN the repeat finds a table that takes the rows: unknown types as text, an index on the
    // partition column
    assert_eq!(
        world
            .target
            .prepare(&request)
            .await
            .expect("prepared")
            .warnings(),
        Vec::<String>::new()
    );
    let types: Vec<String> = sqlx::query_scalar(
        "select format_type(atttypid, atttypmod) || case when attnotnull then '!' else '' end from \
         pg_attribute \
         where attrelid = 'mart.orders'::regclass and attnum > 0 order by attnum",
    )
    .fetch_all(&mut world.wh)
    .await
    .expect("read");
    assert_eq!(types, ["bigint!", "text", "numeric(9,2)!"]);
    assert_eq!(
        world.count("select incarnation from highwater.meta").await,
        1
    );
    // GIVEN that index dropped THEN a repeat warns
    world.wh("drop index mart.orders_id_idx").await;
    let warnings = world
        .target
        .prepare(&request)
        .await
        .expect("prepared")
        .warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("leads with id"),
        "{warnings:?}"
    );
    // GIVEN a table with other columns THEN every difference is listed
    world
        .wh("alter table mart.orders drop m, alter d type numeric(9,0), add x int not null")
        .await;
    let message = refused(
        world.target.prepare(&request).await,
        ErrorClass::Permanent,
        "plan::missing_target_column",
    );
    for difference in [
        "mart.orders lacks m",
        "column d is numeric(9,2) in orders and numeric(9,0) in mart.orders: the target would \
         round values in silence",
        "column x of the target table mart.orders is NOT NULL and has no default",
    ] {
        assert!(message.contains(difference), "{message}");
    }
}

#[tokio::test]
async fn a_target_probe_finds_what_the_stream_has_committed() {
    let mut world = World::start().await;
    world
        .legacy("create table orders (id bigint, note text)")
        .await;
    let probe = TargetProbe {
        twin: None,
        cluster: CLUSTER,
        table: table_name("orders"),
        source_engine: Engine::Postgres,
        columns: Vec::new(),
        partition: Some(("id".into(), CursorKind::Integer)),
        stream: STREAM.into(),
        triggers: Triggers::Fire,
        exchange: false,
    };
    // GIVEN nothing at all THEN the probe says so and makes nothing
    let facts = world.target.probe(&probe).await.expect("probed");
    assert_eq!((facts.table, facts.covered.len()), (None, 0));
    assert_eq!(
        world
            .target
            .ledger_row(&RUN, &TASK)
            .await
            .expect("no ledger, no row"),
        None
    );
    assert_eq!(
        world
            .count("select count(*) from pg_namespace where nspname = 'highwater'")
            .await,
        0
    );
    // GIVEN some committed slices, one of another run, and one that is only claimed
    let mut request = prepare_request(world.columns().await);
    request.key.clear();
    world.target.prepare(&request).await.expect("prepared");
    let slices = [
        ids(Some(5), Some(9)),
        ids(None, Some(5)),
        ids(Some(20), Some(30)),
        Slice::Null,
        ids(Some(40), None),
    ];
    for (at, slice) in slices.into_iter().enumerate() {
        let mut claim = world.claim_of(1, slice).await;
        claim.task = TaskId::from_bytes([u8::try_from(at).expect("small"); 16]);
        claim.run = RunId::from_bytes([u8::try_from(at % 2).expect("small"); 16]);
        let tx = world.held_for(&claim).await.begin().await.expect("begun");
        let GuardOutcome::Holds(guarded) = tx
            .guard(&GuardStep::last(Receipt::default()))
            .await
            .expect("no fault")
        else {
            panic!("lost")
        };
        if at < 4 {
            assert!(matches!(
                guarded.commit().await,
                CommitOutcome::Committed(_)
            ));
        }
    }
    // THEN the committed ones are told, merged
    let facts = world.target.probe(&probe).await.expect("probed");
    let covered: Vec<_> = facts.covered.into_iter().map(Slice::Range).collect();
    assert_eq!(
        (covered, facts.covered_null),
        (vec![ids(None, Some(9)), ids(Some(20), Some(30))], true)
    );
    let table = facts.table.expect("made");
    assert_eq!(
        (table.partition_form, table.partition_indexed),
        (Some(CursorForm::Native), true)
    );
    assert!(!table.has_rows && table.key.is_empty());
    let columns = world.columns().await;
    assert_eq!(
        world
            .target
            .formats(Engine::Postgres, &columns, &table.columns)[0],
        RowFormat::CopyBinary
    );
    assert_eq!(
        world
            .target
            .formats(Engine::Sqlite, &columns, &table.columns),
        [RowFormat::Values]
    );
}

#[tokio::test]
async fn stretches_without_rows_are_found_where_rows_lie_far_apart() {
    // GIVEN a month of rows, and one in the year 9999 or at the other end of the numbers
    let mut world = World::start().await;
    world
        .legacy(
            "create table orders as select n::bigint as id, timestamptz '2024-01-01Z' + n * \
             interval '10 min' as at \
             from generate_series(0, 4999) n; \
             insert into orders values (7234567890123456789, '9999-12-31Z'), (null, 'infinity')",
        )
        .await;
    // WHEN it is probed THEN the stretch between is known
    let at = world
        .facts("orders", "at")
        .await
        .expect("probed")
        .partition
        .expect("asked for");
    let last = Cursor::Instant(1_704_067_200_000_000 + 4_999 * 600_000_000);
    assert_eq!(at.empty, [(last, Cursor::Instant(253_402_214_400_000_000))]);
    let id = world
        .facts("orders", "id")
        .await
        .expect("probed")
        .partition
        .expect("asked for");
    assert_eq!(
        id.empty,
        [(
            Cursor::Integer(4_999),
            Cursor::Integer(7_234_567_890_123_456_789)
        )]
    );
}

#[tokio::test]
async fn a_created_column_gets_the_sources_type_where_the_target_has_it_and_else_it_is_told() {
    // GIVEN types of a user's own, in other schemas, in both letters, of an extension, and arrays
    // of them
    const TYPES: &str = "create schema extensions; create extension citext schema extensions; \
        create schema shop; \
        create type shop.status as enum ('new', 'paid'); create type \"OrderKind\" as enum ('A', \
        'b'); \
        create domain shop.cents as bigint check (value >= 0); create type pair as (a shop.status, \
        b text)";
    let mut world = World::start().await;
    world.legacy(TYPES).await;
    world
        .legacy(
            "create table orders (id shop.cents primary key, st shop.status, k \"OrderKind\"[], em \
             extensions.citext, c shop.cents, \
             p pair, q \"char\", z bit varying(5))",
        )
        .await;
    let columns = {
        let probe = SourceProbe {
            defined: false,
            relation: table_name("orders").into(),
            columns: ColumnRules::default(),
            partition_column: None,
            bounds_declared: false,
            placing: None,
        };
        world.source.probe(&probe).await.expect("probed").columns
    };
    let mut request = prepare_request(columns.clone());
    let probe = |columns: &[ColumnFacts]| TargetProbe {
        twin: None,
        cluster: CLUSTER,
        table: table_name("orders"),
        source_engine: Engine::Postgres,
        columns: columns.to_vec(),
        partition: Some(("id".into(), CursorKind::Integer)),
        stream: STREAM.into(),
        triggers: Triggers::Fire,
        exchange: false,
    };
    // WHEN the target has none of them, or one that is made otherwise
    world
        .wh("create schema shop; create type shop.status as enum ('paid', 'new')")
        .await;
    let told: Vec<String> = world
        .target
        .probe(&probe(&columns))
        .await
        .expect("probed")
        .created_as
        .iter()
        .map(|one| one.line(&request.table))
        .collect();
    // THEN the plan is told of each, and prepare says and does the same
    assert_eq!(
        told,
        [
            "column id of orders is created as bigint: the target has no type shop.cents",
            "column st of orders is created as text: the target's type shop.status is made \
             otherwise: the target's type has its labels in another order: 'paid' comes before \
             'new'",
            "column k of orders is created as text: the target has no type public.OrderKind",
            "column em of orders is created as text: the target has no type citext of the \
             extension citext",
            "column c of orders is created as text: the target has no type shop.cents",
            "column p of orders is created as text: the target has no type public.pair",
        ]
    );
    let warned = world
        .target
        .prepare(&request)
        .await
        .expect("prepared")
        .warnings();
    assert_eq!(warned.len(), told.len(), "{warned:?}");
    assert_eq!(
        created(&mut world).await,
        [
            "bigint!",
            "text",
            "text",
            "text",
            "text",
            "text",
            "\"char\"",
            "bit varying(5)"
        ]
    );
    // WHEN it has all of them, the extension in another schema THEN the columns have them
    world
        .wh("drop table orders; drop schema shop cascade; create extension citext")
        .await;
    world
        .wh(&TYPES.replace("create extension citext schema extensions;", ""))
        .await;
    assert_eq!(
        world
            .target
            .probe(&probe(&columns))
            .await
            .expect("probed")
            .created_as,
        []
    );
    request.key = Vec::new();
    assert_eq!(
        world
            .target
            .prepare(&request)
            .await
            .expect("prepared")
            .warnings(),
        Vec::<String>::new()
    );
    assert_eq!(
        created(&mut world).await,
        [
            "shop.cents!",
            "shop.status",
            "\"OrderKind\"[]",
            "citext",
            "shop.cents",
            "pair",
            "\"char\"",
            "bit varying(5)"
        ]
    );
}

/// The types of the columns of `orders` in the target, those that are NOT NULL with a mark.
async fn created(world: &mut World) -> Vec<String> {
    sqlx::query_scalar(
        "select format_type(atttypid, atttypmod) || case when attnotnull then '!' else '' end from \
         pg_attribute \
         where attrelid = 'orders'::regclass and attnum > 0 order by attnum",
    )
    .fetch_all(&mut world.wh)
    .await
    .expect("read")
}
