//! What an attempt works with: its order, and the two sides.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::{
    Assignment, AttemptError, CutBy, ErrorClass, LoadOrder, StepOrder,
};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{CursorForm, Engine};
use highwater_common::plan::stream_id;
use highwater_common::range::Slice;
use highwater_common::spec::{SourceTable, TableName, TargetTable};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::connector::{
    ConnectorError, PlacedRows, RowFormat, Rows, SessionPool, ShadowRequest, Shadows, SliceRows,
    Source, Target, open_source, open_target,
};
use crate::meter::Progress;
use crate::patience::{Call, Sides, answered, answered_at_work};
use crate::programs::AllowedPrograms;
use crate::supervisor::Supervisor;

/// One attempt: what it shares with the others of its order, what it is, and how far.
pub(crate) struct AttemptContext<'a> {
    /// The order.
    pub(crate) of: &'a OrderContext,
    /// The task, and the fence.
    pub(crate) assignment: &'a Assignment,
    /// For its heartbeats.
    pub(crate) progress: &'a Arc<Progress>,
    /// Cancelled when the worker drains: what can be given back in good order is.
    pub(crate) drain: &'a CancellationToken,
}

impl AttemptContext<'_> {
    /// What the target comes to with what may take hours, unless it is not even seen at work.
    pub(crate) async fn at_work<T>(
        &self,
        asked: impl Future<Output = Result<T, ConnectorError>>,
    ) -> Result<T, AttemptError> {
        let (target, doing) = (self.of.sides()?.target, self.progress.doing());
        answered_at_work(Call::Build, target, self.of.stall(), doing, asked).await
    }
}

/// An order with what all its attempts share in this worker.
pub(crate) struct OrderContext {
    pub(crate) order: StepOrder,
    pub(crate) worker: String,
    /// The programs that the worker runs.
    pub(crate) programs: AllowedPrograms,
    supervisor: Supervisor,
    /// The format that both sides agreed on; asked once.
    pub(crate) format: OnceCell<RowFormat>,
    /// Sessions between two attempts, of either side.
    source_sessions: SessionPool,
    target_sessions: SessionPool,
}

impl OrderContext {
    pub(crate) fn new(
        order: StepOrder,
        worker: String,
        programs: AllowedPrograms,
        supervisor: Supervisor,
    ) -> Self {
        let (source_sessions, target_sessions) = (
            SessionPool::new(supervisor.clone()),
            SessionPool::new(supervisor.clone()),
        );
        Self {
            order,
            worker,
            programs,
            supervisor,
            format: OnceCell::new(),
            source_sessions,
            target_sessions,
        }
    }

    pub(crate) fn source(&self) -> Result<Box<dyn Source>, AttemptError> {
        let (connection, table) = self
            .order
            .source
            .as_ref()
            .ok_or_else(|| malformed("no source"))?;
        let session_pool = Some(&self.source_sessions);
        open_source(
            connection,
            &table.connection,
            table.rows,
            &self.base_dir(),
            &self.worker,
            &self.supervisor,
            session_pool,
        )
    }

    pub(crate) fn target(&self) -> Result<Box<dyn Target>, AttemptError> {
        let (connection, table) = self
            .order
            .target
            .as_ref()
            .ok_or_else(|| malformed("no target"))?;
        let session_pool = Some(&self.target_sessions);
        open_target(
            connection,
            &table.connection,
            &self.base_dir(),
            &self.worker,
            &self.supervisor,
            session_pool,
        )
    }

