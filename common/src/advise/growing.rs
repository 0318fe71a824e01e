//! The ways that load what a table has got, and its history.

use std::time::Duration;

use super::advice::{Assurance, Ranked, Refusal, Way};
use super::case::{Case, Fit, Judged, WINDOW_FRESH, refusal, refused};
use super::columns::{Cut, cut, may_hold_null, stamp, told};
use super::facts::{LogAccess, PositionColumn, ReplicaIdentity, ServerLog, Sight};
use crate::cursor::CursorKind;
use crate::engine::Engine;
use crate::number::{bytes, duration};
use crate::spec::duration_text;

/// How often a window is loaded where nobody says it, a day.
const WINDOWS_A_DAY: u64 = 288;
const DAY_SECONDS: u64 = 86_400;

/// Its history once, cut into parts.
pub(super) fn backfill(case: &Case<'_>) -> Judged {
    let mut no = Vec::new();
    let by = cut(case.found);
    if !case.wishes.once {
        no.push(refusal(
            "it loads nothing that comes later",
            "--once",
            "say so, or go on from its end by `incremental`",
        ));
    }
    if by.is_none() {
        no.push(refusal(
            "no column cuts the table into parts, and no key",
            "a column of times, or a key that the database has in order",
            "load it whole, or give it one",
        ));
    }
    let Some(by) = by.filter(|_| no.is_empty()) else {
        return refused(Way::Backfill, no);
    };
    let mut cautions = Vec::new();
    if case
        .found
        .changes
        .is_none_or(|seen| seen.seconds > 0 && grows(seen))
    {
        cautions.push(
            "it still grows: what is written after its part was read is not in the target; go on \
             by `incremental`, or run it when nobody writes"
                .to_owned(),
        );
    }
    let by = match by {
        Cut::Column(by) => {
            if !by.indexed {
                cautions.push(format!(
                    "no index leads with {}, so each part is a scan of the table",
                    by.name
                ));
            }
            by.name.clone()
        }
        Cut::Key => format!("its key {}", case.found.key.join(", ")),
    };
    let mut cost = case.cost(case.wishes.slots);
    cost.locks = "nothing in the source; the parts that are written in the target".to_owned();
    let ranked = Ranked {
        cadence: "once".to_owned(),
        brings: "each part whole, in parallel".to_owned(),
        because: vec![format!("cut by {by}"), case.size()],
        cautions,
        ..case.ranked(Way::Backfill, Assurance::NoLoss, cost)
    };
    Judged::Fits(Box::new(Fit {
        ranked,
        is_made_for_it: !case.is_small(),
    }))
}

const fn grows(seen: super::facts::Changes) -> bool {
    seen.inserted > 0 || seen.updated > 0 || seen.deleted > 0
}

/// What was written since the last run.
pub(super) fn incremental(case: &Case<'_>) -> Judged {
    let by = stamp(case.found);
    let mut no = unkeyed(case);
    if by.is_none() {
        no.push(refusal(
            "no column tells when a row was written",
            "a time, NOT NULL, indexed, stamped by each write",
            "add one with a default and a trigger that sets it, such as `updated_at timestamptz not \
             null default now()`, and an index",
        ));
    }
    no.extend(unseen(&case.found.sight));
    no.extend(goes_on(case, "an incremental"));
    if case.wishes.deletes_matter {
        no.push(refusal(
            "a row that was deleted has no stamp",
            "a way that sees deletes, because --deletes-matter",
            "let the log be read (`cdc`), load it whole, or mark deleted rows by a column",
        ));
    }
    if let Some(fresh) = case.wishes.fresh.filter(|fresh| *fresh < WINDOW_FRESH) {
        no.push(refusal(
            format!("--fresh {}", duration_text(fresh)),
            format!("{} or more", duration_text(WINDOW_FRESH)),
            "follow the log (`cdc`), or let the target be older",
        ));
    }
    let Some(by) = by.filter(|_| no.is_empty()) else {
        return refused(Way::Incremental, no);
    };
    let is_history_cut = case.is_large() && case.found.sight == Sight::Seen && !by.nullable;
    let way = match is_history_cut {
        true => Way::BackfillIncremental,
        false => Way::Incremental,
    };
    Judged::Fits(Box::new(Fit {
        is_made_for_it: !case.is_small() && !may_hold_null(by) && by.indexed,
        ranked: followed(case, way, by),
    }))
}

