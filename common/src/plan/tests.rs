//! Plans as a user meets them: settled, refused, expanded.

mod any_facts;
mod arriving;
mod forms;
mod twins;
mod whole;
mod windows;

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::assignment::Work;
use crate::cursor::{Cursor, CursorKind};
use crate::facts::{
    ColumnFacts, ColumnKind, CursorForm, Engine, PartitionFacts, TableFacts, TargetFacts,
    TargetTableFacts,
};
use crate::id::RunId;
use crate::left_out::{LeftOut, Tally, declared_range};
use crate::partition::DAY_MICROS;
use crate::range::{CursorRange, Slice};
use crate::spec::{
    Backfill, Bound, Chunk, ColumnRules, ExistingRows, Grain, Noop, Nulls, OnSchemaChange, Order,
    Partition, PartitionBy, Reprocess, RetryPolicy, RunLimits, SourceRows, SourceTable, StepLimits,
    Strategy, TableName, TargetTable, Triggers, Write, WriteMode,
};

fn table(name: &str) -> TableName {
    TableName {
        schema: Some("public".to_owned()),
        name: name.to_owned(),
    }
}

fn name() -> StepName {
    "orders".parse().expect("a name")
}

fn pipeline() -> PipelineName {
    "shop".parse().expect("a name")
}

fn instant(text: &str) -> Cursor {
    Cursor::instant(text.parse::<Timestamp>().expect("an instant"))
}

fn days(start: Option<&str>, end: Option<&str>) -> Backfill {
    Backfill {
        from: SourceTable {
            connection: "legacy".parse().expect("a name"),
            relation: table("orders").into(),
            columns: ColumnRules::default(),
            rows: SourceRows::All,
        },
        to: TargetTable {
            create: None,
            connection: "warehouse".parse().expect("a name"),
            table: table("orders_copy"),
        },
        partition: Partition {
            column: "created_at".to_owned(),
            by: PartitionBy::Calendar {
                grain: Grain::Day,
                tz: "UTC".to_owned(),
            },
            nulls: Nulls::Partition,
        },
        start: start.map(|text| Bound(text.to_owned())),
        end: end.map(|text| Bound(text.to_owned())),
        is_continued: false,
        reprocess: Reprocess::Missing,
        order: Order::Oldest,
        write: Write {
            mode: WriteMode::ReplacePartition,
            key: Vec::new(),
            cursor: None,
            resident: ExistingRows::Fail,
            triggers: Triggers::Fire,
            on_schema_change: OnSchemaChange::Fail,
        },
        chunk: Chunk::default(),
    }
}

fn by_rows(max_rows: u64) -> Backfill {
    let mut step = days(None, None);
    step.partition.column = "id".to_owned();
    step.partition.by = PartitionBy::Integer {
        width: None,
        max_rows,
    };
    step
}

fn column(name: &str, type_name: &str, kind: ColumnKind, nullable: bool) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        kind,
        nullable,
        binary_portable: true,
        definition: None,
        origin: None,
    }
}

fn columns() -> Vec<ColumnFacts> {
    vec![
        column("id", "bigint", ColumnKind::Int64, false),
        column(
            "created_at",
            "timestamp with time zone",
            ColumnKind::Instant,
            true,
        ),
        column("total", "numeric(12,2)", ColumnKind::Numeric, true),
    ]
}

