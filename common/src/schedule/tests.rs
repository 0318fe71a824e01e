//! Cron times against calendars, and schedules against clocks that do what clocks do.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>()
        .expect("an instant")
        .as_microsecond()
}

fn shown(instants: &[i64]) -> Vec<String> {
    let instants = instants.iter();
    instants
        .map(|at| {
            Timestamp::from_microsecond(*at)
                .expect("an instant")
                .to_string()
        })
        .collect()
}

fn timetable(cron: &str, zone: &str) -> Timetable {
    let cron = cron
        .parse()
        .unwrap_or_else(|error| panic!("{cron}: {error}"));
    Timetable::new(cron, zone).expect("a zone")
}

/// All instants in `[from, to)`, one after the other.
fn walk(timetable: &Timetable, from: &str, to: &str) -> Vec<String> {
    let (mut last, to) = (at(from) - 1, at(to));
    let mut found = Vec::new();
    while let Some(next) = timetable.next_after(last).filter(|next| *next < to) {
        found.push(next);
        last = next;
    }
    shown(&found)
}

#[test]
fn a_cron_expression_names_the_minutes_that_crontab_names() {
    for (cron, from, to, expected) in [
        (
            "15 * * * *",
            "2024-01-01T00:00:00Z",
            "2024-01-01T03:00:00Z",
            &[
                "2024-01-01T00:15:00Z",
                "2024-01-01T01:15:00Z",
                "2024-01-01T02:15:00Z",
            ][..],
        ),
        (
            "*/20,59 0 1 * *",
            "2024-01-31T00:00:00Z",
            "2024-02-02T00:00:00Z",
            &[
                "2024-02-01T00:00:00Z",
                "2024-02-01T00:20:00Z",
                "2024-02-01T00:40:00Z",
                "2024-02-01T00:59:00Z",
            ],
        ),
        (
            "0 10-14/2 * * *",
            "2024-01-01T00:00:00Z",
            "2024-01-02T00:00:00Z",
            &[
                "2024-01-01T10:00:00Z",
                "2024-01-01T12:00:00Z",
                "2024-01-01T14:00:00Z",
            ],
        ),
        (
            "0 6 * * Mon-Fri",
            "2024-01-05T00:00:00Z",
            "2024-01-09T00:00:00Z",
            &["2024-01-05T06:00:00Z", "2024-01-08T06:00:00Z"],
        ),
        // both days are given: either will do
        (
            "0 6 13 * 7",
            "2024-01-12T00:00:00Z",
            "2024-01-16T00:00:00Z",
            &["2024-01-13T06:00:00Z", "2024-01-14T06:00:00Z"],
        ),
        (
            "0 0 29 feb *",
            "2024-03-01T00:00:00Z",
            "2033-01-01T00:00:00Z",
            &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        (
            "50/4 0 1 1 *",
            "2024-01-01T00:00:00Z",
            "2024-02-01T00:00:00Z",
            &[
                "2024-01-01T00:50:00Z",
                "2024-01-01T00:54:00Z",
                "2024-01-01T00:58:00Z",
            ],
        ),
    ] {
        assert_eq!(walk(&timetable(cron, "UTC"), from, to), expected, "{cron}");
    }
}

#[test]
fn what_is_no_cron_expression_is_explained() {
    let explained = |text: &str| {
        let error = text.parse::<Cron>().expect_err(text);
        format!("{error} ({})", error.hint)
    };
    let texts = [
        "",
        "* * * *",
        "0 * * * * *",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * * mo",
        "5-1 * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "-5 * * * *",
        "+5 * * * *",
        "0 0 31 4,6 *",
        "0 0 30 2 *",
    ];
    let told: Vec<String> = texts
        .iter()
        .map(|text| format!("{text:14} {}", explained(text)))
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_time_that_the_clock_leaps_over_runs_after_the_leap() {
    // GIVEN the night in which Berlin's clocks go from two to three
    let night = ("2024-03-30T12:00:00Z", "2024-04-01T00:00:00Z");
    // WHEN a load is due at half past two, THEN it runs at half past three of summer time
    let nightly = timetable("30 2 * * *", "Europe/Berlin");
    assert_eq!(walk(&nightly, night.0, night.1), ["2024-03-31T01:30:00Z"]);
    // and one of every hour runs once in each hour that there is
    let hourly = timetable("30 * * * *", "Europe/Berlin");
    assert_eq!(walk(&hourly, night.0, night.1).len(), 36);
    // Lord Howe Island leaps by half an hour
    let island = timetable("15 2 * * *", "Australia/Lord_Howe");
    assert_eq!(
        walk(&island, "2024-10-05T00:00:00Z", "2024-10-06T00:00:00Z"),
        ["2024-10-05T15:45:00Z"]
    );
}

#[test]
fn a_time_that_the_clock_shows_twice_runs_once_and_an_hourly_one_in_both_hours() {
    // GIVEN the night in which Berlin's clocks go from three back to two
    let night = ("2024-10-26T12:00:00Z", "2024-10-28T00:00:00Z");
    let nightly = timetable("30 2 * * *", "Europe/Berlin");
    assert_eq!(walk(&nightly, night.0, night.1), ["2024-10-27T00:30:00Z"]);
    let hourly = timetable("30 * * * *", "Europe/Berlin");
    assert_eq!(walk(&hourly, night.0, night.1).len(), 36);
    assert!(walk(&hourly, night.0, night.1).contains(&"2024-10-27T01:30:00Z".to_owned()));
}

#[test]
fn a_day_that_a_zone_never_had_runs_nothing_twice() {
    // Samoa went from 29 December 2011 straight to the 31st
    let daily = timetable("0 9 * * *", "Pacific/Apia");
    let found = walk(&daily, "2011-12-29T00:00:00Z", "2012-01-02T00:00:00Z");
    let once: BTreeSet<&String> = found.iter().collect();
    assert_eq!(once.len(), found.len(), "{found:?}");
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn the_ends_of_the_calendar_are_no_panic() {
    for zone in ["UTC", "Europe/Berlin", "Pacific/Apia"] {
        let timetable = timetable("* * * * *", zone);
        for instant in [i64::MIN, i64::MAX, 0] {
            let _ = timetable.next_after(instant);
            let _ = timetable.latest(instant, i64::MAX, 3);
            let _ = timetable.latest(i64::MIN, instant, 3);
        }
    }
}

const BUSY: PipelineState = PipelineState {
    is_busy: true,
    latest_micros: None,
    latest_whole_micros: None,
};

fn rules(catch_up: CatchUp, overlap: Overlap) -> Rules {
    Rules { catch_up, overlap }
}

/// Every run that a schedule begins at `now`, when each ends at once.
fn drained(table: &Timetable, rules: Rules, standing: &mut Standing, now: i64) -> Vec<i64> {
    let mut begun: Vec<i64> = Vec::new();
    while let Some(due) = due(
        table,
        rules,
        standing,
        now,
        PipelineState {
            is_busy: false,
            latest_micros: begun.last().copied(),
            latest_whole_micros: begun.last().copied(),
        },
    ) {
        *standing = due.standing;
        begun.extend(due.begin.map(|begin| begin.instant_micros));
    }
    begun
}

#[test]
fn a_week_of_downtime_is_caught_up_as_the_file_says() {
    let table = timetable("0 */2 * * *", "UTC");
    let (stopped, back) = (at("2024-01-01T00:30:00Z"), at("2024-01-08T00:30:00Z"));
    for (catch_up, expected) in [
        (CatchUp::None, vec![]),
        (CatchUp::Latest, vec![at("2024-01-08T00:00:00Z")]),
        (
            CatchUp::All,
            (1..=84)
                .map(|no| stopped - 30 * MINUTE + no * 2 * HOUR)
                .collect(),
        ),
    ] {
        for overlap in [Overlap::Skip, Overlap::Queue] {
            // GIVEN a schedule that was decided a week ago, WHEN a coordinator leads again
            let mut standing = Standing::from(stopped);
            let begun = drained(&table, rules(catch_up, overlap), &mut standing, back);
            // THEN so many runs begin
            assert_eq!(begun, expected, "{catch_up:?} {overlap:?}");
            // and never again, though nothing but the last one was seen
            let again = drained(&table, rules(catch_up, overlap), &mut standing, back);
            assert!(again.is_empty());
        }
    }
}

#[test]
fn all_that_was_missed_is_bounded_and_says_what_it_left_out() {
    let table = timetable("* * * * *", "UTC");
    let mut standing = Standing::from(at("2024-01-01T00:00:00Z"));
    let back = at("2024-01-08T00:00:30Z");
    let begun = drained(
        &table,
        rules(CatchUp::All, Overlap::Skip),
        &mut standing,
        back,
    );
    assert_eq!(begun.len(), WAITING_MAX);
    assert_eq!(begun.last(), Some(&at("2024-01-08T00:00:00Z")));
}

#[test]
fn a_run_that_is_under_way_is_skipped_over_or_waited_for() {
    let table = timetable("*/10 * * * *", "UTC");
    let (ten, twenty) = (at("2024-01-01T00:10:00Z"), at("2024-01-01T00:20:00Z"));
    for (overlap, waiting, left_out) in [
        (Overlap::Skip, vec![], Some((twenty, Why::Overlapped))),
        (Overlap::Queue, vec![twenty], Some((ten, Why::Overlapped))),
    ] {
        // GIVEN a run that goes on while two instants come
        let rules = rules(CatchUp::Latest, overlap);
        let mut standing = Standing::from(ten - MINUTE);
        for now in [ten, ten + MINUTE, twenty, twenty + MINUTE] {
            if let Some(due) = due(&table, rules, &standing, now, BUSY) {
                assert_eq!(due.begin, None, "{overlap:?}");
                standing = due.standing;
            }
        }
        let told = standing.last_left_out;
        assert_eq!(standing.waiting, waiting, "{overlap:?}");
        assert_eq!(told.map(|of| (of.instant_micros, of.why)), left_out);
        // WHEN it ends, THEN the latest that waits begins, and nothing more
        let begun = drained(&table, rules, &mut standing, twenty + 5 * MINUTE);
        assert_eq!(begun, waiting, "{overlap:?}");
    }
}

#[test]
fn an_instant_is_on_time_for_as_long_as_it_takes_until_another_leads() {
    let table = timetable("0 * * * *", "UTC");
    let hour = at("2024-01-01T01:00:00Z");
    for (late, begins) in [(0, 1), (40_000_000, 1), (2 * MINUTE, 0)] {
        let mut standing = Standing::from(hour - MINUTE);
        let rules = rules(CatchUp::None, Overlap::Skip);
        let begun = drained(&table, rules, &mut standing, hour + late);
        assert_eq!(begun.len(), begins, "{late}");
    }
}

#[test]
fn an_instant_that_a_later_run_has_overtaken_begins_nothing() {
    let table = timetable("0 * * * *", "UTC");
    let hour = at("2024-01-01T01:00:00Z");
    let standing = Standing::from(hour - MINUTE);
    let rules = rules(CatchUp::Latest, Overlap::Skip);
    // GIVEN a run that somebody began a minute after the hour, WHEN the hour is seen later
    let seen = PipelineState {
        is_busy: false,
        latest_micros: Some(hour + MINUTE),
        latest_whole_micros: Some(hour + MINUTE),
    };
    let now = hour + 5 * MINUTE;
    let found = due(&table, rules, &standing, now, seen).expect("something to note");
    assert_eq!(found.begin, None);
    let told = found.standing.last_left_out;
    assert_eq!(told.map(|of| of.why), Some(Why::Overtaken));
    // WHEN that run was of some steps alone, THEN one of all of them comes after it
    let some_steps = PipelineState {
        latest_whole_micros: None,
        ..seen
    };
    let found = due(&table, rules, &standing, now, some_steps).expect("a run");
    let begin = found.begin.expect("a run");
    assert_eq!(begin.reference_micros, hour + MINUTE + 1);
    // WHEN the clock stands before that run, THEN it says nothing of older and younger
    let found = due(&table, rules, &standing, hour, seen).expect("a run");
    assert_eq!(
        found.begin,
        Some(Begin {
            instant_micros: hour,
            reference_micros: hour + MINUTE + 1
        })
    );
}

#[test]
fn what_comes_in_a_pause_is_left_out() {
    let table = timetable("0 * * * *", "UTC");
    let one = at("2024-01-01T01:00:00Z");
    let mut standing = Standing::from(one);
    standing.waiting = vec![one];
    let resumed = resumed(&table, &standing, one + 3 * HOUR + MINUTE);
    let told = resumed.last_left_out;
    assert_eq!(
        told.map(|of| (of.instant_micros, of.why)),
        Some((one + 3 * HOUR, Why::Paused))
    );
    let mut standing = resumed;
    let rules = rules(CatchUp::All, Overlap::Queue);
    assert!(drained(&table, rules, &mut standing, one + 3 * HOUR + MINUTE).is_empty());
    let begun = drained(&table, rules, &mut standing, one + 4 * HOUR);
    assert_eq!(begun, [one + 4 * HOUR]);
}

/// What happens to a schedule.
#[derive(Debug, Clone)]
enum Happening {
    /// The leader looks, after so long; the clock may be put back.
    Look(i64),
    /// The run under way ends, or one begins by hand.
    Toggle,
    /// It is paused and resumed.
    Resume,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..90 * MINUTE).prop_map(Happening::Look),
        1 => (-3 * DAY..3 * DAY).prop_map(Happening::Look),
        3 => Just(Happening::Toggle),
        1 => Just(Happening::Resume),
    ]
}

fn crons() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "* * * * *",
        "*/7 * * * *",
        "15 * * * *",
        "30 2 * * *",
        "0 0,12 * * mon,thu",
        "59 23 31 * *",
        "30 0-3 * 3,10 *",
    ])
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
    ])
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let catch_up = prop::sample::select(vec![CatchUp::Latest, CatchUp::None, CatchUp::All]);
    let overlap = prop::sample::select(vec![Overlap::Skip, Overlap::Queue]);
    (catch_up, overlap).prop_map(|(catch_up, overlap)| Rules { catch_up, overlap })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever clocks and runs do, no instant begins two runs, each is one of the schedule's, none
    /// begins before its time, and references grow.
    #[test]
    fn no_instant_begins_two_runs(
        cron in crons(),
        zone in zones(),
        rules in any_rules(),
        start in 0..20 * 365 * DAY,
        happenings in prop::collection::vec(happening(), 1..80),
    ) {
        let table = timetable(cron, zone);
        let start = at("2015-01-01T00:00:00Z") + start;
        let (mut now, mut is_busy) = (start, false);
        let mut standing = Standing::from(now);
        let (mut begun, mut latest): (Vec<i64>, Option<i64>) = (Vec::new(), None);
        for happening in happenings {
            match happening {
                Happening::Look(passed) => now += passed,
                Happening::Toggle if is_busy => is_busy = false,
                Happening::Toggle => {
                    is_busy = true;
                    latest = Some(latest.map_or(now, |latest| now.max(latest + 1)));
                }
                Happening::Resume => standing = resumed(&table, &standing, now),
            }
            let state = PipelineState { is_busy, latest_micros: latest, latest_whole_micros: latest };
            let Some(found) = due(&table, rules, &standing, now, state) else { continue };
            prop_assert!(found.standing.decided_micros >= standing.decided_micros);
            prop_assert!(found.standing.waiting.len() <= WAITING_MAX);
            prop_assert!(found.standing.waiting.is_sorted());
            standing = found.standing;
            if let Some(begin) = found.begin {
                prop_assert!(!is_busy);
                prop_assert!(begun.last().is_none_or(|last| *last < begin.instant_micros));
                prop_assert!(latest.is_none_or(|latest| latest < begin.reference_micros));
                let before = table.next_after(begin.instant_micros - 1);
                prop_assert_eq!(before, Some(begin.instant_micros));
                begun.push(begin.instant_micros);
                (is_busy, latest) = (true, Some(begin.reference_micros));
            }
            // nothing is left to do at the same moment
            let state = PipelineState { is_busy, latest_micros: latest, latest_whole_micros: latest };
            prop_assert_eq!(due(&table, rules, &standing, now, state), None);
        }
    }

    /// While a coordinator looks and runs are short, every instant begins its run.
    #[test]
    fn a_schedule_that_is_looked_at_in_time_begins_every_instant(
        cron in crons(),
        zone in zones(),
        rules in any_rules(),
        start in 0..20 * 365 * DAY,
        looks in prop::collection::vec(1..50_000_000_i64, 1..300),
    ) {
        let table = timetable(cron, zone);
        let start = at("2015-01-01T00:00:00Z") + start;
        let (mut now, mut standing) = (start, Standing::from(start));
        let mut begun = Vec::new();
        for passed in looks {
            now += passed;
            begun.extend(drained(&table, rules, &mut standing, now));
        }
        prop_assert_eq!(begun, table.latest(start, now, usize::MAX).instants);
    }

    /// Backwards and forwards the instants are the same.
    #[test]
    fn the_latest_instants_are_those_that_one_finds_going_forward(
        cron in crons(),
        zone in zones(),
        start in 0..40 * 365 * DAY,
        length in 0..40 * DAY,
        count_max in 1..9_usize,
    ) {
        let table = timetable(cron, zone);
        let from = at("2000-01-01T00:00:00Z") + start;
        let until = from + if cron.starts_with('*') { length / 400 } else { length };
        let (mut all, mut last) = (Vec::new(), from);
        while let Some(next) = table.next_after(last).filter(|next| *next <= until) {
            all.push(next);
            last = next;
        }
        let latest = table.latest(from, until, count_max);
        let skipped = all.len().saturating_sub(count_max);
        prop_assert_eq!(latest.has_more, skipped > 0);
        prop_assert_eq!(&latest.instants[..], &all[skipped..]);
    }
}
