use std::sync::{Arc, Mutex};

use opentelemetry::KeyValue;

use super::*;

#[test]
fn labels_are_bounded() {
    // GIVEN more pipelines, and more steps, than have series of their own
    let mut names = StepNames::default();
    let mut seen = BTreeSet::new();
    for pipeline in 0..PIPELINES_MAX * 4 {
        for step in 0..20 {
            let (pipeline, step) = (format!("p{pipeline}"), format!("s{step}"));
            let (pipeline, step) = names.labels_of(&pipeline, &step);
            seen.insert((pipeline.to_owned(), step.to_owned()));
        }
    }
    // THEN the labels are as many as may be: the steps, a rest of each pipeline, and one of all
    let pipelines: BTreeSet<&String> = seen.iter().map(|(pipeline, _)| pipeline).collect();
    assert_eq!(pipelines.len(), PIPELINES_MAX + 1);
    let steps = seen.iter().filter(|(_, step)| step != OTHER).count();
    assert_eq!(steps, STEPS_MAX);
    assert!(seen.contains(&(OTHER.to_owned(), OTHER.to_owned())));
    // AND whoever had a series keeps it
    assert_eq!(names.labels_of("p0", "s0"), ("p0", "s0"));
    // WHEN the first pipeline is no more, THEN another one has its place
    assert_eq!(names.labels_of("fresh", "s"), (OTHER, OTHER));
    names.keep(|pipeline, _| pipeline != "p0");
    assert_eq!(names.labels_of("fresh", "s"), ("fresh", "s"));
    // AND groups are bounded alike
    let mut groups = GroupNames::default();
    let groups: BTreeSet<String> = (0..GROUPS_MAX * 3)
        .map(|group| groups.label_of(&format!("g{group}")).to_owned())
        .collect();
    assert_eq!(groups.len(), GROUPS_MAX + 1);
}

#[test]
fn what_is_no_more_is_not_told_any_longer_and_units_are_part_of_the_name() {
    // GIVEN a gauge that is asked when somebody looks, and a histogram with bounds of its own
    let metrics = Metrics::new("1.2.3", &crate::telemetry::Telemetry::default()).expect("set up");
    let names = Arc::new(Mutex::new(vec!["a", "b"]));
    let asked = Arc::clone(&names);
    let _gauge = metrics
        .meter()
        .u64_observable_gauge("tasks")
        .with_callback(move |observer| {
            for name in asked.lock().expect("no panic").iter() {
                observer.observe(7, &[KeyValue::new("step", *name)]);
            }
        })
        .build();
    let histogram = metrics
        .meter()
        .f64_histogram("task_duration")
        .with_unit("s")
        .with_boundaries(vec![0.5, 2.0])
        .build();
    histogram.record(1.0, &[]);
    // WHEN it is read
    let text = metrics.text().expect("readable");
    // THEN everything is there, under Highwater's name
    for line in [
        "highwater_build_info{version=\"1.2.3\"} 1",
        "highwater_tasks{step=\"a\"} 7",
        "highwater_tasks{step=\"b\"} 7",
        "highwater_task_duration_seconds_bucket{le=\"0.5\"} 0",
        "highwater_task_duration_seconds_bucket{le=\"2\"} 1",
        "highwater_task_duration_seconds_count 1",
    ] {
        assert!(text.lines().any(|at| at == line), "{line} in {text}");
    }
    assert!(!text.contains("otel_scope"), "{text}");
    // WHEN one is no more, THEN it is not told with its last value
    names.lock().expect("no panic").remove(0);
    let text = metrics.text().expect("readable");
    assert!(!text.contains("step=\"a\""), "{text}");
    assert!(text.contains("highwater_tasks{step=\"b\"} 7"), "{text}");
}
