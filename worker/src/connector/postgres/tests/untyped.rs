//! The rule of the plan for values of SQLite, held against both servers: what a file holds in
//! columns of each declared type, into columns of PostgreSQL's types.

use highwater_common::facts::ColumnKind;
use highwater_common::plan::{Compat, compat};
use sqlx::{Row as _, SqliteConnection};

use super::super::catalog::find_table;
use super::*;
use crate::connector::Value;
use crate::connector::column_form::ColumnForm;
use crate::connector::value_text::encode_value;

/// A declared type of each affinity, and what such a column holds where the type says it.
const DECLARED: [(&str, ColumnKind); 6] = [
    ("", ColumnKind::Any),
    ("blob", ColumnKind::Bytes),
    ("integer", ColumnKind::Int64),
    ("decimal", ColumnKind::Any),
    ("real", ColumnKind::Float64),
    ("text", ColumnKind::Text),
];
/// Types of PostgreSQL, and each without what limits it.
const TYPES: [(&str, &str); 30] = [
    ("boolean", "boolean"),
    ("smallint", "smallint"),
    ("integer", "integer"),
    ("bigint", "bigint"),
    ("oid", "oid"),
    ("real", "real"),
    ("double precision", "double precision"),
    ("numeric", "numeric"),
    ("numeric(12,2)", "numeric"),
    ("numeric(5,0)", "numeric"),
    ("text", "text"),
    ("varchar(5)", "text"),
    ("char(3)", "text"),
    ("name", "text"),
    ("bytea", "bytea"),
    ("date", "date"),
    ("time", "time"),
    ("time(0)", "time"),
    ("timetz", "timetz"),
    ("timestamp", "timestamp"),
    ("timestamp(3)", "timestamp"),
    ("timestamptz", "timestamptz"),
    ("interval", "interval"),
    ("interval(0)", "interval"),
    ("uuid", "uuid"),
    ("json", "json"),
    ("jsonb", "jsonb"),
    ("integer[]", "integer[]"),
    ("numeric(5,0)[]", "numeric[]"),
    ("int4range", "int4range"),
];
/// What is put into a column of each declared type, as SQL of SQLite.
const VALUES: [&str; 38] = [
    "0",
    "1",
    "3",
    "20130101",
    "-32769",
    "16777217",
    "9007199254740993",
    "9223372036854775807",
    "0.1",
    "0.5",
    "-1e300",
    "5e-324",
    "9e999",
    "''",
    "'abc'",
    "'abc '",
    "'abcdef'",
    "'true'",
    "'0.10'",
    "'1.125'",
    "'1e400'",
    "'0x10'",
    "'NaN'",
    "'now'",
    "'2024-02-29'",
    "'2024-02-29 10:11:12.123456'",
    "'2024-02-29 10:11:12.1234567'",
    "'2024-02-29 10:11:12+00'",
    "'10:11:12.5'",
    "'10:11:12.5+02'",
    "'P1DT0.5S'",
    "'{\"a\" :  1, \"a\": 2}'",
    "'00000000-0000-0000-0000-00000000000a'",
    "'{1.5,2}'",
    "'[1,5)'",
    "printf('%080d', 7)",
    "x''",
    "x'00ff5c'",
];

/// What SQLite makes of the values in a column of a declared type.
async fn held(declared: &str) -> Vec<Value> {
    let mut conn = SqliteConnection::connect("sqlite::memory:")
        .await
        .expect("opens");
    let values: Vec<String> = VALUES.iter().map(|value| format!("({value})")).collect();
    let sql = format!(
        "create table t (v {declared}); insert into t values {}",
        values.join(", ")
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut conn)
        .await
        .expect("made");
    let rows = sqlx::query("select typeof(v), v from t order by rowid")
        .fetch_all(&mut conn)
        .await;
    let value = |row: &sqlx::sqlite::SqliteRow| match row.get::<&str, _>(0) {
        "integer" => Value::Integer(row.get(1)),
        "real" => Value::Real(row.get(1)),
        "text" => Value::Text(row.get(1)),
        _ => Value::Bytes(row.get(1)),
    };
    rows.expect("read").iter().map(value).collect()
}

