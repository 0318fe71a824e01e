//! The document of a folder. A reader sees it as of one commit; a writer holds the folder's lock
//! and puts a new one in its place.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::ConnectionName;
use highwater_common::spec::TableName;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::table::Table;
use crate::connector::ConnectorError;

/// The file that a commit replaces.
pub const DOCUMENT: &str = "data.json";
/// How often a writer looks whether it is its turn: the operating system tells no waiting process.
const TURN_POLL: Duration = Duration::from_millis(5);

/// Which folder of which connection.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    pub(super) connection: ConnectionName,
}

/// All that a folder holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) ledger: Option<Ledger>,
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) tables_made: u64,
}

/// The right to write. Dropping it gives it back.
pub(super) struct Turn(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connection, path) = (&self.connection, self.path.display());
        write!(f, "connection `{connection}`, folder {path}")
    }
}

impl Place {
    /// The folder at `path`, which `connection` names in messages.
    #[must_use]
    pub const fn new(path: PathBuf, connection: ConnectionName) -> Self {
        Self { path, connection }
    }

    pub(super) fn permanent(&self, code: ErrorCode, what: impl fmt::Display) -> ConnectorError {
        let report = AttemptError::new(ErrorClass::Permanent, code, format!("{what} ({self})"));
        ConnectorError::of_report(report)
    }

    fn unreachable(&self, what: &str, error: &std::io::Error) -> ConnectorError {
        let message = format!("cannot {what}: {error} ({self})");
        let connection = self.connection.clone();
        ConnectorError::of_report(AttemptError::unreachable(
            connection,
            ErrorCode::Unreachable,
            message,
        ))
    }

    /// Waits until nobody else writes. Dropping the wait changes nothing.
    pub(super) async fn turn(&self) -> Result<Turn, ConnectorError> {
        let failed = |error| self.unreachable("lock the folder", &error);
        let lock = File::create(self.path.join("lock")).map_err(failed)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Turn(lock)),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(TURN_POLL).await,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// What the last commit left.
    pub(super) fn load(&self) -> Result<Data, ConnectorError> {
        match fs::read(self.path.join(DOCUMENT)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| self.permanent(ErrorCode::LedgerUnreadable, error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Data::default()),
            Err(error) => Err(self.unreachable("read the document", &error)),
        }
    }

    /// The commit. Until the new document has its name nothing has happened; once the folder is on
    /// the disk, too, it stays.
    pub(super) fn replace(&self, _: &Turn, data: &Data) -> Result<(), Replaced> {
        let failed = |error| Replaced::Not(self.unreachable("write the document", &error));
        let bytes = serde_json::to_vec(data).map_err(|error| failed(error.into()))?;
        let fresh = self.path.join("data.new");
        let mut file = File::create(&fresh).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&fresh, self.path.join(DOCUMENT)).map_err(failed)?;
        let unknown = |error| Replaced::Unknown(self.unreachable("keep the document", &error));
        let folder = File::open(&self.path).map_err(unknown)?;
        folder.sync_all().map_err(unknown)
    }

    pub(super) fn table<'d>(
        &self,
        data: &'d Data,
        name: &TableName,
    ) -> Result<&'d Table, ConnectorError> {
        let tables: Vec<&str> = data.tables.keys().map(String::as_str).collect();
        data.tables.get(&name.name).ok_or_else(|| {
            let there = tables.join(", ");
            self.permanent(
                ErrorCode::UnknownTable,
                format!("no table {name}; there is {there}"),
            )
        })
    }
}

/// Why a commit did not answer that it is durable.
pub(super) enum Replaced {
    /// The document is the one before.
    Not(ConnectorError),
    /// It may be either.
    Unknown(ConnectorError),
}

impl From<Replaced> for ConnectorError {
    fn from(replaced: Replaced) -> Self {
        match replaced {
            Replaced::Not(error) | Replaced::Unknown(error) => error,
        }
    }
}
