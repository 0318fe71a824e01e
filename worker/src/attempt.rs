//! One attempt of a task: claim, move, guard, commit. The order of these is the whole safety of a load.

mod count;
mod lost_commit;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{
    Assignment, AttemptError, ErrorClass, FACTS_BYTES_MAX, Outcome, Settled, StepOrder, Work,
};
use highwater_common::cursor::CursorKind;
use highwater_common::errand::Errand;
use highwater_common::facts::{Adopted, ColumnFacts, Engine, StepFacts};
use highwater_common::range::Slice;
use highwater_common::spec::{Connection, PartitionBy, Strategy};
use highwater_common::strategy::Load as _;
use highwater_common::stream::PlanMark;
use tokio::sync::OnceCell;

use self::lost_commit::{ask_ledger, uncertain, undone_by};
use crate::connector::{
    Claim, ClaimOutcome, Claimed, CommitOutcome, ConnectorError, DataTx, ForgetOutcome, ForgetRequest, GuardOutcome,
    Guarded, PrepareOutcome, PrepareRequest, ReadRequest, RowFormat, RowStream, Shelf, Source, SourceProbe,
    StreamRequest, Target, TargetProbe, WriteRequest, open_source, open_target,
};
use crate::failpoint;
use crate::meter::{Metered, Progress};
use crate::patience::{Call, Sides, answered, unless_stalled};
use crate::supervisor::Supervisor;

/// An order with what all its attempts share in this worker.
pub(crate) struct OrderContext {
    order: StepOrder,
    worker: String,
    supervisor: Supervisor,
    /// The format that both sides agreed on; asked once.
    format: OnceCell<RowFormat>,
    /// Sessions between two attempts, of either side.
    source_shelf: Shelf,
    target_shelf: Shelf,
}

impl OrderContext {
    pub(crate) fn new(order: StepOrder, worker: String, supervisor: Supervisor) -> Self {
        let (source_shelf, target_shelf) = (Shelf::new(supervisor.clone()), Shelf::new(supervisor.clone()));
        Self { order, worker, supervisor, format: OnceCell::new(), source_shelf, target_shelf }
    }

    fn source(&self) -> Result<Box<dyn Source>, AttemptError> {
        let (connection, table) = self.order.source.as_ref().ok_or_else(|| malformed("no source"))?;
        let shelf = Some(&self.source_shelf);
        open_source(connection, &table.connection, table.rows, &self.base_dir(), &self.worker, &self.supervisor, shelf)
    }

    fn target(&self) -> Result<Box<dyn Target>, AttemptError> {
        let (connection, table) = self.order.target.as_ref().ok_or_else(|| malformed("no target"))?;
        let shelf = Some(&self.target_shelf);
        open_target(connection, &table.connection, &self.base_dir(), &self.worker, &self.supervisor, shelf)
    }

    fn sides(&self) -> Result<Sides<'_>, AttemptError> {
        match (&self.order.source, &self.order.target) {
            (Some((_, from)), Some((_, to))) => Ok(Sides { source: &from.connection, target: &to.connection }),
            (None, _) | (_, None) => Err(malformed("no tables")),
        }
    }

    /// How long an attempt may move nothing.
    const fn stall(&self) -> Duration {
        Duration::from_millis(self.order.stall_millis_max)
    }

    /// A target's answer, waited for as long as `call` can take.
    async fn of_target<T>(
        &self,
        call: Call,
        asked: impl Future<Output = Result<T, ConnectorError>>,
    ) -> Result<T, AttemptError> {
        answered(call, self.sides()?.target, self.stall(), asked).await
    }

    fn base_dir(&self) -> PathBuf {
        PathBuf::from(&self.order.base_dir)
    }

    fn settled(&self) -> Result<&Settled, AttemptError> {
        self.order.settled.as_ref().ok_or_else(|| malformed("no plan"))
    }

    fn source_engine(&self) -> Engine {
        match self.order.source.as_ref().map(|(connection, _)| connection) {
            Some(Connection::Sqlite { .. }) => Engine::Sqlite,
            Some(Connection::Postgres { .. }) | None => Engine::Postgres,
        }
    }
}

fn malformed(what: &str) -> AttemptError {
    let message = format!("the order has {what}: coordinator and worker are of versions that do not fit");
    AttemptError::new(ErrorClass::Permanent, "malformed_order", message)
}

impl From<ConnectorError> for AttemptError {
    fn from(error: ConnectorError) -> Self {
        error.report
    }
}

