//! Messages of the wire to and from domain types.

use highwater_common::assignment::{
    Assignment, AttemptError, Checked, ErrorClass, Outcome, Receipt, Work,
};
use highwater_common::check::CheckAnswer;
use highwater_common::close::Ordinals;
use highwater_common::cursor::Cursor;
use highwater_common::id::{AttemptNo, DocumentDigest, RunId, SessionId, TaskId};
use highwater_common::left_out::{LeftOut, Tally};
use highwater_common::range::{CursorRange, Slice};
use highwater_common::token::{Fence, FencingToken, Nonce};

use super::{FieldError, fixed, parsed_unless_empty, required};
use crate::v1 as pb;

/// A session's bytes as they travel.
#[must_use]
pub fn session_to(session: &SessionId) -> Vec<u8> {
    session.as_bytes().to_vec()
}

/// The session of a request.
///
/// # Errors
/// [`FieldError`] when it is not 16 bytes.
pub fn session_from(bytes: &[u8]) -> Result<SessionId, FieldError> {
    fixed(bytes, "session").map(SessionId::from_bytes)
}

/// The task of a request.
///
/// # Errors
/// [`FieldError`] when it is not 16 bytes.
pub fn task_from(bytes: &[u8]) -> Result<TaskId, FieldError> {
    fixed(bytes, "task").map(TaskId::from_bytes)
}

/// A nonce.
///
/// # Errors
/// [`FieldError`] when it is not 16 bytes.
pub fn nonce_from(bytes: &[u8]) -> Result<Nonce, FieldError> {
    fixed(bytes, "nonce").map(Nonce::from_bytes)
}

/// A digest.
///
/// # Errors
/// [`FieldError`] when it is not 32 bytes.
pub fn digest_from(bytes: &[u8], path: &str) -> Result<DocumentDigest, FieldError> {
    fixed(bytes, path).map(DocumentDigest::from_bytes)
}

