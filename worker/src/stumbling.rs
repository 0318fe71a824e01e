//! The coordinator behind named places: before each call and after its answer a test can end the
//! process, make the call wait, or lose it. Only with the feature `failpoints`.

use std::sync::Arc;

use async_trait::async_trait;
use highwater_common::assignment::Outcome;
use highwater_common::id::{DocumentDigest, SessionId, TaskId};
use highwater_common::token::Fence;
use highwater_runtime::failpoint::{self, Struck};

use crate::coordinator_api::WorkerOptions;
use crate::coordinator_api::{
    ApiError, AttemptReport, CoordinatorApi, HeartbeatAnswer, Pulled, Registered,
};

/// Calls the coordinator between the places `<call>::before` and `<call>::after`.
pub(crate) struct Stumbling {
    inner: Arc<dyn CoordinatorApi>,
    worker: String,
}

impl Stumbling {
    pub(crate) fn around(
        inner: Arc<dyn CoordinatorApi>,
        worker: String,
    ) -> Arc<dyn CoordinatorApi> {
        Arc::new(Self { inner, worker })
    }

    async fn call<T>(
        &self,
        name: &str,
        call: impl Future<Output = Result<T, ApiError>> + Send,
    ) -> Result<T, ApiError> {
        // To the caller a lost question and a lost answer are one: nobody answered.
        let lost = |struck: Struck| ApiError::Unavailable(struck.to_string());
        failpoint::hit_on(&format!("{name}::before"), &self.worker)
            .await
            .map_err(lost)?;
        let answer = call.await;
        failpoint::hit_on(&format!("{name}::after"), &self.worker)
            .await
            .map_err(lost)?;
        answer
    }
}

#[async_trait]
impl CoordinatorApi for Stumbling {
    async fn register(&self, options: &WorkerOptions) -> Result<Registered, ApiError> {
        self.call("register", self.inner.register(options)).await
    }

    async fn pull(
        &self,
        session: SessionId,
        free: u32,
        known: &[DocumentDigest],
    ) -> Result<Pulled, ApiError> {
        self.call("pull", self.inner.pull(session, free, known))
            .await
    }

    async fn heartbeat(
        &self,
        session: SessionId,
        attempts: &[AttemptReport],
        draining: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        self.call(
            "heartbeat",
            self.inner.heartbeat(session, attempts, draining),
        )
        .await
    }

    async fn complete(
        &self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        outcome: Outcome,
        millis: u64,
    ) -> Result<bool, ApiError> {
        self.call(
            "complete",
            self.inner.complete(session, task, fence, outcome, millis),
        )
        .await
    }

    async fn leave(&self, session: SessionId) -> Result<(), ApiError> {
        self.call("leave", self.inner.leave(session)).await
    }
}
