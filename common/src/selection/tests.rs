use proptest::prelude::*;

use super::*;
use crate::spec::{Dependency, When};

fn dag() -> Dag {
    let edge = |name: &str| Dependency {
        step: name.parse().unwrap(),
        when: When::Success,
    };
    let steps = [
        ("raw_a", vec![]),
        ("raw_b", vec![]),
        ("orders", vec![edge("raw_a"), edge("raw_b")]),
        ("kpis", vec![edge("orders")]),
        ("other", vec![]),
    ];
    let steps = steps.map(|(name, edges)| (name.parse().unwrap(), edges));
    Dag::new(steps.into_iter().collect()).unwrap()
}

fn steps(text: &str) -> String {
    let selection: Selection = text.parse().unwrap();
    let found = selection.steps(&dag()).unwrap();
    let found: Vec<&str> = found.iter().map(StepName::as_str).collect();
    found.join(" ")
}

fn picked(text: &str, kind: CursorKind, tz: &str) -> String {
    let selection: Selection = text.parse().unwrap();
    match selection.picked(&"orders".parse().unwrap(), Some(kind), tz) {
        Ok(Picked::Range(range)) => range.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn names_patterns_and_pluses_mean_steps() {
    assert_eq!(steps("orders"), "orders");
    assert_eq!(steps("raw_*"), "raw_a raw_b");
    assert_eq!(steps("*"), "kpis orders other raw_a raw_b");
    assert_eq!(steps("*r*s"), "orders");
    assert_eq!(steps("+orders"), "orders raw_a raw_b");
    assert_eq!(steps("orders+"), "kpis orders");
    assert_eq!(steps("+orders+"), "kpis orders raw_a raw_b");
    assert_eq!(steps("raw_a+"), "kpis orders raw_a");
    let none: Selection = "nothing_*".parse().unwrap();
    assert_eq!(
        none.steps(&dag()).unwrap_err().to_string(),
        "`nothing_*` selects no step; this run has other, raw_a, raw_b, orders, kpis"
    );
}

#[test]
fn both_ends_of_a_stretch_are_meant_whole() {
    let date = |text| picked(text, CursorKind::Date, "UTC");
    assert_eq!(date("orders[2024-01..2024-03]"), "[2024-01-01, 2024-04-01)");
    assert_eq!(date("orders[2024]"), "[2024-01-01, 2025-01-01)");
    assert_eq!(date("orders[2024-02-29]"), "[2024-02-29, 2024-03-01)");
    assert_eq!(date("orders[2024-01..]"), "[2024-01-01, +inf)");
    assert_eq!(date("orders[..2024-01]"), "(-inf, 2024-02-01)");
    assert_eq!(date("orders[null]"), "Ok(Null)");
    assert_eq!(
        picked("orders[10..20]", CursorKind::Integer, "UTC"),
        "[10, 21)"
    );
    assert_eq!(
        picked("orders[2024]", CursorKind::Integer, "UTC"),
        "[2024, 2025)"
    );
    assert_eq!(
        picked("orders[2024-03-31T02]", CursorKind::Civil, "UTC"),
        "[2024-03-31T02:00:00, 2024-03-31T03:00:00)"
    );
    // A day of a zone whose clock is put forward has 23 hours.
    assert_eq!(
        picked("orders[2024-03-31]", CursorKind::Instant, "Europe/Berlin"),
        "[2024-03-30T23:00:00Z, 2024-03-31T22:00:00Z)"
    );
}

#[test]
fn what_means_nothing_is_told() {
    let parse = |text: &str| text.parse::<Selection>().unwrap_err().to_string();
    assert!(parse("").contains("names no step"));
    assert!(parse("orders[2024").contains("not closed"));
    assert!(parse("orders[]").contains("brackets are empty"));
    assert!(parse("orders[..]").contains("leave out the brackets"));
    assert!(parse("Orders").contains("small letters"));
    assert!(parse("orders[2024]+").contains("of one step"));
    let backwards = picked("orders[2024-03..2024-01]", CursorKind::Date, "UTC");
    assert!(backwards.contains("Backwards"), "{backwards}");
    let day = picked("orders[2024-01-32]", CursorKind::Date, "UTC");
    assert!(day.contains("Position"), "{day}");
    let none: Selection = "orders[5]".parse().unwrap();
    let none = none.picked(&"orders".parse().unwrap(), None, "UTC");
    assert!(none.unwrap_err().to_string().contains("has none"));
}

#[test]
fn partitions_that_overlap_are_taken() {
    let range = |start, end| {
        let at = |at: Option<i64>| at.map(Cursor::Integer);
        CursorRange::new(at(start), at(end)).unwrap()
    };
    let picked = Picked::Range(range(Some(10), Some(20)));
    let takes = |start, end| picked.takes(Some(&Slice::Range(range(start, end))));
    assert!(takes(None, Some(11)) && takes(Some(19), None) && takes(None, None));
    assert!(!takes(None, Some(10)) && !takes(Some(20), Some(30)));
    assert!(!picked.takes(Some(&Slice::Null)) && !picked.takes(None));
    assert!(Picked::Null.takes(Some(&Slice::Null)) && !Picked::Null.takes(None));
    assert!(Picked::All.takes(None));
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in ".*", kind in 0..4_u8) {
        let kind = [CursorKind::Integer, CursorKind::Instant, CursorKind::Civil, CursorKind::Date][usize::from(kind)];
        let typed = format!("orders[{text}]");
        for text in [text, typed] {
            if let Ok(selection) = text.parse::<Selection>() {
                let _ = selection.steps(&dag());
                let _ = selection.picked(&"orders".parse().unwrap(), Some(kind), "Europe/Berlin");
            }
        }
    }
}