/// Runs one attempt to its end.
pub(crate) async fn run(context: &OrderContext, assignment: &Assignment, progress: &Arc<Progress>) -> Outcome {
    let work = dispatch(context, assignment, progress);
    let outcome = match context.order.attempt_millis_max {
        None => work.await,
        Some(limit) => match tokio::time::timeout(Duration::from_millis(limit), work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = format!(
                    "the attempt took longer than {limit} ms, the step's limits.attempt: raise it, or cut smaller partitions"
                );
                Err(AttemptError::new(ErrorClass::Resource, "attempt_timeout", message))
            }
        },
    };
    outcome.unwrap_or_else(Outcome::Failed)
}

async fn dispatch(
    context: &OrderContext,
    assignment: &Assignment,
    progress: &Arc<Progress>,
) -> Result<Outcome, AttemptError> {
    match assignment.work {
        Work::Probe if context.order.errand.is_some() => errand(context, assignment).await,
        Work::Probe => probe(context).await,
        Work::Prepare => prepare(context, assignment).await,
        Work::Partition(slice) => partition(context, assignment, slice, progress).await,
        Work::Fence => {
            let target = context.target()?;
            let fencing = target.fence_run(&context.order.cluster, &context.order.run);
            let report = context.of_target(Call::Fence, fencing).await?;
            Ok(Outcome::Fenced { attempts: report.attempts })
        }
        Work::Count(whole) => count::count(context, whole).await,
        Work::Noop(_) => {
            if let Strategy::Noop(noop) = &context.order.strategy {
                tokio::time::sleep(noop.hold).await;
            }
            Ok(Outcome::Done)
        }
    }
}

/// Asks the target's ledger for what a person wants of it, and looks at no table.
async fn errand(context: &OrderContext, assignment: &Assignment) -> Result<Outcome, AttemptError> {
    let (Some(errand), Strategy::Backfill(backfill)) = (&context.order.errand, &context.order.strategy) else {
        return Err(malformed("no errand"));
    };
    let order = &context.order;
    let stream = highwater_common::plan::stream_id(&order.pipeline, &order.step, backfill);
    let target = context.target()?;
    let receipts = match errand {
        Errand::Show { .. } => target.receipts(&order.cluster, &stream).await?,
        Errand::Forget(forget) => {
            let tz = match &backfill.partition.by {
                PartitionBy::Calendar { tz, .. } => tz.clone(),
                PartitionBy::Integer { .. } => "UTC".to_owned(),
            };
            let (run, token, kind) = (order.run, assignment.fence.token, CursorKind::Integer);
            let stream = StreamRequest { stream, run, plan: None, token, kind };
            let request = ForgetRequest { cluster: order.cluster, stream, forget: forget.clone(), tz };
            match target.forget(&request).await? {
                ForgetOutcome::Done(receipts) => receipts,
                ForgetOutcome::Not(PrepareOutcome::Outrun { newer }) => return Ok(Outcome::Outrun { newer }),
                ForgetOutcome::Not(PrepareOutcome::Superseded | PrepareOutcome::Prepared { .. }) => {
                    return superseded(context, target.as_ref()).await;
                }
            }
        }
    };
    let facts = StepFacts::of_receipts(context.source_engine(), receipts);
    let json = serde_json::to_vec(&facts)
        .map_err(|error| AttemptError::new(ErrorClass::Permanent, "facts", error.to_string()))?;
    Ok(Outcome::Probed(json))
}

async fn probe(context: &OrderContext) -> Result<Outcome, AttemptError> {
    let (Strategy::Backfill(backfill), Some((_, from)), Some((_, to))) =
        (&context.order.strategy, &context.order.source, &context.order.target)
    else {
        return Err(malformed("nothing to probe"));
    };
    failpoint::hit_on("attempt::before_probe", &context.worker).await?;
    let Some(asked) = backfill.probe() else { return Err(malformed("nothing to probe")) };
    let (column, triggers) = (asked.partition_column.to_owned(), asked.triggers);
    let (source, target) = (context.source()?, context.target()?);
    let asked = SourceProbe {
        table: from.table.clone(),
        exclude: from.exclude.clone(),
        partition_column: Some(column.clone()),
        bounds_declared: asked.bounds_declared,
    };
    let mut facts = answered(Call::Probe, &from.connection, context.stall(), source.probe(&asked)).await?;
    if let Some(partition) = &mut facts.partition {
        partition.left_out = count::outside_of_declared(context, source.as_ref(), backfill, partition).await?;
    }
    let source = facts;
    // Before the target is probed, because the probe of one that is another cluster's is refused. A repeat finds it this cluster's already.
    let adopted = match context.order.adopts {
        true => {
            let former = context.of_target(Call::Adopt, target.adopt(&context.order.cluster)).await?;
            Some(Adopted { former })
        }
        false => None,
    };
    let stream = highwater_common::plan::stream_id(&context.order.pipeline, &context.order.step, backfill);
    let asked = TargetProbe {
        cluster: context.order.cluster,
        table: to.table.clone(),
        source_engine: source.engine,
        columns: source.columns.clone(),
        partition: source.partition.as_ref().map(|facts| (column, facts.kind)),
        stream,
        triggers,
    };
    let target = context.of_target(Call::Probe, target.probe(&asked)).await?;
    let json = serde_json::to_vec(&StepFacts { source, target, adopted, receipts: None })
        .map_err(|error| AttemptError::new(ErrorClass::Permanent, "facts", error.to_string()))?;
    if json.len() > FACTS_BYTES_MAX {
        let message = format!(
            "what is known of {} and {} takes {} bytes, and at most {FACTS_BYTES_MAX} can be kept: leave columns out with `from.exclude`",
            from.table,
            to.table,
            json.len()
        );
        return Err(AttemptError::new(ErrorClass::Permanent, "facts_too_large", message));
    }
    failpoint::hit_on("attempt::after_probe", &context.worker).await?;
    Ok(Outcome::Probed(json))
}

