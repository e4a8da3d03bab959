//! Network namespaces that last as long as a test or a bench: made, entered and removed in one place. Needs root and
//! iproute2.

#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::panic;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Why a namespace was not made, or something in it did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that is missing, or a namespace that cannot be entered.
    #[error("{what}: {cause}")]
    Start {
        /// The program or the namespace.
        what: String,
        /// Why not.
        cause: io::Error,
    },
    /// A program did not do what it was told.
    #[error("{line}: {said}")]
    Failed {
        /// The command line.
        line: String,
        /// What it said.
        said: String,
    },
}

/// A network namespace, and what is in it; removed when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace of this name, as `ip netns` knows it.
    ///
    /// # Errors
    /// Without root or iproute2, or if there is one.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        run("ip", &["netns", "add", &name], "")?;
        Ok(Self { name })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells iproute2 something about it: `link set eth0 up`.
    ///
    /// # Errors
    /// With what `ip` says.
    pub fn ip(&self, line: &str) -> Result<(), Error> {
        let arguments = ["-n", &self.name].into_iter().chain(line.split(' '));
        run("ip", &arguments.collect::<Vec<_>>(), "")
    }

    /// Tells iproute2 many things about it at once, a line each.
    ///
    /// # Errors
    /// With what `ip` says.
    pub fn ip_all(&self, lines: &str) -> Result<(), Error> {
        run("ip", &["-n", &self.name, "-batch", "-"], lines)
    }

    /// Runs a program in it to its end.
    ///
    /// # Errors
    /// If it does not start or does not succeed.
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<(), Error> {
        let inside = ["netns", "exec", &self.name, program];
        run("ip", &[&inside, arguments].concat(), input)
    }

    /// A program that will run in it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = command("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `work` on a thread in it. Threads that begin there, and sockets made there, stay there.
    ///
    /// # Errors
    /// If it cannot be entered.
    ///
    /// # Panics
    /// If `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let enter = self.door()?;
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter()?;
                Ok(work())
            });
            thread
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// The same on a thread that goes on by itself.
    ///
    /// # Errors
    /// If it cannot be opened.
    ///
    /// # Panics
    /// The thread does, if the namespace cannot be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>, Error> {
        let enter = self.door()?;
        Ok(thread::spawn(move || {
            if let Err(error) = enter() {
                panic!("{error}");
            }
            work()
        }))
    }

    /// What brings the calling thread into it.
    fn door(&self) -> Result<impl FnOnce() -> Result<(), Error> + Send + 'static, Error> {
        let path = PathBuf::from("/run/netns").join(&self.name);
        let what = path.display().to_string();
        let file = File::open(&path).map_err(|cause| Error::Start {
            what: what.clone(),
            cause,
        })?;
        Ok(move || {
            setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| Error::Start {
                what,
                cause: error.into(),
            })
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut delete = command("ip");
        delete.args(["netns", "del", &self.name]);
        let _ = delete.stderr(Stdio::null()).status(); // best effort
    }
}

/// A prefix for the names of one lab that no other lab on this machine has.
#[must_use]
pub fn prefix(kind: &str) -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let number = LABS.fetch_add(1, Ordering::Relaxed);
    format!("{kind}{}-{number}", std::process::id())
}

/// A program that may be where only root looks.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
    command
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<(), Error> {
    let start = |cause| Error::Start {
        what: program.to_owned(),
        cause,
    };
    let mut child = command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who ends before he has read all says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        line: format!("{program} {}", arguments.join(" ")),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_namespace_is_another_world_as_long_as_it_lasts() {
        let space = Namespace::new(prefix("rvns")).expect("root and iproute2");
        let here = || fs::read_link("/proc/thread-self/ns/net").expect("a link");
        let outside = here();
        let inside = space.enter(here).expect("root may enter");
        assert_ne!(inside, outside);
        assert_eq!(here(), outside, "only the thread of the work moved");
        let spawned = space.spawn(here).expect("root may enter");
        assert_eq!(spawned.join().expect("it ends"), inside);
        space.ip("link set lo up").expect("a good line");
        let error = space
            .ip("link set nothing up")
            .expect_err("there is no such link");
        assert!(error.to_string().contains("nothing"), "{error}");
        let path = Path::new("/run/netns").join(space.name());
        assert!(path.exists());
        drop(space);
        assert!(!path.exists());
    }
}
