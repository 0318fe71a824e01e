//! What leaders do to the store, and whether a healthy one comes to an end.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use highwater_common::assignment::ErrorClass;
use highwater_common::retry::{RetryDecision, RetryHistory, decide};
use highwater_common::spec::RetryPolicy;
use highwater_common::status::{RunEvent, RunStatus};
use highwater_common::task::{TaskEvent, TaskState};
use highwater_common::token::{Fence, FencingToken, Nonce};
use stateright::Model;

use crate::Invariant;
use crate::action::Action;
use crate::design::{Bounds, Design};
use crate::world::{At, Attempt, Leader, Letter, PARTITIONS, PREPARE, Protocol, Told, World};

/// Steps that a healthy cluster needs at the most, for everything within the bounds.
const STEPS_MAX: usize = 120;

impl Protocol {
    /// The world after an action, or `None` where it cannot happen.
    pub(crate) fn act(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::OfficeEnds => {
                if world.store.election == 0 || world.seen.terms >= self.bounds.terms {
                    return None;
                }
                next.store.election = 0;
            }
            Action::Campaign(leader) => self.campaign(&mut next, leader)?,
            Action::Begin(leader, run) => {
                self.leads(&mut next, leader)?;
                begin(&mut next, run)?;
            }
            Action::Plan(leader, run, cut) => {
                self.leads(&mut next, leader)?;
                self.plan(&mut next, run, cut)?;
            }
            Action::Assign(leader, run, task) => self.assign(&mut next, leader, run, task)?,
            Action::Send(leader, run, task) => self.send(&mut next, leader, run, task)?,
            Action::Arrive(letter) => self.arrive(&mut next, letter)?,
            Action::GiveUpWaiting(leader) => {
                let leader = next.leaders[leader].as_mut()?;
                if !leader.is_waiting {
                    return None;
                }
                leader.is_waiting = false;
            }
            Action::Expire(leader, run, task) => {
                self.leads(&mut next, leader)?;
                next.store.runs[run].tasks[task].lease?;
                self.failed(&mut next, run, task, ErrorClass::Crash)?;
            }
            Action::Hear(leader, attempt) => self.hear(&mut next, leader, attempt)?,
            Action::HearOnly(leader, attempt) => {
                self.leads(&mut next, leader)?;
                let attempt = world.attempts[attempt];
                if attempt.at != At::Told(Told::Committed) {
                    return None;
                }
                next.seen.acknowledged[attempt.run][attempt.task] = true;
            }
            Action::End(leader, run) => {
                self.leads(&mut next, leader)?;
                self.end(&mut next, run)?;
            }
            Action::Cancel(leader, run) => {
                self.leads(&mut next, leader)?;
                if world.seen.cancels >= self.bounds.cancels {
                    return None;
                }
                next.seen.cancels += 1;
                move_run(&mut next, run, RunEvent::CancelWanted)?;
            }
            Action::Acknowledge(leader, run) => {
                self.leads(&mut next, leader)?;
                let is_fenced =
                    world.seen.fenced[run] == 2 || self.design == Design::CancelsInTheStoreOnly;
                if !is_fenced {
                    return None;
                }
                move_run(&mut next, run, RunEvent::Fenced)?;
                next.store.runs[run]
                    .tasks
                    .iter_mut()
                    .for_each(|task| task.lease = None);
                next.seen.cancelled[run] = true;
            }
            Action::Retry(leader, run) => {
                self.leads(&mut next, leader)?;
                self.retry(&mut next, run)?;
            }
            Action::BackUp => {
                if world.backup.is_some() || world.seen.restores >= self.bounds.restores {
                    return None;
                }
                next.backup = Some(world.store);
            }
            Action::Restore => {
                next.store = next.backup.take()?;
                next.seen.restores += 1;
            }
            Action::FenceRun(_)
            | Action::Prepare(_)
            | Action::ClaimRun(_)
            | Action::Claim(_)
            | Action::ClaimUnheard(_)
            | Action::Check(_)
            | Action::Guard(_)
            | Action::Land(_)
            | Action::LoseAnswer(_)
            | Action::Ask(_)
            | Action::EndSession(_)
            | Action::Fail(_)
            | Action::TellEarly(_)
            | Action::Lag
            | Action::FailOver => self.act_on_target(&mut next, action)?,
        }
        Some(next)
    }

    fn counts_revisions(&self) -> bool {
        matches!(
            self.design,
            Design::RevisionIsAToken | Design::RevisionIsATerm
        )
    }

    fn campaign(&self, world: &mut World, at: usize) -> Option<()> {
        let free = world.leaders.iter().position(Option::is_none).unwrap_or(0);
        if world.store.election != 0 || world.seen.terms >= self.bounds.terms || at != free {
            return None;
        }
        world.seen.terms += 1;
        world.store.election = world.seen.terms;
        world.store.hi += 1;
        if self.counts_revisions() {
            world.store.revision += 1;
            world.store.created = world.store.revision;
        }
        let (term, created, hi) = (world.store.election, world.store.created, world.store.hi);
        world.leaders[at] = Some(Leader {
            term,
            created,
            hi,
            lo: 0,
            is_waiting: false,
            has_written: false,
        });
        Some(())
    }

    /// A transaction of a leader passes its compare of the leadership. What is wrong with a design
    /// is seen here.
    fn leads(&self, world: &mut World, at: usize) -> Option<Leader> {
        let leader = world.leaders[at]?;
        let passes = match self.design {
            Design::RevisionIsATerm => {
                world.store.election != 0 && world.store.created == leader.created
            }
            Design::LeaderNotCompared if leader.has_written => true,
            _ => world.store.election == leader.term,
        };
        if !passes || leader.is_waiting {
            return None;
        }
        if world.store.election != leader.term {
            world.seen.broken.add(Invariant::I9);
        }
        if self.design == Design::LeaderNotCompared {
            world.leaders[at] = Some(Leader {
                has_written: true,
                ..leader
            });
        }
        if self.counts_revisions() {
            world.store.revision += 1;
        }
        Some(leader)
    }

    fn may_assign(&self, world: &World, run: usize, task: usize) -> bool {
        let record = &world.store.runs[run];
        let is_prepared = task == PREPARE || record.tasks[PREPARE].state == TaskState::Done;
        let has_work = record.tasks[..PARTITIONS]
            .iter()
            .any(|task| !task.state.has_ended());
        let is_within = match task {
            PREPARE => world.seen.prepares < self.bounds.prepares,
            _ => world.seen.attempts < self.bounds.attempts,
        };
        record.status == Some(RunStatus::Running) && is_prepared && has_work && is_within
    }

    fn next_fence(&self, world: &mut World, at: usize, task: usize) -> Option<Fence> {
        let leader = world.leaders[at].as_mut()?;
        leader.lo += 1;
        let issued = world.seen.attempts + world.seen.prepares + 1;
        *(if task == PREPARE {
            &mut world.seen.prepares
        } else {
            &mut world.seen.attempts
        }) += 1;
        let (hi, lo, nonce) = match self.design {
            Design::RevisionIsAToken => (0, world.store.revision, 0),
            Design::TokenWithoutNonce => (leader.hi, leader.lo, 0),
            _ => (leader.hi, leader.lo, issued),
        };
        let token = FencingToken::new(u64::from(hi), u32::from(lo))?;
        Some(Fence {
            token,
            nonce: Nonce::new(u128::from(nonce)),
        })
    }

    fn assign(&self, world: &mut World, at: usize, run: usize, task: usize) -> Option<()> {
        if !self.may_assign(world, run, task) || world.store.runs[run].tasks[task].lease.is_some() {
            return None;
        }
        self.leads(world, at)?;
        let fence = self.next_fence(world, at, task)?;
        let record = &mut world.store.runs[run];
        record.tasks[task].state = record.tasks[task].state.apply(TaskEvent::Assigned).ok()?;
        record.tasks[task].lease = Some(fence);
        let (plan, incarnation) = (record.plan, record.incarnation);
        world.attempts.push(Attempt {
            run,
            plan,
            task,
            fence,
            incarnation,
            at: At::Assigned,
            holds_row: false,
        });
        Some(())
    }

    fn send(&self, world: &mut World, at: usize, run: usize, task: usize) -> Option<()> {
        let record = world.store.runs[run].tasks[task];
        // What the leader believes: it reads its own view, which a transaction under way may have
        // outrun.
        let is_free = record.lease.is_none() && record.state == TaskState::Pending;
        let is_unsure = self.design == Design::AssignsOverALease
            && world.letters.iter().any(|letter| !letter.is_spent);
        if !self.may_assign(world, run, task) || !(is_free || is_unsure) {
            return None;
        }
        let leader = self.leads(world, at)?;
        let fence = self.next_fence(world, at, task)?;
        world.leaders[at].as_mut()?.is_waiting = true;
        world.letters.push(Letter {
            term: leader.term,
            run,
            task,
            fence,
            is_spent: false,
        });
        Some(())
    }

    /// An applied assignment is handed out by the leader that waits for it, and by nobody else.
    fn arrive(&self, world: &mut World, at: usize) -> Option<()> {
        let letter = world.letters[at];
        let Letter {
            term,
            run,
            task,
            fence,
            is_spent,
        } = letter;
        if is_spent {
            world.letters.remove(at);
        } else {
            world.letters[at].is_spent = true;
        }
        let record = &mut world.store.runs[run];
        let leads = world.store.election == term && record.status == Some(RunStatus::Running);
        let is_free =
            record.tasks[task].lease.is_none() && record.tasks[task].state == TaskState::Pending;
        let overwrites = record.tasks[task].lease.is_some_and(|lease| lease != fence);
        let applies = leads && (is_free || self.design == Design::AssignsOverALease);
        if overwrites && applies {
            world.seen.broken.add(Invariant::I9);
        }
        let waits = world
            .leaders
            .iter_mut()
            .flatten()
            .find(|leader| leader.term == term && leader.is_waiting);
        if applies {
            record.tasks[task].state = TaskState::Open;
            record.tasks[task].lease = Some(fence);
            let (plan, incarnation) = (record.plan, record.incarnation);
            if waits.is_some() && !is_spent {
                let at = At::Assigned;
                world.attempts.push(Attempt {
                    run,
                    plan,
                    task,
                    fence,
                    incarnation,
                    at,
                    holds_row: false,
                });
            }
        }
        if let Some(leader) = waits.filter(|_| !is_spent) {
            leader.is_waiting = false;
        }
        Some(())
    }

    /// T3 and T4: the retry decision, and the states behind it.
    fn failed(&self, world: &mut World, run: usize, task: usize, class: ErrorClass) -> Option<()> {
        let record = &mut world.store.runs[run].tasks[task];
        record.lease = None;
        record.failed = record.failed.saturating_add(1).min(self.bounds.tries);
        let attempts = u32::from(record.failed);
        let history = RetryHistory {
            attempts,
            crashes: attempts,
            crashed_workers: 1,
        };
        let max_attempts = if self.bounds.tries == u8::MAX {
            u32::MAX
        } else {
            u32::from(self.bounds.tries)
        };
        let policy = RetryPolicy {
            max_attempts,
            initial: Duration::ZERO,
            max: Duration::ZERO,
            ..RetryPolicy::default()
        };
        record.state = match decide(class, &history, &policy, 0.0) {
            // Time has no measure here: a wait may be over at once.
            RetryDecision::Retry { .. } => record
                .state
                .apply(TaskEvent::Delayed)
                .ok()?
                .apply(TaskEvent::Due)
                .ok()?,
            RetryDecision::Dead | RetryDecision::Quarantine => {
                record.state.apply(TaskEvent::Died).ok()?
            }
        };
        if self.bounds.tries == u8::MAX {
            record.failed = 0;
        }
        Some(())
    }

    fn hear(&self, world: &mut World, leader: usize, at: usize) -> Option<()> {
        let Attempt {
            run,
            task,
            fence,
            at: place,
            ..
        } = world.attempts[at];
        let At::Told(told) = place else { return None };
        self.leads(world, leader)?;
        let record = &mut world.store.runs[run].tasks[task];
        if self.design == Design::CompletionCountedTwice && told == Told::Committed {
            if record.state == TaskState::Pending {
                return None;
            }
            (record.state, record.lease) = (TaskState::Done, None);
            world.store.runs[run].counted += 1;
            return Some(());
        }
        if record.lease != Some(fence) {
            return None; // a repeat, or one that comes too late
        }
        match told {
            Told::Committed => {
                (record.state, record.lease) =
                    (record.state.apply(TaskEvent::Completed).ok()?, None);
                world.store.runs[run].counted += 1;
                world.seen.acknowledged[run][task] = true;
            }
            Told::Prepared(covered) => self.prepared(world, run, covered)?,
            Told::Failed => self.failed(world, run, task, ErrorClass::Transient)?,
            Told::PlanChanged => self.failed(world, run, task, ErrorClass::Permanent)?,
            Told::Fenced(newer) => {
                (record.state, record.lease) =
                    (record.state.apply(TaskEvent::Released).ok()?, None);
                let held = world.leaders[leader].as_mut()?;
                if newer.hi() >= u64::from(held.hi) && self.design != Design::HiNeverRaised {
                    held.hi = u8::try_from(newer.hi()).ok()? + 1;
                    held.lo = 0;
                    world.store.hi = held.hi;
                }
            }
            Told::Superseded => {
                (record.state, record.lease) =
                    (record.state.apply(TaskEvent::Released).ok()?, None);
                move_run(world, run, RunEvent::CancelWanted);
            }
        }
        Some(())
    }

    fn end(&self, world: &mut World, run: usize) -> Option<()> {
        let record = &world.store.runs[run];
        let work = &record.tasks[..PARTITIONS];
        let nothing_to_do = work.iter().all(|task| task.state == TaskState::Covered);
        let ended = work.iter().all(|task| task.state.has_ended());
        let has_died = record
            .tasks
            .iter()
            .any(|task| task.state == TaskState::Dead);
        if !(ended || record.tasks[PREPARE].state == TaskState::Dead) {
            return None;
        }
        let is_well = nothing_to_do || !has_died;
        move_run(
            world,
            run,
            if is_well {
                RunEvent::Succeeded
            } else {
                RunEvent::Failed
            },
        )
    }

    /// Only the latest run of a pipeline is taken up again.
    fn retry(&self, world: &mut World, run: usize) -> Option<()> {
        let is_latest = world.store.runs[run + 1..]
            .iter()
            .all(|newer| newer.status.is_none());
        if world.seen.retries >= self.bounds.retries
            || !(is_latest || self.design == Design::NoStreamFence)
        {
            return None;
        }
        if (0..world.store.runs.len()).any(|other| other != run && is_active(world, other)) {
            return None;
        }
        world.seen.retries += 1;
        move_run(world, run, RunEvent::Retried)?;
        for task in &mut world.store.runs[run].tasks {
            if let Ok(state) = task.state.apply(TaskEvent::Retried) {
                (task.state, task.failed) = (state, 0);
            }
        }
        Some(())
    }
}

