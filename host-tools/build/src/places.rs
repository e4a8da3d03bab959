//! Where things are: our own sources, the caches, and what belongs to one site.

use std::path::{Path, PathBuf};

/// What a build reads and writes.
#[derive(Clone, Debug)]
pub struct Places {
    /// The repository: `image/` and `boards/` are data that builds read, the rest is compiled.
    pub source: PathBuf,
    /// Shared by all sites of this user; may be deleted at any time.
    pub cache: PathBuf,
    /// `.ravelin/` beside the site file.
    pub state: PathBuf,
    /// The package lock, `ravelin.lock` beside the site file.
    pub lock: PathBuf,
}

impl Places {
    /// The usual places for a site file. `source` is the repository this program was built from.
    ///
    /// The cache is `$XDG_CACHE_HOME/ravelin`, or `~/.cache/ravelin`.
    pub fn new(source: &Path, site_file: &Path) -> Self {
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir),
            _ => home().join(".cache"),
        };
        let beside = match site_file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let beside = beside.canonicalize().unwrap_or_else(|_| beside.to_owned());
        Self {
            source: source.to_owned(),
            cache: cache.join("ravelin"),
            state: beside.join(".ravelin"),
            lock: beside.join("ravelin.lock"),
        }
    }

    /// The directory of the site file, from which paths in it are seen.
    #[must_use]
    pub fn beside(&self) -> &Path {
        self.state.parent().unwrap_or(&self.state)
    }
}