/// A hundred days of a table whose partition column may be NULL, and a target that does not exist
/// yet.
fn facts() -> StepFacts {
    StepFacts {
        source: TableFacts {
            definition: None,
            filtered: false,
            engine: Engine::Postgres,
            columns: columns(),
            key: vec!["id".to_owned()],
            rows: 1_000_000,
            rows_exact: true,
            bytes: 1 << 27,
            partition: Some(PartitionFacts {
                column: "created_at".to_owned(),
                kind: CursorKind::Instant,
                form: CursorForm::Native,
                min: Some(instant("2013-01-01T05:00:00Z")),
                max: Some(instant("2013-04-10T12:00:00Z")),
                nullable: true,
                left_out: None,
                null_rows: Some(7),
                indexed: true,
                placing: None,
                histogram: Vec::new(),
                empty: Vec::new(),
            }),
        },
        target: TargetFacts {
            engine: Engine::Postgres,
            fingerprint: "pg-1".to_owned(),
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

fn integer_facts(rows: u64) -> StepFacts {
    let mut facts = facts();
    facts.source.rows = rows;
    let partition = facts
        .source
        .partition
        .as_mut()
        .expect("facts of the column");
    partition.column = "id".to_owned();
    partition.kind = CursorKind::Integer;
    partition.min = Some(Cursor::Integer(1));
    partition.max = Some(Cursor::Integer(
        i64::try_from(rows).expect("a small number"),
    ));
    partition.nullable = false;
    partition.null_rows = Some(0);
    let step = i64::try_from(rows / 200).expect("a small number");
    partition.histogram = (0..200).map(|at| Cursor::Integer(1 + at * step)).collect();
    facts
}

fn existing(mut facts: StepFacts) -> StepFacts {
    facts.target.table = Some(TargetTableFacts {
        columns: columns(),
        generated: Vec::new(),
        defaulted: Vec::new(),
        key: vec!["id".to_owned()],
        unique: vec![vec!["id".to_owned()]],
        partition_form: Some(CursorForm::Native),
        partition_indexed: true,
        has_rows: false,
        unfinished: false,
        reactions: Vec::new(),
        exchange: None,
        referenced_by: Vec::new(),
    });
    facts
}

fn target(facts: &mut StepFacts) -> &mut TargetTableFacts {
    facts.target.table.as_mut().expect("a table")
}

fn partition(facts: &mut StepFacts) -> &mut PartitionFacts {
    facts
        .source
        .partition
        .as_mut()
        .expect("facts of the column")
}

fn target_form(plan: &LoadPlan) -> CursorForm {
    let cut_by = plan.load_order.cut_by.as_ref();
    cut_by.expect("it is cut by a column").target_form
}

fn plan(step: &Backfill, facts: &StepFacts) -> LoadPlan {
    plan_load(&pipeline(), &name(), step, facts).expect("a plan")
}

fn refused(step: &Backfill, facts: &StepFacts) -> Vec<PlanProblem> {
    let problems = plan_load(&pipeline(), &name(), step, facts).expect_err("a refusal");
    assert!(
        problems
            .iter()
            .all(|problem| !problem.message.is_empty() && !problem.help.is_empty())
    );
    problems
}

fn codes(step: &Backfill, facts: &StepFacts) -> Vec<&'static str> {
    refused(step, facts)
        .into_iter()
        .map(|problem| problem.code.as_str())
        .collect()
}

fn covered(facts: StepFacts, ranges: &[(&str, &str)]) -> StepFacts {
    let range = |(start, end): &(&str, &str)| {
        CursorRange::new(Some(instant(start)), Some(instant(end))).expect("a range")
    };
    let target = TargetFacts {
        covered: ranges.iter().map(range).collect(),
        ..facts.target
    };
    StepFacts { target, ..facts }
}

fn spec(step: Backfill) -> Spec {
    let step = Step {
        depends_on: Vec::new(),
        strategy: Strategy::Backfill(Box::new(step)),
        retries: RetryPolicy::default(),
        limits: StepLimits::default(),
        pools: Vec::new(),
        labels: BTreeMap::new(),
        tolerate_dead: 0,
        checks: Vec::new(),
    };
    Spec {
        version: 1,
        name: pipeline(),
        connections: BTreeMap::new(),
        limits: RunLimits {
            tasks: None,
            priority: None,
        },
        pools: BTreeMap::new(),
        schedule: None,
        steps: BTreeMap::from([(name(), step)]),
    }
}

fn whole_plan(step: Backfill, facts: StepFacts) -> Plan {
    let facts = BTreeMap::from([(name(), facts)]);
    Plan::new(
        &spec(step),
        DocumentDigest::of(b"spec"),
        1_767_225_600_000_000,
        &facts,
    )
    .expect("a plan")
}

#[test]
fn same_spec_and_bounds_give_the_same_plan() {
    // GIVEN one spec and the same facts, planned twice
    let step = days(Some("2013-01-01"), Some("2013-04-01"));
    let (one, other) = (
        whole_plan(step.clone(), facts()),
        whole_plan(step.clone(), facts()),
    );
    // WHEN the plans are compared, THEN they are one, and so are the task ids of a run and the
    // stored form
    assert_eq!((&one, one.digest()), (&other, other.digest()));
    let run = RunId::from_bytes([7; 16]);
    let ids = |plan: &Plan| {
        let step = &plan.steps[&name()];
        (0..step.phase(1).expect("a load").len())
            .map(|ordinal| step.task_id(&run, 1, &name(), 1, ordinal))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&one), ids(&other));
    let stored: Plan = serde_json::from_slice(&serde_json::to_vec(&one).expect("a document"))
        .expect("what was stored");
    assert_eq!((stored.digest(), ids(&stored)), (one.digest(), ids(&one)));
    // AND every id is another
    let mut distinct = ids(&one);
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 91);
    // AND another bound, another fact or another time is another plan
    let later = days(Some("2013-01-01"), Some("2013-04-02"));
    assert_ne!(whole_plan(later, facts()).digest(), one.digest());
    let mut grown = facts();
    grown.source.rows += 1;
    assert_ne!(whole_plan(step.clone(), grown).digest(), one.digest());
    assert_ne!(
        Plan {
            reference_time_micros: 0,
            ..one.clone()
        }
        .digest(),
        one.digest()
    );
}

