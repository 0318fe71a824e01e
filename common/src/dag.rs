//! The steps of a pipeline as an acyclic graph, and what each of them waits for. Decides only: who
//! acts asks it.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::StepName;
use crate::spec::{Dependency, Spec, When};

/// An acyclic graph of steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dag {
    order: Vec<StepName>,
    dependencies: BTreeMap<StepName, Vec<Dependency>>,
    dependants: BTreeMap<StepName, BTreeSet<StepName>>,
}

/// Why steps make no acyclic graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DagError {
    /// A step waits for one that does not exist.
    #[error("`{step}` depends on `{dependency}`, which is no step")]
    Unknown {
        /// The step that waits.
        step: StepName,
        /// What it waits for.
        dependency: StepName,
    },
    /// Steps wait for each other in a circle. The path begins and ends with the same step.
    #[error("steps wait for each other: {}", path_text(.0))]
    Cycle(Vec<StepName>),
}

fn path_text(path: &[StepName]) -> String {
    path.iter()
        .map(StepName::as_str)
        .collect::<Vec<_>>()
        .join(" → ")
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All its tasks ended well, or as many as it tolerates.
    Success,
    /// It did not.
    Failed,
    /// It never started, because a step that it needs did not succeed.
    Skipped,
    /// Somebody cancelled it.
    Cancelled,
}

/// Whether a step may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// All that it waits for has come.
    Ready,
    /// It waits for these steps, in the order of their names.
    Waits(Vec<StepName>),
    /// It never starts: of the steps that it needs, this one failed or was cancelled first along
    /// the way.
    Skip(StepName),
}

impl Dag {
    /// The graph of a pipeline's steps.
    ///
    /// # Errors
    /// [`DagError`] when a step waits for an unknown one, or for itself.
    pub fn of(spec: &Spec) -> Result<Self, DagError> {
        Self::new(
            spec.steps
                .iter()
                .map(|(name, step)| (name.clone(), step.depends_on.clone()))
                .collect(),
        )
    }

    /// The graph of these steps, each with what it waits for.
    ///
    /// # Errors
    /// [`DagError`] when a step waits for an unknown one, or for itself.
    pub fn new(dependencies: BTreeMap<StepName, Vec<Dependency>>) -> Result<Self, DagError> {
        let mut dependants: BTreeMap<StepName, BTreeSet<StepName>> = dependencies
            .keys()
            .map(|step| (step.clone(), BTreeSet::new()))
            .collect();
        let mut waiting: BTreeMap<StepName, BTreeSet<StepName>> = BTreeMap::new();
        for (step, edges) in &dependencies {
            for edge in edges {
                let Some(known) = dependants.get_mut(&edge.step) else {
                    return Err(DagError::Unknown {
                        step: step.clone(),
                        dependency: edge.step.clone(),
                    });
                };
                known.insert(step.clone());
            }
            waiting.insert(
                step.clone(),
                edges.iter().map(|edge| edge.step.clone()).collect(),
            );
        }
        // Kahn's algorithm; of the steps that could come next, always the first by name.
        let mut free: BTreeSet<StepName> = waiting
            .iter()
            .filter(|(_, edges)| edges.is_empty())
            .map(|(step, _)| step.clone())
            .collect();
        waiting.retain(|_, edges| !edges.is_empty());
        let mut order = Vec::with_capacity(dependencies.len());
        while let Some(step) = free.pop_first() {
            for dependant in dependants.get(&step).into_iter().flatten() {
                if let Some(edges) = waiting.get_mut(dependant) {
                    edges.remove(&step);
                    if edges.is_empty() {
                        waiting.remove(dependant);
                        free.insert(dependant.clone());
                    }
                }
            }
            order.push(step);
        }
        match cycle(&waiting) {
            Some(path) => Err(DagError::Cycle(path)),
            None => Ok(Self {
                order,
                dependencies,
                dependants,
            }),
        }
    }

