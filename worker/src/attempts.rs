//! The attempts that a session has running, for its heartbeats and for whoever ends them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_common::assignment::Assignment;
use highwater_common::token::Nonce;
use tokio_util::sync::CancellationToken;

use crate::coordinator_api::AttemptReport;
use crate::meter::Progress;

/// The attempts of one session.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    running: Mutex<BTreeMap<u128, Running>>,
}

#[derive(Debug, Clone)]
struct Running {
    assignment: Assignment,
    progress: Arc<Progress>,
    cancel: CancellationToken,
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u128, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one that begins; it can be ended from here on.
    pub(crate) fn begin(
        &self,
        assignment: Assignment,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) {
        let nonce = assignment.fence.nonce.bits();
        self.lock().insert(
            nonce,
            Running {
                assignment,
                progress,
                cancel,
            },
        );
    }

    /// What a heartbeat tells of them.
    pub(crate) fn reports(&self) -> Vec<AttemptReport> {
        let running = self.lock();
        running
            .values()
            .map(|attempt| {
                let (rows, bytes) = attempt.progress.get();
                let (task, nonce) = (attempt.assignment.task, attempt.assignment.fence.nonce);
                AttemptReport {
                    task,
                    nonce,
                    rows,
                    bytes,
                    reached: attempt.progress.has_reached(),
                    doing: attempt.progress.doing().words(),
                }
            })
            .collect()
    }

    /// Ends one; the coordinator no longer waits for it.
    pub(crate) fn end(&self, nonce: Nonce) {
        if let Some(attempt) = self.lock().get(&nonce.bits()) {
            attempt.cancel.cancel();
        }
    }

    /// Forgets one that has ended.
    pub(crate) fn forget(&self, nonce: Nonce) {
        self.lock().remove(&nonce.bits());
    }

    /// Ends all.
    pub(crate) fn end_all(&self) {
        self.lock()
            .values()
            .for_each(|attempt| attempt.cancel.cancel());
    }
}
