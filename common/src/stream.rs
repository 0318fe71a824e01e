//! A stream has one writer over all runs: who may take it, and what its receipts say of the table
//! they speak of.
//!
//! A ledger row belongs to a run, so two runs of one stream could each commit the same slice.
//! Therefore the step that loads a stream first takes it, in the target and under the target's own
//! lock, and fences every other run that had it.

use crate::coverage::Coverage;
use crate::id::{DocumentDigest, RunId};
use crate::range::Slice;
use crate::token::FencingToken;

/// How often a step is planned again because its stream's coverage was not the plan's, before it
/// fails.
pub const REPLANS_MAX: u32 = 3;

/// Who took a stream last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOwner {
    /// The run.
    pub run: RunId,
    /// The token of the attempt that took it.
    pub token: FencingToken,
    /// Which plan of the run took it; `None` when it was a person's errand.
    pub plan: Option<PlanMark>,
}

/// Which plan of which run a stream was taken for. Two plans of one run may cut it otherwise, and
/// then their tasks are others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanMark(DocumentDigest);

impl PlanMark {
    /// The mark of a run's plan: its generation, which its tasks' names hold, and what is cut how,
    /// which says which slices there are. A store that was put back to a backup may give one
    /// generation twice.
    #[must_use]
    pub fn of(generation: u32, cut: &DocumentDigest) -> Self {
        Self(DocumentDigest::of(format!("{generation}/{cut}").as_bytes()))
    }

    /// The mark that a ledger holds.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(DocumentDigest::from_bytes(bytes))
    }

    /// The mark as a ledger holds it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// Whether a claim under the plan `mine` may begin on a stream that was last taken for `taken`. A
/// plan that the run has left behind begins nothing: its slices may be others' by now. A stream
/// that nobody took says nothing.
#[must_use]
pub fn may_claim(taken: Option<&PlanMark>, mine: &PlanMark) -> bool {
    taken.is_none_or(|taken| taken == mine)
}

/// The token by which a claim is late, where the tasks of a step run one at a time: the stream's row
/// holds the largest one that took the stream, or claimed a task of it alone. The claim that is not
/// late puts its own there.
#[must_use]
pub fn claimed_since(latest: FencingToken, mine: FencingToken) -> Option<FencingToken> {
    (latest > mine).then_some(latest)
}

/// What a target's ledger says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMark {
    /// Nothing: no task of it has claimed there yet.
    Unknown,
    /// `R`: its tasks may claim.
    Running,
    /// `X`: nothing of it commits any more.
    Fenced {
        /// The run that took one of its streams; `None` when it was cancelled.
        by: Option<RunId>,
    },
}

/// What an attempt to take a stream comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// The stream is the run's from now on, and the former owner, if it was another run, is to be
    /// fenced.
    Take {
        /// The run that had the stream.
        former: Option<RunId>,
        /// The run had it for another plan: what it has under way under that one is given up.
        leaves_plan: bool,
    },
    /// The run is fenced itself, and takes nothing any more.
    Superseded,
    /// Another run, or another plan of this one, took the stream under a token at least as large:
    /// this attempt is late, or the store was rewound.
    Fenced {
        /// That token.
        newer: FencingToken,
    },
}

/// Whether the attempt `mine` may take a stream that `owner` took last, given what the ledger says
/// of its own run.
///
/// A run that is fenced takes nothing: a late attempt of an older run cannot fence the run that
/// fenced it. An attempt that was late before its run left any mark is told by its token. Attempts
/// for one plan do not compete here; those for two plans of one run do, as runs do, because a plan
/// that was left must not come back.
#[must_use]
pub fn take_stream(mine: &StreamOwner, own: RunMark, owner: Option<&StreamOwner>) -> Takeover {
    match own {
        RunMark::Fenced { .. } => return Takeover::Superseded,
        RunMark::Unknown | RunMark::Running => {}
    }
    match owner {
        None => Takeover::Take {
            former: None,
            leaves_plan: false,
        },
        Some(owner) if owner.run == mine.run && owner.plan == mine.plan => Takeover::Take {
            former: None,
            leaves_plan: false,
        },
        Some(owner) if owner.token >= mine.token => Takeover::Fenced { newer: owner.token },
        Some(owner) if owner.run == mine.run => Takeover::Take {
            former: None,
            leaves_plan: true,
        },
        Some(owner) => Takeover::Take {
            former: Some(owner.run),
            leaves_plan: false,
        },
    }
}

/// What a step does once its stream is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFence {
    /// The plan holds: its partitions begin.
    Begin,
    /// Something was committed, or given up, since the plan was made: the step is probed and
    /// planned again.
    PlanAgain,
    /// The same as before, too often.
    GiveUp,
}

