//! Refuses a transaction that some backend could not take, before any backend sees it: what one
//! store accepts, all do.

use std::collections::HashSet;

use super::{Expect, Op, StoreError, StoreTxn, TXN_BYTES_MAX, TXN_OPERATIONS_MAX};

impl Expect {
    /// The key that is looked at.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Bytes(key, _) => key,
        }
    }

    /// Whether `current`, the value that the key has, is what was expected.
    #[must_use]
    pub fn holds(&self, current: Option<&[u8]>) -> bool {
        match self {
            Self::Absent(_) => current.is_none(),
            Self::Bytes(_, bytes) => current == Some(bytes.as_slice()),
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Absent(key) => key.len(),
            Self::Bytes(key, value) => key.len() + value.len(),
        }
    }
}

impl Op {
    /// The key that is changed.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    /// Bytes of its key and value.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
        }
    }
}

impl StoreTxn {
    /// Bytes of all keys and values, which count towards [`TXN_BYTES_MAX`].
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.expects.iter().map(Expect::size_bytes).sum::<usize>()
            + self.ops.iter().map(Op::size_bytes).sum::<usize>()
    }

    /// Whether any store may be sent this.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] with what is over its limit, or with the key that is empty or
    /// named twice.
    pub fn check(&self) -> Result<(), StoreError> {
        let (expects, ops, bytes) = (self.expects.len(), self.ops.len(), self.size_bytes());
        if expects > TXN_OPERATIONS_MAX {
            return malformed(format!("{expects} compares, at most {TXN_OPERATIONS_MAX}"));
        }
        if ops > TXN_OPERATIONS_MAX {
            return malformed(format!("{ops} operations, at most {TXN_OPERATIONS_MAX}"));
        }
        if bytes > TXN_BYTES_MAX {
            return malformed(format!("{bytes} bytes, at most {TXN_BYTES_MAX}"));
        }
        check_keys("expects", self.expects.iter().map(Expect::key))?;
        check_keys("ops", self.ops.iter().map(Op::key))
    }
}

fn check_keys<'a>(list: &str, keys: impl Iterator<Item = &'a str>) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    for key in keys {
        if key.is_empty() {
            return malformed(format!("an empty key in its {list}"));
        }
        if !seen.insert(key) {
            return malformed(format!("`{key}` stands twice in its {list}"));
        }
    }
    Ok(())
}

fn malformed(reason: String) -> Result<(), StoreError> {
    Err(StoreError::Malformed { reason })
}
