//! Pipelines that run by themselves: what operators say of them, and the runs that they begin.
//!
//! A run is begun together with the record that says so, in one transaction, and its id follows
//! from pipeline and instant. So whoever leads, and whatever became of the answer, an instant begins
//! its run once.

use std::sync::Arc;

use highwater_common::controls::{Controls, Hold};
use highwater_common::id::{DocumentDigest, PipelineName, RunId};
use highwater_common::record::{
    RECORD_BYTES_MAX, RunIntent, RunRecord, ScheduleRecord, ScheduledRun,
};
use highwater_common::schedule::{Begin, Due, Standing, Why, resumed};
use highwater_common::status::RunStatus;
use highwater_proto::convert::records::{StoredRecord, document_to_parts};
use tracing::Instrument as _;

use super::contain::contained;
use super::fresh_run::new_run;
use super::request::{NewSchedule, ScheduleAction, Submission};
use super::runs::cut;
use super::traces::of_beginning;
use super::word::Word;
use super::{Leader, TermEnded};
use crate::engine::{Scheduled, next_due};
use crate::error::ServiceError;
use crate::store::keys::RecordKey;
use crate::store::{Expect, Op};

/// Schedules that a cluster keeps at the most: each turn looks at all of them.
const SCHEDULES_MAX: usize = 2_000;
/// The longest reason that is kept with a schedule, in bytes. The audit record has all of it.
const REASON_BYTES_MAX: usize = 200;

/// What tests call the transaction that notes how a schedule stands.
const STANDING: &str = "schedule_record";

/// What came of it: the run that was begun, and whether it was under way before.
pub(crate) type Acted = Result<Option<(RunId, bool)>, ServiceError>;

impl Leader {
    /// Does what an operator says of a schedule.
    pub(super) async fn act_on_schedule(
        &mut self,
        name: &PipelineName,
        action: ScheduleAction,
        word: &Word,
    ) -> Result<Acted, TermEnded> {
        if let ScheduleAction::Set(new) = action {
            let schedules = &self.cluster.schedules;
            if schedules.len() >= SCHEDULES_MAX && !schedules.contains_key(name) {
                let max = SCHEDULES_MAX;
                return Ok(Err(ServiceError::TooManySchedules { max }));
            }
            return self.set_schedule(name, new, word).await.map(Ok);
        }
        let Some(scheduled) = self.cluster.schedules.get(name) else {
            return Ok(Err(ServiceError::UnknownSchedule(name.clone())));
        };
        if let (Err(why), false) = (scheduled.spec(), matches!(action, ScheduleAction::Remove)) {
            // Its record may be another one than the store holds.
            return Ok(Err(damaged(name, why)));
        }
        let mut record = scheduled.record.clone();
        match action {
            ScheduleAction::Set(_) => {}
            ScheduleAction::Pause => record.paused = Some(self.hold(word)),
            ScheduleAction::Resume => {
                let now = self.clock.wall_micros();
                let standing = &record.standing;
                let going_on = scheduled.timetable().map(|of| resumed(of, standing, now));
                if record.paused.take().is_none() {
                    return Ok(Err(ServiceError::ScheduleNotPaused(name.clone())));
                }
                record.standing = going_on.unwrap_or(record.standing);
            }
            ScheduleAction::Trigger => return self.trigger(name, word).await,
            ScheduleAction::Remove => {
                let (key, stored) = (
                    RecordKey::Schedule(name.clone()).render(),
                    &scheduled.stored,
                );
                let expects = vec![Expect::Bytes(key.clone(), stored.clone())];
                let mut ops = self.audited(None, "schedules rm", about(name), word);
                ops.push(Op::Delete(key));
                self.commit_records(STANDING, expects, ops).await?;
                self.cluster.schedules.remove(name);
                return Ok(Ok(None));
            }
        }
        let verb = match record.paused {
            Some(_) => "schedules pause",
            None => "schedules resume",
        };
        let ops = self.audited(None, verb, about(name), word);
        self.put_schedule(STANDING, name, record, Vec::new(), ops)
            .await?;
        Ok(Ok(None))
    }

