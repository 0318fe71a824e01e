//! What a source says of a table, and the rows it gives.

use std::collections::BTreeSet;
use std::time::Duration;

use highwater_common::assignment::ErrorClass;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{CursorForm, TableFacts};
use highwater_common::left_out::{LeftOut, Tally};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{ColumnRules, TableName};

use super::SourceFixture;
use super::bench::failure;
use crate::connector::{
    LeftOutRequest, ReadRequest, RowBatch, RowFormat, Rows, SliceRows, SourceProbe, Value,
};

/// Facts are what a plan is made of.
pub async fn a_probe_tells_columns_key_rows_and_bounds<F: SourceFixture>() {
    let fixture = F::fresh(100).await;
    let facts = facts(&fixture).await;
    assert_eq!(
        facts
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>(),
        ["id", "pos", "note"]
    );
    assert_eq!(
        facts
            .columns
            .iter()
            .map(|column| column.nullable)
            .collect::<Vec<_>>(),
        [false, true, true]
    );
    assert_eq!((facts.rows, facts.rows_exact), (100, true));
    assert_eq!(facts.key, ["id"]);
    assert!(facts.bytes > 0);
    let partition = facts.partition.expect("a column was named");
    assert_eq!(
        (partition.column.as_str(), partition.kind),
        ("pos", CursorKind::Integer)
    );
    assert_eq!(
        (partition.min, partition.max),
        (Some(Cursor::Integer(10)), Some(Cursor::Integer(1_000)))
    );
    assert_eq!((partition.nullable, partition.indexed), (true, true));
    assert!(partition.null_rows.is_none_or(|rows| rows == 14));
    // AND an excluded column is not read
    let mut probe = source_probe(&fixture);
    probe.columns.exclude = vec!["note".to_owned()];
    let facts = fixture.source().probe(&probe).await.expect("probes");
    assert_eq!(facts.columns.len(), 2);
}

/// A table without rows is a fact, not a fault.
pub async fn an_empty_table_has_no_bounds<F: SourceFixture>() {
    let fixture = F::fresh(0).await;
    let facts = facts(&fixture).await;
    let partition = facts.partition.expect("a column was named");
    assert_eq!((facts.rows, partition.min, partition.max), (0, None, None));
}

/// Strategy rule S2: the ranges and the NULL partition together are the table.
pub async fn the_slices_cover_every_row_once_even_null<F: SourceFixture>() {
    let fixture = F::fresh(3_000).await;
    let facts = facts(&fixture).await;
    let at = |value| Some(Cursor::Integer(value));
    let range = |start, end| Slice::Range(CursorRange::new(start, end).expect("not empty"));
    let slices = [
        range(None, at(500)),
        range(at(500), at(501)),
        range(at(501), at(29_000)),
        range(at(29_000), None),
    ];
    let mut seen = BTreeSet::new();
    let mut rows = 0;
    for slice in slices.into_iter().chain([Slice::Null]) {
        for row in read(&fixture, &facts, slice).await {
            let id: i64 = shown(&row[0])
                .expect("never NULL")
                .parse()
                .expect("a whole number");
            rows += 1;
            assert!(seen.insert(id), "{id} came twice");
            let pos = (id % 7 != 0).then(|| (id * 10).to_string());
            let note = (id % 5 != 0).then(|| format!("note {id}"));
            assert_eq!((shown(&row[1]), shown(&row[2])), (pos, note));
        }
    }
    assert_eq!((rows, seen.len()), (3_000, 3_000));
    assert_eq!(
        read(&fixture, &facts, Slice::Range(CursorRange::ALL))
            .await
            .len(),
        3_000 - 3_000 / 7
    );
}

/// A misspelt name is told with what there is.
pub async fn an_unknown_table_is_refused_by_name<F: SourceFixture>() {
    let fixture = F::fresh(1).await;
    let mut probe = source_probe(&fixture);
    probe.relation = TableName {
        schema: None,
        name: "itmes".to_owned(),
    }
    .into();
    let refusal = failure(fixture.source().probe(&probe).await);
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "unknown_table")
    );
    assert!(
        refusal.message.contains("itmes") && refusal.message.contains("items"),
        "{}",
        refusal.message
    );
}

/// So is a misspelt column.
pub async fn an_unknown_column_is_refused_by_name<F: SourceFixture>() {
    let fixture = F::fresh(1).await;
    let mut probe = source_probe(&fixture);
    probe.partition_column = Some("pso".to_owned());
    let refusal = failure(fixture.source().probe(&probe).await);
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "unknown_column")
    );
    assert!(
        refusal.message.contains("pso") && refusal.message.contains("pos"),
        "{}",
        refusal.message
    );
}

/// An attempt that is given up leaves the source as it was.
pub async fn a_dropped_stream_lets_the_source_go<F: SourceFixture>() {
    let fixture = F::fresh(5_000).await;
    let facts = facts(&fixture).await;
    for _ in 0..5 {
        let mut stream = fixture
            .source()
            .read(&read_request(
                &fixture,
                &facts,
                Slice::Range(CursorRange::ALL),
            ))
            .await
            .expect("reads");
        assert!(stream.next().await.expect("a first batch").is_some());
        drop(stream);
    }
    assert_eq!(read(&fixture, &facts, Slice::Null).await.len(), 5_000 / 7);
}

