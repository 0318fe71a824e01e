//! What the connector refuses, and what it says then.

use super::server::PASSWORD;
use super::*;
use crate::connector::PrepareOutcome;

#[tokio::test]
async fn resident_rows_without_receipt_are_not_replaced_unasked() {
    // GIVEN a row in the target that no run has written
    let mut world = World::with_orders(10).await;
    world.wh("insert into orders values (3, 'resident')").await;
    // WHEN an attempt writes the range THEN it fails and says what to do
    let message = refused(
        world.written(1).await,
        ErrorClass::Permanent,
        "resident_rows",
    );
    assert!(
        message.contains("holds 1 rows") && message.contains("write.resident: replace"),
        "{message}"
    );
    world.no_open_transaction().await;
    assert_eq!(world.orders().await, 1);
    // WHEN it was asked to replace them THEN it does
    let tx = world.held(2).await.begin().await.expect("begun");
    let mut request = world.write_request(all(), RowFormat::CopyText).await;
    request.resident = ExistingRows::Replace;
    let (tx, receipt) = world.write(tx, &request).await.expect("written");
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
    else {
        panic!("lost")
    };
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
    assert_eq!(world.orders().await, 10);
    // WHEN another run of the stream comes THEN the rows are its own, and are replaced
    let mut claim = world.claim_of(1, all()).await;
    claim.run = RunId::from_bytes([8; 16]);
    let tx = world.held_for(&claim).await.begin().await.expect("begun");
    let request = world
        .write_request(ids(Some(2), Some(4)), RowFormat::CopyText)
        .await;
    let (tx, receipt) = world.write(tx, &request).await.expect("written");
    assert_eq!(receipt.rows, 2);
    drop(tx);
    // but rows without a position are not
    world
        .wh("alter table orders drop constraint orders_pkey, alter id drop not null")
        .await;
    world
        .wh("insert into orders values (null, 'resident')")
        .await;
    claim.fence = fence(2);
    let tx = world.held_for(&claim).await.begin().await.expect("begun");
    let request = world.write_request(Slice::Null, RowFormat::CopyText).await;
    refused(
        world.write(tx, &request).await,
        ErrorClass::Permanent,
        "resident_rows",
    );
}

#[tokio::test]
async fn a_replaced_range_that_counts_differently_rolls_back() {
    // GIVEN a trigger that moves a row out of its range
    let mut world = World::with_orders(10).await;
    world
        .wh(
            "create function moves() returns trigger language plpgsql as $$ \
             begin if new.id = 4 then new.id = 400; end if; return new; end $$; \
             create trigger moves before insert on orders for each row execute function moves()",
        )
        .await;
    let tx = world.held(1).await.begin().await.expect("begun");
    let request = world
        .write_request(ids(Some(1), Some(11)), RowFormat::CopyBinary)
        .await;
    // WHEN the range is written THEN it is refused with both counts, and nothing is there
    let message = refused(
        world.write(tx, &request).await,
        ErrorClass::Permanent,
        "replaced_range_counts_differently",
    );
    assert!(
        message.contains("10 rows") && message.contains("9 are found"),
        "{message}"
    );
    world.no_open_transaction().await;
    assert_eq!(world.orders().await, 0);
    // GIVEN one that drops a row WHEN it is written THEN the counts of source and COPY differ
    // already
    world
        .wh(
            "create or replace function moves() returns trigger language plpgsql as $$ \
             begin if new.id = 4 then return null; end if; return new; end $$",
        )
        .await;
    let message = refused(
        world.written(2).await,
        ErrorClass::Permanent,
        "count_mismatch",
    );
    assert!(
        message.contains("10 rows") && message.contains("and 9 written"),
        "{message}"
    );
}

#[tokio::test]
async fn a_login_that_fails_tells_where_and_never_the_password() {
    let world = World::start().await;
    let source = |url: &str| {
        PostgresSource::new(
            url,
            "legacy".parse().expect("a name"),
            world.supervisor.clone(),
        )
    };
    let probe = SourceProbe {
        defined: false,
        relation: table_name("orders").into(),
        columns: ColumnRules::default(),
        bounds_declared: false,
        placing: None,
        partition_column: None,
    };
    // GIVEN a wrong password WHEN it connects THEN user and place are told
    let wrong = source(
        &world
            .server
            .url_as("postgres", "hunter2-is-wrong", "legacy"),
    )
    .expect("a good url");
    let error = wrong.probe(&probe).await.expect_err("refused");
    assert_eq!(
        (error.report.class, error.report.code.as_str()),
        (ErrorClass::Permanent, "wrong_password")
    );
    assert!(error.to_string().contains("legacy (127.0.0.1:"), "{error}");
    let told = format!("{error} {error:?} {wrong:?}");
    // AND the password nowhere, neither the wrong one nor another
    assert!(
        !told.contains("hunter2") && !told.contains(PASSWORD),
        "{told}"
    );
    // GIVEN a database or a server that is not there THEN the class tells whether to try again
    let nowhere = source(&world.server.url("nowhere")).expect("a good url");
    refused(
        nowhere.probe(&probe).await,
        ErrorClass::Permanent,
        "unknown_database",
    );
    let unreachable = source("postgres://u:hunter2@127.0.0.1:1/db").expect("a good url");
    let message = refused(
        unreachable.probe(&probe).await,
        ErrorClass::Unreachable,
        "unreachable",
    );
    assert!(
        message.contains("legacy (127.0.0.1:1/db)") && !message.contains("hunter2"),
        "{message}"
    );
    // GIVEN a URL that is none THEN not even its text is told
    let error = source("postgres://u:hunter2@[/x").expect_err("refused");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let mut world = World::with_orders(1).await;
    world.legacy("create table customers (id int)").await;
    // WHEN a table is misspelled THEN the nearest names are listed
    let message = refused(
        world.facts("oders", "id").await,
        ErrorClass::Permanent,
        "unknown_table",
    );
    assert!(
        message.contains("no table oders on legacy (") && message.contains("orders, customers"),
        "{message}"
    );
    // WHEN a column is THEN the columns are
    let message = refused(
        world.facts("orders", "idd").await,
        ErrorClass::Permanent,
        "unknown_column",
    );
    assert!(
        message.contains("no column idd; it has id, note"),
        "{message}"
    );
    let probe = |exclude: &str, partition: Option<&str>| SourceProbe {
        defined: false,
        bounds_declared: false,
        placing: None,
        relation: table_name("orders").into(),
        columns: ColumnRules {
            exclude: vec![exclude.to_owned()],
            ..ColumnRules::default()
        },
        partition_column: partition.map(str::to_owned),
    };
    refused(
        world.source.probe(&probe("nothing", None)).await,
        ErrorClass::Permanent,
        "unknown_column",
    );
    // WHEN the column has no positions, or the table is the ledger's THEN that is said
    world
        .legacy("alter table orders add who uuid, add ratio double precision")
        .await;
    for column in ["who", "ratio"] {
        let message = refused(
            world.facts("orders", column).await,
            ErrorClass::Permanent,
            "unsupported_partition_column",
        );
        assert!(
            message.contains("read a view that casts this one"),
            "{message}"
        );
    }
    refused(
        world.facts("highwater.task", "token").await,
        ErrorClass::Permanent,
        "ledger_table",
    );
    // WHEN the source's table changes between plan and read THEN its rows are not taken for the
    // planned ones
    let request = world.read_request(all(), RowFormat::CopyBinary).await;
    world
        .legacy("alter table orders alter id type integer")
        .await;
    let message = refused(
        world.source.read(&request).await.map(|_| ()),
        ErrorClass::Permanent,
        "schema_changed",
    );
    assert!(
        message.contains("was bigint") && message.contains("is integer now"),
        "{message}"
    );
}

