//! What cuts a table: whole numbers, days and times of any type that holds them, each row in one
//! slice.

use super::*;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{LeftOutRequest, RowBatch, Rows, SliceRows, Value};
use highwater_common::facts::PartitionFacts;
use highwater_common::left_out::{LeftOut, Tally};

/// The facts of a column of `t`.
async fn positions(world: &World, column: &str) -> PartitionFacts {
    world
        .facts("t", column)
        .await
        .expect("probed")
        .partition
        .expect("asked for")
}

/// The ids of the rows of `t` in a slice by `column`, ascending.
async fn ids_in(world: &World, column: &str, form: CursorForm, slice: Slice) -> Vec<i64> {
    let mut columns = world.facts("t", "id").await.expect("probed").columns;
    columns.retain(|column| column.name == "id");
    let (partition_column, format) = (column.to_owned(), RowFormat::Values);
    let request = ReadRequest {
        relation: table_name("t").into(),
        columns,
        rows: Rows::Slice(SliceRows {
            column: partition_column,
            form,
            slice,
        }),
        format,
    };
    let mut rows = world.source.read(&request).await.expect("reading");
    let mut found = Vec::new();
    while let Some(batch) = rows.next().await.expect("read") {
        let RowBatch::Rows(batch) = batch else {
            panic!("values")
        };
        found.extend(batch.into_iter().map(|row| match row.as_slice() {
            [Value::Text(id)] => id.parse::<i64>().expect("a number"),
            other => panic!("{other:?}"),
        }));
    }
    found.sort_unstable();
    found
}

/// The condition of a slice uses an index.
async fn finds_by_index(world: &mut World, column: &str, form: CursorForm, slice: Slice) {
    let sql =
        Sql::new(Dialect::Postgres, "explain select id from t where ").slice(column, form, &slice);
    world
        .legacy("set enable_seqscan = off; set enable_indexscan = on")
        .await;
    let lines: Vec<String> = sqlx::query_scalar(sql.into_statement())
        .fetch_all(&mut world.legacy)
        .await
        .expect("a plan");
    assert!(
        lines.iter().any(|line| line.contains("Index Cond")),
        "{column}: {lines:?}"
    );
}

async fn left_out(world: &World, column: &str, form: CursorForm, whole: Slice) -> LeftOut {
    let Slice::Range(whole) = whole else {
        panic!("a range")
    };
    let (table, within) = (table_name("t"), std::time::Duration::from_mins(1));
    let request = LeftOutRequest {
        table,
        partition_column: column.to_owned(),
        form,
        whole,
        within,
    };
    world.source.count_left_out(&request).await.expect("counts")
}

fn dates(start: i32, end: i32) -> Slice {
    Slice::Range(
        CursorRange::new(Some(Cursor::Date(start)), Some(Cursor::Date(end))).expect("not empty"),
    )
}

