//! Rows that the server places by a unique key, in its own order: the bounds that cut it are found
//! by walking the key's index, and compared by nobody else. Never sorts a value itself.

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnKind, CursorForm, PartitionFacts};
use highwater_common::placing::{KeyBound, KeyColumn, KeyPlacing, Placing};
use highwater_common::range::Slice;
use highwater_common::spec::Relation;
use sqlx::{PgConnection, Row};

use super::catalog::{Table, read_key, read_unique, unknown_column};
use super::errors::{classify, permanent};
use super::nulls::is_inherited;
use super::probe::Probe;
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, KeyProbe, SourceProbe};

/// The most bounds that a table is cut at: a plan holds them all.
const BOUNDS_MAX: usize = 2_000;
/// What they take together as text.
const BOUNDS_BYTES_MAX: usize = 200 * 1024;

impl Probe<'_> {
    /// The facts of a table that is cut by a key.
    pub(super) async fn keyed(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        key: &KeyProbe,
    ) -> Result<PartitionFacts, ConnectorError> {
        let endpoint = self.endpoint;
        self.limit_statement().await?;
        let columns = self.key_of(asked, table, &key.columns).await?;
        let mut placing = KeyPlacing {
            columns: key_columns(self.conn, endpoint, &asked.relation, table, &columns).await?,
            bounds: Vec::new(),
        };
        let id = Placing::Keys(placing.clone()).id();
        let kept = key.kept.iter().find(|kept| kept.rule == id);
        placing.bounds = kept.map(|kept| kept.bounds.clone()).unwrap_or_default();
        self.until = tokio::time::Instant::now() + endpoint.session().statement_timeout;
        self.limit_statement().await?;
        self.walk(asked, &mut placing, key.max_rows).await?;
        let nullable = placing.columns.iter().any(|column| column.nullable);
        Ok(PartitionFacts {
            column: columns.join(", "),
            kind: CursorKind::Placed(id),
            form: CursorForm::Native,
            placing: Some(Placing::Keys(placing)),
            min: None,
            max: None,
            nullable,
            null_rows: (!nullable).then_some(0),
            left_out: None,
            indexed: true,
            histogram: Vec::new(),
            empty: Vec::new(),
        })
    }

    /// The columns of the key that is meant, which no two rows share.
    async fn key_of(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        named: &[String],
    ) -> Result<Vec<String>, ConnectorError> {
        let (relation, endpoint) = (&asked.relation, self.endpoint);
        let failed = |error| classify(endpoint, &format!("read the catalog of {relation}"), error);
        let refused = |why: String| {
            let message = format!("{relation} on {endpoint} cannot be cut by a key: {why}");
            permanent(ErrorCode::UnsupportedPartitionColumn, message)
        };
        if is_inherited(self.conn, table.oid).await.map_err(failed)? {
            let why = "tables inherit from it, and a read of it sees their rows too, which no key of \
                       it covers; cut it by a time, a whole number or a hash";
            return Err(refused(why.to_owned()));
        }
        if named.is_empty() {
            let own = read_key(self.conn, table.oid, true).await.map_err(failed)?;
            if own.is_empty() {
                let why = "it has no primary key, and no unique key of NOT NULL columns; name the \
                           columns of another unique key in `partition.columns`, or use `by: hash`";
                return Err(refused(why.to_owned()));
            }
            return Ok(own);
        }
        let unique = read_unique(self.conn, table.oid).await.map_err(failed)?;
        if unique.iter().any(|key| key == named) {
            return Ok(named.to_vec());
        }
        let keys: Vec<String> = unique
            .iter()
            .map(|key| format!("({})", key.join(", ")))
            .collect();
        let has = match keys.is_empty() {
            true => "it has none that is unique, whole and checked at once".to_owned(),
            false => format!("its unique keys are {}", keys.join(", ")),
        };
        Err(refused(format!(
            "({}) is no unique key of it; {has}",
            named.join(", ")
        )))
    }

    /// Adds bounds behind those that are there, each so many rows behind the one before, as the
    /// server finds them. Rows that come meanwhile lie between two of them, or beyond the last.
    async fn walk(
        &mut self,
        asked: &SourceProbe,
        placing: &mut KeyPlacing,
        max_rows: u64,
    ) -> Result<(), ConnectorError> {
        let (relation, endpoint) = (&asked.relation, self.endpoint);
        let mut bytes: usize = 0;
        loop {
            let step = step(relation, placing, max_rows);
            let found = sqlx::query(step.into_statement())
                .persistent(false)
                .fetch_optional(&mut *self.conn)
                .await
                .map_err(|error| {
                    classify(
                        endpoint,
                        &format!("look for the bounds of {relation}"),
                        error,
                    )
                })?;
            let Some(row) = found else { return Ok(()) };
            let mut values = Vec::with_capacity(placing.columns.len());
            for at in 0..placing.columns.len() {
                let value: String = row.try_get(at).map_err(|error| {
                    classify(endpoint, &format!("read a bound of {relation}"), error)
                })?;
                bytes = bytes.saturating_add(value.len());
                values.push(value);
            }
            let last = placing.bounds.last().map_or(0, |bound| bound.number);
            placing.bounds.push(KeyBound {
                number: last.saturating_add(1),
                values,
            });
            if placing.bounds.len() > BOUNDS_MAX || bytes > BOUNDS_BYTES_MAX {
                let message = format!(
                    "{relation} on {endpoint} would be cut at more than {BOUNDS_MAX} keys, or at keys \
                     of more than {BOUNDS_BYTES_MAX} bytes together, which a plan does not hold; use a \
                     larger `max_rows`, or `by: hash`"
                );
                return Err(permanent(ErrorCode::UnsupportedPartitionColumn, message));
            }
        }
    }
}

