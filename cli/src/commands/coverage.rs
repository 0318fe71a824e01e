//! `coverage`: what the targets' ledgers hold of each step; and voiding receipts whose rows are not
//! there any more.

use std::collections::{BTreeMap, BTreeSet};

use highwater_common::coverage::Coverage;
use highwater_common::errand::{Errand, Forget, StreamReceipts};
use highwater_common::id::StepName;
use highwater_common::number::count;
use highwater_common::range::CursorRange;
use highwater_common::spec::Bound;
use serde_json::{Value, json};

use super::Context;
use super::plan::{Planned, make_plan};
use super::run::Wanted;
use crate::args::{CoverageArgs, FileArgs, ForgetArgs};
use crate::connect::{Need, Where};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file::PipelineFile;

/// Workers that ask the targets, when they live in this process.
pub(super) const ASKING_WORKERS: u32 = 4;

pub(super) async fn show(
    context: &mut Context<'_>,
    args: &CoverageArgs,
) -> Result<ExitCode, CliError> {
    let Some(file) = &args.file else {
        return Err(CliError::new(ExitCode::Usage, "no pipeline file")
            .next("highwater coverage FILE [STEP]"));
    };
    let step = args.step.as_deref().map(step_name).transpose()?;
    let file = FileArgs {
        file: file.clone(),
        over: args.over.clone(),
    };
    let come_back = format!(
        "{} coverage {}",
        context.output.talk_look.program,
        file.file.display()
    );
    ask(context, &file, Errand::Show { step }, come_back).await
}

pub(super) async fn forget(
    context: &mut Context<'_>,
    args: &ForgetArgs,
) -> Result<ExitCode, CliError> {
    check_reason(&args.reason)?;
    let step = step_name(&args.step)?;
    let reach = match (&args.from, &args.to) {
        (None, None) => {
            format!("voids every receipt of step {step}: the next run loads all of it again")
        }
        (from, to) => format!(
            "voids the receipts of step {step} from {} to {}: the next run loads them again",
            from.as_deref().unwrap_or("the beginning"),
            to.as_deref().unwrap_or("the end")
        ),
    };
    let reach = format!(
        "{reach}. Rows of theirs that are still in the table stay there; with `append` they would \
         be there twice"
    );
    context.confirm(&reach).await?;
    let bound = |text: &Option<String>| text.clone().map(Bound);
    let errand = Errand::Forget(Forget {
        step,
        from: bound(&args.from),
        to: bound(&args.to),
        reason: args.reason.clone(),
    });
    let come_back = format!(
        "{} coverage {}",
        context.output.talk_look.program,
        args.pipeline.file.display()
    );
    ask(context, &args.pipeline, errand, come_back).await
}

pub(super) fn step_name(text: &str) -> Result<StepName, CliError> {
    text.parse().map_err(|error| {
        CliError::new(ExitCode::Usage, format!("`{text}` is no step")).why(format!("{error}"))
    })
}

/// Refuses a reason that a ledger would not keep.
pub(super) fn check_reason(reason: &str) -> Result<(), CliError> {
    if !reason.trim().is_empty() && reason.len() <= Errand::REASON_BYTES_MAX {
        return Ok(());
    }
    let why = format!(
        "it is what others will read later: 1 to {} bytes",
        Errand::REASON_BYTES_MAX
    );
    Err(CliError::new(ExitCode::Usage, "the reason is empty or too long").why(why))
}

/// Has an errand done by whoever reaches the targets.
pub(super) async fn do_errand(
    context: &mut Context<'_>,
    pipeline: &PipelineFile,
    errand: Errand,
    come_back: String,
) -> Result<Planned, CliError> {
    let place = Where::new(context.global, ASKING_WORKERS);
    let connection = context.open(&place, Need::Act).await?;
    make_plan(
        context,
        connection,
        pipeline,
        Wanted::Errand(errand),
        come_back,
    )
    .await
}

async fn ask(
    context: &mut Context<'_>,
    file: &FileArgs,
    errand: Errand,
    come_back: String,
) -> Result<ExitCode, CliError> {
    let pipeline = context.read(file).await?;
    let program = context.output.talk_look.program.clone();
    let plan = match do_errand(context, &pipeline, errand, come_back).await? {
        Planned::Made(plan) => plan,
        Planned::Not(exit) => return Ok(exit),
    };
    let receipts = &plan.view.receipts;
    // Ranges of a step that stands for many tables are none of the verb's.
    let groups = pipeline.groups.iter();
    let in_groups: BTreeSet<&StepName> = groups.flat_map(|group| &group.steps).collect();
    let steps: Vec<Value> = receipts
        .iter()
        .map(|(step, held)| document(step, held))
        .collect();
    context.print(
        &json!({"schema": "coverage/v1", "pipeline": pipeline.name.to_string(), "steps": steps}),
        |_| {
            let backfill = format!("{program} backfill {}", pipeline.typed);
            table(receipts, &backfill, &in_groups)
        },
        || receipts.keys().map(ToString::to_string).collect(),
    )?;
    Ok(ExitCode::Success)
}

