//! Says why tasks that could run do not: in the words of whoever could change it.
//! Decides nothing: what may run is decided by `assign`, from the same view.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_common::capability::Capabilities;
use highwater_common::document::TaskCounts;
use highwater_common::id::{SessionId, StepName, WorkerId};
use highwater_common::plan::PhaseKind;
use highwater_common::status::{RunStatus, StepStatus};

use super::assign::open_of;
use super::budget::{Budgets, uses};
use super::followed::{Followed, released, waits_with_its_close};
use super::outages::spoken;
use super::placement::{Demand, able, carries, is_avoided};
use super::reach::Reach;
use super::retries::avoids_until;
use super::step::Step;
use super::view::{Cluster, Run};

/// Tasks that are due and are looked at for whom they avoid at the most: what so many of them wait
/// for is told of all.
const LOOKED_AT_MAX: usize = 256;

/// Why tasks of a step that could run do not; empty when none waits.
#[must_use]
pub(super) fn waits(cluster: &Cluster, run: &Run, name: &StepName, now_millis: i64) -> Vec<String> {
    let (Some(step), Some(known)) = (run.steps.get(name), run.spec.steps.get(name)) else {
        return Vec::new();
    };
    let mut reasons = Vec::new();
    if !run.wants_work() {
        return reasons;
    }
    if cluster.is_held_back(run) {
        reasons.push("an older run of this pipeline has not ended".to_owned());
        return reasons;
    }
    if let Some(hold) = run.hold(name).filter(|_| !step.record.status.has_ended()) {
        reasons.push(hold);
        return reasons;
    }
    if let Some(away) = away(run, name, step, known, now_millis) {
        reasons.push(away);
        return reasons;
    }
    reasons.extend(set_up_wait(cluster, run, name, step, known));
    reasons.extend(doing(cluster, run, name, step, now_millis));
    if step.record.status == StepStatus::Pending && run.record.status == RunStatus::Running {
        let open: Vec<&str> = known
            .depends_on
            .iter()
            .filter(|edge| {
                run.steps
                    .get(&edge.step)
                    .is_some_and(|step| !step.record.status.has_ended())
            })
            .map(|edge| edge.step.as_str())
            .collect();
        if !open.is_empty() {
            reasons.push(format!("waits for {}", open.join(", ")));
        }
    }
    let count = step.tables().fold(0_u64, |count, table| {
        count.saturating_add(table.counts.retry_wait)
    });
    if count > 0 {
        let soonest = step
            .tables()
            .filter_map(|table| table.retries.first_due_millis())
            .min();
        let wait = soonest
            .map_or(0, |moment| moment.saturating_sub(now_millis))
            .max(0);
        let limit = || limits_met(cluster, run, name, step, known);
        let next = match (
            avoided(cluster, run, step, known, now_millis),
            if wait == 0 { limit() } else { None },
        ) {
            (_, Some(limit)) => format!("waits: {limit}"),
            (Some(worker), None) => format!("waits for a slot of another worker than {worker}"),
            (None, None) => format!("in {:.1} s", wait_seconds(wait)),
        };
        reasons.push(format!(
            "{count} after a failed attempt: the next one {next}"
        ));
    }
    let pending = step.counts().pending;
    if let Some(reason) = upstream_wait(run, name, step) {
        reasons.push(reason);
    } else if pending > 0 && step.record.status == StepStatus::Running {
        reasons.extend(limits_met(cluster, run, name, step, known).map(|limit| {
            format!(
                "{pending} task{}: {limit}",
                if pending == 1 { "" } else { "s" }
            )
        }));
    }
    reasons
}

