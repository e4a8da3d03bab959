//! Synopsys DesignWare Ethernet MAC 4.x as in the STM32H7, 10/100 Mbit/s over RMII, frames by DMA through descriptor rings.
//!
//! Names and bits are those of the STM32H742/743/753 reference manual (RM0433), chapter 58 ("Ethernet").
//!
//! **Memory.** The MAC's bus does not reach the tightly coupled memory.
//!
//! **Tail pointers.** The engine stops before the descriptor that a tail pointer names, and looks at ownership besides. So of
//! each ring one descriptor is always ours.

use hal::{Losses, Port};

use crate::InitError;
use crate::mmio::Registers;
use crate::phy::{self, Mode};
use crate::ring::{self, BUFFER, Rings, barrier};

/// Receive descriptors and buffers.
const RX: usize = 20;
/// Transmit descriptors and buffers.
const TX: usize = 12;
/// Longest frame sent: 1500 bytes of payload, Ethernet header and two VLAN tags.
const MAX_FRAME: usize = 1522;
const FCS: usize = 4;

/// Rings and buffers of one MAC.
pub type Memory = ring::Memory<4, RX, TX>;

/// One MAC, receiving everything (promiscuous: virtual MACs come and go with VRRP), at the speed that its PHY negotiates.
#[derive(Debug)]
pub struct Dwmac {
    registers: Registers,
    rings: Rings<4, RX, TX>,
    phy: u32,
    /// How the management clock is divided (MACMDIOAR.CR).
    divider: u32,
    mode: Mode,
    next_rx: usize,
    next_tx: usize,
    losses: Losses,
}

impl Dwmac {
    /// Resets the MAC, starts it, and lets its PHY negotiate. `phy` is the PHY's address on the management bus, `clock` the MAC's
    /// bus clock in MHz. Clocks and pins are set up already, and the PHY drives its reference clock.
    ///
    /// # Errors
    /// If the part identifies itself otherwise, does not come out of reset (no reference clock), or its management bus does not
    /// answer.
    ///
    /// # Safety
    /// `base` is the address of such a MAC, mapped as device memory and used by nobody else. `memory` is uncached, its address is
    /// what the DMA engine sees.
    pub unsafe fn new(
        base: usize,
        phy: u32,
        clock: u32,
        memory: &'static mut Memory,
    ) -> Result<Self, InitError> {
        // SAFETY: promised by the caller.
        let registers = unsafe { Registers::new(base) };
        let mut this = Self::stopped(registers, phy, clock, memory);
        let identity = this.registers.read(MACVR);
        if !VERSIONS.contains(&(identity & MACVR_SNPSVER)) {
            return Err(InitError::Identity(identity));
        }
        this.start()?;
        phy::negotiate(|register, value| this.write_phy(register, value))
            .ok_or(InitError::Timeout)?;
        Ok(this)
    }

    fn stopped(registers: Registers, phy: u32, clock: u32, memory: &'static mut Memory) -> Self {
        Self {
            registers,
            rings: Rings::new(memory),
            phy,
            divider: match clock {
                0..35 => 2,
                35..60 => 3,
                60..100 => 0,
                100..150 => 1,
                150..250 => 4,
                _ => 5,
            },
            mode: Mode::FASTEST,
            next_rx: 0,
            next_tx: 0,
            losses: Losses::default(),
        }
    }

    /// Begins anew with empty rings.
    fn start(&mut self) -> Result<(), InitError> {
        let registers = &mut self.registers;
        registers.write(DMAMR, DMAMR_SWR);
        registers
            .wait(DMAMR, WAIT, |value| value & DMAMR_SWR == 0)
            .ok_or(InitError::Timeout)?;
        registers.write(MMC_RX_INTERRUPT_MASK, u32::MAX);
        registers.write(MMC_TX_INTERRUPT_MASK, u32::MAX);
        registers.write(MACPFR, MACPFR_PR);
        registers.modify(MTLRXQOMR, |value| value | MTLRXQOMR_RSF);
        registers.modify(MTLTXQOMR, |value| value | MTLTXQOMR_TSF);
        registers.modify(DMASBMR, |value| value | DMASBMR_AAL | DMASBMR_FB);
        registers.write(DMACCR, 0); // descriptors stand one behind the other
        registers.write(DMACTXCR, BURST);
        registers.write(DMACRXCR, BURST | DMACRXCR_RBSZ);
        for index in 0..RX {
            self.fill_rx_descriptor(index);
        }
        for index in 0..TX {
            for word in 0..4 {
                self.rings.set_tx(index, word, 0);
            }
        }
        (self.next_rx, self.next_tx) = (0, 0);
        let (rx_ring, tx_ring) = (self.rings.rx_descriptor(0), self.rings.tx_descriptor(0));
        let last = self.rings.rx_descriptor(RX - 1);
        let running = self.maccr();
        barrier();
        let registers = &mut self.registers;
        registers.write(DMACRXDLAR, rx_ring);
        registers.write(DMACRXRLR, RX as u32 - 1);
        registers.write(DMACTXDLAR, tx_ring);
        registers.write(DMACTXRLR, TX as u32 - 1);
        registers.write(DMACTXDTPR, tx_ring);
        registers.write(DMACTXCR, BURST | DMACTXCR_ST);
        registers.write(DMACRXCR, BURST | DMACRXCR_RBSZ | DMACRXCR_SR);
        registers.write(MACCR, running);
        registers.write(DMACRXDTPR, last);
        Ok(())
    }

