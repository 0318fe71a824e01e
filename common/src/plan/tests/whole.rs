//! Steps that replace a whole table: in one task, or by another table beside it.

use super::*;
use crate::assignment::Staging;
use crate::coverage::Coverage;
use crate::error_code::ErrorCode;
use crate::facts::{Dependant, DependantKind, ExchangeFacts};
use crate::spec::{FullRefresh, Relation, Shrinking, Strategy, Swap};
use crate::strategy::PlanContext;

fn whole(mode: WriteMode) -> Write {
    Write {
        mode,
        resident: ExistingRows::Replace,
        ..days(None, None).write
    }
}

fn refresh() -> Strategy {
    let Backfill { from, to, .. } = days(None, None);
    Strategy::FullRefresh(Box::new(FullRefresh {
        from,
        to,
        write: whole(WriteMode::ReplaceTable),
        shrinking: Shrinking::default(),
    }))
}

fn swap(partition: Option<crate::spec::Partition>) -> Strategy {
    let Backfill { from, to, .. } = days(None, None);
    Strategy::Swap(Box::new(Swap {
        from,
        to,
        partition,
        write: whole(WriteMode::Exchange),
        shrinking: Shrinking::default(),
        lock_timeout: Duration::from_millis(500),
        keep_old: None,
    }))
}

fn planned(step: &Strategy, facts: &StepFacts) -> Result<StepPlan, Vec<PlanProblem>> {
    let of = PlanContext {
        pipeline: &pipeline(),
        step: &name(),
        followed: None,
    };
    step.load().plan(&of, Some(facts))
}

/// The phases of a plan, none of which may end with a dead task.
fn kinds(plan: &StepPlan) -> Vec<PhaseKind> {
    assert!(plan.phases.iter().all(|phase| !phase.tolerant));
    plan.phases.iter().map(|phase| phase.kind).collect()
}

/// Facts of a target whose table can give its place to another.
fn exchangeable() -> StepFacts {
    let mut facts = existing(integer_facts(10_000));
    target(&mut facts).exchange = Some(ExchangeFacts {
        identity: "42".to_owned(),
        bytes: 1,
        dependants: Vec::new(),
    });
    facts
}

#[test]
fn a_refresh_is_one_task_whose_commit_its_close_asks_for() {
    let plan = planned(&refresh(), &existing(facts())).expect("planned");
    assert_eq!(
        kinds(&plan),
        [PhaseKind::Prepare, PhaseKind::Publish, PhaseKind::Close]
    );
    assert_eq!(plan.tasks_planned(), 1);
    assert_eq!(plan.work(1, 0), Some(Work::Publish));
    assert_eq!(plan.work(2, 0), Some(Work::Close { phase: 1 }));
    assert_eq!(plan.depends_on, None);
    let load_order = plan.load_order.expect("it moves rows");
    assert_eq!((load_order.cut_by, load_order.chunk), (None, None));
}

#[test]
fn no_more_rows_than_one_transaction_bears_are_replaced_in_place() {
    let mut facts = facts();
    facts.source.rows = 5_000_000;
    assert!(planned(&refresh(), &facts).is_ok());
    facts.source.rows += 1;
    let problems = planned(&refresh(), &facts).expect_err("too many");
    assert_eq!(problems[0].code, ErrorCode::PlanTooLargeInPlace);
    // AND a swap bears any number
    facts.target = exchangeable().target;
    assert!(planned(&swap(None), &facts).is_ok());
}

#[test]
fn a_guess_about_a_query_refuses_nothing() {
    let Strategy::FullRefresh(mut step) = refresh() else {
        unreachable!("it is a refresh")
    };
    step.from.relation = Relation::Query("select code from rates".to_owned());
    let step = Strategy::FullRefresh(step);
    let mut facts = facts();
    (facts.source.rows, facts.source.rows_exact) = (7_000_000, false);
    let plan = planned(&step, &facts).expect("planned");
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("7000000")),
        "{:?}",
        plan.warnings
    );
    // AND it is read by one session
    assert!(step.load().summary(&plan).contains("one session"));
    let staging = plan.load_order.expect("it moves rows").staging;
    assert_eq!(staging, Some(Staging { readers: 1 }));
}

