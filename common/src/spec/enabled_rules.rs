//! Rules of steps that are not enabled: whoever needs one cannot run either, and says so, rather
//! than be left out without a word.

use std::collections::BTreeMap;

use super::draft::{Draft, DraftStep, Located};
use super::model::{Dependency, When};
use super::problem::Problems;
use crate::error_code::ErrorCode;

/// Reports the steps that need one that is not enabled, and a file that has no other.
pub(super) fn check_enabled(draft: &Draft, problems: &mut Problems) {
    // A step that does not run, and the one that is not enabled and keeps it from it.
    let mut idle: BTreeMap<&str, &str> = BTreeMap::new();
    for step in draft.steps.iter().filter(|step| !step.is_enabled) {
        idle.insert(step.name.value.as_str(), step.name.value.as_str());
    }
    if let Some(first) = draft.steps.first()
        && draft.steps.iter().all(|step| !step.is_enabled)
    {
        let (code, place) = (ErrorCode::SpecWrongCount, first.name.location);
        problems.add(code, "steps", place, "no step is enabled");
        return;
    }
    let needed = |step: &DraftStep, idle: &BTreeMap<&str, &'_ str>| {
        let mut edges = step.depends_on.iter();
        edges
            .find(|edge| needs(step, edge) && idle.contains_key(edge.value.step.as_str()))
            .map(|edge| edge.value.step.to_string())
    };
    loop {
        let mut found = Vec::new();
        for step in draft.steps.iter().filter(|step| step.is_enabled) {
            let name = step.name.value.as_str();
            if !idle.contains_key(name)
                && let Some(on) = needed(step, &idle)
                && let Some(cause) = idle.get(on.as_str())
            {
                found.push((name, *cause));
            }
        }
        if found.is_empty() {
            break;
        }
        idle.extend(found);
    }
    for step in draft.steps.iter().filter(|step| step.is_enabled) {
        for edge in &step.depends_on {
            let on = edge.value.step.as_str();
            let Some(cause) = idle.get(on).filter(|_| needs(step, edge)) else {
                continue;
            };
            let message = match *cause == on {
                true => format!("`{on}` is not enabled, and this step needs its success"),
                false => format!("`{on}` needs `{cause}`, which is not enabled"),
            };
            let continued = step.continues.as_ref();
            let goes_on = continued.is_some_and(|continued| continued.value.as_str() == on);
            problems
                .add(ErrorCode::SpecConflict, &edge.path, edge.location, message)
                .hint(match goes_on {
                    true => "say `enabled: false` here too",
                    false => "say `enabled: false` here too, or wait with `when: done`",
                });
        }
    }
}

/// Whether a step cannot do without another one's success: what it continues it needs, however it
/// waits.
fn needs(step: &DraftStep, edge: &Located<Dependency>) -> bool {
    let continued = step.continues.as_ref();
    edge.value.when == When::Success
        || continued.is_some_and(|continued| continued.value == edge.value.step)
}
