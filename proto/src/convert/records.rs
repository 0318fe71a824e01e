//! Records of the store to and from their bytes.

mod operators;
mod said;
mod schedules;
mod words;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::check::CheckAnswer;
use highwater_common::errand::Errand;
use highwater_common::id::{AttemptNo, ClusterId, DocumentDigest, SessionId, WorkerId};
use highwater_common::record::{
    DeadRecord, FormatRecord, LeaderRecord, LeaseRecord, RetryRecord, RunRecord, StepRecord,
    TaskAddress, TaskHistory, WorkerRecord,
};
use highwater_common::token::{Fence, FencingToken};
use prost::Message;

use said::controls_from;
pub use said::errand_from;
use words::{
    intent_from, intent_to, run_status_from, run_status_to, step_status_from, step_status_to,
};

use super::wire::nonce_from;
use super::{FORMAT_PATH, FieldError, fixed, parsed, parsed_unless_empty, required};
use crate::storage as pb;

/// The form of record that this version writes, and the only one it reads.
pub const RECORD_FORMAT: u32 = 2;

/// A record that has bytes in the store.
pub trait StoredRecord: Sized {
    /// The record's bytes; equal records have equal bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// The record of these bytes.
    ///
    /// # Errors
    /// [`FieldError`] when they are of another form, or damaged.
    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError>;
}

fn decode<M: Message + Default>(bytes: &[u8], format: impl Fn(&M) -> u32) -> Result<M, FieldError> {
    let message = M::decode(bytes).map_err(|error| FieldError::new("record", error.to_string()))?;
    match format(&message) {
        RECORD_FORMAT => Ok(message),
        other => Err(FieldError::new(FORMAT_PATH, of_another_form(other))),
    }
}

fn of_another_form(format: u32) -> String {
    let what_to_do = match format < RECORD_FORMAT {
        true => {
            "an earlier version wrote it. Begin with an empty store: what the runs have committed \
             stands in the ledgers of their targets, and a new run loads only what is missing"
        }
        false => "a later version wrote it: upgrade every coordinator first",
    };
    format!("{format}, but this version reads {RECORD_FORMAT}; {what_to_do}")
}

