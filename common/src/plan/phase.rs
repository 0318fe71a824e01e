//! The phases of a step: sets of tasks, one set after the other.
//!
//! Who schedules tasks, stores them and shows them knows phases and their kinds. Which phases a
//! step has is the business of its strategy alone.

use serde::{Deserialize, Serialize};

use super::partitions::Partitions;

/// What the tasks of a phase are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// Finds out what a plan needs to know. Comes before every plan.
    Probe,
    /// Ends what a cancelled run may still commit. Belongs to no plan.
    Fence,
    /// Makes the target ready.
    Prepare,
    /// Moves rows.
    Load,
    /// Does something that moves no rows.
    Execute,
    /// Builds what a loaded table still lacks: indexes, keys, checks.
    Build,
    /// Asks a loaded table what its checks say.
    Check,
    /// Puts rows in the place of those that are there, at one instant.
    Publish,
    /// Removes the rows of the target that the source has no more.
    Reconcile,
    /// Runs the statements of a step, in one transaction.
    Statements,
    /// Applies what a log tells, in its order.
    Replay,
    /// The same for as long as the run lasts: a step that has come so far does what it is for, and the
    /// steps that depend on it begin. Never ends by itself.
    Follow,
    /// Counts what no task took.
    Count,
    /// Asks whether the target still holds what was committed.
    Close,
}

impl PhaseKind {
    /// The kinds of generation 0, which comes before and after every plan: a phase's number is its
    /// place here.
    pub const OF_NO_PLAN: [Self; 2] = [Self::Probe, Self::Fence];

    /// True of the phases whose tasks are the step's work; the tasks of the others are set-up, and
    /// are not counted among them.
    #[must_use]
    pub const fn is_work(self) -> bool {
        match self {
            Self::Load
            | Self::Execute
            | Self::Build
            | Self::Publish
            | Self::Reconcile
            | Self::Statements
            | Self::Replay
            | Self::Follow => true,
            Self::Probe | Self::Fence | Self::Prepare | Self::Check | Self::Count | Self::Close => {
                false
            }
        }
    }

    /// True of the phases whose tasks commit what they write with a receipt that a close asks for: those of
    /// the last of them. What a reconcile has done the next one does again where it is lost.
    #[must_use]
    pub const fn commits_rows(self) -> bool {
        match self {
            Self::Load | Self::Publish | Self::Statements | Self::Replay => true,
            Self::Probe
            | Self::Fence
            | Self::Prepare
            | Self::Execute
            | Self::Build
            | Self::Check
            | Self::Reconcile
            | Self::Follow
            | Self::Count
            | Self::Close => false,
        }
    }

    /// What a person calls a task of the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Fence => "fence",
            Self::Prepare => "prepare",
            Self::Load => "load",
            Self::Execute => "execute",
            Self::Build => "build",
            Self::Check => "check",
            Self::Publish => "publish",
            Self::Reconcile => "reconcile",
            Self::Statements => "statements",
            Self::Replay => "replay",
            Self::Follow => "follow",
            Self::Count => "count",
            Self::Close => "close",
        }
    }

    /// The number of a kind of generation 0.
    #[must_use]
    pub const fn of_no_plan(number: u8) -> Option<Self> {
        let [first, second] = Self::OF_NO_PLAN;
        match number {
            0 => Some(first),
            1 => Some(second),
            _ => None,
        }
    }
}

/// A set of tasks of a step that may run beside each other, once the phase before has ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// What its tasks are for.
    pub kind: PhaseKind,
    /// Its tasks.
    pub tasks: Tasks,
    /// Whether it ends well with as many dead tasks as the step tolerates; else one is too many.
    pub tolerant: bool,
}

/// The tasks of a phase, as a rule: it takes the same space however many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tasks {
    /// One.
    One,
    /// So many, which hold a slot each.
    Slots(u64),
    /// One for each partition that is not committed already.
    Partitions(Box<Partitions>),
}

impl Phase {
    /// A phase of one task, which must end well.
    #[must_use]
    pub const fn one(kind: PhaseKind) -> Self {
        Self {
            kind,
            tasks: Tasks::One,
            tolerant: false,
        }
    }

    /// How many ordinals there are, those without a task included.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.tasks {
            Tasks::One => 1,
            Tasks::Slots(count) => *count,
            Tasks::Partitions(partitions) => partitions.len(),
        }
    }

    /// True when there is no ordinal at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tasks there are.
    #[must_use]
    pub fn tasks_planned(&self) -> u64 {
        match &self.tasks {
            Tasks::One | Tasks::Slots(_) => self.len(),
            Tasks::Partitions(partitions) => partitions.tasks_planned(),
        }
    }

    /// True when no task comes of an ordinal, because earlier runs committed all of its partition.
    #[must_use]
    pub fn skips(&self, ordinal: u64) -> bool {
        match &self.tasks {
            Tasks::One | Tasks::Slots(_) => ordinal >= self.len(),
            Tasks::Partitions(partitions) => partitions.skips(ordinal),
        }
    }
}
