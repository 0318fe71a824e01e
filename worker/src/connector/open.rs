//! From a connection as the pipeline names it to a connector: the one place that knows which engine
//! is whose.

use std::path::{Path, PathBuf};

use highwater_common::assignment::AttemptError;
use highwater_common::id::ConnectionName;
use highwater_common::spec::{Connection, SourceRows};

use super::postgres::{PostgresSource, PostgresTarget, SessionPool};
use super::sqlite::{SqliteSource, SqliteTarget};
use super::{Source, Target};
use crate::secrets::resolve;
use crate::supervisor::Supervisor;

/// The read side of a connection, which means `rows` of a table where its server hides some.
/// Relative paths mean `base_dir`; `worker` names who resolves secrets, in errors. Sessions are
/// taken from `session_pool` and put there, if one is given.
///
/// # Errors
/// Permanent: a reference that cannot be resolved, a malformed URL.
pub fn open_source(
    connection: &Connection,
    name: &ConnectionName,
    rows: SourceRows,
    base_dir: &Path,
    worker: &str,
    supervisor: &Supervisor,
    session_pool: Option<&SessionPool>,
) -> Result<Box<dyn Source>, AttemptError> {
    Ok(match connection {
        Connection::Postgres {
            url,
            max_connections,
            ..
        } => {
            let source =
                PostgresSource::new(resolve(url, worker)?, name.clone(), supervisor.clone())?;
            Box::new(
                source
                    .seeing(rows)
                    .keeping(unless_limited(session_pool, *max_connections)),
            )
        }
        Connection::Sqlite { path, .. } => Box::new(SqliteSource::new(
            below(base_dir, path),
            name.clone(),
            supervisor.clone(),
        )),
    })
}

/// The write side of a connection.
///
/// # Errors
/// Permanent: a reference that cannot be resolved, a malformed URL.
pub fn open_target(
    connection: &Connection,
    name: &ConnectionName,
    base_dir: &Path,
    worker: &str,
    supervisor: &Supervisor,
    session_pool: Option<&SessionPool>,
) -> Result<Box<dyn Target>, AttemptError> {
    Ok(match connection {
        Connection::Postgres {
            url,
            max_connections,
            ..
        } => {
            let target =
                PostgresTarget::new(resolve(url, worker)?, name.clone(), supervisor.clone())?;
            Box::new(target.keeping(unless_limited(session_pool, *max_connections)))
        }
        Connection::Sqlite { path, .. } => Box::new(SqliteTarget::new(
            below(base_dir, path),
            name.clone(),
            supervisor.clone(),
        )),
    })
}

/// Where connections are counted none waits without a task: another worker's task may have been
/// given its place.
fn unless_limited(
    session_pool: Option<&SessionPool>,
    max_connections: Option<u32>,
) -> Option<SessionPool> {
    session_pool.filter(|_| max_connections.is_none()).cloned()
}

fn below(base_dir: &Path, path: &str) -> PathBuf {
    base_dir.join(path)
}
