//! The rule by itself. Whether it is right, real servers say: the worker's tests hold it against
//! them.

mod page;

use proptest::prelude::{Strategy, prop, prop_assert_eq, prop_oneof, proptest};

use super::into_postgres::carry;
use super::*;
use crate::facts::ColumnKind;
use crate::type_definition::{TypeDefinition, TypeName};

fn column(engine: Engine, type_name: &str) -> ColumnFacts {
    let definition = TypeDefinition::built_in(type_name);
    ColumnFacts {
        name: "c".to_owned(),
        type_name: type_name.to_owned(),
        kind: match engine {
            Engine::Postgres => kind_of(definition.built_in_name().unwrap_or_default()),
            Engine::Sqlite => match affinity(type_name) {
                Affinity::Integer => ColumnKind::Int64,
                Affinity::Text => ColumnKind::Text,
                Affinity::Real => ColumnKind::Float64,
                Affinity::Blob if !type_name.is_empty() => ColumnKind::Bytes,
                Affinity::Blob | Affinity::Numeric => ColumnKind::Any,
            },
        },
        nullable: true,
        binary_portable: false,
        definition: None,
        origin: None,
    }
}

fn kind_of(name: &str) -> ColumnKind {
    match name {
        "boolean" => ColumnKind::Bool,
        "smallint" => ColumnKind::Int16,
        "integer" => ColumnKind::Int32,
        "bigint" => ColumnKind::Int64,
        "real" => ColumnKind::Float32,
        "double precision" => ColumnKind::Float64,
        "numeric" => ColumnKind::Numeric,
        "text" | "character varying" | "character" | "name" => ColumnKind::Text,
        "bytea" => ColumnKind::Bytes,
        "date" => ColumnKind::Date,
        "time without time zone" | "time with time zone" => ColumnKind::Time,
        "timestamp without time zone" => ColumnKind::Civil,
        "timestamp with time zone" => ColumnKind::Instant,
        "uuid" => ColumnKind::Uuid,
        "json" | "jsonb" => ColumnKind::Json,
        _ => ColumnKind::Other,
    }
}

/// Any built-in type, with any modifiers that a server takes and some that none does; types of a
/// user's own; and what is made of them.
fn any_type() -> impl Strategy<Value = TypeDefinition> {
    let names = [
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "oid",
        "real",
        "double precision",
        "numeric",
        "text",
        "varchar",
        "bpchar",
        "bytea",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "interval",
        "interval year",
        "interval day to minute",
        "\"bit\"",
        "varbit",
        "uuid",
        "json",
        "jsonb",
        "inet",
        "cidr",
        "macaddr",
        "name",
        "xml",
        "\"char\"",
    ];
    let limited = [
        "varchar",
        "bpchar",
        "bit",
        "varbit",
        "time",
        "timestamptz",
        "interval",
    ];
    let built_in = |written: String| TypeDefinition::built_in(&written);
    let labels = prop::collection::btree_set("[a-c]{1,2}", 0..4);
    let scalar = prop_oneof![
        4 => prop::sample::select(names.to_vec()).prop_map(str::to_owned).prop_map(built_in),
        2 => (prop::sample::select(limited.to_vec()), 0_i64..12)
            .prop_map(move |(name, most)| built_in(format!("{name}({most})"))),
        2 => (1_i64..20, -5_i64..20).prop_map(move |(all, behind)| {
            built_in(format!("numeric({all},{behind})"))
        }),
        1 => labels.prop_map(|labels| TypeDefinition::Enum {
            name: TypeName::built_in("mood"),
            labels: labels.into_iter().collect(),
        }),
    ];
    scalar.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|inner| TypeDefinition::Array(Box::new(inner))),
            inner.clone().prop_map(|inner| TypeDefinition::Range {
                name: TypeName::built_in("span"),
                subtype: Box::new(inner),
                rules: String::new(),
                multi: false,
            }),
            prop::collection::vec(inner, 1..3).prop_map(|fields| TypeDefinition::Composite {
                name: TypeName::built_in("pair"),
                fields: (0..).map(|at: u8| format!("f{at}")).zip(fields).collect(),
            }),
        ]
    })
}

