//! Tables beside the one that is read: what they are there for, and which of them a person may have
//! dropped.

use serde::{Deserialize, Serialize};

use crate::id::{PipelineName, RunId, StepName};

/// What a table beside the one that is read is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowKind {
    /// It is loaded, to take the place of the table that is read.
    Shadow,
    /// It has been read, until another one took its place.
    Kept,
    /// Rows wait in it, to be published in the table that is read.
    Stage,
}

/// A table beside the one that is read, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Its name.
    pub table: String,
    /// The table that it belongs to, by the name that this one had then.
    pub of: String,
    /// What it is there for.
    pub kind: ShadowKind,
    /// The run that made it.
    pub run: RunId,
    /// Since when: microseconds since 1970-01-01T00:00:00Z, by the server's clock.
    pub since_micros: i64,
    /// Whether it was dropped just now.
    #[serde(default)]
    pub dropped: bool,
    /// Why it was to be dropped and was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Whether a table that runs of `stream` have left belongs to a step, wherever the step read from
/// and wrote to then. No name of a pipeline or step holds a `/`.
#[must_use]
pub fn is_of_step(stream: &str, pipeline: &PipelineName, step: &StepName) -> bool {
    stream.starts_with(&format!("{pipeline}/{step}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_knows_its_own_by_any_of_its_streams_and_no_others() {
        let (pipeline, step) = ("shop".parse().unwrap(), "orders".parse().unwrap());
        for (stream, expected) in [
            ("shop/orders/legacy:orders/orders", true),
            ("shop/orders/legacy:renamed/elsewhere.orders", true),
            ("shop/orders_live/legacy:orders/orders", false),
            ("other/orders/legacy:orders/orders", false),
            ("shop/orders", false),
        ] {
            assert_eq!(is_of_step(stream, &pipeline, &step), expected, "{stream}");
        }
    }
}
