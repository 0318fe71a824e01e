//! The only place that knows protobuf field by field. An error carries the path of the field it
//! met.

mod placed;
pub mod records;
pub mod wire;

/// The field of a record that says its form.
const FORMAT_PATH: &str = "format";

/// Why a message is not the thing it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FieldError {
    path: String,
    problem: String,
}

impl FieldError {
    /// A problem with the field `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// True when the message is whole and of a form that this version does not know: then all of
    /// its writer's are.
    #[must_use]
    pub fn is_of_another_form(&self) -> bool {
        self.path == FORMAT_PATH
    }

    /// The same problem, seen from one message further out.
    #[must_use]
    pub fn under(mut self, field: &str) -> Self {
        self.path = format!("{field}.{}", self.path);
        self
    }
}

/// The value of a field that must be there.
fn required<T>(value: Option<T>, path: &str) -> Result<T, FieldError> {
    value.ok_or_else(|| FieldError::new(path, "missing"))
}

/// The bytes of a field of fixed length.
fn fixed<const N: usize>(bytes: &[u8], path: &str) -> Result<[u8; N], FieldError> {
    bytes
        .try_into()
        .map_err(|_| FieldError::new(path, format!("{} bytes, expected {N}", bytes.len())))
}

/// A field of text that must parse.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
    path: &str,
) -> Result<T, FieldError> {
    text.parse()
        .map_err(|error: T::Err| FieldError::new(path, error.to_string()))
}

/// A field of text that must parse, unless it is empty.
fn parsed_unless_empty<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
    path: &str,
) -> Result<Option<T>, FieldError> {
    if text.is_empty() {
        Ok(None)
    } else {
        parsed(text, path).map(Some)
    }
}
