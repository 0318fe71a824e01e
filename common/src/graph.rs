//! The graph of a pipeline's steps, as people and programs see it: of a file, or of a run as it
//! stands.

use serde::{Deserialize, Serialize};

use crate::dag::Dag;
use crate::document::{EdgeDocument, RunDocument, TaskCounts};
use crate::id::{PipelineName, RunId, StepName};
use crate::spec::{Reading, Step};
use crate::status::{RunStatus, StepStatus};

/// The steps and what each waits for: schema `graph/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphDocument {
    /// `graph/v1`.
    pub schema: String,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The run, of the graph of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The form of its id that people see and type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// The steps, each after all that it waits for; ties by name.
    pub steps: Vec<GraphStep>,
}

/// A step of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphStep {
    /// The step.
    pub step: StepName,
    /// Its strategy.
    pub strategy: String,
    /// Whether it is one of the pipeline's, or only in the file.
    pub enabled: bool,
    /// What it waits for, by name.
    pub depends_on: Vec<EdgeDocument>,
    /// Where it stands, in the graph of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StepStatus>,
    /// Why it failed or was skipped; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Its tasks by state, in the graph of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskCounts>,
}

impl Step {
    /// What it waits for, by name, and whether it goes on where the other ends.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeDocument> {
        let probe = self.strategy.load().probe();
        let continued = probe.and_then(|probe| probe.window?.continues.cloned());
        let edges = self.depends_on.iter().map(|edge| EdgeDocument {
            step: edge.step.clone(),
            when: edge.when,
            continues: continued.as_ref() == Some(&edge.step),
        });
        edges.collect()
    }
}

impl GraphDocument {
    /// The graph of a file, with the steps that are not enabled.
    #[must_use]
    pub fn of_reading(reading: &Reading) -> Self {
        let steps = &reading.steps;
        let edges = steps
            .iter()
            .map(|(name, step)| (name.clone(), step.depends_on.clone()));
        // A file has been checked for circles; without an order, by name is one as well.
        let order: Vec<StepName> = match Dag::new(edges.collect()) {
            Ok(dag) => dag.order().to_vec(),
            Err(_) => steps.keys().cloned().collect(),
        };
        let steps = order.iter().filter_map(|name| {
            let step = steps.get(name)?;
            Some(GraphStep {
                step: name.clone(),
                strategy: step.strategy.load().name().to_owned(),
                enabled: reading.spec.steps.contains_key(name),
                depends_on: step.edges(),
                status: None,
                reason: String::new(),
                tasks: None,
            })
        });
        Self {
            schema: "graph/v1".to_owned(),
            pipeline: reading.spec.name.clone(),
            run: None,
            short: None,
            status: None,
            steps: steps.collect(),
        }
    }

    /// The graph of a run as it stands.
    #[must_use]
    pub fn of_run(run: &RunDocument) -> Self {
        let steps = run.steps.iter().map(|step| GraphStep {
            step: step.step.clone(),
            strategy: step.strategy.clone(),
            enabled: true,
            depends_on: step.depends_on.clone(),
            status: Some(step.status),
            reason: step.reason.clone(),
            tasks: Some(step.tasks),
        });
        Self {
            schema: "graph/v1".to_owned(),
            pipeline: run.pipeline.clone(),
            run: Some(run.run),
            short: Some(run.short.clone()),
            status: Some(run.status),
            steps: steps.collect(),
        }
    }
}
