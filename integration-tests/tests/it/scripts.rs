//! Steps that are statements of the user's own.

use crate::site::{Engine, LIMIT, Side, Site, assert_exit, assert_says};

const BOTH: [Engine; 2] = [Engine::Postgres, Engine::Sqlite];

/// A step of statements, which waits for nothing.
fn step(sql: &str) -> String {
    let sql = sql.replace('\n', "\n      ");
    format!(
        "steps:\n  kpis:\n    strategy: sql\n    to: {{connection: target, table: kpis}}\n    retries: \
         {{initial: 10ms, max: 10ms, max_attempts: 3}}\n    sql: |\n      {sql}\n"
    )
}

async fn site(engine: Engine, sql: &str) -> Site {
    let site = Site::empty(engine).await;
    site.execute(
        Side::Target,
        "create table kpis (name text not null, value text)",
    )
    .await;
    site.write_pipeline(&step(sql));
    site
}

async fn kpis(site: &Site) -> Vec<String> {
    let row = "name || '=' || coalesce(value, '')";
    site.texts(Side::Target, row, "from kpis order by 1").await
}

#[tokio::test]
async fn statements_run_once_a_run_after_what_they_wait_for() {
    for engine in BOTH {
        // GIVEN a table that is copied, and statements that count it in the target
        let site = Site::with_events(engine, "{mode: replace_partition}").await;
        let mut file = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
        let sql = "create table if not exists kpis (name text not null, value text);\n\
                   insert into kpis select {run.id}, count(*) from events;\n\
                   update kpis set name = {pipeline} || '/' || {step} where name = {run.id}";
        let kpis_step = step(sql).replace("steps:\n", "").replace(
            "    strategy: sql\n",
            "    strategy: sql\n    depends_on: [events]\n",
        );
        file.push_str(&kpis_step);
        std::fs::write(site.path("pipeline.yaml"), file).unwrap();
        // WHEN it is planned THEN the plan names the step
        let planned = site.finish(&["plan", "pipeline.yaml"]).await;
        assert_exit(&planned, 0);
        assert_says(
            &planned.stdout,
            "statements that write kpis, in one transaction",
        );
        // AND each run runs them once, and says what they changed
        for run in 1..=2 {
            let ran = site.finish(&["run", "pipeline.yaml", "--new"]).await;
            assert_exit(&ran, 0);
            assert_eq!(
                kpis(&site).await,
                vec!["events/kpis=2000"; run],
                "{engine:?}"
            );
        }
        let status = site.status().await;
        let kpis = &status["steps"].as_array().unwrap();
        let kpis = kpis.iter().find(|step| step["step"] == "kpis").unwrap();
        assert_eq!(
            (&kpis["status"], kpis["rows"].as_u64()),
            (&"success".into(), Some(2))
        );
    }
}

#[tokio::test]
async fn a_parameter_with_a_quote_is_data() {
    for engine in BOTH {
        // GIVEN a parameter whose value would end a quote
        let sql = "insert into kpis values (${param:name}, {step}), (${param:since}, ${param:top})";
        let site = site(engine, sql).await;
        let file = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
        let params = "params:\n  name: {type: text}\n  since: {type: date, default: 2024-02-29}\n  top: \
                      {type: integer, default: 7}\nsteps:";
        let cast = match engine {
            Engine::Postgres => file.replace("${param:since}", "${param:since} + 1 || ''"),
            Engine::Sqlite => file.replace("${param:since}", "date(${param:since}, '+1 day')"),
        };
        std::fs::write(site.path("pipeline.yaml"), cast.replace("steps:", params)).unwrap();
        // WHEN it runs THEN the value is what is inserted
        let evil = "it's'); drop table kpis; --{run.id}";
        let given = format!("name={evil}");
        let ran = site
            .finish(&["run", "pipeline.yaml", "--param", &given])
            .await;
        assert_exit(&ran, 0);
        let expected = ["2024-03-01=7".to_owned(), format!("{evil}=kpis")];
        assert_eq!(kpis(&site).await, expected);
    }
}

