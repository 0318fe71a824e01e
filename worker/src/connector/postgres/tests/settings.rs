//! Settings that a server, a database or a role comes with: none of them changes what is read or
//! written.

use std::collections::BTreeMap;

use sqlx::Row;

use super::*;

/// A column of every kind of type, in a schema that no default search path has.
const KINDS: &str = "
    create schema s;
    create type s.mood as enum ('sad', 'glad, \"quoted\"');
    create type s.pair as (what text, whose regclass);
    create domain s.code as varchar(9);
    create table s.neighbour (id int);
    create function s.neighbours() returns bigint language sql stable as 'select count(*) from s.neighbour';
    create table s.kinds (id bigint primary key, flag bool, small smallint, whole int, ratio float8, single real,
      amount numeric(30,6), anything numeric, cash money, note text, code varchar(20), fixed char(6), label name,
      raw bytea, day date, civil timestamp, at timestamptz, open time, opentz timetz, span interval, who uuid, doc json,
      docb jsonb, page xml, tags text[], blobs bytea[], spans interval[], days date[], grid int[][], bits bit(4), manybits varbit,
      net inet, block cidr, mac macaddr, spot point, box_ box, poly polygon, words tsvector, ask tsquery, ints int4range,
      times tstzrange, path jsonpath, lsn pg_lsn, rel regclass, typ regtype, fn regprocedure, conf regconfig, obj oid,
      feeling s.mood, both_ s.pair, coded s.code, feelings s.mood[])";

const ROWS: &str = r#"insert into s.kinds select n, n % 2 = 0, n, -n, n / 3.0, n / 3.0::real, n / 7.0,
      (array['NaN', 'Infinity', '12345678901234567890123456789012.5'])[1 + n % 3]::numeric, (n * 12345.67)::numeric::money,
      E'tab\t newline\n back\\slash \\N NULL ' || n || ' ü', 'c' || n, 'f' || n, 'label' || n,
      decode(md5(n::text), 'hex') || '\x005c0a09', date '2013-02-01' + n, timestamp '2013-02-01 03:04:05.000006' + n * interval '1 h',
      timestamptz '2013-02-01 03:04:05.000006+00' + n * interval '31 h', time '23:59:59.999999', timetz '23:59:59.999999-07',
      interval '1 year 2 mons -3 days 04:05:06.7' * n, md5(n::text)::uuid, '{"a" : 1,  "a":2}'::json, '{"b": [1, null]}'::jsonb,
      case n % 2 when 0 then xmlparse(document '<a b="1">ü</a>') else xmlparse(content 'text<a/>more') end,
      array['x', null, 'NULL', 'with "quote"', E'\\'], array['\x00ff'::bytea, null], array[interval '1 mon', interval '-1 day'],
      array[date '2013-12-11'], array[array[1, null], array[3, 4]], b'1010', b'110', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03',
      '(1.5,-2.25)', '(3,4),(1,2)', '((0,0),(1,0.1),(1,1))', to_tsvector('pg_catalog.simple', 'The quick fox'),
      to_tsquery('pg_catalog.simple', 'quick & fox'), '[1,9)', '[2013-02-01 00:00+00,2013-03-04 05:06:07.89+00)', '$.a[*] ? (@ > 1)',
      '16/B374D848', 's.neighbour'::regclass, 's.mood'::regtype, 's.neighbours()'::regprocedure, 'pg_catalog.simple'::regconfig,
      4294967295, 'glad, "quoted"', row('a, "b"', 's.neighbour'::regclass)::s.pair, 'code', array['sad'::s.mood, null]
      from generate_series(1, 40) n"#;

/// What is left as it is, and why.
const SKIPPED: [(&str, &str); 14] = [
    (
        "application_name",
        "a name for people; the connection's URL sets it",
    ),
    (
        "local_preload_libraries",
        "loads a library, of which this server has none",
    ),
    (
        "session_preload_libraries",
        "loads a library, of which this server has none",
    ),
    (
        "dynamic_library_path",
        "without its libraries the server has no languages",
    ),
    (
        "extension_destdir",
        "Debian's own; where extensions are installed from",
    ),
    ("jit_dump_bitcode", "writes files into the data folder"),
    (
        "log_statement_stats",
        "excludes the settings of its kind, which are tried",
    ),
    (
        "default_tablespace",
        "needs a table space; where a table lies changes no value",
    ),
    (
        "temp_tablespaces",
        "needs a table space; where a file lies changes no value",
    ),
    (
        "default_table_access_method",
        "this server has one only; how a table is kept changes no value",
    ),
    (
        "transaction_isolation",
        "of one transaction; no session begins with it",
    ),
    (
        "transaction_read_only",
        "of one transaction; no session begins with it",
    ),
    (
        "transaction_deferrable",
        "of one transaction; no session begins with it",
    ),
    (
        "allow_system_table_mods",
        "lets a superuser break the catalog, and does nothing by itself",
    ),
];

