//! Columns that arrive under another name, or as another type.

use std::collections::BTreeMap;

use super::*;
use crate::facts::CastFrom;

/// The facts of a source whose columns are renamed so.
fn renamed(mut facts: StepFacts, names: &[(&str, &str)]) -> StepFacts {
    let names = names
        .iter()
        .map(|(old, new)| ((*old).to_owned(), (*new).to_owned()));
    let names: BTreeMap<String, String> = names.collect();
    facts.source = facts.source.renamed(&names);
    facts
}

/// The facts of a source that casts a column.
fn cast(mut facts: StepFacts, name: &str, to: ColumnFacts) -> StepFacts {
    let columns = facts.source.columns.into_iter().map(|column| {
        if column.name == name {
            to.clone().cast_of(column)
        } else {
            column
        }
    });
    facts.source.columns = columns.collect();
    facts
}

#[test]
fn a_renamed_column_is_its_new_name_everywhere_but_in_the_source() {
    // GIVEN a table whose key and partition column get other names
    let names = [("id", "order_id"), ("created_at", "placed")];
    let facts = renamed(facts(), &names);
    let step = days(None, None);
    // WHEN it is planned
    let plan = plan(&step, &facts);
    // THEN the key is the target's, the cut knows both names, and the rest is as it was
    assert_eq!(plan.load_order.key, ["order_id"]);
    let cut_by = plan.load_order.cut_by.expect("it is cut");
    assert_eq!(cut_by.in_source().0, "created_at");
    assert_eq!(cut_by.in_target().0, "placed");
    let how: Vec<String> = plan
        .load_order
        .columns
        .iter()
        .filter_map(ColumnFacts::how_it_arrives)
        .collect();
    assert_eq!(
        how,
        [
            "column id is written as order_id",
            "column created_at is written as placed"
        ]
    );
    // AND `write.key` speaks the target's names
    let mut keyed = step;
    keyed.write.key = vec!["order_id".to_owned()];
    assert!(plan_load(&pipeline(), &super::name(), &keyed, &facts).is_ok());
    keyed.write.key = vec!["id".to_owned()];
    let problem = refused(&keyed, &facts).remove(0);
    assert_eq!(problem.code, "plan::unknown_key_column");
    assert!(
        problem
            .message
            .contains("there are order_id, placed, total"),
        "{problem}"
    );
}

#[test]
fn names_are_judged_after_the_rename() {
    // GIVEN a target with the new name THEN it fits
    let mut there = existing(renamed(facts(), &[("total", "sum")]));
    target(&mut there).columns[2].name = "sum".to_owned();
    plan(&days(None, None), &there);
    // GIVEN a rename onto a name that another column has, or that is one to the target
    let onto = renamed(facts(), &[("total", "id")]);
    let problem = refused(&days(None, None), &onto).remove(0);
    assert_eq!(problem.code, "plan::column_names_collide");
    assert!(
        problem
            .message
            .contains("columns id and total of public.orders are both to be written as"),
        "{problem}"
    );
    let mut onto = renamed(facts(), &[("total", "ID")]);
    plan(&days(None, None), &onto);
    onto.target.engine = Engine::Sqlite;
    assert_eq!(
        codes(&days(None, None), &onto),
        ["plan::column_names_collide"]
    );
    // THEN two that change places are none
    plan(
        &days(None, None),
        &renamed(facts(), &[("total", "id"), ("id", "total")]),
    );
}

#[test]
fn a_cast_column_is_judged_by_what_it_is_cast_to() {
    let text = || column("total", "text", ColumnKind::Text, false);
    let as_text = |facts| cast(facts, "total", text());
    // GIVEN a target of the source's type THEN a text does not fit it, and the plan says what is cast
    let there = existing(facts());
    plan(&days(None, None), &there);
    let problem = refused(&days(None, None), &as_text(there)).remove(0);
    assert_eq!(problem.code, "plan::type_mismatch");
    let told = "column total is text, cast from numeric(12,2), in public.orders";
    assert!(problem.message.contains(told), "{problem}");
    // AND a target of the cast's type takes it
    let mut there = existing(facts());
    target(&mut there).columns[2] = text();
    let plan = plan(&days(None, None), &as_text(there));
    let arrives = &plan.load_order.columns[2];
    assert_eq!(
        arrives.cast_from(),
        Some(&CastFrom {
            type_name: "numeric(12,2)".to_owned(),
            definition: None
        })
    );
    assert!(arrives.nullable, "as the source's column");
    assert_eq!(
        arrives.how_it_arrives().as_deref(),
        Some("column total is cast from numeric(12,2) to text")
    );
}

#[test]
fn the_column_that_cuts_is_not_cast() {
    let date = column("created_at", "date", ColumnKind::Date, true);
    let facts = cast(facts(), "created_at", date);
    let problem = refused(&days(None, None), &facts).remove(0);
    assert_eq!(problem.code, "plan::cast_partition");
}

#[test]
fn columns_that_are_read_as_they_are_have_no_origin_in_the_plan() {
    let text = serde_json::to_string(&facts()).expect("JSON");
    assert!(!text.contains("origin"), "{text}");
    let plan = plan(&days(None, None), &facts());
    let text = serde_json::to_string(&plan.load_order).expect("JSON");
    assert!(
        !text.contains("origin") && !text.contains("renamed"),
        "{text}"
    );
}