#[test]
fn hundred_million_row_plan_stays_small() {
    // GIVEN a hundred million rows cut by their ids, and a million civil periods
    let by_id = whole_plan(by_rows(1_000), integer_facts(100_000_000));
    let mut wide = facts();
    partition(&mut wide).min = Some(Cursor::Civil(0));
    partition(&mut wide).max = Some(Cursor::Civil(999_999 * 3_600_000_000));
    partition(&mut wide).kind = CursorKind::Civil;
    let mut hours = days(None, None);
    hours.partition.by = PartitionBy::Calendar {
        grain: Grain::Hour,
        tz: "UTC".to_owned(),
    };
    hours.partition.nulls = Nulls::Ignore;
    let by_hour = whole_plan(hours, wide);
    for (plan, tasks) in [(&by_id, 100_000), (&by_hour, 1_000_000)] {
        // WHEN the plan is stored
        let bytes = serde_json::to_vec(plan).expect("a document").len();
        // THEN it is small, whatever the number of its tasks
        assert!(bytes < 64 * 1024, "{bytes} bytes");
        assert_eq!(plan.tasks_planned(), tasks);
    }
    // AND any partition of it is at hand
    let step = &by_hour.steps[&name()];
    assert_eq!(
        step.work(1, 500_000)
            .map(|work| work.to_string())
            .as_deref(),
        Some("[2027-01-15T08:00:00, 2027-01-15T09:00:00)")
    );
    assert_eq!(by_id.steps[&name()].estimated_rows, 100_000_000);
}