/// Whether a pair, or a pair of their parts, is left aside by the rule.
fn is_exception(from: &TypeDefinition, to: &TypeDefinition) -> bool {
    use TypeDefinition as T;
    match (from, to) {
        (T::Composite { fields: from, .. }, T::Composite { fields: to, .. }) => from
            .iter()
            .zip(to)
            .any(|((_, from), (_, to))| is_exception(from, to)),
        (T::Array(from), T::Array(to))
        | (T::Range { subtype: from, .. }, T::Range { subtype: to, .. }) => is_exception(from, to),
        (from, to) => Exception::of(from, to).is_some(),
    }
}

proptest! {
    #[test]
    fn every_type_is_carried_into_itself(one in any_type()) {
        prop_assert_eq!(carry(&one, &one), Ok(()));
        prop_assert_eq!(definition_differs(&one, &one), None);
    }

    #[test]
    fn what_is_carried_on_the_way_is_carried_at_once(pool in prop::collection::vec(any_type(), 12)) {
        let is_ruled = |from, to| !is_exception(from, to);
        for (one, two) in pairs(&pool).filter(|(one, two)| carry(one, two).is_ok()) {
            for three in pool.iter().filter(|three| carry(two, three).is_ok()) {
                if is_ruled(one, two) && is_ruled(two, three) && is_ruled(one, three) {
                    prop_assert_eq!(carry(one, three), Ok(()), "{:?} by {:?} into {:?}", one, two, three);
                }
            }
        }
    }

    #[test]
    fn a_text_without_a_limit_carries_every_type(one in any_type()) {
        prop_assert_eq!(carry(&one, &TypeDefinition::built_in("text")), Ok(()));
    }
}

#[test]
fn an_enumeration_without_labels_is_carried_into_every_text() {
    let moods = |labels: &[&str]| TypeDefinition::Enum {
        name: TypeName::built_in("mood"),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    for text in ["text", "character(1)", "character varying(1)"] {
        let text = TypeDefinition::built_in(text);
        assert_eq!(carry(&moods(&[]), &text), Ok(()));
        assert_eq!(carry(&moods(&["a"]), &text), Ok(()));
    }
    assert!(carry(&moods(&["a"]), &TypeDefinition::built_in("character(2)")).is_err());
    assert!(carry(&moods(&[]), &TypeDefinition::built_in("integer")).is_err());
}

fn pairs(pool: &[TypeDefinition]) -> impl Iterator<Item = (&TypeDefinition, &TypeDefinition)> {
    pool.iter()
        .flat_map(move |one| pool.iter().map(move |two| (one, two)))
}

#[test]
fn a_number_is_carried_only_with_all_of_its_digits() {
    for (from, to, expected) in [
        // a scale below zero rounds whole numbers
        ("smallint", "numeric(5,-2)", false),
        ("smallint", "numeric(7,2)", true),
        ("smallint", "numeric(6,2)", false),
        ("numeric(5,-2)", "numeric(7,0)", true),
        ("numeric(2,5)", "numeric(5,5)", true),
        // whole numbers of few enough digits are floats
        ("numeric(15,0)", "double precision", true),
        ("numeric(16,0)", "double precision", false),
        ("numeric(10,2)", "double precision", false),
        ("numeric(7,0)", "real", true),
        ("numeric(8,0)", "real", false),
        ("numeric(5,0)", "integer", false),
        ("integer", "oid", false),
        ("oid", "integer", false),
        ("oid", "bigint", true),
        ("integer", "real", false),
        ("integer", "double precision", true),
        ("bigint", "double precision", false),
    ] {
        let (from, to) = (column(Engine::Postgres, from), column(Engine::Postgres, to));
        let said = compat(Engine::Postgres, &from, Engine::Postgres, &to);
        let pair = (&from.type_name, &to.type_name);
        assert_eq!(said == Compat::Carried, expected, "{pair:?}: {said:?}");
    }
}
