//! How replies are read, and which are none.

use etcd_client::TxnOpResponse;

use crate::store::Value;

/// The largest reply that is read: a page of records, each as large as a transaction may be.
pub(super) const REPLY_BYTES_MAX: usize = 80 * 1024 * 1024;

pub(super) fn records_client(client: &etcd_client::Client) -> etcd_client::KvClient {
    client
        .kv_client()
        .max_decoding_message_size(REPLY_BYTES_MAX)
}

/// The value that one read of a refused transaction found. We send no other operations there.
pub(super) fn value_read(response: TxnOpResponse) -> Option<Value> {
    match response {
        TxnOpResponse::Get(read) => read.kvs().first().map(|record| record.value().to_vec()),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    }
}

/// etcd answered what it should not.
#[derive(Debug, thiserror::Error)]
#[error("etcd answered {0}")]
pub(super) struct OddReply(pub(super) &'static str);