/// Compares the coverage of a plan with the one that the fence has made final. `planned` is `None`
/// for a plan that does not depend on coverage; `replans` tells how often the step was planned
/// again.
#[must_use]
pub fn after_fence(
    planned: Option<&DocumentDigest>,
    found: &DocumentDigest,
    replans: u32,
) -> AfterFence {
    match planned {
        None => AfterFence::Begin,
        Some(planned) if planned == found => AfterFence::Begin,
        Some(_) if replans < REPLANS_MAX => AfterFence::PlanAgain,
        Some(_) => AfterFence::GiveUp,
    }
}

/// What is found where a stream's receipts say that rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFound {
    /// No table of that name.
    Missing,
    /// A table of that name, made after the one that was loaded.
    Remade,
    /// The table, without a row.
    Empty,
    /// The table, with rows.
    Filled,
}

/// Why receipts and table contradict each other; `None` when they do not. `rows_expected` tells
/// whether the receipts say that the table holds a row at all: receipts of nothing are no
/// contradiction.
#[must_use]
pub const fn contradiction(found: TableFound, rows_expected: bool) -> Option<&'static str> {
    match (found, rows_expected) {
        (TableFound::Filled, _) | (_, false) => None,
        (TableFound::Missing, true) => Some("there is no such table any more"),
        (TableFound::Remade, true) => Some("the table of that name was made anew since"),
        (TableFound::Empty, true) => Some("the table is empty"),
    }
}

/// What a person is told whose target contradicts its receipts, and the three ways on.
#[must_use]
pub fn receipts_message(place: &str, table: &str, why: &str) -> String {
    format!(
        "the ledger of {place} says that earlier runs of this step committed rows into {table}, \
         but {why}. Three ways on: `highwater coverage forget FILE STEP --reason TEXT` voids those \
         receipts, and the next run loads their rows again; another name of the step in the file \
         begins anew beside them; or bring the table itself back: rename it back, or restore the \
         database"
    )
}

/// Whether a stream's receipts say that its table holds a row: one that wrote rows, and whose slice
/// no later receipt has written again. They are told the latest first, and only as many as are
/// needed.
#[derive(Debug, Clone, Default)]
pub struct RowsExpected {
    later: Coverage,
}

