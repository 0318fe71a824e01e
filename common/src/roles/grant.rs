//! A role, and the pipelines that it holds for.

use serde::{Deserialize, Serialize};

use super::role::Role;
use crate::id::PipelineName;

/// Text in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(pub(super) String);

impl Pattern {
    /// Longest pattern that is taken, in bytes.
    const BYTES_MAX: usize = 200;

    /// Whether `name` fits it, letter by letter.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        crate::selection::fits(&self.0, name)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = !text.chars().any(char::is_control) && text.trim() == text;
        if text.is_empty() || text.len() > Self::BYTES_MAX || !is_plain {
            return Err(format!(
                "`{text}` is no pattern of names: 1 to {} characters, in which `*` stands for any",
                Self::BYTES_MAX
            ));
        }
        Ok(Self(text))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

/// Names of pipelines, in which `*` stands for any characters. Nothing else is in it, so that grants can
/// be told in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PipelinePattern(pub(super) String);

impl TryFrom<String> for PipelinePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = |one: char| matches!(one, 'a'..='z' | '0'..='9' | '_' | '*');
        if text.is_empty() || text.len() > Pattern::BYTES_MAX || !text.chars().all(fits) {
            return Err(format!(
                "`{text}` names no pipelines: a-z, 0-9 and _, and `*` for any of them"
            ));
        }
        Ok(Self(text))
    }
}

impl From<PipelinePattern> for String {
    fn from(pattern: PipelinePattern) -> Self {
        pattern.0
    }
}

/// A role, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The pipelines that it may act on; every one, and the cluster itself, when there are none.
    pub pipelines: Vec<PipelinePattern>,
}

impl Grant {
    /// A role that holds everywhere.
    #[must_use]
    pub const fn everywhere(role: Role) -> Self {
        Self {
            role,
            pipelines: Vec::new(),
        }
    }

    pub(super) fn holds_for(&self, pipeline: Option<&PipelineName>) -> bool {
        match pipeline {
            _ if self.pipelines.is_empty() => true,
            Some(pipeline) => self
                .pipelines
                .iter()
                .any(|pattern| crate::selection::fits(&pattern.0, pipeline.as_str())),
            None => false,
        }
    }
}

/// Names with commas between.
pub(super) fn patterns(text: &str) -> Result<Vec<PipelinePattern>, String> {
    let named = text.split(',').filter(|name| !name.is_empty());
    named.map(|name| name.to_owned().try_into()).collect()
}
