//! What the cases have in common: a prepared target, claims on it, and rows to write.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_common::assignment::{AttemptError, ErrorClass, Receipt};
use highwater_common::coverage::Coverage;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::TargetFacts;
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, RunId, StepName, TaskId};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::spec::{ExistingRows, OnSchemaChange, Triggers, WriteMode};
use highwater_common::stream::PlanMark;
use highwater_common::token::{Fence, FencingToken, Nonce};

use super::{Row, TableChange, TargetFixture};
use crate::connector::{
    Claim, ClaimOutcome, CommitOutcome, ConnectorError, DataTx, GuardOutcome, GuardStep, HeldClaim,
    MergeBy, PrepareOutcome, PrepareRequest, RowBatch, RowFormat, RowStream, Rows, SliceRows,
    StreamRequest, Target, TargetProbe, Value, WriteRequest,
};

/// The stream that the suite loads.
pub(super) const STREAM: &str = "shop/orders/legacy:items-1/items";

/// A target that is prepared, with one run on it.
pub(super) struct Bench<F> {
    pub(super) fixture: F,
    pub(super) target: Arc<dyn Target>,
    pub(super) cluster: ClusterId,
    pub(super) run: RunId,
    pub(super) fingerprint: String,
}

impl<F: TargetFixture> Bench<F> {
    /// A fresh target whose table and ledger exist.
    pub(super) async fn prepared() -> Self {
        let bench = Self::fresh().await;
        let (warnings, coverage) = bench.prepare().await;
        assert_eq!(
            warnings,
            Vec::<String>::new(),
            "a table of our own making is as it should be"
        );
        assert!(coverage.is_empty());
        bench
    }

    /// Prepares for the bench's run, which must be given the stream: the warnings, and what others
    /// have committed.
    pub(super) async fn prepare(&self) -> (Vec<String>, Coverage) {
        match self
            .target
            .prepare(&self.prepare_request())
            .await
            .expect("the target can be prepared")
        {
            PrepareOutcome::Prepared {
                warnings, coverage, ..
            } => (warnings, coverage),
            other => panic!("the stream was to be the run's, not {other:?}"),
        }
    }

    /// The next run of the stream: it has another id, and later tokens.
    pub(super) fn next_run(&mut self) -> RunId {
        let id = self.run.as_bytes()[0];
        std::mem::replace(&mut self.run, RunId::from_bytes([id + 1; 16]))
    }

    /// A fresh target as planning finds it.
    pub(super) async fn fresh() -> Self {
        let fixture = F::fresh().await;
        let target = fixture.target();
        let (cluster, run) = (ClusterId::from_bytes([1; 16]), RunId::from_bytes([7; 16]));
        let mut bench = Self {
            fixture,
            target,
            cluster,
            run,
            fingerprint: String::new(),
        };
        bench.fingerprint = bench.probe().await.fingerprint;
        bench
    }

    pub(super) async fn probe(&self) -> TargetFacts {
        self.target
            .probe(&self.target_probe())
            .await
            .expect("the target can be probed")
    }

    pub(super) fn target_probe(&self) -> TargetProbe {
        TargetProbe {
            twin: None,
            cluster: self.cluster,
            table: self.fixture.table(),
            source_engine: self.fixture.source_engine(),
            columns: self.fixture.columns(),
            partition: Some(("pos".to_owned(), CursorKind::Integer)),
            stream: STREAM.to_owned(),
            triggers: Triggers::Fire,
            exchange: false,
        }
    }

    pub(super) fn prepare_request(&self) -> PrepareRequest {
        PrepareRequest {
            twin: None,
            cluster: self.cluster,
            table: self.fixture.table(),
            source: self.fixture.table().into(),
            columns: self.fixture.columns(),
            source_engine: self.fixture.source_engine(),
            key: vec!["id".to_owned()],
            placing: None,
            partition_column: Some("pos".to_owned()),
            mode: WriteMode::ReplacePartition,
            triggers: Triggers::Fire,
            on_schema_change: OnSchemaChange::Fail,
            stream: StreamRequest {
                stream: STREAM.to_owned(),
                run: self.run,
                plan: Some(plan(1)),
                token: self.token(0),
                kind: Some(CursorKind::Integer),
            },
        }
    }

    /// The `lo`th token of the bench's run: a later run's are all larger.
    fn token(&self, lo: u32) -> FencingToken {
        FencingToken::new(u64::from(self.run.as_bytes()[0]) - 4, lo).expect("in range")
    }

