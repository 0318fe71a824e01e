//! The pipelines that run by themselves, as the store holds them. One that cannot be read says so,
//! and keeps nobody else from anything.

use std::sync::Arc;

use highwater_common::controls::Hold;
use highwater_common::id::{DocumentDigest, PipelineName};
use highwater_common::record::ScheduleRecord;
use highwater_common::schedule::Standing;

use super::{Cluster, Shelf};
use crate::engine::Scheduled;

impl Shelf {
    /// Puts the schedules into the view.
    pub(super) fn put_schedules(&mut self, cluster: &mut Cluster) {
        for (name, (read, stored)) in std::mem::take(&mut self.schedules) {
            let scheduled = match read {
                Ok(record) => {
                    let spec = self.spec_of(&name, record.spec_digest).map(Arc::new);
                    Scheduled::new(record, stored, spec)
                }
                Err(problem) => {
                    let why = format!("its record cannot be read: {problem}");
                    Scheduled::new(nothing(), stored, Err(why))
                }
            };
            if let Err(why) = scheduled.spec() {
                tracing::error!(pipeline = %name, why, "a schedule begins no run");
            }
            cluster.schedules.insert(name, scheduled);
        }
    }

    /// Whether a schedule needs a version of a pipeline, as far as can be told.
    pub(super) fn is_scheduled(&self, name: &PipelineName, digest: &DocumentDigest) -> bool {
        let found = self.schedules.get(name);
        found.is_some_and(|(read, _)| {
            read.as_ref()
                .map_or(true, |record| record.spec_digest == *digest)
        })
    }
}

/// In place of a record that cannot be read.
fn nothing() -> ScheduleRecord {
    ScheduleRecord {
        spec_digest: DocumentDigest::from_bytes([0; 32]),
        spec_parts: 0,
        base_dir: String::new(),
        set: Hold {
            by: String::new(),
            reason: String::new(),
            since_micros: 0,
        },
        paused: None,
        standing: Standing::default(),
        last_run: None,
    }
}
