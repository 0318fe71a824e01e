//! Types that share a name: what they are made of decides, and the plan says what the run would.

use std::time::Duration;

use highwater_integration_tests::{Binary, Finished};

use super::contracts::{Place, World};

const LIMIT: Duration = Duration::from_secs(120);
/// What the source's types are made of, and a table that uses each.
const SOURCE: &str = "
    create type mood as enum ('sad', 'ok');
    create domain price as numeric(12,4);
    create type addr as (street text, city text);
    create type span as range (subtype = float8);
    create type visit as (at addr, moods mood[]);
    create table t (id int primary key, m mood, ms mood[], p price, a addr, s span, v visit);
    insert into t values (1, 'ok', '{sad}', 12.3456, row('Main St', 'Paris'), '[0.1,0.2)', row(row('a', 'b'), '{ok}'))";

/// Runs a command on a pipeline that copies `t`, in a folder of its own.
async fn highwater(
    world: &World,
    name: &str,
    command: &[&str],
    from: &Place,
    to: &Place,
) -> Finished {
    let folder = world.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "version: 1\nname: {name}\nconnections:\n  source: {}\n  target: {}\nsteps:\n  t:\n    \
         strategy: backfill\n    from: {{connection: source, table: t}}\n    to: {{connection: \
         target, table: t}}\n    partition: {{by: integer, column: id}}\n    write: {{mode: \
         append}}\n",
        from.spec("SOURCE_URL"),
        to.spec("TARGET_URL")
    );
    std::fs::write(folder.join("pipeline.yaml"), text).unwrap();
    let highwater = Binary::highwater()
        .await
        .unwrap()
        .args(command.iter().copied());
    let highwater = highwater
        .env("SOURCE_URL", from.url())
        .env("TARGET_URL", to.url());
    highwater.current_folder(&folder).run(LIMIT).await.unwrap()
}

#[tokio::test]
async fn same_name_with_another_definition_is_refused() {
    let world = World::start().await;
    let legacy = world.postgres("legacy").await;
    legacy.execute(SOURCE).await;
    let types = [
        (
            "m",
            "mood",
            "create type mood as enum ('ok', 'sad')",
            "labels in another order: 'ok' comes before 'sad'",
        ),
        (
            "m",
            "mood",
            "create type mood as enum ('sad', 'glad')",
            "has no label 'ok'",
        ),
        (
            "ms",
            "mood[]",
            "create type mood as enum ('ok')",
            "of its elements: the target's type has no label 'sad'",
        ),
        (
            "p",
            "price",
            "create domain price as numeric(12,0)",
            "the target would round values in silence",
        ),
        (
            "a",
            "addr",
            "create type addr as (city text, street text)",
            "field street is number 2 there and 1 here",
        ),
        (
            "a",
            "addr",
            "create type addr as (street text, city text, zip int)",
            "has 3 fields, and the source's 2",
        ),
        (
            "a",
            "addr",
            "create type addr as (street text, city varchar(3))",
            "of its field city: the target's type is narrower",
        ),
        (
            "s",
            "span",
            "create type span as range (subtype = float4)",
            "of its bounds: the target would round",
        ),
        (
            "v",
            "visit",
            "create type mood as enum ('sad', 'ok'); create type addr as (city text, street text); \
             create type visit as (at addr, moods mood[])",
            "of its field at: its field street is number 2 there and 1 here",
        ),
    ];
    for (at, (column, type_name, definition, reason)) in types.into_iter().enumerate() {
        // GIVEN a target whose type has the source's name, and is made otherwise
        let name = format!("wh{at}");
        let wh = world.postgres(&name).await;
        let others = ["m", "ms", "p", "a", "s", "v"]
            .into_iter()
            .filter(|other| *other != column);
        let others: Vec<String> = others.map(|other| format!("{other} text")).collect();
        wh.execute(&format!(
            "{definition}; create table t (id int primary key, {column} {type_name}, {})",
            others.join(", ")
        ))
        .await;
        // WHEN it is planned, and run
        for (command, exit) in [("plan", 7), ("run", 7)] {
            let finished =
                highwater(&world, &name, &[command, "pipeline.yaml"], &legacy, &wh).await;
            let said = format!("{}{}", finished.stdout, finished.stderr);
            // THEN both refuse it by the column's name, and say what differs
            assert_eq!(
                finished.status.code(),
                Some(exit),
                "{command} {definition}: {said}"
            );
            assert!(
                said.contains(&format!("column {column} is public.{type_name} in t")),
                "{command} {definition}: {said}"
            );
            assert!(said.contains(reason), "{command} {definition}: {said}");
        }
        assert_eq!(wh.count("t").await, 0, "{definition}");
    }
    // GIVEN a target whose types are made alike, of more labels, or under another name
    let wh = world.postgres("alike").await;
    wh.execute(
        "create type mood as enum ('so', 'sad', 'la', 'ok'); create domain cost as numeric(14,4) \
         check (value > 0); \
         create type addr as (street text, city text); create type span as range (subtype = \
         float8); \
         create type visit as (at addr, moods mood[]); \
         create table t (id int primary key, m mood, ms mood[], p cost, a addr, s span, v visit)",
    )
    .await;
    // WHEN it is run THEN every value is there
    let finished = highwater(&world, "alike", &["run", "pipeline.yaml"], &legacy, &wh).await;
    assert!(
        finished.status.success(),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    let all = "select * from t order by id";
    assert_eq!(wh.digest(all).await, legacy.digest(all).await);
}
