//! The harness itself: what it starts works, can be killed and frozen, and is gone afterwards.

use std::path::Path;
use std::time::Duration;

use highwater_integration_tests::digest::{digest_both_sqlite, digest_postgres, digest_sqlite};
use highwater_integration_tests::{Binary, Etcd, Postgres, PostgresOptions, Signal, until};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_postgres_server_keeps_its_rows_over_a_kill_and_a_restart() {
    // GIVEN a server with a committed row
    let mut server = Postgres::start().await.unwrap();
    let url = server.create_database("shop").await.unwrap();
    let mut conn = server.connect("shop").await.unwrap();
    sqlx::raw_sql("create table t (a int); insert into t values (7)")
        .execute(&mut conn)
        .await
        .unwrap();
    let before = digest_postgres(&url, "t", "a").await.unwrap();
    // WHEN it is killed in the midst of a transaction and started again, and then restarted in good
    // order
    sqlx::raw_sql("begin; insert into t values (8)")
        .execute(&mut conn)
        .await
        .unwrap();
    server.kill().unwrap();
    assert!(server.connect("shop").await.is_err());
    server.restart().await.unwrap();
    server.restart().await.unwrap();
    // THEN the committed row is there, at the same place, and the other is not
    assert_eq!(digest_postgres(&url, "t", "a").await.unwrap(), before);
    assert_eq!(before.rows, 1);
}

#[tokio::test]
async fn two_postgres_servers_are_apart_and_obey_their_options() {
    // GIVEN two servers at once, one with options of its own
    let options = PostgresOptions {
        fsync: true,
        settings: vec![("wal_level".into(), "logical".into())],
    };
    let (one, two) = tokio::join!(Postgres::start(), Postgres::start_with(options));
    let (one, two) = (one.unwrap(), two.unwrap());
    // WHEN a database is made on one of them
    one.create_database("shop").await.unwrap();
    // THEN the other has no such database, and its settings are those asked for
    assert!(two.connect("shop").await.is_err());
    let mut conn = two.connect("postgres").await.unwrap();
    let show = "select current_setting('wal_level'), current_setting('fsync')";
    let settings: (String, String) = sqlx::query_as(show).fetch_one(&mut conn).await.unwrap();
    assert_eq!(settings, ("logical".to_owned(), "on".to_owned()));
}

#[tokio::test]
async fn an_etcd_member_keeps_its_keys_over_a_kill_and_loses_them_to_an_older_snapshot() {
    // GIVEN a member with a key, a snapshot, and a second key
    let mut server = Etcd::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshot");
    server.ctl(&["put", "one", "1"]).await.unwrap();
    server.save_snapshot(&snapshot).await.unwrap();
    server.ctl(&["put", "two", "2"]).await.unwrap();
    // WHEN it is killed and started again
    server.kill().unwrap();
    server.restart().await.unwrap();
    // THEN both keys are there
    assert_eq!(
        server
            .ctl(&["get", "--prefix", "", "--keys-only"])
            .await
            .unwrap(),
        "one\n\ntwo\n\n"
    );
    // WHEN it is put back to the snapshot
    server.restore_snapshot(&snapshot).await.unwrap();
    // THEN the second is gone
    assert_eq!(
        server
            .ctl(&["get", "--prefix", "", "--keys-only"])
            .await
            .unwrap(),
        "one\n\n"
    );
}

#[tokio::test]
async fn a_frozen_etcd_member_answers_nothing_until_it_is_thawed() {
    // GIVEN a frozen member
    let mut server = Etcd::start().await.unwrap();
    server.freeze().unwrap();
    // WHEN it is asked
    let asked = server
        .ctl(&[
            "--command-timeout=300ms",
            "--dial-timeout=300ms",
            "get",
            "x",
        ])
        .await;
    // THEN there is no answer before it goes on
    assert!(asked.is_err());
    server.thaw().unwrap();
    server.ctl(&["get", "x"]).await.unwrap();
}

