//! A control group for each container: systemd inside takes the group it is started in for its own, so that
//! two of them in one group would kill each other's processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Groups of one container, one in each hierarchy that systemd uses. Removed when this is dropped.
#[derive(Debug, Default)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes groups called `name` below our own. Where that is not allowed there are none, and containers share ours.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = membership
            .lines()
            .filter_map(|line| own_group(line, Path::new(MOUNTS)));
        let directories = own.map(|group| group.join(name));
        Self {
            directories: directories
                .filter(|directory| fs::create_dir(directory).is_ok())
                .collect(),
        }
    }

    /// Arguments for `sh` that move it into the groups and then run the arguments that follow.
    #[must_use]
    pub fn enter(&self) -> Vec<String> {
        let files = self
            .directories
            .iter()
            .map(|directory| directory.join("cgroup.procs").display().to_string());
        let mut arguments = vec!["-c".into(), ENTER.into(), "sh".into()];
        arguments.extend(files);
        arguments.push("--".into());
        arguments
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Killed processes take a moment to end.
        let deadline = Instant::now() + PATIENCE;
        for directory in &self.directories {
            remove(directory);
            while directory.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
                remove(directory);
            }
        }
    }
}

/// Only empty groups can be removed, from the innermost on. What is left has processes and belongs to them.
fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

/// The directory of our group for a line of `/proc/self/cgroup`, if systemd uses that hierarchy.
fn own_group(line: &str, mounts: &Path) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let hierarchy = match controllers {
        "" if mounts.join("cgroup.procs").exists() => mounts.to_path_buf(),
        "" => mounts.join("unified"),
        "name=systemd" => mounts.join("systemd"),
        _ => return None,
    };
    Some(hierarchy.join(path.trim_start_matches('/')))
}

const PATIENCE: Duration = Duration::from_secs(3);
const MOUNTS: &str = "/sys/fs/cgroup";
/// Joins every group before `--`, then becomes the program behind it.
const ENTER: &str =
    r#"while [ "$1" != -- ]; do echo $$ > "$1" || exit; shift; done; shift; exec "$@""#;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_hierarchies_of_systemd_are_found() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mounts = dir.path();
        assert_eq!(
            own_group("9:name=systemd:/", mounts),
            Some(mounts.join("systemd"))
        );
        assert_eq!(
            own_group("0::/a/b", mounts),
            Some(mounts.join("unified/a/b"))
        );
        assert_eq!(own_group("4:memory:/a", mounts), None);
        assert_eq!(own_group("nonsense", mounts), None);
        fs::write(mounts.join("cgroup.procs"), "").expect("written");
        assert_eq!(
            own_group("0::/user.slice/a:b", mounts),
            Some(mounts.join("user.slice/a:b"))
        );
    }

    #[test]
    fn the_program_runs_after_its_process_has_joined() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let directories = ["one", "two"].map(|name| dir.path().join(name)).to_vec();
        directories
            .iter()
            .for_each(|directory| fs::create_dir(directory).expect("directory"));
        let cgroup = Cgroup {
            directories: directories.clone(),
        };
        let output = Command::new("sh")
            .args(cgroup.enter())
            .args(["sh", "-c", "echo $$ \"$1\"", "x", "a  b"])
            .output();
        let text = String::from_utf8(output.expect("sh").stdout).expect("text");
        let (id, argument) = text.trim().split_once(' ').expect("two words");
        assert_eq!(argument, "a  b");
        for directory in &directories {
            assert_eq!(
                fs::read_to_string(directory.join("cgroup.procs"))
                    .expect("joined")
                    .trim(),
                id
            );
            // As the kernel does when a group is removed.
            fs::remove_file(directory.join("cgroup.procs")).expect("removed");
        }
        drop(cgroup);
        assert!(directories.iter().all(|directory| !directory.exists()));
    }
}
