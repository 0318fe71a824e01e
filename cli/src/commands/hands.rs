//! `pause`, `resume`, `limits`, `skip`: how an operator holds a run back, limits it, or leaves steps
//! out while it is under way. `cluster audit`: what operators did.

use std::collections::BTreeSet;

use highwater_common::controls::{Control, Scope};
use highwater_common::document::{AuditDocument, RunDocument};
use highwater_common::id::{ConnectionName, StepName};
use highwater_common::selection::Selection;
use highwater_proto::v1::{ControlRequest, ListAuditRequest};

use super::Context;
use super::run::get;
use super::run_named::run_of;
use crate::args::{AuditArgs, LimitsArgs, PauseArgs, ResumeArgs, SkipArgs};
use crate::connect::{Fetched, Need, Where};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render;
use crate::traced::traced;

pub(super) async fn pause(
    context: &mut Context<'_>,
    args: &PauseArgs,
) -> Result<ExitCode, CliError> {
    must_say_why(&args.reason)?;
    let named = (&args.steps[..], &args.connections[..]);
    let control = |run: &RunDocument| Ok(Control::Pause(scope(named, run)?));
    act(
        context,
        &args.run,
        "cannot pause the run",
        &args.reason,
        control,
    )
    .await
}

pub(super) async fn resume(
    context: &mut Context<'_>,
    args: &ResumeArgs,
) -> Result<ExitCode, CliError> {
    let named = (&args.steps[..], &args.connections[..]);
    let control = |run: &RunDocument| Ok(Control::Resume(scope(named, run)?));
    act(
        context,
        &args.run,
        "cannot resume the run",
        &args.reason,
        control,
    )
    .await
}

pub(super) async fn limits(
    context: &mut Context<'_>,
    args: &LimitsArgs,
) -> Result<ExitCode, CliError> {
    let Some(change) = args.change() else {
        let place = Where::new(context.global, 0);
        let mut connection = context.open(&place, Need::Read).await?;
        let document = get(context, &mut connection, &args.run).await?;
        context.close(connection).await;
        return print(context, &document);
    };
    let control = |_: &RunDocument| Ok(Control::Limit(change.clone()));
    act(
        context,
        &args.run,
        "cannot change the limits",
        &args.reason,
        control,
    )
    .await
}

pub(super) async fn skip(context: &mut Context<'_>, args: &SkipArgs) -> Result<ExitCode, CliError> {
    must_say_why(&args.reason)?;
    let control = |run: &RunDocument| Ok(Control::Skip(steps(&args.steps, run)?));
    act(
        context,
        &args.run,
        "cannot skip the step",
        &args.reason,
        control,
    )
    .await
}

pub(super) async fn audit(
    context: &mut Context<'_>,
    args: &AuditArgs,
) -> Result<ExitCode, CliError> {
    let place = Where::new(context.global, 0);
    let mut connection = context.open(&place, Need::Read).await?;
    let place = connection.banner().to_owned();
    let request = ListAuditRequest {
        run: args.run.as_deref().map_or(Ok(String::new()), run_of)?,
        limit: args.limit,
    };
    let document: Fetched<AuditDocument> = context
        .unless_interrupted(async {
            let answer = within(CALL_WAIT_MAX, connection.client.list_audit(request)).await;
            let answer = answer.map_err(|status| {
                CliError::from_status("cannot list what operators did", &status).at(place)
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    context.print(
        &document.json,
        |look| render::audit(&document.view, look),
        || {
            let actions = document.view.actions.iter();
            actions.map(|action| action.number.to_string()).collect()
        },
    )?;
    Ok(match document.view.actions.is_empty() {
        true => ExitCode::NothingSelected,
        false => ExitCode::Success,
    })
}

/// Asks something of a run, and shows how it stands then.
async fn act(
    context: &mut Context<'_>,
    run: &str,
    what: &'static str,
    reason: &str,
    control: impl FnOnce(&RunDocument) -> Result<Control, CliError>,
) -> Result<ExitCode, CliError> {
    let place = Where::new(context.global, 0);
    let mut connection = context.open(&place, Need::Act).await?;
    let place = connection.banner().to_owned();
    let known = get(context, &mut connection, run).await?.view;
    let control = control(&known)?;
    let verb = control.verb();
    // The full id: what a prefix or a pipeline's name means must not change in between.
    let request = context.signed(ControlRequest {
        run: known.run.to_string(),
        control: control.to_json(),
        reason: reason.to_owned(),
    });
    let program = context.output.talk_look.program.clone();
    let document: Fetched<RunDocument> = context
        .unless_interrupted(async {
            let answer = within(
                CALL_WAIT_MAX,
                traced(verb, connection.client.control(request)),
            )
            .await;
            let answer = answer.map_err(|status| {
                let error = CliError::from_status(what, &status).at(place);
                error.next(format!("{program} status {}", known.short))
            })?;
            Fetched::try_from(answer.into_inner())
        })
        .await?;
    context.close(connection).await;
    print(context, &document)
}

fn print(context: &mut Context<'_>, document: &Fetched<RunDocument>) -> Result<ExitCode, CliError> {
    let moment = render::Moment {
        now: jiff::Timestamp::now(),
        pace: None,
    };
    context.print(
        &document.json,
        |look| render::status(&document.view, &moment, render::Steps::Folded, look),
        || vec![document.view.run.to_string()],
    )?;
    Ok(ExitCode::Success)
}

fn scope(
    (steps_named, connections): (&[String], &[ConnectionName]),
    run: &RunDocument,
) -> Result<Scope, CliError> {
    Ok(Scope {
        steps: steps(steps_named, run)?,
        connections: connections.iter().cloned().collect(),
    })
}

/// The steps that are named, or fit a pattern.
fn steps(named: &[String], run: &RunDocument) -> Result<BTreeSet<StepName>, CliError> {
    let all: Vec<StepName> = run.steps.iter().map(|step| step.step.clone()).collect();
    let mut meant = BTreeSet::new();
    for text in named {
        let names = text
            .parse::<Selection>()
            .and_then(|selection| selection.names(&all))
            .map_err(|error| CliError::new(ExitCode::NothingSelected, error.to_string()))?;
        meant.extend(names);
    }
    Ok(meant)
}

pub(super) fn must_say_why(reason: &str) -> Result<(), CliError> {
    if reason.trim().is_empty() {
        return Err(CliError::new(ExitCode::Usage, "the reason is empty")
            .why("it is what others will read later"));
    }
    Ok(())
}