    async fn set_schedule(
        &mut self,
        name: &PipelineName,
        new: NewSchedule,
        word: &Word,
    ) -> Result<Option<(RunId, bool)>, TermEnded> {
        let digest = DocumentDigest::of(&new.canonical);
        let parts = document_to_parts(&new.canonical, RECORD_BYTES_MAX - 64);
        let spec_parts = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let keys = (0..).map(|part| {
            let name = name.clone();
            RecordKey::Pipeline { name, digest, part }.render()
        });
        self.put_parts("spec_parts", keys.zip(parts).collect())
            .await?;
        let now = self.clock.wall_micros();
        let known = self.cluster.schedules.get(name);
        let standing = match known.map(|known| (known.schedule(), &known.record.standing)) {
            None | Some((None, _)) => Standing::from(now),
            Some((times, standing)) if times == new.spec.schedule.as_ref() => standing.clone(),
            // At other times nothing waits, and what is decided stays so.
            Some((Some(_), standing)) => Standing {
                decided_micros: standing.decided_micros.max(now),
                waiting: Vec::new(),
                last_left_out: standing.last_left_out,
            },
        };
        let record = ScheduleRecord {
            spec_digest: digest,
            spec_parts,
            base_dir: new.base_dir,
            set: self.hold(word),
            paused: known.and_then(|known| known.record.paused.clone()),
            standing,
            last_run: known.and_then(|known| known.record.last_run),
        };
        let key = RecordKey::Schedule(name.clone()).render();
        let expect = match known {
            Some(known) => Expect::Bytes(key.clone(), known.stored.clone()),
            None => Expect::Absent(key.clone()),
        };
        let stored = record.to_bytes();
        let mut ops = self.audited(None, "schedules set", about(name), word);
        ops.push(Op::Put(key, stored.clone()));
        self.commit_records(STANDING, vec![expect], ops).await?;
        let scheduled = Scheduled::new(record, stored, Ok(new.spec));
        self.cluster.schedules.insert(name.clone(), scheduled);
        Ok(None)
    }

    /// Begins a run of a scheduled pipeline because a person asks.
    async fn trigger(&mut self, name: &PipelineName, word: &Word) -> Result<Acted, TermEnded> {
        let Some(scheduled) = self.cluster.schedules.get(name) else {
            return Ok(Err(ServiceError::UnknownSchedule(name.clone())));
        };
        let spec = match scheduled.spec() {
            Ok(spec) => Arc::clone(spec),
            Err(why) => return Ok(Err(damaged(name, why))),
        };
        let canonical = spec.canonical_json();
        let submission = Submission {
            digest: DocumentDigest::of(&canonical),
            canonical,
            spec,
            base_dir: scheduled.record.base_dir.clone(),
            plan_only: false,
            fresh: false,
            adopts: false,
            errand: None,
            saved: None,
            selected: Vec::new(),
            by: word.by.clone(),
            trace: None,
        };
        self.audit(None, "schedules trigger", about(name), word)
            .await?;
        let begun = self.submit_traced(submission).await?;
        Ok(begun.map(Some))
    }

    fn hold(&self, word: &Word) -> Hold {
        Hold {
            by: word.by.clone(),
            reason: cut(&word.reason, REASON_BYTES_MAX),
            since_micros: self.clock.wall_micros(),
        }
    }

    /// Begins the runs whose time has come, and notes what is left out. Returns whether there was
    /// anything to do.
    pub(super) async fn follow_schedules(&mut self) -> Result<bool, TermEnded> {
        let now = self.clock.wall_micros();
        let mut has_followed = false;
        loop {
            let found = contained("following the schedules", || next_due(&self.cluster, now));
            let Ok(Some((name, due))) = found else {
                return Ok(has_followed);
            };
            self.follow(&name, due).await?;
            has_followed = true;
        }
    }

