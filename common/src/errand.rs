//! What a plan's probes do to targets before they look: a person's word about the ledger, carried
//! out by whoever reaches the target.

use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::cursor::{Cursor, CursorKind};
use crate::id::{RunId, StepName};
use crate::partition::{BoundError, read_bound};
use crate::range::{CursorRange, Slice};
use crate::spec::Bound;
use crate::window::StoredWatermark;

/// What is asked of the ledger of a step's target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// What it holds, of one step or of all.
    Show {
        /// The step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
    },
    /// To void receipts: they stay, and count as coverage no longer.
    Forget(Forget),
    /// To let the table before the latest exchange be read again.
    Undo(Undo),
    /// What ended runs have left beside the tables that are read; perhaps it is dropped.
    Clean(Clean),
    /// To put a watermark elsewhere, or take it away.
    PlaceWatermark(PlaceWatermark),
    /// Where the steps stand that follow a log, one or all of them.
    Standing {
        /// The step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
    },
    /// To let a step that follows a log begin it anew, with a new copy of its table.
    Resync(Resync),
}

/// Whose log begins anew, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    /// The step.
    pub step: StepName,
    /// Why; it is kept with the receipts that are voided.
    pub reason: String,
}

/// Where a step's watermark is to stand, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceWatermark {
    /// The step.
    pub step: StepName,
    /// The first position that the next window reads, as a person wrote it; without it the next
    /// window begins at the first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Bound>,
    /// Why; it is kept with the run that does it.
    pub reason: String,
}

/// What is looked for beside the tables that are read, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clean {
    /// The step; of every step when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// Whether the tables that have been read before are meant, too.
    #[serde(default)]
    pub kept: bool,
    /// Whether they are dropped, and not only looked for.
    #[serde(default)]
    pub drops: bool,
}

/// Whose exchange is undone, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The step.
    pub step: StepName,
    /// Why; it is kept with the receipts that are voided.
    pub reason: String,
}

/// Which receipts are to be voided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The step.
    pub step: StepName,
    /// Only those from this position on, as a person wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Bound>,
    /// Only those below this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Bound>,
    /// Why; it is kept with them.
    pub reason: String,
}

impl Errand {
    /// The longest reason that a ledger keeps, in bytes.
    pub const REASON_BYTES_MAX: usize = 1024;

    /// As JSON, which is how it is stored and sent.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an errand is made of names and texts, which JSON can hold")
    }

    /// The errand of this JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }

    /// Whether it is about this step.
    #[must_use]
    pub fn is_about(&self, name: &StepName) -> bool {
        match self {
            Self::Show { step } | Self::Standing { step } | Self::Clean(Clean { step, .. }) => {
                step.as_ref().is_none_or(|step| step == name)
            }
            Self::Forget(Forget { step, .. })
            | Self::Resync(Resync { step, .. })
            | Self::Undo(Undo { step, .. })
            | Self::PlaceWatermark(PlaceWatermark { step, .. }) => step == name,
        }
    }

    /// Whether it takes back what runs of the pipeline have loaded: none may be under way meanwhile.
    #[must_use]
    pub const fn takes_back(&self) -> bool {
        match self {
            Self::Show { .. } | Self::Standing { .. } => false,
            Self::Forget(_) | Self::Undo(_) | Self::PlaceWatermark(_) | Self::Resync(_) => true,
            Self::Clean(clean) => clean.drops,
        }
    }

    /// The verb by which it is asked and recorded.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Show { .. } => "coverage",
            Self::Forget(_) => "coverage forget",
            Self::Undo(_) => "swap undo",
            Self::Clean(_) => "swap clean",
            Self::PlaceWatermark(_) => "watermarks",
            Self::Standing { .. } => "cdc status",
            Self::Resync(_) => "cdc resync",
        }
    }

    /// Why, where a person has to say it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Show { .. } | Self::Standing { .. } | Self::Clean(_) => None,
            Self::Forget(Forget { reason, .. })
            | Self::Resync(Resync { reason, .. })
            | Self::Undo(Undo { reason, .. })
            | Self::PlaceWatermark(PlaceWatermark { reason, .. }) => Some(reason),
        }
    }
}

impl Forget {
    /// The range that is meant, in a column of `kind`; `None` when all is meant, the NULL rows too.
    ///
    /// # Errors
    /// [`BoundError`] for a text that is no position of such a column, and the words for an empty
    /// range.
    pub fn range(&self, kind: CursorKind, tz: &str) -> Result<Option<CursorRange>, String> {
        let read = |bound: &Option<Bound>| -> Result<Option<Cursor>, BoundError> {
            bound
                .as_ref()
                .map(|bound| read_bound(bound, kind, tz))
                .transpose()
        };
        let (from, to) = (read(&self.from), read(&self.to));
        match (
            from.map_err(|error| error.to_string())?,
            to.map_err(|error| error.to_string())?,
        ) {
            (None, None) => Ok(None),
            (from, to) => CursorRange::new(from, to)
                .map(Some)
                .map_err(|error| error.to_string()),
        }
    }
}

