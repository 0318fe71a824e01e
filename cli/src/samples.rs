//! Documents for tests.

use highwater_common::controls::{Controls, Hold, Limits};
use highwater_common::document::{
    ActionDocument, AuditDocument, CheckDocument, ClusterDocument, EventDocument, EventsDocument,
    FailedTaskDocument, PlanDocument, PlannedStepDocument, RunDocument, RunsDocument, StepDocument,
    TaskCounts, TaskDocument, TasksDocument, WorkerDocument,
};
use highwater_common::id::{DocumentDigest, RunId, TaskId};
use highwater_common::status::{RunStatus, StepStatus};

/// The id of every sample run.
pub(crate) const RUN: RunId =
    RunId::from_bytes([0x71, 0xc0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// A run in the middle of its work.
pub(crate) fn run() -> RunDocument {
    RunDocument {
        schema: "run/v1".to_owned(),
        run: RUN,
        short: "r-71c".to_owned(),
        pipeline: "shop".parse().unwrap(),
        spec: DocumentDigest::of(b"spec"),
        status: RunStatus::Running,
        saved_plan: false,
        reason: String::new(),
        reference_time: "2026-03-01T10:00:00Z".to_owned(),
        ended_at: None,
        committed: true,
        tasks: TaskCounts {
            pending: 14,
            open: 4,
            done: 12,
            retry_wait: 1,
            dead: 1,
            ..TaskCounts::default()
        },
        rows: 27_004,
        bytes: 3 << 20,
        workers: 4,
        slots: 4,
        lag: None,
        controls: Controls::default(),
        steps: vec![orders(), step("order_kpis", StepStatus::Pending)],
    }
}

/// The same, of which an operator holds something back.
pub(crate) fn paused() -> RunDocument {
    let hold = |reason: &str| Hold {
        by: "ann (certificate)".to_owned(),
        reason: reason.to_owned(),
        since_micros: 1_772_359_210_000_000,
    };
    let limits = Limits {
        tasks: Some(8),
        steps: [("orders".parse().unwrap(), 2)].into(),
        ..Limits::default()
    };
    let mut run = run();
    run.controls = Controls {
        paused: Some(hold("the nightly backup")),
        paused_connections: [("legacy".parse().unwrap(), hold("maintenance"))].into(),
        limits,
        ..Controls::default()
    };
    run.steps[0].dead[0].accepted = "by ann: never delivered".to_owned();
    run.steps[0].waits = vec!["the run is paused by ann: the nightly backup".to_owned()];
    run
}

/// A run of a whole schema, some tables of which are copied.
pub(crate) fn forty_tables() -> RunDocument {
    let done = TaskCounts {
        done: 3,
        ..TaskCounts::default()
    };
    let table = |number: u64| {
        let status = match number {
            17 | 21 => StepStatus::Running,
            22.. => StepStatus::Pending,
            _ => StepStatus::Success,
        };
        let of = step(&format!("all_t{number:02}"), status);
        match status {
            StepStatus::Success => StepDocument {
                tasks: done,
                rows: number * 1_000,
                ..of
            },
            StepStatus::Running => StepDocument {
                tasks: TaskCounts {
                    open: 2,
                    pending: 1,
                    ..TaskCounts::default()
                },
                ..of
            },
            _ => of,
        }
    };
    let mut steps: Vec<StepDocument> = (1..=40).map(table).collect();
    steps[4] = StepDocument {
        step: "all_t05".parse().unwrap(),
        status: StepStatus::Failed,
        watermark: None,
        waits: Vec::new(),
        warnings: Vec::new(),
        retrying: Vec::new(),
        ..orders()
    };
    steps[29].waits = vec!["1 task: pool legacy_reads, 2/2 at once".to_owned()];
    steps.push(step("all_foreign_keys", StepStatus::Pending));
    let totals = step("totals", StepStatus::Skipped);
    steps.push(StepDocument {
        reason: "all_t05 failed".to_owned(),
        ..totals
    });
    RunDocument { steps, ..run() }
}

/// What operators did.
pub(crate) fn audit() -> AuditDocument {
    AuditDocument {
        schema: "audit/v1".to_owned(),
        actions: vec![
            ActionDocument {
                number: 2,
                at: "2026-03-01T10:00:10Z".to_owned(),
                by: "ann (certificate)".to_owned(),
                verb: "pause".to_owned(),
                pipeline: "shop".to_owned(),
                run: Some(RUN),
                about: "step orders".to_owned(),
                reason: "the nightly backup".to_owned(),
            },
            ActionDocument {
                number: 1,
                at: "2026-03-01T10:00:00Z".to_owned(),
                by: "bob".to_owned(),
                verb: "cordon".to_owned(),
                pipeline: String::new(),
                run: None,
                about: "worker worker-6".to_owned(),
                reason: String::new(),
            },
        ],
    }
}

/// The step that works and fails.
fn orders() -> StepDocument {
    StepDocument {
        tasks: TaskCounts {
            pending: 13,
            open: 4,
            done: 12,
            retry_wait: 1,
            dead: 1,
            ..TaskCounts::default()
        },
        rows: 27_004,
        bytes: 3 << 20,
        watermark: Some("2013-01-12".to_owned()),
        lag_seconds: None,
        waits: vec!["13 tasks: limit of the step, 4/4 at once".to_owned()],
        warnings: vec!["public.orders has no index on created_at".to_owned()],
        dead: vec![failed(
            1,
            "2013-01-07",
            1,
            "permanent",
            "numeric_overflow",
            "amount\n\u{1b}[2Jout of range",
        )],
        retrying: vec![failed(
            2,
            "[2013-01-09, 2013-01-10)",
            2,
            "transient",
            "connection_lost",
            "server closed",
        )],
        ..step("orders", StepStatus::Running)
    }
}

/// A step without work.
pub(crate) fn step(name: &str, status: StepStatus) -> StepDocument {
    StepDocument {
        step: name.parse().unwrap(),
        strategy: "backfill".to_owned(),
        depends_on: Vec::new(),
        status,
        reason: String::new(),
        tasks: TaskCounts {
            pending: 1,
            ..TaskCounts::default()
        },
        rows: 0,
        bytes: 0,
        watermark: None,
        lag_seconds: None,
        waits: Vec::new(),
        warnings: Vec::new(),
        not_loaded: Vec::new(),
        checks: Vec::new(),
        dead: Vec::new(),
        retrying: Vec::new(),
    }
}

fn failed(
    id: u8,
    work: &str,
    attempts: u32,
    class: &str,
    code: &str,
    message: &str,
) -> FailedTaskDocument {
    FailedTaskDocument {
        task: TaskId::from_bytes([id; 16]),
        work: work.to_owned(),
        attempts,
        class: class.to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
        accepted: String::new(),
    }
}

/// A run that did everything.
pub(crate) fn succeeded() -> RunDocument {
    let tasks = TaskCounts {
        done: 31,
        ..TaskCounts::default()
    };
    RunDocument {
        status: RunStatus::Success,
        ended_at: Some("2026-03-01T10:00:05.29Z".to_owned()),
        tasks,
        steps: vec![StepDocument {
            tasks,
            rows: 27_004,
            ..step("orders", StepStatus::Success)
        }],
        ..run()
    }
}

/// A run of which one task died.
pub(crate) fn failed_run() -> RunDocument {
    let tasks = TaskCounts {
        done: 1_132,
        dead: 1,
        pending: 2,
        ..TaskCounts::default()
    };
    let orders = StepDocument {
        status: StepStatus::Failed,
        waits: Vec::new(),
        retrying: Vec::new(),
        tasks: TaskCounts {
            done: 1_093,
            dead: 1,
            ..TaskCounts::default()
        },
        ..orders()
    };
    let kpis = StepDocument {
        reason: "orders failed".to_owned(),
        ..step("order_kpis", StepStatus::Skipped)
    };
    RunDocument {
        status: RunStatus::Failed,
        ended_at: Some("2026-03-01T11:07:00Z".to_owned()),
        tasks,
        rows: 1_307_911_204,
        steps: vec![step("customers", StepStatus::Success), orders, kpis],
        ..run()
    }
}

/// A cancelled run.
pub(crate) fn cancelled() -> RunDocument {
    RunDocument {
        status: RunStatus::Cancelled,
        reason: "wrong source".to_owned(),
        ended_at: Some("2026-03-01T10:00:12Z".to_owned()),
        tasks: TaskCounts {
            done: 12,
            superseded: 19,
            ..TaskCounts::default()
        },
        steps: vec![step("orders", StepStatus::Cancelled)],
        ..run()
    }
}

/// A plan of two steps.
pub(crate) fn plan() -> PlanDocument {
    PlanDocument {
        schema: "plan/v1".to_owned(),
        run: RUN,
        short: "r-71c".to_owned(),
        pipeline: "shop".parse().unwrap(),
        spec: DocumentDigest::of(b"spec"),
        plan: DocumentDigest::of(b"plan"),
        reference_time: "2026-03-01T10:00:00Z".to_owned(),
        tasks: 1_099,
        steps: vec![
            PlannedStepDocument {
                step: "orders".parse().unwrap(),
                strategy: "backfill".to_owned(),
                tasks: 1_094,
                covered: 2,
                rows: 1_310_000_000,
                rows_exact: false,
                summary: "by day of created_at, UTC, [2022-01-01, 2025-01-01)".to_owned(),
                columns: Vec::new(),
                first: vec![
                    "[2022-01-01, 2022-01-02)".to_owned(),
                    "[2022-01-02, 2022-01-03)".to_owned(),
                ],
                warnings: vec!["no index on created_at in the target".to_owned()],
                notes: vec![
                    "3 rows with NULL in created_at are a partition of their own".to_owned(),
                ],
            },
            PlannedStepDocument {
                step: "warm_up".parse().unwrap(),
                strategy: "noop".to_owned(),
                tasks: 5,
                covered: 0,
                rows: 0,
                rows_exact: true,
                summary: "5 tasks of 50 ms".to_owned(),
                columns: Vec::new(),
                first: Vec::new(),
                warnings: Vec::new(),
                notes: Vec::new(),
            },
        ],
        adopted: Default::default(),
        receipts: Default::default(),
        undone: Default::default(),
        beside: Default::default(),
        logs: Default::default(),
    }
}

/// Three runs.
pub(crate) fn runs() -> RunsDocument {
    let without_steps = |run: RunDocument| RunDocument {
        steps: Vec::new(),
        ..run
    };
    RunsDocument {
        schema: "runs/v1".to_owned(),
        runs: [run(), failed_run(), succeeded()].map(without_steps).into(),
    }
}

/// A cluster of two workers.
pub(crate) fn cluster() -> ClusterDocument {
    let worker = |name: &str, busy, age| WorkerDocument {
        worker: name.to_owned(),
        state: "ready".to_owned(),
        version: "0.1.0".to_owned(),
        slots: 8,
        busy,
        heartbeat_age_millis: age,
        capabilities: vec!["backfill".to_owned(), "postgres".to_owned()],
    };
    ClusterDocument {
        schema: "cluster/v1".to_owned(),
        cluster: "0102030405060708090a0b0c0d0e0f10".parse().unwrap(),
        leader: "http://c-1:7070".to_owned(),
        term: "9c41".to_owned(),
        token_hi: 3,
        store: "etcd".to_owned(),
        store_bytes: 1_258_291,
        trouble: String::new(),
        workers: vec![worker("worker-1", 8, 420), worker("worker-10", 0, 2_300)],
    }
}

/// Two tasks: one done, one dead.
pub(crate) fn tasks() -> TasksDocument {
    let task = |work: &str, state: &str, rows, error: &str| TaskDocument {
        task: TaskId::from_bytes([7; 16]),
        step: "orders".parse().unwrap(),
        work: work.to_owned(),
        state: state.to_owned(),
        attempts: 1,
        worker: String::new(),
        rows,
        millis: 1_500,
        error: error.to_owned(),
    };
    TasksDocument {
        schema: "tasks/v1".to_owned(),
        run: RUN,
        short: "r-71c".to_owned(),
        tasks: vec![
            task("[2023-05-06, 2023-05-07)", "done", 1_204_331, ""),
            task(
                "[2023-05-07, 2023-05-08)",
                "dead",
                0,
                "amount: numeric field overflow",
            ),
        ],
        more: false,
    }
}

/// A task that was assigned and failed.
pub(crate) fn events() -> EventsDocument {
    let event = |seq, what: &str, error: &str| EventDocument {
        seq,
        at: "2026-03-01T10:00:00Z".to_owned(),
        step: "orders".parse().unwrap(),
        work: "[2023-05-07, 2023-05-08)".to_owned(),
        attempt: 1,
        worker: "worker-6".to_owned(),
        what: what.to_owned(),
        error: error.to_owned(),
    };
    let events = vec![
        event(1, "assigned", ""),
        event(2, "dead", "amount: numeric field overflow"),
    ];
    EventsDocument {
        schema: "events/v1".to_owned(),
        run: RUN,
        events,
    }
}

/// A check whose words were lost, one that passed, and one that failed.
pub(crate) fn checks() -> Vec<CheckDocument> {
    let check = |least: u64, found: &str| CheckDocument {
        check: format!("min_rows: {least}"),
        passed: least < 30,
        expected: format!("at least {least} rows"),
        found: found.to_owned(),
    };
    vec![check(1, ""), check(10, "12 rows"), check(30, "12 rows")]
}
