//! WIZnet W5500: 10/100 MAC and PHY behind SPI, used without its TCP/IP: socket 0 carries raw frames (MACRAW).
//!
//! Names are those of the W5500 datasheet, version 1.1.0, chapters 2 to 4.
//!
//! The filter for MAC addresses stays off (Sn_MR.MFEN), or frames to virtual MACs would be lost. All of the part's memory
//! belongs to the one socket: 16 KiB each way.

use embedded_hal::spi::{Operation, SpiDevice};
use hal::{Losses, Port};

use crate::InitError;

/// Longest frame sent: 1500 bytes of payload, Ethernet header and one VLAN tag.
const MAX_FRAME: usize = 1518;
/// Shortest one; what is shorter is padded with zeros.
const MIN_FRAME: usize = 60;

/// One W5500, receiving everything.
#[derive(Debug)]
pub struct W5500<S> {
    spi: S,
    /// Where the next received frame begins, and how many bytes are known to be there.
    rx: u16,
    rx_waiting: u16,
    /// Whether the last frame may still be on its way.
    sending: bool,
    losses: Losses,
}

impl<S: SpiDevice> W5500<S> {
    /// Resets the part and opens its socket. `spi` runs in mode 0 or 3 at up to 33 MHz.
    ///
    /// # Errors
    /// If the part identifies itself otherwise, or does not do what it is told.
    pub fn new(spi: S) -> Result<Self, InitError> {
        let mut this = Self {
            spi,
            rx: 0,
            rx_waiting: 0,
            sending: false,
            losses: Losses::default(),
        };
        let version = this.byte(COMMON, VERSIONR).ok_or(InitError::Timeout)?;
        if version != VERSION {
            return Err(InitError::Identity(version.into()));
        }
        this.open().ok_or(InitError::Timeout)?;
        Ok(this)
    }

    fn open(&mut self) -> Option<()> {
        self.write(COMMON, MR, &[MR_RST])?;
        self.wait(COMMON, MR, |value| value & MR_RST == 0)?;
        for socket in 0..8 {
            let size = [if socket == 0 { 16 } else { 0 }];
            self.write(SOCKET + 4 * socket, SN_RXBUF_SIZE, &size)?;
            self.write(SOCKET + 4 * socket, SN_TXBUF_SIZE, &size)?;
        }
        self.write(SOCKET, SN_MR, &[SN_MR_MACRAW])?;
        self.command(OPEN)?;
        self.wait(SOCKET, SN_SR, |state| state == SOCK_MACRAW)?;
        self.rx = self.word(SN_RX_RD)?;
        (self.rx_waiting, self.sending) = (0, false);
        Some(())
    }

    /// The next frame's length, if one is there. The outer `None` says that the part does not answer or makes no sense.
    fn next(&mut self) -> Option<Option<usize>> {
        if self.rx_waiting == 0 {
            self.rx_waiting = self.steady_word(SN_RX_RSR)?;
        }
        if self.rx_waiting == 0 {
            return Some(None);
        }
        let mut header = [0; HEADER as usize];
        self.read(RX_BUFFER, self.rx, &mut header)?;
        let with_header = u16::from_be_bytes(header);
        let sound = with_header > HEADER && with_header <= self.rx_waiting;
        sound.then(|| Some(usize::from(with_header - HEADER)))
    }

    /// Gives back what a frame took.
    fn skip(&mut self, len: usize) -> Option<()> {
        let taken = HEADER + len as u16; // it was one
        self.rx = self.rx.wrapping_add(taken);
        self.rx_waiting -= taken;
        self.write(SOCKET, SN_RX_RD, &self.rx.to_be_bytes())?;
        self.command(RECV)
    }

    fn take(&mut self, buffer: &mut [u8], start: usize) -> Option<Option<usize>> {
        while let Some(len) = self.next()? {
            let at = self.rx.wrapping_add(HEADER);
            let Some(room) = buffer.get_mut(start..start + len) else {
                self.losses.receive = self.losses.receive.saturating_add(1);
                self.skip(len)?;
                continue;
            };
            self.read(RX_BUFFER, at, room)?;
            self.skip(len)?;
            return Some(Some(len));
        }
        Some(None)
    }

    fn send(&mut self, frame: &[u8]) -> Option<()> {
        if self.sending {
            // One at a time: the part is faster than the wires to it.
            // One that never ends is given up.
            self.sending = false;
            self.wait(SOCKET, SN_IR, |causes| causes & SENT != 0)?;
        }
        self.write(SOCKET, SN_IR, &[SENT])?;
        let at = self.word(SN_TX_WR)?;
        self.write(TX_BUFFER, at, frame)?;
        let padding = [0; MIN_FRAME];
        let padding = padding.get(frame.len()..).unwrap_or_default();
        let behind = at.wrapping_add(frame.len() as u16); // at most MAX_FRAME
        self.write(TX_BUFFER, behind, padding)?;
        let end = behind.wrapping_add(padding.len() as u16);
        self.write(SOCKET, SN_TX_WR, &end.to_be_bytes())?;
        self.command(SEND)?;
        self.sending = true;
        Some(())
    }

