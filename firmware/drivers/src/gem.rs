//! Cadence Gigabit Ethernet MAC as in the Zynq-7000, frames by DMA through descriptor rings.
//!
//! Names and bits are those of the Zynq-7000 Technical Reference Manual (UG585), chapter 16 and
//! appendix B.18 ("GEM").
//!
//! **Memory.** The one board that uses this driver runs with MMU and data caches off, so that every access is strongly ordered
//! and goes to memory. A board that switches them on has to map [`Memory`] as non-cacheable.

use hal::{Losses, Port};

use crate::InitError;
use crate::mmio::Registers;
use crate::ring::{self, BUFFER, MIN_FRAME, Rings, barrier};

/// Receive descriptors and buffers.
const RX: usize = 128;
/// Transmit descriptors and buffers.
const TX: usize = 64;
/// Longest frame sent: 1500 bytes of payload, Ethernet header and one VLAN tag. Longer ones wedge the
/// transmit ring of QEMU, and the part itself needs jumbo mode beyond 1536 with FCS.
const MAX_FRAME: usize = 1518;
/// Frames begin two bytes into a buffer, so that the IP header behind them is word-aligned.
const OFFSET: usize = 2;

/// Rings and buffers of one GEM.
pub type Memory = ring::Memory<2, RX, TX>;

/// One GEM, receiving everything (promiscuous), 1000 Mbit/s full duplex.
#[derive(Debug)]
pub struct Gem {
    registers: Registers,
    rings: Rings<2, RX, TX>,
    phy: u32,
    next_rx: usize,
    next_tx: usize,
    losses: Losses,
}

impl Gem {
    /// Resets the MAC and starts it. `phy` is the PHY's address on the management bus. Clocks and pins
    /// are set up already, as the first-stage boot loader does.
    ///
    /// # Errors
    /// If the part identifies itself otherwise, or its management bus does not answer.
    ///
    /// # Safety
    /// `base` is the address of a GEM, mapped as device memory and used by nobody else. `memory` is
    /// uncached, its address is what the DMA engine sees.
    pub unsafe fn new(
        base: usize,
        phy: u32,
        memory: &'static mut Memory,
    ) -> Result<Self, InitError> {
        // SAFETY: promised by the caller.
        let registers = unsafe { Registers::new(base) };
        let mut this = Self {
            registers,
            rings: Rings::new(memory),
            phy,
            next_rx: 0,
            next_tx: 0,
            losses: Losses::default(),
        };
        let identity = this.registers.read(MODULE_ID);
        if identity >> 16 != MODULE_ID_GEM {
            return Err(InitError::Identity(identity));
        }
        let registers = &mut this.registers;
        registers.write(NET_CTRL, 0);
        registers.write(INTR_DIS, u32::MAX);
        registers.write(TX_STATUS, u32::MAX);
        registers.write(RX_STATUS, u32::MAX);
        registers.write(DMA_CFG, DMA_RX_SIZE | DMA_FULL_MEMORY | DMA_INCR16);
        registers.write(
            NET_CFG,
            CFG_MDC_DIV_224
                | CFG_STRIP_FCS
                | ((OFFSET as u32) << CFG_OFFSET_SHIFT)
                | CFG_1000
                | CFG_1536_RX
                | CFG_PROMISCUOUS
                | CFG_FULL_DUPLEX,
        );
        for index in 0..RX {
            this.give_rx_descriptor(index);
        }
        this.reset_tx();
        let rx_ring = this.rings.rx_descriptor(0);
        barrier();
        this.registers.write(RX_QBAR, rx_ring);
        this.registers.write(NET_CTRL, CTRL_RUN);
        this.read_phy(PHY_BSR).ok_or(InitError::Timeout)?;
        Ok(this)
    }

    /// Lets the MAC fill this descriptor's buffer.
    fn give_rx_descriptor(&mut self, index: usize) {
        let wrap = if index == RX - 1 { RX_WRAP } else { 0 };
        let buffer = self.rings.rx_buffer(index);
        barrier(); // reads of the buffer are over
        // The descriptor is ours until its USED bit is cleared by the second write.
        self.rings.set_rx(index, 1, 0);
        self.rings.set_rx(index, 0, buffer | wrap);
    }

