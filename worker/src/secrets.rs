//! Resolves references to secrets, at the last moment and only here: the one reader of the environment beside configuration.
//! What it returns never leaves the connector that asked for it, and its errors name the reference, never the value.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::spec::{SecretPart, SecretText, secret_parts};

/// The text with every `${env:X}` and `${file:/path}` replaced by what it refers to.
///
/// # Errors
/// Permanent, naming worker and reference: a variable that is not set, a file that cannot be read.
pub(crate) fn resolve(text: &SecretText, worker: &str) -> Result<String, AttemptError> {
    let refuse = |code: &str, message: String| AttemptError::new(ErrorClass::Permanent, code, message);
    let parts = secret_parts(text.as_written()).map_err(|error| refuse("malformed_reference", error.to_string()))?;
    let mut resolved = String::new();
    for part in parts {
        match part {
            SecretPart::Literal(text) => resolved.push_str(&text),
            SecretPart::Env(name) => resolved.push_str(&environment(&name).ok_or_else(|| {
                let message = format!(
                    "the variable {name}, which `${{env:{name}}}` refers to, is not set for worker {worker}: set it there and try again"
                );
                refuse("unset_variable", message)
            })?),
            SecretPart::File(path) => {
                let content = std::fs::read_to_string(&path).map_err(|error| {
                    let message =
                        format!("worker {worker} cannot read {path}, which `${{file:{path}}}` refers to: {error}");
                    refuse("unreadable_secret", message)
                })?;
                resolved.push_str(content.trim_end_matches(['\n', '\r']));
            }
        }
    }
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
