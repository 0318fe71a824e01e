//! The rule of the plan, held against a real server: pairs of types, each with the values at its
//! edges.

use bytes::Bytes;
use futures_util::TryStreamExt;
use highwater_common::plan::{Compat, Exception, compat, has_same_wire_form};
use sqlx::Row;

use super::super::catalog::find_table;
use super::*;

/// Types, and the values that show where each of them ends.
const TYPES: [(&str, &[&str]); 66] = [
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647", "16777217"]),
    (
        "bigint",
        &[
            "-9223372036854775808",
            "9223372036854775807",
            "9007199254740993",
        ],
    ),
    ("oid", &["0", "4294967295"]),
    (
        "real",
        &[
            "0.1",
            "-0",
            "3.4028235e38",
            "-1.17549435e-38",
            "NaN",
            "-Infinity",
        ],
    ),
    (
        "double precision",
        &[
            "0.1",
            "5e-324",
            "1.7976931348623157e308",
            "-2.2250738585072014e-308",
            "NaN",
            "Infinity",
        ],
    ),
    (
        "numeric",
        &[
            "0.000000000000000000001",
            "12345678901234567890.5",
            "NaN",
            "Infinity",
        ],
    ),
    ("numeric(10,2)", &["99999999.99", "-99999999.99", "NaN"]),
    ("numeric(12,2)", &["9999999999.99", "-9999999999.99", "NaN"]),
    ("numeric(14,4)", &["9999999999.9999", "-0.0001", "NaN"]),
    ("numeric(5,0)", &["99999", "-99999", "NaN"]),
    // A scale below zero rounds whole numbers.
    ("numeric(5,-2)", &["9999900", "-9999900", "NaN"]),
    (
        "numeric(16,0)",
        &["9007199254740993", "-9999999999999999", "NaN"],
    ),
    ("text", &["", " ", "a  ", "Ab", "{1", "repeat('é😀', 100)"]),
    ("character varying", &["", "a  ", "repeat('é😀', 100)"]),
    ("character varying(3)", &["", "a  ", "😀😀😀", "Ab"]),
    (
        "character varying(20)",
        &["repeat('😀', 20)", "repeat('x', 19) || ' '"],
    ),
    ("character varying(5)", &["abcde"]),
    ("character varying(11)", &["repeat('y', 11)"]),
    ("character(3)", &["a", "abc", ""]),
    ("character(36)", &["repeat('x', 36)", "y"]),
    ("bpchar", &["a", "a  ", "", "repeat('z', 40)"]),
    ("citext", &["MiXeD", "repeat('é', 100)", "a  "]),
    ("name", &["nom", "repeat('n', 63)"]),
    (
        "bytea",
        &[r"\x00ff", r"\x", r"\x00112233445566778899aabbcc"],
    ),
    (
        "date",
        &["4713-01-01 BC", "5874897-12-31", "infinity", "2024-02-29"],
    ),
    ("time", &["24:00", "23:59:59.999999"]),
    ("time(0)", &["24:00", "23:59:59"]),
    ("time(3)", &["23:59:59.999"]),
    (
        "timetz",
        &[
            "24:00:00-15:59",
            "12:00:00.5+05:30",
            "23:59:59.999999-15:59:59",
        ],
    ),
    (
        "timestamp",
        &[
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "infinity",
            "2024-01-01 10:11:12.123456",
        ],
    ),
    ("timestamp(3)", &["2024-01-01 10:11:12.123", "-infinity"]),
    (
        "timestamp(0)",
        &["2024-01-01 10:11:12", "4713-12-31 23:59:59 BC"],
    ),
    (
        "timestamptz",
        &[
            "294276-12-31 23:59:59.999999+00",
            "2024-01-01 10:11:12.123456+02",
        ],
    ),
    (
        "interval",
        &[
            "-178000000 years",
            "1 year 2 mons 3 days 04:05:06.789012",
            "1 mon -1 day 00:00:00.000001",
            "1 day 02:03:04.567891",
        ],
    ),
    (
        "interval(3)",
        &[
            "1 day 02:03:04.567",
            "11 years 10 mons 11 days 14:15:16.123",
        ],
    ),
    ("interval year", &["5 years", "-178000000 years"]),
    (
        "interval year to month",
        &["3 years 2 mons", "-178000000 years -11 mons"],
    ),
    (
        "interval day to minute",
        &[
            "3 years 1 day 10:59",
            "-178000000 years -11 mons -2147483648 days",
        ],
    ),
    (
        "interval day to second(2)",
        &[
            "3 mons 1 day 10:59:58.12",
            "-178000000 years -11 mons -2147483648 days",
        ],
    ),
    ("bit(5)", &["10101", "00001"]),
    (
        "bit varying",
        &["", "0101010101", "010101010101010101010101"],
    ),
    ("bit varying(5)", &["", "00001"]),
    (
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    (
        "json",
        &["{\"a\" :  1, \"a\": 2}", "null", "[1,2,3,4,5,6,7,8,9,10]"],
    ),
    (
        "jsonb",
        &[
            "{\"k\": [1e400, null]}",
            "\"x\"",
            "[1, 2, 3, 4, 5, 6, 7, 8]",
        ],
    ),
    (
        "inet",
        &[
            "10.0.0.1/8",
            "::1",
            "1111:2222:3333:4444:5555:6666:7777:8888",
        ],
    ),
    (
        "cidr",
        &[
            "10.0.0.0/8",
            "10.0.0.1/32",
            "1111:2222:3333:4444:5555:6666:7777:8888/128",
        ],
    ),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("integer[]", &["[0:2]={1,NULL,2147483647}", "{}"]),
    ("bigint[]", &["{9223372036854775807}", "{{1,2},{3,NULL}}"]),
    (
        "text[]",
        &["{\"NULL\",NULL,\"a,b\",\"\"}", "{\"x  \",longer,longest}"],
    ),
    (
        "character varying(3)[]",
        &["{abc,\"a  \"}", "{abc,def,ghi,jkl,mno,pqr}"],
    ),
    (
        "character(4)[]",
        &["{a,abcd}", "{abcd,efgh,ijkl,mnop,qrst}"],
    ),
    (
        "numeric(10,2)[]",
        &["{1.25,NaN,NULL}", "{99999999.99,99999999.99}"],
    ),
    (
        "numeric(10,0)[]",
        &["{9999999999,NaN}", "{9999999999,9999999999}"],
    ),
    (
        "real[]",
        &["{0.1,3.4028235e38}", "{-1.1754944e-38,3.4028235e38}"],
    ),
    (
        "double precision[]",
        &["{0.1234567890123}", "{0.1234567890123,NaN,NULL}"],
    ),
    (
        "int4range",
        &["[1,5)", "empty", "(,)", "[-2147483648,2147483646)"],
    ),
    ("int8range", &["[1,9223372036854775807)"]),
    (
        "numrange",
        &["[1.5,2.5]", "(1,2)", "[1,12345678901234567890.5]"],
    ),
    ("daterange", &["[2024-01-01,2024-02-01)"]),
    ("tsrange", &["(2024-01-01 10:00:00,2024-01-02 10:00:00]"]),
    ("tstzrange", &["[2024-01-01 10:00:00+00,infinity]"]),
];

/// Types of a database's own making, and the same under the same names in the target, made
/// otherwise.
const OWN: &str = "create extension citext; create type mood as enum ('sad', 'ok'); create domain \
    price as numeric(12,4); \
    create type addr as (street text, city text); create type span as range (subtype = numeric); \
    create domain label as text; \
    create type nested as (id integer, at addr, moods mood[])";
const OTHER: &str = "create extension citext; create type mood as enum ('ok', 'sad'); create \
    domain price as numeric(12,0); \
    create type addr as (city text, street text); create type span as range (subtype = numeric); \
    create domain label as varchar(5); \
    create type nested as (id integer, at addr, moods mood[]); create type moods as enum ('glad', \
    'sad', 'so', 'ok'); \
    create domain wide as numeric(14,4) check (value > 0); create type addr2 as (street varchar, \
    city text)";
const OWN_TYPES: [(&str, &[&str]); 8] = [
    ("mood", &["sad", "ok"]),
    ("mood[]", &["{sad,NULL}"]),
    ("price", &["12.3456"]),
    ("price[]", &["{12.3456}"]),
    ("addr", &["(\"Main, St\",Paris)"]),
    ("nested", &["(1,\"(a,b)\",\"{sad}\")"]),
    ("span", &["[1.5,2.5)"]),
    ("label", &["longer than five"]),
];
const OTHER_TYPES: [&str; 14] = [
    "mood", "moods", "mood[]", "moods[]", "price", "wide", "price[]", "wide[]", "addr", "addr2",
    "nested", "span", "label", "text",
];

struct Column {
    facts: ColumnFacts,
    name: String,
    table: String,
}

/// Tables of one column each, as a connector's catalog tells of them.
async fn tables(conn: &mut PgConnection, prefix: &str, types: &[&str]) -> Vec<Column> {
    let mut columns = Vec::new();
    for (at, name) in types.iter().enumerate() {
        let table = format!("{prefix}{at}");
        run(conn, &format!("create table {table} (n int, v {name})"))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = find_table(conn, &table_name(&table))
            .await
            .expect("read")
            .expect("made");
        columns.push(Column {
            facts: found.column("v").expect("made").facts.clone(),
            name: (*name).to_owned(),
            table,
        });
    }
    columns
}

async fn run(conn: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    conn.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .map(drop)
}

/// A table as COPY gives it.
async fn read(
    conn: &mut PgConnection,
    table: &str,
    format: &str,
) -> Result<Vec<Bytes>, sqlx::Error> {
    let rows = conn
        .copy_out_raw(&format!(
            "copy (select * from {table} order by n) to stdout (format \
                                    {format})"
        ))
        .await?;
    rows.try_collect().await
}

/// Fills a table with what COPY gave.
async fn fill(
    conn: &mut PgConnection,
    table: &str,
    rows: &[Bytes],
    format: &str,
) -> Result<(), sqlx::Error> {
    run(conn, &format!("delete from {table}")).await?;
    let mut copy = conn
        .copy_in_raw(&format!("copy {table} from stdin (format {format})"))
        .await?;
    for bytes in rows {
        copy.send(bytes.as_ref()).await?;
    }
    copy.finish().await.map(drop)
}

/// The values of a table as COPY writes them.
async fn texts(conn: &mut PgConnection, table: &str) -> Vec<String> {
    let text = format!("select format('%s', v) from {table} order by n");
    let rows = sqlx::query(AssertSqlSafe(text))
        .fetch_all(conn)
        .await
        .expect("read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A column of the source with its values, in every form that is compared.
struct Sent<'a> {
    column: &'a Column,
    text: Vec<Bytes>,
    binary: Vec<Bytes>,
    texts: Vec<String>,
}

/// The values of a table that has been filled, if it takes them all; none, either, if they differ by
/// the zone of the session that fills it: then nobody has named it.
async fn filled(
    conn: &mut PgConnection,
    column: (&str, &str),
    rows: &[Bytes],
    format: &str,
) -> Option<Vec<String>> {
    let (name, table) = column;
    let has_zone = ["timetz", "timestamptz", "tstz"]
        .iter()
        .any(|zoned| name.starts_with(zoned));
    if has_zone {
        run(conn, "set timezone = 'Asia/Tokyo'").await.expect("set");
        let taken = fill(conn, table, rows, format).await;
        run(conn, "set timezone = 'UTC'").await.expect("set");
        taken.ok()?;
        let elsewhere = texts(conn, table).await;
        fill(conn, table, rows, format).await.ok()?;
        return Some(texts(conn, table).await).filter(|here| *here == elsewhere);
    }
    fill(conn, table, rows, format).await.ok()?;
    Some(texts(conn, table).await)
}

/// Whether a table keeps every value that is sent to it: its text is the same, or, where that is no
/// text itself, names the same number, or reads back as the same.
async fn are_kept(
    from: &mut PgConnection,
    to: &mut PgConnection,
    sent: &Sent<'_>,
    two: &Column,
    format: &str,
) -> bool {
    let rows = if format == "binary" {
        &sent.binary
    } else {
        &sent.text
    };
    let Some(kept) = filled(to, (&two.name, &two.table), rows, format).await else {
        return false;
    };
    let (one, two) = (sent.column, two);
    if is_text(&two.name) {
        return sent.texts == kept;
    }
    if numbers(&one.name, &sent.texts) == numbers(&two.name, &kept) {
        return true;
    }
    // The digits of a float are not its value, so that they come back says nothing.
    if is_float(&one.name) || is_float(&two.name) {
        return false;
    }
    let (back, rows) = (
        format!("{}_back", one.table),
        read(to, &two.table, "text").await.expect("read"),
    );
    filled(from, (&one.name, &back), &rows, "text")
        .await
        .as_ref()
        == Some(&sent.texts)
}

fn is_text(name: &str) -> bool {
    ["char", "text", "name", "label"]
        .iter()
        .any(|word| name.contains(word))
}

fn is_float(name: &str) -> bool {
    ["real", "double precision"]
        .iter()
        .any(|float| name.starts_with(float))
}

/// Texts with the numbers in them written in full: all digits of a float, and no zeros that a scale
/// puts behind a point.
fn numbers(name: &str, texts: &[String]) -> Vec<String> {
    let digits = |word: &str| {
        let exact = match name.trim_end_matches("[]") {
            "real" => word
                .parse()
                .ok()
                .map(|number: f32| format!("{number:.200}")),
            "double precision" => word
                .parse()
                .ok()
                .map(|number: f64| format!("{number:.1100}")),
            _ => None,
        };
        let exact = exact
            .filter(|exact| exact.contains('.'))
            .unwrap_or_else(|| word.to_owned());
        let is_number = |text: &str| text.bytes().all(|byte| b"-.0123456789".contains(&byte));
        match exact.contains('.') && is_number(&exact) {
            true => exact.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => exact,
        }
    };
    let written = |text: &String| {
        text.split([',', '{', '}'])
            .map(digits)
            .collect::<Vec<_>>()
            .join(",")
    };
    texts.iter().map(written).collect()
}

/// Every pair of which the rule says something else than the server does.
async fn wrong_pairs(world: &mut World, types: &[(&str, &[&str])], others: &[&str]) -> Vec<String> {
    let names: Vec<&str> = types.iter().map(|(name, _)| *name).collect();
    let (from, to) = (&mut world.legacy, &mut world.wh);
    for conn in [&mut *from, &mut *to] {
        run(
            conn,
            "set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set intervalstyle = 'iso_8601'",
        )
        .await
        .expect("set");
        run(
            conn,
            "set extra_float_digits = 3; set synchronous_commit = off",
        )
        .await
        .expect("set");
    }
    let (sources, targets) = (
        tables(from, "s", &names).await,
        tables(to, "t", others).await,
    );
    for (column, (name, values)) in sources.iter().zip(types) {
        for (at, value) in values.iter().enumerate() {
            let value = if value.starts_with("repeat(") {
                (*value).to_owned()
            } else {
                format!("'{value}'")
            };
            run(
                from,
                &format!("insert into {} values ({at}, {value})", column.table),
            )
            .await
            .expect(name);
        }
        run(
            from,
            &format!("create table {0}_back (like {0})", column.table),
        )
        .await
        .expect("made");
    }
    let mut wrong = Vec::new();
    for one in &sources {
        let (text, binary) = (
            read(from, &one.table, "text").await.expect("read"),
            read(from, &one.table, "binary").await,
        );
        let sent = Sent {
            column: one,
            text,
            binary: binary.unwrap_or_default(),
            texts: texts(from, &one.table).await,
        };
        for two in &targets {
            let said = compat(Engine::Postgres, &one.facts, Engine::Postgres, &two.facts);
            let is_carried = said == Compat::Carried;
            let kept = are_kept(from, to, &sent, two, "text").await;
            let exception =
                Exception::of(&one.facts.type_definition(), &two.facts.type_definition());
            if exception.map_or(kept, |exception| exception.is_carried) != is_carried {
                wrong.push(format!(
                    "{} into {}: kept is {kept}, and the rule says {said:?}",
                    one.name, two.name
                ));
            }
            let is_binary = is_carried && kept && has_same_wire_form(&one.facts, &two.facts);
            if is_binary && !are_kept(from, to, &sent, two, "binary").await {
                wrong.push(format!(
                    "{} into {}: their binary forms differ",
                    one.name, two.name
                ));
            }
        }
    }
    wrong
}

#[tokio::test]
async fn a_type_is_carried_exactly_if_every_value_is() {
    // GIVEN every pair of built-in types, with the values at their edges
    let mut world = World::start().await;
    world.legacy("create extension citext").await;
    world.wh("create extension citext").await;
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut world.wh)
        .await
        .expect("asked");
    let mut types = TYPES.to_vec();
    types.retain(|(name, _)| version >= 150_000 || !name.contains(",-"));
    let names: Vec<&str> = types.iter().map(|(name, _)| *name).collect();
    // WHEN the values are copied as they would be THEN exactly the pairs that the plan carries have
    // kept them all, but for the exceptions of the rule, which say why
    let wrong = wrong_pairs(&mut world, &types, &names).await;
    assert!(
        wrong.is_empty(),
        "{} pairs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn a_type_of_ones_own_is_carried_by_what_it_is_made_of() {
    // GIVEN types of the same names, and of others, that are made alike or not
    let mut world = World::start().await;
    world.legacy(OWN).await;
    world.wh(OTHER).await;
    // WHEN their values are copied THEN the definitions have told which of them are kept
    let mut wrong = wrong_pairs(&mut world, &OWN_TYPES, &OTHER_TYPES).await;
    // but for those whose text is the same and means something else: fields, and labels, in another
    // order
    let is_other_meaning = |line: &String| {
        [
            "mood into mood:",
            "mood[] into mood[]:",
            "addr into addr:",
            "nested into nested:",
        ]
        .iter()
        .any(|pair| line.starts_with(pair))
    };
    let (other, wrong): (Vec<_>, Vec<_>) = wrong.drain(..).partition(is_other_meaning);
    assert!(
        wrong.is_empty(),
        "{} pairs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(other.len(), 4, "{other:?}");
    for reason in [
        "its labels in another order",
        "its field street is number 2 there and 1 here",
    ] {
        assert!(other.iter().any(|line| line.contains(reason)), "{other:?}");
    }
}
