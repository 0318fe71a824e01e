//! What operators did: a row for each action, newest first.

use highwater_common::document::{ActionDocument, AuditDocument};

use super::borderless;
use super::look::{Look, tame};

/// Digits of a run's id that are shown.
const RUN_DIGITS: usize = 8;

/// A row for each action.
#[must_use]
pub(crate) fn audit(document: &AuditDocument, look: &Look) -> String {
    if document.actions.is_empty() {
        return "nobody did anything\n".to_owned();
    }
    let rows = document.actions.iter().map(row).collect();
    let head = ["when", "who", "verb", "pipeline", "run", "what", "why"];
    borderless(look, &head, &[], rows)
}

fn row(action: &ActionDocument) -> Vec<String> {
    let run = action.run.map(|run| run.short(RUN_DIGITS));
    vec![
        tame(&action.at),
        tame(&action.by),
        tame(&action.verb),
        tame(&action.pipeline),
        run.unwrap_or_default(),
        tame(&action.about),
        tame(&action.reason),
    ]
}
