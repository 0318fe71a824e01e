//! Why the coordinator refuses a request, and the one place that picks the gRPC code.

use highwater_common::controls::ControlError;
use highwater_common::id::{PipelineName, StepName};
use highwater_common::selection::SelectionError;
use highwater_common::status::{RunStatus, StepStatus};
use highwater_proto::convert::FieldError;
use highwater_proto::{LEADER_METADATA, PROTOCOL_VERSION};
use tonic::{Code, Status};

/// Why the coordinator refuses a request. Every message says what, why and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// This coordinator does not lead.
    #[error("this coordinator does not lead{}; ask the leader", leader.as_deref().map_or(String::new(), |at| format!(" \
        (the leader is at {at})")))]
    NotLeader {
        /// Where the leader listens, when it is known.
        leader: Option<String>,
    },
    /// The coordinator stops, or began a new term with the request unanswered.
    #[error("the coordinator is between two terms; ask again")]
    BetweenTerms,
    /// The store has no room.
    #[error("{0}")]
    StoreFull(String),
    /// The session is over.
    #[error("the session has ended: register again")]
    SessionEnded,
    /// The worker speaks another protocol.
    #[error(
        "the worker speaks protocol {theirs}, this coordinator {PROTOCOL_VERSION}: run the \
             same version of both"
    )]
    Protocol {
        /// The worker's.
        theirs: u32,
    },
    /// No such run.
    #[error("no run `{0}`; `highwater ls` lists them")]
    UnknownRun(String),
    /// There is none at all.
    #[error("there is no run yet; `highwater run FILE` begins one")]
    NoRun,
    /// The prefix fits several runs.
    #[error("`{prefix}` fits {count} runs: type more of it")]
    AmbiguousRun {
        /// What was typed.
        prefix: String,
        /// How many it fits.
        count: usize,
    },
    /// No such step.
    #[error("no step `{0}` in this run")]
    UnknownStep(StepName),
    /// The pipeline does not run by itself.
    #[error("pipeline `{0}` has no schedule here; `highwater schedules set FILE` gives it one")]
    UnknownSchedule(PipelineName),
    /// The schedule goes on.
    #[error("the schedule of pipeline `{0}` is not paused")]
    ScheduleNotPaused(PipelineName),
    /// The file says nothing of a time.
    #[error(
        "pipeline `{0}` has no `schedule` in its file: say when, such as \
         schedule: {{cron: \"15 * * * *\", tz: UTC}}"
    )]
    NoSchedule(PipelineName),
    /// Each turn of the leader looks at all of them.
    #[error("the cluster keeps {max} schedules already; `highwater schedules rm` takes one away")]
    TooManySchedules {
        /// How many it keeps at the most.
        max: usize,
    },
    /// What the store holds of the schedule cannot be read.
    #[error("the schedule of pipeline `{pipeline}` cannot go on: {why}; set it again")]
    DamagedSchedule {
        /// The pipeline.
        pipeline: PipelineName,
        /// What cannot be read.
        why: String,
    },
    /// No such worker.
    #[error("no worker `{0}` is connected; `highwater workers ls` lists them")]
    UnknownWorker(String),
    /// The run has ended, or has not yet failed.
    #[error("run {run} is {status}: there is nothing to do")]
    RunEnded {
        /// The run.
        run: String,
        /// Where it stands.
        status: RunStatus,
    },
    /// The run failed before it had a plan.
    #[error("run {run} failed before it had a plan: mend what it says and run the pipeline again")]
    NeverPlanned {
        /// The run.
        run: String,
    },
    /// What the store holds of the run cannot be read.
    #[error("run {run} cannot go on: {damage}; cancel it and run the pipeline again")]
    Damaged {
        /// The run.
        run: String,
        /// What cannot be read.
        damage: String,
    },
    /// No task of the run is dead.
    #[error("no task of run {run} is dead: there is nothing to retry")]
    NothingToRetry {
        /// The run.
        run: String,
    },
    /// No task of the run is dead, or all that are were accepted already.
    #[error("no task that is meant is dead in run {run}: there is nothing to accept")]
    NothingToAccept {
        /// The run.
        run: String,
    },
    /// What comes after the task needs it.
    #[error(
        "`{work}` of step `{step}` cannot be gone on without: only single partitions of a load that \
         stands by itself can; mend the cause and `highwater retry`, or cancel the run"
    )]
    NotAcceptable {
        /// The step.
        step: StepName,
        /// What the task does.
        work: String,
    },
    /// What a person selects means nothing in the run.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// What an operator asks cannot be.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// So much cannot be kept with a run.
    #[error(
        "too much is held back by itself in run {run}: pause the run, or a connection, or resume some \
         of it first"
    )]
    TooManyControls {
        /// The run.
        run: String,
    },
    /// The step is under way or has ended.
    #[error(
        "step `{step}` is {status}, and only a step that has not begun can be skipped; `highwater \
         pause` holds one back that runs, and `cancel` ends the run"
    )]
    StepBegan {
        /// The step.
        step: StepName,
        /// Where it stands.
        status: StepStatus,
    },
    /// No task of the run is in doubt.
    #[error("no task of run {run} is in doubt: there is nothing to resolve")]
    NothingInDoubt {
        /// The run.
        run: String,
    },
    /// Something of the pipeline's latest run is in doubt, and another run would do it again.
    #[error(
        "run {run} of pipeline {pipeline} has a task in doubt, which a new run would do again: say \
         whether it was done by `highwater resolve {run} STEP --applied` or `--not-applied`, or do it \
         all the same by `run --new`"
    )]
    InDoubt {
        /// The pipeline.
        pipeline: PipelineName,
        /// Its latest run.
        run: String,
    },
    /// A run of the pipeline is under way, and there is one at a time.
    #[error(
        "run {run} cannot be tried again while run {other} of its pipeline is under way: wait for \
         that one, or cancel it"
    )]
    OtherRunActive {
        /// The run to retry.
        run: String,
        /// The one under way.
        other: String,
    },
    /// Receipts are forgotten, and exchanges undone, only while nothing of the pipeline runs.
    #[error(
        "run {run} of pipeline {pipeline} is under way, and what it has loaded is taken back only \
         when none is: wait for it, or cancel it"
    )]
    PipelineBusy {
        /// The pipeline.
        pipeline: PipelineName,
        /// Its run.
        run: String,
    },
    /// A later run of the pipeline owns what the run would load.
    #[error(
        "run {run} is superseded: run {newer} of pipeline {pipeline} began after it, and owns what \
         it would load; retry that one, or run the pipeline again, which loads what is missing"
    )]
    RunSuperseded {
        /// The run.
        run: String,
        /// The latest run of its pipeline.
        newer: String,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// Somebody has undone what a step of the run had exchanged, and taken its stream for that.
    #[error(
        "run {run} does not go on: run {undone_by} has undone a swap of step `{step}` since, and what \
         this run has loaded of it is read no more; run pipeline {pipeline} again"
    )]
    RunUndone {
        /// The run.
        run: String,
        /// The run that was to undo it.
        undone_by: String,
        /// The step.
        step: StepName,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// The step's table is loaded in its place.
    #[error("step `{0}` is no `swap`: it exchanges no tables, so there is none to exchange back")]
    NoExchange(StepName),
    /// Other steps of the pipeline are being run.
    #[error(
        "run {run} of pipeline {pipeline} has not ended, and is of other steps; `--new` cancels it and \
         begins a new one, or let it finish first"
    )]
    OtherSteps {
        /// The pipeline.
        pipeline: PipelineName,
        /// Its unfinished run.
        run: String,
    },
    /// A step goes on from another one that is not part of the run, and has not come to its end.
    #[error(
        "step {step} goes on from {continued}, which has not come to its end in run {run}: what is \
         open of it would be loaded twice; select `+{step}`, or let {continued} finish first"
    )]
    UnfinishedHistory {
        /// The step.
        step: StepName,
        /// The one that it goes on from.
        continued: StepName,
        /// Its last run.
        run: String,
    },
    /// What was saved would be of the whole pipeline.
    #[error("a plan of some steps of a pipeline cannot be saved: plan all of it")]
    PartOfAPlan,
    /// Another version of the spec is being run.
    #[error(
        "pipeline {pipeline} changed since its run {run} began ({was} → {is}){}; `--new` cancels \
         that run and begins a new one, or let the old spec finish first",
        if *is_cancelling { ", and that run is being cancelled" } else { "" }
    )]
    SpecChanged {
        /// The pipeline.
        pipeline: PipelineName,
        /// Its unfinished run.
        run: String,
        /// The digest it executes.
        was: String,
        /// The digest submitted.
        is: String,
        /// Whether a cancel is under way.
        is_cancelling: bool,
    },
    /// A plan that was saved cannot be carried out as it was shown.
    #[error("the plan is stale: {0}; plan the pipeline again")]
    StalePlan(String),
    /// The spec is not valid.
    #[error("the spec is not valid: {0}")]
    InvalidSpec(String),
    /// No-op steps are for measuring.
    #[error("step `{0}` is a no-op, which needs a coordinator started with --allow-noop")]
    NoopRefused(StepName),
    /// A field of the request is wrong.
    #[error("the request is malformed: {0}")]
    Field(#[from] FieldError),
}

