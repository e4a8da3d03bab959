//! Segments and messages that would break connections, seen on the wire.

use std::fmt;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use netns::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Error, system};

/// A reset, or an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who sent it.
    pub from: Ipv4Addr,
    /// To whom.
    pub to: Ipv4Addr,
    /// What it is.
    pub what: What,
}

/// What refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A TCP segment with RST, from and to these ports.
    Reset(u16, u16),
    /// An ICMP message of this type and code: unreachable, redirect, or time exceeded.
    Icmp(u8, u8),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, what } = self;
        match what {
            What::Reset(source, destination) => {
                write!(f, "RST {from}:{source} -> {to}:{destination}")
            }
            What::Icmp(kind, code) => write!(f, "ICMP {kind}/{code} {from} -> {to}"),
        }
    }
}

/// Looks at all that comes to and goes from a namespace.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Mutex<Vec<Refusal>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to look.
    ///
    /// # Errors
    /// Without root.
    pub fn start(space: &Namespace) -> Result<Self, Error> {
        let mut socket = space.enter(open)?.map_err(system("a packet socket"))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, ended) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !ended.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut buffer) else {
                    continue; // the time is up
                };
                let refusal = buffer.get(..length).and_then(read);
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.extend(refusal);
            }
        });
        Ok(Self {
            seen,
            stop,
            thread: Some(thread),
        })
    }

    /// What was seen so far.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn open() -> io::Result<Socket> {
    let every = Protocol::from(i32::from(EVERY.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(every))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// Of a frame.
fn read(frame: &[u8]) -> Option<Refusal> {
    let packet = frame.get(14..)?;
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let body = packet.get(usize::from(packet.first()? & 0xf) * 4..)?;
    let address = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let what = match *packet.get(9)? {
        TCP if body.get(13)? & RST != 0 => What::Reset(port(0)?, port(2)?),
        ICMP if [3, 5, 11].contains(body.first()?) => What::Icmp(*body.first()?, *body.get(1)?),
        _ => return None,
    };
    Some(Refusal {
        from: address(12)?.into(),
        to: address(16)?.into(),
        what,
    })
}

/// ETH_P_ALL.
const EVERY: u16 = 3;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const RST: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_and_errors_are_seen_and_nothing_else() {
        let frame = |protocol: u8, body: &[u8]| {
            let mut frame = vec![0; 34];
            frame[12] = 8;
            frame[14] = 0x45;
            frame[23] = protocol;
            frame[26..30].copy_from_slice(&[192, 0, 2, 10]);
            frame[30..34].copy_from_slice(&[192, 0, 2, 100]);
            frame.extend(body);
            read(&frame).map(|refusal| refusal.to_string())
        };
        let mut segment = [0; 20];
        segment[..4].copy_from_slice(&[27, 88, 156, 64]);
        assert_eq!(frame(TCP, &segment), None);
        segment[13] = 0x14;
        let reset = "RST 192.0.2.10:7000 -> 192.0.2.100:40000";
        assert_eq!(frame(TCP, &segment).as_deref(), Some(reset));
        assert_eq!(frame(17, &segment), None);
        assert_eq!(frame(ICMP, &[0, 0]), None, "an echo reply");
        let error = "ICMP 3/1 192.0.2.10 -> 192.0.2.100";
        assert_eq!(frame(ICMP, &[3, 1]).as_deref(), Some(error));
        assert_eq!(frame(ICMP, &[]), None);
    }
}
