//! `validate` and `schema`: what can be said about a pipeline file without a coordinator.

use serde_json::json;

use super::Context;
use crate::args::FileArgs;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;

pub(super) fn validate(context: &mut Context<'_>, args: &FileArgs) -> Result<ExitCode, CliError> {
    let file = pipeline_file::read(args)?;
    let document = json!({"schema": "validation/v1", "pipeline": file.name, "steps": file.steps, "spec": file.digest.to_string(), "environment": file.environment, "not_enabled": file.disabled});
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
