//! The board: memory map, timers, interrupt controller, serial log. `main.rs` puts the appliance on it.

#![no_std]

mod background;
mod failure;
mod log;
mod registers;
mod serial;
mod start;
mod watchdog;

use core::arch::asm;

use drivers::InitError;
use drivers::gem::{Gem, Memory};
use drivers::ticks::Ticks;
use recovery::{Part, Vigil};
use time::Instant;

pub use background::{MAILBOX, interrupted, run_below};
pub use failure::begin;
use registers::{GIC_CPU, GIC_DISTRIBUTOR, GLOBAL_TIMER, PRIVATE_TIMER, gic, timer};
pub use serial::Line;

/// Address of the configuration; the same as in board.toml.
pub const CONFIG_ADDRESS: usize = 0x07f0_0000;
/// Size of the configuration's memory; the same as in board.toml.
pub const CONFIG_SIZE: usize = 0x10_0000;

/// Address of what is kept over a reset; the same as in board.toml.
const RECORD_ADDRESS: usize = 0x0410_0000;

/// Size of the heap, which only TLS uses: a handshake needs 25 KB of it (`ravelin bench packet`).
const HEAP_SIZE: usize = 0x1_0000;

/// PERIPHCLK, half of the CPU's clock, is 100 MHz in QEMU. On silicon it depends on the boot loader
/// (333 MHz on most boards).
const TICKS_PER_MICRO: u32 = 100;

/// The one Zynq.
pub struct Zynq {
    memory: Option<&'static mut [Memory; 2]>,
}

impl Zynq {
    /// Takes the board as the boot loader left it: masks interrupts (they only end a sleep) until [`run_below`], starts the log,
    /// the clock and the watchdog.
    ///
    /// # Safety
    /// Called once.
    pub unsafe fn take() -> Self {
        // SAFETY: only masks interrupts.
        unsafe { asm!("cpsid if", options(nomem, nostack)) };
        log::start();
        registers::write(GLOBAL_TIMER + timer::GLOBAL_CONTROL, 0);
        registers::write(GLOBAL_TIMER + timer::GLOBAL_LOW, 0);
        registers::write(GLOBAL_TIMER + timer::GLOBAL_HIGH, 0);
        registers::write(GLOBAL_TIMER + timer::GLOBAL_CONTROL, timer::ENABLE);
        enable_interrupts();
        watchdog::start();
        static mut MEMORY: [Memory; 2] = [const { Memory::new() }; 2];
        // SAFETY: `take` is called once, as its caller promises, and nothing else mentions MEMORY.
        Self {
            memory: Some(unsafe { &mut *&raw mut MEMORY }),
        }
    }

    /// Starts both network ports.
    ///
    /// # Errors
    /// If a MAC or its management bus is not there.
    ///
    /// # Panics
    /// If called twice.
    pub fn ports(&mut self) -> Result<[Gem; 2], InitError> {
        let Some([memory0, memory1]) = self.memory.take() else {
            panic!("ports are taken once")
        };
        // SAFETY: UG585 table 4-7 has the two GEMs at these addresses; with MMU and caches off
        // (`start.rs`) no memory is cached and addresses are bus addresses.
        unsafe { Ok([Gem::new(GEM0, PHY, memory0)?, Gem::new(GEM1, PHY, memory1)?]) }
    }

    /// Starts the serial line to the other appliance, which has to be read from then on.
    pub fn line(&mut self) -> Line {
        Line::start()
    }

    /// Stops the timer of the last [`wake_at`](hal::Board::wake_at): it has done its duty.
    pub fn quiet(&mut self) {
        registers::write(PRIVATE_TIMER + timer::CONTROL, 0);
        registers::write(PRIVATE_TIMER + timer::STATUS, 1);
    }

    /// Sleeps until `deadline` or until a port that was armed receives; may return early. For programs that let no interrupts in.
    pub fn sleep_until(&mut self, deadline: Instant) {
        use hal::Board as _;
        self.wake_at(deadline);
        // SAFETY: waits; a pending interrupt ends it, though masked.
        unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
        self.quiet();
        // One alone: a MAC that still asks becomes pending again at once, until somebody takes its frames.
        acknowledge(true, || {});
    }
}

impl hal::Board for Zynq {
    fn now(&self) -> Instant {
        now()
    }

