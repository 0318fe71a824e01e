//! Partitions are found again: on every pair of connectors, by every kind of position, twice over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_integration_tests::digest::{digest_postgres_query, digest_sqlite_query};
use highwater_integration_tests::{Binary, Digest, Finished, Postgres};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

/// A database of a test's own.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Postgres(String),
    Sqlite(PathBuf),
}

impl Place {
    /// Runs SQL of the place's own dialect.
    pub(super) async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(url) => {
                let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
            }
            Self::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true);
                let mut conn = SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
                conn.close().await.unwrap();
            }
        }
    }

    /// What the rows of a query are, every value as text.
    pub(super) async fn digest(&self, query: &str) -> Digest {
        match self {
            Self::Postgres(url) => digest_postgres_query(url, query).await.unwrap(),
            Self::Sqlite(path) => digest_sqlite_query(path, query).await.unwrap(),
        }
    }

    pub(super) async fn count(&self, table: &str) -> u64 {
        self.digest(&format!("select 1 from {table}")).await.rows
    }

    pub(super) fn spec(&self, variable: &str) -> String {
        match self {
            Self::Postgres(_) => format!("{{type: postgres, url: \"${{env:{variable}}}\"}}"),
            Self::Sqlite(path) => format!("{{type: sqlite, path: \"{}\"}}", path.display()),
        }
    }

    pub(super) fn url(&self) -> &str {
        match self {
            Self::Postgres(url) => url,
            Self::Sqlite(_) => "",
        }
    }
}

/// A server, a folder, and what they hold.
pub(super) struct World {
    server: Postgres,
    folder: TempDir,
}

