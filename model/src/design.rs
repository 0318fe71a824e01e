//! What is explored: bounds, and the design that is tried.

use crate::Invariant;

/// How far a scenario goes. Every count is a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Runs of the one stream.
    pub runs: u8,
    /// Slices of the stream: tasks of each run.
    pub slices: u8,
    /// Ways to cut the stream. With two, a plan may take all slices for one partition, and the next
    /// one each for its own.
    pub cuts: u8,
    /// Attempts at partitions, over all runs.
    pub attempts: u8,
    /// Attempts at preparing a step, over all runs.
    pub prepares: u8,
    /// Attempts of one task before it is dead.
    pub tries: u8,
    /// Terms of leaders.
    pub terms: u8,
    /// Times that an older store is brought back.
    pub restores: u8,
    /// Times that the target fails over to a replica that lags behind.
    pub failovers: u8,
    /// Runs that a person cancels.
    pub cancels: u8,
    /// Failed runs that a person takes up again.
    pub retries: u8,
    /// A claim is explored statement by statement, and its answer may be lost.
    pub statements: bool,
    /// An assignment may be long on its way to the store, and come twice.
    pub late: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            runs: 1,
            slices: 1,
            cuts: 1,
            attempts: 2,
            prepares: 1,
            tries: u8::MAX,
            terms: 1,
            restores: 0,
            failovers: 0,
            cancels: 0,
            retries: 0,
            statements: false,
            late: false,
        }
    }
}

/// The design that is explored: the one that is built, or one that looks right and is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Design {
    /// What is built.
    Right,
    /// The guard is a plain read before the rows are written.
    GuardFirst,
    /// No guard: whoever finds its lease in the store commits.
    LeaseIsALock,
    /// The guard demands an open row, and not its own fence in it.
    GuardWithoutToken,
    /// Attempts are told apart by their token alone.
    TokenWithoutNonce,
    /// The token is the store's revision, which needs no counter of its own.
    RevisionIsAToken,
    /// A leader is known by the revision at which its record was made.
    RevisionIsATerm,
    /// A leader that has written once does not compare again whether it leads.
    LeaderNotCompared,
    /// An assignment whose answer is late is taken for failed, and the next one does not look for a
    /// lease.
    AssignsOverALease,
    /// A completion is counted whenever it comes.
    CompletionCountedTwice,
    /// A worker tells that it has committed before the target has answered.
    CompletesBeforeCommit,
    /// A worker is told that its completion counts before the store has it.
    AcknowledgesBeforeTheStore,
    /// A commit whose answer was lost is taken for failed: the next claim takes the row, whatever
    /// it says.
    UnknownCommitIsFailed,
    /// A cancel is acknowledged when the store knows of it.
    CancelsInTheStoreOnly,
    /// A cancel fences the attempts that the store knows.
    FencesKnownAttemptsOnly,
    /// A fence ends the open rows first, and marks the run afterwards.
    FencesRowsBeforeTheRun,
    /// A claim does not look at the run's mark.
    ClaimIgnoresTheRun,
    /// A claim reads the run's mark and does not hold it (no `for share`).
    ClaimDoesNotHoldTheRun,
    /// A claim does not compare which life of the target it writes to.
    ClaimIgnoresTheFingerprint,
    /// A run is fenced by its cancel only: nobody fences the stream.
    NoStreamFence,
    /// The fence of a stream finds the runs that have rows of it, and no run that has only been
    /// prepared.
    StreamFenceByRowsOnly,
    /// The fence of a stream passes over rows that somebody holds.
    StreamFenceSkipsLockedRows,
    /// What is covered is not compared once the stream is fenced.
    CoverageNotCompared,
    /// What a run has committed itself is no coverage: its tasks would meet it in the ledger.
    OwnReceiptsAreNotCoverage,
    /// A plan is known by its run and its generation.
    PlanKnownByItsGeneration,
    /// A claim does not look for which plan the stream was taken: the run's mark is enough.
    ClaimIgnoresThePlan,
    /// Who takes the stream again for another plan of the run fences other runs, and nothing of its
    /// own.
    OwnFormerPlanNotGivenUp,
    /// What is open of the former plan is given up without waiting for the run's own claims in
    /// flight.
    OwnClaimsNotWaitedFor,
    /// Prepares of one run do not compete: the last one to come has the stream, for its plan.
    PlansDoNotCompete,
    /// A target that has seen larger tokens is not believed: `hi` stays.
    HiNeverRaised,
}