#[tokio::test]
async fn whole_numbers_of_every_type_are_cut_and_no_row_falls_between() {
    // GIVEN ids as decimals, with what lies between, beyond and beside whole numbers, and as oids,
    // on both sides of 2^31
    let mut world = World::start().await;
    world
        .legacy(
            "create domain id19 as numeric(19,0); create domain own_id as id19; create domain small_id as integer;
             create table t (id bigint primary key, n numeric(19,0), f numeric, d own_id, o oid, s small_id);
             insert into t select i, i, i, i, i, i from generate_series(1, 100) i;
             insert into t (id, f) values (201, 'NaN'), (202, 1e30), (203, -1e30), (204, 10.5), (205, 9.999999999),
                (206, 9223372036854775807), (207, 9223372036854775807.5), (208, null);
             insert into t (id, o) values (301, 2147483648), (302, 4294967295), (303, 0);
             create index on t (n); create index on t (f); create index on t (d); create index on t (o);
             create index on t (s); analyze t",
        )
        .await;
    let infinities = world
        .count("select current_setting('server_version_num')::int8")
        .await
        >= 140_000;
    if infinities {
        world
            .legacy("insert into t (id, f) values (209, 'Infinity'), (210, '-Infinity'); analyze t")
            .await;
    }
    for (column, form, max) in [
        ("n", CursorForm::Native, 100),
        ("f", CursorForm::Native, i64::MAX),
        ("d", CursorForm::Native, 100),
        ("o", CursorForm::Oid, 4_294_967_295),
        ("s", CursorForm::Native, 100),
    ] {
        // WHEN it is probed THEN its bounds are the first and the last whole number of 64 bits
        let found = positions(&world, column).await;
        assert_eq!(
            (found.kind, found.form, found.indexed),
            (CursorKind::Integer, form, true),
            "{column}"
        );
        let min = if column == "o" { 0 } else { 1 };
        assert_eq!(
            (found.min, found.max),
            (Some(Cursor::Integer(min)), Some(Cursor::Integer(max))),
            "{column}"
        );
        assert!(
            found.histogram.len() > 50,
            "{column}: {:?}",
            found.histogram
        );
        // WHEN it is cut THEN each row is in one slice, found by an index, however far the bounds
        // reach
        let mut all = ids_in(&world, column, form, Slice::Null).await;
        let edges = [
            i64::MIN,
            -1,
            0,
            10,
            11,
            2_147_483_648,
            4_294_967_295,
            4_294_967_296,
            i64::MAX,
        ];
        let ends = std::iter::once(None).chain(edges.map(Some));
        for (start, end) in ends.zip(edges.map(Some).into_iter().chain([None])) {
            all.extend(ids_in(&world, column, form, ids(start, end)).await);
        }
        all.sort_unstable();
        let every: Vec<i64> = sqlx::query_scalar("select id from t order by 1")
            .fetch_all(&mut world.legacy)
            .await
            .expect("read");
        assert_eq!(all, every, "{column}");
        finds_by_index(&mut world, column, form, ids(Some(10), Some(11))).await;
    }
    // AND what lies between two whole numbers is in the slice of the one below
    assert_eq!(
        ids_in(&world, "f", CursorForm::Native, ids(Some(10), Some(11))).await,
        [10, 204]
    );
    assert_eq!(
        ids_in(&world, "o", CursorForm::Oid, ids(Some(2_147_483_648), None)).await,
        [301, 302]
    );
    // WHEN bounds are declared THEN numbers outside are that, and NaN is no number that was
    let beyond = if infinities { 1 } else { 0 };
    let found = left_out(&world, "f", CursorForm::Native, ids(Some(1), Some(11))).await;
    let nulls: i64 = sqlx::query_scalar("select count(*) from t where f is null")
        .fetch_one(&mut world.legacy)
        .await
        .expect("counted");
    let expected = LeftOut {
        before: Tally::Exactly(1 + beyond),
        behind: Tally::Exactly(90 + 3 + beyond),
        null: Tally::Exactly(nulls.unsigned_abs()),
        stray: Tally::Exactly(1),
    };
    assert_eq!(found, expected);
    world.legacy("drop index t_f_idx").await;
    assert_eq!(
        left_out(&world, "f", CursorForm::Native, ids(Some(1), Some(11))).await,
        expected
    );
    assert_eq!(
        left_out(&world, "f", CursorForm::Native, ids(Some(1), None))
            .await
            .stray,
        Tally::Exactly(0)
    );
    assert_eq!(
        left_out(&world, "o", CursorForm::Oid, ids(Some(1), Some(i64::MAX)))
            .await
            .before,
        Tally::Exactly(1)
    );
}

