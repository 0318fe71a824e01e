//! Every key of every record, rendered and parsed in one place.
//!
//! Numbers are padded with zeros, so that the order of bytes is the order of numbers; a prefix ends
//! in `/`, so that no key of task 10 lies below the prefix of task 1.

use std::fmt;
use std::str::FromStr;

use highwater_common::id::{DocumentDigest, PipelineName, RunId, StepName, TaskId, WorkerId};

use super::Key;

/// Digits of a generation, a part or a segment's number: any `u32`.
const SHORT_DIGITS: usize = 10;
/// Digits of a phase: any `u8`.
const PHASE_DIGITS: usize = 3;
/// Digits of an audit record's number: any `u64`.
const LONG_DIGITS: usize = 20;

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RecordKey {
    /// The store's format and the cluster's id.
    Format,
    /// Who leads: the term's uuid and the leader's address.
    Leader,
    /// The high part of fencing tokens.
    High,
    /// A worker's registration.
    Worker(WorkerId),
    /// Part of a version of a pipeline's spec; part 0 is the head and is written last.
    Pipeline {
        /// The pipeline.
        name: PipelineName,
        /// Its spec's digest.
        digest: DocumentDigest,
        /// Which part.
        part: u32,
    },
    /// A run.
    Run(RunId),
    /// Part of what a probe learned of a step's table.
    Facts {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// Which part.
        part: u32,
    },
    /// Part of a step's plan.
    Plan {
        /// The run.
        run: RunId,
        /// Which plan of the run.
        generation: u32,
        /// The step.
        step: StepName,
        /// Which part.
        part: u32,
    },
    /// How far a step is planned.
    Step {
        /// The run.
        run: RunId,
        /// Which plan of the run.
        generation: u32,
        /// The step.
        step: StepName,
    },
    /// The states of 1,024 tasks of a phase of a step.
    Segment {
        /// The run.
        run: RunId,
        /// Which plan of the run.
        generation: u32,
        /// The step.
        step: StepName,
        /// Which phase of the step.
        phase: u8,
        /// Which segment of the phase.
        number: u32,
    },
    /// The lease of a task that is open.
    Attempt {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
    },
    /// A task that waits for its next attempt.
    Retry {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
    },
    /// A task that was given up.
    Dead {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
    },
    /// What is known of a stream's watermark; the text that names the stream.
    Watermark(String),
    /// An operator's action.
    Audit(u64),
    /// A pipeline that runs by itself.
    Schedule(PipelineName),
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is not the key of a record")]
pub struct KeyError {
    key: Key,
}

impl RecordKey {
    /// The key as the store holds it.
    #[must_use]
    pub fn render(&self) -> Key {
        self.to_string()
    }

    /// What the record at `key` is about.
    ///
    /// # Errors
    /// [`KeyError`] when no record has such a key.
    pub fn parse(key: &str) -> Result<Self, KeyError> {
        parse_parts(key).ok_or_else(|| KeyError {
            key: key.to_owned(),
        })
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("fmt"),
            Self::Leader => f.write_str("leader"),
            Self::High => f.write_str("hi"),
            Self::Worker(id) => write!(f, "worker/{id}"),
            Self::Pipeline { name, digest, part } => {
                write!(f, "pipeline/{name}/{digest}/{part:0SHORT_DIGITS$}")
            }
            Self::Run(run) => write!(f, "run/{run}"),
            Self::Facts { run, step, part } => {
                write!(f, "facts/{run}/{step}/{part:0SHORT_DIGITS$}")
            }
            Self::Plan {
                run,
                generation,
                step,
                part,
            } => {
                write!(
                    f,
                    "plan/{run}/{generation:0SHORT_DIGITS$}/{step}/{part:0SHORT_DIGITS$}"
                )
            }
            Self::Step {
                run,
                generation,
                step,
            } => write!(f, "step/{run}/{generation:0SHORT_DIGITS$}/{step}"),
            Self::Segment {
                run,
                generation,
                step,
                phase,
                number,
            } => {
                let generation = format_args!("{generation:0SHORT_DIGITS$}");
                write!(
                    f,
                    "seg/{run}/{generation}/{step}/{phase:0PHASE_DIGITS$}/{number:0SHORT_DIGITS$}"
                )
            }
            Self::Attempt { run, task } => write!(f, "att/{run}/{task}"),
            Self::Retry { run, task } => write!(f, "retry/{run}/{task}"),
            Self::Dead { run, task } => write!(f, "dead/{run}/{task}"),
            Self::Watermark(stream) => write!(f, "wm/{}", Escaped(stream)),
            Self::Audit(seq) => write!(f, "audit/{seq:0LONG_DIGITS$}"),
            Self::Schedule(name) => write!(f, "schedule/{name}"),
        }
    }
}

