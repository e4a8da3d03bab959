//! A firmware of which a part no longer lives is reset by the core's own watchdog. As the part has it, it resets the system when it was
//! not fed; QEMU lets it interrupt instead, which the loop gives way to. Then there is word of what hangs, and where.

use core::sync::atomic::{AtomicBool, Ordering};

use recovery::{Cause, Part, Vigil};

use crate::failure;
use crate::registers::{self, GIC_DISTRIBUTOR, WATCHDOG, gic, watchdog};

/// Its interrupt (UG585 table 7-3).
pub const INTERRUPT: usize = 30;

/// Long enough for an emulator on a host that is busy with something else.
const SECONDS: u32 = 10;

/// Who knows whether all parts live.
pub static VIGIL: Vigil = Vigil::new();

/// The loop has found that the work below it does not live.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

pub fn start() {
    registers::write(
        WATCHDOG + watchdog::LOAD,
        SECONDS * 1_000_000 * crate::TICKS_PER_MICRO,
    );
    let how = watchdog::ENABLE | watchdog::INTERRUPT | watchdog::RESETS;
    registers::write(WATCHDOG + watchdog::CONTROL, how);
}

pub fn feed() {
    if !GIVEN_UP.load(Ordering::Relaxed) {
        registers::write(
            WATCHDOG + watchdog::LOAD,
            SECONDS * 1_000_000 * crate::TICKS_PER_MICRO,
        );
    }
}

/// Ends the run as soon as the loop's interrupt has returned: then it can be seen where the work below it hangs.
pub fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
    // The loop gives way to it otherwise. The end of the interrupt takes this back.
    failure::mask();
    registers::write(GIC_DISTRIBUTOR + gic::SET_PENDING, 1 << INTERRUPT);
}

/// It was not fed.
pub fn bark(inside: bool) -> ! {
    let part = match GIVEN_UP.load(Ordering::Relaxed) {
        true => Part::Background,
        false => VIGIL.stopped(inside),
    };
    failure::end(Cause::Watchdog(part), failure::tell_interrupted)
}
