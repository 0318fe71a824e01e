//! What attempts and fences do to the target, statement by statement where that matters.

use highwater_common::commit::{LedgerState, Resume, judge, resume};
use highwater_common::ledger::{ClaimStep, RunMark, claim, fence, guard};

use crate::Invariant;
use crate::action::Action;
use crate::design::Design;
use crate::world::{At, Attempt, PREPARE, Protocol, RUNS, Row, SLICES, Told, World, digest};

impl Protocol {
    pub(crate) fn act_on_target(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::FenceRun(run) => self.fence_run(world, run),
            Action::Prepare(at) => self.prepare(world, at),
            Action::ClaimRun(at) => self.claim_run(world, at),
            Action::Claim(at) => self.claim(world, at, true),
            Action::ClaimUnheard(at) => self.claim(world, at, false),
            Action::Check(at) => self.check(world, at),
            Action::Guard(at) => self.guard(world, at),
            Action::Land(at) => self.land(world, at),
            Action::LoseAnswer(at) => {
                let attempt = &mut world.attempts[at];
                if attempt.at != At::Guarded {
                    return None;
                }
                attempt.at = At::Asking;
                Some(())
            }
            Action::Ask(at) => ask(world, at),
            Action::EndSession(at) => {
                let attempt = &mut world.attempts[at];
                if !attempt.holds_row {
                    return None;
                }
                attempt.holds_row = false;
                if attempt.at == At::Guarded {
                    attempt.at = At::Asking;
                }
                Some(())
            }
            Action::Fail(at) => {
                let attempt = &mut world.attempts[at];
                if !matches!(attempt.at, At::Assigned | At::Held) || attempt.holds_row {
                    return None;
                }
                attempt.at = At::Told(Told::Failed);
                Some(())
            }
            Action::TellEarly(at) => {
                let attempt = &mut world.attempts[at];
                if self.design != Design::CompletesBeforeCommit || attempt.at != At::Guarded {
                    return None;
                }
                attempt.at = At::Told(Told::Committed);
                Some(())
            }
            Action::Lag => {
                if world.replica.is_some() || world.seen.failovers >= self.bounds.failovers {
                    return None;
                }
                world.replica = Some(world.target);
                Some(())
            }
            Action::FailOver => fail_over(world),
            _ => None,
        }
    }

    /// The two statements of a cancel's fence. Each waits for whoever holds what it changes.
    fn fence_run(&self, world: &mut World, run: usize) -> Option<()> {
        let is_wanted = world.store.runs[run].status == Some(highwater_common::status::RunStatus::Cancelling);
        if !is_wanted || self.design == Design::CancelsInTheStoreOnly {
            return None;
        }
        let marks_now = match (world.seen.fenced[run], self.design) {
            (0, Design::FencesRowsBeforeTheRun) => false,
            (1, Design::FencesRowsBeforeTheRun) | (0, _) => true,
            (1, _) => false,
            _ => return None,
        };
        if marks_now {
            if self.is_mark_held(world, run) {
                return None;
            }
            world.target.marks[run] = Some(RunMark::Fenced);
        } else {
            self.fence_rows(world, run, self.design == Design::FencesKnownAttemptsOnly, false)?;
        }
        world.seen.fenced[run] += 1;
        Some(())
    }

    /// Claims in flight hold the mark that they have read, unless the design forgot to.
    fn is_mark_held(&self, world: &World, run: usize) -> bool {
        self.design != Design::ClaimDoesNotHoldTheRun
            && world.attempts.iter().any(|attempt| attempt.run == run && attempt.at == At::Claiming)
    }

    /// Every open row of a run is fenced; `None` while one of them is held.
    fn fence_rows(&self, world: &mut World, run: usize, known_only: bool, skips_locked: bool) -> Option<()> {
        for slice in 0..SLICES {
            let Some(row) = world.target.rows[run][slice] else { continue };
            let lease = world.store.runs[run].tasks[slice].lease;
            if row.state != LedgerState::Open || known_only && lease != Some(row.fence) {
                continue;
            }
            if is_locked(world, run, slice) {
                if skips_locked {
                    continue;
                }
                return None;
            }
            world.target.rows[run][slice] = Some(Row { state: fence(row.state), ..row });
        }
        Some(())
    }

    /// Prepare fences the stream in one transaction: the run that holds it, and every other one that has rows of it, can
    /// commit no more. Only then is it read what is covered.
    fn prepare(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if attempt.task != PREPARE || attempt.at != At::Assigned {
            return None;
        }
        if world.target.marks[attempt.run] == Some(RunMark::Fenced) {
            world.attempts[at].at = At::Told(Told::Superseded);
            return Some(());
        }
        for other in (0..RUNS).filter(|other| *other != attempt.run) {
            let has_rows = world.target.rows[other].iter().any(Option::is_some);
            let holds = world.target.holder.map(usize::from) == Some(other);
            let is_found = match self.design {
                Design::NoStreamFence => false,
                Design::StreamFenceByRowsOnly => has_rows,
                _ => has_rows || holds,
            };
            if !is_found {
                continue;
            }
            if self.is_mark_held(world, other) {
                return None;
            }
            world.target.marks[other] = Some(RunMark::Fenced);
            self.fence_rows(world, other, false, self.design == Design::StreamFenceSkipsLockedRows)?;
        }
        world.target.holder = u8::try_from(attempt.run).ok();
        world.target.marks[attempt.run] = Some(RunMark::Running);
        world.attempts[at].at = At::Told(Told::Prepared(Self::coverage(world)));
        Some(())
    }

    /// The claim's first statement. Where claims are explored as a whole, [`Protocol::claim`] does it too: the halves commute,
    /// since the mark is held from the first to the last.
    fn claim_run(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if !self.bounds.statements || attempt.task == PREPARE || attempt.at != At::Assigned {
            return None;
        }
        self.read_mark(world, at)
    }

    fn read_mark(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if attempt.incarnation != world.target.incarnation && self.design != Design::ClaimIgnoresTheFingerprint {
            world.attempts[at].at = At::Told(Told::Failed);
            return Some(());
        }
        let mark = self.seen_mark(world, attempt.run);
        match claim(mark, None, &attempt.fence, &digest()) {
            ClaimStep::NoteRun => world.target.marks[attempt.run] = Some(RunMark::Running),
            ClaimStep::Raise => world.attempts[at].at = At::Claiming,
            ClaimStep::Stands(_) => world.attempts[at].at = At::Told(Told::Superseded),
        }
        Some(())
    }

    fn seen_mark(&self, world: &World, run: usize) -> Option<RunMark> {
        match self.design {
            Design::ClaimIgnoresTheRun => Some(RunMark::Running),
            _ => world.target.marks[run],
        }
    }

    fn claim(&self, world: &mut World, at: usize, is_heard: bool) -> Option<()> {
        if world.attempts[at].task == PREPARE || !is_heard && !self.bounds.statements {
            return None;
        }
        if !self.bounds.statements && world.attempts[at].at == At::Assigned {
            self.read_mark(world, at)?;
            if world.attempts[at].at == At::Assigned {
                self.read_mark(world, at)?; // the run is noted now
            }
            if world.attempts[at].at != At::Claiming {
                return Some(());
            }
        }
        let attempt @ Attempt { run, task, fence: mine, .. } = world.attempts[at];
        if attempt.at != At::Claiming || is_locked(world, run, task) {
            return None;
        }
        let row = world.target.rows[run][task];
        let found = row.map(Row::read);
        // The mark was read before, and may be another by now only where the design does not hold it.
        let step = match (self.design, row) {
            (Design::UnknownCommitIsFailed, Some(row)) if row.fence.token < mine.token => ClaimStep::Raise,
            (Design::LeaseIsALock, Some(_)) => ClaimStep::Raise,
            _ => claim(Some(RunMark::Running), found.as_ref(), &mine, &digest()),
        };
        world.attempts[at].at = match step {
            ClaimStep::NoteRun => return None,
            ClaimStep::Raise => {
                let grows = row.is_none_or(|row| row.fence.token < mine.token);
                if !grows && self.design != Design::LeaseIsALock {
                    world.seen.broken.add(Invariant::I3);
                }
                world.target.rows[run][task] = Some(Row { state: LedgerState::Open, fence: mine });
                if is_heard { At::Held } else { At::Assigned }
            }
            ClaimStep::Stands(meaning) if is_heard => after(meaning, At::Held),
            ClaimStep::Stands(_) => return None,
        };
        Some(())
    }

    /// Wrong designs look first and commit on what they saw.
    fn check(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if attempt.at != At::Held {
            return None;
        }
        let passes = match self.design {
            Design::GuardFirst => guards(world, &attempt) == 1,
            Design::LeaseIsALock => world.store.runs[attempt.run].tasks[attempt.task].lease == Some(attempt.fence),
            _ => return None,
        };
        if !passes {
            return None;
        }
        world.attempts[at].at = At::Checked;
        Some(())
    }

    fn guard(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        let looks_first = matches!(self.design, Design::GuardFirst | Design::LeaseIsALock);
        if looks_first || attempt.at != At::Held || is_locked(world, attempt.run, attempt.task) {
            return None;
        }
        let matched = match self.design {
            Design::GuardWithoutToken => {
                let row = world.target.rows[attempt.run][attempt.task];
                u64::from(row.is_some_and(|row| row.state == LedgerState::Open))
            }
            _ => guards(world, &attempt),
        };
        let attempt = &mut world.attempts[at];
        match judge(matched, None) {
            Ok(_permit) => (attempt.at, attempt.holds_row) = (At::Guarded, true),
            Err(_) => attempt.at = At::Asking,
        }
        Some(())
    }

    /// The rows and the ledger row become durable, whoever waits for it.
    fn land(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if !attempt.holds_row && attempt.at != At::Checked {
            return None;
        }
        let row = &mut world.target.rows[attempt.run][attempt.task];
        // A guard writes the state alone: the fence in the row stays what the latest claim made it.
        let fence = row.map_or(attempt.fence, |row| row.fence);
        *row = Some(Row { state: LedgerState::Committed, fence });
        world.target.writers[attempt.run][attempt.task] = Some(attempt.fence);
        world.target.copies[attempt.task] += 1;
        if world.seen.cancelled[attempt.run] {
            world.seen.broken.add(Invariant::I2);
        }
        let attempt = &mut world.attempts[at];
        attempt.holds_row = false;
        if matches!(attempt.at, At::Guarded | At::Checked) {
            attempt.at = At::Told(Told::Committed);
        }
        Some(())
    }
}

