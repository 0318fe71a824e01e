//! Tests against real servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod etcd_server;
mod store_contract;
mod store_etcd;
