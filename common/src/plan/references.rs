//! What hangs on a table whose rows are all deleted and written again? Asked twice, as
//! [`super::check_table`] is: by the plan and by the prepare task.

use super::reactions::Writing;
use super::table_compat::{Misfit, TableCompat};
use crate::error_code::ErrorCode;
use crate::facts::{ForeignKey, OnDelete};
use crate::spec::{TableName, Triggers, WriteMode};

/// Whether foreign keys that point to a table let it be loaded without a change to the tables that
/// have them. Only a load that deletes rows which come back has to ask: other loads mean their
/// deletes, and a foreign key then does what it was made for.
#[must_use]
pub fn check_references(to: Writing<'_>, found: &[ForeignKey]) -> TableCompat {
    let mut told = TableCompat::default();
    // Without triggers no foreign key acts, of which the warning about triggers tells.
    if to.mode != WriteMode::ReplaceTable || to.triggers == Triggers::Skip {
        return told;
    }
    for key in found {
        let what_happens = match key.on_delete {
            OnDelete::Cascade => "its own would be deleted with them",
            OnDelete::SetNull => "its columns would be NULL from then on",
            OnDelete::SetDefault => "its columns would have their defaults from then on",
            OnDelete::Refuse => "it refuses that",
            OnDelete::RefuseAtCommit => continue,
        };
        let (name, table) = (&key.name, &key.table);
        told.misfits.push(Misfit {
            code: ErrorCode::PlanReferencedTable,
            message: format!(
                "foreign key {name} of {table} points to rows of {}, which are deleted and written \
                 again: {what_happens}",
                to.table
            ),
            help: format!(
                "use `backfill` with `write.mode: merge`, which updates rows where they are, or \
                 make {name} `on delete no action deferrable`"
            ),
        });
    }
    told
}

/// Whether foreign keys that point to a table let rows of it go for good: where they would change rows of other tables,
/// nothing would say that they do.
#[must_use]
pub(crate) fn check_removals(
    table: &TableName,
    triggers: Triggers,
    found: &[ForeignKey],
) -> TableCompat {
    let mut told = TableCompat::default();
    if triggers == Triggers::Skip {
        return told;
    }
    for key in found {
        let (name, of) = (&key.name, &key.table);
        let what_happens = match key.on_delete {
            OnDelete::Cascade => "its own would be deleted with them",
            OnDelete::SetNull => "its columns would be NULL from then on",
            OnDelete::SetDefault => "its columns would have their defaults from then on",
            OnDelete::Refuse | OnDelete::RefuseAtCommit => {
                told.warnings.push(format!(
                    "foreign key {name} of {of} points to rows of {table}: no row goes as long as one that it refers to \
                     would (`constraint_violation`)"
                ));
                continue;
            }
        };
        told.misfits.push(Misfit {
            code: ErrorCode::PlanReferencedTable,
            message: format!(
                "foreign key {name} of {of} points to rows of {table}, which are deleted when the source has them no \
                 more: {what_happens}"
            ),
            help: format!(
                "use `write.deletes: soft`, which marks rows and leaves them, or make {name} `on delete no action`"
            ),
        });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Engine;

    #[test]
    fn only_a_key_that_waits_for_the_commit_lets_rows_go_and_come_back() {
        let table = TableName {
            schema: None,
            name: "rates".to_owned(),
        };
        let told = |mode, triggers, on_delete| {
            let to = Writing {
                engine: Engine::Postgres,
                table: &table,
                mode,
                triggers,
            };
            let key = ForeignKey {
                name: "orders_rate".to_owned(),
                table: "public.orders".to_owned(),
                on_delete,
            };
            check_references(to, &[key])
        };
        for on_delete in [
            OnDelete::Cascade,
            OnDelete::SetNull,
            OnDelete::SetDefault,
            OnDelete::Refuse,
        ] {
            let found = told(WriteMode::ReplaceTable, Triggers::Fire, on_delete);
            let (code, message) = found.refusal().expect("it is refused");
            assert_eq!(code, ErrorCode::PlanReferencedTable);
            for part in ["orders_rate", "public.orders", "rates", "write.mode: merge"] {
                assert!(message.contains(part), "{part} is not in {message}");
            }
            assert_eq!(
                told(WriteMode::ReplaceTable, Triggers::Skip, on_delete),
                TableCompat::default()
            );
            assert_eq!(
                told(WriteMode::ReplacePartition, Triggers::Fire, on_delete),
                TableCompat::default()
            );
        }
        let removed = |triggers, on_delete| {
            let key = ForeignKey {
                name: "orders_rate".to_owned(),
                table: "public.orders".to_owned(),
                on_delete,
            };
            let told = check_removals(&table, triggers, &[key]);
            (told.misfits.len(), told.warnings.len())
        };
        for on_delete in [OnDelete::Cascade, OnDelete::SetNull, OnDelete::SetDefault] {
            assert_eq!(removed(Triggers::Fire, on_delete), (1, 0));
            assert_eq!(removed(Triggers::Skip, on_delete), (0, 0));
        }
        for on_delete in [OnDelete::Refuse, OnDelete::RefuseAtCommit] {
            assert_eq!(removed(Triggers::Fire, on_delete), (0, 1));
        }
        let waits = OnDelete::RefuseAtCommit;
        assert_eq!(
            told(WriteMode::ReplaceTable, Triggers::Fire, waits),
            TableCompat::default()
        );
    }
}
