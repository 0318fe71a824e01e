//! What operators say of a run that is under way: what of it is held back, and limits other than
//! those of its file. They decide when tasks are handed out, and never what a task does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ConnectionName, PoolName, StepName};
use crate::spec::Spec;
use crate::turn::PRIORITY_MAX;

/// The longest reason that is kept with a run, in bytes. The audit record has all of it.
const REASON_BYTES_MAX: usize = 200;

/// What operators have said of a run, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Controls {
    /// Nothing of the run is handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Hold>,
    /// No task of these steps is handed out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub paused_steps: BTreeMap<StepName, Hold>,
    /// No task that uses these connections is handed out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub paused_connections: BTreeMap<ConnectionName, Hold>,
    /// Steps that are not to begin.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<StepName, Hold>,
    /// The steps that were asked for when the run began, as they were typed; all where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<String>,
    /// Limits that hold in place of the file's.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// What somebody said, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who said so.
    pub by: String,
    /// Why; at most 200 bytes of it.
    pub reason: String,
    /// Since when, in microseconds since 1970 by the leader's clock.
    pub since_micros: i64,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {}: {}", self.by, self.reason)
    }
}

/// Tasks at once, and connections at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// The run's priority among runs, from 1 to 9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Of single steps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<StepName, u32>,
    /// Of its pools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<PoolName, u32>,
    /// Sessions of its connections.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub connections: BTreeMap<ConnectionName, u32>,
}

impl Limits {
    /// True when none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What an operator asks of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Hand out nothing more of it; what runs may end.
    Pause(Scope),
    /// Hand it out again.
    Resume(Scope),
    /// Let other limits hold than those of the file.
    Limit(LimitChange),
    /// Do not run these steps.
    Skip(BTreeSet<StepName>),
}

/// What of a run is meant: all of it, where nothing is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// These steps.
    pub steps: BTreeSet<StepName>,
    /// What uses these connections.
    pub connections: BTreeSet<ConnectionName>,
}

impl Scope {
    /// True when the run itself is meant.
    #[must_use]
    pub fn is_run(&self) -> bool {
        self.steps.is_empty() && self.connections.is_empty()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_run() {
            return f.write_str("the run");
        }
        let steps = self.steps.iter().map(|name| format!("step {name}"));
        let connections = self.connections.iter();
        let connections = connections.map(|name| format!("connection {name}"));
        f.write_str(&steps.chain(connections).collect::<Vec<_>>().join(", "))
    }
}

/// Limits to be set; `None` lets the file's hold again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitChange {
    /// Of the run: missing means that it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", with = "double_option")]
    pub tasks: Option<Option<u32>>,
    /// The run's priority: missing means that it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", with = "double_option")]
    pub priority: Option<Option<u32>>,
    /// Of single steps.
    pub steps: BTreeMap<StepName, Option<u32>>,
    /// Of its pools.
    pub pools: BTreeMap<PoolName, Option<u32>>,
    /// Of its connections.
    pub connections: BTreeMap<ConnectionName, Option<u32>>,
}

impl fmt::Display for LimitChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |what: String, limit: &Option<u32>| match limit {
            Some(limit) => format!("{what} {limit}"),
            None => format!("{what} as in the file"),
        };
        let run = self
            .tasks
            .iter()
            .map(|limit| told("tasks".to_owned(), limit));
        let priority = self.priority.iter();
        let priority = priority.map(|limit| told("priority".to_owned(), limit));
        let run = run.chain(priority);
        let steps = self.steps.iter();
        let steps = steps.map(|(name, limit)| told(format!("step {name}"), limit));
        let pools = self.pools.iter();
        let pools = pools.map(|(name, limit)| told(format!("pool {name}"), limit));
        let connections = self.connections.iter();
        let connections =
            connections.map(|(name, limit)| told(format!("connection {name}"), limit));
        let all: Vec<String> = run.chain(steps).chain(pools).chain(connections).collect();
        f.write_str(&all.join(", "))
    }
}

