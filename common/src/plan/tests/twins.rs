//! Tables that are made like the source's: what of its definition they get, and when.

use super::*;
use crate::error_code::ErrorCode;
use crate::facts::{
    CastFrom, ColumnDefinition, ColumnOrigin, DefinedPart, Feeds, Generated, OwnedSequence,
    PartKind, TableDefinition, Uncarried,
};
use crate::plan::{carried, is_built_later};
use crate::spec::{Create, FullRefresh, Shrinking, Strategy};
use crate::strategy::PlanContext;

fn part(kind: PartKind, name: &str, reads: &[&str]) -> DefinedPart {
    let reads: Vec<String> = reads.iter().map(|&name| name.to_owned()).collect();
    let is_unique = matches!(kind, PartKind::PrimaryKey | PartKind::UniqueIndex);
    DefinedPart {
        definition: " USING btree (…)".to_owned(),
        unique: if is_unique { reads.clone() } else { Vec::new() },
        leads: reads.first().cloned().filter(|_| kind != PartKind::Check),
        reads,
        ..DefinedPart::new(kind, name)
    }
}

/// The definition of `columns()`, whose total has a default and an index, and feeds another column.
fn definition() -> TableDefinition {
    let named = |name: &str| ColumnDefinition {
        name: name.to_owned(),
        ..ColumnDefinition::default()
    };
    TableDefinition {
        columns: vec![
            ColumnDefinition {
                sequence: Some(OwnedSequence {
                    name: "orders_id_seq".to_owned(),
                    feeds: Feeds::Default,
                    type_name: "bigint".to_owned(),
                    options: "increment by 1".to_owned(),
                }),
                ..named("id")
            },
            named("created_at"),
            ColumnDefinition {
                default: Some("0".to_owned()),
                ..named("total")
            },
            ColumnDefinition {
                generated: Some(Generated {
                    column: column("tax", "numeric", ColumnKind::Numeric, true),
                    expression: "total * 0.19".to_owned(),
                    reads: vec!["total".to_owned()],
                    stored: true,
                }),
                ..named("tax")
            },
        ],
        parts: vec![
            part(PartKind::PrimaryKey, "orders_pkey", &["id"]),
            part(PartKind::Check, "positive", &["total"]),
            part(PartKind::Index, "orders_total", &["total"]),
            part(PartKind::Index, "orders_tax", &["tax"]),
            part(PartKind::UniqueIndex, "orders_both", &["id", "created_at"]),
        ],
        untold: vec!["its triggers: t".to_owned()],
        ..TableDefinition::default()
    }
}

fn defined(facts: StepFacts) -> StepFacts {
    StepFacts {
        source: TableFacts {
            definition: Some(definition()),
            ..facts.source
        },
        ..facts
    }
}

fn written(mode: WriteMode) -> Backfill {
    let mut step = days(None, None);
    step.write.mode = mode;
    step.write.key.clear();
    step
}

fn twin(plan: &LoadPlan) -> &TableDefinition {
    plan.load_order.twin.as_ref().expect("a twin")
}

fn names(twin: &TableDefinition, of: impl Fn(&DefinedPart) -> bool) -> Vec<&str> {
    let parts = twin.parts.iter().filter(|part| of(part));
    parts.map(|part| part.name.as_str()).collect()
}