    async fn follow(&mut self, name: &PipelineName, due: Due) -> Result<(), TermEnded> {
        let Some(scheduled) = self.cluster.schedules.get(name) else {
            return Ok(());
        };
        let mut record = scheduled.record.clone();
        record.standing = due.standing;
        let begin = due.begin.map(|begin| {
            let id = RunId::of_schedule(name, begin.instant_micros);
            (begin, id)
        });
        match begin {
            Some((begin, id)) if self.cluster.runs.contains_key(&id) => {
                let (instant, why) = (begin.instant_micros, Why::AlreadyRan);
                record.standing.leave_out(instant, why);
                self.put_schedule(STANDING, name, record, Vec::new(), Vec::new())
                    .await
            }
            Some((begin, id)) => self.begin_scheduled(name, record, begin, id).await,
            None => {
                if let Some(left_out) = record.standing.last_left_out {
                    let why = left_out.why.as_str();
                    tracing::info!(pipeline = %name, why, "an instant of a schedule begins no run");
                }
                self.put_schedule(STANDING, name, record, Vec::new(), Vec::new())
                    .await
            }
        }
    }

    async fn begin_scheduled(
        &mut self,
        name: &PipelineName,
        mut record: ScheduleRecord,
        begin: Begin,
        id: RunId,
    ) -> Result<(), TermEnded> {
        let known = self.cluster.schedules.get(name);
        let Some(Ok(spec)) = known.map(|known| known.spec().map(Arc::clone)) else {
            return Ok(());
        };
        let span = of_beginning(name);
        span.record("highwater.run", tracing::field::display(id));
        let run = RunRecord {
            pipeline: name.clone(),
            spec_digest: record.spec_digest,
            spec_parts: record.spec_parts,
            base_dir: record.base_dir.clone(),
            reference_time_micros: begin.reference_micros,
            intent: RunIntent::Run,
            status: RunStatus::Planning,
            generation: 0,
            plan_parts: 0,
            plan_digest: None,
            ended_micros: None,
            reason: String::new(),
            committed: false,
            adopts: false,
            errand: None,
            is_saved: false,
            controls: Controls::default(),
            trace: highwater_net::trace::of(&span),
        };
        record.last_run = Some(ScheduledRun {
            run: id,
            instant_micros: begin.instant_micros,
        });
        let (key, stored) = (RecordKey::Run(id).render(), run.to_bytes());
        let expects = vec![Expect::Absent(key.clone())];
        let ops = vec![Op::Put(key, stored.clone())];
        self.put_schedule("scheduled_run", name, record, expects, ops)
            .instrument(span)
            .await?;
        tracing::info!(run = %id, pipeline = %name, "run begun by its schedule");
        self.cluster.runs.insert(id, new_run(id, run, stored, spec));
        self.may_prune = true;
        Ok(())
    }

    /// Puts a schedule's record, and something else in the same transaction, which tests call `txn`.
    async fn put_schedule(
        &mut self,
        txn: &str,
        name: &PipelineName,
        record: ScheduleRecord,
        mut expects: Vec<Expect>,
        mut ops: Vec<Op>,
    ) -> Result<(), TermEnded> {
        let Some(scheduled) = self.cluster.schedules.get(name) else {
            return Ok(());
        };
        let (key, stored) = (
            RecordKey::Schedule(name.clone()).render(),
            record.to_bytes(),
        );
        expects.push(Expect::Bytes(key.clone(), scheduled.stored.clone()));
        ops.push(Op::Put(key, stored.clone()));
        self.commit_records(txn, expects, ops).await?;
        if let Some(scheduled) = self.cluster.schedules.get_mut(name) {
            scheduled.put(record, stored);
        }
        Ok(())
    }

    /// When a schedule has something to do by itself, in microseconds since 1970.
    pub(super) fn next_scheduled(&self) -> Option<i64> {
        let schedules = self.cluster.schedules.values();
        schedules.filter_map(Scheduled::next_moment).min()
    }
}

fn damaged(pipeline: &PipelineName, why: &str) -> ServiceError {
    ServiceError::DamagedSchedule {
        pipeline: pipeline.clone(),
        why: why.to_owned(),
    }
}

fn about(name: &PipelineName) -> String {
    format!("pipeline {name}")
}
