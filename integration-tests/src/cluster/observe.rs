//! What a test sees of a cluster: by the command, as a user does, and in the target's own ledger.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Cluster, Daemons};
use crate::binary::{Binary, Finished};
use crate::digest::{Digest, digest_postgres_query};
use crate::wait::until;

/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// What the target's ledger holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Tasks committed.
    pub committed: i64,
    /// Rows they brought.
    pub rows: i64,
    /// Tasks in any other state.
    pub others: i64,
    /// The largest number of an attempt that committed.
    pub attempt_max: i32,
    /// The smallest and the largest high part of a token that committed.
    pub hi: (i64, i64),
    /// The most tasks that were between their claim and their commit at one time.
    pub at_once: i64,
}

impl Daemons {
    /// Runs the command against the first coordinator that is alive, or against the one given.
    ///
    /// # Errors
    /// It does not end.
    pub async fn highwater<A: AsRef<OsStr>>(
        &self,
        coordinator: usize,
        args: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Finished> {
        self.command(coordinator).await?.args(args).run(limit).await
    }

    /// The command, set to ask this coordinator.
    ///
    /// # Errors
    /// It does not build.
    pub async fn command(&self, coordinator: usize) -> Result<Binary> {
        // Without a scheme: whether the command trusts somebody over TLS decides.
        let command = Binary::highwater().await?.args([
            "--coordinator",
            self.address(coordinator),
            "--color",
            "never",
        ]);
        Ok(command.args(self.tls_flags()))
    }

    /// Begins a run and returns its id.
    ///
    /// # Errors
    /// The command refuses.
    pub async fn submit(&self, pipeline: &str) -> Result<String> {
        let file = self.file("pipeline.yaml", pipeline)?;
        let args = [
            OsStr::new("run"),
            file.as_os_str(),
            OsStr::new("--detach"),
            OsStr::new("--output=json"),
        ];
        let finished = self.highwater(0, args, Duration::from_secs(30)).await?;
        ensure!(finished.status.success(), "{finished:?}\n{}", self.logs());
        let document: Value =
            serde_json::from_str(&finished.stdout).context("read what `run` printed")?;
        document["run"]
            .as_str()
            .map(str::to_owned)
            .context("a run has an id")
    }

    /// The latest run as `status` shows it.
    ///
    /// # Errors
    /// No coordinator answers.
    pub async fn status(&self) -> Result<Value> {
        self.look(&["status"]).await
    }

    /// What `cluster status` shows.
    ///
    /// # Errors
    /// No coordinator answers.
    pub async fn cluster_status(&self) -> Result<Value> {
        self.look(&["cluster", "status"]).await
    }

    /// Asks one coordinator after the other.
    async fn look(&self, verb: &[&str]) -> Result<Value> {
        let program = Binary::highwater().await?;
        let mut told = String::new();
        for no in 0..self.addresses.len() {
            let mut command = Command::new(program.program());
            command.args(verb).args([
                "--output=json",
                "--quiet",
                "--coordinator",
                self.address(no),
            ]);
            command.args(self.tls_flags());
            let asked = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
            let output = tokio::time::timeout(LOOK_LIMIT, asked)
                .await
                .context("look at the cluster")??;
            let output = output.context("run highwater")?;
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).context("read what was shown");
            }
            told.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        anyhow::bail!("no coordinator answers: {told}")
    }

    /// Waits until the latest run is as `holds` says, and returns it.
    ///
    /// # Errors
    /// It is not within `limit`.
    pub async fn until_run(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let last = RefCell::new(Value::Null);
        let reached = until(what, limit, async || {
            // A cluster between two leaders does not answer.
            let Ok(status) = self.status().await else {
                return Ok(None);
            };
            last.replace(status.clone());
            Ok(holds(&status).then_some(status))
        });
        let reached = reached.await;
        reached.map_err(|error| {
            error.context(format!("{}\nthe run: {:#}", self.logs(), last.borrow()))
        })
    }

    /// Waits until so many tasks are done.
    ///
    /// # Errors
    /// They are not within a minute.
    pub async fn until_done(&self, tasks: u64) -> Result<Value> {
        let done = |run: &Value| {
            run["tasks"]["done"]
                .as_u64()
                .is_some_and(|done| done >= tasks)
        };
        self.until_run(
            &format!("{tasks} tasks to be done"),
            Duration::from_secs(60),
            done,
        )
        .await
    }

