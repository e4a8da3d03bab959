//! What happens before `main`. `zynq7000-rt` starts the core with MMU and data
//! caches off, and both stay off: the GEM driver counts on it.

use crate::registers::{self, SLCR, slcr};

/// Resets the whole system, which starts over from the boot loader.
pub fn reset() -> ! {
    registers::write(SLCR + slcr::UNLOCK, slcr::UNLOCK_KEY);
    registers::write(SLCR + slcr::PSS_RST_CTRL, 1);
    loop {
        core::hint::spin_loop();
    }
}

/// The second core, should a boot loader release it, sleeps.
#[unsafe(no_mangle)]
extern "C" fn kmain_secondary() -> ! {
    loop {
        // SAFETY: only waits.
        unsafe { core::arch::asm!("wfe", options(nomem, nostack)) };
    }
}
