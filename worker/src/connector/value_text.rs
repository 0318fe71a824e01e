//! Typed values to and from PostgreSQL's text forms. Never rounds, cuts or guesses: a value that
//! has no exact form in its column is refused by the column's name.

use std::borrow::Cow;

use highwater_common::error_code::ErrorCode;
use highwater_common::facts::{ColumnFacts, ColumnKind};

use super::Value;
use super::column_form::ColumnForm;
use super::copy_text::{encode_field, encode_null};

/// Why a value has no form in a column. Never tells the value itself, which may be anybody's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// PostgreSQL's text cannot hold it.
    #[error(
        "column {column} holds a text with a NUL character, which PostgreSQL's text cannot hold"
    )]
    NulInText {
        /// The column.
        column: String,
    },
    /// Neither 0 nor 1.
    #[error("column {column} is boolean, and a row holds a number that is neither 0 nor 1")]
    NotBoolean {
        /// The column.
        column: String,
    },
    /// Bytes where none can be.
    #[error("column {column} is of type {type_name}, and a row holds bytes")]
    BytesInText {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
    /// A number where bytes are.
    #[error("column {column} holds bytes, and a row holds a number")]
    NumberInBytes {
        /// The column.
        column: String,
    },
    /// A number where a time is: seconds, milliseconds and `20130101` all look alike.
    #[error("column {column} holds times, and a row holds a number")]
    NumberInTime {
        /// The column.
        column: String,
    },
    /// A value that a column of whole numbers could only take changed.
    #[error(
        "column {column} is of type {type_name}, and a row holds something else than a whole number"
    )]
    NotWhole {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
    /// A value that a column of doubles could only take rounded, or not at all.
    #[error(
        "column {column} is of type {type_name}, and a row holds text, or a number that it \
             would round"
    )]
    NotReal {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
    /// Text that the server would read as a time after its own fashion: `now`, a zone dropped,
    /// digits rounded.
    #[error(
        "column {column} is of type {type_name}, and a row holds a text that is not a time of that \
         type in ISO 8601"
    )]
    NotTime {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
    /// A value that the column would round, cut or fill up.
    #[error(
        "column {column} is of type {type_name}, and a row holds a value that it would round, cut \
         or fill up in silence"
    )]
    Changed {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
    /// Text that is no text.
    #[error("column {column} holds bytes that are no UTF-8 text")]
    NotUtf8 {
        /// The column.
        column: String,
    },
    /// Bytes whose text form is none.
    #[error("column {column} holds bytes that are not written in hexadecimal")]
    NotHex {
        /// The column.
        column: String,
    },
}

impl ValueError {
    /// The short stable name.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NulInText { .. } => ErrorCode::NulInText,
            Self::NotBoolean { .. } => ErrorCode::NotBoolean,
            Self::BytesInText { .. } => ErrorCode::BytesInText,
            Self::NumberInBytes { .. } => ErrorCode::NumberInBytes,
            Self::NumberInTime { .. } => ErrorCode::NumberInTime,
            Self::NotWhole { .. } => ErrorCode::NotWhole,
            Self::NotReal { .. } => ErrorCode::NotReal,
            Self::NotTime { .. } => ErrorCode::NotTime,
            Self::Changed { .. } => ErrorCode::ValueChanged,
            Self::NotUtf8 { .. } => ErrorCode::NotUtf8,
            Self::NotHex { .. } => ErrorCode::NotHex,
        }
    }
}

/// Appends `value` as a field of a text COPY line for `column` of the target.
///
/// # Errors
/// [`ValueError`] when the value has no exact form there.
pub fn encode_value(
    value: &Value,
    column: &ColumnForm,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let name = || column.name.clone();
    let text = match value {
        Value::Null => {
            encode_null(out);
            return Ok(());
        }
        Value::Text(text) if column.kind == ColumnKind::Bytes => {
            encode_hex(text.as_bytes(), out);
            return Ok(());
        }
        Value::Bytes(bytes) | Value::RawText(bytes) if column.kind == ColumnKind::Bytes => {
            encode_hex(bytes, out);
            return Ok(());
        }
        Value::RawText(_) => return Err(ValueError::NotUtf8 { column: name() }),
        Value::Bytes(_) => {
            return Err(ValueError::BytesInText {
                column: name(),
                type_name: column.type_name.clone(),
            });
        }
        Value::Text(text) if text.contains('\0') => {
            return Err(ValueError::NulInText { column: name() });
        }
        Value::Integer(number) => Cow::Owned(integer_text(*number, column)?),
        Value::Real(number) => Cow::Owned(real_text_for(*number, column)?),
        Value::Text(text) => {
            check_text(text, column)?;
            Cow::Borrowed(text.as_str())
        }
    };
    if !column.keeps(&text) {
        return Err(ValueError::Changed {
            column: name(),
            type_name: column.type_name.clone(),
        });
    }
    encode_field(text.as_bytes(), out);
    Ok(())
}