#[tokio::test]
async fn a_semicolon_in_a_dollar_quote_does_not_split() {
    let sql = "do $$ begin insert into kpis values ('a;b', '1'); perform 1; end $$;\n\
               create function twice(x int) returns int language sql begin atomic select x; select 2 * x; end;\n\
               insert into kpis values ('twice', twice(21)) -- ; not here\n";
    let site = site(Engine::Postgres, sql).await;
    assert_exit(&site.run().await, 0);
    assert_eq!(kpis(&site).await, ["a;b=1", "twice=42"]);
}

#[tokio::test]
async fn a_failed_second_statement_undoes_the_first() {
    for engine in BOTH {
        // GIVEN statements of which the second fails
        let sql = "insert into kpis values ('first', '1');\n\
                   insert into kpis values (null, '2');\n\
                   insert into kpis values ('third', '3');";
        let site = site(engine, sql).await;
        // WHEN they run THEN nothing of them stays, and the message says which one it was
        let failed = site.run().await;
        assert_exit(&failed, 7);
        assert_says(&failed.stdout, "statement 2 of 3");
        assert_says(&failed.stdout, "line 2");
        assert_eq!(kpis(&site).await, Vec::<String>::new());
        // AND with the second one mended a new run does all of it
        site.write_pipeline(&step(&sql.replace("null", "'second'")));
        assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
        assert_eq!(kpis(&site).await, ["first=1", "second=2", "third=3"]);
    }
}

#[tokio::test]
async fn statements_that_were_committed_are_not_run_again() {
    for engine in BOTH {
        for place in [
            "attempt::before_guard",
            "attempt::before_commit",
            "attempt::after_commit",
        ] {
            // GIVEN a process that dies around the commit
            let site = site(engine, "insert into kpis values ('one', '1')").await;
            let mut running = site.start(&format!("{place}=return(abort)")).await;
            assert!(!running.wait(LIMIT).await.unwrap().success());
            // WHEN the run goes on THEN they have run once
            assert_exit(&site.run().await, 0);
            assert_eq!(kpis(&site).await, ["one=1"], "{engine:?} {place}");
        }
    }
}

#[tokio::test]
async fn what_statements_set_stays_with_them() {
    // GIVEN statements that change the session, and a role that may not see the ledger
    let sql = "create schema mart;\n\
               set search_path = mart;\n\
               create table task (n int);\n\
               insert into task values (1);\n\
               create temp table kept as select 1;\n\
               prepare p as select 1;\n\
               set role pg_read_all_data;\n\
               set statement_timeout = 1;\n\
               select pg_sleep(0)";
    let site = site(Engine::Postgres, sql).await;
    // WHEN they run, twice in one process THEN the guard finds its ledger
    assert_exit(&site.run().await, 0);
    assert_eq!(site.tasks('C').await, 1);
    let tables = "from pg_tables where tablename = 'task' and schemaname = 'mart'";
    assert_eq!(site.numbers(Side::Target, ["count(*)"], tables).await, [1]);
    let again = sql
        .replace("create schema mart;\n", "")
        .replace("create table task (n int);\n", "");
    site.write_pipeline(&step(&again));
    assert_exit(&site.finish(&["run", "pipeline.yaml", "--new"]).await, 0);
}

