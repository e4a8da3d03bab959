//! NXP's 10/100 Ethernet MAC ("ENET", once "FEC") as in the i.MX RT1060 and the i.MX 6UL, over RMII, frames by DMA through rings of
//! legacy descriptors.
//!
//! Names and bits are those of the i.MX RT1060 reference manual (IMXRT1060RM), "10/100-Mbps Ethernet MAC (ENET)"; its
//! chapters are named here by their titles, as their numbers differ between revisions.
//!
//! **Standing engines.** Each engine stops at a descriptor that is not its own, until RDAR or TDAR is written. A write that comes
//! while it stops is lost now and then (erratum ERR006358), so the driver looks again: after each frame sent, and at each look at
//! the link.

use hal::{Losses, Port};

use crate::InitError;
use crate::mmio::Registers;
use crate::phy::{self, Mode};
use crate::ring::{self, BUFFER, MIN_FRAME, Rings, barrier};

/// Receive descriptors and buffers.
const RX: usize = 20;
/// Transmit descriptors and buffers.
const TX: usize = 12;
/// Longest frame sent: 1500 bytes of payload, Ethernet header and two VLAN tags.
const MAX_FRAME: usize = 1522;
const FCS: usize = 4;

/// Rings and buffers of one MAC.
pub type Memory = ring::Memory<2, RX, TX>;

/// One MAC, receiving everything (promiscuous: virtual MACs come and go with VRRP), at the speed that its PHY negotiates.
#[derive(Debug)]
pub struct Enet {
    registers: Registers,
    rings: Rings<2, RX, TX>,
    phy: u32,
    /// The management clock (MSCR).
    management: u32,
    mode: Mode,
    next_rx: usize,
    next_tx: usize,
    /// IEEE_R_MACERR at the last look.
    overflows: u32,
    losses: Losses,
}

