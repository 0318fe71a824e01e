//! Positions of the partition column as text and numbers that stand for times: which form a
//! column's values have, and how a bound is written so that the order of the stored values is the
//! order of the positions. Never performs I/O, and never reads a text generously: one of an unknown
//! form has no position.

use highwater_common::cursor::{Cursor, CursorKind};
use highwater_common::facts::CursorForm;
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{Offset, TimeZone};

use super::Value;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Sorts before every date.
const BEFORE_ALL: &str = "";
/// Sorts behind every date with a year of four digits.
const BEHIND_ALL: &str = ":";
/// How PostgreSQL ends the text of an instant in a session of UTC.
const UTC_SUFFIX: &str = "+00";

/// A bound as the server compares it with the column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bound {
    /// A whole number.
    Integer(i64),
    /// Text, compared by its bytes.
    Text(String),
}

/// The bound of `cursor`: a value of the column is at or behind it exactly when the server,
/// comparing text by its bytes, says `value >= bound`.
pub(super) fn bound(cursor: Cursor, form: CursorForm) -> Bound {
    let micros = match cursor {
        Cursor::Integer(value) | Cursor::Placed(_, value) => return Bound::Integer(value),
        Cursor::Instant(micros) | Cursor::Civil(micros) => micros,
        Cursor::Date(days) => i64::from(days).saturating_mul(MICROS_PER_DAY),
    };
    match form {
        // A value that the form cannot write lies between two that it can: the one above is the
        // first behind the bound.
        CursorForm::EpochSeconds => {
            Bound::Integer(ceil(micros, MICROS_PER_SECOND) / MICROS_PER_SECOND)
        }
        CursorForm::EpochMillis => Bound::Integer(ceil(micros, 1_000) / 1_000),
        CursorForm::TextDate => Bound::Text(date_text(ceil(micros, MICROS_PER_DAY))),
        CursorForm::TextTime {
            separator_t,
            fraction_digits,
            zulu,
        } => Bound::Text(time_text(micros, separator_t, fraction_digits, zulu)),
        CursorForm::Native | CursorForm::Oid => match cursor.kind() {
            CursorKind::Date => Bound::Text(date_text(micros)),
            CursorKind::Integer
            | CursorKind::Instant
            | CursorKind::Civil
            | CursorKind::Placed(_) => Bound::Text(time_text(micros, false, 0, false)),
        },
    }
}

/// The position of a value, or `None` when it is not of the form.
pub(super) fn cursor(value: &Value, kind: CursorKind, form: CursorForm) -> Option<Cursor> {
    match (value, form) {
        (Value::Integer(value), CursorForm::Native) => {
            (kind == CursorKind::Integer).then_some(Cursor::Integer(*value))
        }
        (Value::Integer(value), CursorForm::EpochSeconds) => {
            Some(Cursor::Instant(value.checked_mul(MICROS_PER_SECOND)?))
        }
        (Value::Integer(value), CursorForm::EpochMillis) => {
            Some(Cursor::Instant(value.checked_mul(1_000)?))
        }
        (Value::Text(text), CursorForm::TextDate) => Some(Cursor::date(civil_of(text)?.date())),
        (Value::Text(text), CursorForm::TextTime { .. }) => {
            let at = civil_of(text.strip_suffix(UTC_SUFFIX).unwrap_or(text))?;
            match kind {
                CursorKind::Instant => Offset::UTC.to_timestamp(at).ok().map(Cursor::instant),
                CursorKind::Civil => Some(Cursor::civil(at)),
                CursorKind::Integer | CursorKind::Date | CursorKind::Placed(_) => None,
            }
        }
        (
            Value::Null
            | Value::Integer(_)
            | Value::Real(_)
            | Value::Text(_)
            | Value::RawText(_)
            | Value::Bytes(_),
            _,
        ) => None,
    }
}

/// The form of one value: what all values of its column must then have.
pub(super) fn form_of(value: &Value) -> Option<(CursorKind, CursorForm)> {
    let text = match value {
        Value::Integer(_) => return Some((CursorKind::Integer, CursorForm::Native)),
        Value::Text(text) => text,
        Value::Null | Value::Real(_) | Value::RawText(_) | Value::Bytes(_) => return None,
    };
    civil_of(text)?;
    if text.len() == 10 {
        return Some((CursorKind::Date, CursorForm::TextDate));
    }
    let (body, zulu) = text
        .strip_suffix('Z')
        .map_or((text.as_str(), false), |body| (body, true));
    let fraction_digits = u8::try_from(body.len().saturating_sub(20)).ok()?;
    let form = CursorForm::TextTime {
        separator_t: text.as_bytes()[10] == b'T',
        fraction_digits,
        zulu,
    };
    Some((
        if zulu {
            CursorKind::Instant
        } else {
            CursorKind::Civil
        },
        form,
    ))
}

