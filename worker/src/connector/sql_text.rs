//! SQL text for every dialect, and the only place that asserts it safe to run.
//! Never performs I/O, and never takes a name or a value into the text unquoted.
//!
//! Text is a `&'static str` of the code, or a name, or a literal, or the query of a check: each has its own
//! method, so an unquoted name does not compile. Bounds are literals and not parameters, because COPY takes none.

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::CursorForm;
use highwater_common::placing::{KeyBound, KeyPlacing, Placing};
use highwater_common::range::Slice;
use highwater_common::spec::{Relation, TableName};
use sqlx::AssertSqlSafe;

use super::position::{Bound, bound};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// The largest `oid`.
const OID_MAX: i64 = u32::MAX as i64;

/// Whose rules the text follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// A statement being written. `"` quotes names in both dialects, `'` literals, each doubled inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    dialect: Dialect,
    text: String,
}

impl Sql {
    /// A statement that begins with `text`.
    #[must_use]
    pub fn new(dialect: Dialect, text: &'static str) -> Self {
        Self {
            dialect,
            text: text.to_owned(),
        }
    }

    /// Text of the code.
    #[must_use]
    pub fn text(mut self, text: &'static str) -> Self {
        self.text.push_str(text);
        self
    }

    /// A name, quoted.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        quote(&mut self.text, name, '"');
        self
    }

    /// Names, quoted, with commas between them.
    #[must_use]
    pub fn names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        for (at, name) in names.into_iter().enumerate() {
            if at > 0 {
                self.text.push_str(", ");
            }
            quote(&mut self.text, name, '"');
        }
        self
    }

    /// A table's name, quoted, with its schema where it has one.
    #[must_use]
    pub fn table(mut self, table: &TableName) -> Self {
        self.text.push_str(&quoted_table(table));
        self
    }

    /// What is read, where a statement says from what: a query gets a name of ours.
    #[must_use]
    pub fn relation(self, relation: &Relation) -> Self {
        match relation {
            Relation::Table(table) => self.table(table),
            Relation::Query(text) => self.query(text).text(" as highwater_query"),
        }
    }

    /// A text literal. A backslash is itself, since every PostgreSQL of today has
    /// `standard_conforming_strings` on.
    #[must_use]
    pub fn literal(mut self, value: &str) -> Self {
        quote(&mut self.text, value, '\'');
        self
    }

    /// What another one says.
    #[must_use]
    pub fn sql(mut self, other: &Self) -> Self {
        self.text.push_str(&other.text);
        self
    }

    /// A user's query, as a table: whatever else it may say, it is only read from.
    #[must_use]
    pub fn query(mut self, text: &str) -> Self {
        self.text.push_str("(\n");
        self.text.push_str(text);
        self.text.push_str("\n)");
        self
    }

    /// A whole number.
    #[must_use]
    pub fn integer(mut self, value: i64) -> Self {
        self.text.push_str(&value.to_string());
        self
    }

    /// A type's name as a catalog writes it, such as `numeric(12,2)` or `timestamp with time
    /// zone`. What is not made of letters, digits, underscores, spaces, dots, commas and brackets
    /// becomes `text`, so no catalog can write SQL of its own.
    #[must_use]
    pub fn type_name(mut self, name: &str) -> Self {
        self.text
            .push_str(if is_plain_type(name) { name } else { "text" });
        self
    }

    /// A type's name that the server itself has written, or has read as a type and nothing more.
    #[must_use]
    pub fn known_type(mut self, name: &str) -> Self {
        self.text.push_str(name);
        self
    }

    /// Text of a definition, as another server has written it out of its catalog. Whoever holds that
    /// server may write anything here: the statement is prepared, so that there is but one, and never
    /// run as a script.
    #[must_use]
    pub fn definition(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// The condition that a row of `slice` meets.
    #[must_use]
    pub fn slice(mut self, column: &str, form: CursorForm, slice: &Slice) -> Self {
        let range = match slice {
            Slice::Null => return self.name(column).text(" is null"),
            Slice::Range(range) => range,
        };
        if range.start().is_none() && range.end().is_none() {
            return self.name(column).text(" is not null");
        }
        if let Some(start) = range.start() {
            self = match is_behind_all(start, form) {
                true => self.text("false"),
                false => self.position(column, form).text(" >= ").cursor(start, form),
            };
        }
        if range.start().is_some() && range.end().is_some() {
            self = self.text(" and ");
        }
        if let Some(end) = range.end() {
            self = match is_behind_all(end, form) {
                true => self.name(column).text(" is not null"),
                false => self.position(column, form).text(" < ").cursor(end, form),
            };
        }
        self
    }

    /// The condition that a row meets which its source places in `slice`.
    #[must_use]
    pub fn placed(mut self, placing: &Placing, slice: &Slice) -> Self {
        let hash = match placing {
            Placing::Hash(hash) => hash,
            Placing::Keys(keys) => return self.keyed(keys, slice),
        };
        let Slice::Range(range) = slice else {
            return self.text("false"); // every row has a hash
        };
        let bounds = [(" >= ", range.start()), (" < ", range.end())];
        let mut is_first = true;
        for (operator, bound) in bounds {
            let Some(Cursor::Placed(_, at)) = bound else {
                continue;
            };
            if !is_first {
                self = self.text(" and ");
            }
            is_first = false;
            self = self.hash(&hash.columns).text(operator).integer(at);
        }
        match is_first {
            true => self.text("true"),
            false => self,
        }
    }

    fn keyed(mut self, keys: &KeyPlacing, slice: &Slice) -> Self {
        let Slice::Range(range) = slice else {
            return self.text("not (").has_key(keys).text(")");
        };
        self = self.has_key(keys);
        for (operator, at) in [(" >= ", range.start()), (" < ", range.end())] {
            let Some(Cursor::Placed(_, number)) = at else {
                continue;
            };
            self = self.text(" and ");
            self = match keys.bound(number) {
                Some(bound) => self.key_bound(keys, operator, bound),
                // Whoever asks has made sure that there is one. No rows, or all of them, would be
                // a wrong answer: the statement fails.
                None => self.text("(select 1 / 0) = 1"),
            };
        }
        self
    }

    /// That a row has a place in the order of a key: none of its columns is NULL.
    #[must_use]
    pub fn has_key(mut self, keys: &KeyPlacing) -> Self {
        self = self.text("true");
        for column in keys.columns.iter().filter(|column| column.nullable) {
            self = self.text(" and ").name(&column.name).text(" is not null");
        }
        self
    }

    /// That a row's key stands so to a bound. The server compares, in the columns' own order.
    #[must_use]
    pub fn key_bound(
        mut self,
        keys: &KeyPlacing,
        operator: &'static str,
        bound: &KeyBound,
    ) -> Self {
        let names = keys.columns.iter().map(|column| column.name.as_str());
        self = self
            .text("(")
            .names(names)
            .text(")")
            .text(operator)
            .text("(");
        // A literal without a type takes that of the column, and its collation with it.
        for (at, value) in bound.values.iter().enumerate() {
            self = if at > 0 { self.text(", ") } else { self };
            self = self.literal(value);
        }
        self.text(")")
    }

    /// A hash of columns, the same for as long as the server's version is: of what the types compare
    /// as equal, NULL included, whatever the session's settings are.
    #[must_use]
    pub fn hash(self, columns: &[String]) -> Self {
        self.text("pg_catalog.hash_record_extended(row(")
            .names(columns.iter().map(String::as_str))
            .text("), 0)")
    }

    /// The partition column as it is compared: text by its bytes, since a language's own order may
    /// be any.
    fn position(self, column: &str, form: CursorForm) -> Self {
        match (form, self.dialect) {
            (CursorForm::TextDate | CursorForm::TextTime { .. }, Dialect::Postgres) => {
                self.name(column).text(" collate \"C\"")
            }
            (CursorForm::TextDate | CursorForm::TextTime { .. }, Dialect::Sqlite)
            | (
                CursorForm::Native
                | CursorForm::Oid
                | CursorForm::EpochSeconds
                | CursorForm::EpochMillis,
                _,
            ) => self.name(column),
        }
    }

    /// A position as a literal that the server orders as the cursor is ordered.
    #[must_use]
    pub fn cursor(mut self, cursor: Cursor, form: CursorForm) -> Self {
        let literal = match (form, self.dialect) {
            (CursorForm::Native, Dialect::Postgres) => postgres_native(cursor),
            (CursorForm::Oid, Dialect::Postgres) => postgres_oid(cursor),
            (CursorForm::Native | CursorForm::Oid, Dialect::Sqlite)
            | (
                CursorForm::TextDate
                | CursorForm::TextTime { .. }
                | CursorForm::EpochSeconds
                | CursorForm::EpochMillis,
                _,
            ) => match bound(cursor, form) {
                Bound::Integer(value) => value.to_string(),
                Bound::Text(text) => return self.literal(&text),
            },
        };
        self.text.push_str(&literal);
        self
    }

    /// The text so far.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The statement, ready to run.
    #[must_use]
    pub fn into_statement(self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.text)
    }
}

