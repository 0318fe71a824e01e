//! Reads the files that the steps of a pipeline have their statements in.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use highwater_common::spec::{FileFault, SCRIPT_BYTES_MAX};

/// The folder that relative paths in a pipeline file mean: where the file is, wherever links to it
/// are.
pub(crate) fn folder_of(pipeline: &Path) -> std::io::Result<PathBuf> {
    let absolute = pipeline.canonicalize()?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_owned())
}

/// The text of a file of statements.
///
/// # Errors
/// Why it has none.
pub(crate) fn read(folder: &Path, written: &str) -> Result<String, FileFault> {
    let path = folder.join(written);
    let fault = |message: String, hint: &str| FileFault {
        message,
        hint: hint.to_owned(),
    };
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => fault(
            format!("there is no file {}", path.display()),
            "a path is relative to the folder of the pipeline file",
        ),
        _ => fault(
            format!("cannot read {}: {error}", path.display()),
            "let whoever runs the command read it",
        ),
    };
    let about = std::fs::metadata(&path).map_err(unreadable)?;
    if !about.is_file() {
        let what = if about.is_dir() {
            "a folder"
        } else {
            "no file"
        };
        return Err(fault(
            format!("{} is {what}", path.display()),
            "name one file of statements",
        ));
    }
    if about.len() == 0 {
        return Err(fault(
            format!("{} is empty, or no plain file", path.display()),
            "name one file of statements",
        ));
    }
    // One byte more than is legal tells that there are more, also where it grows meanwhile.
    let mut bytes = Vec::new();
    let opened = File::open(&path).map_err(unreadable)?;
    opened
        .take(SCRIPT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > SCRIPT_BYTES_MAX {
        return Err(fault(
            format!("{} has more than {SCRIPT_BYTES_MAX} bytes", path.display()),
            "it is stored with the pipeline: load data as a table",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fault(
            format!("{} is not UTF-8: byte {at} is wrong", path.display()),
            "save it as UTF-8",
        )
    })?;
    // Some editors begin a file with a mark, which no database knows.
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}
