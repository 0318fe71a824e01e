//! Pipelines that run by themselves, under every fault that a store or another leader can bring.

use std::sync::Arc;
use std::time::Duration;

use highwater_common::id::{PipelineName, RunId};
use highwater_common::record::ScheduleRecord;
use highwater_common::schedule::Why;
use highwater_common::spec::Spec;
use highwater_common::status::RunStatus;

use crate::error::ServiceError;
use crate::fixtures::{Bench, permanent, pipeline, word};
use crate::leader::{NewSchedule, Request, ScheduleAction};
use crate::store::faulty::Fault;
use crate::store::keys::{RecordKey, prefix};
use crate::store::{Op, RecordStore as _, StoreTxn};

/// The first whole hour of simulated time, 46 minutes and 40 seconds after its beginning.
const FIRST_HOUR_MICROS: i64 = 1_700_002_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);
/// From the beginning until shortly after the first whole hour.
const PAST_THE_HOUR: Duration = Duration::from_secs(46 * 60 + 41);

fn shop() -> PipelineName {
    "shop".parse().unwrap()
}

fn hourly(rest: &str) -> Spec {
    let schedule = format!("schedule: {{cron: \"0 * * * *\"{rest}}}");
    pipeline("shop", &schedule, &[("orders", "$load")])
}

fn id_of(hour: i64) -> RunId {
    RunId::of_schedule(&shop(), FIRST_HOUR_MICROS + hour * 3_600_000_000)
}

async fn act(bench: &Bench, action: ScheduleAction) -> Result<Option<(RunId, bool)>, ServiceError> {
    bench
        .handle()
        .ask(|reply| Request::Schedule {
            pipeline: shop(),
            action,
            word: word("so"),
            reply,
        })
        .await
}

