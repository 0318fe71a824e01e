//! A statement that may take hours, and a second session that sees whether the server still works
//! at it. So whoever waits can tell a slow server from a silent host.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::ledger::SessionMark;
use super::session::{Endpoint, SessionRole};
use crate::connector::{ConnectorError, Doing};

/// How long the second session may take for all that it does.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The answer of a statement of `session`; while it is waited for, `doing` hears each time that the
/// server is seen at work on it.
pub(super) async fn watched<T>(
    endpoint: &Endpoint,
    session: SessionMark,
    doing: &Doing,
    asked: impl Future<Output = T>,
) -> T {
    let mut asked = pin!(asked);
    loop {
        if let Ok(answer) = tokio::time::timeout(endpoint.session().look_every, &mut asked).await {
            return answer;
        }
        let looked = tokio::time::timeout(LOOK_MAX, is_active(endpoint, session)).await;
        if matches!(looked, Ok(Ok(true))) {
            doing.is_at_work();
        }
    }
}

async fn is_active(endpoint: &Endpoint, session: SessionMark) -> Result<bool, ConnectorError> {
    let mut conn: PgConnection = endpoint.open(SessionRole::Source).await?;
    let found = sqlx::query_scalar::<_, bool>(
        "select exists (select from pg_stat_activity where pid = $1 and state = 'active' \
         and (extract(epoch from backend_start) * 1000000)::int8 = $2)",
    )
    .bind(session.pid)
    .bind(session.started_micros)
    .fetch_one(&mut conn)
    .await;
    conn.close().await.ok();
    Ok(found.unwrap_or(false))
}
