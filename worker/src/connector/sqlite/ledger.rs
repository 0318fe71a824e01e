//! The ledger's tables in a file, and the statements on them that need no decision.

use std::os::unix::fs::MetadataExt;

use highwater_common::assignment::Receipt;
use highwater_common::chunk::Reached;
use highwater_common::close::Ordinals;
use highwater_common::commit::{LedgerRow, LedgerState};
use highwater_common::coverage::Coverage;
use highwater_common::cursor::CursorKind;
use highwater_common::error_code::ErrorCode;
use highwater_common::id::{ClusterId, DocumentDigest, RunId, TaskId};
use highwater_common::range::Slice;
use highwater_common::stream::PlanMark;
use highwater_common::token::{Fence, FencingToken, Nonce};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::errors::DatabaseFile;
use super::process::Process;
use super::sql;
use crate::connector::stored_slice::{
    ALL, NULL, RangeMerger, StoredSlice, covering, kind_text, stored_cursor, stored_slice,
};
use crate::connector::{CloseRequest, ConnectorError};

/// The form of the ledger's tables that this version reads and writes.
const FORMAT: i64 = 6;

const TABLES: &str = "
create table if not exists _highwater_meta (
  one integer not null primary key check (one = 1), cluster_id text not null, incarnation integer not null,
  format integer not null, file_id text not null, created_at text not null) strict;
create table if not exists _highwater_run (
  run_id text not null primary key, state text not null check (state in ('R', 'X')), fenced_at text,
  fenced_by text) strict, without rowid;
create table if not exists _highwater_task (
  run_id text not null, task_id text not null, token integer not null, nonce blob not null,
  state text not null check (state in ('O', 'I', 'C', 'X', 'V')), generation integer not null, step text not null,
  phase integer not null, ordinal integer not null, plan blob not null,
  stream_id text not null, slice_kind text not null, range_start integer, range_end integer, attempt integer not null,
  spec_digest text not null, chunk integer not null default 0, cursor text, session_id integer not null,
  session_start text not null, rows integer not null default 0, bytes integer not null default 0, row_digest text,
  source_position text, result text, claimed_at text not null, committed_at text,
  voided_at text, voided_by text, void_reason text, part integer not null default 0, primary key (run_id, task_id)) strict, without rowid;
create index if not exists _highwater_task_stream on _highwater_task (stream_id, state);
create table if not exists _highwater_stream (
  stream_id text not null primary key, run_id text not null, token integer not null, table_name text,
  remade integer not null default 0, plan blob, taken_at text not null) strict, without rowid;
create table if not exists _highwater_watermark (
  stream_id text not null primary key, position text, version integer not null, token integer not null,
  updated_at text not null) strict, without rowid;
";

/// Whose target this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) cluster: ClusterId,
    pub(super) incarnation: i64,
    /// Random, made with the ledger: a file that was deleted and made anew has another.
    file_id: String,
}

