//! Plans a million partitions and expands every one of them, task ids included: `cargo bench -p
//! highwater-common`.
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::collections::BTreeMap;
use std::time::Instant;

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{
    ColumnFacts, ColumnKind, CursorForm, Engine, PartitionFacts, StepFacts, TableFacts, TargetFacts,
};
use highwater_common::id::{DocumentDigest, RunId, StepName};
use highwater_common::plan::Plan;
use highwater_common::segment::{SEGMENT_TASKS, Segment, TaskResult};
use highwater_common::spec::{
    Backfill, Chunk, ColumnRules, ExistingRows, Grain, Nulls, OnSchemaChange, Order, Partition,
    PartitionBy, Reprocess, RetryPolicy, RunLimits, SourceRows, SourceTable, Spec, Step,
    StepLimits, Strategy, TableName, TargetTable, Triggers, Write, WriteMode,
};

const TASKS: u64 = 1_000_000;
const HOUR_MICROS: i64 = 3_600_000_000;

fn main() {
    for tz in ["UTC", "Europe/Berlin"] {
        calendar(tz);
    }
    segments();
}

/// A million hours, which is from 1911 to 2025.
fn calendar(tz: &str) {
    let step: StepName = "events".parse().expect("a name");
    let (spec, facts) = (spec(&step, tz), BTreeMap::from([(step.clone(), facts())]));
    let began = Instant::now();
    let plan = Plan::new(&spec, DocumentDigest::of(b"spec"), 0, &facts).expect("a plan");
    let bytes = serde_json::to_vec(&plan).expect("a document").len();
    let planned = began.elapsed();
    let began = Instant::now();
    let (run, events) = (RunId::from_bytes([7; 16]), &plan.steps[&step]);
    let load = events.phase(1).expect("a load").len();
    let ids = (0..load).filter_map(|ordinal| events.task_id(&run, 1, &step, 1, ordinal));
    let mixed = ids.fold(0, |mixed, id| mixed ^ id.as_bytes()[0]);
    let (tasks, expanded) = (events.tasks_planned(), began.elapsed());
    println!(
        "{tz}: {tasks} partitions planned in {planned:.1?} ({bytes} bytes), expanded with ids in \
         {expanded:.1?} ({mixed:02x})"
    );
}

/// The states of a million tasks, written and read back.
fn segments() {
    let began = Instant::now();
    let mut bytes = 0;
    for _ in 0..TASKS / u64::from(SEGMENT_TASKS) {
        let mut segment = Segment::new(SEGMENT_TASKS);
        for index in 0..SEGMENT_TASKS {
            segment.set_done(
                index,
                TaskResult {
                    rows: 100_000,
                    millis: 5_000,
                    attempts: 1,
                },
            );
        }
        let stored = segment.to_bytes();
        bytes += stored.len();
        assert_eq!(Segment::from_bytes(&stored).as_ref(), Ok(&segment));
    }
    println!(
        "segments: {TASKS} tasks done, stored and read in {:.1?} ({bytes} bytes)",
        began.elapsed()
    );
}

fn spec(name: &StepName, tz: &str) -> Spec {
    let table = |name: &str| TableName {
        schema: None,
        name: name.to_owned(),
    };
    let load = Backfill {
        from: SourceTable {
            connection: "legacy".parse().expect("a name"),
            relation: table("events").into(),
            columns: ColumnRules::default(),
            rows: SourceRows::All,
        },
        to: TargetTable {
            create: None,
            connection: "warehouse".parse().expect("a name"),
            table: table("events"),
        },
        partition: Partition {
            column: "at".to_owned(),
            by: PartitionBy::Calendar {
                grain: Grain::Hour,
                tz: tz.to_owned(),
            },
            nulls: Nulls::Partition,
        },
        start: None,
        end: None,
        is_continued: false,
        reprocess: Reprocess::Missing,
        order: Order::Newest,
        write: Write {
            mode: WriteMode::Append,
            key: Vec::new(),
            cursor: None,
            resident: ExistingRows::Fail,
            triggers: Triggers::Fire,
            on_schema_change: OnSchemaChange::Fail,
        },
        chunk: Chunk::default(),
    };
    let step = Step {
        depends_on: Vec::new(),
        strategy: Strategy::Backfill(Box::new(load)),
        retries: RetryPolicy::default(),
        limits: StepLimits::default(),
        pools: Vec::new(),
        labels: BTreeMap::new(),
        tolerate_dead: 0,
        checks: Vec::new(),
    };
    Spec {
        version: 1,
        name: "bench".parse().expect("a name"),
        connections: BTreeMap::new(),
        limits: RunLimits {
            tasks: None,
            priority: None,
        },
        pools: BTreeMap::new(),
        schedule: None,
        steps: BTreeMap::from([(name.clone(), step)]),
    }
}

fn facts() -> StepFacts {
    // 30 hours less than a million, for the NULL partition and for the days that other zones begin
    // earlier or later.
    let hours = i64::try_from(TASKS).expect("a small number") - 30;
    let last = 486_000;
    StepFacts {
        source: TableFacts {
            definition: None,
            filtered: false,
            engine: Engine::Postgres,
            columns: vec![ColumnFacts {
                name: "at".to_owned(),
                type_name: "timestamp with time zone".to_owned(),
                kind: ColumnKind::Instant,
                nullable: true,
                binary_portable: true,
                definition: None,
                origin: None,
            }],
            key: Vec::new(),
            rows: 10_000_000_000,
            rows_exact: false,
            bytes: 1 << 40,
            partition: Some(PartitionFacts {
                column: "at".to_owned(),
                kind: CursorKind::Instant,
                form: CursorForm::Native,
                min: Some(Cursor::Instant((last - hours) * HOUR_MICROS)),
                max: Some(Cursor::Instant(last * HOUR_MICROS)),
                nullable: true,
                left_out: None,
                null_rows: None,
                indexed: true,
                placing: None,
                histogram: Vec::new(),
                empty: Vec::new(),
            }),
        },
        target: TargetFacts {
            engine: Engine::Postgres,
            fingerprint: "bench".to_owned(),
            table: None,
            created_as: Vec::new(),
            uncarried: Vec::new(),
            covered: Vec::new(),
            covered_null: false,
        },
        window: None,
        adopted: None,
        receipts: None,
        undone: None,
        beside: None,
        log: None,
    }
}
