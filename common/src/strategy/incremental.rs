//! What a table has got since the last run: prepare the target, load the window between the
//! watermark and the position below which nothing more is committed, and ask the target whether it
//! still has that. The watermark moves with the rows, in the transactions that commit them.

use super::marks::{check_mark, own_columns};
use super::{Load, PlanContext, ProbeRequest, Sides, WindowRequest};
use crate::capability::Capabilities;
use crate::coverage::Coverage;
use crate::cursor::{Cursor, CursorKind};
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, PartitionFacts, StepFacts};
use crate::left_out::LeftOut;
use crate::plan::{
    LoadPlan, Phase, PhaseKind, PlanProblem, Problems, StepPlan, Tasks, is_built_later, plan_range,
};
use crate::range::CursorRange;
use crate::spec::{
    Backfill, CursorNulls, Deletes, HorizonRule, Incremental, Nulls, Order, Partition, PartitionBy,
    Reprocess, WriteMode,
};
use crate::window::{SafeEnd, WatermarkOrder, WindowFacts, looking_back, newest_end, safe_end};

impl Load for Incremental {
    fn name(&self) -> &'static str {
        "incremental"
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            source: Some(&self.from),
            target: Some(&self.to),
        }
    }

    fn needs(&self) -> Capabilities {
        match self.deletes {
            Deletes::Ignore => Capabilities::INCREMENTAL,
            Deletes::Hard | Deletes::Soft => Capabilities::INCREMENTAL.and(Capabilities::RECONCILE),
        }
    }

    fn zone(&self) -> &str {
        self.tz.as_deref().unwrap_or("UTC")
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        Some(ProbeRequest {
            partition_column: Some(&self.cursor),
            placing: None,
            bounds_declared: false,
            triggers: self.write.triggers,
            exchange: false,
            window: Some(WindowRequest {
                horizon: self.horizon,
                keeps_watermark: true,
                continues: self.continues.as_ref(),
                follows_log: false,
            }),
        })
    }

    fn plan(
        &self,
        of: &PlanContext<'_>,
        facts: Option<&StepFacts>,
    ) -> Result<StepPlan, Vec<PlanProblem>> {
        let mut problems = Problems::of(of.step);
        let Some((facts, found)) = facts.and_then(|facts| Some((facts, facts.window.as_ref()?)))
        else {
            problems.not_probed(&self.from.relation);
            return Err(problems.into_vec());
        };
        check_mark(
            self.deleted_at.as_deref(),
            (&self.from, &self.to),
            facts,
            &mut problems,
        );
        let removing = self.removing(facts, &mut problems);
        let window = facts
            .source
            .partition
            .as_ref()
            .and_then(|column| self.window(column, found, &mut problems));
        let (range, watermark) = match &window {
            Some(Window::Load { range, watermark }) => (*range, Some(*watermark)),
            Some(Window::Nothing { .. }) | None => (CursorRange::ALL, None),
        };
        let planned = plan_range(of.pipeline, of.step, &self.as_backfill(), range, facts);
        let LoadPlan {
            mut load_order,
            partitions,
            depends_on: _,
            estimated_rows,
            mut warnings,
            notes,
            facts: digest,
        } = problems.or(planned)?;
        let committed = Coverage::of(&facts.target.covered, facts.target.covered_null);
        let depends_on = found.digest(self.appends().then_some(&committed));
        // Where nothing is loaded it moves nowhere, and says how far the target is behind.
        load_order.watermark = watermark.or_else(|| standing(found));
        load_order.shrinking = self.shrinking;
        let (partitions, estimated_rows) = match window {
            Some(Window::Nothing { why }) => {
                warnings.push(why);
                let nulls = facts.source.partition.as_ref();
                let rows = nulls.and_then(|column| column.null_rows);
                (partitions.only_null(), rows.unwrap_or(0))
            }
            Some(Window::Load { .. }) | None => (partitions, estimated_rows),
        };
        let mut phases = vec![Phase::one(PhaseKind::Prepare)];
        if partitions.tasks_planned() > 0 {
            phases.push(Phase {
                kind: PhaseKind::Load,
                tasks: Tasks::Partitions(Box::new(partitions)),
                tolerant: false,
            });
        }
        if load_order.twin.as_ref().is_some_and(is_built_later) {
            phases.push(Phase::one(PhaseKind::Build));
        }
        if phases.iter().any(|phase| phase.kind.commits_rows()) {
            phases.push(Phase::one(PhaseKind::Close));
        }
        if let Some(told) = self.reconciling(watermark.is_some()) {
            phases.push(Phase::one(PhaseKind::Reconcile));
            warnings.push(told);
        }
        warnings.extend(removing);
        warnings.extend(self.doubts(facts, found));
        warnings.extend(notes.into_iter().map(|note| format!("not loaded: {note}")));
        Ok(StepPlan {
            phases,
            load_order: Some(load_order),
            depends_on: Some(depends_on),
            estimated_rows,
            warnings,
            not_loaded: Vec::new(),
            facts: Some(digest),
        })
    }

    fn summary(&self, plan: &StepPlan) -> String {
        let column = &self.cursor;
        match plan.partitions() {
            None => format!("nothing new by {column}"),
            Some(partitions) => {
                format!(
                    "what is new by {column}, {}",
                    partitions.partitioning().whole()
                )
            }
        }
    }

    fn deleted_at(&self) -> Option<&str> {
        self.deleted_at.as_deref()
    }

    /// Once the target is known to hold all that was loaded, and no more.
    fn checked_after(&self) -> Option<PhaseKind> {
        Some(match self.deletes {
            Deletes::Ignore => PhaseKind::Close,
            Deletes::Hard | Deletes::Soft => PhaseKind::Reconcile,
        })
    }

    fn after_failed_check(&self) -> &'static str {
        "The rows that were loaded stay, and the next run goes on behind them"
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// Where the watermark stays.
fn standing(found: &WindowFacts) -> Option<WatermarkOrder> {
    found.watermark.map(|at| WatermarkOrder {
        seen: Some(at.version),
        low: Some(at.position),
        to: at.position,
    })
}

