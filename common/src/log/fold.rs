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
    Truncate,
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
            RowChange::Delete { key } => {
                folding.known.insert(key.clone(), Known::Gone);
            }
            RowChange::Move { from, row } => folding.change_key(from, row),
            RowChange::Truncate => {
                folding.settle();
                folding.steps.push(Step::Truncate);
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
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A table of a key and two more columns.
    type Table = BTreeMap<Field, Vec<Field>>;
    const KEY: &[usize] = &[0];

    fn text(value: u8) -> Field {
        Field::Text(vec![b'0' + value])
    }

    /// Moves a row, as a target does that may lack it or have the new one already.
    fn move_row(table: &mut Table, from: &[Field], row: &[Field]) {
        let Some(was) = table.remove(&from[0]) else {
            return update(table, row);
        };
        table.entry(row[0].clone()).or_insert(was);
        update(table, row);
    }

    fn update(table: &mut Table, row: &[Field]) {
        if let Some(was) = table.get_mut(&row[0]) {
            *was = over(was.clone(), row.to_vec());
        }
    }

    fn apply_one(table: &mut Table, change: &RowChange) {
        match change {
            RowChange::Put(row) if is_whole(row) => {
                table.insert(row[0].clone(), row.clone());
            }
            RowChange::Put(row) => update(table, row),
            RowChange::Delete { key } => {
                table.remove(&key[0]);
            }
            RowChange::Move { from, row } if is_whole(row) => {
                table.remove(&from[0]);
                table.insert(row[0].clone(), row.clone());
            }
            RowChange::Move { from, row } => move_row(table, from, row),
            RowChange::Truncate => table.clear(),
        }
    }

    fn apply_folded(table: &mut Table, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Truncate => table.clear(),
                Step::Move { from, row } => move_row(table, from, row),
                Step::Net(net) => {
                    for key in &net.gone {
                        table.remove(&key[0]);
                    }
                    for Partial { columns, rows } in &net.partial {
                        for row in rows {
                            let mut whole = vec![Field::Unchanged; 3];
                            for (at, field) in columns.iter().zip(row) {
                                whole[*at] = field.clone();
                            }
                            update(table, &whole);
                        }
                    }
                    for row in &net.whole {
                        table.insert(row[0].clone(), row.clone());
                    }
                }
            }
        }
    }

    /// Whether it can have happened to a table, as a server tells it.
    fn is_honest(table: &Table, change: &RowChange) -> bool {
        match change {
            RowChange::Put(row) => is_whole(row) || table.contains_key(&row[0]),
            RowChange::Delete { key } => table.contains_key(&key[0]),
            RowChange::Move { from, row } => {
                from[0] != row[0] && table.contains_key(&from[0]) && !table.contains_key(&row[0])
            }
            RowChange::Truncate => true,
        }
    }

    fn changes() -> impl Strategy<Value = Vec<RowChange>> {
        let key = || (0..4_u8).prop_map(text);
        let value = || {
            prop_oneof![
                2 => (0..9_u8).prop_map(text),
                1 => Just(Field::Null),
                2 => Just(Field::Unchanged)
            ]
        };
        let row = move || (key(), value(), value()).prop_map(|(key, a, b)| vec![key, a, b]);
        let change = prop_oneof![
            8 => row().prop_map(RowChange::Put),
            3 => key().prop_map(|key| RowChange::Delete { key: vec![key] }),
            4 => (key(), row()).prop_map(|(from, row)| RowChange::Move { from: vec![from], row }),
            1 => Just(RowChange::Truncate),
        ];
        vec(change, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_batch_comes_to_what_its_changes_come_to(all in changes(), known in 0..20_usize) {
            // GIVEN changes that can have happened to an empty table
            let (mut one_by_one, mut honest) = (Table::new(), Vec::new());
            for change in all {
                if is_honest(&one_by_one, &change) {
                    apply_one(&mut one_by_one, &change);
                    honest.push(change);
                }
            }
            // WHEN a part of them is applied before, and the rest at once
            let (before, batch) = honest.split_at(known.min(honest.len()));
            let mut folded = Table::new();
            before.iter().for_each(|change| apply_one(&mut folded, change));
            apply_folded(&mut folded, &fold(batch, KEY));
            // THEN the table is the same
            prop_assert_eq!(folded, one_by_one);
        }
    }

    #[test]
    fn a_value_that_is_not_in_the_log_stays() {
        let row = |a, b| vec![text(1), a, b];
        let changes = [
            RowChange::Put(row(text(2), Field::Unchanged)),
            RowChange::Put(row(Field::Unchanged, Field::Null)),
            RowChange::Put(vec![text(2), Field::Unchanged, text(7)]),
        ];
        let net = Net {
            partial: vec![
                Partial {
                    columns: vec![0, 1, 2],
                    rows: vec![row(text(2), Field::Null)],
                },
                Partial {
                    columns: vec![0, 2],
                    rows: vec![vec![text(2), text(7)]],
                },
            ],
            ..Net::default()
        };
        assert_eq!(fold(&changes, KEY), [Step::Net(net)]);
    }
}