impl Enet {
    /// Resets the MAC, starts it, and lets its PHY negotiate. `phy` is the PHY's address on the management bus, `clock` the MAC's
    /// bus clock in MHz. Clocks and pins are set up already.
    ///
    /// # Errors
    /// If what is there has not the registers of such a MAC after a reset, or its management bus does not answer.
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
        this.reset()?;
        let found = this.registers.read(RCR);
        if found != RCR_AFTER_RESET {
            return Err(InitError::Identity(found));
        }
        this.start()?;
        this.negotiate()?;
        Ok(this)
    }

    /// Sets bits in a register of the PHY that only its vendor knows, and lets it negotiate anew.
    ///
    /// # Errors
    /// If the management bus does not answer.
    pub fn set_in_phy(&mut self, register: u32, bits: u32) -> Result<(), InitError> {
        let before = self.read_phy(register).ok_or(InitError::Timeout)?;
        self.write_phy(register, before | bits)
            .ok_or(InitError::Timeout)?;
        self.negotiate()
    }

    fn negotiate(&mut self) -> Result<(), InitError> {
        phy::negotiate(|register, value| self.write_phy(register, value)).ok_or(InitError::Timeout)
    }

    fn stopped(registers: Registers, phy: u32, clock: u32, memory: &'static mut Memory) -> Self {
        // At most 2.5 MHz, and data held for 10 ns.
        let speed = clock.div_ceil(5).clamp(1, 64) - 1;
        let hold = clock.div_ceil(100).clamp(1, 8) - 1;
        Self {
            registers,
            rings: Rings::new(memory),
            phy,
            management: (hold << 8) | (speed << 1),
            mode: Mode::FASTEST,
            next_rx: 0,
            next_tx: 0,
            overflows: 0,
            losses: Losses::default(),
        }
    }

    fn reset(&mut self) -> Result<(), InitError> {
        self.registers.write(ECR, ECR_RESET);
        self.registers
            .wait(ECR, WAIT, |value| value & ECR_RESET == 0)
            .map(drop)
            .ok_or(InitError::Timeout)
    }

    /// Begins anew with empty rings.
    fn start(&mut self) -> Result<(), InitError> {
        self.reset()?;
        self.run();
        Ok(())
    }

    fn run(&mut self) {
        for index in 0..RX {
            self.fill_rx_descriptor(index);
        }
        for index in 0..TX {
            let buffer = self.rings.tx_buffer(index);
            self.rings.set_tx(index, 0, wrap(index, TX));
            self.rings.set_tx(index, 1, buffer);
        }
        (self.next_rx, self.next_tx) = (0, 0);
        self.overflows = self.registers.read(IEEE_R_MACERR) & COUNT; // a reset need not clear it
        let (rx_ring, tx_ring) = (self.rings.rx_descriptor(0), self.rings.tx_descriptor(0));
        let (receive, transmit) = (self.rcr(), self.tcr());
        barrier();
        let registers = &mut self.registers;
        registers.write(EIMR, 0);
        registers.write(EIR, u32::MAX);
        registers.write(MSCR, self.management);
        registers.write(MIBC, 0);
        registers.write(RCR, receive);
        registers.write(TCR, transmit);
        // What the group and individual hash say does not matter: RCR[PROM].
        registers.write(TFWR, TFWR_STRFWD);
        // No accelerator: checksums stay what they are, and whose are wrong is not dropped here.
        registers.write(RACC, 0);
        registers.write(TACC, 0);
        registers.write(RDSR, rx_ring);
        registers.write(TDSR, tx_ring);
        registers.write(MRBR, BUFFER as u32);
        registers.write(ECR, ECR_DBSWP | ECR_ETHEREN);
        registers.write(RDAR, ACTIVE);
    }

    /// Everything is received, with its FCS and its padding; a frame that fills a buffer is the longest.
    fn rcr(&self) -> u32 {
        let slow = if self.mode.fast { 0 } else { RCR_RMII_10T };
        let half = if self.mode.full { 0 } else { RCR_DRT };
        ((BUFFER as u32) << 16) | RCR_RMII_MODE | RCR_PROM | RCR_MII_MODE | slow | half
    }

    fn tcr(&self) -> u32 {
        if self.mode.full { TCR_FDEN } else { 0 }
    }

    /// Lets the MAC fill this descriptor's buffer.
    fn fill_rx_descriptor(&mut self, index: usize) {
        let buffer = self.rings.rx_buffer(index);
        barrier(); // reads of the buffer are over
        self.rings.set_rx(index, 1, buffer);
        barrier();
        self.rings.set_rx(index, 0, RX_EMPTY | wrap(index, RX));
    }

    /// Gives a descriptor back whose frame was taken, and wakes a receiver that found none.
    fn give_rx_descriptor(&mut self, index: usize) {
        self.fill_rx_descriptor(index);
        barrier();
        self.registers.write(RDAR, ACTIVE);
    }

    fn rx_status(&self) -> u32 {
        self.rings.rx(self.next_rx, 0)
    }

    fn tx_is_free(&self, index: usize) -> bool {
        self.rings.tx(index, 0) & TX_READY == 0
    }

    /// Wakes a transmitter that stands although the frame given to it last has not left.
    fn wake_transmitter(&mut self) {
        let last = (self.next_tx + TX - 1) % TX;
        if self.registers.read(TDAR) & ACTIVE == 0 && !self.tx_is_free(last) {
            self.registers.write(TDAR, ACTIVE);
        }
    }

    /// A bus error switches the MAC off.
    fn recover(&mut self) {
        let failed = self.registers.read(EIR) & EIR_EBERR != 0;
        let off = self.registers.read(ECR) & ECR_ETHEREN == 0;
        if (failed || off) && self.start().is_err() {
            self.losses.receive = self.losses.receive.saturating_add(1); // tried again at the next look
        }
    }

    /// Runs at the speed and duplex that the PHY has found out; they are taken while the MAC is off, which empties its rings.
    fn follow(&mut self, mode: Mode) {
        if mode != self.mode {
            let before = core::mem::replace(&mut self.mode, mode);
            if self.start().is_err() {
                self.mode = before; // tried again at the next look
            }
        }
    }

    /// Frames that the FIFO had no room for.
    fn count_overflows(&mut self) {
        let overflows = self.registers.read(IEEE_R_MACERR) & COUNT;
        let new = overflows.wrapping_sub(self.overflows) & COUNT;
        self.overflows = overflows;
        self.losses.receive = self.losses.receive.saturating_add(new);
    }

    fn write_phy(&mut self, register: u32, value: u32) -> Option<()> {
        self.manage(register, MMFR_WRITE | value)
    }

    fn read_phy(&mut self, register: u32) -> Option<u32> {
        self.manage(register, MMFR_READ)?;
        Some(self.registers.read(MMFR) & 0xffff)
    }

    fn manage(&mut self, register: u32, operation: u32) -> Option<()> {
        self.registers.write(EIR, EIR_MII);
        self.registers.write(
            MMFR,
            MMFR_FRAME | (self.phy << 23) | (register << 18) | operation,
        );
        let done = |value| value & EIR_MII != 0;
        self.registers.wait(EIR, WAIT, done).map(drop)
    }
}

