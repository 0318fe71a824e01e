//! Progress on a terminal: at most eight lines that are drawn again and again, failures above them.

use highwater_common::document::{RunDocument, StepDocument};
use highwater_common::status::StepStatus;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::changes::failures;
use crate::render::{Look, Moment, header, name_width, step_line, tame};

/// Lines drawn at most.
const LINES_MAX: usize = 8;

/// The lines.
pub(super) struct Bar {
    lines: Vec<ProgressBar>,
    screen: MultiProgress,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self {
            lines: Vec::new(),
            screen: MultiProgress::new(),
        }
    }

    pub(super) fn document(
        &mut self,
        last: Option<&RunDocument>,
        next: &RunDocument,
        moment: &Moment,
        look: &Look,
    ) {
        for line in failures(last, next, look) {
            self.above(&line);
        }
        self.draw(next, moment, look);
    }

    pub(super) fn draw(&mut self, run: &RunDocument, moment: &Moment, look: &Look) {
        let texts = texts(run, moment, look);
        while self.lines.len() < texts.len() {
            // The template is a constant, and legal; were it not, the default shows the message as
            // well.
            let style = ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            self.lines.push(
                self.screen
                    .add(ProgressBar::new_spinner().with_style(style)),
            );
        }
        for (at, line) in self.lines.iter().enumerate() {
            line.set_message(texts.get(at).cloned().unwrap_or_default());
            line.tick();
        }
    }

    pub(super) fn above(&self, line: &str) {
        self.screen.println(line).ok();
    }

    pub(super) fn clear(&mut self) {
        // A line that is merely dropped would stay on the screen.
        for line in self.lines.drain(..) {
            line.finish_and_clear();
        }
        self.screen.clear().ok();
    }
}

/// The totals, then the steps that move, then as many others as fit.
pub(super) fn texts(run: &RunDocument, moment: &Moment, look: &Look) -> Vec<String> {
    let width = name_width(run);
    let room = LINES_MAX - 1;
    let shown = if run.steps.len() <= room {
        room
    } else {
        room - 1
    };
    let mut order: Vec<(usize, &StepDocument)> = run.steps.iter().enumerate().collect();
    order.sort_by_key(|(at, step)| (urgency(step.status), *at));
    order.truncate(shown);
    order.sort_by_key(|(at, _)| *at);
    let mut texts = vec![header(run, moment, look)];
    texts.extend(order.into_iter().map(|(_, step)| match step.waits.first() {
        Some(why) => format!("{} · why: {}", step_line(step, width, look), tame(why)),
        None => step_line(step, width, look),
    }));
    let hidden = run.steps.len().saturating_sub(shown);
    if hidden > 0 {
        texts.push(look.dim(&format!("  and {hidden} more steps")));
    }
    texts
}

const fn urgency(status: StepStatus) -> u8 {
    match status {
        StepStatus::Running => 0,
        StepStatus::Failed => 1,
        StepStatus::Pending => 2,
        StepStatus::Skipped | StepStatus::Cancelled => 3,
        StepStatus::Success => 4,
    }
}
