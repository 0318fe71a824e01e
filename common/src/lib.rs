//! Highwater's pure core: everything that can be decided without I/O.
//!
//! Nothing here reads a clock, a random source, the environment, a file or a socket; what a
//! decision needs comes in as an argument. So every rule of the product can be tested a million
//! times a minute, and the coordinator and the workers only carry out what was decided here.
//!
//! What comes in may be a value of somebody's table: it is input, and no input may end a process.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unwrap_used
    )
)]

pub mod advise;
pub mod assignment;
pub mod capability;
pub mod check;
pub mod chunk;
pub mod close;
pub mod commit;
pub mod config;
pub mod controls;
pub mod coverage;
pub mod cursor;
pub mod cursor_form;
pub mod dag;
pub mod document;
pub mod engine;
pub mod errand;
pub mod error_code;
pub mod facts;
pub mod graph;
pub mod id;
pub mod ledger;
pub mod left_out;
pub mod log;
pub mod number;
pub mod outage;
pub mod partition;
pub mod placing;
pub mod plan;
pub mod range;
pub mod record;
pub mod retry;
pub mod roles;
pub mod saved_plan;
pub mod schedule;
pub mod segment;
pub mod selection;
pub mod shadow;
pub mod shrink;
pub mod spec;
pub mod status;
pub mod strategy;
pub mod stream;
pub mod task;
pub mod token;
pub mod trace;
pub mod turn;
pub mod type_definition;
pub mod undo;
pub mod watermark;
pub mod window;

#[cfg(test)]
mod tests;
