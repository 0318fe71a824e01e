//! Which steps of a long run share a line: forty tables that are done, or whose turn has not come,
//! are one thing to know.

use std::collections::BTreeMap;

use highwater_common::document::{StepDocument, TaskCounts};
use highwater_common::status::StepStatus;

/// So many steps are shown one by one.
const STEPS_MAX: usize = 20;
/// So many steps whose names begin with the same word are a group.
const GROUP_MIN: usize = 3;

/// How the steps of a run are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Those of which there is nothing to say share a line where there are many.
    Folded,
    /// Each by itself.
    Each,
}

/// A line, and the steps that it is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Step(&'a StepDocument),
    Fold(Fold),
}

/// Steps that share a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fold {
    /// What their names have in common, or the first and the last of them.
    pub(super) label: String,
    pub(super) status: StepStatus,
    pub(super) steps: usize,
    pub(super) tasks: TaskCounts,
    pub(super) rows: u64,
}

/// The lines for these steps, each where the first of its steps stands.
pub(super) fn lines(steps: &[StepDocument], how: Steps) -> Vec<Line<'_>> {
    if how == Steps::Each || steps.len() <= STEPS_MAX {
        return steps.iter().map(Line::Step).collect();
    }
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    for word in steps.iter().filter_map(first_word) {
        *words.entry(word).or_default() += 1;
    }
    let group_of = |step| first_word(step).filter(|word| words.get(word) >= Some(&GROUP_MIN));
    let mut lines: Vec<Vec<&StepDocument>> = Vec::new();
    // Where the steps of the group before, by status, are.
    let (mut group, mut open) = (None, Vec::new());
    for step in steps {
        let own = Some(group_of(step));
        if group != own {
            (group, open) = (own, Vec::new());
        }
        let is_open = |(status, _): &&(StepStatus, usize)| *status == step.status;
        match open.iter().find(is_open).filter(|_| is_quiet(step)) {
            Some((_, at)) => lines.get_mut(*at).into_iter().for_each(|of| of.push(step)),
            None => {
                if is_quiet(step) {
                    open.push((step.status, lines.len()));
                }
                lines.push(vec![step]);
            }
        }
    }
    lines.into_iter().filter_map(|of| line(&of)).collect()
}

fn line<'a>(of: &[&'a StepDocument]) -> Option<Line<'a>> {
    let (first, last) = (of.first()?, of.last()?);
    if of.len() == 1 {
        return Some(Line::Step(first));
    }
    let mut fold = Fold {
        label: label(of, first, last),
        status: first.status,
        steps: of.len(),
        tasks: TaskCounts::default(),
        rows: 0,
    };
    for step in of {
        fold.tasks.add_all(&step.tasks);
        fold.rows = fold.rows.saturating_add(step.rows);
    }
    Some(Line::Fold(fold))
}

/// `shop_*` for steps whose names begin so.
fn label(of: &[&StepDocument], first: &StepDocument, last: &StepDocument) -> String {
    let name = first.step.as_str();
    let ends = name.match_indices('_').map(|(at, _)| at).rev();
    let starts = ends.filter_map(|at| name.get(..=at));
    let is_shared = |start: &&str| of.iter().all(|step| step.step.as_str().starts_with(*start));
    match starts.into_iter().find(is_shared) {
        Some(start) => format!("{start}*"),
        None => format!("{name} .. {}", last.step),
    }
}

fn first_word(step: &StepDocument) -> Option<&str> {
    step.step.as_str().split_once('_').map(|(word, _)| word)
}