#[tokio::test]
async fn a_domain_is_cut_as_the_type_below_it_on_both_sides() {
    // GIVEN times and days behind domains, one over another
    let mut world = World::start().await;
    let types = "create domain stamp as timestamptz(3); create domain own_stamp as stamp; create \
                 domain day as date; \
                 create domain clock as timestamp";
    world
        .legacy(&format!(
            "{types}; create table t (id bigint primary key, at own_stamp, day day, seen clock);
             insert into t select i, timestamptz '2024-01-01 00:00Z' + i * interval '1 h', date '2024-01-01' + i,
                timestamp '2024-01-01' + i * interval '1 h' from generate_series(1, 50) i;
             insert into t values (51, 'infinity', '-infinity', 'infinity'), (52, null, null, null);
             create index on t (at); create index on t (day); create index on t (seen)"
        ))
        .await;
    world
        .wh(&format!(
            "{types}; create table t (id bigint primary key, at own_stamp, day day, seen clock)"
        ))
        .await;
    for (column, kind, min, cut) in [
        (
            "at",
            CursorKind::Instant,
            Cursor::Instant(1_704_070_800_000_000),
            Cursor::Instant(1_704_110_400_000_000),
        ),
        (
            "day",
            CursorKind::Date,
            Cursor::Date(19_724),
            Cursor::Date(19_735),
        ),
        (
            "seen",
            CursorKind::Civil,
            Cursor::Civil(1_704_070_800_000_000),
            Cursor::Civil(1_704_110_400_000_000),
        ),
    ] {
        // WHEN the source is probed and cut THEN the domain is no hindrance
        let found = positions(&world, column).await;
        assert_eq!(
            (found.kind, found.form, found.min),
            (kind, CursorForm::Native, Some(min)),
            "{column}"
        );
        let range = |start, end| Slice::Range(CursorRange::new(start, end).expect("not empty"));
        let (below, above) = (range(None, Some(cut)), range(Some(cut), None));
        let mut all = ids_in(&world, column, found.form, Slice::Null).await;
        for slice in [below, above] {
            all.extend(ids_in(&world, column, found.form, slice).await);
            finds_by_index(&mut world, column, found.form, slice).await;
        }
        all.sort_unstable();
        assert_eq!(all, (1..=52).collect::<Vec<i64>>(), "{column}");
        // AND the target compares its own as the source does
        let probe = TargetProbe {
            twin: None,
            cluster: CLUSTER,
            table: table_name("t"),
            source_engine: Engine::Postgres,
            columns: Vec::new(),
            partition: Some((column.to_owned(), kind)),
            stream: STREAM.into(),
            triggers: Triggers::Fire,
            exchange: false,
        };
        let held = world
            .target
            .probe(&probe)
            .await
            .expect("probed")
            .table
            .expect("there")
            .partition_form;
        assert_eq!(held, Some(CursorForm::Native), "{column}");
    }
    assert_eq!(
        ids_in(&world, "day", CursorForm::Native, dates(19_724, 19_726)).await,
        [1, 2]
    );
}

