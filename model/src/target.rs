//! What attempts and fences do to the target, statement by statement where that matters.

use highwater_common::commit::{LedgerState, Resume, judge, resume};
use highwater_common::ledger::{ClaimStep, claim, fence, guard};
use highwater_common::stream::{StreamOwner, Takeover, may_claim, take_stream};
use highwater_common::token::FencingToken;

use crate::Invariant;
use crate::action::Action;
use crate::design::Design;
use crate::plan::slices_of;
use crate::world::{
    At, Attempt, Entry, Mark, Name, Owner, PREPARE, Protocol, RUNS, Row, SLICES, Told, World,
    digest, run_id,
};

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
                world.replica = Some(world.target.clone());
                Some(())
            }
            Action::FailOver => fail_over(world),
            _ => None,
        }
    }

    /// The two statements of a cancel's fence. Each waits for whoever holds what it changes.
    fn fence_run(&self, world: &mut World, run: usize) -> Option<()> {
        let is_wanted =
            world.store.runs[run].status == Some(highwater_common::status::RunStatus::Cancelling);
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
            world.target.marks[run] = Mark::Fenced { by: None };
        } else {
            self.fence_rows(
                world,
                run,
                self.design == Design::FencesKnownAttemptsOnly,
                false,
            )?;
        }
        world.seen.fenced[run] += 1;
        Some(())
    }

    /// Claims in flight hold the mark that they have read, unless the design forgot to.
    fn is_mark_held(&self, world: &World, run: usize) -> bool {
        self.design != Design::ClaimDoesNotHoldTheRun
            && world
                .attempts
                .iter()
                .any(|attempt| attempt.run == run && attempt.at == At::Claiming)
    }

    /// Every open row of a run is fenced; `None` while one of them is held.
    fn fence_rows(
        &self,
        world: &mut World,
        run: usize,
        known_only: bool,
        skips_locked: bool,
    ) -> Option<()> {
        for at in 0..world.target.rows.len() {
            let Entry { name, row, .. } = world.target.rows[at];
            let lease = world.store.runs[run].tasks[usize::from(name.task)].lease;
            let is_of_run = usize::from(name.run) == run && row.state == LedgerState::Open;
            if !is_of_run || known_only && lease != Some(row.fence) {
                continue;
            }
            if is_locked(world, name) {
                if skips_locked {
                    continue;
                }
                return None;
            }
            world.target.rows[at].row.state = fence(row.state);
        }
        Some(())
    }

    /// Who would have the stream, as the target decides.
    fn takeover(&self, world: &World, attempt: &Attempt) -> Takeover {
        let read = |owner: Owner| StreamOwner {
            run: run_id(owner.run),
            token: owner.token,
            plan: Some(self.mark(owner.plan)),
        };
        let Attempt { plan, fence, .. } = *attempt;
        let mine = read(Owner {
            run: attempt.name().run,
            token: fence.token,
            plan,
        });
        let mut owner = world.target.owner.map(read);
        if let Some(owner) = owner.as_mut().filter(|owner| owner.run == mine.run) {
            match self.design {
                Design::OwnFormerPlanNotGivenUp => owner.plan = mine.plan,
                Design::PlansDoNotCompete => owner.token = FencingToken::from_raw(0),
                _ => {}
            }
        }
        take_stream(
            &mine,
            world.target.marks[attempt.run].read(),
            owner.as_ref(),
        )
    }

    /// Prepare takes the stream in one transaction: the run that holds it, and every other one that
    /// has rows of it, can commit no more, nor can another plan of its own run. Only then is it
    /// read what is covered.
    fn prepare(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if attempt.task != PREPARE || attempt.at != At::Assigned {
            return None;
        }
        let (former, leaves_plan) = match self.takeover(world, &attempt) {
            Takeover::Take {
                former,
                leaves_plan,
            } => (former, leaves_plan),
            Takeover::Superseded => {
                world.attempts[at].at = At::Told(Told::Superseded);
                return Some(());
            }
            Takeover::Fenced { newer } => {
                world.attempts[at].at = At::Told(Told::Fenced(newer));
                return Some(());
            }
        };
        let mine = attempt.name().run;
        for other in (0..RUNS).filter(|other| *other != attempt.run) {
            let is_other = |run: u8| usize::from(run) == other;
            let has_rows = world
                .target
                .rows
                .iter()
                .any(|entry| is_other(entry.name.run));
            let had_it = world
                .target
                .owner
                .is_some_and(|owner| is_other(owner.run) && former == Some(run_id(owner.run)));
            let is_found = match self.design {
                Design::NoStreamFence => false,
                Design::StreamFenceByRowsOnly => has_rows,
                _ => has_rows || had_it,
            };
            if !is_found {
                continue;
            }
            if self.is_mark_held(world, other) {
                return None;
            }
            if !matches!(world.target.marks[other], Mark::Fenced { .. }) {
                world.target.marks[other] = Mark::Fenced { by: Some(mine) };
            }
            self.fence_rows(
                world,
                other,
                false,
                self.design == Design::StreamFenceSkipsLockedRows,
            )?;
        }
        if leaves_plan {
            self.give_up_own(world, attempt.run)?;
        }
        let token = world.target.owner.map_or(attempt.fence.token, |owner| {
            owner.token.max(attempt.fence.token)
        });
        world.target.owner = Some(Owner {
            run: mine,
            token,
            plan: attempt.plan,
        });
        world.target.marks[attempt.run] = Mark::Running;
        world.attempts[at].at = At::Told(Told::Prepared(self.coverage(world, attempt.run)));
        Some(())
    }

    /// The run leaves a plan: what is open of it goes, after its claims and guards in flight.
    fn give_up_own(&self, world: &mut World, run: usize) -> Option<()> {
        let waits = self.design != Design::OwnClaimsNotWaitedFor;
        let is_open = |entry: &Entry| {
            usize::from(entry.name.run) == run && entry.row.state == LedgerState::Open
        };
        let is_held = |entry: &Entry| is_open(entry) && is_locked(world, entry.name);
        if waits && self.is_mark_held(world, run) || world.target.rows.iter().any(is_held) {
            return None;
        }
        world.target.rows.retain(|entry| !is_open(entry));
        Some(())
    }

    /// The claim's first statement. Where claims are explored as a whole, [`Protocol::claim`] does
    /// it too: the halves commute, since the mark is held from the first to the last.
    fn claim_run(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if !self.bounds.statements || attempt.task == PREPARE || attempt.at != At::Assigned {
            return None;
        }
        self.read_mark(world, at)
    }

    fn read_mark(&self, world: &mut World, at: usize) -> Option<()> {
        let attempt = world.attempts[at];
        if attempt.incarnation != world.target.incarnation
            && self.design != Design::ClaimIgnoresTheFingerprint
        {
            world.attempts[at].at = At::Told(Told::Failed);
            return Some(());
        }
        let mark = match self.design {
            Design::ClaimIgnoresTheRun => Mark::Running,
            _ => world.target.marks[attempt.run],
        };
        match claim(mark.of_claim(), None, &attempt.fence, &digest()) {
            ClaimStep::NoteRun => world.target.marks[attempt.run] = Mark::Running,
            ClaimStep::Raise if !self.may_claim(world, &attempt) => {
                world.attempts[at].at = At::Told(Told::PlanChanged);
            }
            ClaimStep::Raise => world.attempts[at].at = At::Claiming,
            ClaimStep::Stands(_) => world.attempts[at].at = At::Told(Told::Superseded),
        }
        Some(())
    }

    fn may_claim(&self, world: &World, attempt: &Attempt) -> bool {
        let owner = world
            .target
            .owner
            .filter(|owner| usize::from(owner.run) == attempt.run);
        let taken = owner.map(|owner| self.mark(owner.plan));
        self.design == Design::ClaimIgnoresThePlan
            || may_claim(taken.as_ref(), &self.mark(attempt.plan))
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
        let attempt @ Attempt { fence: mine, .. } = world.attempts[at];
        if attempt.at != At::Claiming || is_locked(world, attempt.name()) {
            return None;
        }
        let row = world.target.row(attempt.name());
        let found = row.map(Row::read);
        // The mark was read before, and may be another by now only where the design does not hold
        // it.
        let step = match (self.design, row) {
            (Design::UnknownCommitIsFailed, Some(row)) if row.fence.token < mine.token => {
                ClaimStep::Raise
            }
            (Design::LeaseIsALock, Some(_)) => ClaimStep::Raise,
            _ => claim(Mark::Running.of_claim(), found.as_ref(), &mine, &digest()),
        };
        world.attempts[at].at = match step {
            ClaimStep::NoteRun => return None,
            ClaimStep::Raise => {
                let grows = row.is_none_or(|row| row.fence.token < mine.token);
                if !grows && self.design != Design::LeaseIsALock {
                    world.seen.broken.add(Invariant::I3);
                }
                world.target.put(
                    attempt.name(),
                    Row {
                        state: LedgerState::Open,
                        fence: mine,
                    },
                    None,
                );
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
            Design::LeaseIsALock => {
                world.store.runs[attempt.run].tasks[attempt.task].lease == Some(attempt.fence)
            }
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
        if looks_first || attempt.at != At::Held || is_locked(world, attempt.name()) {
            return None;
        }
        let matched = match self.design {
            Design::GuardWithoutToken => {
                let row = world.target.row(attempt.name());
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
        let row = world.target.row(attempt.name());
        // A guard writes the state alone: the fence in the row stays what the latest claim made it.
        let fence = row.map_or(attempt.fence, |row| row.fence);
        world.target.put(
            attempt.name(),
            Row {
                state: LedgerState::Committed,
                fence,
            },
            Some(attempt.fence),
        );
        for slice in (0..SLICES).filter(|slice| slices_of(attempt.task) & 1 << slice != 0) {
            world.target.copies[slice] += 1;
        }
        let holder = world
            .target
            .owner
            .map(|owner| (usize::from(owner.run), owner.plan));
        if world.seen.cancelled[attempt.run] || holder != Some((attempt.run, attempt.plan)) {
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
    let row = world.target.row(attempt.name()).map(Row::read);
    guard(row.as_ref(), &attempt.fence)
}

fn is_locked(world: &World, name: Name) -> bool {
    world
        .attempts
        .iter()
        .any(|attempt| attempt.holds_row && attempt.name() == name)
}

/// An attempt that does not know how it ended asks the ledger.
fn ask(world: &mut World, at: usize) -> Option<()> {
    let attempt = world.attempts[at];
    if attempt.at != At::Asking {
        return None;
    }
    let row = world.target.row(attempt.name());
    world.attempts[at].at = match row {
        // Not committed, or not yet: the next claim finds out.
        None => At::Told(Told::Failed),
        Some(row) => after(
            resume(&row.read(), &attempt.fence, &digest()),
            At::Told(Told::Failed),
        ),
    };
    Some(())
}

fn after(meaning: Resume, begun: At) -> At {
    match meaning {
        Resume::Begin => begun,
        Resume::ReportOnly(_) => At::Told(Told::Committed),
        Resume::Superseded => At::Told(Told::Superseded),
        Resume::Fenced { newer } => At::Told(Told::Fenced(newer)),
        Resume::SpecChanged | Resume::Probe => At::Told(Told::Failed),
    }
}

/// The replica begins a life of its own: what it lacks is lost, and every session of the former
/// server with it.
fn fail_over(world: &mut World) -> Option<()> {
    let replica = world.replica.take()?;
    world.target = crate::world::Target {
        incarnation: world.target.incarnation + 1,
        ..replica
    };
    world.seen.failovers += 1;
    world.seen.fenced = [0; RUNS];
    for attempt in &mut world.attempts {
        attempt.holds_row = false;
        if matches!(
            attempt.at,
            At::Claiming | At::Held | At::Checked | At::Guarded
        ) {
            attempt.at = At::Asking;
        }
    }
    Some(())
}