/// The regular expression of all texts of a form of days or times, as PostgreSQL reads it. A day of
/// it may be none of its month.
pub(super) fn pattern(form: CursorForm) -> String {
    let day = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
    match form {
        CursorForm::TextTime {
            separator_t,
            fraction_digits,
            zulu,
        } => {
            let separator = if separator_t { 'T' } else { ' ' };
            let fraction = if fraction_digits > 0 {
                format!("[.][0-9]{{{fraction_digits}}}")
            } else {
                String::new()
            };
            let end = if zulu { "Z" } else { "" };
            format!("{day}{separator}([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]{fraction}{end}")
        }
        CursorForm::Native
        | CursorForm::Oid
        | CursorForm::TextDate
        | CursorForm::EpochSeconds
        | CursorForm::EpochMillis => day.to_owned(),
    }
}

/// What a text looks like, without what it says: `99.99.9999`.
pub(super) fn shape(text: &str) -> String {
    const LETTERS_MAX: usize = 40;
    let letter = |letter: char| match letter {
        '0'..='9' => '9',
        letter if letter.is_ascii_punctuation() || letter == ' ' => letter,
        _ => 'x',
    };
    text.chars().take(LETTERS_MAX).map(letter).collect()
}

/// The form of a time as PostgreSQL writes it: as many digits of a fraction as it needs, and for an
/// instant `+00`. Where all values of a column are written so, their text has the order of their
/// times, although its length differs.
pub(super) fn free_form_of(value: &Value) -> Option<(CursorKind, CursorForm)> {
    let text = match value {
        Value::Text(text) => text,
        Value::Null | Value::Integer(_) | Value::Real(_) | Value::RawText(_) | Value::Bytes(_) => {
            return None;
        }
    };
    let (body, kind) = match text.strip_suffix(UTC_SUFFIX) {
        Some(body) => (body, CursorKind::Instant),
        None => (text.as_str(), CursorKind::Civil),
    };
    civil_of(body)?;
    let is_free = body.len() >= 19 && body.as_bytes()[10] == b' ' && !body.ends_with('Z');
    is_free.then_some((
        kind,
        CursorForm::TextTime {
            separator_t: false,
            fraction_digits: 0,
            zulu: false,
        },
    ))
}

/// The one form that all of some values have; infinities, which lie in the open ends of every form
/// of text, have none of their own.
///
/// # Errors
/// The first value that has not the form of those before it.
pub(super) fn common_form(values: &[Value]) -> Result<Option<(CursorKind, CursorForm)>, &Value> {
    let finite = || {
        values
            .iter()
            .filter(|value| **value != Value::Null && !is_infinite(value))
    };
    let Some(first) = finite().next() else {
        return Ok(None);
    };
    let stray = |of: fn(&Value) -> Option<(CursorKind, CursorForm)>| match of(first) {
        None => Some(first),
        form => finite().find(|value| of(value) != form),
    };
    match (stray(form_of), stray(free_form_of)) {
        (None, _) => Ok(form_of(first)),
        (Some(_), None) => Ok(free_form_of(first)),
        (Some(stray), Some(_)) => Err(stray),
    }
}

/// True for PostgreSQL's words for the time before, or after, all others.
pub(super) fn is_infinite(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text == "infinity" || text == "-infinity")
}

/// The unit of an integer column that holds times: `None` when the values are plausible as neither.
pub(super) fn epoch_form(min: i64, max: i64) -> Option<CursorForm> {
    // Seconds up to the year 5138; milliseconds from 1973 to 5138.
    const EDGE: i64 = 100_000_000_000;
    if -EDGE < min && max < EDGE {
        Some(CursorForm::EpochSeconds)
    } else if EDGE <= min && max < EDGE * 1_000 {
        Some(CursorForm::EpochMillis)
    } else {
        None
    }
}

/// True for whole numbers that read as days written with digits alone, `20240305` or `240305`: both
/// ends of such a column do. As seconds they would all lie in the first years after 1970, which
/// nobody means by them.
pub(super) fn are_digits_of_days(min: i64, max: i64) -> bool {
    let is_day = |value: i64| {
        let (year, month, day) = (value / 10_000, value / 100 % 100, value % 100);
        let as_small = |number: i64| i8::try_from(number).unwrap_or(0);
        let is_year = i16::try_from(year).is_ok_and(|year| {
            let year = if year < 100 { year + 2000 } else { year };
            civil::Date::new(year, as_small(month), as_small(day)).is_ok()
        });
        value > 0 && is_year
    };
    let digits = |value: i64| value.checked_ilog10();
    is_day(min) && is_day(max) && digits(max).is_some_and(|digits| digits <= 7)
}