/// The mark of the target, or `None` when the file has no ledger.
pub(super) async fn meta(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
) -> Result<Option<Meta>, ConnectorError> {
    let failed = || place.failed("read the ledger's mark");
    let there: i64 = sqlx::query_scalar(
        "select count(*) from sqlite_schema where name = \
        '_highwater_meta'",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(failed())?;
    if there == 0 {
        return Ok(None);
    }
    let Some(row) = sqlx::query(
        "select cluster_id, incarnation, format, file_id from \
                                 _highwater_meta",
    )
    .fetch_optional(conn)
    .await
    .map_err(failed())?
    else {
        return Ok(None);
    };
    let format: i64 = row.get(2);
    if format != FORMAT {
        let message = if format < FORMAT {
            format!(
                "the ledger has format {format}, of an earlier version of Highwater, and this \
                 version reads {FORMAT} only. Let that version finish, then begin with a new file: \
                 receipts of the earlier form are not read"
            )
        } else {
            format!(
                "the ledger has format {format}, this version knows {FORMAT}; use a version \
                     that knows it"
            )
        };
        return Err(place.permanent(ErrorCode::UnknownLedgerFormat, message));
    }
    let cluster = row
        .get::<String, _>(0)
        .parse()
        .map_err(|error| unreadable(place, &error))?;
    Ok(Some(Meta {
        cluster,
        incarnation: row.get(1),
        file_id: row.get(3),
    }))
}

/// Fails when the target belongs to another cluster.
pub(super) fn belongs(
    place: &DatabaseFile,
    meta: &Meta,
    cluster: &ClusterId,
) -> Result<(), ConnectorError> {
    if meta.cluster == *cluster {
        return Ok(());
    }
    let message = format!(
        "the target belongs to cluster {}, and this is cluster {cluster}. If the other one writes \
         here no more, for instance because its `.highwater` folder was deleted, take the target \
         over with `highwater cluster adopt`",
        meta.cluster
    );
    Err(place.permanent(ErrorCode::TargetOfAnotherCluster, message))
}

/// Makes the ledger where it is missing, inside the caller's transaction, and gives its mark.
pub(super) async fn ensure(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    cluster: &ClusterId,
) -> Result<(Meta, bool), ConnectorError> {
    if let Some(meta) = meta(conn, place).await? {
        return Ok((meta, false));
    }
    sqlx::raw_sql(TABLES)
        .execute(&mut *conn)
        .await
        .map_err(place.failed("make the ledger"))?;
    let mark = sqlx::query(
        "insert into _highwater_meta (one, cluster_id, incarnation, format, file_id, created_at)
         values (1, ?, 1, ?, lower(hex(randomblob(8))), strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
    )
    .bind(cluster.to_string())
    .bind(FORMAT);
    sql::run(conn, mark)
        .await
        .map_err(place.failed("mark the ledger"))?;
    match meta(conn, place).await? {
        Some(meta) => Ok((meta, true)),
        None => Err(place.permanent(
            ErrorCode::LedgerUnreadable,
            "the ledger that was just made is not there",
        )),
    }
}

/// Which file this is, and which life of it: the file's identity on this host, and its ledger's. A
/// file that does not exist yet has none, and a file without a ledger its identity alone.
pub(super) async fn fingerprint(
    place: &DatabaseFile,
    meta: Option<&Meta>,
) -> Result<String, ConnectorError> {
    let file = tokio::fs::metadata(place.path()).await.map_err(|error| {
        place.permanent(
            ErrorCode::UnknownDatabase,
            format!("cannot look at the database file: {error}"),
        )
    })?;
    let identity = format!("{}:{}", file.dev(), file.ino());
    Ok(match meta {
        Some(meta) => format!("{identity}:{}", meta.file_id),
        None => identity,
    })
}

/// True when a target that was `expected` when it was reconciled is the one that is `found` now. A
/// target that had no ledger then may have got one since: by the prepare task of the same plan.
pub(super) fn is_same_target(expected: &str, found: &str) -> bool {
    found == expected
        || expected.is_empty()
        || found
            .strip_prefix(expected)
            .is_some_and(|rest| rest.starts_with(':'))
            && expected.matches(':').count() == 1
}

/// A ledger row, with the process of its latest claim.
pub(super) struct FoundRow {
    pub(super) row: LedgerRow,
    pub(super) reached: Reached,
    pub(super) session: Process,
}

/// The ledger row of a task.
pub(super) async fn row(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    run: &RunId,
    task: &TaskId,
) -> Result<Option<FoundRow>, ConnectorError> {
    let found = sqlx::query(
        "select state, token, nonce, spec_digest, rows, bytes, session_id, session_start, chunk, cursor
         from _highwater_task where run_id = ? and task_id = ?",
    )
    .bind(run.to_string())
    .bind(task.to_string())
    .fetch_optional(conn)
    .await
    .map_err(place.failed("read the ledger"))?;
    found.map(|row| decode(place, &row)).transpose()
}

fn decode(place: &DatabaseFile, row: &SqliteRow) -> Result<FoundRow, ConnectorError> {
    let letter: String = row.get(0);
    let state = LedgerState::from_letter(&letter)
        .ok_or_else(|| unreadable(place, &format!("a state `{letter}`")))?;
    let nonce: [u8; 16] = row
        .get::<Vec<u8>, _>(2)
        .try_into()
        .map_err(|_| unreadable(place, &"a nonce that has not 16 bytes"))?;
    let spec_digest: DocumentDigest = row
        .get::<String, _>(3)
        .parse()
        .map_err(|error| unreadable(place, &error))?;
    let count = |at: usize| u64::try_from(row.get::<i64, _>(at)).unwrap_or(0);
    let fence = Fence {
        token: FencingToken::from_raw(row.get(1)),
        nonce: Nonce::from_bytes(nonce),
    };
    let receipt = Receipt {
        rows: count(4),
        bytes: count(5),
    };
    let session = Process {
        pid: row.get(6),
        start: row.get(7),
    };
    let cursor = match row.get::<Option<String>, _>(9) {
        None => None,
        Some(text) => {
            Some(stored_cursor(&text).ok_or_else(|| unreadable(place, &"a position of no kind"))?)
        }
    };
    Ok(FoundRow {
        row: LedgerRow {
            state,
            fence,
            spec_digest,
            receipt,
        },
        reached: Reached {
            chunks: u32::try_from(row.get::<i64, _>(8)).unwrap_or(0),
            cursor,
            receipt,
        },
        session,
    })
}

fn unreadable(place: &DatabaseFile, what: &dyn std::fmt::Display) -> ConnectorError {
    place.permanent(
        ErrorCode::LedgerUnreadable,
        format!("the ledger holds what no version has written: {what}"),
    )
}

/// Whether a committed row of the stream has rows of `slice`.
pub(super) async fn overlaps(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
    slice: &Slice,
) -> Result<bool, ConnectorError> {
    let StoredSlice { kind, start, end } = StoredSlice::of(slice);
    let found: i64 = sqlx::query_scalar(
        "select exists (select 1 from _highwater_task where stream_id = ?1 and state = 'C' and (
           slice_kind = ?2 and (range_start is null or ?4 is null or range_start < ?4)
                           and (range_end is null or ?3 is null or range_end > ?3)
           or ?2 <> 'null' and slice_kind = 'all' or ?2 = 'all' and slice_kind not in ('null', 'table')))",
    )
    .bind(stream)
    .bind(kind)
    .bind(start)
    .bind(end)
    .fetch_one(conn)
    .await
    .map_err(place.failed("ask the ledger for committed ranges"))?;
    Ok(found != 0)
}

