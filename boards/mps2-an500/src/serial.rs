//! UART1: the serial line to the other appliance. It holds one byte only: at 115,200 baud the loop has 87 µs for each, and what
//! it misses is a damaged heartbeat among others.

use crate::registers::{self, UART1, uart};

/// The line.
pub struct Line(());

impl Line {
    /// 25 MHz / 217 = 115,200 baud; each byte signals the core.
    pub(crate) fn start() -> Self {
        registers::write(UART1 + uart::BAUDDIV, 217);
        let control = uart::TX_ENABLE | uart::RX_ENABLE | uart::RX_INTERRUPT;
        registers::write(UART1 + uart::CTRL, control);
        Self(())
    }

    fn state(&self, bit: u32) -> bool {
        registers::read(UART1 + uart::STATE) & bit != 0
    }
}

impl hal::Serial for Line {
    fn read(&mut self) -> Option<u8> {
        match self.state(uart::RX_FULL) {
            true => Some(registers::read(UART1 + uart::DATA) as u8), // the others are zeros
            false => None,
        }
    }

    fn write(&mut self, byte: u8) -> bool {
        if self.state(uart::TX_FULL) {
            return false;
        }
        registers::write(UART1 + uart::DATA, byte.into());
        true
    }

    fn arm(&mut self) -> bool {
        registers::write(UART1 + uart::INTERRUPT, uart::RX_PENDING);
        !self.state(uart::RX_FULL)
    }
}
