//! defmt to LPUART1, which the debugger on the board carries to USB, and to memory where a debug probe reads it (RTT), as rzCOBS frames, with
//! the time in microseconds.

use core::cell::UnsafeCell;

use drivers::log::{Channel, WriteByte};
use rtt_target::ChannelMode::NoBlockTrim;
use rtt_target::{UpChannel, rtt_init};

use crate::registers::{self, LPUART1, lpuart};

/// 115,200 baud.
pub fn start() {
    lpuart::start(LPUART1, 0);
    let channels = rtt_init! { up: { 0: { size: 2048, mode: NoBlockTrim, name: "defmt" } } };
    // SAFETY: nothing has been logged yet, so nobody else looks at it.
    unsafe { *PROBE.0.get() = Some(channels.up.0) };
}

/// What a debug probe reads. While none does, it keeps the first words since the start.
struct Probe(UnsafeCell<Option<UpChannel>>);

// SAFETY: written once by `start`, then used by `CHANNEL` alone, which serves one context at a time.
unsafe impl Sync for Probe {}

static PROBE: Probe = Probe(UnsafeCell::new(None));

struct Outputs;

impl WriteByte for Outputs {
    fn write_byte(&self, byte: u8) {
        // SAFETY: see `Probe`.
        if let Some(probe) = unsafe { &mut *PROBE.0.get() } {
            probe.write(&[byte]);
        }
        for _ in 0..LONGEST_WAIT {
            if registers::read(LPUART1 + lpuart::STAT) & lpuart::TDRE != 0 {
                return registers::write(LPUART1 + lpuart::DATA, byte.into());
            }
        }
    }
}

/// Polls until a byte is given up; one takes 87 µs at 115,200 baud.
const LONGEST_WAIT: u32 = 10_000;

static CHANNEL: Channel<Outputs> = Channel::new(Outputs);

#[defmt::global_logger]
struct Logger;

// SAFETY: `Channel` serves one context at a time, and there is only one: interrupts are masked.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        CHANNEL.acquire();
    }

    unsafe fn flush() {}

    unsafe fn release() {
        CHANNEL.release();
    }

    unsafe fn write(bytes: &[u8]) {
        CHANNEL.write(bytes);
    }
}
