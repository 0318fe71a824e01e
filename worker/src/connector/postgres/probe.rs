//! Reads what a plan needs to know of a source table, from the catalog where it can. Never
//! guesses a bound, however long it takes to read; what a plan can do without takes no longer than
//! the probe's time.

use std::time::Duration;

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnKind, Engine, PartitionFacts, TableFacts};
use highwater_common::spec::{Relation, SourceRows};
use sqlx::{Executor, PgConnection, Row};
use tokio::time::Instant;

use super::at_work::watched;
use super::casts::cast_columns;
use super::catalog::{Table, is_indexed, read_key, source_table, unknown_column};
use super::errors::{classify, is_state, permanent};
use super::nulls::{doubt_not_null, is_inherited};
use super::policies::look_at_source;
use super::positions::Positions;
use super::query::probe_query;
use super::session::Endpoint;
use super::twin::read_definition;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::stored_slice::{cursor, raw};
use crate::connector::{ConnectorError, Doing, PlacingProbe, SourceProbe};

/// Tables estimated below this are counted.
const COUNTED_ROWS_MAX: i64 = 1_000_000;
/// A table never analysed is counted when it is no larger than this.
const COUNTED_BYTES_MAX: i64 = 512 * 1024 * 1024;
/// What a row of a table never analysed is taken to need.
const ROW_BYTES_GUESS: i64 = 100;
/// The most histogram bounds kept.
const HISTOGRAM_MAX: usize = 200;

/// A stretch without rows is one if it is at least so small a part of the whole.
pub(super) const EMPTY_PART: i128 = 1_000;

pub(super) const STATEMENT_TIMEOUT: &str = "57014";

/// One probe's session and the time it has left.
pub(super) struct Probe<'p> {
    pub(super) conn: &'p mut PgConnection,
    pub(super) endpoint: &'p Endpoint,
    pub(super) doing: &'p Doing,
    pub(super) until: Instant,
}

/// The facts of the table asked for.
pub(super) async fn probe_source(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    doing: &Doing,
    asked: &SourceProbe,
    rows: SourceRows,
) -> Result<TableFacts, ConnectorError> {
    let relation = &asked.relation;
    let Relation::Table(name) = relation else {
        return probe_query(conn, endpoint, relation, &asked.columns, rows).await;
    };
    let mut probe = Probe {
        conn,
        endpoint,
        doing,
        until: Instant::now() + endpoint.session().statement_timeout,
    };
    probe.limit_statement().await?;
    let mut table = source_table(probe.conn, endpoint, name).await?;
    let placed = asked.placing.iter().flat_map(PlacingProbe::columns);
    let special = asked.partition_column.iter().chain(placed);
    for column in asked.columns.named().chain(special) {
        if table.column(column).is_none() {
            return Err(unknown_column(endpoint, relation, &table, column));
        }
    }
    let filtered = look_at_source(probe.conn, endpoint, name, rows).await?;
    let failed = |error| {
        classify(
            endpoint,
            &format!("read the catalog of {}", asked.relation),
            error,
        )
    };
    doubt_not_null(probe.conn, &mut table)
        .await
        .map_err(failed)?;
    let columns: Vec<_> = table
        .facts()
        .filter(|column| !asked.columns.exclude.contains(&column.name))
        .cloned()
        .collect();
    let casts = &asked.columns.casts;
    let columns = cast_columns(probe.conn, endpoint, &asked.relation, columns, casts).await?;
    let mut key = read_key(probe.conn, table.oid, true)
        .await
        .map_err(failed)?;
    let is_kept = |name: &String| {
        columns
            .iter()
            .any(|column| column.name == *name && !column.nullable && column.cast_from().is_none())
    };
    if !key.iter().all(is_kept) || is_inherited(probe.conn, table.oid).await.map_err(failed)? {
        key.clear();
    }
    let (estimate, bytes) = size(probe.conn, table.oid).await.map_err(failed)?;
    probe.until = Instant::now() + endpoint.session().probe_timeout; // a plan can do without
    let counted = probe.count(asked, estimate, bytes).await?;
    let rows = counted.or(estimate).unwrap_or(bytes / ROW_BYTES_GUESS);
    let definition = match asked.defined {
        true => read_definition(probe.conn, &table).await.map_err(failed)?,
        false => None,
    };
    let partition = match (&asked.placing, &asked.partition_column) {
        (Some(PlacingProbe::Hash(columns)), _) => Some(probe.hashed(asked, &table, columns).await?),
        (Some(PlacingProbe::Keys(key)), _) => Some(probe.keyed(asked, &table, (key, rows)).await?),
        (Some(PlacingProbe::Auto { key, keeps_bounds }), _) => {
            let chosen = probe.chosen(asked, &table, (key, *keeps_bounds), rows);
            Some(chosen.await?)
        }
        (None, Some(column)) => Some(probe.partition(asked, &table, column, rows).await?),
        (None, None) => None,
    };
    Ok(TableFacts {
        engine: Engine::Postgres,
        columns,
        key,
        rows: u64::try_from(rows).unwrap_or(0),
        rows_exact: counted.is_some(),
        bytes: u64::try_from(bytes).unwrap_or(0),
        filtered,
        partition,
        definition,
    })
}

