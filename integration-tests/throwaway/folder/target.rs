//! The write side. A change is a new document in the place of the old one, under the folder's lock;
//! a data transaction holds that lock from its begin to its commit.

use async_trait::async_trait;
use highwater_common::chunk::Reached;
use highwater_common::close::{Ordinals, ledger_lost_message};
use highwater_common::commit::{CommitPermit, LedgerRow, Resume};
use highwater_common::coverage::Coverage;
use highwater_common::errand::StreamReceipts;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind, Engine, TargetFacts};
use highwater_common::id::{ClusterId, ConnectionName, RunId, TaskId};
use highwater_common::plan::{self, Destination};
use highwater_common::range::Slice;
use highwater_common::spec::{TableName, WriteMode};
use highwater_common::stream::{RunMark, receipts_message};

use super::ledger::{Answer, Ledger};
use super::store::{Data, Place, Replaced, Turn};
use super::table::Table;
use crate::connector::{
    Claim, ClaimOutcome, Claimed, CloseRequest, CommitFailure, ConnectorError, FenceReport,
    ForgetOutcome, ForgetRequest, GuardStep, HeldClaim, Matched, PrepareOutcome, PrepareRequest,
    RowBatch, RowStream, Rows, Target, TargetProbe, TargetTx, WriteRequest,
};
use crate::supervisor::Supervisor;

/// A folder to write to, with its ledger.
#[derive(Debug)]
pub struct FolderTarget {
    place: Place,
    supervisor: Supervisor,
}

impl FolderTarget {
    /// The folder at a place.
    #[must_use]
    pub const fn new(place: Place, supervisor: Supervisor) -> Self {
        Self { place, supervisor }
    }

    /// One commit: what was done is there wholly, or, after an error, not at all.
    async fn change<T>(
        &self,
        change: impl FnOnce(&mut Data) -> Result<T, ConnectorError> + Send,
    ) -> Result<T, ConnectorError> {
        let turn = self.place.turn().await?;
        let mut data = self.place.load()?;
        let done = change(&mut data)?;
        self.place.replace(&turn, &data)?;
        Ok(done)
    }

    fn belongs(&self, ledger: &Ledger, cluster: &ClusterId) -> Result<(), ConnectorError> {
        if ledger.cluster == *cluster {
            return Ok(());
        }
        let what = "the target is another cluster's. If that one writes here no more, take it over \
                    with `highwater cluster adopt`";
        Err(self
            .place
            .permanent(ErrorCode::TargetOfAnotherCluster, what))
    }

    /// Refuses receipts whose rows are not there.
    fn check_receipts(
        &self,
        ledger: &Ledger,
        stream: &str,
        name: &TableName,
        table: Option<&Table>,
    ) -> Result<(), ConnectorError> {
        ledger.contradiction(stream, table).map_or(Ok(()), |why| {
            let message = receipts_message("the target", &name.to_string(), why);
            Err(self
                .place
                .permanent(ErrorCode::ReceiptsWithoutRows, message))
        })
    }

    /// Makes the table, or compares it with what will come. Gives its identity.
    fn make_table(&self, data: &mut Data, request: &PrepareRequest) -> Result<u64, ConnectorError> {
        if let Some(table) = data.tables.get(&request.table.name) {
            let rows = plan::Rows {
                engine: request.source_engine,
                table: &request.source,
                columns: &request.columns,
                cut_by: request.partition_column.as_deref(),
            };
            let to = Destination {
                engine: Engine::Folder,
                table: &request.table,
                found: &table.facts(None),
                on_schema_change: request.on_schema_change,
            };
            return match plan::check_table(rows, to).refusal() {
                Some((code, why)) => Err(self.place.permanent(code, why)),
                None => Ok(table.id),
            };
        }
        let column = |own: &ColumnFacts| {
            let (kind, type_name) = match own.kind {
                ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => {
                    (ColumnKind::Int64, "integer")
                }
                ColumnKind::Text => (ColumnKind::Text, "text"),
                _ => {
                    let what = format!(
                        "column {} is {}, which no folder keeps",
                        own.name, own.type_name
                    );
                    return Err(self.place.permanent(ErrorCode::ValueRefused, what));
                }
            };
            Ok(ColumnFacts {
                kind,
                type_name: type_name.to_owned(),
                nullable: own.nullable && !request.key.contains(&own.name),
                ..own.clone()
            })
        };
        data.tables_made += 1;
        let table = Table {
            id: data.tables_made,
            columns: request
                .columns
                .iter()
                .map(column)
                .collect::<Result<_, _>>()?,
            key: request.key.clone(),
            ..Table::default()
        };
        data.tables.insert(request.table.name.clone(), table);
        Ok(data.tables_made)
    }

