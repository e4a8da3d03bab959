//! The board: memory map, timers, serial log. `main.rs` puts the appliance on it.

#![no_std]

mod background;
mod failure;
mod log;
mod registers;
mod serial;
mod watchdog;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use drivers::InitError;
use drivers::lan9118::Lan9118;
use drivers::ticks::Ticks;
use recovery::{Part, Vigil};
use time::Instant;

pub use background::{MAILBOX, heap_usage, run_below, start_heap};
pub use failure::begin;
use registers::{TIMER0, TIMER1, timer};
pub use serial::Line;

/// Address of the configuration; the same as in board.toml.
pub const CONFIG_ADDRESS: usize = 0x0038_0000;
/// Size of the configuration's memory; the same as in board.toml.
pub const CONFIG_SIZE: usize = 0x8_0000;

/// Address of what is kept over a reset; the same as in board.toml.
const RECORD_ADDRESS: usize = 0x203f_fc00;

/// Size of the heap, which only TLS uses: a handshake needs 25 KB of it (`ravelin bench packet`).
const HEAP_SIZE: usize = 0x1_0000;

/// The timers run at the 25 MHz system clock.
const TICKS_PER_MICRO: u32 = 25;

/// The one MPS2 board.
pub struct Mps2(());

impl Mps2 {
    /// Takes the board as reset left it: masks interrupts (they only end a sleep) until [`run_below`], starts the log, the clock
    /// and the watchdog.
    pub fn take() -> Self {
        cortex_m::interrupt::disable();
        log::start();
        registers::write(TIMER0 + timer::RELOAD, u32::MAX);
        registers::write(TIMER0 + timer::VALUE, u32::MAX);
        registers::write(TIMER0 + timer::CTRL, timer::ENABLE);
        for interrupt in [Interrupt::Serial, Interrupt::Timer1, Interrupt::Ethernet] {
            // SAFETY: interrupts are masked, so no handler runs that could break a critical section.
            unsafe { NVIC::unmask(interrupt) };
        }
        watchdog::start();
        Self(())
    }

    /// Starts the network port.
    ///
    /// # Errors
    /// If the LAN9118 is not there.
    pub fn port(&self) -> Result<Lan9118, InitError> {
        // SAFETY: AN500 has its LAN9118 at this address, and `Mps2` is made once.
        unsafe { Lan9118::new(ETHERNET) }
    }

    /// Starts the serial line to the other appliance, which has to be read from then on.
    pub fn line(&mut self) -> Line {
        Line::start()
    }

    /// Stops the timer of the last [`wake_at`](hal::Board::wake_at): it has done its duty.
    pub fn quiet(&mut self) {
        registers::write(TIMER1 + timer::CTRL, 0);
        registers::write(TIMER1 + timer::CLEAR, 1);
    }

    /// Sleeps until `deadline` or until a port that was armed receives; may return early. For programs that let no interrupts in.
    pub fn sleep_until(&mut self, deadline: Instant) {
        use hal::Board as _;
        self.wake_at(deadline);
        cortex_m::asm::dsb();
        cortex_m::asm::wfi(); // a pending interrupt ends it, though masked
        self.quiet();
        // If the MAC still asks, its interrupt becomes pending again at once.
        NVIC::unpend(Interrupt::Timer1);
        NVIC::unpend(Interrupt::Ethernet);
    }
}

impl hal::Board for Mps2 {
    fn now(&self) -> Instant {
        now()
    }

    fn seed(&mut self) -> u64 {
        // No true source on this board: the timer against the emulator's start-up is all there is,
        // mixed with what tells one appliance from another.
        let mut seed = u64::from(count());
        for byte in self.config().iter().take(4096) {
            seed = (seed ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3); // FNV-1a
        }
        seed ^ (u64::from(count()) << 32)
    }

    fn config(&self) -> &'static [u8] {
        // SAFETY: this memory is outside of the linker's regions (memory.x), so nothing writes to it
        // while the program runs.
        let region: &'static [u8] = unsafe {
            let start = core::ptr::with_exposed_provenance(CONFIG_ADDRESS);
            core::slice::from_raw_parts(start, CONFIG_SIZE)
        };
        slots::provision::configuration(region)
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
        registers::write(TIMER1 + timer::CTRL, 0);
        registers::write(TIMER1 + timer::RELOAD, ticks);
        registers::write(TIMER1 + timer::VALUE, ticks);
        registers::write(TIMER1 + timer::CTRL, timer::ENABLE | timer::INTERRUPT);
    }
}

struct Clock(Ticks<TICKS_PER_MICRO>);

// SAFETY: one core, and the time is only asked for by the loop, which nothing interrupts but handlers of faults and of the
// watchdog, which never return; and by who has masked interrupts.
unsafe impl Sync for Clock {}

static CLOCK: Clock = Clock(Ticks::new(0));

defmt::timestamp!("{=u64:us}", CLOCK.0.at(count()).as_micros());

/// Starts over.
fn reset() -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}

fn now() -> Instant {
    CLOCK.0.at(count())
}

/// Ticks since `take`, modulo 2^32: the timer counts down.
fn count() -> u32 {
    !registers::read(TIMER0 + timer::VALUE)
}

/// AN500, table 4-1. (AN385 and its kin have the LAN9118 elsewhere.)
const ETHERNET: usize = 0xa000_0000;

#[derive(Clone, Copy)]
enum Interrupt {
    /// UART1 has received a byte.
    Serial = 2,
    Timer1 = 9,
    Ethernet = 13,
}

/// Interrupts again and again, every so many ticks. For measurements.
pub fn interrupt_every(ticks: u32) {
    registers::write(TIMER1 + timer::RELOAD, ticks);
    registers::write(TIMER1 + timer::VALUE, ticks);
    registers::write(TIMER1 + timer::CTRL, timer::ENABLE | timer::INTERRUPT);
}

/// Ends such an interrupt; the ticks that it waited.
pub fn interrupted_since(ticks: u32) -> u32 {
    let left = registers::read(TIMER1 + timer::VALUE);
    registers::write(TIMER1 + timer::CLEAR, 1);
    // At its end the timer stands at zero for a tick before it begins anew.
    if left == 0 {
        0
    } else {
        ticks.saturating_sub(left)
    }
}

/// Whether this number of an exception is that of an interrupt that wakes the loop.
#[must_use]
pub fn wakes(interrupt: i16) -> bool {
    let all = [Interrupt::Serial, Interrupt::Timer1, Interrupt::Ethernet];
    all.map(|known| known as i16).contains(&interrupt)
}

// SAFETY: these are numbers of the AN500's interrupt map, below the limit of the NVIC.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}
