//! Which instant of a schedule begins a run now, and what becomes of the others.
//!
//! An instant is decided once: what has been decided never comes back, whatever clock a later
//! leader has. So the instants that begin runs only ever grow.

use super::rules::{CatchUp, Overlap, Rules, WAITING_MAX};
use super::timetable::Timetable;

/// How long after its instant a run is on time: as long as it takes until another coordinator leads.
const ON_TIME_MICROS: i64 = 60_000_000;

/// How far a schedule is decided. All times are in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// What comes of every instant up to here is decided.
    pub decided_micros: i64,
    /// Of those, the ones that are still to begin a run, ascending.
    pub waiting: Vec<i64>,
    /// The latest that was left out.
    pub last_left_out: Option<LeftOut>,
}

/// An instant that began no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// The instant.
    pub instant_micros: i64,
    /// Why.
    pub why: Why,
}

/// Why an instant began no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody led at its time.
    Missed,
    /// A run of the pipeline was under way, or waited for a person.
    Overlapped,
    /// A run began after it, and before this could: what is older than that is no longer begun.
    Overtaken,
    /// The schedule was paused.
    Paused,
    /// It has begun its run before: the store or the schedule is younger than that run.
    AlreadyRan,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Missed,
        Self::Overlapped,
        Self::Overtaken,
        Self::Paused,
        Self::AlreadyRan,
    ];

    /// The reason that a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == word)
    }

    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Overlapped => "overlapped",
            Self::Overtaken => "overtaken",
            Self::Paused => "paused",
            Self::AlreadyRan => "already_ran",
        }
    }
}

/// What is known of the pipeline's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipelineState {
    /// One is under way, or waits for a person.
    pub is_busy: bool,
    /// The reference time of the latest one.
    pub latest_micros: Option<i64>,
    /// The same, of the latest one of all steps: it has done what an older one would do.
    pub latest_whole_micros: Option<i64>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// How far the schedule is decided then.
    pub standing: Standing,
    /// The run to begin.
    pub begin: Option<Begin>,
}

/// A run to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The instant that it is for.
    pub instant_micros: i64,
    /// Its reference time: the instant. Only where a run of the pipeline has a later one, as the
    /// clock was put back behind it or it was of some steps alone, is it after that run instead, so
    /// that older is never a matter of the clock.
    pub reference_micros: i64,
}

/// What is to be done at `now`. `None` when nothing is.
#[must_use]
pub fn due(
    timetable: &Timetable,
    rules: Rules,
    standing: &Standing,
    now: i64,
    pipeline: PipelineState,
) -> Option<Due> {
    let mut next = standing.clone();
    let came = timetable.latest(standing.decided_micros, now, WAITING_MAX);
    if let Some(latest) = came.instants.last() {
        next.decided_micros = *latest;
        let catches_all = rules.catch_up == CatchUp::All;
        for instant in &came.instants {
            let is_latest = instant == latest;
            let is_on_time = is_latest && now.saturating_sub(*instant) <= ON_TIME_MICROS;
            let is_wanted = match rules.catch_up {
                CatchUp::All => true,
                CatchUp::Latest => is_latest,
                CatchUp::None => is_on_time,
            };
            let is_free = !pipeline.is_busy && next.waiting.is_empty();
            // Those that are caught up wait for each other, whatever is said of the others.
            let is_behind = catches_all && (!is_on_time || !next.waiting.is_empty());
            match rules.overlap {
                _ if !is_wanted => next.leave_out(*instant, Why::Missed),
                _ if is_free || is_behind => next.waiting.push(*instant),
                Overlap::Skip => next.leave_out(*instant, Why::Overlapped),
                Overlap::Queue => {
                    if !catches_all {
                        next.leave_out_waiting(usize::MAX, Why::Overlapped);
                    }
                    next.waiting.push(*instant);
                }
            }
        }
        let too_many = next.waiting.len().saturating_sub(WAITING_MAX);
        next.leave_out_waiting(too_many, Why::Missed);
    }
    // A run that began since has seen all that this one would; an older one after it is none.
    if let Some(latest) = pipeline.latest_whole_micros.filter(|latest| *latest <= now) {
        let overtaken = next.waiting.iter().take_while(|at| **at <= latest).count();
        next.leave_out_waiting(overtaken, Why::Overtaken);
    }
    let first = next.waiting.first().copied();
    let begin = first.filter(|_| !pipeline.is_busy).map(|instant| {
        next.waiting.remove(0);
        let after = pipeline
            .latest_micros
            .map(|latest| latest.saturating_add(1));
        Begin {
            instant_micros: instant,
            reference_micros: after.map_or(instant, |after| after.max(instant)),
        }
    });
    (begin.is_some() || next != *standing).then_some(Due {
        standing: next,
        begin,
    })
}

/// How far a schedule is decided once it goes on at `now` after a pause: what came meanwhile, and
/// what waited, is left out.
#[must_use]
pub fn resumed(timetable: &Timetable, standing: &Standing, now: i64) -> Standing {
    let mut next = standing.clone();
    next.leave_out_waiting(usize::MAX, Why::Paused);
    let came = timetable.latest(standing.decided_micros, now, 1);
    if let Some(latest) = came.instants.last() {
        next.leave_out(*latest, Why::Paused);
    }
    next.decided_micros = next.decided_micros.max(now);
    next
}

impl Standing {
    /// A schedule that begins at `now`: with the first instant after it.
    #[must_use]
    pub const fn from(now: i64) -> Self {
        Self {
            decided_micros: now,
            waiting: Vec::new(),
            last_left_out: None,
        }
    }

    /// Notes that an instant began no run.
    pub const fn leave_out(&mut self, instant_micros: i64, why: Why) {
        self.last_left_out = Some(LeftOut {
            instant_micros,
            why,
        });
    }

    /// Leaves out the first `count` of those that wait.
    fn leave_out_waiting(&mut self, count: usize, why: Why) {
        let count = count.min(self.waiting.len());
        for instant in self.waiting.drain(..count).collect::<Vec<_>>() {
            self.leave_out(instant, why);
        }
    }
}
