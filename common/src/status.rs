//! The states of runs and steps.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Its steps are being probed.
    Planning,
    /// Its plan is frozen, and nobody asked to run it.
    Planned,
    /// Its steps run.
    Running,
    /// A cancel is wanted; not every target is fenced yet.
    Cancelling,
    /// Every step succeeded.
    Success,
    /// Some step did not.
    Failed,
    /// Cancelled, and every target fenced: nothing of it commits any more.
    Cancelled,
}

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunEvent {
    /// The plan is stored.
    Planned,
    /// The steps may run.
    Started,
    /// Planning failed.
    Refused,
    /// Every step succeeded.
    Succeeded,
    /// Every step ended, not all of them well.
    Failed,
    /// A cancel is wanted.
    CancelWanted,
    /// Every target is fenced.
    Fenced,
    /// A person asked to go on with what failed.
    Retried,
}

/// An event that cannot happen to a run in that state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {from} cannot be {event:?}")]
pub struct IllegalRunEvent {
    /// The state.
    pub from: RunStatus,
    /// The event.
    pub event: RunEvent,
}

impl RunStatus {
    /// The word for it, everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True when nothing more happens to the run unless a person asks.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        match self {
            Self::Success | Self::Failed | Self::Cancelled => true,
            Self::Planning | Self::Planned | Self::Running | Self::Cancelling => false,
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalRunEvent`] when the event cannot happen to a run in this state.
    pub const fn apply(self, event: RunEvent) -> Result<Self, IllegalRunEvent> {
        use {RunEvent as E, RunStatus as S};
        match (self, event) {
            (S::Planning, E::Planned) => Ok(S::Planned),
            (S::Planned, E::Started) | (S::Failed, E::Retried) => Ok(S::Running),
            (S::Planning, E::Refused) | (S::Running, E::Failed) => Ok(S::Failed),
            (S::Running, E::Succeeded) => Ok(S::Success),
            (S::Planning | S::Planned | S::Running | S::Failed, E::CancelWanted) => {
                Ok(S::Cancelling)
            }
            (S::Cancelling, E::Fenced) => Ok(S::Cancelled),
            (
                S::Planning
                | S::Planned
                | S::Running
                | S::Cancelling
                | S::Success
                | S::Failed
                | S::Cancelled,
                event,
            ) => Err(IllegalRunEvent { from: self, event }),
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a step stands: computed from its tasks and from the steps before it, never set by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Waits for other steps.
    Pending,
    /// Its tasks run.
    Running,
    /// Its tasks ended well, or so few died that it was tolerated.
    Success,
    /// Too many of its tasks died.
    Failed,
    /// A step it needs did not succeed.
    Skipped,
    /// Its run was cancelled.
    Cancelled,
}

impl StepStatus {
    /// The word for it, everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// True when nothing more happens to the step unless a person asks.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        match self {
            Self::Success | Self::Failed | Self::Skipped | Self::Cancelled => true,
            Self::Pending | Self::Running => false,
        }
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