fn parse_parts(key: &str) -> Option<RecordKey> {
    let parts: Vec<&str> = key.split('/').collect();
    let parsed = match parts.as_slice() {
        ["fmt"] => RecordKey::Format,
        ["leader"] => RecordKey::Leader,
        ["hi"] => RecordKey::High,
        ["worker", id] => RecordKey::Worker(id.parse().ok()?),
        ["pipeline", name, digest, part] => RecordKey::Pipeline {
            name: name.parse().ok()?,
            digest: digest.parse().ok()?,
            part: short(part)?,
        },
        ["run", run] => RecordKey::Run(run.parse().ok()?),
        ["facts", run, step, part] => RecordKey::Facts {
            run: run.parse().ok()?,
            step: step.parse().ok()?,
            part: short(part)?,
        },
        ["plan", run, generation, step, part] => RecordKey::Plan {
            run: run.parse().ok()?,
            generation: short(generation)?,
            step: step.parse().ok()?,
            part: short(part)?,
        },
        ["step", run, generation, step] => RecordKey::Step {
            run: run.parse().ok()?,
            generation: short(generation)?,
            step: step.parse().ok()?,
        },
        ["seg", run, generation, step, phase, number] => RecordKey::Segment {
            run: run.parse().ok()?,
            generation: short(generation)?,
            step: step.parse().ok()?,
            phase: digits(phase, PHASE_DIGITS)?,
            number: short(number)?,
        },
        ["att", run, task] => RecordKey::Attempt {
            run: run.parse().ok()?,
            task: task.parse().ok()?,
        },
        ["retry", run, task] => RecordKey::Retry {
            run: run.parse().ok()?,
            task: task.parse().ok()?,
        },
        ["dead", run, task] => RecordKey::Dead {
            run: run.parse().ok()?,
            task: task.parse().ok()?,
        },
        ["wm", stream] => RecordKey::Watermark(unescape(stream)?),
        ["audit", seq] => RecordKey::Audit(digits(seq, LONG_DIGITS)?),
        ["schedule", name] => RecordKey::Schedule(name.parse().ok()?),
        [..] => return None,
    };
    // One record has one key: a text that reads alike but is written otherwise (`A1` for `a1`) is
    // none.
    (parsed.render() == key).then_some(parsed)
}

fn short(text: &str) -> Option<u32> {
    digits(text, SHORT_DIGITS)
}

fn digits<N: FromStr>(text: &str, count: usize) -> Option<N> {
    if text.len() != count || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// What the keys of several records start with.
pub mod prefix {
    use super::{DocumentDigest, Key, PipelineName, RunId, SHORT_DIGITS, StepName};

    /// All workers.
    #[must_use]
    pub fn workers() -> Key {
        "worker/".to_owned()
    }

    /// All pipelines, in all versions.
    #[must_use]
    pub fn pipelines() -> Key {
        "pipeline/".to_owned()
    }

    /// All versions of one pipeline.
    #[must_use]
    pub fn versions(name: &PipelineName) -> Key {
        format!("pipeline/{name}/")
    }

    /// All parts of one version of a pipeline.
    #[must_use]
    pub fn version(name: &PipelineName, digest: &DocumentDigest) -> Key {
        format!("pipeline/{name}/{digest}/")
    }

    /// All runs.
    #[must_use]
    pub fn runs() -> Key {
        "run/".to_owned()
    }

    /// The facts of all steps of a run.
    #[must_use]
    pub fn facts(run: &RunId) -> Key {
        format!("facts/{run}/")
    }

    /// The facts of one step.
    #[must_use]
    pub fn facts_of_step(run: &RunId, step: &StepName) -> Key {
        format!("facts/{run}/{step}/")
    }

    /// The plans of a run, of all generations.
    #[must_use]
    pub fn plans(run: &RunId) -> Key {
        format!("plan/{run}/")
    }

    /// The plans of one generation of a run.
    #[must_use]
    pub fn plans_of_generation(run: &RunId, generation: u32) -> Key {
        format!("plan/{run}/{generation:0SHORT_DIGITS$}/")
    }

    /// The plan of one step.
    #[must_use]
    pub fn plan_of_step(run: &RunId, generation: u32, step: &StepName) -> Key {
        format!("plan/{run}/{generation:0SHORT_DIGITS$}/{step}/")
    }

    /// The steps of a run, of all generations.
    #[must_use]
    pub fn steps(run: &RunId) -> Key {
        format!("step/{run}/")
    }

    /// The steps of one generation of a run.
    #[must_use]
    pub fn steps_of_generation(run: &RunId, generation: u32) -> Key {
        format!("step/{run}/{generation:0SHORT_DIGITS$}/")
    }

    /// The segments of a run, of all generations.
    #[must_use]
    pub fn segments(run: &RunId) -> Key {
        format!("seg/{run}/")
    }

    /// The segments of one generation of a run.
    #[must_use]
    pub fn segments_of_generation(run: &RunId, generation: u32) -> Key {
        format!("seg/{run}/{generation:0SHORT_DIGITS$}/")
    }

    /// The segments of one step.
    #[must_use]
    pub fn segments_of_step(run: &RunId, generation: u32, step: &StepName) -> Key {
        format!("seg/{run}/{generation:0SHORT_DIGITS$}/{step}/")
    }

    /// The open tasks of a run.
    #[must_use]
    pub fn attempts(run: &RunId) -> Key {
        format!("att/{run}/")
    }

    /// The waiting tasks of a run.
    #[must_use]
    pub fn retries(run: &RunId) -> Key {
        format!("retry/{run}/")
    }

    /// The tasks of a run that were given up.
    #[must_use]
    pub fn dead(run: &RunId) -> Key {
        format!("dead/{run}/")
    }

    /// All watermarks.
    #[must_use]
    pub fn watermarks() -> Key {
        "wm/".to_owned()
    }

    /// All operators' actions, in their order.
    #[must_use]
    pub fn audits() -> Key {
        "audit/".to_owned()
    }
}

/// A text without `/`: what is not a letter, a digit or one of `-._:` stands as `%` and two
/// hexadecimal digits.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' => {
                write!(f, "{}", char::from(byte))
            }
            _ => write!(f, "%{byte:02x}"),
        })
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = if *first == b'%' {
            let (hex, tail) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            tail
        } else {
            bytes.push(*first);
            tail
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
