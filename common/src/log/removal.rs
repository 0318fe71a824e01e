//! What becomes of the rows of a target that the source deletes.
//!
//! A row that stays with a mark is one whose mark is a column like any other: a delete sets it, and
//! whatever else is told of the row takes it away. So marked rows are folded as all others are.

use jiff::Timestamp;

use super::change::{Field, RowChange};
use crate::facts::{ColumnFacts, ColumnKind};

/// What becomes of a row that the source deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It goes.
    Delete,
    /// It stays as it was.
    Keep,
    /// It stays, and a column behind all others says when it was deleted.
    Mark,
}

impl Removal {
    /// What a change comes to; `None` where nothing does. `key` says at which places of a row its key
    /// stands, and a row has `width` copied columns.
    #[must_use]
    pub fn of(self, change: RowChange, key: &[usize], width: usize) -> Option<RowChange> {
        match (self, change) {
            (Self::Delete, change) => Some(change),
            (Self::Keep, RowChange::Delete { .. } | RowChange::Truncate { .. }) => None,
            (Self::Keep, change @ (RowChange::Put(_) | RowChange::Move { .. })) => Some(change),
            (Self::Mark, RowChange::Put(row)) => Some(RowChange::Put(alive(row))),
            (Self::Mark, RowChange::Move { from, row }) => Some(RowChange::Move {
                from,
                row: alive(row),
            }),
            (Self::Mark, RowChange::Delete { key: of, at }) => {
                let mut row = vec![Field::Unchanged; width];
                for (place, field) in key.iter().zip(of) {
                    if let Some(own) = row.get_mut(*place) {
                        *own = field;
                    }
                }
                row.push(mark(at));
                Some(RowChange::Put(row))
            }
            (Self::Mark, change @ RowChange::Truncate { .. }) => Some(change),
        }
    }
}

/// A row without a mark.
fn alive(mut row: Vec<Field>) -> Vec<Field> {
    row.push(Field::Null);
    row
}

/// The mark of a row that was deleted at an instant, in microseconds since 1970.
fn mark(at: i64) -> Field {
    Field::Text(mark_text(at).into_bytes())
}

/// An instant as the mark holds it, in microseconds since 1970. What lies beyond the calendar is the
/// end of it.
#[must_use]
pub fn mark_text(at: i64) -> String {
    match Timestamp::from_microsecond(at) {
        Ok(at) => at.to_string(),
        Err(_) if at < 0 => "-infinity".to_owned(),
        Err(_) => "infinity".to_owned(),
    }
}

/// The column of the target that holds the marks.
#[must_use]
pub fn mark_column(name: &str) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        type_name: "timestamp with time zone".to_owned(),
        kind: ColumnKind::Instant,
        nullable: true,
        binary_portable: true,
        definition: None,
        origin: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_an_instant_whatever_the_log_says() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_764_515_683_000_001, "2025-11-30T15:14:43.000001Z"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(mark_text(at), text);
        }
    }

    #[test]
    fn a_delete_of_a_row_that_stays_sets_its_mark_alone() {
        let text = |value: &str| Field::Text(value.as_bytes().to_vec());
        let delete = RowChange::Delete {
            key: vec![text("b"), text("a")],
            at: 0,
        };
        let kept = Removal::Mark.of(delete.clone(), &[2, 0], 3);
        let row = vec![text("a"), Field::Unchanged, text("b"), mark(0)];
        assert_eq!(kept, Some(RowChange::Put(row)));
        assert_eq!(Removal::Keep.of(delete.clone(), &[2, 0], 3), None);
        assert_eq!(Removal::Delete.of(delete.clone(), &[2, 0], 3), Some(delete));
    }
}
