//! Progress as whole lines, for logs and pipes: one for each change, and the totals at most every
//! 10 s. Never a carriage return.

use std::time::Duration;

use highwater_common::document::RunDocument;

use super::changes::changes;
use crate::output::Output;
use crate::render::{Look, Moment, header};

/// The time between two lines of totals.
const TOTALS_EVERY: Duration = Duration::from_secs(10);

/// When totals were told last.
#[derive(Debug, Default)]
pub(super) struct Lines {
    totals_at: Duration,
}

impl Lines {
    pub(super) fn document(
        &mut self,
        at: Duration,
        last: Option<&RunDocument>,
        next: &RunDocument,
        moment: &Moment,
        look: &Look,
        output: &mut Output,
    ) {
        for line in changes(last, next, look) {
            output.say(&line);
        }
        self.tick(at, next, moment, look, output);
    }

    pub(super) fn tick(
        &mut self,
        at: Duration,
        run: &RunDocument,
        moment: &Moment,
        look: &Look,
        output: &mut Output,
    ) {
        if at >= self.totals_at + TOTALS_EVERY && !run.status.has_ended() {
            self.totals_at = at;
            output.say(&header(run, moment, look));
        }
    }
}