#[test]
fn what_is_made_of_a_column_that_does_not_arrive_as_it_is_does_not_go_along() {
    let all = [
        "orders_pkey",
        "positive",
        "orders_total",
        "orders_tax",
        "orders_both",
    ];
    let without_total = ["orders_pkey", "orders_both"];
    let kept = |columns: &[ColumnFacts]| {
        let (twin, left) = carried(&definition(), columns);
        let kept = names(&twin, |_| true).join(" ");
        let made: Vec<&str> = twin.columns.iter().map(|one| one.name.as_str()).collect();
        (kept, made.join(" "), left.join("\n"))
    };
    // All of it, when all arrives; what no definition tells of is told.
    let (parts, made, left) = kept(&columns());
    assert_eq!(parts, all.join(" "));
    assert_eq!(made, "id created_at total tax");
    assert_eq!(left, "its triggers: t");
    // Nothing of a column that is excluded, nor what is made of what is made of it.
    let (parts, made, left) = kept(&columns()[..2]);
    assert_eq!(
        (parts, made),
        (without_total.join(" "), "id created_at".to_owned())
    );
    assert_eq!(
        left,
        "its triggers: t\ncolumn tax: it is made of column total, which is not read\ncheck positive: \
         it is made of column total, which is not read\nindex orders_total: it is made of column \
         total, which is not read\nindex orders_tax: it is made of column tax, which is not read"
    );
    // One that is renamed keeps its default under its new name.
    let mut renamed = columns();
    renamed[2] = renamed[2].clone().renamed("sum");
    let (twin, left) = carried(&definition(), &renamed);
    assert_eq!(twin.columns[2].name, "sum");
    assert_eq!(twin.columns[2].default.as_deref(), Some("0"));
    assert_eq!(names(&twin, |_| true), without_total);
    assert!(
        left[1].ends_with("column total, which is written as sum"),
        "{left:?}"
    );
    // One that is cast has another type, of which nothing was said.
    let mut cast = columns();
    cast[2].origin = Some(Box::new(ColumnOrigin {
        name: "total".to_owned(),
        cast: Some(CastFrom {
            type_name: "text".to_owned(),
            definition: None,
        }),
    }));
    let (twin, left) = carried(&definition(), &cast);
    assert_eq!(twin.columns[2].default, None);
    assert!(left.contains(&"the default of column total: the column is cast".to_owned()));
    assert!(
        left.iter()
            .any(|one| one.ends_with("column total, which is cast"))
    );
}

#[test]
fn only_what_a_load_finds_rows_by_is_made_before_them() {
    let early = |mode| {
        let plan = plan(&written(mode), &defined(facts()));
        let early: Vec<String> = names(twin(&plan), |part| part.is_early)
            .into_iter()
            .map(str::to_owned)
            .collect();
        (early.join(" "), plan.warnings.join("\n"))
    };
    assert_eq!(early(WriteMode::Append).0, "positive");
    assert_eq!(early(WriteMode::Merge).0, "orders_pkey positive");
    // No index of the source leads with the column, and one is added.
    let (made, told) = early(WriteMode::ReplacePartition);
    assert_eq!(made, "positive orders_copy_created_at_idx");
    assert!(told.contains("gets an index on created_at"), "{told}");
    let mut facts = defined(facts());
    let own = part(PartKind::Index, "by_time", &["created_at"]);
    facts
        .source
        .definition
        .as_mut()
        .expect("one")
        .parts
        .push(own);
    let plan = plan(&written(WriteMode::ReplacePartition), &facts);
    assert_eq!(
        names(twin(&plan), |part| part.is_early),
        ["positive", "by_time"]
    );
}

#[test]
fn a_declared_key_is_made_where_the_source_has_none_of_its_columns() {
    let key = |name: &str| {
        let mut step = written(WriteMode::Merge);
        step.write.key = name.split(' ').map(str::to_owned).collect();
        let plan = plan(&step, &defined(facts()));
        names(twin(&plan), |part| {
            part.is_early && part.kind != PartKind::Check
        })
        .join(" ")
    };
    assert_eq!(key("id"), "orders_pkey");
}

#[test]
fn what_the_target_cannot_make_is_told_and_left_out() {
    let mut facts = defined(facts());
    let refused = |what: &str| Uncarried {
        what: what.to_owned(),
        reason: "no such function".to_owned(),
    };
    facts.target.uncarried = vec![
        refused("the default of column total"),
        refused("index orders_both"),
    ];
    let plan = plan(&written(WriteMode::Append), &facts);
    assert_eq!(twin(&plan).columns[2].default, None);
    assert!(!names(twin(&plan), |_| true).contains(&"orders_both"));
    let told = "does not get of public.orders the default of column total: no such function";
    assert!(
        plan.warnings.iter().any(|one| one.ends_with(told)),
        "{:?}",
        plan.warnings
    );
    facts.target.uncarried = vec![refused("")];
    assert_eq!(
        codes(&written(WriteMode::Append), &facts),
        [ErrorCode::PlanCreateSource.as_str()]
    );
}

