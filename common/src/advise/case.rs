//! A table and the wishes for it: what every way is judged by.

use std::time::Duration;

use super::advice::{Assurance, Cost, Ranked, Refusal, Refused, Way};
use super::facts::{MovedBy, TableAsFound, Wishes};
use crate::number::{bytes, count};
use crate::spec::knows_strategy;

/// A table of fewer rows and bytes is loaded whole at little cost.
pub(super) const SMALL_ROWS: u64 = 100_000;
pub(super) const SMALL_BYTES: u64 = 64 << 20;
/// From so many rows on a first load is cut into parts.
pub(super) const LARGE_ROWS: u64 = 1_000_000;
/// The most rows that are replaced in one transaction.
pub(super) const IN_PLACE_ROWS: u64 = 5_000_000;
/// The shortest time between two loads of a whole table, and between two windows.
pub(super) const WHOLE_FRESH: Duration = Duration::from_secs(300);
pub(super) const WINDOW_FRESH: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(DAY_SECONDS);
const DAY_SECONDS: u64 = 86_400;
/// What a slot moves each second, where nobody has measured it.
const SLOT_BYTES: u64 = 30_000_000;
/// The sessions that read a table that is replaced whole.
pub(super) const REFRESH_SLOTS: u32 = 4;

pub(super) struct Case<'a> {
    pub(super) found: &'a TableAsFound,
    pub(super) wishes: &'a Wishes,
}

/// What became of a way.
pub(super) enum Judged {
    Fits(Box<Fit>),
    Refused(Refused),
}

/// A way that fits.
pub(super) struct Fit {
    pub(super) ranked: Ranked,
    /// Whether it is the one for tables and wishes like these.
    pub(super) is_made_for_it: bool,
}

/// Says why a way does not fit.
pub(super) fn refusal(
    fact: impl Into<String>,
    threshold: impl Into<String>,
    remedy: impl Into<String>,
) -> Refusal {
    Refusal {
        fact: fact.into(),
        threshold: threshold.into(),
        remedy: remedy.into(),
    }
}

pub(super) fn refused(way: Way, because: Vec<Refusal>) -> Judged {
    Judged::Refused(Refused {
        way,
        name: way.name().to_owned(),
        because,
    })
}

impl Case<'_> {
    /// What nobody knows the size of, a view for one, is not taken for small.
    pub(super) fn is_small(&self) -> bool {
        let is_known = self.found.rows_exact || self.found.bytes > 0;
        is_known && self.found.rows < SMALL_ROWS && self.found.bytes < SMALL_BYTES
    }

    pub(super) fn is_large(&self) -> bool {
        self.found.rows >= LARGE_ROWS
    }

    /// `1,200 rows, 61 MiB`.
    pub(super) fn size(&self) -> String {
        let about = if self.found.rows_exact { "" } else { "about " };
        format!(
            "{about}{} rows, {}",
            count(self.found.rows),
            bytes(self.found.bytes)
        )
    }

    /// How long so many sessions take to read the table, in seconds.
    pub(super) fn seconds(&self, slots: u32) -> u64 {
        let rate = self.wishes.bytes_per_second.unwrap_or(SLOT_BYTES);
        let rate = rate.saturating_mul(u64::from(self.slots(slots))).max(1);
        self.found.bytes.div_ceil(rate)
    }

    /// So many sessions, as far as there are slots.
    fn slots(&self, wanted: u32) -> u32 {
        wanted.clamp(1, self.wishes.slots.max(1))
    }

    /// How often a day something runs that is to be as fresh as was wished, or so often.
    pub(super) fn runs_a_day(&self, unless_wished: u64) -> u64 {
        if self.wishes.once {
            return 0;
        }
        let of = |fresh: Duration| DAY_SECONDS.checked_div(fresh.as_secs().max(1));
        self.wishes
            .fresh
            .and_then(of)
            .map_or(unless_wished, |runs| runs.max(1))
    }

    /// How often that is, in words.
    pub(super) fn cadence(&self, unless_wished: &str) -> String {
        match self.wishes.fresh {
            _ if self.wishes.once => "once".to_owned(),
            None => unless_wished.to_owned(),
            Some(fresh) if fresh == DAY => "daily".to_owned(),
            Some(fresh) => format!("every {}", crate::spec::duration_text(fresh)),
        }
    }

    /// Whether rows are known to be updated, or nobody counts.
    pub(super) fn may_be_updated(&self) -> bool {
        self.found.changes.is_none_or(|seen| seen.updated > 0)
    }

    /// Rows that are written in a day: a hundredth of the table where nobody counts.
    fn rows_a_day(&self) -> u64 {
        let guess = self.found.rows.div_ceil(100);
        self.found.changes.map_or(guess, |seen| {
            let rows = seen.inserted.saturating_add(seen.updated);
            let rows = u128::from(rows.saturating_add(seen.deleted));
            let days = rows.saturating_mul(u128::from(DAY_SECONDS));
            let rows = days.checked_div(u128::from(seen.seconds.max(DAY_SECONDS)));
            u64::try_from(rows.unwrap_or(0)).unwrap_or(u64::MAX)
        })
    }

    /// Bytes of the rows that are written in a day.
    pub(super) fn changed_bytes_a_day(&self) -> u64 {
        let of_row = self.found.bytes.div_ceil(self.found.rows.max(1));
        self.rows_a_day().saturating_mul(of_row)
    }

    /// What is known of deleted rows: `0.4 % a day`, or how many in which time.
    pub(super) fn deletes(&self) -> Option<String> {
        let seen = self.found.changes?;
        if seen.deleted == 0 {
            return None;
        }
        if seen.seconds < DAY_SECONDS || self.found.rows == 0 {
            return Some(format!("{} deleted so far", count(seen.deleted)));
        }
        let of_rows = crate::number::to_f64(seen.deleted) / crate::number::to_f64(self.found.rows);
        let days = crate::number::to_f64(seen.seconds) / crate::number::to_f64(DAY_SECONDS);
        let percent = of_rows / days * 100.0;
        Some(match percent < 0.1 {
            true => "less than 0.1 % a day".to_owned(),
            false => format!("{percent:.1} % a day"),
        })
    }

    /// A cost that is the table's, read by so many sessions.
    pub(super) fn cost(&self, slots: u32) -> Cost {
        Cost {
            rows: self.found.rows,
            bytes: self.found.bytes,
            seconds: self.seconds(slots),
            slots: self.slots(slots),
            bytes_a_day: 0,
            queries_a_day: 0,
            space: 0,
            locks: "nothing".to_owned(),
            log: None,
        }
    }

    pub(super) fn ranked(&self, way: Way, assurance: Assurance, cost: Cost) -> Ranked {
        Ranked {
            way,
            name: way.name().to_owned(),
            cadence: String::new(),
            assurance,
            brings: String::new(),
            because: Vec::new(),
            cautions: Vec::new(),
            cost,
            runs_here: way.strategies().iter().all(|word| knows_strategy(word)),
        }
    }

    /// A column that moves with each update of its row, as far as somebody is known to see to that.
    pub(super) fn moves(&self, by: MovedBy) -> bool {
        by == MovedBy::Server || !self.may_be_updated()
    }
}
