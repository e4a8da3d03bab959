//! Memory that outlives a reset: who ran and since which start, a sign of life every second, and the last failure. Each is whole or
//! does not count: after power has failed it is noise.

use core::time::Duration;

use crc::{CRC_32_ISO_HDLC, Crc};
use heapless::String;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::Instant;

use crate::{Cause, Crash, Part};

/// Bytes that a board keeps; nothing may write them while it starts.
pub const SIZE: usize = 1024;

/// Whoever ran for so long has not failed in a row with what was before.
pub const HEALTHY: Duration = Duration::from_secs(600);
/// How long the first of a row of failures keeps an appliance from taking over from a peer that works; it doubles with each.
const FIRST: Duration = Duration::from_secs(30);
/// And at most so long.
const LONGEST: Duration = Duration::from_secs(900);

/// Who runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of the firmware.
    pub version: String<16>,
    /// The first bytes of SHA-256 of its configuration; zeros without one.
    pub configuration: [u8; 8],
}

/// Why the core started, as far as the board knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The watchdog did it.
    Watchdog,
    /// Something else did, or nobody knows.
    Other,
}

/// What a start finds out about the run before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Which one it is since power came on, from 1.
    pub number: u32,
    /// How the run before ended, if it failed.
    pub crash: Option<Crash>,
    /// It ended after so long without a word: the reset button, a debugger.
    pub silent: Option<Duration>,
    /// How many runs in a row have failed.
    pub in_row: u32,
}

impl Start {
    /// How long the appliance is to stand back: it serves if nobody else does, and leaves the addresses to a peer that works.
    #[must_use]
    pub fn stand_back(&self) -> Option<Duration> {
        let doublings = self.in_row.checked_sub(1)?;
        let factor = 1_u32.checked_shl(doublings.min(16)).unwrap_or(1);
        Some(FIRST.saturating_mul(factor).min(LONGEST))
    }
}

/// The memory.
#[derive(Debug)]
pub struct Kept<'a>(&'a mut [u8]);

/// Written once at each start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ledger {
    who: Identity,
    start: u32,
    in_row: u32,
}

/// Where each is in the memory.
const LEDGER: core::ops::Range<usize> = 0..96;
const PULSE: core::ops::Range<usize> = 96..104;
const CRASH: core::ops::Range<usize> = 104..SIZE;

impl<'a> Kept<'a> {
    /// This memory of [`SIZE`] bytes, with whatever is in it.
    #[must_use]
    pub fn new(memory: &'a mut [u8]) -> Self {
        Self(memory)
    }

    /// A run begins: finds out how the one before ended.
    pub fn begin(&mut self, who: &Identity, reset: Reset) -> Start {
        let before: Option<Ledger> = self.read(LEDGER);
        let Some(before) = before else {
            // Power came on. Nothing of this memory means anything.
            self.0.fill(0);
            return self.open(who, Start::default());
        };
        let uptime = self.uptime();
        let mut crash: Option<Crash> = self.read(CRASH);
        crash = crash.filter(|crash| crash.start == before.start);
        if crash.is_none() && reset == Reset::Watchdog {
            let unsaid = Crash {
                uptime: micros(uptime),
                ..before.crash(Cause::Watchdog(Part::Unknown))
            };
            self.write(CRASH, &unsaid);
            crash = Some(unsaid);
        }
        let ran = crash.as_ref().map_or(uptime, |crash| {
            Duration::from_micros(crash.uptime).max(uptime)
        });
        // Another firmware or configuration may do better, and whoever ran well has made up for what was.
        let row = match before.who == *who && ran < HEALTHY {
            true => before.in_row,
            false => 0,
        };
        let start = Start {
            number: before.start,
            silent: crash.is_none().then_some(uptime),
            in_row: row + u32::from(crash.is_some()),
            crash,
        };
        self.open(who, start)
    }

    fn open(&mut self, who: &Identity, start: Start) -> Start {
        let start = Start {
            number: start.number.saturating_add(1),
            ..start
        };
        let ledger = Ledger {
            who: who.clone(),
            start: start.number,
            in_row: start.in_row,
        };
        self.write(LEDGER, &ledger);
        self.set_uptime(0);
        start
    }

