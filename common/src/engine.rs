//! The databases that there are connectors for.

use serde::{Deserialize, Serialize};

/// The database behind a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// PostgreSQL, 13 or later.
    Postgres,
    /// SQLite 3.
    Sqlite,
}

impl Engine {
    /// All that there are.
    pub const ALL: &[Self] = &[
        // A worker's words follow this list.
        Self::Postgres,
        Self::Sqlite,
    ];

    /// Its word: the `type` of a connection, and what a worker that knows it says of itself.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    /// The type by which its columns say when something was.
    #[must_use]
    pub const fn instant_type(self) -> &'static str {
        match self {
            Self::Postgres => "timestamptz",
            Self::Sqlite => "text",
        }
    }

    /// Whether a column holds values of the type alone that it is declared with.
    #[must_use]
    pub const fn binds_types(self) -> bool {
        !matches!(self, Self::Sqlite)
    }

    /// Whether two names are those of one column.
    #[must_use]
    pub fn is_same_name(self, one: &str, two: &str) -> bool {
        match self {
            Self::Postgres => one == two,
            Self::Sqlite => one.eq_ignore_ascii_case(two),
        }
    }
}
