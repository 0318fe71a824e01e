//! Reads the environment, once. Nothing else in this program does, but for what clap reads of
//! flags' variables.

use std::path::PathBuf;

use crate::args::ColorWhen;
use crate::token::Token;

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// `CLICOLOR_FORCE` is set and neither empty nor `0`.
    pub force_color: bool,
    /// `TERM` is `dumb`: a terminal that can neither move its cursor nor paint.
    pub is_dumb: bool,
    /// `HIGHWATER_COORDINATOR`, if it is not empty.
    pub coordinator: Option<String>,
    /// `HIGHWATER_CONTEXT`, if it is not empty.
    pub context: Option<String>,
    /// `HIGHWATER_TOKEN`, if it is not empty: a secret.
    pub(crate) token: Token,
    /// `HIGHWATER_ENV`, if it is not empty: the environment of pipeline files.
    pub pipeline_environment: Option<String>,
    /// Where a user's settings are: `XDG_CONFIG_HOME`, else `~/.config`.
    pub config_home: Option<PathBuf>,
    /// The variable that says so.
    pub config_home_by: &'static str,
}

impl Environment {
    /// What the process was started with.
    #[must_use]
    pub fn read() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that reads it"
        )]
        let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            no_color: value("NO_COLOR").is_some(),
            force_color: value("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            is_dumb: value("TERM").is_some_and(|value| value == "dumb"),
            coordinator: value("HIGHWATER_COORDINATOR").and_then(|value| value.into_string().ok()),
            context: value("HIGHWATER_CONTEXT").and_then(|value| value.into_string().ok()),
            token: value("HIGHWATER_TOKEN").map_or(Token::None, |token| {
                Token::Given(token.to_string_lossy().into_owned())
            }),
            pipeline_environment: value("HIGHWATER_ENV").and_then(|value| value.into_string().ok()),
            config_home_by: match value("XDG_CONFIG_HOME") {
                Some(_) => "XDG_CONFIG_HOME",
                None => "HOME",
            },
            config_home: value("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .or_else(|| value("HOME").map(|home| PathBuf::from(home).join(".config"))),
        }
    }

    /// Whether a stream is painted. The flag wins over the environment, `NO_COLOR` over
    /// `CLICOLOR_FORCE`.
    #[must_use]
    pub const fn paints(&self, when: ColorWhen, is_terminal: bool) -> bool {
        match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto if self.no_color => false,
            ColorWhen::Auto => self.force_color || (is_terminal && !self.is_dumb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_then_no_color_then_force_then_the_terminal() {
        let plain = Environment::default();
        assert!(plain.paints(ColorWhen::Auto, true));
        assert!(!plain.paints(ColorWhen::Auto, false));
        let forced = Environment {
            force_color: true,
            ..plain.clone()
        };
        assert!(forced.paints(ColorWhen::Auto, false));
        let both = Environment {
            no_color: true,
            ..forced.clone()
        };
        assert!(!both.paints(ColorWhen::Auto, true));
        assert!(both.paints(ColorWhen::Always, false));
        let dumb = Environment {
            is_dumb: true,
            ..plain.clone()
        };
        assert!(!dumb.paints(ColorWhen::Auto, true));
        assert!(!forced.paints(ColorWhen::Never, true));
    }
}
