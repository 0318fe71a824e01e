//! Opens sessions: each operation its own, pinned to one form of every value, and closed with it or
//! put on the session pool. Never lends a session to two at once, never shows the URL.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use highwater_common::error_code::ErrorCode;
use highwater_common::id::ConnectionName;
use sqlx::{Executor, PgConnection, Row};

use super::connect::{Route, Urls, connect};
use super::errors::{classify, is_state, permanent, unreachable};
use super::pins::{PRIVILEGED, pins};
use super::session_pool::{SessionPool, close};
use crate::connector::ConnectorError;

/// How long a session waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// To be let in.
    pub connect_timeout: Duration,
    /// For any lock.
    pub lock_timeout: Duration,
    /// For the ledger row of a claim, before the session that holds it is ended.
    pub claim_lock_timeout: Duration,
    /// For any one statement, a COPY of a whole partition included. An attempt has a limit of its
    /// own.
    pub statement_timeout: Duration,
    /// For the next statement of an open transaction.
    pub idle_in_transaction_timeout: Duration,
    /// For what a probe asks and a plan can do without, such as exact counts.
    pub probe_timeout: Duration,
    /// Between two looks at whether the server still works at what takes long.
    pub look_every: Duration,
    /// The largest row that is read; a larger one fails by name. Of a row one to a few copies are
    /// held in memory.
    pub row_bytes_max: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(30),
            claim_lock_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_hours(6),
            idle_in_transaction_timeout: Duration::from_mins(1),
            probe_timeout: Duration::from_secs(5),
            look_every: Duration::from_mins(1),
            // What the server itself can hold of a row on its way.
            row_bytes_max: 1 << 30,
        }
    }
}

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionRole {
    /// Reads; the server refuses a write.
    Source,
    /// Writes, and does not believe in a commit before it is on disk.
    Target,
}

/// Where sessions are opened. Its text names connection, host and database, never a user's
/// password.
#[derive(Clone)]
pub(super) struct Endpoint {
    connection: ConnectionName,
    route: Arc<Route>,
    session: SessionOptions,
    url: Arc<str>,
    session_pool: Option<SessionPool>,
    /// It is only read: its sessions refuse every write themselves.
    is_source: bool,
}

impl Endpoint {
    pub(super) fn new(
        urls: &Urls,
        connection: ConnectionName,
        session: SessionOptions,
    ) -> Result<Self, ConnectorError> {
        let route = Route::new(urls).map_err(|why| {
            let message = format!(
                "the URL of connection {connection} is malformed: {why}. It reads \
                 postgres://user:password@host:5432/database, or host=… user=… dbname=…"
            );
            permanent(ErrorCode::MalformedUrl, message)
        })?;
        Ok(Self {
            connection,
            route: Arc::new(route),
            session,
            url: urls.key().into(),
            session_pool: None,
            is_source: false,
        })
    }

    /// The endpoint, with a session pool for the sessions that have done their work.
    pub(super) fn keeping(self, session_pool: Option<SessionPool>) -> Self {
        Self {
            session_pool,
            ..self
        }
    }

    /// The endpoint of a source.
    pub(super) fn reading(self) -> Self {
        Self {
            is_source: true,
            ..self
        }
    }

    pub(super) const fn is_source(&self) -> bool {
        self.is_source
    }

    pub(super) const fn connection(&self) -> &ConnectionName {
        &self.connection
    }

    pub(super) const fn session(&self) -> &SessionOptions {
        &self.session
    }

    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// Opens a session of its own.
    pub(super) async fn open(&self, role: SessionRole) -> Result<PgConnection, ConnectorError> {
        let mut conn = connect(self, self.session.connect_timeout).await?;
        match tokio::time::timeout(self.session.connect_timeout, self.pin(&mut conn, role)).await {
            Ok(pinned) => pinned?,
            Err(_) => {
                let waited = self.session.connect_timeout.as_secs();
                let message =
                    format!("cannot set up a session on {self}: no answer within {waited} s");
                return Err(unreachable(self, message));
            }
        }
        Ok(conn)
    }

    /// A session that has served a task already, made as new, or one of its own.
    pub(super) async fn open_or_take(
        &self,
        role: SessionRole,
    ) -> Result<PgConnection, ConnectorError> {
        while let Some(mut conn) = self
            .session_pool
            .as_ref()
            .and_then(|session_pool| session_pool.take(&self.url))
        {
            match tokio::time::timeout(self.session.connect_timeout, self.renew(&mut conn, role))
                .await
            {
                Ok(Ok(())) => return Ok(conn),
                Ok(Err(error)) => tracing::debug!(%error, "a session on the shelf was gone"),
                Err(_) => tracing::debug!("a session on the shelf did not answer"),
            }
        }
        self.open(role).await
    }

    /// Lets go of a session that is in no transaction and that no open ledger row names: to the
    /// session pool, or closed.
    pub(super) async fn keep_or_close(&self, conn: PgConnection) {
        match &self.session_pool {
            Some(session_pool) => session_pool.put(conn, &self.url),
            None => close(conn).await,
        }
    }

    /// Takes back what triggers may have left in a session, and pins it anew. Prepared statements
    /// stay: they are the gain.
    async fn renew(
        &self,
        conn: &mut PgConnection,
        role: SessionRole,
    ) -> Result<(), ConnectorError> {
        let renewal = match role {
            SessionRole::Source => "reset session authorization; reset role; reset all",
            SessionRole::Target => {
                "reset session authorization; reset role; reset all; unlisten *; select \
                 pg_advisory_unlock_all(); discard temp"
            }
        };
        let renewed = conn.execute(sqlx::raw_sql(renewal)).await;
        renewed.map_err(|error| classify(self, "set up a session", error))?;
        self.pin(conn, role).await
    }

    async fn pin(&self, conn: &mut PgConnection, role: SessionRole) -> Result<(), ConnectorError> {
        let failed = |error| classify(self, "set up a session", error);
        let version = conn.server_version_num().unwrap_or(0);
        let pins = pins(&self.session, role, version).into_statement();
        let rows = conn.fetch_all(sqlx::raw_sql(pins)).await.map_err(failed)?;
        let left: String = match rows.last() {
            Some(last) => last.try_get(0).map_err(failed)?,
            None => return Err(failed(sqlx::Error::RowNotFound)),
        };
        for (name, wanted, statement) in PRIVILEGED {
            if !left.split(' ').any(|left| left == name) {
                continue;
            }
            match conn.execute(statement).await {
                Ok(_) => (),
                Err(error) if is_state(&error, "42501") => {
                    return Err(self.not_to_be_pinned(name, wanted));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn not_to_be_pinned(&self, name: &str, wanted: &str) -> ConnectorError {
        let user = self.route.user();
        let message = format!(
            "on {self} the setting {name} is not {wanted} for user {user}, who may not change it, \
             so that rows would be left out or unchecked in silence; take it back with `alter role \
             {user} reset {name}`, or `alter database … reset {name}`, whichever sets it"
        );
        permanent(ErrorCode::SettingNotPinned, message)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.connection, self.route)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
