//! Pipelines that run by themselves, to and from their bytes.

use highwater_common::controls::Hold;
use highwater_common::id::{DocumentDigest, RunId};
use highwater_common::record::{ScheduleRecord, ScheduledRun};
use highwater_common::schedule::{LeftOut, Standing, WAITING_MAX, Why};
use prost::Message as _;

use super::{RECORD_FORMAT, StoredRecord, decode};
use crate::convert::{FieldError, fixed, required};
use crate::storage as pb;
use crate::storage::schedule as part;

impl StoredRecord for ScheduleRecord {
    fn to_bytes(&self) -> Vec<u8> {
        let left_out = self.standing.last_left_out;
        pb::Schedule {
            format: RECORD_FORMAT,
            spec_digest: self.spec_digest.as_bytes().to_vec(),
            spec_parts: self.spec_parts,
            base_dir: self.base_dir.clone(),
            set: Some(hold_to(&self.set)),
            paused: self.paused.as_ref().map(hold_to),
            decided_micros: self.standing.decided_micros,
            waiting_micros: self.standing.waiting.clone(),
            left_out: left_out.map(|of| part::LeftOut {
                instant_micros: of.instant_micros,
                why: of.why.as_str().to_owned(),
            }),
            last_run: self.last_run.map(|of| part::Begun {
                run: of.run.as_bytes().to_vec(),
                instant_micros: of.instant_micros,
            }),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Schedule = decode(bytes, |message: &pb::Schedule| message.format)?;
        let waiting = message.waiting_micros;
        if waiting.len() > WAITING_MAX || !waiting.is_sorted() {
            let problem = "too many instants, or not ascending";
            return Err(FieldError::new("waiting_micros", problem));
        }
        Ok(Self {
            spec_digest: DocumentDigest::from_bytes(fixed(&message.spec_digest, "spec_digest")?),
            spec_parts: message.spec_parts,
            base_dir: message.base_dir,
            set: hold_from(required(message.set, "set")?),
            paused: message.paused.map(hold_from),
            standing: Standing {
                decided_micros: message.decided_micros,
                waiting,
                last_left_out: message.left_out.map(left_out_from).transpose()?,
            },
            last_run: message.last_run.map(begun_from).transpose()?,
        })
    }
}

fn hold_to(hold: &Hold) -> part::Hold {
    part::Hold {
        by: hold.by.clone(),
        reason: hold.reason.clone(),
        since_micros: hold.since_micros,
    }
}

fn hold_from(hold: part::Hold) -> Hold {
    Hold {
        by: hold.by,
        reason: hold.reason,
        since_micros: hold.since_micros,
    }
}

fn left_out_from(of: part::LeftOut) -> Result<LeftOut, FieldError> {
    let why = Why::of_word(&of.why);
    Ok(LeftOut {
        instant_micros: of.instant_micros,
        why: why.ok_or_else(|| FieldError::new("left_out.why", format!("`{}`", of.why)))?,
    })
}

fn begun_from(of: part::Begun) -> Result<ScheduledRun, FieldError> {
    Ok(ScheduledRun {
        run: RunId::from_bytes(fixed(&of.run, "last_run.run")?),
        instant_micros: of.instant_micros,
    })
}