fn integer_text(number: i64, column: &ColumnForm) -> Result<String, ValueError> {
    let (name, type_name) = (|| column.name.clone(), || column.type_name.clone());
    // Beyond so many bits a float keeps some whole numbers and rounds the others.
    let float_bits = match column.kind {
        ColumnKind::Float32 => f32::MANTISSA_DIGITS,
        _ => f64::MANTISSA_DIGITS,
    };
    match column.kind {
        ColumnKind::Bool => match number {
            0 => Ok("f".to_owned()),
            1 => Ok("t".to_owned()),
            _ => Err(ValueError::NotBoolean { column: name() }),
        },
        ColumnKind::Bytes => Err(ValueError::NumberInBytes { column: name() }),
        ColumnKind::Date | ColumnKind::Time | ColumnKind::Civil | ColumnKind::Instant => {
            Err(ValueError::NumberInTime { column: name() })
        }
        ColumnKind::Other if column.is_interval => Err(ValueError::NumberInTime { column: name() }),
        ColumnKind::Float32 | ColumnKind::Float64 if number.unsigned_abs() > 1 << float_bits => {
            Err(ValueError::NotReal {
                column: name(),
                type_name: type_name(),
            })
        }
        ColumnKind::Int16
        | ColumnKind::Int32
        | ColumnKind::Int64
        | ColumnKind::Float32
        | ColumnKind::Float64
        | ColumnKind::Numeric
        | ColumnKind::Text
        | ColumnKind::Uuid
        | ColumnKind::Json
        | ColumnKind::Other
        | ColumnKind::Any => Ok(number.to_string()),
    }
}

fn real_text_for(number: f64, column: &ColumnForm) -> Result<String, ValueError> {
    let (name, type_name) = (|| column.name.clone(), || column.type_name.clone());
    match column.kind {
        ColumnKind::Bool => Err(ValueError::NotBoolean { column: name() }),
        ColumnKind::Bytes => Err(ValueError::NumberInBytes { column: name() }),
        ColumnKind::Date | ColumnKind::Time | ColumnKind::Civil | ColumnKind::Instant => {
            Err(ValueError::NumberInTime { column: name() })
        }
        ColumnKind::Other if column.is_interval => Err(ValueError::NumberInTime { column: name() }),
        ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => Err(ValueError::NotWhole {
            column: name(),
            type_name: type_name(),
        }),
        ColumnKind::Text | ColumnKind::Any | ColumnKind::Other | ColumnKind::Json => {
            Ok(format!("{number:?}"))
        }
        ColumnKind::Float32 if !is_single(number) => Err(ValueError::NotReal {
            column: name(),
            type_name: type_name(),
        }),
        ColumnKind::Float32 | ColumnKind::Float64 | ColumnKind::Numeric | ColumnKind::Uuid => {
            Ok(real_text(number))
        }
    }
}

/// Whether a double is a single, too.
fn is_single(number: f64) -> bool {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whether anything is cut is the question"
    )]
    let single = number as f32;
    number.is_nan() || f64::from(single).to_bits() == number.to_bits()
}