impl World {
    pub(super) async fn start() -> Self {
        Self {
            server: Postgres::start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) async fn postgres(&self, name: &str) -> Place {
        Place::Postgres(self.server.create_database(name).await.unwrap())
    }

    pub(super) fn sqlite(&self, name: &str) -> Place {
        Place::Sqlite(self.folder.path().join(format!("{name}.db")))
    }

    /// Runs a pipeline of these steps, in a folder that belongs to its name.
    pub(super) async fn run(
        &self,
        name: &str,
        from: &Place,
        to: &Place,
        steps: &[Step],
    ) -> Finished {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut text = format!(
            "version: 1\nname: {name}\nconnections:\n  source: {}\n  target: {}\nsteps:\n",
            from.spec("SOURCE_URL"),
            to.spec("TARGET_URL")
        );
        for Step { table, partition } in steps {
            text.push_str(&format!(
                "  {table}:\n    strategy: {{type: backfill, reprocess: all}}\n    from: \
                 {{connection: source, table: {table}}}\n    to: {{connection: target, table: \
                 {table}}}\n    partition: {{{partition}}}\n    write: {{mode: \
                 replace_partition}}\n"
            ));
        }
        std::fs::write(folder.join("pipeline.yaml"), text).unwrap();
        let highwater =
            Binary::highwater()
                .await
                .unwrap()
                .args(["run", "pipeline.yaml", "--workers", "2"]);
        let highwater = highwater
            .env("SOURCE_URL", from.url())
            .env("TARGET_URL", to.url());
        highwater.current_folder(&folder).run(LIMIT).await.unwrap()
    }

    /// Runs a pipeline that must succeed.
    pub(super) async fn load(&self, name: &str, from: &Place, to: &Place, steps: &[Step]) {
        let finished = self.run(name, from, to, steps).await;
        assert!(
            finished.status.success(),
            "{name}: {}\n{}",
            finished.stdout,
            finished.stderr
        );
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A table that is loaded from one place to the other under the same name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) table: &'static str,
    pub(super) partition: &'static str,
}

const STEPS: [Step; 4] = [
    Step {
        table: "instants",
        partition: "by: calendar, column: at, grain: day, tz: Europe/Berlin",
    },
    Step {
        table: "civils",
        partition: "by: calendar, column: at, grain: day",
    },
    Step {
        table: "dates",
        partition: "by: calendar, column: at, grain: month",
    },
    Step {
        table: "numbers",
        partition: "by: integer, column: at, width: 100",
    },
];
const EPOCHS: [Step; 2] = [
    Step {
        table: "seconds",
        partition: "by: calendar, column: at, grain: day, tz: Europe/Berlin",
    },
    Step {
        table: "millis",
        partition: "by: calendar, column: at, grain: day, tz: Europe/Berlin",
    },
];

/// Rows at, just below and just above the midnights of a week in which Berlin's clocks change, with
/// all lengths of fractions, and rows without a position.
const POSTGRES_ROWS: &str = "
    create table instants (id int primary key, at timestamptz, note text);
    insert into instants select n, timestamptz '2013-03-29 22:59:59.999+00' + n * interval '1 h 0.00025 s', 'r' || n
        from generate_series(0, 150) n;
    insert into instants values (900, '2013-03-30 23:00:00+00', 'a'), (901, '2013-03-31 22:00:00+00', 'b'),
        (902, '2013-03-31 21:59:59.999999+00', 'c'), (903, null, 'd'), (904, null, 'e'), (905, 'infinity', 'f'),
        (906, '-infinity', 'g'), (907, '2013-03-31 22:00:00.000001+00', 'h');
    create table civils (id int primary key, at timestamp, note text);
    insert into civils select id, at at time zone 'UTC', note from instants;
    create table dates (id int primary key, at date, note text);
    insert into dates select n, date '2012-12-31' + n, 'r' || n from generate_series(0, 150) n;
    insert into dates values (903, null, 'd'), (905, 'infinity', 'f'), (906, '-infinity', 'g');
    create table numbers (id int primary key, at bigint, note text);
    insert into numbers select n, n * 7 - 300, 'r' || n from generate_series(0, 150) n;
    insert into numbers values (903, null, 'd');
";

const SQLITE_ROWS: &str = "
    create table n (n integer primary key);
    insert into n with recursive c (n) as (select 0 union all select n + 1 from c where n < 150) select n from c;
    create table seconds (id int primary key not null, at timestamp, note text);
    insert into seconds select n, 1364597999 + n * 3601, 'r' || n from n;
    insert into seconds values (900, 1364684400, 'a'), (901, 1364767200, 'b'), (903, null, 'd');
    create table millis (id int primary key not null, at datetime, note text);
    insert into millis select id, at * 1000 + id % 3 * 499, note from seconds;
    create table instants (id int primary key not null, at text, note text);
    insert into instants select id, strftime('%Y-%m-%dT%H:%M:%S.', at, 'unixepoch') || printf('%03dZ', id % 1000), note
        from seconds;
    insert into instants values (902, '2013-03-31T21:59:59.999Z', 'c'), (907, '2013-03-31T22:00:00.001Z', 'h');
    create table civils (id int primary key not null, at datetime, note text);
    insert into civils select id, datetime(at, 'unixepoch'), note from seconds;
    create table dates (id int primary key not null, at date, note text);
    insert into dates select n, date('2012-12-31', '+' || n || ' days'), 'r' || n from n;
    insert into dates values (903, null, 'd');
    create table numbers (id int primary key not null, at integer, note text);
    insert into numbers select n, n * 7 - 300, 'r' || n from n;
    insert into numbers values (903, null, 'd');
";

/// The same change to each table: one row goes, one comes, one moves to another partition, one
/// loses its position.
async fn change(place: &Place, steps: &[Step]) {
    for Step { table, .. } in steps {
        place
            .execute(&format!(
                "delete from {table} where id = 7; insert into {table} select (select max(id) + 1 \
                 from {table}), at, 'new' from {table} where id = 90; \
                 update {table} set at = (select o.at from {table} o where o.id = 120) where id = \
                 11; \
                 update {table} set at = null where id = 20"
            ))
            .await;
    }
}

async fn assert_same(from: &Place, to: &Place, steps: &[Step], when: &str) {
    for Step { table, .. } in steps {
        let query = format!("select id, at, note from {table} order by id");
        assert_eq!(
            to.digest(&query).await,
            from.digest(&query).await,
            "{table} {when}"
        );
    }
}

/// Loads all tables, changes the source, and loads them again.
async fn twice(world: &World, name: &str, from: &Place, to: &Place, steps: &[Step]) {
    world.load(name, from, to, steps).await;
    assert_same(from, to, steps, "once").await;
    change(from, steps).await;
    world.load(name, from, to, steps).await;
    assert_same(from, to, steps, "twice").await;
}

#[tokio::test]
async fn partitions_are_found_again_from_postgres_to_postgres() {
    let world = World::start().await;
    let (from, to) = (world.postgres("legacy").await, world.postgres("wh").await);
    from.execute(POSTGRES_ROWS).await;
    twice(&world, "pg_pg", &from, &to, &STEPS).await;
}

#[tokio::test]
async fn partitions_are_found_again_from_postgres_to_sqlite_and_on_from_there() {
    let world = World::start().await;
    let (from, to) = (world.postgres("legacy").await, world.sqlite("wh"));
    from.execute(POSTGRES_ROWS).await;
    twice(&world, "pg_lite", &from, &to, &STEPS).await;
    // The copy is a source like any other: its texts are known for the instants and civil times
    // that they are.
    let on = world.sqlite("on");
    twice(&world, "lite_on", &to, &on, &STEPS).await;
    // And what is text there is an instant again where a table says so.
    let back = world.postgres("back").await;
    let tables = "create table instants (id bigint primary key, at timestamptz, note text);
        create table civils (id bigint primary key, at timestamp, note text);
        create table dates (id bigint primary key, at date, note text);
        create table numbers (id bigint primary key, at bigint, note text);";
    back.execute(tables).await;
    twice(&world, "lite_back", &on, &back, &STEPS).await;
}

#[tokio::test]
async fn partitions_are_found_again_from_sqlite_to_postgres() {
    let world = World::start().await;
    let (from, to) = (world.sqlite("legacy"), world.postgres("wh").await);
    from.execute(SQLITE_ROWS).await;
    let steps: Vec<Step> = STEPS.into_iter().chain(EPOCHS).collect();
    twice(&world, "lite_pg", &from, &to, &steps).await;
}

#[tokio::test]
async fn partitions_are_found_again_from_sqlite_to_sqlite() {
    let world = World::start().await;
    let (from, to) = (world.sqlite("legacy"), world.sqlite("wh"));
    from.execute(SQLITE_ROWS).await;
    let steps: Vec<Step> = STEPS.into_iter().chain(EPOCHS).collect();
    twice(&world, "lite_lite", &from, &to, &steps).await;
}

#[tokio::test]
async fn a_target_that_holds_positions_in_another_form_is_refused_before_it_is_touched() {
    let world = World::start().await;
    let from = world.sqlite("legacy");
    from.execute(SQLITE_ROWS).await;
    let table = "create table instants (id bigint primary key, at text, note text)";
    let other = "insert into instants values (1, '2013-03-30 10:00:00', 'mine')";
    for (name, to) in [
        ("refused_lite", world.sqlite("wh")),
        ("refused_pg", world.postgres("wh").await),
    ] {
        // GIVEN a target table whose times are written otherwise than the source's
        to.execute(table).await;
        to.execute(other).await;
        // WHEN the step is run
        let finished = world.run(name, &from, &to, &STEPS[..1]).await;
        // THEN it is refused by the column's name and both forms, and nothing was touched
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(!finished.status.success());
        for part in [
            "column at of instants",
            "2013-01-31 05:00:00",
            "2013-01-31T05:00:00.000Z",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(to.count("instants").await, 1);
        assert!(world.path().join(name).exists());
    }
}
