//! Chooses which pending tasks the parked pulls receive, and says why others wait.
//! Never performs I/O, never reads the clock itself, never looks at a paused or ended run.
//!
//! Fairness is by run first and by step second: one wide step must not starve a small run.

use std::collections::BTreeMap;

use highwater_common::capability::Capabilities;
use highwater_common::id::{ConnectionName, RunId, SessionId, StepName};
use highwater_common::record::{RunWish, TaskAddress};
use highwater_common::spec::{Connection, Strategy};
use highwater_common::status::{RunStatus, StepStatus};
use highwater_common::task::TaskState;

use super::step::{FENCE_ORDINAL, PREPARE_ORDINAL, PROBE_ORDINAL, Step, Track};
use super::view::{Cluster, Run, Session};

/// A parked pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Whose.
    pub session: SessionId,
    /// Slots without a task.
    pub free: u32,
}

/// A task for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The run.
    pub run: RunId,
    /// The task.
    pub address: TaskAddress,
    /// Who gets it.
    pub session: SessionId,
}

/// At most `grants_max` tasks for the seats, as of `now_millis` by the leader's wall clock, which only retries wait for.
#[must_use]
pub(crate) fn assign(cluster: &Cluster, seats: &[Seat], now_millis: i64, grants_max: usize) -> Vec<Grant> {
    let mut seats: Vec<Seat> = seats.iter().copied().filter(|seat| takes(cluster, seat, Capabilities::NONE)).collect();
    let mut queues: Vec<RunQueue<'_>> =
        cluster.runs.values().filter_map(|run| RunQueue::of(cluster, run, now_millis)).collect();
    let mut grants = Vec::new();
    let mut turn = 0;
    while grants.len() < grants_max && seats.iter().any(|seat| seat.free > 0) {
        let able = able(cluster, &seats);
        let next = queues.iter().enumerate().min_by_key(|(_, queue)| (queue.open, queue.served));
        let Some(at) = next.map(|(at, _)| at) else { break };
        turn += 1;
        let Some((address, needs)) = queues[at].next(&able, turn) else {
            queues.remove(at);
            continue;
        };
        let Some(session) = best_seat(cluster, &mut seats, needs) else { break };
        grants.push(Grant { run: queues[at].run.id, address, session });
    }
    grants
}

/// What those who have a free slot can do, each kind of them once: there are few.
fn able(cluster: &Cluster, seats: &[Seat]) -> Vec<Capabilities> {
    let free = seats.iter().filter(|seat| seat.free > 0).filter_map(|seat| cluster.sessions.get(&seat.session));
    let mut able: Vec<Capabilities> = Vec::new();
    for can in free.map(Session::capabilities) {
        if !able.contains(&can) {
            able.push(can);
        }
    }
    able
}

/// Whether a seat can have a task with these needs now.
fn takes(cluster: &Cluster, seat: &Seat, needs: Capabilities) -> bool {
    seat.free > 0
        && cluster
            .sessions
            .get(&seat.session)
            .is_some_and(|session| session.takes_work() && session.capabilities().hold(needs))
}

/// The session with the most free slots among those that can do the work; takes one of them.
fn best_seat(cluster: &Cluster, seats: &mut [Seat], needs: Capabilities) -> Option<SessionId> {
    let seat = seats.iter_mut().filter(|seat| takes(cluster, seat, needs)).max_by_key(|seat| seat.free)?;
    seat.free -= 1;
    Some(seat.session)
}

/// When somebody was last served: the turn of this round, 0 before, and the token of the latest task of earlier rounds.
/// Among those that have equally many open tasks, whoever was served longest ago comes first.
type Served = (u64, i64);

/// The runnable tasks of one run under its limits, fairly from each of its steps.
struct RunQueue<'a> {
    run: &'a Run,
    open: u64,
    open_max: u64,
    served: Served,
    connections: BTreeMap<&'a ConnectionName, (u64, u64)>,
    steps: Vec<StepQueue<'a>>,
}

