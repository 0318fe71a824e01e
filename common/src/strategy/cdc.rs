//! A table, copied once and then followed through its database's log: prepare the target and the
//! log, copy the table, apply what the log tells since it was made, ask the target what it has of
//! that. The position in the log moves with the changes, in the transactions that commit them.
//!
//! The log begins before the copy does, so that a change is in the one, or in the other, or in
//! both; what is in both is applied twice with the same end.

use super::marks::{check_mark, own_columns};
use super::{FollowedLog, Load, PlanContext, ProbeRequest, Sides, WindowRequest};
use crate::capability::Capabilities;
use crate::error_code::ErrorCode;
use crate::facts::{ColumnFacts, StepFacts};
use crate::left_out::LeftOut;
use crate::plan::{
    Building, Phase, PhaseKind, PlanProblem, Problems, StepPlan, Whole, Writing, check_references,
    plan_whole,
};
use crate::spec::{Cdc, Deletes, ExistingRows, HorizonRule, Shrinking, Until, Write, WriteMode};

impl Load for Cdc {
    fn name(&self) -> &'static str {
        "cdc"
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            source: Some(&self.from),
            target: Some(&self.to),
        }
    }

    fn needs(&self) -> Capabilities {
        let is_new = self.until == Until::Continuous || self.deletes == Deletes::Soft;
        match is_new {
            true => Capabilities::CDC.and(Capabilities::FOLLOW),
            false => Capabilities::CDC,
        }
    }

    fn probe(&self) -> Option<ProbeRequest<'_>> {
        Some(ProbeRequest {
            partition_column: None,
            placing: None,
            bounds_declared: false,
            triggers: self.write.triggers,
            exchange: false,
            window: Some(WindowRequest {
                horizon: HorizonRule::Auto,
                keeps_watermark: true,
                continues: None,
                follows_log: true,
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
        let copied = found.is_copied();
        if copied && found.watermark.is_none() {
            problems.add(
                ErrorCode::PlanLogGap,
                format!(
                    "{} is a copy of {}, and nothing says up to where of the log",
                    self.to.table, self.from.relation
                ),
                format!(
                    "`highwater cdc resync FILE {} --reason TEXT` copies it anew",
                    of.step
                ),
            );
        }
        let whole = Whole {
            from: &self.from,
            to: &self.to,
            write: &self.write,
            shrinking: Shrinking::default(),
            building: Building::AfterTheLoad,
        };
        check_mark(
            self.deleted_at.as_deref(),
            (&self.from, &self.to),
            facts,
            &mut problems,
        );
        if !copied {
            self.check_rewriting(found.resyncs, facts, &mut problems);
        }
        let planned = plan_whole(of.pipeline, of.step, &whole, &[PhaseKind::Prepare], facts);
        let mut step = problems.or(planned)?;
        if !copied {
            step.phases.push(Phase::one(PhaseKind::Load));
            step.warnings.extend(match found.resyncs {
                true => Some(self.converging()),
                false => self.residents(facts),
            });
        }
        let alert = found.slot.as_ref();
        let alert = alert.and_then(|slot| slot.alert(&self.slot, self.slot_retained_max));
        step.warnings.extend(alert);
        if step.is_built_later() {
            step.phases.push(Phase::one(PhaseKind::Build));
        }
        for kind in [PhaseKind::Replay, PhaseKind::Close] {
            step.phases.push(Phase::one(kind));
        }
        if self.until == Until::Continuous {
            step.phases.push(Phase::one(PhaseKind::Follow));
        }
        if let Some(load_order) = &mut step.load_order {
            // The copy is the whole table in one transaction; what merges is the log. Only over rows
            // that are the step's own and may have to stay the copy merges, too.
            load_order.write = match copied {
                true => Write {
                    mode: WriteMode::ReplacePartition,
                    resident: ExistingRows::Fail,
                    ..self.write.clone()
                },
                false => self.copying(found.resyncs),
            };
            load_order.reprocess_all = false;
        }
        if copied {
            step.estimated_rows = 0;
        }
        step.depends_on = Some(found.digest(None));
        Ok(step)
    }

    fn summary(&self, plan: &StepPlan) -> String {
        let until = match self.until {
            Until::CaughtUp => "up to where the log ends",
            Until::Continuous => "until the run is ended",
        };
        let slot = &self.slot;
        let is_copied = plan
            .phases
            .iter()
            .all(|phase| phase.kind != PhaseKind::Load);
        match is_copied {
            true => format!("slot {slot}, {until}"),
            false => format!("all of it, then slot {slot}, {until}"),
        }
    }

    fn log(&self) -> Option<FollowedLog<'_>> {
        Some(FollowedLog {
            slot: &self.slot,
            publication: &self.publication,
            retained_max: self.slot_retained_max,
        })
    }

    fn deleted_at(&self) -> Option<&str> {
        self.deleted_at.as_deref()
    }

    /// Once the target is known to hold all that was applied.
    fn checked_after(&self) -> Option<PhaseKind> {
        Some(PhaseKind::Close)
    }

    fn after_failed_check(&self) -> &'static str {
        "What was applied stays, and the next run goes on behind it"
    }

    fn judge_left_out(&self, _: &StepPlan, _: &LeftOut) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

impl Cdc {
    /// Columns that the target has for itself: the one that says when a row was deleted.
    #[must_use]
    pub fn own_columns(&self) -> Vec<ColumnFacts> {
        own_columns(self.deleted_at.as_deref())
    }

    /// How the table is copied.
    fn copying(&self, resyncs: bool) -> Write {
        let mut write = self.write.clone();
        write.mode = match resyncs && self.deletes != Deletes::Hard {
            true => WriteMode::Merge,
            false => WriteMode::ReplacePartition,
        };
        if resyncs {
            write.resident = ExistingRows::Replace;
        }
        write
    }

    /// What the table is asked for before it is copied so: a copy that deletes the rows that are
    /// there, and writes them again, meets what hangs on them as any other that replaces a table.
    #[must_use]
    pub fn prepared_as(write: &Write) -> WriteMode {
        match (write.mode, write.resident) {
            (WriteMode::ReplacePartition, ExistingRows::Replace) => WriteMode::ReplaceTable,
            (mode, _) => mode,
        }
    }

    /// Reports foreign keys of other tables that would act on rows which go and come back.
    fn check_rewriting(&self, resyncs: bool, facts: &StepFacts, problems: &mut Problems<'_>) {
        let write = self.copying(resyncs);
        let to = Writing {
            engine: facts.target.engine,
            table: &self.to.table,
            mode: Self::prepared_as(&write),
            triggers: write.triggers,
        };
        let Some(found) = &facts.target.table else {
            return;
        };
        let help = match resyncs {
            true => {
                "drop it until the copy is done, make it `on delete no action deferrable`, or set \
                 `write.deletes` to `soft` or `ignore`, with which a copy that is made anew updates \
                 rows where they are; then `highwater run` goes on"
            }
            false => "drop it until the copy is done, or make it `on delete no action deferrable`",
        };
        for misfit in check_references(to, &found.referenced_by).misfits {
            problems.add(misfit.code, misfit.message, help);
        }
    }

    /// What becomes of the rows that are the step's own when it is copied anew.
    fn converging(&self) -> String {
        let what_becomes = match self.deletes {
            Deletes::Hard => "rows that the source does not have go",
            Deletes::Ignore => "rows that the source does not have stay",
            Deletes::Soft => "rows that the source does not have are marked as deleted now",
        };
        format!(
            "{} is copied anew over the rows that are there; {what_becomes}",
            self.to.table
        )
    }

    /// Rows that are in the copy's way.
    fn residents(&self, facts: &StepFacts) -> Option<String> {
        let target = facts.target.table.as_ref()?;
        let what_becomes = match self.write.resident {
            ExistingRows::Fail => "the copy fails (`write.resident`)",
            ExistingRows::Replace => "the copy replaces all of them",
        };
        target.has_rows.then(|| {
            format!(
                "{} holds rows that no run has committed: {what_becomes}",
                self.to.table
            )
        })
    }
}
