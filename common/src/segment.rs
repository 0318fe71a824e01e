//! A segment: the states of up to 1024 neighbouring tasks of a step, and what those that are done
//! did.
//!
//! A million tasks are about a thousand of these records. The encoding is canonical, because the
//! store compares bytes: equal segments have equal bytes. What is read is checked: damaged bytes
//! are a typed error, never a panic.

use crate::task::TaskState;

/// Tasks of a full segment.
pub const SEGMENT_TASKS: u16 = 1024;
/// The most bytes that a segment encodes to.
pub const SEGMENT_BYTES_MAX: usize = 16 * 1024;

/// Version of the encoding.
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 3;
/// What a result takes at the most: 6 bytes of rows, 4 of milliseconds, 2 of attempts, at 7 bits
/// each.
const RESULT_BITS: [u32; 3] = [42, 28, 14];

/// What a done task did. Kept up to 4.4 trillion rows, 74 hours and 16,383 attempts; more is kept
/// as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskResult {
    /// Rows written.
    pub rows: u64,
    /// How long the attempt that committed took.
    pub millis: u32,
    /// Attempts it took.
    pub attempts: u32,
}

impl TaskResult {
    /// The result as far as the encoding keeps it.
    #[must_use]
    fn bounded(self) -> Self {
        let [rows, millis, attempts] = RESULT_BITS.map(|bits| !(u64::MAX << bits));
        let narrow = |value: u32, max: u64| value.min(u32::try_from(max).unwrap_or(u32::MAX));
        Self {
            rows: self.rows.min(rows),
            millis: narrow(self.millis, millis),
            attempts: narrow(self.attempts, attempts),
        }
    }
}

/// Why bytes are no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Another version of the encoding.
    #[error("a segment has format {0}, and this program reads {FORMAT}")]
    Format(u8),
    /// A number of tasks that no segment has.
    #[error("a segment claims to hold {0} tasks")]
    Tasks(u16),
    /// The bytes end too early.
    #[error("a segment ends in the middle")]
    Truncated,
    /// Bytes follow where nothing should.
    #[error("a segment has {0} bytes too many")]
    Trailing(usize),
    /// A state that does not exist.
    #[error("task {index} of a segment has the unknown state {state}")]
    State {
        /// Which task.
        index: u16,
        /// The number met.
        state: u8,
    },
    /// A number that is too large, or longer than it need be.
    #[error("the result of task {index} of a segment is not in canonical form")]
    Result {
        /// Which task.
        index: u16,
    },
}

/// The states of some tasks, by their index within the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    states: Vec<TaskState>,
    counts: [u16; 8],
    /// Of all tasks; of those that are not done an empty one. A segment is copied with each
    /// transaction that changes it, and so in one piece.
    results: Vec<TaskResult>,
}

impl Segment {
    /// A segment of pending tasks; `tasks` is moved into 1..=[`SEGMENT_TASKS`].
    #[must_use]
    pub fn new(tasks: u16) -> Self {
        let tasks = tasks.clamp(1, SEGMENT_TASKS);
        let mut counts = [0; 8];
        *count_of(&mut counts, TaskState::Pending) = tasks;
        Self {
            states: vec![TaskState::Pending; usize::from(tasks)],
            counts,
            results: vec![TaskResult::default(); usize::from(tasks)],
        }
    }

    /// Which segment holds an ordinal, and at which index.
    #[must_use]
    pub fn place(ordinal: u64) -> (u64, u16) {
        const TASKS: u64 = SEGMENT_TASKS as u64;
        (ordinal / TASKS, u16::try_from(ordinal % TASKS).unwrap_or(0))
    }

    /// The ordinal at an index of a segment.
    #[must_use]
    pub fn ordinal(segment: u64, index: u16) -> u64 {
        segment
            .saturating_mul(u64::from(SEGMENT_TASKS))
            .saturating_add(u64::from(index))
    }

