//! Reads a store as a new leader would, and changes nothing: whether this version can lead it.

use std::fmt;

use highwater_common::id::ClusterId;

use crate::leader::{LoadError, load};
use crate::store::RecordStore;

/// What a store was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSurvey {
    /// Runs that can be read.
    pub runs: usize,
    /// Those of which something cannot, and why. A leader leads on, and they fail.
    pub damaged: Vec<String>,
}

impl fmt::Display for StoreSurvey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.runs, self.damaged.len()) {
            (0, 0) => write!(f, "it holds no run"),
            (runs, 0) => write!(f, "all of its {runs} runs can be read"),
            (runs, damaged) => {
                write!(f, "{runs} of its runs can be read, and {damaged} cannot")
            }
        }
    }
}

/// Looks at everything that a store holds.
///
/// # Errors
/// [`LoadError`] when the store does not answer, or when this version could not lead it.
pub async fn survey(store: &dyn RecordStore) -> Result<StoreSurvey, LoadError> {
    let loaded = load(store, ClusterId::from_bytes([0; 16])).await?;
    let runs = loaded.cluster.runs.values();
    let damaged: Vec<String> = runs
        .filter_map(|run| Some(format!("run {}: {}", run.id, run.damage.as_ref()?)))
        .collect();
    Ok(StoreSurvey {
        runs: loaded.cluster.runs.len().saturating_sub(damaged.len()),
        damaged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Bench, one_load};
    use crate::store::{Op, StoreTxn, TxnOutcome};

    async fn put(bench: &Bench, key: &str, value: Vec<u8>) {
        let txn = StoreTxn {
            expects: Vec::new(),
            ops: vec![Op::Put(key.to_owned(), value)],
        };
        let put = bench.store.commit(txn).await;
        assert!(matches!(put, Ok(TxnOutcome::Applied)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_is_looked_at_and_left_as_it_is() {
        // GIVEN a store with a run under way
        let bench = Bench::new(2);
        let mut worker = bench.worker("w1").await;
        bench.submit(&one_load()).await;
        bench.prepared(&mut worker).await;
        let before = bench.store.scan("").await.unwrap();
        // WHEN it is looked at, THEN its runs are counted, and nothing of it is another
        let found = survey(&bench.store).await.unwrap();
        assert!(found.runs > 0 && found.damaged.is_empty(), "{found:?}");
        assert_eq!(bench.store.scan("").await.unwrap(), before);
        // WHEN the spec of its runs cannot be read
        let specs = bench.store.scan("pipeline/").await.unwrap();
        for (key, mut value) in specs {
            value.truncate(value.len() - 1);
            put(&bench, &key, value).await;
        }
        // THEN they are told, and the store can be led all the same
        let damaged = survey(&bench.store).await.unwrap();
        assert_eq!((damaged.runs, damaged.damaged.len()), (0, found.runs));
        // WHEN its form is another version's
        let key = "fmt";
        let formats = bench.store.scan("fmt").await.unwrap();
        assert!(formats.iter().any(|(known, _)| known == key), "{formats:?}");
        put(&bench, key, vec![0x08, 0x63]).await; // form 99
        // THEN it is refused
        let refused = survey(&bench.store).await.unwrap_err();
        assert!(matches!(refused, LoadError::Record { .. }), "{refused:?}");
    }
}
