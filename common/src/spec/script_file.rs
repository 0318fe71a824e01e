//! Statements that stand in a file of their own: `sql: {file: kpis.sql}` becomes what the file says.
//! Never opens a file: whoever reads the pipeline says how one is read.

use super::node::{Entry, Node, ScalarKind, Value, join, scalar};
use super::problem::Problems;
use crate::error_code::ErrorCode;

/// The largest file of statements that is read, in bytes.
pub const SCRIPT_BYTES_MAX: u64 = 256 << 10;
/// All files of a pipeline together, in bytes: their text is stored and sent with it.
const ALL_BYTES_MAX: usize = 512 << 10;

/// How the text of a file is read that a pipeline names, by its path as it is written.
pub type ReadFile<'a> = dyn Fn(&str) -> Result<String, FileFault> + 'a;

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Where there is no folder to look into.
pub(super) fn no_files(_: &str) -> Result<String, FileFault> {
    Err(FileFault {
        message: "no file is read here".to_owned(),
        hint: "write the statements themselves".to_owned(),
    })
}

/// Puts the text of each file beside its name, in every step and in `defaults`.
pub(super) fn put_in(file: &mut Node, files: &ReadFile<'_>, problems: &mut Problems) {
    let mut reader = Reader {
        files,
        left: ALL_BYTES_MAX,
        problems,
    };
    let Value::Map(entries) = &mut file.value else {
        return;
    };
    for entry in entries {
        match (entry.key.as_str(), &mut entry.node.value) {
            ("defaults", _) => reader.step(&mut entry.node, "defaults"),
            ("steps", Value::Map(steps)) => {
                for step in steps {
                    reader.step(&mut step.node, &join("steps", &step.key));
                }
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    files: &'a ReadFile<'a>,
    /// Bytes that further files may have.
    left: usize,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn step(&mut self, step: &mut Node, path: &str) {
        let Value::Map(keys) = &mut step.value else {
            return;
        };
        let sql = keys.iter_mut().find(|entry| entry.key == "sql");
        let Some(Value::Map(keys)) = sql.map(|entry| &mut entry.node.value) else {
            return;
        };
        let named = keys.iter().find(|entry| entry.key == "file");
        // Both at once are refused by a rule of the step.
        let Some(named) = named.filter(|_| keys.iter().all(|entry| entry.key != "text")) else {
            return;
        };
        let node = match self.text(&named.node, &join(&join(path, "sql"), "file")) {
            Some(text) => Node::text(text, named.node.location),
            // What is wrong with it is told by the name.
            None => scalar(ScalarKind::Broken, String::new(), named.node.location),
        };
        let text = Entry {
            key: "text".to_owned(),
            location: named.location,
            node,
            is_laid: true,
        };
        keys.push(text);
    }

    /// What the file says; `None` once it is told why that is not known.
    fn text(&mut self, name: &Node, path: &str) -> Option<String> {
        let written = name.as_text().filter(|text| !text.is_empty())?;
        if written.contains("${") {
            let message = "no reference may stand in the name of a file";
            self.problems
                .add(ErrorCode::SpecBadReference, path, name.location, message)
                .hint("let an environment name another file, or --set");
            return None;
        }
        let code = ErrorCode::SpecUnreadableFile;
        let text = match (self.files)(written) {
            Ok(text) => text,
            Err(FileFault { message, hint }) => {
                self.problems
                    .add(code, path, name.location, message)
                    .hint(hint);
                return None;
            }
        };
        match self.left.checked_sub(text.len()) {
            Some(left) => self.left = left,
            None => {
                let message =
                    format!("the files of the steps have more than {ALL_BYTES_MAX} bytes together");
                self.problems
                    .add(code, path, name.location, message)
                    .hint("they are stored with the pipeline: load data as a table");
                return None;
            }
        }
        Some(text)
    }
}

#[cfg(test)]
#[path = "script_file_tests.rs"]
mod tests;
