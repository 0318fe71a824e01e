//! The pipelines that a cluster runs by itself: a row for each, or all that there is to say of one.

use highwater_common::document::{SaidDocument, ScheduleDocument, SchedulesDocument};
use highwater_common::schedule::{CatchUp, Overlap};

use super::borderless;
use super::look::{Look, tame};

/// A row for each.
#[must_use]
pub(crate) fn schedules(document: &SchedulesDocument, look: &Look) -> String {
    if document.schedules.is_empty() {
        return "no pipeline runs by itself\n".to_owned();
    }
    let rows = document.schedules.iter().map(row).collect();
    let head = [
        "pipeline", "cron", "tz", "state", "next", "last run", "status",
    ];
    borderless(look, &head, &[], rows)
}

fn row(schedule: &ScheduleDocument) -> Vec<String> {
    let last = schedule.last_run.as_ref();
    let status = last.and_then(|last| last.status);
    vec![
        schedule.pipeline.to_string(),
        tame(&schedule.cron),
        tame(&schedule.tz),
        state(schedule).to_owned(),
        tame(schedule.next.as_deref().unwrap_or_default()),
        last.map(|last| tame(&last.short)).unwrap_or_default(),
        status.map(|status| status.to_string()).unwrap_or_default(),
    ]
}

fn state(schedule: &ScheduleDocument) -> &'static str {
    match (&schedule.paused, schedule.trouble.is_empty()) {
        (Some(_), _) => "paused",
        (None, false) => "stuck",
        (None, true) if !schedule.waiting.is_empty() => "waiting",
        (None, true) => "active",
    }
}

/// All that there is to say of each.
#[must_use]
pub(crate) fn schedule(document: &SchedulesDocument, look: &Look) -> String {
    if document.schedules.is_empty() {
        return "the cluster no longer runs it by itself\n".to_owned();
    }
    document
        .schedules
        .iter()
        .map(|schedule| one(schedule, look))
        .collect()
}

fn one(schedule: &ScheduleDocument, look: &Look) -> String {
    let mut lines = vec![
        (
            "schedule",
            format!("{} {}", schedule.pipeline, state(schedule)),
        ),
        (
            "when",
            format!("{} ({})", tame(&schedule.cron), tame(&schedule.tz)),
        ),
    ];
    lines.extend(rules(schedule).map(|rules| ("rules", rules)));
    lines.extend(schedule.next.iter().map(|next| ("next", tame(next))));
    if !schedule.waiting.is_empty() {
        lines.push(("waiting", tame(&schedule.waiting.join(", "))));
    }
    lines.extend(schedule.last_run.iter().map(|last| {
        let status = last.status.map(|status| format!(" {status}"));
        let status = status.unwrap_or_else(|| " (forgotten)".to_owned());
        let short = tame(&last.short);
        (
            "last run",
            format!("{short}{status}, for {}", tame(&last.instant)),
        )
    }));
    lines.extend(schedule.left_out.iter().map(|left_out| {
        let why = why(&left_out.why);
        ("left out", format!("{}: {why}", tame(&left_out.instant)))
    }));
    lines.extend(
        schedule
            .paused
            .iter()
            .map(|paused| ("paused", said(paused))),
    );
    if !schedule.trouble.is_empty() {
        lines.push(("trouble", tame(&schedule.trouble)));
    }
    lines.push(("set", said(&schedule.set)));
    lines.push(("spec", schedule.spec_digest.short()));
    lines
        .iter()
        .map(|(name, text)| format!("{} {text}\n", look.dim(&format!("{name:9}"))))
        .collect()
}

fn rules(schedule: &ScheduleDocument) -> Option<String> {
    let missed = match schedule.catch_up? {
        CatchUp::Latest => "of missed times the latest runs",
        CatchUp::None => "missed times do not run",
        CatchUp::All => "missed times run one after the other",
    };
    let busy = match schedule.overlap? {
        Overlap::Skip => "one that comes while a run is under way is skipped",
        Overlap::Queue => "one that comes while a run is under way waits",
    };
    Some(format!("{missed}; {busy}"))
}

/// A reason in a sentence; one that this version does not know as it is.
fn why(word: &str) -> String {
    let text = match word {
        "missed" => "no coordinator led at its time",
        "overlapped" => "a run of the pipeline was under way, or waited for a person",
        "overtaken" => "a run began after it",
        "paused" => "the schedule was paused",
        "already_ran" => "it has run before",
        other => return tame(other),
    };
    text.to_owned()
}

fn said(said: &SaidDocument) -> String {
    let (at, by) = (tame(&said.at), tame(&said.by));
    match said.reason.is_empty() {
        true => format!("{at} by {by}"),
        false => format!("{at} by {by}: {}", tame(&said.reason)),
    }
}

#[cfg(test)]
mod tests {
    use highwater_common::document::{LeftOutDocument, ScheduledRunDocument};
    use highwater_common::id::{DocumentDigest, RunId};
    use highwater_common::status::RunStatus;

    use super::*;

    fn said_by(by: &str, reason: &str) -> SaidDocument {
        SaidDocument {
            by: by.to_owned(),
            reason: reason.to_owned(),
            at: "2026-03-01T09:00:00Z".to_owned(),
        }
    }

    fn shop() -> ScheduleDocument {
        ScheduleDocument {
            pipeline: "shop".parse().expect("a name"),
            cron: "15 * * * *".to_owned(),
            tz: "Europe/Berlin".to_owned(),
            catch_up: Some(CatchUp::Latest),
            overlap: Some(Overlap::Queue),
            spec_digest: DocumentDigest::from_bytes([0x9f; 32]),
            set: said_by("ann", ""),
            paused: None,
            next: Some("2026-03-01T11:15:00Z".to_owned()),
            waiting: vec!["2026-03-01T10:15:00Z".to_owned()],
            last_run: Some(ScheduledRunDocument {
                run: RunId::from_bytes([0x71; 16]),
                short: "r-717".to_owned(),
                instant: "2026-03-01T09:15:00Z".to_owned(),
                status: Some(RunStatus::Running),
            }),
            left_out: Some(LeftOutDocument {
                instant: "2026-03-01T08:15:00Z".to_owned(),
                why: "overlapped".to_owned(),
            }),
            trouble: String::new(),
        }
    }

    fn document(schedules: Vec<ScheduleDocument>) -> SchedulesDocument {
        SchedulesDocument {
            schema: "schedules/v1".to_owned(),
            schedules,
        }
    }

    #[test]
    fn schedules_say_when_they_run_next_and_why_they_do_not() {
        let paused = ScheduleDocument {
            pipeline: "stock".parse().expect("a name"),
            paused: Some(said_by("bob", "the\u{1b}[31m audit")),
            next: None,
            waiting: Vec::new(),
            last_run: None,
            left_out: None,
            ..shop()
        };
        let stuck = ScheduleDocument {
            trouble: "the stored spec is missing".to_owned(),
            catch_up: None,
            ..paused.clone()
        };
        let stuck = ScheduleDocument {
            paused: None,
            ..stuck
        };
        let look = Look::plain();
        insta::assert_snapshot!(schedules(
            &document(vec![shop(), paused.clone(), stuck.clone()]),
            &look
        ));
        insta::assert_snapshot!(schedule(&document(vec![shop()]), &look));
        insta::assert_snapshot!(schedule(&document(vec![paused]), &look));
        insta::assert_snapshot!(schedule(&document(vec![stuck]), &look));
    }
}
