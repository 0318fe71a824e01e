use proptest::prelude::*;

use super::super::copy_text::decode_row;
use super::*;

fn column(kind: ColumnKind) -> ColumnFacts {
    ColumnFacts {
        name: "c".into(),
        type_name: "t".into(),
        kind,
        nullable: true,
        binary_portable: false,
        definition: None,
        origin: None,
    }
}

fn through(value: &Value, kind: ColumnKind) -> Result<Value, ValueError> {
    let mut line = Vec::new();
    encode_value(value, &ColumnForm::of(&column(kind)), &mut line)?;
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
    assert_eq!(
        through(&Value::Integer(1), ColumnKind::Bool),
        Ok(Value::Text("t".into()))
    );
    let refused = [
        (Value::Integer(2), ColumnKind::Bool, "not_boolean"),
        (Value::Text("a\0b".into()), ColumnKind::Text, "nul_in_text"),
        (Value::Bytes(vec![1]), ColumnKind::Text, "bytes_in_text"),
        (Value::RawText(vec![255]), ColumnKind::Text, "not_utf8"),
        (Value::Integer(1), ColumnKind::Bytes, "number_in_bytes"),
        (Value::Integer(20130101), ColumnKind::Date, "number_in_time"),
        (Value::Text("0x10".into()), ColumnKind::Int64, "not_whole"),
        (Value::Text("-".into()), ColumnKind::Int64, "not_whole"),
        (Value::Real(2.5), ColumnKind::Int32, "not_whole"),
        (
            Value::Text("0.10000000000000000001".into()),
            ColumnKind::Float64,
            "not_real",
        ),
        (
            Value::Text("16777217".into()),
            ColumnKind::Float32,
            "not_real",
        ),
        (Value::Text("one".into()), ColumnKind::Float64, "not_real"),
        (
            Value::Integer((1 << 53) + 1),
            ColumnKind::Float64,
            "not_real",
        ),
        (
            Value::Integer((1 << 24) + 1),
            ColumnKind::Float32,
            "not_real",
        ),
        (Value::Real(0.1), ColumnKind::Float32, "not_real"),
        (Value::Text("now".into()), ColumnKind::Instant, "not_time"),
        (
            Value::Text("2013-01-01 10:00:00".into()),
            ColumnKind::Date,
            "not_time",
        ),
        (
            Value::Text("2013-01-01 10:00:00+02".into()),
            ColumnKind::Civil,
            "not_time",
        ),
        (
            Value::Text("2013-01-01 10:00:00.1234567".into()),
            ColumnKind::Civil,
            "not_time",
        ),
        (
            Value::Text("10:00:00 BC".into()),
            ColumnKind::Time,
            "not_time",
        ),
    ];
    for (value, kind, code) in refused {
        let error = through(&value, kind).expect_err("refused");
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains("column c"));
    }
    for (text, kind) in [
        ("-12", ColumnKind::Int64),
        ("-0.10", ColumnKind::Float64),
        ("1.6777216e+07", ColumnKind::Float32),
        ("5e-324", ColumnKind::Float64),
        ("NaN", ColumnKind::Float64),
        ("2013-01-01", ColumnKind::Date),
        ("2013-01-01T10:00:00.123456Z", ColumnKind::Instant),
        ("2013-01-01 10:00:00+05:30", ColumnKind::Instant),
        ("2013-01-01 10:00", ColumnKind::Civil),
        ("0044-03-15 12:00:00 BC", ColumnKind::Civil),
        ("infinity", ColumnKind::Civil),
        ("23:59:59.5", ColumnKind::Time),
    ] {
        assert_eq!(
            through(&Value::Text(text.into()), kind),
            Ok(Value::Text(text.into()))
        );
    }
}
