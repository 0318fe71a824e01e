use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::samples::{bare, column, keyed, log, logged, name, odd_names, stamped, tables, wishes};
use super::*;
use crate::cursor::CursorKind;
use crate::facts::{Dependant, DependantKind, Engine, ForeignKey, OnDelete};
use crate::spec::{Connection, SecretText, parse};

fn first(found: &TableAsFound, wishes: &Wishes) -> Way {
    rank(found, wishes).ranked.first().expect("a way").way
}

fn refusals(found: &TableAsFound, wishes: &Wishes, way: Way) -> String {
    let advice = rank(found, wishes);
    let refused = advice.refused.iter().find(|one| one.way == way);
    let because = &refused
        .unwrap_or_else(|| panic!("{way:?} is refused: {advice:#?}"))
        .because;
    because
        .iter()
        .map(|why| format!("{why}\n"))
        .collect::<String>()
}

fn fresh(seconds: u64) -> Wishes {
    Wishes {
        fresh: Some(Duration::from_secs(seconds)),
        ..Wishes::default()
    }
}

fn once() -> Wishes {
    Wishes {
        once: true,
        ..Wishes::default()
    }
}

fn critical() -> Wishes {
    Wishes {
        critical: true,
        ..Wishes::default()
    }
}

/// What a family of ways has in common: no member of one that is refused is recommended.
fn family(way: Way) -> u8 {
    match way {
        Way::FullRefresh => 0,
        Way::Backfill => 1,
        Way::Incremental | Way::BackfillIncremental => 2,
        Way::Cdc | Way::BackfillCdc => 3,
        Way::Swap | Way::SwapInPlace => 4,
        Way::Nightly => 5,
    }
}

#[test]
fn each_row_of_the_matrix_is_chosen_by_its_own_facts() {
    let wish = Wishes::default();
    // few rows
    assert_eq!(first(&bare(50_000), &wish), Way::FullRefresh);
    // more rows, a stamp and a key
    assert_eq!(first(&stamped(500_000), &wish), Way::Incremental);
    assert_eq!(first(&stamped(2_000_000), &wish), Way::BackfillIncremental);
    // a log that can be read, and a key
    assert_eq!(first(&logged(500_000), &wish), Way::Cdc);
    assert_eq!(first(&logged(2_000_000), &wish), Way::BackfillCdc);
    // history, once
    assert_eq!(first(&stamped(2_000_000), &once()), Way::Backfill);
    // read all day
    assert_eq!(first(&bare(2_000_000), &critical()), Way::Swap);
    // nothing fits
    assert_eq!(first(&bare(2_000_000), &wish), Way::Nightly);
}

#[test]
fn deletes_and_real_time_prefer_the_log() {
    let mut both = stamped(2_000_000);
    both.log = LogAccess::Server(log());
    // the cheaper one, as long as neither loses anything
    assert_eq!(first(&both, &Wishes::default()), Way::BackfillIncremental);
    assert_eq!(first(&both, &fresh(5)), Way::BackfillCdc);
    let mut deleting = both.clone();
    deleting.changes = deleting.changes.map(|seen| Changes {
        deleted: 80_000,
        ..seen
    });
    let advice = rank(&deleting, &Wishes::default());
    let ways: Vec<Way> = advice.ranked.iter().map(|one| one.way).collect();
    assert_eq!(ways, [Way::BackfillCdc, Way::BackfillIncremental]);
    assert_eq!(
        advice.ranked[0].brings,
        "no loss, sees deletes (0.4 % a day)"
    );
    let wish = Wishes {
        deletes_matter: true,
        ..Wishes::default()
    };
    assert!(refusals(&both, &wish, Way::Incremental).contains("--deletes-matter"));
    assert_eq!(first(&both, &wish), Way::BackfillCdc);
}

#[test]
fn rows_99_999_refresh_and_100_000_do_not() {
    let wish = Wishes::default();
    assert_eq!(first(&bare(99_999), &wish), Way::FullRefresh);
    assert_eq!(first(&bare(100_000), &wish), Way::Nightly);
    assert_eq!(first(&stamped(99_999), &wish), Way::FullRefresh);
    assert_eq!(first(&stamped(100_000), &wish), Way::Incremental);
    let wide = |bytes| TableAsFound {
        bytes,
        ..bare(1_000)
    };
    assert_eq!(first(&wide((64 << 20) - 1), &wish), Way::FullRefresh);
    assert_eq!(first(&wide(64 << 20), &wish), Way::Nightly);
    let told = refusals(&bare(100_000), &wish, Way::FullRefresh);
    assert!(told.contains("100,000 rows"), "{told}");
}

