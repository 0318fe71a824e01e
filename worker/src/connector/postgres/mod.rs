//! PostgreSQL, 13 or later, as source and as target. Never shares a connection: every operation has
//! its own, and any error closes it. One that served a task to its end may serve the next
//! (`session_pool`).
//!
//! Values pass from COPY to COPY as the server's own bytes or text; nothing here decodes a value
//! that it does not have to.

mod apply;
mod at_work;
mod casts;
mod catalog;
mod change_log;
mod checks;
mod choice;
mod claim;
mod columns;
mod compared_keys;
mod connect;
mod copy_out;
mod created;
mod cuts;
mod data;
mod definitions;
mod errors;
mod exchange;
mod foreign_keys;
mod forms;
mod guard;
mod hashes;
mod horizon;
mod keysets;
mod ledger;
mod left_out;
mod log_identity;
mod merge;
mod nulls;
mod other_sessions;
mod pins;
mod policies;
mod positions;
mod prepare;
mod probe;
mod query;
mod receipts;
mod reconcile;
mod references;
mod script;
mod server;
mod session;
mod session_pool;
mod slot;
mod slot_standing;
mod snapshot;
mod source;
mod stream;
mod stretches;
mod surveys;
mod target;
#[cfg(test)]
mod tests;
mod text_positions;
mod triggers;
mod twin;
mod url;
mod watermark;

pub use connect::Urls;
pub use session::SessionOptions;
pub use session_pool::SessionPool;
pub use source::PostgresSource;
pub use target::PostgresTarget;
