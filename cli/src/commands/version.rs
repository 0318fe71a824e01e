//! `version`.

use serde_json::json;

use super::Context;
use crate::error::CliError;
use crate::exit::ExitCode;

pub(super) fn version(context: &mut Context<'_>) -> Result<ExitCode, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let protocol = highwater_proto::PROTOCOL_VERSION;
    let document = json!({"schema": "version/v1", "version": version, "protocol": protocol});
    let line = format!("highwater {version}, protocol {protocol}\n");
    context.print(&document, |_| line, || vec![version.to_owned()])?;
    Ok(ExitCode::Success)
}