/// The statement that finds the next bound.
fn step(relation: &Relation, placing: &KeyPlacing, max_rows: u64) -> Sql {
    let names = || placing.columns.iter().map(|column| column.name.as_str());
    let mut sql = Sql::new(Dialect::Postgres, "select ");
    for (at, name) in names().enumerate() {
        sql = if at > 0 { sql.text(", ") } else { sql };
        sql = sql.name(name).text("::text");
    }
    let mut sql = sql.text(" from ").relation(relation).text(" where ");
    sql = sql.has_key(placing);
    if let Some(last) = placing.bounds.last() {
        sql = sql.text(" and ").key_bound(placing, " >= ", last);
    }
    sql.text(" order by ")
        .names(names())
        .text(" limit 1 offset ")
        .integer(i64::try_from(max_rows).unwrap_or(i64::MAX))
}

/// What the order of a key depends on. Another order, such as one of another version of a
/// language's rules, is another rule.
pub(super) async fn key_columns(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    relation: &Relation,
    table: &Table,
    names: &[String],
) -> Result<Vec<KeyColumn>, ConnectorError> {
    let failed = |error| classify(endpoint, &format!("read the catalog of {relation}"), error);
    let rows = sqlx::query(
        "select a.attname::text as name, coalesce(l.collisdeterministic, true) as sure, \
         coalesce(case when l.collprovider = 'd' then d.datcollate || '@' || \
         coalesce(to_jsonb(d) ->> 'datcollversion', '') \
         else l.collnamespace::regnamespace::text || '.' || l.collname || '@' || \
         coalesce(pg_collation_actual_version(l.oid), '') end, '') as collation \
         from pg_attribute a left join pg_collation l on l.oid = a.attcollation \
         join pg_database d on d.datname = current_database() \
         where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped",
    )
    .bind(table.oid)
    .fetch_all(&mut *conn)
    .await
    .map_err(failed)?;
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let column = table
            .column(name)
            .ok_or_else(|| unknown_column(endpoint, relation, table, name))?;
        let (mut sure, mut collation) = (true, String::new());
        for row in &rows {
            if row.try_get::<String, _>("name").map_err(failed)? == *name {
                sure = row.try_get("sure").map_err(failed)?;
                collation = row.try_get("collation").map_err(failed)?;
            }
        }
        let facts = &column.facts;
        let why = match facts.kind {
            _ if !sure => Some(
                "its collation takes different texts for equal, so that no bound between them is one",
            ),
            ColumnKind::Float32 | ColumnKind::Float64 => {
                Some("it holds floating point numbers, whose text is not what is compared")
            }
            ColumnKind::Json | ColumnKind::Other => {
                Some("only keys of numbers, texts, bytes, days, times and uuids cut a table")
            }
            _ => None,
        };
        if let Some(why) = why {
            let message = format!(
                "column {name} ({}) of {relation} on {endpoint} cannot cut it by a key: {why}. Name \
                 another key in `partition.columns`, or use `by: hash`",
                facts.type_name
            );
            return Err(permanent(ErrorCode::UnsupportedPartitionColumn, message));
        }
        columns.push(KeyColumn {
            name: name.clone(),
            type_name: facts.type_name.clone(),
            collation,
            nullable: facts.nullable,
        });
    }
    Ok(columns)
}

/// Makes sure that the server still orders the key as it did when the run was planned, and that the
/// ends of the slice are known.
pub(super) async fn still_ordered(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    relation: &Relation,
    table: &Table,
    (planned, slice): (&KeyPlacing, &Slice),
) -> Result<(), ConnectorError> {
    let names: Vec<String> = planned.columns.iter().map(|of| of.name.clone()).collect();
    let now = key_columns(conn, endpoint, relation, table, &names).await?;
    let order = |columns: &[KeyColumn]| {
        let told = columns
            .iter()
            .map(|of| format!("{} {} {}", of.name, of.type_name, of.collation));
        told.collect::<Vec<_>>().join(", ")
    };
    let (planned_order, order) = (order(&planned.columns), order(&now));
    if planned_order != order {
        let message = format!(
            "{relation} on {endpoint} was cut in the order of ({planned_order}), which is ({order}) now; \
             plan anew with --new"
        );
        return Err(permanent(ErrorCode::SchemaChanged, message));
    }
    // A column that may be NULL now and could not before would leave rows out.
    if let Some(loose) = now
        .iter()
        .zip(&planned.columns)
        .find_map(|(now, then)| (now.nullable && !then.nullable).then_some(&now.name))
    {
        let message = format!(
            "column {loose} of {relation} on {endpoint} was NOT NULL when the run was planned, and is \
             not now; plan anew with --new"
        );
        return Err(permanent(ErrorCode::SchemaChanged, message));
    }
    let Slice::Range(range) = slice else {
        return Ok(());
    };
    for at in [range.start(), range.end()].into_iter().flatten() {
        let is_known = matches!(at, Cursor::Placed(_, number) if planned.bound(number).is_some());
        if !is_known {
            let message =
                format!("the order of a task of {relation} lacks the bound {at}; this is a bug");
            return Err(permanent(ErrorCode::MalformedOrder, message));
        }
    }
    Ok(())
}
