//! The keys of what a step reads and of what it writes.

use super::shape::{Fields, Key, Named, Shape, Word};

pub(super) static FROM: Fields = Fields {
    what: "a source",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new("connection", Shape::Name, "Which database.").required(),
        Key::new(
            "table",
            Shape::Table,
            "Which table: table or schema.table, parts in double quotes where needed.",
        ),
        Key::new(
            "query",
            Shape::Query,
            "In place of `table`: one SELECT of the source's server, with `full_refresh` and `swap`.",
        ),
        Key::new(
            "columns",
            Shape::Named(&COLUMNS),
            "What is special about some columns; all others are read as they are.",
        ),
        Key::new(
            "rows",
            Shape::Words(&ROWS),
            "Which rows are meant where row level security hides some; all.",
        ),
    ],
};

static ROWS: [Word; 2] = [Word::new("all"), Word::new("visible")];

static COLUMNS: Named = Named {
    what: "a column",
    placeholder: "<column>",
    is_any_text: true,
    entries_min: 0,
    entries_max: 1600,
    each: Shape::Fields(&COLUMN),
};

static COLUMN: Fields = Fields {
    what: "a column",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new("exclude", Shape::Bool, "Leave the column out."),
        Key::new("rename", Shape::Text, "The column's name in the target."),
        Key::new(
            "cast",
            Shape::Type,
            "Read the column as this type of the source's server; it may round.",
        ),
    ],
};

pub(super) static TABLES: Fields = Fields {
    what: "the tables of a step",
    tag: None,
    shorthand: Some("match"),
    is_merged: true,
    keys: &[
        Key::new(
            "match",
            Shape::Tables,
            "Which: schema.table, in SQLite the table alone, where * stands for any letters and ? \
             for one. Tables that other steps read by name are left to them.",
        )
        .required(),
        Key::new("exclude", Shape::Tables, "Which of them are not meant."),
        Key::new(
            "foreign_keys",
            Shape::Bool,
            "Whether the foreign keys between them are added once all of their rows are there \
             (backfill, between PostgreSQL databases); true.",
        ),
    ],
};

pub(super) static TO: Fields = Fields {
    what: "a target",
    tag: None,
    shorthand: None,
    is_merged: true,
    keys: &[
        Key::new("connection", Shape::Name, "Which database.").required(),
        Key::new(
            "table",
            Shape::Target,
            "Which table; {source.table} and {source.schema} stand for the source's.",
        )
        .required(),
        Key::new(
            "create",
            Shape::Words(&CREATE),
            "What a missing table is created from; source between databases of one kind, else \
             columns.",
        ),
    ],
};

static CREATE: [Word; 2] = [Word::new("source"), Word::new("columns")];