impl Port for Enet {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        loop {
            let status = self.rx_status();
            if status & RX_EMPTY != 0 {
                return None;
            }
            barrier(); // the frame is read after the status that says that it is there
            let index = self.next_rx;
            self.next_rx = (index + 1) % RX;
            let with_fcs = (status & LENGTH) as usize;
            let len = with_fcs.saturating_sub(FCS);
            // A frame that is too long for one buffer ends in a later one, with the length of all of it.
            let whole = status & (RX_LAST | RX_ERRORS) == RX_LAST && with_fcs <= BUFFER;
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
        if !self.tx_is_free(index) || frame.is_empty() || frame.len() > MAX_FRAME {
            self.losses.transmit = self.losses.transmit.saturating_add(1);
            return false;
        }
        let len = frame.len().max(MIN_FRAME);
        self.rings.put(index, 0, frame, len);
        barrier(); // the MAC sees the frame before it sees the descriptor
        let status = TX_READY | TX_LAST | TX_FCS | wrap(index, TX);
        self.rings.set_tx(index, 0, status | len as u32); // gives both away
        self.next_tx = (index + 1) % TX;
        barrier();
        self.registers.write(TDAR, ACTIVE);
        self.wake_transmitter();
        true
    }

    fn link_up(&mut self) -> bool {
        self.count_overflows();
        self.recover();
        let link = phy::link(|register| self.read_phy(register));
        if let Some(mode) = link {
            self.follow(mode);
        }
        self.registers.write(RDAR, ACTIVE);
        self.wake_transmitter();
        link.is_some()
    }

    fn arm(&mut self) -> bool {
        self.registers.write(EIR, EIR_RXF | EIR_RXB);
        self.registers.write(EIMR, EIR_RXF);
        self.rx_status() & RX_EMPTY != 0 // one may have come before the old interrupt was cleared
    }