    /// After a part that lost its way, everything in it is given up.
    fn recover(&mut self) {
        self.losses.receive = self.losses.receive.saturating_add(1);
        // What fails now is tried again with the next frame.
        self.rx_waiting = 0;
        let _ = self.open();
    }

    fn command(&mut self, command: u8) -> Option<()> {
        self.write(SOCKET, SN_CR, &[command])?;
        self.wait(SOCKET, SN_CR, |value| value == 0)
    }

    fn wait(&mut self, block: u8, register: u16, done: impl Fn(u8) -> bool) -> Option<()> {
        (0..WAIT).find_map(|_| done(self.byte(block, register)?).then_some(()))
    }

    fn byte(&mut self, block: u8, register: u16) -> Option<u8> {
        let mut value = [0];
        self.read(block, register, &mut value)?;
        Some(value[0])
    }

    fn word(&mut self, register: u16) -> Option<u16> {
        let mut value = [0; 2];
        self.read(SOCKET, register, &mut value)?;
        Some(u16::from_be_bytes(value))
    }

    /// A register that the part changes while it is read is read until it is twice the same (§4.2).
    fn steady_word(&mut self, register: u16) -> Option<u16> {
        let mut last = self.word(register)?;
        for _ in 0..WAIT {
            let next = self.word(register)?;
            if next == last {
                return Some(next);
            }
            last = next;
        }
        None
    }

    fn read(&mut self, block: u8, offset: u16, bytes: &mut [u8]) -> Option<()> {
        let [high, low] = offset.to_be_bytes();
        let head = [high, low, block << 3];
        let mut both = [Operation::Write(&head), Operation::Read(bytes)];
        self.spi.transaction(&mut both).ok()
    }

    fn write(&mut self, block: u8, offset: u16, bytes: &[u8]) -> Option<()> {
        let [high, low] = offset.to_be_bytes();
        let head = [high, low, (block << 3) | WRITE];
        let mut both = [Operation::Write(&head), Operation::Write(bytes)];
        self.spi.transaction(&mut both).ok()
    }
}

