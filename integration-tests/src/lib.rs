//! Starts real servers and real binaries, and looks at what they did.
//!
//! Everything is started on free ports of 127.0.0.1 and in folders of its own, and ends with the
//! value that stands for it: when the value is dropped, and also when the process that holds it is
//! killed ([`Sweeper`]). What this crate says about rows ([`digest`]) it reads by itself, never
//! through Highwater's own code.

mod binary;
mod certificates;
pub mod cluster;
pub mod digest;
mod dump;
mod etcd;
pub mod flights;
mod folders;
pub mod http;
mod line;
pub mod otlp;
mod postgres;
mod process;
mod prometheus;
pub mod release;
mod wait;

pub use binary::{Binary, Finished, Running};
pub use certificates::Authority;
pub use cluster::{Cluster, ClusterOptions, Daemon, Daemons};
pub use digest::Digest;
pub use dump::dump_definitions;
pub use etcd::Etcd;
pub use flights::FlightsFull;
pub use folders::{repository, target_folder};
pub use line::Line;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Signal, Sweeper};
pub use prometheus::Prometheus;
pub use wait::until;
