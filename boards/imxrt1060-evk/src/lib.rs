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
use drivers::enet::{Enet, Memory};
use drivers::ticks::Ticks;
use imxrt1060evk_fcb as _; // how the ROM has to read the flash; memory.x puts it where the ROM looks
use recovery::{Part, Vigil};
use time::Instant;

pub use background::{MAILBOX, heap_usage, run_below, start_heap};
use registers::{GPT1, GPT2, TRNG, gpt, trng};
pub use serial::Line;

/// Address of the configuration; the same as in board.toml.
const CONFIG_ADDRESS: usize = 0x607e_0000;
/// Size of the configuration's memory; the same as in board.toml.
const CONFIG_SIZE: usize = 0x2_0000;

/// Size of the heap, which only TLS uses: a handshake needs 25 KB of it (`ravelin bench packet`).
const HEAP_SIZE: usize = 0x1_0000;

/// The oscillator's 24 MHz.
const TICKS_PER_MICRO: u32 = 24;

/// The one evaluation kit.
pub struct Evk(());

impl Evk {
    /// Takes the board as reset left it: masks interrupts until [`run_below`], starts clocks and memory, the log and the watchdog.
    ///
    /// # Safety
    /// It is the first that `main` does, once: statics outside of the DTCM begin here.
    pub unsafe fn take() -> Self {
        cortex_m::interrupt::disable();
        start::up();
        registers::write(GPT1 + gpt::CR, gpt::FRR | CLOCKED);
        registers::write(GPT1 + gpt::CR, gpt::FRR | CLOCKED | gpt::EN);
        registers::write(GPT2 + gpt::CR, CLOCKED);
        registers::write(GPT2 + gpt::IR, gpt::OF1IE);
        trng::start();
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
    /// If the MAC does not start, or its PHY does not answer.
    pub fn port(&self) -> Result<Enet, InitError> {
        #[unsafe(link_section = ".dma")]
        static mut MEMORY: Memory = Memory::new();
        let memory = &raw mut MEMORY;
        // SAFETY: IMXRT1060RM ("Memory Maps") has the MAC at this address. `Evk` is made once and asked once by `main`; the memory is not
        // cached (`start.rs`), and core and MAC have the same addresses.
        let mut port = unsafe { Enet::new(ENET1, PHY, 132, &mut *memory) }?;
        port.set_in_phy(KSZ8081_CONTROL_2, KSZ8081_50_MHZ)?;
        Ok(port)
    }

    /// Starts the serial line to the other appliance, which has to be read from then on.
    pub fn line(&mut self) -> Line {
        Line::start()
    }

    /// Stops the timer of the last [`wake_at`](hal::Board::wake_at): it has done its duty.
    pub fn quiet(&mut self) {
        registers::write(GPT2 + gpt::CR, CLOCKED);
        registers::write(GPT2 + gpt::SR, gpt::ALL);
    }
}

impl hal::Board for Evk {
    fn now(&self) -> Instant {
        CLOCK.0.at(count())
    }

    fn seed(&mut self) -> u64 {
        let mut seed = u64::from(count());
        // A number takes some 60 ms.
        let state = (0..10_000_000)
            .map(|_| registers::read(TRNG + trng::MCTL))
            .find(|state| state & (trng::ENT_VAL | trng::ERR) != 0);
        if !state.is_some_and(|state| state & trng::ERR == 0) {
            defmt::error!("the random number generator does not work: the seed can be guessed");
            registers::write(TRNG + trng::MCTL, trng::ERR | trng::SAMPLES);
        }
        for word in (TRNG + trng::ENT..=TRNG + trng::ENT15).step_by(4) {
            seed = seed.rotate_left(9) ^ u64::from(registers::read(word));
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
        registers::write(GPT2 + gpt::OCR1, ticks);
        registers::write(GPT2 + gpt::CR, CLOCKED | gpt::EN); // from zero
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
    registers::read(GPT1 + gpt::CNT)
}

/// How both timers run.
const CLOCKED: u32 = gpt::PERIPHERAL_CLOCK | gpt::WAITEN | gpt::ENMOD;

const ENET1: usize = 0x402d_8000;
/// Address of the KSZ8081RNB on the management bus (MIMXRT1060-EVK schematic).
const PHY: u32 = 2;
/// It thinks that its clock has 25 MHz until it is told (data sheet, register 1Fh).
const KSZ8081_CONTROL_2: u32 = 0x1f;
const KSZ8081_50_MHZ: u32 = 1 << 7;

#[derive(Clone, Copy)]
enum Interrupt {
    /// LPUART3 has received a byte.
    Serial = 22,
    Timer2 = 101,
    Ethernet = 114,
}

const WAKE_UPS: [Interrupt; 3] = [Interrupt::Serial, Interrupt::Timer2, Interrupt::Ethernet];

/// Whether this number of an exception is that of an interrupt that wakes the loop.
#[must_use]
pub fn wakes(interrupt: i16) -> bool {
    WAKE_UPS.map(|known| known as i16).contains(&interrupt)
}

// SAFETY: these are numbers of the i.MX RT1060's interrupt map (IMXRT1060RM, "Interrupts, DMA Events, and XBAR Assignments"), below the limit of the NVIC.
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
