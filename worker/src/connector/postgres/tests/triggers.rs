//! Which triggers and rules act on a load, wherever in a tree of tables they are.

use highwater_common::facts::Reaction;

use super::*;
use crate::connector::postgres::triggers::read_reactions;

async fn reactions(world: &mut World, table: &str) -> Vec<Reaction> {
    let oid: i64 = sqlx::query_scalar("select to_regclass($1)::oid::int8")
        .bind(table)
        .fetch_one(&mut world.wh)
        .await
        .expect("a table");
    read_reactions(&mut world.wh, oid).await.expect("read")
}

fn names(found: &[Reaction], acts: impl Fn(&Reaction) -> bool) -> Vec<String> {
    found
        .iter()
        .filter(|one| acts(one))
        .map(|one| format!("{} {} +{}", one.table, one.name, one.alike))
        .collect()
}

#[tokio::test]
async fn a_trigger_acts_on_a_load_where_its_rows_are_stored() {
    let mut world = World::start().await;
    let function = "create function f() returns trigger language plpgsql as 'begin return null; \
                    end'";
    let trigger =
        |name: &str, on: &str| format!("create trigger {name} {on} execute function f();");
    // GIVEN a partitioned table with triggers of its own and of a partition, two of them alike in
    // two partitions
    let sql = [
        format!("{function}; create table p (id int primary key) partition by range (id);"),
        "create table p1 partition of p for values from (0) to (10);".to_owned(),
        "create table p2 partition of p for values from (10) to (20);".to_owned(),
        "create table other (id int references p);".to_owned(),
        trigger("whole", "after insert on p for each row"),
        trigger("once", "before delete on p for each statement"),
        trigger("never", "before insert on p1 for each statement"),
        trigger("part", "after insert on p1 for each row"),
        trigger("part", "after insert on p2 for each row"),
        trigger("updates", "after update on p for each row"),
    ];
    world.wh(&sql.concat()).await;
    // THEN statement triggers count where they are named, row triggers where rows are, and neither
    // foreign keys nor updates
    let found = reactions(&mut world, "p").await;
    assert_eq!(
        names(&found, |one| one.on_insert),
        ["public.p whole +0", "public.p1 part +1"]
    );
    assert_eq!(names(&found, |one| one.on_delete), ["public.p once +0"]);
    // AND a partition that is loaded by its own name has its parent's row trigger
    let found = reactions(&mut world, "p1").await;
    assert_eq!(
        names(&found, |one| one.on_insert),
        [
            "public.p1 never +0",
            "public.p1 part +0",
            "public.p1 whole +0"
        ]
    );
    // WHEN the parent's is disabled in all of its copies but one THEN it still acts; in all, no
    // more
    world
        .wh("alter table p1 disable trigger whole; alter table only p disable trigger whole")
        .await;
    assert!(
        reactions(&mut world, "p")
            .await
            .iter()
            .any(|one| one.name == "whole" && one.fires)
    );
    world.wh("alter table p2 disable trigger whole").await;
    assert!(
        !reactions(&mut world, "p")
            .await
            .iter()
            .any(|one| one.name == "whole")
    );
}

#[tokio::test]
async fn a_table_that_others_inherit_from_deletes_their_rows_and_inserts_none() {
    let mut world = World::start().await;
    // GIVEN a parent whose child has triggers of its own, and triggers and rules that act for other
    // sessions
    world
        .wh(
            "create function f() returns trigger language plpgsql as 'begin return null; end'; \
             create table a (id int primary key); create table c () inherits (a); \
             create trigger ins after insert on c for each row execute function f(); \
             create trigger del after delete on c for each row execute function f(); \
             create trigger replicas after insert on a for each row execute function f(); \
             alter table a enable replica trigger replicas; \
             create trigger always after insert on a for each row execute function f(); \
             alter table a enable always trigger always; \
             create rule log as on insert to a do also notify loaded; \
             create rule keep as on delete to a where old.id = 1 do instead nothing; \
             create rule off as on insert to a do instead nothing; alter table a disable rule off",
        )
        .await;
    let found = reactions(&mut world, "a").await;
    // THEN the child's count for what is deleted, and each is told by the sessions that it acts in
    assert_eq!(
        names(&found, |one| one.on_delete),
        ["public.a keep +0", "public.c del +0"]
    );
    assert_eq!(
        names(&found, |one| one.on_insert && one.fires),
        ["public.a log +0", "public.a always +0"]
    );
    assert_eq!(
        names(&found, |one| one.fires_if_skipped),
        ["public.a always +0", "public.a replicas +0"]
    );
    assert_eq!(
        found[0].when,
        "on delete do instead where a condition holds"
    );
}
