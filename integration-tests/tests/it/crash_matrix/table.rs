//! What is copied in every cell, where to, and what must be true of the copy however often
//! something struck.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use highwater_integration_tests::digest::{digest_postgres_query, digest_sqlite_query};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use super::bench::{Bench, PARTITIONS, ROWS, make_sqlite};

const ROWS_QUERY: &str = "select id, place, note from parts order by id, place, note";

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
    Merge,
    /// All of them at once, by `full_refresh`.
    Refresh,
    /// The same of a table so large that they wait beside until all are there.
    Staged,
    /// Into a table beside it, which takes its place, by `swap`.
    Swap,
    /// Into a table beside it, whose rows come in the place of its own.
    InPlace,
    /// To a table that is made like the source's, and built once the rows are there.
    Twin,
    /// Those behind the watermark, by `incremental`.
    Window,
    /// The same, and those that the source has no more leave.
    Deletes,
    /// By ranges of the key, which are cut for the run.
    Keyset,
}

impl Mode {
    /// Which engines can do it.
    pub(super) const fn engines(self) -> &'static [Engine] {
        match self {
            Self::Append
            | Self::ReplacePartition
            | Self::Merge
            | Self::Refresh
            | Self::Window
            | Self::Deletes => &[Engine::Postgres, Engine::Sqlite],
            Self::Staged | Self::Swap | Self::InPlace | Self::Twin | Self::Keyset => {
                &[Engine::Postgres]
            }
        }
    }

    /// How many tasks have a receipt in the end.
    const fn receipts(self) -> i64 {
        match self {
            Self::Append | Self::ReplacePartition | Self::Merge | Self::Twin => PARTITIONS,
            // Of fifty rows each, whatever their place is.
            Self::Keyset => (ROWS + 49) / 50,
            Self::Refresh | Self::Staged => 1,
            // Those that load, and the one that publishes.
            Self::Swap | Self::InPlace => PARTITIONS + 1,
            // The range, and the rows without a position.
            Self::Window => 2,
            // And the comparison of the keys.
            Self::Deletes => 3,
        }
    }

    /// How the step loads: its strategy and what belongs to that.
    const fn keys(self) -> &'static str {
        match self {
            Self::Append | Self::Twin | Self::Keyset => {
                "strategy: backfill\n    write: {mode: append, key: [id]}"
            }
            Self::ReplacePartition => {
                "strategy: backfill\n    write: {mode: replace_partition, key: [id]}"
            }
            Self::Merge => "strategy: backfill\n    write: {mode: merge, cursor: place, key: [id]}",
            Self::Refresh | Self::Staged => "strategy: full_refresh",
            Self::Swap => "strategy: swap",
            Self::InPlace => "strategy: {type: swap, publish: in_place}",
            Self::Window => {
                "strategy: {type: incremental, cursor: place, nulls: reload}\n    write: {mode: \
                 merge, key: [id]}"
            }
            Self::Deletes => {
                "strategy: {type: incremental, cursor: place, nulls: reload}\n    write: {mode: \
                 merge, key: [id], deletes: hard}"
            }
        }
    }

    /// Whether partitions are committed in chunks.
    const fn has_chunks(self) -> bool {
        match self {
            Self::Append | Self::Merge | Self::Twin | Self::Window => true,
            Self::ReplacePartition
            | Self::Refresh
            | Self::Staged
            | Self::Swap
            | Self::InPlace
            | Self::Deletes
            | Self::Keyset => false,
        }
    }
}

/// A target of a cell's own.
pub(super) enum Table {
    Postgres(String),
    Sqlite(PathBuf),
}

