//! The table of every key of a pipeline file: those that work, and those that are known but not
//! built yet.

use super::schedule::SCHEDULE;
use super::shape::{Fields, Key, Named, Shape, Word};
use super::step_keys::STEP;

const POSTGRES: &[&str] = &["postgres"];
const SQLITE: &[&str] = &["sqlite"];
const TASKS_MAX: u64 = 100_000;

/// The file.
pub(super) static FILE: Fields = Fields {
    what: "the file",
    tag: None,
    shorthand: None,
    is_merged: false,
    keys: &[
        Key::new(
            "version",
            Shape::Whole(1, 1),
            "Version of the file's form: 1.",
        )
        .required(),
        Key::new(
            "name",
            Shape::Name,
            "The pipeline's name. Its history hangs on it: a new name starts afresh.",
        )
        .required(),
        Key::new(
            "params",
            Shape::Named(&PARAMS),
            "Values that --param may set, used as ${param:name}.",
        ),
        Key::new(
            "connections",
            Shape::Named(&CONNECTIONS),
            "The databases by name.",
        ),
        Key::new("limits", Shape::Fields(&RUN_LIMITS), "Limits of a run."),
        Key::new(
            "pools",
            Shape::Named(&POOLS),
            "Limits by name, which several steps may share.",
        ),
        Key::new(
            "defaults",
            Shape::Partial(&STEP),
            "Laid under every step: maps merge, lists and `strategy` are replaced.",
        ),
        Key::new(
            "steps",
            Shape::Named(&STEPS),
            "The nodes of the DAG by name; `depends_on` alone orders them.",
        )
        .required(),
        Key::new(
            "schedule",
            Shape::Fields(&SCHEDULE),
            "When a cluster runs it by itself, once `highwater schedules set FILE` has given it the \
             file. A text is the cron expression.",
        ),
        Key::later(
            "throttle",
            "`max_connections` of a connection and `limits.tasks` spare a source",
        ),
        Key::new(
            "environments",
            Shape::Named(&ENVIRONMENTS),
            "What is different in some places, by name: --env NAME lays one over the file. Maps \
             merge, lists and `strategy` are replaced.",
        ),
    ],
};

static PARAMS: Named = Named {
    what: "a parameter",
    placeholder: "<param>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 200,
    each: Shape::Fields(&PARAM),
};

static PARAM: Fields = Fields {
    what: "a parameter",
    tag: None,
    shorthand: None,
    is_merged: false,
    keys: &[
        Key::new("type", Shape::Words(&PARAM_TYPES), "What its values are.").required(),
        Key::new(
            "default",
            Shape::Written,
            "Its value when none is given; without one it must be given.",
        ),
    ],
};

static PARAM_TYPES: [Word; 4] = [
    Word::new("text"),
    Word::new("integer"),
    Word::new("date"),
    Word::new("timestamp"),
];

static CONNECTIONS: Named = Named {
    what: "a connection",
    placeholder: "<connection>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 200,
    each: Shape::Fields(&CONNECTION),
};

static CONNECTION: Fields = Fields {
    what: "a connection",
    tag: Some("type"),
    shorthand: None,
    is_merged: false,
    keys: &[
        Key::new(
            "type",
            Shape::Words(CONNECTION_TYPES),
            "Which kind of database.",
        )
        .required(),
        Key::new(
            "url",
            Shape::Url,
            "The server's URL; a password is a reference: ${env:NAME} or ${file:/path}.",
        )
        .required()
        .only(POSTGRES),
        Key::new(
            "path",
            Shape::File,
            "The file, relative to the pipeline file's folder.",
        )
        .required()
        .only(SQLITE),
        Key::new(
            "max_connections",
            Shape::Whole(1, 10_000),
            "Connections at once over all workers of a run.",
        )
        .only(POSTGRES),
        Key::new(
            "read_only",
            Shape::Bool,
            "Refuse to write through this connection.",
        ),
    ],
};

static CONNECTION_TYPES: &[Word] = &[
    Word::new("postgres"),
    Word::new("sqlite"),
    Word::later(
        "mysql",
        "only `postgres` and `sqlite` can be reached so far",
    ),
    Word::later(
        "mariadb",
        "only `postgres` and `sqlite` can be reached so far",
    ),
    Word::later(
        "files",
        "only `postgres` and `sqlite` can be reached so far",
    ),
];

static RUN_LIMITS: Fields = Fields {
    what: "the limits of a run",
    tag: None,
    shorthand: None,
    is_merged: false,
    keys: &[
        Key::new(
            "tasks",
            Shape::Whole(1, TASKS_MAX),
            "Tasks at once over all steps.",
        ),
        Key::new(
            "priority",
            Shape::Whole(1, 9),
            "Which of several runs gets a free slot first: 9 before 1, and 5 where nothing is said. A \
             run that has nothing under way counts one more with each minute that it waits.",
        ),
    ],
};

static POOLS: Named = Named {
    what: "a pool",
    placeholder: "<pool>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 200,
    each: Shape::Fields(&POOL),
};

static POOL: Fields = Fields {
    what: "a pool",
    tag: None,
    shorthand: None,
    is_merged: false,
    keys: &[Key::new(
        "tasks",
        Shape::Whole(1, TASKS_MAX),
        "Tasks at once over all steps that name it.",
    )
    .required()],
};

static STEPS: Named = Named {
    what: "a step",
    placeholder: "<step>",
    is_any_text: false,
    entries_min: 1,
    entries_max: 200,
    each: Shape::Fields(&STEP),
};

static ENVIRONMENTS: Named = Named {
    what: "an environment",
    placeholder: "<environment>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 50,
    each: Shape::Partial(&ENVIRONMENT),
};

/// What may differ: all that a file says but its version, and what is laid under steps rather than
/// over them.
pub(super) static ENVIRONMENT: Fields = Fields {
    what: "an environment",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new(
            "name",
            Shape::Name,
            "The pipeline's name there: with one of its own it has a history of its own.",
        ),
        Key::new(
            "params",
            Shape::Named(&PARAMS_OVER),
            "Defaults of parameters there.",
        ),
        Key::new(
            "connections",
            Shape::Named(&CONNECTIONS_OVER),
            "What is different about databases, and those that are there alone.",
        ),
        Key::new(
            "schedule",
            Shape::Partial(&SCHEDULE),
            "When a cluster runs it by itself there.",
        ),
        Key::new(
            "limits",
            Shape::Fields(&RUN_LIMITS),
            "Limits of a run there.",
        ),
        Key::new("pools", Shape::Named(&POOLS_OVER), "Limits by name there."),
        Key::new(
            "steps",
            Shape::Named(&STEPS_OVER),
            "What is different about steps; all of them are the file's.",
        ),
    ],
};

static PARAMS_OVER: Named = Named {
    what: "a parameter",
    placeholder: "<param>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 200,
    each: Shape::Partial(&PARAM),
};

static CONNECTIONS_OVER: Named = Named {
    what: "a connection",
    placeholder: "<connection>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 200,
    each: Shape::Partial(&CONNECTION),
};

static POOLS_OVER: Named = Named {
    what: "a pool",
    placeholder: "<pool>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 200,
    each: Shape::Partial(&POOL),
};

static STEPS_OVER: Named = Named {
    what: "a step",
    placeholder: "<step>",
    is_any_text: false,
    entries_min: 0,
    entries_max: 200,
    each: Shape::Partial(&STEP),
};
