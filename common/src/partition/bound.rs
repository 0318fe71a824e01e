//! Reads a bound as a user wrote it, once the partition column's kind is known.
//! Never guesses: a text that could mean two positions is refused, with the forms that mean one.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

use super::period::{self, to_date_cursor};
use super::zone::{UnknownZone, Zone};
use crate::cursor::{Cursor, CursorKind};
use crate::spec::Bound;

/// Why a text is no position of a column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// The text has none of the legal forms.
    #[error("`{text}` is not {}", forms(*kind))]
    Form {
        /// The text.
        text: String,
        /// What the column's positions are.
        kind: CursorKind,
    },
    /// The text has more digits than positions keep.
    #[error("`{text}` is finer than a microsecond")]
    TooFine {
        /// The text.
        text: String,
    },
    /// The zone is not known.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
}

/// The position that `bound` means in a column of `kind`. A day or a civil time on an instant
/// column is read in `tz`, at the first instant at which its clock gets there.
///
/// # Errors
/// [`BoundError`], which names the forms that are legal.
pub fn read_bound(bound: &Bound, kind: CursorKind, tz: &str) -> Result<Cursor, BoundError> {
    let text = bound.0.trim();
    let wrong = || BoundError::Form {
        text: text.to_owned(),
        kind,
    };
    let form = Form::of(text);
    match (kind, form) {
        (CursorKind::Integer, _) => text.parse().map(Cursor::Integer).map_err(|_| wrong()),
        (CursorKind::Instant, Some(Form::Zoned)) => {
            let at: Timestamp = text.parse().map_err(|_| wrong())?;
            whole_micros(text, at.subsec_nanosecond())?;
            Ok(Cursor::Instant(at.as_microsecond()))
        }
        (CursorKind::Instant, Some(Form::Day | Form::Civil)) => {
            let civil = read_civil(text)?.ok_or_else(wrong)?;
            Ok(Cursor::Instant(Zone::named(tz)?.reaches(civil)))
        }
        (CursorKind::Civil, Some(Form::Day | Form::Civil)) => {
            read_civil(text)?.map(Cursor::Civil).ok_or_else(wrong)
        }
        (CursorKind::Date, Some(Form::Day)) => {
            let day: Date = text.parse().map_err(|_| wrong())?;
            Ok(to_date_cursor(period::days_of(day)))
        }
        (CursorKind::Civil, Some(Form::Zoned))
        | (CursorKind::Date, Some(Form::Civil | Form::Zoned))
        | (CursorKind::Instant | CursorKind::Civil | CursorKind::Date, None)
        | (CursorKind::Placed(_), _) => Err(wrong()),
    }
}

/// The forms that are legal for a kind, for messages.
#[must_use]
pub const fn forms(kind: CursorKind) -> &'static str {
    match kind {
        CursorKind::Integer => "a whole number such as 1000000",
        CursorKind::Instant => {
            "a day such as 2013-01-01, a time such as 2013-01-01T05:00:00 (both on the clock of \
             the partition's `tz`), or an instant such as 2013-01-01T05:00:00Z or \
             2013-01-01T05:00:00+01:00"
        }
        CursorKind::Civil => {
            "a day such as 2013-01-01 or a time without a zone such as 2013-01-01T05:00:00"
        }
        CursorKind::Date => "a day such as 2013-01-01",
        CursorKind::Placed(_) => {
            "a position, which only the source can tell: name the task by its number"
        }
    }
}

/// What a text looks like.
#[derive(Clone, Copy)]
enum Form {
    Day,
    Civil,
    Zoned,
}

impl Form {
    /// The form of `YYYY-MM-DD`, alone or with a time behind a `T` or a space. The parsers of jiff
    /// are more lenient: they would read a day out of an instant and silently drop its zone.
    fn of(text: &str) -> Option<Self> {
        let (day, rest) = text.split_at_checked(10)?;
        let is_day = day.bytes().enumerate().all(|(at, b)| {
            if at == 4 || at == 7 {
                b == b'-'
            } else {
                b.is_ascii_digit()
            }
        });
        if !is_day {
            return None;
        }
        if rest.is_empty() {
            return Some(Self::Day);
        }
        let time = rest.strip_prefix(['T', 't', ' '])?;
        let is_time =
            |b: u8| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'+' | b'-' | b'Z' | b'z');
        if time.is_empty() || !time.bytes().all(is_time) {
            return None;
        }
        Some(if time.contains(['Z', 'z', '+', '-']) {
            Self::Zoned
        } else {
            Self::Civil
        })
    }
}

fn read_civil(text: &str) -> Result<Option<i64>, BoundError> {
    let Ok(at) = text.parse::<DateTime>() else {
        return Ok(None);
    };
    whole_micros(text, at.subsec_nanosecond())?;
    Ok(Some(period::micros(at)))
}

fn whole_micros(text: &str, nanoseconds: i32) -> Result<(), BoundError> {
    if nanoseconds % 1_000 == 0 {
        Ok(())
    } else {
        Err(BoundError::TooFine {
            text: text.to_owned(),
        })
    }
}
