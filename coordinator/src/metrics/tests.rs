use highwater_runtime::metrics::{Metrics, OTHER, PIPELINES_MAX, STEPS_MAX};

use super::*;
use crate::Coordinator;
use crate::options::CoordinatorOptions;
use crate::store::memory::MemoryStore;

/// Counts of so many pipelines of two steps, and so many groups.
fn counts(pipelines: usize, groups: usize) -> Counts {
    let tasks = TaskCounts {
        pending: 1,
        ..TaskCounts::default()
    };
    let mut counts = Counts::default();
    for pipeline in 0..pipelines {
        for step in ["a", "b"] {
            let of = (format!("p{pipeline:04}"), step.to_owned());
            counts.tasks.insert(of, tasks);
        }
    }
    for group in 0..groups {
        let of = GroupCounts {
            ready: 1,
            slots: 4,
            wanted_slots: 8,
            ..GroupCounts::default()
        };
        counts.groups.insert(format!("g{group:02}"), of);
    }
    counts
}

#[tokio::test]
async fn metrics_stay_bounded_with_a_thousand_runs() {
    // GIVEN a leader of a thousand runs of as many pipelines, and thirty groups of workers
    let store = Arc::new(MemoryStore::default());
    let (_coordinator, handle) =
        Coordinator::new(store, CoordinatorOptions::default()).expect("legal options");
    let metrics =
        Metrics::new("0", &highwater_runtime::telemetry::Telemetry::default()).expect("set up");
    drop(observe(&metrics.meter(), &handle));
    let tell = |counts| handle.telling().counts.send_replace(Some(Arc::new(counts)));
    tell(counts(1_000, 30));
    // WHEN it is asked
    let page = metrics.text().expect("readable");
    // THEN as many steps as may be have series of their own, and no task is left out
    let tasks = |page: &str| -> Vec<(String, u64)> {
        let of = |line: &str| {
            let (series, count) = line.strip_prefix("highwater_tasks")?.rsplit_once(' ')?;
            Some((series.to_owned(), count.parse().ok()?))
        };
        page.lines().filter_map(of).collect()
    };
    let told = tasks(&page);
    assert!(
        told.len() <= (STEPS_MAX + PIPELINES_MAX + 1) * 8,
        "{}",
        told.len()
    );
    assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), 2_000);
    let other = format!("pipeline=\"{OTHER}\",state=\"pending\"");
    assert!(
        told.iter()
            .any(|(series, count)| series.contains(&other) && *count == 1_900)
    );
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 5_000, "{series}");
    // AND groups alike, but nobody is told how many workers all others want
    let groups = |name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(groups("highwater_workers{"), 21 * 3);
    assert_eq!(groups("highwater_group_desired_workers{"), 20);
    // WHEN those runs have ended and another one has begun, THEN it has a series of its own
    let mut fresh = counts(0, 1);
    let of = ("fresh".to_owned(), "a".to_owned());
    fresh.tasks.insert(of, TaskCounts::default());
    tell(fresh);
    let told = tasks(&metrics.text().expect("readable"));
    assert_eq!(told.len(), 8);
    assert!(
        told.iter().all(|(series, _)| series.contains("fresh")),
        "{told:?}"
    );
}

#[test]
fn whoever_can_answer_is_ready_and_a_full_store_is_read_all_the_same() {
    let following = |leader: &str| Role::Following {
        leader: leader.to_owned(),
    };
    for ready in [Role::Leading, Role::OutOfSpace, following("10.0.0.7:7070")] {
        assert_eq!(ready_as(&ready), Ok(()), "{ready:?}");
    }
    for waits in [Role::BetweenTerms, following("")] {
        assert!(ready_as(&waits).is_err(), "{waits:?}");
    }
}
