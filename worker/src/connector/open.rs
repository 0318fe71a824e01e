//! From a connection as the pipeline names it to a connector: the one place that knows which engine is whose.

use std::path::{Path, PathBuf};

use highwater_common::assignment::AttemptError;
use highwater_common::id::ConnectionName;
use highwater_common::spec::Connection;

use super::postgres::{PostgresSource, PostgresTarget};
use super::sqlite::{SqliteSource, SqliteTarget};
use super::{Source, Target};
use crate::secrets::resolve;
use crate::supervisor::Supervisor;

/// The read side of a connection. Relative paths mean `base_dir`; `worker` names who resolves secrets, in errors.
///
/// # Errors
/// Permanent: a reference that cannot be resolved, a malformed URL.
pub fn open_source(
    connection: &Connection,
    name: &ConnectionName,
    base_dir: &Path,
    worker: &str,
    supervisor: &Supervisor,
) -> Result<Box<dyn Source>, AttemptError> {
    Ok(match connection {
        Connection::Postgres { url, .. } => {
            Box::new(PostgresSource::new(&resolve(url, worker)?, name.clone(), supervisor.clone())?)
        }
        Connection::Sqlite { path, .. } => {
            Box::new(SqliteSource::new(below(base_dir, path), name.clone(), supervisor.clone()))
        }
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
) -> Result<Box<dyn Target>, AttemptError> {
    Ok(match connection {
        Connection::Postgres { url, .. } => {
            Box::new(PostgresTarget::new(&resolve(url, worker)?, name.clone(), supervisor.clone())?)
        }
        Connection::Sqlite { path, .. } => {
            Box::new(SqliteTarget::new(below(base_dir, path), name.clone(), supervisor.clone()))
        }
    })
}

fn below(base_dir: &Path, path: &str) -> PathBuf {
    base_dir.join(path)
}
