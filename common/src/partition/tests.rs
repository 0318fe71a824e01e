//! The rules together: cover, order, stored form.

use jiff::Timestamp;
use proptest::prelude::*;

use super::period::to_date_cursor;
use super::*;
use crate::cursor::Cursor;
use crate::facts::{CursorForm, PartitionFacts};
use crate::spec::{Bound, Grain};

const ZONES: [&str; 9] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo", // midnights that do not exist
    "Pacific/Apia",      // a day that never was, and one that was there twice
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/St_Johns", // put back one minute after midnight
    "Africa/Monrovia",
];
const GRAINS: [Grain; 5] = [
    Grain::Hour,
    Grain::Day,
    Grain::Week,
    Grain::Month,
    Grain::Year,
];
const YEAR_MICROS: i64 = 366 * DAY_MICROS;

fn instant(text: &str) -> Cursor {
    Cursor::instant(text.parse::<Timestamp>().expect("an instant"))
}

fn integers(min: Option<i64>, max: Option<i64>, histogram: Vec<i64>) -> PartitionFacts {
    PartitionFacts {
        column: "id".to_owned(),
        kind: CursorKind::Integer,
        form: CursorForm::Native,
        min: min.map(Cursor::Integer),
        max: max.map(Cursor::Integer),
        nullable: false,
        left_out: None,
        null_rows: Some(0),
        indexed: true,
        placing: None,
        histogram: histogram.into_iter().map(Cursor::Integer).collect(),
        empty: Vec::new(),
    }
}

fn calendar(
    kind: CursorKind,
    grain: Grain,
    tz: &str,
    sides: [Option<Cursor>; 4],
) -> Result<Calendar, PartitionError> {
    let [start, end, min, max] = sides;
    Calendar::new(CalendarRequest {
        kind,
        grain,
        tz,
        start,
        end,
        min,
        max,
        empty: &[],
    })
}

fn ranges(partitioning: &Partitioning) -> Vec<CursorRange> {
    (0..partitioning.ranges())
        .map(|no| partitioning.range(no))
        .collect()
}

/// What every rule owes: its partitions are disjoint, adjacent, cover exactly the whole, and NULL
/// once.
fn check_cover(
    partitioning: &Partitioning,
    start: Option<Cursor>,
    end: Option<Cursor>,
) -> Result<(), TestCaseError> {
    let ascending = ranges(partitioning);
    prop_assert_eq!(ascending[0].start(), start);
    prop_assert_eq!(ascending[ascending.len() - 1].end(), end);
    for pair in ascending.windows(2) {
        prop_assert!(pair[0].end().is_some());
        prop_assert_eq!(pair[0].end(), pair[1].start());
    }
    // By ordinal there are the same slices, NULL last and once, and the order decides which comes
    // first.
    let slices: Vec<Slice> = (0..partitioning.len())
        .filter_map(|ordinal| partitioning.partition(ordinal))
        .collect();
    prop_assert_eq!(partitioning.partition(partitioning.len()), None);
    let mut expected: Vec<Slice> = ascending.into_iter().map(Slice::Range).collect();
    if partitioning.order == Order::Newest {
        expected.reverse();
    }
    expected.extend(partitioning.null.then_some(Slice::Null));
    prop_assert_eq!(&slices, &expected);
    // The stored form means the same.
    let stored = serde_json::to_string(partitioning).expect("a document");
    prop_assert_eq!(
        &serde_json::from_str::<Partitioning>(&stored).expect("what was stored"),
        partitioning
    );
    Ok(())
}