    fn prepared(
        &self,
        data: &mut Data,
        request: &PrepareRequest,
    ) -> Result<PrepareOutcome, ConnectorError> {
        let wanted = &request.stream;
        let mut ledger = data
            .ledger
            .take()
            .unwrap_or_else(|| Ledger::new(request.cluster));
        self.belongs(&ledger, &request.cluster)?;
        let not_mine = ledger.take(wanted);
        if let Some(not_mine) = not_mine {
            data.ledger = Some(ledger);
            return Ok(not_mine);
        }
        let table = data.tables.get(&request.table.name);
        let was_there = table.is_some();
        if !request.mode.replaces_all() {
            self.check_receipts(&ledger, &wanted.stream, &request.table, table)?;
        }
        ledger.note_table(&wanted.stream, self.make_table(data, request)?);
        let own = wanted.plan.map(|plan| (wanted.run, plan));
        let coverage = match wanted.kind {
            // Receipts of nothing are none of a table that was just made.
            Some(kind) if was_there => {
                let all = ledger.coverage(&wanted.stream, own);
                Coverage::of(&all.told(kind), all.null())
            }
            Some(_) | None => Coverage::default(),
        };
        let fingerprint = ledger.id.clone();
        data.ledger = Some(ledger);
        Ok(PrepareOutcome::Prepared {
            warnings: Vec::new(),
            coverage,
            fingerprint,
        })
    }
}

#[async_trait]
impl Target for FolderTarget {
    async fn probe(&self, probe: &TargetProbe) -> Result<TargetFacts, ConnectorError> {
        let data = self.place.load()?;
        let table = data.tables.get(&probe.table.name);
        let mut facts = TargetFacts {
            engine: Engine::Folder,
            fingerprint: String::new(),
            table: table.map(|table| table.facts(probe.partition.as_ref())),
            created_as: Vec::new(),
            uncarried: Vec::new(),
            covered: Vec::new(),
            covered_null: false,
        };
        if let Some(ledger) = &data.ledger {
            self.belongs(ledger, &probe.cluster)?;
            self.check_receipts(ledger, &probe.stream, &probe.table, table)?;
            facts.fingerprint.clone_from(&ledger.id);
            if let (Some((_, kind)), Some(_)) = (&probe.partition, table) {
                let covered = ledger.coverage(&probe.stream, None);
                facts.covered = covered.told(*kind);
                facts.covered_null = covered.null();
            }
        }
        Ok(facts)
    }

    async fn prepare(&self, request: &PrepareRequest) -> Result<PrepareOutcome, ConnectorError> {
        self.change(|data| self.prepared(data, request)).await
    }

    async fn claim(&self, claim: &Claim) -> Result<ClaimOutcome, ConnectorError> {
        let answer = self.change(|data| {
            let Some(ledger) = &mut data.ledger else {
                return Err(self
                    .place
                    .permanent(ErrorCode::LedgerMissing, "the target has no ledger"));
            };
            self.belongs(ledger, &claim.cluster)?;
            // A folder that had no ledger when it was planned got it by the step's own prepare.
            if !claim.fingerprint.is_empty() && claim.fingerprint != ledger.id {
                let what = "the target is another folder than the one that was planned for";
                return Err(self.place.permanent(ErrorCode::TargetChanged, what));
            }
            Ok(ledger.claim(claim))
        });
        Ok(match answer.await? {
            Answer::PlanChanged => ClaimOutcome::PlanChanged,
            Answer::Is(Resume::Begin, reached) => {
                let claimed = FolderClaim {
                    place: self.place.clone(),
                    claim: claim.clone(),
                    turn: None,
                };
                let supervisor = self.supervisor.clone();
                ClaimOutcome::Held(HeldClaim::new(Box::new(claimed), reached, supervisor))
            }
            Answer::Is(Resume::ReportOnly(receipt), _) => ClaimOutcome::Committed(receipt),
            Answer::Is(Resume::Superseded, _) => ClaimOutcome::Superseded,
            Answer::Is(Resume::SpecChanged, _) => ClaimOutcome::SpecChanged,
            Answer::Is(Resume::Fenced { newer }, _) => ClaimOutcome::Fenced { newer },
            Answer::Is(Resume::Probe, _) => {
                let what = "something was begun here that is no transaction";
                return Err(self.place.permanent(ErrorCode::InDoubt, what));
            }
        })
    }