struct StepQueue<'a> {
    name: &'a StepName,
    generation: u32,
    open: u64,
    open_max: u64,
    served: Served,
    uses: BTreeMap<&'a ConnectionName, u64>,
    needs: Capabilities,
    due: Box<dyn Iterator<Item = u64> + 'a>,
}

impl<'a> RunQueue<'a> {
    fn of(cluster: &Cluster, run: &'a Run, now_millis: i64) -> Option<Self> {
        let is_cancelling = run.record.status == RunStatus::Cancelling;
        if !run.wants_work() || (!is_cancelling && cluster.is_held_back(run)) {
            return None;
        }
        let steps: Vec<StepQueue<'a>> =
            run.dag.order().iter().filter_map(|name| StepQueue::of(run, name, now_millis)).collect();
        let served = (0, run.steps.values().map(|step| step.last_token).max().unwrap_or(0));
        // A fence waits for no limit: it is what ends the attempts that use it up.
        let open_max = if is_cancelling { None } else { run.spec.limits.tasks };
        let connections = if is_cancelling { BTreeMap::new() } else { connection_use(run) };
        (!steps.is_empty()).then(|| Self {
            run,
            open: open_of(run),
            open_max: open_max.map_or(u64::MAX, u64::from),
            served,
            connections,
            steps,
        })
    }

    fn next(&mut self, able: &[Capabilities], turn: u64) -> Option<(TaskAddress, Capabilities)> {
        while self.open < self.open_max {
            let held = |step: &StepQueue<'_>| able.iter().any(|can| can.hold(step.needs));
            let ready = self.steps.iter().enumerate().filter(|(_, step)| held(step));
            let at = ready.min_by_key(|(_, step)| (step.open, step.served)).map(|(at, _)| at)?;
            let step = &mut self.steps[at];
            let full = step.open >= step.open_max || is_full(&self.connections, &step.uses).is_some();
            let Some(ordinal) = (if full { None } else { step.due.next() }) else {
                self.steps.remove(at);
                continue;
            };
            step.open += 1;
            self.open += 1;
            (step.served, self.served) = ((turn, 0), (turn, 0));
            for (name, count) in &step.uses {
                if let Some((used, _)) = self.connections.get_mut(name) {
                    *used += count;
                }
            }
            let address = TaskAddress { step: step.name.clone(), generation: step.generation, ordinal };
            return Some((address, step.needs));
        }
        None
    }
}

/// The connection that has no room for one more task. A task that alone needs more than there is gets all of it.
fn is_full<'a>(
    connections: &BTreeMap<&'a ConnectionName, (u64, u64)>,
    uses: &BTreeMap<&'a ConnectionName, u64>,
) -> Option<(&'a ConnectionName, u64, u64)> {
    uses.iter().find_map(|(name, count)| {
        let (used, max) = *connections.get(name)?;
        (used > 0 && used + count > max).then_some((*name, used, max))
    })
}

impl<'a> StepQueue<'a> {
    fn of(run: &'a Run, name: &'a StepName, now_millis: i64) -> Option<Self> {
        let step = run.steps.get(name)?;
        let known = run.spec.steps.get(name)?;
        let moves_rows = matches!(known.strategy, Strategy::Backfill(_));
        if run.record.wish == RunWish::Cancel && run.record.status != RunStatus::Cancelling {
            return None; // what is no longer wanted is not begun, whatever its status still says
        }
        let (generation, due): (u32, Box<dyn Iterator<Item = u64> + 'a>) = match run.record.status {
            RunStatus::Planning if moves_rows => (0, single(&step.wide, PROBE_ORDINAL, now_millis)),
            RunStatus::Cancelling if moves_rows && run.record.generation > 0 => {
                (0, single(&step.wide, FENCE_ORDINAL, now_millis))
            }
            RunStatus::Running if step.record.status == StepStatus::Running => {
                let is_prepared = matches!(step.work.state(PREPARE_ORDINAL), TaskState::Done | TaskState::Covered);
                let due = if is_prepared {
                    partitions(&step.work, now_millis)
                } else {
                    single(&step.work, PREPARE_ORDINAL, now_millis)
                };
                (run.record.generation, due)
            }
            RunStatus::Planning
            | RunStatus::Planned
            | RunStatus::Running
            | RunStatus::Cancelling
            | RunStatus::Success
            | RunStatus::Failed
            | RunStatus::Cancelled => return None,
        };
        Some(Self {
            name,
            generation,
            open: step.work.counts.open + step.wide.counts.open,
            open_max: if run.record.status == RunStatus::Cancelling { None } else { known.limits.tasks }
                .map_or(u64::MAX, u64::from),
            served: (0, step.last_token),
            uses: uses(&known.strategy),
            needs: Capabilities::of_step(known, &run.spec.connections),
            due,
        })
    }
}

