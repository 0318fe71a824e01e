//! May a table be left with so few rows? One that is replaced whole becomes what its source is: a
//! source that was emptied by mistake, or that shows its rows to others only, must not empty the
//! copy that people read.

use crate::error_code::ErrorCode;
use crate::spec::Shrinking;

/// Why a table is not left with the rows that came for it; `None` when it is. `held` rows are there
/// before.
#[must_use]
pub const fn refused_shrinking(held: u64, came: u64, allowed: Shrinking) -> Option<ErrorCode> {
    if held == 0 {
        return None;
    }
    if came == 0 && !allowed.allow_empty {
        return Some(ErrorCode::EmptySource);
    }
    if came != 0 && came < held.div_ceil(2) && !allowed.allow_shrink {
        return Some(ErrorCode::ShrunkSource);
    }
    None
}

/// What a person is told of it: `place` and `table` are the target's.
#[must_use]
pub fn shrinking_message(held: u64, came: u64, table: &str, place: &str) -> String {
    let key = if came == 0 {
        "allow_empty"
    } else {
        "allow_shrink"
    };
    format!(
        "{came} rows were read, and {table} on {place} holds {held}: they stay as they are. Look at \
         the source, and at what the role that reads it may see; if it has really become so small, \
         set `{key}: true` in the step's strategy"
    )
}

/// What a table that is to take the place of another was found to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighed {
    /// Receipts of the tasks that loaded it.
    pub receipts: u64,
    /// The rows that those speak of.
    pub rows_received: u64,
    /// The rows that it has.
    pub rows: u64,
    /// The rows of the table whose place it takes.
    pub held: u64,
}

/// Why a table may not take the place of another, with what a person is told of it; `None` when it
/// may. Every one of the `tasks` that were to load it has left its receipt, and it holds just their
/// rows: nobody else has written to it, and nothing of it was lost.
#[must_use]
pub fn unfit_to_publish(
    found: Weighed,
    tasks: u64,
    allowed: Shrinking,
    table: &str,
    place: &str,
) -> Option<(ErrorCode, String)> {
    let Weighed {
        receipts,
        rows_received,
        rows,
        held,
    } = found;
    if receipts != tasks || rows_received != rows {
        let message = format!(
            "the table that was to take the place of {table} on {place} holds {rows} rows and was \
             loaded with {rows_received}, by {receipts} of {tasks} tasks: did somebody write to it, \
             or was the target put back to an older state? {table} stays as it is. Begin a new run \
             with `--new`"
        );
        return Some((ErrorCode::ShadowIncomplete, message));
    }
    let code = refused_shrinking(held, rows, allowed)?;
    Some((code, shrinking_message(held, rows, table, place)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: [Shrinking; 4] = [
        Shrinking {
            allow_empty: false,
            allow_shrink: false,
        },
        Shrinking {
            allow_empty: true,
            allow_shrink: false,
        },
        Shrinking {
            allow_empty: false,
            allow_shrink: true,
        },
        Shrinking {
            allow_empty: true,
            allow_shrink: true,
        },
    ];

    #[test]
    fn half_of_the_rows_is_enough_and_one_less_is_not() {
        let strict = Shrinking::default();
        for (held, came, refused) in [
            (0, 0, None),
            (10, 5, None),
            (10, 4, Some(ErrorCode::ShrunkSource)),
            (11, 6, None),
            (11, 5, Some(ErrorCode::ShrunkSource)),
            (1, 0, Some(ErrorCode::EmptySource)),
            (u64::MAX, 0, Some(ErrorCode::EmptySource)),
            (u64::MAX, 1, Some(ErrorCode::ShrunkSource)),
        ] {
            assert_eq!(
                refused_shrinking(held, came, strict),
                refused,
                "{held} {came}"
            );
        }
    }

    #[test]
    fn a_table_is_published_with_all_that_was_loaded_into_it_or_not_at_all() {
        let whole = Weighed {
            receipts: 3,
            rows_received: 30,
            rows: 30,
            held: 40,
        };
        let judged = |found| {
            let unfit = unfit_to_publish(found, 3, Shrinking::default(), "t", "here");
            unfit.map(|(code, _)| code)
        };
        assert_eq!(judged(whole), None);
        for (found, code) in [
            (
                Weighed {
                    receipts: 2,
                    ..whole
                },
                ErrorCode::ShadowIncomplete,
            ),
            (
                Weighed {
                    receipts: 4,
                    ..whole
                },
                ErrorCode::ShadowIncomplete,
            ),
            (Weighed { rows: 29, ..whole }, ErrorCode::ShadowIncomplete),
            (Weighed { rows: 31, ..whole }, ErrorCode::ShadowIncomplete),
            (Weighed { held: 61, ..whole }, ErrorCode::ShrunkSource),
            (
                Weighed {
                    rows: 0,
                    rows_received: 0,
                    ..whole
                },
                ErrorCode::EmptySource,
            ),
        ] {
            assert_eq!(judged(found), Some(code), "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn each_leave_lifts_its_own_refusal_and_no_other(held: u64, came: u64) {
            for allowed in ALLOWED {
                let refused = refused_shrinking(held, came, allowed);
                prop_assert_eq!(
                    refused,
                    refused_shrinking(held, came, Shrinking::default()).filter(|code| match code {
                        ErrorCode::EmptySource => !allowed.allow_empty,
                        _ => !allowed.allow_shrink,
                    })
                );
                prop_assert!(refused.is_none() || came < held);
            }
        }
    }
}
