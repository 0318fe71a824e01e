//! Columns that are read as another type of the server's. The server says what a type is, and
//! whether it casts to it: nothing of a type's name is judged here.

use std::collections::BTreeMap;

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind};
use highwater_common::spec::Relation;
use sqlx::{Executor, PgConnection, Row};

use super::columns::{Column, Typed, typed};
use super::errors::{classify, is_state, permanent};
use super::pins::{Path, set_path};
use super::session::Endpoint;
use crate::connector::ConnectorError;
use crate::connector::sql_text::{Dialect, Sql};

const SYNTAX_ERROR: &str = "42601";
const NO_SUCH_TYPE: &str = "42704";
const NO_SUCH_SCHEMA: &str = "3F000";
const BAD_MODIFIER: &str = "22023";
const CANNOT_COERCE: &str = "42846";
/// Errors by the values of rows: those of class 22, and what a domain refuses.
const VALUE_CODES: [ErrorCode; 4] = [
    ErrorCode::ValueDoesNotFit,
    ErrorCode::NumericOverflow,
    ErrorCode::TextTooLong,
    ErrorCode::ConstraintViolation,
];

/// What arrives of a table's columns where some of them are cast: column → type.
///
/// # Errors
/// Permanent `cast_impossible` for a type that the server does not have, or does not cast to.
pub(super) async fn cast_columns(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &Relation,
    columns: Vec<ColumnFacts>,
    casts: &BTreeMap<String, String>,
) -> Result<Vec<ColumnFacts>, ConnectorError> {
    let mut arriving = Vec::with_capacity(columns.len());
    for column in columns {
        let Some(wanted) = casts.get(&column.name) else {
            arriving.push(column);
            continue;
        };
        let impossible = |why: String| {
            let message = format!(
                "column {} of {table} on {endpoint} is to be cast to {wanted}: {why}; name another \
                 type in `from.columns`",
                column.name
            );
            permanent(ErrorCode::CastImpossible, message)
        };
        let what = format!("look for the type {wanted}");
        let failed = |error| classify(endpoint, &what, error);
        let found = find_type(conn, wanted).await.map_err(failed)?;
        let Some(to) = found else {
            let why = "there is no such type (write one of your own with its schema)";
            return Err(impossible(why.to_owned()));
        };
        let read = read_column(
            Sql::new(Dialect::Postgres, "select "),
            &column.name,
            &to.facts,
        );
        let touch = read.text(" from ").relation(table).text(" limit 0");
        let is_query = table.query().is_some();
        if is_query {
            set_path(conn, Path::Own).await.map_err(failed)?;
        }
        // The text of a query has been described by now, and so is one statement.
        let touched = conn.execute(sqlx::raw_sql(touch.into_statement())).await;
        if is_query && touched.is_ok() {
            set_path(conn, Path::Catalog).await.map_err(failed)?;
        }
        match touched {
            Ok(_) => (),
            Err(error) if is_state(&error, CANNOT_COERCE) => {
                let why = format!("the server casts no {} to it", column.type_name);
                return Err(impossible(why));
            }
            Err(error) => return Err(classify(endpoint, &format!("read {table}"), error)),
        }
        // A JSON null is no NULL, and is cast to one; what a function of the user's own gives may
        // be anything.
        let may_give_null = column.kind == ColumnKind::Json
            || column.definition.is_some()
            || to.facts.definition.is_some();
        let to = ColumnFacts {
            nullable: may_give_null,
            ..to.facts
        };
        arriving.push(to.cast_of(column));
    }
    Ok(arriving)
}

