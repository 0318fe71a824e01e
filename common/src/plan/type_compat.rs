//! Which types a value can be carried between without losing anything.
//!
//! One rule: a pair is carried if every value of the source's type keeps its value in the target's.
//! So a type is described once, by the [values] that it holds, and a pair is judged by whether one
//! set lies within the other; [exceptions] say why. What would round, cut, pad or respell in silence
//! is refused before the first row moves. Where only the values can tell, because one side is
//! SQLite, which lets a column hold anything, the pair is carried [by value](Compat::ByValue): each
//! value is looked at, and one that would change fails by its column's name.
//!
//! A target's engine has a file of its own, `into_…`.

mod exceptions;
mod into_postgres;
mod into_sqlite;
mod postgres_values;
#[cfg(test)]
mod tests;
mod values;
mod verdict;
mod wire_form;

pub use self::exceptions::{EXCEPTIONS, Exception};
pub use self::into_postgres::definition_differs;
pub use self::into_sqlite::{Affinity, affinity};
pub use self::verdict::Compat;
pub use self::wire_form::has_same_wire_form;
use crate::facts::{ColumnFacts, Engine};

/// What becomes of values of `from` in a column like `to`.
#[must_use]
pub fn compat(source: Engine, from: &ColumnFacts, target: Engine, to: &ColumnFacts) -> Compat {
    match (source, target) {
        (Engine::Postgres, Engine::Postgres) => into_postgres::within(from, to),
        (Engine::Sqlite, Engine::Postgres) => into_postgres::of_each_value(from, to),
        (Engine::Sqlite, Engine::Sqlite) => into_sqlite::within(from, to),
        (Engine::Postgres, Engine::Sqlite) => into_sqlite::of_typed(from, to),
    }
}
