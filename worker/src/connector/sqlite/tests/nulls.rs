//! NULL where a declaration does not say so.

use super::{File, table};
use crate::connector::{Source, SourceProbe};
use highwater_common::facts::TableFacts;
use highwater_common::spec::ColumnRules;

async fn facts(file: &File, name: &str, column: &str) -> TableFacts {
    let probe = SourceProbe {
        defined: false,
        relation: table(name).into(),
        columns: ColumnRules::default(),
        bounds_declared: false,
        placing: None,
        partition_column: Some(column.to_owned()),
    };
    Source::probe(&file.source(), &probe).await.expect("probed")
}

#[tokio::test]
async fn a_primary_key_may_hold_null_except_where_it_is_the_row_id_or_the_storage() {
    let file = File::fresh();
    // GIVEN keys that SQLite keeps free of NULL, and keys that it does not
    for (declaration, is_kept) in [
        ("(id integer primary key, v)", true),
        ("(id INTEGER, v, primary key (id desc))", true),
        ("(id int not null primary key, v)", true),
        ("(id integer primary key, v) strict", true),
        ("(id int primary key, v) without rowid", true),
        ("(id integer primary key desc, v)", false),
        ("(id int primary key, v)", false),
        ("(id bigint, v, primary key (id))", false),
        ("(id integer, v int, primary key (id, v))", false),
    ] {
        let declaration = if declaration.ends_with("strict") {
            declaration.replace("v)", "v int)")
        } else {
            declaration.to_owned()
        };
        file.run(&format!(
            "drop table if exists t; create table t {declaration}; insert into t \
                           values (5, 1)"
        ))
        .await;
        // WHEN they are probed THEN only the former are taken at their word
        let found = facts(&file, "t", "id").await;
        let partition = found.partition.expect("asked for");
        assert_eq!(
            (partition.nullable, partition.null_rows),
            (!is_kept, Some(0)),
            "{declaration}"
        );
        assert_eq!(
            found.key.first().map(String::as_str),
            Some("id"),
            "{declaration}: no row lacks it"
        );
        // AND a key that a row lacks is none
        if !is_kept {
            file.run("insert into t values (null, 2)").await;
            let found = facts(&file, "t", "id").await;
            assert_eq!(
                found.partition.and_then(|partition| partition.null_rows),
                Some(1),
                "{declaration}"
            );
            assert_eq!(found.key, Vec::<String>::new(), "{declaration}");
        }
    }
}

#[tokio::test]
async fn what_a_view_or_a_virtual_table_declares_binds_no_row() {
    let file = File::fresh();
    file.run(
        "create table t (id integer not null); create view v as select id from t; create \
              virtual table r using rtree(id, a, b)",
    )
    .await;
    for (name, nullable) in [("t", false), ("v", true), ("r", true)] {
        let found = facts(&file, name, "id").await;
        assert_eq!(
            found.partition.map(|partition| partition.nullable),
            Some(nullable),
            "{name}"
        );
    }
}
