//! The keys of a step, and of all that a step holds.

use super::data_check::CHECKS;
use super::partition_keys::PARTITION;
use super::shape::{Fields, Key, List, Named, Shape, Word};
use super::side_keys::{FROM, TABLES, TO};
use super::strategy_keys::{SCRIPT, SLOT_LIMIT, STRATEGY};

const CHUNKED: &[&str] = &["backfill", "incremental", "cdc"];
pub(super) const MOVING: &[&str] = &["backfill", "full_refresh", "swap", "incremental", "cdc"];
/// What writes a table of a target.
const WRITING: &[&str] = &[
    "backfill",
    "full_refresh",
    "swap",
    "incremental",
    "cdc",
    "sql",
];
const LOGGED: &[&str] = &["cdc"];
const SQL: &[&str] = &["sql"];
const EXEC: &[&str] = &["exec"];
const PARTITIONED: &[&str] = &["backfill", "swap", "sql"];
const TASKS_MAX: u64 = 100_000;
const ROWS_MAX: u64 = 1_000_000_000_000;

/// A step, and what `defaults` lays under one.
pub(super) static STEP: Fields = Fields {
    what: "a step",
    tag: Some("strategy"),
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new("strategy", Shape::Fields(&STRATEGY), "How it loads.").required(),
        Key::new(
            "depends_on",
            Shape::List(&DEPENDS_ON),
            "Steps that this one waits for.",
        ),
        Key::new("from", Shape::Fields(&FROM), "The read side.")
            .required()
            .only(MOVING),
        Key::new(
            "tables",
            Shape::Fields(&TABLES),
            "Stands for many tables in the place of `from.table`: a step for each is made when the \
             pipeline is planned.",
        )
        .only(MOVING),
        Key::new("to", Shape::Fields(&TO), "The write side.")
            .required()
            .only(WRITING),
        Key::new(
            "partition",
            Shape::Fields(&PARTITION),
            "How the table is cut; each part loads on its own. With `sql`: whose periods they run for.",
        )
        .only(PARTITIONED),
        Key::new("write", Shape::Fields(&WRITE), "How rows are written.").only(MOVING),
        Key::new(
            "retries",
            Shape::Fields(&RETRIES),
            "What happens when an attempt fails: waits double, with full jitter.",
        ),
        Key::new("limits", Shape::Fields(&STEP_LIMITS), "Limits of the step."),
        Key::new(
            "pools",
            Shape::List(&STEP_POOLS),
            "The pools that each of its tasks takes a place of.",
        ),
        Key::new(
            "labels",
            Shape::Named(&LABELS),
            "Only workers that carry all of these labels get its tasks.",
        ),
        Key::new(
            "tolerate",
            Shape::Fields(&TOLERATE),
            "What may go wrong before the step fails.",
        ),
        Key::new(
            "chunk",
            Shape::Fields(&CHUNK),
            "How much of a partition one commit takes where rows are appended or merged; a \
             replaced partition is committed whole.",
        )
        .only(CHUNKED),
        Key::new(
            "checks",
            Shape::List(&CHECKS),
            "What the table must answer before its rows are published.",
        )
        .only(MOVING),
        Key::new(
            "slot_limit",
            Shape::Fields(&SLOT_LIMIT),
            "What happens when the slot keeps much of the source's log.",
        )
        .only(LOGGED),
        Key::new(
            "sql",
            Shape::Fields(&SCRIPT),
            "The statements of the target; {run.id}, {run.reference_time}, {pipeline}, {step} and \
             ${param:name} are values in them.",
        )
        .required()
        .only(SQL),
        Key::new(
            "command",
            Shape::List(&COMMAND),
            "The program and its arguments, each as it is: no shell reads them. {run.id}, \
             {run.reference_time}, {pipeline} and {step} stand for what they name.",
        )
        .required()
        .only(EXEC),
        Key::new(
            "env",
            Shape::Named(&ENV),
            "Variables of the program; a value may be a reference, ${env:NAME} or ${file:/path}.",
        )
        .only(EXEC),
        Key::new(
            "probe",
            Shape::List(&COMMAND),
            "The program that says whether the work is done: 0 is yes, 1 is no. It is asked before \
             each attempt.",
        )
        .only(EXEC),
        Key::new(
            "idempotent",
            Shape::Bool,
            "Whether the program may be run again although nobody knows how far it came; false.",
        )
        .only(EXEC),
        Key::new(
            "enabled",
            Shape::Bool,
            "Whether the step is one of the pipeline's; true. One that is not is as if it were not in \
             the file: what needs its success has to be left out as well.",
        ),
    ],
};

static COMMAND: List = List {
    items_min: 1,
    items_max: 256,
    each: Shape::Text,
    word: None,
};

