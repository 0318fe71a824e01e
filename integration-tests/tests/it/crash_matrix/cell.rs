//! One cell of the matrix: it strikes, sees that it did, lets the run come to its end, and looks at every row and at the ledger.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use highwater_integration_tests::digest::{digest_postgres_query, digest_sqlite_query};
use highwater_integration_tests::{Binary, Finished, Signal};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use super::Place;
use super::bench::{Bench, PARTITIONS, ROWS, make_sqlite};

/// The longest that a run may take from the strike to its end.
const CONVERGED_MAX: Duration = Duration::from_secs(30);
/// How long a silent worker counts as alive. A stall of four seconds is longer.
const SESSION_TTL: &str = "3s";
/// The signal of `abort()`.
const SIGABRT: i32 = 6;
/// The exit code of a command whose question met the end of a term.
const UNREACHABLE: i32 = 5;

const ROWS_QUERY: &str = "select id, place, note from parts order by id, place, note";

/// What happens at the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The process ends.
    Abort,
    /// The step fails, and the process goes on.
    Fail,
    /// The step waits, and the process is killed.
    Kill,
    /// The step waits for longer than a lease lives, then goes on.
    Resume,
}

/// What the rows go to; they come from the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Postgres,
    Sqlite,
}

/// How they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Append,
    ReplacePartition,
}

/// A cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) place: Place,
    pub(super) action: Action,
    pub(super) engine: Engine,
    pub(super) mode: Mode,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, action, engine, mode } = self;
        write!(f, "{} (after {}) {action:?} {engine:?} {mode:?}", place.name, place.passed)
    }
}

/// A target of the cell's own.
enum Table {
    Postgres(String),
    Sqlite(PathBuf),
}

impl Cell {
    pub(super) async fn run(&self, bench: &Bench, no: usize) -> Result<()> {
        let folder = bench.folder(&format!("cell-{no}"))?;
        let table = self.make_table(bench, &folder, no).await?;
        std::fs::write(folder.join("pipeline.yaml"), self.pipeline(bench, &table)).context("write the pipeline")?;
        self.strike(&folder).await?;
        table.check(bench).await
    }

    /// Runs until the place struck and the run has ended, by itself or by another process.
    async fn strike(&self, folder: &Path) -> Result<()> {
        let armed = highwater(folder).await?.failpoints(&self.failpoints());
        let log = match self.action {
            Action::Kill => {
                let mut running = armed.start()?;
                let log = running.until_stderr_holds(&self.struck(), CONVERGED_MAX).await?;
                running.signal(Signal::Kill)?;
                running.wait(CONVERGED_MAX).await?;
                again(folder).await?;
                log
            }
            Action::Abort => {
                let Finished { status, stderr, .. } = armed.run(CONVERGED_MAX).await?;
                ensure!(status.signal() == Some(SIGABRT), "it ended otherwise ({status}): {stderr}");
                again(folder).await?;
                stderr
            }
            Action::Fail | Action::Resume => {
                let Finished { status, stdout, stderr } = armed.run(CONVERGED_MAX).await?;
                match status.code() {
                    Some(0) => ended_well(&stdout)?,
                    Some(UNREACHABLE) => again(folder).await?,
                    _ => bail!("it did not get over it ({status}): {stderr}"),
                }
                stderr
            }
        };
        // A cell in which nothing happened proves nothing.
        ensure!(log.contains(&self.struck()), "the failpoint never struck: {log}");
        if self.is_zombie() {
            ensure!(log.contains("worker lost"), "the lease was not lost: {log}");
        }
        Ok(())
    }

    fn is_zombie(&self) -> bool {
        self.place.is_for_zombies && self.action == Action::Resume
    }

    /// What the log says when the place has struck.
    fn struck(&self) -> String {
        let worker = if self.is_zombie() { "@embedded-1" } else { "" };
        format!("failpoint {}{worker} struck", self.place.name)
    }

    fn failpoints(&self) -> String {
        let Place { name, passed, with, .. } = self.place;
        let passed = if passed == 0 { String::new() } else { format!("{passed}*off->") };
        let own = match self.action {
            Action::Abort => format!("{name}={passed}1*return(abort)"),
            Action::Fail => format!("{name}={passed}1*return"),
            Action::Kill => format!("{name}={passed}1*return(stall)"),
            Action::Resume if self.is_zombie() => {
                format!("{name}@embedded-1=1*off->1*return(stall 4000);heartbeat::silent@embedded-1=return(stall 5000)")
            }
            Action::Resume => format!("{name}={passed}1*return(stall 4000)"),
        };
        if with.is_empty() { own } else { format!("{own};{with}") }
    }

    async fn make_table(&self, bench: &Bench, folder: &Path, no: usize) -> Result<Table> {
        match self.engine {
            Engine::Postgres => {
                let name = format!("cell_{no}");
                let url = bench.server.create_database(&name).await?;
                let mut conn = bench.server.connect(&name).await?;
                // No key: a row written twice must be seen twice. The token says which attempt wrote it.
                let create = "create table parts (id bigint not null, place bigint, note text, \
                    token bigint not null default current_setting('highwater.token')::bigint); \
                    create index on parts (place)";
                sqlx::raw_sql(create).execute(&mut conn).await.context("make the target")?;
                conn.close().await.context("close the connection that made the target")?;
                Ok(Table::Postgres(url))
            }
            Engine::Sqlite => {
                let file = folder.join("target.db");
                let create = "create table parts (id integer not null, place integer, note text); \
                    create index parts_place on parts (place)";
                make_sqlite(&file, create).await?;
                Ok(Table::Sqlite(file))
            }
        }
    }

