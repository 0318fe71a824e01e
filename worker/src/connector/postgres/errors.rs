//! What a PostgreSQL error means for the next attempt, in one table, and how a person is told of
//! it. Never lets a URL or a password into a message.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::outage::breaks_an_attempt;
use highwater_runtime::failpoint;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::session::Endpoint;
use crate::connector::ConnectorError;
use crate::connector::redaction::{PostgresSaid, postgres_words};

/// A statement that writes, in a session that may only read.
const READ_ONLY: &str = "25006";
/// A target answers so after a failover. A source's sessions are read-only by our own doing, and no
/// waiting changes that.
const SOURCE_WRITES: &str = "a view, a function or a policy of it writes when it is read, and a \
     source is only read: name a table or a view that does not";

/// An error of our own finding: nothing the driver said stands behind it.
pub(super) fn fault(
    class: ErrorClass,
    code: ErrorCode,
    message: impl Into<String>,
) -> ConnectorError {
    ConnectorError {
        report: AttemptError::new(class, code, message),
        source: None,
    }
}

/// A permanent error of our own finding.
pub(super) fn permanent(code: ErrorCode, message: impl Into<String>) -> ConnectorError {
    fault(ErrorClass::Permanent, code, message)
}

/// A failpoint between two statements. Told to fail, it fails as a broken connection does.
pub(super) async fn stumble(name: &str) -> Result<(), sqlx::Error> {
    let hit = failpoint::hit(name).await;
    hit.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))
}

/// True when a server is there, and lets nobody else in for now.
pub(super) fn is_full(error: &ConnectorError) -> bool {
    error.report.code == ErrorCode::TooManyConnections.as_str()
}

/// True when the server answered with this SQLSTATE.
pub(super) fn is_state(error: &sqlx::Error, state: &str) -> bool {
    database_error(error).is_some_and(|error| error.code() == state)
}

/// True when this answer to a COMMIT says for certain that nothing was committed: the server found
/// a reason, a deferred constraint for one, rolled back and went on. A session that ended over it,
/// or a server that itself does not know, is no such answer.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    database_error(error).is_some_and(|error| is_refusing(error.severity(), error.code()))
}

fn is_refusing(severity: PgSeverity, state: &str) -> bool {
    // 40003: a proxy or a distributed server lost track of the transaction. Of class 08 and 57
    // nobody stayed to say.
    severity == PgSeverity::Error
        && state != "40003"
        && !matches!(state.get(..2), None | Some("08" | "57"))
}

/// The server's refusal of a relation that is not there.
pub(super) fn is_missing_relation(error: &sqlx::Error) -> bool {
    is_state(error, "42P01") || is_state(error, "3F000")
}

/// The error of doing `what` at `endpoint`, such as `copy into orders`.
pub(super) fn classify(endpoint: &Endpoint, what: &str, error: sqlx::Error) -> ConnectorError {
    match database_error(&error) {
        // The server's whole answer holds values of rows, and is not handed on.
        Some(server) => ConnectorError {
            report: server_report(endpoint, what, server),
            source: None,
        },
        None => ConnectorError {
            report: driver_report(endpoint, what, &error),
            source: Some(Box::new(error)),
        },
    }
}

