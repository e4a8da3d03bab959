//! A loop that no longer turns is reset: the independent watchdog has a clock of its own, and nothing stops it.

use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::SCB;
use recovery::Vigil;

use crate::registers::{self, IWDG1, iwdg};

const SECONDS: u32 = 10;

/// Who knows whether all parts live.
pub static VIGIL: Vigil = Vigil::new();

/// The loop has found that the work below it does not live.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

pub fn start() {
    registers::write(IWDG1 + iwdg::KR, iwdg::START);
    registers::write(IWDG1 + iwdg::KR, iwdg::UNLOCK);
    registers::write(IWDG1 + iwdg::PR, iwdg::BY_256);
    registers::write(IWDG1 + iwdg::RLR, SECONDS * iwdg::HERTZ);
    feed();
}

pub fn feed() {
    if !GIVEN_UP.load(Ordering::Relaxed) {
        registers::write(IWDG1 + iwdg::KR, iwdg::FEED);
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