impl StoredRecord for FormatRecord {
    fn to_bytes(&self) -> Vec<u8> {
        pb::Format {
            format: RECORD_FORMAT,
            cluster: self.cluster.as_bytes().to_vec(),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Format = decode(bytes, |message: &pb::Format| message.format)?;
        Ok(Self {
            cluster: ClusterId::from_bytes(fixed(&message.cluster, "cluster")?),
        })
    }
}

impl StoredRecord for LeaderRecord {
    fn to_bytes(&self) -> Vec<u8> {
        pb::Leader {
            format: RECORD_FORMAT,
            term: self.term.to_vec(),
            address: self.address.clone(),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Leader = decode(bytes, |message: &pb::Leader| message.format)?;
        Ok(Self {
            term: fixed(&message.term, "term")?,
            address: message.address,
        })
    }
}

/// The bytes of the `hi` record.
#[must_use]
pub fn hi_to_bytes(hi: u64) -> Vec<u8> {
    pb::TokenHigh {
        format: RECORD_FORMAT,
        hi,
    }
    .encode_to_vec()
}

/// The `hi` of its record.
///
/// # Errors
/// [`FieldError`] when the bytes are of another form, or damaged.
pub fn hi_from_bytes(bytes: &[u8]) -> Result<u64, FieldError> {
    decode(bytes, |message: &pb::TokenHigh| message.format).map(|message| message.hi)
}

/// A document's parts, each a record.
#[must_use]
pub fn document_to_parts(json: &[u8], part_bytes_max: usize) -> Vec<Vec<u8>> {
    json.chunks(part_bytes_max.max(1))
        .map(|chunk| {
            pb::Part {
                format: RECORD_FORMAT,
                json: chunk.to_vec(),
            }
            .encode_to_vec()
        })
        .collect()
}

/// The bytes that one part of a document holds.
///
/// # Errors
/// [`FieldError`] when the bytes are of another form, or damaged.
pub fn part_from_bytes(bytes: &[u8]) -> Result<Vec<u8>, FieldError> {
    decode(bytes, |message: &pb::Part| message.format).map(|message| message.json)
}

impl StoredRecord for RunRecord {
    fn to_bytes(&self) -> Vec<u8> {
        pb::Run {
            format: RECORD_FORMAT,
            pipeline: self.pipeline.to_string(),
            spec_digest: self.spec_digest.as_bytes().to_vec(),
            spec_parts: self.spec_parts,
            base_dir: self.base_dir.clone(),
            reference_time_micros: self.reference_time_micros,
            intent: intent_to(self.intent) as i32,
            status: run_status_to(self.status) as i32,
            generation: self.generation,
            plan_parts: self.plan_parts,
            plan_digest: self
                .plan_digest
                .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
            ended_micros: self.ended_micros.unwrap_or(0),
            reason: self.reason.clone(),
            committed: self.committed,
            adopts: self.adopts,
            errand: self.errand.as_ref().map_or_else(Vec::new, Errand::to_json),
            is_saved: self.is_saved,
            controls: match self.controls.is_empty() {
                true => Vec::new(),
                false => self.controls.to_json(),
            },
            trace: self.trace.map_or_else(String::new, |of| of.to_string()),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Run = decode(bytes, |message: &pb::Run| message.format)?;
        let plan_digest = match message.plan_digest.as_slice() {
            [] => None,
            bytes => Some(DocumentDigest::from_bytes(fixed(bytes, "plan_digest")?)),
        };
        Ok(Self {
            pipeline: parsed(&message.pipeline, "pipeline")?,
            spec_digest: DocumentDigest::from_bytes(fixed(&message.spec_digest, "spec_digest")?),
            spec_parts: message.spec_parts,
            reference_time_micros: message.reference_time_micros,
            intent: intent_from(message.intent())
                .ok_or_else(|| FieldError::new("wish", "unknown"))?,
            status: run_status_from(message.status())
                .ok_or_else(|| FieldError::new("status", "unknown"))?,
            generation: message.generation,
            plan_parts: message.plan_parts,
            plan_digest,
            ended_micros: (message.ended_micros != 0).then_some(message.ended_micros),
            committed: message.committed,
            adopts: message.adopts,
            errand: errand_from(&message.errand)?,
            is_saved: message.is_saved,
            controls: controls_from(&message.controls)?,
            // no run is refused for the sake of its trace
            trace: message.trace.parse().ok(),
            base_dir: message.base_dir,
            reason: message.reason,
        })
    }
}

impl StoredRecord for StepRecord {
    fn to_bytes(&self) -> Vec<u8> {
        pb::Step {
            format: RECORD_FORMAT,
            status: step_status_to(self.status) as i32,
            reason: self.reason.clone(),
            warnings: self.warnings.clone(),
            not_loaded: self.not_loaded.clone(),
            fingerprint: self.fingerprint.clone(),
            setbacks: self.setbacks,
            tasks_lost: self.tasks_lost,
            checks: self.checks.iter().map(answer_to).collect(),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Step = decode(bytes, |message: &pb::Step| message.format)?;
        let status = step_status_from(message.status())
            .ok_or_else(|| FieldError::new("status", "unknown"))?;
        Ok(Self {
            status,
            reason: message.reason,
            warnings: message.warnings,
            not_loaded: message.not_loaded,
            fingerprint: message.fingerprint,
            setbacks: message.setbacks,
            tasks_lost: message.tasks_lost,
            checks: message.checks.into_iter().map(answer_from).collect(),
        })
    }
}

fn answer_to(answer: &CheckAnswer) -> pb::step::CheckAnswer {
    let CheckAnswer { passed, found } = answer.clone();
    pb::step::CheckAnswer { passed, found }
}

fn answer_from(answer: pb::step::CheckAnswer) -> CheckAnswer {
    let pb::step::CheckAnswer { passed, found } = answer;
    CheckAnswer { passed, found }
}

impl StoredRecord for LeaseRecord {
    fn to_bytes(&self) -> Vec<u8> {
        pb::Attempt {
            format: RECORD_FORMAT,
            token: self.fence.token.raw(),
            nonce: self.fence.nonce.to_bytes().to_vec(),
            worker: self.worker.to_string(),
            session: self.session.as_bytes().to_vec(),
            attempt: self.attempt.get(),
            step: self.address.step.to_string(),
            generation: self.address.generation,
            phase: u32::from(self.address.phase),
            ordinal: self.address.ordinal,
            crashes: self.history.crashes,
            crashed_workers: workers_to(&self.history.crashed_on),
            failed_workers: workers_to(&self.history.failed_on),
            breaks: self.history.breaks,
            committed_rows: self.history.committed_rows,
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Attempt = decode(bytes, |message: &pb::Attempt| message.format)?;
        Ok(Self {
            address: address_from(
                &message.step,
                message.generation,
                message.phase,
                message.ordinal,
            )?,
            attempt: AttemptNo::new(message.attempt),
            fence: Fence {
                token: FencingToken::from_raw(message.token),
                nonce: nonce_from(&message.nonce)?,
            },
            worker: parsed(&message.worker, "worker")?,
            session: SessionId::from_bytes(fixed(&message.session, "session")?),
            history: history_from(
                message.crashes,
                &message.crashed_workers,
                &message.failed_workers,
                message.breaks,
                message.committed_rows,
            )?,
        })
    }
}

impl StoredRecord for RetryRecord {
    fn to_bytes(&self) -> Vec<u8> {
        pb::Retry {
            format: RECORD_FORMAT,
            step: self.address.step.to_string(),
            generation: self.address.generation,
            phase: u32::from(self.address.phase),
            ordinal: self.address.ordinal,
            attempts: self.attempts,
            crashes: self.history.crashes,
            crashed_workers: workers_to(&self.history.crashed_on),
            failed_workers: workers_to(&self.history.failed_on),
            breaks: self.history.breaks,
            committed_rows: self.history.committed_rows,
            not_before_millis: self.not_before_millis,
            error: Some(error_to(&self.error)),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Retry = decode(bytes, |message: &pb::Retry| message.format)?;
        Ok(Self {
            address: address_from(
                &message.step,
                message.generation,
                message.phase,
                message.ordinal,
            )?,
            attempts: message.attempts,
            history: history_from(
                message.crashes,
                &message.crashed_workers,
                &message.failed_workers,
                message.breaks,
                message.committed_rows,
            )?,
            not_before_millis: message.not_before_millis,
            error: error_from(message.error)?,
        })
    }
}

impl StoredRecord for DeadRecord {
    fn to_bytes(&self) -> Vec<u8> {
        pb::Dead {
            format: RECORD_FORMAT,
            step: self.address.step.to_string(),
            generation: self.address.generation,
            phase: u32::from(self.address.phase),
            ordinal: self.address.ordinal,
            attempts: self.attempts,
            work: self.work.clone(),
            error: Some(error_to(&self.error)),
            accepted: self.accepted.clone(),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Dead = decode(bytes, |message: &pb::Dead| message.format)?;
        Ok(Self {
            address: address_from(
                &message.step,
                message.generation,
                message.phase,
                message.ordinal,
            )?,
            attempts: message.attempts,
            work: message.work,
            error: error_from(message.error)?,
            accepted: message.accepted,
        })
    }
}

impl StoredRecord for WorkerRecord {
    fn to_bytes(&self) -> Vec<u8> {
        // prost keeps maps in hash order, and equal records must have equal bytes: labels go one by
        // one, in their order.
        let mut bytes = pb::Worker {
            format: RECORD_FORMAT,
            session: self.session.as_bytes().to_vec(),
            slots: self.slots,
            labels: Default::default(),
            version: self.version.clone(),
            allow_noop: self.allow_noop,
            cordoned: self.cordoned,
            capabilities: self.capabilities.iter().cloned().collect(),
        }
        .encode_to_vec();
        for (key, value) in &self.labels {
            let one = [(key.clone(), value.clone())].into_iter().collect();
            bytes.extend(
                pb::Worker {
                    labels: one,
                    ..Default::default()
                }
                .encode_to_vec(),
            );
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Worker = decode(bytes, |message: &pb::Worker| message.format)?;
        Ok(Self {
            session: SessionId::from_bytes(fixed(&message.session, "session")?),
            slots: message.slots,
            labels: message.labels.into_iter().collect(),
            version: message.version,
            allow_noop: message.allow_noop,
            cordoned: message.cordoned,
            capabilities: message.capabilities.into_iter().collect(),
        })
    }
}

fn address_from(
    step: &str,
    generation: u32,
    phase: u32,
    ordinal: u64,
) -> Result<TaskAddress, FieldError> {
    let phase = u8::try_from(phase)
        .map_err(|_| FieldError::new("phase", format!("{phase} is no phase")))?;
    Ok(TaskAddress {
        step: parsed(step, "step")?,
        generation,
        phase,
        ordinal,
    })
}

fn workers_to<'a>(workers: impl IntoIterator<Item = &'a WorkerId>) -> Vec<String> {
    workers.into_iter().map(ToString::to_string).collect()
}

fn history_from(
    crashes: u32,
    crashed: &[String],
    failed: &[String],
    breaks: u32,
    committed_rows: u64,
) -> Result<TaskHistory, FieldError> {
    let crashed_on = crashed
        .iter()
        .map(|worker| parsed(worker, "crashed_workers"))
        .collect::<Result<_, _>>()?;
    let failed_on = failed
        .iter()
        .map(|worker| parsed(worker, "failed_workers"))
        .collect::<Result<_, _>>()?;
    Ok(TaskHistory {
        crashes,
        crashed_on,
        failed_on,
        breaks,
        committed_rows,
    })
}

fn error_to(error: &AttemptError) -> pb::Error {
    pb::Error {
        class: error.class.to_string(),
        code: error.code.clone(),
        message: error.message.clone(),
        connection: error
            .connection
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        committed_rows: error.committed_rows,
    }
}

fn error_from(error: Option<pb::Error>) -> Result<AttemptError, FieldError> {
    let error = required(error, "error")?;
    let class = match error.class.as_str() {
        "transient" => ErrorClass::Transient,
        "resource" => ErrorClass::Resource,
        "permanent" => ErrorClass::Permanent,
        "unreachable" => ErrorClass::Unreachable,
        "crash" => ErrorClass::Crash,
        other => {
            return Err(FieldError::new(
                "error.class",
                format!("`{other}` is unknown"),
            ));
        }
    };
    let connection = parsed_unless_empty(&error.connection, "error.connection")?;
    Ok(AttemptError {
        connection,
        committed_rows: error.committed_rows,
        ..AttemptError::received(class, error.code, error.message)
    })
}

#[cfg(test)]
mod tests;
