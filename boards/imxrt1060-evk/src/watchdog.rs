//! A loop that no longer turns is reset: the watchdog has a clock of its own, and nothing stops it once it runs.

use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::SCB;
use recovery::Vigil;

use crate::registers::{self, WDOG1, wdog};

const SECONDS: u16 = 10;

/// Who knows whether all parts live.
pub static VIGIL: Vigil = Vigil::new();

/// The loop has found that the work below it does not live.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

pub fn start() {
    let halves = (2 * SECONDS - 1) << wdog::WT_SHIFT;
    registers::write_half(
        WDOG1 + wdog::WCR,
        halves | wdog::WDA | wdog::SRS | wdog::WDE,
    );
    feed();
}

pub fn feed() {
    if !GIVEN_UP.load(Ordering::Relaxed) {
        registers::write_half(WDOG1 + wdog::WSR, 0x5555);
        registers::write_half(WDOG1 + wdog::WSR, 0xaaaa);
    }
}

/// Ends the run as soon as the loop's interrupt has returned.
pub fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
    SCB::set_pendsv();
}

/// What [`give_up`] has asked for.
#[cortex_m_rt::exception]
fn PendSV() {
    crate::reset()
}
