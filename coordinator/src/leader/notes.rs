//! What a step's record keeps for people of its single tasks: what its prepare warned of, what
//! its count found left out, and what its checks came to.

use highwater_common::assignment::{AttemptError, Checked, ErrorClass, Receipt};
use highwater_common::check::{CheckAnswer, failure};
use highwater_common::error_code::ErrorCode;
use highwater_common::id::TaskId;
use highwater_common::left_out::LeftOut;
use highwater_common::plan::PhaseKind;
use highwater_common::record::{LeaseRecord, StepRecord};
use highwater_common::spec::Check;
use highwater_proto::convert::records::StoredRecord;

use super::Leader;
use super::batch::{Effect, Planned};
use super::runs::cut;
use crate::engine::Run;
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

    /// What a commit of rows means for its task. Where the checks were to be asked before it, and
    /// what they found was lost with the attempt that asked, the commit proves that they passed.
    pub(super) fn committed(
        &self,
        task: &TaskId,
        receipt: Receipt,
        millis: u64,
    ) -> Option<Planned> {
        let planned = self.carried(task, receipt, millis)?;
        let (lease, run) = self.lease(task)?;
        let (checks, step) = (checks_of(run, lease), run.steps.get(&lease.address.step)?);
        let known = &step.record.checks;
        let is_told = known.len() == checks.len() && known.iter().all(|answer| answer.passed);
        if run.kind(&lease.address) != Some(PhaseKind::Publish) || is_told {
            return Some(planned);
        }
        let proven = vec![CheckAnswer::proven(); checks.len()];
        self.noting(planned, |record| record.checks = proven)
    }

    /// What the checks of a step came to: the rows that were committed with them are counted, or the
    /// step is not a success. Whatever it is, it is kept.
    pub(super) fn checked(
        &mut self,
        task: &TaskId,
        checked: Checked,
        millis: u64,
    ) -> Option<Planned> {
        let (lease, run) = self.lease(task)?;
        let (checks, known) = (
            checks_of(run, lease),
            run.spec.steps.get(&lease.address.step)?,
        );
        let kept = known.strategy.load().after_failed_check();
        let permanent = |code, why| AttemptError::new(ErrorClass::Permanent, code, why);
        let failure = failure(checks, &checked.answers, &checked.table);
        let is_told = checks.len() == checked.answers.len();
        let is_publish = run.kind(&lease.address) == Some(PhaseKind::Publish);
        let planned = match (failure, checked.committed) {
            (Some(why), None) if is_told => {
                let why = permanent(ErrorCode::CheckFailed, format!("{why}. {kept}"));
                self.failed(task, why, None)?
            }
            (None, Some(receipt)) if is_told && is_publish => {
                self.carried(task, receipt, millis)?
            }
            (None, None) if is_told && !is_publish => {
                self.completed(task, Receipt::default(), millis)?
            }
            (Some(_) | None, Some(_) | None) => {
                let message = "a worker answered other checks than the step has: run one version \
                               of both";
                let malformed = permanent(ErrorCode::MalformedOutcome, message.to_owned());
                return self.failed(task, malformed, None);
            }
        };
        self.noting(planned, |record| record.checks = checked.answers)
    }

    /// A task that is done with rows.
    fn carried(&self, task: &TaskId, receipt: Receipt, millis: u64) -> Option<Planned> {
        let planned = self.completed(task, receipt, millis)?;
        Some(Planned {
            effect: Effect::Carried(receipt.bytes),
            ..planned
        })
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
        let stored = record.to_bytes();
        let (expects, ops) = (vec![expect], vec![Op::Put(key, stored.clone())]);
        let carried = match planned.effect {
            Effect::Carried(bytes) => bytes,
            Effect::None | Effect::Found(_) | Effect::Noted { .. } => 0,
        };
        let record = Box::new(record);
        Some(Planned {
            expects,
            ops,
            effect: Effect::Noted {
                record,
                stored,
                carried,
            },
            ..planned
        })
    }
}

/// The checks of the step that a task belongs to.
fn checks_of<'a>(run: &'a Run, lease: &LeaseRecord) -> &'a [Check] {
    let step = run.spec.steps.get(&lease.address.step);
    step.map_or(&[], |step| &step.checks)
}

fn note(kept: &mut Vec<String>, lines: &[String]) {
    kept.extend(lines.iter().map(|line| cut(line, LINE_BYTES_MAX)));
    kept.truncate(LINES_MAX);
}
