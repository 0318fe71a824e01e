//! Files: what is never created, never changed, never mistaken for another.

use std::process::Stdio;

use highwater_common::assignment::{ErrorClass, Receipt};
use highwater_common::spec::{ColumnRules, OnSchemaChange, Triggers, WriteMode};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{File, column, table, text};
use crate::connector::contract::{Given, TargetFixture};
use crate::connector::faulty::{Fault, Faulty, Gate, TargetOp};
use crate::connector::{
    Claim, ClaimOutcome, CommitOutcome, GuardOutcome, GuardStep, MergeBy, PrepareRequest,
    RowFormat, Rows, SliceRows, Source, SourceProbe, StreamRequest, Target, TargetProbe,
    WriteRequest,
};
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::{ColumnKind, CursorForm, Engine};
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, TaskId};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::ExistingRows;
use highwater_common::stream::PlanMark;
use highwater_common::token::{Fence, FencingToken, Nonce};

fn slice() -> Slice {
    let end = Some(Cursor::Integer(10));
    Slice::Range(CursorRange::new(Some(Cursor::Integer(0)), end).expect("not empty"))
}

fn claim(fingerprint: &str, attempt: u32) -> Claim {
    Claim {
        cluster: ClusterId::from_bytes([1; 16]),
        run: RunId::from_bytes([7; 16]),
        task: TaskId::from_bytes([5; 16]),
        generation: 1,
        phase: 1,
        ordinal: 0,
        plan: PlanMark::of(1, &DocumentDigest::of(b"cut")),
        step: "orders".parse().expect("a legal name"),
        stream: "s".to_owned(),
        slice: Some(slice()),
        runs_alone: false,
        attempt: AttemptNo::new(attempt),
        fence: Fence {
            token: FencingToken::new(1, attempt).expect("in range"),
            nonce: Nonce::new(u128::from(attempt)),
        },
        spec_digest: DocumentDigest::of(b"spec"),
        fingerprint: fingerprint.to_owned(),
    }
}

fn prepare(file: &File) -> PrepareRequest {
    PrepareRequest {
        twin: None,
        cluster: ClusterId::from_bytes([1; 16]),
        table: table("items"),
        source: table("items").into(),
        columns: file.columns(),
        source_engine: Engine::Sqlite,
        key: vec!["id".to_owned()],
        placing: None,
        partition_column: Some("pos".to_owned()),
        mode: WriteMode::ReplacePartition,
        triggers: Triggers::Fire,
        on_schema_change: OnSchemaChange::Fail,
        stream: StreamRequest {
            stream: "s".to_owned(),
            run: RunId::from_bytes([7; 16]),
            plan: Some(PlanMark::of(1, &DocumentDigest::of(b"cut"))),
            token: FencingToken::new(1, 0).expect("in range"),
            kind: Some(CursorKind::Integer),
        },
    }
}

fn write(file: &File) -> WriteRequest {
    WriteRequest {
        table: table("items"),
        columns: file.columns(),
        rows: Rows::Slice(SliceRows {
            column: "pos".to_owned(),
            form: CursorForm::Native,
            slice: slice(),
        }),
        mode: WriteMode::ReplacePartition,
        merge_by: MergeBy::default(),
        triggers: Triggers::Fire,
        resident: ExistingRows::Fail,
        shrinking: highwater_common::spec::Shrinking::default(),
        format: RowFormat::Values,
        stream: "s".to_owned(),
    }
}

fn probe() -> TargetProbe {
    TargetProbe {
        twin: None,
        cluster: ClusterId::from_bytes([1; 16]),
        table: table("items"),
        source_engine: Engine::Postgres,
        columns: Vec::new(),
        partition: Some(("pos".to_owned(), CursorKind::Integer)),
        stream: "s".to_owned(),
        triggers: Triggers::Fire,
        exchange: false,
    }
}

fn source_probe(name: &str) -> SourceProbe {
    SourceProbe {
        defined: false,
        relation: table(name).into(),
        columns: ColumnRules::default(),
        bounds_declared: false,
        placing: None,
        partition_column: None,
    }
}

