//! A pipeline that runs by itself, as the view holds it.

use std::sync::Arc;

use highwater_common::record::ScheduleRecord;
use highwater_common::schedule::Timetable;
use highwater_common::spec::{Schedule, Spec};

/// A pipeline that runs by itself.
#[derive(Debug, Clone)]
pub(crate) struct Scheduled {
    /// What the store holds of it.
    pub record: ScheduleRecord,
    /// The record's bytes in the store.
    pub stored: Vec<u8>,
    /// What its runs execute, and when; or in words why that cannot be read.
    times: Result<Times, String>,
    /// The first instant that is not decided.
    next: Option<i64>,
}

#[derive(Debug, Clone)]
struct Times {
    spec: Arc<Spec>,
    schedule: Schedule,
    timetable: Timetable,
}

impl Scheduled {
    /// One of a spec, if that can be read.
    #[must_use]
    pub(crate) fn new(
        record: ScheduleRecord,
        stored: Vec<u8>,
        spec: Result<Arc<Spec>, String>,
    ) -> Self {
        let times = spec.and_then(Times::of);
        let mut scheduled = Self {
            record,
            stored,
            times,
            next: None,
        };
        scheduled.find_next();
        scheduled
    }

    /// The same, after the store has taken another record.
    pub(crate) fn put(&mut self, record: ScheduleRecord, stored: Vec<u8>) {
        (self.record, self.stored) = (record, stored);
        self.find_next();
    }

    fn find_next(&mut self) {
        let decided = self.record.standing.decided_micros;
        let times = self.times.as_ref().ok();
        self.next = times.and_then(|times| times.timetable.next_after(decided));
    }

    /// What its runs execute.
    ///
    /// # Errors
    /// In words, why that cannot be read.
    pub(crate) fn spec(&self) -> Result<&Arc<Spec>, &str> {
        self.times
            .as_ref()
            .map(|times| &times.spec)
            .map_err(String::as_str)
    }

    /// Its instants.
    #[must_use]
    pub(crate) fn timetable(&self) -> Option<&Timetable> {
        self.times.as_ref().ok().map(|times| &times.timetable)
    }

    /// When it is written in its file.
    #[must_use]
    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        self.times.as_ref().ok().map(|times| &times.schedule)
    }

    /// When something is to be decided next, by itself.
    #[must_use]
    pub(crate) fn next_moment(&self) -> Option<i64> {
        self.next.filter(|_| self.record.paused.is_none())
    }

    /// Whether something is to be decided, or may be begun.
    pub(super) fn wants_a_look(&self, now: i64) -> bool {
        let has_come = self.next_moment().is_some_and(|next| next <= now);
        let waits = !self.record.standing.waiting.is_empty();
        self.record.paused.is_none() && (has_come || waits)
    }
}

impl Times {
    fn of(spec: Arc<Spec>) -> Result<Self, String> {
        let schedule = spec.schedule.clone();
        let schedule = schedule.ok_or_else(|| "the stored spec has no schedule".to_owned())?;
        let timetable = Timetable::new(schedule.cron.clone(), &schedule.tz)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            spec,
            schedule,
            timetable,
        })
    }
}
