//! Says why tasks that could run do not: in the words of whoever could change it.
//! Decides nothing: what may run is decided by `assign`, from the same view.

use highwater_common::id::StepName;
use highwater_common::spec::Strategy;
use highwater_common::status::{RunStatus, StepStatus};
use highwater_common::task::TaskState;

use super::assign::open_of;
use super::budget::{Budgets, uses};
use super::step::{FENCE_ORDINAL, PROBE_ORDINAL, Step};
use super::view::{Cluster, Run, Session};

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
    let is_noop = matches!(known.strategy, Strategy::Noop { .. });
    if is_noop && !cluster.sessions.values().any(|session| session.record.allow_noop) {
        return Some("no connected worker holds no-op tasks: start it with --allow-noop".to_owned());
    }
    if let Some(max) = known.limits.tasks.filter(|max| open >= u64::from(*max)) {
        return Some(format!("limit of the step, {open}/{max} at once"));
    }
    let of_run = open_of(run);
    if let Some(max) = run.spec.limits.tasks.filter(|max| of_run >= u64::from(*max)) {
        return Some(format!("limit of the run, {of_run}/{max} at once"));
    }
    let uses = uses(known);
    let of_cluster = || Budgets::of_cluster(cluster).full(&uses);
    if let Some((name, used, max)) = Budgets::of_run(run).full(&uses).or_else(of_cluster) {
        return Some(format!("{name}, {used}/{max} in use"));
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