    /// Waits for the end of the latest run.
    ///
    /// # Errors
    /// It has not ended within `limit`.
    pub async fn until_ended(&self, limit: Duration) -> Result<Value> {
        let ended = |run: &Value| {
            matches!(
                run["status"].as_str(),
                Some("success" | "failed" | "cancelled")
            )
        };
        self.until_run("the run to end", limit, ended).await
    }

    /// Waits until a worker is in this state; `gone` when it is not listed.
    ///
    /// # Errors
    /// It is not within `limit`.
    pub async fn until_worker(&self, id: &str, state: &str, limit: Duration) -> Result<()> {
        let what = format!("worker {id} to be {state}");
        let reached = until(&what, limit, async || {
            let Ok(status) = self.cluster_status().await else {
                return Ok(None);
            };
            let workers = status["workers"].as_array().cloned().unwrap_or_default();
            let found = workers.iter().find(|worker| worker["worker"] == id);
            let is = found
                .and_then(|worker| worker["state"].as_str())
                .unwrap_or("gone");
            Ok((is == state).then_some(()))
        });
        reached.await.map_err(|error| error.context(self.logs()))
    }
}

impl Cluster {
    /// What the target's ledger holds of all runs.
    ///
    /// # Errors
    /// There is none yet.
    pub async fn ledger(&self) -> Result<Ledger> {
        let query = "select count(*) filter (where state = 'C') as committed, \
             coalesce(sum(rows) filter (where state = 'C'), 0)::int8 as rows, \
             count(*) filter (where state <> 'C') as others, coalesce(max(attempt), 0) as \
             attempt_max, \
             coalesce(min(token >> 24), 0) as hi_min, coalesce(max(token >> 24), 0) as hi_max, \
             (select coalesce(max(open), 0)::int8 from (select sum(step) over (order by at, step) \
             as open from ( \
             select claimed_at as at, 1 as step from highwater.task union all \
             select committed_at, -1 from highwater.task where committed_at is not null) as \
             moments) as counted) as at_once \
             from highwater.task";
        let row = sqlx::query(query)
            .fetch_one(&mut self.target.connect("postgres").await?)
            .await?;
        Ok(Ledger {
            committed: row.try_get("committed")?,
            rows: row.try_get("rows")?,
            others: row.try_get("others")?,
            attempt_max: row.try_get("attempt_max")?,
            hi: (row.try_get("hi_min")?, row.try_get("hi_max")?),
            at_once: row.try_get("at_once")?,
        })
    }

    /// A number that the target knows.
    ///
    /// # Errors
    /// The target refuses the query.
    pub async fn number(&self, query: &str) -> Result<i64> {
        let query = AssertSqlSafe(query.to_owned());
        let mut conn = self.target.connect("postgres").await?;
        sqlx::query_scalar(query)
            .fetch_one(&mut conn)
            .await
            .context("ask the target for a number")
    }

    /// Waits until a query of the target answers with a number that is not 0; a table may not be
    /// there yet.
    ///
    /// # Errors
    /// It does not within a minute, or the target refuses the query.
    pub async fn until_number(&self, what: &str, query: &str) -> Result<i64> {
        let asked = until(what, Duration::from_secs(60), async || {
            match self.number(query).await {
                Ok(number) => Ok(Some(number).filter(|number| *number != 0)),
                Err(error) if is_missing_table(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        asked.await.map_err(|error| error.context(self.logs()))
    }

    /// The digests of a query's rows in source and target.
    ///
    /// # Errors
    /// A side refuses the query.
    pub async fn digests(&self, query: &str) -> Result<(Digest, Digest)> {
        let (source, target) = (self.source.url("postgres"), self.target.url("postgres"));
        tokio::try_join!(
            digest_postgres_query(&source, query),
            digest_postgres_query(&target, query)
        )
    }
}

fn is_missing_table(error: &anyhow::Error) -> bool {
    let database = error
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error);
    database.is_some_and(|error| matches!(error.code().as_deref(), Some("42P01" | "3F000")))
}
