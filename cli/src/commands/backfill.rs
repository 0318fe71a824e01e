//! `backfill`: plans and runs a range of one step, over what the target's ledger says of it.

use std::collections::BTreeSet;

use highwater_common::id::StepName;
use highwater_common::spec::{self, Spec, Step, TableGroup, When};

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
    let refused = |exit, what: String| {
        Err(CliError::new(exit, what).at(args.pipeline.file.display().to_string()))
    };
    let of_group = |group: &&TableGroup| group.step == step || group.steps.contains(&step);
    if let Some(group) = as_written.groups.iter().find(of_group) {
        let group = &group.step;
        let what = format!(
            "`{group}` stands for many tables: a range of one of them is loaded by a step of its own, with `table` in \
             the place of `tables`; `highwater run` loads what is missing of all"
        );
        return refused(ExitCode::Usage, what);
    }
    match whole.steps.get(&step).map(|of| of.strategy.load().name()) {
        Some("backfill") => {}
        Some(_) => {
            let what = format!("step `{step}` is no `backfill`: only such a one has ranges");
            return refused(ExitCode::Usage, what);
        }
        None => {
            let what = format!("there is no step `{step}`");
            return refused(ExitCode::NothingSelected, what);
        }
    }
    let overlaid = overlaid(args, &step, &whole, &as_written.groups);
    let mut pipeline = context.read(&overlaid).await?;
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
/// ends are left out, with all that need them: they begin at the end that its ledger has, and not at this one.
fn overlaid(args: &BackfillArgs, step: &StepName, whole: &Spec, groups: &[TableGroup]) -> FileArgs {
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
        let left_out = going_on(step, whole);
        // By the names that the file has.
        let written = left_out.into_iter().map(|name| {
            let group = groups.iter().find(|group| group.steps.contains(name));
            group.map_or(name, |group| &group.step)
        });
        let written: BTreeSet<&StepName> = written.collect();
        sets.extend(
            written
                .iter()
                .map(|name| format!("steps.{name}.enabled=false")),
        );
    }
    file
}

/// The steps that go on where this one ends, and those that cannot do without them.
fn going_on<'a>(step: &StepName, whole: &'a Spec) -> BTreeSet<&'a StepName> {
    let continued = |of: &'a Step| {
        let window = of.strategy.load().probe().and_then(|probe| probe.window);
        window.and_then(|window| window.continues)
    };
    let steps = whole.steps.iter();
    let goes_on = steps.filter(|(_, of)| continued(of) == Some(step));
    let mut found: BTreeSet<&StepName> = goes_on.map(|(name, _)| name).collect();
    loop {
        let needs = |of: &Step| {
            let mut edges = of.depends_on.iter();
            edges.any(|edge| edge.when == When::Success && found.contains(&edge.step))
        };
        let more = whole.steps.iter().filter(|(name, of)| {
            !found.contains(name)
                && (needs(of) || continued(of).is_some_and(|on| found.contains(on)))
        });
        let more: Vec<&StepName> = more.map(|(name, _)| name).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}
