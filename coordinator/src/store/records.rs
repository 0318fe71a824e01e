//! The one compare-and-swap loop: read a record, decide, put it if nobody was faster.
//!
//! It is bounded, and it never repeats a transaction whose answer was lost: that one goes back to
//! the caller.

use super::{Expect, Key, Op, RecordStore, StoreError, StoreTxn, TxnOutcome, Value};

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is; nothing is sent.
    Keep,
    /// It gets this value.
    Put(Value),
    /// It goes.
    Delete,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    /// The record was left as it is: this is its value.
    Kept(Option<Value>),
    /// The change is applied: this is the new value.
    Applied(Option<Value>),
    /// The answer was lost. The record has `wanted` now, or has not, or will have it yet; only
    /// reading back tells.
    Unknown {
        /// The value that the change would leave.
        wanted: Option<Value>,
    },
    /// Something that the caller took as given does not hold: the current values of the given keys.
    NotGiven(Vec<(Key, Option<Value>)>),
    /// Others were faster, every time.
    Contended,
}

/// Why an update ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The store did not answer, and nothing was applied.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller's closure would not decide.
    #[error("the record was not changed")]
    Undecided(#[source] E),
}

/// Changes the record at `key` as `decide` says, given that all of `given` holds, trying at most
/// `attempts_max` times. `decide` is run again on the current value after each refusal, so it must
/// be pure. `given` must not name `key`.
///
/// # Errors
/// [`UpdateError`] only when it is certain that nothing was applied.
pub async fn update<E>(
    store: &dyn RecordStore,
    given: &[Expect],
    key: &str,
    attempts_max: u32,
    mut decide: impl FnMut(Option<&[u8]>) -> Result<Decision, E> + Send,
) -> Result<Updated, UpdateError<E>> {
    let mut current = store.get(key).await?;
    for _ in 0..attempts_max {
        let (op, wanted) = match decide(current.as_deref()).map_err(UpdateError::Undecided)? {
            Decision::Keep => return Ok(Updated::Kept(current)),
            Decision::Put(value) => (Op::Put(key.to_owned(), value.clone()), Some(value)),
            Decision::Delete => (Op::Delete(key.to_owned()), None),
        };
        let unchanged = match current.take() {
            Some(value) => Expect::Bytes(key.to_owned(), value),
            None => Expect::Absent(key.to_owned()),
        };
        let expects = given.iter().cloned().chain([unchanged]).collect();
        match store
            .commit(StoreTxn {
                expects,
                ops: vec![op],
            })
            .await?
        {
            TxnOutcome::Applied => return Ok(Updated::Applied(wanted)),
            TxnOutcome::Unknown => return Ok(Updated::Unknown { wanted }),
            TxnOutcome::Refused(mut values) => {
                // The values come in the order of the expects, so the record's own is the last one.
                current = values.pop().and_then(|(_, value)| value);
                let holds = |(expect, (_, value)): (&Expect, &(Key, Option<Value>))| {
                    expect.holds(value.as_deref())
                };
                if !given.iter().zip(&values).all(holds) {
                    return Ok(Updated::NotGiven(values));
                }
            }
        }
    }
    Ok(Updated::Contended)
}

#[cfg(test)]
mod tests;
