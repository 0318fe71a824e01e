//! A record beside its bytes.

/// A record with the bytes it has in the store, which a transaction compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored<T> {
    /// The record.
    pub record: T,
    /// Its bytes.
    pub bytes: Vec<u8>,
}