    /// The claim of the `attempt`-th attempt on the task of `slice`; its token grows with its
    /// number.
    pub(super) fn claim(&self, slice: Slice, attempt: u32) -> Claim {
        let step: StepName = "orders".parse().expect("a legal name");
        Claim {
            cluster: self.cluster,
            run: self.run,
            task: TaskId::derive(&self.run, 1, &step, 1, &slice.to_string()),
            generation: 1,
            plan: plan(1),
            step,
            phase: 1,
            ordinal: ordinal(&slice),
            stream: STREAM.to_owned(),
            slice: Some(slice),
            runs_alone: false,
            attempt: AttemptNo::new(attempt),
            fence: Fence {
                token: self.token(attempt),
                nonce: Nonce::new(u128::from(attempt)),
            },
            spec_digest: DocumentDigest::of(b"spec"),
            fingerprint: self.fingerprint.clone(),
        }
    }

    pub(super) fn write_request(&self, slice: Slice) -> WriteRequest {
        WriteRequest {
            table: self.fixture.table(),
            columns: self.fixture.columns(),
            rows: Rows::Slice(SliceRows {
                column: "pos".to_owned(),
                form: self.fixture.form(),
                slice,
            }),
            mode: WriteMode::ReplacePartition,
            merge_by: MergeBy::default(),
            triggers: Triggers::Fire,
            resident: ExistingRows::Fail,
            shrinking: highwater_common::spec::Shrinking::default(),
            format: RowFormat::Values,
            stream: STREAM.to_owned(),
        }
    }

    /// A claim that must be granted.
    pub(super) async fn held(&self, claim: &Claim) -> HeldClaim {
        match self
            .target
            .claim(claim)
            .await
            .expect("a claim on a target that works")
        {
            ClaimOutcome::Held(claimed) => claimed,
            other => panic!(
                "the claim of attempt {} was to be held, not {other:?}",
                claim.attempt
            ),
        }
    }

    /// Claims, writes and commits the rows of `slice`; gives the receipt.
    pub(super) async fn load(&self, slice: Slice, rows: Given) -> Receipt {
        self.load_as(&self.claim(slice, 1), &self.write_request(slice), rows)
            .await
            .expect("the load goes through")
    }

    /// [`Bench::load`] with everything given, up to the first error.
    pub(super) async fn load_as(
        &self,
        claim: &Claim,
        request: &WriteRequest,
        mut rows: Given,
    ) -> Result<Receipt, ConnectorError> {
        let tx = self.held(claim).await.begin().await?;
        let (tx, receipt) = tx.write(request, &mut rows).await?;
        commit(tx, &receipt).await;
        Ok(receipt)
    }

    /// How many rows the table has.
    pub(super) async fn count(&self) -> usize {
        self.fixture.rows(None).await.len()
    }

    /// How many rows of the table the condition holds for.
    pub(super) async fn rows_where(&self, condition: impl Fn(&Row) -> bool) -> usize {
        let rows = self.fixture.rows(None).await;
        rows.into_iter().filter(condition).count()
    }

    /// Changes the table as somebody else would, step by step.
    pub(super) async fn change<const STEPS: usize>(&self, steps: [TableChange; STEPS]) {
        for step in steps {
            self.fixture.change(&step).await;
        }
    }

    /// Puts rows into the table as somebody else would.
    pub(super) async fn insert(&self, ids: std::ops::Range<i64>) {
        for id in ids {
            self.fixture
                .change(&TableChange::Insert(Row::old(id)))
                .await;
        }
    }
}

/// One of several plans of a run, all under one generation.
pub(super) fn plan(no: u8) -> PlanMark {
    PlanMark::of(1, &DocumentDigest::of(&[no]))
}

/// Guards and commits; both must go through.
pub(super) async fn commit(tx: DataTx, receipt: &Receipt) {
    match tx
        .guard(&GuardStep::last(*receipt))
        .await
        .expect("the guard can be asked")
    {
        GuardOutcome::Holds(guarded) => match guarded.commit().await {
            CommitOutcome::Committed(_) => {}
            CommitOutcome::Refused(error) | CommitOutcome::Unknown(error) => {
                panic!("the commit was to be known: {error}")
            }
        },
        GuardOutcome::Lost => panic!("the guard was to hold"),
    }
}

/// The guard must be lost.
pub(super) async fn assert_lost(tx: DataTx, receipt: &Receipt) {
    let guarded = tx.guard(&GuardStep::last(*receipt)).await;
    assert_fenced(guarded);
}

/// A zombie goes on with its claim: it writes these rows and comes to its guard, in vain.
pub(super) async fn assert_writes_in_vain(
    claimed: HeldClaim,
    request: &WriteRequest,
    mut rows: Given,
) {
    let guarded = async {
        let (tx, receipt) = claimed.begin().await?.write(request, &mut rows).await?;
        tx.guard(&GuardStep::last(receipt)).await
    };
    assert_fenced(guarded.await);
}

