use super::*;
use crate::spec::parse;

fn spec(steps: &str) -> Spec {
    let text = format!("version: 1\nname: x\nsteps:\n{steps}");
    parse(&text, &BTreeMap::new()).expect("a legal file")
}

/// raw_a and raw_b, then clean, then kpis and report; report also runs where clean has failed.
fn chain() -> Spec {
    let noop = "strategy: {type: noop, tasks: 1}";
    spec(&format!(
        "  raw_a: {{{noop}}}
  raw_b: {{{noop}}}
  clean: {{{noop}, depends_on: [raw_a, raw_b]}}
  kpis: {{{noop}, depends_on: [clean]}}
  report: {{{noop}, depends_on: [{{step: clean, when: done}}, kpis]}}
"
    ))
}

fn chosen(spec: &Spec, texts: &[&str]) -> Result<Spec, SelectionError> {
    let selections: Result<Vec<Selection>, _> = texts.iter().map(|text| text.parse()).collect();
    only(spec, &selections?)
}

/// The steps, each with what it waits for.
fn told(spec: &Spec) -> Vec<String> {
    let step = |(name, step): (&StepName, &crate::spec::Step)| {
        let edges = step.depends_on.iter().map(|edge| match edge.when {
            When::Success => edge.step.to_string(),
            When::Done => format!("{}?", edge.step),
        });
        format!("{name}: {}", edges.collect::<Vec<_>>().join(" "))
    };
    spec.steps.iter().map(step).collect()
}

#[test]
fn the_steps_that_are_meant_keep_the_order_of_the_file() {
    let chain = chain();
    for (texts, expected) in [
        (&["kpis"][..], &["kpis: "][..]),
        (
            &["+kpis"],
            &["clean: raw_a raw_b", "kpis: clean", "raw_a: ", "raw_b: "],
        ),
        (&["kpis+"], &["kpis: ", "report: kpis"]),
        // what lies between is left out, and hands on what it waits for
        (
            &["raw_*", "kpis"],
            &["kpis: raw_a raw_b", "raw_a: ", "raw_b: "],
        ),
        // by way of `clean`, whose end is enough; or by way of `kpis`, which needs it
        (&["raw_a", "report"], &["raw_a: ", "report: raw_a"]),
        (&["clean", "report"], &["clean: ", "report: clean"]),
    ] {
        let only = chosen(&chain, texts).expect("steps");
        assert_eq!(told(&only), expected, "{texts:?}");
    }
    // Nothing said is all, and the pipeline is the same one otherwise.
    assert_eq!(chosen(&chain, &[]), Ok(chain.clone()));
    let all = chosen(&chain, &["*"]).expect("all");
    assert_eq!(all.steps.len(), 5);
    assert_eq!(
        (&all.name, &all.connections),
        (&chain.name, &chain.connections)
    );
}

#[test]
fn an_end_is_handed_on_as_an_end() {
    let noop = "strategy: {type: noop, tasks: 1}";
    let spec = spec(&format!(
        "  a: {{{noop}}}\n  b: {{{noop}, depends_on: [{{step: a, when: done}}]}}\n  c: {{{noop}, depends_on: [b]}}\n"
    ));
    let only = chosen(&spec, &["a", "c"]).expect("steps");
    assert_eq!(told(&only), ["a: ", "c: a?"]);
}

#[test]
fn what_cannot_run_by_itself_is_refused() {
    let chain = chain();
    let refused = |spec: &Spec, texts: &[&str]| chosen(spec, texts).expect_err("no selection");
    assert!(matches!(
        refused(&chain, &["kpi"]),
        SelectionError::NoStep { .. }
    ));
    assert!(matches!(
        refused(&chain, &["kpis", "x*"]),
        SelectionError::NoStep { .. }
    ));
    let stretch = refused(&chain, &["kpis[2024-01]"]);
    assert!(
        matches!(stretch, SelectionError::WholeSteps(_)),
        "{stretch}"
    );
    let long = ["kpis"; 300];
    assert!(matches!(
        refused(&chain, &long),
        SelectionError::TooLong { .. }
    ));
    // GIVEN statements that run for the periods of a load
    let follows = r#"version: 1
name: x
connections: {a: {type: sqlite, path: a.db}, b: {type: sqlite, path: b.db}}
steps:
  orders:
    strategy: {type: backfill, start: 2024-01-01, end: 2024-03-01}
    from: {connection: a, table: orders}
    to: {connection: b, table: orders}
    partition: {by: calendar, column: at, grain: day, tz: UTC}
    write: {mode: replace_partition}
  kpis:
    strategy: sql
    partition: {follow: orders, grain: month}
    to: {connection: b, table: kpis}
    sql: delete from kpis where at >= {partition.start} and at < {partition.end}
"#;
    let follows = parse(follows, &BTreeMap::new()).expect("a legal file");
    // THEN they run beside it, and the message says how both are meant
    let alone = refused(&follows, &["kpis"]);
    assert!(alone.to_string().contains("+kpis"), "{alone}");
    assert_eq!(chosen(&follows, &["+kpis"]).expect("both").steps.len(), 2);
    assert_eq!(chosen(&follows, &["orders"]).expect("one").steps.len(), 1);
}
