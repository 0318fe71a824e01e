//! What a person asks of a target's ledger.

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome};
use highwater_common::errand::Errand;
use highwater_common::error_code::ErrorCode;
use highwater_common::facts::StepFacts;

use super::{AttemptContext, malformed, superseded};
use crate::connector::{ForgetOutcome, ForgetRequest, PrepareOutcome, StreamRequest};

/// Asks the target's ledger for what a person wants of it, and looks at no table.
pub(crate) async fn errand(cx: &AttemptContext<'_>) -> Result<Outcome, AttemptError> {
    let (context, assignment) = (cx.of, cx.assignment);
    let order = &context.order;
    let Some(errand) = &order.errand else {
        return Err(malformed("no errand"));
    };
    let stream = context.stream()?;
    let target = context.target()?;
    let receipts = match errand {
        Errand::Show { .. } => target.receipts(&order.cluster, &stream).await?,
        Errand::Forget(forget) => {
            let (run, token) = (order.run, assignment.fence.token);
            let stream = StreamRequest {
                stream,
                run,
                plan: None,
                token,
                kind: None,
            };
            let request = ForgetRequest {
                cluster: order.cluster,
                stream,
                forget: forget.clone(),
                tz: order.strategy.load().zone().to_owned(),
            };
            match target.forget(&request).await? {
                ForgetOutcome::Done(receipts) => receipts,
                ForgetOutcome::Not(PrepareOutcome::Fenced { newer }) => {
                    return Ok(Outcome::Fenced { newer });
                }
                ForgetOutcome::Not(
                    PrepareOutcome::Superseded | PrepareOutcome::Prepared { .. },
                ) => {
                    return superseded(context, target.as_ref()).await;
                }
            }
        }
    };
    let facts = StepFacts::of_receipts(context.source_engine(), receipts);
    let json = serde_json::to_vec(&facts).map_err(|error| {
        AttemptError::new(
            ErrorClass::Permanent,
            ErrorCode::MalformedFacts,
            error.to_string(),
        )
    })?;
    Ok(Outcome::Probed(json))
}
