//! A connection that one attempt owns: never pooled, never used again after an error.
//!
//! Dropping it closes it, which rolls back whatever was open. The flag behind SQLite's progress
//! handler makes the drop reach a statement that is still running, so that the file's lock is not
//! held for work nobody wants.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_common::error_code::ErrorCode;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::errors::DatabaseFile;
use crate::connector::ConnectorError;

/// How long SQLite waits for a lock that another process holds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Steps of SQLite's machine between two looks at the flag.
const STEPS_BETWEEN_LOOKS: i32 = 4_000;
/// Rows that the connection's thread may be ahead of the reader.
const ROWS_AHEAD_MAX: usize = 64;

/// What a connection is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To read a source; the file is opened read-only.
    Read,
    /// To write to a target that exists.
    Write,
    /// To make a target: the file is created when missing, and switched to WAL.
    Make,
}

/// An owned connection.
#[derive(Debug)]
pub(super) struct Session {
    conn: Option<SqliteConnection>,
    abandoned: Arc<AtomicBool>,
}

impl Session {
    /// Opens the file.
    pub(super) async fn open(
        place: &DatabaseFile,
        purpose: Purpose,
    ) -> Result<Self, ConnectorError> {
        check_file(place, purpose).await?;
        let options = SqliteConnectOptions::new()
            .filename(place.path())
            .busy_timeout(BUSY_TIMEOUT)
            .row_buffer_size(ROWS_AHEAD_MAX)
            // As SQLite itself does it: a replaced partition must not cascade into other tables.
            .foreign_keys(false);
        let options = match purpose {
            Purpose::Read => options.read_only(true),
            Purpose::Write => options.synchronous(SqliteSynchronous::Full),
            Purpose::Make => options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full),
        };
        let mut conn = options
            .disable_statement_logging()
            .connect()
            .await
            .map_err(place.failed("open the file"))?;
        let abandoned = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&abandoned);
        conn.lock_handle()
            .await
            .map_err(place.failed("open the file"))?
            .set_progress_handler(STEPS_BETWEEN_LOOKS, move || !flag.load(Ordering::Relaxed));
        Ok(Self {
            conn: Some(conn),
            abandoned,
        })
    }

    /// The connection.
    pub(super) fn conn(&mut self) -> &mut SqliteConnection {
        self.conn
            .as_mut()
            .expect("a session keeps its connection until it is closed, and closing consumes it")
    }

    /// What makes the session's running statement stop when it is set; for loops that outlive their
    /// reader.
    pub(super) fn abandon_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandoned)
    }

    /// Closes the connection and waits until it is gone, and with it every open transaction.
    pub(super) async fn close(mut self) {
        if let Some(conn) = self.conn.take() {
            // The file is released either way; what is left to say would say nothing about the
            // data.
            conn.close().await.ok();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

async fn check_file(place: &DatabaseFile, purpose: Purpose) -> Result<(), ConnectorError> {
    match purpose {
        Purpose::Read | Purpose::Write => match tokio::fs::metadata(place.path()).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(place.permanent(
                ErrorCode::UnknownDatabase,
                "the database file does not exist. Check the connection's path: it is relative to \
                 the pipeline file",
            )),
            Err(error) => Err(place.permanent(
                ErrorCode::CannotOpen,
                format!("cannot look at the database file: {error}"),
            )),
        },
        Purpose::Make => check_folder(place).await,
    }
}

/// A target's folder is the user's to make: a misspelt path must not grow a tree of folders.
pub(super) async fn check_folder(place: &DatabaseFile) -> Result<(), ConnectorError> {
    let Some(folder) = place.path().parent() else {
        return Ok(());
    };
    match tokio::fs::metadata(folder).await {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) | Err(_) => Err(place.permanent(
            ErrorCode::UnknownDatabase,
            format!(
                "the folder {} does not exist. Create it, or correct the connection's path",
                folder.display()
            ),
        )),
    }
}
