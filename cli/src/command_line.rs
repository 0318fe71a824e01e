//! The command line of this process, and who said what of it.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches};

use crate::args::{Cli, Given, GivenBy, GivenFlag, Global};

impl Cli {
    /// The command line of this process.
    ///
    /// # Errors
    /// What is wrong with it; help and version, too.
    pub fn of_process() -> Result<Self, clap::Error> {
        Self::of_arguments(std::env::args_os())
    }

    /// The command line that these arguments are, the program's name first.
    ///
    /// # Errors
    /// As [`Cli::of_process`].
    pub fn of_arguments<I, T>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut cli =
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        cli.given = given(&matches);
        Ok(cli)
    }
}

/// Who said what.
fn given(matches: &ArgMatches) -> Given {
    let global = Global::augment_args(Command::new("highwater"));
    let flags = global.get_arguments().filter_map(|arg| {
        let id = arg.get_id().as_str();
        let raw = matches.get_raw(id);
        let value = raw.map(|values| {
            let texts: Vec<String> = values
                .map(|value| value.to_string_lossy().into_owned())
                .collect();
            texts.join(",")
        });
        let by = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => GivenBy::Flag,
            Some(ValueSource::EnvVariable) => {
                let name = arg.get_env().unwrap_or_default();
                GivenBy::Variable(name.to_string_lossy().into_owned())
            }
            _ => GivenBy::Default,
        };
        Some(GivenFlag {
            name: arg.get_long()?.to_owned(),
            value,
            by,
        })
    });
    Given(flags.collect())
}
