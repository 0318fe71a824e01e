//! What is laid over a file: one of its environments, and after it single keys that a command line
//! sets. Maps merge key by key; anything else is replaced, and so are a step's strategy and its statements as a whole.
//!
//! The environments that are not chosen are laid over a copy each, so that what is wrong with them
//! is told all the same.

use std::collections::{BTreeMap, HashSet};

use super::defaults::{self, lay_over};
use super::keys::{ENVIRONMENT, FILE};
use super::model::Spec;
use super::node::{Entry, Node, Value, join, shortened};
use super::problem::{Location, Problem, Problems};
use super::reading::{Reading, read_tree};
use super::scalars::wrong_type;
use super::script_file::{ReadFile, no_files};
use super::sets;
use super::shape::Shape;
use super::suggest::{listed, nearest};
use super::tables::TablesFound;
use super::{check, node};
use crate::error_code::ErrorCode;
use crate::id::ConnectionName;

/// What a file is read with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The environment that is laid over it.
    pub environment: Option<String>,
    /// The values that parameters were given.
    pub params: BTreeMap<String, String>,
    /// What is set after it, each as `steps.orders.limits.tasks=8`.
    pub sets: Vec<String>,
    /// The tables of the databases that steps with `tables` read, as far as somebody has looked.
    pub found: BTreeMap<ConnectionName, TablesFound>,
}

/// Reads a pipeline file, with the values that parameters were given.
///
/// # Errors
/// Every [`Problem`] of the file, in its order; never only the first one.
pub fn parse(text: &str, params: &BTreeMap<String, String>) -> Result<Spec, Vec<Problem>> {
    let overlay = Overlay {
        params: params.clone(),
        ..Overlay::default()
    };
    Ok(read(text, &overlay)?.spec)
}

/// Reads a pipeline file, with all that is laid over it.
///
/// # Errors
/// As [`parse`]; a problem of a setting says which one.
pub fn read(text: &str, overlay: &Overlay) -> Result<Reading, Vec<Problem>> {
    read_with(text, overlay, &no_files)
}

/// Reads a pipeline file whose steps may have their statements in files of their own.
///
/// # Errors
/// As [`read`].
pub fn read_with(
    text: &str,
    overlay: &Overlay,
    files: &ReadFile<'_>,
) -> Result<Reading, Vec<Problem>> {
    let mut problems = Problems::default();
    match node::read(text, &mut problems) {
        Some(file) => lay_and_read(file, overlay, files, problems),
        None => Err(problems.into_sorted()),
    }
}

/// Lays what is asked for over the tree of a file, and reads it.
fn lay_and_read(
    mut file: Node,
    overlay: &Overlay,
    files: &ReadFile<'_>,
    mut problems: Problems,
) -> Result<Reading, Vec<Problem>> {
    defaults::expand(&mut file, &Shape::Fields(&FILE));
    let environments = taken(&mut file);
    let place = environments
        .as_ref()
        .map_or(Location::START, |entry| entry.location);
    let entries = match environments {
        Some(entry) => checked(entry, &file, &mut problems),
        None => Vec::new(),
    };
    let mut tree = file.clone();
    let mut located = HashSet::new();
    let mut found = Vec::new();
    for entry in &entries {
        let own = locations(&entry.node);
        if overlay.environment.as_ref() == Some(&entry.key) {
            lay_over(entry.node.entries(), &mut tree, "");
            located = own;
            continue;
        }
        let mut other = file.clone();
        lay_over(entry.node.entries(), &mut other, "");
        if let Err(problems) = read_tree(
            other,
            &overlay.params,
            files,
            &BTreeMap::new(),
            Problems::default(),
        ) {
            let mut problems = under(&entry.key, &own, problems);
            problems.retain(|problem| own.contains(&problem.location()));
            found.extend(problems);
        }
    }
    if let Some(name) = &overlay.environment
        && !entries.iter().any(|entry| entry.key == *name)
    {
        let known = || entries.iter().map(|entry| entry.key.as_str());
        let message = format!("no environment is named `{}`", shortened(name));
        let (code, path) = (ErrorCode::SpecUnknownWord, "environments");
        let problem = problems.add(code, path, place, message);
        match nearest(name, known()) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if entries.is_empty() => problem.hint("the file has none: `environments`"),
            None => problem.hint(format!("environments: {}", listed(known()))),
        }
    }
    for (at, text) in overlay.sets.iter().enumerate() {
        sets::set(&mut tree, at, text, &mut problems);
    }
    let name = overlay.environment.as_deref().unwrap_or_default();
    match read_tree(tree, &overlay.params, files, &overlay.found, problems) {
        Ok(reading) if found.is_empty() => return Ok(reading),
        Ok(_) => {}
        Err(problems) => found.extend(under(name, &located, problems)),
    }
    Err(Problems::from(found).into_sorted())
}

