use proptest::prelude::*;

use super::*;

fn converted(value: Value, conversion: Conversion, affinity: Affinity) -> Result<Stored, Problem> {
    convert(
        value,
        &Column {
            name: "c".to_owned(),
            conversion,
            affinity,
        },
    )
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn text_becomes_what_its_kind_says() {
    let kept = |text: &str| Ok(Stored::Text(text.to_owned()));
    for (value, conversion, affinity, expected) in [
        (
            text("-5"),
            Conversion::Integer,
            Affinity::Integer,
            Ok(Stored::Integer(-5)),
        ),
        (
            text("1e3"),
            Conversion::Real,
            Affinity::Real,
            Ok(Stored::Real(1000.0)),
        ),
        (
            text("-Infinity"),
            Conversion::Real,
            Affinity::Real,
            Ok(Stored::Real(f64::NEG_INFINITY)),
        ),
        (
            text("t"),
            Conversion::Bool,
            Affinity::Numeric,
            Ok(Stored::Integer(1)),
        ),
        (
            text("0012.50"),
            Conversion::Text,
            Affinity::Text,
            kept("0012.50"),
        ),
        (
            text("2024-01-01 00:00:00+00"),
            Conversion::Text,
            Affinity::Numeric,
            kept("2024-01-01 00:00:00+00"),
        ),
        (
            text("abc"),
            Conversion::Integer,
            Affinity::Integer,
            kept("abc"),
        ),
        (
            text("0.10"),
            Conversion::Decimal,
            Affinity::Text,
            kept("0.10"),
        ),
        (
            text("0.50"),
            Conversion::Decimal,
            Affinity::Numeric,
            Ok(Stored::Real(0.5)),
        ),
        (
            text("12.00"),
            Conversion::Decimal,
            Affinity::Numeric,
            Ok(Stored::Integer(12)),
        ),
        (
            text("NaN"),
            Conversion::Decimal,
            Affinity::Numeric,
            kept("NaN"),
        ),
        (
            Value::Bytes(vec![0]),
            Conversion::Text,
            Affinity::Integer,
            Ok(Stored::Bytes(vec![0])),
        ),
    ] {
        let shown = format!("{value:?} into {affinity:?}");
        assert_eq!(converted(value, conversion, affinity), expected, "{shown}");
    }
}

#[test]
fn what_a_columns_affinity_would_change_is_refused() {
    for (value, conversion, affinity) in [
        (text("0012.50"), Conversion::Text, Affinity::Numeric),
        (text(" 7 "), Conversion::Text, Affinity::Real),
        (text("0.10"), Conversion::Decimal, Affinity::Numeric),
        (
            text("9007199254740993"),
            Conversion::Integer,
            Affinity::Real,
        ),
        (text("1.5"), Conversion::Real, Affinity::Text),
        (text("NaN"), Conversion::Real, Affinity::Real),
        (Value::Real(0.1), Conversion::Text, Affinity::Text),
    ] {
        let shown = format!("{value:?} into {affinity:?}");
        let problem = converted(value, conversion, affinity).expect_err(&shown);
        assert_eq!(problem.code, "value_does_not_fit");
    }
}

proptest! {
    #[test]
    fn a_decimal_is_stored_as_a_number_only_if_it_is_that_number(
        digits in any::<i64>(), scale in 0_usize..25, dyadic in any::<bool>(), numerator in any::<i32>(), shift in 0_u32..30,
    ) {
        let text = if dyadic {
            format!("{:.40}", f64::from(numerator) / f64::from(1_u32 << shift))
        } else {
            let all = format!("{:0width$}", digits.unsigned_abs(), width = scale + 1);
            let (whole, behind) = all.split_at(all.len() - scale);
            format!("{}{whole}{}{behind}", if digits < 0 { "-" } else { "" }, if scale > 0 { "." } else { "" })
        };
        match exact_number(&text) {
            Some(Stored::Integer(number)) => {
                let (whole, behind) = text.split_once('.').unwrap_or((&text, ""));
                prop_assert!(behind.bytes().all(|byte| byte == b'0') && whole.parse() == Ok(number));
            }
            // A thousand digits are all of a double.
            Some(Stored::Real(number)) => {
                let exact = format!("{number:.1100}");
                prop_assert_eq!(exact.trim_end_matches('0'), text.trim_end_matches('0'));
            }
            other => {
                prop_assert_eq!(other, None);
                prop_assert!(!dyadic || text.len() > 38, "{}", text);
            }
        }
    }

    #[test]
    fn what_rust_reads_as_a_finite_number_sqlite_may_too(text in "[ \
        +-]?[0-9]{0,3}[.]?[0-9]{0,3}([eE][+-]?[0-9]{0,2})?") {
        if text.trim().parse::<f64>().is_ok() {
            prop_assert!(reads_as_number(&text), "{}", text);
        }
    }
}