#[test]
fn a_small_table_is_not_refreshed_where_it_has_to_be_fresh_or_is_critical() {
    assert_eq!(first(&stamped(1_000), &fresh(299)), Way::Incremental);
    assert_eq!(first(&stamped(1_000), &fresh(300)), Way::FullRefresh);
    assert_eq!(first(&bare(1_000), &critical()), Way::Swap);
    let mut to_sqlite = bare(1_000);
    to_sqlite.target = to_sqlite.target.map(|to| TargetSide {
        engine: Engine::Sqlite,
        ..to
    });
    assert_eq!(first(&to_sqlite, &critical()), Way::FullRefresh);
    assert!(refusals(&to_sqlite, &critical(), Way::Swap).contains("SQLite"));
}

#[test]
fn stamps_of_the_application_and_nulls_are_not_loss_free() {
    let wish = Wishes::default();
    let with = |change: &dyn Fn(&mut PositionColumn)| {
        let mut found = stamped(500_000);
        found.columns.truncate(1);
        let mut by = column("updated_at", CursorKind::Instant, MovedBy::Server);
        change(&mut by);
        found.columns.push(by);
        rank(&found, &wish).ranked.remove(0)
    };
    let whole = with(&|_| ());
    assert_eq!(
        (whole.way, whole.assurance),
        (Way::Incremental, Assurance::NoLoss)
    );
    let nulls = with(&|by| (by.nullable, by.null_rows) = (true, Some(3)));
    assert_eq!(
        (nulls.way, nulls.assurance),
        (Way::Incremental, Assurance::Bounded)
    );
    // what may lose updates comes behind what is a day late
    let by_name = with(&|by| by.moved_by = MovedBy::Application);
    assert_eq!(by_name.way, Way::Nightly);
    let doubted = with(&|by| by.doubts.push("anybody stamps it".to_owned()));
    assert_eq!(doubted.way, Way::Nightly);
}

#[test]
fn a_column_that_only_says_when_a_row_was_made_follows_a_table_that_is_only_added_to() {
    let mut found = stamped(500_000);
    found.columns.truncate(2);
    assert_eq!(first(&found, &Wishes::default()), Way::Nightly);
    found.changes = found.changes.map(|seen| Changes { updated: 0, ..seen });
    assert_eq!(first(&found, &Wishes::default()), Way::Incremental);
}

#[test]
fn who_cannot_see_is_told_what_to_grant() {
    let mut found = stamped(500_000);
    found.sight = Sight::Hidden {
        role: "reader".to_owned(),
    };
    let told = refusals(&found, &Wishes::default(), Way::Incremental);
    assert!(told.contains("grant pg_read_all_stats to reader"), "{told}");
}

