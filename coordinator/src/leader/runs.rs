//! Runs: how one begins, goes on, is tried again and is cancelled.

use highwater_common::controls::Controls;
use highwater_common::errand::Errand;
use highwater_common::id::{RunId, StepName};
use highwater_common::record::{RECORD_BYTES_MAX, RunIntent, RunRecord};
use highwater_common::status::{RunEvent, RunStatus, StepStatus};
use highwater_proto::convert::records::{StoredRecord, document_to_parts};
use rand::RngExt;

use super::fresh_run::{chosen_steps, new_run};
use super::word::Word;
use super::{Leader, Submission, TermEnded};
use crate::engine::{Advance, Run, advance};
use crate::error::ServiceError;
use crate::store::keys::RecordKey;
use crate::store::{Expect, Op, TXN_BYTES_MAX, TXN_OPERATIONS_MAX};

/// Digits of a run's id in the record of what began it.
const RUN_DIGITS: usize = 8;
/// The longest reason that a record keeps, in bytes.
const REASON_BYTES_MAX: usize = 4096;

impl Leader {
    /// Begins a run, or attaches to the unfinished one of the same spec.
    pub(super) async fn submit(
        &mut self,
        submission: Submission,
    ) -> Result<Result<(RunId, bool), ServiceError>, TermEnded> {
        if let Some(stale) = self.stale(&submission) {
            return Ok(stale);
        }
        if !submission.plan_only {
            let active = self
                .cluster
                .newest_first()
                .into_iter()
                .find(|run| run.holds_back() && run.record.pipeline == *submission.pipeline())
                .map(|run| {
                    let steps: Vec<StepName> = run.steps.keys().cloned().collect();
                    (run.id, run.record.spec_digest, run.record.intent, steps)
                });
            if let Some((id, digest, intent, steps)) = active {
                let wanted = chosen_steps(&submission.spec, &submission.selected);
                let takes = wanted.is_ok_and(|wanted| wanted.steps.keys().eq(&steps));
                let is_same = digest == submission.digest && takes && intent == RunIntent::Run;
                if is_same && !submission.fresh {
                    return Ok(Ok((id, true)));
                }
                if !submission.fresh {
                    let run = self.short_of(&id);
                    if digest == submission.digest && intent == RunIntent::Run {
                        return Ok(Err(ServiceError::OtherSteps {
                            pipeline: submission.pipeline().clone(),
                            run,
                        }));
                    }
                    return Ok(Err(ServiceError::SpecChanged {
                        pipeline: submission.pipeline().clone(),
                        run,
                        was: digest.short(),
                        is: submission.digest.short(),
                        is_cancelling: intent == RunIntent::Cancel,
                    }));
                }
                // What is refused anyway takes no run away.
                if let Some(refused) = self.unfinished_history(&submission) {
                    return Ok(Err(refused));
                }
                let word = Word {
                    by: submission.by.clone(),
                    reason: "replaced by a newer run".to_owned(),
                };
                if let Err(refused) = self.cancel(id, &word).await? {
                    return Ok(Err(refused));
                }
            }
            if let Some(refused) = self.unfinished_history(&submission) {
                return Ok(Err(refused));
            }
            if let Some(run) = self.in_doubt(&submission).filter(|_| !submission.fresh) {
                return Ok(Err(ServiceError::InDoubt {
                    pipeline: submission.pipeline().clone(),
                    run,
                }));
            }
        }
        if let Some(under_way) = self.in_the_way(&submission) {
            return Ok(under_way.map(|id| (id, true)));
        }
        self.may_prune = true;
        self.begin(submission).await.map(|run| Ok((run, false)))
    }

    /// What an errand that takes something back meets: itself, when whoever asked for it was cut off
    /// and asks again, or a run that must end first. An undo that was done twice would be undone.
    fn in_the_way(&self, submission: &Submission) -> Option<Result<RunId, ServiceError>> {
        let errand = submission.errand.as_ref();
        let errand = errand.filter(|errand| errand.takes_back())?;
        let mut runs = self.cluster.newest_first().into_iter();
        let run = runs.find(|run| {
            let is_undo = matches!(run.record.errand, Some(Errand::Undo(_)));
            run.record.pipeline == *submission.pipeline()
                && (run.holds_back() || (is_undo && run.takes_back()))
        })?;
        Some(match (&run.record.errand, errand) {
            (Some(Errand::Undo(known)), Errand::Undo(asked))
                if known.step == asked.step && run.record.spec_digest == submission.digest =>
            {
                Ok(run.id)
            }
            _ => Err(ServiceError::PipelineBusy {
                pipeline: submission.pipeline().clone(),
                run: self.short_of(&run.id),
            }),
        })
    }

