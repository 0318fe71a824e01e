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