#[tokio::test]
async fn a_missing_source_is_refused_by_path_and_connection_and_never_created() {
    let file = File::fresh();
    let refusal = Source::probe(&file.source(), &source_probe("items"))
        .await
        .expect_err("there is no file")
        .report;
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "unknown_database")
    );
    assert!(
        refusal.message.contains("data.db") && refusal.message.contains("`legacy`"),
        "{}",
        refusal.message
    );
    assert!(!file.path().exists());
}

#[tokio::test]
async fn a_target_in_a_missing_folder_is_refused_and_no_folder_is_made() {
    let file = File::fresh();
    let path = file.path().with_file_name("nowhere").join("data.db");
    let target = super::SqliteTarget::new(
        path.clone(),
        "wh".parse().expect("a legal name"),
        super::supervisor(),
    );
    for refusal in [
        target.probe(&probe()).await.expect_err("no folder").report,
        target
            .prepare(&prepare(&file))
            .await
            .expect_err("no folder")
            .report,
    ] {
        assert_eq!(
            (refusal.class, refusal.code.as_str()),
            (ErrorClass::Permanent, "unknown_database")
        );
        assert!(refusal.message.contains("nowhere"), "{}", refusal.message);
    }
    assert!(!path.parent().expect("it has one").exists());
}

#[tokio::test]
async fn a_text_file_is_no_database() {
    let file = File::fresh();
    std::fs::write(
        file.path(),
        "id;note\n1;this is a csv file and longer than the header of a database, which it lacks\n",
    )
    .expect("writes");
    let refusal = Source::probe(&file.source(), &source_probe("items"))
        .await
        .expect_err("no database")
        .report;
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "not_a_database")
    );
}

#[tokio::test]
async fn a_source_is_never_switched_to_wal() {
    // GIVEN a source with a rollback journal
    let file = File::fresh();
    file.run("create table items (id integer primary key)")
        .await;
    let before = std::fs::read(file.path()).expect("readable");
    // WHEN it is probed
    Source::probe(&file.source(), &source_probe("items"))
        .await
        .expect("probes");
    // THEN not a byte of it has changed, and nothing lies beside it
    assert_eq!(std::fs::read(file.path()).expect("readable"), before);
    assert!(!file.path().with_file_name("data.db-wal").exists());
}

#[tokio::test]
async fn the_ledgers_tables_are_never_a_source_nor_a_target() {
    let file = File::fresh();
    file.target()
        .prepare(&prepare(&file))
        .await
        .expect("prepares");
    let refusal = Source::probe(&file.source(), &source_probe("_highwater_task"))
        .await
        .expect_err("refused")
        .report;
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "ledger_table")
    );
    // AND they are not among the tables that a message lists
    let refusal = Source::probe(&file.source(), &source_probe("itmes"))
        .await
        .expect_err("refused")
        .report;
    assert!(
        refusal.message.contains("`items`") && !refusal.message.contains("_highwater_"),
        "{}",
        refusal.message
    );
    let request = PrepareRequest {
        table: table("_HIGHWATER_run"),
        ..prepare(&file)
    };
    assert_eq!(
        file.target()
            .prepare(&request)
            .await
            .expect_err("refused")
            .report
            .code,
        "ledger_table"
    );
}

#[tokio::test]
async fn a_target_made_anew_is_another_target() {
    // GIVEN a plan for a target
    let file = File::fresh();
    let target = file.target();
    target.prepare(&prepare(&file)).await.expect("prepares");
    let planned = target.probe(&probe()).await.expect("probes").fingerprint;
    // WHEN the file is deleted and made anew
    for name in ["data.db", "data.db-wal", "data.db-shm"] {
        std::fs::remove_file(file.path().with_file_name(name)).ok();
    }
    target.prepare(&prepare(&file)).await.expect("prepares");
    // THEN a claim of that plan is refused
    assert_ne!(
        target.probe(&probe()).await.expect("probes").fingerprint,
        planned
    );
    let refusal = target
        .claim(&claim(&planned, 1))
        .await
        .expect_err("another target")
        .report;
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "target_changed")
    );
}