    /// What the MAC runs with: no checksum offload, which would rewrite what we forward; the FCS comes with each frame.
    fn maccr(&self) -> u32 {
        let speed = if self.mode.fast { MACCR_FES } else { 0 };
        let duplex = if self.mode.full { MACCR_DM } else { 0 };
        MACCR_S2KP | speed | duplex | MACCR_TE | MACCR_RE
    }

    /// Lets the MAC fill this descriptor's buffer; it has written over the address of the last.
    fn fill_rx_descriptor(&mut self, index: usize) {
        let buffer = self.rings.rx_buffer(index);
        barrier(); // reads of the buffer are over
        self.rings.set_rx(index, 0, buffer);
        self.rings.set_rx(index, 1, 0);
        self.rings.set_rx(index, 2, 0);
        barrier();
        let given = DES3_OWN | RDES3_IOC | RDES3_BUF1V;
        self.rings.set_rx(index, 3, given);
    }

    /// Gives a descriptor back whose frame was taken, and wakes a receiver that found none.
    fn give_rx_descriptor(&mut self, index: usize) {
        self.fill_rx_descriptor(index);
        barrier();
        let tail = self.rings.rx_descriptor(index);
        self.registers.write(DMACRXDTPR, tail);
    }

    fn rx_status(&self) -> u32 {
        self.rings.rx(self.next_rx, 3)
    }

    fn tx_is_free(&self, index: usize) -> bool {
        self.rings.tx(index, 3) & DES3_OWN == 0
    }

    /// After a bus error both engines stand still until the MAC is reset.
    fn recover(&mut self) {
        if self.registers.read(DMACSR) & DMACSR_FBE != 0 && self.start().is_err() {
            self.losses.receive = self.losses.receive.saturating_add(1); // tried again at the next look
        }
    }

    /// Runs at the speed and duplex that the PHY has found out.
    fn follow(&mut self, mode: Mode) {
        if mode != self.mode {
            self.mode = mode;
            let value = self.maccr();
            self.registers.write(MACCR, value & !(MACCR_TE | MACCR_RE));
            self.registers.write(MACCR, value);
        }
    }

    fn write_phy(&mut self, register: u32, value: u32) -> Option<()> {
        self.wait_for_phy()?;
        self.registers.write(MACMDIODR, value);
        self.manage(register, MDIO_WRITE)
    }

    fn read_phy(&mut self, register: u32) -> Option<u32> {
        self.wait_for_phy()?;
        self.manage(register, MDIO_READ)?;
        Some(self.registers.read(MACMDIODR) & 0xffff)
    }

    fn manage(&mut self, register: u32, operation: u32) -> Option<()> {
        let place = (self.phy << 21) | (register << 16) | (self.divider << 8);
        self.registers
            .write(MACMDIOAR, place | operation | MDIO_BUSY);
        self.wait_for_phy()
    }

    fn wait_for_phy(&mut self) -> Option<()> {
        let idle = |value| value & MDIO_BUSY == 0;
        self.registers.wait(MACMDIOAR, WAIT, idle).map(drop)
    }
}