impl Probe<'_> {
    /// Gives the next statement what is left of the probe's time.
    pub(super) async fn limit_statement(&mut self) -> Result<(), ConnectorError> {
        let left = self
            .until
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let millis = i64::try_from(left.as_millis()).unwrap_or(1);
        let limit = Sql::new(Dialect::Postgres, "set statement_timeout = ")
            .integer(millis)
            .into_statement();
        let limited = self.conn.execute(sqlx::raw_sql(limit)).await;
        limited
            .map(drop)
            .map_err(|error| classify(self.endpoint, "set up a probe", error))
    }

    /// The exact number of rows, where that is cheap enough to be known in time.
    async fn count(
        &mut self,
        asked: &SourceProbe,
        estimate: Option<i64>,
        bytes: i64,
    ) -> Result<Option<i64>, ConnectorError> {
        if !is_soon_counted(estimate, bytes) {
            return Ok(None);
        }
        self.optional(
            Sql::new(Dialect::Postgres, "select count(*) from ").relation(&asked.relation),
        )
        .await
    }

    /// A number that may stay unknown: a statement that runs out of time gives `None`.
    async fn optional(&mut self, sql: Sql) -> Result<Option<i64>, ConnectorError> {
        self.limit_statement().await?;
        let counted = sqlx::query_scalar::<_, i64>(sql.into_statement())
            .persistent(false)
            .fetch_one(&mut *self.conn)
            .await;
        match counted {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_state(&error, STATEMENT_TIMEOUT) => Ok(None),
            Err(error) => Err(classify(self.endpoint, "count rows", error)),
        }
    }

    pub(super) async fn partition(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        name: &str,
        rows: i64,
    ) -> Result<PartitionFacts, ConnectorError> {
        let positions = match table.column(name) {
            Some(column) if column.facts.kind == ColumnKind::Text => {
                self.text_positions(asked, name).await?
            }
            Some(column) => {
                Positions::of(column).ok_or_else(|| self.not_a_position(asked, table, name))?
            }
            None => return Err(self.not_a_position(asked, table, name)),
        };
        self.until = Instant::now() + self.endpoint.session().statement_timeout;
        self.limit_statement().await?;
        let failed = |error| {
            classify(
                self.endpoint,
                &format!("read the catalog of {}", asked.relation),
                error,
            )
        };
        let indexed = is_indexed(self.conn, table.oid, name)
            .await
            .map_err(failed)?;
        let (min, max) = match asked.bounds_declared {
            true => (None, None),
            false => (
                self.bound(asked, name, positions, indexed, End::First)
                    .await?,
                self.bound(asked, name, positions, indexed, End::Last)
                    .await?,
            ),
        };
        // A plan cannot do without bounds, however long they took; what follows is dispensable.
        self.until = Instant::now() + self.endpoint.session().probe_timeout;
        let nullable = table
            .column(name)
            .is_none_or(|column| column.facts.nullable);
        let null_rows = match nullable {
            false => Some(0),
            true if indexed || rows < COUNTED_ROWS_MAX => {
                let sql =
                    Sql::new(Dialect::Postgres, "select count(*) from ").relation(&asked.relation);
                self.optional(sql.text(" where ").name(name).text(" is null"))
                    .await?
            }
            true => None,
        };
        Ok(PartitionFacts {
            column: name.to_owned(),
            kind: positions.kind,
            form: positions.form,
            placing: None,
            min,
            max,
            nullable,
            left_out: None,
            null_rows: null_rows.and_then(|count| u64::try_from(count).ok()),
            indexed,
            histogram: self.histogram(asked, table, name, positions.kind).await?,
            empty: self
                .empty(asked, name, (positions, indexed), rows, min.zip(max))
                .await?,
        })
    }

    fn not_a_position(&self, asked: &SourceProbe, table: &Table, name: &str) -> ConnectorError {
        let type_name = table
            .column(name)
            .map_or("unknown", |column| column.facts.type_name.as_str());
        let message = format!(
            "column {name} of {} on {} is {type_name}; a partition column is smallint, integer, \
             bigint, numeric, oid, date, timestamp, timestamptz, text of days or times, or a \
             domain over one of them. Cut by another column, or read a view that casts this one",
            asked.relation, self.endpoint
        );
        permanent(ErrorCode::UnsupportedPartitionColumn, message)
    }

    /// The first or the last position. Infinities are left out: they lie in the open ends. Takes as
    /// long as it needs.
    async fn bound(
        &mut self,
        asked: &SourceProbe,
        name: &str,
        positions: Positions,
        indexed: bool,
        end: End,
    ) -> Result<Option<Cursor>, ConnectorError> {
        if positions.are_texts() {
            return self.text_bound(asked, name, positions, indexed, end).await;
        }
        let session = self.begin_bound(asked, name, indexed, end).await?;
        let select = Sql::new(Dialect::Postgres, "select ")
            .text(positions.raw())
            .text(
                " from \
            (select ",
            );
        let from = select
            .name(name)
            .text(" as v from ")
            .relation(&asked.relation)
            .text(" where ")
            .name(name);
        let ordered = match end {
            End::First => from
                .text(positions.down_to_the_first())
                .text(" order by 1 limit 1) b where v::text <> 'infinity'"),
            End::Last => from
                .text(positions.up_to_the_last())
                .text(" order by 1 desc limit 1) b where v::text <> '-infinity'"),
        };
        let read = sqlx::query_scalar::<_, i64>(ordered.into_statement())
            .persistent(false)
            .fetch_optional(&mut *self.conn);
        let read = watched(self.endpoint, session, self.doing, read).await;
        let raw = read.map_err(|error| self.no_bound(asked, name, indexed, error))?;
        Ok(raw.and_then(|raw| cursor(positions.kind, raw)))
    }

    /// The widest stretches without a row, where the rows are so few for their bounds that a rule
    /// would make mostly empty partitions. A small table is asked for every position, a large one only
    /// along an index; given up when it takes too long.
    async fn empty(
        &mut self,
        asked: &SourceProbe,
        name: &str,
        (positions, indexed): (Positions, bool),
        rows: i64,
        bounds: Option<(Cursor, Cursor)>,
    ) -> Result<Vec<(Cursor, Cursor)>, ConnectorError> {
        if rows < COUNTED_ROWS_MAX && positions.are_texts() {
            return self
                .empty_of_texts(asked, name, positions, rows, bounds)
                .await;
        }
        let Some((min, max)) = bounds.map(|(min, max)| (raw(min), raw(max))) else {
            return Ok(Vec::new());
        };
        let span = i128::from(max) - i128::from(min);
        if rows >= COUNTED_ROWS_MAX && indexed && !positions.are_texts() {
            return self
                .empty_by_index(asked, name, positions, (min, max))
                .await;
        }
        if rows >= COUNTED_ROWS_MAX || span / i128::from(rows.max(1)) < positions.spacing() {
            return Ok(Vec::new());
        }
        self.limit_statement().await?;
        let width = i64::try_from(span / EMPTY_PART).unwrap_or(i64::MAX);
        let sql = Sql::new(
            Dialect::Postgres,
            "select low, high from (select raw as low, lead(raw) over (order by raw) as high from \
             (select ",
        )
        .text(positions.raw())
        .text(" as raw from (select ")
        .name(name)
        .text(" as v from ")
        .relation(&asked.relation)
        .text(" where ")
        .name(name)
        .text(positions.finite())
        .text(") b) p) g where high::numeric - low > ")
        .integer(width)
        .text(" order by high::numeric - low desc limit 100");
        let found = sqlx::query_as::<_, (i64, i64)>(sql.into_statement())
            .persistent(false)
            .fetch_all(&mut *self.conn);
        let mut found = match found.await {
            Ok(found) => found,
            Err(error) if is_state(&error, STATEMENT_TIMEOUT) => return Ok(Vec::new()),
            Err(error) => {
                return Err(classify(
                    self.endpoint,
                    &format!("look through {}", asked.relation),
                    error,
                ));
            }
        };
        found.sort_unstable();
        let at = |raw| cursor(positions.kind, raw);
        Ok(found
            .into_iter()
            .filter_map(|(low, high)| at(low).zip(at(high)))
            .collect())
    }

    /// Bounds between which equally many rows lie, for whole numbers, as the last ANALYZE saw them.
    async fn histogram(
        &mut self,
        asked: &SourceProbe,
        table: &Table,
        name: &str,
        kind: CursorKind,
    ) -> Result<Vec<Cursor>, ConnectorError> {
        match kind {
            CursorKind::Integer => (),
            CursorKind::Instant | CursorKind::Civil | CursorKind::Date | CursorKind::Placed(_) => {
                return Ok(Vec::new());
            }
        }
        self.limit_statement().await?;
        let bounds = sqlx::query_scalar::<_, Vec<i64>>(
            "select array(select floor(b)::int8 from unnest(s.histogram_bounds::text::numeric[]) b \
                           where b between -9223372036854775808 and 9223372036854775807 order by \
                           1) from pg_stats s \
                           join pg_class c on c.oid = $1::oid and c.relname = s.tablename \
                           join pg_namespace n on n.oid = c.relnamespace and n.nspname = \
                           s.schemaname \
                           where s.attname = $2 and s.histogram_bounds is not null order by \
                           s.inherited desc limit 1",
        )
        .bind(table.oid)
        .bind(name)
        .fetch_optional(&mut *self.conn)
        .await
        .map_err(|error| {
            classify(
                self.endpoint,
                &format!("read the statistics of {}", asked.relation),
                error,
            )
        })?;
        Ok(thinned(&bounds.unwrap_or_default(), HISTOGRAM_MAX)
            .into_iter()
            .map(Cursor::Integer)
            .collect())
    }
}