/// What becomes of a stream's receipts, told one by one: how many are voided, or which one stands
/// in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetPlan {
    /// What is meant; `None` for everything.
    pub range: Option<CursorRange>,
}

impl ForgetPlan {
    /// What `forget` means, given the receipts that there are.
    ///
    /// # Errors
    /// The words for a person: a bound that is none, or a receipt of which only a part is meant.
    pub fn of(forget: &Forget, tz: &str, receipts: &[Slice]) -> Result<Self, String> {
        if forget.from.is_none() && forget.to.is_none() {
            return Ok(Self { range: None });
        }
        let mut kinds = receipts.iter().filter_map(|slice| match slice {
            Slice::Range(range) => range.kind(),
            Slice::Null => None,
        });
        let Some(kind) = kinds.next() else {
            return Err(
                "no receipt of the step has a position that --from or --to could mean: leave them \
                 out"
                .to_owned(),
            );
        };
        if kinds.any(|other| other != kind) {
            return Err(
                "the step has receipts of several kinds of position: leave --from and --to out"
                    .to_owned(),
            );
        }
        let range = forget.range(kind, tz)?;
        let in_part = receipts
            .iter()
            .find(|slice| forgetting(slice, range.as_ref()) == Forgetting::Refuse);
        match in_part {
            None => Ok(Self { range }),
            Some(slice) => Err(format!(
                "a receipt covers {slice}, of which only a part lies between --from and --to; a \
                 receipt is voided whole or not at all: move them to its edges"
            )),
        }
    }
}

/// What becomes of a receipt when `range` is to be forgotten; without one, everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgetting {
    /// It is voided.
    Void,
    /// It stays.
    Keep,
    /// Some of its rows are meant and some are not: only a person can say which is right.
    Refuse,
}

/// What becomes of the receipt of `slice`.
#[must_use]
pub fn forgetting(slice: &Slice, range: Option<&CursorRange>) -> Forgetting {
    let (Some(range), Slice::Range(held)) = (range, slice) else {
        return if range.is_none() {
            Forgetting::Void
        } else {
            Forgetting::Keep
        };
    };
    let meant = Coverage::of(std::slice::from_ref(range), false);
    let kind = held.kind().or(range.kind());
    match kind {
        Some(kind) if meant.contains(kind, slice) => Forgetting::Void,
        _ if meant.meets(slice) => Forgetting::Refuse,
        _ => Forgetting::Keep,
    }
}

/// What the ledger of a target holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamReceipts {
    /// The stream.
    pub stream: String,
    /// Receipts that count.
    pub receipts: u64,
    /// Rows that they told of when they were written.
    pub rows: u64,
    /// Receipts that were voided, by this errand or earlier ones.
    pub voided: u64,
    /// Receipts that this errand has voided.
    pub forgotten: u64,
    /// What the receipts cover.
    pub coverage: Coverage,
    /// Where the stream's watermark stands, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<StoredWatermark>,
}

/// An exchange that is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// The table that is read, by its name.
    pub table: String,
    /// The run that had put the table there that has left; missing when an earlier attempt did it,
    /// of which no more is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The table that has left, by the name under which it is kept.
    pub kept: String,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: Option<i64>, end: Option<i64>) -> CursorRange {
        CursorRange::new(start.map(Cursor::Integer), end.map(Cursor::Integer)).expect("not empty")
    }

    #[test]
    fn a_receipt_is_voided_whole_or_not_at_all() {
        let meant = range(Some(10), Some(20));
        let of = |start, end| forgetting(&Slice::Range(range(start, end)), Some(&meant));
        assert_eq!(of(Some(10), Some(20)), Forgetting::Void);
        assert_eq!(of(Some(12), Some(15)), Forgetting::Void);
        assert_eq!(of(Some(20), Some(30)), Forgetting::Keep);
        assert_eq!(of(None, Some(10)), Forgetting::Keep);
        assert_eq!(of(Some(15), Some(25)), Forgetting::Refuse);
        assert_eq!(of(None, Some(11)), Forgetting::Refuse);
        assert_eq!(
            forgetting(&Slice::Range(CursorRange::ALL), Some(&meant)),
            Forgetting::Refuse
        );
        assert_eq!(forgetting(&Slice::Null, Some(&meant)), Forgetting::Keep);
        assert_eq!(forgetting(&Slice::Null, None), Forgetting::Void);
        assert_eq!(
            forgetting(&Slice::Range(CursorRange::ALL), None),
            Forgetting::Void
        );
    }
}
