//! The tables that steps with `tables` stand for, asked of their databases from here, as `advise`
//! does.

use highwater_common::spec::SourceRows;
use highwater_worker::connector::open_source;
use highwater_worker::supervisor::Supervisor;
use highwater_worker::survey;

use crate::args::FileArgs;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file::{self, Found};

/// Lists the tables of each database that the file wants to know those of; most files want none.
///
/// # Errors
/// Code 2: something in the file is wrong. Code 5: a database cannot be asked.
pub(crate) async fn found(args: &FileArgs) -> Result<Found, CliError> {
    let (spec, wanted) = pipeline_file::wanted(args)?;
    let mut found = Found::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let dir = pipeline_file::base_dir(&args.file)?;
    let supervisor = Supervisor::default();
    for name in wanted {
        let Some(connection) = spec.connections.get(&name) else {
            continue; // the file was refused for that
        };
        let cannot = |why: String| {
            CliError::new(
                ExitCode::Unreachable,
                format!("cannot list the tables of {name}"),
            )
            .why(why)
            .next(
                "run it where the database can be reached, or write its steps out with \
                     `highwater init`",
            )
        };
        let (rows, of_this) = (SourceRows::Visible, "of this process");
        let source = open_source(connection, &name, rows, &dir, of_this, &supervisor, None)
            .map_err(|error| cannot(error.message))?;
        let tables = survey::tables_found(source.as_ref()).await;
        let tables = tables.map_err(|error| cannot(error.report.message.clone()))?;
        found.insert(name, tables);
    }
    Ok(found)
}