/// What there is to load.
enum Window {
    /// Nothing yet, and why.
    Nothing { why: String },
    /// A range of positions, and how the watermark goes with it.
    Load {
        range: CursorRange,
        watermark: WatermarkOrder,
    },
}

impl Incremental {
    /// Columns that the target has for itself: the one that says when a row was deleted.
    #[must_use]
    pub fn own_columns(&self) -> Vec<ColumnFacts> {
        own_columns(self.deleted_at.as_deref())
    }

    /// What becomes of rows that the source has no more, of a run that looks for them: one that
    /// loads a window, and so knows that nothing else is under way.
    fn reconciling(&self, has_window: bool) -> Option<String> {
        let what = match self.deletes {
            Deletes::Hard => "are deleted",
            Deletes::Soft => "are marked as deleted",
            Deletes::Ignore => return None,
        };
        has_window.then(|| {
            format!(
                "rows of {} whose keys {} has no more {what}: all keys are compared",
                self.to.table, self.from.relation
            )
        })
    }

    fn appends(&self) -> bool {
        self.write.mode == WriteMode::Append
    }

    /// The window from the watermark to the safe end; `None` when something is wrong.
    fn window(
        &self,
        column: &PartitionFacts,
        found: &WindowFacts,
        problems: &mut Problems<'_>,
    ) -> Option<Window> {
        let (table, name) = (&self.from.relation, &self.cursor);
        let is_begun = |of: &Coverage| of.ranges(column.kind).next().is_some();
        let low = self.low(column, found, problems)?;
        if low.is_none()
            && let Some(continued) = &self.continues
            && !found.continued.as_ref().is_some_and(is_begun)
        {
            return Some(Window::Nothing {
                why: format!("it begins where {continued} ends, which has committed nothing yet"),
            });
        }
        let end = match self.end(column, found, problems)? {
            Some(end) => end,
            None => {
                let horizon = found.horizon.as_ref();
                let held = horizon.and_then(|horizon| horizon.held_by.as_deref());
                return Some(Window::Nothing {
                    why: match held {
                        Some(held) => format!(
                            "nothing is loaded: rows of {table} may still be committed with any \
                             {name}, because of {held}"
                        ),
                        None => format!("{table} has no row with a {name}"),
                    },
                });
            }
        };
        let start = match low {
            None => None,
            Some(low) => Some(self.looking_back(low, problems)?),
        };
        if low.is_some_and(|low| end.settled < low || end.end <= low) {
            let low = low.map(|low| low.to_string()).unwrap_or_default();
            return Some(Window::Nothing {
                why: format!(
                    "nothing is loaded: everything below {low} is there, and what is safe to read \
                     ends at {}",
                    end.end
                ),
            });
        }
        let range = CursorRange::new(start, Some(end.end)).ok()?;
        Some(Window::Load {
            range,
            watermark: WatermarkOrder {
                seen: found.watermark.map(|at| at.version),
                low,
                to: end.settled,
            },
        })
    }

