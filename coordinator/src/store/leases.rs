//! Leases of the backends that live in this process: a holder that is alive needs no renewal, one
//! that let go has its time to live left.
//!
//! The book performs no I/O: the store asks it which leases have ended, and removes their records
//! itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The number of a lease, unique within one opening of a store.
pub(super) type LeaseId = i64;

/// Every lease of one opening of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    shortened: Notify,
}

#[derive(Debug, Default)]
struct Book {
    last: LeaseId,
    /// When each lease ends; `None` while its holder lives.
    ends: BTreeMap<LeaseId, Option<Instant>>,
}

impl Leases {
    /// A lease that lives as long as the answer, and `ttl` longer.
    pub(super) fn grant(&self, ttl: Duration) -> Holder {
        let mut book = self.lock();
        book.last += 1;
        let id = book.last;
        book.ends.insert(id, None);
        Holder {
            id,
            ttl,
            leases: self.clone(),
            lost: watch::Sender::new(false),
        }
    }

    /// Takes out the leases that have ended by `now`. Their records must go.
    pub(super) fn take_ended(&self, now: Instant) -> Vec<LeaseId> {
        let mut book = self.lock();
        let ended: Vec<_> = book
            .ends
            .iter()
            .filter(|(_, end)| end.is_some_and(|end| end <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in &ended {
            book.ends.remove(id);
        }
        ended
    }

    /// Waits until some lease has ended; never returns while every holder lives.
    pub(super) async fn some_ended(&self) {
        loop {
            let shortened = self.shared.shortened.notified();
            let next = self.lock().ends.values().flatten().min().copied();
            match next {
                Some(end) => tokio::select! {
                    () = tokio::time::sleep_until(end) => return,
                    () = shortened => {}
                },
                None => shortened.await,
            }
        }
    }

    fn forget(&self, id: LeaseId) {
        self.lock().ends.remove(&id);
    }

    fn let_go(&self, id: LeaseId, end: Instant) {
        if let Some(entry) = self.lock().ends.get_mut(&id) {
            *entry = Some(end);
        }
        self.shared.shortened.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Each change of the book is one insert or remove: it is whole whatever its last user was
        // doing.
        self.shared
            .book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a lease. Dropping it leaves the lease its time to live.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) id: LeaseId,
    ttl: Duration,
    leases: Leases,
    lost: watch::Sender<bool>,
}

impl Holder {
    pub(super) fn lost(&self) -> watch::Receiver<bool> {
        self.lost.subscribe()
    }

    /// Ends the lease now. The caller has removed its records.
    pub(super) fn end(self) {
        self.leases.forget(self.id);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.lost.send_replace(true);
        self.leases.let_go(self.id, Instant::now() + self.ttl);
    }
}
