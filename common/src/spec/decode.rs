//! Makes the model of a tree that has been checked. What does not fit was reported there; here it
//! is only left out, so that everything else can still be judged.

use std::collections::BTreeMap;
use std::time::Duration;

use super::columns::ColumnRules;
use super::connection::Connection;
use super::data_check;
use super::fields::{boolean, duration, or, under, whole, word};
use super::model::{
    Backfill, CursorNulls, Dependency, FullRefresh, HorizonRule, Incremental, Noop, Nulls, Order,
    Partition, PartitionBy, Pool, Reprocess, RetryPolicy, RunLimits, Shrinking, SourceRows,
    SourceTable, Spec, Step, StepLimits, Strategy, Swap, TargetTable, When,
};
use super::node::{Node, Scalar, ScalarKind, Value, join};
use super::problem::Location;
use super::relation::{Relation, query};
use super::scalars::AUTO;
use super::shape::tag_of;
use super::step_keys::STEP;
use super::value::{self, Bound, TableName};
use super::write::{Chunk, ExistingRows, OnSchemaChange, Triggers, Write, WriteMode};
use crate::id::{ConnectionName, PoolName, StepName};

/// A part of the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) path: String,
    pub(super) location: Location,
}

/// What could be made of a file.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) connections: Vec<(Located<String>, Option<Connection>)>,
    /// The names of the pools.
    pub(super) pools: Vec<String>,
    pub(super) steps: Vec<DraftStep>,
    /// The whole, when every part could be read.
    pub(super) spec: Option<Spec>,
}

/// What could be made of a step.
#[derive(Debug)]
pub(super) struct DraftStep {
    pub(super) name: Located<String>,
    pub(super) depends_on: Vec<Located<Dependency>>,
    pub(super) pools: Vec<Located<PoolName>>,
    pub(super) from: Option<Side>,
    pub(super) to: Option<Side>,
    /// Whether another one can continue it.
    pub(super) ends_now: bool,
    /// The step that it continues.
    pub(super) continues: Option<Located<StepName>>,
}

/// One side of a step.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) connection: Option<Located<ConnectionName>>,
    pub(super) table: Option<Located<TableName>>,
}

/// Reads the long form of a file.
pub(super) fn draft(file: &Node) -> Draft {
    let named = |key: &str| {
        let entries = file.get(key).map_or(&[][..], Node::entries);
        let key = key.to_owned();
        entries.iter().map(move |entry| {
            let path = join(&key, &entry.key);
            (
                Located {
                    value: entry.key.clone(),
                    path,
                    location: entry.location,
                },
                &entry.node,
            )
        })
    };
    let connections: Vec<_> = named("connections")
        .map(|(name, node)| (name, Connection::decode(node)))
        .collect();
    let pools: Vec<_> = named("pools").collect();
    let mut steps = Vec::new();
    let mut read = Some(BTreeMap::new());
    for (name, node) in named("steps") {
        let draft = draft_step(name.clone(), node);
        read = read.and_then(|mut map| {
            map.insert(name.value.parse::<StepName>().ok()?, step(node, &draft)?);
            Some(map)
        });
        steps.push(draft);
    }
    // What another step goes on from knows that it does.
    for continued in steps.iter().filter_map(|step| step.continues.as_ref()) {
        let step = read
            .as_mut()
            .and_then(|read| read.get_mut(&continued.value));
        if let Some(Strategy::Backfill(backfill)) = step.map(|step: &mut Step| &mut step.strategy) {
            backfill.is_continued = true;
        }
    }
    let spec = || {
        let named = connections
            .iter()
            .map(|(name, connection)| Some((name.value.parse().ok()?, connection.clone()?)));
        Some(Spec {
            version: file.get("version").and_then(whole)?,
            name: file.get("name")?.as_text()?.parse().ok()?,
            connections: named.collect::<Option<BTreeMap<_, _>>>()?,
            limits: RunLimits {
                tasks: or(
                    file.get("limits").and_then(|node| node.get("tasks")),
                    None,
                    |n| whole(n).map(Some),
                )?,
            },
            pools: pools
                .iter()
                .map(|(name, node)| Some((name.value.parse().ok()?, pool(node)?)))
                .collect::<Option<_>>()?,
            steps: read?,
        })
    };
    let spec = spec();
    let pools = pools.into_iter().map(|(name, _)| name.value).collect();
    Draft {
        connections,
        pools,
        steps,
        spec,
    }
}

