//! How the server reckons with the positions of a column of a source: their raw numbers, and which
//! of its values have one. Never casts the column where rows are looked for, so that an index finds
//! them.

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{ColumnKind, CursorForm};
use highwater_common::spec::TableName;

use sqlx::PgConnection;

use super::columns::Column;
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::stored_slice::cursor;
use crate::connector::{SliceRows, Value, position};

/// What the positions of a column are, and how the server makes them of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Positions {
    pub(super) kind: CursorKind,
    pub(super) form: CursorForm,
    is_decimal: bool,
}

impl Positions {
    /// Those of a column whose type alone tells them.
    pub(super) fn of(column: &Column) -> Option<Self> {
        let (kind, form) = column.position?;
        Some(Self {
            kind,
            form,
            is_decimal: column.facts.kind == ColumnKind::Numeric,
        })
    }

    /// Those of a column of texts, all of one form.
    pub(super) const fn of_text(kind: CursorKind, form: CursorForm) -> Self {
        Self {
            kind,
            form,
            is_decimal: false,
        }
    }

    /// Whether the column holds texts.
    pub(super) const fn are_texts(self) -> bool {
        matches!(
            self.form,
            CursorForm::TextDate | CursorForm::TextTime { .. }
        )
    }

    /// The raw number of a value `v`; of a decimal the whole number below it.
    pub(super) const fn raw(self) -> &'static str {
        match self.kind {
            CursorKind::Integer if self.is_decimal => "floor(v)::int8",
            CursorKind::Integer | CursorKind::Placed(_) => "v::int8",
            // The server's last thirty years lie beyond 64 bits of microseconds since 1970; the
            // last position stands for them.
            CursorKind::Instant | CursorKind::Civil => {
                "case when v >= '294247-01-01' then 9223372036854775807 else (extract(epoch from \
                 v) * 1000000)::int8 end"
            }
            CursorKind::Date => "(v - date '1970-01-01')::int8",
        }
    }

    /// Behind the column's name: that its value has a raw number. What has none lies in an open
    /// end: a time before or behind all others, a decimal of more than 64 bits, and NaN, which the
    /// server puts behind all numbers.
    pub(super) const fn finite(self) -> &'static str {
        match self.kind {
            CursorKind::Integer if self.is_decimal => {
                " between -9223372036854775808 and 9223372036854775807"
            }
            CursorKind::Integer | CursorKind::Placed(_) => " is not null",
            CursorKind::Instant | CursorKind::Civil | CursorKind::Date => {
                " not in ('infinity', '-infinity')"
            }
        }
    }

    /// Behind the column's name: that its value may be the first with a raw number, as an index
    /// finds it.
    pub(super) const fn down_to_the_first(self) -> &'static str {
        match self.kind {
            CursorKind::Integer | CursorKind::Placed(_) => self.finite(),
            CursorKind::Instant | CursorKind::Civil | CursorKind::Date => " > '-infinity'",
        }
    }

    /// Behind the column's name: that its value may be the last with a raw number, as an index
    /// finds it.
    pub(super) const fn up_to_the_last(self) -> &'static str {
        match self.kind {
            CursorKind::Integer | CursorKind::Placed(_) => self.finite(),
            CursorKind::Instant | CursorKind::Civil | CursorKind::Date => " < 'infinity'",
        }
    }

    /// How far apart rows are on average where it pays to look for stretches without any: an hour,
    /// a day, or some numbers.
    pub(super) const fn spacing(self) -> i128 {
        match self.kind {
            CursorKind::Integer | CursorKind::Placed(_) => 16,
            CursorKind::Instant | CursorKind::Civil => 3_600_000_000,
            CursorKind::Date => 1,
        }
    }
}

/// The position of the row of a slice that `before` others precede.
pub(super) async fn position_at(
    conn: &mut PgConnection,
    table: &TableName,
    of: &SliceRows,
    kind: CursorKind,
    before: u64,
) -> Result<Option<Cursor>, sqlx::Error> {
    let positions = Positions::of_text(kind, of.form);
    let select = Sql::new(Dialect::Postgres, "select ");
    let select = match (kind, of.form) {
        _ if positions.are_texts() => select.text("left(concat(v), 40)"),
        (CursorKind::Integer, CursorForm::Oid) => select.text("v::int8::text"),
        // A decimal, or a domain over one, may be of any size, or NaN.
        (CursorKind::Integer | CursorKind::Placed(_), _) => select.text(
            "case when v::numeric between -9223372036854775808 and 9223372036854775807 \
             then floor(v::numeric)::int8::text end",
        ),
        (CursorKind::Instant | CursorKind::Civil | CursorKind::Date, _) => select
            .text("case when v not in ('infinity', '-infinity') then (")
            .text(positions.raw())
            .text(")::text end"),
    };
    let by_bytes = match positions.are_texts() {
        true => " collate \"C\"",
        false => "",
    };
    let select = select
        .text(" from (select ")
        .name(&of.column)
        .text(" as v from ")
        .table(table)
        .text(" where ")
        .slice(&of.column, of.form, &of.slice)
        .text(" order by ")
        .name(&of.column)
        .text(by_bytes)
        .text(" limit 1 offset ")
        .integer(i64::try_from(before).unwrap_or(i64::MAX))
        .text(") one");
    let found = sqlx::query_scalar::<_, Option<String>>(select.into_statement());
    let found = found
        .persistent(false)
        .fetch_optional(conn)
        .await?
        .flatten();
    Ok(found.and_then(|text| match positions.are_texts() {
        true => position::cursor(&Value::Text(text), kind, of.form),
        false => cursor(kind, text.parse().ok()?),
    }))
}