/// The server's estimate of the rows, `None` for a table never analysed, and the bytes, both over
/// all tables that inherit from it, its partitions among them.
pub(super) async fn size(
    conn: &mut PgConnection,
    oid: i64,
) -> Result<(Option<i64>, i64), sqlx::Error> {
    let row = sqlx::query(
        "with recursive parts as (select $1::oid as oid union \
                                  select i.inhrelid from parts join pg_inherits i on i.inhparent = \
                                  parts.oid) \
                                  select sum(greatest(c.reltuples, 0))::int8 as rows, \
                                  bool_or(c.reltuples < 0) as unknown, \
                                  coalesce(sum(case when c.relkind in ('r', 'm') then \
                                  pg_total_relation_size(c.oid) end), 0)::int8 as bytes \
                                  from parts join pg_class c on c.oid = parts.oid where c.relkind \
                                  <> 'p'",
    )
    .bind(oid)
    .fetch_one(&mut *conn)
    .await?;
    let rows: Option<i64> = row.try_get("rows")?;
    let unknown: Option<bool> = row.try_get("unknown")?;
    Ok((
        rows.filter(|_| unknown == Some(false)),
        row.try_get("bytes")?,
    ))
}

/// Whether a table of so many rows and bytes is small enough to be counted.
pub(super) fn is_soon_counted(estimate: Option<i64>, bytes: i64) -> bool {
    estimate.map_or(bytes <= COUNTED_BYTES_MAX, |rows| rows < COUNTED_ROWS_MAX)
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    First,
    Last,
}

impl End {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::First => "smallest value",
            Self::Last => "largest value",
        }
    }
}

/// At most `max` of the bounds, evenly taken, the first and the last among them, none twice.
fn thinned(bounds: &[i64], max: usize) -> Vec<i64> {
    let mut taken: Vec<i64> = if bounds.len() <= max {
        bounds.to_vec()
    } else {
        (0..max)
            .map(|at| bounds[at * (bounds.len() - 1) / (max - 1)])
            .collect()
    };
    taken.dedup();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_histogram_keeps_its_ends() {
        let bounds: Vec<i64> = (0..1_001).collect();
        let thin = thinned(&bounds, 200);
        assert_eq!(
            (thin.len(), thin.first(), thin.last()),
            (200, Some(&0), Some(&1_000))
        );
        assert_eq!(thinned(&[1, 1, 2], 200), vec![1, 2]);
    }
}
