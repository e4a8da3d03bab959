//! Whether all parts of a firmware live that must. Its watchdog is fed only then.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use core::time::Duration;

use serde::{Deserialize, Serialize};
use time::Instant;

/// How long the work below the loop may say nothing while it has time: the longest step of a handshake takes less than a second of
/// it, and packets leave it a fifth of the time at least.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// So many turns are never made within a millisecond.
const SHORT_TURNS: u32 = 1_000;

/// What must live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Interrupts that call the loop.
    Interrupts,
    /// The loop, which returns from them.
    Loop,
    /// The clock, which goes forward from turn to turn.
    Clock,
    /// The work below the loop.
    Background,
    /// Which one is not known: even who would have said that was dead.
    Unknown,
}

impl Part {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupts => "the loop's interrupts",
            Self::Loop => "the packet loop",
            Self::Clock => "the clock",
            Self::Background => "the background",
            Self::Unknown => "something",
        }
    }
}

/// Watches over them. The loop, the work below it and the watchdog's last warning share one; each writes what is its own.
#[derive(Debug, Default)]
pub struct Vigil {
    /// Turns since the clock went on.
    stood: AtomicU32,
    /// When the last turn ended, in milliseconds (they come round after weeks).
    turned: AtomicU32,
    /// The work below the loop has shown itself since the last turn.
    background: AtomicBool,
    /// When it did, or had no time.
    seen: AtomicU32,
}

impl Vigil {
    /// One that has seen nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stood: AtomicU32::new(0),
            turned: AtomicU32::new(0),
            background: AtomicBool::new(false),
            seen: AtomicU32::new(0),
        }
    }

    /// The work below the loop has made a step.
    pub fn background_lives(&self) {
        self.background.store(true, Relaxed);
    }

    /// A turn of the loop has ended, which began at `now`; `had_time`: whether the work below the loop had time since the last one, or
    /// will have it because it waits for it. `true` if the watchdog may be fed.
    ///
    /// # Errors
    /// The part that has stopped while the loop still turns.
    pub fn turned(&self, now: Instant, had_time: bool) -> Result<bool, Part> {
        let now = millis(now);
        // Turns may be shorter than a millisecond: then the next one feeds.
        let moved = now != self.turned.load(Relaxed);
        self.turned.store(now, Relaxed);
        let stood = match moved {
            true => 0,
            false => self.stood.load(Relaxed).saturating_add(1),
        };
        self.stood.store(stood, Relaxed);
        if self.background.load(Relaxed) || !had_time {
            self.background.store(false, Relaxed);
            self.seen.store(now, Relaxed);
        }
        let silence = now.wrapping_sub(self.seen.load(Relaxed));
        match u128::from(silence) > PATIENCE.as_millis() {
            true => Err(Part::Background),
            false => Ok(moved),
        }
    }

    /// Which part has stopped, if the watchdog was not fed for long; `inside`: whether the core is in the loop.
    #[must_use]
    pub fn stopped(&self, inside: bool) -> Part {
        match (self.stood.load(Relaxed) > SHORT_TURNS, inside) {
            (true, _) => Part::Clock,
            (false, true) => Part::Loop,
            (false, false) => Part::Interrupts,
        }
    }
}

fn millis(now: Instant) -> u32 {
    (now.as_micros() / 1000) as u32 // they come round
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_micros(1000 * millis)
    }

    fn turn(vigil: &Vigil, now: u64, had_time: bool) -> Result<bool, Part> {
        vigil.turned(at(now), had_time)
    }

    #[test]
    fn it_is_fed_while_all_live() {
        let vigil = Vigil::new();
        for now in 1..100_000 {
            // Work that takes long, and shows itself at last.
            if now % 29_000 == 0 {
                vigil.background_lives();
            }
            assert_eq!(turn(&vigil, now, true), Ok(true), "{now}");
        }
        // Packets without end leave no time for work that there is not.
        let vigil = Vigil::new();
        for now in 1..100_000 {
            assert_eq!(turn(&vigil, now, false), Ok(true), "{now}");
        }
        // Nor is it when milliseconds come round.
        let round = 1 << 32;
        for now in round - 50_000..round + 50_000 {
            vigil.background_lives();
            assert_eq!(turn(&vigil, now, true), Ok(true), "{now}");
        }
    }

    #[test]
    fn whatever_stops_is_named() {
        // A turn that never ends, and no turn any more.
        let vigil = Vigil::new();
        assert_eq!(turn(&vigil, 2, true), Ok(true));
        assert_eq!(vigil.stopped(true), Part::Loop);
        assert_eq!(vigil.stopped(false), Part::Interrupts);
        // A clock that stands: turns end, and do not feed.
        for _ in 0..2 * SHORT_TURNS {
            assert_eq!(turn(&vigil, 2, true), Ok(false));
        }
        assert_eq!(vigil.stopped(true), Part::Clock);
        // Work that does not show itself, from when it had time on.
        assert_eq!(turn(&vigil, 100_000, false), Ok(true));
        let patience = PATIENCE.as_millis() as u64;
        assert_eq!(turn(&vigil, 100_000 + patience, true), Ok(true));
        let late = turn(&vigil, 100_001 + patience, true);
        assert_eq!(late, Err(Part::Background));
    }
}
