//! Which steps and tasks of a run somebody means, once it is known what their positions are.

use std::collections::BTreeMap;
use std::ops::Range;

use highwater_common::assignment::Work;
use highwater_common::id::StepName;
use highwater_common::partition::Rule;
use highwater_common::plan::{Phase, Tasks};
use highwater_common::record::TaskAddress;
use highwater_common::selection::{Picked, Selection, SelectionError};

use super::view::Run;

/// What is meant of each step; a step that is not among them is not meant.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    steps: BTreeMap<StepName, Vec<Picked>>,
}

impl Chosen {
    /// What these selections mean in a run, together; all of it when there is none.
    ///
    /// # Errors
    /// One of them means nothing there.
    pub(crate) fn of(run: &Run, selections: &[Selection]) -> Result<Self, SelectionError> {
        if selections.is_empty() {
            let all = run.steps.keys();
            return Ok(Self {
                steps: all.map(|name| (name.clone(), vec![Picked::All])).collect(),
            });
        }
        let mut steps: BTreeMap<StepName, Vec<Picked>> = BTreeMap::new();
        for selection in selections {
            for name in selection.steps(&run.dag)? {
                let plan = run.steps.get(&name).and_then(|step| step.plan.as_ref());
                let partitions = plan.and_then(|plan| plan.partitions());
                let kind = partitions.map(|partitions| partitions.partitioning().kind());
                let rule = partitions.map(|partitions| partitions.partitioning().rule());
                let tz = match rule {
                    Some(Rule::Calendar(calendar)) => calendar.tz(),
                    Some(Rule::Integer(_) | Rule::Placed(_) | Rule::Single(_)) | None => {
                        let known = run.spec.steps.get(&name);
                        known.map_or("UTC", |step| step.strategy.load().zone())
                    }
                };
                let picked = selection.picked(&name, kind, tz)?;
                steps.entry(name).or_default().push(picked);
            }
        }
        Ok(Self { steps })
    }

    /// Whether a step is meant, or something of it.
    #[must_use]
    pub(crate) fn has(&self, step: &StepName) -> bool {
        self.steps.contains_key(step)
    }

    /// The ordinals of a phase that are meant, without looking at each of a million; `None` when all
    /// are.
    #[must_use]
    pub(crate) fn ordinals(&self, step: &StepName, phase: &Phase) -> Option<Vec<Range<u64>>> {
        let picked = self.steps.get(step)?;
        if picked.contains(&Picked::All) {
            return None;
        }
        let Tasks::Partitions(partitions) = &phase.tasks else {
            return Some(Vec::new());
        };
        let partitioning = partitions.partitioning();
        let ordinals = |picked: &Picked| match picked {
            Picked::All => Some(0..partitioning.len()),
            Picked::Null => partitioning
                .has_null()
                .then(|| partitioning.ranges()..partitioning.len()),
            Picked::Range(range) => Some(partitioning.ordinals_over(range)),
        };
        let mut found: Vec<Range<u64>> = picked.iter().filter_map(ordinals).collect();
        found.sort_by_key(|range| range.start);
        // Each task once, also where two selections mean it.
        let mut behind = 0;
        for range in &mut found {
            range.start = range.start.max(behind);
            behind = range.end.max(behind);
        }
        Some(found)
    }

    /// Whether the task at `address` is meant.
    #[must_use]
    pub(crate) fn takes(&self, run: &Run, address: &TaskAddress) -> bool {
        let Some(picked) = self.steps.get(&address.step) else {
            return false;
        };
        if picked.contains(&Picked::All) {
            return true;
        }
        let work = run.work(address);
        let slice = match &work {
            Some(Work::Partition(slice)) => Some(slice),
            _ => None,
        };
        picked.iter().any(|picked| picked.takes(slice))
    }
}
