//! A folder with a pipeline between two databases, and what can be asked of them from outside.
//!
//! The table `events` has 2,000 rows: 100 on each of the 20 days from 2024-03-01, so that the
//! pipeline has 20 tasks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use highwater_integration_tests::digest::{
    digest_both_sqlite, digest_postgres, digest_postgres_query, digest_sqlite_query,
};
use highwater_integration_tests::{Binary, Digest, Finished, Line, Postgres, Running, until};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection,
};
use tempfile::TempDir;

/// How long a command may take before the test gives up on it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The tasks of [`Site::BACKFILL`].
pub(crate) const DAYS: i64 = 20;
/// The tasks of [`Site::with_hours`].
pub(crate) const HOURS: i64 = 96;
/// The rows of `events`.
pub(crate) const ROWS: i64 = 2_000;

/// Which database stands on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

/// A side of the pipeline, and the name of its connection and of its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// A folder with a pipeline in it, and its databases.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
    server: Option<Postgres>,
    urls: BTreeMap<&'static str, String>,
}

impl Site {
    /// 20 days, a task each.
    pub(crate) const BACKFILL: &'static str =
        "{type: backfill, start: 2024-03-01, end: 2024-03-21}";

    /// Two empty databases.
    pub(crate) async fn empty(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut urls = BTreeMap::new();
        let server = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => {
                let server = Postgres::start().await.unwrap();
                for (variable, side) in [("SOURCE_URL", Side::Source), ("TARGET_URL", Side::Target)]
                {
                    urls.insert(variable, server.create_database(side.name()).await.unwrap());
                }
                Some(server)
            }
        };
        Self {
            folder,
            server,
            urls,
        }
    }

    /// Two databases, `events` in the first, and a pipeline with this write clause.
    pub(crate) async fn with_events(engine: Engine, write: &str) -> Self {
        let site = Self::empty(engine).await;
        site.make_events("not null").await;
        site.pipeline(Self::BACKFILL, write);
        site
    }

    /// Two databases, `events` of four days, and a pipeline with this write clause that copies it
    /// by the hour: so many tasks that a process can be met in their midst.
    pub(crate) async fn with_hours(engine: Engine, write: &str) -> Self {
        let site = Self::with_events(engine, write).await;
        site.execute(Side::Source, "delete from events where id > 400")
            .await;
        let days = std::fs::read_to_string(site.path("pipeline.yaml")).unwrap();
        let hours = days
            .replace("grain: day", "grain: hour")
            .replace("end: 2024-03-21", "end: 2024-03-05");
        std::fs::write(site.path("pipeline.yaml"), hours).unwrap();
        site
    }

    /// Makes the source's table; `at` stands behind the type of its column `at`.
    pub(crate) async fn make_events(&self, at: &str) {
        self.execute(Side::Source, &self.events_table(at, "")).await;
        let fill = match self.server {
            Some(_) => {
                "insert into events select i, timestamptz '2024-03-01 00:00Z' + (i - 1) * interval \
                 '864 s', i * 1.5, \
                 nullif('note ' || i % 7, 'note 3') from generate_series(1, 2000) i"
            }
            None => {
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < 2000) \
                 insert into events \
                 select i, strftime('%Y-%m-%dT%H:%M:%SZ', '2024-03-01', '+' || ((i - 1) * 864) || \
                 ' seconds'), i * 1.5, \
                 nullif('note ' || i % 7, 'note 3') from n"
            }
        };
        self.execute(Side::Source, fill).await;
        self.execute(Side::Source, "create index events_at on events (at)")
            .await;
    }

    /// The statement that makes `events`, with what stands behind the type of `at`, and behind the
    /// last column.
    pub(crate) fn events_table(&self, at: &str, more: &str) -> String {
        match self.server {
            Some(_) => format!(
                "create table events (id bigint primary key, at timestamptz {at}, amount \
                 numeric(12, 2) not null, \
                 note text {more})"
            ),
            None => format!(
                "create table events (id integer not null primary key, at text {at}, amount real \
                 not null, \
                 note text {more})"
            ),
        }
    }

    /// Writes a pipeline that cuts `events` by day.
    pub(crate) fn pipeline(&self, strategy: &str, write: &str) {
        self.write_pipeline(&format!(
            "steps:\n  events:\n    strategy: {strategy}\n    from: {{connection: source, table: \
             events}}\n    to: {{connection: target, table: events}}\n    partition: {{by: \
             calendar, column: at, grain: day, tz: UTC}}\n    write: {write}\n"
        ));
    }

    /// Writes a pipeline with these steps.
    pub(crate) fn write_pipeline(&self, steps: &str) {
        let connections = match self.server {
            Some(_) => {
                "  source: {type: postgres, url: \"${env:SOURCE_URL}\"}\n  target: {type: \
                 postgres, url: \"${env:TARGET_URL}\"}\n"
            }
            None => {
                "  source: {type: sqlite, path: source.db}\n  target: {type: sqlite, path: \
                     target.db}\n"
            }
        };
        let text = format!("version: 1\nname: events\nconnections:\n{connections}{steps}");
        std::fs::write(self.path("pipeline.yaml"), text).unwrap();
    }

    /// A file of the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server, when PostgreSQL stands on both sides.
    pub(crate) fn server(&self) -> &Postgres {
        self.server.as_ref().unwrap()
    }

    /// The same, to stop it and to start it again.
    pub(crate) fn server_mut(&mut self) -> &mut Postgres {
        self.server.as_mut().unwrap()
    }

    /// Puts a line that can fall silent between the pipeline and one side.
    pub(crate) async fn draw_line(&mut self, variable: &'static str, side: Side) -> Line {
        let line = Line::to(self.server().port()).await.unwrap();
        self.point(
            variable,
            format!(
                "postgres://postgres@127.0.0.1:{}/{}",
                line.port(),
                side.name()
            ),
        );
        line
    }

    /// Puts another URL in the place of `SOURCE_URL` or `TARGET_URL`.
    pub(crate) fn point(&mut self, variable: &'static str, url: String) {
        self.urls.insert(variable, url);
    }

    /// The `highwater` command in this folder.
    pub(crate) async fn highwater(&self, args: &[&str]) -> Binary {
        let highwater = Binary::highwater()
            .await
            .unwrap()
            .args(args)
            .current_folder(self.folder.path());
        self.urls
            .iter()
            .fold(highwater, |highwater, (name, url)| highwater.env(name, url))
    }

    /// Runs a command to its end.
    pub(crate) async fn finish(&self, args: &[&str]) -> Finished {
        self.highwater(args).await.run(LIMIT).await.unwrap()
    }

    /// `highwater run pipeline.yaml`, to its end.
    pub(crate) async fn run(&self) -> Finished {
        self.finish(&["run", "pipeline.yaml"]).await
    }

    /// `highwater run pipeline.yaml`, slowed or broken by failpoints.
    pub(crate) async fn start(&self, failpoints: &str) -> Running {
        self.highwater(&["run", "pipeline.yaml"])
            .await
            .failpoints(failpoints)
            .start()
            .unwrap()
    }

    /// The latest run, as `status -o json` tells it.
    pub(crate) async fn status(&self) -> Value {
        let finished = self.finish(&["status", "-o", "json"]).await;
        assert_exit(&finished, 0);
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// Copies the state that no process holds, from one folder to another.
    pub(crate) fn copy_state(&self, from: &str, to: &str) {
        std::fs::create_dir(self.path(to)).unwrap();
        for entry in std::fs::read_dir(self.path(from)).unwrap() {
            let entry = entry.unwrap();
            // The socket of a killed process is nothing that could be copied.
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), self.path(to).join(entry.file_name())).unwrap();
            }
        }
    }

    /// Executes a statement on one side.
    pub(crate) async fn execute(&self, side: Side, sql: &str) {
        if self.server.is_some() {
            let mut conn = self.postgres(side).await;
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
                .execute(&mut conn)
                .await
                .unwrap();
            conn.close().await.unwrap();
        } else {
            let mut conn = self.sqlite(side).await;
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
                .execute(&mut conn)
                .await
                .unwrap();
            conn.close().await.unwrap();
        }
    }

    /// Locks `events` on one side against everybody, and comes back once somebody waits for it.
    /// Closing the session lets go.
    pub(crate) async fn hold_events_until_waited_for(&self, side: Side) -> PgConnection {
        let mut conn = self.postgres(side).await;
        sqlx::raw_sql("begin; lock table events in access exclusive mode")
            .execute(&mut conn)
            .await
            .unwrap();
        let waiting = "from pg_locks where not granted and relation = 'events'::regclass";
        let waited_for =
            async || Ok((self.numbers(side, ["count(*)"], waiting).await[0] > 0).then_some(()));
        until("somebody who waits for events", LIMIT, waited_for)
            .await
            .unwrap();
        conn
    }

    /// The numbers of a query's only row.
    pub(crate) async fn numbers<const N: usize>(
        &self,
        side: Side,
        columns: [&str; N],
        from: &str,
    ) -> [i64; N] {
        let columns = columns.map(|column| format!("cast({column} as bigint)"));
        let select = AssertSqlSafe(format!("select {} {from}", columns.join(", ")));
        if self.server.is_some() {
            let mut conn = self.postgres(side).await;
            let row = conn.fetch_one(select).await.unwrap();
            std::array::from_fn(|at| row.get(at))
        } else {
            let mut conn = self.sqlite(side).await;
            let row = conn.fetch_one(select).await.unwrap();
            std::array::from_fn(|at| row.get(at))
        }
    }

    /// The rows of a query of one column, as text.
    pub(crate) async fn texts(&self, side: Side, column: &str, from: &str) -> Vec<String> {
        let select = AssertSqlSafe(format!("select cast({column} as text) {from}"));
        if self.server.is_some() {
            sqlx::query_scalar(select)
                .fetch_all(&mut self.postgres(side).await)
                .await
                .unwrap()
        } else {
            sqlx::query_scalar(select)
                .fetch_all(&mut self.sqlite(side).await)
                .await
                .unwrap()
        }
    }

    async fn postgres(&self, side: Side) -> PgConnection {
        self.server().connect(side.name()).await.unwrap()
    }

    async fn sqlite(&self, side: Side) -> SqliteConnection {
        let file = self.path(&format!("{}.db", side.name()));
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .busy_timeout(LIMIT);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    /// The table of the ledger that holds tasks, runs or the mark: `task`, `run`, `meta`.
    pub(crate) fn ledger(&self, table: &str) -> String {
        match self.server {
            Some(_) => format!("highwater.{table}"),
            None => format!("_highwater_{table}"),
        }
    }

    /// Whether the target has the ledger's table of tasks.
    pub(crate) async fn has_ledger(&self) -> bool {
        let (from, file) = match self.server {
            Some(_) => (
                "from pg_class where relname = 'task' and relnamespace::regnamespace::text = \
                  'highwater'",
                None,
            ),
            None => (
                "from sqlite_schema where name = '_highwater_task'",
                Some(self.path("target.db")),
            ),
        };
        // To ask would make the file.
        if file.is_some_and(|file| !file.exists()) {
            return false;
        }
        self.numbers(Side::Target, ["count(*)"], from).await == [1]
    }

    /// Ledger rows in a state; 0 without a ledger.
    pub(crate) async fn tasks(&self, state: char) -> i64 {
        if !self.has_ledger().await {
            return 0;
        }
        let from = format!("from {} where state = '{state}'", self.ledger("task"));
        self.numbers(Side::Target, ["count(*)"], &from).await[0]
    }

    /// Waits until the ledger has so many committed tasks.
    pub(crate) async fn until_committed(&self, tasks: i64) {
        let what = format!("{tasks} committed tasks");
        until(&what, LIMIT, async || {
            Ok((self.tasks('C').await >= tasks).then_some(()))
        })
        .await
        .unwrap();
    }

    /// The digests of `events` on both sides.
    pub(crate) async fn digests(&self) -> (Digest, Digest) {
        match &self.server {
            Some(server) => {
                let both = [Side::Source, Side::Target].map(|side| server.url(side.name()));
                let [source, target] = &both;
                let (source, target) = tokio::join!(
                    digest_postgres(source, "events", "id"),
                    digest_postgres(target, "events", "id")
                );
                (source.unwrap(), target.unwrap())
            }
            None => {
                let (source, target) = (self.path("source.db"), self.path("target.db"));
                digest_both_sqlite(&source, &target, "events")
                    .await
                    .unwrap()
            }
        }
    }

    /// The digests of a query's rows on each side.
    pub(crate) async fn digests_of(&self, source: &str, target: &str) -> (Digest, Digest) {
        match &self.server {
            Some(server) => {
                let [from, to] = [Side::Source, Side::Target].map(|side| server.url(side.name()));
                let (source, target) = tokio::join!(
                    digest_postgres_query(&from, source),
                    digest_postgres_query(&to, target)
                );
                (source.unwrap(), target.unwrap())
            }
            None => {
                let (from, to) = (self.path("source.db"), self.path("target.db"));
                let (source, target) = tokio::join!(
                    digest_sqlite_query(&from, source),
                    digest_sqlite_query(&to, target)
                );
                (source.unwrap(), target.unwrap())
            }
        }
    }

    /// The target holds every row of the source once, and `tasks` ranges are committed, each of
    /// them once. The target may have no key.
    pub(crate) async fn assert_rows_once(&self, tasks: i64) {
        let rows = self
            .numbers(Side::Source, ["count(*)"], "from events")
            .await[0];
        let held = self
            .numbers(
                Side::Target,
                ["count(*)", "count(distinct id)"],
                "from events",
            )
            .await;
        assert_eq!(held, [rows, rows]);
        assert_eq!(self.tasks('C').await, tasks);
    }

    /// The tasks of a step that loads a table which it has made: in PostgreSQL it is built by one
    /// more.
    pub(crate) const fn with_build(&self, tasks: i64) -> i64 {
        match self.server {
            Some(_) => tasks + 1,
            None => tasks,
        }
    }

    /// Source and target hold the same; `tasks` ranges are committed, each of them once, and no
    /// other row is in the ledger.
    pub(crate) async fn assert_copied_once(&self, tasks: i64) {
        let (source, target) = self.digests().await;
        assert_eq!(source, target);
        let task = self.ledger("task");
        let key = "slice_kind || ':' || coalesce(cast(range_start as text), '') || ':' || \
                   coalesce(cast(range_end as text), '')";
        let columns = [
            "count(*)",
            &format!("count(distinct {key})"),
            "coalesce(sum(rows), 0)",
        ];
        let committed = self
            .numbers(
                Side::Target,
                columns,
                &format!("from {task} where state = 'C'"),
            )
            .await;
        assert_eq!(
            committed,
            [tasks, tasks, i64::try_from(source.rows).unwrap()]
        );
        assert_eq!(self.tasks('O').await, 0, "no task is left open");
    }

    /// Everything that tells whether a row was written: the ledger, and where and by which
    /// transaction the rows stand.
    pub(crate) async fn fingerprint(&self) -> (Vec<String>, Vec<String>) {
        let (row, ledger) = match self.server {
            Some(_) => (
                "id || ':' || xmin::text || ctid::text",
                "t.xmin::text || t::text",
            ),
            None => (
                "id || ':' || rowid",
                "run_id || task_id || token || hex(nonce) || state || chunk || \
                 coalesce(committed_at, '')",
            ),
        };
        let rows = self
            .texts(Side::Target, row, "from events order by id")
            .await;
        let from = format!("from {} t order by run_id, task_id", self.ledger("task"));
        (rows, self.texts(Side::Target, ledger, &from).await)
    }
}

/// The command ended with this code.
#[track_caller]
pub(crate) fn assert_exit(finished: &Finished, code: i32) {
    assert_eq!(
        finished.status.code(),
        Some(code),
        "stdout: {}\nstderr: {}",
        finished.stdout,
        finished.stderr
    );
}

/// What was printed holds the text.
#[track_caller]
pub(crate) fn assert_says(printed: &str, text: &str) {
    assert!(printed.contains(text), "{text:?} is not in: {printed}");
}