impl Table {
    /// Makes the target of cell `no`, empty. No key, unless rows are merged by it: a row written
    /// twice must be seen twice. In PostgreSQL the token says which attempt wrote it.
    pub(super) async fn make(
        bench: &Bench,
        (engine, mode): (Engine, Mode),
        folder: &Path,
        no: usize,
    ) -> Result<Self> {
        let unique = match mode {
            Mode::Append
            | Mode::ReplacePartition
            | Mode::Refresh
            | Mode::Staged
            | Mode::Swap
            | Mode::InPlace
            | Mode::Twin
            | Mode::Keyset => "",
            Mode::Merge | Mode::Window | Mode::Deletes => {
                "create unique index parts_id on parts (id);"
            }
        };
        // What the source has no more.
        let gone = match mode {
            Mode::Deletes => {
                "insert into parts values (-1, 5, 'gone', 0), (9001, null, 'gone', 0);"
            }
            _ => "",
        };
        if mode == Mode::Staged {
            bench.make_apart().await?;
        }
        match engine {
            Engine::Postgres => {
                let name = format!("cell_{no}");
                let url = bench.server.create_database(&name).await?;
                if mode == Mode::Twin {
                    return Ok(Self::Postgres(url));
                }
                let mut conn = bench.server.connect(&name).await?;
                let create = format!(
                    "create table parts (id bigint not null, place bigint, note text, \
                    token bigint not null default current_setting('highwater.token')::bigint); \
                    create index on parts (place); {unique} {gone}"
                );
                sqlx::raw_sql(sqlx::AssertSqlSafe(create.clone()))
                    .execute(&mut conn)
                    .await
                    .context("make the target")?;
                conn.close()
                    .await
                    .context("close the connection that made the target")?;
                Ok(Self::Postgres(url))
            }
            Engine::Sqlite => {
                let file = folder.join("target.db");
                let create = format!(
                    "create table parts (id integer not null, place integer, note text); \
                    create index parts_place on parts (place); {unique} {}",
                    gone.replace(", 0)", ")")
                );
                make_sqlite(&file, &create).await?;
                Ok(Self::Sqlite(file))
            }
        }
    }

    /// The pipeline that fills it.
    pub(super) fn pipeline(&self, bench: &Bench, mode: Mode) -> String {
        let (source, target) = match self {
            Self::Postgres(url) => (
                format!("{{type: postgres, url: \"{}\"}}", bench.postgres_source),
                format!("{{type: postgres, url: \"{url}\"}}"),
            ),
            Self::Sqlite(file) => (
                format!("{{type: sqlite, path: {}}}", bench.sqlite_source.display()),
                format!("{{type: sqlite, path: {}}}", file.display()),
            ),
        };
        let cut = match mode {
            Mode::Append | Mode::ReplacePartition | Mode::Merge | Mode::Twin => {
                "partition: {by: integer, column: place, width: 50}\n    chunk: {max_rows: 20}\n    "
            }
            Mode::Swap | Mode::InPlace => {
                "partition: {by: integer, column: place, width: 50}\n    "
            }
            Mode::Window => "chunk: {max_rows: 20}\n    ",
            Mode::Keyset => "partition: {by: keyset, columns: [id], max_rows: 50}\n    ",
            Mode::Refresh | Mode::Staged | Mode::Deletes => "",
        };
        let keys = mode.keys();
        let from = match mode {
            Mode::Staged => "parts_apart",
            _ => "parts",
        };
        format!(
            "version: 1
name: matrix
connections:
  source: {source}
  target: {target}
steps:
  parts:
    {keys}
    from: {{connection: source, table: {from}}}
    to: {{connection: target, table: parts}}
    {cut}retries: {{initial: 100ms}}
"
        )
    }

    /// Every row once, every ledger row committed, and each row under the token of its ledger row
    /// (I1, I4, I6).
    pub(super) async fn check(&self, bench: &Bench, mode: Mode) -> Result<()> {
        self.check_runs(bench, mode, 1).await
    }

