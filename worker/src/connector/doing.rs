//! What an attempt says it is doing, while an answer of its database takes long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Heard by whoever sends the worker's heartbeats and by whoever waits for the answer; one of its
/// own, nobody hears.
#[derive(Debug, Clone, Default)]
pub struct Doing(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    words: Mutex<String>,
    signs: AtomicU64,
}

impl Doing {
    /// Says what is being done from now on: `reading the smallest value of at in orders`.
    pub fn say(&self, words: String) {
        *self.0.words.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    /// What is being done; empty when nothing was said of it.
    #[must_use]
    pub fn words(&self) -> String {
        self.0
            .words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The database was seen at work, by another way than the one that waits for its answer.
    pub fn is_at_work(&self) {
        self.0.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was seen.
    #[must_use]
    pub fn signs(&self) -> u64 {
        self.0.signs.load(Ordering::Relaxed)
    }
}
