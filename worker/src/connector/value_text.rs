//! Typed values to and from PostgreSQL's text forms.
//! Never rounds, cuts or guesses: a value that has no exact form in its column is refused by the column's name.

use highwater_common::facts::{ColumnFacts, ColumnKind};

use super::Value;
use super::copy_text::{encode_field, encode_null};

/// Why a value has no form in a column. Never tells the value itself, which may be anybody's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// PostgreSQL's text cannot hold it.
    #[error("column {column} holds a text with a NUL character, which PostgreSQL's text cannot hold")]
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
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NulInText { .. } => "nul_in_text",
            Self::NotBoolean { .. } => "not_boolean",
            Self::BytesInText { .. } => "bytes_in_text",
            Self::NumberInBytes { .. } => "number_in_bytes",
            Self::NumberInTime { .. } => "number_in_time",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::NotHex { .. } => "not_hex",
        }
    }
}

/// Appends `value` as a field of a text COPY line for `column` of the target.
///
/// # Errors
/// [`ValueError`] when the value has no exact form there.
pub fn encode_value(value: &Value, column: &ColumnFacts, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let name = || column.name.clone();
    match value {
        Value::Null => encode_null(out),
        Value::Integer(number) => match (column.kind, number) {
            (ColumnKind::Bool, 0) => out.push(b'f'),
            (ColumnKind::Bool, 1) => out.push(b't'),
            (ColumnKind::Bool, _) => return Err(ValueError::NotBoolean { column: name() }),
            (ColumnKind::Bytes, _) => return Err(ValueError::NumberInBytes { column: name() }),
            (ColumnKind::Date | ColumnKind::Time | ColumnKind::Civil | ColumnKind::Instant, _) => {
                return Err(ValueError::NumberInTime { column: name() });
            }
            (_, number) => out.extend_from_slice(number.to_string().as_bytes()),
        },
        Value::Real(number) => match column.kind {
            ColumnKind::Bool => return Err(ValueError::NotBoolean { column: name() }),
            ColumnKind::Bytes => return Err(ValueError::NumberInBytes { column: name() }),
            ColumnKind::Date | ColumnKind::Time | ColumnKind::Civil | ColumnKind::Instant => {
                return Err(ValueError::NumberInTime { column: name() });
            }
            ColumnKind::Text | ColumnKind::Any | ColumnKind::Other | ColumnKind::Json => {
                out.extend_from_slice(format!("{number:?}").as_bytes());
            }
            ColumnKind::Int16
            | ColumnKind::Int32
            | ColumnKind::Int64
            | ColumnKind::Float32
            | ColumnKind::Float64
            | ColumnKind::Numeric
            | ColumnKind::Uuid => out.extend_from_slice(real_text(*number).as_bytes()),
        },
        Value::Text(text) if column.kind == ColumnKind::Bytes => encode_hex(text.as_bytes(), out),
        Value::Text(text) if text.contains('\0') => return Err(ValueError::NulInText { column: name() }),
        Value::Text(text) => encode_field(text.as_bytes(), out),
        Value::Bytes(bytes) if column.kind == ColumnKind::Bytes => encode_hex(bytes, out),
        Value::Bytes(_) => {
            return Err(ValueError::BytesInText { column: name(), type_name: column.type_name.clone() });
        }
    }
    Ok(())
}

/// The value of a field of a text COPY line. Bytes are decoded; everything else stays the server's own text.
///
/// # Errors
/// [`ValueError`] when the field is not what the column's kind writes.
pub fn decode_value(field: Option<Vec<u8>>, column: &ColumnFacts) -> Result<Value, ValueError> {
    let Some(field) = field else { return Ok(Value::Null) };
    if column.kind == ColumnKind::Bytes {
        return decode_hex(&field).map(Value::Bytes).ok_or_else(|| ValueError::NotHex { column: column.name.clone() });
    }
    String::from_utf8(field).map(Value::Text).map_err(|_| ValueError::NotUtf8 { column: column.name.clone() })
}

/// The shortest digits that read back as the same double, in words that PostgreSQL reads.
fn real_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
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
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::copy_text::decode_row;
    use super::*;

    fn column(kind: ColumnKind) -> ColumnFacts {
        ColumnFacts { name: "c".into(), type_name: "t".into(), kind, nullable: true, binary_portable: false }
    }

    fn through(value: &Value, kind: ColumnKind) -> Result<Value, ValueError> {
        let mut line = Vec::new();
        encode_value(value, &column(kind), &mut line)?;
        let mut fields = decode_row(&line).expect("a good line");
        decode_value(fields.remove(0), &column(kind))
    }

    proptest! {
        #[test]
        fn texts_and_bytes_come_back_as_they_were(text in "[^\0]*", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(through(&Value::Text(text.clone()), ColumnKind::Text), Ok(Value::Text(text)));
            prop_assert_eq!(through(&Value::Bytes(bytes.clone()), ColumnKind::Bytes), Ok(Value::Bytes(bytes)));
        }

        #[test]
        fn doubles_come_back_to_the_last_bit(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            let Ok(Value::Text(text)) = through(&Value::Real(number), ColumnKind::Float64) else { panic!("text") };
            let back: f64 = text.parse().expect("a number");
            prop_assert!(back == number || (back.is_nan() && number.is_nan()));
        }
    }

    #[test]
    fn what_has_no_exact_form_is_refused_by_its_columns_name() {
        assert_eq!(through(&Value::Integer(1), ColumnKind::Bool), Ok(Value::Text("t".into())));
        let refused = [
            (Value::Integer(2), ColumnKind::Bool, "not_boolean"),
            (Value::Text("a\0b".into()), ColumnKind::Text, "nul_in_text"),
            (Value::Bytes(vec![1]), ColumnKind::Text, "bytes_in_text"),
            (Value::Integer(1), ColumnKind::Bytes, "number_in_bytes"),
            (Value::Integer(20130101), ColumnKind::Date, "number_in_time"),
        ];
        for (value, kind, code) in refused {
            let error = through(&value, kind).expect_err("refused");
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains("column c"));
        }
    }
}
