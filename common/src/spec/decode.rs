//! Makes the model of a tree that has been checked. What does not fit was reported there; here it
//! is only left out, so that everything else can still be judged.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::Connection;
use super::data_check;
use super::draft::{Draft, DraftScript, DraftStep, Located, Side};
use super::fields::{duration, or, under, whole, word};
use super::model::{
    Dependency, Noop, Pool, RetryPolicy, RunLimits, Spec, Step, StepLimits, Strategy, When,
};
use super::node::{Node, join};
use super::schedule::Schedule;
use super::shape::tag_of;
use super::step_keys::STEP;
use super::strategies::{backfill, cdc, full_refresh, incremental, program, script, swap};
use super::value;
use super::write::WriteMode;
use crate::id::{PoolName, StepName};

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
    let mut enabled = read.clone().map(|read| without_disabled(read, &steps));
    // What another step goes on from knows that it does, and so it does while that one is not enabled: its watermark
    // stands all the same.
    for continued in steps.iter().filter_map(|step| step.continues.as_ref()) {
        let step = enabled
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
                priority: or(
                    file.get("limits").and_then(|node| node.get("priority")),
                    None,
                    |n| whole(n).map(Some),
                )?,
            },
            pools: pools
                .iter()
                .map(|(name, node)| Some((name.value.parse().ok()?, pool(node)?)))
                .collect::<Option<_>>()?,
            schedule: or(file.get("schedule"), None, |node| {
                Schedule::decode(node).map(Some)
            })?,
            steps: enabled?,
        })
    };
    let spec = spec();
    let pools = pools.into_iter().map(|(name, _)| name.value).collect();
    Draft {
        connections,
        pools,
        steps,
        spec,
        read,
    }
}

/// The steps that are enabled. Nobody waits for the end of one that is not.
fn without_disabled(
    mut read: BTreeMap<StepName, Step>,
    steps: &[DraftStep],
) -> BTreeMap<StepName, Step> {
    let is_enabled = |name: &StepName| {
        let step = steps.iter().find(|step| step.name.value == name.as_str());
        step.is_none_or(|step| step.is_enabled)
    };
    read.retain(|name, _| is_enabled(name));
    for step in read.values_mut() {
        step.depends_on.retain(|edge| is_enabled(&edge.step));
    }
    read
}

fn pool(node: &Node) -> Option<Pool> {
    Some(Pool {
        tasks: whole(node.get("tasks")?)?,
    })
}

fn draft_step(name: Located<String>, node: &Node) -> DraftStep {
    let loads = tag_of(&STEP, node);
    // What `defaults` lays under a step that has no such side means nothing.
    let side = |key: &str| {
        let has_side = STEP
            .key(key)
            .is_some_and(|of| loads.is_some_and(|word| of.goes_with(Some(word))));
        node.get(key)
            .filter(|_| has_side)
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
    // What a query reads has no name that a target's could hold, and neither have statements.
    let is_unnamed = from.is_none()
        || node
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
        table: sited(side, "table", &path, |node| match is_unnamed {
            true => value::target(node.as_text()?, None).ok(),
            false => value::target(node.as_text()?, Some(source?)).ok(),
        }),
    });
    let is_incremental = loads == Some("incremental");
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
    // What is followed goes before, too.
    let followed = node.get("partition").and_then(|of| {
        sited(of, "follow", &join(&name.path, "partition"), |node| {
            node.as_text()?.parse().ok()
        })
    });
    if let Some(Located {
        value,
        path,
        location,
    }) = followed
        && depends_on
            .iter()
            .all(|edge: &Located<Dependency>| edge.value.step != value)
    {
        let value = Dependency {
            step: value,
            when: When::Success,
        };
        depends_on.push(Located {
            value,
            path,
            location,
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
    let script = sited(node, "sql", &name.path, |node| {
        let file = node.get("file").and_then(Node::as_text);
        Some((node.get("text")?.clone(), file.map(str::to_owned)))
    });
    let script = script.and_then(|at| {
        let (text, file) = at.value;
        Some(DraftScript {
            text: Located {
                // That there is no statement is told by its form.
                value: text
                    .as_text()
                    .filter(|text| !text.trim().is_empty())?
                    .to_owned(),
                path: at.path,
                location: text.location,
            },
            file,
        })
    });
    let is_following = tag_of(&STEP, node) == Some("cdc");
    let followed = node.get("strategy").filter(|_| is_following);
    DraftStep {
        is_enabled: !node.get("enabled").is_some_and(Node::is_false),
        slot: followed.and_then(|of| {
            sited(of, "slot", &join(&name.path, "strategy"), |node| {
                node.as_text().map(str::to_owned)
            })
        }),
        depends_on,
        pools: pools.collect(),
        name,
        script: script.filter(|_| loads == Some("sql")),
        from,
        to,
        ends_now: ends_now(node),
        cursor: strategy
            .and_then(|of| of.get("cursor")?.as_text())
            .map(str::to_owned),
        continues,
    }
}

/// The column that a backfill is cut by which ends now.
fn ends_now(step: &Node) -> Option<String> {
    let end = step.get("strategy")?.get("end")?.as_text();
    let is_one = tag_of(&STEP, step) == Some("backfill") && end == Some(value::NOW);
    let column = step.get("partition")?.get("column")?.as_text()?;
    is_one.then(|| column.to_owned())
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
    // The log has an order of its own.
    let has_own = matches!(tag_of(&STEP, step), Some("incremental" | "cdc"));
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
        "sql" => script(node, draft).map(|script| Strategy::Sql(Box::new(script))),
        "exec" => program(node).map(|program| Strategy::Exec(Box::new(program))),
        "cdc" => cdc(node, strategy, draft).map(|cdc| Strategy::Cdc(Box::new(cdc))),
        "noop" => Some(Strategy::Noop(Noop {
            tasks: whole(strategy.get("tasks")?)?,
            hold: or(strategy.get("hold"), Duration::ZERO, duration)?,
        })),
        _ => None,
    }
}
