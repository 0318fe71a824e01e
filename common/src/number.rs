//! Numbers as people read them.

use std::time::Duration;

/// A whole number with its thousands apart: `1,307,911,204`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (left, digit) in (1..=digits.len()).rev().zip(digits.chars()) {
        if left < digits.len() && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// About so many: `180`, `50 k`, `2.1 M`, `1.31 B`.
#[must_use]
pub fn about(number: f64) -> String {
    scaled(number, 1000.0, &["", " k", " M", " B", " T"])
}

/// A size: `61 MiB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    size(to_f64(number))
}

fn size(number: f64) -> String {
    scaled(
        number,
        1024.0,
        &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"],
    )
}

/// Rows and bytes a second: `342 k rows/s · 61 MiB/s`.
#[must_use]
pub fn rate(rows_per_second: f64, bytes_per_second: f64) -> String {
    format!(
        "{} rows/s · {}/s",
        about(rows_per_second),
        size(bytes_per_second)
    )
}

/// A time: `0.4 s`, `38 s`, `3 m 20 s`, `58 m`, `1 h 07 m`, `2 d 03 h`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", (time.as_secs_f64() * 10.0).floor() / 10.0),
        10..60 => format!("{seconds} s"),
        60..600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        600..3600 => format!("{} m", seconds / 60),
        3600..86_400 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        86_400.. => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn scaled(number: f64, base: f64, units: &[&str]) -> String {
    let mut value = number.max(0.0);
    let mut units = units.iter().copied();
    let mut unit = units.next().unwrap_or_default();
    let mut is_whole = true;
    // 999.5 would be rounded to a thousand of the smaller unit.
    while value >= base - 0.5
        && let Some(larger) = units.next()
    {
        value /= base;
        (unit, is_whole) = (larger, false);
    }
    let decimals = if is_whole || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let digits = format!("{value:.decimals$}");
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        &digits
    };
    format!("{digits}{unit}")
}

/// Rounds beyond 2⁵³, where nobody reads single rows.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rounded figure is what is wanted"
)]
#[must_use]
pub fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_every_digit() {
        assert_eq!(
            [0, 999, 1_000, 27_004, 1_307_911_204].map(count),
            ["0", "999", "1,000", "27,004", "1,307,911,204"]
        );
    }

    #[test]
    fn estimates_keep_three_digits_at_most() {
        assert_eq!(
            [
                0.0,
                180.0,
                999.4,
                999.6,
                50_000.0,
                342_111.0,
                2_100_000.0,
                1_310_000_000.0
            ]
            .map(about),
            ["0", "180", "999", "1 k", "50 k", "342 k", "2.1 M", "1.31 B"]
        );
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(
            [0, 1023, 1024, 61 << 20, 246 << 30].map(bytes),
            ["0 B", "1023 B", "1 KiB", "61 MiB", "246 GiB"]
        );
    }

    #[test]
    fn times_lose_detail_as_they_grow() {
        let millis = [
            0,
            420,
            5_290,
            9_999,
            38_000,
            200_000,
            3_480_000,
            4_020_000,
            183_600_000,
        ];
        assert_eq!(
            millis.map(|millis| duration(Duration::from_millis(millis))),
            [
                "0.0 s", "0.4 s", "5.2 s", "9.9 s", "38 s", "3 m 20 s", "58 m", "1 h 07 m",
                "2 d 03 h"
            ]
        );
    }
}
