//! Rows outside of a range, in columns that hold values of any type.

use std::time::Duration;

use highwater_common::cursor::Cursor;
use highwater_common::facts::CursorForm;
use highwater_common::left_out::{LeftOut, Tally};
use highwater_common::range::CursorRange;

use super::{File, table};
use crate::connector::{LeftOutRequest, Source};

async fn left_out(file: &File, form: CursorForm, whole: (Cursor, Cursor)) -> LeftOut {
    let request = LeftOutRequest {
        table: table("t"),
        partition_column: "at".to_owned(),
        form,
        whole: CursorRange::new(Some(whole.0), Some(whole.1)).expect("not empty"),
        within: Duration::from_mins(1),
    };
    Source::count_left_out(&file.source(), &request)
        .await
        .expect("counts")
}

#[tokio::test]
async fn a_value_that_is_no_position_is_not_taken_for_one_outside() {
    let file = File::fresh();
    let days = (Cursor::Date(19_723), Cursor::Date(19_754)); // January 2024
    let numbers = (Cursor::Integer(10), Cursor::Integer(20));
    let spaced = CursorForm::TextTime {
        separator_t: false,
        fraction_digits: 0,
        zulu: false,
    };
    // GIVEN rows before, behind, without a value and of another type, each kind as often as it is
    // told
    for (form, whole, values) in [
        (
            CursorForm::Native,
            numbers,
            "(1), (2), (10), (19), (20), (null), ('n/a'), ('12'), (x'00'), (9.5)",
        ),
        (
            CursorForm::TextDate,
            days,
            "('2023-12-31'), ('-infinity'), ('2024-01-01'), ('2024-01-31'), ('2024-02-01'), \
             (null), ('n/a'), (20240305), ('2024-3-5'), (x'00')",
        ),
        (
            spaced,
            (
                Cursor::Civil(19_723 * 86_400_000_000),
                Cursor::Civil(19_754 * 86_400_000_000),
            ),
            "('2023-12-31 23:59:59'), ('2023-12-31 23:59:59.5'), ('2024-01-01 00:00:00'), \
             ('2024-01-31 23:59:59'), ('2024-02-01 00:00:00.25'), (null), ('n/a'), (1704067200), \
             (''), (x'00')",
        ),
    ] {
        for index in ["", "create index t_at on t (at);"] {
            file.run(&format!(
                "drop table if exists t; create table t (at); {index} insert into t \
                               values {values}"
            ))
            .await;
            // WHEN they are counted THEN what only sorts there is told apart from what lies there
            let found = left_out(&file, form, whole).await;
            let expected = LeftOut {
                before: Tally::Exactly(2),
                behind: Tally::Exactly(1),
                null: Tally::Exactly(1),
                stray: Tally::Exactly(4),
            };
            assert_eq!(found, expected, "{form:?} {index}");
        }
    }
}

#[tokio::test]
async fn a_table_too_large_to_be_counted_leaves_the_numbers_unknown() {
    let file = File::fresh();
    // GIVEN a table whose row ids say that it is large, without an index on the column
    file.run(
        "create table t (at not null); insert into t (rowid, at) values (1, 1), (5000000, 30)",
    )
    .await;
    let whole = (Cursor::Integer(10), Cursor::Integer(20));
    // WHEN it is asked THEN nobody knows, and with an index it is counted
    let (unknown, none) = (Tally::Unknown, Tally::Exactly(0));
    let found = left_out(&file, CursorForm::Native, whole).await;
    assert_eq!(
        found,
        LeftOut {
            before: unknown,
            behind: unknown,
            null: none,
            stray: unknown
        }
    );
    file.run("create index t_at on t (at)").await;
    let found = left_out(&file, CursorForm::Native, whole).await;
    assert_eq!(
        found,
        LeftOut {
            before: Tally::Exactly(1),
            behind: Tally::Exactly(1),
            ..LeftOut::NONE
        }
    );
}