/// The tasks of a step that wait for rows of the one that it follows, when none may run.
fn upstream_wait(run: &Run, name: &StepName, step: &Step) -> Option<String> {
    let followed = Followed::by(run, name).filter(|_| step.record.status == StepStatus::Running)?;
    let mut tables = step.planned_tables();
    let (_, phase, table) = tables.find(|(_, phase, _)| phase.kind == PhaseKind::Statements)?;
    if table.has_ended() && !followed.status().has_ended() {
        return Some(format!("waits for the end of {}", followed.name));
    }
    let released = released(run, name, phase.kind, table)?;
    (table.counts.pending > 0 && released.is_empty()).then(|| {
        format!(
            "{} of {} periods wait for rows of {} that are not committed",
            table.counts.pending,
            table.counts.planned(),
            followed.name
        )
    })
}

/// The tasks of a step that wait for a connection which is away, and for which one.
fn away(
    run: &Run,
    name: &StepName,
    step: &Step,
    known: &highwater_common::spec::Step,
    now_millis: i64,
) -> Option<String> {
    let waiting = |counts: &TaskCounts| counts.pending.saturating_add(counts.retry_wait);
    let (generation, phase) = run.due_phase(name)?;
    let (table, kind) = (
        step.table(generation, phase)?,
        step.kind(generation, phase)?,
    );
    let wait = Reach::of(known, run.record.intent, kind).wait(run, now_millis);
    let wait = wait.filter(|_| waiting(&table.counts) > 0)?;
    Some(match kind {
        PhaseKind::Probe
        | PhaseKind::Fence
        | PhaseKind::Check
        | PhaseKind::Count
        | PhaseKind::Close => {
            format!("{}: {wait}", kind.as_str())
        }
        PhaseKind::Prepare
        | PhaseKind::Load
        | PhaseKind::Build
        | PhaseKind::Publish
        | PhaseKind::Reconcile
        | PhaseKind::Statements
        | PhaseKind::Replay
        | PhaseKind::Follow
        | PhaseKind::Execute => {
            let count = waiting(&step.counts());
            format!("{count} task{}: {wait}", if count == 1 { "" } else { "s" })
        }
    })
}

/// The worker that all tasks which are due for another attempt avoid.
fn avoided<'a>(
    cluster: &Cluster,
    run: &Run,
    step: &'a Step,
    known: &highwater_common::spec::Step,
    now_millis: i64,
) -> Option<&'a WorkerId> {
    if run.record.status == RunStatus::Cancelling {
        return None;
    }
    let able = able(cluster, &Demand::of(known, &run.spec.connections));
    let due = step.tables().flat_map(|table| {
        table
            .retries
            .due(now_millis)
            .filter_map(|ordinal| table.retries.get(&ordinal).map(|retry| &retry.record))
    });
    let mut due = due.take(LOOKED_AT_MAX).peekable();
    if due
        .peek()
        .is_some_and(|first| avoids_until(first) <= Some(now_millis))
    {
        return None;
    }
    let first = due.peek()?.history.failed_on.last()?;
    due.all(|retry| is_avoided(&retry.history.failed_on, &able, first))
        .then_some(first)
}

/// Why a probe, a fence, a check, a count or a close is not handed out: until it is, the run shows no task
/// at all.
fn set_up_wait(
    cluster: &Cluster,
    run: &Run,
    name: &StepName,
    step: &Step,
    known: &highwater_common::spec::Step,
) -> Option<String> {
    let (generation, phase) = run.due_phase(name)?;
    let (table, kind) = (
        step.table(generation, phase)?,
        step.kind(generation, phase)?,
    );
    let is_shown = match kind {
        PhaseKind::Probe
        | PhaseKind::Fence
        | PhaseKind::Check
        | PhaseKind::Count
        | PhaseKind::Close => true,
        // told of the tasks that come after it
        PhaseKind::Prepare
        | PhaseKind::Load
        | PhaseKind::Build
        | PhaseKind::Publish
        | PhaseKind::Reconcile
        | PhaseKind::Statements
        | PhaseKind::Replay
        | PhaseKind::Follow
        | PhaseKind::Execute => false,
    };
    let waits = is_shown && table.counts.pending > 0 && !waits_with_its_close(run, name, kind);
    let limit = if waits {
        limits_met(cluster, run, name, step, known)
    } else {
        None
    };
    limit.map(|limit| format!("{}: {limit}", kind.as_str()))
}

