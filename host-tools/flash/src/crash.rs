//! The last failure of a device, as it is kept over a reset: asked for at its probe, and told with the names of the program's places.

use std::path::Path;

use addr2line::Loader;
use build::{Board, Firmware};
use probe_rs::MemoryInterface as _;
use recovery::{Cause, Crash, SIZE};
use serde::Serialize;

use crate::device::{attach, lost};
use crate::error::FlashError;
use crate::image::hex;

/// What is known of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `panic`, `watchdog`, or what the core could not do.
    pub cause: &'static str,
    /// The part that a watchdog missed.
    pub stopped: Option<&'static str>,
    /// What a panic said.
    pub message: Option<String>,
    /// Where in the source it was, if the program said that or its file knows.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<u32>,
    /// The core's registers, in the order of their importance.
    pub registers: Vec<Word>,
    /// Version of the firmware that failed.
    pub firmware: String,
    /// The first bytes of SHA-256 of its configuration.
    pub configuration: String,
    /// How long it had run.
    pub uptime_seconds: u64,
    /// Which start since power came on it was.
    pub start: u32,
}

/// A register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Its name.
    pub name: &'static str,
    /// What was in it.
    pub value: u32,
    /// The function that it points into.
    pub function: Option<String>,
    /// Where that is in the source, as `file:line`.
    pub place: Option<String>,
}

/// The last failure of a device since power came on.
///
/// # Errors
/// If its board keeps none, or cannot be asked.
pub fn last_crash(selector: &str, board: &Board) -> Result<Option<Crash>, FlashError> {
    let address = board.record_address.ok_or_else(|| FlashError::NoRecord {
        board: board.name.clone(),
    })?;
    let mut session = attach(selector, board, false)?;
    let mut memory = [0; SIZE];
    session
        .core(0)
        .and_then(|mut core| core.read(address, &mut memory))
        .map_err(|error| lost("reading what is kept", &error))?;
    Ok(recovery::last(&memory))
}

impl Failure {
    /// A failure, with names where the firmware at hand is the one that failed, or looks like it.
    #[must_use]
    pub fn new(crash: &Crash, firmware: Option<&Firmware>) -> Self {
        let program = firmware.and_then(|firmware| Program::open(&firmware.elf));
        let words = crash.registers.iter().map(|(register, value)| {
            let known = program.as_ref().filter(|_| register.is_code());
            let (function, place) = known.map(|known| known.at(*value)).unwrap_or_default();
            Word {
                name: register.name(),
                value: *value,
                function,
                place,
            }
        });
        let text = |words: &str| (!words.is_empty()).then(|| words.to_owned());
        Self {
            cause: crash.cause.name(),
            stopped: match crash.cause {
                Cause::Watchdog(part) => Some(part.name()),
                Cause::Panic | Cause::Fault(_) => None,
            },
            message: text(&crash.message),
            file: text(&crash.file),
            line: (!crash.file.is_empty()).then_some(crash.line),
            registers: words.collect(),
            firmware: crash.version.as_str().to_owned(),
            configuration: hex(&crash.configuration),
            uptime_seconds: crash.uptime / 1_000_000,
            start: crash.start,
        }
    }
}

/// A program that knows its places.
struct Program(Loader);

impl Program {
    fn open(elf: &Path) -> Option<Self> {
        Loader::new(elf).ok().map(Self)
    }

    /// The function and the place of an instruction, by its address; the lowest bit of one says "Thumb".
    fn at(&self, address: u32) -> (Option<String>, Option<String>) {
        let address = u64::from(address & !1);
        let place = self.0.find_location(address).ok().flatten();
        let place = place.and_then(|place| Some(format!("{}:{}", place.file?, place.line?)));
        let frames = self.0.find_frames(address).ok();
        let inlined = frames.and_then(|mut frames| frames.next().ok().flatten()?.function);
        let function = match inlined.as_ref().and_then(|name| name.demangle().ok()) {
            Some(name) => Some(name.into_owned()),
            None => self
                .0
                .find_symbol(address)
                .map(|name| addr2line::demangle_auto(name.into(), None).into_owned()),
        };
        (function, place)
    }
}