impl RowsExpected {
    /// Takes the next earlier receipt; true once a row is expected.
    pub fn earlier(&mut self, slice: &Slice, rows: u64) -> bool {
        if rows > 0 && !self.later.meets(slice) {
            return true;
        }
        self.later.insert(slice);
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cursor::Cursor;
    use crate::range::CursorRange;

    fn owner(run: u8, token: i64) -> StreamOwner {
        StreamOwner {
            run: RunId::from_bytes([run; 16]),
            token: FencingToken::from_raw(token),
            plan: None,
        }
    }

    fn planned(run: u8, token: i64, plan: PlanMark) -> StreamOwner {
        StreamOwner {
            plan: Some(plan),
            ..owner(run, token)
        }
    }

    #[test]
    fn a_claim_alone_is_late_behind_a_larger_token_only() {
        let late = |latest, mine| {
            let token = FencingToken::from_raw;
            claimed_since(token(latest), token(mine)).map(FencingToken::raw)
        };
        assert_eq!([late(4, 5), late(5, 5), late(6, 5)], [None, None, Some(6)]);
    }

    #[test]
    fn only_the_plan_that_a_stream_was_taken_for_begins_anything() {
        let marks: Vec<PlanMark> = [(1, "a"), (1, "b"), (2, "a")]
            .map(|(generation, cut)| PlanMark::of(generation, &DocumentDigest::of(cut.as_bytes())))
            .to_vec();
        for (at, mine) in marks.iter().enumerate() {
            for (other, taken) in marks.iter().enumerate() {
                assert_eq!(may_claim(Some(taken), mine), at == other);
                // AND a run takes its own stream for another plan by a larger token only, and gives
                // up what it had under way
                let (now, later) = (planned(7, 5, *taken), |token| planned(7, token, *mine));
                let take = |leaves_plan| Takeover::Take {
                    former: None,
                    leaves_plan,
                };
                assert_eq!(
                    take_stream(&later(6), RunMark::Running, Some(&now)),
                    take(at != other)
                );
                let again = take_stream(&later(5), RunMark::Running, Some(&now));
                assert_eq!(
                    again,
                    if at == other {
                        take(false)
                    } else {
                        Takeover::Fenced { newer: now.token }
                    }
                );
            }
            assert!(may_claim(None, mine));
            assert_eq!(PlanMark::from_bytes(*mine.as_bytes()), *mine);
        }
    }

    fn slice(start: i64, end: i64) -> Slice {
        Slice::Range(
            CursorRange::new(Some(Cursor::Integer(start)), Some(Cursor::Integer(end)))
                .expect("not empty"),
        )
    }

    #[test]
    fn a_late_attempt_of_an_older_run_never_takes_the_stream_from_a_newer_one() {
        let (older, newer) = (owner(1, 5), owner(2, 9));
        // GIVEN a run that was fenced by the newer one, or never got as far as to leave a mark
        let fenced = RunMark::Fenced {
            by: Some(newer.run),
        };
        assert_eq!(
            take_stream(&older, fenced, Some(&newer)),
            Takeover::Superseded
        );
        assert_eq!(
            take_stream(&owner(1, 99), fenced, Some(&newer)),
            Takeover::Superseded
        );
        assert_eq!(
            take_stream(&older, RunMark::Unknown, Some(&newer)),
            Takeover::Fenced { newer: newer.token }
        );
        // AND the newer one takes it, and takes it again, whatever its own attempts have done
        assert_eq!(
            take_stream(&newer, RunMark::Unknown, Some(&older)),
            Takeover::Take {
                former: Some(older.run),
                leaves_plan: false
            }
        );
        assert_eq!(
            take_stream(&newer, RunMark::Running, Some(&owner(2, 12))),
            Takeover::Take {
                former: None,
                leaves_plan: false
            }
        );
    }

    #[test]
    fn a_plan_that_does_not_depend_on_coverage_is_never_made_again() {
        let (one, other) = (DocumentDigest::of(b"1"), DocumentDigest::of(b"2"));
        assert_eq!(after_fence(None, &other, 0), AfterFence::Begin);
        assert_eq!(
            after_fence(Some(&one), &one, REPLANS_MAX),
            AfterFence::Begin
        );
        assert_eq!(
            after_fence(Some(&one), &other, REPLANS_MAX - 1),
            AfterFence::PlanAgain
        );
        assert_eq!(
            after_fence(Some(&one), &other, REPLANS_MAX),
            AfterFence::GiveUp
        );
    }

    #[test]
    fn receipts_of_nothing_and_those_written_again_expect_no_row() {
        let rows_expected = |latest_first: &[(Slice, u64)]| {
            let mut expecting = RowsExpected::default();
            latest_first
                .iter()
                .any(|(slice, rows)| expecting.earlier(slice, *rows))
        };
        assert!(!rows_expected(&[(slice(0, 10), 0), (Slice::Null, 0)]));
        assert!(rows_expected(&[(slice(0, 10), 0), (slice(10, 20), 3)]));
        // GIVEN a slice that was loaded again when its rows were gone, THEN only the later receipt
        // counts
        assert!(!rows_expected(&[(slice(0, 10), 0), (slice(2, 5), 3)]));
        assert!(!rows_expected(&[
            (Slice::Range(CursorRange::ALL), 0),
            (slice(2, 5), 3)
        ]));
        assert!(rows_expected(&[
            (Slice::Range(CursorRange::ALL), 0),
            (Slice::Null, 3)
        ]));
        assert_eq!(contradiction(TableFound::Missing, false), None);
        assert!(contradiction(TableFound::Empty, true).is_some());
    }

    #[test]
    fn whoever_meets_receipts_without_rows_is_told_where_why_and_the_ways_on() {
        for found in [TableFound::Missing, TableFound::Remade, TableFound::Empty] {
            let why = contradiction(found, true).expect("rows are expected");
            let message = receipts_message("warehouse", "public.flights", why);
            for part in [
                "warehouse",
                "public.flights",
                why,
                "highwater coverage forget FILE STEP",
                "bring the table itself back",
            ] {
                assert!(message.contains(part), "{part:?} is not in {message:?}");
            }
        }
        assert_eq!(contradiction(TableFound::Filled, true), None);
    }

    proptest! {
        #[test]
        fn whoever_holds_a_stream_was_given_it_by_a_larger_token(takes in proptest::collection::vec((0_u8..4, 0_i64..20), 1..30)) {
            // GIVEN runs that try to take one stream in any order, each owner fencing the one
            // before
            let mut now: Option<StreamOwner> = None;
            let mut fenced = std::collections::BTreeSet::new();
            for (run, token) in takes {
                let mine = owner(run, token);
                let own = if fenced.contains(&mine.run) { RunMark::Fenced { by: None } } else { RunMark::Running };
                if let Takeover::Take { former, .. } = take_stream(&mine, own, now.as_ref()) {
                    // THEN nobody that was fenced comes back, and the former owner is always among
                    // the fenced
                    prop_assert!(!fenced.contains(&mine.run));
                    fenced.extend(former);
                    if let Some(before) = now.filter(|before| before.run != mine.run) {
                        prop_assert!(fenced.contains(&before.run) && before.token < mine.token);
                    }
                    now = Some(mine);
                }
            }
        }
    }
}