/// Whether nothing is to be said of a step but how far it is.
fn is_quiet(step: &StepDocument) -> bool {
    let StepDocument {
        step: _,
        strategy: _,
        depends_on: _,
        status,
        reason,
        tasks,
        rows: _,
        bytes: _,
        watermark: _,
        lag_seconds: _,
        waits,
        warnings,
        not_loaded,
        checks,
        dead,
        retrying,
    } = step;
    let moves = match status {
        StepStatus::Pending | StepStatus::Success => false,
        StepStatus::Running | StepStatus::Failed | StepStatus::Skipped | StepStatus::Cancelled => {
            true
        }
    };
    let is_told = !(reason.is_empty()
        && waits.is_empty()
        && warnings.is_empty()
        && not_loaded.is_empty()
        && dead.is_empty()
        && retrying.is_empty());
    let is_hurt = tasks.open > 0 || tasks.retry_wait > 0 || tasks.dead > 0 || tasks.in_doubt > 0;
    !moves && !is_told && !is_hurt && checks.iter().all(|check| check.passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// The lines, each as its label and how many steps it is for.
    fn told(steps: &[StepDocument]) -> Vec<(String, usize)> {
        let lines = lines(steps, Steps::Folded);
        let of = |line: Line<'_>| match line {
            Line::Step(step) => (step.step.to_string(), 1),
            Line::Fold(fold) => (fold.label, fold.steps),
        };
        lines.into_iter().map(of).collect()
    }

    fn tables(group: &str, numbers: std::ops::Range<u32>, status: StepStatus) -> Vec<StepDocument> {
        let name = |number| format!("{group}t{number}");
        numbers
            .map(|number| samples::step(&name(number), status))
            .collect()
    }

    #[test]
    fn twenty_steps_are_shown_one_by_one_and_more_are_folded() {
        let twenty = tables("all_", 0..20, StepStatus::Pending);
        assert_eq!(told(&twenty).len(), 20);
        let more = tables("all_", 0..21, StepStatus::Pending);
        assert_eq!(told(&more), [("all_*".to_owned(), 21)]);
        assert_eq!(lines(&more, Steps::Each).len(), 21);
    }

    #[test]
    fn steps_of_another_group_or_status_do_not_share_a_line() {
        let steps = [
            tables("crm_eu_", 0..8, StepStatus::Success),
            tables("crm_eu_", 8..9, StepStatus::Running),
            tables("crm_us_", 0..4, StepStatus::Success),
            tables("crm_us_", 4..6, StepStatus::Pending),
            tables("", 0..4, StepStatus::Pending),
            tables("two_", 0..2, StepStatus::Pending),
            tables("shop_", 0..3, StepStatus::Pending),
        ]
        .concat();
        let expected = [
            ("crm_*", 12),
            ("crm_eu_t8", 1),
            ("crm_us_*", 2),
            ("t0 .. two_t1", 6),
            ("shop_*", 3),
        ];
        assert_eq!(told(&steps), expected.map(|(of, n)| (of.to_owned(), n)));
    }

    #[test]
    fn a_step_of_which_there_is_something_to_say_has_its_own_line() {
        type Change = fn(&mut StepDocument);
        let changes: [Change; 14] = [
            |step| step.status = StepStatus::Running,
            |step| step.status = StepStatus::Failed,
            |step| step.status = StepStatus::Skipped,
            |step| step.status = StepStatus::Cancelled,
            |step| step.reason = "why".to_owned(),
            |step| step.waits = vec!["why".to_owned()],
            |step| step.warnings = vec!["why".to_owned()],
            |step| step.not_loaded = vec!["12 rows".to_owned()],
            |step| step.checks = samples::checks(),
            |step| step.tasks.open = 1,
            |step| step.tasks.retry_wait = 1,
            |step| step.tasks.dead = 1,
            |step| step.tasks.in_doubt = 1,
            |step| step.dead = samples::failed_run().steps[1].dead.clone(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut steps = tables("all_", 0..30, StepStatus::Success);
            change(&mut steps[7]);
            let expected = [("all_*".to_owned(), 29), ("all_t7".to_owned(), 1)];
            assert_eq!(told(&steps), expected, "change {at}");
        }
        let mut steps = tables("all_", 0..30, StepStatus::Success);
        steps[7].checks = samples::checks();
        steps[7].checks.retain(|check| check.passed);
        assert_eq!(told(&steps), [("all_*".to_owned(), 30)]);
    }

    #[test]
    fn no_step_is_lost_and_no_task_either() {
        let mut steps = [
            tables("all_", 0..30, StepStatus::Success),
            tables("", 0..9, StepStatus::Pending),
        ]
        .concat();
        for (rows, step) in (0..).zip(&mut steps) {
            (step.rows, step.tasks.done) = (rows, 2);
        }
        steps[3].status = StepStatus::Failed;
        let (mut number, mut rows, mut tasks) = (0, 0, TaskCounts::default());
        for line in lines(&steps, Steps::Folded) {
            match line {
                Line::Step(step) => {
                    (number, rows) = (number + 1, rows + step.rows);
                    tasks.add_all(&step.tasks);
                }
                Line::Fold(fold) => {
                    (number, rows) = (number + fold.steps, rows + fold.rows);
                    tasks.add_all(&fold.tasks);
                }
            }
        }
        assert_eq!((number, rows), (39, (0..39).sum()));
        assert_eq!((tasks.done, tasks.pending), (78, 39));
    }
}
