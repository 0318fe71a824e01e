//! The pipeline file: its model, how it is read, and what is wrong with it.

mod model;

pub use model::*;
