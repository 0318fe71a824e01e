//! Finds the places that the harness works in: the repository, cargo's target folder, free ports.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// The folder that cargo builds this profile's binaries into, such as `target/debug`.
///
/// # Errors
/// This program is not known to the operating system by a path.
pub(crate) fn profile_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("ask where this program lies")?;
    // A test lies in `target/debug/deps`, a binary in `target/debug`.
    let folder = program.parent().context("this program lies in no folder")?;
    let profile = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(profile.to_path_buf())
}

/// Cargo's target folder: what is kept from one test run to the next lies below it.
///
/// # Errors
/// This program is not known to the operating system by a path.
pub fn target_folder() -> Result<PathBuf> {
    let profile = profile_folder()?;
    Ok(profile.parent().unwrap_or(&profile).to_path_buf())
}

/// A folder below the target folder, made when it is missing.
pub(crate) fn kept_folder(name: &str) -> Result<PathBuf> {
    let folder = target_folder()?.join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// A new empty folder that goes away with the value. It lies where any account may enter: the
/// target folder may lie in root's home.
pub(crate) fn scratch_folder(purpose: &str) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("highwater-{purpose}-"))
        .tempdir()
        .context("make a scratch folder")
}

/// Held while one process of this machine makes what all of them use. Released when the file is
/// dropped.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file =
        File::create(path).with_context(|| format!("make the lock file {}", path.display()))?;
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// A port that nothing listens on now. Another process may take it before its asker does: try again
/// with another one then.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener
        .local_addr()
        .context("read the free port's number")?
        .port())
}