#[test]
fn a_plan_settles_what_its_tasks_have_in_common() {
    let plan = plan(&days(None, None), &facts());
    let load_order = plan.load_order;
    assert_eq!(
        load_order.stream,
        "shop/orders/legacy:public.orders/public.orders_copy"
    );
    assert_eq!(
        (load_order.key.as_slice(), load_order.columns.len()),
        (["id".to_owned()].as_slice(), 3)
    );
    let cut_by = load_order.cut_by.as_ref().expect("it is cut by a column");
    assert_eq!(
        (cut_by.source_form, cut_by.target_form),
        (CursorForm::Native, CursorForm::Native)
    );
    assert_eq!(
        (
            plan.partitions.len(),
            plan.partitions.tasks_planned(),
            plan.estimated_rows
        ),
        (101, 101, 1_000_000)
    );
    assert_eq!(plan.partitions.slice(100), Some(Slice::Null));
    assert!(plan.warnings.is_empty() && plan.notes.is_empty());
}

#[test]
fn stream_names_cannot_be_forged_by_table_names() {
    let mut one = days(None, None);
    one.from.relation = TableName {
        schema: Some("a.b".to_owned()),
        name: "c".to_owned(),
    }
    .into();
    let mut other = days(None, None);
    other.from.relation = TableName {
        schema: Some("a".to_owned()),
        name: "b.c".to_owned(),
    }
    .into();
    assert_ne!(
        stream_id(&pipeline(), &name(), Some(&one.from), &one.to),
        stream_id(&pipeline(), &name(), Some(&other.from), &other.to)
    );
}

#[test]
fn committed_partitions_are_left_out() {
    // GIVEN a month of days, ten of which an earlier run committed, and its NULLs
    let step = days(Some("2013-01-01"), Some("2013-02-01"));
    let mut facts = covered(facts(), &[("2013-01-11T00:00:00Z", "2013-01-21T00:00:00Z")]);
    facts.target.covered_null = true;
    // WHEN it is planned
    let mut plan = plan(&step, &facts);
    // THEN they are skipped, counted and told of
    assert_eq!(
        (plan.partitions.len(), plan.partitions.tasks_planned()),
        (32, 21)
    );
    let skipped: Vec<u64> = (0..32)
        .filter(|ordinal| plan.partitions.skips(*ordinal))
        .collect();
    assert_eq!(skipped, (10..20).chain([31]).collect::<Vec<_>>());
    assert_eq!(
        plan.notes.pop().as_deref(),
        Some("11 partitions that earlier runs committed")
    );
    // AND when everything is asked for again, nothing is skipped
    let again = Backfill {
        reprocess: Reprocess::All,
        ..step.clone()
    };
    assert_eq!(
        super::plan_load(&pipeline(), &name(), &again, &facts)
            .expect("a plan")
            .partitions
            .tasks_planned(),
        32
    );
    // AND the open sides of an earlier run cover whatever lies there now
    facts.target.covered = vec![CursorRange::ALL];
    assert_eq!(
        super::plan_load(&pipeline(), &name(), &step, &facts)
            .expect("a plan")
            .partitions
            .tasks_planned(),
        0
    );
}

#[test]
fn of_a_partition_committed_in_part_only_the_rest_is_loaded() {
    // GIVEN months, after an earlier run that ended in the middle of one
    let mut step = days(Some("2013-01-01"), Some("2013-04-01"));
    step.partition.by = PartitionBy::Calendar {
        grain: Grain::Month,
        tz: "UTC".to_owned(),
    };
    step.write.mode = WriteMode::Append;
    let facts = covered(facts(), &[("2013-01-01T00:00:00Z", "2013-02-10T00:00:00Z")]);
    // WHEN it is planned
    let plan = plan(&step, &facts);
    // THEN no committed row is appended a second time
    assert!(plan.partitions.skips(0) && plan.partitions.tasks_planned() == 3);
    assert_eq!(
        plan.partitions.slice(1).expect("a rest").to_string(),
        "[2013-02-10T00:00:00Z, 2013-03-01T00:00:00Z)"
    );
    assert!(
        plan.warnings[0].contains("committed in part"),
        "{:?}",
        plan.warnings
    );
    // AND a hole in the middle of a month cannot be appended around
    let pieces = covered(facts, &[("2013-02-10T00:00:00Z", "2013-02-11T00:00:00Z")]);
    assert_eq!(codes(&step, &pieces), ["plan::covered_in_pieces"]);
    step.reprocess = Reprocess::All;
    assert_eq!(codes(&step, &pieces), ["plan::append_again"]);
}

