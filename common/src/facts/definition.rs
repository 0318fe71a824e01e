//! What a table is made of beyond its columns and their types, in its own server's words: what a
//! table that is made like it is made of, too.

use serde::{Deserialize, Serialize};

use super::ColumnFacts;

/// The definition of a table. Texts are of the server's own catalog, with every name in full that is
/// no column's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// All of its columns, in its order, with those that it computes itself.
    pub columns: Vec<ColumnDefinition>,
    /// What stands behind the name in the statement that makes it, columns and all, of a database
    /// whose catalog keeps that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its keys, checks and indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<DefinedPart>,
    /// What `alter table` says of it as a whole: `set (fillfactor='70')`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What it has, or is, that no definition here tells of, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<String>,
}

/// What a table says of one of its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// The expression of its default; that of a sequence of its own stands in `sequence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// How the table computes it, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
    /// The sequence that belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<OwnedSequence>,
    /// The collation, where it is another than its type's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
    /// What `alter table … alter column …` says of it: `set storage external`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A column that its table computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// The column: no row brings it, so that no other facts tell of it.
    pub column: ColumnFacts,
    /// By which expression.
    pub expression: String,
    /// Of which columns it is made.
    pub reads: Vec<String>,
    /// Whether its values are stored.
    pub stored: bool,
}

/// A sequence that belongs to a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedSequence {
    /// Its name, without a schema.
    pub name: String,
    /// How the column gets its values.
    pub feeds: Feeds,
    /// The type of its values.
    pub type_name: String,
    /// `increment by 1 minvalue 1 … no cycle`.
    pub options: String,
}

/// How a column gets the values of its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feeds {
    /// As an identity that no other value takes the place of.
    IdentityAlways,
    /// As an identity, where a row brings no value.
    IdentityByDefault,
    /// By the column's default.
    Default,
    /// Not by the table's own word.
    Nothing,
}

/// The kinds of [`DefinedPart`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// A check.
    Check,
    /// The primary key.
    PrimaryKey,
    /// A unique constraint.
    Unique,
    /// An exclusion constraint.
    Exclusion,
    /// An index of no constraint.
    Index,
    /// A unique index of no constraint.
    UniqueIndex,
}

impl PartKind {
    /// What a person calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::PrimaryKey => "primary key",
            Self::Unique => "unique constraint",
            Self::Exclusion => "exclusion constraint",
            Self::Index | Self::UniqueIndex => "index",
        }
    }
}

/// A constraint or an index of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinedPart {
    /// What it is.
    pub kind: PartKind,
    /// Its name, without a schema.
    pub name: String,
    /// The columns that it is made of.
    pub reads: Vec<String>,
    /// Of an index, and of a key, what stands behind the table's name: `USING btree (a)`; of the
    /// others the constraint itself.
    pub definition: String,
    /// What ends the constraint: `deferrable initially deferred`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deferring: String,
    /// The columns that no two rows may share, where it says so of all rows and at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique: Vec<String>,
    /// The column by whose positions it finds rows, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads: Option<String>,
    /// Whether the table's log knows rows by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_replica_identity: bool,
    /// Whether the table is clustered on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_clustered: bool,
    /// Comments on the index and on the constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_comment: Option<String>,
    /// The comment on the constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint_comment: Option<String>,
    /// Whether it is made before rows are: the others are built once all rows are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_early: bool,
}

impl DefinedPart {
    /// A part of which nothing else is said yet.
    #[must_use]
    pub fn new(kind: PartKind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            reads: Vec::new(),
            definition: String::new(),
            deferring: String::new(),
            unique: Vec::new(),
            leads: None,
            is_replica_identity: false,
            is_clustered: false,
            index_comment: None,
            constraint_comment: None,
            is_early: false,
        }
    }

    /// How a person calls it: `index orders_total_idx`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name)
    }
}

/// A part of a definition that a target cannot make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncarried {
    /// Which part, as [`DefinedPart::label`] calls it; empty of the table as a whole.
    pub what: String,
    /// Why, in the server's words.
    pub reason: String,
}

/// How a person calls what a column says.
#[must_use]
pub fn column_label(what: &str, column: &str) -> String {
    format!("{what} of column {column}")
}