    async fn begin(&mut self, submission: Submission) -> Result<RunId, TermEnded> {
        let id = RunId::from_bytes(self.rng.random());
        let parts = document_to_parts(&submission.canonical, RECORD_BYTES_MAX - 64);
        let name = submission.pipeline().clone();
        let digest = submission.digest;
        let spec_parts = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let keys = (0..).map(|part| {
            RecordKey::Pipeline {
                name: name.clone(),
                digest,
                part,
            }
            .render()
        });
        self.put_parts("spec_parts", keys.zip(parts).collect())
            .await?;
        let latest = self
            .cluster
            .runs
            .values()
            .map(|run| run.record.reference_time_micros)
            .max()
            .unwrap_or(0);
        let asked = submission.asked();
        let record = RunRecord {
            pipeline: name,
            spec_digest: digest,
            spec_parts,
            base_dir: submission.base_dir,
            // Strictly after every other run, so that "older" is never a matter of the clock.
            reference_time_micros: match &submission.saved {
                Some(plan) => plan.reference_time_micros,
                None => self.clock.wall_micros().max(latest.saturating_add(1)),
            },
            intent: if submission.plan_only {
                RunIntent::Plan
            } else {
                RunIntent::Run
            },
            status: RunStatus::Planning,
            generation: 0,
            plan_parts: 0,
            plan_digest: None,
            ended_micros: None,
            reason: String::new(),
            committed: false,
            adopts: submission.adopts,
            errand: submission.errand,
            is_saved: submission.saved.is_some(),
            controls: Controls {
                selected: submission.selected,
                ..Controls::default()
            },
            trace: submission.trace,
        };
        let saved = submission.saved.map(|plan| plan.facts).unwrap_or_default();
        let facts = self.put_facts(id, saved).await?;
        let key = RecordKey::Run(id).render();
        let stored = record.to_bytes();
        let mut ops = match &asked {
            Some((verb, word)) => {
                let mut about = format!("run {}", id.short(RUN_DIGITS));
                if !record.controls.selected.is_empty() {
                    about.push_str(&format!(" of {}", record.controls.selected.join(" ")));
                }
                self.audited_of(Some((id, &record.pipeline)), verb, about, word)
            }
            None => Vec::new(),
        };
        ops.push(Op::Put(key.clone(), stored.clone()));
        self.commit_records("run_begun", vec![Expect::Absent(key)], ops)
            .await?;
        tracing::info!(run = %id, pipeline = %record.pipeline, "run begun");
        let mut run = new_run(id, record, stored, submission.spec);
        // With facts for every step it is planned at once, and nothing is probed.
        run.facts = facts;
        self.cluster.runs.insert(id, run);
        Ok(id)
    }

    /// Puts a document's parts, in as many transactions as they need; its head record comes after.
    pub(super) async fn put_parts(
        &self,
        name: &str,
        parts: Vec<(String, Vec<u8>)>,
    ) -> Result<(), TermEnded> {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        for (key, value) in parts {
            let more = key.len() + value.len();
            if bytes + more > TXN_BYTES_MAX - RECORD_BYTES_MAX
                || ops.len() + 1 >= TXN_OPERATIONS_MAX
            {
                self.commit_records(name, Vec::new(), std::mem::take(&mut ops))
                    .await?;
                bytes = 0;
            }
            bytes += more;
            ops.push(Op::Put(key, value));
        }
        if ops.is_empty() {
            Ok(())
        } else {
            self.commit_records(name, Vec::new(), ops).await
        }
    }

