//! Turns etcd's watches into hints. Whatever is missed is made up by waking once more than needed.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::WatchOptions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::members::{CallError, Members};
use super::replies::REPLY_BYTES_MAX;

/// How long a broken watch waits before it is opened anew.
const REOPEN_AFTER: Duration = Duration::from_millis(200);

/// Bumps `hints` for every message about a key below `prefix`, until nobody listens or `cancel`
/// says so.
pub(super) async fn follow(
    members: Arc<Members>,
    prefix: Vec<u8>,
    hints: watch::Sender<u64>,
    cancel: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = hints.closed() => return,
            () = follow_and_wait(&members, &prefix, &hints) => {}
        }
    }
}

/// Follows one watch to its end, which every watch has: a member that died, or fell behind, or
/// history compacted.
async fn follow_and_wait(members: &Members, prefix: &[u8], hints: &watch::Sender<u64>) {
    let at = members.current();
    if let Err(error) = follow_one(members, prefix, hints).await {
        tracing::debug!(?error, "a watch broke");
        members.leave(at);
    }
    bump(hints);
    tokio::time::sleep(REOPEN_AFTER).await;
}

async fn follow_one(
    members: &Members,
    prefix: &[u8],
    hints: &watch::Sender<u64>,
) -> Result<(), CallError> {
    let open = |client: etcd_client::Client| {
        let prefix = prefix.to_vec();
        async move {
            let mut client = client
                .watch_client()
                .max_decoding_message_size(REPLY_BYTES_MAX);
            client
                .watch(prefix, Some(WatchOptions::new().with_prefix()))
                .await
        }
    };
    let mut watch = members.call(members.request_timeout(), open).await?;
    loop {
        let message = watch
            .message()
            .await
            .map_err(|error| CallError::Unknown(Box::new(error)))?;
        // The first message says that the watch exists: from here on nothing is missed, before it
        // something may have been.
        bump(hints);
        if message.is_none_or(|message| message.canceled()) {
            return Ok(());
        }
    }
}

fn bump(hints: &watch::Sender<u64>) {
    hints.send_modify(|count| *count = count.wrapping_add(1));
}
