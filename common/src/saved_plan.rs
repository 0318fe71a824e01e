//! A plan in a file: all that it is made from, so that it can be made again word for word. It holds
//! rules and what they were made from, never tasks, and no secret: connections are references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::facts::StepFacts;
use crate::id::{ClusterId, DocumentDigest, StepName};
use crate::plan::{Plan, PlanProblem};
use crate::spec::Spec;

/// What a saved plan calls its form.
pub const SAVED_PLAN: &str = "saved-plan/v1";

/// A plan in a file: schema `saved-plan/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPlan {
    /// `saved-plan/v1`.
    pub schema: String,
    /// The cluster that it was made for: its ledgers say what is left to do.
    pub cluster: ClusterId,
    /// The digest of the spec.
    pub spec_digest: DocumentDigest,
    /// The digest of the plan.
    pub plan_digest: DocumentDigest,
    /// What "now" means for the run: microseconds since 1970-01-01T00:00:00Z.
    pub reference_time_micros: i64,
    /// The folder that relative paths of the pipeline mean.
    pub base_dir: String,
    /// The pipeline, parameters put in.
    pub spec: Spec,
    /// What the probes have found.
    pub facts: BTreeMap<StepName, StepFacts>,
}

/// Why a saved plan cannot be carried out as it was shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StalePlan {
    /// It is not whole.
    #[error("the plan's file was changed, or is damaged: {0}")]
    Changed(String),
    /// It is for other ledgers.
    #[error("it was made for the cluster {made_for}, and this is {this}")]
    OtherCluster {
        /// Whose plan it is.
        made_for: ClusterId,
        /// Who is asked.
        this: ClusterId,
    },
    /// This version makes another plan.
    #[error("this version plans it otherwise ({was} → {is})")]
    PlannedOtherwise {
        /// The digest of what was shown.
        was: String,
        /// The digest of what would be done.
        is: String,
    },
    /// It cannot be planned any more.
    #[error("this version refuses the plan: {0}")]
    Refused(String),
}

impl SavedPlan {
    /// Reads one.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if plan.schema != SAVED_PLAN {
            return Err(format!("it is `{}`, not `{SAVED_PLAN}`", plan.schema));
        }
        Ok(plan)
    }

    /// Makes the plan once more, and holds it to what was shown.
    ///
    /// # Errors
    /// [`StalePlan`] where it would be another one.
    pub fn plan(&self, this: ClusterId) -> Result<Plan, StalePlan> {
        if self.cluster != this {
            return Err(StalePlan::OtherCluster {
                made_for: self.cluster,
                this,
            });
        }
        let digest = self.spec.digest();
        if digest != self.spec_digest {
            let changed = format!(
                "its spec is {}, not {}",
                digest.short(),
                self.spec_digest.short()
            );
            return Err(StalePlan::Changed(changed));
        }
        let plan = Plan::new(&self.spec, digest, self.reference_time_micros, &self.facts);
        let plan = plan.map_err(|problems| {
            let text: Vec<String> = problems.iter().map(PlanProblem::to_string).collect();
            StalePlan::Refused(text.join("; "))
        })?;
        let is = plan.digest();
        if is != self.plan_digest {
            return Err(StalePlan::PlannedOtherwise {
                was: self.plan_digest.short(),
                is: is.short(),
            });
        }
        Ok(plan)
    }
}

/// The first key of a pipeline that another version of it says otherwise, as a path; `None` where
/// both say the same.
#[must_use]
pub fn first_difference(was: &Spec, is: &Spec) -> Option<String> {
    difference(&was.to_document(), &is.to_document(), "")
}

fn difference(was: &Json, is: &Json, path: &str) -> Option<String> {
    if was == is {
        return None;
    }
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    let (Json::Object(one), Json::Object(other)) = (was, is) else {
        return Some(path.to_owned());
    };
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter()
        .find_map(|key| match (one.get(key), other.get(key)) {
            (Some(was), Some(is)) => difference(was, is, &below(key)),
            (Some(_), None) | (None, Some(_)) => Some(below(key)),
            (None, None) => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse;

    fn spec(tasks: u32) -> Spec {
        let text = format!(
            "version: 1\nname: x\nsteps:\n  a: {{strategy: {{type: noop, tasks: {tasks}}}}}\n  b: \
             {{strategy: {{type: noop, tasks: 1}}}}\n"
        );
        parse(&text, &BTreeMap::new()).expect("legal")
    }

    fn saved() -> SavedPlan {
        let spec = spec(3);
        let digest = spec.digest();
        let plan = Plan::new(&spec, digest, 7, &BTreeMap::new()).expect("a plan");
        SavedPlan {
            schema: SAVED_PLAN.to_owned(),
            cluster: ClusterId::from_bytes([1; 16]),
            spec_digest: digest,
            plan_digest: plan.digest(),
            reference_time_micros: 7,
            base_dir: "/data".to_owned(),
            spec,
            facts: BTreeMap::new(),
        }
    }

    #[test]
    fn a_saved_plan_is_the_same_plan_or_stale() {
        let saved = saved();
        let read = serde_json::to_vec(&saved).map_err(|error| error.to_string());
        let read = read.and_then(|json| SavedPlan::from_json(&json));
        let read = read.expect("a plan");
        assert_eq!(read, saved);
        let plan = read.plan(saved.cluster).expect("the same");
        assert_eq!(plan.digest(), saved.plan_digest);
        // Whatever is not as it was is told.
        let other = ClusterId::from_bytes([2; 16]);
        assert!(matches!(
            saved.plan(other),
            Err(StalePlan::OtherCluster { .. })
        ));
        let mut later = saved.clone();
        later.reference_time_micros = 8;
        assert!(matches!(
            later.plan(saved.cluster),
            Err(StalePlan::PlannedOtherwise { .. })
        ));
        let mut edited = saved.clone();
        edited.spec = spec(4);
        assert!(matches!(
            edited.plan(saved.cluster),
            Err(StalePlan::Changed(_))
        ));
    }

    #[test]
    fn the_first_key_that_changed_is_named() {
        assert_eq!(first_difference(&spec(3), &spec(3)), None);
        let changed = first_difference(&spec(3), &spec(4));
        assert_eq!(changed.as_deref(), Some("steps.a.strategy.tasks"));
    }
}
