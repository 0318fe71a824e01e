//! What a session is set to, whatever server, database and role say: one form of every value, one
//! meaning of every statement. Never at start-up: a pooler in front of the server takes few
//! parameters there, and `SET` is the same everywhere.
//!
//! The list is made of what pg_dump and postgres_fdw set, and of every other setting that a role
//! may have and that changes what is read, what is written or what is answered. A test sets each
//! setting of a server to another value and compares a copy.
//!
//! What is left to role and database, because it changes no value: planner and memory, vacuum,
//! logging, where tables are made (`default_tablespace`, `default_table_access_method`) and what
//! only a view's or a trigger's own functions ask for (`lc_time`, `lc_numeric`,
//! `default_text_search_config`).

use std::time::Duration;

use sqlx::{Executor, PgConnection};

use super::session::{SessionOptions, SessionRole};
use crate::connector::sql_text::{Dialect, Sql};

/// Names are looked up in `pg_catalog` alone, so that no schema of the user's shadows a type or an
/// operator, and names are written in full. The role's own path is kept: it finds tables without a
/// schema ([`super::catalog::qualified`]), and it is what triggers and views of the user's own
/// expect.
const PATH: &str = "select pg_catalog.set_config('highwater.search_path', \
     pg_catalog.current_setting('search_path'), false), \
     pg_catalog.set_config('highwater.schemas', \
     pg_catalog.current_schemas(false)::pg_catalog.text, false); \
     set search_path = pg_catalog; ";

/// By this a transaction knows that it runs in the session that was pinned, and not in another one
/// that a pooler gave it.
const PINNED_SOURCE: &str = "set highwater.pinned = 'source'; ";
/// By this everybody knows that the session never writes ([`IS_READER`]), for as long as it lives. It
/// is nobody else's lock, and where somebody has it all the same nothing is lost but the mark.
const MARKED_READER: &str = "select pg_catalog.pg_try_advisory_lock_shared(1214605160, 1); ";
/// Of a session `s` of `pg_stat_activity`: that it is one of ours that only reads.
pub(super) const IS_READER: &str = "exists (select from pg_catalog.pg_locks l where l.pid = s.pid and \
     l.locktype = 'advisory' and l.classid = 1214605160 and l.objid = 1 and l.objsubid = 2 and l.granted)";
const PINNED_TARGET: &str = "set highwater.pinned = 'target'; ";

/// Answers with `source`, `target`, or nothing of either.
pub(super) const PINNED: &str = "pg_catalog.current_setting('highwater.pinned', true)";

/// Gives the rest of the transaction the role's own path: for the user's triggers and views.
pub(super) const OWN_PATH: &str = "pg_catalog.set_config('search_path', \
     pg_catalog.current_setting('highwater.search_path'), true)";

/// Whose names a statement of the open transaction means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// The role's.
    Own,
    /// The server's alone: then the catalog writes names in full.
    Catalog,
}

pub(super) async fn set_path(conn: &mut PgConnection, path: Path) -> Result<(), sqlx::Error> {
    let set = Sql::new(Dialect::Postgres, "select ").text(match path {
        Path::Own => OWN_PATH,
        Path::Catalog => "pg_catalog.set_config('search_path', 'pg_catalog', true)",
    });
    conn.execute(sqlx::raw_sql(set.into_statement()))
        .await
        .map(drop)
}

const VALUES: &str = "set timezone = 'UTC'; set timezone_abbreviations = 'Default'; set datestyle \
     = 'ISO, MDY'; \
     set intervalstyle = 'iso_8601'; set extra_float_digits = 3; set bytea_output = 'hex'; set \
     array_nulls = on; \
     set xmloption = content; set xmlbinary = base64; set lc_monetary = 'C'; set \
     quote_all_identifiers = off; \
     set standard_conforming_strings = on; set backslash_quote = safe_encoding; set \
     transform_null_equals = off; ";

/// Rows that are left out in silence otherwise: by a policy, or by an index that answers with a
/// part of what it found.
const ROWS: &str = "set row_security = off; set gin_fuzzy_search_limit = 0; ";

/// `exit_on_error` makes the end of a session of every error. A notice may hold values of rows, and
/// nobody reads it.
const ANSWERS: &str = "set exit_on_error = off; set client_min_messages = error; \
     set default_transaction_isolation = 'read committed'; set default_transaction_deferrable = \
     off; \
     set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3; \
     ";

