//! What does a target do of its own when rows are written? Triggers and rules change, add and leave
//! out rows behind the load's back, so they are told, skipped, or refused. Asked twice, as
//! [`super::check_table`] is: by the plan and by the prepare task.

use super::table_compat::{Misfit, TableCompat};
use crate::error_code::ErrorCode;
use crate::facts::{Engine, Reaction, ReactionKind};
use crate::spec::{TableName, Triggers, WriteMode};

/// The most lines about triggers: more are counted.
const TOLD_MAX: usize = 5;

/// What a load does to a table.
#[derive(Debug, Clone, Copy)]
pub struct Writing<'a> {
    /// The target's database.
    pub engine: Engine,
    /// The target's table.
    pub table: &'a TableName,
    /// How rows are written.
    pub mode: WriteMode,
    /// Whether triggers are to act.
    pub triggers: Triggers,
}

/// Whether the table's triggers and rules let the load be what it says, and what a user should know
/// of them. `found` is `None` for a table that is still to be made.
#[must_use]
pub fn check_reactions(to: Writing<'_>, found: Option<&[Reaction]>) -> TableCompat {
    let mut told = TableCompat::default();
    if to.triggers == Triggers::Skip && to.engine == Engine::Sqlite {
        told.misfits.push(Misfit {
            code: ErrorCode::PlanTriggersNotSkipped,
            message: format!(
                "`write.triggers: skip`, and SQLite has no switch that keeps the triggers of {} \
                 from firing",
                to.table
            ),
            help:
                "leave `write.triggers` out, and drop the triggers for as long as the load takes \
                 if they must not act"
                    .to_owned(),
        });
        return told;
    }
    let Some(found) = found else { return told };
    let (updates, deletes) = match to.mode {
        WriteMode::Append => (false, false),
        WriteMode::ReplacePartition | WriteMode::ReplaceTable => (false, true),
        // The table that is written has none.
        WriteMode::Exchange | WriteMode::Statements => return told,
        WriteMode::Merge => (true, false),
    };
    let concerned: Vec<&Reaction> = found
        .iter()
        .filter(|one| one.on_insert || (one.on_update && updates) || (one.on_delete && deletes))
        .collect();
    if updates {
        refuse_rules(to.table, &concerned, &mut told);
    }
    let acts = |one: &Reaction| match to.triggers {
        Triggers::Fire => one.fires,
        Triggers::Skip => one.fires_if_skipped,
    };
    for rule in concerned.iter().filter(|one| {
        one.kind == ReactionKind::RuleInstead && one.on_insert && one.is_rule_in_force()
    }) {
        told.misfits.push(Misfit {
            code: ErrorCode::PlanInsertRule,
            message: format!(
                "rule {} of {} puts something else in place of an insert ({}), and COPY, by which \
                 rows are loaded, goes past rules",
                rule.name, rule.table, rule.when
            ),
            help: format!(
                "load the table that the rule writes to, make a trigger of it, or drop \
                           the rule from {}",
                rule.table
            ),
        });
    }
    let acting = concerned.iter().filter(|one| acts(one));
    let mut lines: Vec<String> = acting.filter_map(|one| line(one, to.triggers)).collect();
    let more = lines.len().saturating_sub(TOLD_MAX);
    lines.truncate(TOLD_MAX);
    if more > 0 {
        lines.push(format!(
            "{more} more triggers and rules of {} act on this load",
            to.table
        ));
    }
    told.warnings = lines;
    if to.triggers == Triggers::Skip {
        told.warnings.insert(0, skipped(to.table, &concerned));
    }
    told
}

/// PostgreSQL merges into no table whose rules answer to an insert or an update.
fn refuse_rules(table: &TableName, concerned: &[&Reaction], told: &mut TableCompat) {
    let is_rule = |one: &&&Reaction| match one.kind {
        ReactionKind::Trigger => false,
        ReactionKind::RuleAlso | ReactionKind::RuleInstead => true,
    };
    if let Some(rule) = concerned.iter().find(is_rule) {
        told.misfits.push(Misfit {
            code: ErrorCode::PlanInsertRule,
            message: format!(
                "rule {} of {table} acts {}, and PostgreSQL merges rows into no table with such \
                 a rule",
                rule.name, rule.when
            ),
            help: "make a trigger of it, or use `write.mode: replace_partition`".to_owned(),
        });
    }
}

impl Reaction {
    const fn is_rule_in_force(&self) -> bool {
        self.fires || self.fires_if_skipped
    }

    fn place(&self) -> String {
        match self.alike {
            0 => self.table.clone(),
            more => format!("{} and {more} more of its parts", self.table),
        }
    }
}

fn line(one: &Reaction, triggers: Triggers) -> Option<String> {
    let (name, place, when) = (&one.name, one.place(), &one.when);
    let all_the_same = match triggers {
        Triggers::Fire => "",
        Triggers::Skip => " all the same, for it is enabled as `always` or `replica`",
    };
    match one.kind {
        ReactionKind::Trigger => Some(format!(
            "trigger {name} of {place} fires for this load{all_the_same} ({when}): what it \
             changes, adds or leaves out is not in the source"
        )),
        // The rows are written by COPY, which knows no rules; the range is emptied by DELETE, which
        // does.
        ReactionKind::RuleAlso if one.on_insert && !one.on_delete => Some(format!(
            "rule {name} of {place} does not act on this load ({when}): COPY, by which rows are \
             loaded, goes past rules"
        )),
        ReactionKind::RuleInstead if one.on_insert && !one.on_delete => None,
        ReactionKind::RuleAlso => Some(format!(
            "rule {name} of {place} acts when a range is emptied ({when})"
        )),
        ReactionKind::RuleInstead => Some(format!(
            "rule {name} of {place} puts something else in place of a delete ({when}): a range \
             that holds rows may fail to be replaced"
        )),
    }
}