#[tokio::test]
async fn a_file_replaced_under_an_open_transaction_loses_no_commit() {
    // GIVEN an attempt that has written
    let file = File::fresh();
    let target = file.target();
    target.prepare(&prepare(&file)).await.expect("prepares");
    let fingerprint = target.probe(&probe()).await.expect("probes").fingerprint;
    let ClaimOutcome::Held(claimed) = target
        .claim(&claim(&fingerprint, 1))
        .await
        .expect("an answer")
    else {
        panic!("held")
    };
    let tx = claimed.begin().await.expect("begins");
    let (tx, receipt) = tx
        .write(&write(&file), &mut Given::rows(0..10))
        .await
        .expect("writes");
    // WHEN the file is replaced before its guard
    let restored = file.path().with_file_name("restored.db");
    std::fs::copy(file.path(), &restored).expect("copies");
    std::fs::rename(&restored, file.path()).expect("renames");
    // THEN the guard refuses: the commit would go to a file that nobody can open any more
    let Err(error) = tx.guard(&GuardStep::last(receipt)).await else {
        panic!("refused")
    };
    assert_eq!(error.report.code, "target_changed");
}

#[tokio::test]
async fn an_attempt_waits_its_turn_and_a_dropped_wait_frees_it() {
    // GIVEN an attempt held between its write and its guard
    let file = File::fresh();
    file.target()
        .prepare(&prepare(&file))
        .await
        .expect("prepares");
    let fingerprint = file
        .target()
        .probe(&probe())
        .await
        .expect("probes")
        .fingerprint;
    let faulty = Faulty::around(std::sync::Arc::new(file.target()));
    let gate = Gate::default();
    faulty.next(TargetOp::Guard, Fault::Hold(gate.clone()));
    let first = async {
        let ClaimOutcome::Held(claimed) = faulty
            .claim(&claim(&fingerprint, 1))
            .await
            .expect("an answer")
        else {
            panic!("held")
        };
        let tx = claimed.begin().await.expect("begins");
        let (tx, receipt) = tx
            .write(&write(&file), &mut Given::rows(0..10))
            .await
            .expect("writes");
        let GuardOutcome::Holds(guarded) = tx
            .guard(&GuardStep::last(receipt))
            .await
            .expect("an answer")
        else {
            panic!("holds")
        };
        guarded.commit().await
    };
    // WHEN a second one claims meanwhile, and a third gives up waiting
    let target = file.target();
    let second = async {
        gate.reached().await;
        let late = claim(&fingerprint, 3);
        let mut third = target.claim(&late);
        let waits = std::future::poll_fn(|context| {
            std::task::Poll::Ready(third.as_mut().poll(context).is_pending())
        });
        assert!(waits.await);
        drop(third);
        let (cluster, run) = (ClusterId::from_bytes([1; 16]), RunId::from_bytes([7; 16]));
        let (answer, ()) = tokio::join!(target.fence_run(&cluster, &run), async { gate.open() });
        answer
    };
    let (commit, report) = tokio::join!(first, second);
    // THEN each had its turn: the fence came after the commit
    assert!(matches!(commit, CommitOutcome::Committed(_)), "{commit:?}");
    assert_eq!(report.expect("fences").attempts, 0);
    let row = file
        .target()
        .ledger_row(&RunId::from_bytes([7; 16]), &TaskId::from_bytes([5; 16]))
        .await
        .expect("readable");
    assert_eq!(
        row.expect("claimed").receipt,
        Receipt {
            rows: 10,
            bytes: 100
        }
    );
}

#[tokio::test]
async fn a_commit_that_a_reader_holds_up_is_refused_and_can_be_tried_again() {
    // GIVEN a target with a rollback journal, an attempt that has written, and somebody in the
    // middle of reading the file
    let file = File::fresh();
    file.target()
        .prepare(&prepare(&file))
        .await
        .expect("prepares");
    file.run("pragma journal_mode = delete").await;
    let fingerprint = file
        .target()
        .probe(&probe())
        .await
        .expect("probes")
        .fingerprint;
    let ClaimOutcome::Held(claimed) = file
        .target()
        .claim(&claim(&fingerprint, 1))
        .await
        .expect("an answer")
    else {
        panic!("held")
    };
    let tx = claimed.begin().await.expect("begins");
    let (tx, receipt) = tx
        .write(&write(&file), &mut Given::rows(0..10))
        .await
        .expect("writes");
    let GuardOutcome::Holds(guarded) = tx
        .guard(&GuardStep::last(receipt))
        .await
        .expect("an answer")
    else {
        panic!("holds")
    };
    let mut reader = file.open().await;
    sqlx::raw_sql("begin; select count(*) from items")
        .execute(&mut reader)
        .await
        .expect("reads");
    // WHEN it commits
    let outcome = guarded.commit().await;
    // THEN it is told so, as something that passes, and nothing of it is there
    let CommitOutcome::Refused(error) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (error.report.class, error.report.code.as_str()),
        (ErrorClass::Transient, "database_locked")
    );
    sqlx::raw_sql("rollback")
        .execute(&mut reader)
        .await
        .expect("ends");
    assert_eq!(file.number("select count(*) from items").await, 0);
    assert_eq!(
        file.number("select count(*) from _highwater_task where state = 'O'")
            .await,
        1
    );
}