fn single<'a>(track: &'a Track, ordinal: u64, now_millis: i64) -> Box<dyn Iterator<Item = u64> + 'a> {
    let is_due = match track.state(ordinal) {
        TaskState::Pending => true,
        TaskState::RetryWait => is_due(track, ordinal, now_millis),
        TaskState::Open
        | TaskState::Done
        | TaskState::Dead
        | TaskState::InDoubt
        | TaskState::Covered
        | TaskState::Superseded => false,
    };
    Box::new(is_due.then_some(ordinal).into_iter())
}

fn partitions<'a>(track: &'a Track, now_millis: i64) -> Box<dyn Iterator<Item = u64> + 'a> {
    let waiting = track
        .retries
        .range(PREPARE_ORDINAL + 1..)
        .filter(move |(_, retry)| retry.record.not_before_millis <= now_millis)
        .map(|(ordinal, _)| *ordinal);
    Box::new(waiting.chain(track.pending_from(PREPARE_ORDINAL + 1)))
}

fn is_due(track: &Track, ordinal: u64, now_millis: i64) -> bool {
    track.retries.get(&ordinal).is_some_and(|retry| retry.record.not_before_millis <= now_millis)
}

/// The connections that one task of the step holds at once, and how many of each.
fn uses(strategy: &Strategy) -> BTreeMap<&ConnectionName, u64> {
    let mut uses = BTreeMap::new();
    match strategy {
        Strategy::Noop { .. } => {}
        Strategy::Backfill(backfill) => {
            for name in [&backfill.from.connection, &backfill.to.connection] {
                *uses.entry(name).or_default() += 1;
            }
        }
    }
    uses
}

fn open_of(run: &Run) -> u64 {
    run.steps.values().map(|step| step.wide.counts.open + step.work.counts.open).sum()
}

/// Connections in use and their limits, for those that have one. A task holds one connection of each side.
fn connection_use(run: &Run) -> BTreeMap<&ConnectionName, (u64, u64)> {
    let mut used = BTreeMap::new();
    for (name, connection) in &run.spec.connections {
        if let Connection::Postgres { max_connections: Some(max), .. } = connection {
            used.insert(name, (0, u64::from(*max)));
        }
    }
    for (name, step) in &run.steps {
        let Some(known) = run.spec.steps.get(name) else { continue };
        for (connection, each) in uses(&known.strategy) {
            if let Some((count, _)) = used.get_mut(connection) {
                *count += each * (step.wide.counts.open + step.work.counts.open);
            }
        }
    }
    used
}