impl Port for Dwmac {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        loop {
            let status = self.rx_status();
            if status & DES3_OWN != 0 {
                return None;
            }
            barrier(); // the frame is read after the status that says that it is there
            let index = self.next_rx;
            self.next_rx = (index + 1) % RX;
            let len = ((status & RDES3_PL) as usize).saturating_sub(FCS);
            let whole = status & (DES3_FD | DES3_LD | RDES3_CTXT | RDES3_ES) == DES3_FD | DES3_LD;
            let room = buffer.get_mut(start..start + len);
            let taken =
                whole && len > 0 && room.is_some_and(|room| self.rings.take(index, 0, room));
            self.give_rx_descriptor(index);
            if taken {
                return Some(len);
            }
            self.losses.receive = self.losses.receive.saturating_add(1);
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let index = self.next_tx;
        let next = (index + 1) % TX;
        let room = self.tx_is_free(index) && self.tx_is_free(next);
        if !room || frame.is_empty() || frame.len() > MAX_FRAME {
            self.losses.transmit = self.losses.transmit.saturating_add(1);
            return false;
        }
        let buffer = self.rings.tx_buffer(index);
        self.rings.put(index, 0, frame, frame.len());
        self.rings.set_tx(index, 0, buffer);
        self.rings.set_tx(index, 1, 0);
        self.rings.set_tx(index, 2, frame.len() as u32);
        barrier(); // the MAC sees the frame before it sees the descriptor
        // It adds padding and FCS.
        let given = DES3_OWN | DES3_FD | DES3_LD | frame.len() as u32;
        self.rings.set_tx(index, 3, given); // gives both away
        self.next_tx = next;
        barrier();
        let tail = self.rings.tx_descriptor(next);
        self.registers.write(DMACTXDTPR, tail);
        true
    }

    fn link_up(&mut self) -> bool {
        // Cleared by reading: what the FIFO had no room for, and what found no descriptor.
        let missed = self.registers.read(MTLRXQMPOCR);
        let missed = (missed & COUNT) + ((missed >> 16) & COUNT);
        self.losses.receive = self.losses.receive.saturating_add(missed);
        self.recover();
        let link = phy::link(|register| self.read_phy(register));
        if let Some(mode) = link {
            self.follow(mode);
        }
        link.is_some()
    }

    fn arm(&mut self) -> bool {
        self.registers
            .write(DMACSR, DMACSR_RI | DMACSR_RBU | DMACSR_AIS | DMACSR_NIS);
        self.registers.write(DMACIER, DMACIER_RIE | DMACIER_NIE);
        self.rx_status() & DES3_OWN != 0 // one may have come before the old interrupt was cleared
    }