#[test]
fn a_log_that_cannot_be_read_says_why_and_what_to_do() {
    type Change = fn(&mut ServerLog);
    let cases: [(Change, &str); 8] = [
        (
            |log| log.wal_level = "replica".to_owned(),
            "alter system set wal_level = logical",
        ),
        (|log| log.slots_free = 0, "max_replication_slots"),
        (|log| log.is_standby = true, "name the primary"),
        (
            |log| log.may_replicate = false,
            "alter role reader replication",
        ),
        (|log| log.may_publish = false, "grant its role to reader"),
        (
            |log| log.identity = ReplicaIdentity::Nothing,
            "alter table public.orders replica identity",
        ),
        (|log| log.is_ordinary = false, "follow the tables"),
        (
            |log| log.kept_bytes = Some(1 << 20),
            "max_slot_wal_keep_size",
        ),
    ];
    for (change, remedy) in cases {
        let mut found = logged(500_000);
        let mut with = log();
        change(&mut with);
        found.log = LogAccess::Server(with);
        let told = refusals(&found, &Wishes::default(), Way::Cdc);
        assert!(told.contains(remedy) && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn what_hangs_on_the_target_decides_how_it_is_replaced() {
    let with = |table: TargetAsFound| {
        let mut found = bare(50_000);
        found.target = found.target.map(|to| TargetSide {
            table: TargetTable::Found(table),
            ..to
        });
        found
    };
    let view = Dependant {
        kind: DependantKind::MaterializedView,
        name: "public.totals".to_owned(),
        foreign_owner: None,
    };
    let viewed = with(TargetAsFound {
        dependants: vec![view],
        ..TargetAsFound::default()
    });
    let advice = rank(&viewed, &critical());
    assert_eq!(advice.ranked[0].way, Way::SwapInPlace);
    assert!(advice.ranked[0].cautions[0].contains("public.totals"));
    let references = ForeignKey {
        name: "lines_fk".to_owned(),
        table: "public.lines".to_owned(),
        on_delete: OnDelete::Cascade,
    };
    let referenced = with(TargetAsFound {
        referenced_by: vec![references],
        ..TargetAsFound::default()
    });
    let told = refusals(&referenced, &Wishes::default(), Way::FullRefresh);
    assert!(told.contains("lines_fk"), "{told}");
    assert!(rank(&referenced, &Wishes::default()).ranked.is_empty());
    assert_eq!(first(&referenced, &critical()), Way::Swap);
}

#[test]
fn a_target_that_nobody_has_seen_is_told() {
    let mut found = bare(50_000);
    found.target = found.target.map(|to| TargetSide {
        table: TargetTable::Unseen("connection refused".to_owned()),
        ..to
    });
    for wishes in [Wishes::default(), critical()] {
        let cautions = &rank(&found, &wishes).ranked[0].cautions;
        assert!(
            cautions
                .iter()
                .any(|one| one.contains("connection refused")),
            "{cautions:?}"
        );
    }
}

#[test]
fn a_long_history_and_a_thin_one_are_cut_by_month() {
    let text = |rows, span_days| {
        let mut found = stamped(rows);
        found.columns[1].span_days = span_days;
        written(&[found], &once()).expect("a file")
    };
    assert!(text(1_000_000, Some(1_000)).contains("grain: day"));
    for (rows, span_days) in [
        (999_999, Some(1_000)),
        (9_000_000, Some(1_001)),
        (9_000_000, None),
    ] {
        assert!(
            text(rows, span_days).contains("grain: month"),
            "{span_days:?}"
        );
    }
}

#[test]
fn a_table_that_still_grows_is_told_so_when_it_is_loaded_once() {
    let advice = rank(&stamped(2_000_000), &once());
    assert!(advice.ranked[0].cautions[0].contains("incremental"));
    let mut uncut = bare(2_000_000);
    uncut.table = name("notes");
    assert!(refusals(&uncut, &once(), Way::Backfill).contains("no column cuts"));
    assert_eq!(rank(&uncut, &once()).ranked[0].cadence, "once");
}

#[test]
fn a_key_of_text_or_of_several_columns_cuts_a_table_that_nothing_else_cuts() {
    // GIVEN a table with such a key WHEN it is loaded once THEN that cuts it
    let text = written(&[keyed(2_000_000)], &once()).expect("a file");
    assert!(
        text.contains("{by: keyset}") && text.contains("{mode: append}"),
        "{text}"
    );
    assert!(text.contains("cut by its key code, line"), "{text}");
    // AND it is swapped in parts of it, which are no more than a plan holds
    let text = written(&[keyed(6_000_000_000)], &critical()).expect("a file");
    assert!(
        text.contains("strategy: swap") && text.contains("{by: keyset, max_rows: 6000000}"),
        "{text}"
    );
    // AND a time comes first that an index leads with, and that no update moves
    let with = |change: fn(&mut PositionColumn)| {
        let mut found = keyed(2_000_000);
        let mut made = column("created_at", CursorKind::Instant, MovedBy::Nobody);
        change(&mut made);
        found.columns.push(made);
        written(&[found], &once()).expect("a file")
    };
    assert!(with(|_| ()).contains("by: calendar"));
    assert!(with(|column| column.indexed = false).contains("by: keyset"));
    assert!(with(|column| column.moved_by = MovedBy::Server).contains("by: keyset"));
    // AND a target in SQLite is not cut so
    let mut found = keyed(2_000_000);
    found.target = found.target.map(|to| TargetSide {
        engine: Engine::Sqlite,
        ..to
    });
    assert!(refusals(&found, &once(), Way::Backfill).contains("no column cuts"));
}

/// The file that is written for tables and what is recommended for them.
fn written(found: &[TableAsFound], wishes: &Wishes) -> Option<String> {
    let advice: Vec<Advice> = found.iter().map(|one| rank(one, wishes)).collect();
    let connection = |url: &str| Connection::of_text(url).expect("a connection");
    let target = Connection::Postgres {
        url: SecretText::new("${env:TARGET_URL}"),
        max_connections: None,
        read_only: false,
    };
    let connections = BTreeMap::from([
        (
            "source".parse().expect("a name"),
            connection("postgres://reader:${env:P}@h/db"),
        ),
        ("target".parse().expect("a name"), target),
    ]);
    let tables = found.iter().zip(&advice).map(|(found, advice)| DraftTable {
        by_hand: None,
        found,
        advice,
        from: "source".parse().expect("a name"),
        to: "target".parse().expect("a name"),
        as_table: found.table.clone(),
        step: found.table.name.clone(),
    });
    pipeline_file(&Draft {
        name: "shop".parse().expect("a name"),
        connections,
        wishes,
        tables: tables.collect(),
    })
}

#[test]
fn a_history_that_goes_on_is_two_steps_and_the_reasons_are_comments() {
    let mut lines = bare(50_000);
    lines.table = name("Order Lines");
    let text = written(&[stamped(2_000_000), lines], &Wishes::default()).expect("a file");
    insta::assert_snapshot!(text);
}

#[test]
fn each_way_is_written_as_what_it_is() {
    let ways = [
        (bare(50_000), Wishes::default()),
        (stamped(500_000), Wishes::default()),
        (stamped(2_000_000), Wishes::default()),
        (stamped(2_000_000), once()),
        (bare(2_000_000), critical()),
        (keyed(2_000_000), once()),
        (keyed(90_000_000), critical()),
        (bare(2_000_000), Wishes::default()),
        (
            bare(6_000_000),
            Wishes {
                slots: 4,
                ..fresh(60)
            },
        ),
    ];
    for (found, wishes) in ways {
        let way = &rank(&found, &wishes).ranked[0];
        let text = written(std::slice::from_ref(&found), &wishes).expect("a file");
        let spec = parse(&text, &BTreeMap::new()).expect("it is legal");
        let steps: Vec<&str> = spec
            .steps
            .values()
            .map(|step| step.strategy.load().name())
            .collect();
        let mut expected = way.way.strategies().to_vec();
        expected.sort_unstable();
        let mut steps = steps;
        steps.sort_unstable();
        assert_eq!(steps, expected, "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(
        found in prop::collection::vec((tables(), odd_names(), odd_names()), 1..4),
        wishes in wishes(),
    ) {
        let found: Vec<TableAsFound> = found.into_iter().map(|(mut found, table, column)| {
            found.table = name(&table);
            found.key.iter_mut().for_each(|key| key.clone_from(&column));
            found.columns.iter_mut().for_each(|one| one.name.clone_from(&column));
            found
        }).collect();
        if let Some(text) = written(&found, &wishes) {
            let read = parse(&text, &BTreeMap::new());
            prop_assert!(read.is_ok(), "{:?}\n{text}", read.err());
        }
    }

    #[test]
    fn every_refusal_names_fact_and_remedy(found in tables(), wishes in wishes()) {
        for refused in rank(&found, &wishes).refused {
            prop_assert!(!refused.because.is_empty());
            for why in refused.because {
                let parts = [&why.fact, &why.threshold, &why.remedy];
                prop_assert!(parts.iter().all(|part| !part.trim().is_empty()), "{why:?}");
            }
        }
    }

    #[test]
    fn nothing_that_is_refused_is_recommended(found in tables(), wishes in wishes()) {
        let advice = rank(&found, &wishes);
        prop_assert_eq!(&advice, &rank(&found, &wishes));
        let refused: BTreeSet<u8> = advice.refused.iter().map(|one| family(one.way)).collect();
        let ranked: Vec<u8> = advice.ranked.iter().map(|one| family(one.way)).collect();
        let unique: BTreeSet<u8> = ranked.iter().copied().collect();
        prop_assert_eq!(unique.len(), ranked.len());
        prop_assert!(ranked.iter().all(|way| !refused.contains(way)), "{advice:?}");
        let judged: BTreeSet<u8> = unique.union(&refused).copied().collect();
        prop_assert!((0..5).all(|way| judged.contains(&way)), "{advice:?}");
    }

    #[test]
    fn what_loses_less_comes_first(found in tables(), wishes in wishes()) {
        let advice = rank(&found, &wishes);
        prop_assert!(advice.ranked.is_sorted_by_key(|one| one.assurance));
    }
}