    async fn ledger_row(
        &self,
        run: &RunId,
        task: &TaskId,
    ) -> Result<Option<LedgerRow>, ConnectorError> {
        let ledger = self.place.load()?.ledger;
        Ok(ledger.and_then(|ledger| ledger.row(run, task)))
    }

    async fn committed(&self, request: &CloseRequest) -> Result<Ordinals, ConnectorError> {
        let data = self.place.load()?;
        let table = data.tables.get(&request.table.name);
        match &data.ledger {
            Some(ledger) => {
                self.belongs(ledger, &request.cluster)?;
                Ok(ledger.committed(request))
            }
            None if request.mode == WriteMode::Append
                && table.is_some_and(|table| !table.rows.is_empty()) =>
            {
                let place = self.place.to_string();
                let message = ledger_lost_message(&place, &request.table.to_string());
                Err(self.place.permanent(ErrorCode::LedgerMissing, message))
            }
            None => Ok(Ordinals::default()),
        }
    }

    async fn fence_run(
        &self,
        cluster: &ClusterId,
        run: &RunId,
    ) -> Result<FenceReport, ConnectorError> {
        self.change(|data| {
            let ledger = data.ledger.get_or_insert_with(|| Ledger::new(*cluster));
            Ok(FenceReport {
                attempts: ledger.fence_run(*run, None),
            })
        })
        .await
    }

    async fn fenced_by(&self, run: &RunId) -> Result<Option<RunId>, ConnectorError> {
        let ledger = self.place.load()?.ledger;
        Ok(match ledger.map(|ledger| ledger.mark(run)) {
            Some(RunMark::Fenced { by }) => by,
            Some(RunMark::Unknown | RunMark::Running) | None => None,
        })
    }

    async fn receipts(
        &self,
        cluster: &ClusterId,
        stream: &str,
    ) -> Result<StreamReceipts, ConnectorError> {
        let Some(ledger) = self.place.load()?.ledger else {
            return Ok(StreamReceipts {
                stream: stream.to_owned(),
                ..StreamReceipts::default()
            });
        };
        self.belongs(&ledger, cluster)?;
        Ok(ledger.receipts(stream, None))
    }

    async fn forget(&self, request: &ForgetRequest) -> Result<ForgetOutcome, ConnectorError> {
        self.change(|data| {
            let ledger = data
                .ledger
                .get_or_insert_with(|| Ledger::new(request.cluster));
            self.belongs(ledger, &request.cluster)?;
            if let Some(not_mine) = ledger.take(&request.stream) {
                return Ok(ForgetOutcome::Not(not_mine));
            }
            let voided = ledger.void(request);
            voided
                .map(ForgetOutcome::Done)
                .map_err(|why| self.place.permanent(ErrorCode::ReceiptInPart, why))
        })
        .await
    }

    async fn adopt(&self, cluster: &ClusterId) -> Result<Option<ClusterId>, ConnectorError> {
        self.change(|data| {
            let Some(ledger) = &mut data.ledger else {
                data.ledger = Some(Ledger::new(*cluster));
                return Ok(None);
            };
            let former = std::mem::replace(&mut ledger.cluster, *cluster);
            if former != *cluster {
                ledger.fence_all();
            }
            Ok(Some(former))
        })
        .await
    }

    async fn columns(&self, table: &TableName) -> Result<Vec<ColumnFacts>, ConnectorError> {
        let mut tables = self.place.load()?.tables;
        Ok(tables
            .remove(&table.name)
            .map_or_else(Vec::new, |table| table.columns))
    }
}

