//! The rule of the plan, held against SQLite itself: values of each kind into columns of each
//! declared type.

use highwater_common::facts::CursorForm;
use highwater_common::plan::{Compat, compat};
use highwater_common::range::{CursorRange, Slice};
use sqlx::Row;

use super::values::{GivenRows, load};
use super::*;
use crate::connector::Value;

const ALL: Slice = Slice::Range(CursorRange::ALL);
/// What people declare, Django, Rails and Sequelize among them.
const DECLARED: [&str; 14] = [
    "",
    "blob",
    "integer",
    "bigint",
    "text",
    "varchar(30)",
    "real",
    "double precision",
    "bool",
    "boolean",
    "date",
    "datetime",
    "decimal",
    "decimal(10,2)",
];
/// Types of PostgreSQL, and the values that show what becomes of them.
const KINDS: [(&str, ColumnKind, &[&str]); 15] = [
    ("boolean", ColumnKind::Bool, &["t", "f"]),
    ("integer", ColumnKind::Int32, &["-2147483648", "2147483647"]),
    (
        "bigint",
        ColumnKind::Int64,
        &["9007199254740993", "-9223372036854775808", "0"],
    ),
    (
        "double precision",
        ColumnKind::Float64,
        &[
            "0.1",
            "1e+300",
            "3",
            "-0",
            "0.12345678901234568",
            "Infinity",
        ],
    ),
    ("smallint", ColumnKind::Int16, &["-32768", "32767"]),
    (
        "numeric(5,0)",
        ColumnKind::Numeric,
        &["99999", "-99999", "0"],
    ),
    (
        "numeric(15,0)",
        ColumnKind::Numeric,
        &["999999999999999", "-999999999999999"],
    ),
    (
        "numeric(10,2)",
        ColumnKind::Numeric,
        &["0.50", "12.00", "0.10", "-7.25", "NaN"],
    ),
    (
        "date",
        ColumnKind::Date,
        &["2024-02-29", "infinity", "0044-03-15 BC"],
    ),
    (
        "timestamp with time zone",
        ColumnKind::Instant,
        &["2024-01-01 00:00:00+00", "-infinity"],
    ),
    (
        "time without time zone",
        ColumnKind::Time,
        &["23:59:59.999999"],
    ),
    (
        "uuid",
        ColumnKind::Uuid,
        &["00000000-0000-0000-0000-000000000001"],
    ),
    (
        "text",
        ColumnKind::Text,
        &["abc", "0012", " 1e3 ", "", "1_000", "0x10", "12 EUR"],
    ),
    ("jsonb", ColumnKind::Json, &["{\"a\": 1}", "1.50", "null"]),
    ("interval", ColumnKind::Other, &["P1D"]),
];

/// What SQLite makes of values that are bound as their own class, whoever asks.
async fn raw(
    file: &File,
    declared: &str,
    kind: ColumnKind,
    values: &[&str],
) -> Vec<(String, String)> {
    let mut conn = file.open().await;
    let make = format!("create table r (id integer primary key, v {declared})");
    sqlx::raw_sql(AssertSqlSafe(make))
        .execute(&mut conn)
        .await
        .expect("made");
    for value in values {
        let insert = sqlx::query("insert into r (v) values (?)");
        let insert = match kind {
            ColumnKind::Bool => insert.bind(i64::from(*value == "t")),
            ColumnKind::Int32 | ColumnKind::Int64 => {
                insert.bind(value.parse::<i64>().expect("a number"))
            }
            ColumnKind::Float64 => insert.bind(
                value
                    .replace("Infinity", "inf")
                    .parse::<f64>()
                    .expect("a number"),
            ),
            _ => insert.bind((*value).to_owned()),
        };
        insert.execute(&mut conn).await.expect("inserted");
    }
    stored(file, "r").await
}

