//! Single keys that a command line sets: `steps.orders.limits.tasks=8`. The value is YAML, as it
//! would stand in the file; a place is one in the text of the setting.

use super::defaults::{self, lay_over};
use super::keys::FILE;
use super::node::{self, Entry, Node, ScalarKind, Value, join, scalar, shortened};
use super::problem::{Location, Problems};
use super::shape::Shape;
use super::suggest::nearest;
use crate::error_code::ErrorCode;

/// Sets what the setting says, which is the one of this number.
pub(super) fn set(file: &mut Node, at: usize, text: &str, problems: &mut Problems) {
    let Some((keys, value_at)) = path(text) else {
        problems
            .add(
                ErrorCode::SpecBadValue,
                "",
                whole(at, text.len()),
                "a setting is PATH=VALUE, its path keys of the file with dots between",
            )
            .hint("such as steps.orders.limits.tasks=8; a key with a dot in it stands in \"…\"");
        return;
    };
    let place = whole(at, value_at.saturating_sub(1));
    let path = keys
        .iter()
        .fold(String::new(), |path, key| join(&path, key));
    if keys.first().is_some_and(|key| key == "environments") {
        problems
            .add(
                ErrorCode::SpecUnknownKey,
                &path,
                place,
                "an environment cannot be set",
            )
            .hint("set what it would set; --env NAME chooses one of the file's");
        return;
    }
    if let ("steps", Some(step)) = (keys.first().map_or("", String::as_str), keys.get(1)) {
        let steps = file.get("steps").map_or(&[][..], Node::entries);
        if !steps.iter().any(|of| of.key == *step) {
            let message = format!("no step is named `{}`", shortened(step));
            let problem = problems.add(ErrorCode::SpecUnknownStep, &path, place, message);
            if let Some(meant) = nearest(step, steps.iter().map(|step| step.key.as_str())) {
                problem.hint(format!("did you mean `{meant}`?"));
            }
            return;
        }
    }
    let Some(value) = value(text, at, value_at, &path, problems) else {
        return;
    };
    let Some((last, parents)) = keys.split_last() else {
        return;
    };
    let (mut node, mut above) = (&mut *file, String::new());
    for key in parents {
        let here = join(&above, key);
        let Some(next) = child(node, key, place) else {
            let message = format!("`{above}` is no map, so it has no `{}`", shortened(key));
            problems
                .add(ErrorCode::SpecWrongType, &path, place, message)
                .hint(format!("a list is set as a whole: {above}=[…]"));
            return;
        };
        (node, above) = (next, here);
    }
    if !matches!(node.value, Value::Map(_)) {
        let message = format!("`{above}` is no map, so it has no `{}`", shortened(last));
        problems
            .add(ErrorCode::SpecWrongType, &path, place, message)
            .hint(format!("a list is set as a whole: {above}=[…]"));
        return;
    }
    let entry = Entry {
        key: last.clone(),
        location: place,
        node: value,
        is_laid: false,
    };
    lay_over(&[entry], node, &above);
    // The next one may go into what this one wrote short.
    defaults::expand(file, &Shape::Fields(&FILE));
}

/// The keys of the path, and where the value begins.
fn path(text: &str) -> Option<(Vec<String>, usize)> {
    let (mut keys, mut key, mut is_quoted) = (Vec::new(), String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => keys.push(std::mem::take(&mut key)),
            '=' if !is_quoted => {
                keys.push(key);
                let is_sound = keys.iter().all(|key| !key.is_empty());
                return is_sound.then_some((keys, at.saturating_add(1)));
            }
            c => key.push(c),
        }
    }
    None
}

/// The first bytes of the setting.
fn whole(at: usize, length: usize) -> Location {
    Location {
        set: Some(at),
        length,
        ..Location::START
    }
}

/// What is set, with places in the text of the setting.
fn value(
    text: &str,
    at: usize,
    value_at: usize,
    path: &str,
    problems: &mut Problems,
) -> Option<Node> {
    let written = text.get(value_at..)?;
    let before = text.get(..value_at)?.chars().count();
    let columns = u32::try_from(before).unwrap_or(u32::MAX);
    let moved = |location: Location| Location {
        set: Some(at),
        column: match location.line {
            1 => location.column.saturating_add(columns),
            _ => location.column,
        },
        offset: location.offset.saturating_add(value_at),
        ..location
    };
    if written.trim().is_empty() {
        return Some(scalar(
            ScalarKind::Null,
            String::new(),
            whole(at, text.len()),
        ));
    }
    let mut found = Problems::default();
    let read = node::read(written, &mut found);
    for problem in found.into_sorted() {
        let location = moved(problem.location());
        let added = problems.add(problem.code, path, location, problem.message);
        if problem.code == ErrorCode::SpecYaml {
            added.hint("the value is YAML; text that is none stands in \"…\"");
        }
    }
    let mut node = read?;
    relocate(&mut node, &moved);
    Some(node)
}

fn relocate(node: &mut Node, moved: &impl Fn(Location) -> Location) {
    node.location = moved(node.location);
    match &mut node.value {
        Value::Map(entries) => {
            for entry in entries {
                entry.location = moved(entry.location);
                relocate(&mut entry.node, moved);
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| relocate(item, moved)),
        Value::Scalar(_) => {}
    }
}

/// The node under a key, made if it is not there; `None` below what is no map.
fn child<'a>(node: &'a mut Node, key: &str, place: Location) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let at = match entries.iter().position(|entry| entry.key == key) {
        Some(at) => at,
        None => {
            entries.push(Entry {
                key: key.to_owned(),
                location: place,
                node: Node {
                    value: Value::Map(Vec::new()),
                    location: place,
                },
                is_laid: false,
            });
            entries.len().checked_sub(1)?
        }
    };
    entries.get_mut(at).map(|entry| &mut entry.node)
}