    fn rx_waiting(&self) -> bool {
        self.rings.rx(self.next_rx, 0) & RX_USED != 0
    }

    /// A MAC that once found no free descriptor looks again only when it is told to. (QEMU stalls for
    /// ever without this; the manual asks for it in §16.3.6 "Receive Buffer Not Available".)
    fn restart_starved_receiver(&mut self) {
        if self.registers.read(RX_STATUS) & RXSR_NOT_AVAILABLE != 0 {
            self.registers.write(RX_STATUS, RXSR_NOT_AVAILABLE);
            self.registers.write(NET_CTRL, CTRL_RUN);
        }
    }

    /// Empties the transmit ring and starts at its beginning.
    fn reset_tx(&mut self) {
        for index in 0..TX {
            let wrap = if index == TX - 1 { TX_WRAP } else { 0 };
            let buffer = self.rings.tx_buffer(index) + OFFSET as u32;
            self.rings.set_tx(index, 0, buffer);
            self.rings.set_tx(index, 1, TX_USED | wrap);
        }
        self.next_tx = 0;
        let ring = self.rings.tx_descriptor(0);
        barrier();
        self.registers.write(TX_QBAR, ring);
    }

    /// After a bus error or an underrun the transmitter stands still at an unknown place.
    fn recover_transmitter(&mut self) {
        let status = self.registers.read(TX_STATUS) & TXSR_ERRORS;
        if status != 0 {
            self.registers.write(NET_CTRL, CTRL_RUN & !CTRL_TX_EN);
            self.registers.write(TX_STATUS, status);
            self.reset_tx();
            self.registers.write(NET_CTRL, CTRL_RUN);
        }
    }

    fn read_phy(&mut self, register: u32) -> Option<u32> {
        self.registers
            .wait(NET_STATUS, WAIT, |status| status & NSR_MANAGEMENT_IDLE != 0)?;
        self.registers
            .write(PHY_MAINT, MAINT_READ | (self.phy << 23) | (register << 18));
        self.registers
            .wait(NET_STATUS, WAIT, |status| status & NSR_MANAGEMENT_IDLE != 0)?;
        Some(self.registers.read(PHY_MAINT) & 0xffff)
    }
}

