//! Tables for tests: one that nothing speaks against, to be made worse.

use proptest::prelude::*;
use std::time::Duration;

use super::*;
use crate::cursor::CursorKind;
use crate::facts::{Dependant, DependantKind, Engine, ForeignKey, OnDelete};
use crate::spec::TableName;

pub(super) fn name(table: &str) -> TableName {
    TableName {
        schema: Some("public".to_owned()),
        name: table.to_owned(),
    }
}

pub(super) fn column(name: &str, kind: CursorKind, moved_by: MovedBy) -> PositionColumn {
    PositionColumn {
        name: name.to_owned(),
        kind,
        nullable: false,
        null_rows: Some(0),
        indexed: true,
        span_days: Some(400),
        moved_by,
        doubts: Vec::new(),
    }
}

pub(super) fn log() -> ServerLog {
    ServerLog {
        wal_level: "logical".to_owned(),
        slots_free: 3,
        slots: 10,
        is_standby: false,
        role: "reader".to_owned(),
        may_replicate: true,
        may_publish: true,
        identity: ReplicaIdentity::Key,
        is_ordinary: true,
        kept_bytes: Some(50 << 30),
        bytes_per_second: Some(1 << 20),
    }
}

/// So many rows of 200 bytes, without a key, a column to go by, a log or a target.
pub(super) fn bare(rows: u64) -> TableAsFound {
    TableAsFound {
        table: name("orders"),
        engine: Engine::Postgres,
        rows,
        rows_exact: rows < 1_000_000,
        bytes: rows * 200,
        key: Vec::new(),
        key_cuts: false,
        columns: Vec::new(),
        changes: Some(Changes {
            inserted: 100,
            updated: 100,
            deleted: 0,
            seconds: 10 * 86_400,
        }),
        sight: Sight::Seen,
        log: LogAccess::Server(ServerLog {
            wal_level: "replica".to_owned(),
            ..log()
        }),
        target: Some(TargetSide {
            engine: Engine::Postgres,
            name: name("orders"),
            table: TargetTable::Missing,
        }),
    }
}

pub(super) fn stamped(rows: u64) -> TableAsFound {
    TableAsFound {
        key: vec!["order_id".to_owned()],
        columns: vec![
            column("order_id", CursorKind::Integer, MovedBy::Nobody),
            column("created_at", CursorKind::Instant, MovedBy::Nobody),
            column("updated_at", CursorKind::Instant, MovedBy::Server),
        ],
        ..bare(rows)
    }
}

pub(super) fn logged(rows: u64) -> TableAsFound {
    TableAsFound {
        key: vec!["order_id".to_owned()],
        log: LogAccess::Server(log()),
        ..bare(rows)
    }
}

/// A table whose key is a text, or several columns.
pub(super) fn keyed(rows: u64) -> TableAsFound {
    TableAsFound {
        key: vec!["code".to_owned(), "line".to_owned()],
        key_cuts: true,
        ..bare(rows)
    }
}

fn columns() -> impl Strategy<Value = Vec<PositionColumn>> {
    let kinds = [
        CursorKind::Integer,
        CursorKind::Instant,
        CursorKind::Civil,
        CursorKind::Date,
    ];
    let moved = [MovedBy::Server, MovedBy::Application, MovedBy::Nobody];
    let one = (
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(moved.to_vec()),
        any::<[bool; 2]>(),
        prop::option::of(0..3_u64),
        any::<bool>(),
        prop::option::of(any::<u64>()),
    );
    let one = one.prop_map(
        |(kind, moved_by, [nullable, indexed], null_rows, doubted, span_days)| PositionColumn {
            nullable,
            null_rows,
            indexed,
            span_days,
            doubts: if doubted {
                vec!["anybody may stamp it".to_owned()]
            } else {
                Vec::new()
            },
            ..column("at", kind, moved_by)
        },
    );
    prop::collection::vec(one, 0..4)
}

fn logs() -> impl Strategy<Value = LogAccess> {
    let identities = [
        ReplicaIdentity::Key,
        ReplicaIdentity::Index,
        ReplicaIdentity::Full,
        ReplicaIdentity::Nothing,
    ];
    let server = (
        prop::sample::select(vec!["logical", "replica"]),
        0..3_u32,
        any::<[bool; 4]>(),
        prop::sample::select(identities.to_vec()),
        prop::option::of(any::<u64>()),
        prop::option::of(any::<u64>()),
    );
    let server = server.prop_map(
        |(level, slots_free, [standby, replicate, publish, ordinary], identity, kept, rate)| {
            LogAccess::Server(ServerLog {
                wal_level: level.to_owned(),
                slots_free,
                slots: 10,
                is_standby: standby,
                role: "reader".to_owned(),
                may_replicate: replicate,
                may_publish: publish,
                identity,
                is_ordinary: ordinary,
                kept_bytes: kept,
                bytes_per_second: rate,
            })
        },
    );
    prop_oneof![1 => Just(LogAccess::NoLog), 4 => server, 2 => Just(LogAccess::Server(log()))]
}

