//! What a ledger row means to the attempt that reads it, and who may commit.

use crate::assignment::Receipt;
use crate::id::DocumentDigest;
use crate::token::{Fence, FencingToken};

/// The state of a ledger row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerState {
    /// `O`: claimed, not committed.
    Open,
    /// `I`: a step that is not one transaction has begun.
    Intent,
    /// `C`: committed.
    Committed,
    /// `X`: fenced for good: the run was cancelled or superseded, or the task split.
    Fenced,
    /// `V`: it was committed, and a person has declared that its rows are not there any more.
    Voided,
}

impl LedgerState {
    /// The letter that the ledger holds.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Open => "O",
            Self::Intent => "I",
            Self::Committed => "C",
            Self::Fenced => "X",
            Self::Voided => "V",
        }
    }

    /// The state of a letter, or `None` for one that no version has written.
    #[must_use]
    pub fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "O" => Some(Self::Open),
            "I" => Some(Self::Intent),
            "C" => Some(Self::Committed),
            "X" => Some(Self::Fenced),
            "V" => Some(Self::Voided),
            _ => None,
        }
    }
}

/// A ledger row, as far as a decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its state.
    pub state: LedgerState,
    /// The fence of its latest claim.
    pub fence: Fence,
    /// The digest of the spec it was claimed for.
    pub spec_digest: DocumentDigest,
    /// What it committed; zero before.
    pub receipt: Receipt,
}

/// What an attempt does next, from the ledger row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// An earlier attempt committed, and died before it could say so.
    ReportOnly(Receipt),
    /// Cancelled, or split: nothing may be done.
    Superseded,
    /// The row was claimed for another version of the spec.
    SpecChanged,
    /// The claim stands: begin.
    Begin,
    /// A token at least as large holds the row.
    Fenced {
        /// That token.
        newer: FencingToken,
    },
    /// A step that is not one transaction was begun: ask the target what became of it.
    Probe,
}

/// What an attempt does next, from the ledger row it read after its claim.
#[must_use]
pub fn resume(row: &LedgerRow, mine: &Fence, digest: &DocumentDigest) -> Resume {
    use LedgerState as L;
    match row.state {
        L::Committed => Resume::ReportOnly(row.receipt),
        L::Fenced | L::Voided => Resume::Superseded,
        L::Open | L::Intent if row.spec_digest != *digest => Resume::SpecChanged,
        L::Open if row.fence == *mine => Resume::Begin,
        L::Intent if row.fence == *mine || row.fence.token < mine.token => Resume::Probe,
        L::Open | L::Intent => Resume::Fenced {
            newer: row.fence.token,
        },
    }
}

/// The right to commit one guarded transaction. Not `Clone`; [`judge`] is the only mint.
#[derive(Debug)]
pub struct CommitPermit(());

/// The guard did not find the row it demands: somebody else's attempt holds it, or it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger row is no longer this attempt's")]
pub struct NotHeld;

/// A permit for exactly one guarded row, and exactly one watermark row where one moves.
///
/// # Errors
/// [`NotHeld`] when the guard or the watermark matched another number of rows.
pub fn judge(guard_rows: u64, watermark_rows: Option<u64>) -> Result<CommitPermit, NotHeld> {
    if guard_rows == 1 && watermark_rows.is_none_or(|rows| rows == 1) {
        Ok(CommitPermit(()))
    } else {
        Err(NotHeld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Nonce;

    fn fence(lo: u32, nonce: u128) -> Fence {
        Fence {
            token: FencingToken::new(1, lo).expect("in range"),
            nonce: Nonce::new(nonce),
        }
    }

    #[test]
    fn a_state_is_kept_by_a_letter_of_its_own_and_no_other_letter_is_one() {
        // The connectors' statements say these letters too, and every ledger in the field holds
        // them.
        let kept = [
            ("O", LedgerState::Open),
            ("I", LedgerState::Intent),
            ("C", LedgerState::Committed),
            ("X", LedgerState::Fenced),
            ("V", LedgerState::Voided),
        ];
        for (letter, state) in kept {
            assert_eq!(
                (state.letter(), LedgerState::from_letter(letter)),
                (letter, Some(state))
            );
        }
        for other in ["", "o", "R", "OC"] {
            assert_eq!(LedgerState::from_letter(other), None, "{other:?}");
        }
    }

    #[test]
    fn an_attempt_begins_only_under_its_own_fence() {
        let digest = DocumentDigest::of(b"spec");
        let row = |state| LedgerRow {
            state,
            fence: fence(2, 7),
            spec_digest: digest,
            receipt: Receipt { rows: 3, bytes: 4 },
        };
        let open = row(LedgerState::Open);
        assert_eq!(resume(&open, &fence(2, 7), &digest), Resume::Begin);
        assert_eq!(
            resume(&open, &fence(2, 8), &digest),
            Resume::Fenced {
                newer: open.fence.token
            }
        );
        assert_eq!(
            resume(&open, &fence(1, 9), &digest),
            Resume::Fenced {
                newer: open.fence.token
            }
        );
        assert_eq!(
            resume(&open, &fence(2, 7), &DocumentDigest::of(b"other")),
            Resume::SpecChanged
        );
        assert_eq!(
            resume(&row(LedgerState::Committed), &fence(1, 1), &digest),
            Resume::ReportOnly(open.receipt)
        );
        assert_eq!(
            resume(&row(LedgerState::Fenced), &fence(2, 7), &digest),
            Resume::Superseded
        );
        assert_eq!(
            resume(&row(LedgerState::Voided), &fence(2, 7), &digest),
            Resume::Superseded
        );
    }

    #[test]
    fn what_was_begun_outside_a_transaction_is_asked_for_by_its_own_attempt_and_by_later_ones() {
        let digest = DocumentDigest::of(b"spec");
        let (state, receipt) = (LedgerState::Intent, Receipt::default());
        let begun = LedgerRow {
            state,
            fence: fence(2, 7),
            spec_digest: digest,
            receipt,
        };
        let fenced = Resume::Fenced {
            newer: begun.fence.token,
        };
        assert_eq!(resume(&begun, &fence(2, 7), &digest), Resume::Probe);
        assert_eq!(resume(&begun, &fence(3, 1), &digest), Resume::Probe);
        assert_eq!(resume(&begun, &fence(2, 8), &digest), fenced);
        assert_eq!(resume(&begun, &fence(1, 7), &digest), fenced);
        assert_eq!(
            resume(&begun, &fence(3, 1), &DocumentDigest::of(b"other")),
            Resume::SpecChanged
        );
    }

    #[test]
    fn only_one_guarded_row_is_a_permit() {
        assert!(judge(1, None).is_ok() && judge(1, Some(1)).is_ok());
        assert!(judge(0, None).is_err() && judge(2, None).is_err() && judge(1, Some(0)).is_err());
    }
}
