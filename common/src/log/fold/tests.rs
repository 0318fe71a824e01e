use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::log::{Removal, mark_text};

/// A table of a key and two more columns, and of a mark where rows stay that are deleted.
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
        RowChange::Delete { key, .. } => {
            table.remove(&key[0]);
        }
        RowChange::Move { from, row } if is_whole(row) => {
            table.remove(&from[0]);
            table.insert(row[0].clone(), row.clone());
        }
        RowChange::Move { from, row } => move_row(table, from, row),
        RowChange::Truncate { .. } => table.clear(),
    }
}

/// Applies steps; `marks` where the last column of a row says when it was deleted.
fn apply_folded(table: &mut Table, steps: &[Step], marks: bool) {
    let is_dead = |row: &Vec<Field>| row.last() != Some(&Field::Null);
    for step in steps {
        match step {
            Step::Truncate { at } if marks => {
                let living = table.values_mut().filter(|row| !is_dead(row));
                for mark in living.filter_map(|row| row.last_mut()) {
                    *mark = Field::Text(mark_text(*at).into_bytes());
                }
            }
            Step::Truncate { .. } => table.clear(),
            Step::Move { from, row } => {
                // A row that lives takes the place of a dead one.
                let is_taken = table.get(&row[0]).is_some_and(is_dead);
                if marks && is_taken && table.contains_key(&from[0]) {
                    table.remove(&row[0]);
                }
                move_row(table, from, row);
            }
            Step::Net(net) => {
                for key in &net.gone {
                    table.remove(&key[0]);
                }
                for Partial { columns, rows } in &net.partial {
                    for row in rows {
                        let mut whole = vec![Field::Unchanged; 3 + usize::from(marks)];
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
        RowChange::Delete { key, .. } => table.contains_key(&key[0]),
        RowChange::Move { from, row } => {
            from[0] != row[0] && table.contains_key(&from[0]) && !table.contains_key(&row[0])
        }
        RowChange::Truncate { .. } => true,
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
        3 => (key(), 0..9_i64).prop_map(|(key, at)| RowChange::Delete { key: vec![key], at }),
        4 => (key(), row()).prop_map(|(from, row)| RowChange::Move { from: vec![from], row }),
        1 => (0..9_i64).prop_map(|at| RowChange::Truncate { at }),
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
        apply_folded(&mut folded, &fold(batch, KEY), false);
        // THEN the table is the same
        prop_assert_eq!(folded, one_by_one);
    }

    #[test]
    fn rows_that_stay_when_they_are_deleted_say_so_and_can_return(
        all in changes(), known in 0..20_usize,
    ) {
        // GIVEN what happened to a table, and what became of the rows that were deleted
        let (mut alive, mut dead) = (Table::new(), BTreeMap::new());
        let mut honest = Vec::new();
        for change in all {
            if !is_honest(&alive, &change) {
                continue;
            }
            if let RowChange::Delete { at, .. } | RowChange::Truncate { at } = &change {
                let before = alive.clone();
                apply_one(&mut alive, &change);
                let gone = before.into_iter().filter(|(key, _)| !alive.contains_key(key));
                dead.extend(gone.map(|(key, row)| (key, (row, *at))));
            } else {
                apply_one(&mut alive, &change);
                dead.retain(|key, _| !alive.contains_key(key));
            }
            honest.push(change);
        }
        // WHEN it is applied to a target that keeps them, a part of it before
        let (before, batch) = honest.split_at(known.min(honest.len()));
        let mut marked = Table::new();
        apply_marked(&mut marked, before);
        apply_marked(&mut marked, batch);
        // THEN the living rows are as they are, and the others as they were, each with its instant
        let mut wanted = Table::new();
        for (key, mut row) in alive {
            row.push(Field::Null);
            wanted.insert(key, row);
        }
        for (key, (mut row, at)) in dead {
            row.push(Field::Text(mark_text(at).into_bytes()));
            wanted.insert(key, row);
        }
        prop_assert_eq!(marked, wanted);
    }

    #[test]
    fn what_a_copy_has_already_may_be_applied_again(
        all in changes(), begun in 0..20_usize, copied in 0..20_usize, marks in any::<bool>(),
    ) {
        // GIVEN a copy that was made some changes after the log began; keys change with all that
        // their rows have
        let (mut table, mut states, mut honest) = (Table::new(), vec![Table::new()], Vec::new());
        for change in all {
            let is_told = !matches!(&change, RowChange::Move { row, .. } if !is_whole(row));
            if is_told && is_honest(&table, &change) {
                apply_one(&mut table, &change);
                states.push(table.clone());
                honest.push(change);
            }
        }
        let begun = begun.min(honest.len());
        let mut copy = states[begun.max(copied.min(honest.len()))].clone();
        // WHEN all that the log tells is applied to it
        if marks {
            copy.values_mut().for_each(|row| row.push(Field::Null));
            apply_marked(&mut copy, &honest[begun..]);
            copy.retain(|_, row| row.pop() == Some(Field::Null));
        } else {
            apply_folded(&mut copy, &fold(&honest[begun..], KEY), false);
        }
        // THEN the rows that live are the source's
        prop_assert_eq!(copy, table);
    }
}

/// Applies changes to a table that keeps the rows that are deleted.
fn apply_marked(table: &mut Table, changes: &[RowChange]) {
    let meant = changes
        .iter()
        .filter_map(|change| Removal::Mark.of(change.clone(), KEY, 3));
    let meant: Vec<RowChange> = meant.collect();
    apply_folded(table, &fold(&meant, KEY), true);
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
