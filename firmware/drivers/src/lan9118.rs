//! SMSC LAN9118: 10/100 Ethernet MAC and PHY on a 32-bit bus, frames through FIFOs.
//!
//! Names and bits are those of the LAN9118 datasheet, revision 1.5, chapter 5. Frames move by
//! programmed IO, 32 bits at a time, little-endian.

use hal::{Losses, Port};

use crate::InitError;
use crate::mmio::Registers;

/// Longest frame sent: 1500 bytes of payload, Ethernet header and two VLAN tags.
const MAX_FRAME: usize = 1522;

/// One LAN9118, receiving everything (promiscuous: virtual router MACs are not in its one filter).
#[derive(Debug)]
pub struct Lan9118 {
    registers: Registers,
    losses: Losses,
}

impl Lan9118 {
    /// Resets the part, starts auto-negotiation, receiver and transmitter.
    ///
    /// # Errors
    /// If nothing, or another part, is at `base`, or the part does not come out of reset.
    ///
    /// # Safety
    /// `base` is the address of a LAN9118 (or of nothing that minds being written to), mapped as device
    /// memory and used by nobody else.
    pub unsafe fn new(base: usize) -> Result<Self, InitError> {
        // SAFETY: promised by the caller.
        let registers = unsafe { Registers::new(base) };
        let mut this = Self {
            registers,
            losses: Losses::default(),
        };
        let identity = this.registers.read(BYTE_TEST);
        if identity != BYTE_TEST_VALUE {
            return Err(InitError::Identity(identity));
        }
        let registers = &mut this.registers;
        registers.write(HW_CFG, HW_CFG_SRST);
        registers
            .wait(HW_CFG, WAIT, |value| value & HW_CFG_SRST == 0)
            .ok_or(InitError::Timeout)?;
        registers.write(HW_CFG, HW_CFG_MBO | HW_CFG_TX_FIF_5K);
        registers.write(AFC_CFG, AFC_CFG_DEFAULT);
        registers.write(RX_CFG, 0); // frames end on 32 bits, no offset
        registers.write(FIFO_INT, FIFO_INT_TX_NEVER); // RX level 0: interrupt for any frame
        registers.write(INT_EN, 0);
        registers.write(INT_STS, u32::MAX);
        registers.write(
            IRQ_CFG,
            IRQ_CFG_EN | IRQ_CFG_ACTIVE_HIGH | IRQ_CFG_PUSH_PULL,
        );
        this.write_phy(PHY_BCR, BCR_AUTO_NEGOTIATE | BCR_RESTART)
            .ok_or(InitError::Timeout)?;
        this.write_mac(
            MAC_CR,
            MAC_CR_FDPX | MAC_CR_PRMS | MAC_CR_TXEN | MAC_CR_RXEN,
        )
        .ok_or(InitError::Timeout)?;
        this.registers.write(TX_CFG, TX_CFG_ON);
        Ok(this)
    }

    fn frames_waiting(&self) -> bool {
        self.registers.read(RX_FIFO_INF) & FIFO_INF_STATUS_USED != 0
    }

    fn write_mac(&mut self, register: u32, value: u32) -> Option<()> {
        self.registers.write(MAC_CSR_DATA, value);
        self.registers.write(MAC_CSR_CMD, MAC_CSR_BUSY | register);
        self.registers
            .wait(MAC_CSR_CMD, WAIT, |value| value & MAC_CSR_BUSY == 0)
            .map(drop)
    }

    fn read_mac(&mut self, register: u32) -> Option<u32> {
        self.registers
            .write(MAC_CSR_CMD, MAC_CSR_BUSY | MAC_CSR_READ | register);
        self.registers
            .wait(MAC_CSR_CMD, WAIT, |value| value & MAC_CSR_BUSY == 0)?;
        Some(self.registers.read(MAC_CSR_DATA))
    }

    fn write_phy(&mut self, register: u32, value: u32) -> Option<()> {
        self.write_mac(MII_DATA, value)?;
        self.write_mac(
            MII_ACC,
            MII_ACC_PHY | (register << 6) | MII_ACC_WRITE | MII_ACC_BUSY,
        )?;
        self.wait_for_phy()
    }

    fn read_phy(&mut self, register: u32) -> Option<u32> {
        self.write_mac(MII_ACC, MII_ACC_PHY | (register << 6) | MII_ACC_BUSY)?;
        self.wait_for_phy()?;
        Some(self.read_mac(MII_DATA)? & 0xffff)
    }

    fn wait_for_phy(&mut self) -> Option<()> {
        (0..WAIT).find_map(|_| (self.read_mac(MII_ACC)? & MII_ACC_BUSY == 0).then_some(()))
    }
}

