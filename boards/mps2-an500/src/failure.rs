//! The end of a run that failed: what is known of it is kept over the reset, and said at the next start.

use core::panic::PanicInfo;

use recovery::{Cause, Crash, Fault, Identity, Kept, Register, Reset, SIZE, Start, Text};

use crate::registers::{self, fault, reset};
use crate::{RECORD_ADDRESS, background, now};

/// What outlives a reset.
fn kept() -> Kept<'static> {
    // SAFETY: this memory is outside of the linker's regions (memory.x), so nothing else mentions it, and it is never borrowed
    // twice: by `begin` before the loop runs, by the loop for a moment, and by those who end the run.
    Kept::new(unsafe {
        let start = core::ptr::with_exposed_provenance_mut(RECORD_ADDRESS);
        core::slice::from_raw_parts_mut(start, SIZE)
    })
}

/// A run begins; how the one before ended.
pub fn begin(who: &Identity) -> Start {
    let why = registers::read(reset::INFO);
    registers::write(reset::INFO, why); // each bit is cleared by writing it
    let why = match why & (reset::WATCHDOG | reset::LOCKUP) {
        0 => Reset::Other,
        _ => Reset::Watchdog,
    };
    kept().begin(who, why)
}

/// The run goes on.
pub fn goes_on() {
    kept().lives(now());
}

/// Ends the run. `words` adds what is known.
pub fn end(cause: Cause, words: impl FnOnce(&mut Crash)) -> ! {
    cortex_m::interrupt::disable();
    kept().fails(now(), cause, words);
    crate::reset()
}

/// What the core puts on the stack when an exception comes (ARMv7-M, B1.5.6).
#[repr(C)]
pub struct Frame {
    r: [u32; 4],
    r12: u32,
    lr: u32,
    pc: u32,
    psr: u32,
}

impl Frame {
    /// Whether that came while another exception was handled.
    pub fn is_of_interrupt(&self) -> bool {
        self.psr & 0x1ff != 0
    }

    /// Where it was interrupted.
    pub fn tell(&self, crash: &mut Crash) {
        let [r0, r1, r2, r3] = self.r;
        let all = [
            (Register::Pc, self.pc),
            (Register::Lr, self.lr),
            (Register::Sp, (&raw const *self).addr() as u32),
            (Register::Psr, self.psr),
            (Register::R0, r0),
            (Register::R1, r1),
            (Register::R2, r2),
            (Register::R3, r3),
            (Register::R12, self.r12),
        ];
        crash.registers.extend(all);
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    background::give_up_what_runs_below(info);
    defmt::error!("panic: {}", defmt::Display2Format(info));
    end(Cause::Panic, |crash| {
        crash.message = Text::of(info.message());
        if let Some(place) = info.location() {
            crash.file = Text::end_of(place.file());
            crash.line = place.line();
        }
    })
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    defmt::error!(
        "fault at {=u32:#x}, called from {=u32:#x}",
        frame.pc(),
        frame.lr()
    );
    end(Cause::Fault(Fault::Hard), |crash| {
        // SAFETY: both are what the core has put on the stack.
        unsafe { &*(&raw const *frame).cast::<Frame>() }.tell(crash);
        let status = [
            (Register::Cfsr, fault::CFSR),
            (Register::Hfsr, fault::HFSR),
            (Register::Mmfar, fault::MMFAR),
            (Register::Bfar, fault::BFAR),
        ];
        let status = status.map(|(register, address)| (register, registers::read(address)));
        crash.registers.extend(status);
    })
}
