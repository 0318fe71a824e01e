//! The model written as a pipeline file again: every default and every parameter put in.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::columns::ColumnRules;
use super::fields::insert;
use super::log_step::{Cdc, Deletes};
use super::model::{
    Backfill, FullRefresh, HorizonRule, Incremental, Noop, RetryPolicy, Script, Spec, Step,
    StepLimits, Strategy, Swap,
};
use super::node::{Entry, Node, ScalarKind, Value, scalar};
use super::partition::{Partition, PartitionBy};
use super::problem::Location;
use super::program::Program;
use super::relation::Relation;
use super::scalars::AUTO;
use super::schedule::Schedule;
use super::sides::{SourceTable, TargetTable};
use super::value::{bytes_text, duration_text, table_text};
use super::write::{Chunk, Write};

impl Spec {
    /// The file that says all that this pipeline is, with nothing left to defaults. Reading it
    /// gives the same pipeline.
    #[must_use]
    pub fn to_document(&self) -> Json {
        let connections = self
            .connections
            .iter()
            .map(|(name, of)| (name.to_string(), of.document()));
        let steps = self
            .steps
            .iter()
            .map(|(name, of)| (name.to_string(), step(of)));
        let mut document = json!({"version": self.version, "name": self.name});
        insert(
            &mut document,
            "connections",
            Some(connections.collect::<Map<_, _>>()),
        );
        let mut limits = json!({});
        insert(&mut limits, "tasks", self.limits.tasks);
        insert(&mut limits, "priority", self.limits.priority);
        let is_said = self.limits.tasks.is_some() || self.limits.priority.is_some();
        insert(&mut document, "limits", is_said.then_some(limits));
        insert(
            &mut document,
            "pools",
            Some(&self.pools).filter(|pools| !pools.is_empty()),
        );
        let schedule = self.schedule.as_ref().map(Schedule::document);
        insert(&mut document, "schedule", schedule);
        insert(&mut document, "steps", Some(steps.collect::<Map<_, _>>()));
        document
    }
}

fn step(step: &Step) -> Json {
    let RetryPolicy {
        max_attempts,
        initial,
        max,
        unreachable,
    } = &step.retries;
    let StepLimits {
        tasks,
        attempt,
        stall,
    } = &step.limits;
    let mut limits = json!({"stall": duration_text(*stall)});
    insert(&mut limits, "tasks", *tasks);
    insert(&mut limits, "attempt", attempt.map(duration_text));
    let mut document = match &step.strategy {
        Strategy::Backfill(of) => backfill(of),
        Strategy::FullRefresh(of) => full_refresh(of),
        Strategy::Swap(of) => swap(of),
        Strategy::Incremental(of) => incremental(of),
        Strategy::Sql(of) => script(of),
        Strategy::Exec(of) => program(of),
        Strategy::Cdc(of) => cdc(of),
        Strategy::Noop(Noop { tasks, hold }) => {
            json!({"strategy": {"type": "noop", "tasks": tasks, "hold": duration_text(*hold)}})
        }
    };
    insert(&mut document, "depends_on", Some(&step.depends_on));
    let retries = json!({
        "max_attempts": max_attempts,
        "initial": duration_text(*initial),
        "max": duration_text(*max),
        "unreachable": duration_text(*unreachable),
    });
    insert(&mut document, "retries", Some(retries));
    insert(&mut document, "limits", Some(limits));
    insert(
        &mut document,
        "pools",
        Some(&step.pools).filter(|pools| !pools.is_empty()),
    );
    insert(
        &mut document,
        "labels",
        Some(&step.labels).filter(|labels| !labels.is_empty()),
    );
    insert(
        &mut document,
        "tolerate",
        Some(json!({"dead": step.tolerate_dead})),
    );
    insert(
        &mut document,
        "checks",
        Some(&step.checks).filter(|checks| !checks.is_empty()),
    );
    document
}

fn full_refresh(of: &FullRefresh) -> Json {
    let strategy = json!({
        "type": "full_refresh",
        "allow_empty": of.shrinking.allow_empty,
        "allow_shrink": of.shrinking.allow_shrink,
    });
    let mut write = json!({
        "triggers": of.write.triggers, "on_schema_change": of.write.on_schema_change,
    });
    insert_key(&mut write, &of.write);
    json!({"strategy": strategy, "from": source(&of.from), "to": target(&of.to), "write": write})
}

