//! `watermarks`: where the next window of each step begins, as its target's ledger says, and putting
//! it elsewhere.

use std::collections::BTreeMap;

use highwater_common::errand::{Errand, PlaceWatermark, StreamReceipts};
use highwater_common::id::StepName;
use highwater_common::spec::Bound;
use serde_json::{Value, json};

use super::Context;
use super::coverage::{check_reason, do_errand, step_name};
use super::plan::Planned;
use crate::args::{FileArgs, WatermarksCommand};
use crate::error::CliError;
use crate::exit::ExitCode;

pub(super) async fn watermarks(
    context: &mut Context<'_>,
    command: &WatermarksCommand,
) -> Result<ExitCode, CliError> {
    match command {
        WatermarksCommand::Ls(file) => ask(context, file, Errand::Show { step: None }).await,
        WatermarksCommand::Show { pipeline, step } => {
            let step = Some(step_name(step)?);
            ask(context, pipeline, Errand::Show { step }).await
        }
        WatermarksCommand::Set {
            pipeline,
            step,
            position,
            reason,
        } => {
            let reach = format!(
                "puts the watermark of step {step} at {position}: the next run reads from there on. \
                 What lies before it and is not loaded yet is never read; what lies behind it and is \
                 loaded already is read again"
            );
            let to = Some(Bound(position.clone()));
            place(context, pipeline, step, to, reason, &reach).await
        }
        WatermarksCommand::Reset {
            pipeline,
            step,
            reason,
        } => {
            let reach = format!(
                "takes the watermark of step {step} away: the next run reads from the first row on"
            );
            place(context, pipeline, step, None, reason, &reach).await
        }
    }
}

async fn place(
    context: &mut Context<'_>,
    file: &FileArgs,
    step: &str,
    to: Option<Bound>,
    reason: &str,
    reach: &str,
) -> Result<ExitCode, CliError> {
    check_reason(reason)?;
    let step = step_name(step)?;
    context.confirm(reach).await?;
    let reason = reason.to_owned();
    let errand = Errand::PlaceWatermark(PlaceWatermark { step, to, reason });
    ask(context, file, errand).await
}

async fn ask(
    context: &mut Context<'_>,
    file: &FileArgs,
    errand: Errand,
) -> Result<ExitCode, CliError> {
    let pipeline = context.read(file).await?;
    let program = context.output.talk_look.program.clone();
    let come_back = format!("{program} watermarks ls {}", file.file.display());
    let plan = match do_errand(context, &pipeline, errand, come_back).await? {
        Planned::Made(plan) => plan,
        Planned::Not(exit) => return Ok(exit),
    };
    let held = &plan.view.receipts;
    let steps: Vec<Value> = held
        .iter()
        .map(|(step, held)| document(step, held))
        .collect();
    context.print(
        &json!({"schema": "watermarks/v1", "pipeline": pipeline.name.to_string(), "steps": steps}),
        |_| listed(held),
        || held.keys().map(ToString::to_string).collect(),
    )?;
    Ok(ExitCode::Success)
}

fn document(step: &StepName, held: &StreamReceipts) -> Value {
    let watermark = held.watermark;
    json!({
        "step": step.to_string(),
        "stream": held.stream,
        "position": watermark.map(|at| at.position.to_string()),
        "moves": watermark.map(|at| at.version),
    })
}

/// A line for each step that has one.
fn listed(held: &BTreeMap<StepName, StreamReceipts>) -> String {
    let lines = held.iter().filter_map(|(step, held)| {
        let at = held.watermark?;
        Some(format!("{step}: {}\n", at.position))
    });
    let text: String = lines.collect();
    match text.is_empty() {
        true => "no step has a watermark\n".to_owned(),
        false => text,
    }
}
