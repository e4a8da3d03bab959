//! What runs below the loop, in thread mode, while no interrupt wants it: TLS for the checks. Its steps are long, and may want
//! more memory than there is; neither touches the loop.

use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::SCB;
use cortex_m::peripheral::scb::VectActive;
use drivers::heap::{Heap, Usage};
use tls::{Mailbox, Reason, Worker};

use crate::HEAP_SIZE;
use crate::watchdog::VIGIL;

/// Between the loop and TLS.
pub static MAILBOX: Mailbox = Mailbox::new();

#[global_allocator]
static HEAP: Heap = Heap::new();

static RUNS: AtomicBool = AtomicBool::new(false);

/// Lets the interrupts in, and works between them for ever. The caller's stack is gone.
pub fn run_below() -> ! {
    RUNS.store(true, Ordering::Relaxed);
    begin()
}

/// Begins with an empty stack and an empty heap.
fn begin() -> ! {
    unsafe extern "C" {
        static _stack_start: u32;
    }
    // SAFETY: thread mode runs on the main stack, nobody returns to what is on it, and `work` never returns.
    unsafe {
        core::arch::asm!(
            "msr msp, {stack}",
            "isb",
            "bx {work}",
            stack = in(reg) &raw const _stack_start,
            work = in(reg) work as extern "C" fn() -> !,
            options(noreturn)
        )
    }
}

/// Gives the heap its memory, or takes back all of it.
///
/// # Safety
/// Nobody uses what was allocated before.
pub unsafe fn start_heap() {
    static mut MEMORY: [MaybeUninit<u8>; HEAP_SIZE] = [MaybeUninit::uninit(); HEAP_SIZE];
    // SAFETY: nothing else mentions MEMORY.
    unsafe { HEAP.start(&raw mut MEMORY) };
}

/// How much of the heap was needed since it was started.
pub fn heap_usage() -> Usage {
    HEAP.usage()
}

extern "C" fn work() -> ! {
    // SAFETY: who allocated before was on the stack that is gone.
    unsafe { start_heap() };
    // SAFETY: the loop is where its interrupts find it, as the caller of `run_below` saw to.
    unsafe { cortex_m::interrupt::enable() };
    let mut worker = Worker::new(&MAILBOX);
    loop {
        VIGIL.background_lives();
        if worker.step() {
            continue;
        }
        cortex_m::interrupt::free(|_| {
            if !MAILBOX.has_work() {
                cortex_m::asm::dsb();
                cortex_m::asm::wfi(); // a pending interrupt ends it, and comes when this is over
            }
        });
    }
}

/// If what panics runs below the loop, the check at hand fails and the work begins anew. Interrupts are masked. Too little
/// memory needs no word here: the check's failure is an event.
pub fn give_up_what_runs_below(info: &PanicInfo<'_>) {
    if !RUNS.load(Ordering::Relaxed) || SCB::vect_active() != VectActive::ThreadMode {
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
