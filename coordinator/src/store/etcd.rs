//! Records in etcd, 3.4 or later: the store of a coordinator that has a second one standing by.
//!
//! Only this module knows etcd's client. Compares are on value bytes, or on absence; never on
//! revisions, which a restored etcd issues again. A transaction is sent to one member, once: if its
//! answer is lost it is unknown, and never repeated.

mod election;
mod members;
mod options;
mod replies;
mod watching;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, Txn, TxnOp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use self::members::{AskError, Members, Sent};
use self::options::CLUSTERS;
pub use self::options::{EtcdLogin, EtcdOptions};
use self::replies::{OddReply, records_client, value_read};
use super::prefix::prefix_end;
use super::{Campaign, Expect, Key, Op, RecordStore, StoreError, StoreTxn, TxnOutcome, Value};
use crate::supervisor::{SpawnKind, Supervisor};

/// Records that one page of a scan holds; a page of the largest values still fits into
/// [`REPLY_BYTES_MAX`](replies::REPLY_BYTES_MAX).
const PAGE_RECORDS: i64 = 128;
/// The largest reply that is read when everything comes in one.
const WHOLE_BYTES_MAX: usize = 1 << 30;
/// How many times as long as for a call a member has for everything in one.
const WHOLE_PATIENCE: u32 = 15;
/// Other clusters that are named at the most.
const NEIGHBOURS_MAX: usize = 8;
/// How long history is kept at the least: longer than a scan takes.
const HISTORY_MIN: Duration = Duration::from_secs(1);
/// Revisions that are remembered for it at the most.
const SEEN_MAX: usize = 64;
/// How often a scan is tried in pages, which are outrun when somebody compacts the revision of the
/// first one. After that everything is asked for in one: no compaction takes the revision that is
/// read now.
const PAGED_SCANS_MAX: u32 = 3;

/// The records of one cluster in etcd.
#[derive(Debug)]
pub struct EtcdStore {
    members: Arc<Members>,
    prefix: String,
    /// Revisions that calls of `compact` saw, and when; the oldest first.
    seen: Mutex<VecDeque<(Instant, i64)>>,
    supervisor: Supervisor,
    _watches: DropGuard,
}

impl EtcdStore {
    /// Finds a member that answers.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when none does; [`StoreError::Rejected`] when an endpoint is no
    /// URL, or the login is refused.
    pub async fn connect(options: EtcdOptions) -> Result<Self, StoreError> {
        let members = Arc::new(Members::new(&options)?);
        let supervisor = Supervisor::default();
        let watches = supervisor.cancel_token().clone().drop_guard();
        let prefix = options.prefix;
        let store = Self {
            members,
            prefix,
            seen: Mutex::default(),
            supervisor,
            _watches: watches,
        };
        store.get("fmt").await?;
        Ok(store)
    }

    /// The names of other clusters that keep their records in this etcd, some of them at least;
    /// nothing unless this one is new here: whoever mistypes a name begins a new cluster.
    ///
    /// # Errors
    /// No member answers.
    pub async fn neighbours_of_a_new_one(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        if self.get("fmt").await?.is_some() {
            return Ok(names);
        }
        let end = prefix_end(CLUSTERS.as_bytes()).unwrap_or_else(|| vec![0]);
        let mut from = CLUSTERS.as_bytes().to_vec();
        while names.len() < NEIGHBOURS_MAX {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(1)
                .with_keys_only();
            let read = |client: etcd_client::Client| {
                let (from, options) = (from.clone(), options.clone());
                async move { records_client(&client).get(from, Some(options)).await }
            };
            let reply = self
                .members
                .ask(read)
                .await
                .map_err(|error| self.members.store_error(error))?;
            let key = reply
                .kvs()
                .first()
                .map(|record| String::from_utf8_lossy(record.key()).into_owned());
            let name = key.as_deref().and_then(|key| {
                key.strip_prefix(CLUSTERS)?
                    .split('/')
                    .next()
                    .map(str::to_owned)
            });
            let Some(name) = name else { break };
            // Behind everything of that one.
            from = prefix_end(format!("{CLUSTERS}{name}/").as_bytes()).unwrap_or_else(|| vec![0]);
            names.push(name);
        }
        Ok(names)
    }