fn to_kind(kind: CursorKind, micros: i64) -> Cursor {
    match kind {
        CursorKind::Instant => Cursor::Instant(micros),
        CursorKind::Civil => Cursor::Civil(micros),
        CursorKind::Date => to_date_cursor(micros.div_euclid(DAY_MICROS)),
        CursorKind::Integer => Cursor::Integer(micros),
        CursorKind::Placed(id) => Cursor::Placed(id, micros),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn partitions_cover_exactly_once(
        (kind, grain, zone) in (0..3usize, 0..5usize, 0..ZONES.len()),
        (from, span) in (-80 * YEAR_MICROS..65 * YEAR_MICROS, 1..90 * DAY_MICROS),
        (start, end, newest, null) in any::<(bool, bool, bool, bool)>(),
        (shift_min, shift_max) in (-40 * DAY_MICROS..40 * DAY_MICROS, -40 * DAY_MICROS..40 * DAY_MICROS),
    ) {
        // GIVEN a column of any kind, cut by any grain on any clock, with any declared sides
        let kind = [CursorKind::Instant, CursorKind::Civil, CursorKind::Date][kind];
        let grain = GRAINS[grain];
        prop_assume!(grain.fits(kind));
        let tz = if kind == CursorKind::Instant { ZONES[zone] } else { "UTC" };
        let (low, high) = (to_kind(kind, from), to_kind(kind, from + span));
        let (min, max) = (to_kind(kind, from + shift_min), to_kind(kind, from + span + shift_max));
        prop_assume!(low < high && min <= max);
        let (start, end) = (start.then_some(low), end.then_some(high));
        // WHEN it is planned
        let rule = calendar(kind, grain, tz, [start, end, Some(min), Some(max)]).expect("few \
            enough partitions");
        let order = if newest { Order::Newest } else { Order::Oldest };
        // THEN every position lies in exactly one partition
        check_cover(&Partitioning::new(Rule::Calendar(rule), order, null), start, end)?;
    }

    #[test]
    fn integer_partitions_cover_exactly_once(
        (a, b, c, d) in any::<(i64, i64, i64, i64)>(),
        small in any::<bool>(),
        (start, end, newest, null, by_width) in any::<(bool, bool, bool, bool, bool)>(),
        (parts, rows) in (1..500u64, 0..5_000u64),
        histogram in prop::collection::vec(any::<i64>(), 0..40),
    ) {
        // GIVEN whole numbers, few or up to the ends of the 64-bit numbers
        let shrink = |at: i64| if small { at >> 54 } else { at };
        let (low, high) = (shrink(a.min(b)), shrink(a.max(b)));
        let (min, max) = (shrink(c.min(d)), shrink(c.max(d)));
        prop_assume!(low < high);
        let mut histogram: Vec<i64> = histogram.into_iter().map(shrink).filter(|at| (min..=max).contains(at)).collect();
        histogram.sort_unstable();
        let facts = integers(Some(min), Some(max), histogram);
        let (start, end) = (start.then_some(low), end.then_some(high));
        // WHEN they are cut by width or by rows
        let rule = if by_width {
            let span = i128::from(high.max(max)) - i128::from(low.min(min)) + 1;
            let width = u64::try_from(span / i128::from(parts) + 1).expect("a width");
            Integer::by_width(width, start, end, &facts)
        } else {
            Integer::by_rows(rows, 10, start, end, &facts)
        }.expect("few enough partitions");
        if !by_width {
            prop_assert!(rule.len() <= rows.div_ceil(10).max(1));
        }
        // THEN every number lies in exactly one partition
        let order = if newest { Order::Newest } else { Order::Oldest };
        let sides = (start.map(Cursor::Integer), end.map(Cursor::Integer));
        check_cover(&Partitioning::new(Rule::Integer(rule), order, null), sides.0, sides.1)?;
    }

    #[test]
    fn joined_stretches_change_no_cover(
        (kind, grain, zone) in (0..3usize, 0..3usize, 0..ZONES.len()),
        (from, days) in (-80 * YEAR_MICROS..20 * YEAR_MICROS, 1_100..1_400_i64),
        offered in prop::collection::vec((0..1_000_i64, -20..800_i64), 0..6),
        (start, newest, null) in any::<(bool, bool, bool)>(),
    ) {
        // GIVEN many periods, and stretches said to be empty, some of them nonsense
        let kind = [CursorKind::Instant, CursorKind::Civil, CursorKind::Date][kind];
        let (grain, unit) = [(Grain::Day, 1), (Grain::Day, 1), (Grain::Week, 7)][grain];
        let tz = if kind == CursorKind::Instant { ZONES[zone] } else { "UTC" };
        let (min, max) = (to_kind(kind, from), to_kind(kind, from + days * unit * DAY_MICROS));
        let at = |day: i64| to_kind(kind, from + day * DAY_MICROS + 1);
        let empty: Vec<(Cursor, Cursor)> = offered.iter().map(|(day, width)| (at(*day), at(day + width))).collect();
        let start = start.then_some(min);
        let request = CalendarRequest { kind, grain, tz, start, end: None, min: Some(min), max: Some(max), empty: &empty };
        // WHEN they are planned
        let rule = Calendar::new(request).expect("few enough partitions");
        let plain = Calendar::new(CalendarRequest { empty: &[], ..request }).expect("few enough \
            partitions");
        // THEN what was said is heeded: there are fewer partitions, and every position still lies
        // in exactly one
        let wide = offered.iter().any(|(_, width)| *width > 21);
        prop_assert!(rule.len() <= plain.len() && (!wide || rule.len() < plain.len()));
        let partitioning = Partitioning::new(Rule::Calendar(rule), if newest { Order::Newest } else { Order::Oldest }, null);
        let ranges = ranges(&partitioning);
        prop_assert!(partitioning.joined().iter().all(|joined| ranges.contains(joined)));
        check_cover(&partitioning, start, None)?;
    }

    #[test]
    fn joined_widths_change_no_cover(
        (low, step) in (-1_000_000_i64..1_000_000, 1..50_u64),
        offered in prop::collection::vec((0..60_000_i64, 0..20_000_i64), 0..6),
        (start, newest) in any::<(bool, bool)>(),
    ) {
        let mut facts = integers(Some(low), Some(low + 60_000), Vec::new());
        facts.empty = offered.iter().map(|(at, width)| (low + at, low + at + width)).map(|(a, b)| (Cursor::Integer(a), Cursor::Integer(b))).collect();
        let rule = Integer::by_width(step, start.then_some(low), None, &facts).expect("few enough \
            parts");
        let partitioning = Partitioning::new(Rule::Integer(rule), if newest { Order::Newest } else { Order::Oldest }, false);
        let ranges = ranges(&partitioning);
        prop_assert!(partitioning.joined().iter().all(|joined| ranges.contains(joined)));
        check_cover(&partitioning, start.then_some(Cursor::Integer(low)), None)?;
    }

    #[test]
    fn a_stored_rule_that_was_tampered_with_is_refused_or_sound(
        (first, last, start, end) in any::<(i64, i64, i64, i64)>(),
        grain in 0..5usize,
        near in any::<bool>(),
    ) {
        // GIVEN a stored calendar with arbitrary numbers in it
        let last = if near { first.saturating_add(last & 0xff) } else { last };
        let stored = serde_json::json!({"rule": {"calendar": {
            "kind": "instant", "grain": GRAINS[grain], "tz": "UTC", "start": {"instant": start}, "end": {"instant": end},
            "first": first, "last": last, "dropped": [], "zone_digest": null,
        }}, "order": "oldest", "null": false});
        // WHEN it is read, THEN it is refused, or every partition of it is a range
        if let Ok(partitioning) = serde_json::from_value::<Partitioning>(stored) {
            check_cover(&partitioning, Some(Cursor::Instant(start)), Some(Cursor::Instant(end)))?;
        }
    }
}

#[test]
fn dst_days_have_23_and_25_hours() {
    // GIVEN a year of days on the clock of Berlin
    let sides = [
        Some(instant("2022-12-31T23:00:00Z")),
        Some(instant("2023-12-31T23:00:00Z")),
        None,
        None,
    ];
    let rule = calendar(CursorKind::Instant, Grain::Day, "Europe/Berlin", sides).expect("a year");
    let partitioning = Partitioning::new(Rule::Calendar(rule), Order::Oldest, false);
    // WHEN their lengths are taken
    let hours = |range: &CursorRange| match (range.start(), range.end()) {
        (Some(Cursor::Instant(start)), Some(Cursor::Instant(end))) => {
            (end - start) / period::HOUR_MICROS
        }
        other => panic!("a closed range, not {other:?}"),
    };
    let days = ranges(&partitioning);
    let odd: Vec<(usize, i64)> = days
        .iter()
        .map(hours)
        .enumerate()
        .filter(|(_, hours)| *hours != 24)
        .collect();
    // THEN two of them are odd: the 26th of March and the 29th of October
    assert_eq!((days.len(), odd), (365, vec![(84, 23), (301, 25)]));
    assert_eq!(
        days[84].to_string(),
        "[2023-03-25T23:00:00Z, 2023-03-26T22:00:00Z)"
    );
}

#[test]
fn days_that_never_were_are_dropped() {
    // GIVEN the days around the one that Samoa skipped, 2011-12-30
    let read = |text: &str| {
        read_bound(&Bound(text.to_owned()), CursorKind::Instant, "Pacific/Apia").expect("a bound")
    };
    let sides = [
        Some(read("2011-12-28")),
        Some(read("2012-01-02")),
        None,
        None,
    ];
    // WHEN they are planned by day
    let rule = calendar(CursorKind::Instant, Grain::Day, "Pacific/Apia", sides).expect("five days");
    // THEN there are four, adjacent, and the missing one is remembered
    assert_eq!(rule.dropped().len(), 1);
    let partitioning = Partitioning::new(Rule::Calendar(rule), Order::Oldest, false);
    let days: Vec<String> = ranges(&partitioning)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        days,
        [
            "[2011-12-28T10:00:00Z, 2011-12-29T10:00:00Z)",
            "[2011-12-29T10:00:00Z, 2011-12-30T10:00:00Z)",
            "[2011-12-30T10:00:00Z, 2011-12-31T10:00:00Z)",
            "[2011-12-31T10:00:00Z, 2012-01-01T10:00:00Z)",
        ]
    );
    // AND by hour all of its twenty-four hours are dropped
    let hours = calendar(CursorKind::Instant, Grain::Hour, "Pacific/Apia", sides).expect("hours");
    assert_eq!((hours.dropped().len(), hours.len()), (24, 96));
}

