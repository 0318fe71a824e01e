//! What is refused: with one clear message, a documented exit code, and nothing lost.

use std::net::TcpListener;

use serde_json::Value;

use crate::site::{DAYS, Engine, LIMIT, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];
const APPEND: &str = "{mode: append}";
const REPLACE: &str = "{mode: replace_partition, key: [id]}";
const SLOW: &str = "attempt::reading=sleep(50)";

#[tokio::test]
async fn unknown_table_says_which_connection_and_what_exists() {
    for engine in BOTH {
        // GIVEN a file that misspells its table
        let site = Site::with_events(engine, APPEND).await;
        let text = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
        let text = text.replace("source, table: events", "source, table: evnets");
        std::fs::write(site.path("pipeline.yaml"), text).unwrap();
        // WHEN it is run
        let finished = site.run().await;
        // THEN table and connection are named, and the table that is there; the target has seen
        // nothing
        assert_exit(&finished, 7);
        let (what, place, there) = match engine {
            Engine::Postgres => (
                "no table evnets",
                "on source (127.0.0.1:",
                "the search path holds events",
            ),
            Engine::Sqlite => (
                "no table `evnets`",
                "connection `source`",
                "the file has `events`",
            ),
        };
        for text in [what, place, there] {
            assert_says(&finished.stdout, text);
        }
        assert!(!site.has_ledger().await);
    }
}

#[tokio::test]
async fn a_target_with_other_columns_is_refused() {
    for engine in BOTH {
        // GIVEN a target whose table lacks a column and has others
        let site = Site::with_events(engine, APPEND).await;
        let table = "create table events (id bigint not null primary key, at text not null, amount \
             text \
             not null, more text)";
        site.execute(Side::Target, table).await;
        // WHEN the table is copied
        let finished = site.run().await;
        // THEN it is refused, says what is missing and what is there, and nothing was written
        assert_exit(&finished, 7);
        assert_says(&finished.stdout, "lacks note");
        assert_says(&finished.stdout, "more");
        assert_eq!(
            site.numbers(Side::Target, ["count(*)"], "from events")
                .await,
            [0]
        );
        assert_eq!(site.tasks('C').await, 0);
    }
}

#[tokio::test]
async fn an_unreachable_database_is_said_plainly() {
    // GIVEN a source that nobody listens for
    let mut site = Site::with_events(Engine::Postgres, APPEND).await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let there = site.server().url("source");
    site.point("SOURCE_URL", format!("postgres://postgres@{closed}/source"));
    site.write_pipeline(&steps("retries: {unreachable: 1s}"));
    // WHEN it is run
    let finished = site.run().await;
    // THEN connection and address are named
    assert_exit(&finished, 7);
    assert_says(
        &finished.stdout,
        &format!("cannot reach source ({closed}/source)"),
    );
    assert_says(&finished.stdout, "is the server up");
    assert!(!site.has_ledger().await);
    // WHEN it can be reached
    site.point("SOURCE_URL", there);
    // THEN the same file runs
    assert_exit(&site.run().await, 0);
    site.assert_copied_once(DAYS).await;
}

fn steps(more: &str) -> String {
    format!(
        "steps:\n  events:\n    strategy: {}\n    from: {{connection: source, table: events}}\n    \
         to: {{connection: target, table: events}}\n    partition: {{by: calendar, column: at, \
         grain: day, tz: UTC}}\n    write: {APPEND}\n    {more}\n",
        Site::BACKFILL
    )
}

#[tokio::test]
async fn a_missing_file_is_said_plainly() {
    // GIVEN a SQLite source that does not exist
    let site = Site::with_events(Engine::Sqlite, APPEND).await;
    std::fs::remove_file(site.path("source.db")).unwrap();
    // WHEN it is run
    let finished = site.run().await;
    // THEN the file is named, and neither it nor a target has been made
    assert_exit(&finished, 7);
    assert_says(&finished.stdout, "source.db");
    assert!(!site.path("source.db").exists());
    assert!(!site.path("target.db").exists());
}

#[tokio::test]
async fn resident_rows_without_receipt_are_not_replaced_unasked() {
    for engine in BOTH {
        // GIVEN a target with a row that no run has written
        let site = Site::with_events(engine, REPLACE).await;
        site.execute(Side::Target, &site.events_table("not null", ""))
            .await;
        let stranger = "insert into events values (-1, '2024-03-05T10:00:00Z', 1, 'mine')";
        site.execute(Side::Target, stranger).await;
        // WHEN that range is to be replaced
        let finished = site.run().await;
        // THEN its day is refused and the row stays; all other days are copied
        assert_exit(&finished, 3);
        assert_says(&finished.stdout, "write.resident: replace");
        let mine = "from events where note = 'mine'";
        assert_eq!(site.numbers(Side::Target, ["count(*)"], mine).await, [1]);
        assert_eq!(site.tasks('C').await, DAYS - 1);
        // WHEN the file says that it may
        site.pipeline(
            Site::BACKFILL,
            "{mode: replace_partition, key: [id], resident: replace}",
        );
        // THEN the day is replaced, and only that one
        let finished = site.run().await;
        assert_exit(&finished, 0);
        assert_says(&finished.stdout, "1 task · 19 covered by earlier runs");
        assert_eq!(site.numbers(Side::Target, ["count(*)"], mine).await, [0]);
        let (source, target) = site.digests().await;
        assert_eq!(source, target);
        assert_eq!(site.tasks('C').await, DAYS);
    }
}