    pub(crate) fn sides(&self) -> Result<Sides<'_>, AttemptError> {
        let to = &self.target_table()?.connection;
        let source = self.order.source.as_ref();
        Ok(Sides {
            source: source.map_or(to, |(_, from)| &from.connection),
            target: to,
        })
    }

    /// How long an attempt may move nothing.
    pub(crate) const fn stall(&self) -> Duration {
        Duration::from_millis(self.order.stall_millis_max)
    }

    /// A target's answer, waited for as long as `call` can take.
    pub(crate) async fn of_target<T>(
        &self,
        call: Call,
        asked: impl Future<Output = Result<T, ConnectorError>>,
    ) -> Result<T, AttemptError> {
        answered(call, self.sides()?.target, self.stall(), asked).await
    }

    pub(crate) fn base_dir(&self) -> PathBuf {
        PathBuf::from(&self.order.base_dir)
    }

    pub(crate) fn load_order(&self) -> Result<&LoadOrder, AttemptError> {
        self.order
            .load_order
            .as_ref()
            .ok_or_else(|| malformed("no plan"))
    }

    /// What the step reads, and what it writes.
    pub(crate) fn tables(&self) -> Result<(&SourceTable, &TargetTable), AttemptError> {
        match (&self.order.source, &self.order.target) {
            (Some((_, from)), Some((_, to))) => Ok((from, to)),
            (None, _) | (_, None) => Err(malformed("no tables")),
        }
    }

    /// What the step writes.
    pub(crate) fn target_table(&self) -> Result<&TargetTable, AttemptError> {
        let target = self.order.target.as_ref();
        let (_, to) = target.ok_or_else(|| malformed("no target"))?;
        Ok(to)
    }

    /// The step's stream.
    pub(crate) fn stream(&self) -> Result<String, AttemptError> {
        let StepOrder { pipeline, step, .. } = &self.order;
        let source = self.order.source.as_ref().map(|(_, from)| from);
        Ok(stream_id(pipeline, step, source, self.target_table()?))
    }

    /// What is asked about the table that takes the target's place; `None` where none does.
    pub(crate) fn shadow(&self) -> Result<Option<ShadowRequest>, AttemptError> {
        let Some(shadow) = &self.load_order()?.shadow else {
            return Ok(None);
        };
        Ok(Some(ShadowRequest {
            table: self.tables()?.1.table.clone(),
            identity: shadow.identity.clone(),
            run: self.order.run,
            stream: self.load_order()?.stream.clone(),
        }))
    }

    /// The table that rows are written to.
    pub(crate) fn written_table(&self, target: &dyn Target) -> Result<TableName, AttemptError> {
        match self.shadow()? {
            Some(request) => Ok(shadows(target)?.name(&request)?),
            None => Ok(self.tables()?.1.table.clone()),
        }
    }

    /// What the table is cut by.
    pub(crate) fn cut_by(&self) -> Result<&CutBy, AttemptError> {
        let cut_by = self.load_order()?.cut_by.as_ref();
        cut_by.ok_or_else(|| malformed("nothing to cut the table by"))
    }

    /// The table of the source that is cut: a query never is.
    pub(crate) fn cut_table(&self) -> Result<&TableName, AttemptError> {
        let table = self.tables()?.0.relation.table();
        table.ok_or_else(|| malformed("a query that is cut"))
    }

    pub(crate) fn source_engine(&self) -> Engine {
        let source = self.order.source.as_ref();
        source.map_or(Engine::Postgres, |(connection, _)| connection.engine())
    }

    pub(crate) fn target_engine(&self) -> Engine {
        let target = self.order.target.as_ref();
        target.map_or(Engine::Postgres, |(connection, _)| connection.engine())
    }
}

/// The rows of a slice in the words of one side; all of a table that nothing cuts.
pub(super) fn rows_of(
    order: &LoadOrder,
    slice: Slice,
    side: impl Fn(&CutBy) -> (&str, CursorForm),
) -> Rows {
    order.cut_by.as_ref().map_or(Rows::All, |by| {
        if let Some(placing) = &by.placing {
            let placing = placing.clone();
            return Rows::Placed(PlacedRows { placing, slice });
        }
        let (column, form) = side(by);
        Rows::Slice(SliceRows {
            column: column.to_owned(),
            form,
            slice,
        })
    })
}

/// How a target loads a table beside the one that is read.
pub(crate) fn shadows(target: &dyn Target) -> Result<&dyn Shadows, AttemptError> {
    target
        .shadows()
        .ok_or_else(|| malformed("a target that cannot exchange tables"))
}

pub(crate) fn malformed(what: &str) -> AttemptError {
    let message =
        format!("the order has {what}: coordinator and worker are of versions that do not fit");
    AttemptError::new(ErrorClass::Permanent, ErrorCode::MalformedOrder, message)
}

impl From<ConnectorError> for AttemptError {
    fn from(error: ConnectorError) -> Self {
        error.report
    }
}
