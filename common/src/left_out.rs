//! Rows of a source that no partition of a step takes: how many there are, and whether that was
//! said beforehand. Judges the same way when a step is planned and when it ends.

use serde::{Deserialize, Serialize};

use crate::cursor::CursorKind;
use crate::partition::read_bound;
use crate::range::CursorRange;
use crate::spec::{Backfill, Bound, Nulls, Relation};

/// Rows of one kind are counted up to here: more of them are only known to be more.
pub const COUNTED_MAX: u64 = 1_000_000;

/// How many rows there are of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tally {
    /// So many.
    Exactly(u64),
    /// More than so many.
    MoreThan(u64),
    /// Nobody knows: it would take too long to count them.
    #[default]
    Unknown,
}

impl Tally {
    /// What a count says that stopped as soon as it was past [`COUNTED_MAX`].
    #[must_use]
    pub const fn of(counted: u64) -> Self {
        if counted > COUNTED_MAX {
            Self::MoreThan(COUNTED_MAX)
        } else {
            Self::Exactly(counted)
        }
    }

    /// Both kinds together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Exactly(one), Self::Exactly(other)) => Self::Exactly(one.saturating_add(other)),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::MoreThan(one), Self::Exactly(other) | Self::MoreThan(other))
            | (Self::Exactly(one), Self::MoreThan(other)) => {
                Self::MoreThan(one.saturating_add(other))
            }
        }
    }

    /// `1 row`, `3 rows`, `more than 1000000 rows`; `None` where there is none, or nobody knows.
    fn rows(self) -> Option<String> {
        match self {
            Self::Exactly(0) | Self::Unknown => None,
            Self::Exactly(1) => Some("1 row".to_owned()),
            Self::Exactly(rows) => Some(format!("{rows} rows")),
            Self::MoreThan(rows) => Some(format!("more than {rows} rows")),
        }
    }
}

/// The rows of a table that lie outside of a range, by kind. No row is counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// Those with a position before the range.
    pub before: Tally,
    /// Those with a position at its end or behind it.
    pub behind: Tally,
    /// Those without a value in the partition column.
    pub null: Tally,
    /// Those outside whose value is no position: a text where the others have numbers, a NaN, a
    /// text of another form.
    pub stray: Tally,
}

impl LeftOut {
    /// No row lies outside.
    pub const NONE: Self = Self {
        before: Tally::Exactly(0),
        behind: Tally::Exactly(0),
        null: Tally::Exactly(0),
        stray: Tally::Exactly(0),
    };
}

/// What a step was told to take of a table.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// The table.
    pub table: &'a Relation,
    /// The partition column.
    pub column: &'a str,
    /// The range that the partitions cover; only a declared bound ends it.
    pub whole: CursorRange,
    /// Whether a partition takes the rows without a value.
    pub has_null_partition: bool,
    /// What the pipeline says of rows without a value.
    pub nulls: Nulls,
}

/// The range that a step declares, in a column of `kind`. `None` when it declares none, or one that
/// planning will refuse.
#[must_use]
pub fn declared_range(step: &Backfill, kind: CursorKind) -> Option<CursorRange> {
    let tz = step.partition.zone();
    let read = |bound: &Option<Bound>| {
        bound
            .as_ref()
            .map(|bound| read_bound(bound, kind, tz))
            .transpose()
            .ok()
    };
    let range = CursorRange::new(read(&step.start)?, read(&step.end)?).ok()?;
    (range != CursorRange::ALL).then_some(range)
}

