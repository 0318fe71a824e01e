//! Passes calls of the command line on to the leader, one hop at most: a caller need not know who
//! leads.

use std::error::Error as _;
use std::sync::Arc;

use highwater_common::roles::Principal;
use highwater_net::trace::CallTraced;
use highwater_proto::v1::control_service_client::ControlServiceClient;
use highwater_proto::{OPERATOR_METADATA, RELAYED_METADATA, VOUCHED_METADATA};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::operator::operator;
use crate::coordinator::{CoordinatorHandle, Role};
use crate::error::ServiceError;

/// The largest document that is passed on, in bytes.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The leader, when this coordinator follows it and the call was not passed on already.
///
/// # Errors
/// The leader tells no address that can be dialled.
pub(super) fn leader(
    handle: &CoordinatorHandle,
    metadata: &MetadataMap,
) -> Result<Option<ControlServiceClient<CallTraced<Channel>>>, Status> {
    let Role::Following { leader } = handle.role().borrow().clone() else {
        return Ok(None);
    };
    if leader.is_empty() || metadata.contains_key(RELAYED_METADATA) {
        // the question comes to the inbox, and is refused with what is known of the leader
        return Ok(None);
    }
    let unknown = |_| {
        Status::from(ServiceError::NotLeader {
            leader: Some(leader.clone()),
        })
    };
    let connection = handle
        .options()
        .dialer
        .connect_lazy(&leader)
        .map_err(unknown)?;
    let client = ControlServiceClient::new(CallTraced::over(connection.channel));
    Ok(Some(client.max_decoding_message_size(DOCUMENT_BYTES_MAX)))
}

/// The call as it is passed on: with its own metadata and its deadline, and marked; and with the name
/// of whoever made it, and what he may do, if that was found out.
pub(super) fn passed_on<T>(mut request: Request<T>) -> Request<T> {
    let by = operator(request.metadata(), request.extensions());
    // A name that no metadata can hold is left out, and somebody asked.
    if let Ok(by) = MetadataValue::try_from(&by) {
        request.metadata_mut().insert(OPERATOR_METADATA, by);
    } else {
        request.metadata_mut().remove(OPERATOR_METADATA);
    }
    // Nobody but the gate says what he may do.
    request.metadata_mut().remove(VOUCHED_METADATA);
    let vouched = request.extensions().get::<Arc<Principal>>();
    let vouched = vouched.and_then(|principal| principal.vouched().parse().ok());
    if let Some(vouched) = vouched {
        request.metadata_mut().insert(VOUCHED_METADATA, vouched);
    }
    request
        .metadata_mut()
        .insert(RELAYED_METADATA, MetadataValue::from_static("1"));
    request
}

/// What the caller hears of a failed call of the leader: a line that broke is no answer of the
/// leader's, and asking again may find its successor.
pub(super) fn passed_back(status: Status) -> Status {
    let mut broken = status.source();
    while let Some(deeper) = broken.and_then(|error| error.source()) {
        broken = Some(deeper);
    }
    match broken {
        Some(broken) => Status::unavailable(format!("the line to the leader broke: {broken}")),
        None => status,
    }
}