/// The classes and the values that a table holds, floats to their last digit.
async fn stored(file: &File, table: &str) -> Vec<(String, String)> {
    let query = format!(
        "select typeof(v), iif(typeof(v) = 'real', v, null), cast(v as text) from \
                         {table} order by id"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .fetch_all(&mut file.open().await)
        .await
        .expect("read");
    let shown = |row: &sqlx::sqlite::SqliteRow| match row.get::<Option<f64>, _>(1) {
        Some(number) => format!("{number:.40}"),
        None => row.get(2),
    };
    rows.iter().map(|row| (row.get(0), shown(row))).collect()
}

/// Whether what is stored still is the value: the same text, or the same number.
fn is_kept(kind: ColumnKind, value: &str, (class, found): &(String, String)) -> bool {
    let plain = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match (kind, class.as_str()) {
        (ColumnKind::Bool, _) => plain(found) == if value == "t" { "1" } else { "0" },
        // -0 becomes 0, which it equals.
        (ColumnKind::Float64, "real" | "integer") => {
            let value: f64 = value.replace("Infinity", "inf").parse().expect("a number");
            found
                .to_lowercase()
                .parse::<f64>()
                .is_ok_and(|found| found == value)
        }
        (ColumnKind::Float64, _)
        | (ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 | ColumnKind::Numeric, _) => {
            plain(found) == plain(value)
        }
        _ => found == value,
    }
}

#[tokio::test]
async fn a_column_of_sqlite_takes_exactly_what_its_affinity_keeps() {
    let mut wrong = Vec::new();
    for declared in DECLARED {
        for (type_name, kind, values) in KINDS {
            // GIVEN a target's column of a declared type, and a source's of a kind
            let own = column("v", declared, ColumnKind::Any, true);
            let columns = [
                column("id", "bigint", ColumnKind::Int64, false),
                column("v", type_name, kind, true),
            ];
            let said = compat(Engine::Postgres, &columns[1], Engine::Sqlite, &own);
            let file = File::fresh();
            let seen = raw(&file, declared, kind, values).await;
            let are_all_kept = values
                .iter()
                .zip(&seen)
                .all(|(value, seen)| is_kept(kind, value, seen));
            // WHEN its values are loaded, each alone where it is the value that decides
            let loads: Vec<&[&str]> = match said {
                Compat::ByValue(_) => values.chunks(1).collect(),
                Compat::Carried | Compat::Refused(_) => vec![values],
            };
            for values in loads {
                let file = File::fresh();
                file.run(&format!(
                    "create table t (id integer primary key, v {declared})"
                ))
                .await;
                let text = |text: &str| Value::Text(text.to_owned());
                let rows = values
                    .iter()
                    .zip(1..)
                    .map(|(value, id)| vec![text(&format!("{id}")), text(value)]);
                let mut rows = GivenRows(Some(rows.collect()), 0);
                let loaded = load(
                    &file,
                    Engine::Postgres,
                    &columns,
                    (ALL, CursorForm::Native),
                    &mut rows,
                )
                .await;
                // THEN they are kept, or refused by their column, and never changed
                let is_right = match (&said, &loaded) {
                    (Compat::Carried | Compat::ByValue(_), Ok(_)) => values
                        .iter()
                        .zip(stored(&file, "t").await)
                        .all(|(value, found)| is_kept(kind, value, &found)),
                    (Compat::ByValue(_), Err(error)) => {
                        error.report.code == "value_does_not_fit"
                            && error.report.message.contains("column `v`")
                    }
                    (Compat::Refused(_), Err(error)) => error.report.code == "plan::type_mismatch",
                    (Compat::Refused(_), Ok(_)) | (Compat::Carried, Err(_)) => false,
                };
                if !is_right {
                    wrong.push(format!(
                        "{values:?} of {type_name} into `{declared}`: {said:?}, {loaded:?}"
                    ));
                }
            }
            // AND what goes unseen, or is refused, is what SQLite itself keeps, or does not
            let is_exact = match &said {
                Compat::Carried => are_all_kept,
                Compat::ByValue(_) | Compat::Refused(_) => !are_all_kept,
            };
            // What else there is may read as a number, as a composite does not and a whole number
            // of an extension does.
            if !is_exact && kind != ColumnKind::Other {
                wrong.push(format!(
                    "{type_name} into `{declared}`: kept are all is {are_all_kept}, and the rule \
                     says {said:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
