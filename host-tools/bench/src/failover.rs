//! What users notice when the Active fails, is cut off, stops or hands over: our pair on the Linux board beside Debian's
//! keepalived and conntrackd in the same namespaces, with the same intervals, probes and connections, in one run.

mod boards;
mod keepalived;
mod measurement;
mod ours;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Appliances, Lab};
use serde::Serialize;

use crate::BenchError;
use crate::goals::Goal;

use keepalived::Keepalived;
use measurement::{Bench, Measurement};
use ours::Ours;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often each thing happens to each contender.
    pub repetitions: u16,
    /// Whether the other boards take part, emulated.
    pub boards: bool,
    /// The `ravelin` program, which is the Linux board.
    pub program: PathBuf,
}

/// What `bench failover` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One for each contender in each event.
    pub rows: Vec<Row>,
    /// What was aimed at.
    pub goals: Vec<Goal>,
}

/// One contender in one event.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What happens.
    pub event: Event,
    /// Advertisement interval in milliseconds.
    pub interval_ms: u32,
    /// Who it happens to.
    pub who: String,
    /// Longest time in which the virtual address answered no echo request, in milliseconds.
    pub address_ms: Spread,
    /// The service behind it; of the emulated boards only the address is probed.
    pub service: Option<Service>,
}

/// A service behind the pair through one event, all repetitions together.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Longest time in which no probe came back from a server, in milliseconds.
    pub blackout_ms: Spread,
    /// Probes that never did, of one every millisecond.
    pub lost: Spread,
    /// Established connections.
    pub open: usize,
    /// How many of them never got another block.
    pub broken: usize,
    /// Longest time in which one of the others got none, in milliseconds.
    pub stall_ms: Spread,
    /// The same by the blackout and the retransmission timeout that runs when it ends.
    pub stall_by_patience: Spread,
}

/// The same number of every repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// In the middle.
    pub median: f64,
    /// Largest.
    pub max: f64,
    /// All of them in order.
    pub all: Vec<f64>,
}

impl FromIterator<f64> for Spread {
    fn from_iter<T: IntoIterator<Item = f64>>(numbers: T) -> Self {
        let all: Vec<f64> = numbers.into_iter().collect();
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Self {
            min: at(0),
            median: at(sorted.len() / 2),
            max: at(sorted.len().saturating_sub(1)),
            all,
        }
    }
}

/// What happens to the Active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// It is dead and silent from one moment to the next; no carrier goes.
    PowerLoss,
    /// Its cable to the clients loses its carrier.
    LinkDown,
    /// It is told to end (SIGTERM).
    Stop,
    /// It hands over to its peer, and stays.
    HandOver,
}

impl Event {
    /// In the words of the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PowerLoss => "power loss",
            Self::LinkDown => "link down",
            Self::Stop => "graceful stop",
            Self::HandOver => "hand-over",
        }
    }
}

/// Who holds the virtual addresses.
trait Contender {
    /// In the words of the table.
    fn who(&self) -> &'static str;
    /// Starts one of the pair as after a boot.
    fn start(&mut self, lab: &Lab, gateway: usize) -> Result<(), BenchError>;
    /// Waits until the Backup knows what the Active knows.
    fn settle(&self, lab: &Lab) -> Result<(), BenchError>;
    /// Asks one to end in good order; returns at once.
    fn stop(&mut self, gateway: usize);
    /// Asks the Active to hand over, which not everybody can.
    fn hand_over(&self, _: &Lab) -> Result<(), BenchError> {
        let what = format!("handing over: {}", self.who());
        let said = self.said();
        Err(BenchError::NoResult { what, said })
    }
    /// Lets it be Active again.
    fn take_back(&self, _: &Lab) -> Result<(), BenchError> {
        Ok(())
    }
    /// What it has said.
    fn said(&self) -> String;
}

/// Who takes part at which interval, in centiseconds, and what happens to him.
const COURSES: [(Who, u16, &[Event]); 7] = [
    (Who::Vrrp, 100, &[Event::PowerLoss]),
    (Who::Keepalived, 100, &[Event::PowerLoss]),
    (Who::Vrrp, 10, &[Event::PowerLoss]),
    (
        Who::Pair,
        10,
        &[
            Event::PowerLoss,
            Event::LinkDown,
            Event::Stop,
            Event::HandOver,
        ],
    ),
    (
        Who::Keepalived,
        10,
        &[Event::PowerLoss, Event::LinkDown, Event::Stop],
    ),
    (Who::Vrrp, 1, &[Event::PowerLoss]),
    (Who::Keepalived, 1, &[Event::PowerLoss]),
];

/// A contender.
#[derive(Clone, Copy, Debug)]
enum Who {
    /// Ours, with VRRP alone.
    Vrrp,
    /// Ours, with heartbeats between the two and flows that both know.
    Pair,
    /// The others.
    Keepalived,
}

/// Of the pair: a dead peer is missed after 15 ms.
const HEARTBEAT: &str = "[pair]\nheartbeat = \"5ms\"\nmisses = 3\n";

/// Measures everything.
///
/// # Errors
/// If something does not build or start, or a pair does not elect or take over.
pub fn measure(
    source: &Path,
    settings: &Settings,
    status: &impl Fn(&str),
) -> Result<Report, BenchError> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err(BenchError::NeedsRoot);
    }
    let mut rows = Vec::new();
    for (who, centiseconds, events) in COURSES {
        let interval = Duration::from_millis(u64::from(centiseconds) * 10);
        let ours = |pair| {
            let more = if pair { HEARTBEAT } else { "" };
            Ours::new(
                settings,
                Appliances {
                    interval,
                    pair,
                    more,
                },
            )
        };
        let mut contender: Box<dyn Contender> = match who {
            Who::Vrrp => Box::new(ours(false)?),
            Who::Pair => Box::new(ours(true)?),
            Who::Keepalived => Box::new(Keepalived::new(centiseconds)),
        };
        let mut bench = Bench::new(interval, contender.as_mut())?;
        for event in events {
            let mut measurements = Vec::new();
            for repetition in 0..settings.repetitions {
                status(&format!(
                    "{} every {interval:?}: {} {} of {}",
                    bench.who(),
                    event.name(),
                    repetition + 1,
                    settings.repetitions
                ));
                let share = (f64::from(repetition) + 0.5) / f64::from(settings.repetitions);
                measurements.push(bench.measure(*event, share)?);
            }
            rows.push(row(*event, interval, bench.who(), &measurements));
        }
    }
    if settings.boards {
        rows.extend(boards::measure(source, settings, status)?);
    }
    let goals = verdict::goals(&rows);
    Ok(Report { rows, goals })
}

fn row(event: Event, interval: Duration, who: &str, measurements: &[Measurement]) -> Row {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let each = |number: &dyn Fn(&Measurement) -> f64| measurements.iter().map(number).collect();
    Row {
        event,
        interval_ms: interval.as_millis() as u32,
        who: who.into(),
        address_ms: each(&|one| milliseconds(one.address)),
        service: Some(Service {
            blackout_ms: each(&|one| milliseconds(one.blackout)),
            lost: each(&|one| one.lost as f64),
            open: measurements.iter().map(|one| one.open).sum(),
            broken: measurements.iter().map(|one| one.broken).sum(),
            stall_ms: each(&|one| milliseconds(one.stall)),
            stall_by_patience: each(&|one| one.stall.div_duration_f64(one.patience())),
        }),
    }
}
