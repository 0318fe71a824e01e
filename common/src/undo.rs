//! Whether the table before an exchange may come back: which one it is, and what stands in its way.

use crate::error_code::ErrorCode;
use crate::id::RunId;

/// A table that left its place to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Which table it is, whatever its name.
    pub identity: &'a str,
    /// The run that let the other one take its place.
    pub run: RunId,
    /// The stream of that run.
    pub stream: &'a str,
    /// Since when it is kept, by the server's clock.
    pub since_micros: i64,
}

/// What there is to do for a run that is to undo the latest exchange of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo<'a> {
    /// The run has done it already: it is this table that it has taken away.
    Done(&'a Kept<'a>),
    /// This table is to come back.
    Bring(&'a Kept<'a>),
}

/// Why the table before cannot come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// None is kept.
    NoneKept,
    /// The table that is read is not the one that the exchange put there.
    Remade,
    /// Another stream has written the table since, or has exchanged it.
    WrittenBy(String),
}

/// Which of the tables that are kept for one that is read comes back to `stream`: the latest, and
/// only where its own exchange was the last one.
///
/// # Errors
/// [`Refused`], where none may come back.
pub fn undo<'a>(kept: &'a [Kept<'a>], stream: &str, run: &RunId) -> Result<Undo<'a>, Refused> {
    let latest = kept.iter().max_by_key(|one| one.since_micros);
    let latest = latest.ok_or(Refused::NoneKept)?;
    if !kept.iter().any(|one| one.stream == stream) {
        return Err(Refused::NoneKept);
    }
    if latest.stream != stream {
        return Err(Refused::WrittenBy(latest.stream.to_owned()));
    }
    Ok(match latest.run == *run {
        true => Undo::Done(latest),
        false => Undo::Bring(latest),
    })
}

impl Refused {
    /// The code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoneKept => ErrorCode::NothingToUndo,
            Self::Remade => ErrorCode::TargetReplaced,
            Self::WrittenBy(_) => ErrorCode::WrittenSince,
        }
    }

    /// What a person is told: what, where, why, and the ways on.
    #[must_use]
    pub fn message(&self, table: &str, place: &str) -> String {
        match self {
            Self::NoneKept => format!(
                "no table that was read as {table} on {place} before is kept for this step: no run \
                 of it has exchanged one yet, or it was dropped since; load what the table is to \
                 hold by a new run"
            ),
            Self::Remade => format!(
                "{table} on {place} is another table than the one that the step put there: \
                 somebody made it anew, and what is kept is not the table before it. Nothing was \
                 touched; exchange them by hand, or load what the table is to hold by a new run"
            ),
            Self::WrittenBy(stream) => format!(
                "{stream} has written {table} on {place} since this step exchanged it, and its \
                 rows would go away with the table that is read. Nothing was touched; load what \
                 the table is to hold by a new run, or, if it was exchanged by the other step, \
                 undo that first"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "shop/orders/legacy:orders/orders";

    fn kept(run: u8, stream: &str, since_micros: i64) -> Kept<'_> {
        Kept {
            identity: "17",
            run: RunId::from_bytes([run; 16]),
            stream,
            since_micros,
        }
    }

    #[test]
    fn the_latest_of_the_streams_own_comes_back_and_a_run_undoes_once() {
        let run = RunId::from_bytes([9; 16]);
        let [older, own, theirs] = [
            kept(1, STREAM, 10),
            kept(2, STREAM, 20),
            kept(3, "shop/other/a:b/orders", 30),
        ];
        let none: [Kept<'_>; 0] = [];
        assert_eq!(undo(&none, STREAM, &run), Err(Refused::NoneKept));
        assert_eq!(undo(&[theirs], STREAM, &run), Err(Refused::NoneKept));
        assert_eq!(undo(&[own, older], STREAM, &run), Ok(Undo::Bring(&own)));
        assert_eq!(undo(&[own], STREAM, &own.run), Ok(Undo::Done(&own)));
        let by = Refused::WrittenBy(theirs.stream.to_owned());
        assert_eq!(undo(&[own, theirs, older], STREAM, &run), Err(by));
    }

    #[test]
    fn whoever_is_refused_is_told_what_where_and_the_way_on() {
        for refused in [
            Refused::NoneKept,
            Refused::Remade,
            Refused::WrittenBy(STREAM.to_owned()),
        ] {
            let message = refused.message("public.orders", "warehouse");
            for words in ["public.orders on warehouse", "by a new run"] {
                assert!(message.contains(words), "{message}");
            }
        }
    }
}
