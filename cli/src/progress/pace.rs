//! How fast a run goes: from the documents that came and this process's own clock, never from the
//! clock of another.

use std::collections::VecDeque;
use std::time::Duration;

use highwater_common::document::RunDocument;
use highwater_common::number::to_f64;

/// The time that a rate looks back.
const WINDOW: Duration = Duration::from_secs(15);
/// No rate is told before so much time has passed.
const SETTLE: Duration = Duration::from_millis(500);
/// Samples kept; documents come four a second at most.
const SAMPLES_MAX: usize = 128;

/// How fast a run goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    /// Rows committed a second.
    pub rows_per_second: f64,
    /// Bytes carried by them a second.
    pub bytes_per_second: f64,
    /// Soonest and latest end from now; `None` while less than 5 % is done.
    pub remaining: Option<(Duration, Duration)>,
}

/// Measures it.
#[derive(Debug, Default)]
pub(crate) struct PaceMeter {
    first: Option<Sample>,
    window: VecDeque<Sample>,
    planned: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    done: u64,
    rows: u64,
    bytes: u64,
}

impl PaceMeter {
    /// A document came, `at` after the following began.
    pub(crate) fn observe(&mut self, at: Duration, run: &RunDocument) {
        let sample = Sample {
            at,
            done: run.tasks.done,
            rows: run.rows,
            bytes: run.bytes,
        };
        self.planned = run.tasks.planned();
        // A retry or a lost target takes counts back: what was measured before says nothing any
        // more.
        if self
            .window
            .back()
            .is_some_and(|last| sample.done < last.done || sample.rows < last.rows)
        {
            self.window.clear();
            self.first = None;
        }
        self.first.get_or_insert(sample);
        self.window.push_back(sample);
        // One sample older than the window stays: it is where the window begins.
        while self.window.len() > SAMPLES_MAX
            || self
                .window
                .get(1)
                .is_some_and(|second| second.at + WINDOW <= at)
        {
            self.window.pop_front();
        }
    }

    /// The pace `at` this time, once there is enough to tell.
    #[must_use]
    pub(crate) fn pace(&self, at: Duration) -> Option<Pace> {
        let (first, oldest, newest) = (self.first?, *self.window.front()?, *self.window.back()?);
        let lately = at
            .checked_sub(oldest.at)
            .filter(|time| *time >= SETTLE)?
            .as_secs_f64();
        let overall = at.checked_sub(first.at)?.as_secs_f64();
        Some(Pace {
            rows_per_second: to_f64(newest.rows - oldest.rows) / lately,
            bytes_per_second: to_f64(newest.bytes.saturating_sub(oldest.bytes)) / lately,
            remaining: self.remaining(
                newest.done,
                to_f64(newest.done - oldest.done) / lately,
                to_f64(newest.done - first.done) / overall,
            ),
        })
    }

    /// What is left, at the pace of the last seconds and at the pace so far: tasks differ, so the
    /// truth lies between.
    fn remaining(&self, done: u64, lately: f64, overall: f64) -> Option<(Duration, Duration)> {
        if done.saturating_mul(20) < self.planned {
            return None;
        }
        let left = to_f64(self.planned.saturating_sub(done));
        let time =
            |tasks_per_second: f64| Duration::try_from_secs_f64(left / tasks_per_second).ok();
        // At a standstill the division ends in infinity, which is no time.
        match (time(lately), time(overall)) {
            (Some(one), Some(other)) => Some((one.min(other), one.max(other))),
            (None, _) | (_, None) => None,
        }
    }
}
