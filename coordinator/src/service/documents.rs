//! Documents for people and programs, as messages.

use highwater_common::document::RunDocument;
use highwater_common::id::RunId;
use highwater_proto::v1 as pb;
use serde::Serialize;
use tonic::Status;

use super::limits::ANSWER_BYTES_MAX;
use crate::coordinator::CoordinatorHandle;
use crate::engine::run_document;
use crate::error::ServiceError;

/// What an answer takes beside its document, in bytes.
const ENVELOPE_BYTES_MAX: usize = 1024;

pub(super) async fn document_of(
    handle: &CoordinatorHandle,
    id: RunId,
) -> Result<RunDocument, ServiceError> {
    handle
        .look(move |leader| {
            let run = leader
                .cluster()
                .runs
                .get(&id)
                .ok_or_else(|| ServiceError::UnknownRun(id.to_string()))?;
            let mut document =
                run_document(leader.cluster(), run, leader.short_of(&id), leader.now().1);
            if let Some(trouble) = leader.trouble().filter(|_| !run.record.status.has_ended()) {
                let open = document
                    .steps
                    .iter_mut()
                    .filter(|step| !step.status.has_ended());
                open.for_each(|step| step.waits.insert(0, trouble.to_owned()));
            }
            Ok(document)
        })
        .await
}

pub(super) fn encode<T: Serialize>(schema: &str, document: &T) -> Result<pb::Document, Status> {
    let json = serde_json::to_vec(document)
        .map_err(|error| Status::internal(format!("{schema}: {error}")))?;
    if json.len() + ENVELOPE_BYTES_MAX > ANSWER_BYTES_MAX {
        let why = format!(
            "the document {schema} takes {} bytes, more than an answer may: ask for less",
            json.len()
        );
        return Err(Status::resource_exhausted(why));
    }
    Ok(pb::Document {
        schema: schema.to_owned(),
        json,
    })
}