#[test]
fn every_refusal_names_its_fact_and_its_remedy() {
    let mut step = days(None, None);
    step.partition.by = PartitionBy::Integer {
        width: Some(10),
        max_rows: 1,
    };
    assert_eq!(codes(&step, &facts()), ["plan::partition_kind"]);
    step = days(None, None);
    step.partition.column = "id".to_owned();
    assert_eq!(
        codes(&step, &integer_facts(10_000)),
        ["plan::partition_kind"]
    );
    let mut dates = facts();
    (
        partition(&mut dates).kind,
        partition(&mut dates).min,
        partition(&mut dates).max,
    ) = (CursorKind::Date, None, None);
    step = days(None, None);
    step.partition.by = PartitionBy::Calendar {
        grain: Grain::Hour,
        tz: "UTC".to_owned(),
    };
    assert_eq!(codes(&step, &dates), ["plan::partition_grain"]);
    step.partition.by = PartitionBy::Calendar {
        grain: Grain::Day,
        tz: "Europe/Berlin".to_owned(),
    };
    assert_eq!(codes(&step, &dates), ["plan::partition_zone"]);
    step.partition.by = PartitionBy::Calendar {
        grain: Grain::Day,
        tz: "Mars/Olympus".to_owned(),
    };
    assert_eq!(codes(&step, &facts()), ["plan::unknown_zone"]);
    assert_eq!(
        codes(&days(Some("2013-02-01"), Some("2013-02-01")), &facts()),
        ["plan::empty_range"]
    );
    assert_eq!(
        codes(&days(Some("soon"), Some("later")), &facts()),
        ["plan::bound", "plan::bound"]
    );
    step = days(None, None);
    step.partition.nulls = Nulls::Fail;
    assert_eq!(codes(&step, &facts()), ["plan::null_rows"]);
    let mut uncounted = facts();
    partition(&mut uncounted).null_rows = None;
    assert_eq!(codes(&step, &uncounted), ["plan::null_rows_unknown"]);
    step = days(None, None);
    step.write.key = vec!["order_id".to_owned(), "total".to_owned()];
    assert_eq!(
        codes(&step, &facts()),
        ["plan::unknown_key_column", "plan::nullable_key"]
    );
    let mut unread = facts();
    unread.source.columns.remove(1);
    assert_eq!(codes(&days(None, None), &unread), ["plan::unknown_column"]);
    let fine = days(Some("2013-01-01T00:00:00.5Z"), None);
    let mut epoch = facts();
    partition(&mut epoch).form = CursorForm::EpochSeconds;
    assert_eq!(codes(&fine, &epoch), ["plan::partition_form"; 2]);
    let problem = &refused(&days(Some("soon"), None), &facts())[0];
    assert!(
        problem.to_string().starts_with(
            "step orders: steps.orders.strategy.start: `soon` is not a day such as 2013-01-01"
        ),
        "{problem}"
    );
}

