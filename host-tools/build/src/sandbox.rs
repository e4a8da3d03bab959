//! Runs helper programs where their mounts, their processes and their files do not touch the machine's own.
//!
//! Every helper has a mount namespace and a process namespace of its own, so nothing stays mounted and nothing stays
//! running when it, or we, are killed. As root that is all; as another user the helper also gets a user
//! namespace in which it is root over the user's range in `/etc/subuid`. The recipes are the same for both.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::error::{BuildError, FULL_DISK};

/// Where, inside a tree, the cache directory is mounted.
pub const CACHE: &str = "/cache";

/// How helpers become root over the files of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// We are root.
    Root,
    /// A user namespace with the ranges of `/etc/subuid` and `/etc/subgid`.
    UserNamespace,
}

/// Starts helpers; all that they write lies under one directory, the cache.
#[derive(Clone, Debug)]
pub struct Sandbox {
    privilege: Privilege,
    cache: PathBuf,
}

impl Sandbox {
    /// A sandbox that may write under `cache`.
    pub fn new(cache: &Path) -> Self {
        let privilege = if nix::unistd::geteuid().is_root() {
            Privilege::Root
        } else {
            Privilege::UserNamespace
        };
        Self {
            privilege,
            cache: cache.to_owned(),
        }
    }

    /// How helpers become root.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// A script that sees the machine's own file system, as root over trees.
    pub fn on_host(&self, step: &str, script: &'static str) -> Helper {
        let mut command = self.unshare();
        command.args(["--mount-proc", "sh", "-euc", script, "recipe"]);
        self.helper(step, "sh", command)
    }

    /// What a short script about one path prints.
    pub fn output(
        &self,
        step: &str,
        script: &'static str,
        path: &Path,
    ) -> Result<String, BuildError> {
        let mut command = self.unshare();
        command
            .args(["--mount-proc", "sh", "-euc", script, "recipe"])
            .arg(path);
        let output =
            command
                .stdin(Stdio::null())
                .output()
                .map_err(|cause| BuildError::Missing {
                    program: "unshare".to_owned(),
                    cause,
                })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(BuildError::Unexpected {
            step: step.to_owned(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// A script whose root directory is `tree`, with the cache at [`CACHE`].
    pub fn inside(&self, step: &str, tree: &Path, script: &'static str) -> Helper {
        let mut command = self.unshare();
        command
            .args(["sh", "-euc", ENTER, "enter"])
            .arg(tree)
            .arg(&self.cache);
        command.args(["sh", "-euc", script, "recipe"]);
        self.helper(step, "sh", command)
    }

    /// What a path under the cache is called inside a tree.
    pub fn path(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.cache) {
            Ok(rest) => Path::new(CACHE).join(rest),
            Err(_) => path.to_owned(),
        }
    }

    fn unshare(&self) -> Command {
        let mut command = tied("unshare");
        command.args([
            "--mount",
            // No step but those that fetch packages and compile our programs reaches the network.
            "--net",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
        ]);
        if self.privilege == Privilege::UserNamespace {
            command.args(["--user", "--map-auto", "--map-root-user"]);
        }
        command
    }

    fn helper(&self, step: &str, program: &str, mut command: Command) -> Helper {
        command
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command
            .env("TMPDIR", "/tmp")
            .env("HOME", "/root")
            .env("TZ", "UTC");
        let name: String = step
            .chars()
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        Helper {
            step: step.to_owned(),
            program: program.to_owned(),
            log: self.cache.join("log").join(name + ".log"),
            command,
        }
    }
}

/// A helper program that is about to run.
#[derive(Debug)]
pub struct Helper {
    step: String,
    program: String,
    log: PathBuf,
    command: Command,
}

impl Helper {
    /// Adds one argument (`$1` and so on of a script).
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the helper's environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Says which program the script is about, for error messages.
    pub fn named(mut self, program: &str) -> Self {
        self.program = program.to_owned();
        self
    }

    /// Runs to the end. What the helper prints is appended to the step's log.
    pub fn run(self) -> Result<(), BuildError> {
        run(self.command, &self.step, &self.program, &self.log)
    }

    /// Runs to the end with a few bytes on its standard input, and returns what it writes to its standard output. Both are
    /// for us alone, and in no file.
    pub fn exchange(self, input: &[u8]) -> Result<Vec<u8>, BuildError> {
        exchange(
            self.command,
            &self.step,
            &self.program,
            &self.log,
            Some(input),
        )
    }
}

/// Runs a command with its output in a log file, whose last lines are in the error.
pub(crate) fn run(
    command: Command,
    step: &str,
    program: &str,
    log: &Path,
) -> Result<(), BuildError> {
    exchange(command, step, program, log, None).map(drop)
}

/// The same; with an input, only what it prints as errors is in the log.
fn exchange(
    mut command: Command,
    step: &str,
    program: &str,
    log: &Path,
    input: Option<&[u8]>,
) -> Result<Vec<u8>, BuildError> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).map_err(|error| BuildError::io("create", dir, error))?;
    }
    let open = || File::options().create(true).append(true).open(log);
    let output = open().map_err(|error| BuildError::io("write", log, error))?;
    let start = output.metadata().map_or(0, |meta| meta.len());
    let errors = output
        .try_clone()
        .map_err(|error| BuildError::io("write", log, error))?;
    let (from, to) = match input {
        Some(_) => (Stdio::piped(), Stdio::piped()),
        None => (Stdio::null(), output.into()),
    };
    let missing = |cause| BuildError::Missing {
        program: program.to_owned(),
        cause,
    };
    let child = command.stdin(from).stdout(to).stderr(errors).spawn();
    let mut child = child.map_err(missing)?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // Who ends without reading it says why.
        let _ = pipe.write_all(input);
    }
    let output = child.wait_with_output().map_err(missing)?;
    let status = output.status;
    if status.success() {
        return Ok(output.stdout);
    }
    let tail = tail(log, start);
    let help = if is_full(&tail) || has_no_room(log) {
        FULL_DISK.to_owned()
    } else if status.code() == Some(NOT_FOUND) {
        "`ravelin doctor` lists the programs that are missing and how to install them".to_owned()
    } else {
        format!("all that it printed is in {}", log.display())
    };
    Err(BuildError::Helper {
        step: step.to_owned(),
        program: program.to_owned(),
        how: how(status),
        tail,
        help,
    })
}

