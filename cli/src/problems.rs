//! Shows what is wrong with a pipeline file: with the line and a caret on a terminal, as one
//! greppable line each otherwise.

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
    SourceSpan,
};

use crate::render::{Look, tame};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind: `spec::unknown_key`.
    pub code: String,
    /// The path of the key or value; empty for the file as a whole.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Bytes of the marked text; 0 marks a point.
    pub length: usize,
    /// Which of the settings of the command line it is in, from 0; none of the file.
    pub set: Option<usize>,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A pipeline file and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblems {
    /// The file as the user named it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What `--set` says, each as it was given.
    pub sets: Vec<String>,
    /// What is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl FileProblems {
    /// `3 problems in pipeline.yaml`.
    #[must_use]
    pub fn count_text(&self) -> String {
        let count = self.problems.len();
        format!(
            "{count} problem{} in {}",
            if count == 1 { "" } else { "s" },
            self.file
        )
    }

    /// All problems, ending with a line feed.
    #[must_use]
    pub fn render(&self, look: &Look) -> String {
        self.problems
            .iter()
            .map(|problem| {
                if look.is_terminal {
                    self.with_caret(problem, look)
                } else {
                    self.narrated(problem)
                }
            })
            .collect()
    }

    fn narrated(&self, problem: &Problem) -> String {
        let Problem {
            code,
            line,
            column,
            message,
            hint,
            ..
        } = problem;
        let place = match problem.set {
            Some(_) => format!("--set {}", tame(self.source(problem).1)),
            None => format!("{}:{line}:{column}", self.file),
        };
        let hint = hint
            .as_ref()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        format!("{place}: {code}: {}{message}{hint}\n", within(problem))
    }

    fn with_caret(&self, problem: &Problem, look: &Look) -> String {
        let theme = if look.has_color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let (name, source) = self.source(problem);
        let shown = Shown {
            source: NamedSource::new(name, source.to_owned()),
            span: self.span(problem),
            problem,
        };
        let mut text = String::new();
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_width(120)
            .with_context_lines(1);
        if handler.render_report(&mut text, &shown).is_err() {
            return self.narrated(problem);
        }
        text.push('\n');
        text
    }

    /// What the problem is in: its name and its text.
    fn source(&self, problem: &Problem) -> (&str, &str) {
        let set = problem.set.and_then(|set| self.sets.get(set));
        match set {
            Some(set) => ("--set", set),
            None => (&self.file, &self.text),
        }
    }

    /// The marked bytes; a place outside the text, as of a file that changed meanwhile, is none.
    fn span(&self, problem: &Problem) -> Option<SourceSpan> {
        let text = self.source(problem).1;
        let before: usize = text
            .split_inclusive('\n')
            .take(problem.line.checked_sub(1)?)
            .map(str::len)
            .sum();
        let line = text.get(before..)?.lines().next()?;
        let column = problem.column.checked_sub(1)?;
        let within_line = line
            .char_indices()
            .nth(column)
            .map_or(line.len(), |(at, _)| at);
        let start = before + within_line;
        let length = problem.length.min(text.len() - start);
        Some(SourceSpan::new(start.into(), length))
    }
}

fn within(problem: &Problem) -> String {
    if problem.path.is_empty() {
        String::new()
    } else {
        format!("{}: ", problem.path)
    }
}

/// A problem in the form that the renderer takes.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    source: NamedSource<String>,
    span: Option<SourceSpan>,
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", within(self.problem), self.problem.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.problem.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.problem
            .hint
            .as_ref()
            .map(|hint| Box::new(hint) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.span?);
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CliError;

    fn sample() -> FileProblems {
        FileProblems {
            file: "pipeline.yaml".to_owned(),
            text: "version: 1\nname: shop\nsteps:\n  größe:\n    retrys: {max_attempts: 3}\n"
                .to_owned(),
            sets: vec!["steps.größe.limits.tasks=0".to_owned()],
            problems: vec![
                Problem {
                    code: "spec::unknown_key".to_owned(),
                    path: "steps.größe".to_owned(),
                    line: 5,
                    column: 5,
                    length: 6,
                    set: None,
                    message: "unknown key `retrys`".to_owned(),
                    hint: Some("did you mean `retries`?".to_owned()),
                },
                Problem {
                    code: "spec::missing_key".to_owned(),
                    path: String::new(),
                    line: 1,
                    column: 1,
                    length: 0,
                    set: None,
                    message: "`connections` is missing".to_owned(),
                    hint: None,
                },
            ],
        }
    }

    #[test]
    fn through_a_pipe_each_problem_is_one_line_with_its_place() {
        insta::assert_snapshot!(CliError::problems(sample()).render(&Look::plain()), @r"
        pipeline.yaml:5:5: spec::unknown_key: steps.größe: unknown key `retrys` (did you mean `retries`?)
        pipeline.yaml:1:1: spec::missing_key: `connections` is missing
        error: 2 problems in pipeline.yaml
        ");
    }

    #[test]
    fn on_a_terminal_a_problem_shows_its_line_and_a_caret() {
        let look = Look {
            is_terminal: true,
            ..Look::plain()
        };
        insta::assert_snapshot!(CliError::problems(sample()).render(&look), @r"
        spec::unknown_key

          × steps.größe: unknown key `retrys`
           ╭─[pipeline.yaml:5:5]
         4 │   größe:
         5 │     retrys: {max_attempts: 3}
           ·     ───┬──
           ·        ╰── here
           ╰────
          help: did you mean `retries`?

        spec::missing_key

          × `connections` is missing
           ╭─[pipeline.yaml:1:1]
         1 │ version: 1
           · ▲
           · ╰── here
         2 │ name: shop
           ╰────

        error: 2 problems in pipeline.yaml
        ");
    }

    #[test]
    fn a_setting_of_the_command_line_is_named_in_the_place_of_the_file() {
        let mut problems = sample();
        problems.problems = vec![Problem {
            code: "spec::out_of_range".to_owned(),
            path: "steps.größe.limits.tasks".to_owned(),
            line: 1,
            column: 26,
            length: 1,
            set: Some(0),
            message: "0 is too small".to_owned(),
            hint: None,
        }];
        insta::assert_snapshot!(problems.render(&Look::plain()), @r"--set steps.größe.limits.tasks=0: spec::out_of_range: steps.größe.limits.tasks: 0 is too small");
        let look = Look {
            is_terminal: true,
            ..Look::plain()
        };
        insta::assert_snapshot!(problems.render(&look), @r"
        spec::out_of_range

          × steps.größe.limits.tasks: 0 is too small
           ╭─[--set:1:28]
         1 │ steps.größe.limits.tasks=0
           ·                          ┬
           ·                          ╰── here
           ╰────
        ");
    }

    #[test]
    fn a_place_outside_the_file_is_told_without_a_caret() {
        let mut problems = sample();
        problems.problems[0].line = 400;
        let look = Look {
            is_terminal: true,
            ..Look::plain()
        };
        assert!(problems.render(&look).contains("unknown key `retrys`"));
    }
}
