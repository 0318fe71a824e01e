//! What a probe learns of a column, and what becomes of it on its way.

use serde::{Deserialize, Serialize};

use crate::type_definition::TypeDefinition;

/// What a column holds, as far as its values must be carried from one engine to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// True or false.
    Bool,
    /// A whole number of at most 16 bits.
    Int16,
    /// A whole number of at most 32 bits.
    Int32,
    /// A whole number of at most 64 bits.
    Int64,
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 double precision.
    Float64,
    /// A decimal of any size, NaN and infinities included.
    Numeric,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A day.
    Date,
    /// A time of day, with or without zone.
    Time,
    /// A civil time: date and time without a zone.
    Civil,
    /// An instant: date and time with a zone.
    Instant,
    /// A UUID.
    Uuid,
    /// A JSON document, kept as the source's text.
    Json,
    /// Anything else that has a text form: arrays, enums, domains, ranges, networks, intervals.
    Other,
    /// A SQLite column of no fixed type: each value has its own.
    Any,
}

/// One column, as the catalog tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColumnFacts {
    /// The name, unquoted.
    pub name: String,
    /// The type as the server writes it: `numeric(12,2)`, `timestamp with time zone`.
    pub type_name: String,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether NULL is allowed; in a source, whether a row may hold it, whatever the catalog
    /// says.
    pub nullable: bool,
    /// Whether a PostgreSQL binary COPY of this type means the same on every server: built-in
    /// scalars and arrays of them.
    pub binary_portable: bool,
    /// What the type is made of; `None` where its name says all: built-in types, arrays of them,
    /// and all of SQLite's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<TypeDefinition>>,
    /// What the source has instead, of a column that is read under another name or as another
    /// type: all else here then tells of the column as it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<ColumnOrigin>>,
}

/// What a source has, of a column that arrives as another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColumnOrigin {
    /// Its name there.
    pub name: String,
    /// Its type there, which is cast to the column's; `None` where it is only renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cast: Option<CastFrom>,
}

/// The type that a source casts from: what a plan stands and falls with, as with the type that it
/// casts to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CastFrom {
    /// The type as the server writes it.
    pub type_name: String,
    /// What it is made of, where its name does not say all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<TypeDefinition>>,
}

impl ColumnFacts {
    /// The column's name in the source.
    #[must_use]
    pub fn source_name(&self) -> &str {
        self.origin
            .as_deref()
            .map_or(self.name.as_str(), |origin| origin.name.as_str())
    }

    /// What the source casts to the column's type, if it does.
    #[must_use]
    pub fn cast_from(&self) -> Option<&CastFrom> {
        self.origin.as_deref()?.cast.as_ref()
    }

    /// The column under another name.
    #[must_use]
    pub fn renamed(self, name: &str) -> Self {
        let origin = self.origin.unwrap_or_else(|| {
            Box::new(ColumnOrigin {
                name: self.name,
                cast: None,
            })
        });
        Self {
            name: name.to_owned(),
            origin: Some(origin),
            ..self
        }
    }

    /// What arrives of a column of the source, where that is cast to this type.
    #[must_use]
    pub fn cast_of(self, column: Self) -> Self {
        Self {
            name: column.name.clone(),
            nullable: self.nullable || column.nullable,
            origin: Some(Box::new(ColumnOrigin {
                name: column.name,
                cast: Some(CastFrom {
                    type_name: column.type_name,
                    definition: column.definition,
                }),
            })),
            ..self
        }
    }

    /// How it comes to be what it is, for people; `None` of a column that is read as it is.
    #[must_use]
    pub fn how_it_arrives(&self) -> Option<String> {
        let origin = self.origin.as_deref()?;
        let cast = origin.cast.as_ref().map(|from| {
            format!(
                "cast from {} to {}",
                shown_type(&from.type_name),
                self.type_name
            )
        });
        let renamed = (origin.name != self.name).then(|| format!("written as {}", self.name));
        let how: Vec<String> = cast.into_iter().chain(renamed).collect();
        Some(format!("column {} is {}", origin.name, how.join(", ")))
    }

    /// The definition of the column's type: the one that came with it, else what the name of a
    /// built-in type says.
    #[must_use]
    pub fn type_definition(&self) -> TypeDefinition {
        self.definition
            .as_deref()
            .cloned()
            .unwrap_or_else(|| TypeDefinition::built_in(&self.type_name))
    }
}

/// A type for a message: a column of SQLite may have none.
#[must_use]
pub(crate) fn shown_type(type_name: &str) -> &str {
    match type_name {
        "" => "no type",
        name => name,
    }
}
