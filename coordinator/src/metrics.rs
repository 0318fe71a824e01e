//! The coordinator's instruments: what it tells of itself and of the cluster it leads.
//! Only a leader tells of the cluster, and reading takes no turn of it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater_common::document::TaskCounts;
use highwater_runtime::admin::Ready;
use highwater_runtime::metrics::{GroupNames, StepNames};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tokio::sync::watch;

use crate::coordinator::{CoordinatorHandle, Role};
use crate::engine::{Counts, GroupCounts};

/// How often the store is asked for its size.
const STORE_EVERY: Duration = Duration::from_secs(15);

/// Every status that a run can have, so that each has a series from the beginning.
const RUN_STATUSES: [&str; 7] = [
    "planning",
    "planned",
    "running",
    "cancelling",
    "success",
    "failed",
    "cancelled",
];

impl Ready for CoordinatorHandle {
    fn ready(&self) -> Result<(), String> {
        ready_as(&self.role().borrow()).map_err(ToOwned::to_owned)
    }
}

/// Whether a coordinator can answer as what it is, or what it waits for.
fn ready_as(role: &Role) -> Result<(), &'static str> {
    match role {
        // a store without room is read all the same, and whoever looks is answered
        Role::Leading | Role::OutOfSpace => Ok(()),
        Role::Following { leader } if !leader.is_empty() => Ok(()),
        Role::Following { .. } => Err("waits for the leader's address"),
        Role::BetweenTerms => Err("waits for a leader, or for the store"),
    }
}

/// What the instruments read.
struct Readings {
    handle: CoordinatorHandle,
    counts: watch::Receiver<Option<Arc<Counts>>>,
    steps: Mutex<StepNames>,
    groups: Mutex<GroupNames>,
    /// 0 until the store was asked.
    store_bytes: AtomicU64,
}

impl Readings {
    fn counts(&self) -> Option<Arc<Counts>> {
        self.counts.borrow().clone()
    }

    /// The tasks of each step that has series of its own, and of the others together.
    fn tasks(&self) -> Vec<(String, String, TaskCounts)> {
        let Some(counts) = self.counts() else {
            return Vec::new();
        };
        let mut names = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        names.keep(|pipeline, step| {
            let of = (pipeline.to_owned(), step.to_owned());
            counts.tasks.contains_key(&of)
        });
        let mut told: Vec<(String, String, TaskCounts)> = Vec::new();
        for ((pipeline, step), tasks) in &counts.tasks {
            let (pipeline, step) = names.labels_of(pipeline, step);
            match told
                .iter_mut()
                .find(|(of, at, _)| of == pipeline && at == step)
            {
                Some((_, _, sum)) => sum.add_all(tasks),
                None => told.push((pipeline.to_owned(), step.to_owned(), *tasks)),
            }
        }
        told
    }

    /// The workers of each group that has series of its own. The others are told as one, without
    /// how many are wanted of each.
    fn groups(&self) -> Vec<(String, GroupCounts, Option<u64>)> {
        let Some(counts) = self.counts() else {
            return Vec::new();
        };
        let mut names = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told: Vec<(String, GroupCounts, Option<u64>)> = Vec::new();
        for (group, of) in &counts.groups {
            let label = names.label_of(group);
            match told.iter_mut().find(|(at, _, _)| at == label) {
                Some((_, sum, desired)) => {
                    sum.add_all(of);
                    *desired = None;
                }
                None => told.push((label.to_owned(), *of, of.desired_workers())),
            }
        }
        told
    }
}

/// Makes the instruments. What comes back asks the store for its size, as long as it is polled.
pub fn observe(
    meter: &Meter,
    handle: &CoordinatorHandle,
) -> impl Future<Output = Infallible> + use<> {
    let readings = Arc::new(Readings {
        handle: handle.clone(),
        counts: handle.telling().counts.subscribe(),
        steps: Mutex::default(),
        groups: Mutex::default(),
        store_bytes: AtomicU64::new(0),
    });
    of_itself(meter, &readings);
    of_tasks(meter, &readings);
    of_groups(meter, &readings);
    ask_the_store(readings)
}

async fn ask_the_store(readings: Arc<Readings>) -> Infallible {
    loop {
        if readings.counts().is_some() {
            match readings.handle.store().size_bytes().await {
                Ok(bytes) => readings.store_bytes.store(bytes, Ordering::Relaxed),
                Err(error) => tracing::debug!(%error, "the store does not tell its size"),
            }
        }
        tokio::time::sleep(STORE_EVERY).await;
    }
}