#[tokio::test]
async fn spec_changed_mid_run_is_refused_until_new() {
    for (engine, write) in [
        (Engine::Postgres, APPEND),
        (Engine::Postgres, REPLACE),
        (Engine::Sqlite, APPEND),
    ] {
        // GIVEN a run that was cut off, and a file that has changed since
        let site = Site::with_events(engine, write).await;
        let mut run = site.start(SLOW).await;
        site.until_committed(3).await;
        run.kill().unwrap();
        let old = site.status().await;
        site.pipeline(
            "{type: backfill, start: 2024-03-01, end: 2024-03-21, order: newest}",
            write,
        );
        // WHEN it is run
        let refused = site.run().await;
        // THEN it is refused, names the run, and says how to go on
        assert_exit(&refused, 6);
        assert_says(&refused.stderr, old["short"].as_str().unwrap());
        assert_says(&refused.stderr, "--new");
        assert_eq!(site.status().await["run"], old["run"]);
        // WHEN a new run is asked for
        let finished = site.finish(&["run", "pipeline.yaml", "--new"]).await;
        // THEN the old one is fenced, and the new one has copied what was missing
        assert_exit(&finished, 0);
        site.assert_copied_once(DAYS).await;
        let runs = format!("from {} where state = 'X'", site.ledger("run"));
        let fenced = site.texts(Side::Target, "run_id", &runs).await;
        assert_eq!(fenced.len(), 1);
        assert_eq!(Value::from(fenced[0].replace('-', "")), old["run"]);
        let was = site
            .finish(&["status", old["run"].as_str().unwrap(), "-o", "json"])
            .await;
        let was: Value = serde_json::from_str(&was.stdout).unwrap();
        assert_eq!(was["status"], "cancelled");
    }
}

#[tokio::test]
async fn embedded_second_process_refused() {
    // GIVEN a process that runs
    let site = Site::with_events(Engine::Sqlite, APPEND).await;
    let mut first = site.start(SLOW).await;
    site.until_committed(1).await;
    // WHEN a second one is started on the same state
    let second = site.run().await;
    // THEN it is refused and says why, and the first is not disturbed
    assert_exit(&second, 6);
    assert_says(&second.stderr, "another process works there");
    assert_says(&second.stderr, "next:");
    assert!(
        first.wait(LIMIT).await.unwrap().success(),
        "{}",
        first.stderr().unwrap()
    );
    site.assert_copied_once(DAYS).await;
}

#[tokio::test]
async fn a_target_of_another_cluster_is_refused_until_adopted() {
    for engine in BOTH {
        // GIVEN a run whose state was deleted before its end
        let site = Site::with_events(engine, APPEND).await;
        let mut run = site.start(SLOW).await;
        site.until_committed(3).await;
        run.kill().unwrap();
        std::fs::remove_dir_all(site.path(".highwater")).unwrap();
        let before = site.fingerprint().await;
        // WHEN the pipeline is run anew
        let refused = site.run().await;
        // THEN the target is refused, by the command that takes it over, and nothing of it was
        // written
        assert_exit(&refused, 7);
        assert_says(&refused.stdout, "highwater cluster adopt");
        assert_eq!(site.fingerprint().await, before);
        // WHEN it is taken over without a yes
        let unsure = site.finish(&["cluster", "adopt", "pipeline.yaml"]).await;
        // THEN that is refused too
        assert_exit(&unsure, 6);
        assert_exit(&site.run().await, 7);
        // WHEN it is taken over
        let adopted = site
            .finish(&["cluster", "adopt", "pipeline.yaml", "-y"])
            .await;
        assert_exit(&adopted, 0);
        assert_says(&adopted.stdout, "target: taken over from");
        // THEN the pipeline copies what is missing: what the deleted state had committed is known
        // from the ledger
        assert_exit(&site.run().await, 0);
        let (source, target) = site.digests().await;
        assert_eq!(source, target);
        assert_eq!(site.tasks('C').await, DAYS);
    }
}

#[tokio::test]
async fn a_refused_commit_is_permanent_and_says_why() {
    // GIVEN a target with a foreign key that is checked at COMMIT, and the rows of three days that
    // it does not allow
    let site = Site::with_events(Engine::Postgres, REPLACE).await;
    site.execute(Side::Target, "create table notes (note text primary key)")
        .await;
    site.execute(
        Side::Target,
        "insert into notes select 'note ' || i from generate_series(0, 6) i",
    )
    .await;
    site.execute(Side::Target, &site.events_table("not null", ""))
        .await;
    site.execute(Side::Target, "delete from notes where note = 'note 5'")
        .await;
    let key = "alter table events add constraint known_note foreign key (note) references notes \
               deferrable initially deferred";
    site.execute(Side::Target, key).await;
    site.execute(
        Side::Source,
        "update events set note = 'note 1' where note = 'note 5' and id > \
                                300",
    )
    .await;
    // WHEN it is run
    let finished = site.run().await;
    // THEN the three days are dead after one attempt each, and say which constraint refused them;
    // the others are there
    assert_exit(&finished, 3);
    for text in ["known_note", "SQLSTATE 23503"] {
        assert_says(&finished.stdout, text);
    }
    assert_eq!(site.tasks('C').await, DAYS - 3);
    assert_eq!(
        site.numbers(Side::Target, ["count(*)"], "from events where id <= 300")
            .await,
        [0]
    );
    let attempts = "from highwater.task where state = 'O' and attempt = 1";
    assert_eq!(
        site.numbers(Side::Target, ["count(*)"], attempts).await,
        [3]
    );
    // WHEN what was missing is there, and they are tried again
    site.execute(Side::Target, "insert into notes values ('note 5')")
        .await;
    assert_exit(&site.finish(&["retry"]).await, 0);
    // THEN everything is copied
    site.assert_copied_once(DAYS).await;
}