    /// The run goes on: how long it lasted is known even if its end says nothing.
    pub fn lives(&mut self, now: Instant) {
        let seconds = u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX);
        if self.uptime() != Duration::from_secs(seconds.into()) {
            self.set_uptime(seconds);
        }
    }

    /// The run has failed. `words` adds what is known of that.
    pub fn fails(&mut self, now: Instant, cause: Cause, words: impl FnOnce(&mut Crash)) {
        let before: Option<Ledger> = self.read(LEDGER);
        // Without a ledger it has failed before it began.
        let ledger = before.unwrap_or_else(|| Ledger {
            who: Identity::default(),
            start: 0,
            in_row: 0,
        });
        let mut crash = ledger.crash(cause);
        crash.uptime = now.as_micros();
        words(&mut crash);
        self.write(CRASH, &crash);
    }

    fn uptime(&self) -> Duration {
        let words = self
            .0
            .get(PULSE)
            .and_then(|bytes| bytes.split_first_chunk());
        let Some((seconds, inverse)) = words else {
            return Duration::ZERO;
        };
        let seconds = u32::from_le_bytes(*seconds);
        match inverse == (!seconds).to_le_bytes() {
            true => Duration::from_secs(seconds.into()),
            false => Duration::ZERO,
        }
    }

    fn set_uptime(&mut self, seconds: u32) {
        if let Some(place) = self.0.get_mut(PULSE) {
            let (first, second) = place.split_at_mut(4);
            first.copy_from_slice(&seconds.to_le_bytes());
            second.copy_from_slice(&(!seconds).to_le_bytes());
        }
    }

    fn read<T: DeserializeOwned>(&self, place: core::ops::Range<usize>) -> Option<T> {
        decode(self.0.get(place)?)
    }

    fn write(&mut self, place: core::ops::Range<usize>, value: &impl Serialize) {
        let Some(memory) = self.0.get_mut(place) else {
            return;
        };
        let Some((head, body)) = memory.split_first_chunk_mut::<HEAD>() else {
            return;
        };
        // A cell is larger than the longest value (a test writes it).
        let length = postcard::to_slice(value, body).map_or(0, |bytes| bytes.len());
        let digest = digest(&body[..length]);
        head[..4].copy_from_slice(&MAGIC.wrapping_add(length as u32).to_le_bytes());
        head[4..].copy_from_slice(&digest.to_le_bytes());
    }
}

/// The failure that a board's memory tells of, whether its latest run or an earlier one.
#[must_use]
pub fn last(memory: &[u8]) -> Option<Crash> {
    decode(memory.get(CRASH)?)
}

/// Before a value: the magic word with its length, CRC-32 of the value.
const HEAD: usize = 8;
const MAGIC: u32 = u32::from_le_bytes(*b"\0\0VR");
const CRC: Crc<u32, crc::NoTable> = Crc::<u32, crc::NoTable>::new(&CRC_32_ISO_HDLC);

fn decode<T: DeserializeOwned>(cell: &[u8]) -> Option<T> {
    let (head, body) = cell.split_first_chunk::<HEAD>()?;
    let (length, wanted) = head.split_first_chunk()?;
    let length = u32::from_le_bytes(*length).checked_sub(MAGIC)?;
    let body = body.get(..usize::try_from(length).ok()?)?;
    (digest(body).to_le_bytes() == wanted).then_some(())?;
    postcard::from_bytes(body).ok()
}

