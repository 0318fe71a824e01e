//! A leadership in etcd: a record tied to a lease, and the loop that renews the lease.
//!
//! etcd's own election is not used: it compares revisions, which a restored etcd issues again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::members::{AskError, CallError, Members, Sent};
use super::replies::{OddReply, records_client, value_read};
use crate::store::{Campaign, Leadership, StoreError, Value};
use crate::supervisor::{SpawnKind, Supervisor};

/// Renewals within one time to live.
const RENEWALS_PER_TTL: u32 = 4;
/// The part of the time to live by which the holder gives up before etcd does.
const MARGIN_DIVISOR: u32 = 10;

/// A lease that etcd granted, and when it was asked for it.
#[derive(Debug, Clone, Copy)]
struct Granted {
    lease: i64,
    ttl: Duration,
    asked_at: Instant,
}

/// What a campaign's transaction found.
enum Found {
    Ours,
    Theirs(Value),
}

pub(super) async fn campaign(
    members: &Arc<Members>,
    supervisor: &Supervisor,
    key: Vec<u8>,
    value: Value,
    ttl: Duration,
) -> Result<Campaign, StoreError> {
    let granted = match grant(members, ttl).await {
        Err(full @ StoreError::Full { .. }) => {
            // Without room there is no new lease, but whoever holds the leadership still does.
            return read_back(members, &key, 0)
                .await?
                .map_or(Err(full), |found| match found {
                    Found::Theirs(held) => Ok(Campaign::Held(held)),
                    Found::Ours => Err(members.rejected(OddReply("an office without a lease"))),
                });
        }
        granted => granted?,
    };
    match put_if_absent(members, &key, value, granted.lease).await {
        Ok(Found::Ours) => Ok(Campaign::Won(Box::new(begin(members, supervisor, granted)))),
        Ok(Found::Theirs(held)) => {
            // Left alone, the lease would end by itself a little later.
            if let Err(error) = revoke(members, granted.lease).await {
                tracing::debug!(?error, "the lease of a lost campaign was left to its end");
            }
            Ok(Campaign::Held(held))
        }
        Err(error) => {
            // Without the lease, a put that is still on its way can do nothing.
            revoke(members, granted.lease).await.ok();
            Err(error)
        }
    }
}

async fn grant(members: &Members, ttl: Duration) -> Result<Granted, StoreError> {
    let seconds = i64::try_from(ttl.as_millis().div_ceil(1000))
        .unwrap_or(i64::MAX)
        .max(1);
    // Repeating a grant is harmless: a lease without records ends by itself.
    let asked = std::sync::Mutex::new(Instant::now());
    let ask = |client: etcd_client::Client| {
        // The time to live may run from the moment that etcd is asked.
        *asked
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
        async move { client.lease_client().grant(seconds, None).await }
    };
    let granted = members
        .ask(ask)
        .await
        .map_err(|error| members.store_error(error))?;
    let asked_at = asked
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or_default());
    Ok(Granted {
        lease: granted.id(),
        ttl,
        asked_at,
    })
}

async fn put_if_absent(
    members: &Members,
    key: &[u8],
    value: Value,
    lease: i64,
) -> Result<Found, StoreError> {
    let txn = Txn::new()
        .when([Compare::version(key, CompareOp::Equal, 0)])
        .and_then([TxnOp::put(
            key,
            value,
            Some(PutOptions::new().with_lease(lease)),
        )])
        .or_else([TxnOp::get(key, None)]);
    let send = |client: etcd_client::Client| {
        let txn = txn.clone();
        async move { records_client(&client).txn(txn).await }
    };
    match members.send(send).await? {
        Sent::Answered(reply) if reply.succeeded() => Ok(Found::Ours),
        Sent::Answered(reply) => match reply.op_responses().into_iter().find_map(value_read) {
            Some(held) => Ok(Found::Theirs(held)),
            None => Err(members.rejected(OddReply("a held office without a holder"))),
        },
        Sent::Unknown(source) => read_back(members, key, lease).await?.ok_or_else(|| {
            // Nobody has it so far. The lease is revoked next, and the put, should it still come,
            // refused.
            members.store_error(AskError::Unreachable(source))
        }),
    }
}