    fn disarm(&mut self) {
        self.registers.write(EIMR, 0);
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

/// The last descriptor of a ring says so.
fn wrap(index: usize, ring: usize) -> u32 {
    if index == ring - 1 { WRAP } else { 0 }
}

/// Polls of a register until the part is given up; one management access takes 26 µs at most.
const WAIT: u32 = 100_000;

// Registers ("ENET register descriptions").
const EIR: usize = 0x004;
const EIMR: usize = 0x008;
const RDAR: usize = 0x010;
const TDAR: usize = 0x014;
const ECR: usize = 0x024;
const MMFR: usize = 0x040;
const MSCR: usize = 0x044;
const MIBC: usize = 0x064;
const RCR: usize = 0x084;
const TCR: usize = 0x0c4;
const TFWR: usize = 0x144;
const RDSR: usize = 0x180;
const TDSR: usize = 0x184;
const MRBR: usize = 0x188;
const TACC: usize = 0x1c0;
const RACC: usize = 0x1c4;
const IEEE_R_MACERR: usize = 0x2d8;

const EIR_RXF: u32 = 1 << 25;
const EIR_RXB: u32 = 1 << 24;
const EIR_MII: u32 = 1 << 23;
const EIR_EBERR: u32 = 1 << 22;
/// RDAR and TDAR: the engine has descriptors to look at.
const ACTIVE: u32 = 1 << 24;
const ECR_RESET: u32 = 1 << 0;
const ECR_ETHEREN: u32 = 1 << 1;
/// Descriptors are little-endian.
const ECR_DBSWP: u32 = 1 << 8;
const MMFR_FRAME: u32 = (0b01 << 30) | (0b10 << 16);
const MMFR_WRITE: u32 = 0b01 << 28;
const MMFR_READ: u32 = 0b10 << 28;
const RCR_AFTER_RESET: u32 = 0x05ee_0001;
/// Half duplex: what is sent is not received.
const RCR_DRT: u32 = 1 << 1;
const RCR_MII_MODE: u32 = 1 << 2;
const RCR_PROM: u32 = 1 << 3;
const RCR_RMII_MODE: u32 = 1 << 8;
const RCR_RMII_10T: u32 = 1 << 9;
const TCR_FDEN: u32 = 1 << 2;
/// A frame is sent when all of it is there.
const TFWR_STRFWD: u32 = 1 << 8;
const COUNT: u32 = 0xffff;

// Legacy descriptors ("Legacy buffer descriptors"): status above, length below.
const WRAP: u32 = 1 << 29;
const LENGTH: u32 = 0xffff;
const RX_EMPTY: u32 = 1 << 31;
const RX_LAST: u32 = 1 << 27;
/// Longer than allowed, no whole number of bytes, CRC wrong, overrun, truncated.
const RX_ERRORS: u32 = 0b11_0111 << 16;
const TX_READY: u32 = 1 << 31;
const TX_LAST: u32 = 1 << 27;
/// The MAC appends it.
const TX_FCS: u32 = 1 << 26;

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::vec;

    use super::*;

    /// The MAC with plain memory in place of its registers; the tests are its DMA engine.
    fn fake() -> Enet {
        let registers = vec![0_u32; 0x400 / 4].leak();
        let base = registers.as_mut_ptr().expose_provenance();
        // SAFETY: it is memory of ours, as large as the part.
        let registers = unsafe { Registers::new(base) };
        let memory = Box::leak(Box::new(Memory::new()));
        let mut mac = Enet::stopped(registers, 0, 132, memory);
        mac.run();
        mac
    }

    /// The engine has received into a descriptor; what is written back counts the frame's FCS.
    fn came(mac: &mut Enet, index: usize, frame: &[u8], status: u32) {
        let given = mac.rings.rx(index, 0);
        assert_eq!(given, RX_EMPTY | wrap(index, RX));
        mac.rings.fill(index, frame);
        let len = (frame.len() + FCS) as u32;
        mac.rings.set_rx(index, 0, given & WRAP | status | len);
    }

    /// The engine has sent what is in a descriptor: its status and frame.
    fn left(mac: &mut Enet, index: usize) -> (u32, &[u8]) {
        let given = mac.rings.tx(index, 0);
        assert_ne!(given & TX_READY, 0, "{index}");
        mac.rings.set_tx(index, 0, given & !TX_READY);
        let len = (given & LENGTH) as usize;
        (given & !LENGTH, mac.rings.sent(index, len))
    }

    #[test]
    fn it_runs_promiscuous_and_touches_no_checksum() {
        let mac = fake();
        let read = |register| mac.registers.read(register);
        assert_eq!(read(RCR), 0x0600_010c);
        assert_eq!(read(TCR), TCR_FDEN);
        assert_eq!((read(RACC), read(TACC)), (0, 0));
        assert_eq!(read(MRBR), 1536);
        assert_eq!(read(ECR), ECR_DBSWP | ECR_ETHEREN);
        assert_eq!(read(RDAR), ACTIVE);
        // 132 MHz / 54 is below 2.5 MHz; two cycles are 15 ns.
        assert_eq!(read(MSCR), (1 << 8) | (26 << 1));
        assert_eq!(mac.rings.rx_buffer(1) % 64, 0);
        assert_eq!(mac.rings.rx_descriptor(0) % 64, 0);
        assert_eq!(mac.rings.tx_descriptor(0) % 8, 0);
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
            came(&mut mac, index, &frame, RX_LAST);
            assert!(!mac.arm(), "one is waiting");
            mac.registers.write(RDAR, 0);
            assert_eq!(mac.receive(&mut buffer, 6), Some(len));
            assert_eq!(buffer[6..6 + len], frame);
            assert_eq!(mac.registers.read(RDAR), ACTIVE, "the engine may go on");
        }
        assert_eq!(mac.losses(), Losses::default());
    }

