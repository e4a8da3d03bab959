//! defmt to UART0 as rzCOBS frames, with the time in microseconds.

use drivers::log::{Channel, WriteByte};

use crate::registers::{self, UART0, uart};

/// 25 MHz / 217 = 115,200 baud.
pub fn start() {
    registers::write(UART0 + uart::BAUDDIV, 217);
    registers::write(UART0 + uart::CTRL, uart::TX_ENABLE);
}

struct Uart;

impl WriteByte for Uart {
    fn write_byte(&self, byte: u8) {
        for _ in 0..LONGEST_WAIT {
            if registers::read(UART0 + uart::STATE) & uart::TX_FULL == 0 {
                return registers::write(UART0 + uart::DATA, byte.into());
            }
        }
    }
}

/// Polls until a byte is given up; one takes 87 µs at 115,200 baud.
const LONGEST_WAIT: u32 = 10_000;

static CHANNEL: Channel<Uart> = Channel::new(Uart);

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