impl Design {
    /// Every wrong design, and the invariant that must see it.
    pub const WRONG: [(Self, Invariant); 29] = [
        (Self::GuardFirst, Invariant::I1),
        (Self::LeaseIsALock, Invariant::I1),
        (Self::GuardWithoutToken, Invariant::I6),
        (Self::TokenWithoutNonce, Invariant::I3),
        (Self::RevisionIsAToken, Invariant::I3),
        (Self::RevisionIsATerm, Invariant::I9),
        (Self::LeaderNotCompared, Invariant::I9),
        (Self::AssignsOverALease, Invariant::I9),
        (Self::CompletionCountedTwice, Invariant::I4),
        (Self::CompletesBeforeCommit, Invariant::I4),
        (Self::AcknowledgesBeforeTheStore, Invariant::I5),
        (Self::UnknownCommitIsFailed, Invariant::I1),
        (Self::CancelsInTheStoreOnly, Invariant::I2),
        (Self::FencesKnownAttemptsOnly, Invariant::I2),
        (Self::FencesRowsBeforeTheRun, Invariant::I2),
        (Self::ClaimIgnoresTheRun, Invariant::I2),
        (Self::ClaimDoesNotHoldTheRun, Invariant::I2),
        (Self::ClaimIgnoresTheFingerprint, Invariant::I2),
        (Self::NoStreamFence, Invariant::I1),
        (Self::StreamFenceByRowsOnly, Invariant::I1),
        (Self::StreamFenceSkipsLockedRows, Invariant::I1),
        (Self::CoverageNotCompared, Invariant::I1),
        (Self::OwnReceiptsAreNotCoverage, Invariant::I1),
        (Self::PlanKnownByItsGeneration, Invariant::I1),
        (Self::ClaimIgnoresThePlan, Invariant::I1),
        (Self::OwnFormerPlanNotGivenUp, Invariant::I1),
        (Self::OwnClaimsNotWaitedFor, Invariant::I1),
        (Self::PlansDoNotCompete, Invariant::I1),
        (Self::HiNeverRaised, Invariant::I11),
    ];

    /// The smallest scenario that shows a wrong design for what it is.
    #[must_use]
    pub fn scenario(self) -> Bounds {
        let one = Bounds {
            attempts: 3,
            ..Bounds::default()
        };
        let two_plans = Bounds {
            slices: 2,
            cuts: 2,
            restores: 1,
            attempts: 2,
            prepares: 2,
            tries: 1,
            ..Bounds::default()
        };
        let two_runs = Bounds {
            runs: 2,
            prepares: 2,
            tries: 1,
            ..Bounds::default()
        };
        match self {
            Self::Right
            | Self::GuardFirst
            | Self::LeaseIsALock
            | Self::GuardWithoutToken
            | Self::CompletesBeforeCommit
            | Self::UnknownCommitIsFailed => one,
            Self::TokenWithoutNonce | Self::RevisionIsAToken | Self::RevisionIsATerm => Bounds {
                restores: 1,
                attempts: 1,
                terms: 3,
                prepares: 2,
                ..one
            },
            Self::HiNeverRaised => Bounds {
                restores: 1,
                attempts: 2,
                terms: 3,
                prepares: 2,
                ..one
            },
            Self::LeaderNotCompared | Self::AcknowledgesBeforeTheStore => {
                Bounds { terms: 2, ..one }
            }
            Self::CompletionCountedTwice => Bounds { slices: 2, ..one },
            Self::AssignsOverALease => Bounds { late: true, ..one },
            Self::CancelsInTheStoreOnly | Self::ClaimIgnoresTheRun => Bounds { cancels: 1, ..one },
            Self::FencesKnownAttemptsOnly => Bounds {
                cancels: 1,
                restores: 1,
                attempts: 2,
                terms: 2,
                ..one
            },
            Self::FencesRowsBeforeTheRun | Self::ClaimDoesNotHoldTheRun => Bounds {
                cancels: 1,
                statements: true,
                ..one
            },
            Self::ClaimIgnoresTheFingerprint => Bounds {
                cancels: 1,
                failovers: 1,
                tries: 2,
                ..one
            },
            Self::NoStreamFence
            | Self::StreamFenceByRowsOnly
            | Self::StreamFenceSkipsLockedRows
            | Self::CoverageNotCompared => two_runs,
            Self::OwnReceiptsAreNotCoverage
            | Self::PlanKnownByItsGeneration
            | Self::ClaimIgnoresThePlan
            | Self::OwnFormerPlanNotGivenUp => two_plans,
            Self::OwnClaimsNotWaitedFor => Bounds {
                statements: true,
                ..two_plans
            },
            Self::PlansDoNotCompete => Bounds {
                prepares: 3,
                tries: 2,
                ..two_plans
            },
        }
    }
}