/// Class, code, and what a person does next, of a SQLSTATE. What is not on the list is permanent,
/// until someone adds it with a test.
fn verdict(state: &str) -> (ErrorClass, ErrorCode, &'static str) {
    use ErrorClass::{Permanent, Resource, Transient, Unreachable};
    match state {
        "40001" => (Transient, ErrorCode::SerializationFailure, ""),
        "40P01" => (Transient, ErrorCode::Deadlock, ""),
        READ_ONLY => (
            Unreachable,
            ErrorCode::ReadOnly,
            "is the server a standby, or in the middle of a failover?",
        ),
        "25P03" | "25P04" => (Transient, ErrorCode::SessionTimedOut, ""),
        "57P01" | "57P02" | "57P05" => (Unreachable, ErrorCode::SessionEnded, ""),
        "57P03" => (Unreachable, ErrorCode::ServerStarting, ""),
        "57014" => (
            Resource,
            ErrorCode::StatementTimeout,
            "raise the timeout, or make the partitions smaller",
        ),
        "55006" => (
            Resource,
            ErrorCode::LogInUse,
            "pg_replication_slots shows who reads it",
        ),
        "55P03" => (
            Resource,
            ErrorCode::LockTimeout,
            "another session holds the lock; pg_stat_activity shows which",
        ),
        "53100" => (Resource, ErrorCode::DiskFull, "make room on the server"),
        "53200" => (Resource, ErrorCode::OutOfMemory, ""),
        "53300" => (
            Unreachable,
            ErrorCode::TooManyConnections,
            "lower the connection's max_connections",
        ),
        "28P01" => (
            Permanent,
            ErrorCode::WrongPassword,
            "correct the user or the password of the connection",
        ),
        "3D000" => (
            Permanent,
            ErrorCode::UnknownDatabase,
            "create the database, or correct the connection",
        ),
        "42501" => (
            Permanent,
            ErrorCode::MissingRight,
            "grant it to the user of the connection",
        ),
        "42P01" | "3F000" => (
            Permanent,
            ErrorCode::UnknownTable,
            "create it, or correct its name",
        ),
        "42703" => (
            Permanent,
            ErrorCode::UnknownColumn,
            "correct its name, or plan anew if the table has changed",
        ),
        "22003" => (
            Permanent,
            ErrorCode::NumericOverflow,
            "give the target's column a wider type",
        ),
        "22001" => (
            Permanent,
            ErrorCode::TextTooLong,
            "give the target's column a wider type",
        ),
        "22P02" | "22007" | "22008" | "22P03" => (
            Permanent,
            ErrorCode::ValueDoesNotFit,
            "correct the value, or the type of the target's column",
        ),
        // A session that the server itself gave has its prepared statements to itself.
        "42P05" | "26000" => (
            Permanent,
            ErrorCode::TransactionPooling,
            TRANSACTION_POOLING,
        ),
        "23502" => (
            Permanent,
            ErrorCode::ConstraintViolation,
            "correct the rows, or allow NULL in the target",
        ),
        "23505" => (
            Permanent,
            ErrorCode::ConstraintViolation,
            "a row with this key is there already",
        ),
        "23503" => (
            Permanent,
            ErrorCode::ConstraintViolation,
            "load the referenced table first; where rows are deleted, delete those that refer to them first",
        ),
        "23514" => (
            Permanent,
            ErrorCode::ConstraintViolation,
            "correct the rows, or the check",
        ),
        _ => match state.get(..2) {
            Some("08") => (Unreachable, ErrorCode::ConnectionLost, ""),
            Some("53") => (Resource, ErrorCode::ResourcesExhausted, ""),
            Some("57") => (Unreachable, ErrorCode::SessionEnded, ""),
            Some("28") => (
                Permanent,
                ErrorCode::LoginRefused,
                "correct the user or pg_hba.conf",
            ),
            Some("22") => (
                Permanent,
                ErrorCode::ValueDoesNotFit,
                "correct the value, or the type of the target's column",
            ),
            Some("23") => (
                Permanent,
                ErrorCode::ConstraintViolation,
                "correct the rows, or the constraint",
            ),
            _ => (Permanent, ErrorCode::RefusedByServer, ""),
        },
    }
}

/// What to do about a pooler that gives each transaction another session of the server.
const TRANSACTION_POOLING: &str = "a pooler stands in front of the server and gives each \
     transaction another session of it (pool_mode = transaction or statement), while a claim, its \
     settings and its transaction need one: use session pooling, or connect to the server itself";

/// The error of a session that is not the one that was set up.
pub(super) fn transaction_pooling(endpoint: &Endpoint) -> ConnectorError {
    let message =
        format!("the session on {endpoint} is not the one that was set up; {TRANSACTION_POOLING}");
    permanent(ErrorCode::TransactionPooling, message)
}

fn server_report(endpoint: &Endpoint, what: &str, error: &PgDatabaseError) -> AttemptError {
    // Our own settings are gone with the session that had them; a pooler itself has no other
    // language.
    let is_other_session = error.code() == "42704" && error.message().contains("\"highwater.");
    if is_other_session || (error.code() == "08P01" && error.message().contains("pooling mode")) {
        return transaction_pooling(endpoint).report;
    }
    let (class, code, next) = match error.code() {
        READ_ONLY if endpoint.is_source() => (
            ErrorClass::Permanent,
            ErrorCode::SourceWrites,
            SOURCE_WRITES,
        ),
        state => verdict(state),
    };
    let words = postgres_words(&PostgresSaid {
        state: error.code(),
        message: error.message(),
        table: error.table(),
        column: error.column(),
        constraint: error.constraint(),
        context: error.r#where(),
    });
    let mut message = format!("cannot {what} on {endpoint}: {words}");
    message.push_str(&format!(" (SQLSTATE {})", error.code()));
    if !next.is_empty() {
        message.push_str(&format!("; {next}"));
    }
    report(endpoint, class, code, message)
}

