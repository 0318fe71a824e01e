//! Files of one step, and databases of many tables.

use proptest::prelude::*;

use super::*;
use crate::spec::{Overlay, Reading, Step, Strategy, read};

const HEAD: &str = "version: 1
name: shop
connections:
  old: {type: postgres, url: \"${env:OLD}\"}
  new: {type: postgres, url: \"${env:NEW}\"}
  file: {type: sqlite, path: shop.db}
defaults: {from: {connection: old}, to: {connection: new}, partition: {by: integer, column: id, width: 1000}, write: {mode: append}}
steps:
";

fn table(text: &str) -> TableName {
    value::table(text).unwrap()
}

fn key(name: &str, of: &str, to: &str) -> ForeignKeyAsFound {
    ForeignKeyAsFound {
        name: name.to_owned(),
        table: table(of),
        references: table(to),
        columns: "customer".to_owned(),
        rest: "id) ON DELETE CASCADE".to_owned(),
    }
}

fn found(tables: &[&str], foreign_keys: Vec<ForeignKeyAsFound>) -> Overlay {
    let tables = tables.iter().map(|text| table(text)).collect();
    let found = TablesFound {
        tables,
        foreign_keys,
    };
    Overlay {
        found: BTreeMap::from([
            ("old".parse().unwrap(), found.clone()),
            ("file".parse().unwrap(), found),
        ]),
        ..Overlay::default()
    }
}

fn reading(steps: &str, overlay: &Overlay) -> Reading {
    let text = format!("{HEAD}{steps}");
    read(&text, overlay).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn names(reading: &Reading) -> Vec<&str> {
    reading.spec.steps.keys().map(StepName::as_str).collect()
}

fn step<'a>(reading: &'a Reading, name: &str) -> &'a Step {
    let mut steps = reading.spec.steps.iter();
    steps.find(|(step, _)| step.as_str() == name).unwrap().1
}

fn refused(steps: &str, overlay: &Overlay) -> String {
    let problems = read(&format!("{HEAD}{steps}"), overlay).unwrap_err();
    let told = problems.iter().map(|one| {
        format!(
            "{} {}: {} ({:?})",
            one.line, one.path, one.message, one.hint
        )
    });
    told.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_step_for_each_table_that_is_meant_reads_and_writes_its_own() {
    // GIVEN a step that stands for the tables of a schema, one of which has a step of its own
    let steps = "  all: {strategy: backfill, tables: {match: public.*, exclude: [\"*.tmp_*\"]}}
  orders: {strategy: full_refresh, from: {table: public.orders}, to: {table: public.orders}}
  items: {enabled: false, strategy: full_refresh, from: {table: public.items}, to: {table: public.items}}
  after: {strategy: sql, depends_on: [all, {step: orders, when: done}], to: {table: kpis}, sql: select 1}
";
    let overlay = found(
        &[
            "public.items",
            "public.orders",
            "public.tmp_1",
            "other.items",
            "public.customers",
        ],
        Vec::new(),
    );
    // WHEN the tables are known THEN each has a step, and who waits for the group waits for each
    let reading = reading(steps, &overlay);
    assert_eq!(
        names(&reading),
        ["after", "all_customers", "all_items", "orders"]
    );
    let Strategy::Backfill(items) = &step(&reading, "all_items").strategy else {
        panic!("{reading:#?}");
    };
    assert_eq!(items.from.relation, table("public.items").into());
    assert_eq!(items.to.table, table("public.items"));
    let waits = step(&reading, "after").depends_on.iter();
    let waits: Vec<&str> = waits.map(|edge| edge.step.as_str()).collect();
    assert_eq!(waits, ["all_customers", "all_items", "orders"]);
    let [group] = reading.groups.as_slice() else {
        panic!("{reading:#?}");
    };
    assert_eq!((group.step.as_str(), group.tables), ("all", Some(2)));
}

#[test]
fn while_nobody_knows_the_tables_it_is_one_step() {
    let steps = "  all: {strategy: backfill, tables: \"public.*\"}\n";
    let reading = reading(steps, &Overlay::default());
    assert_eq!(names(&reading), ["all"]);
    let [group] = reading.groups.as_slice() else {
        panic!("{reading:#?}");
    };
    assert_eq!((group.connection.as_str(), group.tables), ("old", None));
}

#[test]
fn a_list_of_patterns_names_the_schema_in_the_step_and_the_target_may_be_another() {
    let steps = "  all: {strategy: backfill, tables: [\"public.*\", \"crm.*\"], to: {table: \"lake.{source.schema}_{source.table}\"}}\n";
    let overlay = found(
        &["public.items", "crm.items", "crm.\"Odd Name\""],
        Vec::new(),
    );
    let reading = reading(steps, &overlay);
    let names = names(&reading);
    assert_eq!((names[0], names[2]), ("all_crm_items", "all_public_items"));
    assert!(names[1].starts_with("all_crm_odd_name_"), "{names:?}");
    let Strategy::Backfill(odd) = &step(&reading, names[1]).strategy else {
        panic!("{reading:#?}");
    };
    assert_eq!(odd.to.table, table("lake.\"crm_Odd Name\""));
}

#[test]
fn foreign_keys_are_added_once_all_tables_are_there() {
    let keys = vec![
        key("orders_customer", "public.orders", "public.customers"),
        key("o'dd \"key", "public.orders", "public.orders"),
        key("to_another", "public.orders", "crm.leads"),
        key("of_another", "crm.leads", "public.orders"),
        key("braces {x}", "public.orders", "public.customers"),
    ];
    let overlay = found(&["public.orders", "public.customers", "crm.leads"], keys);
    let steps = "  all: {strategy: backfill, tables: public.*, to: {table: \"lake.{source.table}\"}, labels: {disk: fast}}\n";
    let reading = reading(steps, &overlay);
    assert_eq!(
        names(&reading),
        ["all_customers", "all_foreign_keys", "all_orders"]
    );
    let last = step(&reading, "all_foreign_keys");
    assert_eq!(last.depends_on.len(), 2);
    assert_eq!(last.labels.len(), 1);
    let text = reading.spec.to_document()["steps"]["all_foreign_keys"]["sql"].to_string();
    assert!(
        text.contains("references \\\"lake\\\".\\\"customers\\\"(id) ON DELETE CASCADE"),
        "{text}"
    );
    assert!(text.contains("conname = 'o''dd \\\"key'"), "{text}");
    assert!(!text.contains("leads"), "{text}");
    let left_out: Vec<&str> = reading.groups[0]
        .left_out
        .iter()
        .map(|key| key.name.as_str())
        .collect();
    assert_eq!(left_out, ["to_another", "braces {x}"]);
    // nor what would delete rows when a partition is replaced, nor what is of a renamed column
    for other in [
        "  all: {strategy: backfill, tables: public.*, write: {mode: replace_partition}}\n",
        "  all: {strategy: backfill, tables: public.*, from: {columns: {customer: {rename: who}}}}\n",
    ] {
        let reading = super::tests::reading(other, &overlay);
        assert_eq!(names(&reading).len(), 2, "{other}");
        assert_eq!(reading.groups[0].left_out.len(), 4, "{other}");
    }
    // none where they are not wanted, or where tables are loaded again and again
    for other in [
        "  all: {strategy: backfill, tables: {match: public.*, foreign_keys: false}}\n",
        "  all: {strategy: full_refresh, tables: public.*}\n",
    ] {
        assert_eq!(
            names(&super::tests::reading(other, &overlay)).len(),
            2,
            "{other}"
        );
    }
}

#[test]
fn what_is_no_step_for_many_tables_is_told_with_its_place() {
    let overlay = found(&["public.orders"], Vec::new());
    for (steps, told) in [
        (
            "  all: {strategy: backfill, tables: \"pubic.*\"}\n",
            "no table of `old` is meant by `pubic.*`",
        ),
        (
            "  all: {strategy: backfill, tables: \"*\"}\n",
            "names no schema",
        ),
        (
            "  all: {strategy: backfill, tables: \"a.*\", from: {connection: file}}\n",
            "SQLite has none",
        ),
        (
            "  all: {strategy: backfill, tables: public.*, to: {table: lake.all}}\n",
            "would go into one",
        ),
        (
            "  all: {strategy: backfill, tables: public.*, from: {table: public.orders}}\n",
            "so does `table`",
        ),
        (
            "  all: {strategy: {type: noop, tasks: 1}, tables: public.*}\n",
            "`tables` has no meaning",
        ),
        (
            "  all: {strategy: backfill, tables: []}\n",
            "between 1 and 100",
        ),
        ("  all: {strategy: backfill, tables: {}}\n", "needs `match`"),
        (
            "  all: {strategy: backfill, tables: public.*}\n  all_orders: {strategy: backfill, from: {table: crm.x}, to: {table: crm.x}}\n",
            "two steps would be named `all_orders`",
        ),
    ] {
        let all = refused(steps, &overlay);
        assert!(all.contains(told), "{steps}{all}");
    }
}

proptest! {
    /// Two tables never share a step, and each step's name is one.
    #[test]
    fn every_table_has_a_step_of_its_own(
        tables in proptest::collection::btree_set(("[a-c_A-B é]{1,3}", "[a-c_A-B é]{1,70}"), 1..12),
        of_one in any::<bool>(),
    ) {
        let tables: Vec<TableName> = tables
            .into_iter()
            .map(|(schema, name)| TableName { schema: Some(if of_one { "s".to_owned() } else { schema }), name })
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let names: BTreeSet<String> = tables.iter().map(|table| step_name("all", table, of_one)).collect();
        prop_assert_eq!(names.len(), tables.len());
        for name in names {
            prop_assert!(name.parse::<StepName>().is_ok(), "{}", name);
        }
    }
}