/// A table of days as text, in columns of every type and order that holds them; in the last ones an
/// odd value each.
const TEXT_DAYS: &str = "create domain iso as text; create domain own_iso as iso;
    create collation loose (provider = icu, locale = 'en-u-ka-shifted', deterministic = false);
    create table t (id bigint primary key, plain text, short varchar(10), fixed char(10), own own_iso, icu text collate \"en-x-icu\",
        loose text collate loose, bytes text collate \"C\", padded char(12), mixed text, empty text, late text);
    insert into t select i, d, d, d, d, d, d, d, d, case i when 50 then '31.01.2024' else d end, null, d
        from (select i, to_char(date '2023-12-31' + i, 'YYYY-MM-DD') as d from generate_series(1, 100) i) n;
    insert into t (id) values (101); create index on t (plain); create index on t (bytes); create index on t (icu collate \"C\")";

#[tokio::test]
async fn days_written_as_text_are_cut_whatever_order_their_column_has() {
    let mut world = World::start().await;
    world.legacy(TEXT_DAYS).await;
    for (column, indexed) in [
        ("plain", false),
        ("short", false),
        ("fixed", false),
        ("own", false),
        ("icu", true),
        ("loose", false),
        ("bytes", true),
    ] {
        // WHEN it is probed THEN its texts are days, and only an index in the order of bytes counts
        // as one
        let found = positions(&world, column).await;
        assert_eq!(
            (found.kind, found.form),
            (CursorKind::Date, CursorForm::TextDate),
            "{column}"
        );
        assert_eq!(
            (found.min, found.max),
            (Some(Cursor::Date(19_723)), Some(Cursor::Date(19_822))),
            "{column}"
        );
        assert_eq!(
            (found.indexed, found.null_rows),
            (indexed, Some(1)),
            "{column}"
        );
        // AND each row is in one slice
        let range = |start, end| Slice::Range(CursorRange::new(start, end).expect("not empty"));
        let (first, last) = (Some(Cursor::Date(19_754)), Some(Cursor::Date(19_783)));
        let mut all = ids_in(&world, column, found.form, Slice::Null).await;
        for slice in [range(None, first), range(first, last), range(last, None)] {
            let ids = ids_in(&world, column, found.form, slice).await;
            assert!(ids.len() >= 29, "{column}: {ids:?}");
            all.extend(ids);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=101).collect::<Vec<i64>>(), "{column}");
        if indexed {
            finds_by_index(&mut world, column, found.form, dates(19_754, 19_783)).await;
        }
    }
    // WHEN a column holds nothing THEN any form would do
    assert_eq!(positions(&world, "empty").await.kind, CursorKind::Date);
    // WHEN another form is among them, or blanks are part of it, THEN that is refused, and the
    // value is not told
    for (column, shape) in [("mixed", "'99.99.9999'"), ("padded", "'9999-99-99  '")] {
        let message = refused(
            world.facts("t", column).await,
            ErrorClass::Permanent,
            "partition_form",
        );
        assert!(
            message.contains(shape) && message.contains("read a view that casts this one"),
            "{message}"
        );
        assert!(!message.contains("31.01.2024"), "{message}");
    }
    // WHEN texts of other forms come later THEN each has a place, or is told apart outside of what
    // is declared
    let odd = "(201, 'n/a'), (202, ''), (203, '2024-1-5'), (204, '2024-02-31'), (205, \
               '0000-00-00'), (206, 'infinity')";
    world
        .legacy(&format!("insert into t (id, late) values {odd}"))
        .await;
    let range = |start: Option<i32>, end: Option<i32>| {
        Slice::Range(
            CursorRange::new(start.map(Cursor::Date), end.map(Cursor::Date)).expect("not empty"),
        )
    };
    let mut all = ids_in(&world, "late", CursorForm::TextDate, Slice::Null).await;
    for slice in [
        range(None, Some(19_754)),
        range(Some(19_754), Some(19_783)),
        range(Some(19_783), None),
    ] {
        all.extend(ids_in(&world, "late", CursorForm::TextDate, slice).await);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=101).chain(201..=206).collect::<Vec<i64>>());
    let expected = LeftOut {
        before: Tally::Exactly(0),
        behind: Tally::Exactly(9 + 1),
        null: Tally::Exactly(1),
        stray: Tally::Exactly(4), // 2024-02-31 is within, and the infinity behind
    };
    let whole = dates(19_723, 19_814);
    assert_eq!(
        left_out(&world, "late", CursorForm::TextDate, whole).await,
        expected
    );
    world.legacy("create index on t (late collate \"C\")").await;
    assert_eq!(
        left_out(&world, "late", CursorForm::TextDate, whole).await,
        expected
    );
}

