//! What a column of PostgreSQL makes of a value without a word: rounds it, cuts it, fills it up.
//! Such a value is refused here; what the server refuses aloud is left to it.

use highwater_common::facts::{ColumnFacts, ColumnKind};

/// Bytes that the server keeps of a `name`.
const NAME_BYTES_MAX: usize = 63;

/// A column as values are written for it, known before the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnForm {
    /// The name, for messages.
    pub(super) name: String,
    /// The type, for messages.
    pub(super) type_name: String,
    pub(super) kind: ColumnKind,
    /// Whether a time of the column has a zone.
    pub(super) is_zoned: bool,
    /// Whether it is an interval, which takes a number for seconds.
    pub(super) is_interval: bool,
    limit: Limit,
}

/// What the type limits in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    /// Digits behind the point of a decimal, which it rounds to; negative where it rounds whole
    /// numbers, too.
    Scale(i64),
    /// Digits behind the point of a time's seconds.
    Fraction(i64),
    /// Letters, of which it cuts blanks.
    Letters(u64),
    /// Letters, up to which it fills up with blanks.
    Padded(u64),
    /// Bytes, of which it cuts all others.
    Bytes(usize),
    /// Whole numbers without a sign, which it reads negative ones as.
    Unsigned,
}

impl ColumnForm {
    /// The form of a column. A domain has the one of the type below it.
    #[must_use]
    pub fn of(column: &ColumnFacts) -> Self {
        let definition = column.type_definition();
        let base = definition.built_in_name().unwrap_or_default();
        let first = definition.numbers().first().copied();
        let letters = first.and_then(|letters| u64::try_from(letters).ok());
        let limit = match (column.kind, base) {
            (ColumnKind::Numeric, _) if first.is_some() => {
                Limit::Scale(definition.numbers().get(1).copied().unwrap_or_default())
            }
            (ColumnKind::Time | ColumnKind::Civil | ColumnKind::Instant, _) => {
                first.map_or(Limit::None, Limit::Fraction)
            }
            (ColumnKind::Text, "name") => Limit::Bytes(NAME_BYTES_MAX),
            (ColumnKind::Text, "character") => letters.map_or(Limit::None, Limit::Padded),
            (ColumnKind::Text, _) => letters.map_or(Limit::None, Limit::Letters),
            (_, "\"char\"") => Limit::Bytes(1),
            (_, "oid" | "xid" | "cid") => Limit::Unsigned,
            _ => Limit::None,
        };
        Self {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            kind: column.kind,
            is_zoned: base.ends_with("with time zone"),
            is_interval: base == "interval",
            limit,
        }
    }

    /// Whether the column keeps all of a text that stands for a value of its type.
    pub(super) fn keeps(&self, text: &str) -> bool {
        let letters = || u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        match self.limit {
            Limit::None => true,
            Limit::Scale(scale) => digits_behind(text).is_none_or(|digits| digits <= scale),
            Limit::Fraction(most) => fraction(text) <= most,
            Limit::Letters(most) => letters() <= most,
            Limit::Padded(all) => letters() == all,
            Limit::Bytes(most) => text.len() <= most,
            Limit::Unsigned => !text.contains('-'),
        }
    }
}

/// How many digits a decimal has behind its point at least, however it is written; negative when it
/// ends in zeros before the point. `None` for what is no decimal, of which the server knows more
/// forms, and for zero.
fn digits_behind(text: &str) -> Option<i64> {
    let text = text.trim().trim_start_matches(['+', '-']);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = whole
        .chars()
        .chain(behind.chars())
        .filter(|c| *c != '_')
        .collect();
    let significant = digits.trim_end_matches('0');
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || significant.is_empty() {
        return None;
    }
    let behind = i64::try_from(behind.chars().filter(|c| *c != '_').count()).ok()?;
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    behind.checked_sub(zeros)?.checked_sub(exponent)
}

/// Digits behind the point of a time's seconds, without the zeros at their end.
fn fraction(text: &str) -> i64 {
    let behind = text.split_once('.').map_or("", |(_, behind)| behind);
    let digits: &str = behind
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    i64::try_from(digits.trim_end_matches('0').len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(type_name: &str, kind: ColumnKind) -> ColumnForm {
        let (name, type_name) = ("c".to_owned(), type_name.to_owned());
        ColumnForm::of(&ColumnFacts {
            name,
            type_name,
            kind,
            nullable: true,
            binary_portable: true,
            definition: None,
            origin: None,
        })
    }

    #[test]
    fn what_a_type_would_change_in_silence_it_does_not_keep() {
        for (type_name, kind, kept, changed) in [
            (
                "numeric(10,2)",
                ColumnKind::Numeric,
                &["1230.99", "100", "0.10", "1e3", "12300e-2", "NaN", "0.000"][..],
                &["0.001", "1e-3"][..],
            ),
            (
                "numeric(5,-2)",
                ColumnKind::Numeric,
                &["1200", "12e2", "0"],
                &["1210", "0.5"],
            ),
            ("numeric", ColumnKind::Numeric, &["0.000000001"], &[]),
            (
                "timestamp(3) without time zone",
                ColumnKind::Civil,
                &["2024-01-01 10:00:00.120000", "infinity"],
                &["2024-01-01 10:00:00.1234"],
            ),
            (
                "time(0) with time zone",
                ColumnKind::Time,
                &["10:00:00+02"],
                &["10:00:00.5+02"],
            ),
            (
                "character varying(3)",
                ColumnKind::Text,
                &["abc", "é😀", ""],
                &["abc ", "abcd"],
            ),
            (
                "character(3)",
                ColumnKind::Text,
                &["abc", "é😀 "],
                &["ab", ""],
            ),
            (
                "name",
                ColumnKind::Text,
                &["abc"],
                &["é-é-é-é-é-é-é-é-é-é-é-é-é-é-é-é-é-é-é-é-é-é"],
            ),
            ("\"char\"", ColumnKind::Other, &["a", ""], &["ab"]),
            (
                "oid",
                ColumnKind::Int64,
                &["0", "4294967295"],
                &["-1", " -0x1"],
            ),
            ("text", ColumnKind::Text, &["anything at all"], &[]),
        ] {
            let form = form(type_name, kind);
            for text in kept {
                assert!(form.keeps(text), "{text} in {type_name}");
            }
            for text in changed {
                assert!(!form.keeps(text), "{text} in {type_name}");
            }
        }
    }
}
