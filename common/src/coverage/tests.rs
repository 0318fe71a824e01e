//! Coverage and watermark as algebra.

use proptest::prelude::*;

use super::*;
use crate::placing::PlacingId;
use crate::watermark::Watermark;

fn range() -> impl Strategy<Value = CursorRange> {
    let side = || prop::option::weighted(0.9, -20..20i64);
    (side(), side(), any::<bool>()).prop_filter_map("a range", |(a, b, dates)| {
        let cursor = |at: i64| {
            if dates {
                Cursor::Date(i32::try_from(at).expect("a small number"))
            } else {
                Cursor::Integer(at)
            }
        };
        CursorRange::new(a.map(cursor), b.map(cursor)).ok()
    })
}

fn coverage() -> impl Strategy<Value = Coverage> {
    (prop::collection::vec(range(), 0..6), any::<bool>())
        .prop_map(|(ranges, null)| Coverage::of(&ranges, null))
}

fn ordinals() -> impl Strategy<Value = OrdinalSet> {
    prop::collection::vec(0..300u64, 0..200).prop_map(|all| {
        let mut set = OrdinalSet::default();
        all.into_iter().for_each(|ordinal| set.insert(ordinal));
        set
    })
}

/// Whether the one number `at` is covered.
fn covers(coverage: &Coverage, at: i64) -> bool {
    let point = CursorRange::new(Some(Cursor::Integer(at)), Some(Cursor::Integer(at + 1)))
        .expect("a range");
    coverage.contains(CursorKind::Integer, &Slice::Range(point))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn coverage_is_a_semilattice(a in coverage(), b in coverage(), c in coverage()) {
        let merged = a.clone().merge(&b).merge(&c);
        prop_assert_eq!(&merged, &c.clone().merge(&a).merge(&b));
        prop_assert_eq!(&merged, &a.clone().merge(&b.clone().merge(&c)));
        prop_assert_eq!(a.clone().merge(&a), a.clone());
        prop_assert_eq!(a.clone().merge(&Coverage::default()), a);
    }

    #[test]
    fn a_merge_covers_what_either_covers(ranges in prop::collection::vec(range(), 0..8), at in -25..25i64) {
        let covered = Coverage::of(&ranges, false);
        let cursor = Cursor::Integer(at);
        let expected = ranges.iter().any(|range| range.kind().is_none_or(|kind| kind == CursorKind::Integer) && range.contains(cursor));
        prop_assert_eq!(covers(&covered, at), expected);
    }

    #[test]
    fn gaps_and_coverage_together_are_everything(covered in coverage(), within in range(), at in -25..25i64) {
        prop_assume!(within.kind() != Some(CursorKind::Date));
        // GIVEN a coverage and a range, WHEN the gaps of the one in the other are taken
        let gaps = covered.gaps(CursorKind::Integer, &within);
        // THEN they ascend, and each number of the range is either covered or in one of them
        prop_assert!(gaps.windows(2).all(|pair| pair[0].end() < pair[1].start()));
        let missing = gaps.iter().filter(|gap| gap.contains(Cursor::Integer(at))).count();
        let expected = within.contains(Cursor::Integer(at)) && !covers(&covered, at);
        prop_assert_eq!(missing, usize::from(expected));
        // AND once they are filled there are none
        let filled = covered.merge(&Coverage::of(&gaps, false));
        prop_assert_eq!(filled.contains(CursorKind::Integer, &Slice::Range(within)), true);
    }

    #[test]
    fn a_coverage_survives_its_stored_form(covered in coverage()) {
        let stored = serde_json::to_string(&covered).expect("a document");
        prop_assert_eq!(serde_json::from_str::<Coverage>(&stored).expect("what was stored"), covered);
    }

    #[test]
    fn the_watermark_never_goes_back(a in coverage(), b in coverage(), origin in prop::option::of(-20..20i64)) {
        let origin = origin.map(Cursor::Integer);
        let before = Watermark::of(&a, CursorKind::Integer, origin);
        let after = Watermark::of(&a.merge(&b), CursorKind::Integer, origin);
        prop_assert!(after >= before, "{} after {}", after, before);
    }

    #[test]
    fn everything_below_the_watermark_is_covered(covered in coverage(), origin in -20..20i64, at in -25..25i64) {
        let mark = Watermark::of(&covered, CursorKind::Integer, Some(Cursor::Integer(origin)));
        if at >= origin && mark > Watermark::At(Cursor::Integer(at)) {
            prop_assert!(covers(&covered, at));
        }
        if mark == Watermark::At(Cursor::Integer(at)) {
            prop_assert!(!covers(&covered, at));
        }
    }

    #[test]
    fn ordinal_sets_are_a_semilattice(a in ordinals(), b in ordinals(), c in ordinals()) {
        let merged = a.clone().merge(&b).merge(&c);
        let other = c.merge(&a).merge(&b);
        prop_assert!((0..300).all(|ordinal| merged.contains(ordinal) == other.contains(ordinal)));
        prop_assert_eq!(merged.count(), other.count());
        prop_assert_eq!(a.clone().merge(&a), a.clone());
        prop_assert_eq!(a.prefix(), (0..400).take_while(|ordinal| a.contains(*ordinal)).count() as u64);
        prop_assert_eq!(a.count(), (0..400).filter(|ordinal| a.contains(*ordinal)).count() as u64);
    }
}