fn pool(node: &Node) -> Option<Pool> {
    Some(Pool {
        tasks: whole(node.get("tasks")?)?,
    })
}

fn draft_step(name: Located<String>, node: &Node) -> DraftStep {
    let moves_rows = matches!(
        tag_of(&STEP, node),
        Some("backfill" | "full_refresh" | "swap" | "incremental")
    );
    let side = |key: &str| {
        node.get(key)
            .filter(|_| moves_rows)
            .map(|side| (join(&name.path, key), side))
    };
    let from = side("from").map(|(path, side)| Side {
        connection: sited(side, "connection", &path, |node| {
            node.as_text()?.parse().ok()
        }),
        table: sited(side, "table", &path, |node| {
            value::table(node.as_text()?).ok()
        }),
    });
    // What a query reads has no name that a target's could hold.
    let is_query = node
        .get("from")
        .is_some_and(|from| from.get("query").is_some());
    let source = from
        .as_ref()
        .and_then(|from| from.table.as_ref())
        .map(|table| &table.value);
    let to = side("to").map(|(path, side)| Side {
        connection: sited(side, "connection", &path, |node| {
            node.as_text()?.parse().ok()
        }),
        // Without the source's name a name that holds it is not known.
        table: sited(side, "table", &path, |node| match is_query {
            true => value::target(node.as_text()?, None).ok(),
            false => value::target(node.as_text()?, Some(source?)).ok(),
        }),
    });
    let is_incremental = tag_of(&STEP, node) == Some("incremental");
    let strategy = node.get("strategy").filter(|_| is_incremental);
    let continues = strategy.and_then(|of| {
        sited(of, "continues", &join(&name.path, "strategy"), |node| {
            node.as_text()?.parse().ok()
        })
    });
    let path = join(&name.path, "depends_on");
    let items = node.get("depends_on").map_or(&[][..], Node::items);
    let depends_on = items.iter().enumerate().filter_map(|(at, item)| {
        let step = item.get("step")?.as_text()?.parse().ok()?;
        // A word that is none was reported; the step is still looked for.
        let when = item.get("when").and_then(word).unwrap_or(When::Success);
        let value = Dependency { step, when };
        Some(Located {
            value,
            path: format!("{path}[{at}]"),
            location: item.location,
        })
    });
    let mut depends_on: Vec<_> = depends_on.collect();
    // What is continued has to be there first.
    if let Some(Located {
        value: step,
        path,
        location,
    }) = &continues
        && depends_on.iter().all(|edge| edge.value.step != *step)
    {
        depends_on.push(Located {
            value: Dependency {
                step: step.clone(),
                when: When::Success,
            },
            path: path.clone(),
            location: *location,
        });
    }
    let path = join(&name.path, "pools");
    let items = node.get("pools").map_or(&[][..], Node::items);
    let pools = items.iter().enumerate().filter_map(|(at, item)| {
        Some(Located {
            value: item.as_text()?.parse().ok()?,
            path: format!("{path}[{at}]"),
            location: item.location,
        })
    });
    DraftStep {
        depends_on,
        pools: pools.collect(),
        name,
        from,
        to,
        ends_now: tag_of(&STEP, node) == Some("backfill") && {
            let end = node.get("strategy").and_then(|of| of.get("end"));
            end.and_then(Node::as_text) == Some(value::NOW)
        },
        continues,
    }
}

fn sited<T>(
    node: &Node,
    key: &str,
    path: &str,
    read: impl Fn(&Node) -> Option<T>,
) -> Option<Located<T>> {
    let node = node.get(key)?;
    Some(Located {
        value: read(node)?,
        path: join(path, key),
        location: node.location,
    })
}

