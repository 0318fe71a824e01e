//! Rows that the server places by a unique key, in its own order: the bounds that cut it are found
//! by walking the key's index, and compared by nobody else. Never sorts a value itself.

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnKind, CursorForm, PartitionFacts};
use highwater_common::placing::{KeyBound, KeyColumn, KeyPlacing, Placing};
use highwater_common::range::Slice;
use highwater_common::spec::{Relation, TableName};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::time::Duration;
use tokio::time::Instant;

use super::catalog::{Table, unknown_column};
use super::errors::{classify, permanent};
use super::hashes::server;
use super::nulls::is_inherited;
use super::probe::Probe;
use super::session::Endpoint;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::{ConnectorError, KeyProbe, SourceProbe};

/// The most bounds that a table is cut at: a plan holds them all.
const BOUNDS_MAX: usize = 2_000;
/// How long they may take to be found: less than a probe is waited for.
const WALK_MAX: Duration = Duration::from_mins(25);
/// What they take together as text.
const BOUNDS_BYTES_MAX: usize = 200 * 1024;

impl Probe<'_> {
    /// The facts of a table that is cut by a key.
    pub(super) async fn keyed(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        (key, rows): (&KeyProbe, i64),
    ) -> Result<PartitionFacts, ConnectorError> {
        let endpoint = self.endpoint;
        let expected = u64::try_from(rows).unwrap_or(0) / key.max_rows.max(1);
        // The server's estimate may be twice what there is.
        if expected / 2 > BOUNDS_MAX as u64 {
            return Err(too_many(endpoint, &asked.relation));
        }
        self.limit_statement().await?;
        let columns = self.key_of(asked, table, &key.columns).await?;
        let mut placing = KeyPlacing {
            columns: key_columns(self.conn, endpoint, &asked.relation, table, &columns).await?,
            bounds: Vec::new(),
        };
        let id = Placing::Keys(placing.clone()).id();
        let kept = key.kept.iter().find(|kept| kept.rule == id);
        let kept = kept.map(|kept| kept.bounds.clone()).unwrap_or_default();
        // A number never means two keys.
        let last = kept.last().map_or(0, |bound| bound.number);
        if key.goes_on {
            placing.bounds = kept;
        }
        self.until = Instant::now() + WALK_MAX.min(endpoint.session().statement_timeout);
        self.walk(asked, &mut placing, (key.max_rows, last)).await?;
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

    /// The columns of the key that is meant, which no two rows share and an index has in order.
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
        let keys = read_ordered_keys(self.conn, table.oid)
            .await
            .map_err(failed)?;
        if named.is_empty() {
            let own = keys.into_iter().find(|key| key.is_whole);
            let why = "it has no primary key, and no unique key of NOT NULL columns, whose index is in \
                       the order of its columns; name the columns of another unique key in \
                       `partition.columns`, or use `by: hash`";
            return own
                .map(|own| own.columns)
                .ok_or_else(|| refused(why.to_owned()));
        }
        if keys.iter().any(|key| key.columns == named) {
            return Ok(named.to_vec());
        }
        let keys: Vec<String> = keys
            .iter()
            .map(|key| format!("({})", key.columns.join(", ")))
            .collect();
        let has = match keys.is_empty() {
            true => "it has none that is unique, whole, checked at once, and has an index in the \
                     order of its columns"
                .to_owned(),
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
        (max_rows, mut last): (u64, i64),
    ) -> Result<(), ConnectorError> {
        let (relation, endpoint) = (&asked.relation, self.endpoint);
        let kept = placing.bounds.iter().flat_map(|bound| &bound.values);
        let mut bytes = kept.map(String::len).fold(0, usize::saturating_add);
        loop {
            self.limit_statement().await?;
            let step = step(relation, placing, max_rows);
            let found = sqlx::query(step.into_statement())
                .persistent(false)
                .fetch_optional(&mut *self.conn)
                .await
                .map_err(|error| match Instant::now() >= self.until {
                    true => takes_too_long(endpoint, relation),
                    false => {
                        let what = format!("look for the bounds of {relation}");
                        classify(endpoint, &what, error)
                    }
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
            last = last.saturating_add(1);
            placing.bounds.push(KeyBound {
                number: last,
                values,
            });
            if placing.bounds.len() > BOUNDS_MAX || bytes > BOUNDS_BYTES_MAX {
                return Err(too_many(endpoint, relation));
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
    let mut sql = sql
        .text(" from ")
        .relation(relation)
        .text(" as walked where ");
    sql = sql.has_key(placing);
    if let Some(last) = placing.bounds.last() {
        sql = sql.text(" and ").key_bound(placing, " >= ", last);
    }
    // A name alone would mean the text that is selected, and that has another order.
    sql = sql.text(" order by ");
    for (at, name) in names().enumerate() {
        sql = if at > 0 { sql.text(", ") } else { sql };
        sql = sql.text("walked.").name(name);
    }
    sql.text(" limit 1 offset ")
        .integer(i64::try_from(max_rows).unwrap_or(i64::MAX))
}

/// What the database's own collation is, with the version of its rules that the server has now: the
/// one that the catalog holds was the version when the database was made.
async fn default_collation(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    let version = match server(conn) {
        ..15 => {
            "coalesce((select pg_collation_actual_version(l.oid) from pg_collation l where \
             l.collprovider = 'c' and l.collcollate not in ('C', 'POSIX') limit 1), version())"
        }
        _ => "coalesce(pg_database_collation_actual_version(d.oid), '')",
    };
    let sql = Sql::new(
        Dialect::Postgres,
        "select concat_ws('/', to_jsonb(d) ->> 'datlocprovider', ",
    )
    .text(
        "d.datcollate, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), \
             to_jsonb(d) ->> 'daticurules') || '@' || case when d.datcollate in ('C', 'POSIX') and \
             coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c' then '' else ",
    )
    .text(version)
    .text(" end from pg_database d where d.datname = current_database()");
    sqlx::query_scalar(sql.into_statement())
        .persistent(false)
        .fetch_one(conn)
        .await
}

/// Whether a table can be cut by its own key. Nothing is walked.
pub(super) async fn is_cut_by_its_key(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    name: &TableName,
    table: &Table,
) -> Result<bool, ConnectorError> {
    let failed = |error| classify(endpoint, &format!("read the catalog of {name}"), error);
    if is_inherited(conn, table.oid).await.map_err(failed)? {
        return Ok(false);
    }
    let keys = read_ordered_keys(conn, table.oid).await.map_err(failed)?;
    let Some(own) = keys.into_iter().find(|key| key.is_whole) else {
        return Ok(false);
    };
    let relation = Relation::from(name.clone());
    match key_columns(conn, endpoint, &relation, table, &own.columns).await {
        Ok(_) => Ok(true),
        Err(error) if error.report.code == ErrorCode::UnsupportedPartitionColumn => Ok(false),
        Err(error) => Err(error),
    }
}

/// A unique key, and an index that has it in the order in which the columns compare.
pub(super) struct OrderedKey {
    pub(super) columns: Vec<String>,
    /// Whether none of its columns may be NULL.
    pub(super) is_whole: bool,
    /// Whether it is the primary one.
    pub(super) is_primary: bool,
}

/// The keys that can be walked, the primary one first.
pub(super) async fn read_ordered_keys(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<Vec<OrderedKey>, sqlx::Error> {
    let rows = sqlx::query(
        "select array_agg(a.attname::text order by k.place) as columns, bool_and(a.attnotnull) as \
         whole, i.indisprimary as own from pg_index i join pg_class c on c.oid = i.indexrelid \
         join pg_am m on m.oid = c.relam and m.amname = 'btree' \
         cross join lateral unnest(i.indkey::int2[], i.indcollation::oid[], i.indclass::oid[], \
         i.indoption::int2[]) with ordinality k(attnum, sorted_by, class_oid, direction, place) \
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
         join pg_opclass o on o.oid = k.class_oid \
         where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indimmediate \
         and i.indpred is null and i.indexprs is null and k.place <= i.indnkeyatts \
         group by i.indexrelid, i.indisprimary, i.indnkeyatts \
         having count(*) = i.indnkeyatts and bool_and(k.sorted_by = a.attcollation and o.opcdefault) \
         and count(distinct k.direction) = 1 and min(k.direction) in (0, 3) \
         order by i.indisprimary desc, 1 limit 200",
    )
    .bind(oid)
    .fetch_all(conn)
    .await?;
    let key = |row: PgRow| {
        Ok(OrderedKey {
            columns: row.try_get("columns")?,
            is_whole: row.try_get("whole")?,
            is_primary: row.try_get("own")?,
        })
    };
    rows.into_iter().map(key).collect()
}

fn too_many(endpoint: &Endpoint, relation: &Relation) -> ConnectorError {
    let message = format!(
        "{relation} on {endpoint} would be cut at more than {BOUNDS_MAX} keys, or at keys of more than \
         {BOUNDS_BYTES_MAX} bytes together, which a plan does not hold; use a larger `max_rows`, or \
         `by: hash`"
    );
    permanent(ErrorCode::UnsupportedPartitionColumn, message)
}

fn takes_too_long(endpoint: &Endpoint, relation: &Relation) -> ConnectorError {
    let message = format!(
        "{relation} on {endpoint}: the walk along its key has not come to an end in {} minutes. \
         VACUUM the table, so that its index alone is read, or use `by: hash`",
        WALK_MAX.as_secs() / 60
    );
    permanent(ErrorCode::ProbeTimeout, message)
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
        "select a.attname::text as name, format_type(a.atttypid, null) as type, \
         coalesce(l.collisdeterministic, true) as sure, \
         coalesce(case when l.collprovider = 'd' then $2 \
         else l.collnamespace::regnamespace::text || '.' || l.collname || '@' || \
         coalesce(pg_collation_actual_version(l.oid), '') end, '') as collation \
         from pg_attribute a left join pg_collation l on l.oid = a.attcollation \
         where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped",
    )
    .bind(table.oid)
    .bind(default_collation(conn).await.map_err(failed)?)
    .fetch_all(&mut *conn)
    .await
    .map_err(failed)?;
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let column = table
            .column(name)
            .ok_or_else(|| unknown_column(endpoint, relation, table, name))?;
        let (mut sure, mut collation, mut type_name) = (true, String::new(), String::new());
        for row in &rows {
            if row.try_get::<String, _>("name").map_err(failed)? == *name {
                sure = row.try_get("sure").map_err(failed)?;
                collation = row.try_get("collation").map_err(failed)?;
                type_name = row.try_get("type").map_err(failed)?;
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
            type_name,
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