/// Why tasks of a step that could run do not; empty when none waits.
#[must_use]
pub(super) fn waits(cluster: &Cluster, run: &Run, name: &StepName, now_millis: i64) -> Vec<String> {
    let (Some(step), Some(known)) = (run.steps.get(name), run.spec.steps.get(name)) else { return Vec::new() };
    let mut reasons = Vec::new();
    if !run.wants_work() {
        return reasons;
    }
    if cluster.is_held_back(run) {
        reasons.push("an older run of this pipeline has not ended".to_owned());
        return reasons;
    }
    reasons.extend(wide_wait(cluster, run, step, known));
    if step.record.status == StepStatus::Pending && run.record.status == RunStatus::Running {
        let open: Vec<&str> = known
            .depends_on
            .iter()
            .filter(|edge| run.steps.get(&edge.step).is_some_and(|step| !step.record.status.has_ended()))
            .map(|edge| edge.step.as_str())
            .collect();
        if !open.is_empty() {
            reasons.push(format!("waits for {}", open.join(", ")));
        }
    }
    if step.work.counts.retry_wait + step.wide.counts.retry_wait > 0 {
        let soonest = step.work.retries.values().chain(step.wide.retries.values());
        let wait =
            soonest.map(|retry| retry.record.not_before_millis.saturating_sub(now_millis)).min().unwrap_or(0).max(0);
        let count = step.work.counts.retry_wait + step.wide.counts.retry_wait;
        reasons.push(format!("{count} after a failed attempt: the next one in {:.1} s", wait_seconds(wait)));
    }
    let pending = step.counts().pending;
    if pending > 0 && step.record.status == StepStatus::Running {
        reasons.extend(
            limits_met(cluster, run, step.work.counts.open, known)
                .map(|limit| format!("{pending} task{}: {limit}", if pending == 1 { "" } else { "s" })),
        );
    }
    reasons
}

/// Why a probe or a fence is not handed out: until it is, the run shows no task at all.
fn wide_wait(cluster: &Cluster, run: &Run, step: &Step, known: &highwater_common::spec::Step) -> Option<String> {
    let (ordinal, work) = match run.record.status {
        RunStatus::Planning => (PROBE_ORDINAL, "probe"),
        RunStatus::Cancelling => (FENCE_ORDINAL, "fence"),
        RunStatus::Planned | RunStatus::Running | RunStatus::Success | RunStatus::Failed | RunStatus::Cancelled => {
            return None;
        }
    };
    let waits = matches!(known.strategy, Strategy::Backfill(_)) && step.wide.state(ordinal) == TaskState::Pending;
    let limit = if waits { limits_met(cluster, run, step.wide.counts.open, known) } else { None };
    limit.map(|limit| format!("{work}: {limit}"))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a wait, shown with one digit")]
fn wait_seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn limits_met(cluster: &Cluster, run: &Run, open: u64, known: &highwater_common::spec::Step) -> Option<String> {
    if cluster.sessions.is_empty() {
        return Some("no worker is connected".to_owned());
    }
    let needs = Capabilities::of_step(known, &run.spec.connections);
    if !cluster.sessions.values().any(|session| session.capabilities().hold(needs)) {
        return Some(match &known.strategy {
            Strategy::Noop { .. } => "no connected worker holds no-op tasks: start it with --allow-noop".to_owned(),
            Strategy::Backfill(_) => format!("no connected worker can do all that it needs: {needs}"),
        });
    }
    if let Some(max) = known.limits.tasks.filter(|max| open >= u64::from(*max)) {
        return Some(format!("limit of the step, {open}/{max} at once"));
    }
    let of_run = open_of(run);
    if let Some(max) = run.spec.limits.tasks.filter(|max| of_run >= u64::from(*max)) {
        return Some(format!("limit of the run, {of_run}/{max} at once"));
    }
    if let Some((name, used, max)) = is_full(&connection_use(run), &uses(&known.strategy)) {
        return Some(format!("connection {name}, {used}/{max} in use"));
    }
    if !cluster.sessions.values().any(Session::takes_work) {
        return Some("every worker drains or is cordoned".to_owned());
    }
    let slots: u64 = cluster.sessions.values().map(|session| u64::from(session.record.slots)).sum();
    let busy: u64 = cluster.runs.values().map(open_of).sum();
    (busy >= slots).then(|| format!("every slot is taken, {busy}/{slots}"))
}

#[cfg(test)]
mod tests;
