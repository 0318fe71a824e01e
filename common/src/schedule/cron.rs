//! A cron expression: the minutes of a calendar that it names. Five fields, as `crontab` has them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time};
use serde::{Deserialize, Serialize};

/// The longest expression, in bytes.
const BYTES_MAX: usize = 256;

/// The minutes that an expression names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    days: Days,
    months: BTreeSet<i8>,
}

/// Which days of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Days {
    of_month: BTreeSet<i8>,
    /// From Sunday, which is 0.
    of_week: BTreeSet<i8>,
    /// Both are given, and a day need only fit one of them.
    is_either: bool,
}

/// Why a text is no cron expression, in words for the one who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

/// A field of an expression.
struct Field {
    what: &'static str,
    min: i8,
    max: i8,
    /// Names of its values, from `min` on.
    names: &'static [&'static str],
}

const MINUTE: Field = Field {
    what: "minute",
    min: 0,
    max: 59,
    names: &[],
};
const HOUR: Field = Field {
    what: "hour",
    min: 0,
    max: 23,
    names: &[],
};
const DAY: Field = Field {
    what: "day of the month",
    min: 1,
    max: 31,
    names: &[],
};
const MONTH: Field = Field {
    what: "month",
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
/// 7 is Sunday as well.
const WEEKDAY: Field = Field {
    what: "day of the week",
    min: 0,
    max: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Cron {
    /// Whether it names every hour of the days that it names.
    #[must_use]
    pub fn is_of_every_hour(&self) -> bool {
        self.hours.len() == 24
    }

    /// Whether it names the day.
    #[must_use]
    pub fn has_day(&self, day: Date) -> bool {
        let weekday = day.weekday().to_sunday_zero_offset();
        let of_month = self.days.of_month.contains(&day.day());
        let of_week = self.days.of_week.contains(&weekday);
        let fits = match self.days.is_either {
            true => of_month || of_week,
            false => of_month && of_week,
        };
        fits && self.months.contains(&day.month())
    }

    /// The hours of each day that it names, ascending: the beginnings of them.
    pub fn hours(&self) -> impl Iterator<Item = Time> {
        let hours = self.hours.iter();
        hours.filter_map(|hour| Time::new(*hour, 0, 0, 0).ok())
    }

    /// The times of an hour that it names, ascending.
    pub fn times(&self, hour: Time) -> impl Iterator<Item = Time> {
        let minutes = self.minutes.iter();
        minutes.filter_map(move |minute| Time::new(hour.hour(), *minute, 0, 0).ok())
    }

    /// Whether there is any day that it names: there is no 30 February.
    fn has_any_day(&self) -> bool {
        let fits = |month: &i8| {
            let last = match month {
                2 => 29,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            self.days.of_month.iter().any(|day| *day <= last)
        };
        self.days.is_either || self.months.iter().any(fits)
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        if text.len() > BYTES_MAX {
            return Err(error(
                format!("the expression is longer than {BYTES_MAX} bytes"),
                FORM,
            ));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(no_fields(&fields));
        };
        let of_month = DAY.read(day)?;
        let of_week = WEEKDAY.read(weekday)?;
        let of_week: BTreeSet<i8> = of_week.into_iter().map(|day| day.rem_euclid(7)).collect();
        let is_given = |field: &str| !field.starts_with('*');
        let read = Self {
            text: fields.join(" "),
            minutes: MINUTE.read(minute)?,
            hours: HOUR.read(hour)?,
            days: Days {
                of_month,
                of_week,
                is_either: is_given(day) && is_given(weekday),
            },
            months: MONTH.read(month)?,
        };
        if !read.has_any_day() {
            return Err(error(
                format!("`{}` names a day that no year has", read.text),
                "leave the days to the months: 0 6 28 2 *",
            ));
        }
        Ok(read)
    }
}

impl Field {
    /// The values that a field names: `*`, `5`, `1-5`, `*/15`, `10-30/5`, and several with commas
    /// between.
    fn read(&self, text: &str) -> Result<BTreeSet<i8>, CronError> {
        let mut values = BTreeSet::new();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step)?)),
                None => (part, None),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.min, self.max),
                Some((from, to)) => (self.value(from)?, self.value(to)?),
                // `5/15` is from 5 on, every 15.
                None if step.is_some() => (self.value(range)?, self.max),
                None => (self.value(range)?, self.value(range)?),
            };
            if from > to {
                return Err(error(
                    format!("`{part}` ends before it begins"),
                    "write two ranges with a comma between: 22-23,0-4",
                ));
            }
            values.extend((from..=to).step_by(step.unwrap_or(1)));
        }
        Ok(values)
    }

    fn value(&self, text: &str) -> Result<i8, CronError> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        if let Some(at) = named.and_then(|at| i8::try_from(at).ok()) {
            return Ok(self.min.saturating_add(at));
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = text.parse().ok().filter(|_| is_number);
        value
            .filter(|value| (self.min..=self.max).contains(value))
            .ok_or_else(|| {
                let names = match self.names {
                    [first, .., last] => format!(", or {first} to {last}"),
                    [..] => String::new(),
                };
                error(
                    format!("`{}` is no {}", shown(text), self.what),
                    format!("{} to {} are legal{names}", self.min, self.max),
                )
            })
    }

    fn step(&self, text: &str) -> Result<usize, CronError> {
        let step = text.parse().ok().filter(|step| *step >= 1);
        step.ok_or_else(|| {
            error(
                format!("`{}` is no step of a {}", shown(text), self.what),
                "write a whole number of 1 or more behind the slash: */15",
            )
        })
    }
}

const FORM: &str = "minute, hour, day of the month, month, day of the week: 15 * * * *";

fn no_fields(fields: &[&str]) -> CronError {
    let hint = match fields {
        ["@hourly"] => "write 0 * * * *",
        ["@daily" | "@midnight"] => "write 0 0 * * *",
        ["@weekly"] => "write 0 0 * * 0",
        ["@monthly"] => "write 0 0 1 * *",
        ["@yearly" | "@annually"] => "write 0 0 1 1 *",
        [_, _, _, _, _, _] => "seconds and years have no field here: 15 * * * *",
        [..] => FORM,
    };
    let count = fields.len();
    let fields = if count == 1 { "field" } else { "fields" };
    error(format!("{count} {fields}; five are needed"), hint)
}

fn error(message: impl Into<String>, hint: impl Into<String>) -> CronError {
    CronError {
        message: message.into(),
        hint: hint.into(),
    }
}

/// A part of what was written, short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(20).collect()
}

/// As it was written, with single spaces.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}
