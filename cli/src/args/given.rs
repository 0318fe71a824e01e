//! What each flag of every verb holds, and who said so: found out where the arguments are read, for
//! `config view`.

/// Every setting that is a flag of every verb, in the order of the help.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given(pub(crate) Vec<GivenFlag>);

/// A flag, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenFlag {
    /// Its long name, without the dashes.
    pub name: String,
    /// What it holds; `None` where nobody has said anything.
    pub value: Option<String>,
    /// Who said so.
    pub by: GivenBy,
}

/// Who gave a flag its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GivenBy {
    /// The command line.
    Flag,
    /// A variable of the environment.
    Variable(String),
    /// Nobody.
    Default,
}
