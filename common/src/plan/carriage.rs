//! Which types a value can be carried between without losing anything, as one table.
//!
//! What is not on the table is refused. A pair is on it only when the target keeps every value as it is, or rejects it with an
//! error: a type that would round, cut or pad in silence is refused before the first row moves.

use crate::facts::{ColumnFacts, ColumnKind, Engine};

/// Whether values of one column can be carried into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carriage {
    /// Both types are the same.
    Same,
    /// The types differ, and no value changes its meaning.
    Converted,
    /// Some value would be lost or changed, for this reason.
    Refused(&'static str),
}

/// What becomes of values of `from` in a column like `to`.
#[must_use]
pub fn carry(source: Engine, from: &ColumnFacts, target: Engine, to: &ColumnFacts) -> Carriage {
    match (source, target) {
        (Engine::Postgres, Engine::Postgres) => within_postgres(&from.type_name, &to.type_name),
        (Engine::Sqlite, Engine::Postgres) => into_postgres(from, to),
        (Engine::Sqlite, Engine::Sqlite) if from.type_name.eq_ignore_ascii_case(&to.type_name) => Carriage::Same,
        (Engine::Postgres | Engine::Sqlite, Engine::Sqlite) => into_sqlite(from, to.kind),
    }
}

const NARROWS: &str = "the target's type is narrower";
const ROUNDS: &str = "the target would round values in silence";
const NO_RULE: &str = "no lossless conversion between these types is known";
const ZONES: &str = "a civil time and an instant differ by a zone that nobody has named";
const AFFINITY: &str = "SQLite would turn such text into a number and change how it reads";

/// A PostgreSQL type: its base name and the numbers in parentheses.
struct PgType {
    base: String,
    modifiers: Vec<i64>,
}

impl PgType {
    /// `timestamp(3) with time zone` is the base `timestamp with time zone` and the modifier 3.
    fn parse(name: &str) -> Self {
        let name = name.trim().to_ascii_lowercase();
        let (Some(open), Some(close)) = (name.find('('), name.rfind(')')) else {
            return Self { base: alias(&name), modifiers: Vec::new() };
        };
        if close < open {
            return Self { base: name, modifiers: Vec::new() };
        }
        let base = format!("{}{}", name[..open].trim_end(), &name[close + 1..]);
        let numbers = name[open + 1..close].split(',').map(|number| number.trim().parse().ok());
        match numbers.collect::<Option<Vec<i64>>>() {
            Some(modifiers) => Self { base: alias(&base), modifiers },
            // Modifiers that are no numbers, as some extensions have, stay part of the name.
            None => Self { base: name, modifiers: Vec::new() },
        }
    }

    /// Digits before and behind the point of a `numeric`; `None` when unlimited.
    fn digits(&self) -> Option<(i64, i64)> {
        let precision = *self.modifiers.first()?;
        let scale = self.modifiers.get(1).copied().unwrap_or(0);
        Some((precision - scale, scale))
    }
}

/// One name for each type that has several.
fn alias(name: &str) -> String {
    let one = match name {
        "int2" => "smallint",
        "int4" | "int" => "integer",
        "int8" => "bigint",
        "decimal" => "numeric",
        "varchar" => "character varying",
        "bpchar" | "char" => "character",
        "bool" => "boolean",
        "float4" => "real",
        "float8" => "double precision",
        "timestamptz" => "timestamp with time zone",
        "timestamp" => "timestamp without time zone",
        "timetz" => "time with time zone",
        "time" => "time without time zone",
        other => other,
    };
    one.to_owned()
}

