//! Tells on stderr how a run that is followed goes on.

mod bar;
mod changes;
mod lines;
mod pace;

pub(crate) use pace::{Pace, PaceMeter};

use std::time::Duration;

use highwater_common::document::RunDocument;

use self::bar::Bar;
use self::lines::Lines;
use crate::args::{Global, ProgressForm};
use crate::connect::Fetched;
use crate::output::Output;
use crate::render::Moment;

/// What follows a run's documents.
pub(crate) struct Reporter {
    form: Form,
    meter: PaceMeter,
    last: Option<RunDocument>,
}

enum Form {
    Silent,
    Json,
    Lines(Lines),
    Bar(Bar),
}

impl Reporter {
    /// The reporter that the flags and the terminal ask for. Log lines would tear a bar, so `-v`
    /// means lines.
    #[must_use]
    pub(crate) fn new(global: &Global, output: &Output) -> Self {
        let form = match global.progress {
            _ if global.quiet => Form::Silent,
            ProgressForm::None => Form::Silent,
            ProgressForm::Json => Form::Json,
            ProgressForm::Lines => Form::Lines(Lines::default()),
            ProgressForm::Bar => Form::Bar(Bar::new()),
            ProgressForm::Auto if output.talk_look.is_terminal && global.verbose == 0 => {
                Form::Bar(Bar::new())
            }
            ProgressForm::Auto => Form::Lines(Lines::default()),
        };
        Self {
            form,
            meter: PaceMeter::default(),
            last: None,
        }
    }

    /// A document came, `at` after the following began.
    pub(crate) fn document(
        &mut self,
        at: Duration,
        fetched: &Fetched<RunDocument>,
        output: &mut Output,
    ) {
        let next = &fetched.view;
        self.meter.observe(at, next);
        let moment = self.moment(at);
        let look = output.talk_look.clone();
        match &mut self.form {
            Form::Silent => {}
            Form::Json => output.say(&fetched.json.to_string()),
            Form::Lines(lines) => {
                lines.document(at, self.last.as_ref(), next, &moment, &look, output)
            }
            Form::Bar(bar) => bar.document(self.last.as_ref(), next, &moment, &look),
        }
        self.last = Some(fetched.view.clone());
    }

    /// Time has passed without a document.
    pub(crate) fn tick(&mut self, at: Duration, output: &mut Output) {
        let moment = self.moment(at);
        let look = output.talk_look.clone();
        let Some(last) = &self.last else { return };
        match &mut self.form {
            Form::Silent | Form::Json => {}
            Form::Lines(lines) => lines.tick(at, last, &moment, &look, output),
            Form::Bar(bar) => bar.draw(last, &moment, &look),
        }
    }

    /// Says something between the drawings.
    pub(crate) fn say(&self, line: &str, output: &mut Output) {
        match &self.form {
            Form::Bar(bar) => bar.above(line),
            Form::Silent | Form::Json | Form::Lines(_) => output.tell(&format!("{line}\n")),
        }
    }

    /// Nothing more comes: takes the drawing away.
    pub(crate) fn finish(&mut self) {
        match &mut self.form {
            Form::Bar(bar) => bar.clear(),
            Form::Silent | Form::Json | Form::Lines(_) => {}
        }
    }

    fn moment(&self, at: Duration) -> Moment {
        Moment {
            now: jiff::Timestamp::now(),
            pace: self.meter.pace(at),
        }
    }
}

#[cfg(test)]
mod tests;
