//! Reads the tree of a file: files of statements, parameters, long form, checks, model and rules, one after the other.

use std::collections::BTreeMap;

use super::model::{Spec, Step};
use super::node::{self, Node};
use super::problem::{Location, Problem, Problems};
use super::schedule::check_schedule;
use super::script_file::{self, ReadFile};
use super::shape::Shape;
use super::tables::{self, TableGroup, TablesFound};
use super::{check, checks, decode, defaults, keys, params, rules};
use crate::error_code::ErrorCode;
use crate::id::{ConnectionName, StepName};

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The pipeline, without the steps that are not enabled.
    pub spec: Spec,
    /// Every step, also those that are not enabled.
    pub steps: BTreeMap<StepName, Step>,
    /// The files that statements of enabled steps were read from, as they are written.
    pub files: BTreeMap<StepName, String>,
    /// The steps that stand for many tables, whether they were told or not.
    pub groups: Vec<TableGroup>,
}

impl Reading {
    /// The steps that are not enabled, by name.
    pub fn disabled(&self) -> impl Iterator<Item = &StepName> {
        let is_left_out = |name: &&StepName| !self.spec.steps.contains_key(*name);
        self.steps.keys().filter(is_left_out)
    }
}

/// Reads the tree of a file.
pub(super) fn read_tree(
    mut file: Node,
    params: &BTreeMap<String, String>,
    files: &ReadFile<'_>,
    found: &BTreeMap<ConnectionName, TablesFound>,
    mut problems: Problems,
) -> Result<Reading, Vec<Problem>> {
    script_file::put_in(&mut file, files, &mut problems);
    params::substitute(&mut file, params, &mut problems);
    defaults::long_form(&mut file);
    let groups = tables::expand(&mut file, found, &mut problems);
    check::check(
        &file,
        &Shape::Fields(&keys::FILE),
        "",
        check::Extent::Whole,
        &mut problems,
    );
    for step in file.get("steps").map_or(&[][..], Node::entries) {
        rules::check_step(&step.node, &node::join("steps", &step.key), &mut problems);
    }
    if let Some(schedule) = file.get("schedule") {
        check_schedule(schedule, &mut problems);
    }
    let draft = decode::draft(&file);
    checks::check_whole(&draft, &mut problems);
    let files = draft.steps.iter().filter(|step| step.is_enabled);
    let files = files.filter_map(|step| {
        let name = step.name.value.parse().ok()?;
        Some((name, step.script.as_ref()?.file.clone()?))
    });
    let files = files.collect();
    match (draft.spec, draft.read) {
        (Some(spec), Some(steps)) if problems.is_empty() => Ok(Reading {
            spec,
            steps,
            files,
            groups,
        }),
        (Some(_), _) => Err(problems.into_sorted()),
        (None, _) => {
            if problems.is_empty() {
                // A rule of decoding that no check knows. Refusing is safe; a property looks for
                // such files.
                problems.add(
                    ErrorCode::SpecUnreadable,
                    "",
                    Location::START,
                    "the file cannot be read, and no rule says why",
                );
            }
            Err(problems.into_sorted())
        }
    }
}
