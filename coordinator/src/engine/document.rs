//! The view as documents for people and programs.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_common::assignment::{AttemptError, Work};
use highwater_common::document::{
    AdoptedDocument, CheckDocument, ClusterDocument, FailedTaskDocument, PlanDocument,
    PlannedStepDocument, RunDocument, StepDocument, TaskCounts, TaskDocument, TasksDocument,
    WorkerDocument,
};
use highwater_common::facts::{Adopted, ColumnFacts, StepFacts};
use highwater_common::id::{ClusterId, ConnectionName, StepName, TaskId};
use highwater_common::plan::StepPlan;
use highwater_common::record::TaskAddress;
use highwater_common::task::TaskState;

use super::chosen::Chosen;
use super::lag::{lag_of, largest_lag};
use super::step::Step;
use super::task_table::TaskTable;
use super::unselected::{all_steps, not_selected};
use super::view::{Cluster, Run};
use super::waits::waits;

/// Dead tasks that a document lists at the most.
const DEAD_MAX: usize = 20;
/// Waiting tasks that a document lists at the most.
const RETRYING_MAX: usize = 5;
/// Partitions that a plan shows at the most.
const FIRST_MAX: usize = 3;
/// Warnings of a plan that a run repeats at the most.
const WARNINGS_MAX: usize = 20;

/// A run as it stands.
#[must_use]
pub(crate) fn run_document(
    cluster: &Cluster,
    run: &Run,
    short: String,
    now_millis: i64,
) -> RunDocument {
    let steps: Vec<StepDocument> = all_steps(run)
        .iter()
        .filter_map(|name| match run.steps.get(name) {
            Some(step) => Some(step_document(cluster, run, name, step, now_millis)),
            None => not_selected(run, name),
        })
        .collect();
    let lag = largest_lag(&steps);
    RunDocument {
        steps,
        lag,
        ..run_summary(cluster, run, short)
    }
}

/// A run as it stands, without its steps.
#[must_use]
pub(crate) fn run_summary(cluster: &Cluster, run: &Run, short: String) -> RunDocument {
    let tasks = run
        .steps
        .values()
        .fold(TaskCounts::default(), |tasks, step| {
            tasks.plus(tasks_of(run, step))
        });
    RunDocument {
        schema: "run/v1".to_owned(),
        run: run.id,
        short,
        pipeline: run.record.pipeline.clone(),
        spec: run.record.spec_digest,
        status: run.record.status,
        saved_plan: run.record.is_saved,
        reason: reason(run),
        reference_time: rfc3339(run.record.reference_time_micros),
        ended_at: run.record.ended_micros.map(rfc3339),
        committed: run.record.committed || tasks.done > 0 || has_kept_rows(run),
        tasks,
        rows: run.steps.values().map(Step::rows).sum(),
        bytes: run.steps.values().map(|step| step.bytes).sum(),
        workers: u32::try_from(cluster.sessions.len()).unwrap_or(u32::MAX),
        slots: cluster
            .sessions
            .values()
            .map(|session| session.record.slots)
            .sum(),
        lag: None,
        controls: run.record.controls.clone(),
        steps: Vec::new(),
    }
}

/// A step's tasks by state; before there is a plan it has none.
fn tasks_of(run: &Run, step: &Step) -> TaskCounts {
    if run.record.generation == 0 {
        TaskCounts::default()
    } else {
        step.counts()
    }
}