/// What the only task of a phase says that it does, while the step waits for it.
fn doing(
    cluster: &Cluster,
    run: &Run,
    name: &StepName,
    step: &Step,
    now_millis: i64,
) -> Option<String> {
    let (generation, phase) = run.due_phase(name)?;
    let table = step
        .table(generation, phase)
        .filter(|table| table.len == 1)?;
    let lease = &table.leases.values().next()?.record;
    let open = cluster.leases.get(&run.task_id(&lease.address)?)?;
    let doing = open.doing.as_ref()?;
    let lasted = now_millis.saturating_sub(doing.since_millis);
    let lasted = Duration::from_millis(u64::try_from(lasted).unwrap_or(0));
    Some(format!("{}, for {}", doing.words, spoken(lasted)))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of a wait, shown with one digit"
)]
fn wait_seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn limits_met(
    cluster: &Cluster,
    run: &Run,
    name: &StepName,
    step: &Step,
    known: &highwater_common::spec::Step,
) -> Option<String> {
    let open = step.open();
    if cluster.sessions.is_empty() {
        return Some("no worker is connected".to_owned());
    }
    let demand = Demand::of(known, &run.spec.connections);
    let demand = if run.record.status == RunStatus::Cancelling {
        demand.anywhere(cluster)
    } else {
        demand
    };
    let carriers = || {
        cluster
            .sessions
            .iter()
            .filter(|(_, session)| carries(cluster, session, demand.labels))
    };
    let labelled = match demand.labels.is_empty() {
        true => String::new(),
        false => format!(" with the labels {}", listed(demand.labels)),
    };
    if carriers().next().is_none() {
        return Some(format!(
            "no connected worker has the labels {}",
            listed(demand.labels)
        ));
    }
    if !carriers().any(|(_, session)| session.capabilities().hold(demand.needs)) {
        return Some(match demand.needs.hold(Capabilities::NOOP) {
            true => format!(
                "no connected worker{labelled} holds no-op tasks: start it with --allow-noop"
            ),
            false => format!(
                "no connected worker{labelled} can do all that it needs: {}",
                demand.needs
            ),
        });
    }
    let step_max = run.step_tasks_max(name);
    if let Some(max) = step_max.filter(|max| open >= u64::from(*max)) {
        return Some(format!("limit of the step, {open}/{max} at once"));
    }
    let of_run = open_of(run);
    if let Some(max) = run.tasks_max().filter(|max| of_run >= u64::from(*max)) {
        return Some(format!("limit of the run, {of_run}/{max} at once"));
    }
    let uses = uses(known, step);
    let of_cluster = || Budgets::of_cluster(cluster).full(&uses);
    if let Some((name, used, max)) = Budgets::of_run(run).full(&uses).or_else(of_cluster) {
        return Some(format!("{name}, {used}/{max} in use"));
    }
    let working: BTreeMap<&SessionId, u64> = carriers()
        .filter(|(_, session)| session.takes_work() && demand.is_met_by(cluster, session))
        .map(|(id, session)| (id, u64::from(session.record.slots)))
        .collect();
    if working.is_empty() {
        return Some(format!("every worker{labelled} drains or is cordoned"));
    }
    let busy = working
        .keys()
        .map(|session| cluster.leases.busy(session))
        .sum::<usize>() as u64;
    let slots: u64 = working.values().sum();
    let of_whom = if labelled.is_empty() {
        String::new()
    } else {
        format!(" of the workers{labelled}")
    };
    (busy >= slots).then(|| format!("every slot{of_whom} is taken, {busy}/{slots}"))
}

fn listed(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;
