//! Who asks, as far as it is known, and what of a run is meant.

use std::sync::Arc;

use highwater_common::document::{ActionDocument, AuditDocument};
use highwater_common::id::RunId;
use highwater_common::record::AuditRecord;
use highwater_common::roles::Principal;
use highwater_common::selection::{Selection, SelectionError};
use highwater_net::Caller;
use highwater_proto::convert::records::StoredRecord as _;
use highwater_proto::{OPERATOR_METADATA, RELAYED_METADATA};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};

use crate::engine::rfc3339;
use crate::leader::Word;
use crate::store::RecordStore;
use crate::store::keys::{RecordKey, prefix};

/// The longest name of an operator that is kept, in characters.
const NAME_CHARS_MAX: usize = 100;
/// Stands behind a name that a certificate proves, and behind no other.
const PROVEN: &str = "(certificate)";
/// Stands behind the name of a token.
const BY_TOKEN: &str = "(token)";
/// Records that one answer holds at the most.
const AUDITS_MAX: usize = 1_000;

/// Who asks, and why.
pub(super) fn word<T>(request: &Request<T>, reason: String) -> Word {
    Word {
        by: operator(request.metadata(), request.extensions()),
        reason,
    }
}

/// Who asks: whom the gate has let in; or, where there are no roles, the name in the certificate of the
/// connection, which was checked; or else the one that the caller gives, which proves nothing. A follower that passes a call on says who asked it.
pub(super) fn operator(metadata: &MetadataMap, extensions: &Extensions) -> String {
    if let Some(principal) = extensions.get::<Arc<Principal>>() {
        return principal.who.clone();
    }
    let given = metadata.get(OPERATOR_METADATA);
    let given = given.and_then(|name| name.to_str().ok()).map(printable);
    let given = given.filter(|name| !name.is_empty());
    let given = given.unwrap_or_else(|| "somebody".to_owned());
    let is_passed_on = metadata.contains_key(RELAYED_METADATA);
    let caller = extensions.get::<Caller>();
    match caller.and_then(|caller| caller.certificate.as_deref()) {
        // Whoever passes a call on vouches for what he says of it.
        Some(name) if is_passed_on => format!("{given}, passed on by {}", printable(name)),
        Some(name) => format!("{} {PROVEN}", printable(name)),
        None => unproven(&given),
    }
}

/// A name without what stands behind those that are proved, as often as it is in there.
fn unproven(name: &str) -> String {
    let mut name = name.to_owned();
    while name.contains(PROVEN) || name.contains(BY_TOKEN) {
        name = name.replace(PROVEN, "").replace(BY_TOKEN, "");
    }
    name.trim_end().to_owned()
}

pub(super) fn printable(name: &str) -> String {
    let shown = name.chars().filter(|character| !character.is_control());
    shown.take(NAME_CHARS_MAX).collect()
}

/// The selections of a request, with spaces between; nothing means all.
pub(super) fn selections(text: &str) -> Result<Vec<Selection>, SelectionError> {
    text.split_whitespace().map(str::parse).collect()
}

/// What operators did, newest first.
///
/// # Errors
/// The store does not answer, or holds a record that cannot be read.
pub(super) async fn audit(
    store: &Arc<dyn RecordStore>,
    of: Option<RunId>,
    limit: usize,
) -> Result<AuditDocument, Status> {
    let found = store
        .scan(&prefix::audits())
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let mut actions = Vec::new();
    for (key, bytes) in found.into_iter().rev() {
        let Ok(RecordKey::Audit(number)) = RecordKey::parse(&key) else {
            continue;
        };
        let record = AuditRecord::from_bytes(&bytes)
            .map_err(|error| Status::internal(format!("{key}: {error}")))?;
        if of.is_some_and(|run| record.run != Some(run)) {
            continue;
        }
        actions.push(ActionDocument {
            number,
            at: rfc3339(record.at_micros),
            by: record.by,
            verb: record.verb,
            pipeline: record
                .pipeline
                .map_or_else(String::new, |pipeline| pipeline.to_string()),
            run: record.run,
            about: record.about,
            reason: record.reason,
        });
        if actions.len() >= limit.min(AUDITS_MAX) {
            break;
        }
    }
    Ok(AuditDocument {
        schema: "audit/v1".to_owned(),
        actions,
    })
}