#[test]
fn tables_that_do_not_fit_are_refused_with_both_sides_columns() {
    // GIVEN a target that lacks a column, holds another too narrowly, and demands a third
    let mut facts = existing(facts());
    let target = facts.target.table.as_mut().expect("a table");
    target.columns = vec![
        column("id", "integer", ColumnKind::Int32, false),
        column(
            "created_at",
            "timestamp with time zone",
            ColumnKind::Instant,
            true,
        ),
        column("loaded_by", "text", ColumnKind::Text, false),
    ];
    // WHEN it is planned, THEN all of it is told at once
    let problems = refused(&days(None, None), &facts);
    assert_eq!(problems.len(), 3);
    assert_eq!(
        problems[0].message,
        "the target table public.orders_copy lacks total; the source table public.orders has id, \
         created_at, total; the target has id, created_at, loaded_by"
    );
    assert_eq!(
        problems[1].message,
        "column id is bigint in public.orders and integer in public.orders_copy: the target's type \
         is narrower"
    );
    assert_eq!(
        problems[2].message,
        "column loaded_by of the target table public.orders_copy is NOT NULL and has no default, \
         and public.orders brings no column of that name"
    );
    // WHEN that one has a default, and another is computed there, THEN the computed one is what is
    // told
    let target = facts.target.table.as_mut().expect("a table");
    target.defaulted = vec!["loaded_by".to_owned()];
    target
        .columns
        .push(column("total", "numeric(14,4)", ColumnKind::Numeric, true));
    target.generated = vec!["total".to_owned()];
    let codes = codes(&days(None, None), &facts);
    assert_eq!(
        codes,
        ["plan::type_mismatch", "plan::generated_target_column"]
    );
}

#[test]
fn columns_that_differ_by_case_alone_are_refused_for_sqlite() {
    // GIVEN a table of PostgreSQL with two columns of one name in two letters
    let mut facts = facts();
    facts
        .source
        .columns
        .push(column("ID", "integer", ColumnKind::Int32, true));
    assert!(plan_load(&pipeline(), &name(), &days(None, None), &facts).is_ok());
    // WHEN it goes into SQLite, be it a new table, THEN both names are told
    facts.target.engine = Engine::Sqlite;
    let problem = &refused(&days(None, None), &facts)[0];
    assert_eq!(problem.code, "plan::column_names_collide");
    assert!(
        problem
            .message
            .contains("columns id and ID of public.orders"),
        "{}",
        problem.message
    );
}

#[test]
fn what_is_slow_or_left_behind_is_told_before_it_runs() {
    // GIVEN declared bounds inside the table, ignored NULLs, no index on either side, and rows of
    // unknown origin
    let mut step = days(Some("2013-02-01"), Some("2013-03-01"));
    step.partition.nulls = Nulls::Ignore;
    let mut facts = existing(facts());
    partition(&mut facts).indexed = false;
    let outside = LeftOut {
        before: Tally::Exactly(31),
        behind: Tally::Unknown,
        ..LeftOut::NONE
    };
    partition(&mut facts).left_out = Some(outside);
    let target = facts.target.table.as_mut().expect("a table");
    (target.partition_indexed, target.has_rows) = (false, true);
    // WHEN it is planned
    let plan = plan(&step, &facts);
    // THEN each of it is said
    assert_eq!(
        (plan.warnings.len(), plan.notes.len()),
        (3, 3),
        "{:?} {:?}",
        plan.warnings,
        plan.notes
    );
    assert!(
        plan.notes[0].starts_with("31 rows of public.orders whose created_at lies before"),
        "{}",
        plan.notes[0]
    );
    assert!(
        plan.notes[1].ends_with("which were not counted"),
        "{}",
        plan.notes[1]
    );
    assert_eq!(plan.notes[2], "7 rows of public.orders without created_at");
    // AND only about the rows in between are expected: 28 of 99.3 days
    assert!(
        (275_000..290_000).contains(&plan.estimated_rows),
        "{}",
        plan.estimated_rows
    );
}

