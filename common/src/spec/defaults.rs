//! Puts the file into its long form: shorthands written out, `defaults` laid under every step. And
//! what is laid over a file.

use super::keys::FILE;
use super::node::{Entry, Node, Value, join};
use super::shape::{Form, Shape, tag_of};
use super::step_keys::STEP;

/// Writes shorthands out and lays `defaults` under every step. Values keep the place where they
/// were written.
pub(super) fn long_form(file: &mut Node) {
    expand(file, &Shape::Fields(&FILE));
    let defaults: Vec<Entry> = file
        .get("defaults")
        .map(|node| node.entries().to_vec())
        .unwrap_or_default();
    let Value::Map(entries) = &mut file.value else {
        return;
    };
    for entry in entries.iter_mut().filter(|entry| entry.key == "steps") {
        let Value::Map(steps) = &mut entry.node.value else {
            return;
        };
        for step in steps {
            lay(&defaults, &mut step.node, true);
            settle_following(&mut step.node);
        }
    }
}

/// A step that follows another one says so by naming it, whatever rule is laid under it; one of the
/// strategy `sql` that names none is not cut at all.
fn settle_following(step: &mut Node) {
    let is_script = tag_of(&STEP, step) == Some("sql");
    let Value::Map(entries) = &mut step.value else {
        return;
    };
    if is_script {
        entries.retain(|entry| !(entry.is_laid && entry.key == "partition"));
    }
    let partition = entries.iter_mut().find(|entry| entry.key == "partition");
    let Some(Value::Map(keys)) = partition.map(|entry| &mut entry.node.value) else {
        return;
    };
    let named = keys.iter().find(|entry| entry.key == "follow");
    let Some(location) = named.map(|entry| entry.location) else {
        return;
    };
    keys.retain(|entry| !(entry.is_laid && entry.key == "by"));
    if keys.iter().all(|entry| entry.key != "by") {
        keys.push(Entry {
            key: "by".to_owned(),
            location,
            node: Node::text("follow", location),
            is_laid: true,
        });
    }
}

/// Lays entries under those of `over`. Maps merge key by key; anything else that is there stays as
/// it is, and so do a step's strategy and its statements: half of one strategy is none.
fn lay(under: &[Entry], over: &mut Node, is_step: bool) {
    let Value::Map(entries) = &mut over.value else {
        return;
    };
    for laid in under {
        match entries.iter_mut().find(|entry| entry.key == laid.key) {
            Some(entry) if !(is_step && is_whole(&laid.key)) => {
                lay(laid.node.entries(), &mut entry.node, false)
            }
            Some(_) => {}
            None => entries.push(Entry {
                is_laid: true,
                ..laid.clone()
            }),
        }
    }
}

/// Lays entries over those of `below`, whose path is given.
pub(super) fn lay_over(over: &[Entry], below: &mut Node, path: &str) {
    let Value::Map(entries) = &mut below.value else {
        below.value = Value::Map(over.to_vec());
        return;
    };
    // The text of statements and the file that has them take each other's place.
    if path.strip_suffix(".sql").is_some_and(is_step) {
        entries.clear();
    }
    for laid in over {
        let is_whole = is_whole(&laid.key) && is_step(path);
        let merges = |entry: &Entry| {
            let are_maps = matches!(
                (&entry.node.value, &laid.node.value),
                (Value::Map(_), Value::Map(_))
            );
            are_maps && !is_whole
        };
        match entries.iter_mut().find(|entry| entry.key == laid.key) {
            Some(entry) if merges(entry) => {
                lay_over(laid.node.entries(), &mut entry.node, &join(path, &laid.key));
            }
            Some(entry) => *entry = laid.clone(),
            None => entries.push(laid.clone()),
        }
    }
}

/// Whether a key of a step is replaced as a whole: half of one strategy is none, and neither are half
/// of a step's statements.
fn is_whole(key: &str) -> bool {
    matches!(key, "strategy" | "sql")
}

/// Whether the path is that of a step, or of what is laid under one.
fn is_step(path: &str) -> bool {
    path == "defaults" || (path.starts_with("steps.") && path.matches('.').count() == 1)
}

/// Writes out the texts that stand for a map of one key.
pub(super) fn expand(node: &mut Node, shape: &Shape) {
    match shape {
        Shape::Fields(fields) | Shape::Partial(fields) => {
            let is_short = match fields.shorthand.and_then(|key| fields.key(key)) {
                Some(key) if key.takes_list() && matches!(node.value, Value::List(_)) => true,
                _ => node.as_text().is_some(),
            };
            if let (Some(key), true) = (fields.shorthand, is_short) {
                let (text, location) = (node.clone(), node.location);
                node.value = Value::Map(vec![Entry {
                    key: key.to_owned(),
                    location,
                    node: text,
                    is_laid: false,
                }]);
            }
            let Value::Map(entries) = &mut node.value else {
                return;
            };
            for entry in entries {
                if let Some(Form::Now(shape)) = fields.key(&entry.key).map(|key| &key.form) {
                    expand(&mut entry.node, shape);
                }
            }
        }
        Shape::Named(named) => {
            let Value::Map(entries) = &mut node.value else {
                return;
            };
            entries
                .iter_mut()
                .for_each(|entry| expand(&mut entry.node, &named.each));
        }
        Shape::List(list) => {
            let Value::List(items) = &mut node.value else {
                return;
            };
            items.iter_mut().for_each(|item| expand(item, &list.each));
        }
        Shape::Text
        | Shape::File
        | Shape::Name
        | Shape::Table
        | Shape::Target
        | Shape::Tables
        | Shape::Type
        | Shape::Query
        | Shape::Script
        | Shape::Url
        | Shape::Bound => {}
        Shape::Written
        | Shape::Whole(..)
        | Shape::Bool
        | Shape::Duration
        | Shape::Lag
        | Shape::Bytes
        | Shape::Zone
        | Shape::Words(_) => {}
    }
}
