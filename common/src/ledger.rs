//! What claim, guard and fence do to the ledger's rows.
//!
//! A connector must say each of these in its database's own words, because only there it is one
//! statement under one lock. So they are said here once more, without I/O: the model and the
//! simulation run on these functions, and the connectors' contract compares what a real server's
//! rows become with what these say.

use crate::commit::{LedgerRow, LedgerState, Resume, resume};
use crate::id::DocumentDigest;
use crate::token::Fence;

/// What a ledger says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunMark {
    /// `R`: its claims may begin.
    Running,
    /// `X`: fenced for good; no claim of it begins any more.
    Fenced,
}

impl RunMark {
    /// The letter that the ledger holds.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Running => "R",
            Self::Fenced => "X",
        }
    }
}

/// What a claim does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimStep {
    /// The ledger does not know the run: note it, in a transaction of its own, and look again. One
    /// transaction for both would not see a fence that was put in between.
    NoteRun,
    /// Write the row, or raise its fence: `O`, under this attempt's token and nonce.
    Raise,
    /// Leave the row as it is: this is what it means.
    Stands(Resume),
}

/// What a claim does, from the run's mark and the task's row.
///
/// The mark must not change before the claim has committed (PostgreSQL: `for share`), nor the row
/// between the look and the raise (one upsert, or the file's write lock).
#[must_use]
pub fn claim(
    run: Option<RunMark>,
    row: Option<&LedgerRow>,
    mine: &Fence,
    digest: &DocumentDigest,
) -> ClaimStep {
    match (run, row) {
        (None, _) => ClaimStep::NoteRun,
        (Some(RunMark::Fenced), _) => ClaimStep::Stands(Resume::Superseded),
        (Some(RunMark::Running), None) => ClaimStep::Raise,
        (Some(RunMark::Running), Some(row)) if may_raise(row, mine, digest) => ClaimStep::Raise,
        (Some(RunMark::Running), Some(row)) => ClaimStep::Stands(resume(row, mine, digest)),
    }
}

/// A row goes to a later attempt only as long as nothing was committed or begun under it, and for
/// the same spec.
fn may_raise(row: &LedgerRow, mine: &Fence, digest: &DocumentDigest) -> bool {
    row.state == LedgerState::Open && row.fence.token < mine.token && row.spec_digest == *digest
}

/// Whether a claim also takes the fence of another task's row, where the tasks of a step run one at
/// a time: of the claims of its stream the latest one alone may commit. That task's own next claim
/// comes with a larger token, and takes the fence back.
///
/// The row is one of the run and the stream, and is changed by the transaction that raises the
/// claim's own.
#[must_use]
pub fn takes_fence_of(other: &LedgerRow, mine: &Fence) -> bool {
    other.state == LedgerState::Open && other.fence != *mine && other.fence.token <= mine.token
}

/// How many rows an attempt's guard matches; [`judge`](crate::commit::judge) says whether it may
/// commit then.
#[must_use]
pub fn guard(row: Option<&LedgerRow>, mine: &Fence) -> u64 {
    row.map_or(0, |row| {
        u64::from(row.state == LedgerState::Open && row.fence == *mine)
    })
}