/// A user's query by itself, for a server to describe: as one prepared statement, never run.
#[must_use]
pub fn described_query(text: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(text.to_owned())
}

/// Statements that the server itself wrote out of its catalog, to be run at once: its own text of a
/// definition, names and literals quoted by its `format`. Nothing else may come in here.
#[must_use]
pub fn server_script(statements: &[String]) -> AssertSqlSafe<String> {
    AssertSqlSafe(statements.join(";\n"))
}

/// The table's name, quoted for both dialects, as a server's own name lookup takes it.
#[must_use]
pub fn quoted_table(table: &TableName) -> String {
    let mut text = String::new();
    if let Some(schema) = &table.schema {
        quote(&mut text, schema, '"');
        text.push('.');
    }
    quote(&mut text, &table.name, '"');
    text
}

/// True for a type's name that needs no quoting.
#[must_use]
pub fn is_plain_type(name: &str) -> bool {
    // The catalog quotes `"char"` and `"bit"`, whose names without quotes mean other types.
    let bare = match name.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some(("char" | "bit", rest)) => rest,
        Some(_) | None => name,
    };
    !name.is_empty()
        && bare.bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'_' | b' ' | b',' | b'.' | b'(' | b')' | b'[' | b']')
        })
}

/// The server's type for a cursor's kind in PostgreSQL.
#[must_use]
pub const fn postgres_type(kind: CursorKind) -> &'static str {
    match kind {
        CursorKind::Integer | CursorKind::Placed(_) => "bigint",
        CursorKind::Instant => "timestamptz",
        CursorKind::Civil => "timestamp",
        CursorKind::Date => "date",
    }
}