#[tokio::test]
async fn a_child_is_captured_frozen_and_killed_with_all_it_has_started() {
    // GIVEN a child that has a child of its own, and an environment with failpoints
    let script = r#"sleep 600 & echo "$FAILPOINTS"; echo "ready $!" >&2; wait"#;
    let mut child = Binary::at("sh")
        .args(["-c", script])
        .failpoints("a=panic")
        .start()
        .unwrap();
    let stderr = child.until_stderr_holds("ready ", LIMIT).await.unwrap();
    let grandchild: u32 = stderr
        .trim()
        .strip_prefix("ready ")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(child.stdout().unwrap(), "a=panic\n");
    // WHEN it is frozen, thawed and killed
    child.signal(Signal::Stop).unwrap();
    until("it to be frozen", LIMIT, async || {
        Ok((state(child.id()) == Some('T')).then_some(()))
    })
    .await
    .unwrap();
    child.signal(Signal::Cont).unwrap();
    until("it to go on", LIMIT, async || {
        Ok((state(child.id()) != Some('T')).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(child.ended().unwrap(), None);
    child.kill().unwrap();
    // THEN neither runs
    let gone = async || Ok(matches!(state(grandchild), None | Some('Z' | 'X')).then_some(()));
    until("the grandchild to be gone", LIMIT, gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_killed_process_had_started_is_swept_away() {
    // GIVEN a child whose holder is killed rather than dropped: this very test, told to hold a
    // server and to say where it lies
    let itself = std::env::current_exe().unwrap();
    let held = "harness::holds_a_server_until_it_is_killed_when_asked_to";
    let mut holder = Binary::at(itself)
        .args(["--exact", held, "--nocapture"])
        .env("HIGHWATER_TEST_HOLD", "1")
        .start()
        .unwrap();
    let stderr = holder
        .until_stderr_holds(" held\n", Duration::from_secs(60))
        .await
        .unwrap();
    let port: u16 = stderr
        .split("port ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    // WHEN it is killed
    holder.kill().unwrap();
    // THEN the server ends soon
    let gone = async || {
        Ok(tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
            .then_some(()))
    };
    until("the server to be gone", LIMIT, gone).await.unwrap();
}

#[tokio::test]
async fn holds_a_server_until_it_is_killed_when_asked_to() {
    if std::env::var_os("HIGHWATER_TEST_HOLD").is_none() {
        return;
    }
    let server = Etcd::start().await.unwrap();
    let port = server.endpoint();
    eprintln!("port {} held", port.rsplit(':').next().unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn the_highwater_binary_is_built_and_runs() {
    // GIVEN the tree as it is
    let highwater = Binary::highwater().await.unwrap();
    // WHEN its command is asked for its version
    let finished = highwater.args(["--version"]).run(LIMIT).await.unwrap();
    // THEN it answers
    assert!(finished.status.success(), "{finished:?}");
}

#[tokio::test]
async fn a_digest_tells_values_apart_and_does_not_mind_the_order_of_writing() {
    // GIVEN three tables: two written in different order, one with a number's text in place of the
    // number
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let create = "create table t (k integer primary key, v)";
    make(
        &path("a"),
        &[
            create,
            "insert into t values (1, null), (2, 'x\ty'), (3, 5)",
        ],
    )
    .await;
    make(
        &path("b"),
        &[
            create,
            "insert into t values (3, 5), (2, 'x\ty'), (1, null)",
        ],
    )
    .await;
    make(
        &path("c"),
        &[
            create,
            "insert into t values (1, null), (2, 'x\ty'), (3, '5')",
        ],
    )
    .await;
    // WHEN they are compared
    let (a, b) = digest_both_sqlite(&path("a"), &path("b"), "t")
        .await
        .unwrap();
    let (_, c) = digest_both_sqlite(&path("a"), &path("c"), "t")
        .await
        .unwrap();
    // THEN the order of writing is not seen, and the difference is
    assert_eq!((&a, a.rows), (&b, 3));
    assert_ne!(a, c);
    // AND as text all of them are what PostgreSQL holds
    let server = Postgres::start().await.unwrap();
    let mut conn = server.connect("postgres").await.unwrap();
    let rows = "create table t (k int, v text); insert into t values (1, null), (2, E'x\\ty'), (3, \
                '5')";
    sqlx::raw_sql(rows).execute(&mut conn).await.unwrap();
    let theirs = digest_postgres(&server.url("postgres"), "t", "k")
        .await
        .unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(digest_sqlite(&path(name), "t", "k").await.unwrap(), theirs);
    }
}

async fn make(file: &Path, statements: &[&str]) {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    let mut conn = SqliteConnection::connect_with(&options).await.unwrap();
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(*statement))
            .execute(&mut conn)
            .await
            .unwrap();
    }
    conn.close().await.unwrap();
}

/// The state of a process as the kernel tells it: `T` when frozen, `Z` when it has ended and nobody
/// has asked how.
fn state(process: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