fn step_document(
    cluster: &Cluster,
    run: &Run,
    name: &StepName,
    step: &Step,
    now_millis: i64,
) -> StepDocument {
    let mut dead: Vec<FailedTaskDocument> = Vec::new();
    for table in step.tables() {
        let listed = table
            .dead
            .values()
            .take(DEAD_MAX.saturating_sub(dead.len()));
        dead.extend(listed.map(|held| {
            let record = &held.record;
            FailedTaskDocument {
                accepted: record.accepted.clone(),
                ..failed_task(
                    run,
                    &record.address,
                    record.attempts,
                    &record.error,
                    Some(record.work.clone()),
                )
            }
        }));
    }
    let waiting = step
        .tables()
        .flat_map(|table| table.retries.values())
        .take(RETRYING_MAX);
    let retrying = waiting
        .map(|held| {
            failed_task(
                run,
                &held.record.address,
                held.record.attempts,
                &held.record.error,
                None,
            )
        })
        .collect();
    StepDocument {
        step: name.clone(),
        strategy: strategy_of(run, name).to_owned(),
        depends_on: run
            .spec
            .steps
            .get(name)
            .map_or_else(Vec::new, |step| step.edges()),
        status: step.record.status,
        reason: step.record.reason.clone(),
        tasks: tasks_of(run, step),
        rows: step.rows(),
        bytes: step.bytes,
        watermark: watermark(step),
        lag_seconds: lag_of(step, now_millis),
        waits: waits(cluster, run, name, now_millis),
        warnings: warnings(step),
        not_loaded: step.record.not_loaded.clone(),
        checks: checks(run, name, step),
        dead,
        retrying,
    }
}

/// What the checks of a step came to, once they were made.
fn checks(run: &Run, name: &StepName, step: &Step) -> Vec<CheckDocument> {
    let checks = run
        .spec
        .steps
        .get(name)
        .map_or(&[][..], |step| &step.checks);
    let told = checks.iter().zip(&step.record.checks);
    told.map(|(check, answer)| CheckDocument {
        check: check.to_string(),
        passed: answer.passed,
        expected: check.expected(),
        found: answer.found.clone(),
    })
    .collect()
}

/// What a person should know of a step: what its plan says, and what its prepare found besides, in
/// as many lines as are read.
fn warnings(step: &Step) -> Vec<String> {
    let planned = step.plan.as_ref().map_or(&[][..], |plan| &plan.warnings);
    let found = step
        .record
        .warnings
        .iter()
        .filter(|warning| !planned.contains(warning));
    let mut told: Vec<String> = planned.iter().take(WARNINGS_MAX).cloned().collect();
    let more = planned.len().saturating_sub(WARNINGS_MAX);
    if more > 0 {
        told.push(format!("{more} more warnings are in the plan"));
    }
    told.extend(found.cloned());
    match step.record.tasks_lost {
        0 => {}
        1 => told.push("1 task whose rows the target had lost was loaded again".to_owned()),
        lost => told.push(format!(
            "{lost} tasks whose rows the target had lost were loaded again"
        )),
    }
    told
}

/// Why a run stands where it does: what is stored, and what cannot be read of it.
fn reason(run: &Run) -> String {
    match &run.damage {
        Some(damage) if run.record.reason.is_empty() => damage.clone(),
        Some(damage) if !run.record.reason.contains(damage.as_str()) => {
            format!("{} ({damage})", run.record.reason)
        }
        Some(_) | None => run.record.reason.clone(),
    }
}

fn failed_task(
    run: &Run,
    address: &TaskAddress,
    attempts: u32,
    error: &AttemptError,
    work: Option<String>,
) -> FailedTaskDocument {
    let work = work
        .or_else(|| run.work(address).map(|work| work.to_string()))
        .unwrap_or_default();
    FailedTaskDocument {
        task: run.task_id(address).unwrap_or(TaskId::from_bytes([0; 16])),
        work,
        attempts,
        class: error.class.to_string(),
        code: error.code.clone(),
        message: error.message.clone(),
        accepted: String::new(),
    }
}

/// Whether a task that is dead has committed a part of its rows.
fn has_kept_rows(run: &Run) -> bool {
    let tables = run.steps.values().flat_map(Step::tables);
    let mut dead = tables.flat_map(|table| table.dead.values());
    dead.any(|dead| dead.record.error.committed_rows > 0)
}

fn strategy_of(run: &Run, name: &StepName) -> &'static str {
    run.spec
        .steps
        .get(name)
        .map_or("", |step| step.strategy.load().name())
}

/// How far the committed partitions of a step reach, from its first. Shown only, never decided
/// upon.
fn watermark(step: &Step) -> Option<String> {
    let partitions = step.plan.as_ref()?.partitions()?;
    let last = step.reached().checked_sub(1)?;
    let end = partitions.partitioning().range(last);
    Some(
        end.end()
            .map_or_else(|| "everything".to_owned(), |cursor| cursor.to_string()),
    )
}

