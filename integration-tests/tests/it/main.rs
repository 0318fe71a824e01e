//! Tests against real servers.

mod etcd_server;
mod store_contract;
mod store_etcd;