#[test]
fn a_large_table_waits_beside_the_one_that_is_read() {
    let staging = |facts: &StepFacts| {
        let plan = planned(&refresh(), facts).expect("planned");
        let summary = refresh().load().summary(&plan);
        let staging = plan.load_order.expect("it moves rows").staging;
        assert_eq!(summary.contains("one point in time"), staging.is_some());
        staging
    };
    let mut facts = existing(facts());
    (facts.source.rows, facts.source.bytes) = (100_000, 64 * 1024 * 1024);
    assert_eq!(staging(&facts), None);
    facts.source.rows += 1;
    assert_eq!(staging(&facts), Some(Staging { readers: 4 }));
    (facts.source.rows, facts.source.bytes) = (1, 64 * 1024 * 1024 + 1);
    assert_eq!(staging(&facts), Some(Staging { readers: 4 }));
    // AND where a side cannot, it is replaced as it is read
    facts.target.engine = Engine::Sqlite;
    assert_eq!(staging(&facts), None);
}

#[test]
fn a_staging_has_no_more_sessions_than_there_are() {
    let staging = Staging { readers: 4 };
    assert_eq!(staging.sessions(), 5);
    for (max, readers) in [(100, 4), (5, 4), (4, 3), (2, 1)] {
        assert_eq!(staging.within(max), Some(Staging { readers }));
    }
    assert_eq!((staging.within(1), staging.within(0)), (None, None));
}

#[test]
fn a_swap_loads_in_parts_and_publishes_once() {
    let by_id = by_rows(1_000).partition;
    let plan = planned(&swap(Some(by_id)), &exchangeable()).expect("planned");
    assert_eq!(
        kinds(&plan),
        [
            PhaseKind::Prepare,
            PhaseKind::Load,
            PhaseKind::Count,
            PhaseKind::Build,
            PhaseKind::Publish,
            PhaseKind::Close
        ]
    );
    assert_eq!(plan.work(4, 0), Some(Work::Publish));
    assert_eq!(plan.work(5, 0), Some(Work::Close { phase: 4 }));
    let tasks = plan.phases[1].tasks_planned();
    let load_order = plan.load_order.expect("it moves rows");
    let shadow = load_order.shadow.expect("it loads another table");
    assert!(tasks > 1);
    assert_eq!((shadow.identity.as_str(), shadow.tasks), ("42", tasks));
    assert_eq!((plan.depends_on, load_order.chunk), (None, None));
    // AND in place without building what nobody will read, whatever hangs on the table
    let in_place = |facts: &StepFacts| {
        let Strategy::Swap(mut step) = swap(Some(by_rows(1_000).partition)) else {
            unreachable!("it is a swap")
        };
        step.write.mode = WriteMode::ReplaceTable;
        planned(&Strategy::Swap(step), facts)
    };
    let kinds_in_place = [
        PhaseKind::Prepare,
        PhaseKind::Load,
        PhaseKind::Count,
        PhaseKind::Publish,
        PhaseKind::Close,
    ];
    let plan = in_place(&exchangeable()).expect("planned");
    assert_eq!(kinds(&plan), kinds_in_place);
    let mut hung = exchangeable();
    let exchange = target(&mut hung).exchange.as_mut().expect("exchangeable");
    exchange.dependants.push(Dependant {
        kind: DependantKind::MaterializedView,
        name: "monthly".to_owned(),
        foreign_owner: None,
    });
    assert!(planned(&swap(None), &hung).is_err());
    assert!(in_place(&hung).is_ok());
    // AND without a partition rule by one task
    let plan = planned(&swap(None), &exchangeable()).expect("planned");
    let all = Slice::Range(CursorRange::ALL);
    assert_eq!(plan.work(1, 0), Some(Work::Partition(all)));
    let load_order = plan.load_order.expect("it moves rows");
    assert_eq!(load_order.shadow.expect("another table").tasks, 1);
}

#[test]
fn a_swap_of_a_table_that_is_not_there_is_planned_again_once_it_is() {
    let plan = planned(&swap(None), &facts()).expect("planned");
    let nothing = Coverage::default().digest();
    assert!(plan.depends_on.is_some_and(|digest| digest != nothing));
}

#[test]
fn a_swap_is_refused_where_no_table_takes_anothers_place_or_something_would_stay() {
    let code = |facts: &StepFacts| planned(&swap(None), facts).expect_err("refused")[0].code;
    assert_eq!(code(&existing(facts())), ErrorCode::PlanExchangeUnsupported);
    let mut facts = exchangeable();
    let exchange = target(&mut facts).exchange.as_mut().expect("asked for");
    exchange.dependants.push(Dependant {
        kind: DependantKind::MaterializedView,
        name: "public.monthly".to_owned(),
        foreign_owner: None,
    });
    assert_eq!(code(&facts), ErrorCode::PlanUncarriedDependant);
}
