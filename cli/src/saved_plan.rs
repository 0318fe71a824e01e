//! Plans in files: what `plan --out` writes, and `run` carries out as it was shown, or refuses.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use highwater_common::saved_plan::{SAVED_PLAN, SavedPlan, first_difference};
use highwater_common::spec::{self, Overlay};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::args::{FileArgs, OverlayArgs};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file::{Found, PipelineFile};
use crate::script_files;

/// The largest plan read, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// A plan that was read from a file.
#[derive(Debug)]
pub(crate) struct PlanFile {
    /// The file as the user named it.
    pub path: PathBuf,
    /// The plan.
    pub saved: SavedPlan,
    made_of: MadeOf,
}

/// The pipeline file that a plan was made of, and what was laid over it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct MadeOf {
    file: PathBuf,
    /// How it was named, with its flags.
    typed: String,
    environment: Option<String>,
    params: BTreeMap<String, String>,
    sets: Vec<String>,
}

/// Writes a plan: what it is made from, what was shown, and which file it is of.
pub(crate) fn write(
    path: &Path,
    mut saved: Json,
    shown: &Json,
    pipeline: &PipelineFile,
) -> Result<(), CliError> {
    let made_of = MadeOf {
        // As it is named, and not where links lead today: they may lead elsewhere tomorrow.
        file: std::path::absolute(&pipeline.path).unwrap_or_else(|_| pipeline.path.clone()),
        typed: pipeline.typed.clone(),
        environment: pipeline.overlay.environment.clone(),
        params: pipeline.overlay.params.clone(),
        sets: pipeline.overlay.sets.clone(),
    };
    if let Json::Object(entries) = &mut saved {
        entries.insert("made_of".to_owned(), json!(made_of));
        entries.insert("shown".to_owned(), shown.clone());
    }
    let is_the_file = std::path::absolute(path).is_ok_and(|path| path == made_of.file);
    if is_the_file
        || path
            .canonicalize()
            .ok()
            .is_some_and(|path| pipeline.path.canonicalize().is_ok_and(|file| file == path))
    {
        return Err(
            CliError::new(ExitCode::Usage, "the plan would replace its pipeline file")
                .at(path.display().to_string())
                .next("--out plan.json, or another name"),
        );
    }
    let failed =
        |error| CliError::from_io(ExitCode::Unexpected, "cannot save the plan", path, &error);
    // A plan that is half there is none: it gets its name once it is whole.
    let beside = PathBuf::from(format!("{}.part", path.display()));
    std::fs::write(&beside, format!("{saved:#}\n")).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

/// Reads a plan; `None` for a file that is none, such as a pipeline file.
///
/// # Errors
/// Code 2 for a plan that cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<PlanFile>, CliError> {
    // What cannot be read is told by who takes it for a pipeline file.
    let is_small = std::fs::metadata(path).is_ok_and(|of| of.is_file() && of.len() <= BYTES_MAX);
    let text = match is_small {
        true => std::fs::read_to_string(path).unwrap_or_default(),
        false => return Ok(None),
    };
    if !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let Ok(document) = serde_json::from_str::<Json>(&text) else {
        return Ok(None);
    };
    let is_plan = document.get("schema").and_then(Json::as_str);
    if !is_plan.is_some_and(|schema| schema.starts_with("saved-plan/")) {
        return Ok(None);
    }
    let wrong = |why: String| {
        CliError::new(ExitCode::Usage, "cannot read the plan")
            .at(path.display().to_string())
            .why(why)
            .next("plan the pipeline again, with the version that runs it")
    };
    if is_plan != Some(SAVED_PLAN) {
        return Err(wrong(format!("this version reads {SAVED_PLAN}")));
    }
    let made_of = document.get("made_of").cloned().unwrap_or_default();
    let made_of = MadeOf::deserialize(made_of).map_err(|error| wrong(error.to_string()))?;
    let saved = SavedPlan::from_json(text.as_bytes()).map_err(wrong)?;
    Ok(Some(PlanFile {
        path: path.to_owned(),
        saved,
        made_of,
    }))
}

impl PlanFile {
    /// The pipeline as it was planned.
    #[must_use]
    pub(crate) fn pipeline(&self) -> PipelineFile {
        PipelineFile {
            path: self.path.clone(),
            typed: self.path.display().to_string(),
            base_dir: PathBuf::from(&self.saved.base_dir),
            name: self.saved.spec.name.to_string(),
            overlay: Overlay {
                environment: self.made_of.environment.clone(),
                ..Overlay::default()
            },
            steps: self.saved.spec.steps.len(),
            disabled: Vec::new(),
            files: BTreeMap::new(),
            groups: Vec::new(),
            digest: self.saved.spec_digest,
            spec: self.saved.spec.canonical_json(),
            selections: Vec::new(),
            saved: serde_json::to_vec(&self.saved).ok(),
        }
    }

    /// The pipeline file that it was made of, with what was laid over it; `None` where it is not
    /// here.
    #[must_use]
    pub(crate) fn file(&self) -> Option<FileArgs> {
        let made_of = &self.made_of;
        let params = made_of.params.clone().into_iter().collect();
        made_of.file.is_file().then(|| FileArgs {
            file: made_of.file.clone(),
            over: OverlayArgs {
                params,
                environment: made_of.environment.clone(),
                sets: made_of.sets.clone(),
            },
        })
    }

    /// Holds the plan to the pipeline file as it is now. A plan whose file is not there, because it
    /// is run elsewhere, is held to the sources and targets alone.
    ///
    /// # Errors
    /// Code 6 where the file says something else by now.
    pub(crate) fn check_file(&self, program: &str, found: &Found) -> Result<(), CliError> {
        let MadeOf {
            file,
            typed,
            environment,
            params,
            sets,
        } = &self.made_of;
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let what = "cannot compare the plan with its pipeline file";
                return Err(CliError::from_io(ExitCode::Refused, what, file, &error));
            }
        };
        let stale = |why: String| {
            CliError::new(ExitCode::Refused, "the plan is stale")
                .at(self.path.display().to_string())
                .why(why)
                .next(self.again(program, typed))
        };
        let overlay = Overlay {
            environment: environment.clone(),
            params: params.clone(),
            sets: sets.clone(),
            found: found.clone(),
        };
        let folder = script_files::folder_of(file).unwrap_or_default();
        let files = |written: &str| script_files::read(&folder, written);
        let reading = spec::read_with(&text, &overlay, &files).map_err(|problems| {
            let first = problems.first().map(|problem| problem.message.as_str());
            let first = first.unwrap_or_default();
            stale(format!("{} is not right any more: {first}", file.display()))
        })?;
        let was = &self.saved.spec;
        match first_difference(was, &reading.spec) {
            None => Ok(()),
            Some(path) => {
                let (was, is) = (was.digest().short(), reading.spec.digest().short());
                Err(stale(format!("{path} changed ({was} → {is})")))
            }
        }
    }

    fn again(&self, program: &str, typed: &str) -> String {
        format!("{program} plan {typed} --out {}", self.path.display())
    }

    /// The environment of the file that it is of.
    #[must_use]
    pub(crate) fn environment(&self) -> Option<&str> {
        self.made_of.environment.as_deref()
    }

    /// How the plan is made anew.
    #[must_use]
    pub(crate) fn plan_again(&self, program: &str) -> String {
        self.again(program, &self.made_of.typed)
    }
}
