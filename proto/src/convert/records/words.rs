//! The words of stored statuses and intents.

use highwater_common::record::RunIntent;
use highwater_common::status::{RunStatus, StepStatus};

use crate::storage as pb;

pub(super) fn intent_to(intent: RunIntent) -> pb::run::Intent {
    match intent {
        RunIntent::Plan => pb::run::Intent::Plan,
        RunIntent::Run => pb::run::Intent::Run,
        RunIntent::Cancel => pb::run::Intent::Cancel,
    }
}

pub(super) fn intent_from(intent: pb::run::Intent) -> Option<RunIntent> {
    match intent {
        pb::run::Intent::Unspecified => None,
        pb::run::Intent::Plan => Some(RunIntent::Plan),
        pb::run::Intent::Run => Some(RunIntent::Run),
        pb::run::Intent::Cancel => Some(RunIntent::Cancel),
    }
}

pub(super) fn run_status_to(status: RunStatus) -> pb::run::Status {
    match status {
        RunStatus::Planning => pb::run::Status::Planning,
        RunStatus::Planned => pb::run::Status::Planned,
        RunStatus::Running => pb::run::Status::Running,
        RunStatus::Cancelling => pb::run::Status::Cancelling,
        RunStatus::Success => pb::run::Status::Success,
        RunStatus::Failed => pb::run::Status::Failed,
        RunStatus::Cancelled => pb::run::Status::Cancelled,
    }
}

pub(super) fn run_status_from(status: pb::run::Status) -> Option<RunStatus> {
    match status {
        pb::run::Status::Unspecified => None,
        pb::run::Status::Planning => Some(RunStatus::Planning),
        pb::run::Status::Planned => Some(RunStatus::Planned),
        pb::run::Status::Running => Some(RunStatus::Running),
        pb::run::Status::Cancelling => Some(RunStatus::Cancelling),
        pb::run::Status::Success => Some(RunStatus::Success),
        pb::run::Status::Failed => Some(RunStatus::Failed),
        pb::run::Status::Cancelled => Some(RunStatus::Cancelled),
    }
}

pub(super) fn step_status_to(status: StepStatus) -> pb::step::Status {
    match status {
        StepStatus::Pending => pb::step::Status::Pending,
        StepStatus::Running => pb::step::Status::Running,
        StepStatus::Success => pb::step::Status::Success,
        StepStatus::Failed => pb::step::Status::Failed,
        StepStatus::Skipped => pb::step::Status::Skipped,
        StepStatus::Cancelled => pb::step::Status::Cancelled,
    }
}

pub(super) fn step_status_from(status: pb::step::Status) -> Option<StepStatus> {
    match status {
        pb::step::Status::Unspecified => None,
        pb::step::Status::Pending => Some(StepStatus::Pending),
        pb::step::Status::Running => Some(StepStatus::Running),
        pb::step::Status::Success => Some(StepStatus::Success),
        pb::step::Status::Failed => Some(StepStatus::Failed),
        pb::step::Status::Skipped => Some(StepStatus::Skipped),
        pb::step::Status::Cancelled => Some(StepStatus::Cancelled),
    }
}