#[test]
fn only_a_range_that_is_declared_and_can_be_read_has_rows_outside_of_it() {
    let range = |start, end| CursorRange::new(start, end).ok();
    // GIVEN no bound, or one that planning will refuse, THEN there is no outside
    assert_eq!(declared_range(&days(None, None), CursorKind::Date), None);
    assert_eq!(
        declared_range(&days(Some("2013-02-01"), Some("soon")), CursorKind::Date),
        None
    );
    assert_eq!(
        declared_range(
            &days(Some("2013-03-01"), Some("2013-02-01")),
            CursorKind::Date
        ),
        None
    );
    // GIVEN one bound or both, THEN it lies beyond each that is declared
    let (start, end) = (Cursor::Date(15_737), Cursor::Date(15_765));
    assert_eq!(
        declared_range(&days(Some("2013-02-01"), None), CursorKind::Date),
        range(Some(start), None)
    );
    assert_eq!(
        declared_range(&days(None, Some("2013-03-01")), CursorKind::Date),
        range(None, Some(end))
    );
    assert_eq!(
        declared_range(
            &days(Some("2013-02-01"), Some("2013-03-01")),
            CursorKind::Date
        ),
        range(Some(start), Some(end))
    );
    // AND a day begins when it does in the zone of the calendar
    let mut step = days(Some("2013-02-01"), None);
    step.partition.by = PartitionBy::Calendar {
        grain: Grain::Day,
        tz: "Europe/Berlin".to_owned(),
    };
    let begins = Cursor::Instant((15_737 * 24 - 1) * 3_600 * 1_000_000);
    assert_eq!(
        declared_range(&step, CursorKind::Instant),
        range(Some(begins), None)
    );
}

#[test]
fn too_many_partitions_name_their_number_and_the_remedy() {
    let mut facts = facts();
    partition(&mut facts).max = Some(Cursor::Instant(250_000_000_000 * 1_000_000));
    let mut step = days(None, None);
    step.partition.by = PartitionBy::Calendar {
        grain: Grain::Day,
        tz: "UTC".to_owned(),
    };
    let problem = &refused(&step, &facts)[0];
    assert_eq!(problem.code, "plan::too_many_partitions");
    assert!(
        problem.message.contains("2877813 partitions") && problem.help.contains("coarser"),
        "{problem:?}"
    );
}

#[test]
fn instants_on_their_way_into_sqlite_are_compared_by_whole_seconds() {
    let mut facts = facts();
    facts.target.engine = Engine::Sqlite;
    let form = CursorForm::TextTime {
        separator_t: false,
        fraction_digits: 0,
        zulu: false,
    };
    assert_eq!(target_form(&plan(&days(None, None), &facts)), form);
}

#[test]
fn an_empty_table_is_one_partition() {
    let mut facts = facts();
    (
        partition(&mut facts).min,
        partition(&mut facts).max,
        facts.source.rows,
    ) = (None, None, 0);
    partition(&mut facts).nullable = false;
    let plan = plan(&days(None, None), &facts);
    assert_eq!(
        (plan.partitions.tasks_planned(), plan.estimated_rows),
        (1, 0)
    );
    assert_eq!(
        plan.partitions.slice(0),
        Some(Slice::Range(CursorRange::ALL))
    );
}

#[test]
fn a_run_without_facts_or_with_too_many_tasks_tells_of_every_step() {
    // GIVEN a step that nobody probed and a no-op beyond the limit
    let mut spec = spec(days(None, None));
    let mut noop = spec.steps[&name()].clone();
    noop.strategy = Strategy::Noop(Noop {
        tasks: 2_000_000,
        hold: Duration::ZERO,
    });
    spec.steps
        .insert("ping".parse().expect("a name"), noop.clone());
    // WHEN the run is planned, THEN both are told of
    let problems =
        Plan::new(&spec, DocumentDigest::of(b""), 0, &BTreeMap::new()).expect_err("a refusal");
    let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["plan::not_probed", "plan::too_many_partitions"]);
    // AND a no-op within it has its own tasks
    noop.strategy = Strategy::Noop(Noop {
        tasks: 3,
        hold: Duration::ZERO,
    });
    let plan = plan_step(&pipeline(), &name(), &noop, None).expect("a plan");
    assert_eq!(
        (plan.work(0, 2), plan.work(0, 3), plan.tasks_planned()),
        (Some(Work::Noop(2)), None, 3)
    );
}

