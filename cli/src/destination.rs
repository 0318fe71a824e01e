//! Where a command goes, and who said so.

use std::path::{Path, PathBuf};

use highwater_common::config::{ClientTlsConfig, ContextConfig};

use crate::args::{Global, STATE_DIR};
use crate::config::Environment;
use crate::contexts::{Contexts, EMBEDDED};
use crate::error::CliError;
use crate::setting::{Said, Whence};
use crate::token::Token;

/// Where a command goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The addresses of coordinators; none where this process is meant.
    pub coordinator: Said,
    /// The cluster's name.
    pub context: Said,
    /// How the file that names the cluster says to reach it.
    pub tls: ClientTlsConfig,
    /// The file of the token that is sent there, as that file says.
    pub token_file: Option<PathBuf>,
}

impl Destination {
    /// This process, as somebody says.
    fn here(whence: Whence) -> Self {
        Self {
            coordinator: (None, whence),
            context: (None, Whence::Default),
            tls: ClientTlsConfig::default(),
            token_file: None,
        }
    }
}

impl Contexts {
    /// Where a command with these flags goes: `--coordinator` or `--context`, then
    /// `HIGHWATER_COORDINATOR`, then `HIGHWATER_CONTEXT`, then what `context use` chose; else into
    /// this process, as it does where a folder of its state is named.
    ///
    /// # Errors
    /// Code 2 for a file that cannot be read, and for a context that nobody has named.
    pub(crate) fn destination(
        &self,
        global: &Global,
        environment: &Environment,
    ) -> Result<Destination, CliError> {
        let at = |coordinator: &String, whence| Destination {
            coordinator: (Some(coordinator.clone()), whence),
            ..Destination::here(Whence::Default)
        };
        if let Some(coordinator) = &global.coordinator {
            return Ok(at(coordinator, Whence::Flag("coordinator".to_owned())));
        }
        if global.context.is_none() {
            if let Some(coordinator) = &environment.coordinator {
                let by = Whence::Variable("HIGHWATER_COORDINATOR".to_owned());
                return Ok(at(coordinator, by));
            }
            if global.state != Path::new(STATE_DIR) {
                return Ok(Destination::here(Whence::Flag("state".to_owned())));
            }
        }
        let flag = global.context.clone();
        let flag = flag.map(|name| (name, Whence::Flag("context".to_owned())));
        let variable = environment.context.clone();
        let variable =
            variable.map(|name| (name, Whence::Variable("HIGHWATER_CONTEXT".to_owned())));
        let named = match flag.or(variable) {
            Some(named) => Some(named),
            None => self.chosen()?,
        };
        let Some((name, whence)) = named else {
            return Ok(Destination::here(Whence::Default));
        };
        if name == EMBEDDED {
            return Ok(Destination {
                context: (Some(name), whence.clone()),
                ..Destination::here(whence)
            });
        }
        let ContextConfig {
            coordinator,
            tls,
            token_file,
        } = self.find(&name)?;
        let folder = self.folder();
        let beside = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Ok(Destination {
            coordinator: (
                Some(coordinator.join(",")),
                self.file().map_or(Whence::Default, Whence::File),
            ),
            context: (Some(name), whence),
            tls: ClientTlsConfig {
                ca: beside(tls.ca),
                cert: beside(tls.cert),
                key: beside(tls.key),
                server_name: tls.server_name,
            },
            token_file: beside(token_file),
        })
    }

    /// Settles where a command goes: afterwards `global` names coordinators, or this process is
    /// meant.
    ///
    /// # Errors
    /// Code 2 for a file that cannot be read, and for a context that nobody has named.
    pub fn settle(&self, global: &mut Global, environment: &Environment) -> Result<(), CliError> {
        let Destination {
            coordinator: (coordinator, _),
            context: (context, _),
            tls,
            token_file,
        } = self.destination(global, environment)?;
        global.coordinator = coordinator;
        global.context = context.filter(|name| name != EMBEDDED);
        global.tls = std::mem::take(&mut global.tls).over(tls);
        let given = global.token_file.clone().map(Token::File);
        let variable = Some(environment.token.clone()).filter(Token::is_there);
        let named = token_file.map(Token::File);
        // The context's own token belongs to its cluster; the variable's, to who knows which.
        global.token = given.or(named).or(variable).unwrap_or_default();
        Ok(())
    }
}
