//! What the services ask of the leader, and the answers that need no transaction.

use std::sync::Arc;
use std::time::Duration;

use highwater_common::assignment::Outcome;
use highwater_common::controls::Control;
use highwater_common::document::EventDocument;
use highwater_common::errand::Errand;
use highwater_common::id::{
    ClusterId, DocumentDigest, PipelineName, RunId, SessionId, StepName, TaskId, WorkerId,
};
use highwater_common::record::WorkerRecord;
use highwater_common::saved_plan::SavedPlan;
use highwater_common::selection::Selection;
use highwater_common::spec::Spec;
use highwater_common::token::{Fence, Nonce};
use highwater_common::trace::TraceParent;
use highwater_proto::convert::records::StoredRecord;

use super::attempts::Completion;
use super::parking::Parked;
use super::reply::{Granted, Reply};
use super::sessions::Registration;
use super::word::{Verdict, Word};
use super::{Leader, TermEnded};
use crate::engine::Cluster;
use crate::error::ServiceError;
use crate::store::Op;
use crate::store::keys::RecordKey;

/// A look at the view, made where the view is, or told why there is none.
pub(crate) type Look = Box<dyn FnOnce(Result<&Leader, ServiceError>) + Send>;

/// What the services ask of the leader.
pub(crate) enum Request {
    /// A worker begins a session.
    Register {
        worker: WorkerId,
        record: WorkerRecord,
        reply: Reply<ClusterId>,
    },
    /// A worker asks for work.
    Pull {
        session: SessionId,
        free: u32,
        reply: Reply<Vec<Granted>>,
    },
    /// A worker is alive.
    Heartbeat {
        session: SessionId,
        beat: Beat,
        reply: Reply<(Vec<Nonce>, bool)>,
    },
    /// An attempt ended.
    Complete {
        session: SessionId,
        task: TaskId,
        fence: Fence,
        outcome: Outcome,
        millis: u64,
        reply: Reply<bool>,
    },
    /// A worker ends, and nothing that it was given runs any more.
    Leave {
        session: SessionId,
        reply: Reply<()>,
    },
    /// A run is wanted.
    Submit {
        submission: Submission,
        reply: Reply<(RunId, bool)>,
    },
    /// A run is no longer wanted.
    Cancel {
        run: RunId,
        word: Word,
        reply: Reply<()>,
    },
    /// Dead tasks are to be tried again, or to be gone on without.
    Retry {
        run: RunId,
        /// Which; all when there is none.
        selections: Vec<Selection>,
        /// What a person says of tasks that are in doubt, or dead, if it is they that are meant.
        verdict: Option<Verdict>,
        word: Word,
        reply: Reply<u64>,
    },
    /// A run is to be held back, let go on, limited, or a step of it left out.
    Control {
        run: RunId,
        control: Control,
        word: Word,
        reply: Reply<()>,
    },
    /// A worker is to take no more work, to take work again, or to end.
    SetWorker {
        worker: String,
        action: WorkerAction,
        word: Word,
        reply: Reply<()>,
    },
    /// A pipeline is to run by itself, no longer, or now.
    Schedule {
        pipeline: PipelineName,
        action: ScheduleAction,
        word: Word,
        reply: Reply<Option<(RunId, bool)>>,
    },
    /// Somebody wants to know something.
    Look(Look),
}

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerAction {
    /// Take no more work.
    Cordon,
    /// Take work again.
    Uncordon,
    /// Finish what it has, and end.
    Drain,
}

/// What an operator says of a pipeline's schedule.
pub(crate) enum ScheduleAction {
    /// It runs by itself, as its file says.
    Set(NewSchedule),
    /// It no longer does.
    Remove,
    /// It begins nothing for now.
    Pause,
    /// It goes on.
    Resume,
    /// It begins a run now, whatever the time.
    Trigger,
}

/// A pipeline that is to run by itself.
pub(crate) struct NewSchedule {
    pub(crate) spec: Arc<Spec>,
    pub(crate) canonical: Vec<u8>,
    pub(crate) base_dir: String,
}

/// What is done together with all of its kind that a turn brings.
pub(super) enum Grouped {
    /// A session begins.
    Registration(Registration),
    /// An attempt ended.
    Completion(Completion),
}