    fn full(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    async fn page(&self, from: &[u8], end: &[u8], revision: i64) -> Result<GetResponse, AskError> {
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(PAGE_RECORDS)
            .with_revision(revision);
        let read = |client: etcd_client::Client| {
            let (from, options) = (from.to_vec(), options.clone());
            async move { records_client(&client).get(from, Some(options)).await }
        };
        self.members.ask(read).await
    }

    /// Every record below `prefix`, in one reply.
    async fn scan_whole(&self, prefix: &str) -> Result<Vec<(Key, Value)>, StoreError> {
        let from = self.full(prefix);
        let end = prefix_end(&from).unwrap_or_else(|| vec![0]);
        let read = |client: etcd_client::Client| {
            let (from, options) = (from.clone(), GetOptions::new().with_range(end.clone()));
            async move {
                client
                    .kv_client()
                    .max_decoding_message_size(WHOLE_BYTES_MAX)
                    .get(from, Some(options))
                    .await
            }
        };
        let within = self.members.request_timeout() * WHOLE_PATIENCE;
        let reply = self
            .members
            .ask_within(within, read)
            .await
            .map_err(|error| self.members.store_error(error))?;
        let record = |record: &etcd_client::KeyValue| {
            Ok((self.own_key(record.key())?, record.value().to_vec()))
        };
        reply.kvs().iter().map(record).collect()
    }

    /// Every record below `prefix`, or `None` if the revision of its first page was compacted
    /// before its last.
    async fn scan_once(&self, prefix: &str) -> Result<Option<Vec<(Key, Value)>>, StoreError> {
        let mut from = self.full(prefix);
        // To etcd, a range that ends at 0 has no end.
        let end = prefix_end(&from).unwrap_or_else(|| vec![0]);
        let mut records = Vec::new();
        let mut revision = 0;
        loop {
            let page = match self.page(&from, &end, revision).await {
                Ok(page) => page,
                Err(AskError::Compacted(_)) => return Ok(None),
                Err(error) => return Err(self.members.store_error(error)),
            };
            if revision == 0 {
                revision = page
                    .header()
                    .map(etcd_client::ResponseHeader::revision)
                    .unwrap_or_default();
            }
            for record in page.kvs() {
                records.push((self.own_key(record.key())?, record.value().to_vec()));
            }
            let Some(last) = page.kvs().last().filter(|_| page.more()) else {
                return Ok(Some(records));
            };
            if revision == 0 {
                return Err(self.members.rejected(OddReply("a page without a revision")));
            }
            from = [last.key(), &[0]].concat();
        }
    }

    /// The latest revision that was seen long enough ago, before `now` was. An etcd restored from a
    /// backup has gone back, and a quiet one has not moved.
    fn old_enough(&self, now: i64) -> Option<i64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(_, revision)| *revision < now);
        let old = seen
            .iter()
            .take_while(|(at, _)| at.elapsed() >= HISTORY_MIN)
            .count();
        let before = seen.drain(..old).next_back().map(|(_, revision)| revision);
        if seen.len() < SEEN_MAX {
            seen.push_back((Instant::now(), now));
        }
        before
    }

    fn own_key(&self, key: &[u8]) -> Result<Key, StoreError> {
        let own = key
            .strip_prefix(self.prefix.as_bytes())
            .and_then(|key| std::str::from_utf8(key).ok());
        own.map(str::to_owned).ok_or_else(|| {
            self.members
                .rejected(OddReply("a key that is none of ours"))
        })
    }

    fn etcd_txn(&self, txn: &StoreTxn) -> Txn {
        let compare = |expect: &Expect| match expect {
            Expect::Absent(key) => Compare::version(self.full(key), CompareOp::Equal, 0),
            Expect::Bytes(key, value) => {
                Compare::value(self.full(key), CompareOp::Equal, value.clone())
            }
        };
        let operation = |op: &Op| match op {
            Op::Put(key, value) => TxnOp::put(self.full(key), value.clone(), None),
            Op::Delete(key) => TxnOp::delete(self.full(key), None),
        };
        let read_back = |expect: &Expect| TxnOp::get(self.full(expect.key()), None);
        Txn::new()
            .when(txn.expects.iter().map(compare).collect::<Vec<_>>())
            .and_then(txn.ops.iter().map(operation).collect::<Vec<_>>())
            .or_else(txn.expects.iter().map(read_back).collect::<Vec<_>>())
    }
}