fn followed(case: &Case<'_>, way: Way, by: &PositionColumn) -> Ranked {
    let runs = case.runs_a_day(WINDOWS_A_DAY);
    let slots = match way == Way::BackfillIncremental {
        true => case.wishes.slots,
        false => 1,
    };
    let mut cost = case.cost(slots);
    cost.queries_a_day = runs;
    cost.bytes_a_day = case.changed_bytes_a_day();
    if !by.indexed {
        let scans = case.found.bytes.saturating_mul(runs);
        cost.bytes_a_day = cost.bytes_a_day.saturating_add(scans);
    }
    let (mut assurance, mut cautions) = (Assurance::NoLoss, Vec::new());
    let mut weaken = |to: Assurance, why: String| {
        assurance = assurance.max(to);
        cautions.push(why);
    };
    for doubt in &by.doubts {
        weaken(Assurance::BestEffort, doubt.clone());
    }
    if !case.moves(by.moved_by) {
        let why = format!(
            "{}, and no trigger of the database moves it on when a row is updated",
            told(by)
        );
        weaken(Assurance::BestEffort, why);
    }
    let deletes = case.deletes();
    if deletes.is_some() || case.found.changes.is_none() {
        let how_many = deletes.unwrap_or_else(|| "nobody counts them".to_owned());
        weaken(
            Assurance::Bounded,
            format!("deletes are invisible ({how_many})"),
        );
    }
    if may_hold_null(by) {
        let why = format!(
            "rows without {} are loaded again by each run: nothing says when they change",
            by.name
        );
        weaken(Assurance::Bounded, why);
    }
    let is_zoned = matches!(by.kind, CursorKind::Civil | CursorKind::Date);
    if is_zoned && case.found.sight == Sight::Seen {
        let why = format!(
            "{} has no zone: `tz` has to name the clock that stamps it",
            by.name
        );
        weaken(Assurance::Bounded, why);
    }
    if !by.indexed {
        cautions.push(format!(
            "no index leads with {}, so each run is a scan of the table",
            by.name
        ));
    }
    let mut because = Vec::new();
    if by.indexed {
        because.push(format!("index on {}", by.name));
    }
    because.push(
        match case.found.sight {
            Sight::OneWriter => "one writes at a time",
            Sight::Seen | Sight::Hidden { .. } | Sight::Standby => "open transactions are seen",
        }
        .to_owned(),
    );
    Ranked {
        cadence: case.cadence("every 5m"),
        brings: brings(assurance, "what was written; deletes are invisible").to_owned(),
        because,
        cautions,
        ..case.ranked(way, assurance, cost)
    }
}