fn ceil(micros: i64, unit: i64) -> i64 {
    let down = micros.div_euclid(unit) * unit;
    if down == micros {
        micros
    } else {
        down.saturating_add(unit)
    }
}

fn date_text(micros: i64) -> String {
    match written(micros) {
        Ok(at) => format!("{:04}-{:02}-{:02}", at.year(), at.month(), at.day()),
        Err(outside) => outside.to_owned(),
    }
}

fn time_text(micros: i64, separator_t: bool, fraction_digits: u8, zulu: bool) -> String {
    let fraction_digits = usize::from(fraction_digits);
    // A `Z` sorts behind a point: there a finer bound must be the next value that the form can
    // write.
    let micros = if zulu && fraction_digits < 6 {
        ceil(
            micros,
            10_i64.pow(u32::try_from(6 - fraction_digits).unwrap_or(0)),
        )
    } else {
        micros
    };
    let at = match written(micros) {
        Ok(at) => at,
        Err(outside) => return outside.to_owned(),
    };
    let separator = if separator_t { 'T' } else { ' ' };
    let mut text = format!(
        "{}{separator}{:02}:{:02}:{:02}",
        date_text(micros),
        at.hour(),
        at.minute(),
        at.second()
    );
    let fraction = format!("{:09}", at.subsec_nanosecond());
    let needed = fraction.trim_end_matches('0').len();
    let digits = needed.max(fraction_digits).min(9);
    if digits > 0 {
        text.push('.');
        text.push_str(&fraction[..digits]);
    }
    if zulu {
        text.push('Z');
    }
    text
}

/// The civil time of `micros`, or the text that sorts where it would, when its year has no four
/// digits.
fn written(micros: i64) -> Result<civil::DateTime, &'static str> {
    let outside = if micros < 0 { BEFORE_ALL } else { BEHIND_ALL };
    let at = Timestamp::from_microsecond(micros).map_err(|_| outside)?;
    let at = TimeZone::UTC.to_datetime(at);
    if (0..=9_999).contains(&at.year()) {
        Ok(at)
    } else {
        Err(outside)
    }
}

/// The civil time that ISO 8601 text says, fraction cut to the microsecond; a trailing `Z` is
/// allowed.
fn civil_of(text: &str) -> Option<civil::DateTime> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = i16::try_from(number(&text[0..4])?).ok()?;
    let date = civil::Date::new(year, small(&text[5..7])?, small(&text[8..10])?).ok()?;
    if bytes.len() == 10 {
        return Some(date.at(0, 0, 0, 0));
    }
    if bytes.len() < 19
        || !matches!(bytes[10], b' ' | b'T')
        || bytes[13] != b':'
        || bytes[16] != b':'
    {
        return None;
    }
    let rest = text[19..].strip_suffix('Z').unwrap_or(&text[19..]);
    let nanos = match rest.strip_prefix('.') {
        None if rest.is_empty() => 0,
        Some(digits) if (1..=9).contains(&digits.len()) => number(&format!("{digits:0<9}"))?,
        None | Some(_) => return None,
    };
    civil::DateTime::new(
        date.year(),
        date.month(),
        date.day(),
        small(&text[11..13])?,
        small(&text[14..16])?,
        small(&text[17..19])?,
        i32::try_from(nanos).ok()?,
    )
    .ok()
}

