//! The keys of `partition`: how a table is cut.

use super::shape::{Fields, Key, List, Shape, Word};
use crate::partition::HASH_PARTS_MAX;

/// The rules that cut a table by a column of it.
const CUTTING: &[&str] = &["calendar", "integer"];
/// The rules by civil periods.
const CIVIL: &[&str] = &["calendar", "follow"];
const FOLLOWING: &[&str] = &["follow"];
const CALENDAR: &[&str] = &["calendar"];
const INTEGER: &[&str] = &["integer"];
const HASH: &[&str] = &["hash"];
/// The rules by which the source itself places its rows.
const PLACING: &[&str] = &["hash", "keyset"];
/// The rules that aim at a number of rows.
const BY_ROWS: &[&str] = &["integer", "keyset", "auto"];
const ROWS_MAX: u64 = 1_000_000_000_000;
const WHOLE_MAX: u64 = i64::MAX as u64;

pub(super) static PARTITION: Fields = Fields {
    what: "a partition rule",
    tag: Some("by"),
    shorthand: Some("by"),
    is_merged: true,
    keys: &[
        Key::new(
            "by",
            Shape::Words(&PARTITION_BY),
            "The rule that cuts; auto where a `backfill` names none, follow where `follow` names a \
             step.",
        )
        .required(),
        Key::new(
            "column",
            Shape::Text,
            "The column that is cut; its values never change.",
        )
        .required()
        .only(CUTTING),
        Key::new(
            "columns",
            Shape::List(&PLACING_COLUMNS),
            "The columns whose hash cuts the table, or its unique key, by default its own; their values \
             never change.",
        )
        .only(PLACING),
        Key::new(
            "parts",
            Shape::Whole(2, HASH_PARTS_MAX),
            "How many parts; each of them scans the whole table.",
        )
        .required()
        .only(HASH),
        Key::new(
            "grain",
            Shape::Words(&GRAINS),
            "How long a civil period is.",
        )
        .required()
        .only(CIVIL),
        Key::new("tz", Shape::Zone, "The zone whose midnights count; UTC.").only(CALENDAR),
        Key::new(
            "width",
            Shape::Whole(1, WHOLE_MAX),
            "Values in a part; without it, parts of about max_rows rows.",
        )
        .only(INTEGER),
        Key::new(
            "max_rows",
            Shape::Whole(1, ROWS_MAX),
            "Rows aimed at in a part when no width is given; 500000.",
        )
        .only(BY_ROWS),
        Key::new(
            "nulls",
            Shape::Words(&NULLS),
            "What happens to rows whose column is NULL; partition: they are one of their own.",
        )
        .only(CUTTING),
        Key::new(
            "follow",
            Shape::Name,
            "The `backfill` whose periods the statements run for, each once its rows are there.",
        )
        .required()
        .only(FOLLOWING),
    ],
};

static PLACING_COLUMNS: List = List {
    items_min: 1,
    items_max: 32,
    each: Shape::Text,
    word: None,
};

static PARTITION_BY: [Word; 6] = [
    Word::new("calendar"),
    Word::new("integer"),
    Word::new("follow"),
    Word::new("keyset"),
    Word::new("hash"),
    Word::new("auto"),
];

static GRAINS: [Word; 5] = [
    Word::new("hour"),
    Word::new("day"),
    Word::new("week"),
    Word::new("month"),
    Word::new("year"),
];

static NULLS: [Word; 3] = [
    Word::new("partition"),
    Word::new("ignore"),
    Word::new("fail"),
];