/// The environments, out of the file.
fn taken(file: &mut Node) -> Option<Entry> {
    let Value::Map(entries) = &mut file.value else {
        return None;
    };
    let at = entries
        .iter()
        .position(|entry| entry.key == "environments")?;
    Some(entries.remove(at))
}

/// The environments that can be laid over the file, without what they name and the file does not
/// have.
fn checked(environments: Entry, file: &Node, problems: &mut Problems) -> Vec<Entry> {
    let path = "environments";
    let Value::Map(entries) = environments.node.value else {
        let what = "a map that gives each name an environment";
        wrong_type(&environments.node, what, path, problems);
        return Vec::new();
    };
    let steps: Vec<&str> = file
        .get("steps")
        .map_or(&[][..], Node::entries)
        .iter()
        .map(|step| step.key.as_str())
        .collect();
    let mut checked = Vec::new();
    for mut entry in entries {
        let path = join(path, &entry.key);
        check::check_name(&entry, "an environment", &path, problems);
        let Value::Map(keys) = &mut entry.node.value else {
            if !entry.node.is_broken() {
                wrong_type(
                    &entry.node,
                    "a map that describes an environment",
                    &path,
                    problems,
                );
            }
            continue;
        };
        keys.retain(|key| {
            let is_known = ENVIRONMENT.key(&key.key).is_some();
            if !is_known {
                let below = join(&path, &key.key);
                check::unknown_key(key, &ENVIRONMENT, None, &below, problems);
            }
            is_known
        });
        for key in keys.iter_mut().filter(|key| key.key == "steps") {
            let Value::Map(over) = &mut key.node.value else {
                continue; // it takes the place of the steps, and is refused there
            };
            over.retain(|step| {
                let is_known = steps.contains(&step.key.as_str());
                if !is_known {
                    let message = format!("no step is named `{}`", shortened(&step.key));
                    let below = join(&join(&path, "steps"), &step.key);
                    let code = ErrorCode::SpecUnknownStep;
                    let problem = problems.add(code, &below, step.location, message);
                    match nearest(&step.key, steps.iter().copied()) {
                        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                        None => problem
                            .hint("put it under `steps` with `enabled: false`, and enable it here"),
                    }
                }
                is_known
            });
        }
        checked.push(entry);
    }
    checked
}

/// The places of all that a node holds.
fn locations(node: &Node) -> HashSet<Location> {
    let mut found = HashSet::from([node.location]);
    for entry in node.entries() {
        found.insert(entry.location);
        found.extend(locations(&entry.node));
    }
    for item in node.items() {
        found.extend(locations(item));
    }
    found
}

/// The problems, those of an environment under its own path.
fn under(name: &str, own: &HashSet<Location>, mut problems: Vec<Problem>) -> Vec<Problem> {
    for problem in &mut problems {
        if own.contains(&problem.location()) {
            let environment = join("environments", name);
            problem.path = match problem.path.is_empty() {
                true => environment,
                false => join(&environment, &problem.path),
            };
        }
    }
    problems
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