    fn pipeline(&self, bench: &Bench, table: &Table) -> String {
        let (source, target) = match table {
            Table::Postgres(url) => (
                format!("{{type: postgres, url: \"{}\"}}", bench.postgres_source),
                format!("{{type: postgres, url: \"{url}\"}}"),
            ),
            Table::Sqlite(file) => (
                format!("{{type: sqlite, path: {}}}", bench.sqlite_source.display()),
                format!("{{type: sqlite, path: {}}}", file.display()),
            ),
        };
        let mode = match self.mode {
            Mode::Append => "append",
            Mode::ReplacePartition => "replace_partition",
        };
        format!(
            "version: 1
name: matrix
connections:
  source: {source}
  target: {target}
steps:
  parts:
    strategy: {{type: backfill}}
    from: {{connection: source, table: parts}}
    to: {{connection: target, table: parts}}
    partition: {{by: integer, column: place, width: 50}}
    write: {{mode: {mode}, key: [id]}}
    retries: {{initial: 100ms}}
"
        )
    }
}

async fn highwater(folder: &Path) -> Result<Binary> {
    let args = ["run", "pipeline.yaml", "--workers", "2", "-v", "-o", "json", "--progress", "none"];
    let highwater = Binary::highwater().await?.args(args).env("NO_COLOR", "1");
    Ok(highwater.env("HIGHWATER_SESSION_TTL", SESSION_TTL).current_folder(folder))
}

/// Runs again, with nothing in the way.
async fn again(folder: &Path) -> Result<()> {
    let Finished { status, stdout, stderr } = highwater(folder).await?.run(CONVERGED_MAX).await?;
    ensure!(status.success(), "run again, it failed ({status}): {stderr}");
    ended_well(&stdout)
}

fn ended_well(stdout: &str) -> Result<()> {
    let run: serde_json::Value = serde_json::from_str(stdout).with_context(|| format!("read {stdout:?}"))?;
    ensure!(run["status"] == "success", "the run did not succeed: {stdout}");
    Ok(())
}

impl Table {
    /// Every row once, every ledger row committed, and each row under the token of its ledger row (I1, I4, I6).
    async fn check(&self, bench: &Bench) -> Result<()> {
        let (source, target) = match self {
            Self::Postgres(url) => (
                digest_postgres_query(&bench.postgres_source, ROWS_QUERY).await?,
                digest_postgres_query(url, ROWS_QUERY).await?,
            ),
            Self::Sqlite(file) => (
                digest_sqlite_query(&bench.sqlite_source, ROWS_QUERY).await?,
                digest_sqlite_query(file, ROWS_QUERY).await?,
            ),
        };
        ensure!(source == target, "the rows differ: {source} there, {target} here");
        ensure!(i64::try_from(source.rows) == Ok(ROWS), "the source has {source}");
        match self {
            Self::Postgres(url) => check_postgres(url).await,
            Self::Sqlite(file) => check_sqlite(file).await,
        }
    }
}

async fn check_postgres(url: &str) -> Result<()> {
    let mut conn = sqlx::PgConnection::connect(url).await.context("connect to read the ledger")?;
    let ledger = "select count(*), count(distinct task_id), count(distinct run_id), \
        count(*) filter (where state = 'C'), coalesce(sum(rows), 0)::int8 from highwater.task";
    let counted = sqlx::query_as(ledger).fetch_one(&mut conn).await.context("read the ledger")?;
    let strangers = "select count(*) from parts p where not exists (select from highwater.task k where k.token = p.token \
        and k.state = 'C' and case when k.slice_kind = 'null' then p.place is null else \
        (k.range_start is null or p.place >= k.range_start) and (k.range_end is null or p.place < k.range_end) end)";
    let strangers: i64 = sqlx::query_scalar(strangers).fetch_one(&mut conn).await.context("compare the tokens")?;
    ensure!(strangers == 0, "I6: {strangers} rows carry another token than their ledger row");
    conn.close().await.context("close the connection that read the ledger")?;
    judge(counted)
}

async fn check_sqlite(file: &Path) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut conn = SqliteConnection::connect_with(&options).await.context("open the target to read the ledger")?;
    let ledger = "select count(*), count(distinct task_id), count(distinct run_id), \
        count(*) filter (where state = 'C'), coalesce(sum(rows), 0) from _highwater_task";
    let counted = sqlx::query_as(ledger).fetch_one(&mut conn).await.context("read the ledger")?;
    let wrong = "select count(*) from _highwater_task k where k.rows <> (select count(*) from parts p \
        where case when k.slice_kind = 'null' then p.place is null else \
        (k.range_start is null or p.place >= k.range_start) and (k.range_end is null or p.place < k.range_end) end)";
    let wrong: i64 = sqlx::query_scalar(wrong).fetch_one(&mut conn).await.context("compare the counts")?;
    ensure!(wrong == 0, "{wrong} ledger rows count other rows than there are in their ranges");
    conn.close().await.context("close the file that held the ledger")?;
    judge(counted)
}

/// Ledger rows, tasks, runs, committed rows, and the rows that they count.
fn judge((entries, tasks, runs, committed, rows): (i64, i64, i64, i64, i64)) -> Result<()> {
    ensure!(runs == 1, "the ledger knows {runs} runs");
    ensure!(entries == tasks && entries == PARTITIONS, "the ledger has {entries} entries of {tasks} tasks");
    ensure!(committed == entries, "{} entries of the ledger are not committed", entries - committed);
    ensure!(rows == ROWS, "the ledger counts {rows} rows");
    Ok(())
}
