//! Shows what is wrong with a pipeline file: with the line and a caret on a terminal, as one
//! greppable line each otherwise.

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
    SourceSpan,
};

use crate::render::Look;

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
        let hint = hint
            .as_ref()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        format!(
            "{}:{line}:{column}: {code}: {}{message}{hint}\n",
            self.file,
            within(problem)
        )
    }

    fn with_caret(&self, problem: &Problem, look: &Look) -> String {
        let theme = if look.has_color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let shown = Shown {
            source: NamedSource::new(&self.file, self.text.clone()),
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

    /// The marked bytes; a place outside the text, as of a file that changed meanwhile, is none.
    fn span(&self, problem: &Problem) -> Option<SourceSpan> {
        let before: usize = self
            .text
            .split_inclusive('\n')
            .take(problem.line.checked_sub(1)?)
            .map(str::len)
            .sum();
        let line = self.text.get(before..)?.lines().next()?;
        let column = problem.column.checked_sub(1)?;
        let within_line = line
            .char_indices()
            .nth(column)
            .map_or(line.len(), |(at, _)| at);
        let start = before + within_line;
        let length = problem.length.min(self.text.len() - start);
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
            problems: vec![
                Problem {
                    code: "spec::unknown_key".to_owned(),
                    path: "steps.größe".to_owned(),
                    line: 5,
                    column: 5,
                    length: 6,
                    message: "unknown key `retrys`".to_owned(),
                    hint: Some("did you mean `retries`?".to_owned()),
                },
                Problem {
                    code: "spec::missing_key".to_owned(),
                    path: String::new(),
                    line: 1,
                    column: 1,
                    length: 0,
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