const CHILD: &str = "HIGHWATER_TEST_HOLDS_THE_LOCK_OF";

/// Not a test by itself: as a child process it is the zombie of the test below.
#[tokio::test]
#[allow(
    clippy::disallowed_methods,
    reason = "a child process is told its part by its environment"
)]
async fn a_zombie_in_a_process_of_its_own() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let target = super::SqliteTarget::new(
        path.into(),
        "wh".parse().expect("a legal name"),
        super::supervisor(),
    );
    let fingerprint = target.probe(&probe()).await.expect("probes").fingerprint;
    let ClaimOutcome::Held(claimed) = target
        .claim(&claim(&fingerprint, 1))
        .await
        .expect("an answer")
    else {
        panic!("held")
    };
    let _tx = claimed.begin().await.expect("begins");
    println!("\nthe zombie has begun");
    std::io::stdin().read_line(&mut String::new()).ok();
}

#[tokio::test]
async fn a_former_attempts_process_that_holds_the_write_lock_is_ended() {
    // GIVEN a former attempt in a process that hangs in its transaction
    let file = File::fresh();
    let target = file.target();
    target.prepare(&prepare(&file)).await.expect("prepares");
    let fingerprint = target.probe(&probe()).await.expect("probes").fingerprint;
    let name = "connector::sqlite::tests::files::a_zombie_in_a_process_of_its_own";
    let mut zombie = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(zombie.stdout.take().expect("piped")).lines();
    while lines
        .next_line()
        .await
        .expect("readable")
        .expect("the zombie begins")
        != "the zombie has begun"
    {}
    // WHEN its successor claims
    let refusal = target
        .claim(&claim(&fingerprint, 2))
        .await
        .expect_err("the lock is held")
        .report;
    // THEN the zombie is ended, and told about
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Resource, "former_attempt_ended"),
        "{}",
        refusal.message
    );
    assert!(!zombie.wait().await.expect("it ended").success());
    // AND the attempt after that goes on
    assert!(matches!(
        target
            .claim(&claim(&fingerprint, 3))
            .await
            .expect("an answer"),
        ClaimOutcome::Held(_)
    ));
}

#[tokio::test]
async fn a_strangers_lock_is_waited_for_and_named_and_the_stranger_lives() {
    use sqlx::Connection;

    let file = File::fresh();
    let target = file.target();
    target.prepare(&prepare(&file)).await.expect("prepares");
    let fingerprint = target.probe(&probe()).await.expect("probes").fingerprint;
    // GIVEN somebody else's transaction
    let mut stranger = file.open().await;
    sqlx::query("begin immediate")
        .execute(&mut stranger)
        .await
        .expect("begins");
    // WHEN an attempt claims
    let refusal = target
        .claim(&claim(&fingerprint, 1))
        .await
        .expect_err("the lock is held")
        .report;
    // THEN it may try again later, and a person knows whom to ask
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Resource, "write_lock_held")
    );
    assert!(
        refusal.message.contains(&std::process::id().to_string()),
        "{}",
        refusal.message
    );
    stranger.close().await.expect("closes");
    assert!(matches!(
        target
            .claim(&claim(&fingerprint, 2))
            .await
            .expect("an answer"),
        ClaimOutcome::Held(_)
    ));
}