#[test]
fn a_day_without_a_midnight_begins_at_its_first_instant() {
    // GIVEN São Paulo, whose clock leapt from midnight to one o'clock on 2018-11-04
    let bound = |text: &str| {
        read_bound(
            &Bound(text.to_owned()),
            CursorKind::Instant,
            "America/Sao_Paulo",
        )
    };
    // WHEN that day is taken for a bound, THEN it is the instant of the leap
    assert_eq!(bound("2018-11-04"), Ok(instant("2018-11-04T03:00:00Z")));
    assert_eq!(
        bound("2018-11-04T00:30:00"),
        Ok(instant("2018-11-04T03:00:00Z"))
    );
    assert_eq!(
        bound("2018-11-04T01:00:00"),
        Ok(instant("2018-11-04T03:00:00Z"))
    );
}

#[test]
fn bounds_are_read_by_the_kind_of_the_column_or_refused_with_the_legal_forms() {
    let read = |kind, text: &str| read_bound(&Bound(text.to_owned()), kind, "Europe/Berlin");
    let (i, c, d) = (CursorKind::Instant, CursorKind::Civil, CursorKind::Date);
    assert_eq!(read(i, "2013-01-01"), Ok(instant("2012-12-31T23:00:00Z")));
    assert_eq!(
        read(i, "2013-01-01T05:00:00Z"),
        Ok(instant("2013-01-01T05:00:00Z"))
    );
    assert_eq!(
        read(i, "2013-01-01 05:00:00+02:00"),
        Ok(instant("2013-01-01T03:00:00Z"))
    );
    assert_eq!(
        read(i, "2013-01-01T05:00:00.25"),
        Ok(instant("2013-01-01T04:00:00.25Z"))
    );
    assert_eq!(
        read(c, "2013-01-01"),
        Ok(Cursor::Civil(1_356_998_400_000_000))
    );
    assert_eq!(
        read(c, "9999-12-31 23:00:00").expect("a civil time"),
        Cursor::Civil(253_402_297_200_000_000)
    );
    assert_eq!(read(d, "2013-01-01"), Ok(Cursor::Date(15_706)));
    assert_eq!(read(CursorKind::Integer, "-7"), Ok(Cursor::Integer(-7)));
    for (kind, text) in [
        (i, "01.01.2013"),
        (i, "2013-01-01T05:00:00[Europe/Berlin]"),
        (i, "2013-02-30"),
        (i, "now"),
        (i, "12"),
        (c, "2013-01-01T05:00:00Z"),
        (c, "2013-01-01T05:00:00+01:00"),
        (d, "2013-01-01T00:00:00"),
        (d, "2013-1-1"),
        (CursorKind::Integer, "2013-01-01"),
        (CursorKind::Integer, "1.5"),
    ] {
        let error = read(kind, text).expect_err(text);
        assert_eq!(
            error,
            BoundError::Form {
                text: text.to_owned(),
                kind
            }
        );
        assert!(error.to_string().contains(forms(kind)), "{error}");
    }
    assert!(matches!(
        read(i, "2013-01-01T00:00:00.0000001Z"),
        Err(BoundError::TooFine { .. })
    ));
    assert!(matches!(
        read_bound(&Bound("2013-01-01".to_owned()), i, "Mars/Olympus"),
        Err(BoundError::Zone(_))
    ));
}