    /// How many tasks it holds; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> u16 {
        u16::try_from(self.states.len()).unwrap_or(SEGMENT_TASKS)
    }

    /// The state of a task; `None` beyond the last.
    #[must_use]
    pub fn get(&self, index: u16) -> Option<TaskState> {
        self.states.get(usize::from(index)).copied()
    }

    /// What a done task did.
    #[must_use]
    pub fn result(&self, index: u16) -> Option<TaskResult> {
        let is_done = self.get(index) == Some(TaskState::Done);
        let result = self.results.get(usize::from(index));
        result.filter(|_| is_done).copied()
    }

    /// Sets a task's state, and returns the former; `None`, and no change, beyond the last. The
    /// result of a task that is no longer done goes; a task that becomes done without
    /// [`Segment::set_done`] has an empty one.
    pub fn set(&mut self, index: u16, state: TaskState) -> Option<TaskState> {
        let slot = self.states.get_mut(usize::from(index))?;
        let former = std::mem::replace(slot, state);
        let count = count_of(&mut self.counts, former);
        *count = count.saturating_sub(1);
        let count = count_of(&mut self.counts, state);
        *count = count.saturating_add(1);
        if former != TaskState::Done || state != TaskState::Done {
            self.put_result(index, TaskResult::default());
        }
        Some(former)
    }

    /// Sets a task done, with what it did.
    pub fn set_done(&mut self, index: u16, result: TaskResult) -> Option<TaskState> {
        let former = self.set(index, TaskState::Done)?;
        self.put_result(index, result.bounded());
        Some(former)
    }

    fn put_result(&mut self, index: u16, result: TaskResult) {
        if let Some(slot) = self.results.get_mut(usize::from(index)) {
            *slot = result;
        }
    }

    /// The results of the tasks that are done, by their indices, ascending.
    fn results(&self) -> impl Iterator<Item = &TaskResult> {
        let states = self.states.iter().zip(&self.results);
        states
            .filter(|(state, _)| **state == TaskState::Done)
            .map(|(_, result)| result)
    }

    /// How many tasks are in a state.
    #[must_use]
    pub fn count(&self, state: TaskState) -> u16 {
        self.counts
            .get(usize::from(state.code()))
            .copied()
            .unwrap_or(0)
    }

    /// The indices of the tasks in a state, ascending.
    pub fn in_state(&self, state: TaskState) -> impl Iterator<Item = u16> + '_ {
        // A segment without such a task, as most are, is not walked at all.
        let states = if self.count(state) == 0 {
            &[]
        } else {
            self.states.as_slice()
        };
        (0..)
            .zip(states)
            .filter(move |(_, other)| **other == state)
            .map(|(index, _)| index)
    }

    /// What all done tasks did together: rows, milliseconds and attempts.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.results()
            .fold((0, 0, 0), |(rows, millis, attempts), result| {
                (
                    rows.saturating_add(result.rows),
                    millis.saturating_add(u64::from(result.millis)),
                    attempts.saturating_add(u64::from(result.attempts)),
                )
            })
    }

    /// The canonical bytes, at most [`SEGMENT_BYTES_MAX`]: format, number of tasks, two states a
    /// byte, and for each done task, ascending, its rows, milliseconds and attempts at seven bits a
    /// byte.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let of_results = usize::from(self.count(TaskState::Done)).saturating_mul(6);
        let of_states = self.states.len().div_ceil(2);
        let mut bytes = Vec::with_capacity(
            of_states
                .saturating_add(of_results)
                .saturating_add(HEADER_BYTES),
        );
        bytes.push(FORMAT);
        bytes.extend(self.len().to_be_bytes());
        for pair in self.states.chunks(2) {
            bytes.push(
                pair.iter()
                    .rev()
                    .fold(0, |byte, state| byte << 4 | state.code()),
            );
        }
        for result in self.results() {
            for value in [
                result.rows,
                u64::from(result.millis),
                u64::from(result.attempts),
            ] {
                put_varint(&mut bytes, value);
            }
        }
        bytes
    }

    /// The segment of [`Segment::to_bytes`].
    ///
    /// # Errors
    /// [`SegmentError`] when no segment has these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SegmentError> {
        let [format, tasks_high, tasks_low, rest @ ..] = bytes else {
            return Err(SegmentError::Truncated);
        };
        if *format != FORMAT {
            return Err(SegmentError::Format(*format));
        }
        let tasks = u16::from_be_bytes([*tasks_high, *tasks_low]);
        if tasks == 0 || tasks > SEGMENT_TASKS {
            return Err(SegmentError::Tasks(tasks));
        }
        let (packed, mut rest) = rest
            .split_at_checked(usize::from(tasks.div_ceil(2)))
            .ok_or(SegmentError::Truncated)?;
        let mut segment = Self::new(tasks);
        for (index, number) in (0..).zip(packed.iter().flat_map(|byte| [byte & 0xf, byte >> 4])) {
            let state = TaskState::from_code(number).ok_or(SegmentError::State {
                index,
                state: number,
            })?;
            // The half byte behind an odd number of tasks belongs to none of them.
            if segment.set(index, state).is_none() && number != 0 {
                return Err(SegmentError::State {
                    index,
                    state: number,
                });
            }
        }
        let states = (0..).zip(&segment.states).zip(&mut segment.results);
        for ((index, _), result) in states.filter(|((_, state), _)| **state == TaskState::Done) {
            let [rows, millis, attempts] = take_result(&mut rest, index)?;
            let narrow = |value| u32::try_from(value).map_err(|_| SegmentError::Result { index });
            *result = TaskResult {
                rows,
                millis: narrow(millis)?,
                attempts: narrow(attempts)?,
            };
        }
        if rest.is_empty() {
            Ok(segment)
        } else {
            Err(SegmentError::Trailing(rest.len()))
        }
    }
}

/// The count of a state.
#[expect(
    clippy::indexing_slicing,
    reason = "a state's code is one of eight, and is found by a match over all states"
)]
fn count_of(counts: &mut [u16; 8], state: TaskState) -> &mut u16 {
    &mut counts[usize::from(state.code() & 7)]
}

pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

