//! A pipeline of which only some steps are to run.

use std::collections::{BTreeMap, BTreeSet};

use super::{Selection, SelectionError};
use crate::dag::Dag;
use crate::id::StepName;
use crate::spec::{Dependency, Spec, When};

/// The longest selection of a run, all texts together, in bytes: it is kept with the run.
const BYTES_MAX: usize = 1024;

/// The pipeline with the steps alone that are meant; as it is where nothing is said.
///
/// A step does not wait for one that is not meant: it works on what earlier runs have left. But it
/// waits for whatever that one would have waited for, so that the order of the file stays.
///
/// # Errors
/// A selection means no step, or only some of one; or a step is meant that can only run beside
/// another one, which is not.
pub fn only(spec: &Spec, selections: &[Selection]) -> Result<Spec, SelectionError> {
    if selections.is_empty() {
        return Ok(spec.clone());
    }
    let bytes: usize = selections.iter().map(|one| one.text.len()).sum();
    if bytes > BYTES_MAX {
        return Err(SelectionError::TooLong { most: BYTES_MAX });
    }
    // What is read from a file is free of circles.
    let dag = Dag::of(spec).unwrap_or_default();
    let mut meant = BTreeSet::new();
    for selection in selections {
        if selection.is_of_partitions() {
            return Err(SelectionError::WholeSteps(selection.text.clone()));
        }
        meant.extend(selection.steps(&dag)?);
    }
    let mut only = spec.clone();
    only.steps.retain(|name, _| meant.contains(name));
    for (name, step) in &mut only.steps {
        if let Some(followed) = step.strategy.load().follows()
            && !meant.contains(followed)
        {
            return Err(SelectionError::Followed {
                step: name.clone(),
                followed: followed.clone(),
            });
        }
        step.depends_on = edges(&dag, name, &meant);
    }
    Ok(only)
}

/// What a step waits for among those that are meant, by name: a step that is left out hands on what
/// it waits for itself.
fn edges(dag: &Dag, name: &StepName, meant: &BTreeSet<StepName>) -> Vec<Dependency> {
    let mut found: BTreeMap<StepName, When> = BTreeMap::new();
    let mut seen: BTreeSet<(StepName, bool)> = BTreeSet::new();
    let mut ahead = vec![(name.clone(), true)];
    while let Some((at, needs_success)) = ahead.pop() {
        for edge in dag.dependencies(&at) {
            // Success is needed where every step on the way needs it.
            let needs_success = needs_success && edge.when == When::Success;
            if meant.contains(&edge.step) {
                let when = match needs_success {
                    true => When::Success,
                    false => When::Done,
                };
                let known = found.entry(edge.step.clone()).or_insert(when);
                if when == When::Success {
                    *known = when;
                }
            } else if seen.insert((edge.step.clone(), needs_success)) {
                ahead.push((edge.step.clone(), needs_success));
            }
        }
    }
    let found = found.into_iter();
    found
        .map(|(step, when)| Dependency { step, when })
        .collect()
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
