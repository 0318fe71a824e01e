//! Suites that start real servers and real binaries.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests own their time, and a panic is their failure"
)]

mod contracts;
mod etcd_server;
mod flights;
mod harness;
mod store_contract;
mod store_etcd;
mod types;
