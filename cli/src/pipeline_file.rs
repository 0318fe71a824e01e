//! Reads a pipeline file into what the coordinator takes. The only place of this program that knows
//! the parser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_common::graph::GraphDocument;
use highwater_common::id::{ConnectionName, DocumentDigest, StepName};
use highwater_common::selection::{Selection, SelectionError, only};
use highwater_common::spec::{self, Overlay, Reading, Spec, TableGroup, TablesFound};

use crate::args::{FileArgs, OverlayArgs, quoted};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::problems::{FileProblems, Problem};
use crate::script_files;

/// The largest file read, in bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Files of statements that a remark names.
const FILES_TOLD_MAX: usize = 4;

/// A file without problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipelineFile {
    /// The file as the user named it.
    pub path: PathBuf,
    /// The same with the flags that it was read with, as they would be typed again.
    pub typed: String,
    /// The folder that relative paths in it mean; absolute.
    pub base_dir: PathBuf,
    /// The pipeline's name.
    pub name: String,
    /// What was laid over it.
    pub overlay: Overlay,
    /// How many steps it has that are enabled.
    pub steps: usize,
    /// The steps that are not.
    pub disabled: Vec<String>,
    /// The files that steps have their statements in, as they are written.
    pub files: BTreeMap<StepName, String>,
    /// The steps that stand for many tables.
    pub groups: Vec<TableGroup>,
    /// The digest of the spec.
    pub digest: DocumentDigest,
    /// The canonical JSON of the spec.
    pub spec: Vec<u8>,
    /// The steps that are meant, as they were typed; all when there are none.
    pub selections: Vec<String>,
    /// The plan that it is to be run by, as it was saved.
    pub saved: Option<Vec<u8>>,
}

impl PipelineFile {
    /// What was laid over the file, what that leaves out, and the files beside it; `None` where there is nothing to say.
    #[must_use]
    pub(crate) fn remark(&self) -> Option<String> {
        let environment = self.overlay.environment.as_ref();
        let environment = environment.map(|name| format!("environment {name}"));
        let disabled = match self.disabled.as_slice() {
            [] => None,
            names => Some(format!("not enabled: {}", names.join(", "))),
        };
        let mut files = self.files.iter();
        let told = files.by_ref().take(FILES_TOLD_MAX);
        let mut told: Vec<String> = told
            .map(|(step, file)| format!("{step} from {file}"))
            .collect();
        match files.count() {
            0 => {}
            more => told.push(format!("{more} more")),
        }
        let files = (!told.is_empty()).then(|| format!("statements: {}", told.join(", ")));
        let only = match self.selections.as_slice() {
            [] => None,
            texts => Some(format!("only {}", texts.join(" "))),
        };
        let parts = environment.into_iter().chain(disabled).chain(only);
        let groups = self.groups.iter().filter_map(remark_of);
        let parts: Vec<String> = parts.chain(files).chain(groups).collect();
        (!parts.is_empty()).then(|| parts.join(" · "))
    }
}

impl PipelineFile {
    /// Means only these steps of it from now on.
    ///
    /// # Errors
    /// Code 4 where there is no such step; code 2 for what is no selection of whole steps.
    pub(crate) fn select(&mut self, selections: &[String]) -> Result<(), CliError> {
        self.typed
            .extend(selections.iter().map(|one| format!(" {}", quoted(one))));
        let meant = selections.iter().flat_map(|text| self.steps_of(text));
        self.selections = meant.collect();
        self.chosen().map(|_| ())
    }

    /// What a selection means where it names a step that stands for many tables: each of its steps.
    fn steps_of(&self, text: &str) -> Vec<String> {
        let (before, name) = match text.strip_prefix('+') {
            Some(name) => ("+", name),
            None => ("", text),
        };
        let (name, behind) = match name.strip_suffix('+') {
            Some(name) => (name, "+"),
            None => (name, ""),
        };
        let group = self.groups.iter().find(|group| group.step.as_str() == name);
        match group.filter(|group| group.tables.is_some()) {
            Some(group) => {
                let steps = group.steps.iter();
                steps
                    .map(|step| format!("{before}{step}{behind}"))
                    .collect()
            }
            None => vec![text.to_owned()],
        }
    }

    /// The steps that are meant.
    ///
    /// # Errors
    /// As [`PipelineFile::select`].
    pub(crate) fn chosen(&self) -> Result<Spec, CliError> {
        let spec = spec::from_canonical(&self.spec)
            .map_err(|_| CliError::new(ExitCode::Unexpected, "cannot read the pipeline back"))?;
        let selections = self.selections.iter().map(|text| text.parse::<Selection>());
        let selections: Result<Vec<Selection>, _> = selections.collect();
        selections.and_then(|all| only(&spec, &all)).map_err(|why| {
            let exit = match why {
                SelectionError::NoStep { .. } => ExitCode::NothingSelected,
                _ => ExitCode::Usage,
            };
            CliError::new(exit, "cannot select the steps")
                .at(self.path.display().to_string())
                .why(why.to_string())
        })
    }
}