fn targets() -> impl Strategy<Value = Option<TargetSide>> {
    let engines = prop::sample::select(Engine::ALL);
    let table = any::<[bool; 3]>().prop_map(|[is_there, referenced, viewed]| {
        let references = ForeignKey {
            name: "lines_fk".to_owned(),
            table: "public.lines".to_owned(),
            on_delete: OnDelete::Cascade,
        };
        let view = Dependant {
            kind: DependantKind::MaterializedView,
            name: "public.totals".to_owned(),
            foreign_owner: None,
        };
        match (is_there, referenced, viewed) {
            (false, true, true) => TargetTable::Unseen("it is asleep".to_owned()),
            (false, _, _) => TargetTable::Missing,
            (true, _, _) => TargetTable::Found(TargetAsFound {
                referenced_by: referenced.then_some(references).into_iter().collect(),
                dependants: viewed.then_some(view).into_iter().collect(),
            }),
        }
    });
    let side = (engines, table).prop_map(|(engine, table)| TargetSide {
        engine,
        name: name("orders"),
        table,
    });
    prop::option::of(side)
}

/// Around each threshold, and far from all.
fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            99_999,
            100_000,
            999_999,
            1_000_000,
            5_000_000,
            5_000_001,
            u64::MAX
        ]),
        any::<u64>(),
        0..10_000_000_u64,
    ]
}

pub(super) fn tables() -> impl Strategy<Value = TableAsFound> {
    let sights = vec![
        Sight::OneWriter,
        Sight::Seen,
        Sight::Standby,
        Sight::Hidden {
            role: "reader".to_owned(),
        },
    ];
    let changes = (any::<u64>(), 0..3_u64, 0..3_u64, any::<u64>()).prop_map(
        |(inserted, updated, deleted, seconds)| Changes {
            inserted,
            updated,
            deleted,
            seconds,
        },
    );
    let parts = (
        sizes(),
        sizes(),
        any::<[bool; 3]>(),
        columns(),
        prop::option::of(changes),
        prop::sample::select(sights),
        logs(),
        targets(),
    );
    parts.prop_map(
        |(rows, bytes, [keyed, ordered, exact], columns, changes, sight, log, target)| {
            TableAsFound {
                bytes,
                rows_exact: exact,
                key: if keyed {
                    vec!["id".to_owned()]
                } else {
                    Vec::new()
                },
                key_cuts: keyed && ordered,
                columns,
                changes,
                sight,
                log,
                target,
                ..bare(0).sized(rows)
            }
        },
    )
}

impl TableAsFound {
    fn sized(self, rows: u64) -> Self {
        Self { rows, ..self }
    }
}

/// Names that mean something to YAML, to SQL or to the pipeline file.
pub(super) fn odd_names() -> impl Strategy<Value = String> {
    let odd = [
        "orders",
        "Order Lines",
        "a.b",
        "on",
        "null",
        "12",
        "0x1f",
        "1e3",
        "{x}",
        "${param:x}",
        "#x",
        "a: b",
        "- x",
        "it's",
        "\"q\"",
        "\\",
        "\u{7f}",
        "\u{2028}x",
        "",
        "~",
        "Größe",
        "2024-01-01",
    ];
    prop_oneof![
        prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        ".{0,12}"
    ]
}

pub(super) fn wishes() -> impl Strategy<Value = Wishes> {
    let fresh = prop::sample::select(vec![0, 5, 60, 299, 300, 3_600, 86_400, 1_000_000]);
    let parts = (
        prop::option::of(fresh),
        any::<[bool; 3]>(),
        any::<u32>(),
        prop::option::of(any::<u64>()),
    );
    parts.prop_map(
        |(fresh, [once, critical, deletes_matter], slots, bytes_per_second)| Wishes {
            fresh: fresh.map(Duration::from_secs),
            once,
            critical,
            deletes_matter,
            slots,
            bytes_per_second,
        },
    )
}
