//! The window of a step that goes on where its last run ended: from its watermark up to a position
//! below which no row is committed any more.
//!
//! `MAX(cursor)` is no such position: a transaction that took its stamp before that row's and
//! commits after the read is below it, and would never be read. What is one follows from the
//! transactions that are open when the plan is made; the database tells it as a [`Horizon`].

use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::cursor::{Cursor, CursorKind};
use crate::cursor_form::CursorForm;
use crate::id::DocumentDigest;
use crate::log::SlotStanding;
use crate::partition::{BoundError, DAY_MICROS, UnknownZone, Zone, read_bound};
use crate::range::{CursorRange, Slice};
use crate::spec::{Bound, BoundForm};

const SECOND_MICROS: i64 = 1_000_000;

/// What a source's open transactions say of the rows that may still be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// No transaction that is still to commit began before this instant, in microseconds since
    /// 1970; `None` while the server cannot tell.
    pub instant: Option<i64>,
    /// Every transaction that had begun when the newest position was read has ended since.
    pub drained: bool,
    /// What keeps it back, and since when; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Why rows may be missed all the same; for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// Where a stream's watermark stands in its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWatermark {
    /// The first position that is not committed.
    pub position: Cursor,
    /// How often it has moved: who moves it names the version that he has seen.
    pub version: u64,
}

/// What a probe learns beyond both tables, for a step that goes on where its last run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WindowFacts {
    /// What the source's transactions say; `None` of a database that has one writer at a time, so
    /// that nothing is committed later below the newest position.
    pub horizon: Option<Horizon>,
    /// Where the last run ended; `None` before the first.
    pub watermark: Option<StoredWatermark>,
    /// What the step that it continues has committed; of one that follows a log, what it has
    /// itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Coverage>,
    /// Whether the rows of the table are the stream's own although no receipt says so, because it is
    /// to be copied anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resyncs: bool,
    /// What the source's slot keeps, of a step that follows a log by one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotStanding>,
}

impl WindowFacts {
    /// What a plan of the window stands and falls with; `committed` where rows are appended, which
    /// must not be there twice.
    #[must_use]
    pub fn digest(&self, committed: Option<&Coverage>) -> DocumentDigest {
        let coverage = |of: Option<&Coverage>| of.map(|of| of.digest().to_string());
        let watermark = self
            .watermark
            .map(|at| format!("{:?}", (at.position, at.version)));
        let parts = [
            watermark,
            coverage(self.continued.as_ref()),
            coverage(committed),
        ];
        let text: Vec<String> = parts.into_iter().map(Option::unwrap_or_default).collect();
        DocumentDigest::of(text.join("/").as_bytes())
    }

    /// Whether the whole table was copied, of one that is followed through a log.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        let all = Slice::Range(CursorRange::ALL);
        let copied = self.continued.as_ref();
        copied.is_some_and(|of| of.contains(CursorKind::Integer, &all))
    }

    /// Where the next window begins; `None` at the first row.
    #[must_use]
    pub fn low(&self, kind: CursorKind) -> Option<Cursor> {
        let continued = || self.continued.as_ref().and_then(|of| reached(of, kind));
        self.watermark.map(|at| at.position).or_else(continued)
    }
}

/// The end of the first stretch that is committed without a hole.
fn reached(coverage: &Coverage, kind: CursorKind) -> Option<Cursor> {
    coverage.ranges(kind).next().and_then(|range| range.end())
}

/// How far a window may reach, and how far the watermark goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafeEnd {
    /// The first position that is not read.
    pub end: Cursor,
    /// The first position at which rows may still be committed. Where it lies before the end, what
    /// lies between is read again by the next window.
    pub settled: Cursor,
}

