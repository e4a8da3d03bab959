//! Steps' results, addressed by a hash over all that went into them.
//!
//! `KIND/ID/` exists only when complete: a step works in `tmp/`, and its result is renamed when done.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::error::BuildError;
use crate::sandbox::Sandbox;

/// The cache directory, while this process alone may write to it.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    sandbox: Sandbox,
    fetching: Mutex<()>,
    _lock: File,
}

impl Cache {
    /// Opens the cache; calls `waiting` if another build has it and waits until that ends.
    pub fn open(root: &Path, waiting: impl FnOnce()) -> Result<Self, BuildError> {
        let create = |path: &Path| {
            fs::create_dir_all(path).map_err(|error| BuildError::io("create", path, error))
        };
        create(root)?;
        let root = root
            .canonicalize()
            .map_err(|error| BuildError::io("open", root, error))?;
        let path = root.join("lock");
        let failed = |error| BuildError::io("lock", &path, error);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                lock.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let sandbox = Sandbox::new(&root);
        let cache = Self {
            root,
            sandbox,
            fetching: Mutex::default(),
            _lock: lock,
        };
        // What a killed build left behind.
        let tmp = cache.root.join("tmp");
        if tmp.exists() {
            cache.remove(&tmp)?;
        }
        create(&tmp)?;
        create(&cache.root.join("log"))?;
        Ok(cache)
    }

    /// The cache directory, without symbolic links in its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs the helpers of steps.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Where the result of a step is, or will be.
    pub fn entry(&self, kind: &str, id: &str) -> PathBuf {
        self.root.join(kind).join(id)
    }

    /// A directory to work in, which is removed when dropped.
    pub fn scratch(&self, name: &str) -> Result<Scratch<'_>, BuildError> {
        let path = self.root.join("tmp").join(name);
        fs::create_dir(&path).map_err(|error| BuildError::io("create", &path, error))?;
        // Users of a namespace pass through here to their trees.
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
        Ok(Scratch { cache: self, path })
    }

    /// What is in it, what was used last at the end.
    pub fn list(&self) -> Result<Vec<Entry>, BuildError> {
        let mut entries = Vec::new();
        for kind in KINDS {
            let dir = self.root.join(kind);
            let Ok(found) = fs::read_dir(&dir) else {
                continue;
            };
            for entry in found.filter_map(Result::ok) {
                let path = entry.path();
                let used = entry.metadata().and_then(|meta| meta.modified());
                entries.push(Entry {
                    kind,
                    bytes: self.size(kind, &path)?,
                    used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                    path,
                });
            }
        }
        entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        Ok(entries)
    }

    /// Removes what was not used for longest until no more than `max` bytes are left; never what is [in
    /// use](Self::in_use), nor what is in `keep`. Returns what was removed.
    pub fn shrink(&self, max: u64, keep: &[PathBuf]) -> Result<Vec<Entry>, BuildError> {
        let entries = self.list()?;
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut removed = Vec::new();
        for entry in entries {
            if total <= max {
                break;
            }
            // What somebody holds is not removed, and nobody can begin to hold it meanwhile.
            let held = File::open(&entry.path);
            let held = held.is_ok_and(|file| file.try_lock().is_err());
            if held || keep.contains(&entry.path) {
                continue;
            }
            self.discard(&entry.path)?;
            let _ = fs::remove_file(self.size_file(entry.kind, &entry.path));
            total -= entry.bytes;
            removed.push(entry);
        }
        Ok(removed)
    }

    /// Keeps a result from being removed while the returned file is open, also by other processes.
    pub fn in_use(entry: &Path) -> Option<Arc<File>> {
        let dir = File::open(entry).ok()?;
        dir.lock_shared().ok()?;
        Some(Arc::new(dir))
    }

    /// Empties it.
    pub fn clear(&self) -> Result<(), BuildError> {
        let failed = |error| BuildError::io("read", &self.root, error);
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Bytes that a result takes on the disk; noted when it was made, for trees are large.
    fn size(&self, kind: &str, path: &Path) -> Result<u64, BuildError> {
        let note = self.size_file(kind, path);
        if let Ok(text) = fs::read_to_string(&note)
            && let Ok(bytes) = text.trim().parse()
        {
            return Ok(bytes);
        }
        if !path.is_dir() {
            return Ok(fs::metadata(path).map_or(0, |meta| meta.blocks() * 512));
        }
        // Some of its directories may be closed to us: as root of a user namespace they are not.
        let output = self
            .sandbox
            .output("size", r#"du -sk -- "$1" | cut -f1"#, path)?;
        let bytes = output.trim().parse::<u64>().unwrap_or_default() * 1024;
        // What is compiled in grows.
        if kind != "programs" {
            let _ = fs::create_dir_all(self.root.join("sizes"))
                .and_then(|()| fs::write(&note, bytes.to_string()));
        }
        Ok(bytes)
    }

    fn size_file(&self, kind: &str, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.root.join("sizes").join(format!("{kind}-{name}"))
    }

    /// Removes a result so that it is never there in part: it first goes to where the next build sweeps.
    fn discard(&self, path: &Path) -> Result<(), BuildError> {
        let name = path.file_name().unwrap_or_default();
        let gone = self.root.join("tmp").join(name);
        fs::rename(path, &gone).map_err(|error| BuildError::io("remove", path, error))?;
        if gone.is_dir() {
            return self.remove(&gone);
        }
        fs::remove_file(&gone).map_err(|error| BuildError::io("remove", &gone, error))
    }

    /// Notes that a result was used, for [`Self::shrink`].
    pub fn touch(&self, entry: &Path) {
        // A result that cannot be marked is made again some day; that is no reason to fail now.
        let _ = File::open(entry).and_then(|dir| dir.set_modified(SystemTime::now()));
    }

    /// Held while packages are fetched.
    pub fn fetching(&self) -> MutexGuard<'_, ()> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, path: &Path) -> Result<(), BuildError> {
        match fs::remove_dir_all(path) {
            // Trees of a user namespace belong to other users.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self
                .sandbox
                .on_host("cleaning", r#"rm -rf -- "$1""#)
                .named("rm")
                .arg(path)
                .run(),
            Err(error) => Err(BuildError::io("remove", path, error)),
            Ok(()) => Ok(()),
        }
    }
}

/// One result, or one downloaded package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which step made it.
    pub kind: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// When a build last used it.
    pub used: SystemTime,
}

