//! Instructions per packet on the board's own instruction set, for `ravelin bench packet`.
//!
//! Runs under `-icount shift=0`, where every instruction takes one nanosecond of guest time. The node, as large as the
//! appliance's, runs the configuration that the host placed; frames come from memory, so that driver and MAC are not
//! in the numbers. Each line of the log is `packet PATH INSTRUCTIONS`, the last one is `packet done`.

#![no_std]
#![no_main]

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use defmt::{Display2Format, error, info, unwrap};
use hal::Board as _;
use mps2_an500::Mps2;
use node::{Node, Tables};
use time::Instant;
use treadmill::{BYTES_PER_FLOW, Cost, Meter, PACKETS};

/// The same as in `main.rs`.
const FLOWS: usize = 8192;
const FLOWS6: usize = 2048;
/// SysTick counts at 25 MHz, so one tick is 40 ns and 40 instructions.
const INSTRUCTIONS_PER_TICK: u64 = 40;

static mut TABLES: Tables<FLOWS, FLOWS6> = Tables::new();

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = Mps2::take();
    let mut systick = unwrap!(cortex_m::Peripherals::take()).SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();

    let policy = unwrap!(
        classifier::load(board.config()).ok(),
        "no configuration was placed"
    );
    let (config, rules) = (policy.config.clone(), policy.tables);
    // SAFETY: `main` runs once, and this is the only mention of TABLES.
    let tables = unsafe { &mut *&raw mut TABLES };
    let node = &mut Node::new(Some(policy), tables, 1, Instant::ZERO);
    let mut meter = SysTick { board, systick };
    for (version, bytes) in ["bytes-per-flow", "bytes-per-flow-ipv6"]
        .iter()
        .zip(BYTES_PER_FLOW)
    {
        info!("packet {=str} {=usize}", version, bytes);
    }
    let mut report = |path: &'static str, cost: Cost| {
        let mean = (cost.node() / u64::from(PACKETS)) as u32;
        info!("packet {=str} {=u32}", path, mean);
    };
    match treadmill::run(node, (&config, &rules), &mut meter, &mut report) {
        Ok(()) => info!("packet done"),
        Err(fault) => error!("{}", Display2Format(&fault)),
    }
    loop {
        meter.board.feed_watchdog();
        cortex_m::asm::nop();
    }
}

/// Counts instructions by the emulator's time.
struct SysTick {
    board: Mps2,
    systick: SYST,
}

impl Meter for SysTick {
    fn cost(&mut self, work: &mut dyn FnMut()) -> u64 {
        self.board.feed_watchdog();
        self.systick.clear_current();
        let begin = SYST::get_current();
        work();
        let ticks = begin.wrapping_sub(SYST::get_current()) & 0x00ff_ffff;
        u64::from(ticks) * INSTRUCTIONS_PER_TICK
    }
}