    /// Notes that a run is no longer wanted; [`Leader::advance`] fences its targets.
    pub(super) async fn cancel(
        &mut self,
        id: RunId,
        word: &Word,
    ) -> Result<Result<(), ServiceError>, TermEnded> {
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(Err(ServiceError::UnknownRun(id.to_string())));
        };
        match run.record.status {
            RunStatus::Success | RunStatus::Cancelled => {
                let status = run.record.status;
                return Ok(Err(ServiceError::RunEnded {
                    run: self.short_of(&id),
                    status,
                }));
            }
            RunStatus::Planning
            | RunStatus::Planned
            | RunStatus::Running
            | RunStatus::Cancelling
            | RunStatus::Failed => {}
        }
        let mut record = run.record.clone();
        record.intent = RunIntent::Cancel;
        record.reason = cut(&word.reason, REASON_BYTES_MAX);
        if record.status == RunStatus::Failed {
            record.status = RunStatus::Cancelling;
            record.ended_micros = None;
        }
        let audited = self.audited(Some(id), "cancel", "the run".to_owned(), word);
        self.put_run_with(id, record, audited).await.map(Ok)
    }

    /// Does everything that follows from where tasks, steps and runs stand.
    pub(super) async fn advance(&mut self) -> Result<(), TermEnded> {
        let mut last = None;
        while let Some(next) = advance(&self.cluster) {
            if last.as_ref() == Some(&next) {
                // What was just done follows from the view once more: asking on would never end.
                tracing::error!(?next, "a decision had no effect");
                return Ok(());
            }
            last = Some(next.clone());
            match next {
                Advance::Plan { run } => self.plan_traced(run).await?,
                Advance::Replan { run, step } => self.replan(run, &step).await?,
                Advance::Step {
                    run,
                    step,
                    status,
                    reason,
                } => self.put_step(run, &step, status, reason).await?,
                Advance::Run { run, event, reason } => self.move_run(run, event, reason).await?,
            }
        }
        Ok(())
    }

    pub(super) async fn move_run(
        &mut self,
        id: RunId,
        event: RunEvent,
        reason: String,
    ) -> Result<(), TermEnded> {
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let mut record = run.record.clone();
        record.status = match record.status.apply(event) {
            Ok(status) => status,
            Err(illegal) => {
                tracing::error!(run = %id, %illegal, "an event came that cannot be");
                return Ok(());
            }
        };
        if record.status == RunStatus::Cancelled {
            // first, so that no crash leaves steps running in a run that has ended
            self.cancel_steps(id).await?;
        }
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let reason = if record.status == RunStatus::Cancelled {
            unfenced(run, reason)
        } else {
            reason
        };
        record.reason = cut(&reason, REASON_BYTES_MAX);
        record.committed |= run.steps.values().any(|step| step.counts().done > 0);
        record.ended_micros = record.status.has_ended().then(|| self.clock.wall_micros());
        tracing::info!(run = %id, status = %record.status, "run");
        self.may_prune |= record.status.has_ended();
        self.put_run(id, record).await
    }

    async fn cancel_steps(&mut self, id: RunId) -> Result<(), TermEnded> {
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let open = run
            .steps
            .iter()
            .filter(|(_, step)| !step.record.status.has_ended());
        let names: Vec<StepName> = open.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.put_step(id, &name, StepStatus::Cancelled, String::new())
                .await?;
        }
        Ok(())
    }

    pub(super) async fn put_run(&mut self, id: RunId, record: RunRecord) -> Result<(), TermEnded> {
        self.put_run_with(id, record, Vec::new()).await
    }

    /// Puts a run's record, and something else in the same transaction.
    pub(super) async fn put_run_with(
        &mut self,
        id: RunId,
        record: RunRecord,
        mut ops: Vec<Op>,
    ) -> Result<(), TermEnded> {
        let Some(run) = self.cluster.runs.get(&id) else {
            return Ok(());
        };
        let (key, bytes) = (RecordKey::Run(id).render(), record.to_bytes());
        if bytes != run.stored || !ops.is_empty() {
            ops.push(Op::Put(key.clone(), bytes.clone()));
            self.commit_records(
                "run_record",
                vec![Expect::Bytes(key, run.stored.clone())],
                ops,
            )
            .await?;
        }
        if let Some(run) = self.cluster.runs.get_mut(&id) {
            run.record = record;
            run.stored = bytes;
        }
        Ok(())
    }

    pub(super) async fn put_step(
        &mut self,
        id: RunId,
        name: &StepName,
        status: StepStatus,
        reason: String,
    ) -> Result<(), TermEnded> {
        let Some(step) = self
            .cluster
            .runs
            .get(&id)
            .and_then(|run| run.steps.get(name))
        else {
            return Ok(());
        };
        let generation = step.generation;
        let mut record = step.record.clone();
        record.status = status;
        record.reason = cut(&reason, REASON_BYTES_MAX);
        let key = RecordKey::Step {
            run: id,
            generation,
            step: name.clone(),
        }
        .render();
        let bytes = record.to_bytes();
        let expect = match &step.stored {
            Some(stored) => Expect::Bytes(key.clone(), stored.clone()),
            None => Expect::Absent(key.clone()),
        };
        self.commit_records(
            "step_record",
            vec![expect],
            vec![Op::Put(key, bytes.clone())],
        )
        .await?;
        tracing::info!(run = %id, step = %name, %status, "step");
        if let Some(step) = self
            .cluster
            .runs
            .get_mut(&id)
            .and_then(|run| run.steps.get_mut(name))
        {
            step.record = record;
            step.stored = Some(bytes);
        }
        Ok(())
    }

    /// The form of a run's id that people see: at least three digits, and unique.
    pub(crate) fn short_of(&self, id: &RunId) -> String {
        use std::ops::Bound::{Excluded, Unbounded};
        let runs = &self.cluster.runs;
        let before = runs
            .range((Unbounded, Excluded(id)))
            .next_back()
            .map(|(other, _)| other);
        let after = runs
            .range((Excluded(id), Unbounded))
            .next()
            .map(|(other, _)| other);
        // In their order, nobody shares more of it than a neighbour does.
        let shared = before
            .into_iter()
            .chain(after)
            .map(|other| digits_shared(id, other))
            .max()
            .unwrap_or(0);
        id.short((shared + 1).clamp(3, 32))
    }
}

/// The reason of a cancel, with what it could not do: nobody knows the targets of a run whose spec
/// cannot be read.
fn unfenced(run: &Run, reason: String) -> String {
    if run.knows_its_steps() || run.record.generation == 0 {
        return reason;
    }
    format!(
        "{reason} (its spec cannot be read, so its targets are unknown and were not fenced: before \
         you run the pipeline again, make sure that no worker still writes for it)"
    )
}

/// How many digits two ids have in common at their beginning.
fn digits_shared(one: &RunId, other: &RunId) -> usize {
    let (one, other) = (one.to_string(), other.to_string());
    one.bytes()
        .zip(other.bytes())
        .take_while(|(one, other)| one == other)
        .count()
}

/// A text that fits `bytes_max`, and says so where it was cut.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max.saturating_sub(MORE.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{}{MORE}", &text[..end])
}
