//! What is said of a pair of types.

/// Whether values of one column can be carried into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compat {
    /// Every value keeps its value.
    Carried,
    /// Each value is looked at; this is what some of them could not keep.
    ByValue(&'static str),
    /// Some value would be lost or changed, for this reason.
    Refused(String),
}