    /// The same, of several runs that have loaded it together.
    pub(super) async fn check_runs(&self, bench: &Bench, mode: Mode, runs: i64) -> Result<()> {
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
        ensure!(
            source == target,
            "the rows differ: {source} there, {target} here"
        );
        ensure!(
            i64::try_from(source.rows) == Ok(ROWS),
            "the source has {source}"
        );
        match self {
            Self::Postgres(url) => check_postgres(url, mode, runs).await,
            Self::Sqlite(file) => check_sqlite(file, mode, runs).await,
        }
    }

    /// The ledger says of one run, and of no other, that a newer one has taken its stream.
    pub(super) async fn check_superseded(&self) -> Result<()> {
        let marks = |table: &str| {
            let asked = "select count(*) filter (where state = 'X' and fenced_by is not null), \
                         count(*) from";
            sqlx::AssertSqlSafe(format!("{asked} {table}"))
        };
        let (fenced, runs): (i64, i64) = match self {
            Self::Postgres(url) => {
                let mut conn = sqlx::PgConnection::connect(url).await.context(
                    "connect to read the \
                    runs",
                )?;
                sqlx::query_as(marks("highwater.run"))
                    .fetch_one(&mut conn)
                    .await
                    .context(
                        "read \
                    the runs",
                    )?
            }
            Self::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).read_only(true);
                let mut conn = SqliteConnection::connect_with(&options).await.context(
                    "open the target to \
                        read the runs",
                )?;
                sqlx::query_as(marks("_highwater_run"))
                    .fetch_one(&mut conn)
                    .await
                    .context(
                        "read \
                    the runs",
                    )?
            }
        };
        ensure!(
            (fenced, runs) == (1, 2),
            "{fenced} of {runs} runs are fenced by a newer one"
        );
        Ok(())
    }
}

async fn check_postgres(url: &str, mode: Mode, runs: i64) -> Result<()> {
    let mut conn = sqlx::PgConnection::connect(url)
        .await
        .context("connect to read the ledger")?;
    let ledger = "select count(*), count(distinct task_id), count(distinct run_id), \
        count(*) filter (where state = 'C'), count(*) filter (where state not in ('C', 'X')), \
        coalesce(sum(rows) filter (where state = 'C'), 0)::int8 from highwater.task";
    let counted = sqlx::query_as(ledger)
        .fetch_one(&mut conn)
        .await
        .context("read the ledger")?;
    if mode == Mode::Twin {
        check_twin(&mut conn).await?;
    }
    // Their entries tell no positions, or of no rows.
    if matches!(mode, Mode::Twin | Mode::Keyset | Mode::Deletes) {
        return judge(counted, mode, runs);
    }
    // A chunk keeps the token of the attempt that wrote it, and the row of its task gets later
    // ones.
    let written_by = if mode.has_chunks() { ">=" } else { "=" };
    let strangers = format!(
        "select count(*) from parts p where not exists (select from highwater.task k \
        where k.token {written_by} p.token \
        and k.state = 'C' and case when k.slice_kind = 'null' then p.place is null else \
        (k.range_start is null or p.place >= k.range_start) and (k.range_end is null or p.place < \
        k.range_end) end)"
    );
    let strangers: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(strangers))
        .fetch_one(&mut conn)
        .await
        .context(
            "compare \
        the tokens",
        )?;
    ensure!(
        strangers == 0,
        "I6: {strangers} rows carry another token than their ledger row"
    );
    if mode == Mode::Window {
        let moves: (i64, i64) = sqlx::query_as(
            "select version, (select chunk::int8 from highwater.task where slice_kind <> 'null' \
             and state = 'C') from highwater.watermark",
        )
        .fetch_one(&mut conn)
        .await
        .context("read the watermark")?;
        judge_watermark(moves)?;
    }
    conn.close()
        .await
        .context("close the connection that read the ledger")?;
    judge(counted, mode, runs)
}

