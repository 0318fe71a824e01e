//! Pipelines that run by themselves: which of them has something to do, and how they stand.

use highwater_common::document::{LeftOutDocument, ScheduleDocument, ScheduledRunDocument};
use highwater_common::id::PipelineName;
use highwater_common::schedule::{Due, PipelineState, due};

use super::document::rfc3339;
use super::doubts::in_doubt;
use super::scheduled::Scheduled;
use super::view::{Cluster, Run};

/// The next schedule that has something to decide at `now`, in microseconds since 1970, and what is
/// to be done.
#[must_use]
pub(crate) fn next_due(cluster: &Cluster, now: i64) -> Option<(PipelineName, Due)> {
    let looked_at = cluster.schedules.iter();
    let mut looked_at = looked_at.filter(|(_, scheduled)| scheduled.wants_a_look(now));
    looked_at.find_map(|(name, scheduled)| {
        let (timetable, rules) = (scheduled.timetable()?, scheduled.schedule()?.rules());
        let (standing, state) = (&scheduled.record.standing, state(cluster, name, scheduled));
        let found = due(timetable, rules, standing, now, state);
        found.map(|due| (name.clone(), due))
    })
}

/// What the runs of a pipeline say of another one.
fn state(cluster: &Cluster, pipeline: &PipelineName, scheduled: &Scheduled) -> PipelineState {
    let runs = || {
        let runs = cluster.runs.values();
        runs.filter(|run| run.record.pipeline == *pipeline)
    };
    let is_under_way = runs().any(|run| run.holds_back() || run.takes_back());
    let latest = |is_meant: fn(&Run) -> bool| {
        let began = runs().filter(|run| run.may_have_begun() && is_meant(run));
        began.map(|run| run.record.reference_time_micros).max()
    };
    let steps = scheduled
        .spec()
        .map(|spec| spec.steps.keys().cloned().collect());
    let is_doubted = in_doubt(cluster, pipeline, steps.unwrap_or_default(), true).is_some();
    PipelineState {
        is_busy: is_under_way || is_doubted,
        latest_micros: latest(|_| true),
        latest_whole_micros: latest(|run| run.record.controls.selected.is_empty()),
    }
}

/// How a schedule stands at `now`, for people and programs. `short` shortens a run's id.
#[must_use]
pub(crate) fn schedule_document(
    cluster: &Cluster,
    name: &PipelineName,
    scheduled: &Scheduled,
    now: i64,
    short: impl Fn(&highwater_common::id::RunId) -> String,
) -> ScheduleDocument {
    let record = &scheduled.record;
    let schedule = scheduled.schedule();
    let standing = &record.standing;
    let last_run = record.last_run.map(|begun| ScheduledRunDocument {
        run: begun.run,
        short: short(&begun.run),
        instant: rfc3339(begun.instant_micros),
        status: cluster.runs.get(&begun.run).map(|run| run.record.status),
    });
    let behind = standing.decided_micros.saturating_sub(now);
    // As long as clocks may differ that are kept together.
    let trouble = match scheduled.spec() {
        Err(why) => why.to_owned(),
        Ok(_) if behind > CLOCKS_DIFFER_MICROS_MAX => format!(
            "the leader's clock stands before {}, up to where everything is decided: nothing begins \
             until then (the clock was put back; `schedules rm` and `set` begin anew)",
            rfc3339(standing.decided_micros)
        ),
        Ok(_) => String::new(),
    };
    ScheduleDocument {
        pipeline: name.clone(),
        cron: schedule.map(|of| of.cron.to_string()).unwrap_or_default(),
        tz: schedule.map(|of| of.tz.clone()).unwrap_or_default(),
        catch_up: schedule.map(|of| of.catch_up),
        overlap: schedule.map(|of| of.overlap),
        spec_digest: record.spec_digest,
        set: record.set.clone().into(),
        paused: record.paused.clone().map(Into::into),
        next: scheduled.next_moment().map(rfc3339),
        waiting: standing.waiting.iter().copied().map(rfc3339).collect(),
        last_run,
        left_out: standing.last_left_out.map(|of| LeftOutDocument {
            instant: rfc3339(of.instant_micros),
            why: of.why.as_str().to_owned(),
        }),
        trouble,
    }
}

/// How far the clocks of coordinators may be apart before it is told.
const CLOCKS_DIFFER_MICROS_MAX: i64 = 60_000_000;