static ENV: Named = Named {
    what: "a variable",
    placeholder: "<variable>",
    is_any_text: true,
    entries_min: 0,
    entries_max: 256,
    each: Shape::Text,
};

static DEPENDS_ON: List = List {
    items_min: 0,
    items_max: 200,
    each: Shape::Fields(&DEPENDENCY),
    word: None,
};

static DEPENDENCY: Fields = Fields {
    what: "a dependency",
    tag: None,
    shorthand: Some("step"),
    is_merged: false,
    keys: &[
        Key::new("step", Shape::Name, "The step waited for.").required(),
        Key::new(
            "when",
            Shape::Words(&WHEN),
            "What it must have come to; success.",
        ),
    ],
};

static WHEN: [Word; 2] = [Word::new("success"), Word::new("done")];

static WRITE: Fields = Fields {
    what: "a write rule",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new(
            "mode",
            Shape::Words(&WRITE_MODES),
            "How a partition's rows meet the target's; required with `backfill`, \
             `incremental` and `cdc`.",
        ),
        Key::new(
            "key",
            Shape::List(&WRITE_KEY),
            "The columns that identify a row; auto: the source's key.",
        ),
        Key::new(
            "cursor",
            Shape::Text,
            "With `merge`, the column that tells which of two rows of one key is newer; without \
             one the step runs one task at a time.",
        ),
        Key::new(
            "resident",
            Shape::Words(&RESIDENT),
            "What happens to rows in a range that no run has loaded; fail.",
        ),
        Key::new(
            "triggers",
            Shape::Words(&TRIGGERS),
            "Whether the target's triggers act on what is written; fire.",
        ),
        Key::new(
            "on_schema_change",
            Shape::Words(&SCHEMA_CHANGE),
            "What happens when the target's table lacks columns of the source; fail.",
        ),
        Key::new(
            "deletes",
            Shape::Words(&DELETES),
            "What becomes of a row that the source deletes: it is deleted, it stays, or it \
             stays and is marked; hard with `cdc`, ignore with `incremental`.",
        ),
        Key::new(
            "deleted_at",
            Shape::Text,
            "With `deletes: soft`, the column that says when a row was deleted; \
             _highwater_deleted_at.",
        ),
    ],
};

static WRITE_MODES: [Word; 3] = [
    Word::new("append"),
    Word::new("replace_partition"),
    Word::new("merge"),
];

static DELETES: [Word; 3] = [Word::new("hard"), Word::new("ignore"), Word::new("soft")];

static WRITE_KEY: List = List {
    items_min: 1,
    items_max: 32,
    each: Shape::Text,
    word: Some("auto"),
};

static RESIDENT: [Word; 2] = [Word::new("fail"), Word::new("replace")];

static TRIGGERS: [Word; 2] = [Word::new("fire"), Word::new("skip")];

static SCHEMA_CHANGE: [Word; 2] = [Word::new("fail"), Word::new("add_columns")];

static RETRIES: Fields = Fields {
    what: "a retry rule",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new("max_attempts", Shape::Whole(1, 100), "Attempts in all; 5."),
        Key::new("initial", Shape::Duration, "The first wait's ceiling; 1s."),
        Key::new("max", Shape::Duration, "Every wait's ceiling; 5m."),
        Key::new(
            "unreachable",
            Shape::Duration,
            "How long a connection may be away before the tasks that need it are given up; 1h.",
        ),
    ],
};

static STEP_LIMITS: Fields = Fields {
    what: "the limits of a step",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new("tasks", Shape::Whole(1, TASKS_MAX), "Tasks at once."),
        Key::new("attempt", Shape::Duration, "One attempt's time."),
        Key::new(
            "stall",
            Shape::Duration,
            "How long an attempt may move no byte before it is ended; 10m.",
        ),
    ],
};

static CHUNK: Fields = Fields {
    what: "a chunk",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new(
            "target",
            Shape::Duration,
            "How long a chunk is to take: its size follows; 10s.",
        ),
        Key::new(
            "max_rows",
            Shape::Whole(1, ROWS_MAX),
            "Rows of a chunk at most, but for those of one position; 500000.",
        ),
        Key::new(
            "max_bytes",
            Shape::Bytes,
            "Bytes that a chunk is to have at most, judged by the one before; 64MiB.",
        ),
    ],
};

static LABELS: Named = Named {
    what: "a label",
    placeholder: "<label>",
    is_any_text: true,
    entries_min: 0,
    entries_max: 32,
    each: Shape::Text,
};

static STEP_POOLS: List = List {
    items_min: 0,
    items_max: 32,
    each: Shape::Name,
    word: None,
};

static TOLERATE: Fields = Fields {
    what: "what is tolerated",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new(
            "dead",
            Shape::Whole(0, 1_000_000),
            "Tasks that may die before the step fails; 0.",
        ),
        Key::later("stop_above", "`dead` bounds the tasks that may die"),
    ],
};