#[async_trait]
impl RecordStore for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Value>, StoreError> {
        let full = self.full(key);
        let read = |client: etcd_client::Client| {
            let full = full.clone();
            async move { records_client(&client).get(full, None).await }
        };
        let reply = self
            .members
            .ask(read)
            .await
            .map_err(|error| self.members.store_error(error))?;
        Ok(reply.kvs().first().map(|record| record.value().to_vec()))
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Value)>, StoreError> {
        for _ in 0..PAGED_SCANS_MAX {
            if let Some(records) = self.scan_once(prefix).await? {
                return Ok(records);
            }
        }
        tracing::warn!(store = %self.members.place(), "somebody compacts faster than pages are \
            read: all of it is read in one");
        self.scan_whole(prefix).await
    }

    async fn commit(&self, txn: StoreTxn) -> Result<TxnOutcome, StoreError> {
        txn.check()?;
        let etcd_txn = self.etcd_txn(&txn);
        let send = |client: etcd_client::Client| {
            let etcd_txn = etcd_txn.clone();
            async move { records_client(&client).txn(etcd_txn).await }
        };
        let reply = match self.members.send(send).await? {
            Sent::Unknown(error) => {
                tracing::warn!(store = %self.members.place(), %error, "the outcome of a \
                    transaction is unknown");
                return Ok(TxnOutcome::Unknown);
            }
            Sent::Answered(reply) => reply,
        };
        if reply.succeeded() {
            return Ok(TxnOutcome::Applied);
        }
        let values = reply.op_responses().into_iter().map(value_read);
        let keys = txn.expects.iter().map(|expect| expect.key().to_owned());
        Ok(TxnOutcome::Refused(keys.zip(values).collect()))
    }

    async fn hints(&self, prefix: &str) -> Result<watch::Receiver<u64>, StoreError> {
        let (hints, receiver) = watch::channel(0);
        let cancel = self.supervisor.cancel_token().clone();
        let follow = watching::follow(Arc::clone(&self.members), self.full(prefix), hints, cancel);
        self.supervisor.spawn(SpawnKind::StoreWatch, follow);
        Ok(receiver)
    }

    async fn campaign(
        &self,
        key: &str,
        value: Value,
        ttl: Duration,
    ) -> Result<Campaign, StoreError> {
        election::campaign(&self.members, &self.supervisor, self.full(key), value, ttl).await
    }

    /// Lets go of what has been history for a second already, so that no scan of normal length is
    /// outrun: not one of this cluster, and none of another one's in the same etcd.
    async fn compact(&self) -> Result<(), StoreError> {
        let full = self.full("fmt");
        let look = |client: etcd_client::Client| {
            let full = full.clone();
            async move {
                records_client(&client)
                    .get(full, Some(GetOptions::new().with_keys_only()))
                    .await
            }
        };
        let reply = self
            .members
            .ask(look)
            .await
            .map_err(|error| self.members.store_error(error))?;
        let now = reply
            .header()
            .map(etcd_client::ResponseHeader::revision)
            .unwrap_or_default();
        let Some(before) = self.old_enough(now) else {
            return Ok(());
        };
        let compact = |client: etcd_client::Client| async move {
            client.kv_client().compact(before, None).await
        };
        match self.members.ask(compact).await {
            Ok(_) | Err(AskError::Compacted(_)) => Ok(()),
            Err(error) => Err(self.members.store_error(error)),
        }
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let look =
            |client: etcd_client::Client| async move { client.maintenance_client().status().await };
        let status = self
            .members
            .ask(look)
            .await
            .map_err(|error| self.members.store_error(error))?;
        Ok(u64::try_from(status.db_size()).unwrap_or_default())
    }

    fn place(&self) -> String {
        self.members.place().to_owned()
    }
}
