//! Resolves references to secrets, at the last moment and only here: the one reader of the environment beside configuration.
//! What it returns never leaves the connector that asked for it, and its errors name the reference, never the value.

use std::path::Path;

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::spec::SecretText;

/// The text with every `${env:X}` and `${file:/path}` replaced by what it refers to. `$${` stands for itself.
///
/// # Errors
/// Permanent, naming worker and reference: a variable that is not set, a file that cannot be read.
pub(crate) fn resolve(text: &SecretText, worker: &str) -> Result<String, AttemptError> {
    let refuse = |code: &str, message: String| AttemptError::new(ErrorClass::Permanent, code, message);
    let mut resolved = String::new();
    let mut rest = text.as_written();
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        resolved.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err(refuse("malformed_reference", "a reference begins with `${` and does not end".to_owned()));
        };
        let inside = &reference[2..end];
        let value = match inside.split_once(':') {
            Some(("env", name)) => environment(name).ok_or_else(|| {
                let message = format!(
                    "the variable {name}, which `${{env:{name}}}` refers to, is not set for worker {worker}: set it there and try again"
                );
                refuse("unset_variable", message)
            })?,
            Some(("file", path)) => std::fs::read_to_string(Path::new(path))
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| {
                    let message = format!("worker {worker} cannot read the file {path}, which `${{file:{path}}}` refers to: {error}");
                    refuse("unreadable_secret", message)
                })?,
            Some(_) | None => {
                let message = format!("`${{{inside}}}` is no reference: `${{env:NAME}}` and `${{file:/path}}` are");
                return Err(refuse("malformed_reference", message));
            }
        };
        resolved.push_str(&value);
        rest = &reference[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

#[expect(clippy::disallowed_methods, reason = "the one place that resolves secrets")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_names_worker_and_reference() {
        let error =
            resolve(&SecretText::new("postgres://u:${env:HIGHWATER_NOT_SET}@h/db"), "w-1").expect_err("not set");
        assert_eq!(error.code, "unset_variable");
        assert!(error.message.contains("HIGHWATER_NOT_SET") && error.message.contains("w-1"), "{}", error.message);
    }

    #[test]
    fn references_are_replaced_where_they_stand() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "s3cret\n").expect("written");
        let text = format!("postgres://u:${{file:{}}}@h/db", file.path().display());
        assert_eq!(resolve(&SecretText::new(text), "w-1").expect("resolved"), "postgres://u:s3cret@h/db");
        assert_eq!(resolve(&SecretText::new("plain"), "w-1").expect("resolved"), "plain");
    }
}
