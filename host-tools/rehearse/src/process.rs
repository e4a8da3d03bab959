//! Child processes that never outlive the rehearsal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A running child in a process group of its own. It is killed and reaped when this is dropped, and the
/// kernel kills it if our own process dies first.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `nice` added to its niceness; both of its outputs go to the file `log`.
    ///
    /// Must be called from a thread that lives as long as the child shall: the kernel ties the child's life
    /// to the thread that made it.
    pub fn spawn(program: &Path, arguments: &[String], nice: u8, log: &Path) -> io::Result<Self> {
        let output = File::create(log)?;
        let errors = output.try_clone()?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nice", "-n", &nice.to_string()])
            .arg(program)
            .args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        Ok(Self {
            child: command.spawn()?,
            log: log.to_path_buf(),
        })
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its process id, which is that of its group too.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it said.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Asks it to end with SIGTERM, waits up to `patience`, then kills it.
    pub fn terminate(&mut self, patience: Duration) {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + patience;
        while self.exited().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// Kills the whole group with SIGKILL and waits for the child's end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        // Only fails if it was reaped before.
        let _ = self.child.wait();
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // Fails only when nobody is left in the group.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, without what a terminal would not show.
#[must_use]
pub fn tail(log: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = plain(&String::from_utf8_lossy(&bytes));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Text without colours, cursor movements and other control characters.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' if characters.next_if_eq(&'[').is_some() => {
                // Parameters, up to and with the final letter (ECMA-48 §5.4).
                let _ = characters.by_ref().find(|c| ('@'..='~').contains(c));
            }
            '\n' | '\t' => plain.push(character),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

/// "exit status: 1" or "signal: 9 (SIGKILL)" in an operator's words.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

const TAIL_BYTES: u64 = 8192;
const TAIL_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_group_dies_with_its_owner() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("log");
        let script = ["-c".into(), "sleep 1000 & echo $!; wait".into()];
        let process = Process::spawn(Path::new("sh"), &script, 5, &log).expect("sh starts");
        let grandchild = wait_for(|| process.tail().trim().parse::<u32>().ok());
        let id = process.id();
        assert!(alive(id) && alive(grandchild));
        drop(process);
        assert!(!alive(id));
        wait_for(|| (!alive(grandchild)).then_some(()));
    }

    #[test]
    fn a_child_that_obeys_sigterm_ends_by_itself() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("log");
        let script = [
            "-c".into(),
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done".into(),
        ];
        let mut process = Process::spawn(Path::new("sh"), &script, 0, &log).expect("sh starts");
        wait_for(|| (process.tail() == "up").then_some(()));
        process.terminate(Duration::from_secs(20));
        assert!(process.tail().ends_with("bye"), "{}", process.tail());
    }

    #[test]
    fn an_exit_is_noticed_and_told() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("log");
        let script = [
            "-c".into(),
            "echo first; echo 'out of cheese' >&2; exit 3".into(),
        ];
        let mut process = Process::spawn(Path::new("sh"), &script, 0, &log).expect("sh starts");
        let status = wait_for(|| process.exited());
        assert_eq!(describe(status), "exited with code 3");
        assert_eq!(process.tail(), "first\nout of cheese");
    }

    #[test]
    fn consoles_are_told_in_plain_text() {
        let table = [
            (
                "[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mnginx\x1b[0m.\r\n",
                "[  OK  ] Started nginx.\n",
            ),
            (
                "\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading",
                "BdsDxe: loading",
            ),
            ("a\tb\x07", "a\tb"),
            ("cut short \x1b[0;", "cut short "),
            ("\x1b", ""),
        ];
        for (text, expected) in table {
            assert_eq!(plain(text), expected);
        }
    }

    fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
        for _ in 0..2000 {
            if let Some(value) = ready() {
                return value;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("did not happen within 20 s");
    }

    fn alive(id: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
    }
}
