//! Puts every task where its records say it stands.

use highwater_common::id::{RunId, StepName};
use highwater_common::record::TaskAddress;
use highwater_common::segment::Segment;

use super::super::contain::contained;
use super::Shelf;
use crate::engine::{Cluster, TaskTable};

/// Whose tasks: run, generation, step, phase.
pub(super) type TaskPlace = (RunId, u32, StepName, u8);

impl Shelf {
    /// Puts every task where it stands.
    pub(super) fn place_tasks(mut self, cluster: &mut Cluster) {
        for (place, number, bytes) in std::mem::take(&mut self.segments) {
            let Some(table) = table_of(cluster, &place) else {
                continue;
            };
            let placed = contained("loading the run", || {
                match Segment::from_bytes(&bytes) {
                    Ok(segment) => {
                        table.load(number, segment, bytes);
                        Ok(())
                    }
                    Err(error) => {
                        // First states with the bytes that are there: a later transaction, of a
                        // fence, compares them.
                        let (segment, _) = table.segment_of(Segment::ordinal(number, 0));
                        table.load(number, segment, bytes);
                        let (run, generation, step, phase) = &place;
                        Err(format!(
                            "the record at seg/{run}/{generation}/{step}/{phase}/{number} cannot \
                             be read: {error}"
                        ))
                    }
                }
            });
            if let Err(why) = placed.and_then(|placed| placed) {
                self.spoil(place.0, why);
            }
        }
        for step in cluster
            .runs
            .values_mut()
            .flat_map(|run| run.steps.values_mut())
        {
            step.tables_mut().for_each(TaskTable::settle);
        }
        for (run, held) in self.leases {
            if let Some(table) = table_of(cluster, &place_of(run, &held.record.address)) {
                table.leases.insert(held.record.address.ordinal, held);
            }
        }
        for (run, held) in self.retries {
            if let Some(table) = table_of(cluster, &place_of(run, &held.record.address)) {
                table.retries.insert(held.record.address.ordinal, held);
            }
        }
        for (run, held) in self.dead {
            if let Some(table) = table_of(cluster, &place_of(run, &held.record.address)) {
                table.dead.insert(held.record.address.ordinal, held);
            }
        }
        for (run, why) in self.damage {
            tracing::error!(%run, %why, "a run is damaged");
            if let Some(run) = cluster.runs.get_mut(&run) {
                run.damage = Some(why);
            }
        }
    }
}

fn place_of(run: RunId, address: &TaskAddress) -> TaskPlace {
    (run, address.generation, address.step.clone(), address.phase)
}

/// The tasks of a record, if their step still follows the plan that it is of.
fn table_of<'a>(
    cluster: &'a mut Cluster,
    (run, generation, step, phase): &TaskPlace,
) -> Option<&'a mut TaskTable> {
    let step = cluster.runs.get_mut(run)?.steps.get_mut(step)?;
    let is_followed = *generation == 0 || *generation == step.generation;
    if is_followed {
        step.table_mut(*generation, *phase)
    } else {
        None
    }
}
