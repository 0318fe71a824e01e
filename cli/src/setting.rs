//! A setting of the command, and where its value comes from.

use std::path::PathBuf;

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// What it is called: a flag's long name, or what the variable is for.
    pub name: String,
    /// What it is; `None` where there is none.
    pub value: Option<String>,
    /// Where that comes from.
    pub whence: Whence,
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whence {
    /// A flag of the command line.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
    /// A file of the user's.
    File(PathBuf),
    /// Nobody has said anything.
    Default,
}

impl Whence {
    /// Which of them it is, as programs get it.
    #[must_use]
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "flag",
            Self::Variable(_) => "variable",
            Self::File(_) => "file",
            Self::Default => "default",
        }
    }

    /// The flag, variable or file; `None` where nobody has said anything.
    #[must_use]
    pub(crate) fn place(&self) -> Option<String> {
        match self {
            Self::Flag(name) => Some(format!("--{name}")),
            Self::Variable(name) => Some(name.clone()),
            Self::File(path) => Some(path.display().to_string()),
            Self::Default => None,
        }
    }
}

/// A value, and where it comes from.
pub(crate) type Said = (Option<String>, Whence);
