//! docs/types.md shows the rule: its tables are made here, of what the rule says of each pair.

use std::collections::BTreeMap;

use super::*;
use crate::plan::type_compat::values::{ANY_LENGTH, NO_RULE, Values};
use crate::tests::made_page::shows;

const POSTGRES: [&str; 37] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "oid",
    "real",
    "double precision",
    "numeric",
    "numeric(12,2)",
    "numeric(10,2)",
    "numeric(5,0)",
    "text",
    "varchar(20)",
    "char(3)",
    "name",
    "bytea",
    "date",
    "time",
    "time(0)",
    "timetz",
    "timestamp",
    "timestamp(3)",
    "timestamptz",
    "interval",
    "interval(3)",
    "interval year to month",
    "bit(5)",
    "bit varying",
    "bit varying(5)",
    "uuid",
    "json",
    "jsonb",
    "inet",
    "cidr",
    "integer[]",
    "bigint[]",
    "macaddr",
];
/// Of those, and of limited ones, what is shown of SQLite's values.
const TARGETS_OF_SQLITE: [&str; 21] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "numeric(12,2)",
    "text",
    "varchar(20)",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "json",
    "interval",
    "interval(0)",
    "integer[]",
    "numeric(5,0)[]",
];
/// A declared type of each affinity, and none.
const SQLITE: [(&str, &str); 6] = [
    ("", "no type"),
    ("blob", "`BLOB`"),
    ("integer", "`INTEGER`"),
    ("numeric", "`NUMERIC`"),
    ("real", "`REAL`"),
    ("text", "`TEXT`"),
];

/// One side: an engine, and its types by how they are shown.
type Side = (Engine, Vec<(String, ColumnFacts)>);

fn postgres(types: &[&str]) -> Side {
    let shown = |name: &&str| ((*name).to_owned(), column(Engine::Postgres, name));
    (Engine::Postgres, types.iter().map(shown).collect())
}

fn sqlite() -> Side {
    let shown = |(name, shown): &(&str, &str)| ((*shown).to_owned(), column(Engine::Sqlite, name));
    (Engine::Sqlite, SQLITE.iter().map(shown).collect())
}

/// What the rule says of each pair.
type Verdicts = Vec<(String, Vec<(String, Compat)>)>;

fn verdicts((source, from): &Side, (target, to): &Side) -> Verdicts {
    let of = |(name, one): &(String, ColumnFacts)| {
        let into = to.iter().map(|(other, two)| {
            let verdict = compat(*source, one, *target, two);
            (other.clone(), verdict)
        });
        (name.clone(), into.collect())
    };
    from.iter().map(of).collect()
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn head(cells: &[&str]) -> String {
    format!(
        "| {} |\n{}|\n",
        cells.join(" | "),
        "|---".repeat(cells.len())
    )
}

/// A row for each source, with the targets that carry it.
fn carried(verdicts: &Verdicts) -> String {
    let mut rows = String::new();
    for (name, into) in verdicts {
        let carried = into
            .iter()
            .filter(|(other, verdict)| other != name && !matches!(verdict, Compat::Refused(_)));
        let carried: Vec<&str> = carried.map(|(other, _)| other.as_str()).collect();
        if !carried.is_empty() {
            rows += &row(&[name.clone(), carried.join(", ")]);
        }
    }
    format!("{}{rows}", head(&["from", "is carried into"]))
}

/// A column for each target; sources that fare alike have one row.
fn matrix(verdicts: &Verdicts, (_, to): &Side) -> String {
    let mut rows: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for (name, into) in verdicts {
        let cells: Vec<String> = into
            .iter()
            .map(|(_, verdict)| word(verdict).to_owned())
            .collect();
        match rows.iter_mut().find(|(_, others)| *others == cells) {
            Some((names, _)) => names.push(name),
            None => rows.push((vec![name], cells)),
        }
    }
    let targets = to.iter().map(|(name, _)| name.as_str());
    let mut table = head(
        &["from, into"]
            .into_iter()
            .chain(targets)
            .collect::<Vec<_>>(),
    );
    for (names, cells) in rows {
        table += &row(&[vec![names.join(", ")], cells].concat());
    }
    table
}

fn word(verdict: &Compat) -> &'static str {
    match verdict {
        Compat::Carried => "carried",
        Compat::ByValue(_) => "by value",
        Compat::Refused(_) => "refused",
    }
}