impl Request {
    /// Whether it changes nothing that anybody waits for, as far as it alone can tell.
    pub(super) const fn is_quiet(&self) -> bool {
        match self {
            Self::Look(_) | Self::Heartbeat { .. } => true,
            Self::Register { .. }
            | Self::Pull { .. }
            | Self::Complete { .. }
            | Self::Leave { .. }
            | Self::Submit { .. }
            | Self::Cancel { .. }
            | Self::Retry { .. }
            | Self::Control { .. }
            | Self::Schedule { .. }
            | Self::SetWorker { .. } => false,
        }
    }

    /// Answers that nothing will come of it.
    pub(crate) fn refuse(self, error: ServiceError) {
        // A caller that has gone hears of nothing, and that is no error.
        let _ = match self {
            Self::Register { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Pull { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Heartbeat { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Complete { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Leave { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Submit { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Cancel { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Retry { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Control { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::SetWorker { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Schedule { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Look(look) => {
                look(Err(error));
                true
            }
        };
    }
}

/// What a heartbeat tells.
#[derive(Debug, Default)]
pub(crate) struct Beat {
    /// The attempts that run.
    pub(crate) attempts: Vec<(TaskId, Nonce)>,
    /// Those of them that every connection they need has answered.
    pub(crate) reached: Vec<TaskId>,
    /// What those say that they do of which an answer takes long.
    pub(crate) doing: Vec<(TaskId, String)>,
    /// The worker takes no more work.
    pub(crate) draining: bool,
}

/// A run to begin.
pub(crate) struct Submission {
    pub(crate) spec: Arc<Spec>,
    pub(crate) canonical: Vec<u8>,
    pub(crate) digest: DocumentDigest,
    pub(crate) base_dir: String,
    pub(crate) plan_only: bool,
    pub(crate) fresh: bool,
    pub(crate) adopts: bool,
    pub(crate) errand: Option<Errand>,
    /// What it was planned from before.
    pub(crate) saved: Option<Box<SavedPlan>>,
    /// The steps that are meant, as they were typed; all when there are none.
    pub(crate) selected: Vec<String>,
    /// Who asks.
    pub(crate) by: String,
    /// In which span.
    pub(crate) trace: Option<TraceParent>,
}

impl Submission {
    pub(crate) fn pipeline(&self) -> &PipelineName {
        &self.spec.name
    }

    /// What a person asks by a submission, if it is more than to look: a run, or something that its
    /// probes do.
    pub(super) fn asked(&self) -> Option<(&'static str, Word)> {
        let errand = self.errand.as_ref();
        let verb = match errand {
            Some(errand) if errand.takes_back() => errand.verb(),
            Some(_) => return None,
            None if self.adopts => "cluster adopt",
            None if self.plan_only => return None,
            None if self.fresh => "run --new",
            None => "run",
        };
        let reason = errand.and_then(Errand::reason).unwrap_or_default();
        Some((
            verb,
            Word {
                by: self.by.clone(),
                reason: reason.to_owned(),
            },
        ))
    }
}

impl Leader {
    /// Answers a request, or does what it asks; what goes into the store together with others of
    /// its kind is returned.
    pub(super) async fn handle(&mut self, request: Request) -> Result<Option<Grouped>, TermEnded> {
        match request {
            Request::Register {
                worker,
                record,
                reply,
            } => {
                return Ok(Some(Grouped::Registration(Registration {
                    worker,
                    record,
                    reply,
                })));
            }
            Request::Pull {
                session,
                free,
                reply,
            } => self.park(session, free, reply),
            Request::Heartbeat {
                session,
                beat,
                reply,
            } => {
                self.heard_reached(&session, &beat.reached);
                self.heard_doing(&session, beat.doing);
                let answer = self
                    .heartbeat(session, &beat.attempts, beat.draining)
                    .await?;
                let drain = self
                    .cluster
                    .sessions
                    .get(&session)
                    .is_some_and(|session| session.told_to_drain);
                let _ = reply.send(answer.map(|end| (end, drain)));
            }
            Request::Leave { session, reply } => {
                let _ = reply.send(self.leave(session).await?); // it ends, answered or not
            }
            Request::Complete {
                session,
                task,
                fence,
                outcome,
                millis,
                reply,
            } => {
                let completion = Completion {
                    session,
                    task,
                    fence,
                    outcome,
                    millis,
                    reply,
                };
                return Ok(Some(Grouped::Completion(completion)));
            }
            Request::Submit { submission, reply } => {
                let answer = self.submit_traced(submission).await?;
                let _ = reply.send(answer);
            }
            Request::Cancel { run, word, reply } => {
                let answer = self.cancel(run, &word).await?;
                let _ = reply.send(answer);
            }
            Request::Retry {
                run,
                selections,
                verdict,
                word,
                reply,
            } => {
                let answer = self.retry(run, &selections, verdict, &word).await?;
                let _ = reply.send(answer);
            }
            Request::Control {
                run,
                control,
                word,
                reply,
            } => {
                let answer = self.control(run, &control, &word).await?;
                let _ = reply.send(answer);
            }
            Request::SetWorker {
                worker,
                action,
                word,
                reply,
            } => {
                let answer = self.set_worker(&worker, action, &word).await?;
                let _ = reply.send(answer);
            }
            Request::Schedule {
                pipeline,
                action,
                word,
                reply,
            } => {
                let answer = self.act_on_schedule(&pipeline, action, &word).await?;
                let _ = reply.send(answer);
            }
            Request::Look(look) => {
                self.looks += 1;
                look(Ok(self));
            }
        }
        Ok(None)
    }

    fn park(&mut self, session: SessionId, free: u32, reply: Reply<Vec<Granted>>) {
        if !self.cluster.sessions.contains_key(&session) {
            let _ = reply.send(Err(ServiceError::SessionEnded));
            return;
        }
        let until = self.clock.monotonic() + self.sessions.pull_wait;
        self.parking.park(Parked {
            session,
            free,
            until,
            reply,
        });
    }

    /// Answers pulls that waited long enough with nothing.
    pub(super) fn parked_timeouts(&mut self) {
        let now = self.clock.monotonic();
        while let Some(parked) = self.parking.take_ended(now) {
            let _ = parked.reply.send(Ok(Vec::new()));
        }
    }

    /// What happened to a run's tasks lately.
    pub(crate) fn events(
        &self,
        run: &RunId,
        step: Option<&StepName>,
        after: u64,
    ) -> Vec<EventDocument> {
        self.events.of(run, step, after)
    }

    /// Cordons, uncordons or drains a worker. A cordon is stored with the worker; a drain is told
    /// with its next heartbeat.
    async fn set_worker(
        &mut self,
        name: &str,
        action: WorkerAction,
        word: &Word,
    ) -> Result<Result<(), ServiceError>, TermEnded> {
        let found = self
            .cluster
            .sessions
            .iter()
            .find(|(_, session)| session.worker.as_str() == name);
        let Some((id, session)) = found.map(|(id, session)| (*id, session.clone())) else {
            return Ok(Err(ServiceError::UnknownWorker(name.to_owned())));
        };
        let mut record = session.record;
        match action {
            WorkerAction::Cordon => record.cordoned = true,
            WorkerAction::Uncordon => record.cordoned = false,
            WorkerAction::Drain => {}
        }
        let verb = match action {
            WorkerAction::Cordon => "cordon",
            WorkerAction::Uncordon => "uncordon",
            WorkerAction::Drain => "drain",
        };
        let about = format!("worker {name}");
        let mut ops = self.audited(None, verb, about, word);
        ops.push(Op::Put(
            RecordKey::Worker(session.worker).render(),
            record.to_bytes(),
        ));
        self.commit_records("worker_record", Vec::new(), ops)
            .await?;
        if let Some(session) = self.cluster.sessions.get_mut(&id) {
            session.record = record;
            session.told_to_drain |= action == WorkerAction::Drain;
            session.draining |= action == WorkerAction::Drain;
        }
        Ok(Ok(()))
    }

    /// Notes what keeps everybody waiting.
    pub(crate) fn say(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// What keeps everybody waiting.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether a session is known: while nothing can be written its attempts are its own.
    pub(crate) fn has_session(&self, session: &SessionId) -> bool {
        self.cluster.sessions.contains_key(session)
    }

    /// How many looks were answered in this term.
    #[cfg(test)]
    pub(crate) const fn looks(&self) -> u64 {
        self.looks
    }

    /// The view, for those who look.
    pub(crate) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The time by the leader's clocks: monotonic, and milliseconds since 1970.
    pub(crate) fn now(&self) -> (Duration, i64) {
        (self.clock.monotonic(), self.clock.wall_millis())
    }

    /// The bytes of the leader record, and the high part of the term's tokens.
    pub(crate) fn term(&self) -> (&[u8], u64) {
        (&self.term, self.hi)
    }
}
