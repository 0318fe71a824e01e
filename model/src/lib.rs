//! A model of the protocol that a checker explores, every interleaving of it within bounds.
//!
//! The states of tasks and runs, the meaning of a ledger row, the permit to commit, the order of
//! tokens, what a claim, a guard and a fence do to the ledger, who may take a stream and for which
//! plan, whether a step is planned again, and what becomes of a failed attempt are the functions of
//! `highwater_common` that production decides with. What is modelled here is only what lies between
//! them: who acts when, what is lost, late or repeated, and what a restored store or a failed-over
//! target has forgotten.
//!
//! [`Design`] names designs that look right and are wrong. The tests demand that each is caught, by
//! the invariant named with it: that is what shows that the invariants can see anything at all.

mod action;
mod design;
mod intent;
mod invariant;
mod leader;
mod plan;
mod target;
mod world;

pub use action::Action;
pub use design::{Bounds, Design};
pub use intent::{Intent, IntentDesign};
pub use invariant::Invariant;
pub use world::{Protocol, World};