async fn prepare(context: &OrderContext, assignment: &Assignment) -> Result<Outcome, AttemptError> {
    let (order, settled) = (&context.order, context.settled()?);
    let (Some((_, from)), Some((_, to))) = (&context.order.source, &context.order.target) else {
        return Err(malformed("no tables"));
    };
    let request = PrepareRequest {
        cluster: context.order.cluster,
        table: to.table.clone(),
        source_table: from.table.clone(),
        columns: settled.columns.clone(),
        source_engine: context.source_engine(),
        key: settled.key.clone(),
        partition_column: settled.partition_column.clone(),
        mode: settled.write.mode,
        triggers: settled.write.triggers,
        stream: StreamRequest {
            stream: settled.stream.clone(),
            run: order.run,
            plan: Some(PlanMark::of(order.generation, &settled.cut)),
            token: assignment.fence.token,
            kind: settled.partition_kind,
        },
    };
    failpoint::hit_on("attempt::prepare", &context.worker).await?;
    let target = context.target()?;
    let prepared = context.of_target(Call::Prepare, target.prepare(&request)).await?;
    failpoint::hit_on("attempt::after_prepare", &context.worker).await?;
    match prepared {
        PrepareOutcome::Prepared { warnings, coverage } => {
            Ok(Outcome::Prepared { warnings, coverage: coverage.digest() })
        }
        PrepareOutcome::Superseded => superseded(context, target.as_ref()).await,
        PrepareOutcome::Outrun { newer } => Ok(Outcome::Outrun { newer }),
    }
}

/// The target says that nothing of the run commits any more, and why.
async fn superseded(context: &OrderContext, target: &dyn Target) -> Result<Outcome, AttemptError> {
    Ok(Outcome::Superseded { by: target.fenced_by(&context.order.run).await? })
}

async fn partition(
    context: &OrderContext,
    assignment: &Assignment,
    slice: Slice,
    progress: &Arc<Progress>,
) -> Result<Outcome, AttemptError> {
    let (order, settled) = (&context.order, context.settled()?);
    let target = context.target()?;
    let claim = Claim {
        cluster: order.cluster,
        run: order.run,
        task: assignment.task,
        generation: order.generation,
        plan: PlanMark::of(order.generation, &settled.cut),
        step: order.step.clone(),
        stream: settled.stream.clone(),
        slice,
        attempt: assignment.attempt,
        fence: assignment.fence,
        spec_digest: order.spec_digest,
        fingerprint: settled.target_fingerprint.clone(),
    };
    failpoint::hit_on("attempt::before_claim", &context.worker).await?;
    match context.of_target(Call::Claim, target.claim(&claim)).await? {
        ClaimOutcome::Held(claimed) => {
            failpoint::hit_on("attempt::after_claim", &context.worker).await?;
            let format = format(context, target.as_ref(), settled).await?;
            move_rows(context, target.as_ref(), claimed, assignment, slice, format, progress).await
        }
        ClaimOutcome::Committed(receipt) => Ok(Outcome::Committed(receipt)),
        ClaimOutcome::Superseded => superseded(context, target.as_ref()).await,
        ClaimOutcome::Fenced { newer } => Ok(Outcome::Outrun { newer }),
        ClaimOutcome::SpecChanged => Err(spec_changed()),
        ClaimOutcome::PlanChanged => Err(plan_changed()),
    }
}

fn spec_changed() -> AttemptError {
    let message = "the target holds this task for another version of the spec: begin a new run with `--new`";
    AttemptError::new(ErrorClass::Permanent, "spec_changed", message)
}

fn plan_changed() -> AttemptError {
    let message = "the run has loaded the target under another plan since, which the store does not know, so that this one's tasks could load \
                   rows twice: was the store put back to a backup? Begin a new run with `--new`";
    AttemptError::new(ErrorClass::Permanent, "plan_changed", message)
}

