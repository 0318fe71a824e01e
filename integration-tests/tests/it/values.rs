//! What is told of a failure holds no value of a row.

use std::path::Path;

use crate::site::{Engine, Side, Site, assert_says};

/// In every row of every source.
const SECRET: &str = "zq7secret";

/// What a target does to the value, and what has to be told of it.
const POSTGRES: [(&str, &str, &str); 8] = [
    (
        "unique_key",
        "alter table unique_key add constraint one_email unique (v)",
        "one_email",
    ),
    (
        "checked",
        "alter table checked add constraint no_letters check (v !~ 'z')",
        "no_letters",
    ),
    (
        "foreign_key",
        "alter table foreign_key add constraint known foreign key (v) references names",
        "known",
    ),
    (
        "deferred",
        "alter table deferred add constraint known_later foreign key (v) references names \
         deferrable initially deferred",
        "known_later",
    ),
    (
        "excluded",
        "alter table excluded add constraint alone exclude using hash (v with =)",
        "alone",
    ),
    (
        "raised",
        "create function complain() returns trigger language plpgsql as \
           $$ begin raise exception 'bad value %', new.v using detail = new.v, hint = new.v; end \
           $$; \
           create trigger complain before insert on raised for each row execute function \
           complain()",
        "P0001",
    ),
    (
        "converted",
        "create function convert() returns trigger language plpgsql as $$ begin perform \
         new.v::integer; return new; end $$; \
         create trigger convert before insert on converted for each row execute function \
         convert()",
        "22P02",
    ),
    (
        "pretended",
        "create function pretend() returns trigger language plpgsql as \
           $$ begin raise exception '%', new.v using errcode = '42P01', column = 'v'; end $$; \
         create trigger pretend after insert on pretended for each row execute function pretend()",
        "42P01",
    ),
];

const SQLITE: [(&str, &str, &str); 3] = [
    (
        "unique_key",
        "create unique index one_email on unique_key (v)",
        "unique_key.v",
    ),
    (
        "checked",
        "drop table checked; create table checked (id integer not null primary key, v text \
         constraint no_letters check (v not like '%z%'))",
        "no_letters",
    ),
    (
        "raised",
        "create trigger complain before insert on raised begin select json_extract('{}', new.v); \
         end",
        "SQLite refused it",
    ),
];

#[tokio::test]
async fn error_text_carries_no_row_value() {
    for (engine, tables) in [
        (Engine::Postgres, &POSTGRES[..]),
        (Engine::Sqlite, &SQLITE[..]),
    ] {
        // GIVEN targets that refuse the rows, each for a reason of its own, with rows whose values
        // nobody may see
        let site = Site::empty(engine).await;
        let key = match engine {
            Engine::Postgres => "bigint primary key",
            Engine::Sqlite => "integer not null primary key",
        };
        site.execute(Side::Target, "create table names (v text primary key)")
            .await;
        let mut steps = String::from("steps:\n");
        for (table, refuse, _) in tables {
            site.execute(
                Side::Source,
                &format!("create table {table} (id {key}, v text)"),
            )
            .await;
            let rows = format!("insert into {table} values (1, '{SECRET}'), (2, '{SECRET}')");
            site.execute(Side::Source, &rows).await;
            site.execute(
                Side::Target,
                &format!("create table {table} (id {key}, v text)"),
            )
            .await;
            site.execute(Side::Target, refuse).await;
            steps.push_str(&format!(
                "  {table}:\n    strategy: backfill\n    from: {{connection: source, table: \
                 {table}}}\n    to: {{connection: target, table: {table}}}\n    partition: {{by: \
                 integer, column: id, width: 100}}\n    write: {{mode: append}}\n    retries: \
                 {{max_attempts: 2, initial: 10ms, max: 20ms}}\n"
            ));
        }
        site.write_pipeline(&steps);
        // WHEN they are loaded, and asked about, as talkatively as can be
        let mut said = Vec::new();
        for args in [
            &["-vvv", "run", "pipeline.yaml"][..],
            &["-vvv", "status"],
            &["status", "-o", "json"],
            &["tasks", "-o", "json"],
        ] {
            let finished = site.finish(args).await;
            said.push(format!("{}\n{}", finished.stdout, finished.stderr));
        }
        // THEN each says why, and none of it what the rows hold, in no log and no file of the state
        for (table, _, why) in tables {
            assert_says(&said[0], why);
            assert_says(&said[0], table);
        }
        for text in &said {
            assert!(!text.contains(SECRET), "{text}");
        }
        assert!(
            files_of(&site.path(".highwater"), &mut |bytes| {
                assert!(
                    !bytes
                        .windows(SECRET.len())
                        .any(|part| part == SECRET.as_bytes()),
                    "a file of the state holds a value"
                );
            }) > 0
        );
    }
}

fn files_of(folder: &Path, look: &mut impl FnMut(&[u8])) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            look(&std::fs::read(entry.path()).unwrap());
            files += 1;
        }
    }
    files
}
