//! Clusters by name: a user's configuration file names them, and a file beside it says which one is
//! meant when nothing else is. Where a command goes by them, `destination.rs` says.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use highwater_common::config::{self, ContextConfig};

use crate::config::Environment;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::setting::Whence;

/// The context that is this process.
pub(crate) const EMBEDDED: &str = "embedded";
/// The user's file, in the folder of his settings.
const FILE: &str = "highwater/config.yaml";
/// What `context use` writes.
const CURRENT: &str = "highwater/current-context";

/// The clusters that a user has named.
#[derive(Debug, Clone, Default)]
pub struct Contexts {
    home: Option<PathBuf>,
    environment: Environment,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Named {
    /// The clusters by name.
    pub contexts: BTreeMap<String, ContextConfig>,
    /// Which one `context use` chose.
    pub current: Option<String>,
}

impl Contexts {
    /// Those of the user whose environment this is.
    #[must_use]
    pub fn of(environment: &Environment) -> Self {
        Self {
            home: environment.config_home.clone(),
            environment: environment.clone(),
        }
    }

    /// What the environment says.
    pub(crate) const fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Everything that has been named.
    ///
    /// # Errors
    /// Code 2 for a file that cannot be read.
    pub(crate) fn read(&self) -> Result<Named, CliError> {
        let Some(path) = self.file() else {
            return Ok(Named::default());
        };
        let wrong = |why: String| {
            CliError::new(ExitCode::Usage, "cannot read the contexts")
                .at(path.display().to_string())
                .why(why)
        };
        let contexts = match std::fs::read_to_string(&path) {
            Ok(text) => config::parse_contexts(&text).map_err(wrong)?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(wrong(error.to_string())),
        };
        Ok(Named {
            contexts,
            current: self.current()?,
        })
    }

    /// From now on commands go there.
    ///
    /// # Errors
    /// Code 2 for a context that nobody has named.
    pub(crate) fn choose(&self, name: &str) -> Result<(), CliError> {
        if name != EMBEDDED {
            self.find(name)?;
        }
        let Some(path) = self.home.as_ref().map(|home| home.join(CURRENT)) else {
            return Err(homeless());
        };
        let cannot = |error: &std::io::Error| {
            CliError::from_io(
                ExitCode::Unexpected,
                "cannot keep the choice of a context",
                &path,
                error,
            )
        };
        std::fs::create_dir_all(self.folder()).map_err(|error| cannot(&error))?;
        std::fs::write(&path, format!("{name}\n")).map_err(|error| cannot(&error))
    }

    /// The file that names them, whether or not there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(FILE))
    }

    pub(crate) fn find(&self, name: &str) -> Result<ContextConfig, CliError> {
        let named = self.read()?;
        named.contexts.get(name).cloned().ok_or_else(|| {
            let file = self.file().map_or_else(
                || format!("~/.config/{FILE}"),
                |file| file.display().to_string(),
            );
            let known: Vec<&str> = named
                .contexts
                .keys()
                .map(String::as_str)
                .chain([EMBEDDED])
                .collect();
            CliError::new(ExitCode::Usage, format!("no context is named `{name}`"))
                .at(file)
                .why(format!("there is {}", known.join(", ")))
                .next(
                    "highwater context ls, or add it to the file: contexts: {NAME: {coordinator: \
                     [http://HOST:7070]}}",
                )
        })
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.file()
            .and_then(|file| file.parent().map(Path::to_owned))
            .unwrap_or_default()
    }

    /// The context that `context use` chose, and the file that says so.
    pub(crate) fn chosen(&self) -> Result<Option<(String, Whence)>, CliError> {
        let file = self.home.as_ref().map(|home| home.join(CURRENT));
        let whence = file.map_or(Whence::Default, Whence::File);
        Ok(self.current()?.map(|name| (name, whence)))
    }

    fn current(&self) -> Result<Option<String>, CliError> {
        let Some(path) = self.home.as_ref().map(|home| home.join(CURRENT)) else {
            return Ok(None);
        };
        match std::fs::read_to_string(&path) {
            Ok(name) => Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::from_io(
                ExitCode::Usage,
                "cannot read which context was chosen",
                &path,
                &error,
            )),
        }
    }
}