/// The ranges that are covered, of whatever kind, and the gaps between them.
fn ranges(coverage: &Coverage) -> (Vec<CursorRange>, Vec<CursorRange>) {
    let (mut covered, mut gaps) = (Vec::new(), Vec::new());
    for kind in coverage.kinds() {
        let of_kind: Vec<CursorRange> = coverage.ranges(kind).collect();
        gaps.extend(
            of_kind
                .iter()
                .zip(of_kind.iter().skip(1))
                .filter_map(|(one, next)| CursorRange::new(one.end(), next.start()).ok()),
        );
        covered.extend(of_kind);
    }
    covered.dedup(); // one without ends is of every kind
    (covered, gaps)
}

fn document(step: &StepName, held: &StreamReceipts) -> Value {
    let (covered, gaps) = ranges(&held.coverage);
    let pair = |range: &CursorRange| json!({"start": range.start().map(|at| at.to_string()), "end": range.end().map(|at| at.to_string())});
    json!({
        "step": step.to_string(),
        "stream": held.stream,
        "receipts": held.receipts,
        "rows": held.rows,
        "voided": held.voided,
        "forgotten": held.forgotten,
        "covered": covered.iter().map(pair).collect::<Vec<_>>(),
        "gaps": gaps.iter().map(pair).collect::<Vec<_>>(),
        "null": held.coverage.null(),
        "watermark": held.watermark.map(|at| json!({"position": at.position.to_string(), "moves": at.version})),
    })
}

/// `backfill` is how the verb that fills gaps is typed, up to the step.
fn table(
    receipts: &BTreeMap<StepName, StreamReceipts>,
    backfill: &str,
    in_groups: &BTreeSet<&StepName>,
) -> String {
    let mut text = String::new();
    for (step, held) in receipts {
        let voided = if held.voided == 0 {
            String::new()
        } else {
            format!(", {} voided", count(held.voided))
        };
        text.push_str(&format!(
            "{step}: {} receipt{}, {} rows{voided}\n",
            count(held.receipts),
            if held.receipts == 1 { "" } else { "s" },
            count(held.rows)
        ));
        if held.forgotten > 0 {
            text.push_str(&format!("  voided now: {}\n", count(held.forgotten)));
        }
        let (covered, gaps) = ranges(&held.coverage);
        covered
            .iter()
            .for_each(|range| text.push_str(&format!("  covered {range}\n")));
        gaps.iter()
            .for_each(|range| text.push_str(&format!("  gap     {range}\n")));
        if !in_groups.contains(step) {
            text.push_str(&next(step, held, &gaps, backfill));
        }
        if held.coverage.null() {
            text.push_str("  covered rows without a position\n");
        }
        if let Some(at) = held.watermark {
            text.push_str(&format!("  watermark {}\n", at.position));
        }
        if held.coverage.is_empty() {
            text.push_str("  nothing is covered\n");
        }
    }
    text
}

/// How the first gap is filled, of a step that has no watermark: that of one that has is its own
/// next window's.
fn next(step: &StepName, held: &StreamReceipts, gaps: &[CursorRange], backfill: &str) -> String {
    let gap = gaps.first().filter(|_| held.watermark.is_none());
    let ends = gap.and_then(|gap| Some((gap.start()?, gap.end()?)));
    ends.map_or_else(String::new, |(start, end)| {
        format!("  next    {backfill} {step} --from {start} --to {end}\n")
    })
}

#[cfg(test)]
mod tests {
    use highwater_common::cursor::Cursor;
    use highwater_common::window::StoredWatermark;

    use super::*;

    #[test]
    fn gaps_lie_between_what_is_covered() {
        let range = |start: i64, end: i64| {
            CursorRange::new(Some(Cursor::Integer(start)), Some(Cursor::Integer(end)))
                .expect("not empty")
        };
        let coverage = Coverage::of(&[range(0, 10), range(10, 20), range(30, 40)], true);
        assert_eq!(
            ranges(&coverage),
            (vec![range(0, 20), range(30, 40)], vec![range(20, 30)])
        );
        let held = StreamReceipts {
            receipts: 3,
            rows: 1_200,
            coverage,
            watermark: Some(StoredWatermark {
                position: Cursor::Integer(20),
                version: 3,
            }),
            ..StreamReceipts::default()
        };
        let step: StepName = "orders".parse().expect("a name");
        let without = StreamReceipts {
            watermark: None,
            ..held.clone()
        };
        assert_eq!(
            next(
                &step,
                &without,
                &[range(20, 30)],
                "highwater backfill f.yaml"
            ),
            "  next    highwater backfill f.yaml orders --from 20 --to 30\n"
        );
        let text = table(
            &BTreeMap::from([(step, held)]),
            "highwater backfill f.yaml",
            &BTreeSet::new(),
        );
        assert_eq!(
            text,
            "orders: 3 receipts, 1,200 rows\n  covered [0, 20)\n  covered [30, 40)\n  gap     [20, \
             30)\n  covered rows without a position\n  watermark 20\n"
        );
    }
}