fn within_postgres(from: &str, to: &str) -> Carriage {
    let (from, to) = (PgType::parse(from), PgType::parse(to));
    if from.base == to.base {
        return same_base(&from, &to);
    }
    let widening: &[&str] = match from.base.as_str() {
        "smallint" => &["integer", "bigint", "real", "double precision"],
        "integer" => &["bigint", "double precision"],
        "date" => &["timestamp without time zone"],
        "jsonb" => &["json"],
        _ => &[],
    };
    let is_zoned = |name: &str| name.ends_with("with time zone");
    match to.base.as_str() {
        // Every type has a text form, and text without a limit keeps it.
        "text" => Carriage::Converted,
        "character varying" if to.modifiers.is_empty() => Carriage::Converted,
        "character varying" | "character" => Carriage::Refused(NARROWS),
        base if widening.contains(&base) => Carriage::Converted,
        "numeric" => whole_to_numeric(&from.base, &to),
        "smallint" | "integer" if matches!(from.base.as_str(), "integer" | "bigint" | "numeric") => {
            Carriage::Refused(NARROWS)
        }
        "bigint" if from.base == "numeric" => Carriage::Refused(NARROWS),
        "real" | "double precision" => Carriage::Refused(ROUNDS),
        base if base.starts_with("timestamp")
            && from.base.starts_with("timestamp")
            && is_zoned(base) != is_zoned(&from.base) =>
        {
            Carriage::Refused(ZONES)
        }
        _ => Carriage::Refused(NO_RULE),
    }
}

fn same_base(from: &PgType, to: &PgType) -> Carriage {
    if from.modifiers == to.modifiers {
        return Carriage::Same;
    }
    match from.base.as_str() {
        "numeric" => match (from.digits(), to.digits()) {
            (_, None) => Carriage::Converted,
            (None, Some(_)) => Carriage::Refused(ROUNDS),
            (Some((_, scale)), Some((_, target_scale))) if scale > target_scale => Carriage::Refused(ROUNDS),
            (Some((whole, _)), Some((target_whole, _))) if whole > target_whole => Carriage::Refused(NARROWS),
            (Some(_), Some(_)) => Carriage::Converted,
        },
        "character varying" => match (from.modifiers.first(), to.modifiers.first()) {
            (_, None) => Carriage::Converted,
            (Some(from), Some(to)) if from <= to => Carriage::Converted,
            (None | Some(_), Some(_)) => Carriage::Refused(NARROWS),
        },
        // A `character(n)` is padded to its length, so another length is another value.
        "character" => Carriage::Refused("the target would pad values to another length"),
        base if base.starts_with("time") => match (from.modifiers.first(), to.modifiers.first()) {
            (_, None | Some(6)) => Carriage::Converted,
            (Some(from), Some(to)) if from <= to => Carriage::Converted,
            (None | Some(_), Some(_)) => Carriage::Refused(ROUNDS),
        },
        _ => Carriage::Refused(NO_RULE),
    }
}

fn whole_to_numeric(from: &str, to: &PgType) -> Carriage {
    let digits = match from {
        "smallint" => 5,
        "integer" => 10,
        "bigint" => 19,
        _ => return Carriage::Refused(NO_RULE),
    };
    match to.digits() {
        Some((whole, _)) if whole < digits => Carriage::Refused(NARROWS),
        Some(_) | None => Carriage::Converted,
    }
}

/// A column of SQLite keeps what it is given, unless its affinity turns text into a number or a number into text.
fn into_sqlite(from: &ColumnFacts, to: ColumnKind) -> Carriage {
    use ColumnKind as K;
    if from.kind == to && from.kind != K::Numeric {
        return Carriage::Same;
    }
    match (from.kind, to) {
        (_, K::Any | K::Bytes) => Carriage::Converted,
        (K::Float32 | K::Float64, K::Text) => Carriage::Refused("SQLite writes a float as text with 15 digits only"),
        (_, K::Text) => Carriage::Converted,
        (K::Bool | K::Int16 | K::Int32 | K::Int64, K::Int16 | K::Int32 | K::Int64 | K::Numeric | K::Bool) => {
            Carriage::Converted
        }
        (K::Float32 | K::Float64, K::Float32 | K::Float64 | K::Numeric) => Carriage::Converted,
        (K::Int16 | K::Int32, K::Float32 | K::Float64) => Carriage::Converted,
        (K::Int64, K::Float32 | K::Float64) => Carriage::Refused(ROUNDS),
        (K::Bytes, _) => Carriage::Converted,
        // Such text never reads as a number, so no affinity touches it.
        (K::Date | K::Time | K::Civil | K::Instant | K::Uuid, K::Int16 | K::Int32 | K::Int64 | K::Numeric) => {
            Carriage::Converted
        }
        (
            K::Numeric | K::Text | K::Json | K::Any | K::Other,
            K::Int16 | K::Int32 | K::Int64 | K::Float32 | K::Float64 | K::Numeric,
        ) => Carriage::Refused(AFFINITY),
        (
            K::Bool
            | K::Int16
            | K::Int32
            | K::Int64
            | K::Float32
            | K::Float64
            | K::Numeric
            | K::Text
            | K::Date
            | K::Time
            | K::Civil
            | K::Instant
            | K::Uuid
            | K::Json
            | K::Other
            | K::Any,
            K::Bool
            | K::Int16
            | K::Int32
            | K::Int64
            | K::Float32
            | K::Float64
            | K::Date
            | K::Time
            | K::Civil
            | K::Instant
            | K::Uuid
            | K::Json
            | K::Other,
        ) => Carriage::Refused(NO_RULE),
    }
}

