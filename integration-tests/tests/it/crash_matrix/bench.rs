//! What the cells of a test share: one server, the sources, and a few cells at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use highwater_integration_tests::{Binary, Etcd, Postgres};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

/// How often a cell is begun until something strikes.
const BEGUN_MAX: usize = 3;
/// Rows of the source.
pub(super) const ROWS: i64 = 620;
/// Partitions: 12 of 50 rows, and one of the 20 rows whose place is NULL.
pub(super) const PARTITIONS: i64 = 13;

/// A server and two sources with the same rows.
pub(super) struct Bench {
    pub(super) server: Postgres,
    /// The source of PostgreSQL targets.
    pub(super) postgres_source: String,
    /// The source of SQLite targets.
    pub(super) sqlite_source: PathBuf,
    folder: TempDir,
    /// Whether [`Bench::make_apart`] was done.
    apart: OnceCell<()>,
}

impl Bench {
    pub(super) async fn start() -> Result<Self> {
        Binary::highwater().await?; // built before any cell's time begins
        let server = Postgres::start().await?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let postgres_source = server.create_database("source").await?;
        let mut conn = server.connect("source").await?;
        let rows = "create table parts (id bigint primary key, place bigint, note text); \
            insert into parts select n, case when n <= 600 then n - 1 end, 'part ' || n from \
            generate_series(1, 620) n; \
            create index on parts (place); analyze parts";
        sqlx::raw_sql(rows)
            .execute(&mut conn)
            .await
            .context("make the source")?;
        conn.close()
            .await
            .context("close the connection that made the source")?;
        let sqlite_source = folder.path().join("source.db");
        let rows = "create table parts (id integer primary key, place integer, note text); \
            with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < \
            620) \
            insert into parts select n, case when n <= 600 then n - 1 end, 'part ' || n from \
            numbers; \
            create index parts_place on parts (place)";
        make_sqlite(&sqlite_source, rows).await?;
        Ok(Self {
            server,
            postgres_source,
            sqlite_source,
            folder,
            apart: OnceCell::new(),
        })
    }

    /// Makes a source `parts_apart` in PostgreSQL: the same rows, but in so many pages, most of them
    /// empty, that the table is a large one.
    pub(super) async fn make_apart(&self) -> Result<()> {
        let made = self.apart.get_or_try_init(async || {
            let mut conn = self.server.connect("source").await?;
            let rows = "create table parts_apart (like parts including all); \
                alter table parts_apart alter note set storage plain; \
                insert into parts_apart select * from parts where id % 2 = 0; \
                insert into parts_apart select -n, null, repeat('x', 7000) from \
                generate_series(1, 8300) n; \
                insert into parts_apart select * from parts where id % 2 = 1; \
                delete from parts_apart where id < 0; analyze parts_apart";
            let made = sqlx::raw_sql(rows).execute(&mut conn).await;
            made.context("make the source of many pages")?;
            conn.close().await.context("close its connection")
        });
        made.await.copied()
    }

    /// The folder of a cell of its own.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }
}

/// What the cells of a cluster share besides: an etcd, in which each of them is a cluster of its
/// own.
pub(super) struct ClusterBench {
    pub(super) databases: Bench,
    pub(super) etcd: Etcd,
}

impl ClusterBench {
    pub(super) async fn start() -> Result<Self> {
        let (databases, etcd) = tokio::try_join!(Bench::start(), Etcd::start())?;
        Ok(Self { databases, etcd })
    }
}

/// A cell in which nothing happened: it proves nothing. On a machine so busy that a session ends
/// before the place is come to, that is the machine's doing, so the cell is begun anew.
#[derive(Debug)]
pub(super) struct NeverStruck;

impl fmt::Display for NeverStruck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the failpoint never struck")
    }
}

impl std::error::Error for NeverStruck {}

/// A cell: something strikes, and everything is exact nonetheless.
pub(super) trait Strike: fmt::Display + Copy + Send + Sync + 'static {
    /// What it shares with others.
    type Bench: Send + Sync + 'static;

    /// Strikes, and looks. `no` is the cell's own number.
    fn run(self, bench: &Self::Bench, no: usize) -> impl Future<Output = Result<()>> + Send;
}

/// Runs the cells, so many at once, and panics with all that failed.
pub(super) async fn in_turns<C: Strike>(bench: C::Bench, cells: Vec<C>, at_once: usize) {
    let bench = Arc::new(bench);
    let seats = Arc::new(Semaphore::new(at_once));
    let count = cells.len();
    let mut running = JoinSet::new();
    for (no, cell) in cells.into_iter().enumerate() {
        let (bench, seats) = (Arc::clone(&bench), Arc::clone(&seats));
        running.spawn(async move {
            let _seat = seats.acquire_owned().await;
            let began = std::time::Instant::now();
            let mut outcome = cell.run(&bench, no).await;
            for again in 1..BEGUN_MAX {
                let Some(NeverStruck) =
                    outcome.as_ref().err().and_then(anyhow::Error::downcast_ref)
                else {
                    break;
                };
                eprintln!("{cell}: nothing struck; once more");
                outcome = cell.run(&bench, no + count * again).await;
            }
            eprintln!(
                "{cell}: {} in {:.1?}",
                if outcome.is_ok() { "exact" } else { "FAILED" },
                began.elapsed()
            );
            outcome.with_context(|| cell.to_string())
        });
    }
    let outcomes = running.join_all().await;
    let failed: Vec<String> = outcomes
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {count} cells failed:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}

pub(super) async fn make_sqlite(file: &Path, statements: &str) -> Result<()> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    let mut conn = SqliteConnection::connect_with(&options).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
        .execute(&mut conn)
        .await
        .with_context(|| format!("make {}", file.display()))?;
    conn.close()
        .await
        .with_context(|| format!("close {}", file.display()))
}