fn program(of: &Program) -> Json {
    let mut document = json!({
        "strategy": {"type": "exec"}, "command": of.command, "env": of.env,
        "idempotent": of.idempotent,
    });
    insert(&mut document, "probe", of.probe.as_ref());
    document
}

fn script(of: &Script) -> Json {
    let mut script = json!({"strategy": {"type": "sql"}, "to": target(&of.to), "sql": of.sql});
    let follow = of.follow.as_ref();
    let follow = follow.map(|of| json!({"by": "follow", "follow": of.step, "grain": of.grain}));
    insert(&mut script, "partition", follow);
    script
}

fn swap(of: &Swap) -> Json {
    let mut strategy = json!({
        "type": "swap",
        "allow_empty": of.shrinking.allow_empty,
        "allow_shrink": of.shrinking.allow_shrink,
    });
    let lock_timeout = duration_text(of.lock_timeout);
    match of.is_in_place() {
        true => insert(&mut strategy, "publish", Some("in_place")),
        false => insert(&mut strategy, "lock_timeout", Some(lock_timeout)),
    }
    insert(&mut strategy, "keep_old", of.keep_old.map(duration_text));
    let mut write = json!({"triggers": of.write.triggers});
    insert_key(&mut write, &of.write);
    let mut document = json!({"strategy": strategy, "from": source(&of.from), "to": target(&of.to), "write": write});
    insert(
        &mut document,
        "partition",
        of.partition.as_ref().map(partition),
    );
    document
}

fn partition(of: &Partition) -> Json {
    let mut partition = match of.cut_column() {
        Some(column) => json!({"column": column, "nulls": of.nulls}),
        None => json!({}),
    };
    match &of.by {
        PartitionBy::Calendar { grain, tz } => {
            insert(&mut partition, "by", Some("calendar"));
            insert(&mut partition, "grain", Some(grain));
            insert(&mut partition, "tz", Some(tz));
        }
        PartitionBy::Integer { width, max_rows } => {
            insert(&mut partition, "by", Some("integer"));
            insert(&mut partition, "width", *width);
            insert(&mut partition, "max_rows", Some(max_rows));
        }
        PartitionBy::Hash { columns, parts } => {
            insert(&mut partition, "by", Some("hash"));
            insert(&mut partition, "columns", Some(columns));
            insert(&mut partition, "parts", Some(parts));
        }
        PartitionBy::Auto { max_rows } => {
            insert(&mut partition, "by", Some("auto"));
            insert(&mut partition, "max_rows", Some(max_rows));
        }
        PartitionBy::Keyset { columns, max_rows } => {
            insert(&mut partition, "by", Some("keyset"));
            insert(
                &mut partition,
                "columns",
                Some(columns).filter(|of| !of.is_empty()),
            );
            insert(&mut partition, "max_rows", Some(max_rows));
        }
    }
    partition
}

fn source(of: &SourceTable) -> Json {
    let mut from = json!({
        "connection": of.connection, "rows": of.rows,
    });
    match &of.relation {
        Relation::Table(table) => insert(&mut from, "table", Some(table_text(table, false))),
        Relation::Query(text) => insert(&mut from, "query", Some(text)),
    }
    let ColumnRules {
        exclude,
        renames,
        casts,
    } = &of.columns;
    let mut columns: BTreeMap<&str, Json> = BTreeMap::new();
    for (rule, named) in [("rename", renames), ("cast", casts)] {
        for (column, value) in named {
            let of_column = columns.entry(column).or_insert_with(|| json!({}));
            insert(of_column, rule, Some(value));
        }
    }
    for column in exclude {
        let of_column = columns.entry(column).or_insert_with(|| json!({}));
        insert(of_column, "exclude", Some(true));
    }
    insert(&mut from, "columns", Some(columns));
    from
}

fn target(of: &TargetTable) -> Json {
    let mut to = json!({"connection": of.connection, "table": table_text(&of.table, true)});
    insert(&mut to, "create", of.create);
    to
}

/// No key is no list: the source's key is then taken.
fn insert_key(write: &mut Json, of: &Write) {
    insert(write, "key", Some(&of.key).filter(|key| !key.is_empty()));
}

