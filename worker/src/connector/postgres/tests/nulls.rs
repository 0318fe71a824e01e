//! NOT NULL, as the rows keep to it.

use super::*;

/// Whether the probe thinks that the partition column may hold NULL, and the key that it found.
async fn may_be_null(world: &World, table: &str) -> (bool, Vec<String>) {
    let facts = world.facts(table, "at").await.expect("probed");
    let partition = facts.partition.expect("asked for");
    let column = facts
        .columns
        .iter()
        .find(|column| column.name == "at")
        .expect("a column");
    assert_eq!(
        column.nullable, partition.nullable,
        "a created column takes what the partitions bring"
    );
    (partition.nullable, facts.key)
}

#[tokio::test]
async fn not_null_is_believed_where_the_server_keeps_all_rows_to_it() {
    let mut world = World::start().await;
    world
        .legacy(
            "create domain day as date not null; \
             create table plain (id int primary key, at date not null); \
             create table parted (id int, at date not null, primary key (id, at)) partition by \
             range (at); \
             create table parted_1 partition of parted for values from (minvalue) to (maxvalue); \
             create table parent (id int primary key, at date not null); \
             create table child (at date not null) inherits (parent); create table grandchild () \
             inherits (child); \
             create view seen as select * from plain; \
             create table odd (id int primary key, at date not null); create table odd_child () \
             inherits (odd); \
             create table odd_grandchild () inherits (odd_child); alter table odd_grandchild alter \
             at drop not null; \
             create extension file_fdw; create server files foreign data wrapper file_fdw; \
             create foreign table afar (id int, at date not null) server files options (filename \
             '/dev/null'); \
             create table mixed (id int, at date not null) partition by range (at); \
             create foreign table mixed_1 partition of mixed for values from (minvalue) to \
             (maxvalue) server files \
             options (filename '/dev/null'); \
             create table domains (id int primary key, at date not null, d day)",
        )
        .await;
    // GIVEN tables, partitions and children that all have the constraint THEN it is believed
    let key = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(may_be_null(&world, "plain").await, (false, key(&["id"])));
    assert_eq!(
        may_be_null(&world, "parted").await,
        (false, key(&["id", "at"]))
    );
    // AND a key of a parent says nothing of its children's rows
    assert_eq!(may_be_null(&world, "parent").await, (false, Vec::new()));
    // GIVEN a grandchild without it, rows of elsewhere, or a view THEN it is not
    for table in ["odd", "afar", "mixed", "seen"] {
        assert_eq!(
            may_be_null(&world, table).await,
            (true, Vec::new()),
            "{table}"
        );
    }
    // AND a domain's is only checked where a value is made
    world
        .legacy("insert into domains values (1, '2024-01-01', (select d from domains where false))")
        .await;
    let facts = world.facts("domains", "at").await.expect("probed");
    let nullable: Vec<bool> = facts.columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, false, true]);
}
