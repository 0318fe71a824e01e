//! The forms of what is written, as flags.

use clap::ValueEnum;

/// The form of what goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people.
    Table,
    /// The document itself; it only grows.
    Json,
    /// Names and ids only, one a line.
    Name,
    /// For Mermaid; `graph` alone.
    #[value(hide = true)]
    Mermaid,
    /// For Graphviz; `graph` alone.
    #[value(hide = true)]
    Dot,
}

impl OutputForm {
    /// Whether it is for a program that draws.
    #[must_use]
    pub const fn draws(self) -> bool {
        match self {
            Self::Table | Self::Json | Self::Name => false,
            Self::Mermaid | Self::Dot => true,
        }
    }
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` or `TERM=dumb`; elsewhere with `CLICOLOR_FORCE`.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// `bar` on a terminal, `lines` elsewhere.
    Auto,
    /// A few lines that are drawn again and again.
    Bar,
    /// A whole line for each change, and totals every 10 s.
    Lines,
    /// A document for each change, one a line.
    Json,
    /// Nothing.
    None,
}
