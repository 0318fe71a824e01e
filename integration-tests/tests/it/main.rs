//! Suites that start real servers and real binaries.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests own their time, and a panic is their failure"
)]

mod advise;
mod any_key;
mod backfill;
mod cancel;
mod cdc;
mod cdc_continuous;
mod cdc_deletes;
mod cdc_identity;
mod cdc_resync;
mod cdc_standby;
mod checks;
mod chunks;
mod cleans;
mod closes;
mod cluster_calls;
mod cluster_flights;
mod cluster_herd;
mod cluster_leaders;
mod cluster_limits;
mod cluster_refusals;
mod cluster_store;
mod cluster_tls;
mod cluster_workers;
mod columns;
mod contracts;
mod crash_matrix;
mod crashes;
mod cuts;
mod definitions;
mod ends;
mod etcd_server;
mod examples;
mod extending;
mod flights;
mod follows;
mod graphs;
mod hands;
mod harness;
mod image;
mod incremental;
mod left_out;
mod merges;
mod outages;
mod programs;
mod queries;
mod receipts;
mod refreshes;
mod refusals;
mod release;
mod renames;
mod saved_plans;
mod scripts;
mod secrets;
mod selected;
mod shells;
mod signals;
mod silence;
mod site;
mod snapshots;
mod store_contract;
mod store_etcd;
mod streams;
mod swaps;
mod swaps_in_place;
mod tls_connections;
mod triggers;
mod twins;
mod type_trips;
mod undos;
mod values;
mod wide;
