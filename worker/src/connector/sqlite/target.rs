//! The write side: the ledger, the target table, and the attempts that commit into them.

mod probe;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use highwater_common::close::{Ordinals, ledger_lost_message};
use highwater_common::commit::{LedgerRow, Resume};
use highwater_common::coverage::Coverage;
use highwater_common::errand::StreamReceipts;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, Engine, TargetFacts};
use highwater_common::id::{ClusterId, ConnectionName, RunId, TaskId};
use highwater_common::spec::TableName;
use highwater_common::stream::RunMark;
use highwater_common::window::StoredWatermark;
use highwater_runtime::failpoint;
use sqlx::Row;

use probe::Probing;

use super::catalog;
use super::claim::Answer;
use super::errors::DatabaseFile;
use super::ledger::Meta;
use super::queue::turn;
use super::session::{Purpose, Session, check_folder};
use super::transaction::{Attempt, SqliteClaimed};
use super::{claim, ledger, prepare, receipts, sql, stream, watermark};
use crate::connector::{
    Checks, Claim, ClaimOutcome, CloseRequest, ConnectorError, FenceReport, ForgetOutcome,
    ForgetRequest, HeldClaim, PlaceRequest, PrepareOutcome, PrepareRequest, Target, TargetProbe,
    Watermarks,
};
use crate::supervisor::{SpawnKind, Supervisor};

/// A SQLite file to write to, with its ledger.
#[derive(Debug, Clone)]
pub struct SqliteTarget {
    place: DatabaseFile,
    supervisor: Supervisor,
}

impl SqliteTarget {
    /// The file at `path`, which `connection` names in messages. Prepare creates it where it is
    /// missing.
    #[must_use]
    pub fn new(path: PathBuf, connection: ConnectionName, supervisor: Supervisor) -> Self {
        Self {
            place: DatabaseFile::new(Path::new(&path), connection),
            supervisor,
        }
    }

    pub(super) const fn place(&self) -> &DatabaseFile {
        &self.place
    }

    /// Runs `change` apart from the caller, to its end, when it is this process's turn to write to
    /// the file.
    async fn change<T, F>(&self, what: &str, change: F) -> Result<T, ConnectorError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ConnectorError>> + Send + 'static,
    {
        let Some(turn) = turn(self.place.path()).await else {
            return Err(self.place.lost(what));
        };
        let done = self.supervisor.spawn(SpawnKind::Commit, async move {
            let done = change.await;
            drop(turn);
            done
        });
        done.await.unwrap_or_else(|_| Err(self.place.lost(what)))
    }
}

/// A transaction that changes the ledger itself, or what stands beside it.
struct Change {
    session: Session,
    place: DatabaseFile,
    meta: Meta,
    /// The ledger was made by this very transaction.
    made: bool,
}

