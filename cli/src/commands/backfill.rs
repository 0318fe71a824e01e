//! `backfill`: plans and runs a range of one step, over what the target's ledger says of it.

use highwater_common::id::StepName;
use highwater_common::spec::{self, Spec};

use super::Context;
use super::coverage::step_name;
use super::plan::{AfterPlan, plan_file};
use super::run::{Submission, may_detach, submit_and_follow};
use crate::args::{BackfillArgs, FileArgs};
use crate::connect::Where;
use crate::error::CliError;
use crate::exit::ExitCode;

pub(super) async fn backfill(
    context: &mut Context<'_>,
    args: &BackfillArgs,
) -> Result<ExitCode, CliError> {
    let place = Where::new(context.global, args.workers);
    may_detach(args.detach, &place)?;
    let step = step_name(&args.step)?;
    let as_written = context.read(&args.pipeline).await?;
    let whole = spec::from_canonical(&as_written.spec)
        .map_err(|_| CliError::new(ExitCode::Unexpected, "cannot read the pipeline back"))?;
    if !whole.steps.contains_key(&step) {
        let what = format!("there is no step `{step}`");
        return Err(CliError::new(ExitCode::NothingSelected, what).at(args
            .pipeline
            .file
            .display()
            .to_string()));
    }
    let mut pipeline = context.read(&overlaid(args, &step, &whole)).await?;
    pipeline.select(std::slice::from_ref(&args.step))?;
    if args.plan {
        return plan_file(context, &place, &pipeline, AfterPlan::default()).await;
    }
    let submission = Submission {
        fresh: args.new,
        detach: args.detach,
    };
    submit_and_follow(context, &place, &pipeline, submission).await
}

/// The file with the range laid over it. Where the range has an end of its own, the steps that go on where this one
/// ends are left out: they begin at the end that its ledger has, and not at this one.
fn overlaid(args: &BackfillArgs, step: &StepName, whole: &Spec) -> FileArgs {
    let of_step = |key: &str, value: &str| format!("steps.{step}.strategy.{key}={value}");
    let mut file = args.pipeline.clone();
    let sets = &mut file.over.sets;
    sets.extend(args.from.iter().map(|from| of_step("start", from)));
    sets.extend(args.to.iter().map(|to| of_step("end", to)));
    let reprocess = args
        .reprocess
        .map(|word| of_step("reprocess", word.as_str()));
    sets.extend(reprocess);
    if args.to.is_some() {
        let continuing = whole.steps.iter().filter(|(_, other)| {
            let window = other.strategy.load().probe().and_then(|probe| probe.window);
            window.and_then(|window| window.continues) == Some(step)
        });
        sets.extend(continuing.map(|(name, _)| format!("steps.{name}.enabled=false")));
    }
    file
}