fn is_active(world: &World, run: usize) -> bool {
    world.store.runs[run]
        .status
        .is_some_and(|status| !status.has_ended())
}

/// A run begins when the store knows of none that is active. One that a restored store has
/// forgotten is no hindrance.
fn begin(world: &mut World, run: usize) -> Option<()> {
    let is_next = u32::from(world.seen.begun) == (1 << run) - 1;
    if !is_next || (0..world.store.runs.len()).any(|other| is_active(world, other)) {
        return None;
    }
    world.seen.begun |= 1 << run;
    world.store.runs[run].status = Some(RunStatus::Planning);
    Some(())
}

pub(crate) fn move_run(world: &mut World, run: usize, event: RunEvent) -> Option<()> {
    let status = world.store.runs[run].status?;
    world.store.runs[run].status = Some(status.apply(event).ok()?);
    Some(())
}

/// I11: from here, with no more faults and every worker gone, one leader brings every known run to
/// an end.
pub(crate) fn ends(model: &Protocol, world: &World) -> bool {
    let mut hasher = DefaultHasher::new();
    (world.store, &world.target, world.seen.fenced).hash(&mut hasher);
    let key = hasher.finish();
    if let Some(known) = model
        .ends
        .lock()
        .ok()
        .and_then(|ends| ends.get(&key).copied())
    {
        return known;
    }
    let bounds = Bounds {
        attempts: u8::MAX,
        prepares: u8::MAX,
        terms: u8::MAX,
        restores: 0,
        failovers: 0,
        cancels: 0,
        retries: 0,
        late: false,
        ..model.bounds
    };
    let healthy = Protocol::new(model.design, bounds);
    let mut now = world.clone();
    now.store.election = 0;
    (now.leaders, now.backup, now.replica) = ([None; 2], None, None);
    now.attempts.clear();
    now.letters.clear();
    let mut has_ended = false;
    let mut conceivable = Vec::new();
    for _ in 0..STEPS_MAX {
        if !(0..now.store.runs.len()).any(|run| is_active(&now, run)) {
            has_ended = true;
            break;
        }
        conceivable.clear();
        healthy.actions(&now, &mut conceivable);
        conceivable.retain(|action| urgency(&now, *action).is_some());
        conceivable.sort_by_key(|action| urgency(&now, *action));
        let next = conceivable
            .iter()
            .find_map(|action| healthy.after(&now, *action));
        match next {
            Some(next) => now = next,
            None => break,
        }
    }
    if let Ok(mut ends) = model.ends.lock() {
        ends.insert(key, has_ended);
    }
    has_ended
}

/// What a healthy cluster does first. Leases end only once nobody is left who could report.
fn urgency(world: &World, action: Action) -> Option<u8> {
    match action {
        Action::Campaign(_) => Some(0),
        Action::Hear(..) => Some(1),
        Action::FenceRun(_) | Action::Acknowledge(..) => Some(2),
        Action::Land(_) => Some(3),
        Action::Prepare(_)
        | Action::ClaimRun(_)
        | Action::Claim(_)
        | Action::Guard(_)
        | Action::Ask(_) => Some(4),
        Action::End(..) | Action::Plan(..) => Some(5),
        Action::Expire(..) if world.attempts.is_empty() => Some(6),
        Action::Assign(..) => Some(7),
        _ => None,
    }
}
