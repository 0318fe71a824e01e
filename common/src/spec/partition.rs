//! How a step's table is cut: the rule as it is written, and what `auto` has become of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::cursor::CursorKind;
use crate::placing::Placing;

/// How a table is cut into partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The column; of a rule over several, all of them, for people.
    pub column: String,
    /// The rule.
    pub by: PartitionBy,
    /// What happens to rows whose column is NULL.
    pub nulls: Nulls,
}

/// The rule that cuts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum PartitionBy {
    /// Civil periods.
    Calendar {
        /// How long one is.
        grain: Grain,
        /// IANA name of the zone whose midnights count; `UTC` when none is named.
        tz: String,
    },
    /// Ranges of a whole number.
    Integer {
        /// Values in a range; `None`: even parts of about `max_rows` rows.
        width: Option<u64>,
        /// Rows aimed at in a range when no width is given.
        max_rows: u64,
    },
    /// Ranges of a hash that the source computes.
    Hash {
        /// The columns that it is of.
        columns: Vec<String>,
        /// How many ranges.
        parts: u64,
    },
    /// Ranges of a unique key, in the order in which the source compares it.
    Keyset {
        /// Its columns; none means the table's own key.
        columns: Vec<String>,
        /// Rows aimed at in a range.
        max_rows: u64,
    },
    /// By what the source offers: its key where that is a whole number, ranges of its key, ranges of
    /// a hash, and else in one piece.
    Auto {
        /// Rows aimed at in a part.
        max_rows: u64,
    },
}

/// The most parts of a hash that nobody has asked for: each of them reads the whole table.
const AUTO_PARTS_MAX: u64 = 16;

/// Rows aimed at in a part where nobody says how many.
pub(super) const ROWS_OF_A_PART: u64 = 500_000;

impl Partition {
    /// The rule of a step that names none.
    #[must_use]
    pub fn auto() -> Self {
        Self {
            column: "what it is cut by".to_owned(),
            by: PartitionBy::Auto {
                max_rows: ROWS_OF_A_PART,
            },
            nulls: Nulls::Partition,
        }
    }

    /// The rule that `auto` has become at a source that places its rows by `placing`, or by the
    /// whole numbers of `column`.
    #[must_use]
    pub fn settled(&self, column: &str, placing: Option<&Placing>, rows: u64) -> Cow<'_, Self> {
        let PartitionBy::Auto { max_rows } = self.by else {
            return Cow::Borrowed(self);
        };
        let by = match placing {
            None => PartitionBy::Integer {
                width: None,
                max_rows,
            },
            Some(Placing::Hash(hash)) => PartitionBy::Hash {
                columns: hash.columns.clone(),
                // Of two powers of two the parts of one are whole parts of the other's.
                parts: rows
                    .div_ceil(max_rows.max(1))
                    .clamp(2, AUTO_PARTS_MAX)
                    .next_power_of_two(),
            },
            Some(Placing::Keys(keys)) => PartitionBy::Keyset {
                columns: keys.columns.iter().map(|of| of.name.clone()).collect(),
                max_rows,
            },
        };
        Cow::Owned(Self {
            column: column.to_owned(),
            by,
            nulls: self.nulls,
        })
    }

    /// The one column that is cut; `None` of a rule that only the source can tell positions by.
    #[must_use]
    pub fn cut_column(&self) -> Option<&str> {
        match self.by {
            PartitionBy::Calendar { .. } | PartitionBy::Integer { .. } => Some(&self.column),
            PartitionBy::Hash { .. } | PartitionBy::Keyset { .. } | PartitionBy::Auto { .. } => {
                None
            }
        }
    }

    /// The zone whose midnights its periods begin at.
    #[must_use]
    pub fn zone(&self) -> &str {
        match &self.by {
            PartitionBy::Calendar { tz, .. } => tz,
            PartitionBy::Integer { .. }
            | PartitionBy::Hash { .. }
            | PartitionBy::Keyset { .. }
            | PartitionBy::Auto { .. } => "UTC",
        }
    }
}

/// A civil period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// An hour of the clock.
    Hour,
    /// Midnight to midnight.
    Day,
    /// Monday to Monday.
    Week,
    /// First to first.
    Month,
    /// New Year to New Year.
    Year,
}

impl Grain {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The smallest kind of cursor this grain can cut: days cannot be cut into hours.
    #[must_use]
    pub const fn fits(self, kind: CursorKind) -> bool {
        match kind {
            CursorKind::Integer | CursorKind::Placed(_) => false,
            CursorKind::Date => !matches!(self, Self::Hour),
            CursorKind::Instant | CursorKind::Civil => true,
        }
    }
}

/// What happens to rows whose partition column is NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nulls {
    /// They are a partition of their own.
    Partition,
    /// They are left out, counted and reported.
    Ignore,
    /// One of them fails the plan.
    Fail,
}