/// PostgreSQL checks every value that it reads, so a value that does not fit fails by name; only what it would round or cut
/// in silence is refused here.
fn into_postgres(from: &ColumnFacts, to: &ColumnFacts) -> Carriage {
    use ColumnKind as K;
    if let Some(reason) = changed_in_silence(from, to) {
        return Carriage::Refused(reason);
    }
    match (from.kind, to.kind) {
        (from, to) if from == to => Carriage::Same,
        (_, K::Text) => Carriage::Converted,
        (K::Int16 | K::Int32 | K::Int64 | K::Bool, K::Int16 | K::Int32 | K::Int64 | K::Numeric | K::Bool) => {
            Carriage::Converted
        }
        (K::Float32 | K::Float64 | K::Numeric, K::Float64 | K::Numeric)
            if to.kind == K::Numeric || from.kind != K::Numeric =>
        {
            Carriage::Converted
        }
        (K::Date, K::Civil) => Carriage::Converted,
        // Text and untyped values are read by the target, value by value; a time without a zone is UTC, as in SQLite.
        (
            K::Text | K::Any,
            K::Bool
            | K::Int16
            | K::Int32
            | K::Int64
            | K::Numeric
            | K::Date
            | K::Time
            | K::Civil
            | K::Instant
            | K::Uuid
            | K::Json
            | K::Other,
        ) => Carriage::Converted,
        (K::Any, K::Float64 | K::Bytes) => Carriage::Converted,
        (
            K::Bool
            | K::Int16
            | K::Int32
            | K::Int64
            | K::Float32
            | K::Float64
            | K::Numeric
            | K::Text
            | K::Bytes
            | K::Date
            | K::Time
            | K::Civil
            | K::Instant
            | K::Uuid
            | K::Json
            | K::Other
            | K::Any,
            K::Bool
            | K::Int16
            | K::Int32
            | K::Int64
            | K::Float32
            | K::Float64
            | K::Numeric
            | K::Bytes
            | K::Date
            | K::Time
            | K::Civil
            | K::Instant
            | K::Uuid
            | K::Json
            | K::Other
            | K::Any,
        ) => Carriage::Refused(NO_RULE),
    }
}

