//! USART6: the serial line to the other appliance. Its queues hold 16 bytes.

use crate::registers::{self, USART6, usart};

/// The line.
pub struct Line(());

impl Line {
    /// 100 MHz / 868 = 115,200 baud; each byte signals the core.
    pub(crate) fn start() -> Self {
        registers::write(USART6 + usart::BRR, 868);
        let control = usart::FIFOEN | usart::RXFNEIE | usart::TE | usart::RE | usart::UE;
        registers::write(USART6 + usart::CR1, control);
        Self(())
    }

    fn state(&self, bit: u32) -> bool {
        registers::read(USART6 + usart::ISR) & bit != 0
    }
}

impl hal::Serial for Line {
    fn read(&mut self) -> Option<u8> {
        match self.state(usart::RXFNE) {
            true => Some(registers::read(USART6 + usart::RDR) as u8), // the others are parity and zeros
            false => None,
        }
    }

    fn write(&mut self, byte: u8) -> bool {
        if !self.state(usart::TXFNF) {
            return false;
        }
        registers::write(USART6 + usart::TDR, byte.into());
        true
    }

    fn arm(&mut self) -> bool {
        registers::write(USART6 + usart::ICR, usart::ERRORS); // an overrun would go on asking
        !self.state(usart::RXFNE)
    }
}