fn number(digits: &str) -> Option<u32> {
    if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

fn small(digits: &str) -> Option<i8> {
    number(digits).and_then(|number| i8::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn time(separator_t: bool, fraction_digits: u8, zulu: bool) -> CursorForm {
        CursorForm::TextTime {
            separator_t,
            fraction_digits,
            zulu,
        }
    }

    #[test]
    fn one_value_tells_the_form_of_its_column() {
        assert_eq!(
            form_of(&text("2013-01-01")),
            Some((CursorKind::Date, CursorForm::TextDate))
        );
        assert_eq!(
            form_of(&text("2013-01-01 05:00:00")),
            Some((CursorKind::Civil, time(false, 0, false)))
        );
        assert_eq!(
            form_of(&text("2013-01-01T05:00:00.123Z")),
            Some((CursorKind::Instant, time(true, 3, true)))
        );
        for not_one in [
            "2013-13-01",
            "2013-01-01 05:00",
            "2013-01-01T05:00:00+02:00",
            "01.02.2013",
            "2013-01-01 05:00:00.",
        ] {
            assert_eq!(form_of(&text(not_one)), None, "{not_one}");
        }
    }

    #[test]
    fn the_text_of_postgres_is_one_form_however_long_its_fraction() {
        let free = |kind| Ok(Some((kind, time(false, 0, false))));
        let instants = [
            "infinity",
            "2013-01-01 10:00:00+00",
            "2013-01-01 10:00:00.25+00",
        ]
        .map(text);
        assert_eq!(common_form(&instants), free(CursorKind::Instant));
        let civil = ["2013-01-01 10:00:00.25", "2013-01-01 10:00:00"].map(text);
        assert_eq!(common_form(&civil), free(CursorKind::Civil));
        let mixed = ["2013-01-01 10:00:00.25", "2013-01-01 10:00:00+00"].map(text);
        assert_eq!(common_form(&mixed), Err(&mixed[1]));
        assert_eq!(common_form(&["infinity", "-infinity"].map(text)), Ok(None));
        let at = cursor(&instants[1], CursorKind::Instant, time(false, 0, false));
        assert_eq!(
            at.map(|at| at.to_string()).as_deref(),
            Some("2013-01-01T10:00:00Z")
        );
    }

    #[test]
    fn integers_are_seconds_or_milliseconds_throughout_or_neither() {
        assert_eq!(epoch_form(0, 1_700_000_000), Some(CursorForm::EpochSeconds));
        assert_eq!(
            epoch_form(1_300_000_000_000, 1_700_000_000_000),
            Some(CursorForm::EpochMillis)
        );
        assert_eq!(epoch_form(1_700_000_000, 1_700_000_000_000), None);
    }

    #[test]
    fn days_written_with_digits_alone_are_no_seconds() {
        assert!(are_digits_of_days(20_240_301, 20_240_328));
        assert!(are_digits_of_days(180_303, 180_331));
        assert!(!are_digits_of_days(0, 20_240_328));
        assert!(!are_digits_of_days(20_240_301, 20_241_328));
        assert!(!are_digits_of_days(1_700_000_000, 1_700_086_400));
        assert!(!are_digits_of_days(i64::MIN, i64::MAX));
    }

    #[test]
    fn years_without_four_digits_lie_before_or_behind_all_text() {
        assert_eq!(
            bound(Cursor::Date(i32::MAX), CursorForm::TextDate),
            Bound::Text(BEHIND_ALL.to_owned())
        );
        assert_eq!(
            bound(Cursor::Civil(i64::MIN), time(false, 0, false)),
            Bound::Text(BEFORE_ALL.to_owned())
        );
    }

    proptest! {
        /// The promise of `bound`, for every form: text order, or integer order, is the order of
        /// positions.
        #[test]
        fn a_bound_parts_the_values_of_its_form_as_their_positions_do(
            value in -60_000_000_000_i64..4_000_000_000, // seconds
            fraction in 0_i64..1_000_000,
            offset in -2_000_000_i64..2_000_000,
            form in prop_oneof![
                Just(CursorForm::TextDate), Just(CursorForm::EpochSeconds), Just(CursorForm::EpochMillis),
                Just(time(false, 0, false)), Just(time(true, 3, false)), Just(time(true, 6, false)),
                Just(time(true, 0, true)), Just(time(true, 3, true)), Just(time(true, 6, true)), Just(time(true, 9, true)),
            ],
        ) {
            // GIVEN a value that the form can write, and a bound near it that it may not be able to
            // write
            let unit = match form {
                CursorForm::TextDate => MICROS_PER_DAY,
                CursorForm::EpochSeconds => MICROS_PER_SECOND,
                CursorForm::EpochMillis => 1_000,
                CursorForm::TextTime { fraction_digits, .. } => 10_i64.pow(6 - u32::from(fraction_digits.min(6))),
                CursorForm::Native | CursorForm::Oid => unreachable!("not among the forms"),
            };
            let micros = (value * MICROS_PER_SECOND + fraction).div_euclid(unit) * unit;
            let at = micros + offset;
            // WHEN both are written
            let (written, limit) = (bound(Cursor::Instant(micros), form), bound(Cursor::Instant(at), form));
            // THEN SQLite's comparison says what the positions say
            let behind = match (&written, &limit) {
                (Bound::Integer(value), Bound::Integer(limit)) => value >= limit,
                (Bound::Text(value), Bound::Text(limit)) => value.as_bytes() >= limit.as_bytes(),
                _ => unreachable!("one form, one class"),
            };
            prop_assert_eq!(behind, micros >= at, "{:?} {:?}", written, limit);
        }
    }
}