/// The table has its key and its index, and says nothing of being unfinished.
async fn check_twin(conn: &mut sqlx::PgConnection) -> Result<()> {
    let found: (Vec<String>, Option<String>) = sqlx::query_as(
        "select array_agg(c.relname::text order by c.relname), obj_description('parts'::regclass) \
         from pg_index i join pg_class c on c.oid = i.indexrelid \
         where i.indrelid = 'parts'::regclass and i.indisvalid",
    )
    .fetch_one(conn)
    .await
    .context("read the indexes")?;
    let expected = ["parts_pkey", "parts_place_idx"].map(str::to_owned);
    ensure!(
        found == (expected.to_vec(), None),
        "the table is not built: {found:?}"
    );
    Ok(())
}

async fn check_sqlite(file: &Path, mode: Mode, runs: i64) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut conn = SqliteConnection::connect_with(&options).await.context(
        "open the target to read \
        the ledger",
    )?;
    let ledger = "select count(*), count(distinct task_id), count(distinct run_id), \
        count(*) filter (where state = 'C'), count(*) filter (where state not in ('C', 'X')), \
        coalesce(sum(rows) filter (where state = 'C'), 0) from _highwater_task";
    let counted = sqlx::query_as(ledger)
        .fetch_one(&mut conn)
        .await
        .context("read the ledger")?;
    if mode == Mode::Deletes {
        return judge(counted, mode, runs);
    }
    let wrong = "select count(*) from _highwater_task k where k.state = 'C' and k.rows <> (select \
        count(*) from parts p \
        where case when k.slice_kind = 'null' then p.place is null else \
        (k.range_start is null or p.place >= k.range_start) and (k.range_end is null or p.place < \
        k.range_end) end)";
    let wrong: i64 = sqlx::query_scalar(wrong)
        .fetch_one(&mut conn)
        .await
        .context(
            "compare the \
        counts",
        )?;
    ensure!(
        wrong == 0,
        "{wrong} ledger rows count other rows than there are in their ranges"
    );
    if mode == Mode::Window {
        let moves: (i64, i64) = sqlx::query_as(
            "select version, (select chunk from _highwater_task where slice_kind <> 'null' \
             and state = 'C') from _highwater_watermark",
        )
        .fetch_one(&mut conn)
        .await
        .context("read the watermark")?;
        judge_watermark(moves)?;
    }
    conn.close()
        .await
        .context("close the file that held the ledger")?;
    judge(counted, mode, runs)
}

/// Ledger rows, tasks, runs, committed rows, those that still could be, and the rows that they
/// count.
/// Each commit of rows has moved the watermark, and nothing else has.
fn judge_watermark((moves, commits): (i64, i64)) -> Result<()> {
    ensure!(
        moves == commits,
        "I7: the watermark has moved {moves} times with {commits} commits"
    );
    Ok(())
}

fn judge(
    (entries, tasks, runs, committed, open, rows): (i64, i64, i64, i64, i64, i64),
    mode: Mode,
    expected: i64,
) -> Result<()> {
    ensure!(runs == expected, "the ledger knows {runs} runs");
    // What a run leaves of a partition when it is superseded is a receipt of its own.
    let has_parts = mode.has_chunks() && expected > 1;
    ensure!(
        entries == tasks
            && (committed == mode.receipts() || has_parts && committed > mode.receipts()),
        "the ledger has {committed} of {entries} entries committed, of {tasks} tasks"
    );
    ensure!(open == 0, "{open} entries of the ledger are still open");
    // What one run did not commit it was fenced from; a single one has nothing that is fenced.
    ensure!(
        expected > 1 || entries == committed,
        "{} entries of the ledger are not committed",
        entries - committed
    );
    // The receipt of a table that was published speaks of its rows once more.
    let told = match mode {
        Mode::Swap | Mode::InPlace => 2 * ROWS,
        // That of a comparison speaks of the rows that it has removed.
        Mode::Deletes => ROWS + 2,
        _ => ROWS,
    };
    ensure!(rows == told, "the ledger counts {rows} rows");
    Ok(())
}
