//! SQLite: a file on this host, read side and write side.
//!
//! A source is opened read-only and never changed, not even into WAL mode. A target has one writer
//! at a time: attempts of this process queue in the connector instead of meeting SQLite's busy
//! timeout. Every attempt owns its connection, and an abandoned connection interrupts what it was
//! doing, so that its transaction is rolled back at once.

mod casts;
mod catalog;
mod checks;
mod claim;
mod errors;
mod guard;
mod insert;
mod ledger;
mod left_out;
mod merge;
mod position;
mod prepare;
mod process;
mod query;
mod queue;
mod receipts;
mod reconcile;
mod rows;
mod script;
mod session;
mod source;
mod sql;
mod stream;
mod surveys;
mod target;
#[cfg(test)]
mod tests;
mod transaction;
mod triggers;
mod twin;
mod watermark;

pub use source::SqliteSource;
pub use target::SqliteTarget;
