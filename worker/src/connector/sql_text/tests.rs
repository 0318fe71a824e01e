//! Names, literals and positions as text.

use highwater_common::range::CursorRange;
use proptest::prelude::*;

use super::*;

fn literal(cursor: Cursor, form: CursorForm) -> String {
    Sql::new(Dialect::Postgres, "")
        .cursor(cursor, form)
        .as_str()
        .to_owned()
}

#[test]
fn a_name_or_literal_with_a_quote_stays_a_name_or_literal() {
    let table = TableName {
        schema: Some("od\"d".into()),
        name: "t; drop table x".into(),
    };
    let sql = Sql::new(Dialect::Postgres, "select ")
        .table(&table)
        .text(", ")
        .literal("it's");
    assert_eq!(
        sql.as_str(),
        "select \"od\"\"d\".\"t; drop table x\", 'it''s'"
    );
}

#[test]
fn a_type_name_that_is_more_than_a_type_becomes_text() {
    let typed = |name| {
        Sql::new(Dialect::Postgres, "")
            .type_name(name)
            .as_str()
            .to_owned()
    };
    assert_eq!(typed("numeric(12,2)"), "numeric(12,2)");
    assert_eq!(
        typed("timestamp(3) with time zone"),
        "timestamp(3) with time zone"
    );
    assert_eq!(typed("\"char\"[]"), "\"char\"[]");
    assert_eq!(typed("int); drop table x; --"), "text");
    assert_eq!(typed("\"char\"; drop table x"), "text");
    assert_eq!(typed("\"OrderKind\""), "text");
}

#[test]
fn slices_are_half_open_and_leave_null_to_its_own_slice() {
    let slice = |slice: Slice| {
        Sql::new(Dialect::Postgres, "")
            .slice("id", CursorForm::Native, &slice)
            .as_str()
            .to_owned()
    };
    let range = |start, end| Slice::Range(CursorRange::new(start, end).expect("not empty"));
    let (one, nine) = (Some(Cursor::Integer(1)), Some(Cursor::Integer(9)));
    assert_eq!(
        slice(range(one, nine)),
        "\"id\" >= '1'::bigint and \"id\" < '9'::bigint"
    );
    assert_eq!(slice(range(None, nine)), "\"id\" < '9'::bigint");
    assert_eq!(slice(range(one, None)), "\"id\" >= '1'::bigint");
    assert_eq!(slice(range(None, None)), "\"id\" is not null");
    assert_eq!(slice(Slice::Null), "\"id\" is null");
}

#[test]
fn text_is_compared_by_its_bytes() {
    let range = CursorRange::new(Some(Cursor::Date(0)), Some(Cursor::Date(1))).expect("not empty");
    let sql =
        Sql::new(Dialect::Postgres, "").slice("at", CursorForm::TextDate, &Slice::Range(range));
    assert_eq!(
        sql.as_str(),
        r#""at" collate "C" >= '1970-01-01' and "at" collate "C" < '1970-01-02'"#
    );
}

#[test]
fn oids_are_compared_with_oids_however_far_the_bounds_reach() {
    let slice = |start, end| {
        let range = CursorRange::new(
            Option::map(start, Cursor::Integer),
            Option::map(end, Cursor::Integer),
        );
        let slice = Slice::Range(range.expect("not empty"));
        Sql::new(Dialect::Postgres, "")
            .slice("o", CursorForm::Oid, &slice)
            .as_str()
            .to_owned()
    };
    assert_eq!(
        slice(Some(-5), Some(9)),
        r#""o" >= '0'::oid and "o" < '9'::oid"#
    );
    assert_eq!(
        slice(Some(0), Some(4_294_967_295)),
        r#""o" >= '0'::oid and "o" < '4294967295'::oid"#
    );
    assert_eq!(
        slice(Some(7), Some(4_294_967_296)),
        r#""o" >= '7'::oid and "o" is not null"#
    );
    assert_eq!(slice(Some(4_294_967_296), None), "false");
    assert_eq!(slice(None, Some(-1)), r#""o" < '0'::oid"#);
    assert_eq!(slice(None, None), r#""o" is not null"#);
}

#[test]
fn positions_are_literals_in_every_form() {
    let at = Cursor::Instant(1_500_000);
    assert_eq!(
        literal(at, CursorForm::Native),
        "'1970-01-01 00:00:01.500000+00'::timestamptz"
    );
    assert_eq!(literal(at, CursorForm::EpochSeconds), "2");
    assert_eq!(literal(at, CursorForm::EpochMillis), "1500");
    let zulu = CursorForm::TextTime {
        separator_t: true,
        fraction_digits: 3,
        zulu: true,
    };
    assert_eq!(literal(at, zulu), "'1970-01-01T00:00:01.500Z'");
    assert_eq!(
        literal(Cursor::Date(-1), CursorForm::TextDate),
        "'1969-12-31'"
    );
    assert_eq!(
        literal(Cursor::Date(-1), CursorForm::Native),
        "('1970-01-01'::date + (-1))"
    );
    assert_eq!(
        literal(Cursor::Integer(i64::MIN), CursorForm::Native),
        "'-9223372036854775808'::bigint"
    );
    assert_eq!(
        literal(Cursor::Civil(i64::MAX), CursorForm::Native),
        "('1970-01-01 00:00:00'::timestamp + '106751991 days 14454.775807 seconds'::interval)"
    );
}

proptest! {
    #[test]
    fn days_read_as_the_calendar_says(days in -719_000_i32..2_900_000) {
        let (year, month, day) = civil_of(i64::from(days));
        prop_assert_eq!(format!("{year:04}-{month:02}-{day:02}"), Cursor::Date(days).to_string());
    }
}
