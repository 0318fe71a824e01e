//! Can another table take a table's place with all that hangs on it? What would stay behind, bound
//! to the table that left, is refused by name. Asked twice, as [`super::check_table`] is: of what
//! the probe found, and under the lock of the exchange itself.

use super::table_compat::{Misfit, TableCompat};
use crate::error_code::ErrorCode;
use crate::facts::{Dependant, DependantKind};
use crate::spec::TableName;

/// The most that are refused by name: more are counted.
const NAMED_MAX: usize = 20;

/// Whether an exchange takes what is of this kind along.
#[must_use]
pub const fn goes_along(kind: DependantKind) -> bool {
    match kind {
        DependantKind::Table
        | DependantKind::View
        | DependantKind::Function
        | DependantKind::Trigger
        | DependantKind::Policy
        | DependantKind::Sequence
        | DependantKind::ForeignKey
        | DependantKind::ReferencingKey
        | DependantKind::Statistics
        | DependantKind::Publication => true,
        DependantKind::NotOrdinary
        | DependantKind::Partition
        | DependantKind::Inheritance
        | DependantKind::MaterializedView
        | DependantKind::TemporaryView
        | DependantKind::Rule
        | DependantKind::RowType
        | DependantKind::PartitionedKey
        | DependantKind::Subscription
        | DependantKind::Extension
        | DependantKind::SecurityLabel
        | DependantKind::Other => false,
    }
}

/// Refuses a table that cannot give its place to another one with all that hangs on it.
#[must_use]
pub fn check_dependants(table: &TableName, found: &[Dependant]) -> TableCompat {
    let mut told = TableCompat::default();
    let refused = |one: &&Dependant| !goes_along(one.kind) || one.foreign_owner.is_some();
    let refused: Vec<&Dependant> = found.iter().filter(refused).collect();
    told.misfits = refused
        .iter()
        .take(NAMED_MAX)
        .map(|one| misfit(table, one))
        .collect();
    let more = refused.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        told.misfits.push(Misfit {
            code: ErrorCode::PlanUncarriedDependant,
            message: format!("{more} more things hang on {table} and would not go along"),
            help: IN_PLACE.to_owned(),
        });
    }
    told
}

const IN_PLACE: &str = "replace its rows where they are, by `publish: in_place`";

fn misfit(table: &TableName, one: &Dependant) -> Misfit {
    let (what, name) = (word(one.kind), &one.name);
    let (message, help) = match &one.foreign_owner {
        Some(owner) if goes_along(one.kind) => (
            format!(
                "{what} {name} belongs to {owner}, and only its owner can let it go along when \
                 another table takes the place of {table}"
            ),
            format!("load as a member of {owner}, or {IN_PLACE}"),
        ),
        Some(_) | None => (
            format!(
                "{what} {name} would stay with the old table when another one takes the place of \
                 {table}"
            ),
            format!("drop it for as long as the load takes, or {IN_PLACE}"),
        ),
    };
    Misfit {
        code: ErrorCode::PlanUncarriedDependant,
        message,
        help,
    }
}

const fn word(kind: DependantKind) -> &'static str {
    match kind {
        DependantKind::Table => "table",
        DependantKind::View => "view",
        DependantKind::Function => "function",
        DependantKind::Trigger => "trigger",
        DependantKind::Policy => "policy",
        DependantKind::Sequence => "sequence",
        DependantKind::ForeignKey | DependantKind::ReferencingKey => "foreign key",
        DependantKind::Statistics => "the statistics",
        DependantKind::Publication => "publication",
        DependantKind::NotOrdinary => "what makes it",
        DependantKind::Partition => "its place as a partition of",
        DependantKind::Inheritance => "the inheritance of",
        DependantKind::MaterializedView => "materialized view",
        DependantKind::TemporaryView => "temporary view",
        DependantKind::Rule => "rule",
        DependantKind::RowType => "what is made of the table's row type,",
        DependantKind::PartitionedKey => "the foreign key of a partitioned table,",
        DependantKind::Subscription => "subscription",
        DependantKind::Extension => "extension",
        DependantKind::SecurityLabel => "the security label of",
        DependantKind::Other => "something else:",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [DependantKind; 22] = [
        DependantKind::Table,
        DependantKind::View,
        DependantKind::Function,
        DependantKind::Trigger,
        DependantKind::Policy,
        DependantKind::Sequence,
        DependantKind::ForeignKey,
        DependantKind::ReferencingKey,
        DependantKind::Statistics,
        DependantKind::Publication,
        DependantKind::NotOrdinary,
        DependantKind::Partition,
        DependantKind::Inheritance,
        DependantKind::MaterializedView,
        DependantKind::TemporaryView,
        DependantKind::Rule,
        DependantKind::RowType,
        DependantKind::PartitionedKey,
        DependantKind::Subscription,
        DependantKind::Extension,
        DependantKind::SecurityLabel,
        DependantKind::Other,
    ];

    fn table() -> TableName {
        TableName {
            schema: Some("shop".to_owned()),
            name: "orders".to_owned(),
        }
    }

    fn dependants() -> impl Strategy<Value = Vec<Dependant>> {
        let one = (prop::sample::select(&ALL[..]), 0..1000_u32, any::<bool>());
        let one = one.prop_map(|(kind, name, foreign)| Dependant {
            kind,
            name: format!("shop.d{name}"),
            foreign_owner: foreign.then(|| "boss".to_owned()),
        });
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn just_what_would_stay_behind_is_refused_by_name(found in dependants()) {
            let stays = |one: &&Dependant| !goes_along(one.kind) || one.foreign_owner.is_some();
            let stays: Vec<&Dependant> = found.iter().filter(stays).collect();
            let told = check_dependants(&table(), &found);
            let lines: Vec<&str> = told.misfits.iter().map(|one| one.message.as_str()).collect();
            for (line, one) in lines.iter().zip(&stays).take(NAMED_MAX) {
                prop_assert!(line.contains(&one.name) && line.contains("shop.orders"), "{line}");
            }
            let counted = stays.len() > NAMED_MAX;
            prop_assert_eq!(lines.len(), stays.len().min(NAMED_MAX) + usize::from(counted));
            prop_assert!(told.misfits.iter().all(|one| !one.help.is_empty()));
        }
    }

    #[test]
    fn whose_a_view_is_is_said_and_what_to_do() {
        let view = Dependant {
            kind: DependantKind::View,
            name: "shop.v".to_owned(),
            foreign_owner: Some("boss".to_owned()),
        };
        let told = check_dependants(&table(), &[view]);
        let (code, why) = told.refusal().expect("it is refused");
        assert_eq!(code, ErrorCode::PlanUncarriedDependant);
        assert_eq!(
            why,
            "view shop.v belongs to boss, and only its owner can let it go along when another \
             table takes the place of shop.orders; load as a member of boss, or replace its rows \
             where they are, by `publish: in_place`"
        );
    }
}
