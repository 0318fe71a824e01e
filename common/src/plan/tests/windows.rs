//! Steps that go on where their last run ended: how far each window reaches, and what is refused.

use super::*;
use crate::coverage::Coverage;
use crate::error_code::ErrorCode;
use crate::spec::{CursorNulls, Deletes, HorizonRule, Incremental, Shrinking};
use crate::strategy::PlanContext;
use crate::window::{Horizon, StoredWatermark, WatermarkOrder, WindowFacts};

fn incremental() -> Incremental {
    let Backfill {
        from, to, write, ..
    } = days(None, None);
    Incremental {
        from,
        to,
        cursor: "created_at".to_owned(),
        tz: None,
        horizon: HorizonRule::Auto,
        lookback: Duration::ZERO,
        nulls: CursorNulls::Ignore,
        continues: None,
        deletes: Deletes::Ignore,
        deleted_at: None,
        shrinking: Shrinking::default(),
        write: Write {
            mode: WriteMode::Merge,
            key: vec!["id".to_owned()],
            cursor: Some("created_at".to_owned()),
            ..write
        },
        chunk: Chunk::default(),
    }
}

/// The horizon lies a little behind the newest row, and the watermark where it is said.
fn since(watermark: Option<&str>) -> StepFacts {
    let mut facts = existing(facts());
    let until = "2013-05-01T00:00:00.5Z".parse::<Timestamp>();
    facts.window = Some(WindowFacts {
        horizon: Some(Horizon {
            instant: until.ok().map(Timestamp::as_microsecond),
            drained: true,
            held_by: None,
            doubts: Vec::new(),
        }),
        watermark: watermark.map(|at| StoredWatermark {
            position: instant(at),
            version: 7,
        }),
        continued: None,
        resyncs: false,
        slot: None,
    });
    facts
}

fn window(facts: &mut StepFacts) -> &mut WindowFacts {
    facts.window.as_mut().expect("a window")
}

fn planned(step: &Incremental, facts: &StepFacts) -> Result<StepPlan, Vec<PlanProblem>> {
    let of = PlanContext {
        pipeline: &pipeline(),
        step: &name(),
        followed: None,
    };
    Strategy::Incremental(Box::new(step.clone()))
        .load()
        .plan(&of, Some(facts))
}

fn refusals(step: &Incremental, facts: &StepFacts) -> Vec<&'static str> {
    let problems = planned(step, facts).expect_err("a refusal");
    problems
        .iter()
        .map(|problem| problem.code.as_str())
        .collect()
}

/// What is loaded, and how the watermark goes with it.
fn loaded(plan: &StepPlan) -> Option<(CursorRange, WatermarkOrder)> {
    let order = plan.load_order.as_ref()?;
    let moved = order.watermark.filter(|order| order.low != Some(order.to));
    let whole = plan.partitions()?.partitioning().whole();
    Some((whole, moved?))
}

fn range(start: Option<&str>, end: &str) -> CursorRange {
    CursorRange::new(start.map(instant), Some(instant(end))).expect("not empty")
}

#[test]
fn a_window_reaches_from_the_watermark_to_the_horizon() {
    let end = "2013-05-01T00:00:00Z";
    // GIVEN no watermark THEN everything up to the horizon is loaded
    let first = planned(&incremental(), &since(None)).expect("a plan");
    let (whole, order) = loaded(&first).expect("a window");
    assert_eq!(whole, range(None, end));
    assert_eq!(
        (order.seen, order.low, order.to),
        (None, None, instant(end))
    );
    // GIVEN one THEN what lies behind it
    let low = "2013-04-01T00:00:00Z";
    let next = planned(&incremental(), &since(Some(low))).expect("a plan");
    let (whole, order) = loaded(&next).expect("a window");
    assert_eq!(whole, range(Some(low), end));
    assert_eq!((order.seen, order.low), (Some(7), Some(instant(low))));
    // and what is read again does not move it back
    let again = Incremental {
        lookback: Duration::from_secs(3_600),
        ..incremental()
    };
    let plan = planned(&again, &since(Some(low))).expect("a plan");
    let (whole, order) = loaded(&plan).expect("a window");
    assert_eq!(whole, range(Some("2013-03-31T23:00:00Z"), end));
    assert_eq!(
        order.after(Some(instant("2013-03-31T23:30:00Z"))),
        instant(low)
    );
    // AND the plans stand and fall with the watermark that they were made at
    assert_ne!(first.depends_on, next.depends_on);
    assert_eq!(next.depends_on, plan.depends_on);
}

