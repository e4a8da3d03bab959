//! A program in a router's place.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, system};

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self, Error> {
        let out = File::options().create(true).append(true).open(&log);
        let out = out.map_err(system(log.display()))?;
        let both = out.try_clone().map_err(system(log.display()))?;
        command.stdin(Stdio::null()).stdout(both).stderr(out);
        let child = command.spawn().map_err(system(format!("{command:?}")))?;
        Ok(Self { child, log })
    }

    /// Kills it, as a power loss does.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end in good order (SIGTERM), and does not wait.
    pub fn terminate(&self) {
        let _ = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
    }

    /// Asks it to read its configuration again (SIGHUP).
    pub fn reread(&self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGHUP);
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Everything that it, and those before it of the same name, have said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
