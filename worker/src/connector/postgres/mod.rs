//! PostgreSQL, 13 or later, as source and as target.
//! Never pools a connection: every operation opens its own and closes it, and any error closes it too.
//!
//! Values pass from COPY to COPY as the server's own bytes or text; nothing here decodes a value that it does not have to.

mod catalog;
mod claim;
mod copy_out;
mod data;
mod errors;
mod forms;
mod ledger;
mod prepare;
mod probe;
mod session;
mod slices;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub use session::SessionOptions;
pub use source::PostgresSource;
pub use target::PostgresTarget;