fn take_result(rest: &mut &[u8], index: u16) -> Result<[u64; 3], SegmentError> {
    let mut values = [0; 3];
    for (value, bits) in values.iter_mut().zip(RESULT_BITS) {
        *value = take_varint(rest, bits, index)?;
    }
    Ok(values)
}

/// One number of at most `bits` bits, in its shortest form: two forms of one number would be two
/// records of one segment.
fn take_varint(rest: &mut &[u8], bits: u32, index: u16) -> Result<u64, SegmentError> {
    let mut value = 0;
    for shift in (0..bits).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(SegmentError::Truncated)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let is_padded = *byte == 0 && shift > 0;
            return if is_padded {
                Err(SegmentError::Result { index })
            } else {
                Ok(value)
            };
        }
    }
    Err(SegmentError::Result { index })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment() -> impl Strategy<Value = Segment> {
        let task = (0..8u8, any::<(u64, u32, u32)>(), 0..64u32);
        prop::collection::vec(task, 1..=usize::from(SEGMENT_TASKS)).prop_map(|tasks| {
            let mut segment = Segment::new(u16::try_from(tasks.len()).expect("few tasks"));
            for (index, (state, (rows, millis, attempts), shift)) in (0..).zip(tasks) {
                match TaskState::from_code(state).expect("a state") {
                    TaskState::Done => {
                        let narrow = |value: u32| value >> (shift / 2);
                        let result = TaskResult {
                            rows: rows >> shift,
                            millis: narrow(millis),
                            attempts: narrow(attempts),
                        };
                        segment.set_done(index, result);
                    }
                    state => {
                        segment.set(index, state);
                    }
                }
            }
            segment
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_segment_survives_its_bytes(segment in segment()) {
            let bytes = segment.to_bytes();
            prop_assert!(bytes.len() <= SEGMENT_BYTES_MAX);
            prop_assert_eq!(Segment::from_bytes(&bytes), Ok(segment.clone()));
            for state in TaskState::ALL {
                let found: Vec<u16> = (0..segment.len()).filter(|index| segment.get(*index) == Some(state)).collect();
                prop_assert_eq!(segment.in_state(state).collect::<Vec<_>>(), found.clone());
                prop_assert_eq!(usize::from(segment.count(state)), found.len());
            }
        }

        #[test]
        fn damaged_bytes_are_refused_or_are_another_segment_in_canonical_form(
            segment in segment(),
            damage in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            // GIVEN the bytes of a segment, overwritten here and there, and perhaps cut off
            let mut bytes = segment.to_bytes();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            // WHEN they are read, THEN that is an error, or a segment with these very bytes
            if let Ok(read) = Segment::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            if let Ok(read) = Segment::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn the_fullest_segment_fits_its_record() {
        // GIVEN a full segment of tasks that each did more than can be kept
        let mut segment = Segment::new(SEGMENT_TASKS);
        let most = TaskResult {
            rows: u64::MAX,
            millis: u32::MAX,
            attempts: u32::MAX,
        };
        (0..SEGMENT_TASKS).for_each(|index| assert!(segment.set_done(index, most).is_some()));
        // WHEN it is encoded, THEN it takes twelve bytes a task beside the states, and reads back
        let bytes = segment.to_bytes();
        assert_eq!(bytes.len(), HEADER_BYTES + 512 + 12 * 1024);
        assert_eq!(Segment::from_bytes(&bytes), Ok(segment));
    }

    #[test]
    fn a_task_that_is_done_no_more_has_no_result() {
        let mut segment = Segment::new(3);
        segment.set_done(
            1,
            TaskResult {
                rows: 5,
                millis: 6,
                attempts: 7,
            },
        );
        assert_eq!(
            (
                segment.totals(),
                segment.result(1).map(|result| result.rows)
            ),
            ((5, 6, 7), Some(5))
        );
        assert_eq!(segment.set(1, TaskState::Pending), Some(TaskState::Done));
        assert_eq!(
            (
                segment.totals(),
                segment.result(1),
                segment.set(3, TaskState::Done)
            ),
            ((0, 0, 0), None, None)
        );
        assert_eq!(Segment::place(Segment::ordinal(7, 1023)), (7, 1023));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert_eq!(Segment::from_bytes(&[]), Err(SegmentError::Truncated));
        assert_eq!(
            Segment::from_bytes(&[2, 0, 1, 0]),
            Err(SegmentError::Format(2))
        );
        assert_eq!(
            Segment::from_bytes(&[1, 4, 1, 0]),
            Err(SegmentError::Tasks(1025))
        );
        assert_eq!(
            Segment::from_bytes(&[1, 0, 1, 8]),
            Err(SegmentError::State { index: 0, state: 8 })
        );
        assert_eq!(
            Segment::from_bytes(&[1, 0, 1, 0x10]),
            Err(SegmentError::State { index: 1, state: 1 })
        );
        assert_eq!(
            Segment::from_bytes(&[1, 0, 1, 2, 0x80, 0, 0, 0]),
            Err(SegmentError::Result { index: 0 })
        );
        assert_eq!(
            Segment::from_bytes(&[1, 0, 1, 0, 9]),
            Err(SegmentError::Trailing(1))
        );
    }
}
