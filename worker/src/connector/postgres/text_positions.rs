//! Texts that are days or times: which one form the values of a source's column have, and the first
//! and the last of them. Never believes that all values have it: the server compares texts by their
//! bytes, so that any text has a place among them.

use highwater_common::assignment::ErrorClass;
use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::CursorForm;
use tokio::time::Instant;

use super::at_work::watched;
use super::errors::{classify, fault, is_state, permanent};
use super::ledger::SessionMark;
use super::other_sessions::own_mark;
use super::positions::Positions;
use super::probe::{EMPTY_PART, End, Probe, STATEMENT_TIMEOUT};
use crate::connector::position::{cursor, form_of, pattern, shape};
use crate::connector::sql_text::{Dialect, Sql};
use crate::connector::stored_slice::raw;
use crate::connector::{ConnectorError, SourceProbe, Value};

/// Letters of a text that are looked at: more than any form of a time has.
const LETTERS_MAX: i64 = 40;
/// Rows whose form is looked at where a step declares its bounds, so that nothing is looked for.
const SAMPLE_ROWS: i64 = 10_000;
const MICROS_PER_DAY: i128 = 86_400_000_000;

/// Appends the condition that a text of the column has the form, blanks at its end included, or
/// stands for an infinity.
pub(super) fn has_place(sql: Sql, column: &str, form: CursorForm) -> Sql {
    matches(sql, column, &format!("^({}|-?infinity)$", pattern(form)))
}

fn matches(sql: Sql, column: &str, pattern: &str) -> Sql {
    sql.name(column).text(" collate \"C\" ~ ").literal(pattern)
}

/// The beginning of a statement that reads values `v`, with the blanks that a type fills up with.
fn select_values() -> Sql {
    Sql::new(Dialect::Postgres, "select left(concat(v), ")
        .integer(LETTERS_MAX)
        .text(") from (select ")
}