/// Kinds of results; the downloaded packages, and what our programs were compiled in, are such, too.
pub const KINDS: [&str; 7] = [
    "roots", "boot", "base", "tools", "bundles", "programs", "debs",
];

/// A directory under `tmp/` of the cache.
#[derive(Debug)]
pub struct Scratch<'a> {
    cache: &'a Cache,
    path: PathBuf,
}

impl Scratch<'_> {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what is in it the result of a step, at once and whole.
    pub fn publish(self, kind: &str, id: &str) -> Result<PathBuf, BuildError> {
        let target = self.cache.entry(kind, id);
        let dir = self.cache.root.join(kind);
        fs::create_dir_all(&dir).map_err(|error| BuildError::io("create", &dir, error))?;
        if target.exists() {
            self.cache.remove(&target)?;
        }
        fs::rename(&self.path, &target).map_err(|error| BuildError::io("write", &target, error))?;
        Ok(target)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if self.path.exists() {
            let _ = self.cache.remove(&self.path);
        }
    }
}

/// A hash over the inputs of a step; each is preceded by its length, so that no two lists of inputs look alike.
#[derive(Clone, Debug)]
pub struct Key(Sha256);

impl Key {
    /// Starts with the name of the step.
    pub fn new(step: &str) -> Self {
        Self(Sha256::new()).with(step)
    }

    /// Adds an input.
    #[must_use]
    pub fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    /// Adds a list.
    #[must_use]
    pub fn with_all<T: AsRef<[u8]>>(self, list: &[T]) -> Self {
        let key = self.with((list.len() as u64).to_le_bytes());
        list.iter().fold(key, |key, item| key.with(item))
    }

