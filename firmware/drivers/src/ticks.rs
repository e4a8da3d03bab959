//! Microseconds from a free-running 32-bit counter.

use core::cell::Cell;

use time::Instant;

/// Extends a counter of `PER_MICRO` ticks per microsecond to 64 bits, without a 64-bit division. It
/// must be asked at least once per turn of the counter (171 s at 25 MHz).
#[derive(Debug)]
pub struct Ticks<const PER_MICRO: u32> {
    last: Cell<u32>,
    rest: Cell<u32>,
    micros: Cell<u64>,
}

impl<const PER_MICRO: u32> Ticks<PER_MICRO> {
    /// A clock that reads zero while the counter, which counts up, reads `count`.
    #[must_use]
    pub const fn new(count: u32) -> Self {
        Self {
            last: Cell::new(count),
            rest: Cell::new(0),
            micros: Cell::new(0),
        }
    }

    /// The time now that the counter reads `count`.
    pub fn at(&self, count: u32) -> Instant {
        let passed = count.wrapping_sub(self.last.replace(count));
        let rest = self.rest.get() + passed % PER_MICRO;
        self.rest.set(rest % PER_MICRO);
        let micros =
            self.micros.get() + u64::from(passed / PER_MICRO) + u64::from(rest / PER_MICRO);
        self.micros.set(micros);
        Instant::from_micros(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tick_is_lost_at_the_wrap() {
        let start = u32::MAX - 1000;
        let ticks = Ticks::<25>::new(start);
        let mut total = 0u64;
        for step in [1, 24, 7, 999, 1_000_000, u32::MAX, 0, 3, u32::MAX - 5] {
            total += u64::from(step);
            let now = ticks.at(start.wrapping_add(total as u32));
            assert_eq!(now.as_micros(), total / 25, "after {total} ticks");
        }
    }
}