#[test]
fn neighbours_become_one_range() {
    let range = |a, b| {
        CursorRange::new(Some(Cursor::Integer(a)), Some(Cursor::Integer(b))).expect("a range")
    };
    let covered = Coverage::of(&[range(1, 3), range(5, 7), range(3, 5)], true);
    assert_eq!(
        covered.ranges(CursorKind::Integer).collect::<Vec<_>>(),
        [range(1, 7)]
    );
    assert!(covered.null() && !covered.is_empty() && Coverage::default().is_empty());
    let all = Coverage::of(&[CursorRange::ALL], false);
    assert_eq!(
        all.ranges(CursorKind::Date).collect::<Vec<_>>(),
        [CursorRange::ALL]
    );
}

#[test]
fn rows_without_a_position_keep_a_rule_from_taking_over_from_another() {
    let kind = CursorKind::Placed("00000000000000a2".parse().expect("an id"));
    let whole = |null| Coverage::of(&[CursorRange::ALL], null);
    // all but the NULL rows, or these alone, or both
    assert!(whole(false).has_others(kind));
    assert!(Coverage::of(&[], true).has_others(kind));
    assert!(!whole(true).has_others(kind));
    assert!(!Coverage::default().has_others(kind));
    // what was placed is nothing that a column's positions tell
    let CursorKind::Placed(id) = kind else {
        unreachable!("it is")
    };
    let placed = CursorRange::new(None, Some(Cursor::Placed(id, 7))).expect("a range");
    let some = Coverage::of(&[placed], false);
    assert!(!some.has_others(kind) && some.has_others(CursorKind::Integer));
    assert!(Coverage::of(&[placed], true).has_others(kind));
}

#[test]
fn a_key_has_no_place_for_rows_without_one() {
    // GIVEN the order of a key WHEN all of it is covered THEN the rows without a key may be missing,
    // and when one part is missing, these may be there
    let id: PlacingId = "00000000000000a1".parse().expect("an id");
    let kind = CursorKind::Placed(id);
    let upper = CursorRange::new(Some(Cursor::Placed(id, 1)), None).expect("a range");
    for (covered, null) in [
        (CursorRange::ALL, false),
        (CursorRange::ALL, true),
        (upper, true),
    ] {
        let covered = Coverage::of(&[covered], null);
        assert!(!covered.has_others(kind), "{covered:?}");
        assert_eq!(covered.contains(kind, &Slice::Null), null);
    }
    assert!(!Coverage::of(&[], true).has_others(kind));
    // but what another rule or a column has placed tells nothing of it
    for other in ["00000000000000a2", "00000000000000b1"] {
        let other: PlacingId = other.parse().expect("an id");
        let placed = CursorRange::new(None, Some(Cursor::Placed(other, 7))).expect("a range");
        assert!(Coverage::of(&[placed], false).has_others(kind));
    }
    let numbers = CursorRange::new(None, Some(Cursor::Integer(7))).expect("a range");
    assert!(Coverage::of(&[numbers], false).has_others(kind));
}