/// Whether what a program printed is about a full disk.
pub(crate) fn is_full(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("not enough free space")
}

/// Whether the disk is so full that not even the log may say so.
fn has_no_room(log: &Path) -> bool {
    let room = nix::sys::statvfs::statvfs(log);
    room.is_ok_and(|room| room.blocks_available() * room.fragment_size() < 1 << 20)
}

/// A command that dies with us, and whose files do not depend on our umask.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    let script = r#"umask 022; exec setpriv --pdeathsig KILL -- "$@""#;
    command.args(["-c", script, "sh"]).arg(program);
    command
}

fn how(status: ExitStatus) -> String {
    // A shell, and `unshare`, report the signal that killed their child as 128 + its number.
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code @ 129..=159)) => format!("was killed by signal {}", code - 128),
        (None, code) => format!("exited with status {}", code.unwrap_or(-1)),
    }
}

/// The last lines that were written to a log since `start`.
fn tail(log: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let end = file.metadata().map_or(0, |meta| meta.len());
        let _ = file.seek(SeekFrom::Start(start.max(end.saturating_sub(16 * 1024))));
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

const TAIL_LINES: usize = 12;
/// Status of a shell whose command does not exist.
const NOT_FOUND: i32 = 127;

/// Makes `$1` the root directory, with the cache `$2` in it, and runs the rest.
///
/// pivot_root instead of a plain chroot: tools that make namespaces of their own refuse to run in a chroot.
const ENTER: &str = r#"
tree=$1 cache=$2
shift 2
mount --rbind "$tree" "$tree"
mount --bind "$cache" "$tree/cache"
mount --rbind /dev "$tree/dev"
# Processes of two sandboxes may have the same number, by which programs name what they share.
test ! -d "$tree/dev/shm" || mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
mount -t proc proc "$tree/proc"
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
cd "$tree"
pivot_root . mnt
cd /
umount -l /mnt
exec "$@"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_helper_says_what_it_last_printed() {
        let dir = test_dir("sandbox");
        let log = dir.join("step.log");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run(command, "step", "sh", &log)
        };
        shell("echo fine").unwrap();
        let failed = shell("echo one; echo two >&2; exit 3")
            .unwrap_err()
            .to_string();
        assert_eq!(failed, "step: sh exited with status 3\n    one\n    two");
        let killed = shell("kill -9 $$").unwrap_err().to_string();
        assert_eq!(killed, "step: sh was killed by signal 9");
        let full = shell("echo 'dd: No space left on device'; exit 1").unwrap_err();
        let BuildError::Helper { help, .. } = full else {
            panic!("{full}")
        };
        assert!(help.starts_with("the disk is full"), "{help}");
        let missing = run(tied("ravelin-no-such-program"), "step", "x", &log).unwrap_err();
        let BuildError::Helper { help, .. } = missing else {
            panic!("{missing}")
        };
        assert!(help.starts_with("`ravelin doctor` lists"), "{help}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_a_helper_mounts_is_gone_when_it_is_killed() {
        let dir = test_dir("mounts");
        let script = r#"mount -t tmpfs tmpfs "$1"; touch "$1/inside"; sh -c 'kill -9 $$'"#;
        let killed = Sandbox::new(&dir)
            .on_host("step", script)
            .arg(&dir)
            .run()
            .unwrap_err();
        assert!(
            killed
                .to_string()
                .starts_with("step: sh was killed by signal 9")
        );
        assert!(!dir.join("inside").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn helpers_end_when_we_are_killed() {
        let dir = test_dir("orphans");
        let pipe = dir.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut us = Command::new(std::env::current_exe().unwrap());
        us.args([
            "--ignored",
            "--exact",
            "sandbox::tests::a_process_with_a_helper",
        ]);
        let mut us = us
            .env("RAVELIN_TEST_DIR", &dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut helper = File::open(&pipe).unwrap();
        let mut byte = [0];
        helper.read_exact(&mut byte).unwrap();
        us.kill().unwrap();
        us.wait().unwrap();
        // The pipe ends when no process has it open for writing any more.
        assert_eq!(helper.read(&mut byte).unwrap(), 0);
        fs::remove_dir_all(dir).unwrap();
    }

    /// Not a test by itself: what `helpers_end_when_we_are_killed` kills.
    #[test]
    #[ignore = "runs for ever"]
    fn a_process_with_a_helper() {
        let dir = PathBuf::from(std::env::var_os("RAVELIN_TEST_DIR").unwrap());
        let script = r#"exec 3> "$1/pipe"; printf x >&3; sleep 3600 & sleep 3600"#;
        Sandbox::new(&dir)
            .on_host("step", script)
            .arg(&dir)
            .run()
            .unwrap();
    }

    fn test_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ravelin-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}