fn skipped(table: &TableName, concerned: &[&Reaction]) -> String {
    let names: Vec<&str> = concerned
        .iter()
        .filter(|one| one.fires && !one.fires_if_skipped)
        .map(|one| one.name.as_str())
        .collect();
    let listed = match names.len() {
        0 => "there is none".to_owned(),
        1..=TOLD_MAX => names.join(", "),
        more => format!(
            "{} and {} more",
            names
                .iter()
                .take(TOLD_MAX)
                .copied()
                .collect::<Vec<_>>()
                .join(", "),
            more.saturating_sub(TOLD_MAX)
        ),
    };
    format!(
        "triggers of {table} are skipped ({listed}), and so are the server's own: foreign keys and \
         deferrable keys are not checked, and nothing follows a delete"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaction(name: &str, kind: ReactionKind, (on_insert, on_delete): (bool, bool)) -> Reaction {
        Reaction {
            name: name.to_owned(),
            table: "public.t".to_owned(),
            alike: 0,
            kind,
            when: "before insert, each row".to_owned(),
            on_insert,
            on_update: false,
            on_delete,
            fires: true,
            fires_if_skipped: false,
        }
    }

    fn told(
        engine: Engine,
        mode: WriteMode,
        triggers: Triggers,
        found: &[Reaction],
    ) -> (Vec<&'static str>, Vec<String>) {
        let table = TableName {
            schema: None,
            name: "t".to_owned(),
        };
        let told = check_reactions(
            Writing {
                engine,
                table: &table,
                mode,
                triggers,
            },
            Some(found),
        );
        (
            told.misfits
                .iter()
                .map(|misfit| misfit.code.as_str())
                .collect(),
            told.warnings,
        )
    }

    #[test]
    fn a_trigger_is_told_only_of_what_the_mode_does() {
        use ReactionKind::Trigger;
        let found = [
            reaction("ins", Trigger, (true, false)),
            reaction("del", Trigger, (false, true)),
            reaction("upd", Trigger, (false, false)),
        ];
        let (misfits, append) = told(Engine::Postgres, WriteMode::Append, Triggers::Fire, &found);
        let (_, replace) = told(
            Engine::Postgres,
            WriteMode::ReplacePartition,
            Triggers::Fire,
            &found,
        );
        assert_eq!((misfits.len(), append.len(), replace.len()), (0, 1, 2));
        assert!(
            append[0].starts_with(
                "trigger ins of public.t fires for this load (before insert, each row)"
            ),
            "{append:?}"
        );
    }

    #[test]
    fn skipped_triggers_are_told_with_what_else_is_skipped_and_what_fires_all_the_same() {
        let always = Reaction {
            fires_if_skipped: true,
            ..reaction("always", ReactionKind::Trigger, (true, false))
        };
        let replica = Reaction {
            fires: false,
            ..Reaction {
                name: "replica".to_owned(),
                ..always.clone()
            }
        };
        let found = [
            reaction("touch", ReactionKind::Trigger, (true, false)),
            always,
            replica,
        ];
        let (_, lines) = told(Engine::Postgres, WriteMode::Append, Triggers::Skip, &found);
        assert!(
            lines[0].contains("(touch)") && lines[0].contains("foreign keys"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("trigger always") && lines[2].starts_with("trigger replica"),
            "{lines:?}"
        );
        let (_, lines) = told(Engine::Postgres, WriteMode::Append, Triggers::Fire, &found);
        assert_eq!(
            lines.iter().filter(|line| line.contains("replica")).count(),
            0,
            "{lines:?}"
        );
        // AND SQLite, which has no such switch, refuses
        let (misfits, _) = told(Engine::Sqlite, WriteMode::Append, Triggers::Skip, &[]);
        assert_eq!(misfits, ["plan::triggers_not_skipped"]);
    }

    #[test]
    fn a_rule_in_place_of_an_insert_is_refused_and_others_are_told() {
        use ReactionKind::{RuleAlso, RuleInstead};
        let found = [reaction("elsewhere", RuleInstead, (true, false))];
        assert_eq!(
            told(Engine::Postgres, WriteMode::Append, Triggers::Fire, &found).0,
            ["plan::insert_rule"]
        );
        let found = [
            reaction("log", RuleAlso, (true, false)),
            reaction("keep", RuleInstead, (false, true)),
        ];
        let (misfits, lines) = told(
            Engine::Postgres,
            WriteMode::ReplacePartition,
            Triggers::Fire,
            &found,
        );
        assert_eq!((misfits.len(), lines.len()), (0, 2));
        assert!(
            lines[0].contains("COPY") && lines[1].contains("in place of a delete"),
            "{lines:?}"
        );
    }

    #[test]
    fn many_triggers_are_counted_and_not_listed() {
        let found: Vec<Reaction> = (0..9)
            .map(|no| reaction(&format!("t{no}"), ReactionKind::Trigger, (true, false)))
            .collect();
        let (_, lines) = told(Engine::Postgres, WriteMode::Append, Triggers::Fire, &found);
        assert_eq!(lines.len(), TOLD_MAX + 1);
        assert!(lines[TOLD_MAX].starts_with("4 more"), "{lines:?}");
    }
}