#[tokio::test]
async fn what_cannot_be_one_transaction_is_refused_by_the_file() {
    for (engine, sql, why) in [
        (
            Engine::Postgres,
            "insert into kpis values ('a', '1');\ncommit;",
            "controls a transaction",
        ),
        (
            Engine::Postgres,
            "vacuum kpis",
            "cannot be part of a transaction",
        ),
        (
            Engine::Sqlite,
            "pragma foreign_keys = off",
            "cannot be part of a transaction",
        ),
        (Engine::Postgres, "select '{run.id}'", "within quotes"),
        (Engine::Sqlite, "select {run.number}", "is not known here"),
    ] {
        let site = site(engine, sql).await;
        let refused = site.finish(&["validate", "pipeline.yaml"]).await;
        assert_exit(&refused, 2);
        assert_says(&refused.stderr, why);
        assert_says(&refused.stderr, "spec::bad_script");
    }
    // and what a procedure commits behind our back the server refuses
    let sql = "create procedure sly() language plpgsql as $$ begin insert into kpis values ('sly', '1'); commit; end $$;\n\
               call sly()";
    let site = site(Engine::Postgres, sql).await;
    let failed = site.run().await;
    assert_exit(&failed, 7);
    assert_says(&failed.stdout, "statement 2 of 2");
    assert_eq!(kpis(&site).await, Vec::<String>::new());
}

#[tokio::test]
async fn statements_stand_in_a_file_beside_the_pipeline() {
    for engine in BOTH {
        // GIVEN statements in a file of a folder beside the pipeline file
        let site = site(engine, "select 1").await;
        let inline = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
        let named = inline.replace("sql: |\n      select 1\n", "sql: {file: sql/kpis.sql}\n");
        std::fs::write(site.path("pipeline.yaml"), &named).unwrap();
        std::fs::create_dir(site.path("sql")).unwrap();
        let write = |text: &[u8]| std::fs::write(site.path("sql/kpis.sql"), text).unwrap();
        write("\u{feff}insert into kpis values ({step}, 'file')".as_bytes());
        // WHEN it is planned THEN the plan says where the statements are from, and is kept with them
        let planned = site
            .finish(&["plan", "pipeline.yaml", "--out", "plan.json"])
            .await;
        assert_exit(&planned, 0);
        assert_says(&planned.stderr, "statements: kpis from sql/kpis.sql");
        // AND it runs from any folder, since a path is relative to the file
        let path = site.path("pipeline.yaml").display().to_string();
        let state = site.path(".highwater").display().to_string();
        let elsewhere = site.highwater(&["run", &path, "--state", &state]).await;
        let elsewhere = elsewhere.current_folder(site.path("sql")).run(LIMIT).await;
        assert_exit(&elsewhere.unwrap(), 0);
        assert_eq!(kpis(&site).await, ["kpis=file"]);
        // WHEN the file changes THEN it is another pipeline, and what was saved is stale
        write(b"insert into kpis values ({step}, 'changed')");
        let stale = site.finish(&["run", "plan.json"]).await;
        assert_exit(&stale, 6);
        assert_says(&stale.stderr, "steps.kpis.sql changed");
        // AND a setting puts statements in the place of the file
        let set = "steps.kpis.sql=\"insert into kpis values ({step}, 'set')\"";
        let ran = site.finish(&["run", "pipeline.yaml", "--set", set]).await;
        assert_exit(&ran, 0);
        assert_eq!(kpis(&site).await, ["kpis=file", "kpis=set"]);
        // WHEN the file cannot be read THEN it is told why, at the place that names it
        let large = vec![b' '; (256 << 10) + 1];
        for (bytes, says) in [
            (
                &b"select '\xff'"[..],
                "kpis.sql is not UTF-8: byte 8 is wrong",
            ),
            (&large, "has more than 262144 bytes"),
        ] {
            write(bytes);
            let refused = site.finish(&["validate", "pipeline.yaml"]).await;
            assert_exit(&refused, 2);
            assert_says(&refused.stderr, "spec::unreadable_file");
            assert_says(&refused.stderr, says);
        }
        for (name, says) in [("sql", "sql is a folder"), ("gone.sql", "there is no file")] {
            let set = format!("steps.kpis.sql.file={name}");
            let refused = site
                .finish(&["validate", "pipeline.yaml", "--set", &set])
                .await;
            assert_exit(&refused, 2);
            assert_says(&refused.stderr, says);
        }
    }
}
