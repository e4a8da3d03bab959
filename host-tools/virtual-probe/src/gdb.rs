//! A client of QEMU's gdbstub: the emulated core's memory and registers. Any packet stops a machine that runs, so that each access
//! to one stops it, looks, and lets it go on.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;

/// Why the emulated core did not do as told.
#[derive(Debug, Error)]
pub enum StubError {
    /// The emulator is gone, or hangs.
    #[error("the emulator does not answer: {0}")]
    Gone(#[from] io::Error),
    /// Nothing is at this address, or it cannot be had.
    #[error("the emulator refuses {request}: {answer}")]
    Refused {
        /// What was asked.
        request: String,
        /// What it said.
        answer: String,
    },
}

/// The emulated core, as much of it as a debugger sees through the stub.
#[derive(Debug)]
pub struct Stub {
    stream: UnixStream,
    received: VecDeque<u8>,
    running: bool,
    /// It stopped at a breakpoint, and nobody has asked yet.
    hit: bool,
    breakpoints: Vec<u32>,
    /// How long the stream waits, as it was told last.
    patience: Duration,
}

/// Numbers of registers in the stub's description of a Cortex-M.
pub mod register {
    /// Stack pointer.
    pub const SP: u32 = 13;
    /// Return address.
    pub const LR: u32 = 14;
    /// Program counter.
    pub const PC: u32 = 15;
    /// Flags.
    pub const XPSR: u32 = 25;
}

/// The longest piece of memory in one packet: QEMU's buffer has 4 KiB, in hexadecimal digits.
const LONGEST: usize = 1024;
/// A machine that is as loaded as the one that runs our tests answers within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stopped at a breakpoint, not by us.
const TRAP: &str = "05";

impl Stub {
    /// Waits for the emulator's socket, while the emulator lives, and stops at its side.
    ///
    /// # Errors
    /// If there is no stub within a minute.
    pub fn connect(socket: &Path, mut lives: impl FnMut() -> bool) -> Result<Self, StubError> {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if begun.elapsed() > PATIENCE || !lives() => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut stub = Self {
            stream,
            received: VecDeque::new(),
            running: false,
            hit: false,
            breakpoints: Vec::new(),
            patience: Duration::ZERO,
        };
        stub.stream.write_all(b"+")?;
        stub.ask("QStartNoAckMode")?;
        stub.stream.write_all(b"+")?;
        // QEMU answers questions about single registers only to those who have read how they are called.
        stub.ask("qXfer:features:read:target.xml:0,ffb")?;
        stub.ask("?")?;
        Ok(stub)
    }

    /// Whether the core runs; finds out whether it has stopped by itself.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn runs(&mut self) -> Result<bool, StubError> {
        if self.running {
            self.fill(Duration::from_micros(50))?;
            while let Some(packet) = self.packet() {
                self.note(&packet);
            }
        }
        Ok(self.running)
    }

    /// Whether it has stopped at a breakpoint since the last call.
    pub fn take_hit(&mut self) -> bool {
        std::mem::take(&mut self.hit)
    }

