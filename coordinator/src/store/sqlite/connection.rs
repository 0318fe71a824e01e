//! The loop that owns the one connection to the database. It is never cancelled between the
//! statements of a transaction.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Access, Answer, place_of, unreachable};
use crate::store::hints::HintBoard;
use crate::store::leases::{LeaseId, Leases};
use crate::store::prefix::prefix_end;
use crate::store::{Expect, Key, Op, StoreError, StoreTxn, TxnOutcome, Value};

/// The format of the tables below. A file of another is refused.
const FORMAT: i64 = 1;

/// How long a statement waits for a reader of another process that is just recovering the log.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
create table if not exists kv(k blob primary key, v blob not null, rev integer not null, lease integer) strict;
create table if not exists meta(id integer primary key check (id = 0), rev integer not null, format integer not null) strict;
create index if not exists kv_lease on kv(lease) where lease is not null;
insert into meta(id, rev, format) values (0, 0, 1) on conflict do nothing;
";

/// What a caller asks of the loop.
#[derive(Debug)]
pub(super) enum Request {
    /// Reads one record.
    Get(Key, Answer<Result<Option<Value>, StoreError>>),
    /// Reads all records below a prefix.
    Scan(Key, Answer<Result<Vec<(Key, Value)>, StoreError>>),
    /// Applies a transaction that was checked.
    Commit(StoreTxn, Answer<Result<TxnOutcome, StoreError>>),
    /// Puts a leased record if its key is absent; answers the value that is there if not.
    Campaign {
        key: Key,
        value: Value,
        lease: LeaseId,
        answer: Answer<Result<Option<Value>, StoreError>>,
    },
    /// Removes the records of a lease.
    EndLease(LeaseId, Answer<Result<(), StoreError>>),
    /// Ends the loop.
    Close(Answer<()>),
}

/// The connection and what its loop must know. Fields drop in order: the lock goes after the
/// connection.
#[derive(Debug)]
pub(super) struct Connection {
    sqlite: SqliteConnection,
    /// The connection may be inside a transaction that could not be ended: it is opened anew before
    /// its next use.
    is_spoilt: bool,
    /// Leases that have ended and whose records are still there.
    ended: Vec<LeaseId>,
    path: PathBuf,
    access: Access,
    leases: Leases,
    hints: Arc<HintBoard>,
    _lock: Option<File>,
}

enum Wake {
    LeaseEnded,
    Asked(Option<Request>),
}

impl Connection {
    pub(super) async fn open(
        path: &Path,
        access: Access,
        lock: Option<File>,
        leases: Leases,
        hints: Arc<HintBoard>,
    ) -> Result<Self, StoreError> {
        let sqlite = connect(path, access)
            .await
            .map_err(|error| unreachable(path, error))?;
        let mut connection = Self {
            sqlite,
            is_spoilt: false,
            ended: Vec::new(),
            path: path.to_owned(),
            access,
            leases,
            hints,
            _lock: lock,
        };
        connection.prepare().await?;
        Ok(connection)
    }

    async fn prepare(&mut self) -> Result<(), StoreError> {
        if self.access == Access::Holder {
            self.execute("begin immediate").await?;
            sqlx::raw_sql(SCHEMA)
                .execute(&mut self.sqlite)
                .await
                .map_err(|error| self.rejected(error))?;
        }
        let format: i64 = sqlx::query_scalar("select format from meta where id = 0")
            .fetch_one(&mut self.sqlite)
            .await
            .map_err(|error| self.rejected(error))?;
        if format != FORMAT {
            return Err(self.rejected(UnknownFormat { format }));
        }
        if self.access == Access::Holder {
            // The lock is ours, so whoever held these leases is gone.
            self.execute("delete from kv where lease is not null")
                .await?;
            self.execute("commit").await?;
        }
        Ok(())
    }