fn digest(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

impl Ledger {
    /// A failure of this run, of which nothing else is known yet.
    fn crash(&self, cause: Cause) -> Crash {
        Crash {
            cause,
            message: String::new(),
            file: String::new(),
            line: 0,
            registers: heapless::Vec::new(),
            version: self.who.version.clone(),
            configuration: self.who.configuration,
            uptime: 0,
            start: self.start,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{Fault, MAX_REGISTERS, Register, Text};

    fn who(version: &str) -> Identity {
        Identity {
            version: Text::of(version),
            configuration: [7; 8],
        }
    }

    const fn at(seconds: u64) -> Instant {
        Instant::from_micros(1_000_000 * seconds)
    }

    fn full(crash: &mut Crash) {
        let long = "0123456789abcdef".repeat(20);
        crash.message = Text::of(&long);
        crash.file = Text::end_of(&long);
        crash.line = u32::MAX;
        crash.version = Text::of(&long);
        crash.uptime = u64::MAX;
        crash.start = u32::MAX;
        while crash.registers.len() < MAX_REGISTERS {
            let _ = crash.registers.push((Register::Ifar, u32::MAX));
        }
    }

    #[test]
    fn power_makes_noise_of_it() {
        for noise in [0, 0xff, 0xa5] {
            let mut memory = [noise; SIZE];
            let start = Kept::new(&mut memory).begin(&who("1"), Reset::Watchdog);
            let first = Start {
                number: 1,
                ..Start::default()
            };
            assert_eq!(start, first);
            assert_eq!(last(&memory), None);
            assert_eq!(start.stand_back(), None);
        }
    }

    #[test]
    fn the_longest_failure_fits() {
        let mut memory = [0; SIZE];
        let mut kept = Kept::new(&mut memory);
        kept.begin(&who("0123456789abcdef"), Reset::Other);
        kept.fails(at(5), Cause::Fault(Fault::Undefined), full);
        let crash = last(&memory).expect("it fits");
        assert_eq!((crash.message.len(), crash.file.len()), (160, 80));
        assert_eq!(crash.registers.len(), MAX_REGISTERS);
    }

    #[test]
    fn a_failure_is_told_at_the_next_start_and_kept_until_another() {
        let mut memory = [0; SIZE];
        let mut kept = Kept::new(&mut memory);
        kept.begin(&who("1"), Reset::Other);
        kept.lives(at(3));
        kept.fails(at(4), Cause::Panic, |crash| {
            crash.message = Text::of("no way");
            crash.file = Text::of("main.rs");
            crash.line = 9;
            let _ = crash.registers.push((Register::Pc, 0x1234));
        });
        let start = kept.begin(&who("1"), Reset::Other);
        let crash = start.crash.clone().expect("it failed");
        assert_eq!(
            crash.to_string(),
            "panic: no way at main.rs:9, pc 0x00001234, after 4 s"
        );
        assert_eq!((start.number, start.in_row, crash.start), (2, 1, 1));
        assert_eq!(start.silent, None);
        // The reset button: the failure is still there to be looked at, and is not told twice.
        kept.lives(at(70));
        let start = kept.begin(&who("1"), Reset::Other);
        assert_eq!((start.crash, start.number), (None, 3));
        assert_eq!(start.silent, Some(Duration::from_secs(70)));
        assert_eq!(last(&memory), Some(crash));
    }

    #[test]
    fn a_watchdog_that_nobody_could_announce_is_a_failure_too() {
        let mut memory = [0; SIZE];
        let mut kept = Kept::new(&mut memory);
        kept.begin(&who("1"), Reset::Other);
        kept.lives(at(20));
        let start = kept.begin(&who("1"), Reset::Watchdog);
        let crash = start.crash.expect("it failed");
        assert_eq!(crash.to_string(), "watchdog, something stopped, after 20 s");
        assert_eq!(start.in_row, 1);
        assert!(last(&memory).is_some());
    }

    #[test]
    fn failures_in_a_row_keep_it_back_for_longer_and_longer() {
        let mut memory = [0; SIZE];
        let mut kept = Kept::new(&mut memory);
        kept.begin(&who("1"), Reset::Other);
        let fail = |kept: &mut Kept<'_>, version, after| {
            kept.fails(at(after), Cause::Panic, |_| {});
            let start = kept.begin(&who(version), Reset::Other);
            start.stand_back().map(|time| time.as_secs())
        };
        let seconds: Vec<_> = (0..8).map(|_| fail(&mut kept, "1", 10)).collect();
        let wanted = [30, 60, 120, 240, 480, 900, 900, 900];
        assert_eq!(seconds, wanted.map(Some));
        // It ran well for long, then failed; another firmware failed.
        assert_eq!(fail(&mut kept, "1", 600), Some(30));
        assert_eq!(fail(&mut kept, "1", 599), Some(60));
        assert_eq!(fail(&mut kept, "2", 10), Some(30));
        // The reset button neither adds to the row nor ends it.
        let start = kept.begin(&who("2"), Reset::Other);
        assert_eq!(start.in_row, 1);
        kept.lives(at(600));
        let start = kept.begin(&who("2"), Reset::Other);
        assert_eq!((start.in_row, start.stand_back()), (0, None));
    }

    #[test]
    fn a_bit_that_is_wrong_is_noticed() {
        let mut memory = [0; SIZE];
        let mut kept = Kept::new(&mut memory);
        kept.begin(&who("1"), Reset::Other);
        kept.fails(at(4), Cause::Panic, full);
        for bit in 8 * CRASH.start..8 * (CRASH.start + 300) {
            let mut memory = memory;
            memory[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(last(&memory), None, "bit {bit}");
        }
    }

    proptest! {
        /// Whatever is in the memory, it starts; and twice in a row says the same.
        #[test]
        fn noise_is_survived(noise: Vec<u8>, length in 0..2 * SIZE) {
            let mut memory = noise;
            memory.resize(length, 0xa5);
            let mut kept = Kept::new(&mut memory);
            kept.begin(&who("1"), Reset::Watchdog);
            kept.lives(at(1));
            kept.fails(at(2), Cause::Panic, |_| {});
            let again = kept.begin(&who("1"), Reset::Other);
            prop_assert!(length < SIZE || again.crash.is_some());
        }
    }
}