/// A claim that stands.
struct FolderClaim {
    place: Place,
    claim: Claim,
    turn: Option<Turn>,
}

#[async_trait]
impl Claimed for FolderClaim {
    fn connection(&self) -> &ConnectionName {
        &self.place.connection
    }

    async fn ready(&mut self) -> Result<(), ConnectorError> {
        self.turn = Some(self.place.turn().await?);
        Ok(())
    }

    async fn begin(self: Box<Self>) -> Result<Box<dyn TargetTx>, ConnectorError> {
        let turn = match self.turn {
            Some(turn) => turn,
            None => self.place.turn().await?,
        };
        Ok(Box::new(FolderTx {
            data: self.place.load()?,
            place: self.place,
            claim: self.claim,
            turn,
            table: String::new(),
        }))
    }

    async fn release(self: Box<Self>) {}
}

/// A document that is not there yet. Dropping it forgets it, and lets the next writer go.
struct FolderTx {
    place: Place,
    claim: Claim,
    turn: Turn,
    data: Data,
    table: String,
}

impl FolderTx {
    fn table(&mut self) -> Result<&mut Table, ConnectorError> {
        let Self {
            place, data, table, ..
        } = self;
        let missing = || place.permanent(ErrorCode::UnknownTable, format!("no table {table}"));
        data.tables.get_mut(table).ok_or_else(missing)
    }
}

#[async_trait]
impl TargetTx for FolderTx {
    fn place(&self) -> String {
        self.place.to_string()
    }

    async fn hold(&mut self, request: &WriteRequest) -> Result<(), ConnectorError> {
        let table = self.place.table(&self.data, &request.table)?;
        for column in &request.columns {
            table.known(&self.place, &column.name)?;
        }
        self.table.clone_from(&request.table.name);
        Ok(())
    }

    async fn has_receipts(&mut self, stream: &str, slice: &Slice) -> Result<bool, ConnectorError> {
        let ledger = self.data.ledger.as_ref();
        Ok(ledger.is_some_and(|ledger| ledger.coverage(stream, None).meets(slice)))
    }

    async fn count(&mut self, rows: &Rows, most: u64) -> Result<u64, ConnectorError> {
        let place = self.place.clone();
        let table = self.table()?;
        let meant = table.meant(&place, rows)?;
        let found = table.rows.iter().filter(|row| meant(row)).count() as u64;
        Ok(found.min(most))
    }

    async fn delete(&mut self, rows: &Rows) -> Result<(), ConnectorError> {
        let place = self.place.clone();
        let table = self.table()?;
        let meant = table.meant(&place, rows)?;
        table.rows.retain(|row| !meant(row));
        Ok(())
    }

    async fn insert(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<u64, ConnectorError> {
        let place = self.place.clone();
        let mut taken = 0;
        while let Some(batch) = rows.next().await? {
            let RowBatch::Rows(batch) = batch else {
                return Err(place.permanent(ErrorCode::WrongFormat, "a folder takes typed values"));
            };
            for row in batch {
                self.table()?.insert(&place, request, row)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    async fn guard(
        &mut self,
        reached: &Reached,
        step: &GuardStep,
    ) -> Result<Matched, ConnectorError> {
        let Some(ledger) = &mut self.data.ledger else {
            return Err(self
                .place
                .permanent(ErrorCode::LedgerMissing, "the target has no ledger"));
        };
        Ok(ledger.guard(&self.claim, reached, step))
    }

    async fn roll_back(self: Box<Self>) {}

    async fn discard(self: Box<Self>) {}

    async fn commit(
        self: Box<Self>,
        _permit: CommitPermit,
    ) -> Result<Box<dyn Claimed>, CommitFailure> {
        match self.place.replace(&self.turn, &self.data) {
            Ok(()) => Ok(Box::new(FolderClaim {
                place: self.place,
                claim: self.claim,
                turn: None,
            })),
            Err(Replaced::Not(error)) => Err(CommitFailure::Refused(error)),
            Err(Replaced::Unknown(error)) => Err(CommitFailure::Unknown(error)),
        }
    }
}
