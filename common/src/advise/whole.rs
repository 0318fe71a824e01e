//! The ways that load a table whole, again and again.

use std::time::Duration;

use super::advice::{Assurance, Ranked, Refusal, Way};
use super::case::{
    Case, DAY, Fit, IN_PLACE_ROWS, Judged, REFRESH_SLOTS, SMALL_BYTES, SMALL_ROWS, WHOLE_FRESH,
    refusal, refused,
};
use super::columns::cut;
use super::facts::{TargetAsFound, TargetSide, TargetTable};
use crate::engine::Engine;
use crate::number::{bytes, count};
use crate::plan::{Writing, check_dependants, check_references};
use crate::spec::{Triggers, WriteMode};

/// Seconds: longer than this no statement should look at one instant.
const ONE_INSTANT: u64 = 30 * 60;

/// Whether the table of a swap is read in parts: one statement would take too long.
pub(super) fn is_swapped_in_parts(case: &Case<'_>) -> bool {
    case.seconds(1) > ONE_INSTANT && cut(case.found).is_some()
}

/// Replaces all rows in one transaction.
pub(super) fn full_refresh(case: &Case<'_>) -> Judged {
    let mut no = references(case);
    no.extend(too_slow(case, WHOLE_FRESH));
    if !case.is_small() {
        no.push(refusal(
            case.size(),
            format!(
                "fewer than {} rows and {}",
                count(SMALL_ROWS),
                bytes(SMALL_BYTES)
            ),
            "load it nightly, or what has changed only",
        ));
    }
    if !no.is_empty() {
        return refused(Way::FullRefresh, no);
    }
    let runs = case.runs_a_day(24);
    let mut cost = case.cost(1);
    cost.bytes_a_day = case.found.bytes.saturating_mul(runs);
    cost.queries_a_day = runs;
    cost.locks = "writers of the target, while it is written".to_owned();
    let ranked = Ranked {
        cadence: case.cadence("hourly or daily"),
        brings: "no loss, sees deletes".to_owned(),
        because: vec![case.size()],
        cautions: case
            .found
            .target
            .as_ref()
            .and(unseen(case))
            .into_iter()
            .collect(),
        ..case.ranked(Way::FullRefresh, Assurance::NoLoss, cost)
    };
    Judged::Fits(Box::new(Fit {
        is_made_for_it: !case.wishes.critical,
        ranked,
    }))
}

/// Replaces all rows once a day, where nothing else fits.
pub(super) fn nightly(case: &Case<'_>) -> Option<Fit> {
    if !references(case).is_empty() {
        return None;
    }
    let mut cautions = Vec::new();
    cautions.extend(case.found.target.as_ref().and(unseen(case)));
    let is_late = case.wishes.fresh.filter(|fresh| *fresh < DAY).is_some() && !case.wishes.once;
    if is_late {
        cautions.push("the target is up to a day old, which is older than was wished".to_owned());
    }
    let is_huge = case.found.rows > IN_PLACE_ROWS;
    if is_huge {
        cautions.push(format!(
            "more than {} rows in one transaction: the target's writers wait, and vacuum has much \
             to clear",
            count(IN_PLACE_ROWS)
        ));
    }
    let runs = u64::from(!case.wishes.once);
    let mut cost = case.cost(REFRESH_SLOTS);
    cost.bytes_a_day = case.found.bytes.saturating_mul(runs);
    cost.queries_a_day = runs;
    cost.space = case.found.bytes;
    cost.locks = "writers of the target, while it is published".to_owned();
    let assurance = match is_late || is_huge {
        true => Assurance::BestEffort,
        false => Assurance::Bounded,
    };
    let ranked = Ranked {
        cadence: if case.wishes.once { "once" } else { "nightly" }.to_owned(),
        brings: "sees deletes, up to a day late".to_owned(),
        because: vec!["nothing else fits without loss".to_owned()],
        cautions,
        ..case.ranked(Way::Nightly, assurance, cost)
    };
    Some(Fit {
        ranked,
        is_made_for_it: false,
    })
}