/// How a step is cut, in words.
fn summary(run: &Run, name: &StepName, plan: &StepPlan) -> String {
    run.spec
        .steps
        .get(name)
        .map_or_else(String::new, |step| step.strategy.load().summary(plan))
}

/// What is special about the columns that are read.
fn columns(run: &Run, name: &StepName, plan: &StepPlan) -> Vec<String> {
    let Some(order) = &plan.load_order else {
        return Vec::new();
    };
    let step = run.spec.steps.get(name);
    let source = step.and_then(|step| step.strategy.load().sides().source);
    let query = source.filter(|source| source.relation.query().is_some());
    let query = query.map(|_| format!("a query of {} columns is read", order.columns.len()));
    let arriving = order.columns.iter().filter_map(ColumnFacts::how_it_arrives);
    query.into_iter().chain(arriving).collect()
}

/// A run's plan; `None` before there is one.
#[must_use]
pub(crate) fn plan_document(cluster: ClusterId, run: &Run, short: String) -> Option<PlanDocument> {
    let plan = run.plan.as_ref()?;
    let mut steps = Vec::new();
    for name in run.dag.order() {
        let Some(planned) = plan.steps.get(name) else {
            continue;
        };
        // Of several tasks; one alone is told by the summary.
        let is_one_of_many = |work: &Work| matches!(work, Work::Partition(_) | Work::Noop(_));
        let first = planned.works().filter(is_one_of_many).take(FIRST_MAX);
        let facts = run.facts.get(name);
        steps.push(PlannedStepDocument {
            step: name.clone(),
            strategy: strategy_of(run, name).to_owned(),
            tasks: planned.tasks_planned(),
            covered: planned.tasks_covered(),
            rows: planned.estimated_rows,
            rows_exact: facts.is_some_and(|facts| {
                facts.source.rows_exact && planned.estimated_rows == facts.source.rows
            }),
            summary: summary(run, name, planned),
            first: first.map(|work| work.to_string()).collect(),
            columns: columns(run, name, planned),
            warnings: planned.warnings.clone(),
            notes: planned.not_loaded.clone(),
        });
    }
    Some(PlanDocument {
        schema: "plan/v1".to_owned(),
        run: run.id,
        short,
        pipeline: run.record.pipeline.clone(),
        spec: run.record.spec_digest,
        plan: plan.digest(),
        reference_time: rfc3339(run.record.reference_time_micros),
        tasks: steps.iter().map(|step| step.tasks).sum(),
        steps,
        adopted: adopted(cluster, run),
        receipts: of_errand(run, |facts| facts.receipts.clone()),
        undone: of_errand(run, |facts| facts.undone.clone()),
        beside: of_errand(run, |facts| facts.beside.clone()),
        logs: of_errand(run, |facts| facts.log.clone()),
    })
}

/// What the run's probes have brought home of an errand, by step.
fn of_errand<T>(run: &Run, told: impl Fn(&StepFacts) -> Option<T>) -> BTreeMap<StepName, T> {
    let told = run
        .facts
        .iter()
        .map(|(name, facts)| Some((name.clone(), told(facts)?)));
    told.flatten().collect()
}

/// The targets that the run's probes took over. Where several steps write to one, all but the first
/// of their probes found it this cluster's already.
fn adopted(cluster: ClusterId, run: &Run) -> BTreeMap<ConnectionName, AdoptedDocument> {
    let mut targets = BTreeMap::new();
    for (name, facts) in &run.facts {
        let target = run
            .spec
            .steps
            .get(name)
            .and_then(|step| step.strategy.load().sides().target);
        let (Some(Adopted { former }), Some(target)) = (facts.adopted, target) else {
            continue;
        };
        let document = AdoptedDocument { cluster, former };
        let known = targets
            .entry(target.connection.clone())
            .or_insert_with(|| document.clone());
        if known.former == Some(cluster) {
            *known = document;
        }
    }
    targets
}

