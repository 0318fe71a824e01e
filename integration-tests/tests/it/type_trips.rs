//! Values keep their form: the worst of each type, between each pair of connectors; and what a pair
//! cannot carry is refused by its column's name.

use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::contracts::{Place, Step, World};

/// Columns of PostgreSQL's own types, and rows of their edge values. `amount` and what follows it
/// are all that a type can hold; the last rows are NULL throughout, one of them without a position.
const POSTGRES: &str = r#"
    create table everything (
        id bigint primary key, at bigint, tiny smallint, small int, big bigint, amount numeric, price numeric(12,2),
        single real, ratio double precision, flag boolean, note text, code varchar(9), fixed character(4), payload bytea,
        doc json, docb jsonb, who uuid, day date, seen timestamp, at_instant timestamptz, open time, open_tz timetz,
        span interval, net inet, subnet cidr, mac macaddr, tags text[], grid int[], bits bit(5), more_bits bit varying,
        during int4range, valid tstzrange, words tsvector, doubled bigint generated always as (tiny * 2) stored);
    insert into everything (id, at, tiny, small, big, amount, price, single, ratio, flag) values
        (1, 1, 32767, 2147483647, 9223372036854775807, repeat('9', 1000)::numeric, 9999999999.99, 3.4028235e38,
            1.7976931348623157e308, true),
        (2, 2, -32768, -2147483648, -9223372036854775808, ('0.' || repeat('0', 499) || '1')::numeric, -0.01, 1e-45, 5e-324, false),
        (3, 3, 0, 0, 9007199254740993, 'NaN', 'NaN', 'Infinity', '-Infinity', null),
        (4, 4, 1, -1, 0, 'Infinity', 0, '-Infinity', 'Infinity', true),
        (5, 5, -1, 1, 1, '-Infinity', 1.10, 0.1, 0.1, true),
        (6, 6, 5, 6, 7, 1.1000, 1.1, 16777217, 2.2250738585072011e-308, false);
    insert into everything (id, at, note, code, fixed, payload, doc, docb) values
        (20, 20, (select string_agg(chr(n), '') from generate_series(1, 255) n), E'\\N', 'a', decode(
            (select string_agg(lpad(to_hex(n), 2, '0'), '') from generate_series(0, 255) n), 'hex'),
            '{"a" :  1, "a":2,	"b":[ ]}', '{"b": [1.10, null, "\u00fc"]}'),
        (21, 21, '', '', '', '', '""', '""'),
        (22, 22, E'\\.', E'\t', 'ä', '\x00', 'null', 'null'),
        (23, 23, E'\\.\n\\N\r\n"quoted",\'single\';--', 'NULL', '\N', '\x0a', '[]', '[]'),
        (24, 24, U&'\+01F469\200D\+01F469\200D\+01F467 \0634\0631\0641 \202E', '😀', '😀', '\x5c4e', '1e400', '1e400'),
        (25, 25, repeat('x"\ü', 262144), 'long', 'long', convert_to(repeat('\', 1000000), 'UTF8'), '" \n "', '" \n "');
    insert into everything (id, at, who, day, seen, at_instant, open, open_tz, span) values
        (40, 40, '00000000-0000-0000-0000-000000000000', '4713-01-01 BC', '4713-01-01 00:00:00 BC', '4713-01-01 00:00:00+00 BC',
            '00:00:00', '00:00:00+15:59', '178000000 years'),
        (41, 41, 'ffffffff-ffff-ffff-ffff-ffffffffffff', '5874897-12-31', '294276-12-31 23:59:59.999999',
            '294276-12-31 23:59:59.999999+00', '24:00:00', '24:00:00-15:59', '-1 mon +1 day -0.000001 s'),
        (42, 42, null, 'infinity', 'infinity', 'infinity', '23:59:59.999999', '12:30:00.5+05:30', '0'),
        (43, 43, null, '-infinity', '-infinity', '-infinity', '12:00', '12:00Z', 'P1Y2M3DT4H5M6.7S'),
        (44, 44, null, '0001-01-01', '2013-03-31 02:30:00', '2013-03-31 01:59:59.999999+01', '12:00', '12:00Z', '1 day');
    insert into everything (id, at, net, subnet, mac, tags, grid, bits, more_bits, during, valid, words) values
        (60, 60, '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', array['x', null, 'NULL', 'with "quote"', E'\\', '', ' ', ',{}'],
            '{{1,2},{3,null}}', B'10101', B'1', '[1,5)', '["2013-01-01 00:00:00+00",)', 'a:1A fat:2B,4C ''it''''s'':3'),
        (61, 61, '::1', '::/0', 'ff:ff:ff:ff:ff:ff', '{}', '[0:1]={5,6}', B'00000', B'', 'empty', '(,)', '');
    insert into everything (id, at) values (80, 80), (81, null);
"#;

/// Types of a user's own: these go as text.
const OWN_TYPES: &str = "create type mood as enum ('sad', 'it''s \"ok\", \\ really', '😀');
    create domain positive as int check (value > 0); create type pair as (a int, b text);";
const OWN: &str = r#"
    create table own (id bigint primary key, at bigint, one mood, many mood[], plus positive, twin pair, page xml, note text);
    insert into own values (1, 1, 'sad', array['sad', null, 'it''s "ok", \ really']::mood[], 1, row(1, E'a,"b"\n\\'), '<a>&amp;</a>',
        E'\\N\t'), (2, null, '😀', '{}', null, null, '', ''), (3, 3, null, null, 2147483647, row(null, null), null, null);
"#;

/// Values of SQLite: of classes that their columns do not announce, and at the ends of those that
/// they do.
const SQLITE: &str = "
    create table classes (id integer primary key, at int, n int, r double, x text, b blob, free, d datetime, m decimal(12,2),
        f boolean, doubled int generated always as (n * 2) stored);
    insert into classes (id, at, n, r, x, b, free, d, m, f) values
        (1, 1, 9223372036854775807, 1.7976931348623157e308, '', x'', 1, '2013-01-01', 12.5, 1),
        (2, 2, -9223372036854775808, 5e-324, 'tab\t' || char(10, 13, 92) || '\\N \\.', x'00ff5c4e0a', '1', 1357362000, '12.50 EUR', 0),
        (3, 3, 9007199254740993, 9e999, '12', x'5c', 1.0, null, 7, 'no'),
        (4, 4, -9007199254740993, -9e999, char(1, 8, 9, 127, 128512), null, '', 2.5, 1e20, null),
        (5, null, null, null, null, null, null, null, null, null);
";

const BY_TENS: &str = "by: integer, column: at, width: 10";

fn step(table: &'static str) -> [Step; 1] {
    [Step {
        table,
        partition: BY_TENS,
    }]
}

/// All columns but those of `numbers`, which have no text in common; `note` as bytes, since COPY
/// escapes some of its letters.
fn texts(note: &str) -> String {
    format!(
        "select id, at, tiny, small, big, amount, price, {note}, code, fixed, doc, docb, who, day, \
         seen, at_instant, open, \
         open_tz, span, net, subnet, mac, tags, grid, bits, more_bits, during, valid, words from \
         everything order by id"
    )
}

#[tokio::test]
async fn types_survive_the_trip() {
    let world = World::start().await;
    let legacy = world.postgres("legacy").await;
    // The digests are read in the form that values travel in.
    legacy
        .execute("alter database legacy set intervalstyle = 'iso_8601'")
        .await;
    legacy.execute(POSTGRES).await;
    legacy
        .execute(
            "insert into everything (id, single, ratio) values (90, 'NaN', 'NaN'), (91, \
                    '-0', '-0')",
        )
        .await;
    legacy.execute(OWN_TYPES).await;
    legacy.execute(OWN).await;
    let (all, own) = (
        "select * from everything order by id",
        "select * from own order by id",
    );

    // PostgreSQL to PostgreSQL: built-in types as binary, types of one's own as text; what a table
    // computes is its own business
    let wh = world.postgres("wh").await;
    wh.execute("alter database wh set intervalstyle = 'iso_8601'")
        .await;
    wh.execute(OWN_TYPES).await;
    world
        .load(
            "pg_pg",
            &legacy,
            &wh,
            &[step("everything"), step("own")].concat(),
        )
        .await;
    for place in [&legacy, &wh] {
        place.execute("alter table everything drop doubled").await;
    }
    assert_eq!(wh.digest(all).await, legacy.digest(all).await);
    assert_eq!(wh.digest(own).await, legacy.digest(own).await);

    // PostgreSQL to SQLite: each text is the server's own, each number and each byte the same
    let lite = world.sqlite("wh");
    legacy
        .execute("delete from everything where id in (90, 91)")
        .await;
    world
        .load(
            "pg_lite",
            &legacy,
            &lite,
            &[step("everything"), step("own")].concat(),
        )
        .await;
    // Of a NULL, SQLite's hex() makes the empty text.
    let ours = texts("iif(note is null, null, lower(hex(note)))");
    let theirs = texts("encode(convert_to(note, 'UTF8'), 'hex')");
    assert_eq!(lite.digest(&ours).await, legacy.digest(&theirs).await);
    assert_eq!(lite.digest(own).await, legacy.digest(own).await);
    assert_eq!(numbers(&lite).await, numbers(&legacy).await);

    // and back: what SQLite holds is again what it was, in a table of the same types
    let back = world.postgres("back").await;
    back.execute("alter database back set intervalstyle = 'iso_8601'")
        .await;
    back.execute(POSTGRES).await;
    back.execute("truncate everything").await;
    // A double of SQLite is no single, but where it has no more bits than one.
    lite.execute("alter table everything drop column single")
        .await;
    back.execute("alter table everything drop single, drop doubled")
        .await;
    legacy.execute("alter table everything drop single").await;
    world
        .load("lite_pg", &lite, &back, &step("everything"))
        .await;
    assert_eq!(back.digest(all).await, legacy.digest(all).await);

    // SQLite to SQLite: every value keeps its class
    let (classes, copy) = (world.sqlite("classes"), world.sqlite("copy"));
    classes.execute(SQLITE).await;
    world
        .load("lite_lite", &classes, &copy, &step("classes"))
        .await;
    let quoted = "select id, at, quote(n), quote(r), quote(x), quote(b), quote(free), quote(d), \
         quote(m), \
         quote(f) from classes";
    assert_eq!(copy.digest(quoted).await, classes.digest(quoted).await);

    // SQLite to PostgreSQL: numbers, bytes and texts as they are; a column without a type of its
    // own holds their texts
    let typed = world.postgres("typed").await;
    world
        .load("classes_pg", &classes, &typed, &step("classes"))
        .await;
    let mut conn = connect(&typed).await;
    let exact = r#"select count(*) from classes where
        n is not distinct from (array[9223372036854775807, -9223372036854775808, 9007199254740993, -9007199254740993, null])[id]
        and r is not distinct from (array['1.7976931348623157e308', '5e-324', 'Infinity', '-Infinity', null]::float8[])[id]
        and x is not distinct from (array['', E'tab\t\n\r\\\\N \\.', '12', E'\x01\b\t\x7f😀', null])[id]
        and b is not distinct from (array['\x', '\x00ff5c4e0a', '\x5c', null, null]::bytea[])[id]
        and free is not distinct from (array['1', '1', '1.0', '', null])[id]
        and d is not distinct from (array['2013-01-01', '1357362000', null, '2.5', null])[id]
        and m is not distinct from (array['12.5', '12.50 EUR', '7', '1e20', null])[id]
        and f is not distinct from (array['1', '0', 'no', null, null])[id]"#;
    let found = sqlx::query(AssertSqlSafe(exact))
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(found.get::<i64, _>(0), 5);
}

async fn connect(place: &Place) -> sqlx::PgConnection {
    let Place::Postgres(url) = place else {
        panic!("a PostgreSQL")
    };
    sqlx::PgConnection::connect(url).await.unwrap()
}

/// What has no text in common: doubles by their bits, booleans, and bytes.
async fn numbers(
    place: &Place,
) -> Vec<(i64, Option<u32>, Option<u64>, Option<bool>, Option<Vec<u8>>)> {
    let query = "select id, single, ratio, flag, payload from everything order by id";
    match place {
        Place::Postgres(_) => {
            let rows = sqlx::query(query)
                .fetch_all(&mut connect(place).await)
                .await
                .unwrap();
            let bits = |row: &sqlx::postgres::PgRow| {
                let single: Option<f32> = row.get(1);
                let ratio: Option<f64> = row.get(2);
                (
                    row.get(0),
                    single.map(f32::to_bits),
                    ratio.map(f64::to_bits),
                    row.get(3),
                    row.get(4),
                )
            };
            rows.iter().map(bits).collect()
        }
        Place::Sqlite(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            let mut conn = sqlx::SqliteConnection::connect_with(&options)
                .await
                .unwrap();
            let rows = sqlx::query(query).fetch_all(&mut conn).await.unwrap();
            let bits = |row: &sqlx::sqlite::SqliteRow| {
                // The shortest text of a single, read as a double, is the same single again.
                #[expect(clippy::cast_possible_truncation, reason = "the value was a single")]
                let single = row
                    .get::<Option<f64>, _>(1)
                    .map(|value| (value as f32).to_bits());
                let ratio: Option<f64> = row.get(2);
                let flag = row.get::<Option<i64>, _>(3).map(|flag| flag == 1);
                (
                    row.get(0),
                    single,
                    ratio.map(f64::to_bits),
                    flag,
                    row.get(4),
                )
            };
            rows.iter().map(bits).collect()
        }
    }
}

/// One table for each value that a pair cannot carry: its name, its DDL in the source, what is in
/// the target before, the value.
struct Refusal {
    table: &'static str,
    column: &'static str,
    target: Option<&'static str>,
    value: &'static str,
}

/// Tables of two partitions, the second with a value that cannot be carried in its last row.
async fn are_refused(name: &str, from: &Place, to: &Place, world: &World, refusals: &[Refusal]) {
    let mut steps = Vec::new();
    for Refusal {
        table,
        column,
        target,
        value,
    } in refusals
    {
        from.execute(&format!(
            "create table {table} (id int primary key, at int, {column})"
        ))
        .await;
        from.execute(&format!(
            "insert into {table} values (1, 5, null), (2, 15, null), (3, 16, \
                               {value})"
        ))
        .await;
        if let Some(type_name) = target {
            to.execute(&format!(
                "create table {table} (id bigint primary key, at bigint, c \
                                 {type_name})"
            ))
            .await;
        }
        steps.push(Step {
            table,
            partition: BY_TENS,
        });
    }
    // WHEN they are loaded
    let finished = world.run(name, from, to, &steps).await;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    // THEN the run fails, and says why of each
    assert_eq!(finished.status.code(), Some(3), "{said}");
    for Refusal { table, .. } in refusals {
        let dead = format!("dead {table}[");
        let mut lines = said.lines().filter(|line| line.contains(&dead));
        let about = lines.any(|line| line.contains("column c") || line.contains("column `c`"));
        assert!(about, "{table}: {said}");
        // AND of the two partitions the one without the value is there, and nothing of the other
        assert_eq!(to.count(table).await, 1, "{table}: {said}");
    }
}

#[tokio::test]
async fn what_sqlite_holds_and_postgres_cannot_is_refused_by_its_column() {
    let world = World::start().await;
    let (from, to) = (world.sqlite("legacy"), world.postgres("wh").await);
    let refusal = |table, column, target, value| Refusal {
        table,
        column,
        target,
        value,
    };
    are_refused(
        "lite_pg",
        &from,
        &to,
        &world,
        &[
            refusal("nul_in_text", "c text", None, "'a' || char(0)"),
            refusal("text_in_integer", "c int", None, "'0x10'"),
            refusal("real_in_integer", "c int", None, "1.5"),
            refusal("text_in_real", "c real", None, "'about 5'"),
            refusal("blob_in_text", "c text", None, "x'00'"),
            refusal("blob_in_anything", "c", None, "x'00'"),
            refusal("blob_in_integer", "c int", None, "x'31'"),
            refusal("number_in_blob", "c blob", None, "1"),
            refusal("rounded", "c", Some("float8"), "9007199254740993"),
            refusal("word_for_a_time", "c text", Some("timestamptz"), "'now'"),
            refusal(
                "zone_in_civil",
                "c text",
                Some("timestamp"),
                "'2013-01-01 10:00:00+02'",
            ),
            refusal(
                "time_in_date",
                "c text",
                Some("date"),
                "'2013-01-01 10:00:00'",
            ),
            refusal(
                "finer_than_micros",
                "c text",
                Some("timestamp"),
                "'2013-01-01 10:00:00.1234567'",
            ),
            refusal("too_large", "c int", Some("smallint"), "32768"),
            refusal("no_number", "c text", Some("numeric"), "'12,5'"),
            refusal("scale", "c decimal(10,2)", Some("numeric(10,2)"), "1.125"),
            refusal("blanks", "c text", Some("varchar(3)"), "'abc '"),
            refusal("pads", "c text", Some("char(3)"), "'ab'"),
            refusal("no_single", "c double", Some("real"), "0.1"),
            refusal(
                "coarse",
                "c text",
                Some("timestamp(3)"),
                "'2013-01-01 10:00:00.1234'",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_postgres_holds_and_sqlite_cannot_is_refused_by_its_column() {
    let world = World::start().await;
    let (from, to) = (world.postgres("legacy").await, world.sqlite("wh"));
    let refusal = |table, column, target, value| Refusal {
        table,
        column,
        target,
        value,
    };
    are_refused(
        "pg_lite",
        &from,
        &to,
        &world,
        &[
            refusal("not_a_number", "c float8", None, "'NaN'"),
            refusal("not_a_single", "c real", None, "'NaN'"),
            refusal("tenth", "c numeric(10,2)", Some("decimal"), "0.10"),
            refusal("number_in_text", "c text", Some("datetime"), "'0012'"),
        ],
    )
    .await;
    // AND a column whose declared type would change the values is refused before the first row
    let to = world.sqlite("declared");
    from.execute(
        "create table amounts (id int primary key, at int, c numeric); insert into amounts values \
         (1, 1, 1.10)",
    )
    .await;
    to.execute("create table amounts (id integer primary key, at integer, c real)")
        .await;
    let finished = world.run("declared", &from, &to, &step("amounts")).await;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(
        !finished.status.success()
            && said.contains(
                "column c is numeric in amounts and REAL in amounts: SQLite would turn a decimal \
                 into a float"
            ),
        "{said}"
    );
}
