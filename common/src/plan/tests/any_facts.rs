//! No fact can panic the planner, and no stored plan its reader: both are made of what stands in
//! tables, whatever that is.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;
use crate::coverage::Coverage;
use crate::segment::Segment;
use crate::strategy::{Load as _, PlanContext};
use crate::task::TaskState;
use crate::watermark::Watermark;

/// A whole number, often one at the ends of something: of the 64-bit and 32-bit numbers, of a
/// library's calendar, of a server's.
fn number() -> impl Strategy<Value = i64> {
    let ends = [
        i64::MIN,
        i64::MAX,
        i64::from(i32::MIN),
        i64::from(i32::MAX),
        -377_705_116_800_000_000, // -9999-01-01
        253_402_300_800_000_000,  // 10000-01-01
        2_145_042_905,            // the last day of a server
        7_324_587,                // a typing error
        0,
    ];
    prop_oneof![
        any::<i64>(),
        -100_000_i64..100_000,
        1_000_000_000_000_000_i64..2_000_000_000_000_000,
        (prop::sample::select(ends.to_vec()), -3_i64..=3)
            .prop_map(|(end, near)| end.saturating_add(near)),
    ]
}

fn kind() -> impl Strategy<Value = CursorKind> {
    prop::sample::select(vec![
        CursorKind::Integer,
        CursorKind::Instant,
        CursorKind::Civil,
        CursorKind::Date,
    ])
}

fn of_kind(kind: CursorKind, number: i64) -> Cursor {
    match kind {
        CursorKind::Integer => Cursor::Integer(number),
        CursorKind::Instant => Cursor::Instant(number),
        CursorKind::Civil => Cursor::Civil(number),
        CursorKind::Date => Cursor::Date(number as i32),
        CursorKind::Placed(id) => Cursor::Placed(id, number),
    }
}

/// A position of mostly this kind.
fn cursor(kind: CursorKind) -> impl Strategy<Value = Cursor> {
    prop_oneof![
        9 => number().prop_map(move |number| of_kind(kind, number)),
        1 => (self::kind(), number()).prop_map(|(kind, number)| of_kind(kind, number)),
    ]
}

fn form() -> impl Strategy<Value = CursorForm> {
    prop_oneof![
        4 => Just(CursorForm::Native),
        1 => Just(CursorForm::TextDate),
        1 => Just(CursorForm::EpochSeconds),
        1 => Just(CursorForm::EpochMillis),
        1 => any::<(bool, u8, bool)>().prop_map(|(separator_t, fraction_digits, zulu)| CursorForm::TextTime {
            separator_t, fraction_digits, zulu
        }),
    ]
}

fn partition() -> impl Strategy<Value = PartitionFacts> {
    kind().prop_flat_map(|kind| {
        let ends = (
            prop::option::of(cursor(kind)),
            prop::option::of(cursor(kind)),
        );
        let histogram = prop::collection::vec(cursor(kind), 0..6);
        let empty = prop::collection::vec((cursor(kind), cursor(kind)), 0..4);
        let rest = (any::<bool>(), prop::option::of(any::<u64>()), any::<bool>());
        (
            form(),
            ends,
            histogram,
            empty,
            rest,
            prop::option::weighted(0.1, ".{0,8}"),
        )
            .prop_map(
                move |(
                    form,
                    (min, max),
                    histogram,
                    empty,
                    (nullable, null_rows, indexed),
                    column,
                )| PartitionFacts {
                    column: column.unwrap_or_else(|| "created_at".to_owned()),
                    kind,
                    form,
                    placing: None,
                    min,
                    max,
                    nullable,
                    left_out: None,
                    null_rows,
                    indexed,
                    histogram,
                    empty,
                },
            )
    })
}

fn bound() -> impl Strategy<Value = Option<Bound>> {
    let text = prop_oneof![
        number().prop_map(|number| number.to_string()),
        (0..=9_999_u16, 1..=13_u8, 1..=32_u8)
            .prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}")),
        (0..=9_999_u16, 0..=24_u8)
            .prop_map(|(year, hour)| format!("{year:04}-12-31T{hour:02}:59:59.999999Z")),
        ".{0,12}",
    ];
    prop::option::of(text.prop_map(Bound))
}

fn rule() -> impl Strategy<Value = PartitionBy> {
    let grain = prop::sample::select(vec![
        Grain::Hour,
        Grain::Day,
        Grain::Week,
        Grain::Month,
        Grain::Year,
    ]);
    let tz = prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "Pacific/Apia",
        "America/St_Johns",
        "Nowhere",
        "",
    ]);
    let width = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        1_000_000_000_000_000_000..u64::MAX,
        any::<u64>()
    ];
    prop_oneof![
        3 => (grain, tz).prop_map(|(grain, tz)| PartitionBy::Calendar { grain, tz: tz.to_owned() }),
        2 => (prop::option::of(width), any::<u64>()).prop_map(|(width, max_rows)| PartitionBy::Integer { width, max_rows }),
    ]
}

