//! The orders that a worker knows, by digest: what all attempts of a step share. Those that an
//! attempt needs are kept, whatever their number; of the others only the latest.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::DocumentDigest;

use crate::attempt::OrderContext;

/// Orders that are kept although nobody needs them now.
const UNUSED_MAX: usize = 64;

/// The orders that a worker knows.
#[derive(Default)]
pub(crate) struct Orders {
    known: BTreeMap<DocumentDigest, Known>,
    /// Why orders of the latest pull could not be read. They are not known: the next pull asks for
    /// them again.
    unreadable: BTreeMap<DocumentDigest, String>,
    pulls: u64,
}

struct Known {
    context: Arc<OrderContext>,
    /// The pull that brought a task of it last.
    used: u64,
}

impl Orders {
    /// The digests of those that need not be sent again.
    pub(crate) fn digests(&self) -> Vec<DocumentDigest> {
        self.known.keys().copied().collect()
    }

    /// Takes the orders of a pull.
    pub(crate) fn learn(
        &mut self,
        orders: BTreeMap<DocumentDigest, Vec<u8>>,
        context: impl Fn(&[u8]) -> Result<OrderContext, serde_json::Error>,
    ) {
        self.pulls += 1;
        self.unreadable.clear();
        for (digest, json) in orders {
            match context(&json) {
                Ok(context) => {
                    self.known.insert(
                        digest,
                        Known {
                            context: Arc::new(context),
                            used: self.pulls,
                        },
                    );
                }
                Err(error) => {
                    tracing::error!(%digest, %error, "an order cannot be read");
                    self.unreadable.insert(digest, error.to_string());
                }
            }
        }
    }

    /// The order of a task.
    ///
    /// # Errors
    /// It cannot be read, or did not come: an attempt that failed, so that the task comes again
    /// after a while, to another worker if there is one, and not for ever.
    pub(crate) fn of(
        &mut self,
        digest: &DocumentDigest,
    ) -> Result<Arc<OrderContext>, AttemptError> {
        if let Some(known) = self.known.get_mut(digest) {
            known.used = self.pulls;
            return Ok(Arc::clone(&known.context));
        }
        let (code, why) = match self.unreadable.get(digest) {
            Some(why) => (
                ErrorCode::UnreadableOrder,
                format!("the task's order cannot be read: {why}"),
            ),
            None => (
                ErrorCode::MissingOrder,
                "the task came without its order".to_owned(),
            ),
        };
        let message = format!("{why}; run one version of coordinator and worker");
        Err(AttemptError::new(ErrorClass::Transient, code, message))
    }

    /// Forgets those that no attempt needs, but for the latest of them.
    pub(crate) fn forget(&mut self) {
        let unused = self
            .known
            .iter()
            .filter(|(_, known)| Arc::strong_count(&known.context) == 1);
        let mut unused: Vec<(u64, DocumentDigest)> = unused
            .map(|(digest, known)| (known.used, *digest))
            .collect();
        unused.sort_unstable();
        let surplus = unused.len().saturating_sub(UNUSED_MAX);
        for (_, digest) in &unused[..surplus] {
            self.known.remove(digest);
        }
    }
}

#[cfg(test)]
mod tests;