/// Whether a value is what it was: a number the same number, a text the same text, or, where the
/// type is none of text, what the type without its limit reads in it.
async fn is_kept(
    conn: &mut PgConnection,
    value: &Value,
    (name, unlimited): (&str, &str),
    found: &str,
) -> bool {
    let sent = match value {
        Value::Integer(number) if name == "boolean" => {
            return found == if *number == 1 { "t" } else { "f" };
        }
        Value::Bytes(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            return found == format!("\\x{digits}");
        }
        Value::Integer(number) => {
            let whole = found.strip_suffix(".00").unwrap_or(found);
            let is_float = ["real", "double precision"].contains(&name);
            return whole == number.to_string()
                || (is_float
                    && found
                        .parse()
                        .is_ok_and(|found: f64| found as i128 == i128::from(*number)));
        }
        Value::Real(number) if name == "real" => {
            return found
                .parse::<f32>()
                .is_ok_and(|found| f64::from(found) == *number);
        }
        Value::Real(number) => return found.parse::<f64>().is_ok_and(|found| found == *number),
        Value::Text(text) => text,
        Value::Null | Value::RawText(_) => return false,
    };
    if unlimited == "text" || ["date", "time"].iter().any(|time| name.starts_with(time)) {
        return found.starts_with(sent.as_str()) && (unlimited != "text" || found == sent);
    }
    if name == "bytea" {
        let digits: String = sent.bytes().map(|byte| format!("{byte:02x}")).collect();
        return found == format!("\\x{digits}");
    }
    // Equal decimals may have more zeros or fewer; of the other types two texts are one value only
    // when they are read as one.
    let same = match unlimited {
        "numeric" => "$1::text::numeric = $2::text::numeric".to_owned(),
        _ => format!("($1::text::{unlimited})::text = ($2::text::{unlimited})::text"),
    };
    let sql = format!(
        "select {same} and ($1 !~ '-' or $2 ~ '-' or {})",
        unlimited != "oid"
    );
    let read = sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql))
        .bind(sent)
        .bind(found);
    read.fetch_one(conn).await.unwrap_or(false)
}

/// The text that arrives when a value is written as the connector writes it; none if the worker or
/// the server refuses it.
async fn arrives(conn: &mut PgConnection, value: &Value, form: &ColumnForm) -> Option<String> {
    let mut line = Vec::new();
    encode_value(value, form, &mut line).ok()?;
    line.push(b'\n');
    let mut copy = conn.copy_in_raw("copy t from stdin").await.expect("begun");
    copy.send(line).await.expect("sent");
    copy.finish().await.ok()?;
    let read = sqlx::query_scalar("delete from t returning format('%s', v)")
        .persistent(false)
        .fetch_one(conn)
        .await;
    Some(read.expect("read"))
}

#[tokio::test]
async fn a_value_of_sqlite_arrives_unchanged_or_is_refused() {
    // GIVEN columns of each declared type, with what SQLite makes of values of every class
    let mut world = World::start().await;
    let conn = &mut world.wh;
    let pins = "set timezone = 'UTC'; set intervalstyle = 'iso_8601'; set extra_float_digits = 1";
    conn.execute(pins).await.expect("set");
    let mut wrong = Vec::new();
    for (name, unlimited) in TYPES {
        let make = format!("drop table if exists t; create table t (v {name})");
        conn.execute(sqlx::raw_sql(AssertSqlSafe(make)))
            .await
            .expect(name);
        let found = find_table(conn, &table_name("t"))
            .await
            .expect("read")
            .expect("made");
        let own = found.column("v").expect("made").facts.clone();
        let form = ColumnForm::of(&own);
        for (declared, kind) in DECLARED {
            let from = ColumnFacts {
                type_name: declared.to_owned(),
                kind,
                ..own.clone()
            };
            let said = compat(Engine::Sqlite, &from, Engine::Postgres, &own);
            let (mut all, mut pair) = (true, Vec::new());
            for value in held(declared).await {
                // WHEN each is written into a column of PostgreSQL
                let arrived = arrives(conn, &value, &form).await;
                let kept = match &arrived {
                    Some(found) => is_kept(conn, &value, (name, unlimited), found).await,
                    None => false,
                };
                all &= kept;
                if arrived.is_some() && !kept {
                    pair.push(format!(
                        "`{declared}` into {name}: {value:?} is {arrived:?}"
                    ));
                }
            }
            match said {
                // THEN it arrives as it was, or is refused, and is never changed
                Compat::Carried | Compat::ByValue(_) => wrong.append(&mut pair),
                // AND what is refused beforehand is a type that some value would not fit
                Compat::Refused(why) if all => {
                    wrong.push(format!(
                        "`{declared}` into {name}: all are kept, but: {why}"
                    ));
                }
                Compat::Refused(_) => (),
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
