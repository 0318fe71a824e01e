//! The canonical form of a pipeline, its digest, and the way back.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::document::tree;
use super::model::{Spec, Strategy};
use super::problem::{Location, Problem, Problems};
use super::reading::read_tree;
use super::script_file::no_files;
use crate::error_code::ErrorCode;
use crate::id::DocumentDigest;

impl Spec {
    /// The canonical JSON: keys sorted by their bytes, no spaces, defaults filled in, parameters
    /// put in.
    #[must_use]
    pub fn canonical_json(&self) -> Vec<u8> {
        // A model of names, numbers and text always has a JSON form.
        let json = serde_json::to_value(self).unwrap_or(Json::Null);
        sorted(json).to_string().into_bytes()
    }

    /// The digest of the canonical JSON. Comments, the order of keys and the way a value is written
    /// do not change it.
    #[must_use]
    pub fn digest(&self) -> DocumentDigest {
        DocumentDigest::of(&self.canonical_json())
    }
}

/// The value with the keys of all its objects sorted.
fn sorted(json: Json) -> Json {
    match json {
        Json::Object(object) => {
            let mut entries: Vec<(String, Json)> = object
                .into_iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => json,
    }
}

/// Reads canonical JSON back and holds it to every rule that a file is held to.
///
/// # Errors
/// Every [`Problem`], all of them placed at the beginning: there is no file to point into.
pub fn from_canonical(bytes: &[u8]) -> Result<Spec, Vec<Problem>> {
    let mut problems = Problems::default();
    let spec: Spec = match serde_json::from_slice(bytes) {
        Ok(spec) => spec,
        Err(error) => {
            problems.add(
                ErrorCode::SpecNotCanonical,
                "",
                Location::START,
                format!("not the canonical form of a pipeline: {error}"),
            );
            return Err(problems.into_sorted());
        }
    };
    // Whatever the model would admit beyond what a file can say is found by saying it in a file's
    // words.
    let mut again = read_tree(
        tree(&spec.to_document()),
        &BTreeMap::new(),
        &no_files,
        &BTreeMap::new(),
        Problems::default(),
    )?;
    // The step that goes on from another one is not told of while it is not enabled.
    for (name, step) in &spec.steps {
        if let Strategy::Backfill(continued) = &step.strategy
            && continued.is_continued
            && let Some(Strategy::Backfill(own)) =
                again.spec.steps.get_mut(name).map(|own| &mut own.strategy)
        {
            own.is_continued = true;
        }
    }
    if again.spec == spec && spec.canonical_json() == bytes {
        return Ok(spec);
    }
    problems.add(
        ErrorCode::SpecNotCanonical,
        "",
        Location::START,
        "not the canonical form of a pipeline",
    );
    Err(problems.into_sorted())
}