impl Probe<'_> {
    /// The positions that a column of texts holds. A column without values holds days.
    ///
    /// # Errors
    /// Permanent `partition_form` when a value is found that has not the form of the others;
    /// without that value.
    pub(super) async fn text_positions(
        &mut self,
        asked: &SourceProbe,
        name: &str,
    ) -> Result<Positions, ConnectorError> {
        self.until = Instant::now() + self.endpoint.session().probe_timeout;
        let days = (CursorKind::Date, CursorForm::TextDate);
        let any = select_values()
            .name(name)
            .text(" as v from ")
            .relation(&asked.relation)
            .text(" where ")
            .name(name);
        let any = any.text(" collate \"C\" not in ('infinity', '-infinity') limit 1) s");
        let (kind, form) = match self.text(asked, any).await? {
            None => days,
            Some(first) => match form_of(&Value::Text(first.clone())) {
                Some(found) => found,
                None => return Err(self.no_form(asked, name, &first)),
            },
        };
        let values = select_values()
            .name(name)
            .text(" as v from ")
            .relation(&asked.relation)
            .text(" where ")
            .name(name);
        let values = values.text(" is not null");
        let values = if asked.bounds_declared {
            values.text(" limit ").integer(SAMPLE_ROWS)
        } else {
            values
        };
        let stray = has_place(values.text(") s where not ("), "v", form).text(") limit 1");
        match self.text(asked, stray).await? {
            None => Ok(Positions::of_text(kind, form)),
            Some(stray) => Err(self.no_form(asked, name, &stray)),
        }
    }

    /// One text; `None` where there is none, or it took too long to find.
    async fn text(
        &mut self,
        asked: &SourceProbe,
        sql: Sql,
    ) -> Result<Option<String>, ConnectorError> {
        self.limit_statement().await?;
        let found = sqlx::query_scalar::<_, String>(sql.into_statement()).persistent(false);
        match found.fetch_optional(&mut *self.conn).await {
            Ok(found) => Ok(found),
            Err(error) if is_state(&error, STATEMENT_TIMEOUT) => Ok(None),
            Err(error) => Err(classify(
                self.endpoint,
                &format!("look at the texts of {}", asked.relation),
                error,
            )),
        }
    }

    fn no_form(&self, asked: &SourceProbe, name: &str, text: &str) -> ConnectorError {
        let (table, endpoint, shape) = (&asked.relation, self.endpoint, shape(text));
        let message = format!(
            "column {name} of {table} on {endpoint} is text and holds one like '{shape}': a \
             partition column of text holds days of the calendar such as 2024-01-31, or times such \
             as 2024-01-31 05:00:00, in one form throughout. Bring it to one form, cut by another \
             column, or read a view that casts this one"
        );
        permanent(ErrorCode::PartitionForm, message)
    }

    /// The first or the last text of the form, as a position. Takes as long as it needs.
    pub(super) async fn text_bound(
        &mut self,
        asked: &SourceProbe,
        name: &str,
        positions: Positions,
        indexed: bool,
        end: End,
    ) -> Result<Option<Cursor>, ConnectorError> {
        let session = self.begin_bound(asked, name, indexed, end).await?;
        let values = select_values()
            .name(name)
            .text(" as v from ")
            .relation(&asked.relation)
            .text(" where ");
        let values = matches(values, name, &format!("^{}$", pattern(positions.form)))
            .text(" order by ")
            .name(name);
        let values = match end {
            End::First => values.text(" collate \"C\" limit 1) s"),
            End::Last => values.text(" collate \"C\" desc limit 1) s"),
        };
        let read = sqlx::query_scalar::<_, String>(values.into_statement()).persistent(false);
        let read = read.fetch_optional(&mut *self.conn);
        let Some(text) = watched(self.endpoint, session, self.doing, read)
            .await
            .map_err(|error| self.no_bound(asked, name, indexed, error))?
        else {
            return Ok(None);
        };
        let value = Value::Text(text);
        match (cursor(&value, positions.kind, positions.form), value) {
            (None, Value::Text(text)) => Err(self.no_form(asked, name, &text)),
            (found, _) => Ok(found),
        }
    }

    /// Prepares the session for a statement that reads a bound, says so, and gives the session.
    pub(super) async fn begin_bound(
        &mut self,
        asked: &SourceProbe,
        name: &str,
        indexed: bool,
        end: End,
    ) -> Result<SessionMark, ConnectorError> {
        let (table, end) = (&asked.relation, end.name());
        let how = match indexed {
            true => "",
            false => " by a full scan, no index leads with it",
        };
        let words = format!("reading the {end} of {name} in {table}{how}");
        tracing::info!("{words}");
        self.doing.say(words);
        self.until = Instant::now() + self.endpoint.session().statement_timeout;
        self.limit_statement().await?;
        own_mark(self.conn).await.map_err(|error| {
            let what = format!("read the bounds of {}", asked.relation);
            classify(self.endpoint, &what, error)
        })
    }

    /// Why a bound could not be read.
    pub(super) fn no_bound(
        &self,
        asked: &SourceProbe,
        name: &str,
        indexed: bool,
        error: sqlx::Error,
    ) -> ConnectorError {
        if !is_state(&error, STATEMENT_TIMEOUT) {
            return classify(
                self.endpoint,
                &format!("read the bounds of {}", asked.relation),
                error,
            );
        }
        let why = if indexed {
            "the server is too busy"
        } else {
            "no index leads with it; create one"
        };
        let message = format!(
            "the bounds of {name} in {} on {} could not be read within {} s: {why}",
            asked.relation,
            self.endpoint,
            self.endpoint.session().statement_timeout.as_secs()
        );
        fault(ErrorClass::Resource, ErrorCode::ProbeTimeout, message)
    }

    /// The widest stretches between two texts, where the rows are few for so long a time. Given up
    /// when it takes too long.
    pub(super) async fn empty_of_texts(
        &mut self,
        asked: &SourceProbe,
        name: &str,
        positions: Positions,
        rows: i64,
        bounds: Option<(Cursor, Cursor)>,
    ) -> Result<Vec<(Cursor, Cursor)>, ConnectorError> {
        let Some((min, max)) = bounds.map(|(min, max)| (raw(min), raw(max))) else {
            return Ok(Vec::new());
        };
        let per_day = if positions.kind == CursorKind::Date {
            1
        } else {
            MICROS_PER_DAY
        };
        let days = (i128::from(max) - i128::from(min)) / per_day;
        if days / i128::from(rows.max(1)) < 1 {
            return Ok(Vec::new());
        }
        self.limit_statement().await?;
        // Every month as long as the longest: the widest stretches are the widest all the same, and
        // no text fails to be a day.
        let sql = Sql::new(
            Dialect::Postgres,
            "select low, high from (select low, high, \
                (substr(high, 1, 4)::int8 - substr(low, 1, 4)::int8) * 372 + (substr(high, 6, \
                2)::int8 - substr(low, 6, 2)::int8) * 31 \
                + substr(high, 9, 2)::int8 - substr(low, 9, 2)::int8 as days \
                from (select v as low, lead(v) over (order by v) as high from (select concat(v) \
                collate \"C\" as v from (select ",
        );
        let sql = sql
            .name(name)
            .text(" as v from ")
            .relation(&asked.relation)
            .text(" where ");
        let sql = matches(sql, name, &format!("^{}$", pattern(positions.form)));
        let width = i64::try_from(days / EMPTY_PART).unwrap_or(i64::MAX);
        let sql = sql
            .text(") t) p) g) w where days > ")
            .integer(width)
            .text(" order by days desc limit 100");
        let found = sqlx::query_as::<_, (String, String)>(sql.into_statement()).persistent(false);
        let mut found = match found.fetch_all(&mut *self.conn).await {
            Ok(found) => found,
            Err(error) if is_state(&error, STATEMENT_TIMEOUT) => return Ok(Vec::new()),
            Err(error) => {
                return Err(classify(
                    self.endpoint,
                    &format!("look through {}", asked.relation),
                    error,
                ));
            }
        };
        found.sort_unstable();
        let at = |text: String| cursor(&Value::Text(text), positions.kind, positions.form);
        Ok(found
            .into_iter()
            .filter_map(|(low, high)| at(low).zip(at(high)))
            .collect())
    }
}