impl From<Fence> for pb::Fence {
    fn from(fence: Fence) -> Self {
        Self {
            token: fence.token.raw(),
            nonce: fence.nonce.to_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::Fence> for Fence {
    type Error = FieldError;

    fn try_from(fence: pb::Fence) -> Result<Self, FieldError> {
        Ok(Self {
            token: FencingToken::from_raw(fence.token),
            nonce: nonce_from(&fence.nonce)?,
        })
    }
}

impl From<Receipt> for pb::Receipt {
    fn from(receipt: Receipt) -> Self {
        Self {
            rows: receipt.rows,
            bytes: receipt.bytes,
        }
    }
}

impl From<pb::Receipt> for Receipt {
    fn from(receipt: pb::Receipt) -> Self {
        Self {
            rows: receipt.rows,
            bytes: receipt.bytes,
        }
    }
}

impl From<Cursor> for pb::Cursor {
    fn from(cursor: Cursor) -> Self {
        use pb::cursor::Position;
        let position = match cursor {
            Cursor::Integer(value) => Position::Integer(value),
            Cursor::Instant(micros) => Position::InstantMicros(micros),
            Cursor::Civil(micros) => Position::CivilMicros(micros),
            Cursor::Date(days) => Position::DateDays(days),
            Cursor::Placed(id, at) => Position::Placed((id, at).into()),
        };
        Self {
            position: Some(position),
        }
    }
}

impl TryFrom<pb::Cursor> for Cursor {
    type Error = FieldError;

    fn try_from(cursor: pb::Cursor) -> Result<Self, FieldError> {
        use pb::cursor::Position;
        Ok(match required(cursor.position, "position")? {
            Position::Integer(value) => Self::Integer(value),
            Position::InstantMicros(micros) => Self::Instant(micros),
            Position::CivilMicros(micros) => Self::Civil(micros),
            Position::DateDays(days) => Self::Date(days),
            Position::Placed(placed) => {
                let (rule, at) = placed.try_into()?;
                Self::Placed(rule, at)
            }
        })
    }
}

impl From<Slice> for pb::Slice {
    fn from(slice: Slice) -> Self {
        use pb::slice::Rows;
        let rows = match slice {
            Slice::Range(range) => Rows::Range(range.into()),
            Slice::Null => Rows::Null(pb::NullRows {}),
        };
        Self { rows: Some(rows) }
    }
}

impl TryFrom<pb::Slice> for Slice {
    type Error = FieldError;

    fn try_from(slice: pb::Slice) -> Result<Self, FieldError> {
        use pb::slice::Rows;
        match required(slice.rows, "rows")? {
            Rows::Null(pb::NullRows {}) => Ok(Self::Null),
            Rows::Range(range) => range.try_into().map(Self::Range),
        }
    }
}

impl From<CursorRange> for pb::CursorRange {
    fn from(range: CursorRange) -> Self {
        Self {
            start: range.start().map(Into::into),
            end: range.end().map(Into::into),
        }
    }
}

impl TryFrom<pb::CursorRange> for CursorRange {
    type Error = FieldError;

    fn try_from(range: pb::CursorRange) -> Result<Self, FieldError> {
        let side = |cursor: Option<pb::Cursor>, name: &str| {
            cursor
                .map(Cursor::try_from)
                .transpose()
                .map_err(|error| error.under(name))
        };
        let (start, end) = (side(range.start, "start")?, side(range.end, "end")?);
        Self::new(start, end).map_err(|error| FieldError::new("range", error.to_string()))
    }
}

impl From<Tally> for pb::Tally {
    fn from(tally: Tally) -> Self {
        use pb::tally::Rows;
        let rows = match tally {
            Tally::Exactly(rows) => Some(Rows::Exactly(rows)),
            Tally::MoreThan(rows) => Some(Rows::MoreThan(rows)),
            Tally::Unknown => None,
        };
        Self { rows }
    }
}

/// A tally that a worker tells; one that says nothing is unknown.
fn tally_from(tally: Option<pb::Tally>) -> Tally {
    use pb::tally::Rows;
    match tally.and_then(|tally| tally.rows) {
        Some(Rows::Exactly(rows)) => Tally::Exactly(rows),
        Some(Rows::MoreThan(rows)) => Tally::MoreThan(rows),
        None => Tally::Unknown,
    }
}

impl From<Assignment> for pb::Assignment {
    fn from(assignment: Assignment) -> Self {
        use pb::assignment::Work as W;
        let work = match assignment.work {
            Work::Probe => W::Probe(pb::Probe {}),
            Work::Prepare => W::Prepare(pb::Prepare {}),
            Work::Partition(slice) => W::Partition(slice.into()),
            Work::Build => W::Build(pb::Build {}),
            Work::Check => W::Check(pb::Check {}),
            Work::Publish => W::Publish(pb::Publish {}),
            Work::Reconcile => W::Reconcile(pb::Reconcile {}),
            Work::Statements => W::Statements(pb::Statements {}),
            Work::Command => W::Command(pb::Command {}),
            Work::Replay => W::Replay(pb::Replay {}),
            Work::Follow => W::Follow(pb::Follow {}),
            Work::Noop(n) => W::Noop(n),
            Work::Fence => W::FenceRun(pb::FenceRun {}),
            Work::Count(range) => W::Count(range.into()),
            Work::Close { phase } => W::Close(u32::from(phase)),
        };
        Self {
            task: assignment.task.as_bytes().to_vec(),
            attempt: assignment.attempt.get(),
            fence: Some(assignment.fence.into()),
            order: assignment.order.as_bytes().to_vec(),
            phase: u32::from(assignment.phase),
            ordinal: assignment.ordinal,
            work: Some(work),
        }
    }
}

impl TryFrom<pb::Assignment> for Assignment {
    type Error = FieldError;

    fn try_from(assignment: pb::Assignment) -> Result<Self, FieldError> {
        use pb::assignment::Work as W;
        let work = match required(assignment.work, "work")? {
            W::Probe(pb::Probe {}) => Work::Probe,
            W::Prepare(pb::Prepare {}) => Work::Prepare,
            W::Partition(slice) => Work::Partition(
                slice
                    .try_into()
                    .map_err(|error: FieldError| error.under("partition"))?,
            ),
            W::Build(pb::Build {}) => Work::Build,
            W::Check(pb::Check {}) => Work::Check,
            W::Publish(pb::Publish {}) => Work::Publish,
            W::Reconcile(pb::Reconcile {}) => Work::Reconcile,
            W::Statements(pb::Statements {}) => Work::Statements,
            W::Command(pb::Command {}) => Work::Command,
            W::Replay(pb::Replay {}) => Work::Replay,
            W::Follow(pb::Follow {}) => Work::Follow,
            W::Noop(n) => Work::Noop(n),
            W::FenceRun(pb::FenceRun {}) => Work::Fence,
            W::Count(range) => Work::Count(
                range
                    .try_into()
                    .map_err(|error: FieldError| error.under("count"))?,
            ),
            W::Close(phase) => Work::Close {
                phase: phase_from(phase, "close")?,
            },
        };
        Ok(Self {
            task: task_from(&assignment.task)?,
            attempt: AttemptNo::new(assignment.attempt),
            fence: fence_from(assignment.fence)?,
            work,
            phase: phase_from(assignment.phase, "phase")?,
            ordinal: assignment.ordinal,
            order: digest_from(&assignment.order, "order")?,
        })
    }
}

fn phase_from(phase: u32, field: &str) -> Result<u8, FieldError> {
    u8::try_from(phase).map_err(|_| FieldError::new(field, format!("{phase} is no phase's number")))
}

/// The fence of a message that must carry one.
///
/// # Errors
/// [`FieldError`] when it is missing or malformed.
pub fn fence_from(fence: Option<pb::Fence>) -> Result<Fence, FieldError> {
    required(fence, "fence")?
        .try_into()
        .map_err(|error: FieldError| error.under("fence"))
}

/// An outcome as it travels in a completion.
#[must_use]
pub fn outcome_to(outcome: Outcome) -> pb::complete_request::Outcome {
    use pb::complete_request::Outcome as O;
    match outcome {
        Outcome::Committed(receipt) => O::Committed(receipt.into()),
        Outcome::Probed(facts) => O::Probed(facts),
        Outcome::Done => O::Done(pb::Done {}),
        Outcome::Prepared {
            warnings,
            coverage,
            fingerprint,
        } => O::Prepared(pb::Prepared {
            warnings,
            coverage: coverage.as_bytes().to_vec(),
            fingerprint,
        }),
        Outcome::RunFenced { attempts } => O::FencedAttempts(attempts),
        Outcome::Counted(LeftOut {
            before,
            behind,
            null,
            stray,
        }) => O::Counted(pb::LeftOut {
            before: Some(before.into()),
            behind: Some(behind.into()),
            null: Some(null.into()),
            stray: Some(stray.into()),
        }),
        Outcome::Closed(there) => O::Closed(there.to_bytes()),
        Outcome::Checked(checked) => O::Checked(pb::Checked {
            table: checked.table,
            answers: checked.answers.into_iter().map(answer_to).collect(),
            committed: checked.committed.map(Into::into),
        }),
        Outcome::Unprepared(why) => O::Unprepared(failure_to(why)),
        Outcome::Fenced { newer } => O::FencedBy(newer.raw()),
        Outcome::Superseded { by } => O::Superseded(pb::Superseded {
            by: by.map_or_else(Vec::new, |run| run.as_bytes().to_vec()),
        }),
        Outcome::Failed(error) => O::Failed(failure_to(error)),
        Outcome::Released => O::Released(pb::Released {}),
    }
}

fn answer_to(answer: CheckAnswer) -> pb::CheckAnswer {
    let CheckAnswer { passed, found } = answer;
    pb::CheckAnswer { passed, found }
}

fn answer_from(answer: pb::CheckAnswer) -> CheckAnswer {
    let pb::CheckAnswer { passed, found } = answer;
    CheckAnswer { passed, found }
}

fn failure_to(error: AttemptError) -> pb::Failure {
    let connection = error
        .connection
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let class = class_to(error.class) as i32;
    pb::Failure {
        class,
        code: error.code,
        message: error.message,
        connection,
        committed_rows: error.committed_rows,
    }
}

fn failure_from(failure: pb::Failure, field: &str) -> Result<AttemptError, FieldError> {
    let class = class_from(failure.class())
        .ok_or_else(|| FieldError::new("class", "unknown class").under(field))?;
    let connection = parsed_unless_empty(&failure.connection, "connection")
        .map_err(|error| error.under(field))?;
    Ok(AttemptError {
        connection,
        committed_rows: failure.committed_rows,
        ..AttemptError::received(class, failure.code, failure.message)
    })
}

/// The outcome of a completion.
///
/// # Errors
/// [`FieldError`] when it is missing or malformed.
pub fn outcome_from(outcome: Option<pb::complete_request::Outcome>) -> Result<Outcome, FieldError> {
    use pb::complete_request::Outcome as O;
    Ok(match required(outcome, "outcome")? {
        O::Committed(receipt) => Outcome::Committed(receipt.into()),
        O::Probed(facts) => Outcome::Probed(facts),
        O::Done(pb::Done {}) => Outcome::Done,
        O::Prepared(prepared) => Outcome::Prepared {
            coverage: digest_from(&prepared.coverage, "prepared.coverage")?,
            warnings: prepared.warnings,
            fingerprint: prepared.fingerprint,
        },
        O::FencedAttempts(attempts) => Outcome::RunFenced { attempts },
        O::Counted(found) => Outcome::Counted(LeftOut {
            before: tally_from(found.before),
            behind: tally_from(found.behind),
            null: tally_from(found.null),
            stray: tally_from(found.stray),
        }),
        O::Closed(bytes) => Outcome::Closed(
            Ordinals::from_bytes(&bytes)
                .map_err(|error| FieldError::new("closed", error.to_string()))?,
        ),
        O::Checked(checked) => Outcome::Checked(Checked {
            table: checked.table,
            answers: checked.answers.into_iter().map(answer_from).collect(),
            committed: checked.committed.map(Into::into),
        }),
        O::Unprepared(why) => Outcome::Unprepared(failure_from(why, "unprepared")?),
        O::FencedBy(raw) => Outcome::Fenced {
            newer: FencingToken::from_raw(raw),
        },
        O::Superseded(superseded) => Outcome::Superseded {
            by: match superseded.by.as_slice() {
                [] => None,
                bytes => Some(RunId::from_bytes(fixed(bytes, "superseded.by")?)),
            },
        },
        O::Failed(failure) => Outcome::Failed(failure_from(failure, "failed")?),
        O::Released(pb::Released {}) => Outcome::Released,
    })
}

fn class_to(class: ErrorClass) -> pb::failure::Class {
    match class {
        // a worker never reports its own crash
        ErrorClass::Transient | ErrorClass::Crash => pb::failure::Class::Transient,
        ErrorClass::Resource => pb::failure::Class::Resource,
        ErrorClass::Permanent => pb::failure::Class::Permanent,
        ErrorClass::Unreachable => pb::failure::Class::Unreachable,
    }
}

fn class_from(class: pb::failure::Class) -> Option<ErrorClass> {
    match class {
        pb::failure::Class::Unspecified => None,
        pb::failure::Class::Transient => Some(ErrorClass::Transient),
        pb::failure::Class::Resource => Some(ErrorClass::Resource),
        pb::failure::Class::Permanent => Some(ErrorClass::Permanent),
        pb::failure::Class::Unreachable => Some(ErrorClass::Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursors() -> impl Strategy<Value = Cursor> {
        prop_oneof![
            any::<i64>().prop_map(Cursor::Integer),
            any::<i64>().prop_map(Cursor::Instant),
            any::<i64>().prop_map(Cursor::Civil),
            any::<i32>().prop_map(Cursor::Date),
        ]
    }

    fn slices() -> impl Strategy<Value = Slice> {
        (
            proptest::option::of(cursors()),
            proptest::option::of(cursors()),
        )
            .prop_map(|(start, end)| CursorRange::new(start, end).map_or(Slice::Null, Slice::Range))
    }

    proptest! {
        #[test]
        fn assignments_survive_the_wire(
            slice in slices(), bits in any::<u128>(), raw in any::<i64>(), attempt in 1..u32::MAX,
        ) {
            let assignment = Assignment {
                task: TaskId::from_bytes(bits.to_be_bytes()),
                attempt: AttemptNo::new(attempt),
                fence: Fence { token: FencingToken::from_raw(raw), nonce: Nonce::new(bits) },
                work: Work::Partition(slice),
                phase: 1,
                ordinal: u64::from(attempt),
                order: DocumentDigest::of(&bits.to_be_bytes()),
            };
            prop_assert_eq!(Assignment::try_from(pb::Assignment::from(assignment.clone())), Ok(assignment));
        }
    }

    #[test]
    fn an_error_names_the_field_it_met() {
        let mut message = pb::Assignment::from(Assignment {
            task: TaskId::from_bytes([1; 16]),
            attempt: AttemptNo::FIRST,
            fence: Fence {
                token: FencingToken::from_raw(1),
                nonce: Nonce::new(1),
            },
            work: Work::Probe,
            phase: 0,
            ordinal: 0,
            order: DocumentDigest::of(b""),
        });
        message.fence = Some(pb::Fence {
            token: 1,
            nonce: vec![0; 15],
        });
        let error = Assignment::try_from(message).expect_err("a nonce of 15 bytes");
        assert_eq!(error.to_string(), "fence.nonce: 15 bytes, expected 16");
    }
}
