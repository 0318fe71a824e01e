//! The keys of a step's strategy.

use super::shape::{Fields, Key, Shape, Word};

const BACKFILL: &[&str] = &["backfill"];
const REMOVING: &[&str] = &["full_refresh", "swap", "incremental"];
const FULL_REFRESH: &[&str] = &["full_refresh"];
const SWAP: &[&str] = &["swap"];
const INCREMENTAL: &[&str] = &["incremental"];
const CDC: &[&str] = &["cdc"];
const NOOP: &[&str] = &["noop"];

/// How a step loads.
pub(super) static STRATEGY: Fields = Fields {
    what: "a strategy",
    tag: Some("type"),
    shorthand: Some("type"),
    is_merged: false,
    keys: &[
        Key::new("type", Shape::Words(STRATEGIES), "Which strategy.").required(),
        Key::new(
            "start",
            Shape::Bound,
            "First position wanted; without it, from the first row.",
        )
        .only(BACKFILL),
        Key::new(
            "end",
            Shape::Bound,
            "First position not wanted; without it, to the last row.",
        )
        .only(BACKFILL),
        Key::new(
            "reprocess",
            Shape::Words(&REPROCESS),
            "What of an already loaded range is loaded again; missing: nothing.",
        )
        .only(BACKFILL),
        Key::new(
            "order",
            Shape::Words(&ORDER),
            "Which partitions come first; oldest.",
        )
        .only(BACKFILL),
        Key::new(
            "allow_empty",
            Shape::Bool,
            "Whether an empty source may empty the target; false.",
        )
        .only(REMOVING),
        Key::new(
            "allow_shrink",
            Shape::Bool,
            "Whether the target may lose more than half of its rows; false.",
        )
        .only(REMOVING),
        Key::new(
            "consistency",
            Shape::Words(&CONSISTENCY),
            "At how many points in time the source is read; snapshot: one.",
        )
        .only(FULL_REFRESH),
        Key::new(
            "lock_timeout",
            Shape::Duration,
            "How long the exchange waits for its locks before it tries again later; 500ms.",
        )
        .only(SWAP),
        Key::new(
            "publish",
            Shape::Words(&PUBLISH),
            "How the rows that were loaded come to be read; rename.",
        )
        .only(SWAP),
        Key::new(
            "keep_old",
            Shape::Duration,
            "How old the table before becomes; without it, the next swap drops it.",
        )
        .only(SWAP),
        Key::new(
            "cursor",
            Shape::Text,
            "The column that grows with every write: a time, a day, or a number.",
        )
        .required()
        .only(INCREMENTAL),
        Key::new(
            "tz",
            Shape::Zone,
            "The zone of the clock that stamps a cursor of times or days without one.",
        )
        .only(INCREMENTAL),
        Key::new(
            "horizon",
            Shape::Fields(&HORIZON),
            "How far a run reads; auto: up to where the source's open transactions prove that no \
             row comes later.",
        )
        .only(INCREMENTAL),
        Key::new(
            "lookback",
            Shape::Duration,
            "How much of what has been read is read again; 0s.",
        )
        .only(INCREMENTAL),
        Key::new(
            "nulls",
            Shape::Words(&CURSOR_NULLS),
            "What happens to rows whose cursor is NULL; fail.",
        )
        .only(INCREMENTAL),
        Key::new(
            "continues",
            Shape::Name,
            "The backfill whose end the first run begins at; without one it begins at the first row.",
        )
        .only(INCREMENTAL),
        Key::new(
            "slot",
            Shape::Name,
            "The replication slot that keeps the source's log for the step; it is made where it is \
             missing.",
        )
        .required()
        .only(CDC),
        Key::new(
            "publication",
            Shape::Name,
            "The publication that the table is of; it is made where it is missing.",
        )
        .required()
        .only(CDC),
        Key::new(
            "until",
            Shape::Words(&UNTIL),
            "How far a run follows the log; caught_up: to where it ended as the run got there; \
             continuous: until somebody ends the run.",
        )
        .only(CDC),
        Key::new("tasks", Shape::Whole(1, 1_000_000), "How many tasks.")
            .required()
            .only(NOOP),
        Key::new("hold", Shape::Duration, "How long each takes; 0s.").only(NOOP),
    ],
};

static STRATEGIES: &[Word] = &[
    Word::new("backfill"),
    Word::new("full_refresh"),
    Word::new("swap"),
    Word::new("incremental"),
    Word::new("cdc"),
    Word::new("sql"),
    Word::new("exec"),
    Word::new("noop"),
];

/// Whether a step may be of this strategy in this version.
#[must_use]
pub fn knows_strategy(word: &str) -> bool {
    STRATEGIES
        .iter()
        .any(|one| one.text == word && one.later.is_none())
}

static HORIZON: Fields = Fields {
    what: "a horizon",
    tag: None,
    shorthand: Some("lag"),
    is_merged: false,
    keys: &[Key::new(
        "lag",
        Shape::Lag,
        "A run reads up to so long ago, whatever is still to be committed below; auto.",
    )
    .required()],
};

pub(super) static SLOT_LIMIT: Fields = Fields {
    what: "a limit of a slot",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new(
            "retained",
            Shape::Bytes,
            "How much of the source's log the slot may keep before it is said.",
        )
        .required(),
        Key::new("action", Shape::Words(&SLOT_ACTIONS), "What happens then.").required(),
    ],
};

static SLOT_ACTIONS: [Word; 2] = [
    Word::new("alert"),
    Word::later(
        "pause",
        "a slot that serves one table keeps as much while its copy waits: `alert` says it, and \
         `max_slot_wal_keep_size` of the server bounds it",
    ),
];

static UNTIL: [Word; 2] = [Word::new("caught_up"), Word::new("continuous")];

static CURSOR_NULLS: [Word; 3] = [Word::new("fail"), Word::new("reload"), Word::new("ignore")];

static REPROCESS: [Word; 3] = [
    Word::new("missing"),
    Word::new("all"),
    Word::later(
        "failed",
        "`missing` loads what no run has committed, so also what failed",
    ),
];

static CONSISTENCY: [Word; 2] = [
    Word::new("snapshot"),
    Word::later(
        "chunk",
        "a `swap` with `partition` and `publish: in_place` reads part by part, and holds nothing",
    ),
];

static PUBLISH: [Word; 3] = [
    Word::new("rename"),
    Word::new("in_place"),
    Word::later("view", "`rename` takes the views of the table along"),
];

static ORDER: [Word; 2] = [Word::new("oldest"), Word::new("newest")];

/// The statements of `strategy: sql`.
pub(super) static SCRIPT: Fields = Fields {
    what: "statements",
    tag: None,
    shorthand: Some("text"),
    is_merged: true,
    keys: &[
        Key::new(
            "file",
            Shape::File,
            "The file that holds them, relative to the pipeline file; what it says is part of the \
             pipeline.",
        ),
        Key::new("text", Shape::Script, "The statements themselves."),
    ],
};
