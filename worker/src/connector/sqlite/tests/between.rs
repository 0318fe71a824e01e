//! The rule of the plan between two files of SQLite: what a column of each declared type holds,
//! into columns of each other one.

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::CursorForm;
use highwater_common::plan::{Compat, compat};
use highwater_common::range::{CursorRange, Slice};
use sqlx::Row;

use super::super::catalog::kind_of;
use super::values::{GivenRows, load};
use super::*;
use crate::connector::Value;

const ALL: Slice = Slice::Range(CursorRange::ALL);
const DECLARED: [&str; 6] = [
    "",
    "blob",
    "integer",
    "decimal(10,2)",
    "double",
    "varchar(30)",
];
/// What people declare beside these, each with the one above that SQLite takes it for.
const OTHERS: [(&str, &str); 17] = [
    ("int", "integer"),
    ("bigint", "integer"),
    ("unsigned big int", "integer"),
    ("tinyint(1)", "integer"),
    ("real", "double"),
    ("float", "double"),
    ("double precision", "double"),
    ("text", "varchar(30)"),
    ("clob", "varchar(30)"),
    ("character(20)", "varchar(30)"),
    ("numeric", "decimal(10,2)"),
    ("bool", "decimal(10,2)"),
    ("boolean", "decimal(10,2)"),
    ("date", "decimal(10,2)"),
    ("datetime", "decimal(10,2)"),
    ("timestamp", "decimal(10,2)"),
    ("json", "decimal(10,2)"),
];
/// Values of each class, as SQL: at the ends of what a float holds, and texts that read as numbers.
const VALUES: [&str; 18] = [
    "0",
    "-3",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "0.1",
    "0.12345678901234568",
    "1e300",
    "-9e999",
    "3.0",
    "'abc'",
    "''",
    "'0012'",
    "' 1e3 '",
    "'12.50'",
    "'0x10'",
    "x'00ff'",
    "x'31'",
];

/// A table of one column, with some rows in it.
async fn table_of(declared: &str, values: &[Value]) -> File {
    let file = File::fresh();
    file.run(&format!(
        "create table t (id integer primary key, v {declared})"
    ))
    .await;
    let mut conn = file.open().await;
    for value in values {
        let insert = sqlx::query("insert into t (v) values (?)");
        let insert = match value {
            Value::Integer(number) => insert.bind(*number),
            Value::Real(number) => insert.bind(*number),
            Value::Text(text) => insert.bind(text.clone()),
            Value::Bytes(bytes) => insert.bind(bytes.clone()),
            Value::Null | Value::RawText(_) => insert.bind(None::<String>),
        };
        insert.execute(&mut conn).await.expect("inserted");
    }
    file
}

async fn held(file: &File) -> Vec<Value> {
    let rows = sqlx::query("select typeof(v), v from t order by id")
        .fetch_all(&mut file.open().await)
        .await
        .expect("read");
    let value = |row: &sqlx::sqlite::SqliteRow| match row.get::<&str, _>(0) {
        "integer" => Value::Integer(row.get(1)),
        "real" => Value::Real(row.get(1)),
        "text" => Value::Text(row.get(1)),
        _ => Value::Bytes(row.get(1)),
    };
    rows.iter().map(value).collect()
}

/// Whether what is stored still is the value: the same, the same number, or its digits.
fn is_same(sent: &Value, found: &Value) -> bool {
    match (sent, found) {
        (Value::Integer(one), Value::Real(two)) | (Value::Real(two), Value::Integer(one)) => {
            *two as i128 == i128::from(*one) && two.fract() == 0.0
        }
        (Value::Integer(number), Value::Text(text)) => *text == number.to_string(),
        (sent, found) => sent == found,
    }
}

#[test]
fn every_declared_type_is_judged_as_the_one_that_sqlite_takes_it_for() {
    let of = |declared: &str| column("v", declared, kind_of(declared), true);
    for (other, like) in OTHERS {
        assert_eq!(kind_of(other), kind_of(like), "{other}");
        for to in DECLARED {
            let judged = |from, to| compat(Engine::Sqlite, &of(from), Engine::Sqlite, &of(to));
            assert_eq!(judged(other, to), judged(like, to), "{other} into {to}");
            assert_eq!(judged(to, other), judged(to, like), "{to} into {other}");
        }
    }
}

#[tokio::test]
async fn a_column_of_sqlite_is_carried_into_another_exactly_if_every_value_is() {
    let mut wrong = Vec::new();
    let sources = DECLARED.iter().map(|declared| async move {
        // GIVEN what a column of a declared type makes of values of every class
        let file = File::fresh();
        let rows: Vec<String> = VALUES.iter().map(|value| format!("({value})")).collect();
        let rows = rows.join(", ");
        file.run(&format!(
            "create table t (id integer primary key, v {declared}); insert into t (v) values {rows}"
        ))
        .await;
        (*declared, held(&file).await)
    });
    for source in sources {
        let (from, values) = source.await;
        for to in DECLARED {
            let columns = [
                column("id", "bigint", ColumnKind::Int64, false),
                column("v", from, kind_of(from), true),
            ];
            let own = column("v", to, kind_of(to), true);
            let said = compat(Engine::Sqlite, &columns[1], Engine::Sqlite, &own);
            let raw = held(&table_of(to, &values).await).await;
            let are_kept = values
                .iter()
                .zip(&raw)
                .all(|(sent, found)| is_same(sent, found));
            // WHEN they are loaded into a column of another, each alone where it is the value that
            // decides
            let loads: Vec<&[Value]> = match said {
                Compat::ByValue(_) => values.chunks(1).collect(),
                Compat::Carried | Compat::Refused(_) => vec![&values],
            };
            for values in loads {
                let file = table_of(to, &[]).await;
                let rows = values.iter().zip(1..);
                let rows = rows
                    .map(|(value, id)| vec![Value::Integer(id), value.clone()])
                    .collect();
                let mut rows = GivenRows(Some(rows), 0);
                let form = (ALL, CursorForm::Native);
                let loaded = load(&file, Engine::Sqlite, &columns, form, &mut rows).await;
                // THEN they are kept, or refused by their column, and never changed
                let is_right = match (&said, &loaded) {
                    (Compat::Carried | Compat::ByValue(_), Ok(_)) => {
                        let found = held(&file).await;
                        let mut pairs = values.iter().zip(&found);
                        pairs.all(|(sent, found)| is_same(sent, found))
                    }
                    (Compat::ByValue(_), Err(error)) => {
                        error.report.code == ErrorCode::ValueDoesNotFit
                    }
                    (Compat::Refused(_), Err(error)) => {
                        error.report.code == ErrorCode::PlanTypeMismatch
                    }
                    (Compat::Refused(_), Ok(_)) | (Compat::Carried, Err(_)) => false,
                };
                if !is_right {
                    wrong.push(format!(
                        "{values:?} of `{from}` into `{to}`: {said:?}, {loaded:?}"
                    ));
                }
            }
            // AND what goes unseen is what SQLite itself keeps, and no more
            if (said == Compat::Carried) != are_kept {
                wrong.push(format!(
                    "`{from}` into `{to}`: kept is {are_kept}, and {said:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
