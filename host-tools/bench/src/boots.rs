//! How long the image of each role takes from power on until it serves, and how little memory it does that with.

use std::path::Path;
use std::time::{Duration, Instant};

use build::ServerImage;
use rehearse::machine::{self, Socket};
use rehearse::process::Process;
use serde::Serialize;
use site::Plan;
use site::plan::{DbMode, Role, Server};

use crate::BenchError;

/// One role in an emulated machine with one processor, alone in its network.
#[derive(Clone, Debug, Serialize)]
pub struct Boot {
    /// The server that stood for its role.
    pub server: String,
    /// Seconds until all of its services had started.
    pub seconds: f64,
    /// What of that the emulation spent on a processor: depends less on what else this machine does.
    pub processor_seconds: f64,
    /// With how much memory that was, in MiB.
    pub memory: u32,
    /// The least it comes up with, all services running, in MiB; tried in steps of [`STEP`].
    pub least_memory: u32,
}

/// The plan whose images are booted: servers of a database cluster wait for each other, so here the database is alone.
#[must_use]
pub fn plan(plan: &Plan) -> Plan {
    let mut alone = plan.clone();
    alone.database.mode = DbMode::Primary;
    alone.database.arbiter = None;
    let mut databases = 0;
    alone.servers.retain(|server| {
        databases += usize::from(server.role == Role::Db);
        server.role != Role::Db || databases == 1
    });
    alone
}

/// The first server of each role.
#[must_use]
pub fn one_of_each(plan: &Plan) -> Vec<&Server> {
    let mut servers: Vec<&Server> = Vec::new();
    for server in &plan.servers {
        if servers.iter().all(|other| other.role != server.role) {
            servers.push(server);
        }
    }
    servers
}

/// Boots one server again and again, each time with less memory.
///
/// # Errors
/// If QEMU does not start, or the server does not come up at all.
pub fn measure(server: &Server, image: &ServerImage, scratch: &Path) -> Result<Boot, BenchError> {
    let memory = machine::memory_mib(server.role);
    let first = boot(server, image, memory, PATIENCE, scratch)?;
    let Some((wall, processor)) = first.up else {
        return Err(BenchError::NoResult {
            what: format!("booting {}", server.name),
            said: first.said,
        });
    };
    let mut least = memory;
    // One that swaps its own programs in and out all the time does not count as serving.
    while least > STEP {
        let less = least - STEP;
        if boot(server, image, less, processor * SLOWER, scratch)?
            .up
            .is_none()
        {
            break;
        }
        least = less;
    }
    Ok(Boot {
        server: server.name.clone(),
        seconds: wall.as_secs_f64(),
        processor_seconds: processor.as_secs_f64(),
        memory,
        least_memory: least,
    })
}

struct Tried {
    /// Time since power on, and processor time of that.
    up: Option<(Duration, Duration)>,
    said: String,
}

/// `patience` is processor time.
fn boot(
    server: &Server,
    image: &ServerImage,
    memory: u32,
    patience: Duration,
    scratch: &Path,
) -> Result<Tried, BenchError> {
    let [console, output, monitor, ours, theirs] =
        ["console", "qemu", "qmp", "ours", "theirs"].map(|name| scratch.join(name));
    for file in [&console, &monitor, &ours] {
        // There is none before the first boot.
        let _ = std::fs::remove_file(file);
    }
    // Nobody is at the other end of the cable.
    let cable = Socket {
        machine: ours,
        switch: theirs,
        mac: server.mac,
    };
    let line = machine::server(memory, &image.disk, &cable, &console, &monitor);
    let start = |cause| BenchError::Start {
        program: line.program.display().to_string(),
        cause,
    };
    let mut process = Process::spawn(&line.program, &line.arguments, 0, &output).map_err(start)?;
    let begun = Instant::now();
    let marker = format!("ravelin: {} is ", server.name);
    loop {
        std::thread::sleep(TURN);
        let spent = processor_time(process.id());
        let text = std::fs::read(&console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let report = text
            .lines()
            .find_map(|line| line.split_once(&marker).map(|(_, state)| state.trim()));
        let ended = process.exited().is_some();
        // One that has nothing to run on spends no time either.
        let late = spent > patience || begun.elapsed() > patience * IDLE;
        if report.is_some() || late || ended {
            let up = (report == Some("running")).then(|| (begun.elapsed(), spent));
            let log = if ended { &output } else { &console };
            let said = rehearse::process::tail(log);
            return Ok(Tried { up, said });
        }
    }
}

/// Of a process and its threads, in user and kernel mode (proc_pid_stat(5)).
fn processor_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is a name in parentheses, which may hold anything.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = |index: usize| -> u64 {
        let field = fields.split(' ').nth(index);
        field.and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_SECOND)
}

/// In MiB.
pub const STEP: u32 = 32;
const TURN: Duration = Duration::from_millis(100);
/// The slowest role needs a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// A boot that takes more than so many times the first one's time is one that lacks memory.
const SLOWER: u32 = 2;
/// In a boot that gets on, the processor has something to do most of the time, even on a busy machine.
const IDLE: u32 = 4;
/// `USER_HZ`, which Linux has for all programs.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_grows_with_work() {
        let ours = std::process::id();
        let before = processor_time(ours);
        let mut sum = 0u64;
        while processor_time(ours) == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(processor_time(ours) > before);
        assert_eq!(processor_time(0), Duration::ZERO);
    }
}
