//! How a partition column holds its positions on both sides: settled when a step is planned, or refused.

use super::*;

#[test]
fn times_that_sqlite_keeps_as_text_stay_text_in_a_created_table() {
    let mut facts = facts();
    facts.source.engine = Engine::Sqlite;
    let form = CursorForm::TextTime { separator_t: true, fraction_digits: 0, zulu: true };
    partition(&mut facts).form = form;
    // Whatever the column is declared as: the probe has seen what it holds.
    for declared in [ColumnKind::Text, ColumnKind::Any] {
        facts.source.columns[1].kind = declared;
        let plan = plan(&days(None, None), &facts);
        assert_eq!((plan.settled().target_form, plan.settled().columns[1].kind), (form, ColumnKind::Text));
    }
    partition(&mut facts).form = CursorForm::EpochMillis;
    let plan = plan(&days(None, None), &facts);
    assert_eq!(plan.settled().target_form, CursorForm::EpochMillis);
    assert_eq!(plan.settled().columns[1].kind, ColumnKind::Int64);
}

#[test]
fn a_target_whose_positions_have_another_form_is_refused_by_the_columns_name() {
    let time = |separator_t, fraction_digits, zulu| CursorForm::TextTime { separator_t, fraction_digits, zulu };
    let (zulu, plain, millis) = (time(true, 0, true), time(false, 0, false), time(false, 3, false));
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
        (lite, seconds, pg, Some(CursorForm::EpochMillis), Int64, None),
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
                assert_eq!(plan(&days(None, None), &facts).settled().target_form, form, "{written:?} {held:?}")
            }
            None => {
                let problems = refused(&days(None, None), &facts);
                assert_eq!(problems[0].code, "plan::partition_form", "{written:?} {held:?}");
                assert!(problems[0].message.starts_with("column created_at of "), "{}", problems[0]);
            }
        }
    }
}
