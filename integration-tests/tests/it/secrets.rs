//! A password is used, and never shown or kept.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use highwater_integration_tests::{Finished, Postgres, PostgresOptions};

use crate::site::{DAYS, Engine, Side, Site, assert_exit, assert_says};

const RIGHT: &str = "c0rrect-horse/battery";
const WRONG: &str = "wr0ng-horse/battery";

/// A server that asks everybody but `postgres` for a password.
async fn server_with_passwords(folder: &Path) -> Postgres {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let hba = folder.join("pg_hba.conf");
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(&hba, rules).unwrap();
    std::fs::set_permissions(&hba, Permissions::from_mode(0o644)).unwrap();
    let settings = vec![("hba_file".to_owned(), hba.to_str().unwrap().to_owned())];
    Postgres::start_with(PostgresOptions {
        settings,
        ..PostgresOptions::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn wrong_password_is_never_printed() {
    // GIVEN a target that asks for a password, and a wrong one in the environment
    let mut site = Site::with_events(Engine::Postgres, "{mode: append}").await;
    let folder = tempfile::tempdir().unwrap();
    let server = server_with_passwords(folder.path()).await;
    let mut conn = server.connect("postgres").await.unwrap();
    let make = "create role keeper login password 'c0rrect-horse/battery'; create database store \
                owner keeper";
    for statement in make.split("; ") {
        sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
    }
    let url = |password: &str| {
        let encoded = password.replace('/', "%2F");
        format!(
            "postgres://keeper:{encoded}@127.0.0.1:{}/store",
            server.port()
        )
    };
    site.point("TARGET_URL", url(WRONG));
    // WHEN it is run, and asked about, as talkatively as can be
    let mut said = Vec::new();
    for args in [
        &["-vv", "run", "pipeline.yaml"][..],
        &["-vv", "status"],
        &["status", "-o", "json"],
        &["-vv", "plan", "pipeline.yaml"],
    ] {
        said.push(site.finish(args).await);
    }
    // THEN it says that the server did not let it in, and to whom it spoke
    assert_exit(&said[0], 7);
    assert_says(
        &said[0].stdout,
        "password authentication failed for user \"keeper\"",
    );
    assert_says(&said[0].stdout, "target");
    is_nowhere(WRONG, &said, &site);
    // WHEN the right one is there
    site.point("TARGET_URL", url(RIGHT));
    let mut said = vec![site.finish(&["-vv", "run", "pipeline.yaml"]).await];
    said.push(site.finish(&["-vv", "run", "pipeline.yaml"]).await);
    said.push(site.finish(&["status", "-o", "json"]).await);
    // THEN the rows are copied, and it is kept nowhere either
    assert_exit(&said[0], 0);
    assert_exit(&said[1], 0);
    is_nowhere(RIGHT, &said, &site);
    let mut conn = server.connect("store").await.unwrap();
    let done: i64 = sqlx::query_scalar("select count(*) from highwater.task")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(done, DAYS);
    let ledger: Vec<String> = sqlx::query_scalar("select t::text from highwater.task t")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert!(!ledger.concat().contains(RIGHT));
    assert_eq!(
        site.numbers(Side::Source, ["count(*)"], "from events")
            .await,
        [2_000]
    );
}

/// Neither the password nor its encoded form, nor a telling part of it, is in what was printed or
/// in a file of the state.
fn is_nowhere(password: &str, said: &[Finished], site: &Site) {
    let (telling, _) = password.split_once('/').unwrap();
    for finished in said {
        assert!(!finished.stdout.contains(telling), "{}", finished.stdout);
        assert!(!finished.stderr.contains(telling), "{}", finished.stderr);
    }
    let mut files = 0;
    for entry in std::fs::read_dir(site.path(".highwater")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(
                !bytes
                    .windows(telling.len())
                    .any(|part| part == telling.as_bytes()),
                "{:?}",
                entry.path()
            );
            files += 1;
        }
    }
    assert!(files > 0, "there is a state");
}
