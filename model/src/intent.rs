//! A step that is not one transaction: claim, intent, act, commit. The act is outside: no ledger
//! can undo it, so nobody may begin it again, or beside another, without asking the target what
//! became of it.

use highwater_common::commit::{LedgerState, Resume};
use highwater_common::ledger::{ClaimStep, RunMark, claim, guard};
use highwater_common::token::{Fence, FencingToken, Nonce};
use stateright::{Model, Property};

use crate::Invariant;
use crate::world::{Row, digest};

/// How such a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntentDesign {
    /// The session that began is ended and seen gone, its row is taken over by compare, and the
    /// target is asked.
    Right,
    /// The session that began may live on.
    LeavesTheSession,
    /// An intent under one's own fence is taken for one's own, unprobed; and a restored store has
    /// given the fence again.
    OwnIntentUnprobed,
    /// Any open or begun row is anybody's.
    IntentWithoutToken,
    /// The row is taken over by whoever has a larger token, whatever it has become meanwhile.
    TakesOverUncompared,
}

impl IntentDesign {
    /// Every wrong design; I14 must see each.
    pub const WRONG: [Self; 4] = [
        Self::LeavesTheSession,
        Self::OwnIntentUnprobed,
        Self::IntentWithoutToken,
        Self::TakesOverUncompared,
    ];
}

/// A step that is not one transaction, tried several times.
#[derive(Debug, Clone, Copy)]
pub struct Intent {
    /// The design.
    pub design: IntentDesign,
    /// Attempts.
    pub attempts: u8,
    /// A restored store gives the same token again, under another nonce.
    pub repeats_tokens: bool,
}

/// What the row says, who is at it, and how often the act was done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Begun {
    row: Option<Owned>,
    attempts: Vec<Try>,
    acts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Owned {
    row: Row,
    session: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Try {
    fence: Fence,
    at: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Assigned,
    Claimed,
    /// It has met an intent of another, and ended that session.
    Met(Owned),
    TookOver,
    Acting,
    Acted,
    Over,
}

/// One step of an attempt, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// An attempt is handed out.
    Assign,
    /// It claims, or looks again.
    Claim(usize),
    /// It takes the row over.
    TakeOver(usize),
    /// It asks the target what became of the act.
    Probe(usize),
    /// It notes its intent.
    Begin(usize),
    /// It acts.
    Act(usize),
    /// It notes that it has acted.
    Commit(usize),
}

impl Intent {
    fn claim(&self, now: &mut Begun, at: usize) -> Option<()> {
        let mine = now.attempts[at].fence;
        if now.attempts[at].at != Stage::Assigned {
            return None;
        }
        let found = now.row.map(|owned| owned.row.read());
        let step = match (self.design, now.row) {
            (IntentDesign::IntentWithoutToken, Some(owned))
                if owned.row.state == LedgerState::Open =>
            {
                ClaimStep::Raise
            }
            _ => claim(Some(RunMark::Running), found.as_ref(), &mine, &digest()),
        };
        let is_own = now.row.is_some_and(|owned| owned.row.fence == mine);
        now.attempts[at].at = match step {
            ClaimStep::NoteRun => return None,
            ClaimStep::Raise => {
                now.row = Some(Owned {
                    row: Row {
                        state: LedgerState::Open,
                        fence: mine,
                    },
                    session: at,
                });
                Stage::Claimed
            }
            ClaimStep::Stands(Resume::Begin) => Stage::Claimed,
            ClaimStep::Stands(Resume::Probe)
                if is_own && self.design == IntentDesign::OwnIntentUnprobed =>
            {
                Stage::Acting
            }
            ClaimStep::Stands(Resume::Probe) => {
                let met = now.row?;
                if self.design != IntentDesign::LeavesTheSession && met.session != at {
                    now.attempts[met.session].at = Stage::Over;
                }
                Stage::Met(met)
            }
            ClaimStep::Stands(
                Resume::ReportOnly(_)
                | Resume::Superseded
                | Resume::SpecChanged
                | Resume::Fenced { .. },
            ) => Stage::Over,
        };
        Some(())
    }