#[test]
fn open_sides_are_placed_by_what_was_found() {
    let january = |day: &str| instant(&format!("2013-01-{day}T12:00:00Z"));
    let count = |sides| {
        calendar(CursorKind::Instant, Grain::Day, "UTC", sides)
            .expect("a calendar")
            .len()
    };
    let (min, max) = (Some(january("01")), Some(january("10")));
    // GIVEN no declared side, WHEN ten days were found, THEN there are ten partitions, and the
    // outer ones are open
    assert_eq!(count([None, None, min, max]), 10);
    // AND a side declared beyond all that was found leaves one open partition, as does an empty
    // table
    assert_eq!(count([Some(january("20")), None, min, max]), 1);
    assert_eq!(count([None, min, min, max]), 1);
    assert_eq!(count([None, None, None, None]), 1);
    // AND ±infinity falls into the open ends
    let (least, most) = (
        Some(Cursor::Instant(i64::MIN)),
        Some(Cursor::Instant(i64::MAX)),
    );
    let rule = calendar(
        CursorKind::Instant,
        Grain::Year,
        "Europe/Berlin",
        [None, None, least, most],
    )
    .expect("years");
    check_cover(
        &Partitioning::new(Rule::Calendar(rule), Order::Oldest, true),
        None,
        None,
    )
    .expect("a cover");
}

