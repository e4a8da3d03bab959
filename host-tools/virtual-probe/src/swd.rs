//! The target's end of a serial wire, bit by bit. Debuggers use it for their first words, until they know who answers.

use std::collections::VecDeque;

/// Registers that the wire leads to.
pub trait Registers {
    /// Reads a register of the debug port.
    fn read(&mut self, address: u8) -> u32;
    /// Writes one.
    fn write(&mut self, address: u8, value: u32);
}

/// What is on its way.
#[derive(Debug, Default)]
pub struct Wire {
    /// The last 64 bits from the debugger, the latest on top.
    heard: u64,
    answer: VecDeque<bool>,
    write: Option<Write>,
}

/// A write whose data is coming.
#[derive(Debug)]
struct Write {
    address: u8,
    value: u64,
    bits: u32,
}

/// An acknowledgement, lowest bit first.
const OK: [bool; 3] = [true, false, false];

impl Wire {
    /// Bits from the debugger, the lowest first.
    pub fn take(&mut self, count: u32, bits: u64, registers: &mut impl Registers) {
        self.answer.clear();
        for index in 0..count.min(64) {
            let bit = bits >> index & 1;
            let Some(write) = &mut self.write else {
                self.heard = self.heard >> 1 | bit << 63;
                continue;
            };
            if write.bits < 32 {
                write.value |= bit << write.bits;
                write.bits += 1;
                continue;
            }
            // The 33rd is the parity.
            let Write { address, value, .. } = *write;
            if u64::from(value.count_ones() % 2) == bit {
                registers.write(address, value as u32);
            }
            self.write = None;
            self.heard = 0;
        }
    }

    /// Bits for the debugger: the answer to the request that came last, else a line that nobody drives.
    pub fn give(&mut self, count: u32, registers: &mut impl Registers) -> u64 {
        if self.answer.is_empty() {
            self.answer(registers);
        }
        (0..count.min(64)).fold(0, |bits, index| {
            let bit = self.answer.pop_front().unwrap_or(self.write.is_none());
            bits | u64::from(bit) << index
        })
    }

    fn answer(&mut self, registers: &mut impl Registers) {
        // Start, AP or DP, read or write, two bits of address, parity, stop, park (ADIv5.2, B4.2).
        let request = (self.heard >> 56) as u8;
        let framed = request & 0b1100_0001 == 0b1000_0001;
        let parity = (request >> 1 & 0xf).count_ones() % 2 == u32::from(request >> 5 & 1);
        let to_access_port = request & 2 != 0;
        if !framed || !parity || to_access_port {
            return;
        }
        let address = (request >> 3 & 3) << 2;
        self.answer.extend(OK);
        if request & 4 == 0 {
            self.write = Some(Write {
                address,
                value: 0,
                bits: 0,
            });
            return;
        }
        let value = registers.read(address);
        self.answer
            .extend((0..32).map(|index| value >> index & 1 != 0));
        self.answer.push_back(value.count_ones() % 2 == 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Port(Option<(u8, u32)>);

    impl Registers for Port {
        fn read(&mut self, address: u8) -> u32 {
            0x5ba0_2470 | u32::from(address)
        }

        fn write(&mut self, address: u8, value: u32) {
            self.0 = Some((address, value));
        }
    }

    #[test]
    fn the_identity_is_read_after_a_line_reset() {
        let (mut wire, mut port) = (Wire::default(), Port::default());
        wire.take(56, u64::MAX, &mut port);
        wire.take(8, 0, &mut port);
        wire.take(8, 0xa5, &mut port); // read DPIDR
        assert_eq!(wire.give(3, &mut port), 1, "OK");
        assert_eq!(wire.give(32, &mut port), 0x5ba0_2470);
        assert_eq!(
            wire.give(1, &mut port),
            u64::from(0x5ba0_2470_u32.count_ones() % 2)
        );
    }

    #[test]
    fn a_write_counts_if_its_parity_is_right() {
        for (parity, arrives) in [(0, true), (1, false)] {
            let (mut wire, mut port) = (Wire::default(), Port::default());
            wire.take(8, 0xa9, &mut port); // write CTRL/STAT
            assert_eq!(wire.give(3, &mut port), 1);
            wire.take(33, 0x5000_0000 | parity << 32, &mut port);
            assert_eq!(port.0.is_some(), arrives);
            assert!(port.0.is_none_or(|write| write == (4, 0x5000_0000)));
        }
    }

    #[test]
    fn nobody_answers_noise() {
        let (mut wire, mut port) = (Wire::default(), Port::default());
        for noise in [0x00, 0xff, 0x85, 0xa7] {
            wire.take(8, noise, &mut port);
            assert_eq!(wire.give(3, &mut port), 0b111, "{noise:#x}");
        }
    }
}
