//! A loop that no longer turns is reset: the watchdog has a clock of its own, and nothing stops it once it runs.

use crate::registers::{self, WDOG1, wdog};

const SECONDS: u16 = 10;

pub fn start() {
    let halves = (2 * SECONDS - 1) << wdog::WT_SHIFT;
    registers::write_half(
        WDOG1 + wdog::WCR,
        halves | wdog::WDA | wdog::SRS | wdog::WDE,
    );
    feed();
}

pub fn feed() {
    registers::write_half(WDOG1 + wdog::WSR, 0x5555);
    registers::write_half(WDOG1 + wdog::WSR, 0xaaaa);
}