/// What no slice of a range takes is known, and by what it lies outside.
pub async fn rows_outside_of_a_range_are_counted_by_kind<F: SourceFixture>() {
    let fixture = F::fresh(700).await;
    let at = |value| Some(Cursor::Integer(value));
    let count = async |start, end| {
        let request = LeftOutRequest {
            table: fixture.table(),
            partition_column: "pos".to_owned(),
            form: facts(&fixture)
                .await
                .partition
                .expect("a column was named")
                .form,
            whole: CursorRange::new(start, end).expect("not empty"),
            within: Duration::from_mins(1),
        };
        fixture
            .source()
            .count_left_out(&request)
            .await
            .expect("counts")
    };
    let null = Tally::Exactly(100);
    // Positions are ten times the ids, of which every seventh has none.
    for (start, end, before, behind) in [
        (None, None, 0, 0),
        (at(80), None, 6, 0),
        (None, at(80), 0, 594),
        (at(75), at(6_990), 6, 1),
        (at(10), at(6_991), 0, 0),
    ] {
        let found = count(start, end).await;
        let expected = LeftOut {
            before: Tally::Exactly(before),
            behind: Tally::Exactly(behind),
            null,
            ..LeftOut::NONE
        };
        assert_eq!(found, expected, "{start:?} to {end:?}");
    }
}

fn source_probe<F: SourceFixture>(fixture: &F) -> SourceProbe {
    SourceProbe {
        defined: false,
        relation: fixture.table().into(),
        columns: ColumnRules::default(),
        bounds_declared: false,
        placing: None,
        partition_column: Some("pos".to_owned()),
    }
}

async fn facts<F: SourceFixture>(fixture: &F) -> TableFacts {
    fixture
        .source()
        .probe(&source_probe(fixture))
        .await
        .expect("the source can be probed")
}

fn read_request<F: SourceFixture>(fixture: &F, facts: &TableFacts, slice: Slice) -> ReadRequest {
    ReadRequest {
        relation: fixture.table().into(),
        columns: facts.columns.clone(),
        rows: Rows::Slice(SliceRows {
            column: "pos".to_owned(),
            form: facts.partition.as_ref().expect("a column was named").form,
            slice,
        }),
        format: RowFormat::Values,
    }
}

async fn read<F: SourceFixture>(fixture: &F, facts: &TableFacts, slice: Slice) -> Vec<Vec<Value>> {
    let source = fixture.source();
    assert!(
        source.formats(&facts.columns).contains(&RowFormat::Values),
        "typed values are every source's format"
    );
    let mut stream = source
        .read(&read_request(fixture, facts, slice))
        .await
        .expect("reads");
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await.expect("the source holds") {
        match batch {
            RowBatch::Rows(batch) => rows.extend(batch),
            RowBatch::Copy(_) => panic!("values were asked for"),
        }
    }
    assert_eq!(stream.rows(), rows.len() as u64);
    assert!(stream.bytes() > 0 || rows.is_empty());
    rows
}

/// A value as text, whichever class it came in.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Integer(value) => Some(value.to_string()),
        Value::Real(value) => Some(value.to_string()),
        Value::Text(text) => Some(text.clone()),
        Value::Bytes(bytes) | Value::RawText(bytes) => Some(format!("{bytes:?}")),
    }
}

/// Where a chunk ends: in the order of positions, within the slice, and nowhere when the slice has
/// not so many rows.
pub async fn the_position_behind_so_many_rows_is_told<F: SourceFixture>() {
    // GIVEN rows at 10, 20, … but for every seventh, which has no position
    let fixture = F::fresh(70).await;
    let form = facts(&fixture)
        .await
        .partition
        .expect("a column was named")
        .form;
    let at = |value| Some(Cursor::Integer(value));
    let ask = async |start, end, before| {
        let of = SliceRows {
            column: "pos".to_owned(),
            form,
            slice: Slice::Range(CursorRange::new(start, end).expect("not empty")),
        };
        let (source, table) = (fixture.source(), fixture.table());
        let asked = source.position_at(&table, &of, CursorKind::Integer, before);
        asked.await.expect("an answer")
    };
    assert_eq!(ask(None, None, 0).await, at(10));
    assert_eq!(ask(None, None, 6).await, at(80));
    assert_eq!(ask(at(25), at(60), 0).await, at(30));
    assert_eq!(ask(at(25), at(60), 2).await, at(50));
    assert_eq!(ask(at(25), at(60), 3).await, None);
    assert_eq!(ask(None, None, 60).await, None);
}

/// All of them, or those of slices.
pub async fn rows_are_counted_for_a_check<F: SourceFixture>() {
    let fixture = F::fresh(21).await;
    let source = fixture.source();
    let count = async |rows: Vec<Rows>| {
        let within = std::time::Duration::from_secs(60);
        let counted = source.count(&fixture.table().into(), &rows, within).await;
        counted.expect("it counts")
    };
    let of = |slice: Slice| {
        Rows::Slice(SliceRows {
            column: "pos".to_owned(),
            form: CursorForm::Native,
            slice,
        })
    };
    // every seventh has no position
    let range = CursorRange::new(Some(Cursor::Integer(10)), Some(Cursor::Integer(100)));
    let some = Slice::Range(range.expect("a range"));
    assert_eq!(count(vec![Rows::All]).await, 21);
    assert_eq!(count(vec![of(some)]).await, 8);
    assert_eq!(count(vec![of(some), of(Slice::Null)]).await, 11);
}
