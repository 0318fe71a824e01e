//! The close: whether a target still holds what a step's tasks have committed, when the step ends.
//!
//! A target that was put back to an older state loses commits that the store has counted already,
//! and nothing else would notice. So the tasks that the store counts as done are compared with the
//! ones whose receipts are there.

use std::fmt;

use crate::segment::put_varint;

/// How often a step may find that its target has changed or lost commits, before it fails.
pub const SETBACKS_MAX: u32 = 5;

/// What a person is told of a target whose ledger is gone while its table is there: nobody knows
/// which rows are in it, and more of them would be there twice.
#[must_use]
pub fn ledger_lost_message(place: &str, table: &str) -> String {
    format!(
        "the ledger of {place} is gone, and {table}, to which rows are appended, holds some: \
         nobody knows which, and loading them again could double them. Bring the ledger back from \
         a backup, or empty the table, and then begin a new run with `--new`"
    )
}

/// No ordinal is as large as this: a step has fewer tasks.
pub const ORDINALS_MAX: u64 = 1 << 20;

/// The most bytes that [`Ordinals::to_bytes`] gives: the form, and a bit for each.
pub const ORDINALS_BYTES_MAX: usize = 1 + 128 * 1024;

const RANGES: u8 = 1;
const BITS: u8 = 2;

/// Ordinals of tasks: ascending ranges that neither overlap nor touch.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Ordinals(Vec<(u64, u64)>);

/// Why bytes are no ordinals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no ordinals of tasks")]
pub struct OrdinalsError;

impl Ordinals {
    /// The ordinals of ascending ranges, each from its first to its last. Ranges that touch become
    /// one; what is out of order, or beyond [`ORDINALS_MAX`], is no task's and is left out.
    #[must_use]
    pub fn of_ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut all: Vec<(u64, u64)> = Vec::new();
        for (first, last) in ranges {
            let behind = last.saturating_add(1);
            if last < first || behind > ORDINALS_MAX {
                continue;
            }
            match all.last_mut() {
                Some((_, end)) if first < *end => {}
                Some((_, end)) if first == *end => *end = behind,
                Some(_) | None => all.push((first, behind)),
            }
        }
        Self(all)
    }

    /// True when an ordinal is among them.
    #[must_use]
    pub fn contains(&self, ordinal: u64) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= ordinal);
        let last = behind.checked_sub(1).and_then(|at| self.0.get(at));
        last.is_some_and(|(_, end)| ordinal < *end)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |count, (first, end)| {
            count.saturating_add(end.saturating_sub(*first))
        })
    }

    /// The shorter of two forms: gaps and lengths, or a bit for each. At most
    /// [`ORDINALS_BYTES_MAX`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let behind = self.0.last().map_or(0, |(_, end)| *end);
        let of_bits = usize::try_from(behind.div_ceil(8)).unwrap_or(usize::MAX);
        let (mut ranges, mut at) = (vec![RANGES], 0);
        for (first, end) in &self.0 {
            put_varint(&mut ranges, first.saturating_sub(at));
            put_varint(&mut ranges, end.saturating_sub(*first));
            at = *end;
            if ranges.len() > of_bits {
                return self.bits(of_bits);
            }
        }
        ranges
    }

    fn bits(&self, bytes: usize) -> Vec<u8> {
        let mut bits = vec![0; bytes.saturating_add(1)];
        if let Some(form) = bits.first_mut() {
            *form = BITS;
        }
        for ordinal in self.0.iter().flat_map(|(first, end)| *first..*end) {
            let at = usize::try_from(ordinal / 8)
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            if let Some(byte) = bits.get_mut(at) {
                *byte |= 1 << (ordinal % 8);
            }
        }
        bits
    }

    /// The ordinals of [`Ordinals::to_bytes`].
    ///
    /// # Errors
    /// [`OrdinalsError`] when they are not in either form, or name an ordinal that no task has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OrdinalsError> {
        if bytes.len() > ORDINALS_BYTES_MAX {
            return Err(OrdinalsError);
        }
        match bytes.split_first() {
            Some((&RANGES, rest)) => Self::from_gaps(rest),
            Some((&BITS, rest)) => {
                let bits = (0..).zip(rest).flat_map(|(at, byte): (u64, &u8)| {
                    let set = (0..8).filter(move |bit| byte & (1 << bit) != 0);
                    set.map(move |bit: u64| at.saturating_mul(8).saturating_add(bit))
                });
                Ok(Self::of_ranges(bits.map(|ordinal| (ordinal, ordinal))))
            }
            Some(_) | None => Err(OrdinalsError),
        }
    }

    fn from_gaps(mut rest: &[u8]) -> Result<Self, OrdinalsError> {
        let (mut ranges, mut at) = (Vec::new(), 0_u64);
        while !rest.is_empty() {
            let (gap, length) = (take_varint(&mut rest)?, take_varint(&mut rest)?);
            let first = at.saturating_add(gap);
            let end = first.saturating_add(length);
            let touches = gap == 0 && !ranges.is_empty();
            if length == 0 || touches || end > ORDINALS_MAX {
                return Err(OrdinalsError);
            }
            ranges.push((first, end));
            at = end;
        }
        Ok(Self(ranges))
    }
}

