//! Highwater's messages: what goes over the wire, what the store holds, and their conversion to
//! domain types.
//!
//! Protobuf stops here: everything else speaks the domain types of `highwater_common`. What is
//! stored is not what is sent, so that each can change alone.

pub mod convert;

/// The generated messages and services of the wire.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("highwater.v1");
}

/// The generated messages of the store.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated"
)]
pub mod storage {
    tonic::include_proto!("highwater.storage.v1");
}

/// The encoded descriptors of every message and service, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/highwater.bin"));

/// Version of the protocol between worker and coordinator; the coordinator refuses a worker that
/// speaks another.
pub const PROTOCOL_VERSION: u32 = 1;

/// Metadata of a refusal: where the leader listens, when the coordinator asked does not lead but
/// knows who does.
pub const LEADER_METADATA: &str = "highwater-leader";

/// Metadata of a call: who makes it, as he says himself.
pub const OPERATOR_METADATA: &str = "highwater-operator";

/// Metadata of a call that a follower passed on: it is not passed on again.
pub const RELAYED_METADATA: &str = "highwater-relayed";

/// Metadata of a call that a coordinator passed on: the roles of whoever made it, as that coordinator
/// found them out. Of anybody else it says nothing.
pub const VOUCHED_METADATA: &str = "highwater-vouched";