fn quote(out: &mut String, text: &str, mark: char) {
    out.push(mark);
    for c in text.chars() {
        if c == mark {
            out.push(mark);
        }
        // Neither server takes a NUL in its text; dropping it turns a truncated statement into an
        // unknown name.
        if c != '\0' {
            out.push(c);
        }
    }
    out.push(mark);
}

/// True for a position behind every value that the form has, which no literal of its type says.
const fn is_behind_all(at: Cursor, form: CursorForm) -> bool {
    matches!((form, at), (CursorForm::Oid, Cursor::Integer(value)) if value > OID_MAX)
}

/// A number before the first of them stands for the first: no value lies before either.
fn postgres_oid(cursor: Cursor) -> String {
    match cursor {
        Cursor::Integer(value) => format!("'{}'::oid", value.clamp(0, OID_MAX)),
        Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) | Cursor::Placed(..) => {
            postgres_native(cursor)
        }
    }
}

fn postgres_native(cursor: Cursor) -> String {
    let kind = postgres_type(cursor.kind());
    match cursor {
        Cursor::Integer(value) | Cursor::Placed(_, value) => format!("'{value}'::{kind}"),
        Cursor::Instant(micros) if has_plain_year(micros) => {
            format!("'{}+00'::{kind}", time_text(micros))
        }
        Cursor::Civil(micros) if has_plain_year(micros) => {
            format!("'{}'::{kind}", time_text(micros))
        }
        Cursor::Instant(micros) => format!(
            "('1970-01-01 00:00:00+00'::{kind} + {})",
            postgres_interval(micros)
        ),
        Cursor::Civil(micros) => format!(
            "('1970-01-01 00:00:00'::{kind} + {})",
            postgres_interval(micros)
        ),
        Cursor::Date(days) => format!("('1970-01-01'::{kind} + ({days}))"),
    }
}

/// Days and seconds apart: older servers read no more than 32 bits of either.
fn postgres_interval(micros: i64) -> String {
    let (days, rest) = (
        micros.div_euclid(MICROS_PER_DAY),
        micros.rem_euclid(MICROS_PER_DAY),
    );
    format!(
        "'{days} days {}.{:06} seconds'::interval",
        rest / MICROS_PER_SECOND,
        rest % MICROS_PER_SECOND
    )
}

/// True for the years 1 to 9999, which every server reads as four digits.
fn has_plain_year(micros: i64) -> bool {
    let (year, _, _) = civil_of(micros.div_euclid(MICROS_PER_DAY));
    (1..=9999).contains(&year)
}

/// `2013-01-01 05:00:00.000000`.
fn time_text(micros: i64) -> String {
    let (days, rest) = (
        micros.div_euclid(MICROS_PER_DAY),
        micros.rem_euclid(MICROS_PER_DAY),
    );
    let (seconds, fraction) = (rest / MICROS_PER_SECOND, rest % MICROS_PER_SECOND);
    let (year, month, day) = civil_of(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}")
}

/// Year, month and day of a count of days since 1970-01-01, for any count. Idea: H. Hinnant,
/// "chrono-compatible low-level date algorithms" (2013); jiff's calendar ends at the year 9999,
/// PostgreSQL's does not.
fn civil_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
