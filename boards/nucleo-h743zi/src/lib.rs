//! The board: memory map, clocks, timers, log. `main.rs` puts the appliance on it.

#![no_std]

mod background;
mod log;
mod registers;
mod serial;
mod start;
mod watchdog;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use drivers::InitError;
use drivers::dwmac::{Dwmac, Memory};
use drivers::ticks::Ticks;
use recovery::{Part, Vigil};
use time::Instant;

pub use background::{MAILBOX, heap_usage, run_below, start_heap};
use registers::{RNG, TIM2, TIM5, rng, tim};
pub use serial::Line;

/// Address of the configuration; the same as in board.toml.
const CONFIG_ADDRESS: usize = 0x081c_0000;
/// Size of the configuration's memory; the same as in board.toml.
const CONFIG_SIZE: usize = 0x4_0000;

/// Size of the heap, which only TLS uses: a handshake needs 25 KB of it (`ravelin bench packet`).
const HEAP_SIZE: usize = 0x1_0000;

/// The timers' 200 MHz, divided by eight.
const TICKS_PER_MICRO: u32 = 25;

/// The one Nucleo.
pub struct Nucleo(());

impl Nucleo {
    /// Takes the board as reset left it: masks interrupts until [`run_below`], starts clocks and memory, the log and the watchdog.
    ///
    /// # Safety
    /// It is the first that `main` does, once: statics outside of the DTCM begin here.
    pub unsafe fn take() -> Self {
        cortex_m::interrupt::disable();
        start::up();
        registers::write(TIM2 + tim::PSC, 200 / TICKS_PER_MICRO - 1);
        registers::write(TIM2 + tim::ARR, u32::MAX);
        registers::write(TIM2 + tim::EGR, tim::UG); // takes the divider over
        registers::write(TIM2 + tim::CR1, tim::CEN);
        registers::write(TIM5 + tim::PSC, 200 / TICKS_PER_MICRO - 1);
        registers::write(TIM5 + tim::DIER, tim::UIE);
        registers::write(RNG + rng::CR, rng::RNGEN);
        log::start();
        for interrupt in WAKE_UPS {
            // SAFETY: interrupts are masked, so no handler runs that could break a critical section.
            unsafe { NVIC::unmask(interrupt) };
        }
        watchdog::start();
        Self(())
    }

    /// Starts the network port.
    ///
    /// # Errors
    /// If the MAC does not start; without a running PHY it has no clock.
    pub fn port(&self) -> Result<Dwmac, InitError> {
        #[unsafe(link_section = ".dma")]
        static mut MEMORY: Memory = Memory::new();
        let memory = &raw mut MEMORY;
        // SAFETY: RM0433 table 8 has the MAC at this address. `Nucleo` is made once and asked once by `main`; the memory is not
        // cached (`start.rs`), and core and MAC have the same addresses.
        unsafe { Dwmac::new(ETHERNET, PHY, 200, &mut *memory) }
    }

    /// Starts the serial line to the other appliance, which has to be read from then on.
    pub fn line(&mut self) -> Line {
        Line::start()
    }

    /// Stops the timer of the last [`wake_at`](hal::Board::wake_at): it has done its duty.
    pub fn quiet(&mut self) {
        registers::write(TIM5 + tim::CR1, tim::URS | tim::OPM);
        registers::write(TIM5 + tim::SR, 0);
    }
}

impl hal::Board for Nucleo {
    fn now(&self) -> Instant {
        CLOCK.0.at(count())
    }

    fn seed(&mut self) -> u64 {
        let mut seed = u64::from(count());
        for _ in 0..2 {
            registers::wait(RNG + rng::SR, rng::DRDY);
            seed = seed.rotate_left(32) ^ u64::from(registers::read(RNG + rng::DR));
        }
        if registers::read(RNG + rng::SR) & rng::ERRORS != 0 {
            defmt::error!("the random number generator does not work: the seed can be guessed");
        }
        // Whatever the generator does, two appliances differ.
        for byte in self.config().iter().take(4096) {
            seed = (seed ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3); // FNV-1a
        }
        seed
    }

    fn config(&self) -> &'static [u8] {
        // SAFETY: this flash is outside of the linker's regions (memory.x), so nothing writes to it
        // while the program runs.
        let region: &'static [u8] = unsafe {
            let start = core::ptr::with_exposed_provenance(CONFIG_ADDRESS);
            core::slice::from_raw_parts(start, CONFIG_SIZE)
        };
        slots::provision::configuration(region)
    }

    fn feed_watchdog(&mut self) {
        watchdog::feed();
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
        self.quiet();
        registers::write(TIM5 + tim::ARR, ticks);
        registers::write(TIM5 + tim::EGR, tim::UG); // from zero
        registers::write(TIM5 + tim::CR1, tim::URS | tim::OPM | tim::CEN);
    }
}

struct Clock(Ticks<TICKS_PER_MICRO>);

// SAFETY: one core, and the time is only asked for by the loop, which nothing interrupts but handlers of faults, which never
// return; and by who has masked interrupts.
unsafe impl Sync for Clock {}

static CLOCK: Clock = Clock(Ticks::new(0));

defmt::timestamp!("{=u64:us}", CLOCK.0.at(count()).as_micros());

/// Writes a last word to the log and starts over.
pub fn reset() -> ! {
    defmt::flush();
    cortex_m::peripheral::SCB::sys_reset()
}

/// Ticks since `take`, modulo 2^32.
fn count() -> u32 {
    registers::read(TIM2 + tim::CNT)
}

const ETHERNET: usize = 0x4002_8000;
/// Address of the LAN8742 on the management bus (UM1974).
const PHY: u32 = 0;

#[derive(Clone, Copy)]
enum Interrupt {
    Timer5 = 50,
    Ethernet = 61,
    /// USART6 has received a byte.
    Serial = 71,
}

const WAKE_UPS: [Interrupt; 3] = [Interrupt::Timer5, Interrupt::Ethernet, Interrupt::Serial];

/// Whether this number of an exception is that of an interrupt that wakes the loop.
#[must_use]
pub fn wakes(interrupt: i16) -> bool {
    WAKE_UPS.map(|known| known as i16).contains(&interrupt)
}

// SAFETY: these are numbers of the STM32H743's interrupt map (RM0433 table 149), below the limit of the NVIC.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    background::give_up_what_runs_below(info);
    defmt::error!("panic: {}", defmt::Display2Format(info));
    reset()
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    defmt::error!(
        "fault at {=u32:#x}, called from {=u32:#x}",
        frame.pc(),
        frame.lr()
    );
    reset()
}
