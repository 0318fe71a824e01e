//! Partition columns: the forms that a probe tells, and that the slices of a table are all of it.

use highwater_common::assignment::ErrorClass;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{CursorForm, PartitionFacts};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::ColumnRules;

use super::{File, table};
use crate::connector::{
    ConnectorError, ReadRequest, RowBatch, RowFormat, Rows, SliceRows, Source, SourceProbe,
};

/// A table whose column `at` is declared as `declared` and holds these SQL literals.
async fn file(declared: &str, values: &[&str]) -> File {
    let file = File::fresh();
    file.run(&format!("create table t (at {declared})")).await;
    for value in values {
        file.run(&format!("insert into t values ({value})")).await;
    }
    file
}

async fn partition(file: &File) -> Result<PartitionFacts, ConnectorError> {
    let probe = SourceProbe {
        defined: false,
        relation: table("t").into(),
        columns: ColumnRules::default(),
        bounds_declared: false,
        placing: None,
        partition_column: Some("AT".to_owned()),
    };
    Ok(Source::probe(&file.source(), &probe)
        .await?
        .partition
        .expect("a column was named"))
}

fn time(separator_t: bool, fraction_digits: u8, zulu: bool) -> CursorForm {
    CursorForm::TextTime {
        separator_t,
        fraction_digits,
        zulu,
    }
}

#[tokio::test]
async fn a_probe_tells_the_form_of_a_calendar() {
    for (declared, values, kind, form) in [
        (
            "text",
            vec!["'2013-01-05'", "null", "'2014-02-01'"],
            CursorKind::Date,
            CursorForm::TextDate,
        ),
        (
            "datetime",
            vec!["'2013-01-05 05:00:00'"],
            CursorKind::Civil,
            time(false, 0, false),
        ),
        (
            "datetime",
            vec!["'2013-01-05T05:00:00.25Z'", "'2013-01-05T05:00:00.50Z'"],
            CursorKind::Instant,
            time(true, 2, true),
        ),
        (
            "timestamp",
            vec!["1357362000", "0"],
            CursorKind::Instant,
            CursorForm::EpochSeconds,
        ),
        (
            "timestamp",
            vec!["1357362000000"],
            CursorKind::Instant,
            CursorForm::EpochMillis,
        ),
        (
            "integer",
            vec!["1357362000", "null"],
            CursorKind::Integer,
            CursorForm::Native,
        ),
        ("integer", vec![], CursorKind::Integer, CursorForm::Native),
        ("date", vec![], CursorKind::Date, CursorForm::TextDate),
    ] {
        let facts = partition(&file(declared, &values).await)
            .await
            .expect("one form throughout");
        assert_eq!(
            (facts.kind, facts.form),
            (kind, form),
            "{declared} {values:?}"
        );
        assert_eq!(facts.column, "at", "the catalog's own spelling");
        assert_eq!(
            facts.null_rows,
            Some(values.iter().filter(|value| **value == "null").count() as u64)
        );
    }
}

#[tokio::test]
async fn bounds_are_positions() {
    let file = file("text", &["'2013-01-05'", "'2014-02-01'", "null"]).await;
    let facts = partition(&file).await.expect("dates");
    assert_eq!(
        facts.min.map(|at| at.to_string()).as_deref(),
        Some("2013-01-05")
    );
    assert_eq!(
        facts.max.map(|at| at.to_string()).as_deref(),
        Some("2014-02-01")
    );
    assert!(!facts.indexed && facts.nullable);
}

#[tokio::test]
async fn a_column_of_several_forms_is_refused_with_an_example() {
    for (declared, values, example) in [
        ("text", vec!["'2013-01-05'", "'05.01.2013'"], "05.01.2013"),
        (
            "text",
            vec!["'2013-01-05'", "'2013-01-05 10:00:00'"],
            "10:00:00",
        ),
        (
            "text",
            vec!["'2013-01-05T10:00:00Z'", "'2013-01-05T10:00:00+02:00'"],
            "+02:00",
        ),
        (
            "text",
            vec!["'2013-01-05T10:00:00'", "'2013-01-05T10:00:00.5'"],
            ".5",
        ),
        ("date", vec!["'2013-01-05'", "20130105"], "20130105"),
        ("integer", vec!["1", "1.5"], "1.5"),
        ("text", vec!["'monday'"], "a text like 'xxxxxx'"),
        ("real", vec!["1.5"], "1.5"),
        (
            "timestamp",
            vec!["1357362000", "1357362000000"],
            "1357362000000",
        ),
        ("text", vec!["'2013-01-05'", "'2013-02-31'"], "2013-02-31"),
    ] {
        let refusal = partition(&file(declared, &values).await)
            .await
            .expect_err("several forms")
            .report;
        assert_eq!(
            (refusal.class, refusal.code.as_str()),
            (ErrorClass::Permanent, "partition_form"),
            "{values:?}"
        );
        assert!(
            refusal.message.contains("`at`") && refusal.message.contains(example),
            "{}",
            refusal.message
        );
    }
}

#[tokio::test]
async fn the_slices_of_a_text_calendar_cover_every_row_once() {
    // GIVEN rows at, just below and just above each bound, and one without a time
    let values = [
        "'2013-01-01T00:00:00.000Z'",
        "'2013-01-01T23:59:59.999Z'",
        "'2013-01-02T00:00:00.000Z'",
        "null",
        "'2013-01-02T00:00:00.001Z'",
        "'2012-12-31T23:59:59.999Z'",
        "'2013-01-03T00:00:00.000Z'",
    ];
    let file = file("text", &values).await;
    let facts = partition(&file).await.expect("one form");
    // WHEN they are read by days
    let day = |day: i64| Some(Cursor::Instant((15_706 + day) * 86_400_000_000));
    let range = |start, end| Slice::Range(CursorRange::new(start, end).expect("not empty"));
    let slices = [
        range(None, day(0)),
        range(day(0), day(1)),
        range(day(1), day(2)),
        range(day(2), None),
        Slice::Null,
    ];
    let mut counts = Vec::new();
    for slice in slices {
        let request = ReadRequest {
            relation: table("t").into(),
            columns: vec![super::column(
                "at",
                "text",
                highwater_common::facts::ColumnKind::Text,
                true,
            )],
            rows: Rows::Slice(SliceRows {
                column: "at".to_owned(),
                form: facts.form,
                slice,
            }),
            format: RowFormat::Values,
        };
        let mut rows = Source::read(&file.source(), &request).await.expect("reads");
        while let Some(batch) = rows.next().await.expect("reads") {
            assert!(matches!(batch, RowBatch::Rows(_)));
        }
        counts.push(rows.rows());
    }
    // THEN each lies in its own
    assert_eq!(counts, [1, 2, 2, 1, 1]);
}

#[tokio::test]
async fn days_written_as_digits_are_refused_by_name() {
    let file = file("date", &["20240301", "20240328"]).await;
    let refused = partition(&file).await.expect_err("no seconds");
    assert_eq!(
        (refused.report.class, refused.report.code.as_str()),
        (ErrorClass::Permanent, "partition_form")
    );
    assert!(
        refused
            .report
            .message
            .contains("20240301, up to 20240328: days written as digits"),
        "{refused}"
    );
}
