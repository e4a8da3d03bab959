//! A directory for sockets and whatever else ends with the rehearsal. A tool that is killed cannot remove its own; the next
//! one does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::Uid;
use tempfile::TempDir;

/// A directory of our own, removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    /// Locked for as long as we live: the kernel lets go of it however we end.
    _owner: File,
}

const PREFIX: &str = "ravelin-";
const MODE: u32 = 0o700;
const OWNER: &str = "owner";
/// What the owner's file begins with.
const MARK: &[u8] = b"ravelin rehearsal, process ";

impl Scratch {
    /// Makes one where the system keeps such directories, and removes those there whose owners are dead.
    pub fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    fn within(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            // Servers' keys lie in it.
            .permissions(fs::Permissions::from_mode(MODE))
            .tempdir_in(parent)?;
        let mut owner = File::create_new(directory.path().join(OWNER))?;
        owner.lock()?;
        // Only now: an owner's file without these words may be one that is not locked yet.
        owner.write_all(&[MARK, std::process::id().to_string().as_bytes(), b"\n"].concat())?;
        Ok(Self {
            directory,
            _owner: owner,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes what the dead have left. What cannot be removed stays: it is in nobody's way.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // The lock is kept meanwhile, so that of several tools one removes it.
        if is_named && let Some(_owner) = abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The owner's file, locked, of a directory that is surely one of ours and whose owner is surely dead.
fn abandoned(directory: &Path) -> Option<File> {
    let us = Uid::effective().as_raw();
    let metadata = fs::symlink_metadata(directory).ok()?;
    if !metadata.is_dir() || metadata.uid() != us || metadata.mode() & 0o777 != MODE {
        return None;
    }
    let mut owner = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(directory.join(OWNER))
        .ok()?;
    let metadata = owner.metadata().ok()?;
    if !metadata.is_file() || metadata.uid() != us {
        return None;
    }
    owner.try_lock().ok()?;
    let mut words = [0; MARK.len()];
    owner.read_exact(&mut words).ok()?;
    (words == MARK).then_some(owner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const PARENT: &str = "RAVELIN_TEST_SCRATCH";

    /// Kills its process if a test ends early.
    struct Holder(Child);

    impl Drop for Holder {
        fn drop(&mut self) {
            // It may be dead already.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Another process of this program, with a directory of its own.
    fn holder(parent: &Path) -> (Holder, PathBuf) {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "scratch::tests::holds_one",
                "--ignored",
                "--nocapture",
            ])
            .env(PARENT, parent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let holder = Holder(child);
        let mut lines = output.lines().map_while(Result::ok);
        let path = lines.find_map(|line| Some(line.split_once("made ")?.1.to_owned()));
        (holder, path.expect("it says where").into())
    }

    #[test]
    #[ignore = "the other process of the test below"]
    fn holds_one() {
        let Some(parent) = std::env::var_os(PARENT) else {
            return;
        };
        let scratch = Scratch::within(Path::new(&parent)).expect("a directory");
        fs::write(scratch.path().join("socket"), "x").expect("a file");
        println!("made {}", scratch.path().display());
        // Until it is killed, or its parent is gone.
        let _ = io::stdin().read(&mut [0]);
    }

    #[test]
    fn the_next_one_removes_what_a_killed_one_left_and_nothing_else() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let made = |name: &str, owner: Option<&[u8]>| {
            let path = parent.path().join(name);
            fs::create_dir(&path).expect("a directory");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
            if let Some(words) = owner {
                fs::write(path.join(OWNER), words).expect("a file");
            }
            path
        };
        let words = [MARK, b"1\n"].concat();
        let open = made("ravelin-open", Some(&words));
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("its mode");
        let elsewhere = made("elsewhere", Some(&words));
        let link = parent.path().join("ravelin-link");
        std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
        let linked = made("ravelin-linked", None);
        std::os::unix::fs::symlink(elsewhere.join(OWNER), linked.join(OWNER)).expect("a link");
        let others = [
            made("ravelin-without-owner", None),
            made("ravelin-not-yet-locked", Some(b"")),
            made(
                "ravelin-of-another-program",
                Some(b"something else, and long enough"),
            ),
            open,
            elsewhere,
            link,
            linked,
        ];
        let own = Scratch::within(parent.path()).expect("a directory");
        let (mut killed, left) = holder(parent.path());
        let (_living, kept) = holder(parent.path());
        assert!(left.join("socket").exists() && kept.join("socket").exists());

        // SIGKILL: nothing of its own runs any more.
        killed.0.kill().expect("it lives");
        killed.0.wait().expect("it ends");
        assert!(left.join("socket").exists(), "it has removed it by itself");
        let next = Scratch::within(parent.path()).expect("a directory");
        assert!(!left.exists(), "{} is left behind", left.display());
        for path in others
            .iter()
            .map(PathBuf::as_path)
            .chain([own.path(), next.path(), &kept])
        {
            assert!(path.exists(), "{} is gone", path.display());
        }
        let gone = next.path().to_owned();
        drop(next);
        assert!(!gone.exists());
    }
}