/// Loads a table beside the one that is read.
pub(super) fn swap(case: &Case<'_>) -> Judged {
    let uncarried = uncarried(case);
    let way = match uncarried.is_empty() {
        true => Way::Swap,
        false => Way::SwapInPlace,
    };
    let in_parts = is_swapped_in_parts(case);
    let slots = if in_parts { case.wishes.slots } else { 1 };
    let seconds = case.seconds(slots);
    let mut no = Vec::new();
    if case.found.target.as_ref().map(|to| to.engine) == Some(Engine::Sqlite) {
        no.push(refusal(
            "the target is a SQLite file",
            "a target in which one table can take another's place: PostgreSQL",
            "use `full_refresh`, which readers of a SQLite file do not notice either",
        ));
    }
    if way == Way::SwapInPlace {
        no.extend(references(case));
    }
    no.extend(too_slow(
        case,
        WHOLE_FRESH.max(Duration::from_secs(seconds.saturating_mul(2))),
    ));
    if !case.wishes.critical && case.found.rows <= IN_PLACE_ROWS {
        no.push(refusal(
            format!("not critical, {}", case.size()),
            format!("--critical, or more than {} rows", count(IN_PLACE_ROWS)),
            "say so if its readers may never wait",
        ));
    }
    if !no.is_empty() {
        return refused(way, no);
    }
    Judged::Fits(Box::new(Fit {
        ranked: swapped(case, way, uncarried, slots),
        is_made_for_it: case.wishes.critical,
    }))
}

fn swapped(case: &Case<'_>, way: Way, uncarried: Vec<String>, slots: u32) -> Ranked {
    let is_in_place = way == Way::SwapInPlace;
    let runs = case.runs_a_day(1);
    let mut cost = case.cost(slots);
    cost.bytes_a_day = case.found.bytes.saturating_mul(runs);
    cost.queries_a_day = runs;
    cost.space = case.found.bytes.saturating_mul(2);
    cost.locks = match is_in_place {
        true => "writers of the target, while it is published",
        false => "the target for 500 ms at most, while the tables exchange their names",
    }
    .to_owned();
    let mut cautions: Vec<String> = uncarried
        .into_iter()
        .map(|line| format!("in place, because {line}"))
        .collect();
    cautions.extend(unseen(case));
    let in_parts = is_swapped_in_parts(case);
    if in_parts {
        cautions.push("its parts are read at different instants".to_owned());
    }
    let (assurance, brings) = match in_parts {
        false => (Assurance::NoLoss, "no loss, sees deletes, no reader waits"),
        true => (Assurance::Bounded, "sees deletes, no reader waits"),
    };
    let mut because = vec![case.size()];
    if case.wishes.critical {
        because.insert(0, "read all day".to_owned());
    }
    Ranked {
        cadence: case.cadence("nightly"),
        brings: brings.to_owned(),
        because,
        cautions,
        ..case.ranked(way, assurance, cost)
    }
}

/// Why a load of the whole table comes too late.
fn too_slow(case: &Case<'_>, least: Duration) -> Option<Refusal> {
    let fresh = case.wishes.fresh.filter(|fresh| *fresh < least)?;
    if case.wishes.once {
        return None;
    }
    Some(refusal(
        format!("--fresh {}", crate::spec::duration_text(fresh)),
        format!("{} or more", crate::spec::duration_text(least)),
        "load what has changed only, or let the target be older",
    ))
}

/// The table that is there already, where it was seen.
fn target<'a>(case: &'a Case<'_>) -> Option<(&'a TargetSide, &'a TargetAsFound)> {
    let to = case.found.target.as_ref()?;
    match &to.table {
        TargetTable::Found(table) => Some((to, table)),
        TargetTable::Missing | TargetTable::Unseen(_) => None,
    }
}

/// What is not known because nobody has seen the target.
fn unseen(case: &Case<'_>) -> Option<String> {
    match case.found.target.as_ref().map(|to| &to.table) {
        None => Some("what hangs on the target's table was not looked at".to_owned()),
        Some(TargetTable::Unseen(why)) => Some(format!(
            "what hangs on the target's table was not looked at: {why}"
        )),
        Some(TargetTable::Missing | TargetTable::Found(_)) => None,
    }
}

/// Why rows cannot all be deleted and written again.
fn references(case: &Case<'_>) -> Vec<Refusal> {
    let Some((to, table)) = target(case) else {
        return Vec::new();
    };
    let writing = Writing {
        engine: to.engine,
        table: &to.name,
        mode: WriteMode::ReplaceTable,
        triggers: Triggers::Fire,
    };
    let told = check_references(writing, &table.referenced_by);
    let misfits = told.misfits.into_iter();
    let of = |misfit: crate::plan::Misfit| {
        let threshold = "a target whose rows no other table points to";
        refusal(misfit.message, threshold, misfit.help)
    };
    misfits.map(of).collect()
}

/// What would stay with the old table.
fn uncarried(case: &Case<'_>) -> Vec<String> {
    let Some((to, table)) = target(case) else {
        return Vec::new();
    };
    let told = check_dependants(&to.name, &table.dependants);
    told.misfits
        .into_iter()
        .map(|misfit| misfit.message)
        .collect()
}
