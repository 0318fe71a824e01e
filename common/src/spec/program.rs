//! The programs of a step, and what stands in their arguments. No shell reads them: what an argument
//! holds is data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::{Node, join, shortened};
use super::problem::Problems;
use super::secret::{SecretText, secret_parts};
use crate::error_code::ErrorCode;

/// An argument as it is written: text, in which `{run.id}` and its like stand for what they name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Argument(String);

/// A program of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its path, and its arguments.
    pub command: Vec<Argument>,
    /// The program that says whether the work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Vec<Argument>>,
    /// Its variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, SecretText>,
    /// Whether it may be run again although nobody knows how far it came.
    pub idempotent: bool,
}

impl Program {
    /// Whether an attempt whose end nobody knows may be followed by another one.
    #[must_use]
    pub const fn may_run_again(&self) -> bool {
        self.idempotent || self.probe.is_some()
    }
}

/// What an argument may name.
#[derive(Debug, Clone, Copy)]
pub struct ArgumentValues<'a> {
    /// `{run.id}`.
    pub run: &'a str,
    /// `{run.reference_time}`, in RFC 3339.
    pub reference_time: &'a str,
    /// `{pipeline}`.
    pub pipeline: &'a str,
    /// `{step}`.
    pub step: &'a str,
}

/// Why an argument cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgumentError {
    #[error("`{{{0}}}` is not known here")]
    Unknown(String),
    #[error("a brace is not closed, or closed without being open; a brace itself is written twice")]
    Brace,
}

const KNOWN: &str = "{run.id}, {run.reference_time}, {pipeline} and {step} are";

impl Argument {
    /// As it is written.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.0
    }

    /// With what it names put in. What cannot be read stays as it is written: the file's check has
    /// refused it.
    #[must_use]
    pub fn with(&self, values: ArgumentValues<'_>) -> String {
        fill(&self.0, |name| match name {
            "run.id" => Some(values.run.to_owned()),
            "run.reference_time" => Some(values.reference_time.to_owned()),
            "pipeline" => Some(values.pipeline.to_owned()),
            "step" => Some(values.step.to_owned()),
            _ => None,
        })
        .unwrap_or_else(|_| self.0.clone())
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, ArgumentError> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at_checked(at).ok_or(ArgumentError::Brace)?;
        out.push_str(before);
        if let Some(behind) = from.strip_prefix("{{") {
            out.push('{');
            rest = behind;
        } else if let Some(behind) = from.strip_prefix("}}") {
            out.push('}');
            rest = behind;
        } else {
            let inside = from.strip_prefix('{').ok_or(ArgumentError::Brace)?;
            let (name, behind) = inside.split_once('}').ok_or(ArgumentError::Brace)?;
            let unknown = || ArgumentError::Unknown(shortened(name).to_string());
            out.push_str(&value(name).ok_or_else(unknown)?);
            rest = behind;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether a variable is ours, or makes a loader, a shell or an interpreter run what nobody has
/// allowed.
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 17] = [
        "PATH",
        "ENV",
        "BASH_ENV",
        "BASHOPTS",
        "SHELLOPTS",
        "PS4",
        "IFS",
        "CDPATH",
        "GLOBIGNORE",
        "PROMPT_COMMAND",
        "PERLLIB",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "_JAVA_OPTIONS",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "CLASSPATH",
    ];
    const PREFIXES: [&str; 9] = [
        "HIGHWATER_",
        "LD_",
        "DYLD_",
        "PERL5",
        "PYTHON",
        "RUBY",
        "NODE_",
        "BASH_FUNC_",
        "LUA_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The arguments of a list.
pub(super) fn arguments(node: &Node) -> Option<Vec<Argument>> {
    let items = node.items().iter();
    items
        .map(|item| item.as_text().map(|text| Argument(text.to_owned())))
        .collect()
}

/// Reports what is wrong with the programs of a step.
pub(super) fn check_program(step: &Node, path: &str, problems: &mut Problems) {
    for key in ["command", "probe"] {
        let list = step.get(key).map_or(&[][..], Node::items);
        for (at, item) in list.iter().enumerate() {
            let Some(text) = item.as_text() else {
                continue;
            };
            let place = format!("{}[{at}]", join(path, key));
            if at == 0 && !text.starts_with('/') {
                let message = format!("`{}` is no absolute path of a program", shortened(text));
                problems
                    .add(ErrorCode::SpecBadValue, &place, item.location, message)
                    .hint("such as /opt/jobs/features: no PATH is searched, and no shell reads it");
            }
            let known = |name: &str| {
                let is_known = KNOWN.contains(&format!("{{{name}}}"));
                is_known.then(String::new)
            };
            if let Err(error) = fill(text, known) {
                problems
                    .add(
                        ErrorCode::SpecBadValue,
                        &place,
                        item.location,
                        error.to_string(),
                    )
                    .hint(format!("{KNOWN}; a parameter is ${{param:name}}"));
            }
        }
    }
    for entry in step.get("env").map_or(&[][..], Node::entries) {
        let place = join(&join(path, "env"), &entry.key);
        let is_name = entry
            .key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !entry.key.starts_with(|c: char| c.is_ascii_digit());
        if !is_name || is_reserved(&entry.key) {
            let message = format!("`{}` cannot name a variable", shortened(&entry.key));
            problems
                .add(ErrorCode::SpecBadName, &place, entry.location, message)
                .hint(
                    "letters, digits and underscores; those of HIGHWATER_ are set for the program, and \
                     none may make a loader, a shell or an interpreter run other code",
                );
        }
        if let Some(Err(error)) = entry.node.as_text().map(secret_parts) {
            let (code, at) = (ErrorCode::SpecBadReference, entry.node.location);
            problems.add(code, &place, at, error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: ArgumentValues<'_> = ArgumentValues {
        run: "r-1",
        reference_time: "2024-03-01T00:00:00Z",
        pipeline: "shop",
        step: "features",
    };

    fn filled(text: &str) -> String {
        Argument(text.to_owned()).with(VALUES)
    }

    #[test]
    fn an_argument_names_its_run() {
        assert_eq!(filled("--run={run.id}"), "--run=r-1");
        assert_eq!(
            filled("{pipeline}/{step}@{run.reference_time}"),
            "shop/features@2024-03-01T00:00:00Z"
        );
        assert_eq!(filled("{{\"a\": {{}}}}"), "{\"a\": {}}");
    }

    #[test]
    fn no_variable_makes_others_run_code() {
        for name in [
            "PATH",
            "LD_PRELOAD",
            "BASH_ENV",
            "PYTHONPATH",
            "HIGHWATER_RUN",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("OUT_DSN") && !is_reserved("PATHS"));
    }

    proptest! {
        #[test]
        fn an_argument_without_braces_stays_as_it_is(text in "[^{}]{0,20}") {
            prop_assert_eq!(filled(&text), text);
        }

        #[test]
        fn any_text_is_an_argument(text in "[{}a-z.\\PC]{0,20}") {
            filled(&text);
        }
    }
}