    /// Lets the core run.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn resume(&mut self) -> Result<(), StubError> {
        self.send("c")?;
        self.running = true;
        Ok(())
    }

    /// Stops it.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn halt(&mut self) -> Result<(), StubError> {
        if self.runs()? {
            self.stream.write_all(&[3])?;
            self.wait_for_stop()?;
        }
        Ok(())
    }

    /// Executes one instruction.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn step(&mut self) -> Result<(), StubError> {
        self.send("s")?;
        self.running = true;
        self.wait_for_stop()?;
        self.hit = false;
        Ok(())
    }

    /// Resets the machine; the core stands at its first instruction.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn reset(&mut self) -> Result<(), StubError> {
        self.halt()?;
        for address in std::mem::take(&mut self.breakpoints) {
            self.ask(&format!("z1,{address:x},2"))?;
        }
        let command = hex(b"system_reset");
        self.send(&format!("qRcmd,{command}"))?;
        loop {
            let answer = self.next_packet()?;
            match answer.as_str() {
                "OK" => break,
                _ if answer.starts_with('O') => {} // text of the command
                _ => return Err(refused("system_reset", answer)),
            }
        }
        // It is done by the emulator's main loop, in which this question waits its turn.
        self.ask("?")?;
        self.hit = false;
        Ok(())
    }

    /// Reads memory.
    ///
    /// # Errors
    /// If there is none, or the emulator is gone.
    pub fn read(&mut self, address: u32, length: usize) -> Result<Vec<u8>, StubError> {
        self.stopped(|stub| {
            let mut bytes = Vec::with_capacity(length);
            while bytes.len() < length {
                let at = address.wrapping_add(bytes.len() as u32);
                let request = format!("m{at:x},{:x}", (length - bytes.len()).min(LONGEST));
                let answer = stub.ask(&request)?;
                let piece = unhex(&answer).filter(|piece| !piece.is_empty());
                bytes.extend(piece.ok_or_else(|| refused(&request, answer))?);
            }
            Ok(bytes)
        })
    }

    /// Writes memory.
    ///
    /// # Errors
    /// If there is none, or the emulator is gone.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), StubError> {
        self.stopped(|stub| {
            for (index, piece) in bytes.chunks(LONGEST).enumerate() {
                let at = address.wrapping_add((index * LONGEST) as u32);
                stub.order(&format!("M{at:x},{:x}:{}", piece.len(), hex(piece)))?;
            }
            Ok(())
        })
    }

    /// Reads a register of the core, which must stand.
    ///
    /// # Errors
    /// If there is no such register, or the emulator is gone.
    pub fn register(&mut self, number: u32) -> Result<u32, StubError> {
        let request = format!("p{number:x}");
        let answer = self.ask(&request)?;
        let bytes = unhex(&answer).and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| refused(&request, answer))?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes one.
    ///
    /// # Errors
    /// If there is no such register, or the emulator is gone.
    pub fn set_register(&mut self, number: u32, value: u32) -> Result<(), StubError> {
        self.order(&format!("P{number:x}={}", hex(&value.to_le_bytes())))
    }

    /// Sets a breakpoint.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn set_breakpoint(&mut self, address: u32) -> Result<(), StubError> {
        if self.breakpoints.contains(&address) {
            return Ok(());
        }
        self.breakpoints.push(address);
        self.stopped(|stub| stub.order(&format!("Z1,{address:x},2")))
    }

    /// Takes one away.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn clear_breakpoint(&mut self, address: u32) -> Result<(), StubError> {
        self.breakpoints.retain(|known| *known != address);
        self.stopped(|stub| stub.ask(&format!("z1,{address:x},2")).map(|_| ()))
    }

    /// Does something with a core that stands, which it may not notice.
    fn stopped<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, StubError>,
    ) -> Result<T, StubError> {
        if !self.runs()? {
            return act(self);
        }
        self.halt()?;
        // It may have come to a breakpoint at that very moment.
        let at = self.register(register::PC)?;
        let hit = self.hit || self.breakpoints.contains(&at);
        let result = act(self);
        match hit {
            true => self.hit = true,
            false => self.resume()?,
        }
        result
    }

    fn wait_for_stop(&mut self) -> Result<(), StubError> {
        while self.running {
            let packet = self.next_packet()?;
            self.note(&packet);
        }
        Ok(())
    }

    /// A word about a stop that came by itself.
    fn note(&mut self, packet: &str) {
        let Some(signal) = packet.strip_prefix(['T', 'S']) else {
            return;
        };
        self.running = false;
        self.hit |= signal.starts_with(TRAP);
    }

    fn order(&mut self, request: &str) -> Result<(), StubError> {
        match self.ask(request)? {
            answer if answer == "OK" => Ok(()),
            answer => Err(refused(request, answer)),
        }
    }

    fn ask(&mut self, request: &str) -> Result<String, StubError> {
        self.send(request)?;
        loop {
            let answer = self.next_packet()?;
            if !answer.starts_with('T') || request == "?" {
                return Ok(answer);
            }
            self.note(&answer); // crossed our question
        }
    }

    fn send(&mut self, request: &str) -> Result<(), StubError> {
        let sum = request.bytes().fold(0_u8, u8::wrapping_add);
        Ok(self
            .stream
            .write_all(format!("${request}#{sum:02x}").as_bytes())?)
    }

    fn next_packet(&mut self) -> Result<String, StubError> {
        let begun = Instant::now();
        loop {
            if let Some(packet) = self.packet() {
                return Ok(packet);
            }
            self.fill(Duration::from_secs(1))?;
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
    }

    fn packet(&mut self) -> Option<String> {
        while self.received.front().is_some_and(|byte| *byte != b'$') {
            self.received.pop_front();
        }
        let end = self.received.iter().position(|byte| *byte == b'#')?;
        (self.received.len() >= end + 3).then_some(())?;
        let packet: Vec<u8> = self.received.drain(..end + 3).collect();
        Some(String::from_utf8_lossy(&packet[1..end]).into_owned())
    }

    fn fill(&mut self, patience: Duration) -> Result<(), StubError> {
        if self.patience != patience {
            self.stream.set_read_timeout(Some(patience))?;
            self.patience = patience;
        }
        let mut bytes = [0; 8192];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => {
                self.received.extend(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn refused(request: &str, answer: String) -> StubError {
    let request = request.chars().take(24).collect();
    StubError::Refused { request, answer }
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 0xf)];
    bytes.iter().flat_map(digits).collect()
}

/// The bytes that these digits say; an error of the stub (`E14`) has an odd number of them.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    digits.len().is_multiple_of(2).then_some(())?;
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| Some((digit(&pair[0])? << 4 | digit(&pair[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        assert_eq!(unhex("00ff"), Some(vec![0, 255]));
        assert_eq!(unhex("E14"), None);
        assert_eq!(unhex("OK"), None);
        assert_eq!(hex(&[1, 0xa0]), "01a0");
    }
}
