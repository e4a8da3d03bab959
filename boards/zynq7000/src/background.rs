//! What runs below the loop while no interrupt wants it: TLS for the checks. Its steps are long, and may want more memory than
//! there is; neither touches the loop.

use core::arch::asm;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use drivers::heap::Heap;
use tls::{Mailbox, Reason, Worker};

use crate::HEAP_SIZE;
use crate::watchdog::VIGIL;

/// Between the loop and TLS.
pub static MAILBOX: Mailbox = Mailbox::new();

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Whether it is this work that has the core, and not the loop.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Lets the interrupts in, and works between them for ever. The caller's stack is gone.
pub fn run_below() -> ! {
    begin()
}

/// Runs the loop for an interrupt, and lets the watchdog interrupt it: the controller holds back all others until it is over.
pub fn interrupted(visit: impl FnOnce()) {
    let below = RUNS.swap(false, Ordering::Relaxed);
    crate::acknowledge(!below, || {
        // SAFETY: what comes now is the watchdog, which never returns.
        unsafe { asm!("cpsie i", options(nomem, nostack)) };
        visit();
        // SAFETY: as it was before.
        unsafe { asm!("cpsid i", options(nomem, nostack)) };
    });
    RUNS.store(true, Ordering::Relaxed);
}

/// Begins with an empty stack and an empty heap.
fn begin() -> ! {
    unsafe extern "C" {
        static _sys_stack_high_end: u32;
    }
    // SAFETY: all runs in system mode on its stack, nobody returns to what is on it, and `work` never returns.
    unsafe {
        asm!(
            "mov sp, {stack}",
            "bx {work}",
            stack = in(reg) &raw const _sys_stack_high_end,
            work = in(reg) work as extern "C" fn() -> !,
            options(noreturn)
        )
    }
}

extern "C" fn work() -> ! {
    static mut MEMORY: [MaybeUninit<u8>; HEAP_SIZE] = [MaybeUninit::uninit(); HEAP_SIZE];
    // SAFETY: nothing else mentions MEMORY; who allocated before was on the stack that is gone.
    unsafe { HEAP.start(&raw mut MEMORY) };
    RUNS.store(true, Ordering::Relaxed);
    // SAFETY: the loop is where its interrupts find it, as the caller of `run_below` saw to.
    unsafe { asm!("cpsie i", options(nomem, nostack)) };
    let mut worker = Worker::new(&MAILBOX);
    loop {
        VIGIL.background_lives();
        if worker.step() {
            continue;
        }
        critical_section::with(|_| {
            if !MAILBOX.has_work() {
                // SAFETY: waits; a pending interrupt ends it, and comes when this is over.
                unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
            }
        });
    }
}

/// If what panics runs below the loop, the check at hand fails and the work begins anew. Interrupts are masked. Too little
/// memory needs no word here: the check's failure is an event.
pub fn give_up_what_runs_below(info: &PanicInfo<'_>) {
    if !RUNS.load(Ordering::Relaxed) {
        return;
    }
    let reason = match HEAP.usage().exhausted {
        true => Reason::NoMemory,
        false => {
            defmt::error!("panic below the loop: {}", defmt::Display2Format(info));
            Reason::Tls
        }
    };
    Worker::abandon(&MAILBOX, reason);
    begin()
}