/// The guard is lost, or is never reached: a target may end the session of an attempt that a newer
/// one has fenced.
fn assert_fenced(guarded: Result<GuardOutcome, ConnectorError>) {
    match guarded {
        Ok(GuardOutcome::Lost) => {}
        Ok(GuardOutcome::Holds(_)) => panic!("a zombie's guard was to be lost"),
        Err(ended) => {
            let class = ended.report.class;
            let is_ended = matches!(class, ErrorClass::Transient | ErrorClass::Unreachable);
            assert!(is_ended, "{class}: {}", ended.report.message);
        }
    }
}

/// The report of a call that must fail.
pub(super) fn failure<T>(answer: Result<T, ConnectorError>) -> AttemptError {
    match answer {
        Ok(_) => panic!("the call was to fail"),
        Err(error) => error.report,
    }
}

pub(super) fn fence(lo: u32, nonce: u128) -> Fence {
    Fence {
        token: FencingToken::new(3, lo).expect("in range"),
        nonce: Nonce::new(nonce),
    }
}

/// The positions `[start, end)`.
pub(super) fn range(start: i64, end: i64) -> Slice {
    let range = CursorRange::new(Some(Cursor::Integer(start)), Some(Cursor::Integer(end)));
    Slice::Range(range.expect("a range that is not empty"))
}

/// Rows given by a test, as a source would give them.
#[derive(Debug, Default)]
pub struct Given {
    batches: VecDeque<Vec<Vec<Value>>>,
    dies: bool,
    rows: u64,
    bytes: u64,
}

impl Given {
    /// The rows whose `id` and `pos` are those of the range.
    #[must_use]
    pub fn rows(ids: std::ops::Range<i64>) -> Self {
        let all: Vec<_> = ids.map(|id| row(id, Some(id))).collect();
        Self {
            batches: all.chunks(100).map(<[_]>::to_vec).collect(),
            ..Self::default()
        }
    }

    /// These rows.
    #[must_use]
    pub fn of(rows: &[Row]) -> Self {
        let text = |value: i64| Value::Text(value.to_string());
        let values = |row: &Row| {
            vec![
                text(row.id),
                row.pos.map_or(Value::Null, text),
                row.note.clone().map_or(Value::Null, Value::Text),
            ]
        };
        Self {
            batches: VecDeque::from([rows.iter().map(values).collect()]),
            ..Self::default()
        }
    }

    /// Rows of one column.
    #[must_use]
    pub fn ids<const COUNT: usize>(ids: [i64; COUNT]) -> Self {
        let values = |id: i64| vec![Value::Text(id.to_string())];
        Self {
            batches: VecDeque::from([ids.into_iter().map(values).collect()]),
            ..Self::default()
        }
    }

    /// Rows of the NULL partition.
    #[must_use]
    pub fn without_position(ids: std::ops::Range<i64>) -> Self {
        Self {
            batches: VecDeque::from([ids.map(|id| row(id, None)).collect()]),
            ..Self::default()
        }
    }

    /// The source breaks once these rows were read.
    #[must_use]
    pub fn then_dies(self) -> Self {
        Self { dies: true, ..self }
    }

    /// Then the rows of `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.batches.extend(other.batches);
        self
    }
}

fn row(id: i64, pos: Option<i64>) -> Vec<Value> {
    let text = |value: i64| Value::Text(value.to_string());
    vec![
        text(id),
        pos.map_or(Value::Null, text),
        Value::Text(format!("note {id}")),
    ]
}

#[async_trait]
impl RowStream for Given {
    async fn next(&mut self) -> Result<Option<RowBatch>, ConnectorError> {
        match self.batches.pop_front() {
            Some(rows) => {
                self.rows += rows.len() as u64;
                self.bytes += rows.len() as u64 * 10;
                Ok(Some(RowBatch::Rows(rows)))
            }
            None if self.dies => {
                let report = AttemptError::received(
                    ErrorClass::Transient,
                    "source_gone".to_owned(),
                    "the source broke off",
                );
                Err(ConnectorError {
                    report,
                    source: None,
                })
            }
            None => Ok(None),
        }
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The ordinal of a slice of the suite: its ranges begin at multiples of ten.
fn ordinal(slice: &Slice) -> u64 {
    match slice {
        Slice::Range(range) => match range.start() {
            Some(Cursor::Integer(start)) => u64::try_from(start / 10).unwrap_or(0),
            Some(Cursor::Instant(_) | Cursor::Civil(_) | Cursor::Date(_) | Cursor::Placed(..))
            | None => 0,
        },
        Slice::Null => 1_000,
    }
}