/// Why PostgreSQL would change values of SQLite without an error.
fn changed_in_silence(from: &ColumnFacts, to: &ColumnFacts) -> Option<&'static str> {
    use ColumnKind as K;
    let pg = PgType::parse(&to.type_name);
    let is_limited = !pg.modifiers.is_empty() && PgType::parse(&from.type_name).modifiers != pg.modifiers;
    let is_coarse = pg.modifiers.first().is_some_and(|digits| *digits < 6);
    match (from.kind, to.kind) {
        (K::Int16 | K::Int32 | K::Int64, K::Float32 | K::Float64) => Some(ROUNDS),
        (K::Float32 | K::Float64 | K::Any, K::Float32) => Some(ROUNDS),
        (K::Numeric | K::Text | K::Any | K::Float32 | K::Float64, K::Numeric) if is_limited => Some(ROUNDS),
        (K::Civil, K::Instant) | (K::Instant, K::Civil) => Some(ZONES),
        (_, K::Civil | K::Instant | K::Time) if is_coarse => Some(ROUNDS),
        (K::Bytes, K::Text) => Some("bytes are no text"),
        (_, K::Text) if pg.base == "character" => Some("the target would pad values to another length"),
        // What is left is carried whole, or judged by the table above.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(type_name: &str, kind: ColumnKind) -> ColumnFacts {
        ColumnFacts {
            name: "c".to_owned(),
            type_name: type_name.to_owned(),
            kind,
            nullable: true,
            binary_portable: true,
        }
    }

    fn pg(from: &str, to: &str) -> Carriage {
        let other = |name| column(name, ColumnKind::Other);
        carry(Engine::Postgres, &other(from), Engine::Postgres, &other(to))
    }

    #[test]
    fn widening_is_carried_and_narrowing_is_refused() {
        for (from, to) in [
            ("smallint", "integer"),
            ("integer", "bigint"),
            ("int8", "numeric"),
            ("integer", "numeric(12,2)"),
            ("character varying(10)", "text"),
            ("varchar(10)", "varchar(20)"),
            ("text", "character varying"),
            ("uuid", "text"),
            ("numeric(10,2)", "numeric(12,3)"),
            ("numeric(10,2)", "numeric"),
            ("jsonb", "json"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("integer[]", "text"),
        ] {
            assert_eq!(pg(from, to), Carriage::Converted, "{from} to {to}");
        }
        for (from, to) in [
            ("bigint", "integer"),
            ("text", "varchar(20)"),
            ("varchar(20)", "varchar(10)"),
            ("numeric", "numeric(12,2)"),
            ("numeric(10,3)", "numeric(12,2)"),
            ("numeric(12,2)", "numeric(10,2)"),
            ("integer", "numeric(9,0)"),
            ("bigint", "double precision"),
            ("numeric", "double precision"),
            ("json", "jsonb"),
            ("timestamp without time zone", "timestamp with time zone"),
            ("timestamptz", "timestamptz(0)"),
            ("character(3)", "character(4)"),
            ("integer[]", "bigint[]"),
            ("real", "double precision"),
        ] {
            assert!(matches!(pg(from, to), Carriage::Refused(_)), "{from} to {to}");
        }
        for (from, to) in [("int4", "integer"), ("numeric(12,2)", "decimal(12, 2)"), ("my_enum", "my_enum")] {
            assert_eq!(pg(from, to), Carriage::Same, "{from} to {to}");
        }
    }

    #[test]
    fn decimals_never_become_floats_on_their_way_into_sqlite() {
        let numeric = column("numeric(12,2)", ColumnKind::Numeric);
        let into = |kind| carry(Engine::Postgres, &numeric, Engine::Sqlite, &column("", kind));
        assert_eq!(into(ColumnKind::Text), Carriage::Converted);
        assert_eq!(into(ColumnKind::Any), Carriage::Converted);
        assert_eq!(into(ColumnKind::Float64), Carriage::Refused(AFFINITY));
        assert_eq!(into(ColumnKind::Numeric), Carriage::Refused(AFFINITY));
    }

    #[test]
    fn sqlite_goes_into_postgres_where_postgres_checks() {
        let into =
            |from, type_name, to| carry(Engine::Sqlite, &column("", from), Engine::Postgres, &column(type_name, to));
        assert_eq!(into(ColumnKind::Int64, "integer", ColumnKind::Int32), Carriage::Converted);
        assert_eq!(into(ColumnKind::Text, "date", ColumnKind::Date), Carriage::Converted);
        assert_eq!(into(ColumnKind::Text, "text", ColumnKind::Text), Carriage::Same);
        assert_eq!(into(ColumnKind::Text, "numeric(12,2)", ColumnKind::Numeric), Carriage::Refused(ROUNDS));
        assert_eq!(into(ColumnKind::Float64, "real", ColumnKind::Float32), Carriage::Refused(ROUNDS));
        assert_eq!(into(ColumnKind::Int64, "timestamptz", ColumnKind::Instant), Carriage::Refused(NO_RULE));
        assert_eq!(into(ColumnKind::Bytes, "text", ColumnKind::Text), Carriage::Refused("bytes are no text"));
    }
}