/// Tasks of a run, at most `limit`: those that are meant, in one state or all.
pub(crate) fn tasks_document(
    run: &Run,
    short: String,
    chosen: &Chosen,
    state: Option<TaskState>,
    limit: usize,
) -> TasksDocument {
    let mut tasks = Vec::new();
    let wanted = run.dag.order().iter().filter(|name| chosen.has(name));
    'all: for name in wanted {
        let Some(step) = run.steps.get(name) else {
            continue;
        };
        for (number, phase, table) in step.planned_tables() {
            let is_asked = |ordinal: &u64| match state {
                Some(state) => table.state(*ordinal) == state,
                None => table.state(*ordinal) != TaskState::Covered,
            };
            let picked = chosen.ordinals(name, phase);
            let ordinals: Box<dyn Iterator<Item = u64>> = match (picked, state) {
                (Some(picked), _) => Box::new(picked.into_iter().flatten().filter(is_asked)),
                (None, Some(state)) => table.in_state(state),
                (None, None) => Box::new((0..table.len).filter(is_asked)),
            };
            for ordinal in ordinals {
                if tasks.len() > limit {
                    break 'all;
                }
                let address = TaskAddress {
                    step: name.clone(),
                    generation: step.generation,
                    phase: number,
                    ordinal,
                };
                tasks.extend(task_document(run, table, address));
            }
        }
    }
    let more = tasks.len() > limit;
    tasks.truncate(limit);
    TasksDocument {
        schema: "tasks/v1".to_owned(),
        run: run.id,
        short,
        tasks,
        more,
    }
}

/// A task as it stands; `None` for one that an earlier run committed.
fn task_document(run: &Run, table: &TaskTable, address: TaskAddress) -> Option<TaskDocument> {
    let work = run.work(&address)?;
    let ordinal = address.ordinal;
    let result = table.result(ordinal).unwrap_or_default();
    let lease = table.leases.get(&ordinal).map(|held| &held.record);
    let retry = table.retries.get(&ordinal).map(|held| &held.record);
    let dead = table.dead.get(&ordinal).map(|held| &held.record);
    let attempts = lease
        .map(|lease| lease.attempt.get())
        .or(retry.map(|retry| retry.attempts))
        .or(dead.map(|dead| dead.attempts))
        .unwrap_or(result.attempts);
    let error = retry
        .map(|retry| &retry.error)
        .or(dead.map(|dead| &dead.error));
    Some(TaskDocument {
        task: run.task_id(&address)?,
        step: address.step,
        work: work.to_string(),
        state: table.state(ordinal).to_string(),
        attempts,
        worker: lease.map_or_else(String::new, |lease| lease.worker.to_string()),
        rows: result.rows,
        millis: u64::from(result.millis),
        error: error.map_or_else(String::new, |error| error.message.clone()),
    })
}

/// The cluster as it stands at `now` by the leader's monotonic clock.
#[must_use]
pub(crate) fn cluster_document(
    cluster: &Cluster,
    now: Duration,
    term: String,
    token_hi: u64,
    leader: String,
    store: String,
    store_bytes: u64,
) -> ClusterDocument {
    let workers = cluster.sessions.iter().map(|(id, session)| WorkerDocument {
        worker: session.worker.to_string(),
        state: match (session.draining, session.record.cordoned) {
            (true, _) => "draining",
            (false, true) => "cordoned",
            (false, false) => "ready",
        }
        .to_owned(),
        version: session.record.version.clone(),
        slots: session.record.slots,
        busy: u32::try_from(cluster.leases.busy(id)).unwrap_or(u32::MAX),
        heartbeat_age_millis: u64::try_from(now.saturating_sub(session.heard).as_millis())
            .unwrap_or(u64::MAX),
        capabilities: session.record.capabilities.iter().cloned().collect(),
    });
    ClusterDocument {
        schema: "cluster/v1".to_owned(),
        cluster: cluster.id,
        leader,
        term,
        token_hi,
        store,
        store_bytes,
        trouble: String::new(),
        workers: workers.collect(),
    }
}

/// Microseconds since 1970 as RFC 3339.
pub(crate) fn rfc3339(micros: i64) -> String {
    highwater_common::cursor::Cursor::Instant(micros).to_string()
}

#[cfg(test)]
mod tests;