/// Who holds the leadership, if anybody does; told by the lease, which is ours alone.
async fn read_back(members: &Members, key: &[u8], lease: i64) -> Result<Option<Found>, StoreError> {
    let read = |client: etcd_client::Client| {
        let key = key.to_vec();
        async move { records_client(&client).get(key, None).await }
    };
    let reply = members
        .ask(read)
        .await
        .map_err(|error| members.store_error(error))?;
    let found = reply.kvs().first();
    Ok(found.map(|held| {
        if held.lease() == lease {
            Found::Ours
        } else {
            Found::Theirs(held.value().to_vec())
        }
    }))
}

/// Ends a lease and removes its records. One that has ended already is as good.
async fn revoke(members: &Members, lease: i64) -> Result<(), AskError> {
    let revoke =
        |client: etcd_client::Client| async move { client.lease_client().revoke(lease).await };
    match members.ask(revoke).await {
        Ok(_) | Err(AskError::LeaseGone(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn begin(members: &Arc<Members>, supervisor: &Supervisor, granted: Granted) -> EtcdReign {
    let (tell_lost, lost) = watch::channel(false);
    let stop = CancellationToken::new();
    let keeper = Keeper {
        members: Arc::clone(members),
        granted,
        tell_lost,
        stop: stop.clone(),
    };
    supervisor.spawn(SpawnKind::LeaseKeeper, keeper.run());
    EtcdReign {
        members: Arc::clone(members),
        lease: granted.lease,
        lost,
        stop: stop.drop_guard(),
    }
}

/// Renews a lease until it is told to stop, or has to assume that the lease is lost.
struct Keeper {
    members: Arc<Members>,
    granted: Granted,
    tell_lost: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(self) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.renew_until_lost() => tracing::warn!(store = %self.members.place(), "an \
                office may be lost"),
        }
        self.tell_lost.send_replace(true);
    }

    /// Returns a little before the lease can have ended. Counted from when the last renewal that
    /// was answered had been sent, since etcd may have begun to count then.
    async fn renew_until_lost(&self) {
        let lasting = self.granted.ttl - self.granted.ttl / MARGIN_DIVISOR;
        let period = self.granted.ttl / RENEWALS_PER_TTL;
        let mut lost_at = self.granted.asked_at + lasting;
        let mut next = self.granted.asked_at + period;
        loop {
            tokio::time::sleep_until(next.min(lost_at)).await;
            let sent_at = Instant::now();
            if sent_at >= lost_at {
                return;
            }
            let within = period
                .min(lost_at - sent_at)
                .min(self.members.request_timeout());
            match self.renew(within).await {
                Ok(()) => {
                    lost_at = sent_at + lasting;
                    next = sent_at + period;
                }
                Err(CallError::LeaseGone(_)) => return,
                Err(
                    CallError::NotSent(source)
                    | CallError::Refused(source)
                    | CallError::Full(source)
                    | CallError::Compacted(source)
                    | CallError::Unknown(source),
                ) => {
                    tracing::debug!(error = %source, "an office could not be renewed yet");
                    // A refused connection fails at once; it need not be tried as fast as it fails.
                    next = Instant::now() + period / 10;
                }
            }
        }
    }

    /// The client opens a stream, sends one keep-alive, and turns an answer of ttl 0 into an error.
    async fn renew(&self, within: Duration) -> Result<(), CallError> {
        let lease = self.granted.lease;
        let renew = |client: etcd_client::Client| async move {
            client.lease_client().keep_alive(lease).await
        };
        self.members.call(within, renew).await.map(drop)
    }
}

#[derive(Debug)]
struct EtcdReign {
    members: Arc<Members>,
    lease: i64,
    lost: watch::Receiver<bool>,
    stop: DropGuard,
}

#[async_trait]
impl Leadership for EtcdReign {
    fn lost(&self) -> watch::Receiver<bool> {
        self.lost.clone()
    }

    async fn resign(self: Box<Self>) -> Result<(), StoreError> {
        let Self {
            members,
            lease,
            stop,
            ..
        } = *self;
        stop.disarm().cancel();
        revoke(&members, lease)
            .await
            .map_err(|error| members.store_error(error))
    }
}
