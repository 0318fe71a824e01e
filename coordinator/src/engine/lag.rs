//! How far a target is behind its source, of steps that go on where their last run ended.

use highwater_common::document::{LagDocument, StepDocument};
use highwater_common::status::StepStatus;
use highwater_common::window::lag_seconds;

use super::step::Step;

/// How far the target of a step is behind: since its window's end, or, as long as that is not
/// loaded, since its beginning.
pub(super) fn lag_of(step: &Step, now_millis: i64) -> Option<u64> {
    let load_order = step.plan.as_ref()?.load_order.as_ref()?;
    let order = load_order.watermark?;
    let at = match step.record.status {
        StepStatus::Success => Some(order.to),
        StepStatus::Pending
        | StepStatus::Running
        | StepStatus::Failed
        | StepStatus::Skipped
        | StepStatus::Cancelled => order.low,
    };
    lag_seconds(at?, now_millis.saturating_mul(1_000))
}

/// The step that is furthest behind.
pub(super) fn largest_lag(steps: &[StepDocument]) -> Option<LagDocument> {
    let behind = steps.iter().filter_map(|of| Some((of, of.lag_seconds?)));
    let (of, seconds) = behind.max_by_key(|(_, seconds)| *seconds)?;
    Some(LagDocument {
        step: of.step.clone(),
        seconds,
    })
}