fn step(node: &Node, draft: &DraftStep) -> Option<Step> {
    let mut depends_on: Vec<Dependency> = draft
        .depends_on
        .iter()
        .map(|dependency| dependency.value.clone())
        .collect();
    // The order of the list means nothing, so it must not change the digest.
    depends_on.sort_by(|a, b| a.step.cmp(&b.step));
    let mut pools: Vec<PoolName> = draft.pools.iter().map(|pool| pool.value.clone()).collect();
    pools.sort();
    let retries = node.get("retries");
    let policy = RetryPolicy::default();
    let limits = node.get("limits");
    Some(Step {
        depends_on,
        strategy: strategy(node, draft)?,
        retries: RetryPolicy {
            max_attempts: or(under(retries, "max_attempts"), policy.max_attempts, whole)?,
            initial: or(under(retries, "initial"), policy.initial, duration)?,
            max: or(under(retries, "max"), policy.max, duration)?,
            unreachable: or(under(retries, "unreachable"), policy.unreachable, duration)?,
        },
        limits: StepLimits {
            tasks: or(under(limits, "tasks"), tasks_unless_limited(node), |node| {
                whole(node).map(Some)
            })?,
            attempt: or(under(limits, "attempt"), None, |node| {
                duration(node).map(Some)
            })?,
            stall: or(
                under(limits, "stall"),
                StepLimits::default().stall,
                duration,
            )?,
        },
        pools,
        labels: or(node.get("labels"), BTreeMap::new(), labels)?,
        tolerate_dead: or(under(node.get("tolerate"), "dead"), 0, whole)?,
        checks: or(checks_of(node), Vec::new(), |checks| {
            checks.items().iter().map(data_check::check).collect()
        })?,
    })
}

/// The checks of a step that can have some; what `defaults` lays under another means nothing.
fn checks_of(step: &Node) -> Option<&Node> {
    let key = STEP.key("checks")?;
    let has_some = tag_of(&STEP, step).is_some_and(|word| key.goes_with(Some(word)));
    step.get("checks").filter(|_| has_some)
}

/// How many tasks of a step run beside each other where its `limits` do not say. The rows of a merge
/// without a cursor win in the order in which they are committed, which has to be the order in which
/// they were read.
fn tasks_unless_limited(step: &Node) -> Option<u32> {
    merges_without_cursor(step).then_some(1)
}

/// Whether the step merges rows, and no column tells which is the newer.
pub(super) fn merges_without_cursor(step: &Node) -> bool {
    let has_own = tag_of(&STEP, step) == Some("incremental");
    !has_own
        && step.get("write").is_some_and(|write| {
            write.get("mode").and_then(word) == Some(WriteMode::Merge)
                && write.get("cursor").is_none()
        })
}

fn labels(node: &Node) -> Option<BTreeMap<String, String>> {
    node.entries()
        .iter()
        .map(|entry| Some((entry.key.clone(), entry.node.as_text()?.to_owned())))
        .collect()
}

fn strategy(node: &Node, draft: &DraftStep) -> Option<Strategy> {
    let strategy = node.get("strategy")?;
    match strategy.get("type")?.as_text()? {
        "backfill" => {
            backfill(node, strategy, draft).map(|backfill| Strategy::Backfill(Box::new(backfill)))
        }
        "full_refresh" => full_refresh(node, strategy, draft)
            .map(|refresh| Strategy::FullRefresh(Box::new(refresh))),
        "swap" => swap(node, strategy, draft).map(|swap| Strategy::Swap(Box::new(swap))),
        "incremental" => incremental(node, strategy, draft)
            .map(|incremental| Strategy::Incremental(Box::new(incremental))),
        "noop" => Some(Strategy::Noop(Noop {
            tasks: whole(strategy.get("tasks")?)?,
            hold: or(strategy.get("hold"), Duration::ZERO, duration)?,
        })),
        _ => None,
    }
}

