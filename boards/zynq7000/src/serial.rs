//! UART1: the serial line to the other appliance. The speed stays as the boot loader set it.

use crate::registers::{self, UART1, uart};

/// The line.
pub struct Line(());

impl Line {
    /// Starts the UART with empty queues, and lets it signal the core for each byte.
    pub(crate) fn start() -> Self {
        let control = uart::RESET | uart::RX_ENABLE | uart::TX_ENABLE;
        registers::write(UART1 + uart::CONTROL, control);
        registers::write(UART1 + uart::RX_TRIGGER, 1);
        registers::write(UART1 + uart::INTERRUPT_ENABLE, uart::RX_TRIGGERED);
        Self(())
    }

    fn is_empty(&self) -> bool {
        registers::read(UART1 + uart::STATUS) & uart::RX_EMPTY != 0
    }
}

impl hal::Serial for Line {
    fn read(&mut self) -> Option<u8> {
        match self.is_empty() {
            true => None,
            false => Some(registers::read(UART1 + uart::FIFO) as u8), // the others are zeros
        }
    }

    fn write(&mut self, byte: u8) -> bool {
        if registers::read(UART1 + uart::STATUS) & uart::TX_FULL != 0 {
            return false;
        }
        registers::write(UART1 + uart::FIFO, byte.into());
        true
    }

    fn arm(&mut self) -> bool {
        registers::write(UART1 + uart::INTERRUPT_STATUS, uart::RX_TRIGGERED);
        self.is_empty()
    }
}
