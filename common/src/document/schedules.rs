//! The pipelines that run by themselves, as people and programs read of them.

use serde::{Deserialize, Serialize};

use crate::controls::Hold;
use crate::cursor::Cursor;
use crate::id::{DocumentDigest, PipelineName, RunId};
use crate::schedule::{CatchUp, Overlap};
use crate::status::RunStatus;

/// The pipelines that run by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulesDocument {
    /// `schedules/v1`.
    pub schema: String,
    /// By the pipelines' names.
    pub schedules: Vec<ScheduleDocument>,
}

/// A pipeline that runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleDocument {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// When; empty when that cannot be read.
    pub cron: String,
    /// On whose clocks.
    pub tz: String,
    /// What becomes of instants that nobody saw come.
    pub catch_up: Option<CatchUp>,
    /// What becomes of one that comes while a run is under way.
    pub overlap: Option<Overlap>,
    /// The spec that its runs execute.
    pub spec_digest: DocumentDigest,
    /// Who gave it to the cluster.
    pub set: SaidDocument,
    /// Who holds it back, if anybody does.
    pub paused: Option<SaidDocument>,
    /// The next instant: RFC 3339. None while it is held back.
    pub next: Option<String>,
    /// Instants that have come and are still to begin a run, ascending.
    pub waiting: Vec<String>,
    /// The latest run that it began.
    pub last_run: Option<ScheduledRunDocument>,
    /// The latest instant that began no run.
    pub left_out: Option<LeftOutDocument>,
    /// What keeps it from beginning runs; empty when nothing does.
    pub trouble: String,
}

/// What somebody said, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidDocument {
    /// Who.
    pub by: String,
    /// Why; empty where nobody is asked for a reason.
    pub reason: String,
    /// When: RFC 3339.
    pub at: String,
}

impl From<Hold> for SaidDocument {
    fn from(hold: Hold) -> Self {
        Self {
            by: hold.by,
            reason: hold.reason,
            at: Cursor::Instant(hold.since_micros).to_string(),
        }
    }
}

/// A run that a schedule began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledRunDocument {
    /// The run.
    pub run: RunId,
    /// As people see it.
    pub short: String,
    /// The instant that it is for: RFC 3339.
    pub instant: String,
    /// Where it stands; none once it is forgotten.
    pub status: Option<RunStatus>,
}

/// An instant that began no run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutDocument {
    /// The instant: RFC 3339.
    pub instant: String,
    /// `missed`, `overlapped`, `overtaken`, `paused` or `already_ran`.
    pub why: String,
}
