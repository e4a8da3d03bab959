//! A firmware of which a part no longer lives is reset: after one period without food it leaves word, after the second, whether it
//! could or not, the watchdog resets it.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::SCB;
use recovery::{Cause, Part, Vigil};

use crate::failure::{self, Frame};
use crate::registers::{self, WATCHDOG, wdog};

/// Long enough for an emulator on a host that is busy with something else.
const SECONDS: u32 = 10;

/// Who knows whether all parts live.
pub static VIGIL: Vigil = Vigil::new();

/// The loop has found that the work below it does not live.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

pub fn start() {
    registers::write(WATCHDOG + wdog::LOCK, wdog::UNLOCK_KEY);
    registers::write(WATCHDOG + wdog::LOAD, SECONDS * 25_000_000);
    registers::write(WATCHDOG + wdog::CTRL, wdog::INTERRUPT | wdog::RESET);
}

pub fn feed() {
    if !GIVEN_UP.load(Ordering::Relaxed) {
        registers::write(WATCHDOG + wdog::CLEAR, 1);
    }
}

/// Ends the run as soon as the loop's interrupt has returned: then it can be seen where the work below it hangs.
pub fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
    SCB::set_pendsv();
}

/// The first period is over.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn NonMaskableInt() {
    naked_asm!("mrs r0, msp", "b {bark}", bark = sym bark)
}

/// What [`give_up`] has asked for.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn PendSV() {
    naked_asm!("mrs r0, msp", "b {bark}", bark = sym bark)
}

/// `frame` is what the core has put on the stack, the only one there is.
extern "C" fn bark(frame: &Frame) -> ! {
    let part = match GIVEN_UP.load(Ordering::Relaxed) {
        true => Part::Background,
        false => VIGIL.stopped(frame.is_of_interrupt()),
    };
    failure::end(Cause::Watchdog(part), |crash| frame.tell(crash))
}