/// What is told of a step that stands for many tables.
fn remark_of(group: &TableGroup) -> Option<String> {
    let tables = group.tables?;
    let count = format!("{}: {tables} tables", group.step);
    if group.left_out.is_empty() {
        return Some(count);
    }
    let keys = group
        .left_out
        .iter()
        .map(|key| format!("{} of {} to {}", key.name, key.table, key.references));
    let keys: Vec<String> = keys.collect();
    Some(format!(
        "{count}, foreign keys that do not go along: {}",
        keys.join(", ")
    ))
}

/// Reads and checks the file; a step that stands for many tables is one step.
///
/// # Errors
/// Code 2: the file cannot be read, or something in it is wrong; then all of it is told.
pub(crate) fn read(args: &FileArgs) -> Result<PipelineFile, CliError> {
    read_with(args, &Found::new())
}

/// The tables of the databases that were looked at.
pub(crate) type Found = BTreeMap<ConnectionName, TablesFound>;

/// Reads and checks the file, with the tables that were `found`.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_with(args: &FileArgs, found: &Found) -> Result<PipelineFile, CliError> {
    let reading = reading(args, found)?;
    let path = &args.file;
    let base_dir = base_dir(path)?;
    let spec = reading.spec.canonical_json();
    Ok(PipelineFile {
        path: path.clone(),
        typed: format!("{}{}", path.display(), args.over.typed()),
        base_dir,
        name: reading.spec.name.to_string(),
        overlay: overlay(args),
        steps: reading.spec.steps.len(),
        disabled: reading.disabled().map(ToString::to_string).collect(),
        files: reading.files,
        groups: reading.groups,
        digest: DocumentDigest::of(&spec),
        spec,
        selections: Vec::new(),
        saved: None,
    })
}

/// The graph of the file's steps.
///
/// # Errors
/// As [`read`].
pub(crate) fn graph(args: &FileArgs) -> Result<GraphDocument, CliError> {
    Ok(GraphDocument::of_reading(&reading(args, &Found::new())?))
}

/// The file with all that was laid over it, its defaults and parameters put in: reading it gives the
/// same pipeline.
///
/// # Errors
/// As [`read`].
pub(crate) fn resolved(args: &FileArgs, found: &Found) -> Result<serde_json::Value, CliError> {
    Ok(reading(args, found)?.spec.to_document())
}

/// What the file says as it stands, and the databases whose tables it wants to know, each once.
///
/// # Errors
/// As [`read`].
pub(crate) fn wanted(args: &FileArgs) -> Result<(Spec, Vec<ConnectionName>), CliError> {
    let reading = reading(args, &Found::new())?;
    let mut wanted: Vec<ConnectionName> = reading
        .groups
        .into_iter()
        .map(|group| group.connection)
        .collect();
    wanted.sort();
    wanted.dedup();
    Ok((reading.spec, wanted))
}

/// The folder that relative paths of the file mean.
///
/// # Errors
/// Code 2: there is none.
pub(crate) fn base_dir(path: &Path) -> Result<PathBuf, CliError> {
    script_files::folder_of(path).map_err(|error| {
        let what = "cannot find the file's folder";
        CliError::from_io(ExitCode::Usage, what, path, &error)
    })
}

fn overlay(args: &FileArgs) -> Overlay {
    let OverlayArgs {
        params,
        environment,
        sets,
    } = args.over.clone();
    Overlay {
        // An empty variable is none.
        environment: environment.filter(|name| !name.is_empty()),
        params: params.into_iter().collect(),
        sets,
        found: Found::new(),
    }
}

fn reading(args: &FileArgs, found: &Found) -> Result<Reading, CliError> {
    let path = &args.file;
    let text = text_of(path)?;
    let overlay = Overlay {
        found: found.clone(),
        ..overlay(args)
    };
    // Without a folder nothing is found in it, which is told where something is looked for.
    let folder = script_files::folder_of(path).unwrap_or_default();
    let files = |written: &str| script_files::read(&folder, written);
    spec::read_with(&text, &overlay, &files).map_err(|problems| {
        // A literal password is a problem, and the excerpt that shows the problem must not show the
        // password.
        let text = spec::masked(&text, &problems);
        let sets = overlay.sets.iter().enumerate();
        let sets = sets.map(|(at, set)| spec::masked_set(set, at, &problems));
        CliError::problems(FileProblems {
            file: path.display().to_string(),
            text,
            sets: sets.collect(),
            problems: problems.into_iter().map(Problem::from).collect(),
        })
    })
}

/// The JSON Schema of the file.
pub(crate) fn json_schema() -> serde_json::Value {
    spec::json_schema()
}

fn text_of(path: &Path) -> Result<String, CliError> {
    let unreadable = |error| {
        CliError::from_io(
            ExitCode::Usage,
            "cannot read the pipeline file",
            path,
            &error,
        )
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > BYTES_MAX {
        return Err(CliError::new(
            ExitCode::Usage,
            format!("the pipeline file is larger than {BYTES_MAX} bytes"),
        )
        .at(path.display().to_string()));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

impl From<spec::Problem> for Problem {
    fn from(problem: spec::Problem) -> Self {
        let narrow = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            code: problem.code.to_string().to_owned(),
            path: problem.path,
            line: narrow(problem.line),
            column: narrow(problem.column),
            length: problem.length,
            set: problem.set,
            message: problem.message,
            hint: problem.hint,
        }
    }
}