/// Both sides of a step that moves rows.
fn sides(node: &Node, draft: &DraftStep) -> Option<(SourceTable, TargetTable)> {
    let side = |side: &Side| Some((side.connection.clone()?.value, side.table.clone()?.value));
    let from = node.get("from")?;
    let read = draft.from.as_ref()?;
    let relation = match from.get("query") {
        Some(node) => Relation::Query(query(node.as_text()?)?.to_owned()),
        None => Relation::Table(read.table.clone()?.value),
    };
    let source = SourceTable {
        connection: read.connection.clone()?.value,
        relation,
        columns: column_rules(from)?,
        rows: or(from.get("rows"), SourceRows::All, word)?,
    };
    let (connection, table) = side(draft.to.as_ref()?)?;
    let target = TargetTable {
        connection,
        table,
        create: or(node.get("to")?.get("create"), None, |node| {
            word(node).map(Some)
        })?,
    };
    Some((source, target))
}

fn full_refresh(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<FullRefresh> {
    let (from, to) = sides(node, draft)?;
    Some(FullRefresh {
        from,
        to,
        write: replacing(node.get("write"), WriteMode::ReplaceTable)?,
        shrinking: shrinking(strategy)?,
    })
}

fn swap(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<Swap> {
    let (from, to) = sides(node, draft)?;
    let mode = match strategy.get("publish").map(Node::as_text) {
        None | Some(Some("rename")) => WriteMode::Exchange,
        Some(Some("in_place")) => WriteMode::ReplaceTable,
        Some(_) => return None,
    };
    Some(Swap {
        from,
        to,
        partition: or(node.get("partition"), None, |node| {
            partition(node).map(Some)
        })?,
        // The table that takes the place of the target's is made like it.
        write: Write {
            on_schema_change: OnSchemaChange::Fail,
            ..replacing(node.get("write"), mode)?
        },
        shrinking: shrinking(strategy)?,
        lock_timeout: or(
            strategy.get("lock_timeout"),
            Duration::from_millis(500),
            duration,
        )?,
        keep_old: or(strategy.get("keep_old"), None, |node| {
            duration(node).map(Some)
        })?,
    })
}

/// How the rows of a table are written that takes the place of all others.
fn replacing(write: Option<&Node>, mode: WriteMode) -> Option<Write> {
    Some(Write {
        mode,
        key: write_key(write)?,
        cursor: None,
        resident: ExistingRows::Replace,
        triggers: or(under(write, "triggers"), Triggers::Fire, word)?,
        on_schema_change: on_schema_change(write)?,
    })
}

fn shrinking(strategy: &Node) -> Option<Shrinking> {
    Some(Shrinking {
        allow_empty: or(strategy.get("allow_empty"), false, boolean)?,
        allow_shrink: or(strategy.get("allow_shrink"), false, boolean)?,
    })
}

fn on_schema_change(write: Option<&Node>) -> Option<OnSchemaChange> {
    or(under(write, "on_schema_change"), OnSchemaChange::Fail, word)
}

/// The columns of `write.key`.
fn write_key(write: Option<&Node>) -> Option<Vec<String>> {
    let key = under(write, "key").map_or(&[][..], Node::items).iter();
    key.map(|node| node.as_text().map(str::to_owned)).collect()
}

fn backfill(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<Backfill> {
    let (from, to) = sides(node, draft)?;
    let write = node.get("write")?;
    Some(Backfill {
        from,
        to,
        partition: partition(node.get("partition")?)?,
        start: or(strategy.get("start"), None, |node| bound(node).map(Some))?,
        end: or(strategy.get("end"), None, |node| bound(node).map(Some))?,
        is_continued: false,
        reprocess: or(strategy.get("reprocess"), Reprocess::Missing, word)?,
        order: or(strategy.get("order"), Order::Oldest, word)?,
        write: Write {
            mode: word(write.get("mode")?)?,
            key: write_key(Some(write))?,
            cursor: or(write.get("cursor"), None, |node| {
                node.as_text().map(|name| Some(name.to_owned()))
            })?,
            resident: or(write.get("resident"), ExistingRows::Fail, word)?,
            triggers: or(write.get("triggers"), Triggers::Fire, word)?,
            on_schema_change: on_schema_change(Some(write))?,
        },
        chunk: chunk(node.get("chunk"))?,
    })
}

fn incremental(node: &Node, strategy: &Node, draft: &DraftStep) -> Option<Incremental> {
    let (from, to) = sides(node, draft)?;
    let write = node.get("write")?;
    let cursor = strategy.get("cursor")?.as_text()?.to_owned();
    let mode = word(write.get("mode")?)?;
    // The newer of two rows is the one with the larger cursor, under the name that it arrives by.
    let arrives = from.columns.renames.get(&cursor).unwrap_or(&cursor).clone();
    Some(Incremental {
        cursor,
        tz: or(strategy.get("tz"), None, |node| {
            value::zone(node.as_text()?).map(Some)
        })?,
        horizon: or(strategy.get("horizon"), HorizonRule::Auto, horizon)?,
        lookback: or(strategy.get("lookback"), Duration::ZERO, duration)?,
        nulls: or(strategy.get("nulls"), CursorNulls::Fail, word)?,
        continues: draft.continues.as_ref().map(|step| step.value.clone()),
        write: Write {
            mode,
            key: write_key(Some(write))?,
            cursor: (mode == WriteMode::Merge).then_some(arrives),
            resident: ExistingRows::Fail,
            triggers: or(write.get("triggers"), Triggers::Fire, word)?,
            on_schema_change: on_schema_change(Some(write))?,
        },
        chunk: chunk(node.get("chunk"))?,
        from,
        to,
    })
}

fn horizon(node: &Node) -> Option<HorizonRule> {
    let lag = node.get("lag")?;
    match lag.as_text()? {
        AUTO => Some(HorizonRule::Auto),
        _ => duration(lag).map(HorizonRule::Lag),
    }
}

fn chunk(node: Option<&Node>) -> Option<Chunk> {
    let of = Chunk::default();
    Some(Chunk {
        target: or(under(node, "target"), of.target, duration)?,
        max_rows: or(under(node, "max_rows"), of.max_rows, whole)?,
        max_bytes: or(under(node, "max_bytes"), of.max_bytes, |node| {
            value::bytes(node.as_text()?)
        })?,
    })
}

/// The rules of single columns: the order of a map means nothing.
fn column_rules(from: &Node) -> Option<ColumnRules> {
    let mut rules = ColumnRules::default();
    for entry in from.get("columns").map_or(&[][..], Node::entries) {
        if or(entry.node.get("exclude"), false, boolean)? {
            rules.exclude.push(entry.key.clone());
        }
        for (rule, named) in [("rename", &mut rules.renames), ("cast", &mut rules.casts)] {
            if let Some(node) = entry.node.get(rule) {
                named.insert(entry.key.clone(), node.as_text()?.to_owned());
            }
        }
    }
    rules.exclude.sort();
    Some(rules)
}

fn partition(node: &Node) -> Option<Partition> {
    let by = match node.get("by")?.as_text()? {
        "calendar" => PartitionBy::Calendar {
            grain: word(node.get("grain")?)?,
            tz: or(node.get("tz"), "UTC".to_owned(), |node| {
                value::zone(node.as_text()?)
            })?,
        },
        "integer" => PartitionBy::Integer {
            width: or(node.get("width"), None, |node| whole(node).map(Some))?,
            max_rows: or(node.get("max_rows"), 500_000, whole)?,
        },
        _ => return None,
    };
    Some(Partition {
        column: node.get("column")?.as_text()?.to_owned(),
        by,
        nulls: or(node.get("nulls"), Nulls::Partition, word)?,
    })
}

/// A bound as written; a number as its decimal digits.
pub(super) fn bound(node: &Node) -> Option<Bound> {
    match &node.value {
        Value::Scalar(Scalar {
            kind: ScalarKind::Text,
            written,
        }) => Some(Bound(written.clone())),
        Value::Scalar(Scalar {
            kind: ScalarKind::Whole(value),
            ..
        }) => Some(Bound(value.to_string())),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
    }
}