    /// Serves requests until the last sender is gone, or one asks to close.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let asks_to_close = loop {
            let wake = tokio::select! {
                biased;
                () = self.leases.some_ended() => Wake::LeaseEnded,
                request = inbox.recv() => Wake::Asked(request),
            };
            self.mend().await;
            self.drop_ended().await;
            match wake {
                Wake::LeaseEnded => {}
                Wake::Asked(None) => break None,
                Wake::Asked(Some(Request::Close(answer))) => break Some(answer),
                Wake::Asked(Some(request)) => self.serve(request).await,
            }
        };
        drop(inbox);
        let Self {
            sqlite,
            path,
            _lock: lock,
            ..
        } = self;
        if let Err(error) = sqlite.close().await {
            tracing::warn!(store = %path.display(), %error, "the store's database did not close \
                cleanly");
        }
        drop(lock);
        if let Some(answer) = asks_to_close {
            answer.send(()).ok();
        }
    }

    async fn serve(&mut self, request: Request) {
        match request {
            Request::Get(key, answer) => tell(answer, self.get(&key).await),
            Request::Scan(prefix, answer) => tell(answer, self.scan(&prefix).await),
            Request::Commit(txn, answer) => tell(answer, self.commit(&txn).await),
            Request::Campaign {
                key,
                value,
                lease,
                answer,
            } => tell(answer, self.campaign(&key, value, lease).await),
            Request::EndLease(lease, answer) => tell(answer, self.end_lease(lease).await),
            // The loop ends on it before it comes here.
            Request::Close(answer) => tell(answer, ()),
        }
    }

    async fn get(&mut self, key: &str) -> Result<Option<Value>, StoreError> {
        let row = sqlx::query_scalar("select v from kv where k = ?1 and (lease is null or ?2)")
            .bind(key.as_bytes())
            .bind(self.shows_leased())
            .fetch_optional(&mut self.sqlite)
            .await;
        row.map_err(|error| self.rejected(error))
    }

    /// One statement is one read transaction: it sees one instant, and the driver holds few rows of
    /// it at a time.
    async fn scan(&mut self, prefix: &str) -> Result<Vec<(Key, Value)>, StoreError> {
        let rows: Result<Vec<(Vec<u8>, Value)>, _> = sqlx::query_as(
            "select k, v from kv where k >= ?1 and (?2 is null or k < ?2) and (lease is null or \
             ?3) order by k",
        )
        .bind(prefix.as_bytes())
        .bind(prefix_end(prefix.as_bytes()))
        .bind(self.shows_leased())
        .fetch_all(&mut self.sqlite)
        .await;
        let rows = rows.map_err(|error| self.rejected(error))?;
        let keyed = rows
            .into_iter()
            .map(|(key, value)| Ok((String::from_utf8(key)?, value)));
        keyed
            .collect::<Result<_, std::string::FromUtf8Error>>()
            .map_err(|error| self.rejected(error))
    }

    async fn commit(&mut self, txn: &StoreTxn) -> Result<TxnOutcome, StoreError> {
        self.execute("begin immediate").await?;
        let outcome = match self.apply(txn).await {
            Ok(None) => self.end_transaction().await,
            Ok(Some(refused)) => {
                self.roll_back().await;
                TxnOutcome::Refused(refused)
            }
            Err(error) => {
                self.roll_back().await;
                return Err(error);
            }
        };
        if outcome == TxnOutcome::Applied {
            self.hints.changed(txn.ops.iter().map(Op::key));
        }
        Ok(outcome)
    }

    /// Changes the rows, or answers the current values if some expect does not hold.
    async fn apply(
        &mut self,
        txn: &StoreTxn,
    ) -> Result<Option<Vec<(Key, Option<Value>)>>, StoreError> {
        let mut current = Vec::with_capacity(txn.expects.len());
        for expect in &txn.expects {
            current.push((expect.key().to_owned(), self.get(expect.key()).await?));
        }
        let holds =
            |(expect, (_, value)): (&Expect, &(Key, Option<Value>))| expect.holds(value.as_deref());
        if !txn.expects.iter().zip(&current).all(holds) {
            return Ok(Some(current));
        }
        let rev = self.next_rev().await?;
        for op in &txn.ops {
            match op {
                Op::Put(key, value) => self.put(key, value, rev, None).await?,
                Op::Delete(key) => {
                    let deleted = sqlx::query("delete from kv where k = ?1")
                        .bind(key.as_bytes())
                        .execute(&mut self.sqlite)
                        .await;
                    deleted.map_err(|error| self.rejected(error))?;
                }
            }
        }
        Ok(None)
    }

    async fn campaign(
        &mut self,
        key: &str,
        value: Value,
        lease: LeaseId,
    ) -> Result<Option<Value>, StoreError> {
        self.execute("begin immediate").await?;
        match self.put_if_absent(key, &value, lease).await {
            Ok(None) => match self.end_transaction().await {
                TxnOutcome::Applied => {
                    self.hints.changed(std::iter::once(key));
                    Ok(None)
                }
                // Should the record be there, it goes when its holder, who gives up now, has been
                // gone for its time to live.
                TxnOutcome::Unknown | TxnOutcome::Refused(_) => Err(self.rejected(CampaignUnknown)),
            },
            Ok(Some(held)) => {
                self.roll_back().await;
                Ok(Some(held))
            }
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    async fn put_if_absent(
        &mut self,
        key: &str,
        value: &[u8],
        lease: LeaseId,
    ) -> Result<Option<Value>, StoreError> {
        if let Some(held) = self.get(key).await? {
            return Ok(Some(held));
        }
        let rev = self.next_rev().await?;
        self.put(key, value, rev, Some(lease)).await?;
        Ok(None)
    }

    async fn put(
        &mut self,
        key: &str,
        value: &[u8],
        rev: i64,
        lease: Option<LeaseId>,
    ) -> Result<(), StoreError> {
        let put = sqlx::query(
            "insert into kv(k, v, rev, lease) values (?1, ?2, ?3, ?4)
             on conflict (k) do update set v = excluded.v, rev = excluded.rev, lease = excluded.lease",
        )
        .bind(key.as_bytes())
        .bind(value)
        .bind(rev)
        .bind(lease)
        .execute(&mut self.sqlite)
        .await;
        put.map(drop).map_err(|error| self.rejected(error))
    }

    async fn next_rev(&mut self) -> Result<i64, StoreError> {
        let rev = sqlx::query_scalar("update meta set rev = rev + 1 where id = 0 returning rev")
            .fetch_one(&mut self.sqlite)
            .await;
        rev.map_err(|error| self.rejected(error))
    }

    async fn end_lease(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let gone: Result<Vec<Vec<u8>>, _> = sqlx::query_scalar(
            "delete from kv where lease = ?1 \
            returning k",
        )
        .bind(lease)
        .fetch_all(&mut self.sqlite)
        .await;
        let gone = gone.map_err(|error| self.rejected(error))?;
        self.hints
            .changed(gone.iter().filter_map(|key| std::str::from_utf8(key).ok()));
        Ok(())
    }

    async fn drop_ended(&mut self) {
        self.ended.extend(self.leases.take_ended(Instant::now()));
        while let Some(lease) = self.ended.last().copied() {
            if let Err(error) = self.end_lease(lease).await {
                tracing::warn!(%error, "the records of an ended lease could not be removed yet");
                return;
            }
            self.ended.pop();
        }
    }

    /// A COMMIT that fails may have reached the disk: only a read tells.
    async fn end_transaction(&mut self) -> TxnOutcome {
        match self.execute("commit").await {
            Ok(()) => TxnOutcome::Applied,
            Err(error) => {
                tracing::warn!(%error, "a commit of the store failed, its outcome is unknown");
                self.is_spoilt = true;
                TxnOutcome::Unknown
            }
        }
    }

    async fn roll_back(&mut self) {
        self.is_spoilt = self.execute("rollback").await.is_err();
    }

    /// Opens a spoilt connection anew; a failure leaves it spoilt, and each statement on it fails.
    async fn mend(&mut self) {
        if !self.is_spoilt {
            return;
        }
        match connect(&self.path, self.access).await {
            Ok(sqlite) => {
                self.is_spoilt = false;
                if let Err(error) = std::mem::replace(&mut self.sqlite, sqlite).close().await {
                    tracing::debug!(%error, "a spoilt connection did not close cleanly");
                }
            }
            Err(error) => tracing::warn!(%error, "the store's database could not be opened anew"),
        }
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(sql)
            .execute(&mut self.sqlite)
            .await
            .map(drop)
            .map_err(|error| self.rejected(error))
    }

    fn shows_leased(&self) -> bool {
        match self.access {
            Access::Holder => true,
            Access::ReadOnly => false,
        }
    }

    fn rejected(&self, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        StoreError::Rejected {
            place: place_of(&self.path),
            source: Box::new(source),
        }
    }
}

async fn connect(path: &Path, access: Access) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_WAIT_MAX)
        .disable_statement_logging();
    let options = match access {
        Access::Holder => options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full),
        Access::ReadOnly => options.read_only(true),
    };
    SqliteConnection::connect_with(&options).await
}

/// The caller may have stopped waiting; the work is done all the same.
fn tell<T>(answer: oneshot::Sender<T>, told: T) {
    answer.send(told).ok();
}

/// The file was written by another version.
#[derive(Debug, thiserror::Error)]
#[error("the file has format {format}, this version knows format {FORMAT}")]
struct UnknownFormat {
    format: i64,
}

/// A campaign's commit was not answered.
#[derive(Debug, thiserror::Error)]
#[error("the campaign's commit failed with an unknown outcome")]
struct CampaignUnknown;