/// JSON knows one kind of nothing: a list of one tells `Some(None)` from `None`.
mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Option<u32>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|inner| [inner]).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Option<u32>>, D::Error> {
        Ok(Option::<[Option<u32>; 1]>::deserialize(from)?.map(|[inner]| inner))
    }
}

/// Why what an operator asks cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Its file names none such.
    #[error("{kind} `{name}` is not in the file of this run; it has {known}")]
    Unknown {
        /// `step`, `connection` or `pool`.
        kind: &'static str,
        /// What was named.
        name: String,
        /// What there is.
        known: String,
    },
    /// Nothing would ever run.
    #[error("a limit of 0 ({0}) would let nothing run: `highwater pause` is for that")]
    Zero(String),
    /// There is no such priority.
    #[error("{0} is no priority: it is 1 to {max}, and 9 comes first", max = PRIORITY_MAX)]
    Priority(u32),
    /// No limit is named.
    #[error("no limit is named: for instance `--tasks 8`, or `--tasks default` for the file's own")]
    NoLimit,
    /// It is not held back.
    #[error("{0} is not paused")]
    NotPaused(String),
}

impl Control {
    /// The verb, as it is typed and recorded.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Limit(_) => "limits",
            Self::Skip(_) => "skip",
        }
    }

    /// What it is about, for people.
    #[must_use]
    pub fn about(&self) -> String {
        match self {
            Self::Pause(scope) | Self::Resume(scope) => scope.to_string(),
            Self::Limit(change) => change.to_string(),
            Self::Skip(steps) => {
                let steps: Vec<&str> = steps.iter().map(StepName::as_str).collect();
                steps.join(", ")
            }
        }
    }

    /// As JSON, which is how it is sent.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names, texts and numbers, which JSON can hold")
    }

    /// Of this JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }

    /// Whether the run's file knows everything that is named.
    ///
    /// # Errors
    /// The first that it does not know, or a limit that cannot be.
    pub fn check(&self, spec: &Spec) -> Result<(), ControlError> {
        let step = |name: &StepName| known("step", name, spec.steps.keys());
        let connection = |name: &ConnectionName| known("connection", name, spec.connections.keys());
        match self {
            Self::Pause(scope) | Self::Resume(scope) => {
                scope.steps.iter().try_for_each(step)?;
                scope.connections.iter().try_for_each(connection)
            }
            Self::Skip(steps) => steps.iter().try_for_each(step),
            Self::Limit(change) => {
                if *change == LimitChange::default() {
                    return Err(ControlError::NoLimit);
                }
                if let Some(Some(priority)) = change.priority
                    && !(1..=PRIORITY_MAX).contains(&priority)
                {
                    return Err(ControlError::Priority(priority));
                }
                change.steps.keys().try_for_each(step)?;
                change.connections.keys().try_for_each(connection)?;
                let pool = |name: &PoolName| known("pool", name, spec.pools.keys());
                change.pools.keys().try_for_each(pool)?;
                let limits = change
                    .tasks
                    .iter()
                    .map(|limit| ("the run".to_owned(), limit));
                let limits = limits
                    .chain(
                        change
                            .steps
                            .iter()
                            .map(|(name, limit)| (name.to_string(), limit)),
                    )
                    .chain(
                        change
                            .pools
                            .iter()
                            .map(|(name, limit)| (name.to_string(), limit)),
                    )
                    .chain(
                        (change.connections.iter()).map(|(name, limit)| (name.to_string(), limit)),
                    );
                let mut zero = limits.filter(|(_, limit)| **limit == Some(0));
                zero.next()
                    .map_or(Ok(()), |(name, _)| Err(ControlError::Zero(name)))
            }
        }
    }
}

/// Whether a name is among those of the file.
fn known<'a, N: fmt::Display + Eq + 'a>(
    kind: &'static str,
    name: &N,
    mut names: impl Iterator<Item = &'a N> + Clone,
) -> Result<(), ControlError> {
    let all = names.clone();
    if names.any(|known| known == name) {
        return Ok(());
    }
    let all: Vec<String> = all.map(ToString::to_string).collect();
    Err(ControlError::Unknown {
        kind,
        name: name.to_string(),
        known: match all.is_empty() {
            true => format!("no {kind}"),
            false => all.join(", "),
        },
    })
}