#[test]
fn a_table_that_is_made_is_built_behind_its_rows_until_it_is_finished() {
    let of = PlanContext {
        pipeline: &pipeline(),
        step: &name(),
        followed: None,
    };
    let kinds = |step: Backfill, facts: &StepFacts| {
        let plan = Strategy::Backfill(Box::new(step))
            .load()
            .plan(&of, Some(facts));
        let phases = plan.expect("a plan").phases;
        phases.iter().map(|one| one.kind).collect::<Vec<_>>()
    };
    use PhaseKind::{Build, Close, Count, Load, Prepare, Publish};
    let (built, plain) = (
        [Prepare, Load, Count, Build, Close],
        [Prepare, Load, Count, Close],
    );
    let append = || written(WriteMode::Append);
    assert_eq!(kinds(append(), &defined(facts())), built);
    assert_eq!(kinds(append(), &facts()), plain);
    let mut by_columns = append();
    by_columns.to.create = Some(Create::Columns);
    assert_eq!(kinds(by_columns, &defined(facts())), plain);
    // A table that is there is nobody's to build, unless an earlier run has left it unfinished.
    let mut there = existing(defined(facts()));
    assert_eq!(kinds(append(), &there), plain);
    target(&mut there).unfinished = true;
    assert_eq!(kinds(append(), &there), built);
    // Rows that are published at one instant are there before anything is built.
    let Backfill {
        from, to, write, ..
    } = written(WriteMode::ReplaceTable);
    let refresh = Strategy::FullRefresh(Box::new(FullRefresh {
        from,
        to,
        write,
        shrinking: Shrinking::default(),
    }));
    let plan = refresh
        .load()
        .plan(&of, Some(&defined(facts())))
        .expect("a plan");
    let kinds: Vec<_> = plan.phases.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Prepare, Publish, Build, Close]);
}

#[test]
fn a_definition_means_nothing_to_another_kind_of_database() {
    let mut facts = defined(facts());
    facts.target.engine = Engine::Sqlite;
    let step = written(WriteMode::Append);
    assert_eq!(plan(&step, &facts).load_order.twin, None);
    let mut asked = step;
    asked.to.create = Some(Create::Source);
    assert!(codes(&asked, &facts).contains(&ErrorCode::PlanCreateSource.as_str()));
}

#[test]
fn a_table_of_nothing_but_columns_is_finished_when_it_is_made() {
    let mut bare = definition();
    bare.parts.clear();
    bare.columns[0].sequence = None;
    assert!(!is_built_later(&bare));
    bare.comment = Some("orders".to_owned());
    assert!(is_built_later(&bare));
}

#[test]
fn what_is_made_of_a_text_is_made_of_all_of_it_or_of_columns_alone() {
    let mut facts = facts();
    (facts.source.engine, facts.target.engine) = (Engine::Sqlite, Engine::Sqlite);
    let mut text = TableDefinition {
        body: Some("(id, created_at, total) strict".to_owned()),
        parts: vec![part(PartKind::Index, "by_time", &["created_at"])],
        ..definition()
    };
    text.columns[0].sequence = None;
    facts.source.definition = Some(text);
    let step = written(WriteMode::ReplacePartition);
    let settled = plan(&step, &facts);
    assert_eq!(names(twin(&settled), |part| part.is_early), ["by_time"]);
    assert!(!is_built_later(twin(&settled)));
    // A key of one's own is an index of it.
    let mut merged = written(WriteMode::Merge);
    merged.write.key = vec!["id".to_owned()];
    facts.source.key.clear();
    let settled = plan(&merged, &facts);
    assert_eq!(
        names(twin(&settled), |part| part.is_early),
        ["by_time", "orders_copy_id_key"]
    );
    // A text cannot be taken in part.
    facts.source.columns.pop();
    let settled = plan(&step, &facts);
    assert_eq!(settled.load_order.twin, None);
    let told = "more than its columns and its key: it is made of column total, which is not read";
    assert!(
        settled.warnings.iter().any(|one| one.ends_with(told)),
        "{:?}",
        settled.warnings
    );
}
