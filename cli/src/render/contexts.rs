//! Clusters by name.

use super::borderless;
use super::look::{Look, tame};

/// A row for each context, with its coordinators; a star stands before the current one.
#[must_use]
pub(crate) fn contexts(rows: &[(&str, String)], current: &str, look: &Look) -> String {
    let row = |(name, urls): &(&str, String)| {
        let mark = if *name == current { "*" } else { "" };
        let place = if urls.is_empty() {
            "this process".to_owned()
        } else {
            tame(urls)
        };
        vec![mark.to_owned(), tame(name), place]
    };
    borderless(
        look,
        &["", "context", "coordinator"],
        &[],
        rows.iter().map(row).collect(),
    )
}