/// Another value of a setting that is text.
const TEXTS: [(&str, &str); 16] = [
    ("DateStyle", "SQL, DMY"),
    ("TimeZone", "Asia/Kathmandu"),
    ("timezone_abbreviations", "India"),
    ("client_encoding", "LATIN1"),
    ("default_text_search_config", "pg_catalog.german"),
    ("lc_messages", "C"),
    ("lc_monetary", "C.UTF-8"),
    ("lc_numeric", "C.UTF-8"),
    ("lc_time", "C.UTF-8"),
    ("search_path", "s, pg_catalog"),
    ("restrict_nonsystem_relation_kind", "view, foreign-table"),
    ("backtrace_functions", "errfinish"),
    ("wal_consistency_checking", "heap"),
    ("debug_io_direct", ""),
    ("createrole_self_grant", "set"),
    ("session_replication_role", "replica"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    name: String,
    value: String,
}

/// Each setting that a role may have, with a legal value that is not the one it has.
async fn other_settings(conn: &mut PgConnection) -> Vec<Setting> {
    let rows = conn
        .fetch_all(
            "select name, vartype, setting, boot_val, min_val, max_val, enumvals from pg_settings \
             where context in ('user', 'superuser') order by name",
        )
        .await
        .expect("the settings");
    let (skipped, texts) = (BTreeMap::from(SKIPPED), BTreeMap::from(TEXTS));
    let settings = rows
        .iter()
        .filter(|row| !skipped.contains_key(row.get::<&str, _>("name")))
        .map(|row| {
            let (name, setting): (String, String) = (row.get("name"), row.get("setting"));
            let text = |column| row.get::<Option<String>, _>(column).unwrap_or_default();
            let value = match (texts.get(name.as_str()), row.get::<&str, _>("vartype")) {
                (Some(value), _) => (*value).to_owned(),
                (None, "bool") => if setting == "on" { "off" } else { "on" }.to_owned(),
                (None, "enum") => {
                    let values: Vec<String> = row.get("enumvals");
                    values
                        .into_iter()
                        .find(|value| *value != setting)
                        .expect("another value")
                }
                // The server starves at the least memory, and at the least stack. Times in the
                // millions of years are no limit.
                (None, "integer" | "real") if name == "max_stack_depth" => "1024".to_owned(),
                (None, "integer" | "real") if name == "temp_buffers" => "200".to_owned(),
                // More of these would only make the test slow.
                (None, "integer" | "real") if name == "debug_discard_caches" => "0".to_owned(),
                (None, "integer" | "real") if setting == text("min_val") => match name.as_str() {
                    "extra_float_digits" => "-5".to_owned(),
                    "gin_fuzzy_search_limit" => "5".to_owned(),
                    "vacuum_cost_delay" => "1".to_owned(),
                    "post_auth_delay" => "0".to_owned(),
                    _ => text("max_val"),
                },
                (None, "integer" | "real") if name == "extra_float_digits" => "-5".to_owned(),
                (None, "integer" | "real") => text("min_val"),
                (None, other) => {
                    panic!("{name} is {other}: give it another value, or say why it is skipped")
                }
            };
            Setting { name, value }
        });
    settings.collect()
}

/// A world in which the connector is somebody with settings.
async fn world_of_kinds() -> World {
    let mut world = World::start().await;
    world.legacy(KINDS).await;
    world.legacy(ROWS).await;
    world
        .wh(&KINDS[..KINDS.find("create table s.kinds").expect("there")])
        .await;
    world
        .wh("create role loader superuser login password 's3cr3t-of-the-test'")
        .await;
    let url = |database| world.server.url_as("loader", server::PASSWORD, database);
    let legacy = "legacy".parse().expect("a name");
    let source =
        PostgresSource::new(&url("legacy"), legacy, world.supervisor.clone()).expect("a good url");
    let wh = "wh".parse().expect("a name");
    let target = PostgresTarget::new(&url("wh"), wh, world.supervisor.clone()).expect("a good url");
    (world.source, world.target) = (source, target);
    world
}

/// Probes, makes the table, and moves every row, as a run does.
async fn copied(world: &mut World) -> Result<(i64, String), ConnectorError> {
    world
        .wh("drop table if exists s.kinds; drop schema if exists highwater cascade")
        .await;
    let table = table_name("s.kinds");
    let facts = world.facts("s.kinds", "id").await?;
    let mut prepare = prepare_request(facts.columns.clone());
    prepare.table = table.clone();
    world.target.prepare(&prepare).await?;
    let ClaimOutcome::Held(held) = world.target.claim(&world.claim_of(1, all()).await).await?
    else {
        panic!("the claim stands")
    };
    let mut read = world_read(facts.columns.clone());
    read.relation = table.clone().into();
    let mut rows = world.source.read(&read).await?;
    let write = WriteRequest {
        table,
        columns: facts.columns,
        rows: Rows::Slice(SliceRows {
            column: "id".into(),
            form: CursorForm::Native,
            slice: all(),
        }),
        mode: WriteMode::ReplacePartition,
        merge_by: MergeBy::default(),
        triggers: Triggers::Fire,
        resident: ExistingRows::Fail,
        shrinking: highwater_common::spec::Shrinking::default(),
        format: RowFormat::CopyText,
        stream: STREAM.into(),
    };
    let (tx, receipt) = held.begin().await?.write(&write, rows.as_mut()).await?;
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await? else {
        panic!("the guard holds")
    };
    match guarded.commit().await {
        CommitOutcome::Committed(_) => Ok(digest(&mut world.wh).await),
        CommitOutcome::Refused(error) | CommitOutcome::Unknown(error) => Err(error),
    }
}

fn world_read(columns: Vec<ColumnFacts>) -> ReadRequest {
    ReadRequest {
        relation: table_name("s.kinds").into(),
        columns,
        rows: Rows::Slice(SliceRows {
            column: "id".into(),
            form: CursorForm::Native,
            slice: all(),
        }),
        format: RowFormat::CopyText,
    }
}

async fn digest(conn: &mut PgConnection) -> (i64, String) {
    let types = "(select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' order \
                  by attnum) from pg_attribute where attrelid = 's.kinds'::regclass and attnum > \
                  0)";
    let digest = format!(
        "select count(*), md5({types} || string_agg(k::text, '|' order by id)) \
                          from s.kinds k"
    );
    sqlx::query_as(AssertSqlSafe(digest))
        .fetch_one(conn)
        .await
        .expect("a digest")
}

/// Whose settings they are.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Role,
    Databases,
}

