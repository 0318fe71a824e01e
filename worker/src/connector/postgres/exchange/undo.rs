//! The exchange backwards: the table that left its place has it again, with all that hangs on it.

use highwater_common::errand::Undone;
use highwater_common::undo::{Kept, Refused, Undo, undo as decide};
use sqlx::{Connection, Executor, PgConnection};

use super::super::catalog::{qualified, unknown_table};
use super::super::errors::{classify, permanent, stumble};
use super::super::ledger;
use super::super::receipts;
use super::super::session::{Endpoint, SessionRole};
use super::super::stream::{Stream, Taken};
use super::mark::{Marked, read_marks};
use super::{Exchanging, exchange, oid_of};
use crate::connector::{ConnectorError, ExchangeRequest, ShadowKind, UndoOutcome, UndoRequest};

/// What a person does whose kept table does not fit any more.
const ADVICE: &str = "Give the table that is kept what it lacks, or load what the table is to hold \
                      by a new run";

/// Takes the stream and exchanges, in one transaction.
pub(super) async fn undo(
    endpoint: &Endpoint,
    request: &UndoRequest,
) -> Result<UndoOutcome, ConnectorError> {
    let failed = |error| classify(endpoint, "undo an exchange", error);
    let mut conn = endpoint.open(SessionRole::Target).await?;
    let forget = &request.forget;
    let stream = Stream {
        endpoint,
        request: &forget.stream,
    };
    let fenced = match stream.take(&mut conn, &forget.cluster).await? {
        Taken::Mine { fenced } => fenced,
        Taken::Not(outcome) => return Ok(UndoOutcome::Not(outcome)),
    };
    let done = match undo_taken(&mut conn, endpoint, request).await {
        Ok(done) => done,
        Err(error) => {
            // Whoever waits for its locks goes on at once.
            conn.execute("rollback").await.ok();
            return Err(error);
        }
    };
    stumble("undo::exchanged").await.map_err(failed)?;
    conn.execute("commit").await.map_err(failed)?;
    stumble("undo::committed").await.map_err(failed)?;
    stream.end_fenced(&mut conn, &fenced).await;
    conn.close().await.ok();
    Ok(done)
}

/// What is to be done once the stream is the run's.
async fn undo_taken(
    conn: &mut PgConnection,
    endpoint: &Endpoint,
    request: &UndoRequest,
) -> Result<UndoOutcome, ConnectorError> {
    let failed = |error| classify(endpoint, "look for the table before", error);
    let mine = &request.forget.stream;
    let table = qualified(conn, endpoint, &request.table).await?;
    let refused = |why: Refused| {
        let message = why.message(&table.to_string(), &endpoint.to_string());
        permanent(why.code(), message)
    };
    let mut marked = read_marks(conn).await.map_err(failed)?;
    marked.retain(|one| one.found.kind == ShadowKind::Kept && one.found.of == table);
    let kept: Vec<Kept<'_>> = marked.iter().map(kept).collect();
    let chosen = decide(&kept, &mine.stream, &mine.run).map_err(&refused)?;
    let of_kept = |one: &Kept<'_>| {
        let found = marked.iter().map(|marked| &marked.found);
        let mut found = found.filter(|found| found.identity == one.identity);
        found.next().ok_or_else(|| refused(Refused::NoneKept))
    };
    let back = match chosen {
        Undo::Bring(back) => back,
        Undo::Done(left) => {
            let left = of_kept(left)?;
            return Ok(UndoOutcome::Done {
                undone: Undone {
                    table: table.to_string(),
                    run: None,
                    kept: left.table.to_string(),
                    warnings: Vec::new(),
                },
                left: left.identity.clone(),
            });
        }
    };
    let Some(live) = oid_of(conn, &table).await.map_err(failed)? else {
        return Err(unknown_table(conn, endpoint, &table).await);
    };
    let database = ledger::read_database(conn, endpoint).await?;
    if is_remade(conn, &mine.stream, &database, live)
        .await
        .map_err(failed)?
    {
        return Err(refused(Refused::Remade));
    }
    let writer = read_writer(conn, &mine.stream, &database, live, back.since_micros).await;
    if let Some(writer) = writer.map_err(failed)? {
        return Err(refused(Refused::WrittenBy(writer)));
    }
    let exchanged = exchange(
        &mut Exchanging {
            conn,
            endpoint,
            advice: ADVICE,
        },
        &ExchangeRequest {
            table: table.clone(),
            identity: live.to_string(),
            by: of_kept(back)?.table.clone(),
            run: mine.run,
            stream: mine.stream.clone(),
            lock_wait: request.lock_wait,
        },
    )
    .await?;
    receipts::void(conn, endpoint, &request.forget).await?;
    Ok(UndoOutcome::Done {
        undone: Undone {
            table: table.to_string(),
            run: Some(back.run),
            kept: exchanged.kept.to_string(),
            warnings: Vec::new(),
        },
        left: live.to_string(),
    })
}

fn kept(marked: &Marked) -> Kept<'_> {
    Kept {
        identity: &marked.found.identity,
        run: marked.found.run,
        stream: &marked.found.stream,
        since_micros: marked.found.since_micros,
    }
}

/// Whether the stream put another table there than the one that is there.
async fn is_remade(
    conn: &mut PgConnection,
    stream: &str,
    database: &str,
    live: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from highwater.stream where stream_id = $1 and table_database = $2 \
         and table_oid <> $3::int8::oid)",
    )
    .bind(stream)
    .bind(database)
    .bind(live)
    .fetch_one(conn)
    .await
}

/// Another stream that has committed rows of the table since then: both moments are by the server's
/// clock, and an exchange waits for whoever writes the table.
async fn read_writer(
    conn: &mut PgConnection,
    stream: &str,
    database: &str,
    live: i64,
    since_micros: i64,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select stream_id from highwater.stream s where stream_id <> $1 and table_database = $2 \
         and table_oid = $3::int8::oid and exists (select from highwater.task t \
         where t.stream_id = s.stream_id and t.state = 'C' and t.rows > 0 \
         and t.committed_at > timestamptz 'epoch' + $4 * interval '1 microsecond') limit 1",
    )
    .bind(stream)
    .bind(database)
    .bind(live)
    .bind(since_micros)
    .fetch_optional(conn)
    .await
}
