//! LPUART3: the serial line to the other appliance. Its queues hold 4 bytes.

use crate::registers::{self, LPUART3, lpuart};

/// The line.
pub struct Line(());

impl Line {
    /// 115,200 baud; each byte signals the core.
    pub(crate) fn start() -> Self {
        lpuart::start(LPUART3, lpuart::RE | lpuart::RIE);
        Self(())
    }

    fn state(&self, bit: u32) -> bool {
        registers::read(LPUART3 + lpuart::STAT) & bit != 0
    }
}

impl hal::Serial for Line {
    fn read(&mut self) -> Option<u8> {
        match self.state(lpuart::RDRF) {
            true => Some(registers::read(LPUART3 + lpuart::DATA) as u8), // the others say how it came
            false => None,
        }
    }

    fn write(&mut self, byte: u8) -> bool {
        if !self.state(lpuart::TDRE) {
            return false;
        }
        registers::write(LPUART3 + lpuart::DATA, byte.into());
        true
    }

    fn arm(&mut self) -> bool {
        registers::write(LPUART3 + lpuart::STAT, lpuart::ERRORS); // after an overrun nothing would come any more
        !self.state(lpuart::RDRF)
    }
}
