//! When a pipeline runs by itself, as it is written in its file.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::fields::{or, word};
use super::node::{Node, join};
use super::problem::Problems;
use super::shape::{Fields, Key, Shape, Word};
use super::value;
use crate::error_code::ErrorCode;
use crate::schedule::{CatchUp, Cron, Overlap, Rules};

/// When a pipeline runs by itself. A cluster does so once the file is given to it for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The minutes.
    pub cron: Cron,
    /// The IANA name of the zone whose clocks show them.
    pub tz: String,
    /// What becomes of instants that nobody saw come.
    pub catch_up: CatchUp,
    /// What becomes of one that comes while a run is under way.
    pub overlap: Overlap,
}

impl Schedule {
    /// What it says of instants that cannot begin a run at their time.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        Rules {
            catch_up: self.catch_up,
            overlap: self.overlap,
        }
    }

    pub(super) fn decode(node: &Node) -> Option<Self> {
        Some(Self {
            cron: node.get("cron")?.as_text()?.parse().ok()?,
            tz: or(node.get("tz"), "UTC".to_owned(), |node| {
                value::zone(node.as_text()?)
            })?,
            catch_up: or(node.get("catch_up"), CatchUp::Latest, word)?,
            overlap: or(node.get("overlap"), Overlap::Skip, word)?,
        })
    }

    pub(super) fn document(&self) -> Json {
        json!({
            "cron": self.cron.to_string(),
            "tz": self.tz,
            "catch_up": self.catch_up,
            "overlap": self.overlap,
        })
    }
}

/// `schedule`.
pub(super) static SCHEDULE: Fields = Fields {
    what: "a schedule",
    tag: None,
    shorthand: Some("cron"),
    is_merged: false,
    keys: &[
        Key::new(
            "cron",
            Shape::Text,
            "Minute, hour, day of the month, month, day of the week, as crontab has them.",
        )
        .required(),
        Key::new("tz", Shape::Zone, "Whose clocks; UTC when left out."),
        Key::new(
            "catch_up",
            Shape::Words(&CATCH_UP),
            "Times at which no coordinator led: a run for the `latest` (default), for `all`, one \
             after the other, or for `none`.",
        ),
        Key::new(
            "overlap",
            Shape::Words(&OVERLAP),
            "A time that comes while a run is under way: `skip` it (default), or `queue` it until \
             that run has ended.",
        ),
    ],
};

static CATCH_UP: [Word; 3] = [Word::new("latest"), Word::new("none"), Word::new("all")];
static OVERLAP: [Word; 2] = [Word::new("skip"), Word::new("queue")];

/// Reports a cron expression that is none.
pub(super) fn check_schedule(schedule: &Node, problems: &mut Problems) {
    let Some(node) = schedule.get("cron") else {
        return;
    };
    let Some(Err(error)) = node.as_text().map(str::parse::<Cron>) else {
        return;
    };
    problems
        .add(
            ErrorCode::SpecBadValue,
            &join("schedule", "cron"),
            node.location,
            format!("this is no cron expression: {error}"),
        )
        .hint(error.hint);
}