async fn set(bench: &Bench, spec: &Spec) {
    let new = || NewSchedule {
        spec: Arc::new(spec.clone()),
        canonical: spec.canonical_json(),
        base_dir: "/data".to_owned(),
    };
    while let Err(error) = act(bench, ScheduleAction::Set(new())).await {
        assert!(
            matches!(
                error,
                ServiceError::BetweenTerms | ServiceError::NotLeader { .. }
            ),
            "{error}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The runs, and their reference times, oldest first.
async fn runs(bench: &Bench) -> Vec<(RunId, i64)> {
    let mut runs = bench
        .look(|leader| {
            let runs = leader.cluster().runs.values();
            let runs = runs.map(|run| (run.id, run.record.reference_time_micros));
            runs.collect::<Vec<_>>()
        })
        .await;
    runs.sort_by_key(|(_, began)| *began);
    runs
}

async fn record(bench: &Bench) -> ScheduleRecord {
    bench
        .look(|leader| leader.cluster().schedules[&shop()].record.clone())
        .await
}

#[tokio::test(start_paused = true)]
async fn an_instant_begins_one_run_whatever_becomes_of_the_store_and_the_leader() {
    let faults: [fn() -> Option<Fault>; 5] = [
        || None,
        || Some(Fault::AppliedAnswerLost),
        || Some(Fault::NeverArrived),
        || Some(Fault::Unreachable),
        || Some(Fault::Rejected),
    ];
    for fault in faults {
        for kills in [false, true] {
            // GIVEN a schedule of every hour
            let mut bench = Bench::new(1);
            set(&bench, &hourly("")).await;
            tokio::time::sleep(PAST_THE_HOUR - Duration::from_secs(6)).await;
            assert_eq!(runs(&bench).await, []);
            // WHEN something happens to the transaction of the instant, and to the leader
            let told = fault().map(|fault| format!("{fault:?}"));
            if let Some(fault) = fault() {
                bench.store.next_that_changes("schedule/", fault);
            }
            if kills {
                bench.new_term().await;
                tokio::time::sleep(Duration::from_secs(5)).await;
                bench.kill().await;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
            // THEN there is one run of it, as of its time
            let expected = [(id_of(0), FIRST_HOUR_MICROS)];
            assert_eq!(runs(&bench).await, expected, "{told:?}, killed: {kills}");
            let (held, loaded) = bench.views().await;
            assert_eq!(held, loaded);
            // and none comes of it later
            bench.new_term().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(runs(&bench).await, expected, "{told:?}, killed: {kills}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_set_back_begins_the_same_run_again() {
    for keeps_run in [false, true] {
        // GIVEN a schedule whose run of an instant is there
        let bench = Bench::new(1);
        set(&bench, &hourly("")).await;
        let before = bench.store.scan("schedule/").await.unwrap();
        tokio::time::sleep(PAST_THE_HOUR).await;
        assert_eq!(runs(&bench).await, [(id_of(0), FIRST_HOUR_MICROS)]);
        // WHEN the records of before are restored, of the run or of the schedule alone
        let restored = before.into_iter();
        let mut ops: Vec<Op> = restored.map(|(key, value)| Op::Put(key, value)).collect();
        if keeps_run {
            // it came to nothing, so it has overtaken nothing
            let mut worker = bench.worker("w1").await;
            let probe = worker.take_one().await;
            worker.complete(&probe, permanent()).await.unwrap();
            assert_eq!(bench.status(id_of(0)).await, RunStatus::Failed);
        } else {
            ops.push(Op::Delete(RecordKey::Run(id_of(0)).render()));
        }
        let expects = Vec::new();
        let txn = StoreTxn { expects, ops };
        bench.memory.commit(txn).await.unwrap();
        bench.new_term().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // THEN the instant has the id it had, so its tasks find their receipts, and runs once
        assert_eq!(runs(&bench).await, [(id_of(0), FIRST_HOUR_MICROS)]);
        let left_out = record(&bench).await.standing.last_left_out;
        let why = left_out.map(|of| of.why);
        assert_eq!(why, keeps_run.then_some(Why::AlreadyRan));
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_run_is_under_way_is_skipped_or_waits() {
    for (overlap, waits) in [("skip", false), ("queue", true)] {
        // GIVEN a run of the first hour that does not end, as no worker is there
        let bench = Bench::new(1);
        set(&bench, &hourly(&format!(", overlap: {overlap}"))).await;
        tokio::time::sleep(PAST_THE_HOUR + 2 * HOUR).await;
        assert_eq!(runs(&bench).await.len(), 1, "{overlap}");
        let standing = record(&bench).await.standing;
        assert_eq!(
            standing.last_left_out.map(|of| of.why),
            Some(Why::Overlapped)
        );
        // WHEN it ends
        let mut worker = bench.worker("w1").await;
        let status = bench.finish(&mut worker, id_of(0)).await;
        assert_eq!(status, RunStatus::Success);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // THEN the latest that waits begins, or nothing before the next hour
        let begun = runs(&bench).await;
        let expected = [(id_of(2), FIRST_HOUR_MICROS + 2 * 3_600_000_000)];
        assert_eq!(&begun[1..], if waits { &expected[..] } else { &[] });
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_is_paused_resumed_triggered_and_taken_away() {
    let bench = Bench::new(1);
    // GIVEN no schedule, THEN nothing can be said of it
    let refused = act(&bench, ScheduleAction::Pause).await;
    assert!(matches!(refused, Err(ServiceError::UnknownSchedule(_))));
    set(&bench, &hourly("")).await;
    let refused = act(&bench, ScheduleAction::Resume).await;
    assert!(matches!(refused, Err(ServiceError::ScheduleNotPaused(_))));
    // WHEN it is paused, also over a change of leaders, THEN nothing begins
    act(&bench, ScheduleAction::Pause).await.unwrap();
    bench.new_term().await;
    tokio::time::sleep(PAST_THE_HOUR + HOUR).await;
    assert_eq!(runs(&bench).await, []);
    let paused = record(&bench).await.paused.unwrap();
    assert_eq!((paused.by.as_str(), paused.reason.as_str()), ("ann", "so"));
    // WHEN it is triggered, THEN a run begins that the pause does not hold back
    let (run, attached) = act(&bench, ScheduleAction::Trigger).await.unwrap().unwrap();
    assert!(!attached);
    let mut worker = bench.worker("w1").await;
    assert_eq!(bench.finish(&mut worker, run).await, RunStatus::Success);
    // WHEN it goes on, THEN with the next hour and without those of the pause
    act(&bench, ScheduleAction::Resume).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(runs(&bench).await.len(), 1);
    tokio::time::sleep(HOUR).await;
    assert_eq!(
        runs(&bench).await[1..],
        [(id_of(2), FIRST_HOUR_MICROS + 2 * 3_600_000_000)]
    );
    // WHEN it is taken away, THEN nothing follows, and its run goes on
    act(&bench, ScheduleAction::Remove).await.unwrap();
    assert!(bench.store.scan("schedule/").await.unwrap().is_empty());
    let mut worker = bench.worker("w2").await;
    assert_eq!(
        bench.finish(&mut worker, id_of(2)).await,
        RunStatus::Success
    );
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(runs(&bench).await.len(), 2);
    // AND all of it is on record
    let audits = bench.store.scan(&prefix::audits()).await.unwrap();
    assert_eq!(audits.len(), 6, "set, pause, trigger, run, resume, rm");
}

#[tokio::test(start_paused = true)]
async fn a_schedule_keeps_its_spec_though_no_run_of_it_is_left() {
    // GIVEN a schedule of a spec that no run executes, WHEN another term looks for what nobody needs
    let bench = Bench::new(1);
    set(&bench, &hourly("")).await;
    bench.new_term().await;
    tokio::time::sleep(PAST_THE_HOUR).await;
    // THEN its runs still have it
    assert_eq!(runs(&bench).await.len(), 1);
    let mut worker = bench.worker("w1").await;
    assert_eq!(
        bench.finish(&mut worker, id_of(0)).await,
        RunStatus::Success
    );
    // AND one that was set anew at other times begins with these
    set(&bench, &hourly(", tz: Asia/Kathmandu")).await;
    tokio::time::sleep(Duration::from_secs(16 * 60)).await;
    let begun = runs(&bench).await;
    let quarter = FIRST_HOUR_MICROS + 15 * 60_000_000;
    assert_eq!(
        begun[1..],
        [(RunId::of_schedule(&shop(), quarter), quarter)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_cannot_be_read_keeps_nobody_from_anything() {
    // GIVEN a damaged record of a schedule
    let bench = Bench::new(1);
    set(&bench, &hourly("")).await;
    let key = RecordKey::Schedule(shop()).render();
    let mut damaged = record(&bench).await;
    damaged.standing.waiting = vec![9, 3];
    let txn = StoreTxn {
        expects: Vec::new(),
        ops: vec![Op::Put(key, {
            use highwater_proto::convert::records::StoredRecord as _;
            damaged.to_bytes()
        })],
    };
    bench.memory.commit(txn).await.unwrap();
    // WHEN a new term reads it, THEN it leads, begins nothing of it, and says why
    bench.new_term().await;
    tokio::time::sleep(PAST_THE_HOUR).await;
    assert_eq!(runs(&bench).await, []);
    let refused = act(&bench, ScheduleAction::Trigger).await;
    assert!(
        matches!(refused, Err(ServiceError::DamagedSchedule { .. })),
        "{refused:?}"
    );
    let refused = act(&bench, ScheduleAction::Pause).await;
    assert!(
        matches!(refused, Err(ServiceError::DamagedSchedule { .. })),
        "{refused:?}"
    );
    // AND setting it again mends it
    set(&bench, &hourly("")).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(runs(&bench).await.len(), 1);
}
