//! How positions are written in a database.

use serde::{Deserialize, Serialize};

use crate::partition::DAY_MICROS;

/// How a cursor is written so that the server's own order is the cursor's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorForm {
    /// A value of the server's own type for the cursor's kind.
    Native,
    /// Text `2013-01-01`.
    TextDate,
    /// Text `2013-01-01 05:00:00` or with a `T`; `separator_t` tells which, `fraction_digits` how
    /// many follow the seconds, `zulu` whether a `Z` ends it.
    TextTime {
        /// `T` between date and time, else a space.
        separator_t: bool,
        /// Digits behind the seconds' point; 0 writes no point.
        fraction_digits: u8,
        /// Ends in `Z`.
        zulu: bool,
    },
    /// A whole number of 32 bits without a sign, PostgreSQL's `oid`. It compares with its own kind
    /// only.
    Oid,
    /// Whole seconds since 1970-01-01T00:00:00Z.
    EpochSeconds,
    /// Whole milliseconds since 1970-01-01T00:00:00Z.
    EpochMillis,
}

impl CursorForm {
    /// The microseconds from one position to the next that it can write.
    #[must_use]
    pub fn unit_micros(self) -> i64 {
        match self {
            Self::Native | Self::Oid => 1,
            Self::EpochSeconds => 1_000_000,
            Self::EpochMillis => 1_000,
            Self::TextTime {
                fraction_digits, ..
            } => 10_i64.saturating_pow(6_u32.saturating_sub(u32::from(fraction_digits))),
            Self::TextDate => DAY_MICROS,
        }
    }
}