fn guards(world: &World, attempt: &Attempt) -> u64 {
    let row = world.target.rows[attempt.run][attempt.task].map(Row::read);
    guard(row.as_ref(), &attempt.fence)
}

fn is_locked(world: &World, run: usize, slice: usize) -> bool {
    world.attempts.iter().any(|attempt| attempt.holds_row && (attempt.run, attempt.task) == (run, slice))
}

/// An attempt that does not know how it ended asks the ledger.
fn ask(world: &mut World, at: usize) -> Option<()> {
    let attempt = world.attempts[at];
    if attempt.at != At::Asking {
        return None;
    }
    let row = world.target.rows[attempt.run][attempt.task];
    world.attempts[at].at = match row {
        // Not committed, or not yet: the next claim finds out.
        None => At::Told(Told::Failed),
        Some(row) => after(resume(&row.read(), &attempt.fence, &digest()), At::Told(Told::Failed)),
    };
    Some(())
}

fn after(meaning: Resume, begun: At) -> At {
    match meaning {
        Resume::Begin => begun,
        Resume::ReportOnly(_) => At::Told(Told::Committed),
        Resume::Superseded => At::Told(Told::Superseded),
        Resume::Fenced { newer } => At::Told(Told::Outrun(newer)),
        Resume::SpecChanged | Resume::Probe => At::Told(Told::Failed),
    }
}

/// The replica begins a life of its own: what it lacks is lost, and every session of the former server with it.
fn fail_over(world: &mut World) -> Option<()> {
    let replica = world.replica.take()?;
    world.target = crate::world::Target { incarnation: world.target.incarnation + 1, ..replica };
    world.seen.failovers += 1;
    world.seen.fenced = [0; RUNS];
    for attempt in &mut world.attempts {
        attempt.holds_row = false;
        if matches!(attempt.at, At::Claiming | At::Held | At::Checked | At::Guarded) {
            attempt.at = At::Asking;
        }
    }
    Some(())
}
