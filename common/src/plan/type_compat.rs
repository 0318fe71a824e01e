//! Which types a value can be carried between without losing anything.
//!
//! One rule: a pair is carried if every value of the source's type keeps its value in the target's.
//! What would round, cut, pad or respell in silence is refused before the first row moves. Where
//! only the values can tell, because one side is SQLite, which lets a column hold anything, the
//! pair is carried [by value](Compat::ByValue): each value is looked at, and one that would change
//! fails by its column's name.

mod postgres;
mod sqlite;

pub use self::postgres::{definition_differs, has_same_wire_form, may_round};
pub use self::sqlite::{Affinity, affinity};
use crate::facts::{ColumnFacts, Engine};

/// Whether values of one column can be carried into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compat {
    /// Every value keeps its value.
    Carried,
    /// Each value is looked at; this is what some of them could not keep.
    ByValue(&'static str),
    /// Some value would be lost or changed, for this reason.
    Refused(String),
}

/// What becomes of values of `from` in a column like `to`.
#[must_use]
pub fn compat(source: Engine, from: &ColumnFacts, target: Engine, to: &ColumnFacts) -> Compat {
    match (source, target) {
        (Engine::Postgres, Engine::Postgres) => postgres::within(from, to),
        (Engine::Sqlite, Engine::Postgres) => postgres::from_sqlite(from, to),
        (Engine::Sqlite, Engine::Sqlite) => sqlite::within(from, to),
        (Engine::Postgres, Engine::Sqlite) => sqlite::from_postgres(from, to),
    }
}