fn backfill(of: &Backfill) -> Json {
    let mut strategy = json!({"type": "backfill"});
    insert(&mut strategy, "start", of.start.as_ref());
    insert(&mut strategy, "end", of.end.as_ref());
    insert(&mut strategy, "reprocess", Some(of.reprocess));
    insert(&mut strategy, "order", Some(of.order));

    let mut write = json!({
        "mode": of.write.mode, "resident": of.write.resident, "triggers": of.write.triggers,
        "on_schema_change": of.write.on_schema_change,
    });
    insert_key(&mut write, &of.write);
    insert(&mut write, "cursor", of.write.cursor.as_ref());
    json!({
        "strategy": strategy, "from": source(&of.from), "to": target(&of.to),
        "partition": partition(&of.partition), "write": write, "chunk": chunk(of.chunk),
    })
}

fn chunk(of: Chunk) -> Json {
    let Chunk {
        target: time,
        max_rows,
        max_bytes,
    } = of;
    json!({
        "target": duration_text(time), "max_rows": max_rows, "max_bytes": bytes_text(max_bytes),
    })
}

fn incremental(of: &Incremental) -> Json {
    let horizon = match of.horizon {
        HorizonRule::Auto => AUTO.to_owned(),
        HorizonRule::Lag(lag) => duration_text(lag),
    };
    let mut strategy = json!({
        "type": "incremental", "cursor": of.cursor, "horizon": {"lag": horizon},
        "lookback": duration_text(of.lookback), "nulls": of.nulls,
    });
    insert(&mut strategy, "tz", of.tz.as_ref());
    insert(&mut strategy, "continues", of.continues.as_ref());
    for (key, allowed) in [
        ("allow_empty", of.shrinking.allow_empty),
        ("allow_shrink", of.shrinking.allow_shrink),
    ] {
        insert(&mut strategy, key, allowed.then_some(true));
    }
    let mut write = json!({
        "mode": of.write.mode, "triggers": of.write.triggers,
        "on_schema_change": of.write.on_schema_change,
    });
    if of.deletes != Deletes::Ignore {
        insert(&mut write, "deletes", Some(of.deletes));
    }
    insert(&mut write, "deleted_at", of.deleted_at.as_ref());
    insert_key(&mut write, &of.write);
    json!({
        "strategy": strategy, "from": source(&of.from), "to": target(&of.to), "write": write,
        "chunk": chunk(of.chunk),
    })
}

fn cdc(of: &Cdc) -> Json {
    let strategy = json!({
        "type": "cdc", "slot": of.slot, "publication": of.publication, "until": of.until,
    });
    let mut write = json!({
        "mode": of.write.mode, "resident": of.write.resident, "triggers": of.write.triggers,
        "on_schema_change": of.write.on_schema_change, "deletes": of.deletes,
    });
    insert(&mut write, "deleted_at", of.deleted_at.as_ref());
    insert_key(&mut write, &of.write);
    let mut step = json!({
        "strategy": strategy, "from": source(&of.from), "to": target(&of.to), "write": write,
        "chunk": chunk(of.chunk),
    });
    if let Some(retained) = of.slot_retained_max {
        let limit = json!({"retained": bytes_text(retained), "action": "alert"});
        insert(&mut step, "slot_limit", Some(limit));
    }
    step
}

/// The tree of a document that no file holds.
pub(super) fn tree(document: &Json) -> Node {
    let location = Location::START;
    let value = match document {
        Json::Null => return scalar(ScalarKind::Null, String::new(), location),
        Json::Bool(value) => return scalar(ScalarKind::Bool(*value), value.to_string(), location),
        Json::Number(number) => {
            let kind = number.as_i128().map_or(ScalarKind::Real, ScalarKind::Whole);
            return scalar(kind, number.to_string(), location);
        }
        Json::String(text) => return Node::text(text, location),
        Json::Array(items) => Value::List(items.iter().map(tree).collect()),
        Json::Object(entries) => {
            let entry = |(key, value): (&String, &Json)| Entry {
                key: key.clone(),
                location,
                node: tree(value),
                is_laid: false,
            };
            Value::Map(entries.iter().map(entry).collect())
        }
    };
    Node { value, location }
}