#[tokio::test]
async fn a_target_of_another_cluster_is_refused_until_it_is_adopted() {
    let world = World::with_orders(1).await;
    let other = ClusterId::from_bytes([7; 16]);
    // GIVEN a target of one cluster WHEN another one probes, prepares, claims or fences THEN it is
    // refused
    let mut request = prepare_request(world.columns().await);
    request.cluster = other;
    let message = refused(
        world.target.prepare(&request).await,
        ErrorClass::Permanent,
        "target_of_another_cluster",
    );
    assert!(
        message.contains("highwater cluster adopt") && message.contains(&CLUSTER.to_string()),
        "{message}"
    );
    let mut claim = world.claim_of(1, all()).await;
    claim.cluster = other;
    refused(
        world.target.claim(&claim).await,
        ErrorClass::Permanent,
        "target_of_another_cluster",
    );
    // WHEN it adopts THEN it may, and the former one may no more
    assert_eq!(
        world.target.adopt(&other).await.expect("adopted"),
        Some(CLUSTER)
    );
    assert_eq!(
        world.target.prepare(&request).await.expect("an answer"),
        PrepareOutcome::Superseded
    );
    (request.stream.run, request.stream.token) = (RunId::from_bytes([8; 16]), fence(2).token);
    assert_eq!(
        world
            .target
            .prepare(&request)
            .await
            .expect("an answer")
            .warnings(),
        Vec::<String>::new()
    );
    (claim.run, claim.fence) = (request.stream.run, fence(3));
    assert!(matches!(
        world.target.claim(&claim).await,
        Ok(ClaimOutcome::Held(_))
    ));
    refused(
        world.prepare().await,
        ErrorClass::Permanent,
        "target_of_another_cluster",
    );
}

#[tokio::test]
async fn a_target_that_changed_since_it_was_reconciled_is_not_written() {
    let world = World::with_orders(1).await;
    let mut claim = world.claim_of(1, all()).await;
    claim.fingerprint.push('0');
    let message = refused(
        world.target.claim(&claim).await,
        ErrorClass::Transient,
        "target_changed",
    );
    assert!(message.contains(&claim.fingerprint), "{message}");
}

#[tokio::test]
async fn a_ledger_that_cannot_be_used_is_refused_for_its_reason() {
    let mut world = World::with_orders(1).await;
    let claim = world.claim_of(1, all()).await;
    // GIVEN a role that may not read the ledger WHEN it claims THEN that is said, and nothing else
    world
        .wh(&format!(
            "create role stranger login password '{PASSWORD}'; \
             grant usage on schema highwater to stranger; \
             grant execute on function pg_control_system to stranger"
        ))
        .await;
    let url = world.server.url_as("stranger", PASSWORD, "wh");
    let stranger = PostgresTarget::new(
        &url,
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
    );
    refused(
        stranger.expect("a good url").claim(&claim).await,
        ErrorClass::Permanent,
        "missing_right",
    );
    // GIVEN a ledger of an earlier or of a later version WHEN anybody asks for it THEN it is left
    // as it is
    for (format, advice) in [(1, "an earlier version"), (99, "update the worker")] {
        world
            .wh(&format!("update highwater.meta set format = {format}"))
            .await;
        let message = refused(
            world.prepare().await,
            ErrorClass::Permanent,
            "unknown_ledger_format",
        );
        assert!(message.contains(advice), "{message}");
    }
    // GIVEN that the ledger is dropped WHEN an attempt claims THEN it is told so
    world.wh("drop schema highwater cascade").await;
    let message = refused(
        world.target.claim(&claim).await,
        ErrorClass::Permanent,
        "ledger_missing",
    );
    assert!(message.contains("was it dropped?"), "{message}");
}
