//! `context`: the clusters that the configuration file names, and which one is meant.

use serde_json::json;

use super::Context;
use crate::args::ContextCommand;
use crate::contexts::EMBEDDED;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render;

pub(super) fn context(
    context: &mut Context<'_>,
    command: &ContextCommand,
) -> Result<ExitCode, CliError> {
    if let ContextCommand::Use { name } = command {
        context.contexts.choose(name)?;
    }
    let named = context.contexts.read()?;
    let current = named.current.as_deref().unwrap_or(EMBEDDED);
    let mut rows: Vec<(&str, String)> = named
        .contexts
        .iter()
        .map(|(name, context)| (name.as_str(), context.coordinator.join(",")))
        .collect();
    rows.push((EMBEDDED, String::new()));
    let document = json!({
        "schema": "contexts/v1",
        "file": context.contexts.file(),
        "current": current,
        "contexts": rows.iter().map(|(name, urls)| json!({"name": name, "coordinator": urls})).collect::<Vec<_>>(),
    });
    context.print(
        &document,
        |look| render::contexts(&rows, current, look),
        || rows.iter().map(|(name, _)| (*name).to_owned()).collect(),
    )?;
    Ok(ExitCode::Success)
}