    /// Adds names and contents of a directory, and which files are executable; one that does not exist counts as empty.
    pub fn with_dir(mut self, dir: &Path) -> Result<Self, BuildError> {
        let failed = |error| BuildError::io("read", dir, error);
        let mut entries = match fs::read_dir(dir) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        self = self.with((entries.len() as u64).to_le_bytes());
        for entry in entries {
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).map_err(failed)?;
            self = self.with(entry.file_name().as_encoded_bytes());
            let kind = if meta.is_dir() {
                "directory"
            } else if meta.is_symlink() {
                "link"
            } else if meta.permissions().mode() & 0o111 != 0 {
                "program"
            } else {
                // All else of its mode is the umask of whoever checked it out.
                "file"
            };
            self = self.with(kind);
            self = if meta.is_dir() {
                self.with_dir(&path)?
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).map_err(failed)?;
                self.with(target.as_os_str().as_encoded_bytes())
            } else {
                self.with(fs::read(&path).map_err(|error| BuildError::io("read", &path, error))?)
            };
        }
        Ok(self)
    }

    /// The id: 32 hexadecimal digits.
    pub fn id(self) -> String {
        self.0.finalize()[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_depend_on_every_input_and_on_where_one_ends() {
        let id = |inputs: &[&str]| Key::new("test").with_all(inputs).id();
        assert_eq!(id(&["a", "b"]), id(&["a", "b"]));
        assert_eq!(id(&["a"]).len(), 32);
        let all = [
            id(&["a", "b"]),
            id(&["ab", ""]),
            id(&["ab"]),
            id(&["b", "a"]),
            id(&[]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{all:?}");
        }
    }

    #[test]
    fn keys_of_directories_see_names_contents_and_modes() {
        let dir = test_dir("keys");
        let id = || Key::new("test").with_dir(&dir).unwrap().id();
        let mut seen = vec![id()];
        let mut changed = |what: &str| {
            let new = id();
            assert!(!seen.contains(&new), "{what}");
            seen.push(new);
        };
        fs::write(dir.join("a"), "1").unwrap();
        changed("a new file");
        fs::write(dir.join("a"), "2").unwrap();
        changed("its content");
        fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        changed("its mode");
        fs::create_dir(dir.join("b")).unwrap();
        changed("a directory");
        std::os::unix::fs::symlink("a", dir.join("b/c")).unwrap();
        changed("a link");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn only_published_results_stay() {
        let dir = test_dir("publish");
        let cache = Cache::open(&dir, || ()).unwrap();
        let scratch = cache.scratch("one").unwrap();
        fs::write(scratch.path().join("half"), "").unwrap();
        let left = scratch.path().to_owned();
        drop(scratch);
        assert!(!left.exists());
        let scratch = cache.scratch("two").unwrap();
        fs::write(scratch.path().join("whole"), "").unwrap();
        let entry = scratch.publish("kind", "id").unwrap();
        assert_eq!(entry, cache.entry("kind", "id"));
        assert!(entry.join("whole").exists());

        // A build that was killed leaves its scratch directory; the next one sweeps it.
        std::mem::forget(cache.scratch("killed").unwrap());
        drop(cache);
        let cache = Cache::open(&dir, || ()).unwrap();
        assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
        drop(cache);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays() {
        let dir = test_dir("shrink");
        let cache = Cache::open(&dir, || ()).unwrap();
        let names = ["oldest", "held", "kept", "older", "newest"];
        let [oldest, held, kept, older, newest] = names.map(|id| {
            let scratch = cache.scratch(id).unwrap();
            fs::write(scratch.path().join("data"), vec![1; 1 << 20]).unwrap();
            scratch.publish("roots", id).unwrap()
        });
        for (age, entry) in [&oldest, &held, &kept, &older].into_iter().enumerate() {
            let time = SystemTime::now() - Duration::from_secs(1000 - 10 * age as u64);
            File::open(entry).unwrap().set_modified(time).unwrap();
        }
        let debs = dir.join("debs");
        fs::create_dir(&debs).unwrap();
        fs::write(debs.join("ancient.deb"), vec![1; 1 << 20]).unwrap();
        let deb = File::options()
            .write(true)
            .open(debs.join("ancient.deb"))
            .unwrap();
        deb.set_modified(SystemTime::UNIX_EPOCH).unwrap();

        let all = cache.list().unwrap();
        assert!(
            all.iter()
                .all(|entry| (1 << 20..1 << 21).contains(&entry.bytes)),
            "{all:?}"
        );
        let total: u64 = all.iter().map(|entry| entry.bytes).sum();
        assert!(cache.shrink(total, &[]).unwrap().is_empty(), "it fits");

        let holder = Cache::in_use(&held);
        let removed = cache.shrink(7 << 19, std::slice::from_ref(&kept)).unwrap();
        let removed: Vec<_> = removed.iter().map(|entry| entry.path.clone()).collect();
        assert_eq!(
            removed,
            [debs.join("ancient.deb"), oldest.clone(), older.clone()]
        );
        assert!(held.exists() && kept.exists() && newest.exists());
        assert!(!oldest.exists() && !older.exists());
        drop(holder);
        assert_eq!(cache.shrink(0, &[]).unwrap().len(), 3);
        assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
        drop(cache);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_second_build_waits_for_the_first() {
        let dir = test_dir("lock");
        let first = Cache::open(&dir, || panic!("nobody else is here")).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Cache::open(&dir, || sender.send(()).unwrap()).is_ok());
            receiver.recv().unwrap();
            drop(first);
            assert!(second.join().unwrap());
        });
        fs::remove_dir_all(dir).unwrap();
    }

    fn test_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ravelin-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}