impl Controls {
    /// What holds after a control.
    ///
    /// # Errors
    /// There is nothing to resume.
    pub fn after(&self, control: &Control, by: &Hold) -> Result<Self, ControlError> {
        let mut after = self.clone();
        let by = Hold {
            reason: shortened(&by.reason),
            ..by.clone()
        };
        match control {
            Control::Pause(scope) => {
                if scope.is_run() {
                    after.paused.get_or_insert_with(|| by.clone());
                }
                for name in &scope.steps {
                    after
                        .paused_steps
                        .entry(name.clone())
                        .or_insert_with(|| by.clone());
                }
                for name in &scope.connections {
                    after
                        .paused_connections
                        .entry(name.clone())
                        .or_insert_with(|| by.clone());
                }
            }
            Control::Resume(scope) => {
                if scope.is_run() {
                    // Everything: who resumes a run does not want a step of it to stand still.
                    after = Self {
                        limits: after.limits,
                        skipped: after.skipped,
                        selected: after.selected,
                        ..Self::default()
                    };
                }
                for name in &scope.steps {
                    after.paused_steps.remove(name);
                }
                for name in &scope.connections {
                    after.paused_connections.remove(name);
                }
                if after == *self {
                    return Err(ControlError::NotPaused(scope.to_string()));
                }
            }
            Control::Limit(change) => {
                if let Some(tasks) = change.tasks {
                    after.limits.tasks = tasks;
                }
                if let Some(priority) = change.priority {
                    after.limits.priority = priority;
                }
                put(&mut after.limits.steps, &change.steps);
                put(&mut after.limits.pools, &change.pools);
                put(&mut after.limits.connections, &change.connections);
            }
            Control::Skip(steps) => {
                for name in steps {
                    after
                        .skipped
                        .entry(name.clone())
                        .or_insert_with(|| by.clone());
                }
            }
        }
        Ok(after)
    }

    /// Why a step is not to begin, if somebody said so.
    #[must_use]
    pub fn skip(&self, step: &StepName) -> Option<String> {
        let hold = self.skipped.get(step)?;
        Some(format!("{step} was skipped {hold}"))
    }

    /// True when nothing was said that still holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why no task of a step that uses these connections is handed out, if none is.
    pub fn hold<'a>(
        &'a self,
        step: &StepName,
        mut connections: impl Iterator<Item = &'a ConnectionName>,
    ) -> Option<String> {
        if let Some(hold) = &self.paused {
            return Some(format!("the run is paused {hold}"));
        }
        if let Some(hold) = self.paused_steps.get(step) {
            return Some(format!("the step is paused {hold}"));
        }
        connections.find_map(|name| {
            let hold = self.paused_connections.get(name)?;
            Some(format!("connection {name} is paused {hold}"))
        })
    }

    /// As JSON, which is how it is stored.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names, texts and numbers, which JSON can hold")
    }

    /// Of this JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}

fn put<N: Ord + Clone>(limits: &mut BTreeMap<N, u32>, change: &BTreeMap<N, Option<u32>>) {
    for (name, limit) in change {
        match limit {
            Some(limit) => limits.insert(name.clone(), *limit),
            None => limits.remove(name),
        };
    }
}

fn shortened(reason: &str) -> String {
    match reason
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at > REASON_BYTES_MAX)
    {
        None => reason.to_owned(),
        Some(_) => {
            let within = |(at, character): &(usize, char)| {
                at.saturating_add(character.len_utf8()) <= REASON_BYTES_MAX
            };
            let kept: String = reason
                .char_indices()
                .take_while(within)
                .map(|(_, character)| character)
                .collect();
            format!("{kept}…")
        }
    }
}

#[cfg(test)]
mod tests;
