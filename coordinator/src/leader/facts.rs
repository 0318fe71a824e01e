//! A probe's facts as records: a head that says how many parts there are, and the parts.
//!
//! A table of two thousand columns has more facts than one transaction holds. Their parts are then
//! put before the transaction that completes the probe, and the head with it: parts without a head
//! are of a probe that never ended, and mean nothing. Other facts of the step get other numbers, so
//! that a probe that never ends leaves those of an earlier one as they are.

use std::collections::BTreeMap;

use highwater_common::facts::StepFacts;
use highwater_common::id::{DocumentDigest, RunId, StepName};
use highwater_common::record::RECORD_BYTES_MAX;
use highwater_proto::convert::records::document_to_parts;
use serde::{Deserialize, Serialize};

use crate::store::keys::RecordKey;
use crate::store::{Key, Value};

/// Facts of at most so many parts are put with the transaction that completes their probe.
pub(super) const PARTS_AT_ONCE_MAX: usize = 8;

/// Numbers that the parts of one document take at the most.
const PARTS_MAX: u32 = 1_024;

/// What part 0 says of the others.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    first: u32,
    parts: u32,
    digest: DocumentDigest,
}

/// Facts on their way into the store.
pub(super) struct FactsRecords {
    /// Makes the parts count.
    pub(super) head: (Key, Value),
    /// The document in pieces.
    pub(super) parts: Vec<(Key, Value)>,
}

/// The records that hold a step's facts.
pub(super) fn to_records(run: RunId, step: &StepName, json: &[u8]) -> FactsRecords {
    let key = |part| {
        RecordKey::Facts {
            run,
            step: step.clone(),
            part,
        }
        .render()
    };
    let digest = DocumentDigest::of(json);
    let [high, low, ..] = digest.as_bytes();
    let first = 1 + u32::from(u16::from_be_bytes([*high, *low])) * PARTS_MAX;
    let parts: Vec<_> = document_to_parts(json, RECORD_BYTES_MAX - 64)
        .into_iter()
        .zip(first..)
        .map(|(bytes, part)| (key(part), bytes))
        .collect();
    let head = Head {
        first,
        parts: u32::try_from(parts.len()).unwrap_or(PARTS_MAX),
        digest,
    };
    let head = serde_json::to_vec(&head).unwrap_or_default();
    let head = document_to_parts(&head, RECORD_BYTES_MAX - 64)
        .into_iter()
        .next()
        .unwrap_or_default();
    FactsRecords {
        head: (key(0), head),
        parts,
    }
}

/// The facts that the contents of such records are; `None` while no probe has completed.
///
/// # Errors
/// What is wrong with them, in words.
pub(super) fn from_parts(mut parts: BTreeMap<u32, Vec<u8>>) -> Result<Option<StepFacts>, String> {
    let Some(head) = parts.remove(&0) else {
        return Ok(None);
    };
    let head: Head =
        serde_json::from_slice(&head).map_err(|error| format!("its head is damaged: {error}"))?;
    let end = head.first.saturating_add(head.parts);
    let json: Vec<u8> = parts
        .range(head.first..end)
        .flat_map(|(_, bytes)| bytes.iter().copied())
        .collect();
    if DocumentDigest::of(&json) != head.digest {
        return Err(format!(
            "its {} parts are not what its head says",
            head.parts
        ));
    }
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use highwater_proto::convert::records::part_from_bytes;

    use super::*;

    fn stored(records: &FactsRecords, with_head: bool) -> BTreeMap<u32, Vec<u8>> {
        let all = records
            .parts
            .iter()
            .chain(with_head.then_some(&records.head));
        let content = |(key, bytes): &(Key, Value)| match RecordKey::parse(key).unwrap() {
            RecordKey::Facts { part, .. } => (part, part_from_bytes(bytes).unwrap()),
            other => panic!("{other:?}"),
        };
        all.map(content).collect()
    }

    #[test]
    fn facts_of_a_thousand_columns_come_back_and_what_a_dead_probe_left_does_not() {
        // GIVEN facts of many parts, stored over those of a longer probe that never ended
        let (run, step) = (
            RunId::from_bytes([1; 16]),
            "orders".parse::<StepName>().unwrap(),
        );
        let mut facts = crate::fixtures::facts(5);
        let column = facts.source.columns[0].clone();
        facts.source.columns = vec![column.clone(); 1_000];
        let records = to_records(run, &step, &serde_json::to_vec(&facts).unwrap());
        facts.source.columns = vec![column; 2_000];
        let longer = to_records(run, &step, &serde_json::to_vec(&facts).unwrap());
        assert!(
            longer.parts.len() > records.parts.len() && records.parts.len() > PARTS_AT_ONCE_MAX
        );
        let mut parts = stored(&longer, false);
        // WHEN only parts are there THEN there are no facts yet
        assert_eq!(from_parts(parts.clone()), Ok(None));
        // WHEN the shorter ones are put THEN they are what is read
        parts.extend(stored(&records, true));
        let found = from_parts(parts.clone()).unwrap().unwrap();
        assert_eq!(found.source.columns.len(), 1_000);
        // WHEN a longer probe comes once more and dies THEN they are read still
        parts.extend(stored(&longer, false));
        assert_eq!(
            from_parts(parts.clone())
                .unwrap()
                .unwrap()
                .source
                .columns
                .len(),
            1_000
        );
        // WHEN it ends THEN its own are read
        parts.extend(stored(&longer, true));
        assert_eq!(
            from_parts(parts.clone())
                .unwrap()
                .unwrap()
                .source
                .columns
                .len(),
            2_000
        );
        // WHEN parts are lost THEN that is told
        parts.retain(|part, _| part % 2 == 0);
        assert!(from_parts(parts).is_err());
    }
}