/// A type by what a user calls it, as a column of it; `None` when the server has none.
async fn find_type(conn: &mut PgConnection, wanted: &str) -> Result<Option<Column>, sqlx::Error> {
    let found = sqlx::query(
        "select t.oid::int8 as oid, t.typtype = 'd' as is_domain, t.oid::regtype::text as name \
         from pg_type t where t.oid = to_regtype($1) and t.typtype <> 'p'",
    )
    .bind(wanted)
    .fetch_optional(&mut *conn)
    .await;
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) => {
            let is_unknown = [SYNTAX_ERROR, NO_SUCH_TYPE, NO_SUCH_SCHEMA, BAD_MODIFIER]
                .iter()
                .any(|state| is_state(&error, state));
            return if is_unknown { Ok(None) } else { Err(error) };
        }
    };
    let name = match found.try_get("is_domain")? {
        true => found.try_get("name")?,
        false => match written_by_server(conn, wanted).await? {
            Some(name) => name,
            None => found.try_get("name")?,
        },
    };
    let one = Typed {
        name: String::new(),
        oid: found.try_get("oid")?,
        written: name,
    };
    Ok(typed(conn, vec![one]).await?.pop())
}

/// A type, modifiers and all, as the server writes it: nothing but a statement's own text has both.
async fn written_by_server(
    conn: &mut PgConnection,
    wanted: &str,
) -> Result<Option<String>, sqlx::Error> {
    let explain = Sql::new(
        Dialect::Postgres,
        "explain (verbose, costs off) select cast(null as ",
    );
    let explain = explain.known_type(wanted).text(")").into_statement();
    let lines: Vec<String> = sqlx::query_scalar(explain)
        .persistent(false)
        .fetch_all(conn)
        .await?;
    let output = lines
        .iter()
        .find_map(|line| line.trim().strip_prefix("Output: NULL::"));
    Ok(output.map(str::to_owned))
}

/// A column as it is selected: cast, where it is.
pub(super) fn read_column(sql: Sql, name: &str, arrives: &ColumnFacts) -> Sql {
    let cast = sql.text("cast(").name(name).text(" as ");
    cast.known_type(&arrives.type_name).text(")")
}

/// Makes sure that the types of a user's own making that columns are cast to still are what was
/// planned. Answers whether the text of their values may name objects of the catalog.
pub(super) async fn still_cast(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    table: &Relation,
    planned: &[ColumnFacts],
) -> Result<bool, ConnectorError> {
    let mut prints_names = false;
    for column in planned.iter().filter(|column| column.cast_from().is_some()) {
        prints_names |= column.type_name.starts_with("reg");
        if column.definition.is_none() {
            continue;
        }
        let failed = |error| classify(endpoint, &format!("read {table}"), error);
        let found = find_type(conn, &column.type_name).await.map_err(failed)?;
        let Some(found) = found.filter(|found| found.facts.definition == column.definition) else {
            let message = format!(
                "the type {}, which column {} of {table} on {endpoint} is cast to, has changed \
                 since the run was planned; plan anew with --new",
                column.type_name,
                column.source_name()
            );
            return Err(permanent(ErrorCode::SchemaChanged, message));
        };
        prints_names |= found.prints_names;
    }
    Ok(prints_names)
}

/// The error of a read, with the columns whose cast it may be about: the server names none.
pub(super) fn naming_casts(mut error: ConnectorError, read: &[ColumnFacts]) -> ConnectorError {
    let report = &mut error.report;
    if !VALUE_CODES.iter().any(|code| report.code == code.as_str()) {
        return error;
    }
    let casts: Vec<&ColumnFacts> = read
        .iter()
        .filter(|column| column.cast_from().is_some())
        .collect();
    let is_named = |column: &&&ColumnFacts| {
        let (base, _) = column
            .type_name
            .split_once('(')
            .unwrap_or((&column.type_name, ""));
        report.message.contains(&format!("(type {base}"))
    };
    let named: Vec<&ColumnFacts> = casts.iter().filter(is_named).copied().collect();
    let meant = if named.is_empty() { casts } else { named };
    let told: Vec<String> = meant
        .iter()
        .map(|column| format!("column {} to {}", column.source_name(), column.type_name))
        .collect();
    if !told.is_empty() {
        let told = told.join(", or of ");
        let more = format!(". Look at the cast of {told}: correct the value, or cast otherwise");
        report.message.push_str(&more);
    }
    error
}
