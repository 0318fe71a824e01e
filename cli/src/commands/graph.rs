//! `graph`: the steps of a pipeline file, or of a run, and what each waits for.

use std::path::PathBuf;

use highwater_common::graph::GraphDocument;
use serde_json::json;

use super::Context;
use super::run::get;
use crate::args::{FileArgs, GraphArgs, OutputForm, names_a_file};
use crate::connect::{Need, Where};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;
use crate::render;

pub(super) async fn graph(
    context: &mut Context<'_>,
    args: &GraphArgs,
) -> Result<ExitCode, CliError> {
    let graph = match args.of.as_deref() {
        Some(of) if names_a_file(of) => pipeline_file::graph(&FileArgs {
            file: PathBuf::from(of),
            over: args.over.clone(),
        })?,
        run => of_run(context, run.unwrap_or_default()).await?,
    };
    match context.global.output {
        OutputForm::Mermaid => context.output.data(&render::mermaid(&graph))?,
        OutputForm::Dot => context.output.data(&render::dot(&graph))?,
        OutputForm::Table | OutputForm::Json | OutputForm::Name => context.print(
            &json!(graph),
            |look| render::graph(&graph, look),
            || {
                graph
                    .steps
                    .iter()
                    .map(|step| step.step.to_string())
                    .collect()
            },
        )?,
    }
    Ok(ExitCode::Success)
}

async fn of_run(context: &mut Context<'_>, run: &str) -> Result<GraphDocument, CliError> {
    let mut connection = context
        .open(&Where::new(context.global, 0), Need::Read)
        .await?;
    let document = get(context, &mut connection, run).await?;
    context.close(connection).await;
    Ok(GraphDocument::of_run(&document.view))
}
