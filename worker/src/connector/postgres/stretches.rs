//! Stretches without a row in a column that an index leads with, however many rows there are: from row
//! to row in wide steps, each of which asks the index twice.

use highwater_common::cursor::Cursor;
use highwater_common::range::{CursorRange, Slice};
use tokio::time::Instant;

use super::errors::{classify, is_state};
use super::positions::Positions;
use super::probe::{Probe, STATEMENT_TIMEOUT};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::stored_slice::cursor;
use crate::connector::{ConnectorError, SourceProbe};

/// No stretch is told that is narrower than this part of all.
const PARTS: i128 = 100;

/// Which of the rows on a side of a position.
#[derive(Clone, Copy)]
enum Side {
    /// The last one before it.
    Before,
    /// The first one at or behind it.
    Behind,
}

impl Probe<'_> {
    /// The stretches, ascending, each from the row before it to the row behind it. What takes longer
    /// than the probe has time for is not looked for: a stretch that is not told costs empty tasks.
    pub(super) async fn empty_by_index(
        &mut self,
        asked: &SourceProbe,
        name: &str,
        positions: Positions,
        (min, max): (i64, i64),
    ) -> Result<Vec<(Cursor, Cursor)>, ConnectorError> {
        let span = i128::from(max) - i128::from(min);
        let width = span / PARTS;
        let mut found = Vec::new();
        if width < positions.spacing() {
            return Ok(found);
        }
        let mut at = min;
        while Instant::now() < self.until {
            // Every wider stretch holds the end of a step that begins at the last row before it.
            let Ok(end) = i64::try_from(i128::from(at) + width) else {
                break;
            };
            if end > max {
                break;
            }
            let Some(high) = self
                .row(asked, name, positions, (end, Side::Behind))
                .await?
            else {
                break;
            };
            if high > end
                && let Some(low) = self
                    .row(asked, name, positions, (end, Side::Before))
                    .await?
                && i128::from(high) - i128::from(low) > width
                && let (Some(low), Some(high)) =
                    (cursor(positions.kind, low), cursor(positions.kind, high))
            {
                found.push((low, high));
            }
            at = high;
        }
        Ok(found)
    }

    /// The position of a row beside another position; `None` too when that takes too long.
    async fn row(
        &mut self,
        asked: &SourceProbe,
        name: &str,
        positions: Positions,
        (at, side): (i64, Side),
    ) -> Result<Option<i64>, ConnectorError> {
        let Some(at) = cursor(positions.kind, at) else {
            return Ok(None);
        };
        let range = match side {
            Side::Before => CursorRange::new(None, Some(at)),
            Side::Behind => CursorRange::new(Some(at), None),
        };
        let Ok(range) = range else { return Ok(None) };
        self.limit_statement().await?;
        let sql = Sql::new(Dialect::Postgres, "select ")
            .text(positions.raw())
            .text(" from (select ")
            .name(name)
            .text(" as v from ")
            .relation(&asked.relation)
            .text(" where ")
            .slice(name, positions.form, &Slice::Range(range))
            .text(" and ")
            .name(name)
            .text(positions.finite())
            .text(" order by 1")
            .text(match side {
                Side::Before => " desc",
                Side::Behind => "",
            })
            .text(" limit 1) b");
        let read = sqlx::query_scalar(sql.into_statement())
            .persistent(false)
            .fetch_optional(&mut *self.conn);
        match read.await {
            Ok(found) => Ok(found),
            Err(error) if is_state(&error, STATEMENT_TIMEOUT) => Ok(None),
            Err(error) => {
                let what = format!("look through {}", asked.relation);
                Err(classify(self.endpoint, &what, error))
            }
        }
    }
}
