//! A database's log of committed changes: positions in it, what it says, and what a batch of it
//! comes to in a table that follows.

mod change;
mod fold;
mod identity;
mod lsn;
mod pgoutput;
mod project;
mod removal;
mod standing;

pub use change::{Field, RowChange};
pub use fold::{Net, Partial, Step, fold};
pub use identity::{LogColumn, LogIdentity};
pub use lsn::{Lsn, NoPosition};
pub use pgoutput::{
    ColumnDefinition, LogFault, Message, OldTuple, RelationDefinition, ReplicaTuple, decode,
};
pub use project::{Follower, LogEvent, Unfollowed};
pub use removal::{Removal, mark_column, mark_text};
pub use standing::{LogStanding, LogState, SlotStanding};
