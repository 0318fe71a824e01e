//! `swap`: the tables that swaps have exchanged, and what they have left beside them.

use std::collections::BTreeMap;

use highwater_common::errand::{Clean, Errand, Undo, Undone};
use highwater_common::id::StepName;
use highwater_common::shadow::{Beside, ShadowKind};
use serde_json::json;

use super::Context;
use super::coverage::{ASKING_WORKERS, check_reason, do_errand, step_name};
use super::plan::{Planned, plan_over};
use super::run::Wanted;
use crate::args::{CleanArgs, FileArgs, UndoArgs};
use crate::connect::{Need, Where};
use crate::error::CliError;
use crate::exit::ExitCode;

pub(super) async fn undo(context: &mut Context<'_>, args: &UndoArgs) -> Result<ExitCode, CliError> {
    check_reason(&args.reason)?;
    let step = step_name(&args.step)?;
    let pipeline = context.read(&args.pipeline).await?;
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

pub(super) async fn clean(
    context: &mut Context<'_>,
    args: &CleanArgs,
) -> Result<ExitCode, CliError> {
    let step = args.step.as_deref().map(step_name).transpose()?;
    let file = FileArgs {
        file: args.file.clone(),
        over: args.over.clone(),
    };
    let pipeline = context.read(&file).await?;
    let errand = |drops| {
        Errand::Clean(Clean {
            step: step.clone(),
            kept: args.kept,
            drops,
        })
    };
    let program = context.output.talk_look.program.clone();
    let come_back = format!("{program} swap clean {}", args.file.display());
    // Both questions go over one connection: a process that has let go of the state cannot be sure
    // to be the next that holds it.
    let place = Where::new(context.global, ASKING_WORKERS);
    let mut connection = context.open(&place, Need::Act).await?;
    let looking = Wanted::Errand(errand(false));
    let looking = plan_over(
        context,
        &mut connection,
        &pipeline,
        looking,
        come_back.clone(),
    )
    .await?;
    let mut plan = match looking {
        Planned::Made(plan) => plan,
        Planned::Not(exit) => return Ok(exit),
    };
    let is_there = plan.view.beside.values().any(|found| !found.is_empty());
    if is_there && !args.dry_run {
        let reach = format!(
            "drops what stands beside the tables that are read:\n{}A failed run whose shadow goes \
             cannot be tried again, and a kept table that goes cannot be brought back",
            listed(&plan.view.beside)
        );
        context.confirm(&reach).await?;
        let dropping = Wanted::Errand(errand(true));
        let dropped = plan_over(context, &mut connection, &pipeline, dropping, come_back).await?;
        plan = match dropped {
            Planned::Made(plan) => plan,
            Planned::Not(exit) => return Ok(exit),
        };
    }
    context.close(connection).await;
    let beside = &plan.view.beside;
    context.print(
        &json!({
            "schema": "swap/v1",
            "pipeline": pipeline.name.to_string(),
            "beside": beside,
        }),
        |_| match is_there {
            true => listed(beside),
            false => "nothing to drop\n".to_owned(),
        },
        || {
            let tables = beside.values().flatten();
            tables.map(|one| one.table.clone()).collect()
        },
    )?;
    let is_left = |one: &Beside| one.problem.is_some();
    Ok(match beside.values().flatten().any(is_left) {
        true => ExitCode::PartCommitted,
        false => ExitCode::Success,
    })
}

/// A line for each table.
fn listed(beside: &BTreeMap<StepName, Vec<Beside>>) -> String {
    let mut text = String::new();
    for (step, found) in beside {
        for one in found {
            let kind = match one.kind {
                ShadowKind::Shadow => "shadow",
                ShadowKind::Kept => "kept  ",
                ShadowKind::Stage => "stage ",
            };
            let since = jiff::Timestamp::from_microsecond(one.since_micros).unwrap_or_default();
            let ends = match &one.problem {
                Some(why) => format!(", not dropped: {why}"),
                None if one.dropped => ", dropped".to_owned(),
                None => String::new(),
            };
            text.push_str(&format!(
                "{step}: {kind} {} of run {}, since {since:.0}{ends}\n",
                one.table,
                one.run.short(6)
            ));
        }
    }
    text
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