#[tokio::test]
async fn times_written_as_text_are_cut_in_their_one_form() {
    let mut world = World::start().await;
    world
        .legacy(
            "create table t (id bigint primary key, spaced text, zulu text, far text);
             insert into t select i, to_char(at, 'YYYY-MM-DD HH24:MI:SS'), to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
                case i when 5 then '9999-12-31' else to_char(at, 'YYYY-MM-DD') end
                from (select i, timestamp '2024-01-01' + i * interval '1 h' as at from generate_series(1, 48) i) n",
        )
        .await;
    let time = |separator_t, fraction_digits, zulu| CursorForm::TextTime {
        separator_t,
        fraction_digits,
        zulu,
    };
    for (column, kind, form, cut) in [
        (
            "spaced",
            CursorKind::Civil,
            time(false, 0, false),
            Cursor::Civil(1_704_153_600_000_000),
        ),
        (
            "zulu",
            CursorKind::Instant,
            time(true, 3, true),
            Cursor::Instant(1_704_153_600_000_000),
        ),
    ] {
        // WHEN a column of times is probed and cut THEN the slices part its rows at midnight
        let found = positions(&world, column).await;
        assert_eq!((found.kind, found.form), (kind, form), "{column}");
        let range = |start, end| Slice::Range(CursorRange::new(start, end).expect("not empty"));
        assert_eq!(
            ids_in(&world, column, form, range(None, Some(cut))).await,
            (1..24).collect::<Vec<_>>()
        );
        assert_eq!(
            ids_in(&world, column, form, range(Some(cut), None)).await,
            (24..=48).collect::<Vec<_>>()
        );
    }
    // WHEN one day lies far behind the others THEN the stretch before it is found empty
    let far = positions(&world, "far").await;
    assert_eq!(far.max, Some(Cursor::Date(2_932_896)));
    assert_eq!(
        far.empty.last(),
        Some(&(Cursor::Date(19_725), Cursor::Date(2_932_896))),
        "{:?}",
        far.empty
    );
}

#[tokio::test]
async fn a_chunk_ends_at_a_position_in_columns_of_every_type() {
    // GIVEN ten rows whose columns hold the same order, with what has no position at the end
    let mut world = World::start().await;
    world
        .legacy(
            "create domain own_id as numeric(19,0); create domain own_day as date;
             create table t (id bigint primary key, n numeric, d own_id, o oid, s smallint,
                day date, own own_day, at timestamp, z timestamptz, iso text, iso_at varchar(19));
             insert into t select i, i + 0.5, i, i, i, date '2024-01-01' + i, date '2024-01-01' + i,
                timestamp '2024-01-01' + i * interval '1 h', timestamptz '2024-01-01Z' + i * interval '1 h',
                to_char(date '2024-01-01' + i, 'YYYY-MM-DD'),
                to_char(timestamp '2024-01-01' + i * interval '1 h', 'YYYY-MM-DD HH24:MI:SS')
                from generate_series(0, 9) i;
             insert into t (id, n, day, own, at, z, iso) values
                (10, 'NaN', 'infinity', 'infinity', 'infinity', 'infinity', 'infinity')",
        )
        .await;
    let jan = 19_723; // days from 1970-01-01 to 2024-01-01
    let hour = |n: i64| (i64::from(jan) * 24 + n) * 3_600_000_000;
    for (column, third) in [
        ("n", Cursor::Integer(3)),
        ("d", Cursor::Integer(3)),
        ("o", Cursor::Integer(3)),
        ("s", Cursor::Integer(3)),
        ("day", Cursor::Date(jan + 3)),
        ("own", Cursor::Date(jan + 3)),
        ("at", Cursor::Civil(hour(3))),
        ("z", Cursor::Instant(hour(3))),
        ("iso", Cursor::Date(jan + 3)),
        ("iso_at", Cursor::Civil(hour(3))),
    ] {
        let PartitionFacts { kind, form, .. } = positions(&world, column).await;
        let of = SliceRows {
            column: column.to_owned(),
            form,
            slice: Slice::Range(CursorRange::ALL),
        };
        let table = table_name("t");
        let at = async |before| match world.source.position_at(&table, &of, kind, before).await {
            Ok(found) => found,
            Err(error) => panic!("{column}: {error}"),
        };
        // WHEN the row behind three others is asked for THEN it is told, and none behind the last
        // position
        assert_eq!(at(3).await, Some(third), "{column}");
        assert_eq!(at(10).await, None, "{column}");
        assert_eq!(at(99).await, None, "{column}");
    }
}