const fn brings(assurance: Assurance, less: &'static str) -> &'static str {
    match assurance {
        Assurance::NoLoss => "no loss, reads what has changed only",
        Assurance::Bounded => less,
        Assurance::BestEffort => "what was stamped; not loss-free",
    }
}

/// Every change, from the log.
pub(super) fn cdc(case: &Case<'_>) -> Judged {
    let way = match case.is_large() {
        true => Way::BackfillCdc,
        false => Way::Cdc,
    };
    let mut no = goes_on(case, "the log");
    if case.found.target.as_ref().map(|to| to.engine) == Some(Engine::Sqlite) {
        no.push(refusal(
            "the target is a SQLite file",
            "a target that applies a log: PostgreSQL",
            "load what has changed by a time column, or all of it",
        ));
    }
    let log = match &case.found.log {
        LogAccess::NoLog => {
            no.push(refusal(
                "a SQLite file keeps no log of changes that others could read",
                "a server whose log can be read",
                "load what has changed by a time column, or all of it",
            ));
            None
        }
        LogAccess::Server(log) => {
            no.extend(unreadable(log));
            no.extend(unidentified(case, log));
            no.extend(too_short(case, log));
            Some(log)
        }
    };
    let Some(log) = log.filter(|_| no.is_empty()) else {
        return refused(way, no);
    };
    let mut cost = case.cost(case.wishes.slots);
    let read = log.bytes_per_second.unwrap_or(0);
    cost.bytes_a_day = case
        .changed_bytes_a_day()
        .saturating_add(read.saturating_mul(DAY_SECONDS));
    cost.log = Some(match log.kept_bytes {
        Some(kept) => format!(
            "the server keeps it until it is read, {} at most",
            bytes(kept)
        ),
        None => "the server keeps it until it is read, without a limit".to_owned(),
    });
    let mut cautions = Vec::new();
    if log.kept_bytes.is_none() {
        cautions.push(
            "a slot that nobody reads fills the server's disk: `max_slot_wal_keep_size` has no \
             limit"
                .to_owned(),
        );
    }
    let deletes = case.deletes().map(|seen| format!(" ({seen})"));
    let ranked = Ranked {
        cadence: "real time".to_owned(),
        brings: format!("no loss, sees deletes{}", deletes.unwrap_or_default()),
        because: vec![
            format!("wal_level {}", log.wal_level),
            format!("{} slots free", log.slots_free),
        ],
        cautions,
        ..case.ranked(way, Assurance::NoLoss, cost)
    };
    Judged::Fits(Box::new(Fit {
        ranked,
        is_made_for_it: !case.is_small(),
    }))
}

/// Why the log cannot be read at all.
fn unreadable(log: &ServerLog) -> Vec<Refusal> {
    let mut no = Vec::new();
    let role = &log.role;
    if log.is_standby {
        no.push(refusal(
            "the server is a standby",
            "the log of a primary",
            "name the primary in the connection",
        ));
    }
    if log.wal_level != "logical" {
        no.push(refusal(
            format!("wal_level {}", log.wal_level),
            "wal_level logical",
            "`alter system set wal_level = logical`, and restart the server",
        ));
    }
    if log.slots_free == 0 {
        no.push(refusal(
            format!("all {} replication slots are taken", log.slots),
            "1 free slot",
            "raise `max_replication_slots`, or drop a slot that nobody reads",
        ));
    }
    if !log.may_replicate {
        no.push(refusal(
            format!("the role {role} may not read the log"),
            "the right to replicate",
            format!("`alter role {role} replication`"),
        ));
    }
    if !log.may_publish {
        no.push(refusal(
            format!("the role {role} may not publish the table"),
            "its owner, with the right to create in the database",
            format!("let the owner make the publication, or grant its role to {role}"),
        ));
    }
    no
}

/// Why the log does not tell which row was meant.
fn unidentified(case: &Case<'_>, log: &ServerLog) -> Vec<Refusal> {
    let mut no = unkeyed(case);
    if !log.is_ordinary {
        no.push(refusal(
            "it is no ordinary table",
            "a table that has rows of its own in the log",
            "follow the tables that it is made of",
        ));
    }
    let table = &case.found.table;
    if log.identity == ReplicaIdentity::Nothing {
        no.push(refusal(
            "the log does not say which row was updated or deleted: no replica identity",
            "replica identity by key, index or full",
            format!(
                "`alter table {table} replica identity full`, or `default` where it has a primary key"
            ),
        ));
    }
    no
}

/// Why the log would be gone before the copy is done.
fn too_short(case: &Case<'_>, log: &ServerLog) -> Option<Refusal> {
    let (kept, rate) = (log.kept_bytes?, log.bytes_per_second?);
    let copy = case.seconds(case.wishes.slots);
    let lasts = kept.checked_div(rate.max(1)).unwrap_or(0);
    if lasts >= copy.saturating_mul(2) {
        return None;
    }
    Some(refusal(
        format!(
            "{} of log are kept, which last {}",
            bytes(kept),
            duration(Duration::from_secs(lasts))
        ),
        format!(
            "twice the {} that the copy takes",
            duration(Duration::from_secs(copy))
        ),
        "raise `max_slot_wal_keep_size`, or copy with more slots",
    ))
}

/// Why nothing says which row is meant.
fn unkeyed(case: &Case<'_>) -> Vec<Refusal> {
    if !case.found.key.is_empty() {
        return Vec::new();
    }
    vec![refusal(
        "the table has no key",
        "a primary key, or a unique key of columns that are NOT NULL",
        "give it one, or load it whole",
    )]
}

/// Why nobody knows what is still to be committed.
fn unseen(sight: &Sight) -> Option<Refusal> {
    let (fact, remedy) = match sight {
        Sight::OneWriter | Sight::Seen => return None,
        Sight::Hidden { role } => (
            format!("the role {role} does not see the transactions of others"),
            format!("`grant pg_read_all_stats to {role}`"),
        ),
        Sight::Standby => (
            "the server is a standby, and the open transactions are its primary's".to_owned(),
            "name the primary in the connection".to_owned(),
        ),
    };
    Some(refusal(
        fact,
        "sight of every transaction that may still commit",
        format!(
            "{remedy}, or let `strategy.horizon` say how late a row may be committed, such as \
             {{lag: 10m}}"
        ),
    ))
}

/// Why something that never ends is not what was wished.
fn goes_on(case: &Case<'_>, what: &str) -> Vec<Refusal> {
    if !case.wishes.once {
        return Vec::new();
    }
    vec![refusal(
        format!("{what} is followed from run to run"),
        "a single load, because --once",
        "leave --once out",
    )]
}
