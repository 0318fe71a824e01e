//! What a run would do.

use highwater_common::document::{PlanDocument, PlannedStepDocument};
use highwater_common::number::{about, count, to_f64};

use super::borderless;
use super::look::{Look, tame};

/// The plan: a row for each step, what should be known about it, and what a commit is.
#[must_use]
pub(crate) fn plan(plan: &PlanDocument, look: &Look) -> String {
    let mut text = format!(
        "{} {} · spec {} · reference time {}\n",
        plan.short,
        plan.pipeline,
        plan.spec.short(),
        tame(&plan.reference_time)
    );
    let rows = plan.steps.iter().map(row).collect();
    text.push_str(&borderless(
        look,
        &["step", "strategy", "tasks", "rows", "what"],
        &[2, 3],
        rows,
    ));
    for step in &plan.steps {
        text.push_str(&remarks(step, look));
    }
    text.push_str(&format!("{}  {}\n", look.bold("Commit"), commit(plan)));
    let covered: u64 = plan.steps.iter().map(|step| step.covered).sum();
    let covered = if covered == 0 {
        String::new()
    } else {
        format!(", {} covered by earlier runs", count(covered))
    };
    let work = match plan.tasks {
        0 => "nothing to do".to_owned(),
        1 => "1 task".to_owned(),
        tasks => format!("{} tasks", count(tasks)),
    };
    text.push_str(&format!(
        "{}    {work}{covered} · digest {}\n",
        look.bold("Plan"),
        plan.plan.short()
    ));
    text
}

fn row(step: &PlannedStepDocument) -> Vec<String> {
    let rows = match (step.rows_exact, step.rows) {
        (_, 0) if !moves_rows(step) => "–".to_owned(),
        (true, rows) => count(rows),
        (false, rows) => format!("~{}", about(to_f64(rows))),
    };
    vec![
        step.step.to_string(),
        step.strategy.clone(),
        count(step.tasks),
        rows,
        tame(&step.summary),
    ]
}

fn remarks(step: &PlannedStepDocument, look: &Look) -> String {
    let mut lines = Vec::new();
    if step.covered > 0 {
        lines.push(format!(
            "{} of its tasks are covered by earlier runs, not planned",
            count(step.covered)
        ));
    }
    if let [first, rest @ ..] = step.first.as_slice() {
        let others: String = rest
            .iter()
            .map(|range| format!(", {}", tame(range)))
            .collect();
        let shown = u64::try_from(step.first.len()).unwrap_or(u64::MAX);
        let more = if step.tasks > shown { ", …" } else { "" };
        lines.push(format!("first {}{others}{more}", tame(first)));
    }
    lines.extend(step.columns.iter().map(|column| tame(column)));
    lines.extend(
        step.warnings
            .iter()
            .map(|warning| format!("{} {}", look.warn("warning:"), tame(warning))),
    );
    lines.extend(
        step.notes
            .iter()
            .map(|note| format!("note: {}", tame(note))),
    );
    lines
        .into_iter()
        .map(|line| format!("  {}: {line}\n", step.step))
        .collect()
}

fn commit(plan: &PlanDocument) -> String {
    let excepted: Vec<&str> = plan
        .steps
        .iter()
        .filter(|step| !moves_rows(step))
        .map(|step| step.step.as_str())
        .collect();
    if excepted.len() == plan.steps.len() {
        return "none: control path only".to_owned();
    }
    let excepted = match excepted.as_slice() {
        [] => String::new(),
        names => format!(" ({} excepted: control path only)", names.join(", ")),
    };
    format!("data + ledger row in one target transaction: exactly-once effect{excepted}")
}

/// A no-op holds slots and moves nothing.
fn moves_rows(step: &PlannedStepDocument) -> bool {
    step.strategy != "noop"
}
