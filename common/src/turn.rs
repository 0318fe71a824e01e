//! Whose turn it is: which of several runs gets the next free slot. Never knows a slot, and never
//! reads a clock.
//!
//! A higher priority comes first. Among equals the one with the fewest tasks under way does, so that
//! they come to hold equally many; and among those the one that was served longest ago. A run that has
//! nothing under way counts one more with each minute that it waits, until it is ahead of every priority:
//! whatever comes after it, its turn comes.

use std::cmp::Ordering;

/// The priority of a run that says none.
pub const PRIORITY: u32 = 5;
/// The highest priority that can be said.
pub const PRIORITY_MAX: u32 = 9;
/// How long a run waits with nothing under way until it counts one more, in milliseconds.
pub const AGES_EVERY_MILLIS: i64 = 60_000;

/// Where a run stands among those that want a slot. The least of them is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Its priority, and what it has gained by waiting.
    pub level: u64,
    /// Its tasks that are under way.
    pub open: u64,
    /// When it was last served, in any unit that grows.
    pub served: (u64, i64),
}

impl Turn {
    /// The turn of a run of this priority, which has waited for so long since anything of it last
    /// moved.
    #[must_use]
    pub fn of(priority: u32, open: u64, waited_millis: i64, served: (u64, i64)) -> Self {
        let aged = match open {
            0 => waited_millis.max(0).checked_div(AGES_EVERY_MILLIS),
            _ => None,
        };
        let aged = u64::try_from(aged.unwrap_or(0)).unwrap_or(0);
        let priority = u64::from(priority.clamp(1, PRIORITY_MAX));
        // Ahead of any priority is far enough: those that have come there share among themselves.
        let ahead = u64::from(PRIORITY_MAX).saturating_add(1);
        Self {
            level: priority.saturating_add(aged).min(ahead),
            open,
            served,
        }
    }
}

impl Turn {
    /// Ahead of all others, whatever they have waited.
    #[must_use]
    pub const fn first(open: u64, served: (u64, i64)) -> Self {
        Self {
            level: u64::MAX,
            open,
            served,
        }
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        let levels = other.level.cmp(&self.level);
        let shares = self.open.cmp(&other.open);
        levels.then(shares).then(self.served.cmp(&other.served))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A run in a small world of slots: its priority, and how long its tasks take.
    #[derive(Debug, Clone)]
    struct Contender {
        priority: u32,
        takes: i64,
        arrives: i64,
        ends: Vec<i64>,
        moved: i64,
        served: i64,
        /// When it was given slots.
        given: Vec<i64>,
    }

    fn contender(priority: u32, takes: i64, arrives: i64) -> Contender {
        Contender {
            priority,
            takes,
            arrives,
            ends: Vec::new(),
            moved: arrives,
            served: 0,
            given: Vec::new(),
        }
    }

    /// Hands out `slots` for so many seconds, one second after the other.
    fn play(slots: usize, seconds: i64, runs: &mut [Contender]) {
        let mut token = 0;
        for now in 0..seconds {
            for run in runs.iter_mut() {
                let before = run.ends.len();
                run.ends.retain(|end| *end > now);
                if run.ends.len() < before {
                    run.moved = now;
                }
            }
            while runs.iter().map(|run| run.ends.len()).sum::<usize>() < slots {
                let next = runs
                    .iter_mut()
                    .filter(|run| run.arrives <= now)
                    .min_by_key(|run| {
                        let waited = (now - run.moved) * 1000;
                        let open = run.ends.len() as u64;
                        Turn::of(run.priority, open, waited, (0, run.served))
                    });
                let Some(next) = next else { break };
                token += 1;
                (next.served, next.moved) = (token, now);
                next.ends.push(now + next.takes);
                next.given.push(now);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn two_runs_share_slots_fairly_and_old_ones_do_not_starve(
            slots in 1_usize..6,
            takes in prop::collection::vec(1_i64..20, 2..5),
            priorities in prop::collection::vec(1_u32..=9, 5),
            arrivals_every in 5_i64..40,
        ) {
            // GIVEN runs of one priority, THEN none ever holds two more than another that wants some
            let mut equal: Vec<Contender> =
                takes.iter().map(|takes| contender(5, *takes, 0)).collect();
            play(slots, 600, &mut equal);
            let most = slots.div_ceil(equal.len());
            for run in &equal {
                let at_once = |at: i64| {
                    run.given.iter().filter(|given| **given <= at && at < **given + run.takes).count()
                };
                prop_assert!((0..600).all(|at| at_once(at) <= most), "{run:?}");
            }
            // GIVEN runs of any priorities, and a stream of new ones of the highest that never ends
            let mut runs: Vec<Contender> = takes
                .iter()
                .zip(&priorities)
                .map(|(takes, priority)| contender(*priority, *takes, 0))
                .collect();
            let old = runs.len();
            runs.extend((0..40).map(|no| contender(9, 5, no * arrivals_every)));
            play(slots, 6_000, &mut runs);
            // THEN each of the old ones is served again and again: it waits for those that wait like
            // itself, and for the minutes that a priority is worth
            let patience = 60 * 9 + 60 * runs.len() as i64 + 20;
            for run in runs.iter().take(old) {
                let mut last = 0;
                for given in run.given.iter().copied().chain([6_000]) {
                    prop_assert!(given - last <= patience, "waited {} of {patience}: {run:?}", given - last);
                    last = given;
                }
            }
        }

        #[test]
        fn a_higher_priority_comes_first_until_the_other_has_waited(
            low in 1_u32..9, more in 1_u32..9, waited in 0_i64..1_000_000,
        ) {
            let high = (low + more).min(9);
            let fresh = Turn::of(high, 0, 0, (0, 1));
            let old = Turn::of(low, 0, waited, (0, 2));
            let is_due = waited / AGES_EVERY_MILLIS > i64::from(high - low);
            if waited / AGES_EVERY_MILLIS != i64::from(high - low) {
                prop_assert_eq!(old < fresh, is_due);
            }
            // what has something under way has no reason to age
            prop_assert!(Turn::of(low, 1, waited, (0, 2)) > fresh);
        }

        #[test]
        fn no_numbers_end_a_process(
            priority in any::<u32>(), open in any::<u64>(), waited in any::<i64>(),
        ) {
            let turn = Turn::of(priority, open, waited, (0, 0));
            prop_assert!(turn.level >= 1);
        }
    }
}