#[test]
fn counting_tasks_agrees_with_asking_each_of_them() {
    // GIVEN days with committed ranges that begin and end anywhere
    let step = days(Some("2013-01-01"), None);
    for seed in 0..50_i64 {
        let mut facts = facts();
        let Some(Cursor::Instant(start)) = partition(&mut facts).min else {
            panic!("an instant")
        };
        let range = |at: i64| {
            let from = start + (seed * 37 + at * 411) % 2_400 * DAY_MICROS / 24;
            let to = from + (1 + (seed * 13 + at * 7) % 200) * DAY_MICROS / 24;
            CursorRange::new(
                Some(Cursor::Instant(from)),
                (at > 0).then_some(Cursor::Instant(to)),
            )
            .expect("a range")
        };
        facts.target.covered = (seed % 2..seed % 7 + 1).map(range).collect();
        // WHEN the plan counts its tasks, THEN as many ordinals are not skipped
        let plan = plan(&step, &facts);
        let asked = (0..plan.partitions.len())
            .filter(|ordinal| !plan.partitions.skips(*ordinal))
            .count() as u64;
        assert_eq!(plan.partitions.tasks_planned(), asked, "seed {seed}");
    }
}

#[test]
fn rows_are_merged_by_a_key_that_tells_them_apart_on_both_sides() {
    let mut step = days(None, None);
    step.write.mode = WriteMode::Merge;
    // GIVEN a target whose key is the source's THEN a merge is planned, chunk by chunk
    let mut there = existing(facts());
    let planned = plan(&step, &there);
    assert_eq!(planned.load_order.key, ["id"]);
    assert_eq!(
        planned.load_order.chunk.is_some(),
        partition(&mut there).indexed
    );
    // GIVEN another key that no index of the target keeps
    step.write.key = vec!["created_at".to_owned()];
    // THEN that is refused, and so is that it may hold NULL
    assert_eq!(
        codes(&step, &there),
        ["plan::nullable_key", "plan::merge_key"]
    );
    // GIVEN an index over more columns than the key has, or fewer THEN it is not taken for it
    step.write.key = vec!["id".to_owned()];
    for unique in [vec![], vec![vec!["id".to_owned(), "total".to_owned()]]] {
        target(&mut there).unique = unique;
        assert_eq!(codes(&step, &there), ["plan::merge_key"]);
    }
    // GIVEN a source without a key THEN one must be named
    step.write.key.clear();
    there.source.key.clear();
    assert_eq!(codes(&step, &there), ["plan::merge_key"]);
    // GIVEN a cursor that is not read THEN it is refused by name
    let mut there = existing(facts());
    step.write.cursor = Some("updated_at".to_owned());
    assert_eq!(codes(&step, &there), ["plan::unknown_cursor"]);
    step.write.cursor = Some("total".to_owned());
    assert_eq!(
        plan(&step, &there).load_order.write.cursor,
        step.write.cursor
    );
    // GIVEN a rule that answers to an update THEN no rows are merged past it
    target(&mut there).reactions = vec![crate::facts::Reaction {
        name: "keep".to_owned(),
        table: "orders_copy".to_owned(),
        alike: 0,
        kind: crate::facts::ReactionKind::RuleInstead,
        when: "on update do instead".to_owned(),
        on_insert: false,
        on_update: true,
        on_delete: false,
        fires: true,
        fires_if_skipped: false,
    }];
    assert_eq!(codes(&step, &there), ["plan::insert_rule"]);
}

#[test]
fn a_merge_that_loads_all_again_depends_on_nothing_that_is_there() {
    let mut step = days(None, None);
    (step.write.mode, step.reprocess) = (WriteMode::Merge, Reprocess::All);
    let there = existing(facts());
    assert_eq!(plan(&step, &there).depends_on, None);
    // WHEN only what is missing is wanted THEN it depends on what is missing
    step.reprocess = Reprocess::Missing;
    assert!(plan(&step, &there).depends_on.is_some());
}