#[test]
fn too_many_partitions_are_refused_by_their_number() {
    let sides = [
        Some(instant("0001-01-01T00:00:00Z")),
        Some(instant("2001-01-01T00:00:00Z")),
        None,
        None,
    ];
    let error =
        calendar(CursorKind::Instant, Grain::Hour, "UTC", sides).expect_err("2,000 years of hours");
    assert!(
        matches!(
            error,
            PartitionError::TooMany {
                partitions: 17_531_640,
                ..
            }
        ),
        "{error}"
    );
    let facts = integers(Some(i64::MIN), Some(i64::MAX), Vec::new());
    let error = Integer::by_width(1, None, None, &facts).expect_err("all numbers");
    assert!(
        matches!(
            error,
            PartitionError::TooMany {
                partitions: u64::MAX,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn integers_are_cut_where_the_rows_are() {
    // GIVEN ten million rows, nine tenths of which lie below 1,000
    let facts = integers(
        Some(0),
        Some(999_999),
        vec![0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999_999],
    );
    // WHEN they are cut into parts of a million
    let rule = Integer::by_rows(10_000_000, 1_000_000, None, None, &facts).expect("ten parts");
    let partitioning = Partitioning::new(Rule::Integer(rule), Order::Oldest, false);
    // THEN each tenth is a part
    let ends: Vec<String> = ranges(&partitioning)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ends[..2], ["(-inf, 100)", "[100, 200)"]);
    assert_eq!((ends.len(), ends[9].as_str()), (10, "[900, +inf)"));
    // AND of a declared range only its own rows count
    let rule =
        Integer::by_rows(10_000_000, 1_000_000, Some(100), Some(300), &facts).expect("two parts");
    assert_eq!(rule.len(), 2);
}

#[test]
fn widths_are_aligned_unless_a_start_is_declared() {
    let facts = integers(Some(17), Some(250), Vec::new());
    let texts = |start| {
        let rule = Integer::by_width(100, start, None, &facts).expect("three parts");
        ranges(&Partitioning::new(
            Rule::Integer(rule),
            Order::Oldest,
            false,
        ))
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
    };
    assert_eq!(texts(None), ["(-inf, 100)", "[100, 200)", "[200, +inf)"]);
    assert_eq!(texts(Some(50)), ["[50, 150)", "[150, 250)", "[250, +inf)"]);
}

#[test]
fn a_zone_whose_rules_changed_is_refused() {
    // GIVEN a stored rule on the clock of Berlin
    let sides = [
        None,
        None,
        Some(instant("2013-01-01T00:00:00Z")),
        Some(instant("2014-01-01T00:00:00Z")),
    ];
    let rule = calendar(CursorKind::Instant, Grain::Day, "Europe/Berlin", sides).expect("a year");
    let mut stored = serde_json::to_value(&rule).expect("a document");
    // WHEN it names a digest that today's rules do not have
    stored["zone_digest"] =
        serde_json::to_value(crate::id::DocumentDigest::of(b"other rules")).expect("a digest");
    // THEN it is not used: its partitions would lie elsewhere
    let error = serde_json::from_value::<Calendar>(stored)
        .expect_err("other rules")
        .to_string();
    assert!(error.contains("have changed"), "{error}");
}

#[test]
fn one_row_in_year_9999_makes_one_partition_of_the_empty_years() {
    // GIVEN a month of instants, and one that somebody meant to be "never"
    let [min, last, max] = [
        "2024-01-01T00:00:00Z",
        "2024-02-04T17:20:00Z",
        "9999-12-30T00:00:00Z",
    ]
    .map(instant);
    let empty = [(last, max)];
    let request = CalendarRequest {
        kind: CursorKind::Instant,
        grain: Grain::Day,
        tz: "UTC",
        start: None,
        end: None,
        min: Some(min),
        max: Some(max),
        empty: &empty,
    };
    // WHEN it is cut by day, THEN the empty years are one partition, and the others are days
    let partitioning = Partitioning::new(
        Rule::Calendar(Calendar::new(request).expect("few")),
        Order::Oldest,
        false,
    );
    assert_eq!(partitioning.len(), 37);
    let joined: Vec<String> = partitioning
        .joined()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(joined, ["[2024-02-05T00:00:00Z, 9999-12-30T00:00:00Z)"]);
    assert_eq!(partitioning.range(35), partitioning.joined()[0]);
    // WHEN nothing is known of the years between, THEN that is told in words
    let refused = Calendar::new(CalendarRequest {
        empty: &[],
        ..request
    })
    .expect_err("too many");
    assert_eq!(
        refused.to_string(),
        "2913173 partitions from 2024-01-01T00:00:00Z to 9999-12-30T00:00:00Z are more than the \
         1000000 that a step may have"
    );
}

#[test]
fn whole_numbers_far_apart_are_cut_where_they_are() {
    // GIVEN two numbers, and one at the other end of them all
    let mut facts = integers(Some(1), Some(7_234_567_890_123_456_789), Vec::new());
    facts.empty = vec![(
        Cursor::Integer(2),
        Cursor::Integer(7_234_567_890_123_456_789),
    )];
    // WHEN they are cut by a width of a thousand, THEN there are three parts
    let rule = Integer::by_width(1_000, None, None, &facts).expect("few");
    let partitioning = Partitioning::new(Rule::Integer(rule), Order::Oldest, false);
    let parts: Vec<String> = ranges(&partitioning)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        parts,
        [
            "(-inf, 1000)",
            "[1000, 7234567890123456000)",
            "[7234567890123456000, +inf)"
        ]
    );
}
