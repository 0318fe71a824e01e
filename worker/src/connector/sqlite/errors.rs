//! What SQLite's errors mean for the next attempt, and what a person is told.
//!
//! What is on no list here is permanent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::ConnectionName;

use crate::connector::ConnectorError;
use crate::connector::redaction::sqlite_words;

/// Which file of which connection: part of every message.
#[derive(Debug, Clone)]
pub(super) struct DatabaseFile {
    path: Arc<PathBuf>,
    connection: ConnectionName,
}

impl DatabaseFile {
    /// The file at `path`, made absolute so that SQLite never takes it for a URI or for a database
    /// in memory.
    pub(super) const fn connection(&self) -> &ConnectionName {
        &self.connection
    }

    pub(super) fn new(path: &Path, connection: ConnectionName) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            path: Arc::new(path),
            connection,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error of our own finding.
    pub(super) fn error(
        &self,
        class: ErrorClass,
        code: ErrorCode,
        what: impl AsRef<str>,
    ) -> ConnectorError {
        let message = format!("{} ({self})", what.as_ref());
        ConnectorError {
            report: AttemptError::new(class, code, message),
            source: None,
        }
    }

    /// An error that will come again.
    pub(super) fn permanent(&self, code: ErrorCode, what: impl AsRef<str>) -> ConnectorError {
        self.error(ErrorClass::Permanent, code, what)
    }

    /// What the driver said while it was to do `what`, as in "read the rows of orders".
    pub(super) fn driver(&self, what: &str, error: sqlx::Error) -> ConnectorError {
        let (class, code, advice) = classify(&error);
        let said = match &error {
            sqlx::Error::Database(said) => sqlite_words(extended_code(&error), said.message()),
            other => other.to_string(),
        };
        let message = format!("cannot {what}: {said} ({self}). {advice}");
        let report = AttemptError::new(class, code, message.trim_end());
        let is_said = matches!(error, sqlx::Error::Database(_));
        ConnectorError {
            report,
            source: (!is_said).then(|| error.into()),
        }
    }

    /// [`Place::driver`] for `map_err`.
    pub(super) fn failed(
        &self,
        what: impl AsRef<str>,
    ) -> impl FnOnce(sqlx::Error) -> ConnectorError {
        move |error| self.driver(what.as_ref(), error)
    }

    /// A spawned loop that ended without an answer.
    pub(super) fn lost(&self, what: &str) -> ConnectorError {
        self.error(
            ErrorClass::Transient,
            ErrorCode::AnswerLost,
            format!("the answer to {what} was lost"),
        )
    }
}

impl std::fmt::Display for DatabaseFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "connection `{}`, file {}",
            self.connection,
            self.path.display()
        )
    }
}

/// SQLite's primary result code, the low byte of the extended one that the driver gives.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    extended_code(error).map(|code| code & 0xff)
}

/// The result code as the driver gives it.
fn extended_code(error: &sqlx::Error) -> Option<i32> {
    let sqlx::Error::Database(said) = error else {
        return None;
    };
    said.code()?.parse().ok()
}

/// True when somebody else held the lock for longer than the busy timeout.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(5 | 6))
}

/// True when this answer to a COMMIT says for certain that nothing was committed: a reader still
/// holds the file, or a constraint does not hold. After an error of the disk it may be there or
/// not, and only the ledger knows.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(5 | 6 | 19))
}

fn classify(error: &sqlx::Error) -> (ErrorClass, ErrorCode, &'static str) {
    use ErrorClass as C;
    if let Some(code) = primary_code(error) {
        return match code {
            5 | 6 => (
                C::Transient,
                ErrorCode::DatabaseLocked,
                "Another connection holds the file's lock; the next attempt waits anew.",
            ),
            7 => (
                C::Resource,
                ErrorCode::OutOfMemory,
                "SQLite could not get memory.",
            ),
            9 => (
                C::Transient,
                ErrorCode::Interrupted,
                "The attempt was given up while the statement ran.",
            ),
            10 => (
                C::Resource,
                ErrorCode::IoError,
                "Check the disk, and that the file system supports locks.",
            ),
            13 => (
                C::Resource,
                ErrorCode::DiskFull,
                "Make room on the disk that holds the file.",
            ),
            17 => (
                C::Transient,
                ErrorCode::SchemaMoved,
                "The schema changed while the statement was prepared.",
            ),
            3 | 8 => (
                C::Permanent,
                ErrorCode::ReadOnly,
                "Give the worker's user the right to write the file and its folder.",
            ),
            11 => (
                C::Permanent,
                ErrorCode::DatabaseCorrupt,
                "Run `pragma integrity_check`, and restore the file from a backup.",
            ),
            14 => (
                C::Permanent,
                ErrorCode::CannotOpen,
                "Check that the file is a regular file this user may open, and its folder too.",
            ),
            18 => (
                C::Permanent,
                ErrorCode::ValueTooLarge,
                "A value or a statement is past SQLite's limits.",
            ),
            19 => (
                C::Permanent,
                ErrorCode::ConstraintViolation,
                "Correct the rows, or the constraint of the target table.",
            ),
            20 => (
                C::Permanent,
                ErrorCode::DatatypeMismatch,
                "A value does not fit the column's declared type.",
            ),
            26 => (
                C::Permanent,
                ErrorCode::NotADatabase,
                "The file is no SQLite database; check the connection's path.",
            ),
            _ => (C::Permanent, ErrorCode::SqlError, ""),
        };
    }
    match error {
        sqlx::Error::Io(_) => (C::Resource, ErrorCode::IoError, "Check the disk."),
        // A question that always has an answer got none, or none to its end.
        sqlx::Error::WorkerCrashed | sqlx::Error::RowNotFound => (
            C::Transient,
            ErrorCode::ConnectionLost,
            "The connection's thread ended.",
        ),
        _ => (C::Permanent, ErrorCode::DriverError, ""),
    }
}
