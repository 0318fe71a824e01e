//! What a batch of changes comes to, key by key: so that a row that changed a thousand times is
//! written once.

use std::collections::BTreeMap;

use super::change::{Field, RowChange};

/// One after the other, these do what the changes did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Rows, each under its own key, so that their order means nothing.
    Net(Net),
    /// A row has another key, and takes along the values that the log does not have.
    Move {
        /// The key that it had.
        from: Vec<Field>,
        /// The row since.
        row: Vec<Field>,
    },
    /// All rows go.
    Truncate {
        /// When they were deleted, in microseconds since 1970.
        at: i64,
    },
}

/// What becomes of single rows. No key is there twice, but for one that is written otherwise and
/// the server takes for the same: so rows go first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Net {
    /// Keys of rows that go.
    pub gone: Vec<Vec<Field>>,
    /// Rows of which some values stay as they are, by which.
    pub partial: Vec<Partial>,
    /// Rows that are told of whole.
    pub whole: Vec<Vec<Field>>,
}

/// Rows that have the same columns in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Which columns those are, the key's among them.
    pub columns: Vec<usize>,
    /// Their values.
    pub rows: Vec<Vec<Field>>,
}

/// What the batch knows of a key.
enum Known {
    Gone,
    Partial(Vec<Field>),
    Whole(Vec<Field>),
}

/// What changes come to. `key` says at which places of a row its key stands.
#[must_use]
pub fn fold(changes: &[RowChange], key: &[usize]) -> Vec<Step> {
    let mut folding = Folding {
        key,
        known: BTreeMap::new(),
        steps: Vec::new(),
    };
    for change in changes {
        match change {
            RowChange::Put(row) => folding.put(key_of(row, key), row.clone()),
            RowChange::Delete { key, .. } => {
                folding.known.insert(key.clone(), Known::Gone);
            }
            RowChange::Move { from, row } => folding.change_key(from, row),
            RowChange::Truncate { at } => {
                folding.settle();
                folding.steps.push(Step::Truncate { at: *at });
            }
        }
    }
    folding.settle();
    folding.steps
}

fn key_of(row: &[Field], key: &[usize]) -> Vec<Field> {
    key.iter()
        .map(|at| row.get(*at).cloned().unwrap_or(Field::Null))
        .collect()
}

fn is_whole(row: &[Field]) -> bool {
    row.iter().all(|field| *field != Field::Unchanged)
}

/// The row since, where `row` was before.
fn over(row: Vec<Field>, since: Vec<Field>) -> Vec<Field> {
    let fields = row.into_iter().zip(since);
    let newer = fields.map(|(was, is)| match is {
        Field::Unchanged => was,
        Field::Null | Field::Text(_) => is,
    });
    newer.collect()
}

struct Folding<'a> {
    key: &'a [usize],
    known: BTreeMap<Vec<Field>, Known>,
    steps: Vec<Step>,
}

impl Folding<'_> {
    fn put(&mut self, key: Vec<Field>, row: Vec<Field>) {
        let since = match (is_whole(&row), self.known.remove(&key)) {
            (true, _) => Known::Whole(row),
            (false, Some(Known::Whole(was))) => Known::Whole(over(was, row)),
            (false, Some(Known::Partial(was))) => Known::Partial(over(was, row)),
            (false, None) => Known::Partial(row),
            // No server tells so of a row that it has deleted.
            (false, Some(Known::Gone)) => Known::Gone,
        };
        self.known.insert(key, since);
    }

    fn change_key(&mut self, from: &[Field], row: &[Field]) {
        let to = key_of(row, self.key);
        let whole = match (is_whole(row), self.known.get(from)) {
            (true, _) => row.to_vec(),
            (false, Some(Known::Whole(was))) => over(was.clone(), row.to_vec()),
            (false, Some(Known::Partial(_) | Known::Gone) | None) => {
                self.settle();
                return self.steps.push(Step::Move {
                    from: from.to_vec(),
                    row: row.to_vec(),
                });
            }
        };
        self.known.insert(from.to_vec(), Known::Gone);
        self.known.insert(to, Known::Whole(whole));
    }

    /// What is known so far becomes a step of its own.
    fn settle(&mut self) {
        let mut net = Net::default();
        let mut partial: BTreeMap<Vec<usize>, Vec<Vec<Field>>> = BTreeMap::new();
        for (key, known) in std::mem::take(&mut self.known) {
            match known {
                Known::Gone => net.gone.push(key),
                Known::Whole(row) => net.whole.push(row),
                Known::Partial(row) => {
                    let (columns, row) = row
                        .into_iter()
                        .enumerate()
                        .filter(|(_, field)| *field != Field::Unchanged)
                        .unzip();
                    partial.entry(columns).or_default().push(row);
                }
            }
        }
        let partial = partial
            .into_iter()
            .map(|(columns, rows)| Partial { columns, rows });
        net.partial = partial.collect();
        if net != Net::default() {
            self.steps.push(Step::Net(net));
        }
    }
}

#[cfg(test)]
mod tests;
