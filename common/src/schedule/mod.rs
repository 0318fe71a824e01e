//! When a pipeline runs by itself: cron times in a zone, and what becomes of those that were missed,
//! or that come while a run is under way. Decides, and never looks at a clock.

mod cron;
mod due;
mod rules;
mod timetable;

pub use cron::{Cron, CronError};
pub use due::{Begin, Due, LeftOut, PipelineState, Standing, Why, due, resumed};
pub use rules::{CatchUp, Overlap, Rules, WAITING_MAX};
pub use timetable::{Latest, Timetable};

#[cfg(test)]
mod tests;
