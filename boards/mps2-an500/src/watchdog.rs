//! A loop that no longer turns is reset.

use crate::registers::{self, WATCHDOG, wdog};

/// Long enough for an emulator on a host that is busy with something else.
const SECONDS: u32 = 10;

pub fn start() {
    registers::write(WATCHDOG + wdog::LOCK, wdog::UNLOCK_KEY);
    registers::write(WATCHDOG + wdog::LOAD, SECONDS * 25_000_000);
    registers::write(WATCHDOG + wdog::CTRL, wdog::INTERRUPT | wdog::RESET);
}

pub fn feed() {
    registers::write(WATCHDOG + wdog::CLEAR, 1);
}

#[cortex_m_rt::exception]
unsafe fn NonMaskableInt() {
    defmt::error!("the loop stood still for {=u32} s", SECONDS);
    crate::reset()
}