/// How far a window may reach by the transactions of a source, in a column of `kind`. `newest` is the
/// largest position found before the horizon was asked for. `None` while nothing is safe yet.
///
/// # Errors
/// [`UnknownZone`], which a column of civil times or days is read in.
pub fn safe_end(
    horizon: &Horizon,
    kind: CursorKind,
    newest: Option<Cursor>,
    tz: &str,
) -> Result<Option<SafeEnd>, UnknownZone> {
    let whole = |micros: i64, unit: i64| micros.saturating_sub(micros.rem_euclid(unit));
    let end = match (kind, horizon.instant) {
        (CursorKind::Integer, Some(_)) => newest
            .filter(|_| horizon.drained)
            .and_then(Cursor::successor),
        (_, None) | (CursorKind::Placed(_), Some(_)) => None,
        (CursorKind::Instant, Some(at)) => Some(Cursor::Instant(whole(at, SECOND_MICROS))),
        (CursorKind::Civil, Some(at)) => {
            let shown = Zone::named(tz)?.earliest_from(at);
            Some(Cursor::Civil(whole(shown, SECOND_MICROS)))
        }
        (CursorKind::Date, Some(at)) => {
            let shown = Zone::named(tz)?.earliest_from(at);
            i32::try_from(shown.div_euclid(DAY_MICROS))
                .ok()
                .map(Cursor::Date)
        }
    };
    Ok(end.map(|end| SafeEnd { end, settled: end }))
}

/// How far a window reaches in a database with one writer at a time: up to the newest position,
/// which more rows may get until the clock goes on, and which is therefore read again.
#[must_use]
pub fn newest_end(newest: Cursor, form: CursorForm) -> Option<SafeEnd> {
    let behind = |micros: i64| micros.checked_add(form.unit_micros());
    let end = match newest {
        Cursor::Instant(at) => behind(at).map(Cursor::Instant),
        Cursor::Civil(at) => behind(at).map(Cursor::Civil),
        Cursor::Integer(_) | Cursor::Date(_) | Cursor::Placed(..) => newest.successor(),
    };
    end.map(|end| SafeEnd {
        end,
        settled: newest,
    })
}

/// A position so much earlier, for a window that reads again what it has read; `None` where the
/// positions are no times.
#[must_use]
pub fn looking_back(from: Cursor, micros: i64) -> Option<Cursor> {
    match from {
        Cursor::Integer(_) | Cursor::Placed(..) => (micros == 0).then_some(from),
        Cursor::Instant(at) => Some(Cursor::Instant(at.saturating_sub(micros))),
        Cursor::Civil(at) => Some(Cursor::Civil(at.saturating_sub(micros))),
        Cursor::Date(at) => {
            let days = micros
                .div_euclid(DAY_MICROS)
                .saturating_add(i64::from(micros.rem_euclid(DAY_MICROS) > 0));
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            Some(Cursor::Date(at.saturating_sub(days)))
        }
    }
}

/// For how long rows may be missing below which everything is there up to `at`, in whole seconds;
/// `None` where positions are no instants.
#[must_use]
pub fn lag_seconds(at: Cursor, now_micros: i64) -> Option<u64> {
    match at {
        Cursor::Instant(at) => {
            let behind = now_micros.saturating_sub(at).div_euclid(SECOND_MICROS);
            Some(u64::try_from(behind).unwrap_or(0))
        }
        Cursor::Integer(_) | Cursor::Civil(_) | Cursor::Date(_) | Cursor::Placed(..) => None,
    }
}

/// How a stream's watermark goes with the rows of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkOrder {
    /// The version that the plan was made at; `None` where there was no watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Where it stood; it never goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Cursor>,
    /// Where it stands once the window is loaded.
    pub to: Cursor,
}

impl WatermarkOrder {
    /// Where the watermark stands after a commit that ends at `cursor`, or at the window's end.
    #[must_use]
    pub fn after(&self, cursor: Option<Cursor>) -> Cursor {
        let reached = cursor.map_or(self.to, |cursor| cursor.min(self.to));
        self.low.map_or(reached, |low| low.max(reached))
    }

    /// The version that a commit after so many others of the window has to find.
    #[must_use]
    pub fn version_after(&self, commits: u32) -> Option<u64> {
        match (self.seen, commits) {
            (None, 0) => None,
            (seen, commits) => Some(seen.unwrap_or(0).saturating_add(u64::from(commits))),
        }
    }
}