    /// The steps, each after all that it waits for; ties by name.
    #[must_use]
    pub fn order(&self) -> &[StepName] {
        &self.order
    }

    /// What a step waits for; nothing for a step that is not there.
    #[must_use]
    pub fn dependencies(&self, step: &StepName) -> &[Dependency] {
        self.dependencies.get(step).map_or(&[], Vec::as_slice)
    }

    /// The steps that wait for this one, in the order of their names.
    pub fn dependants(&self, step: &StepName) -> impl Iterator<Item = &StepName> {
        self.dependants.get(step).into_iter().flatten()
    }

    /// Whether a step may start, by how the steps before it ended. A step that is absent from
    /// `ended` has not ended.
    #[must_use]
    pub fn readiness(&self, step: &StepName, ended: &BTreeMap<StepName, Ended>) -> Readiness {
        let mut waits = BTreeSet::new();
        for edge in self.dependencies(step) {
            match (ended.get(&edge.step), edge.when) {
                (None, When::Success | When::Done) => {
                    waits.insert(edge.step.clone());
                }
                (Some(Ended::Success), When::Success | When::Done)
                | (Some(Ended::Failed | Ended::Skipped | Ended::Cancelled), When::Done) => {}
                // Whatever else it waits for, it will not start: there is no reason to say so
                // later.
                (Some(Ended::Failed | Ended::Cancelled), When::Success) => {
                    return Readiness::Skip(edge.step.clone());
                }
                (Some(Ended::Skipped), When::Success) => {
                    return Readiness::Skip(self.cause(&edge.step, ended));
                }
            }
        }
        if waits.is_empty() {
            Readiness::Ready
        } else {
            Readiness::Waits(waits.into_iter().collect())
        }
    }

    /// The steps that may start now, in order: those that have neither ended nor wait. The caller
    /// leaves out what runs.
    #[must_use]
    pub fn ready(&self, ended: &BTreeMap<StepName, Ended>) -> Vec<&StepName> {
        let is_ready = |step: &&StepName| {
            !ended.contains_key(*step) && self.readiness(step, ended) == Readiness::Ready
        };
        self.order.iter().filter(is_ready).collect()
    }

    /// The first ancestor that failed, of a step that was skipped. The graph has no circle, so this
    /// ends.
    fn cause(&self, skipped: &StepName, ended: &BTreeMap<StepName, Ended>) -> StepName {
        match self.readiness(skipped, ended) {
            Readiness::Skip(cause) => cause,
            Readiness::Ready | Readiness::Waits(_) => skipped.clone(),
        }
    }
}