/// The rows that are left out, for people, when all of them were declared to be.
///
/// # Errors
/// The rows that nobody declared, and what to do: a step that left them out would lose them.
pub fn judge(found: &LeftOut, taken: &Taken<'_>) -> Result<Vec<String>, String> {
    let Taken {
        table,
        column,
        whole,
        ..
    } = taken;
    let (mut told, mut lost) = (Vec::new(), Vec::new());
    for (tally, bound, name, lies) in [
        (found.before, whole.start(), "start", "before"),
        (found.behind, whole.end(), "end", "at or behind"),
    ] {
        match (bound, tally.rows()) {
            (Some(bound), Some(rows)) => told.push(format!(
                "{rows} of {table} whose {column} lies {lies} {bound}"
            )),
            (Some(bound), None) if tally == Tally::Unknown => {
                told.push(format!(
                    "rows of {table} whose {column} lies {lies} {bound}, which were not counted"
                ));
            }
            (None, Some(rows)) => {
                lost.push(format!("{rows} {lies} a {name} that was not declared"))
            }
            (Some(_) | None, None) => {}
        }
    }
    match (found.null.rows(), taken.nulls) {
        _ if taken.has_null_partition => {}
        (Some(rows), Nulls::Ignore) => told.push(format!("{rows} of {table} without {column}")),
        (Some(rows), Nulls::Fail | Nulls::Partition) => {
            lost.push(format!("{rows} without {column}"))
        }
        (None, _) if found.null == Tally::Unknown => {
            told.push(format!(
                "rows of {table} without {column}, which were not counted"
            ));
        }
        (None, _) => {}
    }
    if let Some(rows) = found.stray.rows() {
        let also = if whole.kind() == Some(CursorKind::Integer) {
            ", or is no number (NaN)"
        } else {
            ""
        };
        lost.push(format!(
            "{rows} whose {column} is not written as the others' are{also}"
        ));
    }
    if lost.is_empty() {
        return Ok(told);
    }
    let mut help = Vec::new();
    if lost
        .iter()
        .any(|lost| lost.ends_with(&format!("without {column}")))
    {
        help.push(
            "say `nulls: partition` to load the rows without it, or `nulls: ignore` to leave \
                   them out",
        );
    }
    if found.stray.rows().is_some() {
        help.push(
            "bring the stray values to the form of the others, or partition by another column",
        );
    }
    if help.is_empty() {
        help.push("plan anew with --new");
    }
    Err(format!(
        "{table} holds rows that no partition takes: {}; {}",
        lost.join(", "),
        help.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::Cursor;
    use crate::spec::TableName;

    fn tallies() -> impl proptest::strategy::Strategy<Value = Tally> {
        prop_oneof![
            Just(Tally::Exactly(0)),
            (1_u64..=COUNTED_MAX).prop_map(Tally::Exactly),
            Just(Tally::MoreThan(COUNTED_MAX)),
            Just(Tally::Unknown),
        ]
    }

    fn all_nulls() -> impl proptest::strategy::Strategy<Value = Nulls> {
        prop_oneof![
            Just(Nulls::Partition),
            Just(Nulls::Ignore),
            Just(Nulls::Fail)
        ]
    }

    fn range(start: bool, end: bool) -> CursorRange {
        CursorRange::new(
            start.then_some(Cursor::Integer(10)),
            end.then_some(Cursor::Integer(20)),
        )
        .expect("not empty")
    }

    fn table() -> Relation {
        Relation::Table(TableName {
            schema: None,
            name: "events".to_owned(),
        })
    }

    #[test]
    fn rows_outside_declared_bounds_are_told_and_undeclared_ones_are_refused() {
        let table = table();
        let taken = |nulls| Taken {
            table: &table,
            column: "at",
            whole: range(true, true),
            has_null_partition: false,
            nulls,
        };
        let found = LeftOut {
            before: Tally::Exactly(12),
            null: Tally::Exactly(3),
            ..LeftOut::NONE
        };
        // GIVEN rows before the declared start and without a value WHEN both were declared THEN
        // both are told
        let told = judge(&found, &taken(Nulls::Ignore)).expect("declared");
        assert_eq!(
            told,
            [
                "12 rows of events whose at lies before 10",
                "3 rows of events without at"
            ]
        );
        // WHEN the rows without a value were not THEN they are refused, and only they, with what to
        // do
        let lost = judge(&found, &taken(Nulls::Fail)).expect_err("not declared");
        assert_eq!(
            lost,
            "events holds rows that no partition takes: 3 rows without at; say `nulls: partition` \
             to load the rows without it, or `nulls: ignore` to leave them out"
        );
        // AND what stands between dates without being one is refused whatever was declared
        let stray = judge(
            &LeftOut {
                stray: Tally::Exactly(1),
                ..LeftOut::NONE
            },
            &taken(Nulls::Ignore),
        );
        assert!(
            stray
                .expect_err("not declared")
                .contains("1 row whose at is not written as the others' are")
        );
    }

    #[test]
    fn more_than_a_million_rows_are_not_told_as_a_number() {
        assert_eq!(Tally::of(COUNTED_MAX), Tally::Exactly(COUNTED_MAX));
        assert_eq!(Tally::of(COUNTED_MAX + 1), Tally::MoreThan(COUNTED_MAX));
        assert_eq!(
            Tally::of(5).plus(Tally::of(COUNTED_MAX + 1)),
            Tally::MoreThan(COUNTED_MAX + 5)
        );
        assert_eq!(Tally::of(5).plus(Tally::Unknown), Tally::Unknown);
    }

    proptest! {
        #[test]
        fn no_row_is_left_out_in_silence(
            (before, behind, null, stray) in (tallies(), tallies(), tallies(), tallies()),
            (start, end, has_null_partition) in (any::<bool>(), any::<bool>(), any::<bool>()),
            nulls in all_nulls(),
        ) {
            let (table, found) = (table(), LeftOut { before, behind, null, stray });
            let taken = Taken { table: &table, column: "at", whole: range(start, end), has_null_partition, nulls };
            // WHEN rows are left out that nobody declared
            let some = |tally: Tally| !matches!(tally, Tally::Exactly(0) | Tally::Unknown);
            let undeclared = some(before) && !start
                || some(behind) && !end
                || some(null) && !has_null_partition && nulls != Nulls::Ignore
                || some(stray);
            match judge(&found, &taken) {
                // THEN the step is refused
                Err(lost) => prop_assert!(undeclared, "{}", lost),
                Ok(told) => {
                    prop_assert!(!undeclared, "{:?}", told);
                    // AND of the others, each kind that is there, or may be, is told
                    let expected = usize::from(start && before != Tally::Exactly(0))
                        + usize::from(end && behind != Tally::Exactly(0))
                        + usize::from(!has_null_partition && null != Tally::Exactly(0));
                    prop_assert_eq!(told.len(), expected);
                }
            }
        }
    }
}
