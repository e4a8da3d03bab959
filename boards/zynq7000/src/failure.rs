//! The end of a run that failed: what is known of it is kept over the reset, and said at the next start.

use core::arch::asm;
use core::panic::PanicInfo;

use recovery::{Cause, Crash, Fault, Identity, Kept, Register, Reset, SIZE, Start, Text};
use zynq7000_rt::exception;

use crate::registers::{self, SLCR, slcr};
use crate::{RECORD_ADDRESS, background, now, start};

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
    let why = registers::read(SLCR + slcr::REBOOT_STATUS);
    let why = match why & slcr::WATCHDOGS {
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
    mask();
    kept().fails(now(), cause, words);
    start::reset()
}

/// No interrupt comes any more.
pub fn mask() {
    // SAFETY: only masks interrupts.
    unsafe { asm!("cpsid if", options(nomem, nostack)) };
}

/// Where this interrupt has come. Interrupts are masked.
pub fn tell_interrupted(crash: &mut Crash) {
    let (pc, psr): (u32, u32);
    // SAFETY: looks at what the core has kept for interrupts, whose mode uses no stack, and comes back to the mode at hand.
    unsafe {
        asm!(
            "mrs {mode}, cpsr",
            "cps #0x12",
            "mov {pc}, lr",
            "mrs {psr}, spsr",
            "msr cpsr_c, {mode}",
            mode = out(reg) _,
            pc = out(reg) pc,
            psr = out(reg) psr,
            options(nomem, nostack)
        );
    }
    let _ = crash.registers.push((Register::Pc, pc));
    let _ = crash.registers.push((Register::Psr, psr));
}

/// Where the core stood, in system mode as all that runs here does, when this exception came.
fn tell_faulted(crash: &mut Crash, pc: usize) {
    let (sp, lr, psr): (u32, u32, u32);
    // SAFETY: looks at the registers of system mode, and comes back to the mode at hand.
    unsafe {
        asm!(
            "mrs {mode}, cpsr",
            "mrs {psr}, spsr",
            "cps #0x1f",
            "mov {sp}, sp",
            "mov {lr}, lr",
            "msr cpsr_c, {mode}",
            mode = out(reg) _,
            sp = out(reg) sp,
            lr = out(reg) lr,
            psr = out(reg) psr,
            options(nomem, nostack)
        );
    }
    let all = [
        (Register::Pc, pc as u32),
        (Register::Lr, lr),
        (Register::Sp, sp),
        (Register::Psr, psr),
    ];
    crash.registers.extend(all);
    let (dfsr, dfar, ifsr, ifar): (u32, u32, u32, u32);
    // SAFETY: reads what the core knows of faults (ARMv7-A, B4.1).
    unsafe {
        asm!(
            "mrc p15, 0, {dfsr}, c5, c0, 0",
            "mrc p15, 0, {dfar}, c6, c0, 0",
            "mrc p15, 0, {ifsr}, c5, c0, 1",
            "mrc p15, 0, {ifar}, c6, c0, 2",
            dfsr = out(reg) dfsr,
            dfar = out(reg) dfar,
            ifsr = out(reg) ifsr,
            ifar = out(reg) ifar,
            options(nomem, nostack)
        );
    }
    let status = [
        (Register::Dfsr, dfsr),
        (Register::Dfar, dfar),
        (Register::Ifsr, ifsr),
        (Register::Ifar, ifar),
    ];
    crash.registers.extend(status);
}

fn fault(fault: Fault, pc: usize) -> ! {
    defmt::error!("{=str} at {=usize:#x}", Cause::Fault(fault).name(), pc);
    end(Cause::Fault(fault), |crash| tell_faulted(crash, pc))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    mask();
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

#[exception(DataAbort)]
fn data_abort(addr: usize) -> ! {
    fault(Fault::DataAbort, addr)
}

#[exception(PrefetchAbort)]
fn prefetch_abort(addr: usize) -> ! {
    fault(Fault::PrefetchAbort, addr)
}

#[exception(Undefined)]
fn undefined(addr: usize) -> ! {
    fault(Fault::Undefined, addr)
}
