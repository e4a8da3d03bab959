//! A machine that runs, and what its console tells.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::light;
use crate::log::BoardLog;
use crate::machine::CommandLine;
use crate::process::Process;
use crate::switch::{Mode, PortId};

/// One running machine.
pub struct Machine {
    /// Its name in the plan.
    pub name: String,
    /// What is at the end of its cables.
    pub kind: Kind,
    /// Where its console goes.
    pub console: PathBuf,
    pub(super) process: Option<Process>,
    /// What it is, and where it writes itself.
    pub(super) line: CommandLine,
    pub(super) output: PathBuf,
    pub(super) monitor: Option<PathBuf>,
    pub(super) cables: Vec<Cable>,
    pub(super) log: Option<BoardLog>,
    pub(super) namespace: Option<Process>,
    pub(super) started: Instant,
    /// After the processes in it.
    pub(super) _cgroup: Option<Cgroup>,
}

/// Appliance or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of the pair.
    Appliance,
    /// A server.
    Server,
}

#[derive(Clone, Debug)]
pub(super) struct Cable {
    pub(super) port: PortId,
    pub(super) mode: Mode,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The last words of an appliance are worth having.
        if let Some(log) = &mut self.log {
            self.process = None;
            log.catch_up();
        }
    }
}

impl Machine {
    /// Whether it still runs, as far as anybody stopped it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Runs a command of this machine in the network of a server that is a container, behind that server's firewall.
    pub fn inside(&self, command: &[&str]) -> io::Result<Output> {
        match &self.namespace {
            Some(namespace) => light::inside(namespace, command),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Runs a command of its own on a server that is a container, as its root.
    pub fn run(&self, command: &[&str]) -> io::Result<Output> {
        match (&self.namespace, &self.process) {
            (Some(_), Some(container)) => light::run(container, command),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The network namespace of a server that is a container, for whoever wants to do more in it than run a command.
    #[must_use]
    pub fn network(&self) -> Option<PathBuf> {
        self.namespace.as_ref().map(light::namespace_path)
    }

    /// How long ago it was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What its console says about the end of its boot: `None` while it boots, then the names of failed units.
    #[must_use]
    pub fn boot_report(&self) -> Option<Vec<String>> {
        let console = fs::read(&self.console).ok()?;
        boot_report(&String::from_utf8_lossy(&console), &self.name)
    }

    /// How much its console has said: grows while it boots.
    #[must_use]
    pub fn console_length(&self) -> u64 {
        fs::metadata(&self.console).map_or(0, |metadata| metadata.len())
    }
}

/// Finds `ravelin: NAME is running` or `ravelin: NAME is degraded: UNITS` (image/base, report-up).
fn boot_report(console: &str, name: &str) -> Option<Vec<String>> {
    let marker = format!("ravelin: {name} is ");
    let line = console
        .lines()
        .rev()
        .find_map(|line| line.split_once(&marker).map(|(_, rest)| rest))?;
    let (state, units) = line.split_once(':').unwrap_or((line, ""));
    let mut failed: Vec<String> = units.split_whitespace().map(String::from).collect();
    if failed.is_empty() && state.trim() != "running" {
        failed.push(state.trim().into());
    }
    Some(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_boot_is_read_from_the_console() {
        let table = [
            ("nothing yet", "Linux version 6\n", None),
            ("up", "x\r\nravelin: lb1 is running\r\n", Some(vec![])),
            (
                "failed units",
                "ravelin: lb1 is degraded: a.service b.service \n",
                Some(vec!["a.service", "b.service"]),
            ),
            (
                "no units named",
                "ravelin: lb1 is maintenance\n",
                Some(vec!["maintenance"]),
            ),
            ("another server", "ravelin: lb11 is running\n", None),
        ];
        for (name, console, expected) in table {
            let expected = expected.map(|units| units.into_iter().map(String::from).collect());
            assert_eq!(boot_report(console, "lb1"), expected, "{name}");
        }
    }
}