impl<S: SpiDevice> Port for W5500<S> {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        self.take(buffer, start).unwrap_or_else(|| {
            self.recover();
            None
        })
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let fits = !frame.is_empty() && frame.len() <= MAX_FRAME;
        let sent = fits && self.send(frame).is_some();
        if !sent {
            self.losses.transmit = self.losses.transmit.saturating_add(1);
        }
        sent
    }

    fn link_up(&mut self) -> bool {
        self.byte(COMMON, PHYCFGR)
            .is_some_and(|status| status & PHYCFGR_LNK != 0)
    }

    fn arm(&mut self) -> bool {
        let armed = self
            .write(SOCKET, SN_IR, &[RECEIVED])
            .and_then(|()| self.write(SOCKET, SN_IMR, &[RECEIVED]))
            .and_then(|()| self.write(COMMON, SIMR, &[SOCKET_0]));
        // One may have come before the old interrupt was cleared.
        let waiting = self.rx_waiting != 0 || self.word(SN_RX_RSR).is_none_or(|bytes| bytes != 0);
        armed.is_some() && !waiting
    }

    fn disarm(&mut self) {
        // An interrupt that stays is only one too many.
        let _ = self.write(COMMON, SIMR, &[0]);
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

/// Polls until the part is given up: a frame takes 123 µs at 100 Mbit/s and 1.2 ms at 10, a poll at least 1 µs.
const WAIT: u32 = 5_000;
/// Bytes before each frame in the receive buffer: the length of both.
const HEADER: u16 = 2;

// Blocks (§2.2.2); those of socket N are 4 N further on.
const COMMON: u8 = 0;
const SOCKET: u8 = 1;
const TX_BUFFER: u8 = 2;
const RX_BUFFER: u8 = 3;
const WRITE: u8 = 1 << 2;

// Common registers (§4.1).
const MR: u16 = 0x0000;
const SIMR: u16 = 0x0018;
const PHYCFGR: u16 = 0x002e;
const VERSIONR: u16 = 0x0039;
const MR_RST: u8 = 1 << 7;
const SOCKET_0: u8 = 1 << 0;
const PHYCFGR_LNK: u8 = 1 << 0;
const VERSION: u8 = 4;

// Registers of a socket (§4.2).
const SN_MR: u16 = 0x0000;
const SN_CR: u16 = 0x0001;
const SN_IR: u16 = 0x0002;
const SN_SR: u16 = 0x0003;
const SN_RXBUF_SIZE: u16 = 0x001e;
const SN_TXBUF_SIZE: u16 = 0x001f;
const SN_TX_WR: u16 = 0x0024;
const SN_RX_RSR: u16 = 0x0026;
const SN_RX_RD: u16 = 0x0028;
const SN_IMR: u16 = 0x002c;
const SN_MR_MACRAW: u8 = 4;
const SOCK_MACRAW: u8 = 0x42;
const OPEN: u8 = 0x01;
const SEND: u8 = 0x20;
const RECV: u8 = 0x40;
const RECEIVED: u8 = 1 << 2;
const SENT: u8 = 1 << 4;

#[cfg(test)]
mod tests {
    extern crate std;
    use std::convert::Infallible;
    use std::vec;
    use std::vec::Vec;

    use embedded_hal::spi::ErrorType;

    use super::*;

    const MEMORY: usize = 0x4000;
    const SN_TX_RD: u16 = 0x0022;
    const SN_RX_WR: u16 = 0x002a;
    const MFEN: u8 = 1 << 7;

    /// A fake W5500: its registers, its memory as rings, and what left it.
    struct FakeChip {
        common: [u8; 0x40],
        sockets: [[u8; 0x30]; 8],
        tx: Vec<u8>,
        rx: Vec<u8>,
        sent: Vec<Vec<u8>>,
        /// The frame before stays on its way until so many polls are over.
        slow: u32,
    }

    impl FakeChip {
        fn new() -> Self {
            let mut chip = Self {
                common: [0; 0x40],
                sockets: [[0; 0x30]; 8],
                tx: vec![0; MEMORY],
                rx: vec![0; MEMORY],
                sent: Vec::new(),
                slow: 0,
            };
            chip.common[usize::from(VERSIONR)] = VERSION;
            chip.sockets[0][usize::from(SN_MR)] = MFEN;
            chip
        }

        fn get(&self, register: u16) -> u16 {
            let at = usize::from(register);
            u16::from_be_bytes([self.sockets[0][at], self.sockets[0][at + 1]])
        }

        fn set(&mut self, register: u16, value: u16) {
            let at = usize::from(register);
            self.sockets[0][at..at + 2].copy_from_slice(&value.to_be_bytes());
        }

        /// A frame comes off the cable, to another address than the chip's own.
        fn frame(&mut self, frame: &[u8]) {
            let [mode, state] = [SN_MR, SN_SR].map(|at| self.sockets[0][usize::from(at)]);
            let whole = frame.len() + usize::from(HEADER);
            let used = usize::from(self.get(SN_RX_WR).wrapping_sub(self.get(SN_RX_RD)));
            if state != SOCK_MACRAW || mode & MFEN != 0 || used + whole > MEMORY {
                return;
            }
            let start = self.get(SN_RX_WR);
            let head = (whole as u16).to_be_bytes();
            for (index, byte) in head.iter().chain(frame).enumerate() {
                self.rx[(usize::from(start) + index) % MEMORY] = *byte;
            }
            self.set(SN_RX_WR, start.wrapping_add(whole as u16));
            self.set(SN_RX_RSR, (used + whole) as u16);
            self.sockets[0][usize::from(SN_IR)] |= RECEIVED;
        }

        fn command(&mut self, command: u8) {
            match command {
                OPEN => self.sockets[0][usize::from(SN_SR)] = SOCK_MACRAW,
                SEND => {
                    let (from, to) = (self.get(SN_TX_RD), self.get(SN_TX_WR));
                    let length = usize::from(to.wrapping_sub(from));
                    let byte = |index| self.tx[(usize::from(from) + index) % MEMORY];
                    let frame = (0..length).map(byte).collect();
                    self.sent.push(frame);
                    self.set(SN_TX_RD, to);
                    self.sockets[0][usize::from(SN_IR)] |= SENT;
                }
                RECV => {
                    let left = self.get(SN_RX_WR).wrapping_sub(self.get(SN_RX_RD));
                    self.set(SN_RX_RSR, left);
                }
                other => panic!("command {other:#x}"),
            }
        }

        fn read(&mut self, block: u8, at: usize) -> u8 {
            match (block, at as u16) {
                (COMMON, _) => self.common[at],
                (SOCKET, SN_IR) if self.slow > 0 => {
                    self.slow -= 1;
                    self.sockets[0][at] & !SENT
                }
                (RX_BUFFER, _) => self.rx[at % MEMORY],
                (socket, _) if socket % 4 == SOCKET => self.sockets[usize::from(socket / 4)][at],
                other => panic!("read of {other:?}"),
            }
        }

        fn write(&mut self, block: u8, at: usize, byte: u8) {
            match (block, at as u16) {
                (COMMON, MR) => self.common[at] = 0, // the reset is over at once
                (COMMON, _) => self.common[at] = byte,
                (SOCKET, SN_CR) => self.command(byte),
                (SOCKET, SN_IR) => self.sockets[0][at] &= !byte,
                (TX_BUFFER, _) => self.tx[at % MEMORY] = byte,
                (socket, _) if socket % 4 == SOCKET => {
                    self.sockets[usize::from(socket / 4)][at] = byte;
                }
                other => panic!("write of {other:?}"),
            }
        }
    }

    impl ErrorType for FakeChip {
        type Error = Infallible;
    }

    impl SpiDevice for FakeChip {
        fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
            let [Operation::Write(head), body] = operations else {
                panic!("a head and a body")
            };
            let [high, low, control] = **head else {
                panic!("a head of three bytes")
            };
            let start = usize::from(u16::from_be_bytes([high, low]));
            let block = control >> 3;
            match body {
                Operation::Read(bytes) if control & WRITE == 0 => {
                    for (index, byte) in bytes.iter_mut().enumerate() {
                        *byte = self.read(block, start + index);
                    }
                }
                Operation::Write(bytes) if control & WRITE != 0 => {
                    for (index, byte) in bytes.iter().enumerate() {
                        self.write(block, start + index, *byte);
                    }
                }
                other => panic!("{other:?}"),
            }
            Ok(())
        }
    }

    #[test]
    fn frames_to_any_address_come_round_the_ring() {
        let mut port = W5500::new(FakeChip::new()).expect("it is one");
        let mut buffer = [0; 6 + MAX_FRAME];
        assert_eq!(port.receive(&mut buffer, 6), None);
        // Some ten times round the memory, and once round the pointers.
        for number in 0..100_u8 {
            let frames = [60, 1514, 1518].map(|len| vec![number; len]);
            assert!(port.arm());
            frames.iter().for_each(|frame| port.spi.frame(frame));
            assert!(!port.arm(), "they wait");
            for frame in frames {
                assert_eq!(port.receive(&mut buffer, 6), Some(frame.len()));
                assert_eq!(buffer[6..6 + frame.len()], frame);
            }
            assert_eq!(port.receive(&mut buffer, 6), None);
        }
        assert_eq!(port.losses(), Losses::default());
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_next_one_comes() {
        let mut port = W5500::new(FakeChip::new()).expect("it is one");
        let mut buffer = [0; 100];
        port.spi.frame(&[1; 101]);
        port.spi.frame(&[2; 99]);
        assert_eq!(port.receive(&mut buffer, 0), Some(99));
        assert_eq!(buffer[0], 2);
        assert_eq!(port.losses().receive, 1);
    }

    #[test]
    fn a_length_that_cannot_be_begins_anew() {
        let mut port = W5500::new(FakeChip::new()).expect("it is one");
        let mut buffer = [0; MAX_FRAME];
        port.spi.frame(&[1; 60]);
        port.spi.rx[0] = 0xff;
        assert_eq!(port.receive(&mut buffer, 0), None);
        assert_eq!(port.losses().receive, 1);
        assert_eq!(port.spi.sockets[0][usize::from(SN_SR)], SOCK_MACRAW);
    }

    #[test]
    fn frames_leave_one_by_one_and_short_ones_are_padded() {
        let mut port = W5500::new(FakeChip::new()).expect("it is one");
        for number in 0..100_u8 {
            port.spi.slow = u32::from(number);
            assert!(port.transmit(&[number; 42]));
            assert!(port.transmit(&vec![number; MAX_FRAME]));
            let sent = core::mem::take(&mut port.spi.sent);
            assert_eq!(sent.len(), 2);
            assert_eq!(sent[0], [vec![number; 42], vec![0; 18]].concat());
            assert_eq!(sent[1], vec![number; MAX_FRAME]);
        }
        assert!(!port.transmit(&[0; MAX_FRAME + 1]) && !port.transmit(&[]));
        // A cable on which nothing leaves: the frame is lost, the next one is tried again.
        port.spi.slow = WAIT;
        assert!(!port.transmit(&[0; 60]));
        assert!(port.transmit(&[0; 60]));
        assert_eq!(port.losses().transmit, 3);
    }

    #[test]
    fn the_link_is_the_phys_and_another_part_is_refused() {
        let mut port = W5500::new(FakeChip::new()).expect("it is one");
        assert!(!port.link_up());
        port.spi.common[usize::from(PHYCFGR)] = PHYCFGR_LNK;
        assert!(port.link_up());
        let mut other = FakeChip::new();
        other.common[usize::from(VERSIONR)] = 0;
        assert!(matches!(W5500::new(other), Err(InitError::Identity(0))));
    }
}