    fn disarm(&mut self) {
        self.registers.write(DMACIER, 0);
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

/// Polls of a register until the part is given up; one management access takes 26 µs at most.
const WAIT: u32 = 100_000;

// MAC registers (RM0433 §58.11.4).
const MACCR: usize = 0x0000;
const MACPFR: usize = 0x0008;
const MACVR: usize = 0x0110;
const MACMDIOAR: usize = 0x0200;
const MACMDIODR: usize = 0x0204;
const MMC_RX_INTERRUPT_MASK: usize = 0x070c;
const MMC_TX_INTERRUPT_MASK: usize = 0x0710;
// MTL registers (§58.11.3).
const MTLTXQOMR: usize = 0x0d00;
const MTLRXQOMR: usize = 0x0d30;
const MTLRXQMPOCR: usize = 0x0d34;
// DMA registers (§58.11.2).
const DMAMR: usize = 0x1000;
const DMASBMR: usize = 0x1004;
const DMACCR: usize = 0x1100;
const DMACTXCR: usize = 0x1104;
const DMACRXCR: usize = 0x1108;
const DMACTXDLAR: usize = 0x1114;
const DMACRXDLAR: usize = 0x111c;
const DMACTXDTPR: usize = 0x1120;
const DMACRXDTPR: usize = 0x1128;
const DMACTXRLR: usize = 0x112c;
const DMACRXRLR: usize = 0x1130;
const DMACIER: usize = 0x1134;
const DMACSR: usize = 0x1160;

const MACVR_SNPSVER: u32 = 0xff;
/// Releases of the core that have these registers and descriptors.
const VERSIONS: core::ops::Range<u32> = 0x40..0x60;
const MACCR_RE: u32 = 1 << 0;
const MACCR_TE: u32 = 1 << 1;
const MACCR_DM: u32 = 1 << 13;
const MACCR_FES: u32 = 1 << 14;
/// Frames of up to 2000 bytes are no giants: two tags fit.
const MACCR_S2KP: u32 = 1 << 22;
const MACPFR_PR: u32 = 1 << 0;
const MDIO_BUSY: u32 = 1 << 0;
const MDIO_WRITE: u32 = 0b01 << 2;
const MDIO_READ: u32 = 0b11 << 2;
const MTLTXQOMR_TSF: u32 = 1 << 1;
const MTLRXQOMR_RSF: u32 = 1 << 5;
const DMAMR_SWR: u32 = 1 << 0;
const DMASBMR_FB: u32 = 1 << 0;
const DMASBMR_AAL: u32 = 1 << 12;
/// 32 beats at once (TXPBL, RXPBL).
const BURST: u32 = 32 << 16;
const DMACTXCR_ST: u32 = 1 << 0;
const DMACRXCR_SR: u32 = 1 << 0;
const DMACRXCR_RBSZ: u32 = (BUFFER as u32) << 1;
const DMACIER_RIE: u32 = 1 << 6;
const DMACIER_NIE: u32 = 1 << 15;
const DMACSR_RI: u32 = 1 << 6;
const DMACSR_RBU: u32 = 1 << 7;
const DMACSR_FBE: u32 = 1 << 12;
const DMACSR_AIS: u32 = 1 << 14;
const DMACSR_NIS: u32 = 1 << 15;
const COUNT: u32 = 0x7ff;

// Descriptors (§58.10).
const DES3_OWN: u32 = 1 << 31;
const DES3_FD: u32 = 1 << 29;
const DES3_LD: u32 = 1 << 28;
const RDES3_CTXT: u32 = 1 << 30;
const RDES3_IOC: u32 = 1 << 30;
const RDES3_BUF1V: u32 = 1 << 24;
/// CRC, dribble, receive, watchdog or overflow error.
const RDES3_ES: u32 = 1 << 15;
const RDES3_PL: u32 = 0x7fff;

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::vec;

    use super::*;

    const WHOLE: u32 = DES3_FD | DES3_LD;

    /// The MAC with plain memory in place of its registers; the tests are its DMA engine.
    fn fake() -> Dwmac {
        let registers = vec![0_u32; 0x1200 / 4].leak();
        let base = registers.as_mut_ptr().expose_provenance();
        // SAFETY: it is memory of ours, as large as the part.
        let registers = unsafe { Registers::new(base) };
        let memory = Box::leak(Box::new(Memory::new()));
        let mut mac = Dwmac::stopped(registers, 0, 200, memory);
        (0..RX).for_each(|index| mac.fill_rx_descriptor(index));
        mac
    }

    /// The engine has received into a descriptor; what is written back ends in the frame's FCS.
    fn came(mac: &mut Dwmac, index: usize, frame: &[u8], status: u32) {
        assert_ne!(mac.rings.rx(index, 3) & DES3_OWN, 0);
        mac.rings.fill(index, frame);
        let len = (frame.len() + FCS) as u32;
        mac.rings.set_rx(index, 3, status | len);
    }

    #[test]
    fn frames_of_all_lengths_come_round_the_ring() {
        let mut mac = fake();
        let mut buffer = [0; 6 + BUFFER];
        for round in 0..3 * RX {
            let index = round % RX;
            let len = [60, 1514, 1518, 1522][round % 4];
            let frame = vec![round as u8; len];
            assert_eq!(mac.receive(&mut buffer, 6), None);
            assert!(mac.arm());
            came(&mut mac, index, &frame, WHOLE);
            assert!(!mac.arm(), "one is waiting");
            assert_eq!(mac.receive(&mut buffer, 6), Some(len));
            assert_eq!(buffer[6..6 + len], frame);
            assert_eq!(
                mac.registers.read(DMACRXDTPR),
                mac.rings.rx_descriptor(index),
                "the engine may use all others"
            );
        }
        assert_eq!(mac.losses(), Losses::default());
    }

    #[test]
    fn what_is_damaged_or_too_long_is_counted_and_the_next_one_comes() {
        let mut mac = fake();
        let mut buffer = [0; 1000];
        came(&mut mac, 0, &[1; 64], WHOLE | RDES3_ES);
        came(&mut mac, 1, &[2; 64], DES3_FD); // goes on elsewhere
        came(&mut mac, 2, &[3; 64], WHOLE | RDES3_CTXT);
        came(&mut mac, 3, &[4; 1001], WHOLE);
        came(&mut mac, 4, &[5; 64], WHOLE);
        assert_eq!(mac.receive(&mut buffer, 0), Some(64));
        assert_eq!(buffer[0], 5);
        assert_eq!(mac.losses().receive, 4);
    }

    #[test]
    fn one_transmit_descriptor_stays_ours() {
        let mut mac = fake();
        let sent = |mac: &Dwmac, index: usize| mac.rings.tx(index, 3);
        for index in 0..TX - 1 {
            assert!(mac.transmit(&vec![7; MAX_FRAME]), "{index}");
            assert_eq!(sent(&mac, index), DES3_OWN | WHOLE | MAX_FRAME as u32);
            assert_eq!(
                mac.registers.read(DMACTXDTPR),
                mac.rings.tx_descriptor(index + 1)
            );
        }
        assert!(!mac.transmit(&[7; 60]), "the ring is full");
        assert!(!mac.transmit(&[7; MAX_FRAME + 1]) && !mac.transmit(&[]));
        assert_eq!(mac.losses().transmit, 3);
        // One has left.
        mac.rings.set_tx(0, 3, WHOLE);
        assert!(mac.transmit(&[8; 60]) && !mac.transmit(&[8; 60]));
        assert_eq!(mac.registers.read(DMACTXDTPR), mac.rings.tx_descriptor(0));
    }
}