    /// Where the window begins, before anything is read again.
    #[expect(
        clippy::option_option,
        reason = "the outer one says that something is wrong, the inner one that there is no start"
    )]
    fn low(
        &self,
        column: &PartitionFacts,
        found: &WindowFacts,
        problems: &mut Problems<'_>,
    ) -> Option<Option<Cursor>> {
        if found.watermark.is_none()
            && let (Some(continued), Some(coverage)) = (&self.continues, &found.continued)
            && coverage.ranges(column.kind).next().is_some()
            && found.low(column.kind).is_none()
        {
            problems.add(
                ErrorCode::PlanWindow,
                format!(
                    "{continued} has loaded {} without an end in {}, so nothing says where the \
                     first window begins",
                    self.from.relation, self.cursor
                ),
                format!(
                    "void what it has loaded by `highwater coverage forget`, or leave `continues` \
                     out to begin at the first row (of {continued})"
                ),
            );
            return None;
        }
        let low = found.low(column.kind);
        match low {
            Some(at) if at.kind() != column.kind => {
                problems.add(
                    ErrorCode::PlanWindow,
                    format!(
                        "the watermark is {at}, and column {} of {} holds positions of another kind",
                        self.cursor, self.from.relation
                    ),
                    "give the step another name to begin anew, or restore the column's type",
                );
                None
            }
            other => Some(other),
        }
    }

    /// Where the window ends; the inner `None` while nothing is safe.
    #[expect(
        clippy::option_option,
        reason = "the outer one says that something is wrong, the inner one that nothing is safe yet"
    )]
    fn end(
        &self,
        column: &PartitionFacts,
        found: &WindowFacts,
        problems: &mut Problems<'_>,
    ) -> Option<Option<SafeEnd>> {
        let (table, name, kind) = (&self.from.relation, &self.cursor, column.kind);
        let Some(horizon) = &found.horizon else {
            return self.newest(column, problems);
        };
        if kind == CursorKind::Integer && self.horizon != HorizonRule::Auto {
            problems.add(
                ErrorCode::PlanHorizon,
                format!("column {name} of {table} holds numbers, and a lag is a time"),
                "leave `strategy.horizon` out",
            );
            return None;
        }
        let is_civil = matches!(kind, CursorKind::Civil | CursorKind::Date);
        if is_civil && self.tz.is_none() {
            problems.add(
                ErrorCode::PlanCursorZone,
                format!(
                    "column {name} of {table} holds times without a zone, and nothing says which \
                     clock stamps them"
                ),
                "name its zone in `strategy.tz`, such as Europe/Berlin, or UTC",
            );
            return None;
        }
        if !is_civil && self.tz.is_some() {
            problems.add(
                ErrorCode::PlanCursorZone,
                format!("no zone applies to column {name} of {table}"),
                "leave `strategy.tz` out",
            );
            return None;
        }
        match safe_end(horizon, kind, column.max, self.zone()) {
            Ok(end) => Some(end),
            Err(error) => {
                problems.add(
                    ErrorCode::PlanUnknownZone,
                    error.to_string(),
                    "name an IANA zone such as Europe/Berlin",
                );
                None
            }
        }
    }

    /// Where the window ends in a database with one writer at a time.
    #[expect(
        clippy::option_option,
        reason = "the outer one says that something is wrong, the inner one that nothing is safe yet"
    )]
    fn newest(
        &self,
        column: &PartitionFacts,
        problems: &mut Problems<'_>,
    ) -> Option<Option<SafeEnd>> {
        let table = &self.from.relation;
        if self.appends() {
            problems.add(
                ErrorCode::PlanWindow,
                format!(
                    "more rows of the newest {} of {table} may come, so it is read again, and \
                     would be appended twice",
                    self.cursor
                ),
                "use `write.mode: merge`",
            );
            return None;
        }
        if self.horizon != HorizonRule::Auto {
            problems.add(
                ErrorCode::PlanHorizon,
                format!("one at a time writes into {table}, so no lag is needed"),
                "leave `strategy.horizon` out",
            );
            return None;
        }
        Some(column.max.and_then(|max| newest_end(max, column.form)))
    }

    fn looking_back(&self, low: Cursor, problems: &mut Problems<'_>) -> Option<Cursor> {
        let micros = i64::try_from(self.lookback.as_micros()).unwrap_or(i64::MAX);
        let start = looking_back(low, micros);
        if start.is_none() {
            problems.add(
                ErrorCode::PlanWindow,
                format!(
                    "column {} of {} holds numbers, and `lookback` is a time",
                    self.cursor, self.from.relation
                ),
                "leave `strategy.lookback` out",
            );
        }
        start
    }

    /// What a person should know of a window that may miss rows, or takes long to be found.
    fn doubts(&self, facts: &StepFacts, found: &WindowFacts) -> Vec<String> {
        let (table, name) = (&self.from.relation, &self.cursor);
        let mut told = Vec::new();
        if let HorizonRule::Lag(lag) = self.horizon {
            told.push(format!(
                "not loss-free: a row that is committed more than {} s after its {name} is never \
                 read",
                lag.as_secs()
            ));
        }
        if let Some(horizon) = &found.horizon {
            let doubts = horizon.doubts.iter();
            told.extend(doubts.map(|doubt| format!("not loss-free: {doubt}")));
            if let (Some(_), Some(held)) = (horizon.instant, &horizon.held_by) {
                told.push(format!("the window ends where it does because of {held}"));
            }
        }
        if let Some(column) = &facts.source.partition
            && !column.indexed
        {
            told.push(format!(
                "no index of {table} leads with {name}: each run reads the whole table"
            ));
        }
        told
    }

    /// The same load as a backfill of one range.
    fn as_backfill(&self) -> Backfill {
        Backfill {
            from: self.from.clone(),
            to: self.to.clone(),
            partition: Partition {
                column: self.cursor.clone(),
                by: PartitionBy::Integer {
                    width: None,
                    max_rows: u64::MAX,
                },
                nulls: match self.nulls {
                    CursorNulls::Fail => Nulls::Fail,
                    CursorNulls::Reload => Nulls::Partition,
                    CursorNulls::Ignore => Nulls::Ignore,
                },
            },
            start: None,
            end: None,
            is_continued: false,
            reprocess: match self.write.mode {
                WriteMode::Append => Reprocess::Missing,
                WriteMode::ReplacePartition
                | WriteMode::ReplaceTable
                | WriteMode::Exchange
                | WriteMode::Statements
                | WriteMode::Merge => Reprocess::All,
            },
            order: Order::Oldest,
            write: self.write.clone(),
            chunk: self.chunk,
        }
    }
}