impl Port for Gem {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        while self.rx_waiting() {
            let index = self.next_rx;
            self.next_rx = (index + 1) % RX;
            barrier(); // the buffer is read after the descriptor
            let status = self.rings.rx(index, 1);
            let len = (status & RX_LENGTH) as usize;
            let whole = status & (RX_FIRST | RX_LAST) == RX_FIRST | RX_LAST;
            let room = buffer.get_mut(start..start + len);
            let taken =
                whole && len > 0 && room.is_some_and(|room| self.rings.take(index, OFFSET, room));
            self.give_rx_descriptor(index);
            if taken {
                return Some(len);
            }
            self.losses.receive += 1;
        }
        self.restart_starved_receiver();
        None
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let index = self.next_tx;
        let free = self.rings.tx(index, 1) & TX_USED != 0;
        if !free || frame.is_empty() || frame.len() > MAX_FRAME {
            self.losses.transmit += 1;
            self.recover_transmitter();
            return false;
        }
        // Short frames are padded here: QEMU sends what was in the buffer before, and so leaks it.
        let len = frame.len().max(MIN_FRAME);
        let wrap = if index == TX - 1 { TX_WRAP } else { 0 };
        self.rings.put(index, OFFSET, frame, len);
        barrier(); // the MAC sees the frame before it sees the descriptor
        self.rings.set_tx(index, 1, wrap | TX_LAST | len as u32); // gives both away
        self.next_tx = (index + 1) % TX;
        barrier();
        self.registers.write(NET_CTRL, CTRL_RUN | CTRL_START_TX);
        true
    }

    fn link_up(&mut self) -> bool {
        // Both registers are cleared by reading.
        let missed = self.registers.read(RX_RESOURCE_ERRORS) + self.registers.read(RX_OVERRUNS);
        self.losses.receive = self.losses.receive.saturating_add(missed);
        self.recover_transmitter();
        self.read_phy(PHY_BSR); // a lost link is latched until it was read
        self.read_phy(PHY_BSR)
            .is_some_and(|status| status & BSR_LINK != 0)
    }

    fn arm(&mut self) -> bool {
        let pending = self.registers.read(INTR_STATUS);
        self.registers.write(INTR_STATUS, pending); // QEMU clears by the read, the part by the write
        self.registers
            .write(INTR_EN, INTR_RX_COMPLETE | INTR_RX_USED);
        self.restart_starved_receiver();
        !self.rx_waiting() // one may have come before the old interrupt was cleared
    }

    fn disarm(&mut self) {
        self.registers.write(INTR_DIS, u32::MAX);
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

/// Polls of a register until the part is given up; one management access takes 26 µs at most.
const WAIT: u32 = 100_000;

// Registers (UG585 B.18).
const NET_CTRL: usize = 0x00;
const NET_CFG: usize = 0x04;
const NET_STATUS: usize = 0x08;
const DMA_CFG: usize = 0x10;
const TX_STATUS: usize = 0x14;
const RX_QBAR: usize = 0x18;
const TX_QBAR: usize = 0x1c;
const RX_STATUS: usize = 0x20;
const INTR_STATUS: usize = 0x24;
const INTR_EN: usize = 0x28;
const INTR_DIS: usize = 0x2c;
const PHY_MAINT: usize = 0x34;
const MODULE_ID: usize = 0xfc;
const RX_RESOURCE_ERRORS: usize = 0x1a0;
const RX_OVERRUNS: usize = 0x1a4;

const MODULE_ID_GEM: u32 = 2;
const CTRL_START_TX: u32 = 1 << 9;
const CTRL_MGMT_EN: u32 = 1 << 4;
const CTRL_TX_EN: u32 = 1 << 3;
const CTRL_RX_EN: u32 = 1 << 2;
const CTRL_RUN: u32 = CTRL_MGMT_EN | CTRL_TX_EN | CTRL_RX_EN;
const CFG_MDC_DIV_224: u32 = 7 << 18;
const CFG_STRIP_FCS: u32 = 1 << 17;
const CFG_OFFSET_SHIFT: u32 = 14;
const CFG_1000: u32 = 1 << 10;
const CFG_1536_RX: u32 = 1 << 8;
const CFG_PROMISCUOUS: u32 = 1 << 4;
const CFG_FULL_DUPLEX: u32 = 1 << 1;
const NSR_MANAGEMENT_IDLE: u32 = 1 << 2;
const DMA_RX_SIZE: u32 = ((BUFFER / 64) as u32) << 16;
const DMA_FULL_MEMORY: u32 = (1 << 10) | (3 << 8); // no checksum offload: it would rewrite what we forward
const DMA_INCR16: u32 = 16;
const RXSR_NOT_AVAILABLE: u32 = 1 << 0;
/// HRESP not OK, underrun, corrupted by AHB error, retry limit.
const TXSR_ERRORS: u32 = (1 << 8) | (1 << 6) | (1 << 4) | (1 << 2);
const INTR_RX_COMPLETE: u32 = 1 << 1;
const INTR_RX_USED: u32 = 1 << 2;
const MAINT_READ: u32 = (1 << 30) | (2 << 28) | (2 << 16);

// Descriptors (UG585 tables 16-2 and 16-3).
const RX_USED: u32 = 1 << 0;
const RX_WRAP: u32 = 1 << 1;
const RX_LENGTH: u32 = 0x1fff;
const RX_FIRST: u32 = 1 << 14;
const RX_LAST: u32 = 1 << 15;
const TX_USED: u32 = 1 << 31;
const TX_WRAP: u32 = 1 << 30;
const TX_LAST: u32 = 1 << 15;

// PHY registers (IEEE 802.3 clause 22).
const PHY_BSR: u32 = 1;
const BSR_LINK: u32 = 1 << 2;