impl fmt::Debug for Ordinals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(first, end)| *first..*end))
            .finish()
    }
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, OrdinalsError> {
    let mut value = 0;
    for shift in (0..28).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(OrdinalsError)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(OrdinalsError)
}

/// What a step does once it knows which of its receipts are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterClose {
    /// The target holds all that the store counts.
    Ends,
    /// It has lost the commits of these tasks: they are done again.
    Reopen(Vec<u64>),
    /// It has lost commits of so many tasks, and that too often.
    GiveUp(u64),
}

/// Compares the tasks that the store counts as `done`, ascending, with those whose receipts are
/// `there`. `setbacks` tells how often the step has met a target that had changed. A receipt of a
/// task that is not done says nothing here: that task's claim meets it.
#[must_use]
pub fn after_close(done: impl Iterator<Item = u64>, there: &Ordinals, setbacks: u32) -> AfterClose {
    let lost: Vec<u64> = done.filter(|ordinal| !there.contains(*ordinal)).collect();
    match lost.is_empty() {
        true => AfterClose::Ends,
        false if setbacks >= SETBACKS_MAX => {
            AfterClose::GiveUp(u64::try_from(lost.len()).unwrap_or(u64::MAX))
        }
        false => AfterClose::Reopen(lost),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ordinals() -> impl Strategy<Value = BTreeSet<u64>> {
        let few = prop::collection::btree_set(0..ORDINALS_MAX, 0..40);
        let dense = prop::collection::btree_set(0..500_u64, 0..400);
        let ends = prop::collection::btree_set((ORDINALS_MAX - 40)..ORDINALS_MAX, 0..40);
        prop_oneof![few, dense, ends]
    }

    fn of(set: &BTreeSet<u64>) -> Ordinals {
        Ordinals::of_ranges(set.iter().map(|ordinal| (*ordinal, *ordinal)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ordinals_survive_their_bytes_and_know_their_own(set in ordinals(), other in 0..ORDINALS_MAX) {
            let ordinals = of(&set);
            let bytes = ordinals.to_bytes();
            prop_assert!(bytes.len() <= ORDINALS_BYTES_MAX);
            prop_assert_eq!(Ordinals::from_bytes(&bytes), Ok(ordinals.clone()));
            prop_assert_eq!(ordinals.count(), set.len() as u64);
            for ordinal in set.iter().copied().chain(set.iter().map(|ordinal| ordinal + 1)).chain([other]) {
                prop_assert_eq!(ordinals.contains(ordinal), set.contains(&ordinal));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_into_bounded_ordinals(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = Ordinals::from_bytes(&bytes) {
                prop_assert!(read.to_bytes().len() <= ORDINALS_BYTES_MAX);
                prop_assert!(!read.contains(ORDINALS_MAX));
            }
        }

        #[test]
        fn exactly_the_done_tasks_without_a_receipt_are_opened_again(
            done in ordinals(), there in ordinals(), kept in any::<bool>(), setbacks in 0..2 * SETBACKS_MAX,
        ) {
            // GIVEN tasks that are done, and receipts of those and of others
            let there: BTreeSet<u64> = if kept { there.union(&done).copied().collect() } else { there };
            let lost: Vec<u64> = done.difference(&there).copied().collect();
            // WHEN they are compared, THEN none is lost, or these very tasks are, however many
            // other receipts there are
            let expected = match lost.len() as u64 {
                0 => AfterClose::Ends,
                lost if setbacks >= SETBACKS_MAX => AfterClose::GiveUp(lost),
                _ => AfterClose::Reopen(lost),
            };
            prop_assert_eq!(after_close(done.iter().copied(), &of(&there), setbacks), expected);
        }
    }

    #[test]
    fn a_million_ordinals_with_a_gap_after_each_fit_into_a_bit_each() {
        let ordinals = Ordinals::of_ranges((0..ORDINALS_MAX / 2).map(|half| (2 * half, 2 * half)));
        let bytes = ordinals.to_bytes();
        assert_eq!(
            (bytes.len(), ORDINALS_BYTES_MAX),
            (ORDINALS_BYTES_MAX, 1 + 128 * 1024)
        );
        assert_eq!(Ordinals::from_bytes(&bytes), Ok(ordinals));
        let all = Ordinals::of_ranges([(0, ORDINALS_MAX - 1)]);
        assert_eq!((all.to_bytes().len(), all.count()), (5, ORDINALS_MAX));
    }

    #[test]
    fn what_is_no_task_s_ordinal_is_none() {
        let ordinals = Ordinals::of_ranges([
            (5, 3),
            (2, 4),
            (3, 9),
            (5, 6),
            (ORDINALS_MAX, ORDINALS_MAX),
            (7, u64::MAX),
        ]);
        assert_eq!(format!("{ordinals:?}"), "{2..7}");
        for bytes in [
            &[][..],
            &[3],
            &[RANGES, 0],
            &[RANGES, 0, 0],
            &[RANGES, 1, 1, 0, 1],
            &[RANGES, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(Ordinals::from_bytes(bytes), Err(OrdinalsError), "{bytes:?}");
        }
    }
}