async fn format(context: &OrderContext, target: &dyn Target, settled: &Settled) -> Result<RowFormat, AttemptError> {
    let agreed = context.format.get_or_try_init(async || {
        let (_, to) = context.order.target.as_ref().ok_or_else(|| malformed("no target"))?;
        let own: Vec<ColumnFacts> = context.of_target(Call::Columns, target.columns(&to.table)).await?;
        let offered = context.source()?.formats(&settled.columns);
        let taken = target.formats(context.source_engine(), &settled.columns, &own);
        offered.into_iter().find(|format| taken.contains(format)).ok_or_else(|| malformed("no common row format"))
    });
    agreed.await.copied()
}

async fn move_rows(
    context: &OrderContext,
    target: &dyn Target,
    claimed: Box<dyn Claimed>,
    assignment: &Assignment,
    slice: Slice,
    format: RowFormat,
    progress: &Arc<Progress>,
) -> Result<Outcome, AttemptError> {
    let settled = context.settled()?;
    let (Some((_, from)), Some((_, to))) = (&context.order.source, &context.order.target) else {
        return Err(malformed("no tables"));
    };
    let read = ReadRequest {
        table: from.table.clone(),
        columns: settled.columns.clone(),
        partition_column: settled.partition_column.clone(),
        form: settled.source_form,
        slice,
        format,
    };
    let write = WriteRequest {
        table: to.table.clone(),
        columns: settled.columns.clone(),
        partition_column: settled.partition_column.clone(),
        form: settled.target_form,
        slice,
        mode: settled.write.mode,
        triggers: settled.write.triggers,
        resident: settled.write.resident,
        format,
        stream: settled.stream.clone(),
    };
    let source = context.source()?;
    let (tx, inner) = begin_with_rows(reading(context, progress, source.as_ref(), &read), claimed).await?;
    progress.note_reached();
    failpoint::hit_on("attempt::after_begin", &context.worker).await?;
    let moving = async {
        let mut rows = Metered::new(inner, Arc::clone(progress), context.worker.clone());
        let (tx, receipt) = tx.write(&write, &mut rows).await?;
        drop(rows);
        failpoint::hit_on("attempt::before_guard", &context.worker).await?;
        Ok((tx.guard(&receipt).await?, receipt))
    };
    let (guarded, receipt) = unless_stalled(progress, context.stall(), context.sides()?, moving).await?;
    match guarded {
        GuardOutcome::Lost => ask_ledger(context, target, assignment).await,
        GuardOutcome::Holds(guarded) => {
            failpoint::hit_on("attempt::before_commit", &context.worker).await?;
            let committed = committed_or_unknown(context, guarded).await?;
            failpoint::hit_on("attempt::after_commit", &context.worker).await?;
            match committed {
                CommitOutcome::Committed => Ok(Outcome::Committed(receipt)),
                CommitOutcome::Refused(error) => Err(error.into()),
                CommitOutcome::Unknown(error) => {
                    tracing::warn!(task = %assignment.task, %error, "a commit's answer was lost: asking the ledger");
                    ask_ledger(context, target, assignment).await.map_err(|undone| undone_by(undone, error.report))
                }
            }
        }
    }
}

/// The source answers first, and only then the target's transaction begins: a scan may take an hour to its first row, and a
/// target ends a transaction that idles for long. A begin is not watched for a stall, because it may wait for its turn.
pub(crate) async fn begin_with_rows<E: From<ConnectorError>>(
    reading: impl Future<Output = Result<Box<dyn RowStream>, E>>,
    claimed: Box<dyn Claimed>,
) -> Result<(Box<dyn DataTx>, Box<dyn RowStream>), E> {
    let rows = reading.await?;
    let tx = claimed.begin().await?;
    Ok((tx, rows))
}

/// The source's rows, unless it says nothing for too long.
async fn reading(
    context: &OrderContext,
    progress: &Progress,
    source: &dyn Source,
    read: &ReadRequest,
) -> Result<Box<dyn RowStream>, AttemptError> {
    progress.wait_for_source(true);
    let asked = async { Ok(source.read(read).await?) };
    let rows = unless_stalled(progress, context.stall(), context.sides()?, asked).await;
    progress.wait_for_source(false);
    rows
}

/// The answer to COMMIT. A commit is never cancelled: it goes on in its own loop, and whoever waited for it too long asks the
/// ledger instead.
async fn committed_or_unknown(
    context: &OrderContext,
    guarded: Box<dyn Guarded>,
) -> Result<CommitOutcome, AttemptError> {
    let target = context.sides()?.target;
    Ok(tokio::time::timeout(context.stall(), guarded.commit()).await.unwrap_or_else(|_| {
        let message = format!("{target} did not answer a commit within the step's limits.stall");
        CommitOutcome::Unknown(ConnectorError::of_report(uncertain(&message)))
    }))
}