/// Why a pair is not carried, or not each value of it, where more is known than that no rule is.
/// Sources that fare alike are named together.
fn reasons(verdicts: &Verdicts) -> String {
    let mut reasons: BTreeMap<_, BTreeMap<Vec<&str>, Vec<&str>>> = BTreeMap::new();
    for (name, into) in verdicts {
        let mut whys: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for (other, verdict) in into {
            let why = match verdict {
                Compat::Refused(why) if why != NO_RULE => why.clone(),
                Compat::ByValue(what) => format!("{what} fails by its column"),
                Compat::Refused(_) | Compat::Carried => continue,
            };
            whys.entry((word(verdict), why)).or_default().push(other);
        }
        for (why, others) in whys {
            reasons
                .entry(why)
                .or_default()
                .entry(others)
                .or_default()
                .push(name);
        }
    }
    let mut table = head(&["", "why", "from → into"]);
    for ((word, why), pairs) in reasons {
        // Exceptions have a table of their own.
        if EXCEPTIONS.iter().all(|exception| exception.why != why) {
            let pairs = pairs
                .iter()
                .map(|(into, from)| from.join(", ") + " → " + &into.join(", "));
            let pairs = pairs.collect::<Vec<_>>().join("; ");
            table += &row(&[word.to_owned(), why, pairs]);
        }
    }
    table
}

/// How long the texts of the types are that are no texts themselves.
fn letters() -> String {
    let mut table = head(&["from", "letters"]);
    for name in POSTGRES {
        let definition = TypeDefinition::built_in(name);
        let letters = Values::from(&definition).letters();
        if letters != ANY_LENGTH {
            let (least, most) = letters.into_inner();
            let shown = if least == most {
                format!("{most}")
            } else {
                format!("{least} to {most}")
            };
            table += &row(&[name.to_owned(), shown]);
        }
    }
    table
}

fn exceptions() -> String {
    let mut table = head(&["from", "into", "", "why"]);
    for Exception {
        from,
        to,
        is_carried,
        why,
    } in EXCEPTIONS
    {
        let from = if from.is_empty() {
            "any".to_owned()
        } else {
            from.join(", ")
        };
        let verdict = if is_carried { "carried" } else { "refused" };
        table += &row(&[from, to.join(", "), verdict.to_owned(), why.to_owned()]);
    }
    table
}

/// The tables by the names that they have on the page.
fn tables() -> [(&'static str, String); 6] {
    let is_text = |name: &&str| {
        let definition = TypeDefinition::built_in(name);
        matches!(Values::from(&definition), Values::Text(_))
    };
    let types: Vec<&str> = POSTGRES.into_iter().filter(|name| !is_text(name)).collect();
    let (all, typed, untyped) = (postgres(&POSTGRES), postgres(&types), sqlite());
    let both = |verdicts: &Verdicts, shown: String| format!("{shown}\n{}", reasons(verdicts));
    let within = verdicts(&typed, &typed);
    let into_sqlite = verdicts(&all, &untyped);
    let of_sqlite = verdicts(&untyped, &untyped);
    let into_postgres = verdicts(&untyped, &postgres(&TARGETS_OF_SQLITE));
    [
        (
            "PostgreSQL into PostgreSQL",
            both(&within, carried(&within)),
        ),
        ("letters", letters()),
        ("exceptions", exceptions()),
        (
            "PostgreSQL into SQLite",
            both(&into_sqlite, matrix(&into_sqlite, &untyped)),
        ),
        (
            "SQLite into SQLite",
            both(&of_sqlite, matrix(&of_sqlite, &untyped)),
        ),
        (
            "SQLite into PostgreSQL",
            both(&into_postgres, carried(&into_postgres)),
        ),
    ]
}

#[test]
fn the_page_of_types_shows_the_rule() {
    shows("types.md", tables());
}
