//! How long an attempt waits for a database that says nothing.
//!
//! A host whose packets are dropped sends no error and closes nothing, the drivers' sockets have no
//! keepalive of their own, and a server's timeouts end what the server does and not the wait for
//! it. So whoever waits stops waiting by the worker's clock. What was waited for is dropped, and
//! its session with it, without a goodbye that might hang, too. Never ends a begin or a commit:
//! these run in loops of their own, and only the wait for them ends here.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::ConnectionName;

use crate::connector::{ConnectorError, Doing};
use crate::meter::Progress;

/// Looks at an attempt in the time that it may move nothing. Looks are counted and not the time
/// alone, so that a worker that was frozen, and finds hours gone, does not blame the database for
/// them.
const LOOKS: u32 = 8;
/// How much longer than an attempt without a byte a probe may take, which can mean a scan of the
/// whole table.
const PROBE_STALLS: u32 = 6;
/// The least time that a probe has.
const PROBE_LEAST: Duration = Duration::from_mins(1);
/// The least time that a build has until it is seen at work: enough for a few looks.
const BUILD_LEAST: Duration = Duration::from_secs(20);

/// How much longer than its server may take an answer to a check is waited for.
const CHECK_GRACE: Duration = Duration::from_secs(30);

/// A call on a database that moves no rows. Each has a time on the client's side, longer than the
/// server's own timeouts and the waits for locks in it add up to: past it the server is not slow,
/// but silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Probe,
    Adopt,
    Prepare,
    Columns,
    Claim,
    Ledger,
    Fence,
    Count,
    Check,
    Build,
    Close,
}

impl Call {
    /// How long its answer is waited for, in a step whose attempts may move nothing for `stall`.
    fn limit(self, stall: Duration) -> Duration {
        match self {
            Self::Probe => stall.saturating_mul(PROBE_STALLS).max(PROBE_LEAST),
            Self::Prepare | Self::Count | Self::Close => Duration::from_mins(10),
            // Seen at work, or waiting for a lock, it may take longer.
            Self::Build => stall.max(BUILD_LEAST),
            // The server's own limit is the time that an attempt may move nothing.
            Self::Check => stall.saturating_add(CHECK_GRACE),
            Self::Adopt | Self::Fence => Duration::from_mins(5),
            Self::Claim => Duration::from_mins(3),
            Self::Columns | Self::Ledger => Duration::from_mins(1),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "probe a table",
            Self::Adopt => "adopt the target",
            Self::Prepare => "prepare the target",
            Self::Columns => "read the columns of a table",
            Self::Claim => "claim a task",
            Self::Ledger => "read the ledger",
            Self::Fence => "fence a run",
            Self::Count => "count the rows that no partition takes",
            Self::Check => "check the table",
            Self::Build => "build indexes and keys",
            Self::Close => "compare what is committed",
        })
    }
}

/// The answer of `asked`, unless it takes longer than such a call can. Dropping it closes its
/// session; what the server still makes of it is harmless, as it is when the worker dies there.
pub(crate) async fn answered<T>(
    call: Call,
    connection: &ConnectionName,
    stall: Duration,
    asked: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, AttemptError> {
    let limit = call.limit(stall);
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|error| error.report),
        Err(_) => Err(silent(call, connection, limit)),
    }
}

/// The same, for a call that may take as long as it needs: its time begins anew whenever the
/// database is seen at work.
pub(crate) async fn answered_at_work<T>(
    call: Call,
    connection: &ConnectionName,
    stall: Duration,
    doing: &Doing,
    asked: impl Future<Output = Result<T, ConnectorError>>,
) -> Result<T, AttemptError> {
    let limit = call.limit(stall);
    let rests = async {
        let (mut seen, mut silent) = (doing.signs(), 0);
        while silent < LOOKS {
            tokio::time::sleep(limit / LOOKS).await;
            let now = doing.signs();
            silent = if now == seen { silent + 1 } else { 0 };
            seen = now;
        }
    };
    tokio::select! {
        biased;
        answer = asked => answer.map_err(|error| error.report),
        () = rests => Err(silent(call, connection, limit)),
    }
}

fn silent(call: Call, connection: &ConnectionName, limit: Duration) -> AttemptError {
    let message = format!(
        "cannot {call} on {connection}: no answer within {}; is its host silent, or does a \
         firewall drop its packets?",
        words(limit)
    );
    AttemptError::unreachable(connection.clone(), ErrorCode::Silent, message)
}

/// The two connections that rows move between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides<'a> {
    pub(crate) source: &'a ConnectionName,
    pub(crate) target: &'a ConnectionName,
}

/// What `moving` comes to, unless no byte moves for `stall`.
pub(crate) async fn unless_stalled<T>(
    progress: &Progress,
    stall: Duration,
    sides: Sides<'_>,
    moving: impl Future<Output = Result<T, AttemptError>>,
) -> Result<T, AttemptError> {
    tokio::select! {
        biased;
        moved = moving => moved,
        () = stalls(progress, stall) => {
            let what = match progress.waits_for_source() {
                true => format!("no byte came from {}", sides.source),
                false => format!("nothing was taken by {}", sides.target),
            };
            let message = format!(
                "{what} for {}, the step's limits.stall, and the attempt's sessions were closed; \
                 is the host silent? If it only needs longer, raise limits.stall",
                words(stall)
            );
            Err(AttemptError::new(ErrorClass::Transient, ErrorCode::Stalled, message))
        }
    }
}

/// Comes back once nothing has moved for `stall`, or an eighth of it longer.
async fn stalls(progress: &Progress, stall: Duration) {
    let (mut last, mut silent) = (progress.get(), 0);
    while silent < LOOKS {
        tokio::time::sleep(stall / LOOKS).await;
        let now = progress.get();
        silent = if now == last { silent + 1 } else { 0 };
        last = now;
    }
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds if seconds >= 60 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests;
