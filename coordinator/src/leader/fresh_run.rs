//! A run as the view holds it before anything of it is planned: of a submission, or read from the
//! store.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_common::dag::Dag;
use highwater_common::id::RunId;
use highwater_common::record::RunRecord;
use highwater_common::selection::{Selection, SelectionError, only};
use highwater_common::spec::Spec;

use crate::engine::{Outages, Run, Step};

/// A run as the view holds it, before anything of it is planned.
pub(super) fn new_run(id: RunId, record: RunRecord, stored: Vec<u8>, whole: Arc<Spec>) -> Run {
    // What is not meant is as if it were not in the file: it is neither probed nor planned.
    let (spec, damage) = match chosen_steps(&whole, &record.controls.selected) {
        Ok(_) if record.controls.selected.is_empty() => (Arc::clone(&whole), None),
        Ok(spec) => (Arc::new(spec), None),
        Err(why) => {
            let nothing = Spec {
                steps: BTreeMap::new(),
                ..whole.as_ref().clone()
            };
            let why = format!("the steps that were asked for cannot be found: {why}");
            (Arc::new(nothing), Some(why))
        }
    };
    // A stored spec was checked, so it has an order; one that had none would have no steps to run.
    let dag = Arc::new(Dag::of(&spec).unwrap_or_default());
    let steps = spec
        .steps
        .keys()
        .map(|name| (name.clone(), Step::fresh()))
        .collect();
    Run {
        id,
        record,
        stored,
        spec,
        whole,
        dag,
        facts: BTreeMap::new(),
        plan: None,
        steps,
        damage,
        outages: Outages::default(),
        moved_millis: None,
        orders: BTreeMap::new(),
    }
}

/// The pipeline with the steps alone that these texts mean.
pub(crate) fn chosen_steps(spec: &Spec, selected: &[String]) -> Result<Spec, SelectionError> {
    let selections: Result<Vec<Selection>, _> = selected.iter().map(|text| text.parse()).collect();
    only(spec, &selections?)
}