fn of_itself(meter: &Meter, readings: &Arc<Readings>) {
    let of = Arc::clone(readings);
    meter
        .u64_observable_gauge("leader")
        .with_description("1 while this coordinator leads, else 0")
        .with_callback(move |observer| {
            let leads = matches!(&*of.handle.role().borrow(), Role::Leading);
            observer.observe(u64::from(leads), &[]);
        })
        .build();
    let of = Arc::clone(readings);
    meter
        .u64_observable_counter("term_changes")
        .with_description("Terms that this coordinator began")
        .with_callback(move |observer| {
            observer.observe(of.handle.telling().terms.load(Ordering::Relaxed), &[]);
        })
        .build();
    let of = Arc::clone(readings);
    meter
        .u64_observable_counter("lease_expirations")
        .with_description("Attempts that this coordinator counted as crashed with their worker")
        .with_callback(move |observer| {
            let lost = of.handle.telling().leases_lost.load(Ordering::Relaxed);
            observer.observe(lost, &[]);
        })
        .build();
    let of = Arc::clone(readings);
    meter
        .u64_observable_gauge("store_size")
        .with_unit("By")
        .with_description("Size of the store's database")
        .with_callback(move |observer| {
            let bytes = of.store_bytes.load(Ordering::Relaxed);
            if bytes > 0 && of.counts().is_some() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

fn of_tasks(meter: &Meter, readings: &Arc<Readings>) {
    let of = Arc::clone(readings);
    meter
        .u64_observable_gauge("runs")
        .with_description("Runs that the store holds, by status")
        .with_callback(move |observer| {
            let Some(counts) = of.counts() else { return };
            for status in RUN_STATUSES {
                let runs = counts.runs.get(status).copied().unwrap_or(0);
                observer.observe(runs, &[KeyValue::new("status", status)]);
            }
        })
        .build();
    let of = Arc::clone(readings);
    meter
        .u64_observable_gauge("tasks")
        .with_description("Tasks of runs that have not ended, by state")
        .with_callback(move |observer| {
            for (pipeline, step, tasks) in of.tasks() {
                for (state, count) in [
                    ("pending", tasks.pending),
                    ("open", tasks.open),
                    ("done", tasks.done),
                    ("retry_wait", tasks.retry_wait),
                    ("dead", tasks.dead),
                    ("in_doubt", tasks.in_doubt),
                    ("covered", tasks.covered),
                    ("superseded", tasks.superseded),
                ] {
                    let labels = [
                        KeyValue::new("pipeline", pipeline.clone()),
                        KeyValue::new("step", step.clone()),
                        KeyValue::new("state", state),
                    ];
                    observer.observe(count, &labels);
                }
            }
        })
        .build();
}

fn of_groups(meter: &Meter, readings: &Arc<Readings>) {
    let of = Arc::clone(readings);
    meter
        .u64_observable_gauge("workers")
        .with_description("Connected workers, by group and state")
        .with_callback(move |observer| {
            for (group, counts, _) in of.groups() {
                for (state, count) in [
                    ("ready", counts.ready),
                    ("draining", counts.draining),
                    ("cordoned", counts.cordoned),
                ] {
                    let group = KeyValue::new("group", group.clone());
                    observer.observe(count, &[group, KeyValue::new("state", state)]);
                }
            }
        })
        .build();
    let of = Arc::clone(readings);
    meter
        .u64_observable_gauge("slots")
        .with_description("Slots with a task, and free slots of workers that take work")
        .with_callback(move |observer| {
            for (group, counts, _) in of.groups() {
                for (state, count) in [("busy", counts.busy), ("free", counts.free)] {
                    let group = KeyValue::new("group", group.clone());
                    observer.observe(count, &[group, KeyValue::new("state", state)]);
                }
            }
        })
        .build();
    let of = Arc::clone(readings);
    meter
        .u64_observable_gauge("group_desired_workers")
        .with_description("Workers of the group that would have something to do")
        .with_callback(move |observer| {
            for (group, _, desired) in of.groups() {
                if let Some(desired) = desired {
                    observer.observe(desired, &[KeyValue::new("group", group)]);
                }
            }
        })
        .build();
}

#[cfg(test)]
mod tests;