/// Not every platform can watch a socket; without it a dead worker's session ends at the next
/// timeout.
const WATCHED: &str = "select pg_catalog.set_config('client_connection_check_interval', '2s', \
     false) \
     where pg_catalog.version() like '%linux%'; ";

/// Settings that only a privileged role may change: what each has to be, and what sets it so.
pub(super) const PRIVILEGED: [(&str, &str, &str); 3] = [
    (
        "session_replication_role",
        "origin",
        "set session_replication_role = origin",
    ),
    ("zero_damaged_pages", "off", "set zero_damaged_pages = off"),
    (
        "ignore_checksum_failure",
        "off",
        "set ignore_checksum_failure = off",
    ),
];

/// Answers with the names of those that are not as they have to be, with spaces between them.
const PRIVILEGED_ASKED: &str = "select pg_catalog.concat_ws(' ', \
     case when pg_catalog.current_setting('session_replication_role') <> 'origin' then \
     'session_replication_role' end, \
     case when pg_catalog.current_setting('zero_damaged_pages') <> 'off' then 'zero_damaged_pages' \
     end, \
     case when pg_catalog.current_setting('ignore_checksum_failure') <> 'off' then \
     'ignore_checksum_failure' end)";

/// The statements that pin a session of a server of this version; the last row that they give names
/// the [`PRIVILEGED`] settings that are still to be set.
pub(super) fn pins(session: &SessionOptions, role: SessionRole, version: u32) -> Sql {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::from(i32::MAX));
    // First of all, for what follows takes its time, too.
    let mut sql = Sql::new(Dialect::Postgres, "set statement_timeout = ")
        .integer(millis(session.statement_timeout))
        .text("; set lock_timeout = ")
        .integer(millis(session.lock_timeout))
        .text("; set idle_in_transaction_session_timeout = ")
        .integer(millis(session.idle_in_transaction_timeout))
        .text("; ")
        .text(PATH)
        .text(VALUES)
        .text(ROWS)
        .text(ANSWERS);
    if version >= 140_000 {
        sql = sql.text("set idle_session_timeout = 0; ").text(WATCHED);
    }
    if version >= 170_000 {
        sql = sql.text("set transaction_timeout = 0; ");
    }
    if knows_restricted_kinds(version) {
        sql = sql.text("set restrict_nonsystem_relation_kind = ''; ");
    }
    sql = match role {
        SessionRole::Source => sql.text(PINNED_SOURCE).text(MARKED_READER).text(
            "set default_transaction_read_only = \
            on; ",
        ),
        SessionRole::Target => sql.text(PINNED_TARGET).text(
            "set synchronous_commit = on; set \
                default_transaction_read_only = off; ",
        ),
    };
    sql.text(PRIVILEGED_ASKED)
}

/// `restrict_nonsystem_relation_kind` came with a minor release of each version (August 2024).
const fn knows_restricted_kinds(version: u32) -> bool {
    let minor = version % 10_000;
    match version / 10_000 {
        0..=12 => false,
        13 => minor >= 16,
        14 => minor >= 13,
        15 => minor >= 8,
        16 => minor >= 4,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_pinned_only_where_the_server_knows_it() {
        let text = |version| {
            pins(&SessionOptions::default(), SessionRole::Target, version)
                .as_str()
                .to_owned()
        };
        let knows = |version, name: &str| text(version).contains(name);
        assert!(!knows(130_015, "idle_session_timeout") && knows(140_000, "idle_session_timeout"));
        assert!(
            !knows(160_009, "transaction_timeout = 0") && knows(170_000, "transaction_timeout = 0")
        );
        assert!(!knows(130_015, "restrict_nonsystem") && knows(130_016, "restrict_nonsystem"));
        assert!(!knows(160_003, "restrict_nonsystem") && knows(160_004, "restrict_nonsystem"));
        assert!(knows(190_000, "restrict_nonsystem"));
    }

    #[test]
    fn every_privileged_setting_is_asked_for() {
        for (name, wanted, statement) in PRIVILEGED {
            assert!(
                PRIVILEGED_ASKED.contains(&format!("current_setting('{name}') <> '{wanted}'")),
                "{name}"
            );
            assert_eq!(statement, format!("set {name} = {wanted}"));
        }
    }
}