    #[test]
    fn what_is_damaged_or_too_long_is_counted_and_the_next_one_comes() {
        let mut mac = fake();
        let mut buffer = [0; 1540];
        let errors = [0, 1, 2, 4, 5].map(|bit| 1 << (16 + bit));
        for (index, error) in errors.into_iter().enumerate() {
            came(&mut mac, index, &[1; 64], RX_LAST | error);
        }
        came(&mut mac, 5, &[2; BUFFER - FCS], 0); // goes on elsewhere,
        came(&mut mac, 6, &[2; 1533], RX_LAST); // and ends here
        came(&mut mac, 7, &[], RX_LAST);
        came(&mut mac, 8, &[3; 64], RX_LAST | (0b1_1100 << 20)); // reserved bits, broadcast, multicast: no errors
        came(&mut mac, 9, &[4; 64], RX_LAST);
        assert_eq!(mac.receive(&mut buffer, 0), Some(64));
        assert_eq!(buffer[0], 3);
        assert_eq!(mac.losses().receive, 8);
        assert_eq!(mac.receive(&mut buffer[..63], 0), None, "no room for it");
        assert_eq!(mac.losses().receive, 9);
    }

    #[test]
    fn what_is_sent_has_its_length_or_is_padded_with_zeros() {
        let mut mac = fake();
        let mut index = 0;
        for len in [MAX_FRAME, 14, 59, 60, 61, 1514, 1518] {
            for round in 1..=TX as u8 {
                mac.registers.write(TDAR, 0);
                let frame = vec![round; len];
                assert!(mac.transmit(&frame));
                assert_eq!(mac.registers.read(TDAR), ACTIVE);
                let (status, sent) = left(&mut mac, index);
                assert_eq!(status, TX_READY | TX_LAST | TX_FCS | wrap(index, TX));
                assert_eq!(sent[..len], frame);
                assert_eq!(sent.len(), len.max(60));
                assert!(sent[len..].iter().all(|byte| *byte == 0), "stale padding");
                index = (index + 1) % TX;
            }
        }
        assert_eq!(mac.losses(), Losses::default());
    }

    #[test]
    fn a_full_ring_and_odd_lengths_are_refused_and_counted() {
        let mut mac = fake();
        for _ in 0..TX {
            assert!(mac.transmit(&[7; 60]));
        }
        assert!(!mac.transmit(&[7; 60]), "the ring is full");
        left(&mut mac, 0);
        assert!(!mac.transmit(&[7; MAX_FRAME + 1]) && !mac.transmit(&[]));
        assert_eq!(mac.losses().transmit, 3);
        assert!(mac.transmit(&[8; 60]) && !mac.transmit(&[8; 60]));
    }

    #[test]
    fn a_lost_wake_up_is_made_good() {
        let mut mac = fake();
        assert!(mac.transmit(&[7; 60]));
        mac.registers.write(TDAR, 0); // it stands, and the frame is still there
        mac.wake_transmitter();
        assert_eq!(mac.registers.read(TDAR), ACTIVE);
        mac.registers.write(TDAR, 0);
        left(&mut mac, 0);
        mac.wake_transmitter();
        assert_eq!(mac.registers.read(TDAR), 0, "nothing is left to send");
    }

    #[test]
    fn overflows_are_counted_once_over_the_wrap() {
        let mut mac = fake();
        for (reads, total) in [(0xfffe, 0xfffe), (0xfffe, 0xfffe), (3, 0x1_0003)] {
            mac.registers.write(IEEE_R_MACERR, reads);
            mac.count_overflows();
            assert_eq!(mac.losses().receive, total);
        }
    }

    #[test]
    fn management_frames_are_those_of_clause_22() {
        let mut mac = fake();
        mac.phy = 2;
        // Start, write, PHY 2, register 31, turnaround.
        assert!(mac.write_phy(0x1f, 0x8190).is_some());
        assert_eq!(mac.registers.read(MMFR), 0x517e_8190);
        // Start, read, PHY 2, register 4, turnaround.
        assert_eq!(mac.read_phy(4), Some(0));
        assert_eq!(mac.registers.read(MMFR), 0x6112_0000);
    }

    #[test]
    fn a_slow_partner_is_followed() {
        let mut mac = fake();
        mac.mode = Mode {
            fast: false,
            full: false,
        };
        mac.run();
        assert_eq!(mac.registers.read(RCR), 0x0600_030e);
        assert_eq!(mac.registers.read(TCR), 0);
    }
}