    fn seed(&mut self) -> u64 {
        // No true source on this board: the timer against the boot loader's or emulator's start-up is
        // all there is, mixed with what tells one appliance from another.
        let mut seed = u64::from(count());
        for byte in self.config().iter().take(4096) {
            seed = (seed ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3); // FNV-1a
        }
        seed ^ (u64::from(count()) << 32)
    }

    fn config(&self) -> &'static [u8] {
        // SAFETY: this memory is outside of the linker's regions (memory.x), so nothing writes to it
        // while the program runs.
        unsafe {
            let start = core::ptr::with_exposed_provenance(CONFIG_ADDRESS);
            core::slice::from_raw_parts(start, CONFIG_SIZE)
        }
    }

    fn feed_watchdog(&mut self) {
        watchdog::feed();
        failure::goes_on();
    }

    fn vigil(&self) -> &'static Vigil {
        &watchdog::VIGIL
    }

    fn give_up(&mut self, part: Part) {
        defmt::error!("{=str} stopped", part.name());
        watchdog::give_up();
    }

    fn wake_at(&mut self, deadline: Instant) {
        let micros = deadline.since(self.now()).as_micros().max(1);
        let ticks = micros
            .saturating_mul(TICKS_PER_MICRO.into())
            .min(u32::MAX.into()) as u32;
        registers::write(PRIVATE_TIMER + timer::CONTROL, 0);
        registers::write(PRIVATE_TIMER + timer::STATUS, 1);
        registers::write(PRIVATE_TIMER + timer::LOAD, ticks);
        registers::write(
            PRIVATE_TIMER + timer::CONTROL,
            timer::ENABLE | timer::INTERRUPT,
        );
    }
}

/// Takes an interrupt from the controller, if one is there, and ends it after `handle`; `inside`: whether it came while the loop ran.
fn acknowledge(inside: bool, handle: impl FnOnce()) -> bool {
    let id = registers::read(GIC_CPU + gic::ACKNOWLEDGE);
    match (id & gic::ID_MASK) as usize {
        SPURIOUS.. => return false,
        watchdog::INTERRUPT => {
            // QEMU's controller remembers over a reset what nobody has ended, and holds back all that gives way to it.
            registers::write(GIC_CPU + gic::END, id);
            watchdog::bark(inside)
        }
        _ => handle(),
    }
    registers::write(GIC_CPU + gic::END, id);
    true
}

/// Lets the timer, both MACs and the line signal the core, and the watchdog, to which these give way.
fn enable_interrupts() {
    registers::write(GIC_DISTRIBUTOR + gic::CONTROL, gic::ENABLE);
    let all = WAKE_UPS.map(|id| (id, 0xa0));
    for (id, priority) in all.into_iter().chain([(watchdog::INTERRUPT, 0x40)]) {
        registers::write_byte(GIC_DISTRIBUTOR + gic::PRIORITY + id, priority);
        registers::write_byte(GIC_DISTRIBUTOR + gic::TARGET + id, 1); // read-only for private ones
        registers::write(
            GIC_DISTRIBUTOR + gic::SET_ENABLE + 4 * (id / 32),
            1 << (id % 32),
        );
    }
    registers::write(GIC_CPU + gic::PRIORITY_MASK, 0xff);
    registers::write(GIC_CPU + gic::CONTROL, gic::ENABLE);
}

struct Clock(Ticks<TICKS_PER_MICRO>);

// SAFETY: one core, and the time is only asked for by the loop, which nothing interrupts but handlers of aborts, which never
// return; and by who has masked interrupts.
unsafe impl Sync for Clock {}

static CLOCK: Clock = Clock(Ticks::new(0));

defmt::timestamp!("{=u64:us}", CLOCK.0.at(count()).as_micros());

fn now() -> Instant {
    CLOCK.0.at(count())
}

/// Ticks, modulo 2^32.
fn count() -> u32 {
    registers::read(GLOBAL_TIMER + timer::GLOBAL_LOW)
}

/// This number of an interrupt and those above say that none is pending.
const SPURIOUS: usize = gic::SPURIOUS as usize;

const GEM0: usize = 0xe000_b000;
const GEM1: usize = 0xe000_c000;

/// Address of both PHYs on their management buses, as QEMU has them.
const PHY: u32 = 7;

/// Private timer, GEM0, GEM1, UART1 (UG585 tables 7-3 and 7-4).
const WAKE_UPS: [usize; 4] = [29, 54, 77, 82];
