//! Numbered messages to the virtual address at regular times, and which of them came back.

use std::io::{self, Read as _};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rehearse::probe::Probe;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{CLIENTS, Error, Lab, PROBE, VIRTUAL, system};

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The Active itself, to echo requests.
    Address,
    /// A server behind it, to datagrams to the UDP service.
    Service,
}

/// A stream of probes.
#[derive(Debug)]
pub struct Probes {
    log: Arc<Mutex<Vec<Probe>>>,
    sending: Arc<AtomicBool>,
    receiving: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Probes {
    /// Sends one every `interval`.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn start(lab: &Lab, target: Target, interval: Duration) -> Result<Self, Error> {
        let socket = lab.clients().enter(|| open(target))?;
        let socket = Arc::new(socket.map_err(system("a socket for probes"))?);
        let log = Arc::new(Mutex::new(Vec::new()));
        let [sending, receiving] = [(); 2].map(|()| Arc::new(AtomicBool::new(true)));
        let sender = {
            let (socket, log, on) = (socket.clone(), log.clone(), sending.clone());
            thread::spawn(move || {
                while on.load(Ordering::Relaxed) {
                    send(&socket, target, &log);
                    thread::sleep(interval);
                }
            })
        };
        let receiver = {
            let (log, on) = (log.clone(), receiving.clone());
            thread::spawn(move || {
                while on.load(Ordering::Relaxed) {
                    receive(&socket, target, &log);
                }
            })
        };
        Ok(Self {
            log,
            sending,
            receiving,
            threads: vec![sender, receiver],
        })
    }

    /// When the last one was sent that has come back.
    #[must_use]
    pub fn last_answered(&self) -> Option<Instant> {
        let log = lock(&self.log);
        let mut last = log.iter().rev().filter(|probe| probe.answered.is_some());
        last.next().map(|probe| probe.sent)
    }

    /// Sends no more, waits for those that are under way, and returns all.
    #[must_use]
    pub fn stop(mut self) -> Vec<Probe> {
        self.sending.store(false, Ordering::Relaxed);
        thread::sleep(UNDER_WAY);
        self.end();
        std::mem::take(&mut lock(&self.log))
    }

    fn end(&mut self) {
        self.sending.store(false, Ordering::Relaxed);
        self.receiving.store(false, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.end();
    }
}

fn open(target: Target) -> io::Result<Socket> {
    let (protocol, port) = match target {
        Target::Address => (Protocol::ICMPV4, 0),
        Target::Service => (Protocol::UDP, PROBE),
    };
    // The kernel keeps the identifiers of echo requests apart as it does ports.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(protocol))?;
    socket.bind(&SocketAddrV4::new(CLIENTS[0], 0).into())?;
    socket.connect(&SocketAddr::from((VIRTUAL, port)).into())?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket)
}

fn send(socket: &Socket, target: Target, log: &Mutex<Vec<Probe>>) {
    let number = {
        let mut log = lock(log);
        log.push(Probe {
            sent: Instant::now(),
            answered: None,
        });
        log.len() as u64 - 1
    };
    let (mut message, front) = ([0; 16], front(target));
    if front > 0 {
        message[0] = ECHO_REQUEST;
    }
    message[front..front + 8].copy_from_slice(&number.to_be_bytes());
    // What cannot be sent is lost.
    let _ = socket.send(&message[..front + 8]);
}

fn receive(mut socket: &Socket, target: Target, log: &Mutex<Vec<Probe>>) {
    let mut message = [0; 64];
    // An ICMP error is no answer.
    let Ok(length) = socket.read(&mut message) else {
        return;
    };
    let now = Instant::now();
    let front = front(target);
    let number = message[..length].get(front..front + 8);
    let Some(number) = number.and_then(|number| number.try_into().ok()) else {
        return;
    };
    let mut log = lock(log);
    let index = usize::try_from(u64::from_be_bytes(number)).unwrap_or(usize::MAX);
    if let Some(probe) = log.get_mut(index) {
        probe.answered.get_or_insert(now);
    }
}

/// Bytes before the number: the header of ICMP messages, most of which is the kernel's.
const fn front(target: Target) -> usize {
    match target {
        Target::Address => 8,
        Target::Service => 0,
    }
}

fn lock(log: &Mutex<Vec<Probe>>) -> MutexGuard<'_, Vec<Probe>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Probes on a cable of this machine are back long before.
const UNDER_WAY: Duration = Duration::from_millis(250);
const ECHO_REQUEST: u8 = 8;
