//! What operators did, to and from its bytes.

use highwater_common::id::RunId;
use highwater_common::record::AuditRecord;
use prost::Message as _;

use super::{RECORD_FORMAT, StoredRecord, decode};
use crate::convert::{FieldError, fixed, parsed_unless_empty};
use crate::storage as pb;

impl StoredRecord for AuditRecord {
    fn to_bytes(&self) -> Vec<u8> {
        let pipeline = self.pipeline.as_ref();
        pb::Audit {
            format: RECORD_FORMAT,
            at_micros: self.at_micros,
            by: self.by.clone(),
            verb: self.verb.clone(),
            pipeline: pipeline.map_or_else(String::new, ToString::to_string),
            run: self
                .run
                .map_or_else(Vec::new, |run| run.as_bytes().to_vec()),
            about: self.about.clone(),
            reason: self.reason.clone(),
        }
        .encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let message: pb::Audit = decode(bytes, |message: &pb::Audit| message.format)?;
        let run = match message.run.as_slice() {
            [] => None,
            bytes => Some(RunId::from_bytes(fixed(bytes, "run")?)),
        };
        Ok(Self {
            at_micros: message.at_micros,
            by: message.by,
            verb: message.verb,
            pipeline: parsed_unless_empty(&message.pipeline, "pipeline")?,
            run,
            about: message.about,
            reason: message.reason,
        })
    }
}
