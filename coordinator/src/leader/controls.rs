//! What operators say of runs that are under way, and the record of all that they do.

use highwater_common::controls::{Control, Hold};
use highwater_common::id::{PipelineName, RunId};
use highwater_common::record::{AuditRecord, RunRecord};
use highwater_common::status::{RunStatus, StepStatus};
use highwater_proto::convert::records::StoredRecord;

use super::runs::cut;
use super::word::Word;
use super::{Leader, TermEnded};
use crate::error::ServiceError;
use crate::store::Op;
use crate::store::keys::RecordKey;

/// Bytes that what is said of a run may take in its record.
const CONTROLS_BYTES_MAX: usize = 3 * 1024;
/// Records of what operators did that are kept: the oldest goes when one more comes.
const AUDITS_KEPT: u64 = 10_000;
/// The longest reason in such a record, in bytes.
const AUDIT_TEXT_BYTES_MAX: usize = 2 * 1024;

impl Leader {
    /// Holds back what an operator wants to be, lets it go on, sets limits, or leaves steps out.
    pub(super) async fn control(
        &mut self,
        id: RunId,
        control: &Control,
        word: &Word,
    ) -> Result<Result<(), ServiceError>, TermEnded> {
        let checked = self.controlled(id, control, word);
        let record = match checked {
            Ok(record) => record,
            Err(refused) => return Ok(Err(refused)),
        };
        let audited = self.audited(Some(id), control.verb(), control.about(), word);
        self.put_run_with(id, record, audited).await.map(Ok)
    }

    fn controlled(
        &self,
        id: RunId,
        control: &Control,
        word: &Word,
    ) -> Result<RunRecord, ServiceError> {
        let run = self
            .cluster
            .runs
            .get(&id)
            .ok_or_else(|| ServiceError::UnknownRun(id.to_string()))?;
        let status = run.record.status;
        let may_go_on = !status.has_ended() || status == RunStatus::Failed;
        if !may_go_on || status == RunStatus::Cancelling {
            let run = self.short_of(&id);
            return Err(ServiceError::RunEnded { run, status });
        }
        control.check(&run.spec)?;
        if let Control::Skip(steps) = control {
            let began = steps.iter().find_map(|name| {
                let status = run.steps.get(name)?.record.status;
                (status != StepStatus::Pending).then(|| ServiceError::StepBegan {
                    step: name.clone(),
                    status,
                })
            });
            began.map_or(Ok(()), Err)?;
        }
        let hold = Hold {
            by: word.by.clone(),
            reason: word.reason.clone(),
            since_micros: self.clock.wall_micros(),
        };
        let controls = run.record.controls.after(control, &hold)?;
        if controls.to_json().len() > CONTROLS_BYTES_MAX {
            let run = self.short_of(&id);
            return Err(ServiceError::TooManyControls { run });
        }
        let mut record = run.record.clone();
        record.controls = controls;
        Ok(record)
    }

    /// Records what an operator asks, by itself: what takes several transactions is recorded before
    /// the first of them.
    pub(super) async fn audit(
        &mut self,
        run: Option<RunId>,
        verb: &str,
        about: String,
        word: &Word,
    ) -> Result<(), TermEnded> {
        let ops = self.audited(run, verb, about, word);
        self.commit_records("audit", Vec::new(), ops).await
    }

    /// What puts the record of an operator's action, and lets the oldest go.
    pub(super) fn audited(
        &mut self,
        run: Option<RunId>,
        verb: &str,
        about: String,
        word: &Word,
    ) -> Vec<Op> {
        let known = run.and_then(|id| {
            let run = self.cluster.runs.get(&id)?;
            Some((id, run.record.pipeline.clone()))
        });
        let of = known.as_ref().map(|(id, pipeline)| (*id, pipeline));
        self.audited_of(of, verb, about, word)
    }

    /// The same, of a run that the view does not know yet.
    pub(super) fn audited_of(
        &mut self,
        of: Option<(RunId, &PipelineName)>,
        verb: &str,
        about: String,
        word: &Word,
    ) -> Vec<Op> {
        self.audits += 1;
        let record = AuditRecord {
            at_micros: self.clock.wall_micros(),
            by: word.by.clone(),
            verb: verb.to_owned(),
            pipeline: of.map(|(_, pipeline)| pipeline.clone()),
            run: of.map(|(run, _)| run),
            about: cut(&about, AUDIT_TEXT_BYTES_MAX),
            reason: cut(&word.reason, AUDIT_TEXT_BYTES_MAX),
        };
        tracing::info!(by = %record.by, verb, about = %record.about, reason = %record.reason, "an operator");
        let mut ops = vec![Op::Put(
            RecordKey::Audit(self.audits).render(),
            record.to_bytes(),
        )];
        if let Some(oldest) = self.audits.checked_sub(AUDITS_KEPT) {
            ops.push(Op::Delete(RecordKey::Audit(oldest).render()));
        }
        ops
    }
}
