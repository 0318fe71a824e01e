//! What must hold of statements that follow another step.

use super::draft::{Draft, Located};
use super::model::{Script, Spec, Strategy};
use super::node::{Node, join};
use super::partition::PartitionBy;
use super::problem::Problems;
use super::script::{Parameter, statements};
use crate::error_code::ErrorCode;
use crate::id::StepName;

/// Only statements follow another step.
pub(super) fn check_cut(step: &Node, path: &str, problems: &mut Problems) {
    if let Some(by) = rule(step).filter(|by| by.as_text() == Some("follow")) {
        problems
            .add(
                ErrorCode::SpecConflict,
                &join(path, "partition.follow"),
                by.location,
                "only a step of `strategy: sql` follows another one",
            )
            .hint(
                "cut the table by a column of its own: partition: {by: calendar, column: at, grain: day}",
            );
    }
}

/// And they are cut by nothing else.
pub(super) fn check_followed(step: &Node, path: &str, problems: &mut Problems) {
    if let Some(by) = rule(step).filter(|by| by.as_text() != Some("follow")) {
        problems
            .add(
                ErrorCode::SpecConflict,
                &join(path, "partition.by"),
                by.location,
                "statements read no table that could be cut",
            )
            .hint(
                "name the step whose periods they run for: partition: {follow: orders, grain: month}",
            );
    }
}

fn rule(step: &Node) -> Option<&Node> {
    step.get("partition")?.get("by")
}

/// Reports what contradicts itself between a step that follows and the one that it follows.
pub(super) fn check_following(draft: &Draft, problems: &mut Problems) {
    let Some(spec) = &draft.spec else {
        return;
    };
    for step in &draft.steps {
        let Ok(name) = step.name.value.parse() else {
            continue;
        };
        let Some(Strategy::Sql(script)) = spec.steps.get(&name).map(|step| &step.strategy) else {
            continue;
        };
        let mut edges = step.depends_on.iter();
        let edge = script.follow.as_ref();
        let edge = edge.and_then(|follow| edges.find(|edge| edge.value.step == follow.step));
        match (&script.follow, edge) {
            (Some(follow), Some(edge)) => {
                if let Some((message, hint)) = misfit(spec, script, &follow.step) {
                    problems
                        .add(
                            ErrorCode::SpecConflict,
                            &join(&step.name.path, "partition.follow"),
                            edge.location,
                            message,
                        )
                        .hint(hint);
                }
            }
            (Some(_), None) => {} // the step that is followed is none, and that was told
            (None, _) => {
                let script = step.script.as_ref().map(|script| &script.text);
                if let Some(script) = script.filter(|at| asks_for_a_period(spec, at)) {
                    problems
                        .add(
                            ErrorCode::SpecBadScript,
                            &script.path,
                            script.location,
                            "`{partition.start}` and `{partition.end}` are those of a period, and the \
                             statements run once for all",
                        )
                        .hint("say which: partition: {follow: orders, grain: month}");
                }
            }
        }
    }
}

/// Why a step cannot be followed, and what to do.
fn misfit(spec: &Spec, script: &Script, followed: &StepName) -> Option<(String, &'static str)> {
    let step = spec.steps.get(followed)?;
    let Strategy::Backfill(backfill) = &step.strategy else {
        return Some((
            format!(
                "`{followed}` is of `strategy: {}`, and only a `backfill` by civil periods is followed",
                step.strategy.load().name()
            ),
            "leave `partition` out and wait for the whole step: depends_on: [STEP]",
        ));
    };
    if backfill.to.connection != script.to.connection {
        return Some((
            format!(
                "`{followed}` writes to `{}`, and the statements run in `{}`",
                backfill.to.connection, script.to.connection
            ),
            "run them where the rows are: the same `to.connection`",
        ));
    }
    match (&backfill.partition.by, &backfill.start, &backfill.end) {
        (
            PartitionBy::Integer { .. }
            | PartitionBy::Hash { .. }
            | PartitionBy::Keyset { .. }
            | PartitionBy::Auto { .. },
            _,
            _,
        ) => Some((
            format!("`{followed}` is not cut by civil periods"),
            "leave `partition` out and wait for the whole step: depends_on: [STEP]",
        )),
        (PartitionBy::Calendar { .. }, None, _) | (PartitionBy::Calendar { .. }, _, None) => {
            Some((
                format!("`{followed}` does not say where it begins and ends"),
                "give it `start` and `end`, so that a period is known to be whole",
            ))
        }
        (PartitionBy::Calendar { .. }, Some(_), Some(_)) => None,
    }
}

fn asks_for_a_period(spec: &Spec, script: &Located<String>) -> bool {
    let engines = spec
        .connections
        .values()
        .map(|connection| connection.engine());
    let read = engines.filter_map(|engine| statements(&script.value, engine).ok());
    let mut parameters = read.flatten().flat_map(|statement| statement.parameters);
    parameters.any(|parameter| {
        matches!(
            parameter,
            Parameter::PartitionStart | Parameter::PartitionEnd
        )
    })
}