/// The tasks of a phase of a run's plan that are committed.
pub(super) async fn committed(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    request: &CloseRequest,
) -> Result<Ordinals, ConnectorError> {
    let rows = sqlx::query(
        "select min(ordinal), max(ordinal) from (
           select ordinal, ordinal - row_number() over (order by ordinal) as island from _highwater_task
           where run_id = ? and step = ? and phase = ? and plan = ? and state = 'C' and not part)
         group by island order by 1",
    )
    .bind(request.run.to_string())
    .bind(request.step.as_str())
    .bind(i64::from(request.phase))
    .bind(request.plan.as_bytes().to_vec())
    .fetch_all(conn)
    .await
    .map_err(place.failed("read what the step has committed"))?;
    let side =
        |row: &SqliteRow, at: usize| u64::try_from(row.get::<i64, _>(at)).unwrap_or(u64::MAX);
    Ok(Ordinals::of_ranges(
        rows.iter().map(|row| (side(row, 0), side(row, 1))),
    ))
}

/// What the stream's committed tasks cover, whoever committed them, but for `own`: ranges of the
/// kind that is wanted, and the NULL rows.
pub(super) async fn coverage(
    conn: &mut SqliteConnection,
    place: &DatabaseFile,
    stream: &str,
    wanted: CursorKind,
    own: Option<(&RunId, &PlanMark)>,
) -> Result<Coverage, ConnectorError> {
    let rows = sqlx::query(
        "select distinct slice_kind, range_start, range_end from _highwater_task where stream_id = ?1 and state = 'C'
         and not (run_id is ?2 and plan is ?3) order by range_start nulls first, range_end,
         slice_kind",
    )
    .bind(stream)
    .bind(own.map(|(run, _)| run.to_string()))
    .bind(own.map(|(_, plan)| plan.as_bytes().to_vec()))
    .fetch_all(conn)
    .await
    .map_err(place.failed("read the ranges committed so far"))?;
    let (mut merger, mut null, mut other) = (RangeMerger::new(wanted), false, None);
    for row in rows {
        let kind: String = row.get(0);
        match kind.as_str() {
            NULL => null = true,
            kind if kind == ALL || kind == kind_text(wanted) => {
                merger.push(row.get(1), row.get(2));
            }
            kind => other = other.or_else(|| stored_slice(kind, row.get(1), row.get(2))),
        }
    }
    Ok(covering(merger, other, null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_got_its_ledger_after_the_plan_is_the_same_and_one_made_anew_is_not() {
        assert!(is_same_target("", "1:2:ab"));
        assert!(is_same_target("1:2", "1:2:ab"));
        assert!(is_same_target("1:2:ab", "1:2:ab"));
        assert!(!is_same_target("1:2:ab", "1:2:cd"));
        assert!(!is_same_target("1:2", "1:23:ab"));
        assert!(!is_same_target("1:2:ab", "1:2"));
    }
}