#[test]
fn what_the_source_has_no_more_is_looked_for_once_a_window_is_loaded() {
    let kinds = |plan: &StepPlan| -> Vec<PhaseKind> {
        plan.phases.iter().map(|phase| phase.kind).collect()
    };
    let removing = Incremental {
        deletes: Deletes::Hard,
        ..incremental()
    };
    let plan = planned(&removing, &since(Some("2013-04-01T00:00:00Z"))).expect("a plan");
    let phases = [
        PhaseKind::Prepare,
        PhaseKind::Load,
        PhaseKind::Close,
        PhaseKind::Reconcile,
    ];
    assert_eq!(kinds(&plan), phases);
    assert!(
        plan.warnings
            .iter()
            .any(|line| line.contains("are deleted"))
    );
    // AND not while nobody knows what is safe, since rows of others may be under way
    let behind = planned(&removing, &since(Some("2013-06-01T00:00:00Z"))).expect("a plan");
    assert_eq!(kinds(&behind), [PhaseKind::Prepare]);
    // AND a table that is there and cannot say when a row was deleted is told of
    let marking = Incremental {
        deletes: Deletes::Soft,
        deleted_at: Some("gone_at".to_owned()),
        ..incremental()
    };
    let missing = refusals(&marking, &since(None));
    assert_eq!(missing, [ErrorCode::PlanMissingTargetColumn.as_str()]);
}

#[test]
fn nothing_is_loaded_while_nobody_knows_what_is_safe() {
    let mut facts = since(Some("2013-04-01T00:00:00Z"));
    let horizon = window(&mut facts).horizon.as_mut().expect("a horizon");
    (horizon.instant, horizon.held_by) = (None, Some("somebody".to_owned()));
    let plan = planned(&incremental(), &facts).expect("a plan");
    assert_eq!(loaded(&plan), None);
    assert_eq!((plan.tasks_planned(), plan.phases.len()), (0, 1));
    assert!(plan.warnings.iter().any(|line| line.contains("somebody")));
    // nor while the source's clock is behind the watermark
    let behind = since(Some("2013-06-01T00:00:00Z"));
    let plan = planned(&incremental(), &behind).expect("a plan");
    assert_eq!((loaded(&plan), plan.tasks_planned()), (None, 0));
    // but rows without a cursor are, where they are loaded with each run
    let reloading = Incremental {
        nulls: CursorNulls::Reload,
        ..incremental()
    };
    let plan = planned(&reloading, &behind).expect("a plan");
    assert_eq!((loaded(&plan), plan.tasks_planned()), (None, 1));
}

#[test]
fn what_would_lose_or_double_rows_is_refused() {
    let facts = since(None);
    // a clock that nobody names
    let mut civil = facts.clone();
    partition(&mut civil).kind = CursorKind::Civil;
    (partition(&mut civil).min, partition(&mut civil).max) = (None, None);
    assert_eq!(refusals(&incremental(), &civil), ["plan::cursor_zone"]);
    let zoned = Incremental {
        tz: Some("Europe/Berlin".to_owned()),
        ..incremental()
    };
    assert!(planned(&zoned, &civil).is_ok());
    assert_eq!(refusals(&zoned, &facts), ["plan::cursor_zone"]);
    // numbers by a lag, or back by a time
    let numbers = {
        let window = facts.window.clone();
        StepFacts {
            window,
            ..existing(integer_facts(10_000))
        }
    };
    let by_id = Incremental {
        cursor: "id".to_owned(),
        ..incremental()
    };
    let lag = Incremental {
        horizon: HorizonRule::Lag(Duration::from_secs(60)),
        ..by_id.clone()
    };
    assert_eq!(refusals(&lag, &numbers), ["plan::horizon"]);
    let mut moved = numbers.clone();
    window(&mut moved).watermark = Some(StoredWatermark {
        position: Cursor::Integer(5),
        version: 1,
    });
    let back = Incremental {
        lookback: Duration::from_secs(60),
        ..by_id.clone()
    };
    assert_eq!(refusals(&back, &moved), ["plan::window"]);
    // a watermark of another kind
    window(&mut moved).watermark = Some(StoredWatermark {
        position: instant("2013-04-01T00:00:00Z"),
        version: 1,
    });
    assert_eq!(refusals(&by_id, &moved), ["plan::window"]);
    // what is read twice, appended
    let mut one_writer = facts.clone();
    window(&mut one_writer).horizon = None;
    let mut appending = incremental();
    (appending.write.mode, appending.write.cursor) = (WriteMode::Append, None);
    assert_eq!(refusals(&appending, &one_writer), ["plan::window"]);
    // a window that nobody has looked for
    let unprobed = existing(super::facts());
    assert_eq!(refusals(&incremental(), &unprobed), ["plan::not_probed"]);
}