fn homeless() -> CliError {
    CliError::new(ExitCode::Usage, "there is no place for a choice")
        .why("neither XDG_CONFIG_HOME nor HOME is set")
        .next("--context NAME with each command")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tempfile::TempDir;

    use super::*;
    use crate::args::{Cli, Global};
    use crate::token::Token;

    fn home(text: &str) -> (TempDir, Contexts, Environment) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("highwater")).unwrap();
        std::fs::write(home.path().join(FILE), text).unwrap();
        let environment = Environment {
            config_home: Some(home.path().to_owned()),
            ..Environment::default()
        };
        let contexts = Contexts::of(&environment);
        (home, contexts, environment)
    }

    fn load_order(
        line: &str,
        contexts: &Contexts,
        environment: &Environment,
    ) -> Result<Global, CliError> {
        let mut global = Cli::try_parse_from(line.split_whitespace()).unwrap().global;
        contexts.settle(&mut global, environment).map(|()| global)
    }

    const TWO: &str = "contexts: {prod: {coordinator: [https://a:1, https://b:1], tls: {ca: \
        ca.pem}, token_file: me.token}, test: {coordinator: [http://t:1]}}";

    #[test]
    fn flags_beat_the_environment_which_beats_what_was_chosen() {
        let (home, contexts, environment) = home(TWO);
        let goes = |line: &str, environment: &Environment| {
            load_order(line, &contexts, environment)
                .unwrap()
                .coordinator
        };
        assert_eq!(goes("highwater ls", &environment), None);
        contexts.choose("test").unwrap();
        assert_eq!(
            goes("highwater ls", &environment).as_deref(),
            Some("http://t:1")
        );
        let named = Environment {
            context: Some("prod".to_owned()),
            ..environment.clone()
        };
        assert_eq!(
            goes("highwater ls", &named).as_deref(),
            Some("https://a:1,https://b:1")
        );
        let addressed = Environment {
            coordinator: Some("http://e:1".to_owned()),
            ..named
        };
        assert_eq!(
            goes("highwater ls", &addressed).as_deref(),
            Some("http://e:1")
        );
        assert_eq!(
            goes("highwater ls --context test", &addressed).as_deref(),
            Some("http://t:1")
        );
        assert_eq!(
            goes("highwater ls --coordinator http://f:1", &addressed).as_deref(),
            Some("http://f:1")
        );
        assert_eq!(goes("highwater ls --context embedded", &addressed), None);
        assert_eq!(goes("highwater ls --state other", &environment), None);
        let prod = load_order(
            "highwater ls --context prod --tls-server-name c",
            &contexts,
            &environment,
        )
        .unwrap();
        assert_eq!(prod.tls.ca, Some(home.path().join("highwater/ca.pem")));
        assert_eq!(prod.tls.server_name.as_deref(), Some("c"));
        // a file that a flag names, then what the cluster's own says, then the variable, which may
        // belong to another cluster
        let beside = home.path().join("highwater/me.token");
        assert_eq!(prod.token, Token::File(beside));
        let given = Environment {
            token: Token::Given("hunter2".to_owned()),
            ..environment.clone()
        };
        let sends = |line: &str| load_order(line, &contexts, &given).unwrap().token;
        assert_eq!(sends("highwater ls --context prod"), prod.token);
        let addressed = sends("highwater ls --coordinator https://f:1");
        assert_eq!(addressed, given.token);
        let flag = sends("highwater ls --context prod --token-file f");
        assert_eq!(flag, Token::File("f".into()));
        contexts.choose(EMBEDDED).unwrap();
        assert_eq!(goes("highwater ls", &environment), None);
    }

    #[test]
    fn an_unknown_context_is_told_with_those_that_there_are() {
        let (_home, contexts, environment) = home(TWO);
        let error = load_order("highwater ls --context prdo", &contexts, &environment).unwrap_err();
        assert_eq!(error.exit(), ExitCode::Usage);
        let text = error.render(&crate::render::Look::plain());
        assert!(
            text.contains("`prdo`") && text.contains("there is prod, test, embedded"),
            "{text}"
        );
        assert!(contexts.choose("prdo").is_err());
    }

    #[test]
    fn a_file_that_is_wrong_is_named() {
        let (_home, contexts, environment) = home("contexts: {prod: {coordinater: [x]}}");
        let text = load_order("highwater ls --context prod", &contexts, &environment).unwrap_err();
        let text = text.render(&crate::render::Look::plain());
        assert!(
            text.contains("config.yaml") && text.contains("coordinater"),
            "{text}"
        );
    }
}
