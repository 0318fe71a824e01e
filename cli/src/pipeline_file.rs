//! Reads a pipeline file into what the coordinator takes. The only place of this program that knows
//! the parser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_common::graph::GraphDocument;
use highwater_common::id::DocumentDigest;
use highwater_common::spec;

use crate::args::FileArgs;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::problems::{FileProblems, Problem};

/// The largest file read, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// A file without problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipelineFile {
    /// The file as the user named it.
    pub path: PathBuf,
    /// The folder that relative paths in it mean; absolute.
    pub base_dir: PathBuf,
    /// The pipeline's name.
    pub name: String,
    /// How many steps it has.
    pub steps: usize,
    /// The digest of the spec.
    pub digest: DocumentDigest,
    /// The canonical JSON of the spec.
    pub spec: Vec<u8>,
}

struct Parsed {
    name: String,
    steps: usize,
    digest: DocumentDigest,
    spec: Vec<u8>,
}

/// Reads and checks the file.
///
/// # Errors
/// Code 2: the file cannot be read, or something in it is wrong; then all of it is told.
pub(crate) fn read(args: &FileArgs) -> Result<PipelineFile, CliError> {
    let path = &args.file;
    let text = text_of(path)?;
    let params: BTreeMap<String, String> = args.params.iter().cloned().collect();
    let parsed = parse(&text, &params).map_err(|problems| {
        // A literal password is a problem, and the excerpt that shows the problem must not show the
        // password.
        let text = spec::masked(&text, &problems);
        let problems = problems.into_iter().map(Problem::from).collect();
        CliError::problems(FileProblems {
            file: path.display().to_string(),
            text,
            problems,
        })
    })?;
    let unreadable = |error| {
        CliError::from_io(
            ExitCode::Usage,
            "cannot find the file's folder",
            path,
            &error,
        )
    };
    let absolute = path.canonicalize().map_err(unreadable)?;
    let base_dir = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    let Parsed {
        name,
        steps,
        digest,
        spec,
    } = parsed;
    Ok(PipelineFile {
        path: path.clone(),
        base_dir,
        name,
        steps,
        digest,
        spec,
    })
}

/// The graph of the file's steps.
///
/// # Errors
/// As [`read`].
pub(crate) fn graph(args: &FileArgs) -> Result<GraphDocument, CliError> {
    let file = read(args)?;
    let spec = spec::from_canonical(&file.spec).map_err(|_| {
        CliError::new(ExitCode::Unexpected, "the spec cannot be read back")
            .why("this is a defect of Highwater")
    })?;
    Ok(GraphDocument::of_spec(&spec))
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

fn parse(text: &str, params: &BTreeMap<String, String>) -> Result<Parsed, Vec<spec::Problem>> {
    let spec = spec::parse(text, params)?;
    let canonical = spec.canonical_json();
    Ok(Parsed {
        name: spec.name.to_string(),
        steps: spec.steps.len(),
        digest: DocumentDigest::of(&canonical),
        spec: canonical,
    })
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
            message: problem.message,
            hint: problem.hint,
        }
    }
}
