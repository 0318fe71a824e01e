//! Why a pipeline cannot be planned: each problem names its step, the fact behind it, and what to
//! do.

use crate::error_code::ErrorCode;
use crate::id::StepName;
use crate::spec::Relation;

/// One reason why a run cannot be planned. Permanent: it stays until the pipeline or a table
/// changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step {step}: {message}; {help}")]
pub struct PlanProblem {
    /// Which kind it is.
    pub code: ErrorCode,
    /// The step.
    pub step: StepName,
    /// What is wrong, with table, column and the fact found.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Collects the problems of one step, so that all are told at once.
pub(crate) struct Problems<'a> {
    step: &'a StepName,
    found: Vec<PlanProblem>,
}

impl<'a> Problems<'a> {
    pub(crate) const fn of(step: &'a StepName) -> Self {
        Self {
            step,
            found: Vec::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        code: ErrorCode,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let (message, help) = (message.into(), help.into());
        self.found.push(PlanProblem {
            code,
            step: self.step.clone(),
            message,
            help,
        });
    }

    /// Nothing was found out about the table.
    pub(crate) fn not_probed(&mut self, from: &Relation) {
        let message = format!("nothing was found out about {from}");
        self.add(ErrorCode::PlanNotProbed, message, "plan again");
    }

    /// Where a key of the step's strategy stands in the file.
    pub(crate) fn path(&self, key: &str) -> String {
        format!("steps.{}.strategy.{key}", self.step)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was planned, unless there are problems here or there: then all of them.
    pub(crate) fn or<T>(self, planned: Result<T, Vec<PlanProblem>>) -> Result<T, Vec<PlanProblem>> {
        let mut found = self.found;
        match planned {
            Ok(planned) if found.is_empty() => Ok(planned),
            Ok(_) => Err(found),
            Err(others) => {
                found.extend(others);
                Err(found)
            }
        }
    }

    pub(crate) fn into_vec(self) -> Vec<PlanProblem> {
        self.found
    }
}
