//! Where a step that follows a log stands: what its target has of the log, and what the source keeps
//! of it.

use serde::{Deserialize, Serialize};

use super::lsn::Lsn;
use crate::number::bytes;

/// A replication slot, as the source shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStanding {
    /// Whether somebody reads it.
    pub active: bool,
    /// Up to where it has let go of the log.
    pub confirmed: Option<Lsn>,
    /// What the server says of the log that it keeps: `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: String,
    /// Bytes of the log that the server keeps for it.
    pub retained_bytes: u64,
}

impl SlotStanding {
    /// What people are told of a slot that keeps much of the log; `None` where there is nothing to
    /// say. `limit` is how many bytes the step lets it keep.
    #[must_use]
    pub fn alert(&self, name: &str, limit: Option<u64>) -> Option<String> {
        let kept = bytes(self.retained_bytes);
        if self.wal_status == "unreserved" {
            return Some(format!(
                "the replication slot {name} keeps {kept} of the source's log, and the server may \
                 remove it at any time (max_slot_wal_keep_size): run the step before that"
            ));
        }
        let limit = limit.filter(|limit| self.retained_bytes > *limit)?;
        Some(format!(
            "the replication slot {name} keeps {kept} of the source's log, and `slot_limit` is {}: run \
             the step, or drop the slot of one that is given up",
            bytes(limit)
        ))
    }
}

/// Where a step stands that follows a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStanding {
    /// The slot's name.
    pub slot: String,
    /// The publication's.
    pub publication: String,
    /// The slot; `None` where there is none.
    pub found: Option<SlotStanding>,
    /// How much of the log the server keeps for a slot at most; `None` for all of it.
    pub keep_bytes: Option<u64>,
    /// Where the log ends.
    pub end: Lsn,
    /// When that was, in microseconds since 1970 on the source's clock.
    pub at: i64,
    /// Up to where the target has applied it; `None` before the first run.
    pub position: Option<Lsn>,
    /// All that the source had committed by then is applied, by its clock.
    pub reached_at: Option<i64>,
    /// Whether the table is copied.
    pub is_copied: bool,
    /// Since when all is applied that changed while it was copied, by the target's clock.
    pub live_since: Option<i64>,
    /// Why the log cannot be followed from the position on, if it cannot.
    pub gap: Option<String>,
    /// What is to be said of what the slot keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
}

/// What a step that follows a log is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogState {
    /// No run has begun it, or it is to be copied anew.
    New,
    /// The log is kept, and the table is not copied yet.
    Copying,
    /// It is copied, and what changed meanwhile is being applied.
    CatchingUp,
    /// The target is as the source was when the position was reached.
    Live,
    /// The log has not all that the target lacks, or has not told all. Nothing is applied.
    Gap,
}

impl LogState {
    /// What a person calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Copying => "copying",
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
            Self::Gap => "gap",
        }
    }
}

impl LogStanding {
    /// What the step is at.
    #[must_use]
    pub const fn state(&self) -> LogState {
        match (&self.gap, self.position, self.is_copied, self.live_since) {
            (Some(_), ..) => LogState::Gap,
            (None, None, ..) => LogState::New,
            (None, Some(_), false, _) => LogState::Copying,
            (None, Some(_), true, None) => LogState::CatchingUp,
            (None, Some(_), true, Some(_)) => LogState::Live,
        }
    }

    /// Bytes of the server's log behind the position, those of other tables included.
    #[must_use]
    pub fn lag_bytes(&self) -> Option<u64> {
        let position = self.position?;
        Some(self.end.byte().saturating_sub(position.byte()))
    }

    /// How long ago the source was as the target is, in microseconds.
    #[must_use]
    pub fn lag_micros(&self) -> Option<u64> {
        if self.lag_bytes()? == 0 {
            return Some(0);
        }
        let behind = self.at.saturating_sub(self.reached_at?);
        Some(u64::try_from(behind).unwrap_or(0))
    }

    /// How much more of the log the server keeps before it drops what the slot holds; `None` where it
    /// keeps all.
    #[must_use]
    pub fn room_bytes(&self) -> Option<u64> {
        let retained = self.found.as_ref()?.retained_bytes;
        Some(self.keep_bytes?.saturating_sub(retained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> LogStanding {
        LogStanding {
            slot: "s".to_owned(),
            publication: "p".to_owned(),
            found: Some(SlotStanding {
                active: false,
                confirmed: None,
                wal_status: "reserved".to_owned(),
                retained_bytes: 70,
            }),
            keep_bytes: None,
            end: Lsn::new(100),
            at: 5_000_000,
            position: None,
            reached_at: None,
            is_copied: false,
            live_since: None,
            gap: None,
            alert: None,
        }
    }

    #[test]
    fn a_slot_that_keeps_much_is_told() {
        let mut slot = standing().found.expect("a slot");
        assert_eq!(slot.alert("s", None), None);
        assert_eq!(slot.alert("s", Some(70)), None);
        assert!(slot.alert("s", Some(69)).is_some());
        slot.wal_status = "unreserved".to_owned();
        assert!(slot.alert("s", None).is_some());
    }

    #[test]
    fn a_step_is_what_it_has_reached() {
        let mut of = standing();
        assert_eq!((of.state(), of.lag_bytes()), (LogState::New, None));
        of.position = Some(Lsn::new(40));
        assert_eq!((of.state(), of.lag_bytes()), (LogState::Copying, Some(60)));
        assert_eq!(of.lag_micros(), None);
        of.is_copied = true;
        of.reached_at = Some(2_000_000);
        assert_eq!(of.state(), LogState::CatchingUp);
        assert_eq!(of.lag_micros(), Some(3_000_000));
        of.live_since = Some(1);
        assert_eq!(of.state(), LogState::Live);
        of.gap = Some("lost".to_owned());
        assert_eq!(of.state(), LogState::Gap);
    }

    #[test]
    fn nothing_overflows_whatever_the_servers_say() {
        let mut of = standing();
        of.position = Some(Lsn::new(u64::MAX));
        of.reached_at = Some(i64::MIN);
        assert_eq!((of.lag_bytes(), of.lag_micros()), (Some(0), Some(0)));
        of.position = Some(Lsn::new(0));
        of.reached_at = Some(i64::MAX);
        assert_eq!(of.lag_micros(), Some(0));
        assert_eq!(of.room_bytes(), None);
        of.keep_bytes = Some(100);
        assert_eq!(of.room_bytes(), Some(30));
        of.keep_bytes = Some(1);
        assert_eq!(of.room_bytes(), Some(0));
    }
}
