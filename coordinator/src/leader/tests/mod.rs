//! A leader and its workers, without a network: every fault that a store, a worker or another
//! leader can bring.
#![allow(
    clippy::disallowed_methods,
    reason = "tests own their time and their loops"
)]

mod attempts;
mod cancels;
mod checks;
mod closes;
mod controls;
mod damage;
mod errands;
mod faults;
mod flow;
mod full;
mod histories;
mod left_out;
mod outages;
mod schedules;
mod sessions;
mod streams;
