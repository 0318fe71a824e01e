//! What a step's record keeps for people of its single tasks: what its prepare warned of, and what
//! its count found left out.

use highwater_common::assignment::{AttemptError, ErrorClass, Receipt};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::TaskId;
use highwater_common::left_out::LeftOut;
use highwater_common::record::StepRecord;
use highwater_proto::convert::records::StoredRecord;

use super::Leader;
use super::batch::{Effect, Planned};
use super::runs::cut;
use crate::store::keys::RecordKey;
use crate::store::{Expect, Op};

/// Lines of a kind that a step's record keeps, and the bytes of each.
const LINES_MAX: usize = 8;
const LINE_BYTES_MAX: usize = 512;

impl Leader {
    /// What a prepare warned of, and which target it has made ready: from now on claims begin on
    /// that one only.
    pub(super) fn prepared(
        &self,
        task: &TaskId,
        warnings: &[String],
        fingerprint: &str,
        millis: u64,
    ) -> Option<Planned> {
        let planned = self.completed(task, Receipt::default(), millis)?;
        let (lease, run) = self.lease(task)?;
        let is_another = run.steps.get(&lease.address.step)?.fingerprint() != Some(fingerprint);
        let is_told = is_another && !fingerprint.is_empty();
        if warnings.is_empty() && !is_told {
            return Some(planned);
        }
        self.noting(planned, |record| {
            let fresh: Vec<String> = warnings
                .iter()
                .filter(|line| !record.warnings.contains(line))
                .cloned()
                .collect();
            note(&mut record.warnings, &fresh);
            if is_told {
                fingerprint.clone_into(&mut record.fingerprint);
            }
        })
    }

    /// What the count of the rows that no partition takes means: they are told, or the step is not
    /// a success.
    pub(super) fn counted(
        &mut self,
        task: &TaskId,
        found: &LeftOut,
        millis: u64,
    ) -> Option<Planned> {
        let (lease, run) = self.lease(task)?;
        let name = &lease.address.step;
        let (known, step) = (run.spec.steps.get(name)?, run.steps.get(name)?);
        match known
            .strategy
            .load()
            .judge_left_out(step.plan.as_ref()?, found)
        {
            Err(lost) => self.failed(
                task,
                AttemptError::new(ErrorClass::Permanent, ErrorCode::RowsInNoPartition, lost),
                None,
            ),
            Ok(told) => {
                let planned = self.completed(task, Receipt::default(), millis)?;
                self.noting(planned, |record| {
                    record.not_loaded.clear();
                    note(&mut record.not_loaded, &told);
                })
            }
        }
    }

    /// The change, and with it what it notes in the record of its step, which is of the step's
    /// generation whatever the task's is.
    pub(super) fn noting(
        &self,
        planned: Planned,
        noted: impl FnOnce(&mut StepRecord),
    ) -> Option<Planned> {
        let (run, step) = (planned.change.run, planned.change.address.step.clone());
        let known = self.cluster.runs.get(&run)?.steps.get(&step)?;
        let mut record = known.record.clone();
        noted(&mut record);
        let key = RecordKey::Step {
            run,
            generation: known.generation,
            step,
        }
        .render();
        let expect = match &known.stored {
            Some(stored) => Expect::Bytes(key.clone(), stored.clone()),
            None => Expect::Absent(key.clone()),
        };
        let bytes = record.to_bytes();
        let (expects, ops) = (vec![expect], vec![Op::Put(key, bytes.clone())]);
        Some(Planned {
            expects,
            ops,
            effect: Effect::Noted(record, bytes),
            ..planned
        })
    }
}

fn note(kept: &mut Vec<String>, lines: &[String]) {
    kept.extend(lines.iter().map(|line| cut(line, LINE_BYTES_MAX)));
    kept.truncate(LINES_MAX);
}