#[tokio::test]
async fn rows_that_a_trigger_refuses_in_silence_are_missed() {
    let file = File::fresh();
    let target = file.target();
    target.prepare(&prepare(&file)).await.expect("prepares");
    file.run(
        "create trigger t before insert on items when new.id = 3 begin select raise(ignore); \
              end",
    )
    .await;
    let fingerprint = target.probe(&probe()).await.expect("probes").fingerprint;
    let ClaimOutcome::Held(claimed) = target
        .claim(&claim(&fingerprint, 1))
        .await
        .expect("an answer")
    else {
        panic!("held")
    };
    let tx = claimed.begin().await.expect("begins");
    let Err(error) = tx.write(&write(&file), &mut Given::rows(0..10)).await else {
        panic!("refused")
    };
    assert_eq!(
        (error.report.class, error.report.code.as_str()),
        (ErrorClass::Permanent, "count_mismatch")
    );
    assert!(
        error.report.message.contains("10") && error.report.message.contains('9'),
        "{}",
        error.report.message
    );
}

#[tokio::test]
async fn an_existing_table_of_another_shape_is_refused_with_every_difference() {
    let file = File::fresh();
    file.run(
        "create table items (id bigint primary key, pos int as (id) stored, extra text not \
              null)",
    )
    .await;
    let refusal = file
        .target()
        .prepare(&prepare(&file))
        .await
        .expect_err("another shape")
        .report;
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (ErrorClass::Permanent, "plan::missing_target_column")
    );
    for part in [
        "items lacks note",
        "column pos of the target table items is generated",
        "column extra of the target table",
    ] {
        assert!(refusal.message.contains(part), "{}", refusal.message);
    }
    // AND nothing was left behind
    assert_eq!(
        file.number(
            "select count(*) from sqlite_schema where name like '\\_highwater%' \
                            escape '\\'"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn an_existing_table_without_an_index_gets_a_warning() {
    let file = File::fresh();
    file.run("create table items (id bigint primary key, pos int not null, note)")
        .await;
    let warnings = file
        .target()
        .prepare(&prepare(&file))
        .await
        .expect("prepares")
        .warnings();
    assert_eq!(
        warnings,
        ["no index of items leads with pos: each partition scans the whole target table"]
    );
}

#[tokio::test]
async fn indexes_of_tables_whose_names_run_together_have_names_of_their_own() {
    // GIVEN two tables whose names and partition columns read alike when put together, and a table
    // of that very name
    let file = File::fresh();
    file.run("create table a_b_c_idx2 (x)").await;
    let of = |name: &str, column_name: &str| PrepareRequest {
        table: table(name),
        columns: vec![column(column_name, "date", ColumnKind::Text, true)],
        key: Vec::new(),
        placing: None,
        partition_column: Some(column_name.to_owned()),
        ..prepare(&file)
    };
    // WHEN both are prepared THEN each has its index
    for request in [of("a", "b_c"), of("a_b", "c")] {
        assert_eq!(
            file.target()
                .prepare(&request)
                .await
                .expect("prepared")
                .warnings(),
            Vec::<String>::new()
        );
        assert_eq!(
            file.target()
                .prepare(&request)
                .await
                .expect("prepared again")
                .warnings(),
            Vec::<String>::new()
        );
    }
    let names = "select group_concat(name) from (select name from sqlite_schema where type = \
                 'index' and sql is not null \
                 and name like 'a%' order by name)";
    assert_eq!(text(&file, names).await, "a_b_c_idx,a_b_c_idx3");
}

#[tokio::test]
async fn a_ledger_of_another_version_is_left_as_it_is() {
    for (format, advice) in [(1, "an earlier version"), (99, "a version that knows it")] {
        // GIVEN a ledger of an earlier or of a later version
        let file = File::fresh();
        let target = file.target();
        target.prepare(&prepare(&file)).await.expect("prepares");
        file.run(&format!("update _highwater_meta set format = {format}"))
            .await;
        // WHEN a run is to begin THEN it is refused
        let refusal = target
            .prepare(&prepare(&file))
            .await
            .expect_err("another version")
            .report;
        assert_eq!(
            (refusal.class, refusal.code.as_str()),
            (ErrorClass::Permanent, "unknown_ledger_format")
        );
        assert!(refusal.message.contains(advice), "{}", refusal.message);
    }
}
