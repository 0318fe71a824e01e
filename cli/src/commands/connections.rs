//! `connections test`: what the databases of a file are, and what their roles may do. Asks from
//! here, as `advise` does: writes through none of them.

use highwater_common::id::ConnectionName;
use highwater_common::spec::{self, Connection, SourceRows, Spec};
use highwater_worker::connector::{ServerAsFound, open_source};
use highwater_worker::supervisor::Supervisor;
use highwater_worker::survey;
use serde_json::json;

use super::Context;
use crate::args::TestArgs;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;
use crate::render::{self, Tested};

pub(super) async fn test(context: &mut Context<'_>, args: &TestArgs) -> Result<ExitCode, CliError> {
    let file = pipeline_file::read(&args.pipeline)?;
    let spec: Spec = spec::from_canonical(&file.spec).map_err(|_| {
        CliError::new(ExitCode::Unexpected, "the spec cannot be read back")
            .why("this is a defect of Highwater")
    })?;
    let is_meant = |name: &ConnectionName| {
        let only = args.name.as_deref();
        only.is_none_or(|only| only == name.as_str())
    };
    let meant = spec.connections.iter().filter(|(name, _)| is_meant(name));
    let meant: Vec<(&ConnectionName, &Connection)> = meant.collect();
    if meant.is_empty() {
        let known: Vec<&str> = spec
            .connections
            .keys()
            .map(ConnectionName::as_str)
            .collect();
        return Err(
            CliError::new(ExitCode::NothingSelected, "there is no such connection")
                .at(args.pipeline.file.display().to_string())
                .why(format!("there is {}", known.join(", "))),
        );
    }
    let supervisor = Supervisor::default();
    let mut tested = Vec::new();
    for (name, connection) in meant {
        let asked = async {
            let rows = SourceRows::Visible;
            let (dir, of_this) = (&file.base_dir, "of this process");
            let source = open_source(connection, name, rows, dir, of_this, &supervisor, None)
                .map_err(|error| error.message)?;
            let server = survey::server(source.as_ref()).await;
            server.map_err(|error| error.report.message.clone())
        };
        let found: Result<ServerAsFound, String> = context
            .unless_interrupted(async { Ok(asked.await) })
            .await?;
        tested.push(told(&spec, name, found));
    }
    let document = json!({
        "schema": "connections/v1",
        "pipeline": file.name,
        "connections": tested,
    });
    context.print(
        &document,
        |look| render::tested(&tested, look),
        || tested.iter().map(|one| one.connection.clone()).collect(),
    )?;
    Ok(match tested.iter().all(|one| one.reached) {
        true => ExitCode::Success,
        false => ExitCode::Unreachable,
    })
}

/// What is told of a connection: what it lacks as what the steps use it for.
fn told(spec: &Spec, name: &ConnectionName, found: Result<ServerAsFound, String>) -> Tested {
    let sides = || spec.steps.values().map(|step| step.strategy.load().sides());
    let is_read = sides().any(|sides| sides.source.is_some_and(|of| of.connection == *name));
    let is_written = sides().any(|sides| sides.target.is_some_and(|of| of.connection == *name));
    match found {
        Ok(server) => {
            let as_source = is_read.then_some(server.lacks_as_source);
            let as_target = is_written.then_some(server.lacks_as_target);
            Tested {
                connection: name.to_string(),
                reached: true,
                version: server.version,
                role: server.role,
                says: server.says,
                lacks: as_source.into_iter().chain(as_target).flatten().collect(),
                why: String::new(),
            }
        }
        Err(why) => Tested {
            connection: name.to_string(),
            why,
            ..Tested::default()
        },
    }
}