/// The position of a watermark that a person puts elsewhere: of the kind that it has, or else of the
/// one that the text has by itself.
///
/// # Errors
/// [`BoundError`] for a text that is no position of the kind.
pub fn placed(to: &Bound, current: Option<CursorKind>, tz: &str) -> Result<Cursor, BoundError> {
    let own = to.form().map(|form| match form {
        BoundForm::Whole(_) => CursorKind::Integer,
        BoundForm::Date(_) => CursorKind::Date,
        BoundForm::Civil(_) => CursorKind::Civil,
        BoundForm::Instant(_) => CursorKind::Instant,
    });
    read_bound(to, current.or(own).unwrap_or(CursorKind::Instant), tz)
}

/// What becomes of a watermark when receipts are voided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lowered {
    /// It stays.
    Stays,
    /// It goes back to here.
    To(Cursor),
    /// There is none any more: the next window begins at the first row.
    Removed,
}

/// What becomes of a watermark when `range` is to be loaded again; without one, everything is.
#[must_use]
pub fn lowered(at: Cursor, range: Option<&CursorRange>) -> Lowered {
    let Some(range) = range else {
        return Lowered::Removed;
    };
    match range.start() {
        None => Lowered::Removed,
        Some(start) if start.kind() == at.kind() && start < at => Lowered::To(start),
        Some(_) => Lowered::Stays,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600 * SECOND_MICROS;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_microsecond()
    }

    fn horizon(instant: i64) -> Horizon {
        Horizon {
            instant: Some(instant),
            drained: true,
            held_by: None,
            doubts: Vec::new(),
        }
    }

    fn civil_end(instant: i64, tz: &str) -> i64 {
        match safe_end(&horizon(instant), CursorKind::Civil, None, tz) {
            Ok(Some(SafeEnd {
                end: Cursor::Civil(at),
                ..
            })) => at,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lag_is_the_time_since_the_watermark_and_never_below_none() {
        let at = |seconds: i64| Cursor::Instant(seconds * SECOND_MICROS);
        assert_eq!(lag_seconds(at(10), 75 * SECOND_MICROS), Some(65));
        assert_eq!(lag_seconds(at(80), 75 * SECOND_MICROS), Some(0));
        assert_eq!(
            lag_seconds(at(i64::MIN / SECOND_MICROS), i64::MAX),
            Some(9_223_372_036_854)
        );
        assert_eq!(lag_seconds(Cursor::Integer(7), 0), None);
    }

    #[test]
    fn dst_civil_cursor_loses_no_hour() {
        // GIVEN the night in which Berlin's clocks are put back from 3 to 2, at 01:00 UTC
        let tz = "Europe/Berlin";
        let shown = |text: &str| at(&format!("{text}Z"));
        // WHEN the horizon lies in the hour that will be shown again
        // THEN nothing of that hour is safe yet, in neither pass of it
        for (instant, safe) in [
            ("2026-10-24T23:59:59Z", "2026-10-25T01:59:59"),
            ("2026-10-25T00:00:00Z", "2026-10-25T02:00:00"),
            ("2026-10-25T00:30:00Z", "2026-10-25T02:00:00"),
            ("2026-10-25T00:59:59Z", "2026-10-25T02:00:00"),
            ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00"),
            ("2026-10-25T01:30:00Z", "2026-10-25T02:30:00"),
            ("2026-10-25T02:00:00Z", "2026-10-25T03:00:00"),
        ] {
            assert_eq!(civil_end(at(instant), tz), shown(safe), "{instant}");
        }
        // a clock that is put forward shows nothing in between
        assert_eq!(
            civil_end(at("2026-03-29T01:00:00Z"), tz),
            shown("2026-03-29T03:00:00")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_clock_ever_shows_again_what_lies_below_the_safe_end(
            days in 0..40_000i64, of_day in 0..86_400i64, later in 0..200i64,
            tz in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Tehran", "UTC"]),
        ) {
            let instant = days * DAY_MICROS + of_day * SECOND_MICROS;
            let safe = civil_end(instant, tz);
            // WHEN a row is stamped later THEN its time is not below
            let zone = Zone::named(tz).expect("a zone");
            prop_assert!(zone.shows(instant + later * HOUR / 4) >= safe);
            // and it never goes back
            prop_assert!(civil_end(instant + later * HOUR / 4, tz) >= safe);
        }

        #[test]
        fn a_watermark_never_goes_back_nor_beyond_the_window(
            low in prop::option::of(-50..50i64), to in -50..50i64, cursor in prop::option::of(-90..90i64),
        ) {
            let number = |at: i64| Cursor::Integer(at);
            let order = WatermarkOrder { seen: None, low: low.map(number), to: number(to) };
            let after = order.after(cursor.map(number));
            prop_assert!(low.is_none_or(|low| after >= number(low)));
            prop_assert!(after <= number(low.map_or(to, |low| low.max(to))));
        }
    }

    #[test]
    fn each_commit_of_a_window_finds_the_version_that_the_one_before_left() {
        let order = |seen| WatermarkOrder {
            seen,
            low: None,
            to: Cursor::Integer(9),
        };
        let versions = |seen| [0, 1, 2].map(|commits| order(seen).version_after(commits));
        assert_eq!(versions(None), [None, Some(1), Some(2)]);
        assert_eq!(versions(Some(7)), [Some(7), Some(8), Some(9)]);
    }

    #[test]
    fn numbers_are_safe_once_all_that_could_have_taken_one_have_ended() {
        let newest = Some(Cursor::Integer(41));
        let end = |horizon: &Horizon| {
            safe_end(horizon, CursorKind::Integer, newest, "UTC")
                .expect("no zone")
                .map(|of| of.end)
        };
        assert_eq!(end(&horizon(5)), Some(Cursor::Integer(42)));
        let under_way = Horizon {
            drained: false,
            ..horizon(5)
        };
        assert_eq!(end(&under_way), None);
    }

    #[test]
    fn the_newest_position_is_read_again_where_it_may_get_more_rows() {
        let seconds = CursorForm::TextTime {
            separator_t: false,
            fraction_digits: 0,
            zulu: false,
        };
        let of = newest_end(Cursor::Civil(5 * SECOND_MICROS), seconds).expect("an end");
        assert_eq!(of.end, Cursor::Civil(6 * SECOND_MICROS));
        assert_eq!(of.settled, Cursor::Civil(5 * SECOND_MICROS));
    }

    #[test]
    fn a_watermark_is_placed_in_the_words_of_its_kind() {
        let placed =
            |text: &str, kind| super::placed(&Bound(text.to_owned()), kind, "Europe/Berlin");
        assert_eq!(placed("42", None), Ok(Cursor::Integer(42)));
        let midnight = Cursor::Instant(at("2026-02-28T23:00:00Z"));
        assert_eq!(
            placed("2026-03-01", Some(CursorKind::Instant)),
            Ok(midnight)
        );
        assert_eq!(placed("2026-02-28T23:00:00Z", None), Ok(midnight));
        assert!(placed("42", Some(CursorKind::Instant)).is_err());
        assert!(placed("soon", None).is_err());
    }

    #[test]
    fn what_is_forgotten_is_read_again() {
        let (at, n) = (Cursor::Integer(50), |at| Some(Cursor::Integer(at)));
        let range = |start, end| CursorRange::new(start, end).expect("not empty");
        assert_eq!(lowered(at, None), Lowered::Removed);
        assert_eq!(lowered(at, Some(&range(None, n(10)))), Lowered::Removed);
        assert_eq!(
            lowered(at, Some(&range(n(10), n(20)))),
            Lowered::To(Cursor::Integer(10))
        );
        assert_eq!(lowered(at, Some(&range(n(50), None))), Lowered::Stays);
    }
}