impl Port for Lan9118 {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        while self.frames_waiting() {
            let status = self.registers.read(RX_STATUS_PORT);
            let with_fcs = ((status >> 16) & 0x3fff) as usize;
            let words = with_fcs.div_ceil(4);
            let len = with_fcs.saturating_sub(FCS);
            let room = buffer.get_mut(start..start + 4 * words);
            let (true, Some(room)) = (status & RX_STATUS_ERROR == 0 && len > 0, room) else {
                self.losses.receive += 1;
                for _ in 0..words {
                    self.registers.read(RX_DATA_PORT);
                }
                continue;
            };
            for word in room.as_chunks_mut::<4>().0 {
                *word = self.registers.read(RX_DATA_PORT).to_le_bytes();
            }
            return Some(len);
        }
        None
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let len = frame.len();
        let free = (self.registers.read(TX_FIFO_INF) & FIFO_INF_DATA_FREE) as usize;
        // Two command words go first, and the datasheet keeps 16 bytes for alignment (§3.12.5).
        if len == 0 || len > MAX_FRAME || free < len.next_multiple_of(4) + 8 + 16 {
            self.losses.transmit += 1;
            return false;
        }
        self.registers
            .write(TX_DATA_PORT, TX_COMMAND_A_WHOLE | len as u32);
        self.registers
            .write(TX_DATA_PORT, ((len as u32) << 16) | len as u32); // tag, length
        let (words, rest) = frame.as_chunks::<4>();
        for word in words {
            self.registers
                .write(TX_DATA_PORT, u32::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            self.registers.write(TX_DATA_PORT, u32::from_le_bytes(last));
        }
        // A full status FIFO would stop the transmitter; how a frame fared is of no use to us.
        for _ in 0..TX_STATUS_FIFO {
            if self.registers.read(TX_FIFO_INF) & FIFO_INF_STATUS_USED == 0 {
                break;
            }
            self.registers.read(TX_STATUS_PORT);
        }
        true
    }

    fn link_up(&mut self) -> bool {
        self.losses.receive = self
            .losses
            .receive
            .saturating_add(self.registers.read(RX_DROP));
        self.read_phy(PHY_BSR); // a lost link is latched until it was read
        self.read_phy(PHY_BSR)
            .is_some_and(|status| status & BSR_LINK != 0)
    }

    fn arm(&mut self) -> bool {
        self.registers.write(INT_STS, INT_RSFL);
        self.registers.write(INT_EN, INT_RSFL);
        !self.frames_waiting() // one may have come before the old interrupt was cleared
    }

    fn disarm(&mut self) {
        self.registers.write(INT_EN, 0);
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

/// Polls of a register until the part is given up: hundreds of times the longest delay in the manual.
const WAIT: u32 = 100_000;
/// Depth of the transmit status FIFO.
const TX_STATUS_FIFO: usize = 128;
const FCS: usize = 4;

// Directly mapped registers (table 5.1).
const RX_DATA_PORT: usize = 0x00;
const TX_DATA_PORT: usize = 0x20;
const RX_STATUS_PORT: usize = 0x40;
const TX_STATUS_PORT: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const RX_CFG: usize = 0x6c;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const RX_DROP: usize = 0xa0;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;
const AFC_CFG: usize = 0xac;

const BYTE_TEST_VALUE: u32 = 0x8765_4321;
const HW_CFG_SRST: u32 = 1 << 0;
const HW_CFG_MBO: u32 = 1 << 20; // must be one
const HW_CFG_TX_FIF_5K: u32 = 5 << 16;
const AFC_CFG_DEFAULT: u32 = 0x006e_3740; // flow control levels of the datasheet (§5.3.25), switched off
const TX_CFG_ON: u32 = 1 << 1;
const FIFO_INT_TX_NEVER: u32 = 0xff00_0000;
const FIFO_INF_STATUS_USED: u32 = 0x00ff_0000;
const FIFO_INF_DATA_FREE: u32 = 0xffff; // of TX_FIFO_INF, bytes
const IRQ_CFG_EN: u32 = 1 << 8;
const IRQ_CFG_ACTIVE_HIGH: u32 = 1 << 4;
const IRQ_CFG_PUSH_PULL: u32 = 1 << 0;
const INT_RSFL: u32 = 1 << 3; // RX status FIFO level
const RX_STATUS_ERROR: u32 = 1 << 15;
/// First and last segment in one; ends on 32 bits; the part pads short frames.
const TX_COMMAND_A_WHOLE: u32 = (1 << 13) | (1 << 12);

// MAC registers (table 5.5), behind MAC_CSR_CMD.
const MAC_CSR_BUSY: u32 = 1 << 31;
const MAC_CSR_READ: u32 = 1 << 30;
const MAC_CR: u32 = 1;
const MII_ACC: u32 = 6;
const MII_DATA: u32 = 7;
const MAC_CR_FDPX: u32 = 1 << 20;
const MAC_CR_PRMS: u32 = 1 << 18;
const MAC_CR_TXEN: u32 = 1 << 3;
const MAC_CR_RXEN: u32 = 1 << 2;
const MII_ACC_PHY: u32 = 1 << 11; // the internal PHY's address
const MII_ACC_WRITE: u32 = 1 << 1;
const MII_ACC_BUSY: u32 = 1 << 0;

// PHY registers (IEEE 802.3 clause 22), behind MII_ACC.
const PHY_BCR: u32 = 0;
const PHY_BSR: u32 = 1;
const BCR_AUTO_NEGOTIATE: u32 = 1 << 12;
const BCR_RESTART: u32 = 1 << 9;
const BSR_LINK: u32 = 1 << 2;
