//! `validate` and `schema`: what can be said about a pipeline file without a coordinator.

use highwater_common::spec;
use serde_json::json;

use super::Context;
use crate::args::{FileArgs, ValidateArgs};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;
use crate::render;

pub(super) fn validate(
    context: &mut Context<'_>,
    args: &ValidateArgs,
) -> Result<ExitCode, CliError> {
    if let Some(key) = &args.explain {
        return explain(context, key);
    }
    let file = pipeline_file::read(&FileArgs {
        file: args.file.clone().unwrap_or_default(),
        over: args.over.clone(),
    })?;
    let document = json!({"schema": "validation/v1", "pipeline": file.name, "steps": file.steps, "spec": file.digest.to_string(), "environment": file.overlay.environment, "not_enabled": file.disabled, "files": file.files});
    let steps = if file.steps == 1 { "step" } else { "steps" };
    context.print(
        &document,
        |look| {
            let remark = file.remark();
            let remark = remark.map_or_else(String::new, |remark| format!(" · {remark}"));
            format!(
                "{}: {} {steps}, spec {}{remark}\n",
                look.good("ok"),
                file.steps,
                file.digest.short()
            )
        },
        || vec![file.name.clone()],
    )?;
    Ok(ExitCode::Success)
}

pub(super) fn schema(context: &mut Context<'_>) -> Result<ExitCode, CliError> {
    let schema = pipeline_file::json_schema();
    context.output.data(&format!("{schema:#}\n"))?;
    Ok(ExitCode::Success)
}

/// What a key of the pipeline file means.
pub(super) fn explain(context: &mut Context<'_>, key: &str) -> Result<ExitCode, CliError> {
    let told = spec::explain(key).map_err(|why| {
        CliError::new(ExitCode::NothingSelected, "there is no such key")
            .why(why)
            .next("highwater validate --explain steps")
    })?;
    context.print(
        &json!({"schema": "explanation/v1", "keys": told}),
        |look| render::explanation(&told, look),
        || told.iter().map(|one| one.path.clone()).collect(),
    )?;
    Ok(ExitCode::Success)
}