async fn with_settings(
    world: &mut World,
    owner: Owner,
    settings: &[Setting],
) -> Result<(i64, String), ConnectorError> {
    let owners: &[&str] = match owner {
        Owner::Role => &["role loader"],
        Owner::Databases => &["database legacy", "database wh"],
    };
    for owner in owners {
        let mut sql = String::new();
        for Setting { name, value } in settings {
            // A list is given item by item, a value that is no list whole.
            let is_list = matches!(
                name.as_str(),
                "search_path" | "DateStyle" | "restrict_nonsystem_relation_kind"
            );
            let value = if is_list {
                value.clone()
            } else {
                format!("'{value}'")
            };
            let value = if name == "restrict_nonsystem_relation_kind" {
                format!("'{value}'")
            } else {
                value
            };
            sql.push_str(&format!("alter {owner} set {name} = {value};"));
        }
        world.wh(&sql).await;
    }
    let copied = copied(world).await;
    for owner in owners {
        world.wh(&format!("alter {owner} reset all")).await;
    }
    copied
}

#[tokio::test]
async fn no_setting_of_role_or_database_changes_a_value() {
    // GIVEN a table of all types, and every setting that a role or a database may bring along, each
    // with another value
    let mut world = world_of_kinds().await;
    let settings = other_settings(&mut world.wh).await;
    assert!(settings.len() > 150, "{} settings", settings.len());
    let expected = digest(&mut world.legacy).await;
    assert_eq!(
        copied(&mut world).await.expect("copied"),
        expected,
        "without any"
    );
    for owner in [Owner::Role, Owner::Databases] {
        // WHEN the table is copied under some of them at a time, the suspicious ones fewer and
        // fewer
        let mut batches: Vec<&[Setting]> = settings.chunks(24).rev().collect();
        let mut guilty = Vec::new();
        while let Some(batch) = batches.pop() {
            match with_settings(&mut world, owner, batch).await {
                Ok(found) if found == expected => {}
                failed if batch.len() == 1 => {
                    guilty.push((batch, failed.map_err(|error| error.report)))
                }
                _ => batches.extend([&batch[..batch.len() / 2], &batch[batch.len() / 2..]]),
            }
        }
        // THEN none of them changes a value, or stands in the way
        assert!(guilty.is_empty(), "{owner:?}: {guilty:#?}");
    }
}

