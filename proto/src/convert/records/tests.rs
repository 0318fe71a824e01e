//! Records survive their bytes, and no bytes can panic their reader.

use highwater_common::error_code::ErrorCode;
use highwater_common::token::Nonce;
use proptest::prelude::*;

use super::*;
use highwater_common::controls::Hold;
use highwater_common::id::RunId;
use highwater_common::record::{ScheduleRecord, ScheduledRun};
use highwater_common::schedule::{LeftOut, Standing, Why};

/// Reads bytes as every record there is.
fn read_all(bytes: &[u8]) {
    let _ = (
        FormatRecord::from_bytes(bytes),
        LeaderRecord::from_bytes(bytes),
        RunRecord::from_bytes(bytes),
    );
    let _ = (
        StepRecord::from_bytes(bytes),
        LeaseRecord::from_bytes(bytes),
        RetryRecord::from_bytes(bytes),
    );
    let _ = (
        DeadRecord::from_bytes(bytes),
        WorkerRecord::from_bytes(bytes),
    );
    let _ = (
        hi_from_bytes(bytes),
        part_from_bytes(bytes),
        ScheduleRecord::from_bytes(bytes),
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_stored_record_can_panic_its_reader(
        arbitrary in prop::collection::vec(any::<u8>(), 0..200),
        turned in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        read_all(&arbitrary);
        let mut stored = lease().to_bytes();
        for (at, byte) in turned {
            let at = at.index(stored.len());
            stored[at] = byte;
        }
        if let Some(cut) = cut {
            stored.truncate(cut.index(stored.len()));
        }
        read_all(&stored);
        // What is read has bytes again.
        if let Ok(read) = LeaseRecord::from_bytes(&stored) {
            prop_assert_eq!(LeaseRecord::from_bytes(&read.to_bytes()), Ok(read));
        }
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a legal name")
}

fn lease() -> LeaseRecord {
    LeaseRecord {
        address: TaskAddress {
            step: name("orders"),
            generation: 1,
            phase: 1,
            ordinal: 1025,
        },
        attempt: AttemptNo::new(3),
        fence: Fence {
            token: FencingToken::from_raw(77),
            nonce: Nonce::new(9),
        },
        worker: name("host-1.4711"),
        session: SessionId::from_bytes([4; 16]),
        history: TaskHistory {
            crashes: 2,
            crashed_on: [name("a"), name("b")].into(),
            failed_on: [name("c")].into(),
            breaks: 3,
            committed_rows: 500,
        },
    }
}

#[test]
fn records_survive_their_bytes() {
    let lease = lease();
    assert_eq!(
        LeaseRecord::from_bytes(&lease.to_bytes()),
        Ok(lease.clone())
    );
    let retry = RetryRecord {
        address: lease.address.clone(),
        attempts: 2,
        history: lease.history.clone(),
        not_before_millis: 5,
        error: AttemptError::new(
            ErrorClass::Crash,
            ErrorCode::WorkerLost,
            "worker a fell silent",
        )
        .keeping(7),
    };
    assert_eq!(RetryRecord::from_bytes(&retry.to_bytes()), Ok(retry));
    let worker = WorkerRecord {
        session: lease.session,
        slots: 4,
        labels: [
            ("zone".to_owned(), "a".to_owned()),
            ("disk".to_owned(), "fast".to_owned()),
        ]
        .into(),
        version: "0.1.0".to_owned(),
        allow_noop: true,
        cordoned: false,
        capabilities: ["backfill".to_owned(), "sqlite".to_owned()].into(),
    };
    assert_eq!(WorkerRecord::from_bytes(&worker.to_bytes()), Ok(worker));
}

#[test]
fn a_record_of_another_form_is_refused() {
    // GIVEN records of an earlier and of a later version, WHEN they are read, THEN each says what
    // to do
    for (format, advice) in [
        (1, "Begin with an empty store"),
        (3, "upgrade every coordinator first"),
    ] {
        let bytes = pb::Format {
            format,
            cluster: vec![0; 16],
        }
        .encode_to_vec();
        let error = FormatRecord::from_bytes(&bytes)
            .expect_err("another form")
            .to_string();
        assert!(
            error.starts_with(&format!("format: {format}")) && error.contains(advice),
            "{error}"
        );
    }
    assert!(LeaseRecord::from_bytes(&[0xff, 0xff]).is_err());
}

#[test]
fn a_schedule_survives_its_bytes_whatever_it_left_out() {
    let hold = |text: &str| Hold {
        by: "ann".to_owned(),
        reason: text.to_owned(),
        since_micros: 7,
    };
    for why in Why::ALL {
        let record = ScheduleRecord {
            spec_digest: DocumentDigest::from_bytes([7; 32]),
            spec_parts: 2,
            base_dir: "/data".to_owned(),
            set: hold(""),
            paused: Some(hold("the nightly backup")),
            standing: Standing {
                decided_micros: -5,
                waiting: vec![-9, -5],
                last_left_out: Some(LeftOut {
                    instant_micros: -11,
                    why,
                }),
            },
            last_run: Some(ScheduledRun {
                run: RunId::from_bytes([3; 16]),
                instant_micros: -12,
            }),
        };
        assert_eq!(
            ScheduleRecord::from_bytes(&record.to_bytes()),
            Ok(record.clone())
        );
        // what nothing can mean is refused
        let mut unsorted = record;
        unsorted.standing.waiting.reverse();
        assert!(ScheduleRecord::from_bytes(&unsorted.to_bytes()).is_err());
    }
}