/// The report of an error; one of reachability names its connection.
fn report(
    endpoint: &Endpoint,
    class: ErrorClass,
    code: ErrorCode,
    message: impl Into<String>,
) -> AttemptError {
    match class {
        ErrorClass::Unreachable => {
            AttemptError::unreachable(endpoint.connection().clone(), code, message)
        }
        ErrorClass::Transient
        | ErrorClass::Resource
        | ErrorClass::Permanent
        | ErrorClass::Crash => AttemptError::new(class, code, message),
    }
}

fn driver_report(endpoint: &Endpoint, what: &str, error: &sqlx::Error) -> AttemptError {
    let (class, code, why) = match error {
        sqlx::Error::Io(io) => (
            ErrorClass::Unreachable,
            ErrorCode::ConnectionLost,
            format!("the connection broke ({io})"),
        ),
        sqlx::Error::Tls(why) => (
            ErrorClass::Permanent,
            ErrorCode::TlsRefused,
            format!("TLS was not agreed upon ({why}); check sslmode and certificates"),
        ),
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => (
            ErrorClass::Unreachable,
            ErrorCode::ConnectionLost,
            "the conversation with the server broke off".to_owned(),
        ),
        other => (
            ErrorClass::Permanent,
            ErrorCode::DriverError,
            format!("the driver failed ({other})"),
        ),
    };
    report(
        endpoint,
        class,
        code,
        format!("cannot {what} on {endpoint}: {why}"),
    )
}

/// The error of a server that could not be reached or did not let us in.
pub(super) fn connect_error(endpoint: &Endpoint, error: sqlx::Error) -> ConnectorError {
    if let sqlx::Error::Io(io) = &error {
        let message =
            format!("cannot reach {endpoint}: {io}; is the server up, and is this its address?");
        let report = unreachable(endpoint, message).report;
        return ConnectorError {
            report,
            source: Some(Box::new(error)),
        };
    }
    // What a pooler says of a password, or of a parameter at start-up.
    let is_refused_login = is_state(&error, "08P01");
    let mut error = classify(endpoint, "open a session", error);
    if is_refused_login {
        error = permanent(ErrorCode::LoginRefused, error.report.message);
    }
    if error.report.class == ErrorClass::Unreachable && breaks_an_attempt(&error.report.code) {
        // Nothing was under way that could have broken.
        error.report.code = ErrorCode::Unreachable.to_string();
    }
    error
}

/// The error of a server that did not answer.
pub(super) fn unreachable(endpoint: &Endpoint, message: impl Into<String>) -> ConnectorError {
    ConnectorError {
        report: report(
            endpoint,
            ErrorClass::Unreachable,
            ErrorCode::Unreachable,
            message,
        ),
        source: None,
    }
}

fn database_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    match error {
        sqlx::Error::Database(error) => error.try_downcast_ref::<PgDatabaseError>(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_the_list_is_permanent() {
        assert_eq!(verdict("XX000").0, ErrorClass::Permanent);
        assert_eq!(verdict("40P01").0, ErrorClass::Transient);
        assert_eq!(verdict("08006").0, ErrorClass::Unreachable);
        assert_eq!(verdict("53100").0, ErrorClass::Resource);
        assert_eq!(verdict("28P01").1, "wrong_password");
        assert_eq!(verdict("").0, ErrorClass::Permanent);
    }

    #[test]
    fn only_a_server_that_stayed_refuses_a_commit() {
        assert!(is_refusing(PgSeverity::Error, "23503") && is_refusing(PgSeverity::Error, "40001"));
        assert!(is_refusing(PgSeverity::Error, "P0001") && is_refusing(PgSeverity::Error, "53100"));
        // The session ended with it, or whoever answered does not know: only the ledger does.
        assert!(
            !is_refusing(PgSeverity::Fatal, "23503") && !is_refusing(PgSeverity::Panic, "53100")
        );
        assert!(
            !is_refusing(PgSeverity::Fatal, "57P01") && !is_refusing(PgSeverity::Error, "57P01")
        );
        assert!(
            !is_refusing(PgSeverity::Error, "40003") && !is_refusing(PgSeverity::Error, "08007")
        );
        assert!(!is_refusing(PgSeverity::Error, ""));
    }
}