    fn take_over(&self, now: &mut Begun, at: usize) -> Option<()> {
        let Try {
            fence,
            at: Stage::Met(met),
        } = now.attempts[at]
        else {
            return None;
        };
        let row = now.row?;
        let is_unchanged = match self.design {
            IntentDesign::TakesOverUncompared => {
                row.row.state == LedgerState::Intent && row.row.fence.token < fence.token
            }
            _ => row == met,
        };
        if !is_unchanged {
            now.attempts[at].at = Stage::Assigned; // it has moved on: look again
            return Some(());
        }
        now.row = Some(Owned {
            row: Row {
                state: LedgerState::Intent,
                fence,
            },
            session: at,
        });
        now.attempts[at].at = Stage::TookOver;
        Some(())
    }

    fn begin(&self, now: &mut Begun, at: usize) -> Option<()> {
        let Try {
            fence,
            at: Stage::Claimed,
        } = now.attempts[at]
        else {
            return None;
        };
        let row = now.row?;
        let is_begun = matches!(row.row.state, LedgerState::Open | LedgerState::Intent);
        let may = match self.design {
            IntentDesign::IntentWithoutToken => is_begun,
            _ => guard(Some(&row.row.read()), &fence) == 1,
        };
        now.attempts[at].at = Stage::Assigned;
        if may {
            now.row = Some(Owned {
                row: Row {
                    state: LedgerState::Intent,
                    fence,
                },
                session: at,
            });
            now.attempts[at].at = Stage::Acting;
        }
        Some(())
    }

    fn apply(&self, now: &mut Begun, step: Step) -> Option<()> {
        match step {
            Step::Assign => {
                let issued = u8::try_from(now.attempts.len()).ok()?;
                if issued >= self.attempts {
                    return None;
                }
                let is_same = self.design == IntentDesign::OwnIntentUnprobed;
                let lo = if self.repeats_tokens || is_same {
                    1
                } else {
                    u32::from(issued) + 1
                };
                let nonce = if is_same { 0 } else { u128::from(issued) + 1 };
                let fence = Fence {
                    token: FencingToken::new(1, lo)?,
                    nonce: Nonce::new(nonce),
                };
                now.attempts.push(Try {
                    fence,
                    at: Stage::Assigned,
                });
            }
            Step::Claim(at) => self.claim(now, at)?,
            Step::TakeOver(at) => self.take_over(now, at)?,
            Step::Probe(at) => {
                if now.attempts[at].at != Stage::TookOver {
                    return None;
                }
                let is_done = now.acts > 0;
                if is_done {
                    let owned = now.row.as_mut()?;
                    owned.row.state = LedgerState::Committed;
                }
                now.attempts[at].at = if is_done { Stage::Over } else { Stage::Acting };
            }
            Step::Begin(at) => self.begin(now, at)?,
            Step::Act(at) => {
                if now.attempts[at].at != Stage::Acting {
                    return None;
                }
                now.acts += 1;
                now.attempts[at].at = Stage::Acted;
            }
            Step::Commit(at) => {
                let attempt = now.attempts[at];
                let owned = now.row.as_mut()?;
                let is_own =
                    owned.row.state == LedgerState::Intent && owned.row.fence == attempt.fence;
                if attempt.at != Stage::Acted || !is_own {
                    return None;
                }
                owned.row.state = LedgerState::Committed;
                now.attempts[at].at = Stage::Over;
            }
        }
        Some(())
    }
}

impl Model for Intent {
    type State = Begun;
    type Action = Step;

    fn init_states(&self) -> Vec<Begun> {
        vec![Begun {
            row: None,
            attempts: Vec::new(),
            acts: 0,
        }]
    }

    fn actions(&self, now: &Begun, actions: &mut Vec<Step>) {
        if now.acts > 1 {
            return; // broken: nothing more to be learnt
        }
        actions.push(Step::Assign);
        for at in 0..now.attempts.len() {
            actions.extend([
                Step::Claim(at),
                Step::TakeOver(at),
                Step::Probe(at),
                Step::Begin(at),
                Step::Act(at),
                Step::Commit(at),
            ]);
        }
    }

    fn next_state(&self, now: &Begun, step: Step) -> Option<Begun> {
        let mut next = now.clone();
        self.apply(&mut next, step)?;
        (next != *now).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Invariant::I14.name(), |_, now: &Begun| now.acts <= 1),
            Property::sometimes("the act is done and told of", |_, now: &Begun| {
                now.row
                    .is_some_and(|owned| owned.row.state == LedgerState::Committed)
            }),
        ]
    }
}