impl ServiceError {
    /// The gRPC code. Called by `impl From<ServiceError> for Status` and by nothing else.
    const fn code(&self) -> Code {
        match self {
            // ask the other replica
            Self::NotLeader { .. } | Self::BetweenTerms | Self::StoreFull(_) => Code::Unavailable,
            Self::SessionEnded => Code::Aborted,
            Self::Protocol { .. }
            | Self::RunEnded { .. }
            | Self::NeverPlanned { .. }
            | Self::Damaged { .. }
            | Self::SpecChanged { .. }
            | Self::OtherSteps { .. }
            | Self::UnfinishedHistory { .. }
            | Self::PartOfAPlan
            | Self::OtherRunActive { .. }
            | Self::RunSuperseded { .. }
            | Self::PipelineBusy { .. }
            | Self::RunUndone { .. }
            | Self::NoExchange(_)
            | Self::InDoubt { .. }
            | Self::StalePlan(_)
            | Self::NotAcceptable { .. }
            | Self::TooManyControls { .. }
            | Self::StepBegan { .. }
            | Self::Control(ControlError::NotPaused(_))
            | Self::ScheduleNotPaused(_)
            | Self::TooManySchedules { .. }
            | Self::DamagedSchedule { .. }
            | Self::NoopRefused(_) => Code::FailedPrecondition,
            Self::UnknownRun(_)
            | Self::NoRun
            | Self::UnknownStep(_)
            | Self::UnknownWorker(_)
            | Self::UnknownSchedule(_)
            | Self::NothingToRetry { .. }
            | Self::NothingToAccept { .. }
            | Self::Selection(SelectionError::NoStep { .. })
            | Self::NothingInDoubt { .. } => Code::NotFound,
            Self::AmbiguousRun { .. }
            | Self::InvalidSpec(_)
            | Self::NoSchedule(_)
            | Self::Field(_)
            | Self::Selection(_)
            | Self::Control(_) => Code::InvalidArgument,
        }
    }
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let mut status = Self::new(error.code(), error.to_string());
        if let ServiceError::NotLeader {
            leader: Some(leader),
        } = &error
            && let Ok(address) = leader.parse()
        {
            status.metadata_mut().insert(LEADER_METADATA, address);
        }
        status
    }
}
