//! How a partition column holds its positions on both sides: settled when a step is planned, or
//! refused.

use super::*;

#[test]
fn times_that_sqlite_keeps_as_text_stay_text_in_a_created_table() {
    let mut facts = facts();
    facts.source.engine = Engine::Sqlite;
    let form = CursorForm::TextTime {
        separator_t: true,
        fraction_digits: 0,
        zulu: true,
    };
    partition(&mut facts).form = form;
    // Whatever the column is declared as: the probe has seen what it holds.
    for declared in [ColumnKind::Text, ColumnKind::Any] {
        facts.source.columns[1].kind = declared;
        let plan = plan(&days(None, None), &facts);
        assert_eq!(
            (target_form(&plan), plan.load_order.columns[1].kind),
            (form, ColumnKind::Text)
        );
    }
    partition(&mut facts).form = CursorForm::EpochMillis;
    let plan = plan(&days(None, None), &facts);
    assert_eq!(target_form(&plan), CursorForm::EpochMillis);
    assert_eq!(plan.load_order.columns[1].kind, ColumnKind::Int64);
}

#[test]
fn a_target_whose_positions_have_another_form_is_refused_by_the_columns_name() {
    let time = |separator_t, fraction_digits, zulu| CursorForm::TextTime {
        separator_t,
        fraction_digits,
        zulu,
    };
    let (zulu, plain, millis) = (
        time(true, 0, true),
        time(false, 0, false),
        time(false, 3, false),
    );
    let (native, seconds) = (CursorForm::Native, CursorForm::EpochSeconds);
    let (pg, lite) = (Engine::Postgres, Engine::Sqlite);
    use ColumnKind::{Instant, Int64, Text};
    for (source, written, target, held, kind, expected) in [
        // PostgreSQL compares instants itself, however they come, if it need not round them
        (lite, zulu, pg, Some(native), Instant, Some(native)),
        (lite, time(true, 9, true), pg, Some(native), Instant, None),
        (pg, native, pg, Some(native), Instant, Some(native)),
        (pg, native, pg, None, Text, None),
        // its texts and numbers are what they are in the source, or nothing that can be compared
        (lite, zulu, pg, None, Text, Some(zulu)),
        (lite, zulu, pg, Some(zulu), Text, Some(zulu)),
        (lite, zulu, pg, Some(plain), Text, None),
        (lite, seconds, pg, None, Int64, Some(seconds)),
        (
            lite,
            seconds,
            pg,
            Some(CursorForm::EpochMillis),
            Int64,
            None,
        ),
        // SQLite holds one form
        (lite, zulu, lite, None, Text, Some(zulu)),
        (lite, zulu, lite, Some(zulu), Text, Some(zulu)),
        (lite, zulu, lite, Some(plain), Text, None),
        (pg, native, lite, None, Text, Some(plain)),
        (pg, native, lite, Some(millis), Text, Some(plain)),
        (pg, native, lite, Some(zulu), Text, None),
        (pg, native, lite, Some(CursorForm::TextDate), Text, None),
    ] {
        let mut facts = existing(facts());
        facts.source.columns.truncate(2);
        (facts.source.engine, facts.target.engine) = (source, target);
        partition(&mut facts).form = written;
        let table = facts.target.table.as_mut().expect("it exists");
        table.columns.truncate(2);
        (table.partition_form, table.columns[1].kind) = (held, kind);
        if kind == Text {
            table.columns[1].type_name = "text".to_owned();
        }
        match expected {
            Some(form) => {
                assert_eq!(
                    target_form(&plan(&days(None, None), &facts)),
                    form,
                    "{written:?} {held:?}"
                )
            }
            None => {
                let problems = refused(&days(None, None), &facts);
                assert_eq!(
                    problems[0].code, "plan::partition_form",
                    "{written:?} {held:?}"
                );
                assert!(
                    problems[0].message.starts_with("column created_at of "),
                    "{}",
                    problems[0]
                );
            }
        }
    }
}

#[test]
fn numbers_that_sqlite_would_keep_as_text_are_no_partition_column_there() {
    let mut facts = integer_facts(1_000);
    facts.target.engine = Engine::Sqlite;
    for (type_name, kind, form, refused_as) in [
        ("bigint", ColumnKind::Int64, CursorForm::Native, None),
        (
            "numeric(19,0)",
            ColumnKind::Numeric,
            CursorForm::Native,
            Some("id of public.orders is numeric(19,0)"),
        ),
        (
            "oid",
            ColumnKind::Other,
            CursorForm::Oid,
            Some("id of public.orders is oid"),
        ),
    ] {
        // GIVEN ids of a type WHEN they go to SQLite
        facts.source.columns[0] = column("id", type_name, kind, false);
        partition(&mut facts).form = form;
        match refused_as {
            // THEN those that stay numbers are cut
            None => assert_eq!(
                target_form(&plan(&by_rows(100), &facts)),
                CursorForm::Native
            ),
            // AND text, in which 10 lies before 9, is refused, with what to do
            Some(told) => {
                let problem = refused(&by_rows(100), &facts).remove(0);
                assert_eq!(problem.code, "plan::partition_form");
                assert!(
                    problem.message.contains(told) && problem.help.contains("id::bigint"),
                    "{problem}"
                );
            }
        }
    }
    // WHEN the target is PostgreSQL THEN the column that is made is of the same type, and compared
    // as it
    facts.target.engine = Engine::Postgres;
    assert_eq!(target_form(&plan(&by_rows(100), &facts)), CursorForm::Oid);
}

#[test]
fn an_oid_is_compared_as_what_the_target_holds_it_as() {
    let mut facts = existing(integer_facts(1_000));
    for (written, held, expected) in [
        (CursorForm::Oid, CursorForm::Oid, Some(CursorForm::Oid)),
        (
            CursorForm::Oid,
            CursorForm::Native,
            Some(CursorForm::Native),
        ),
        (
            CursorForm::Native,
            CursorForm::Native,
            Some(CursorForm::Native),
        ),
        // A whole number may be none of 32 bits without a sign
        (CursorForm::Native, CursorForm::Oid, None),
    ] {
        partition(&mut facts).form = written;
        facts
            .target
            .table
            .as_mut()
            .expect("it exists")
            .partition_form = Some(held);
        match expected {
            Some(form) => assert_eq!(
                target_form(&plan(&by_rows(100), &facts)),
                form,
                "{written:?} {held:?}"
            ),
            None => assert_eq!(
                refused(&by_rows(100), &facts)[0].code,
                "plan::partition_form"
            ),
        }
    }
}

#[test]
fn rows_that_are_no_position_are_refused_before_they_are_lost() {
    // GIVEN a declared range outside of which a value lies that is no number
    let mut step = by_rows(100);
    (step.start, step.end) = (Some(Bound("1".to_owned())), Some(Bound("50".to_owned())));
    let mut facts = integer_facts(1_000);
    partition(&mut facts).left_out = Some(LeftOut {
        behind: Tally::Exactly(9),
        ..LeftOut::NONE
    });
    assert_eq!(plan(&step, &facts).notes.len(), 1);
    // WHEN it is planned THEN it is refused, as the run would be at its end
    partition(&mut facts).left_out = Some(LeftOut {
        stray: Tally::Exactly(2),
        ..LeftOut::NONE
    });
    let problem = refused(&step, &facts).remove(0);
    assert_eq!(problem.code, "plan::rows_in_no_partition");
    assert!(
        problem
            .message
            .contains("2 rows whose id is not written as the others' are"),
        "{problem}"
    );
    assert!(
        problem.help.starts_with("bring the stray values"),
        "{problem}"
    );
}