fn step() -> impl Strategy<Value = Backfill> {
    let nulls = prop::sample::select(vec![Nulls::Partition, Nulls::Ignore, Nulls::Fail]);
    let order = prop::sample::select(vec![Order::Oldest, Order::Newest]);
    let reprocess = prop::sample::select(vec![Reprocess::Missing, Reprocess::All]);
    let mode = prop::sample::select(vec![WriteMode::Append, WriteMode::ReplacePartition]);
    (bound(), bound(), rule(), nulls, order, reprocess, mode).prop_map(
        |(start, end, by, nulls, order, reprocess, mode)| {
            let mut step = days(None, None);
            (step.start, step.end, step.order, step.reprocess) = (start, end, order, reprocess);
            (step.partition.by, step.partition.nulls, step.write.mode) = (by, nulls, mode);
            step
        },
    )
}

fn covered() -> impl Strategy<Value = Vec<CursorRange>> {
    let side = |kind| prop::option::of(cursor(kind));
    let range = kind().prop_flat_map(move |kind| (side(kind), side(kind)));
    prop::collection::vec(range, 0..5).prop_map(|sides| {
        sides
            .into_iter()
            .filter_map(|(start, end)| CursorRange::new(start, end).ok())
            .collect()
    })
}

/// Asks of a plan whatever a leader, a document or a worker would, and of its ranges that they are
/// what they should be.
fn ask_everything(plan: &StepPlan) {
    for (number, phase) in plan.numbered() {
        let count = phase.len();
        let ordinals = (0..count.min(3)).chain([
            count / 2,
            count.saturating_sub(2),
            count.saturating_sub(1),
            count,
            u64::MAX,
        ]);
        for ordinal in ordinals {
            let _ = (
                phase.skips(ordinal),
                plan.work(number, ordinal).map(|work| work.to_string()),
            );
            let _ = Segment::place(ordinal);
        }
        let mut segment = Segment::new(u16::try_from(count).unwrap_or(u16::MAX));
        segment.set(segment.len() - 1, TaskState::Done);
        assert!(Segment::from_bytes(&segment.to_bytes()).is_ok());
    }
    let _ = (
        plan.tasks_planned(),
        plan.tasks_covered(),
        plan.works().take(3).count(),
    );
    if let Some(partitions) = plan.partitions() {
        let partitioning = partitions.partitioning();
        let ranges = partitioning.ranges();
        for no in [0, ranges / 2, ranges.saturating_sub(1)] {
            let (range, ordinal) = (partitioning.range(no), partitioning.ordinal_of(no));
            assert_eq!(
                partitioning.partition(ordinal),
                Some(Slice::Range(range)),
                "{range}"
            );
            let _ = Watermark::of(
                &Coverage::of(&[range], false),
                partitioning.kind(),
                partitioning.whole().start(),
            )
            .to_string();
        }
        let _ = partitioning
            .joined()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
    }
}

proptest! {
    // `PROPTEST_CASES` says how many; `make soak` says a million.
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn no_fact_can_panic_the_planner(
        step in step(),
        partition in partition(),
        (rows, bytes, rows_exact) in any::<(u64, u64, bool)>(),
        (covered, covered_null) in (covered(), any::<bool>()),
        turned in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        text in "\\PC{0,10}",
    ) {
        // GIVEN facts and a partitioning, each as it comes
        let mut facts = facts();
        (facts.source.rows, facts.source.bytes, facts.source.rows_exact) = (rows, bytes, rows_exact);
        facts.source.partition = Some(partition);
        (facts.target.covered, facts.target.covered_null, facts.target.fingerprint) = (covered, covered_null, text);
        // WHEN they are planned
        let spec = pipeline();
        match step.plan(&PlanContext { pipeline: &spec, step: &name(), followed: None }, Some(&facts)) {
            Err(problems) => {
                // THEN the refusal reads well
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(!problem.message.contains(" us"), "{}", problem);
                }
            }
            Ok(plan) => {
                // THEN any part of the plan can be asked for, and it can be stored and read again
                ask_everything(&plan);
                let mut stored = serde_json::to_vec(&plan).expect("a document");
                let read: StepPlan = serde_json::from_slice(&stored).expect("what was stored");
                prop_assert_eq!(&read, &plan);
                // AND bytes that have turned are an error, or a plan of which all can be asked
                for (at, byte) in turned {
                    let at = at.index(stored.len());
                    stored[at] = byte;
                }
                if let Ok(read) = serde_json::from_slice::<StepPlan>(&stored) {
                    ask_everything(&read);
                }
            }
        }
    }

    #[test]
    fn no_position_is_without_a_text(kind in kind(), number in number()) {
        let at = of_kind(kind, number);
        let _ = at.to_civil();
        let text = at.to_string();
        prop_assert!(!text.contains("us") && !text.is_empty(), "{}", text);
    }
}
