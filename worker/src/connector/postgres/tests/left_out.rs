//! Rows outside of a range, counted where that is cheap and not otherwise.

use std::time::Duration;

use highwater_common::left_out::{COUNTED_MAX, LeftOut, Tally};

use super::*;
use crate::connector::LeftOutRequest;

/// The rows of `table` whose `at` is not from 11 to 20.
async fn left_out(world: &World, table: &str, within: Duration) -> LeftOut {
    let request = LeftOutRequest {
        table: table_name(table),
        partition_column: "at".into(),
        form: CursorForm::Native,
        whole: CursorRange::new(Some(Cursor::Integer(11)), Some(Cursor::Integer(21)))
            .expect("not empty"),
        within,
    };
    world.source.count_left_out(&request).await.expect("counts")
}

#[tokio::test]
async fn what_lies_outside_is_counted_where_that_is_cheap_and_told_as_unknown_where_not() {
    let mut world = World::start().await;
    // GIVEN a table without an index on the column, a view of it, one that is slow, and one with an
    // index
    world
        .legacy(
            "create table plain (id int primary key, at int); \
             insert into plain select n, nullif(n, 15) from generate_series(1, 100) n; \
             create view seen as select * from plain; \
             create function slow(int) returns int language plpgsql volatile as \
               'begin perform pg_sleep(0.05); return $1; end'; \
             create view slow as select id, slow(at) as at from plain; \
             create table indexed as select * from plain; create index on indexed (at); analyze",
        )
        .await;
    let minute = Duration::from_mins(1);
    let found = LeftOut {
        before: Tally::Exactly(10),
        behind: Tally::Exactly(80),
        null: Tally::Exactly(1),
        stray: Tally::Exactly(0),
    };
    // WHEN they are small THEN all are counted; a view that is slow once for each row is asked for
    // each row once
    for table in ["plain", "seen", "indexed", "slow"] {
        assert_eq!(left_out(&world, table, minute).await, found, "{table}");
    }
    // WHEN there is no time THEN the numbers are unknown, and that is no error
    let unknown = LeftOut {
        before: Tally::Unknown,
        behind: Tally::Unknown,
        null: Tally::Unknown,
        ..LeftOut::NONE
    };
    assert_eq!(
        left_out(&world, "slow", Duration::from_millis(200)).await,
        unknown
    );
    // WHEN they are large THEN only the one with an index is counted
    world
        .legacy("update pg_class set reltuples = 2000000 where relname in ('plain', 'indexed')")
        .await;
    assert_eq!(left_out(&world, "plain", minute).await, unknown);
    assert_eq!(left_out(&world, "indexed", minute).await, found);
    // AND what the server keeps to NOT NULL needs no count at all
    world
        .legacy(
            "update plain set at = 15 where at is null; alter table plain alter at set not \
                  null",
        )
        .await;
    let unknown = LeftOut {
        null: Tally::Exactly(0),
        ..unknown
    };
    world
        .legacy("update pg_class set reltuples = 2000000 where relname = 'plain'")
        .await;
    assert_eq!(left_out(&world, "plain", minute).await, unknown);
}

#[tokio::test]
async fn more_than_a_million_rows_are_not_counted_further() {
    let mut world = World::start().await;
    // GIVEN more rows before the range than are counted
    let rows = COUNTED_MAX + 10;
    world
        .legacy(&format!(
            "create unlogged table many (at int not null); insert into many select 1 from \
             generate_series(1, {rows}); \
             create index on many (at)"
        ))
        .await;
    // WHEN an index finds them THEN it stops there
    let found = left_out(&world, "many", Duration::from_mins(5)).await;
    assert_eq!(
        found,
        LeftOut {
            before: Tally::MoreThan(COUNTED_MAX),
            ..LeftOut::NONE
        }
    );
}
