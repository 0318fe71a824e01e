//! `cdc`: where the steps stand that follow a log, and copying one of their tables anew.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_common::errand::{Errand, Resync};
use highwater_common::id::StepName;
use highwater_common::log::LogStanding;
use highwater_common::number::{bytes, duration};
use serde_json::{Value, json};

use super::Context;
use super::coverage::{check_reason, do_errand, step_name};
use super::plan::Planned;
use super::run::{Submission, may_detach, may_run_programs, submit_and_follow};
use crate::args::{CdcCommand, FileArgs, ResyncArgs};
use crate::connect::Where;
use crate::error::CliError;
use crate::exit::ExitCode;

pub(super) async fn cdc(
    context: &mut Context<'_>,
    command: &CdcCommand,
) -> Result<ExitCode, CliError> {
    match command {
        CdcCommand::Status(file) => status(context, file).await,
        CdcCommand::Resync(args) => resync(context, args).await,
    }
}

async fn status(context: &mut Context<'_>, file: &FileArgs) -> Result<ExitCode, CliError> {
    let pipeline = context.read(file).await?;
    let program = context.output.talk_look.program.clone();
    let come_back = format!("{program} cdc status {}", file.file.display());
    let errand = Errand::Standing { step: None };
    let plan = match do_errand(context, &pipeline, errand, come_back).await? {
        Planned::Made(plan) => plan,
        Planned::Not(exit) => return Ok(exit),
    };
    let logs = &plan.view.logs;
    if logs.is_empty() {
        context.output.say("no step of the file follows a log");
    }
    let steps: Vec<Value> = logs.iter().map(|(step, of)| document(step, of)).collect();
    context.print(
        &json!({"schema": "cdc/v1", "pipeline": pipeline.name.to_string(), "steps": steps}),
        |_| table(logs),
        || logs.keys().map(ToString::to_string).collect(),
    )?;
    Ok(ExitCode::Success)
}

async fn resync(context: &mut Context<'_>, args: &ResyncArgs) -> Result<ExitCode, CliError> {
    check_reason(&args.reason)?;
    let step = step_name(&args.step)?;
    // Whatever would refuse the run is asked before anything is dropped.
    let place = Where::new(context.global, args.workers);
    may_detach(args.detach, &place)?;
    let pipeline = context.read(&args.pipeline).await?;
    may_run_programs(&place, &pipeline)?;
    let reach = format!(
        "drops the replication slot of step {step} with all that it keeps, and runs the pipeline, \
         which copies the table anew: rows of the target become like the source's, and rows that the \
         source does not have are treated as `write.deletes` says"
    );
    context.confirm(&reach).await?;
    let program = context.output.talk_look.program.clone();
    let file = args.pipeline.file.display();
    let errand = Errand::Resync(Resync {
        step: step.clone(),
        reason: args.reason.clone(),
    });
    let come_back = format!("{program} cdc resync {file} {step}");
    match do_errand(context, &pipeline, errand, come_back).await? {
        Planned::Made(_) => {}
        Planned::Not(exit) => return Ok(exit),
    }
    let submission = Submission {
        fresh: true,
        detach: args.detach,
    };
    submit_and_follow(context, &place, &pipeline, submission).await
}

fn document(step: &StepName, of: &LogStanding) -> Value {
    let seconds = of.lag_micros().map(|micros| micros / 1_000_000);
    json!({
        "step": step.to_string(),
        "state": of.state(),
        "why": of.gap,
        "alert": of.alert,
        "position": of.position.map(|at| at.to_string()),
        "end": of.end.to_string(),
        "lag_bytes": of.lag_bytes(),
        "lag_seconds": seconds,
        "publication": of.publication,
        "slot": {
            "name": of.slot,
            "exists": of.found.is_some(),
            "active": of.found.as_ref().map(|slot| slot.active),
            "confirmed": of.found.as_ref().and_then(|slot| slot.confirmed).map(|at| at.to_string()),
            "wal_status": of.found.as_ref().map(|slot| &slot.wal_status),
            "retained_bytes": of.found.as_ref().map(|slot| slot.retained_bytes),
            "keep_bytes": of.keep_bytes,
        },
    })
}

fn table(logs: &BTreeMap<StepName, LogStanding>) -> String {
    let mut text = String::new();
    for (step, of) in logs {
        text.push_str(&format!("{step}: {}\n", of.state().as_str()));
        if let Some(why) = &of.gap {
            text.push_str(&format!("  {why}\n"));
        }
        if let (Some(at), Some(lag)) = (of.position, of.lag_bytes()) {
            let since = match of.lag_micros() {
                Some(micros) => format!(", {}", duration(Duration::from_micros(micros))),
                None => String::new(),
            };
            text.push_str(&format!(
                "  position {at}: {}{since} behind the end of the log, {}\n",
                bytes(lag),
                of.end
            ));
        }
        let kept = match &of.found {
            None => "does not exist".to_owned(),
            Some(slot) => {
                let most = match of.keep_bytes {
                    None => "without a limit (max_slot_wal_keep_size)".to_owned(),
                    Some(most) => format!("of {} at most (max_slot_wal_keep_size)", bytes(most)),
                };
                format!("keeps {} of the log, {most}", bytes(slot.retained_bytes))
            }
        };
        text.push_str(&format!("  slot {} {kept}\n", of.slot));
        if let Some(alert) = &of.alert {
            text.push_str(&format!("  warning: {alert}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use highwater_common::log::{Lsn, SlotStanding};

    use super::*;

    #[test]
    fn a_step_says_where_it_is_and_what_its_slot_keeps() {
        let mut of = LogStanding {
            slot: "shop_log".to_owned(),
            publication: "shop".to_owned(),
            found: Some(SlotStanding {
                active: true,
                confirmed: Some(Lsn::new(0x1_0000_0000)),
                wal_status: "reserved".to_owned(),
                retained_bytes: 3 << 20,
            }),
            keep_bytes: Some(50 << 30),
            end: Lsn::new(0x1_0000_2000),
            at: 9_000_000,
            position: Some(Lsn::new(0x1_0000_1000)),
            reached_at: Some(6_000_000),
            is_copied: true,
            live_since: Some(1),
            gap: None,
            alert: None,
        };
        let step: StepName = "orders".parse().expect("a name");
        let shown = |of: &LogStanding| table(&BTreeMap::from([(step.clone(), of.clone())]));
        insta::assert_snapshot!(shown(&of), @r"
        orders: live
          position 1/1000: 4 KiB, 3.0 s behind the end of the log, 1/2000
          slot shop_log keeps 3 MiB of the log, of 50 GiB at most (max_slot_wal_keep_size)
        ");
        of.gap = Some("there is no replication slot".to_owned());
        of.found = None;
        insta::assert_snapshot!(shown(&of), @r"
        orders: gap
          there is no replication slot
          position 1/1000: 4 KiB, 3.0 s behind the end of the log, 1/2000
          slot shop_log does not exist
        ");
        let told = document(&step, &of);
        assert_eq!(told["state"], "gap");
        assert_eq!(told["lag_bytes"], 4_096);
        assert_eq!(told["slot"]["exists"], false);
    }
}