/// Refuses texts that the server would take and change: what it refuses itself is left to it.
fn check_text(text: &str, column: &ColumnForm) -> Result<(), ValueError> {
    let (name, type_name) = (|| column.name.clone(), || column.type_name.clone());
    match column.kind {
        ColumnKind::Int16 | ColumnKind::Int32 | ColumnKind::Int64 => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(ValueError::NotWhole {
                    column: name(),
                    type_name: type_name(),
                });
            }
        }
        ColumnKind::Float32 | ColumnKind::Float64 => {
            let shortest = match column.kind {
                ColumnKind::Float32 => text.parse::<f32>().map(|number| format!("{number:e}")),
                _ => text.parse::<f64>().map(|number| format!("{number:e}")),
            };
            let is_kept = shortest.is_ok_and(|shortest| digits_of(&shortest) == digits_of(text));
            if !is_kept && !matches!(text, "NaN" | "Infinity" | "-Infinity") {
                return Err(ValueError::NotReal {
                    column: name(),
                    type_name: type_name(),
                });
            }
        }
        ColumnKind::Date | ColumnKind::Civil | ColumnKind::Instant | ColumnKind::Time => {
            let is_it = iso_shape(text).is_some_and(|shape| match column.kind {
                ColumnKind::Date => {
                    shape
                        == Shape {
                            date: true,
                            time: false,
                            zone: false,
                        }
                }
                ColumnKind::Time => !shape.date && shape.zone == column.is_zoned,
                ColumnKind::Instant => shape.date,
                _ => shape.date && !shape.zone,
            });
            if !is_it && !matches!(text, "infinity" | "-infinity") {
                return Err(ValueError::NotTime {
                    column: name(),
                    type_name: type_name(),
                });
            }
        }
        ColumnKind::Bool
        | ColumnKind::Numeric
        | ColumnKind::Text
        | ColumnKind::Bytes
        | ColumnKind::Uuid
        | ColumnKind::Json
        | ColumnKind::Other
        | ColumnKind::Any => {}
    }
    Ok(())
}

/// The digits of a number's text without sign, point, exponent and the zeros at both ends: what
/// rounding would change.
fn digits_of(text: &str) -> String {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}

/// What a text in ISO 8601 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    date: bool,
    time: bool,
    zone: bool,
}

/// The shape of `[year-month-day][ |T][hour:minute[:second[.at most six
/// digits]]][Z|+hour[:minute]][ BC]`, as PostgreSQL writes it itself. Whether the day exists is the
/// server's to say.
fn iso_shape(text: &str) -> Option<Shape> {
    if let Some(text) = text.strip_suffix(" BC") {
        return iso_shape(text).filter(|shape| shape.date);
    }
    let is_digits = |text: &str, min: usize, max: usize| {
        (min..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_date = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        matches!(parts[..], [year, month, day] if is_digits(year, 4, 7) && is_digits(month, 2, 2) && is_digits(day, 2, 2))
    };
    let (date, rest) = match text.find([' ', 'T']) {
        Some(at) if is_date(&text[..at]) => (true, &text[at + 1..]),
        None if is_date(text) => {
            return Some(Shape {
                date: true,
                time: false,
                zone: false,
            });
        }
        None => (false, text),
        Some(_) => return None,
    };
    let (clock, zone) = match rest.find(['Z', '+', '-']) {
        None => (rest, false),
        Some(at) if &rest[at..] == "Z" => (&rest[..at], true),
        Some(at) => {
            let mut parts = rest[at + 1..].split(':');
            let is_zone = parts.clone().count() <= 2
                && parts.all(|part| is_digits(part, 2, 2) || is_digits(part, 4, 4));
            (is_zone.then_some(&rest[..at])?, true)
        }
    };
    let (clock, fraction) = clock
        .split_once('.')
        .map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let parts: Vec<&str> = clock.split(':').collect();
    let is_clock = (2..=3).contains(&parts.len()) && parts.iter().all(|part| is_digits(part, 2, 2));
    let is_fraction = fraction.is_none_or(|digits| parts.len() == 3 && is_digits(digits, 1, 6));
    (is_clock && is_fraction).then_some(Shape {
        date,
        time: true,
        zone,
    })
}

/// The value of a field of a text COPY line. Bytes are decoded; everything else stays the server's
/// own text.
///
/// # Errors
/// [`ValueError`] when the field is not what the column's kind writes.
pub fn decode_value(field: Option<Vec<u8>>, column: &ColumnFacts) -> Result<Value, ValueError> {
    let Some(field) = field else {
        return Ok(Value::Null);
    };
    if column.kind == ColumnKind::Bytes {
        return decode_hex(&field)
            .map(Value::Bytes)
            .ok_or_else(|| ValueError::NotHex {
                column: column.name.clone(),
            });
    }
    String::from_utf8(field)
        .map(Value::Text)
        .map_err(|_| ValueError::NotUtf8 {
            column: column.name.clone(),
        })
}

/// The shortest digits that read back as the same double, in words that PostgreSQL reads.
fn real_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 {
            "Infinity".to_owned()
        } else {
            "-Infinity".to_owned()
        }
    } else {
        number.to_string()
    }
}

fn encode_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // The backslash of `\x` is doubled, as COPY wants it.
    out.extend_from_slice(b"\\\\x");
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn decode_hex(field: &[u8]) -> Option<Vec<u8>> {
    let digits = field.strip_prefix(b"\\x")?;
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests;
