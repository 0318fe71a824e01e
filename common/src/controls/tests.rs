use super::*;
use crate::spec::parse;

const FILE: &str = "
version: 1
name: shop
connections:
  src: {type: sqlite, path: a.db}
  dst: {type: sqlite, path: b.db}
pools: {reads: {tasks: 3}}
steps:
  a: {strategy: {type: noop, tasks: 2}, pools: [reads]}
  b: {strategy: {type: noop, tasks: 2}}
";

fn spec() -> Spec {
    parse(FILE, &BTreeMap::new()).expect("a file")
}

fn by(reason: &str) -> Hold {
    Hold {
        by: "ann".to_owned(),
        reason: reason.to_owned(),
        since_micros: 7,
    }
}

fn steps(names: &[&str]) -> Scope {
    Scope {
        steps: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..Scope::default()
    }
}

#[test]
fn what_is_paused_says_who_and_why_until_it_is_resumed() {
    let (a, b): (StepName, StepName) = ("a".parse().unwrap(), "b".parse().unwrap());
    let src: ConnectionName = "src".parse().unwrap();
    let none = || std::iter::empty();
    let of_step = Controls::default()
        .after(&Control::Pause(steps(&["a"])), &by("too slow"))
        .unwrap();
    assert_eq!(
        of_step.hold(&a, none()).unwrap(),
        "the step is paused by ann: too slow"
    );
    assert_eq!(of_step.hold(&b, none()), None);
    let connection = Scope {
        connections: BTreeSet::from([src.clone()]),
        ..Scope::default()
    };
    let both = of_step
        .after(&Control::Pause(connection), &by("a backup"))
        .unwrap();
    assert_eq!(
        both.hold(&b, [&src].into_iter()).unwrap(),
        "connection src is paused by ann: a backup"
    );
    assert_eq!(both.hold(&b, none()), None);
    let run = both
        .after(&Control::Pause(Scope::default()), &by("a talk"))
        .unwrap();
    assert!(
        run.hold(&b, none())
            .unwrap()
            .starts_with("the run is paused")
    );
    // WHEN the run is resumed THEN nothing of it is held back any more
    let resumed = run
        .after(&Control::Resume(Scope::default()), &by(""))
        .unwrap();
    assert!(resumed.is_empty());
    // and what is not paused cannot be resumed
    let again = resumed.after(&Control::Resume(steps(&["a"])), &by(""));
    assert_eq!(again.unwrap_err().to_string(), "step a is not paused");
}

#[test]
fn a_limit_holds_until_the_files_own_is_asked_for() {
    let a: StepName = "a".parse().unwrap();
    let set = |tasks, limit| {
        Control::Limit(LimitChange {
            tasks,
            steps: BTreeMap::from([(a.clone(), limit)]),
            ..LimitChange::default()
        })
    };
    let limited = Controls::default()
        .after(&set(Some(Some(5)), Some(2)), &by(""))
        .unwrap();
    assert_eq!(limited.limits.tasks, Some(5));
    assert_eq!(limited.limits.steps[&a], 2);
    let kept = limited.after(&set(None, None), &by("")).unwrap();
    assert_eq!((kept.limits.tasks, kept.limits.steps.len()), (Some(5), 0));
    let back = kept.after(&set(Some(None), None), &by("")).unwrap();
    assert!(back.is_empty());
    let priority = |priority| {
        Control::Limit(LimitChange {
            priority: Some(priority),
            ..LimitChange::default()
        })
    };
    let raised = back.after(&priority(Some(9)), &by("")).unwrap();
    assert_eq!(raised.limits.priority, Some(9));
    assert!(raised.after(&priority(None), &by("")).unwrap().is_empty());
    assert_eq!(priority(Some(9)).about(), "priority 9");
    assert_eq!(priority(Some(9)).check(&spec()), Ok(()));
    let refused = priority(Some(10)).check(&spec()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "10 is no priority: it is 1 to 9, and 9 comes first"
    );
    // and each of them travels as it is
    for control in [
        set(Some(None), None),
        priority(None),
        set(None, Some(4)),
        set(Some(Some(3)), None),
    ] {
        assert_eq!(Control::from_json(&control.to_json()).unwrap(), control);
    }
}

#[test]
fn what_the_file_does_not_know_is_refused_by_name() {
    let told = |control: Control| control.check(&spec()).unwrap_err().to_string();
    assert_eq!(
        told(Control::Pause(steps(&["c"]))),
        "step `c` is not in the file of this run; it has a, b"
    );
    let pool = |name: &str, limit| LimitChange {
        pools: BTreeMap::from([(name.parse().unwrap(), Some(limit))]),
        ..LimitChange::default()
    };
    assert_eq!(
        told(Control::Limit(pool("writes", 2))),
        "pool `writes` is not in the file of this run; it has reads"
    );
    assert!(told(Control::Limit(pool("reads", 0))).contains("highwater pause"));
    assert!(told(Control::Limit(LimitChange::default())).contains("--tasks 8"));
    assert_eq!(Control::Limit(pool("reads", 1)).check(&spec()), Ok(()));
}

#[test]
fn a_long_reason_is_cut_between_two_characters() {
    let long = "ü".repeat(300);
    let held = Controls::default()
        .after(&Control::Pause(Scope::default()), &by(&long))
        .unwrap();
    let kept = held.paused.unwrap().reason;
    assert_eq!(kept, format!("{}…", "ü".repeat(100)));
}
