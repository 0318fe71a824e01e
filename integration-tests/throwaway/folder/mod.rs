//! A folder as a database: one document in it is replaced as a whole, under a lock. A connector to
//! throw away, which shows what a new one takes.

mod ledger;
mod source;
mod store;
mod table;
mod target;

pub use self::source::FolderSource;
pub use self::store::{DOCUMENT, Place};
pub use self::target::FolderTarget;
