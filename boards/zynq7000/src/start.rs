//! What happens before `main` and when things go wrong. `zynq7000-rt` starts the core with MMU and data
//! caches off, and both stay off: the GEM driver counts on it.

use zynq7000_rt::exception;

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

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: only masks interrupts.
    unsafe { core::arch::asm!("cpsid if", options(nomem, nostack)) };
    crate::background::give_up_what_runs_below(info);
    defmt::error!("panic: {}", defmt::Display2Format(info));
    reset()
}

#[exception(DataAbort)]
fn data_abort(addr: usize) -> ! {
    defmt::error!("data abort at {=usize:#x}", addr);
    reset()
}

#[exception(PrefetchAbort)]
fn prefetch_abort(addr: usize) -> ! {
    defmt::error!("prefetch abort at {=usize:#x}", addr);
    reset()
}

#[exception(Undefined)]
fn undefined(addr: usize) -> ! {
    defmt::error!("undefined instruction at {=usize:#x}", addr);
    reset()
}
