//! The columns that a table is followed by, or cut by.

use super::facts::{MovedBy, PositionColumn, TableAsFound};
use crate::cursor::CursorKind;
use crate::engine::Engine;

/// Who moves a column on when a row is updated, where nothing but its name tells.
#[must_use]
pub fn moved_by_name(name: &str) -> MovedBy {
    let name = name.to_ascii_lowercase();
    let says_so = ["updat", "modif", "chang", "touch"];
    match says_so.iter().any(|word| name.contains(word)) {
        true => MovedBy::Application,
        false => MovedBy::Nobody,
    }
}

/// The time that says best when a row was last written.
pub(super) fn stamp(found: &TableAsFound) -> Option<&PositionColumn> {
    let is_time = |column: &&PositionColumn| column.kind != CursorKind::Integer;
    found.columns.iter().filter(is_time).min_by_key(|column| {
        let moved = match column.moved_by {
            MovedBy::Server => 0,
            MovedBy::Application => 1,
            MovedBy::Nobody => 2,
        };
        // A day is too coarse where something finer is there.
        let is_day = column.kind == CursorKind::Date;
        (
            moved,
            is_day,
            column.nullable,
            !column.indexed,
            !column.doubts.is_empty(),
        )
    })
}

/// What cuts a table into parts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut<'a> {
    /// The positions of a column.
    Column(&'a PositionColumn),
    /// The table's own key, in the order of the database.
    Key,
}

impl Cut<'_> {
    /// Whether no row leaves its part when it is updated.
    pub(super) fn stays(self) -> bool {
        match self {
            Self::Column(column) => column.moved_by == MovedBy::Nobody,
            Self::Key => true,
        }
    }

    /// Whether a part is found without a scan of the table.
    pub(super) const fn indexed(self) -> bool {
        match self {
            Self::Column(column) => column.indexed,
            Self::Key => true,
        }
    }
}

/// What cuts it best into parts which no update moves a row out of.
pub(super) fn cut(found: &TableAsFound) -> Option<Cut<'_>> {
    let column = found.columns.iter().min_by_key(|column| {
        let is_number = column.kind == CursorKind::Integer;
        (
            column.moved_by != MovedBy::Nobody,
            column.nullable,
            !column.indexed,
            is_number,
        )
    });
    let column = column.map(Cut::Column);
    // A target in SQLite takes no parts of a key yet.
    let is_to_sqlite = found.target.as_ref().map(|to| to.engine) == Some(Engine::Sqlite);
    let key = (found.key_cuts && !is_to_sqlite).then_some(Cut::Key);
    column
        .filter(|cut| (cut.stays() && cut.indexed()) || key.is_none())
        .or(key)
}

/// Whether rows are without a position, as far as that is known.
pub(super) fn may_hold_null(column: &PositionColumn) -> bool {
    column.nullable && column.null_rows != Some(0)
}

/// The column and who sets it.
pub(super) fn told(column: &PositionColumn) -> String {
    let name = &column.name;
    match (column.moved_by, column.doubts.is_empty()) {
        (MovedBy::Server, true) => format!("{name} set by the database"),
        (MovedBy::Server, false) => format!("{name} set by a trigger, and by others"),
        (MovedBy::Application, _) => format!("{name} set by whoever writes"),
        (MovedBy::Nobody, _) => format!("{name} says when a row was made"),
    }
}
