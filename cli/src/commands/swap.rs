//! `swap`: the tables that swaps have exchanged, and what they have left beside them.

use highwater_common::errand::{Errand, Undo, Undone};
use highwater_common::id::StepName;
use serde_json::json;

use super::Context;
use super::coverage::{check_reason, do_errand, step_name};
use super::plan::Planned;
use crate::args::UndoArgs;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;

pub(super) async fn undo(context: &mut Context<'_>, args: &UndoArgs) -> Result<ExitCode, CliError> {
    check_reason(&args.reason)?;
    let step = step_name(&args.step)?;
    let pipeline = pipeline_file::read(&args.pipeline)?;
    let reach = format!(
        "brings the table before the latest swap of step {step} back: it is read from then on, and \
         the one that is read now is kept. Rows that others have written since then go away with \
         that one"
    );
    context.confirm(&reach).await?;
    let program = context.output.talk_look.program.clone();
    let file = args.pipeline.file.display().to_string();
    let come_back = format!("{program} swap undo {file} {step}");
    let errand = Errand::Undo(Undo {
        step: step.clone(),
        reason: args.reason.clone(),
    });
    let plan = match do_errand(context, &pipeline, errand, come_back).await? {
        Planned::Made(plan) => plan,
        Planned::Not(exit) => return Ok(exit),
    };
    let undone = plan.view.undone.get(&step).ok_or_else(|| {
        let why = "no worker has told what became of it";
        CliError::new(ExitCode::Unexpected, "the swap may be undone or not").why(why)
    })?;
    let document = json!({
        "schema": "swap/v1",
        "pipeline": pipeline.name.to_string(),
        "step": step.to_string(),
        "undone": undone,
    });
    context.print(
        &document,
        |_| told(&step, undone),
        || vec![undone.kept.clone()],
    )?;
    context.output.say(&format!(
        "next: the next run of {step} loads it anew; {program} swap undo {file} {step} takes this \
         back"
    ));
    Ok(ExitCode::Success)
}

fn told(step: &StepName, undone: &Undone) -> String {
    let of = undone
        .run
        .map_or_else(String::new, |run| format!(" of run {}", run.short(6)));
    let mut text = format!(
        "{step}: the table before is read as {} again; the one{of} is kept as {}\n",
        undone.table, undone.kept
    );
    for warning in &undone.warnings {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text
}
