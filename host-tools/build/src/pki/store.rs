//! The files of a site's certificates: written whole or not at all, and readable for nobody else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::PkiError;

/// Mode of what only its owner may read.
pub(super) const SECRET: u32 = 0o600;
/// Mode of what everybody may read.
pub(super) const PUBLIC: u32 = 0o644;

pub(super) fn create_directory(path: &Path) -> Result<(), PkiError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|cause| io("create", path, cause))
}

/// Two builds of one site must not both make an authority. Released when dropped.
pub(super) fn lock(directory: &Path) -> Result<File, PkiError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(SECRET)
        .open(&path);
    let file = file.map_err(|cause| io("open", &path, cause))?;
    file.lock().map_err(|cause| io("lock", &path, cause))?;
    Ok(file)
}

pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(io("read", path, cause)),
    }
}

/// Writes all of a file or nothing; it is never readable for others than `mode` says. The lock is held.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    write_bytes(path, text.as_bytes(), mode)
}

/// Replaces a file in one step.
pub(super) fn write_bytes(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let new = path.with_added_extension("new");
    let whole = || {
        // What a crash left behind may have another mode.
        gone(&new)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    whole().map_err(|cause| io("write", path, cause))
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), PkiError> {
    gone(path).map_err(|cause| io("remove", path, cause))
}

fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn io(action: &'static str, path: &Path, cause: io::Error) -> PkiError {
    PkiError::Io {
        action,
        path: path.to_owned(),
        cause,
    }
}

/// A file that holds something else.
pub(super) fn broken(path: &Path, problem: String) -> PkiError {
    PkiError::Broken {
        path: path.to_owned(),
        problem,
    }
}
