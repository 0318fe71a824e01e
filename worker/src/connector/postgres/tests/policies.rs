//! Row level security, on either side.

use highwater_common::spec::{ColumnRules, SourceRows};

use super::server::PASSWORD;
use super::*;

/// `orders` with four rows, of which policies let the role `clerk` see one; and who reads, or
/// writes, as that role.
async fn policed() -> World {
    let mut world = World::start().await;
    let sql = "create table orders (id bigint primary key, note text); insert into orders select \
               n, 'x' from generate_series(1, 4) n; \
               create view seen as select * from orders; create view whole as select * from orders; \
               create table secret (id bigint); \
               alter table orders enable row level security; create policy one on orders using (id \
               = 1); ";
    world
        .legacy(&format!(
            "create role clerk login password '{PASSWORD}'; {sql} \
             grant select on orders, seen, whole to clerk; alter view seen owner to clerk"
        ))
        .await;
    world
        .wh(&format!(
            "{sql} grant all on orders to clerk; grant create on database wh to clerk"
        ))
        .await;
    world
}

fn clerk(world: &World, rows: SourceRows) -> PostgresSource {
    let url = world.server.url_as("clerk", PASSWORD, "legacy");
    PostgresSource::new(
        &url,
        "legacy".parse().expect("a name"),
        world.supervisor.clone(),
    )
    .expect("a good url")
    .seeing(rows)
}

fn asked(table: &str) -> SourceProbe {
    SourceProbe {
        defined: false,
        relation: table_name(table).into(),
        columns: ColumnRules::default(),
        bounds_declared: false,
        placing: None,
        partition_column: Some("id".into()),
    }
}

#[tokio::test]
async fn hidden_rows_are_refused_unless_only_the_visible_ones_are_meant() {
    let world = policed().await;
    // GIVEN a role from which policies hide rows of a table, and of a view that reads it as that
    // role
    for table in ["orders", "seen"] {
        // WHEN all are meant THEN the probe is refused, and says what to do
        let refusal = clerk(&world, SourceRows::All).probe(&asked(table)).await;
        let message = refused(refusal, ErrorClass::Permanent, "row_level_security");
        for text in [
            "hides rows from clerk",
            "BYPASSRLS",
            "from.rows: visible",
            table,
        ] {
            assert!(message.contains(text), "{message}");
        }
        // WHEN the visible ones are meant THEN they are counted, and the facts say that there may
        // be others
        let facts = clerk(&world, SourceRows::Visible)
            .probe(&asked(table))
            .await
            .expect("probed");
        assert_eq!((facts.rows, facts.filtered), (1, true));
    }
    // AND what policies do not touch is read whole either way; a want of rights stays one
    for rows in [SourceRows::All, SourceRows::Visible] {
        let facts = clerk(&world, rows)
            .probe(&asked("whole"))
            .await
            .expect("probed");
        assert_eq!((facts.rows, facts.filtered), (4, false));
        refused(
            clerk(&world, rows).probe(&asked("secret")).await,
            ErrorClass::Permanent,
            "missing_right",
        );
    }
    let all = world
        .facts("orders", "id")
        .await
        .expect("probed by its owner");
    assert_eq!((all.rows, all.filtered), (4, false));
}

#[tokio::test]
async fn a_policy_that_comes_after_the_plan_lets_no_attempt_read_half() {
    let mut world = policed().await;
    // GIVEN a plan made before there were policies
    world
        .legacy("alter table orders disable row level security")
        .await;
    let request = world.read_request(all(), RowFormat::CopyBinary).await;
    assert!(
        !clerk(&world, SourceRows::All)
            .probe(&asked("orders"))
            .await
            .expect("probed")
            .filtered
    );
    world
        .legacy("alter table orders enable row level security")
        .await;
    // WHEN a partition is read THEN it is refused by name
    let refusal = clerk(&world, SourceRows::All).read(&request).await;
    refused(refusal, ErrorClass::Permanent, "row_level_security");
    // WHEN the visible rows are meant THEN those are read
    let mut rows = clerk(&world, SourceRows::Visible)
        .read(&request)
        .await
        .expect("reading");
    while rows.next().await.expect("read").is_some() {}
    assert_eq!(rows.rows(), 1);
}

#[tokio::test]
async fn a_target_whose_policies_hold_for_the_role_is_refused() {
    let mut world = policed().await;
    let url = world.server.url_as("clerk", PASSWORD, "wh");
    let target = PostgresTarget::new(
        &url,
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
    )
    .expect("a good url");
    let probe = TargetProbe {
        twin: None,
        cluster: CLUSTER,
        table: table_name("orders"),
        source_engine: Engine::Postgres,
        columns: Vec::new(),
        partition: Some(("id".into(), highwater_common::cursor::CursorKind::Integer)),
        stream: STREAM.into(),
        triggers: Triggers::Fire,
        exchange: false,
    };
    // GIVEN policies that hold for the role THEN the probe says so before anything is written
    let message = refused(
        target.probe(&probe).await,
        ErrorClass::Permanent,
        "row_level_security",
    );
    assert!(
        message.contains("holds for clerk") && message.contains("COPY"),
        "{message}"
    );
    // GIVEN that they do not THEN it finds the table
    world
        .wh("alter table orders disable row level security")
        .await;
    assert!(
        target
            .probe(&probe)
            .await
            .expect("probed")
            .table
            .is_some_and(|table| table.has_rows)
    );
}