#[tokio::test]
async fn a_setting_that_cannot_be_taken_back_is_refused_by_name() {
    // GIVEN a role without rights whose triggers and foreign keys were switched off for it
    let mut world = World::with_orders(10).await;
    world
        .wh(
            "create role clerk login password 's3cr3t-of-the-test'; alter role clerk set \
             session_replication_role = replica; \
             grant all on all tables in schema public, highwater to clerk; grant usage on schema \
             highwater to clerk",
        )
        .await;
    let url = world.server.url_as("clerk", server::PASSWORD, "wh");
    world.target = PostgresTarget::new(
        &url,
        "wh".parse().expect("a name"),
        world.supervisor.clone(),
    )
    .expect("a good url");
    // WHEN it comes to the target THEN it is refused, by the setting and by what takes it back
    let columns = world.target.columns(&table_name("orders")).await;
    let message = refused(columns, ErrorClass::Permanent, "setting_not_pinned");
    assert!(
        message.contains("session_replication_role is not origin"),
        "{message}"
    );
    assert!(
        message.contains("alter role clerk reset session_replication_role"),
        "{message}"
    );
}

#[tokio::test]
async fn a_table_without_a_schema_is_the_one_that_the_role_means() {
    // GIVEN two tables of one name on either side, and a role that finds the second one first
    let mut world = World::with_orders(10).await;
    world
        .legacy("create schema own; create table own.orders (id bigint primary key, note text)")
        .await;
    world
        .legacy("insert into own.orders values (1, 'mine')")
        .await;
    world
        .wh("create schema own; create table own.orders (id bigint primary key, note text)")
        .await;
    world
        .wh("alter role postgres set search_path = own, public")
        .await;
    // WHEN the table is loaded without its schema
    assert!(matches!(
        world.guarded(1).await.commit().await,
        CommitOutcome::Committed(_)
    ));
    // THEN the role's own was meant on both sides
    assert_eq!(
        world
            .count("select count(*) from own.orders where note = 'mine'")
            .await,
        1
    );
    assert_eq!(world.count("select count(*) from public.orders").await, 0);
    // and one that is still to be made, of a stream without receipts, is made where the role makes
    // its tables
    world
        .wh("drop table own.orders, public.orders; drop schema highwater cascade")
        .await;
    world.prepare().await.expect("prepared");
    assert_eq!(world.count("select count(*) from own.orders").await, 0);
}

#[tokio::test]
async fn triggers_and_views_find_what_the_role_finds() {
    // GIVEN a view and a trigger whose functions name tables of the role's own search path, without
    // their schema
    let mut world = World::with_orders(10).await;
    let lookup = "create schema own; create table own.notes (id bigint primary key, note text); \
                  insert into own.notes select n, 'own ' || n from generate_series(1, 10) n;";
    world.legacy(lookup).await;
    world
        .legacy(
            "create function own.note_of(i bigint) returns text language plpgsql stable as \
               $$ begin return (select note from notes where id = i); end $$; \
               alter table orders rename to base; create view orders as select id, own.note_of(id) \
               as note from base",
        )
        .await;
    world.wh(lookup).await;
    world
        .wh(
            "create function own.note() returns trigger language plpgsql as \
               $$ begin update notes set note = 'seen' where id = new.id; return new; end $$; \
             create trigger note before insert on orders for each row execute function own.note(); \
             alter role postgres set search_path = public, own",
        )
        .await;
    // WHEN rows are moved from the one to the other
    let tx = world.held(1).await.begin().await.expect("begun");
    let request = world.write_request(all(), RowFormat::CopyText).await;
    let (tx, receipt) = world.write(tx, &request).await.expect("written");
    let GuardOutcome::Holds(guarded) = tx.guard(&GuardStep::last(receipt)).await.expect("no fault")
    else {
        panic!("lost")
    };
    assert!(matches!(
        guarded.commit().await,
        CommitOutcome::Committed(_)
    ));
    // THEN both found theirs
    assert_eq!(
        world
            .count("select count(*) from orders where note = 'own ' || id")
            .await,
        10
    );
    assert_eq!(
        world
            .count("select count(*) from own.notes where note = 'seen'")
            .await,
        10
    );
}
