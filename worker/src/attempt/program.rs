//! A program of the user's own: its probe first, then itself.

use highwater_common::assignment::{AttemptError, ErrorClass, Outcome};
use highwater_common::cursor::Cursor;
use highwater_common::error_code::ErrorCode;
use highwater_common::spec::{Argument, ArgumentValues, Program as ProgramSpec};
use highwater_runtime::failpoint;

use super::AttemptContext;
use crate::programs::{Ended, Program, RunError, lines_of};
use crate::secrets;

/// What a program answers that wants to be tried again: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: i32 = 75;
/// What a probe answers whose work is not done.
const NOT_DONE: i32 = 1;

/// Asks the probe, if there is one, and runs the program unless its work is done.
pub(crate) async fn run_program(
    cx: &AttemptContext<'_>,
    of: &ProgramSpec,
) -> Result<Outcome, AttemptError> {
    let (context, worker) = (cx.of, &cx.of.worker);
    if let Some(probe) = &of.probe {
        let probe = program(cx, of, probe)?;
        let ended = ran(cx, &probe).await?;
        match ended.code {
            Some(0) => {
                tracing::info!(step = %context.order.step, "the probe says that it is done");
                return Ok(Outcome::Done);
            }
            Some(NOT_DONE) => {}
            _ => {
                let class = ErrorClass::Transient;
                return Err(failed(class, "the probe", &probe, &ended));
            }
        }
    }
    let program = program(cx, of, &of.command)?;
    failpoint::hit_on("attempt::before_program", worker).await?;
    let ended = ran(cx, &program).await?;
    failpoint::hit_on("attempt::after_program", worker).await?;
    match ended.code {
        Some(0) => Ok(Outcome::Done),
        Some(TRY_AGAIN) => Err(failed(
            ErrorClass::Transient,
            "the program",
            &program,
            &ended,
        )),
        Some(_) => Err(failed(
            ErrorClass::Permanent,
            "the program",
            &program,
            &ended,
        )),
        None => {
            let message = format!(
                "the process that guards {} was killed, and nobody knows how far it came",
                program.path.display()
            );
            Err(AttemptError::new(
                ErrorClass::Permanent,
                ErrorCode::InDoubt,
                message,
            ))
        }
    }
}

async fn ran(cx: &AttemptContext<'_>, program: &Program) -> Result<Ended, AttemptError> {
    program.run().await.map_err(|error| {
        let (path, worker) = (program.path.display(), &cx.of.worker);
        let message = format!("worker {worker} cannot run {path}: {error}");
        let (class, code) = match error {
            RunError::NotStarted(_) => (ErrorClass::Transient, ErrorCode::ProgramNotAllowed),
            RunError::Lost(_) => (ErrorClass::Permanent, ErrorCode::InDoubt),
        };
        AttemptError::new(class, code, message)
    })
}

/// The program of these arguments, as this attempt runs it.
fn program(
    cx: &AttemptContext<'_>,
    of: &ProgramSpec,
    arguments: &[Argument],
) -> Result<Program, AttemptError> {
    let (order, worker) = (&cx.of.order, &cx.of.worker);
    let (run, reference_time) = (
        order.run.to_string(),
        Cursor::Instant(order.reference_time_micros).to_string(),
    );
    let values = ArgumentValues {
        run: &run,
        reference_time: &reference_time,
        pipeline: order.pipeline.as_str(),
        step: order.step.as_str(),
    };
    let mut arguments = arguments.iter().map(|argument| argument.with(values));
    let path = arguments.next().unwrap_or_default();
    let Some(found) = cx.of.programs.find(&path) else {
        let message = format!(
            "worker {worker} does not run {path}: it is not there, or none of those that it was \
             started with. Start it with --allow-exec {path}, or give the step `labels` of a worker \
             that has it"
        );
        let (class, code) = (ErrorClass::Permanent, ErrorCode::ProgramNotAllowed);
        return Err(AttemptError::new(class, code, message));
    };
    let fence = &cx.assignment.fence;
    let mut variables = vec![
        ("HIGHWATER_RUN".to_owned(), run.clone()),
        (
            "HIGHWATER_REFERENCE_TIME".to_owned(),
            reference_time.clone(),
        ),
        ("HIGHWATER_PIPELINE".to_owned(), order.pipeline.to_string()),
        ("HIGHWATER_STEP".to_owned(), order.step.to_string()),
        (
            "HIGHWATER_ATTEMPT".to_owned(),
            cx.assignment.attempt.to_string(),
        ),
        ("HIGHWATER_TOKEN".to_owned(), fence.token.to_string()),
        (
            "HIGHWATER_NONCE".to_owned(),
            format!("{:032x}", fence.nonce.bits()),
        ),
    ];
    let mut hidden = Vec::new();
    for (name, value) in &of.env {
        let (value, secret) = secrets::value(value, worker)?;
        hidden.extend(secret);
        variables.push((name.clone(), value));
    }
    Ok(Program {
        path: found,
        arguments: arguments.collect(),
        variables,
        secrets: lines_of(&hidden),
        folder: cx.of.base_dir(),
    })
}

fn failed(class: ErrorClass, what: &str, program: &Program, ended: &Ended) -> AttemptError {
    let how = match ended.code {
        Some(code) => format!("ended with code {code}"),
        None => "was killed".to_owned(),
    };
    let path = program.path.display();
    let told = match ended.told.as_str() {
        "" => "and said nothing".to_owned(),
        told => format!("and said:\n{told}"),
    };
    let message = format!("{what} {path} {how} {told}");
    AttemptError::new(class, ErrorCode::ProgramFailed, message)
}
