//! Appliances at debug probes, many at once: compared first, written where they differ, read back, started, and done when their
//! firmware itself says that it lives. Says what happens by events; draws nothing.

#![forbid(unsafe_code)]

mod assign;
mod crash;
mod device;
mod error;
mod image;
mod journal;
pub mod label;
mod probes;
mod provision;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use virtual_probe::Board as Emulated;

pub use assign::{AssignError, assign};
pub use crash::{Failure, Word, last_crash};
pub use device::{identify, load, tail};
pub use error::FlashError;
pub use image::{Image, Piece};
pub use journal::{Entry, Journal};
pub use probes::{Probe, find, probes};
pub use provision::{Credentials, Issuer};

/// One device to bring up to date.
#[derive(Clone)]
pub struct Job {
    /// The appliance that it shall be.
    pub appliance: String,
    /// Its probe (`VID:PID:SERIAL`); none for a dry run, whose device is emulated.
    pub probe: Option<String>,
    /// What belongs into it.
    pub image: Image,
    /// Who makes its key; nobody where it needs none.
    pub issuer: Option<Arc<dyn Issuer>>,
}

/// How devices are treated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Only compares.
    pub check: bool,
    /// Erases the whole flash first, which also unlocks a locked chip.
    pub erase_all: bool,
    /// Makes a new key, even if the one that it has is good.
    pub rotate: bool,
    /// Devices at once; 0 for all.
    pub jobs: usize,
}

/// What is going on at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Opening the probe, finding the chip.
    Connecting,
    /// Erasing the whole flash.
    ErasingAll,
    /// Reading what is there.
    Comparing {
        /// Bytes so far.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Erasing what differs.
    Erasing {
        /// Bytes so far.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Writing what differs.
    Writing {
        /// Bytes so far.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Reading back what was written.
    Verifying {
        /// Bytes so far.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Reset; waiting for the firmware's report.
    Starting,
}

/// How it ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Written, verified, alive.
    Done {
        /// Bytes that were written.
        bytes: u64,
    },
    /// There was nothing to do.
    #[default]
    UpToDate,
    /// A dry run without an emulator: all is ready, so much would be written to a blank device.
    Prepared {
        /// Whole sectors.
        bytes: u64,
    },
    /// Something would have to be written.
    Differs {
        /// How much.
        bytes: u64,
    },
}

/// A device that is as it should be, or was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How it ended.
    pub outcome: Outcome,
    /// The chip's own number, where it has one.
    pub chip: Option<String>,
    /// The unit's number.
    pub serial_number: Option<String>,
}

/// What became of a device.
#[derive(Debug)]
pub struct Report {
    /// The appliance.
    pub appliance: String,
    /// Its probe.
    pub probe: String,
    /// How it ended.
    pub result: Result<Done, FlashError>,
    /// How long it took.
    pub took: Duration,
}

/// How long a device may say nothing. No driver of a probe gives up on every silence by itself.
const SILENCE: Duration = Duration::from_secs(120);

/// What a dry run calls its probe.
const EMULATED: &str = "emulated";

/// Brings devices up to date, several at once; `event` hears of each what is going on. None stops another.
pub fn run(
    jobs: Vec<Job>,
    options: Options,
    event: &(dyn Fn(&str, Phase) + Sync),
    ended: &(dyn Fn(&Report) + Sync),
) -> Vec<Report> {
    let count = jobs.len();
    let workers = match options.jobs {
        0 => count,
        jobs => jobs.min(count),
    };
    let queue: Mutex<VecDeque<(usize, Job)>> = Mutex::new(jobs.into_iter().enumerate().collect());
    let reports = Mutex::new(Vec::new());
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((index, job)) = next() {
                    let report = supervise(job, options, event);
                    ended(&report);
                    let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                    reports.push((index, report));
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// What a device's thread tells.
enum News {
    Phase(Phase),
    End(Result<Done, FlashError>),
}

/// Works at one device in a thread of its own, which is left behind if it hangs in a driver.
fn supervise(job: Job, options: Options, event: &(dyn Fn(&str, Phase) + Sync)) -> Report {
    let begun = Instant::now();
    let appliance = job.appliance.clone();
    let probe = job.probe.clone().unwrap_or_else(|| EMULATED.to_owned());
    let (tell, hear) = mpsc::channel();
    thread::spawn(move || {
        // Nobody hears it any more after a long silence.
        let report = |phase| drop(tell.send(News::Phase(phase)));
        let result = at_device(&job, &options, &report);
        drop(tell.send(News::End(result)));
    });
    let mut during = "connecting";
    let result = loop {
        match hear.recv_timeout(SILENCE) {
            Ok(News::Phase(phase)) => {
                during = phase.name();
                event(&appliance, phase);
            }
            Ok(News::End(result)) => break result,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                break Err(FlashError::Silent {
                    during,
                    patience: SILENCE,
                });
            }
            // It panicked: a fault of the driver.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                break Err(FlashError::LinkLost {
                    during,
                    reason: "the driver of the probe gave up".to_owned(),
                });
            }
        }
    };
    Report {
        appliance,
        probe,
        result,
        took: begun.elapsed(),
    }
}

fn at_device(job: &Job, options: &Options, report: &dyn Fn(Phase)) -> Result<Done, FlashError> {
    if let Some(probe) = &job.probe {
        return device::flash(probe, job, options, report);
    }
    if job.image.firmware.board.qemu.is_none() {
        return device::prepare(job, options);
    }
    device::flash(&selector(&power_up(job)?), job, options, report)
}

fn power_up(job: &Job) -> Result<Emulated, FlashError> {
    let qemu = job.image.firmware.board.emulator();
    let qemu = qemu.map_err(|error| FlashError::Emulation {
        reason: error.to_string(),
    })?;
    let board = Emulated::power_up(&qemu.program, &qemu.machine, &[], None);
    board.map_err(|error| FlashError::Emulation {
        reason: error.to_string(),
    })
}

/// Flashes an emulated board as [`run`] does, and returns all of its flash, from address 0: what starts from that is what was
/// flashed.
///
/// # Errors
/// As [`run`] reports them.
pub fn emulated(job: &Job) -> Result<Vec<u8>, FlashError> {
    let board = power_up(job)?;
    device::flash(&selector(&board), job, &Options::default(), &|_| {})?;
    let settings = &job.image.firmware.board;
    let end = settings.config_address as usize + settings.config_size;
    let memory = board.probe().memory(0, end);
    memory.map_err(|error| FlashError::Emulation {
        reason: error.to_string(),
    })
}

/// What selects the probe of an emulated board.
#[must_use]
pub fn selector(board: &Emulated) -> String {
    format!("1d50:6018:{}", board.probe().address())
}

impl Phase {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::ErasingAll => "erasing all",
            Self::Comparing { .. } => "comparing",
            Self::Erasing { .. } => "erasing",
            Self::Writing { .. } => "writing",
            Self::Verifying { .. } => "verifying",
            Self::Starting => "starting",
        }
    }

    /// Bytes done of how many, where they are counted.
    #[must_use]
    pub fn progress(self) -> Option<(u64, u64)> {
        match self {
            Self::Comparing { done, total }
            | Self::Erasing { done, total }
            | Self::Writing { done, total }
            | Self::Verifying { done, total } => Some((done, total)),
            Self::Connecting | Self::ErasingAll | Self::Starting => None,
        }
    }
}