impl Change {
    /// Opens the file and the transaction; makes both, and the ledger, where they are missing.
    async fn begin(place: DatabaseFile, cluster: &ClusterId) -> Result<Self, ConnectorError> {
        let mut session = Session::open(&place, Purpose::Make).await?;
        let begun = async {
            let conn = session.conn();
            sql::run(conn, sqlx::query("begin immediate"))
                .await
                .map_err(place.failed(
                    "begin on \
                the ledger",
                ))?;
            ledger::ensure(conn, &place, cluster).await
        }
        .await;
        match begun {
            Ok((meta, made)) => Ok(Self {
                session,
                place,
                meta,
                made,
            }),
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    /// Commits what is `done`; an error undoes everything.
    async fn end<T>(mut self, done: Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        let done = match done {
            Ok(done) => {
                let ended = sql::run(self.session.conn(), sqlx::query("commit")).await;
                ended
                    .map(|_rows| done)
                    .map_err(self.place.failed("commit on the ledger"))
            }
            Err(error) => Err(error),
        };
        self.session.close().await;
        done
    }

    async fn prepare(
        &mut self,
        request: &PrepareRequest,
    ) -> Result<PrepareOutcome, ConnectorError> {
        ledger::belongs(&self.place, &self.meta, &request.cluster)?;
        let wanted = &request.stream;
        if let Some(not_mine) = stream::take(self.session.conn(), &self.place, wanted).await? {
            return Ok(not_mine);
        }
        let (conn, place) = (self.session.conn(), &self.place);
        let is_there = catalog::find(conn, place, &request.table).await?.is_some();
        if !request.mode.replaces_all() {
            receipts::check(conn, place, &wanted.stream, &request.table, is_there).await?;
        }
        let warnings = prepare::make_ready(conn, place, request).await?;
        // Receipts of nothing are none of a table that was just made.
        let coverage = match wanted.kind {
            Some(kind) if is_there => {
                // The receipts of this very plan are its own tasks', and their claims meet them.
                let own = wanted.plan.as_ref().map(|plan| (&wanted.run, plan));
                ledger::coverage(conn, place, &wanted.stream, kind, own).await?
            }
            Some(_) | None => Coverage::default(),
        };
        let fingerprint = ledger::fingerprint(place, Some(&self.meta)).await?;
        Ok(PrepareOutcome::Prepared {
            warnings,
            coverage,
            fingerprint,
        })
    }

    async fn forget(&mut self, request: &ForgetRequest) -> Result<ForgetOutcome, ConnectorError> {
        ledger::belongs(&self.place, &self.meta, &request.cluster)?;
        let conn = self.session.conn();
        match stream::take(conn, &self.place, &request.stream).await? {
            Some(not_mine) => Ok(ForgetOutcome::Not(not_mine)),
            None => receipts::void(conn, &self.place, request)
                .await
                .map(ForgetOutcome::Done),
        }
    }

    async fn place(&mut self, request: &PlaceRequest) -> Result<ForgetOutcome, ConnectorError> {
        ledger::belongs(&self.place, &self.meta, &request.cluster)?;
        let (conn, place) = (self.session.conn(), &self.place);
        if let Some(not_mine) = stream::take(conn, place, &request.stream).await? {
            return Ok(ForgetOutcome::Not(not_mine));
        }
        watermark::place(conn, place, request).await?;
        let left = receipts::read(conn, place, &request.stream.stream, None).await?;
        Ok(ForgetOutcome::Done(left))
    }

    /// The run first, then its open tasks: a claim that comes later sees the run, one that came
    /// before is an open task. Whoever the target belongs to by now: a run's id is nobody else's,
    /// and this cluster might get the target back.
    async fn fence(&mut self, run: &RunId) -> Result<FenceReport, ConnectorError> {
        let conn = self.session.conn();
        let fence_run = sqlx::query(
            "insert into _highwater_run (run_id, state, fenced_at) values (?, 'X', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
             on conflict (run_id) do update set state = 'X', fenced_at = coalesce(fenced_at, excluded.fenced_at)",
        )
        .bind(run.to_string());
        let fence_tasks = sqlx::query(
            "update _highwater_task set state = 'X' where run_id = ? and \
                                       state = 'O'",
        );
        sql::run(conn, fence_run)
            .await
            .map_err(self.place.failed("fence the run"))?;
        failpoint::hit("fence::marked").await?;
        let attempts = sql::run(conn, fence_tasks.bind(run.to_string()))
            .await
            .map_err(self.place.failed("fence the run's open tasks"))?;
        Ok(FenceReport { attempts })
    }

    /// The mark goes to `cluster`; what another one had open can no longer commit.
    async fn adopt(&mut self, cluster: &ClusterId) -> Result<Option<ClusterId>, ConnectorError> {
        if self.made {
            return Ok(None);
        }
        let former = self.meta.cluster;
        let conn = self.session.conn();
        let mark = sqlx::query(
            "update _highwater_meta set cluster_id = ?, incarnation = \
                                incarnation + 1",
        );
        let mut statements = vec![mark.bind(cluster.to_string())];
        if former != *cluster {
            statements.push(sqlx::query(
                "update _highwater_run set state = 'X', fenced_at = strftime('%Y-%m-%dT%H:%M:%fZ', \
                 'now') where state = 'R'",
            ));
            statements.push(sqlx::query(
                "update _highwater_task set state = 'X' where state = 'O'",
            ));
        }
        for statement in statements {
            sql::run(conn, statement)
                .await
                .map_err(self.place.failed("take the target over"))?;
        }
        Ok(Some(former))
    }
}

#[async_trait]
impl Watermarks for SqliteTarget {
    async fn watermark(&self, stream: &str) -> Result<Option<StoredWatermark>, ConnectorError> {
        if !self.place.path().exists() {
            return Ok(None);
        }
        let mut session = Session::open(&self.place, Purpose::Write).await?;
        let found = watermark::read(session.conn(), &self.place, stream).await;
        session.close().await;
        found
    }

    async fn place(&self, request: &PlaceRequest) -> Result<ForgetOutcome, ConnectorError> {
        let (place, request) = (self.place.clone(), request.clone());
        self.change("place", async move {
            let mut change = Change::begin(place, &request.cluster).await?;
            let done = change.place(&request).await;
            change.end(done).await
        })
        .await
    }
}

#[async_trait]
impl Target for SqliteTarget {
    async fn probe(&self, probe: &TargetProbe) -> Result<TargetFacts, ConnectorError> {
        let mut facts = TargetFacts {
            engine: Engine::Sqlite,
            fingerprint: String::new(),
            table: None,
            created_as: Vec::new(),
            uncarried: Vec::new(),
            covered: Vec::new(),
            covered_null: false,
        };
        if !self.place.path().exists() {
            check_folder(&self.place).await?;
            return Ok(facts);
        }
        let mut session = Session::open(&self.place, Purpose::Write).await?;
        let probed = Probing {
            place: &self.place,
            probe,
        }
        .fill(session.conn(), &mut facts)
        .await;
        session.close().await;
        probed.map(|()| facts)
    }

    async fn prepare(&self, request: &PrepareRequest) -> Result<PrepareOutcome, ConnectorError> {
        let (place, request) = (self.place.clone(), request.clone());
        self.change("prepare", async move {
            let mut change = Change::begin(place, &request.cluster).await?;
            let done = change.prepare(&request).await;
            let ended = change.end(done).await;
            failpoint::hit("stream::committed").await?;
            ended
        })
        .await
    }

    async fn claim(&self, claim: &Claim) -> Result<ClaimOutcome, ConnectorError> {
        let (place, wanted) = (self.place.clone(), claim.clone());
        let claimed = self
            .change("claim", async move {
                let mut session = Session::open(&place, Purpose::Write).await?;
                match claim::claim(&mut session, &place, &wanted).await {
                    Ok((answer, raised)) => Ok((session, answer, raised)),
                    Err(error) => {
                        session.close().await;
                        Err(error)
                    }
                }
            })
            .await?;
        let (session, answer, raised) = claimed;
        let outcome = match answer {
            Answer::Is(Resume::Begin) => {
                let attempt = Attempt {
                    place: self.place.clone(),
                    claim: claim.clone(),
                    fingerprint: raised.fingerprint,
                };
                let claimed = Box::new(SqliteClaimed::new(session, attempt));
                let held = HeldClaim::new(claimed, raised.reached, self.supervisor.clone());
                return Ok(ClaimOutcome::Held(held));
            }
            Answer::Is(Resume::ReportOnly(receipt)) => Ok(ClaimOutcome::Committed(receipt)),
            Answer::Is(Resume::Superseded) => Ok(ClaimOutcome::Superseded),
            Answer::PlanChanged => Ok(ClaimOutcome::PlanChanged),
            Answer::Is(Resume::SpecChanged) => Ok(ClaimOutcome::SpecChanged),
            Answer::Is(Resume::Fenced { newer }) => Ok(ClaimOutcome::Fenced { newer }),
            // Every step that this version runs on SQLite is one transaction.
            Answer::Is(Resume::Probe) => Err(self.place.permanent(
                ErrorCode::InDoubt,
                "the ledger says that a step which is no single transaction was begun, which this \
                 version never does here",
            )),
        };
        session.close().await;
        outcome
    }

    async fn ledger_row(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Option<LedgerRow>, ConnectorError> {
        if !self.place.path().exists() {
            return Ok(None);
        }
        let mut session = Session::open(&self.place, Purpose::Write).await?;
        let row = async {
            match ledger::meta(session.conn(), &self.place).await? {
                Some(_) => ledger::row(session.conn(), &self.place, run, task).await,
                None => Ok(None),
            }
        }
        .await;
        session.close().await;
        Ok(row?.map(|found| found.row))
    }

    async fn committed(&self, request: &CloseRequest) -> Result<Ordinals, ConnectorError> {
        if !self.place.path().exists() {
            return Ok(Ordinals::default());
        }
        let mut session = Session::open(&self.place, Purpose::Write).await?;
        let found = async {
            let (conn, place) = (session.conn(), &self.place);
            if let Some(meta) = ledger::meta(conn, place).await? {
                ledger::belongs(place, &meta, &request.cluster)?;
                return ledger::committed(conn, place, request).await;
            }
            let appends = request.mode.adds();
            if appends && catalog::find(conn, place, &request.table).await?.is_some() {
                let text = format!(
                    "select exists (select 1 from {})",
                    sql::table(&request.table)
                );
                let look = sql::once(text).fetch_one(&mut *conn).await;
                let has_rows: i64 = look
                    .map_err(place.failed("look at the target table"))?
                    .get(0);
                if has_rows != 0 {
                    let message =
                        ledger_lost_message(&place.to_string(), &request.table.to_string());
                    return Err(place.permanent(ErrorCode::LedgerMissing, message));
                }
            }
            Ok(Ordinals::default())
        }
        .await;
        session.close().await;
        found
    }

    async fn fence_run(
        &self,
        cluster: &ClusterId,
        run: &RunId,
    ) -> Result<FenceReport, ConnectorError> {
        let (place, cluster, run) = (self.place.clone(), *cluster, *run);
        self.change("fence", async move {
            let mut change = Change::begin(place, &cluster).await?;
            let done = change.fence(&run).await;
            let ended = change.end(done).await;
            failpoint::hit("fence::committed").await?;
            ended
        })
        .await
    }

    async fn fenced_by(&self, run: &RunId) -> Result<Option<RunId>, ConnectorError> {
        if !self.place.path().exists() {
            return Ok(None);
        }
        let mut session = Session::open(&self.place, Purpose::Write).await?;
        let mark = async {
            match ledger::meta(session.conn(), &self.place).await? {
                Some(_) => stream::mark(session.conn(), &self.place, run).await,
                None => Ok(RunMark::Unknown),
            }
        }
        .await;
        session.close().await;
        Ok(match mark? {
            RunMark::Fenced { by } => by,
            RunMark::Unknown | RunMark::Running => None,
        })
    }

    async fn receipts(
        &self,
        cluster: &ClusterId,
        stream: &str,
    ) -> Result<StreamReceipts, ConnectorError> {
        let nothing = StreamReceipts {
            stream: stream.to_owned(),
            ..StreamReceipts::default()
        };
        if !self.place.path().exists() {
            return Ok(nothing);
        }
        let mut session = Session::open(&self.place, Purpose::Write).await?;
        let found = async {
            let Some(meta) = ledger::meta(session.conn(), &self.place).await? else {
                return Ok(nothing);
            };
            ledger::belongs(&self.place, &meta, cluster)?;
            receipts::read(session.conn(), &self.place, stream, None).await
        }
        .await;
        session.close().await;
        found
    }

    async fn forget(&self, request: &ForgetRequest) -> Result<ForgetOutcome, ConnectorError> {
        let (place, request) = (self.place.clone(), request.clone());
        self.change("forget", async move {
            let mut change = Change::begin(place, &request.cluster).await?;
            let done = change.forget(&request).await;
            change.end(done).await
        })
        .await
    }

    fn watermarks(&self) -> Option<&dyn Watermarks> {
        Some(self)
    }

    async fn adopt(&self, cluster: &ClusterId) -> Result<Option<ClusterId>, ConnectorError> {
        let (place, cluster) = (self.place.clone(), *cluster);
        self.change("adopt", async move {
            let mut change = Change::begin(place, &cluster).await?;
            let done = change.adopt(&cluster).await;
            change.end(done).await
        })
        .await
    }

    fn checks(&self) -> Option<&dyn Checks> {
        Some(self)
    }

    async fn columns(&self, table: &TableName) -> Result<Vec<ColumnFacts>, ConnectorError> {
        let mut session = Session::open(&self.place, Purpose::Write).await?;
        let found = catalog::find(session.conn(), &self.place, table).await;
        session.close().await;
        Ok(found?.map_or_else(Vec::new, |table| {
            table
                .columns
                .into_iter()
                .map(|column| column.facts)
                .collect()
        }))
    }
}