/// A circle among steps each of which waits for another one of them.
fn cycle(waiting: &BTreeMap<StepName, BTreeSet<StepName>>) -> Option<Vec<StepName>> {
    let mut path: Vec<&StepName> = vec![waiting.keys().next()?];
    loop {
        let last = path.last()?;
        // A step that is left over waits for at least one that is left over, so this walk comes
        // back to itself.
        let next = waiting
            .get(*last)?
            .iter()
            .find(|step| waiting.contains_key(*step))?;
        if let Some(at) = path.iter().position(|step| *step == next) {
            let mut circle: Vec<StepName> =
                path.iter().skip(at).map(|step| (*step).clone()).collect();
            // Always told from its first step by name, wherever the walk met it.
            let first = circle
                .iter()
                .enumerate()
                .min_by_key(|(_, step)| *step)
                .map_or(0, |(at, _)| at);
            circle.rotate_left(first);
            circle.extend(circle.first().cloned());
            return Some(circle);
        }
        path.push(next);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> StepName {
        name.parse().expect("a legal name")
    }

    fn graph(edges: &[(&str, &[&str])]) -> Result<Dag, DagError> {
        let edge = |step: &&str| Dependency {
            step: name(step),
            when: When::Success,
        };
        Dag::new(
            edges
                .iter()
                .map(|(step, on)| (name(step), on.iter().map(edge).collect()))
                .collect(),
        )
    }

    #[test]
    fn steps_come_after_what_they_wait_for() {
        let dag = graph(&[("a", &["c"]), ("b", &[]), ("c", &["b"]), ("d", &["a", "b"])])
            .expect("no circle");
        assert_eq!(dag.order(), [name("b"), name("c"), name("a"), name("d")]);
        assert_eq!(
            dag.dependants(&name("b")).collect::<Vec<_>>(),
            [&name("c"), &name("d")]
        );
        assert_eq!(dag.dependencies(&name("d")).len(), 2);
    }

    #[test]
    fn a_circle_is_told_with_its_path() {
        let error = graph(&[
            ("a", &[]),
            ("b", &["d", "a"]),
            ("c", &["b"]),
            ("d", &["c"]),
            ("e", &["d"]),
        ])
        .expect_err("a circle");
        assert_eq!(
            error.to_string(),
            "steps wait for each other: b → d → c → b"
        );
        assert_eq!(
            graph(&[("a", &["a"])]),
            Err(DagError::Cycle(vec![name("a"), name("a")]))
        );
        assert!(matches!(
            graph(&[("a", &["x"])]),
            Err(DagError::Unknown { .. })
        ));
    }

    #[test]
    fn dependants_of_a_failed_step_are_skipped_with_the_first_cause() {
        // GIVEN a → b → c, and d that waits for a to end, however
        let edges = [
            ("a", vec![]),
            ("b", vec![("a", When::Success)]),
            ("c", vec![("b", When::Success)]),
            ("d", vec![("a", When::Done)]),
        ];
        let edge = |(step, when): (&str, When)| Dependency {
            step: name(step),
            when,
        };
        let dag = Dag::new(
            edges
                .into_iter()
                .map(|(step, on)| (name(step), on.into_iter().map(edge).collect()))
                .collect(),
        );
        let dag = dag.expect("no circle");
        let mut ended = BTreeMap::new();
        assert_eq!(dag.ready(&ended), [&name("a")]);
        assert_eq!(
            dag.readiness(&name("c"), &ended),
            Readiness::Waits(vec![name("b")])
        );
        // WHEN a fails
        ended.insert(name("a"), Ended::Failed);
        // THEN b is skipped because of it, so is c, and d is ready
        assert_eq!(
            dag.readiness(&name("b"), &ended),
            Readiness::Skip(name("a"))
        );
        ended.insert(name("b"), Ended::Skipped);
        assert_eq!(
            dag.readiness(&name("c"), &ended),
            Readiness::Skip(name("a"))
        );
        assert_eq!(dag.ready(&ended), [&name("d")]);
    }

    proptest! {
        #[test]
        fn every_graph_is_ordered_or_has_a_true_circle(edges in proptest::collection::vec((0_u8..8, 0_u8..8), 0..20)) {
            let mut map: BTreeMap<StepName, Vec<Dependency>> = (0..8).map(|n| (name(&format!("s{n}")), Vec::new())).collect();
            for (from, to) in edges {
                let edge = Dependency { step: name(&format!("s{to}")), when: When::Success };
                map.entry(name(&format!("s{from}"))).or_default().push(edge);
            }
            match Dag::new(map.clone()) {
                Ok(dag) => {
                    prop_assert_eq!(dag.order().len(), map.len());
                    let at = |step: &StepName| dag.order().iter().position(|other| other == step);
                    for (step, edges) in &map {
                        prop_assert!(edges.iter().all(|edge| at(&edge.step) < at(step)));
                    }
                }
                Err(DagError::Cycle(path)) => {
                    prop_assert_eq!(path.first(), path.last());
                    for pair in path.windows(2) {
                        prop_assert!(map[&pair[0]].iter().any(|edge| edge.step == pair[1]));
                    }
                }
                Err(error @ DagError::Unknown { .. }) => prop_assert!(false, "{}", error),
            }
        }
    }
}
