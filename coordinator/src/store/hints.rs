//! Wakes those who wait for a change below a prefix, in the backends that live in this process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Who waits for what. One channel per prefix; channels without receivers go when the next one
/// comes.
#[derive(Debug, Default)]
pub(super) struct HintBoard {
    waiting: Mutex<BTreeMap<String, watch::Sender<u64>>>,
}

impl HintBoard {
    /// A receiver that changes after a key below `prefix` was named to [`HintBoard::changed`].
    pub(super) fn subscribe(&self, prefix: &str) -> watch::Receiver<u64> {
        let mut waiting = self.lock();
        waiting.retain(|_, sender| !sender.is_closed());
        waiting
            .entry(prefix.to_owned())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Wakes whoever waits for one of `keys`.
    pub(super) fn changed<'a>(&self, keys: impl Iterator<Item = &'a str> + Clone) {
        for (prefix, sender) in self.lock().iter() {
            if keys.clone().any(|key| key.starts_with(prefix)) {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<u64>>> {
        // A map of channels is whole whatever its last user was doing.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