#[test]
fn it_begins_where_the_history_ends() {
    let continuing = Incremental {
        continues: Some("history".parse().expect("a name")),
        ..incremental()
    };
    // GIVEN a history that is still to be loaded THEN nothing is
    let mut facts = since(None);
    window(&mut facts).continued = Some(Coverage::default());
    let before = planned(&continuing, &facts).expect("a plan");
    assert_eq!(loaded(&before), None);
    // GIVEN one that is loaded THEN the window begins at its end, by another plan
    let end = "2013-04-20T00:00:00Z";
    window(&mut facts).continued = Some(Coverage::of(&[range(None, end)], false));
    let after = planned(&continuing, &facts).expect("a plan");
    let (whole, order) = loaded(&after).expect("a window");
    assert_eq!(whole, range(Some(end), "2013-05-01T00:00:00Z"));
    assert_eq!(order.seen, None);
    assert_ne!(before.depends_on, after.depends_on);
    // AND one without an end is refused
    window(&mut facts).continued = Some(Coverage::of(&[CursorRange::ALL], false));
    assert_eq!(refusals(&continuing, &facts), ["plan::window"]);
}

#[test]
fn a_backfill_that_ends_now_ends_at_the_horizon_and_stays_there_when_it_is_continued() {
    let mut facts = since(None);
    let mut step = days(None, Some("now"));
    let end_of = |step: &Backfill, facts: &StepFacts| {
        let plan = plan(step, facts);
        plan.partitions.partitioning().whole().end()
    };
    assert_eq!(end_of(&step, &facts), Some(instant("2013-05-01T00:00:00Z")));
    let loaded = range(None, "2013-04-01T00:00:00Z");
    facts.target.covered = vec![loaded];
    assert_eq!(end_of(&step, &facts), Some(instant("2013-05-01T00:00:00Z")));
    step.is_continued = true;
    assert_eq!(end_of(&step, &facts), loaded.end());
    // AND no other end lies beyond it, nor none at all
    for (end, refused) in [
        (Some("2013-04-01T00:00:00Z"), false),
        (Some("2013-04-02T00:00:00Z"), true),
        (None, true),
    ] {
        step.end = days(None, end).end;
        match refused {
            true => assert_eq!(codes(&step, &facts), ["plan::window"]),
            false => assert_eq!(end_of(&step, &facts), loaded.end()),
        }
    }
    // AND none beyond the horizon where nothing is loaded yet
    let covered = std::mem::take(&mut facts.target.covered);
    step.end = days(None, Some("2013-05-02T00:00:00Z")).end;
    assert_eq!(codes(&step, &facts), ["plan::window"]);
    step.end = days(None, Some("2013-04-20T00:00:00Z")).end;
    assert_eq!(end_of(&step, &facts), Some(instant("2013-04-20T00:00:00Z")));
    (facts.target.covered, step.end) = (covered, days(None, Some("now")).end);
    // AND where nobody knows, it is refused
    let horizon = window(&mut facts).horizon.as_mut().expect("a horizon");
    horizon.instant = None;
    step.is_continued = false;
    assert_eq!(codes(&step, &facts), ["plan::horizon"]);
}