/// What a fence makes of a row's state. It has waited for the guards in flight.
#[must_use]
pub const fn fence(state: LedgerState) -> LedgerState {
    match state {
        LedgerState::Open => LedgerState::Fenced,
        // What was begun outside a transaction is asked for, never presumed; what is committed or
        // fenced stays so.
        LedgerState::Intent
        | LedgerState::Committed
        | LedgerState::Fenced
        | LedgerState::Voided => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::Receipt;
    use crate::token::{FencingToken, Nonce};

    const STATES: [LedgerState; 5] = [
        LedgerState::Open,
        LedgerState::Intent,
        LedgerState::Committed,
        LedgerState::Fenced,
        LedgerState::Voided,
    ];

    fn fence_of(lo: u32, nonce: u128) -> Fence {
        Fence {
            token: FencingToken::new(1, lo).expect("in range"),
            nonce: Nonce::new(nonce),
        }
    }

    fn row(state: LedgerState, fence: Fence) -> LedgerRow {
        LedgerRow {
            state,
            fence,
            spec_digest: DocumentDigest::of(b"spec"),
            receipt: Receipt::default(),
        }
    }

    #[test]
    fn a_run_is_marked_by_the_letters_that_the_connectors_write() {
        assert_eq!(
            [RunMark::Running, RunMark::Fenced].map(RunMark::letter),
            ["R", "X"]
        );
    }

    #[test]
    fn a_fenced_run_begins_no_claim_whatever_its_row_says() {
        let digest = DocumentDigest::of(b"spec");
        for state in STATES {
            let found = row(state, fence_of(1, 1));
            let step = claim(
                Some(RunMark::Fenced),
                Some(&found),
                &fence_of(2, 2),
                &digest,
            );
            assert_eq!(step, ClaimStep::Stands(Resume::Superseded));
        }
        let first = claim(Some(RunMark::Fenced), None, &fence_of(2, 2), &digest);
        assert_eq!(first, ClaimStep::Stands(Resume::Superseded));
    }

    #[test]
    fn only_an_open_row_is_raised_and_only_by_a_larger_token_of_the_same_spec() {
        let (digest, other) = (DocumentDigest::of(b"spec"), DocumentDigest::of(b"other"));
        let running = Some(RunMark::Running);
        for state in STATES {
            for lo in 1..=3 {
                for asked in [&digest, &other] {
                    let raises = claim(
                        running,
                        Some(&row(state, fence_of(2, 2))),
                        &fence_of(lo, 9),
                        asked,
                    );
                    let may = state == LedgerState::Open && lo == 3 && *asked == digest;
                    assert_eq!(raises == ClaimStep::Raise, may, "{state:?}, token {lo}");
                }
            }
        }
        assert_eq!(
            claim(running, None, &fence_of(1, 1), &digest),
            ClaimStep::Raise
        );
        assert_eq!(
            claim(None, None, &fence_of(1, 1), &digest),
            ClaimStep::NoteRun
        );
        let own = claim(
            running,
            Some(&row(LedgerState::Open, fence_of(2, 2))),
            &fence_of(2, 2),
            &digest,
        );
        assert_eq!(
            own,
            ClaimStep::Stands(Resume::Begin),
            "a claim whose answer was lost stands"
        );
    }

    #[test]
    fn a_fence_taken_from_another_task_is_open_and_of_no_larger_token() {
        for state in STATES {
            for (token, nonce) in [(1, 9), (2, 9), (2, 2), (3, 9)] {
                let other = row(state, fence_of(token, nonce));
                let takes = takes_fence_of(&other, &fence_of(2, 2));
                let may = state == LedgerState::Open && nonce == 9 && token < 3;
                assert_eq!(takes, may, "{state:?}, {token}/{nonce}");
                // AND whoever had it commits no more
                let taken = row(state, fence_of(2, 2));
                assert_eq!(
                    guard(Some(&taken), &other.fence) == 0,
                    nonce == 9 || state != LedgerState::Open
                );
            }
        }
    }

    #[test]
    fn a_guard_matches_its_own_open_row_only() {
        for state in STATES {
            for (token, nonce) in [(2, 2), (2, 3), (3, 2)] {
                let matched = guard(Some(&row(state, fence_of(2, 2))), &fence_of(token, nonce));
                let is_own = state == LedgerState::Open && (token, nonce) == (2, 2);
                assert_eq!(matched, u64::from(is_own), "{state:?}, {token}/{nonce}");
            }
        }
        assert_eq!(guard(None, &fence_of(2, 2)), 0);
    }

    #[test]
    fn a_fence_ends_what_is_open_and_nothing_else() {
        let after = STATES.map(fence);
        let kept = [
            LedgerState::Intent,
            LedgerState::Committed,
            LedgerState::Fenced,
            LedgerState::Voided,
        ];
        assert_eq!((after[0], &after[1..]), (LedgerState::Fenced, &kept[..]));
    }
}
