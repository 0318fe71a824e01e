//! What is kept by moment, against a walk over all records.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;
use highwater_common::record::{TaskAddress, TaskHistory};
use proptest::prelude::*;

use super::*;

fn record(ordinal: u64, not_before_millis: i64, avoids: bool) -> Stored<RetryRecord> {
    let address = TaskAddress {
        step: "a".parse().expect("a name"),
        generation: 1,
        phase: 1,
        ordinal,
    };
    let failed_on = avoids
        .then(|| "w1".parse().expect("a name"))
        .into_iter()
        .collect();
    let history = TaskHistory {
        failed_on,
        ..TaskHistory::default()
    };
    let error = AttemptError::new(
        ErrorClass::Transient,
        ErrorCode::BrokenStream,
        "the connection broke",
    );
    Stored {
        record: RetryRecord {
            address,
            attempts: 1,
            history,
            not_before_millis,
            error,
        },
        bytes: Vec::new(),
    }
}

proptest! {
    #[test]
    fn what_is_kept_by_moment_is_what_a_walk_over_all_records_finds(
        moves in proptest::collection::vec((0_u64..20, any::<bool>(), -3_i64..40, any::<bool>()), 0..120),
        now in -5_i64..40_000,
    ) {
        // GIVEN tasks that begin to wait, wait anew and wait no longer
        let mut retries = Retries::default();
        for (ordinal, comes, moment, avoids) in moves {
            if comes {
                retries.insert(ordinal, record(ordinal, moment * 1_000, avoids));
            } else {
                retries.remove(&ordinal);
            }
        }
        // THEN each question has the answer that asking every record gives
        let records: Vec<(u64, &RetryRecord)> = retries.iter().map(|(ordinal, held)| (*ordinal, &held.record)).collect();
        let mut due: Vec<(i64, u64)> = records.iter().map(|(ordinal, r)| (r.not_before_millis, *ordinal)).collect();
        due.sort_unstable();
        prop_assert_eq!(retries.first_due_millis(), due.first().map(|(moment, _)| *moment));
        let expected: Vec<u64> = due.iter().filter(|(moment, _)| *moment <= now).map(|(_, ordinal)| *ordinal).collect();
        prop_assert_eq!(retries.due(now).collect::<Vec<_>>(), expected);
        let avoids = records.iter().filter_map(|(_, record)| avoids_until(record));
        prop_assert_eq!(retries.any_avoids(now), avoids.clone().any(|until| until > now));
        let moments = due.iter().map(|(moment, _)| *moment).chain(avoids);
        prop_assert_eq!(retries.next_moment(now), moments.filter(|moment| *moment > now).min());
    }
}
