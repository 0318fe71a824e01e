//! A table that is made like another server's: what that one is made of (`read.rs`), the table, as
//! far as rows need it (`make.rs`), and the rest, once they are there (`build.rs`). What a server
//! would not make is found out by trying, in a transaction that is taken back.

mod build;
mod make;
mod mark;
mod names;
mod read;

pub(super) use self::make::{Making, make, make_schema, try_making};
pub(super) use self::mark::is_unfinished;
pub(super) use self::read::read_definition;
