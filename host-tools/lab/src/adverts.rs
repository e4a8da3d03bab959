//! Who advertises on the clients' side.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{CLIENTS, Error, Lab, system};

/// A VRRP advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// When it came.
    pub at: Instant,
    /// Whose it was.
    pub from: Ipv4Addr,
    /// The priority in it; 0 says farewell.
    pub priority: u8,
}

/// Listens among the clients.
#[derive(Debug)]
pub struct Adverts {
    heard: Arc<Mutex<Vec<Advert>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Adverts {
    /// Begins to listen.
    ///
    /// # Errors
    /// Without root.
    pub fn listen(lab: &Lab) -> Result<Self, Error> {
        let socket = lab.clients().enter(open)?;
        let mut socket = socket.map_err(system("listening for adverts"))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, ended) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ended.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut buffer) else {
                    continue; // the time is up
                };
                let at = Instant::now();
                let advert = buffer.get(..length).and_then(|packet| read(packet, at));
                lock(&log).extend(advert);
            }
        });
        Ok(Self {
            heard,
            stop,
            thread: Some(thread),
        })
    }

    /// The only one that has advertised in the last `time`.
    #[must_use]
    pub fn active(&self, time: Duration) -> Option<Ipv4Addr> {
        let heard = lock(&self.heard);
        let recent = heard.iter().rev();
        let recent = recent.take_while(|advert| advert.at.elapsed() <= time);
        let sources: BTreeSet<Ipv4Addr> = recent
            .filter(|advert| advert.priority > 0)
            .map(|advert| advert.from)
            .collect();
        match sources.len() {
            1 => sources.first().copied(),
            _ => None,
        }
    }

    /// How many were heard so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.heard).len()
    }

    /// All adverts so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Advert> {
        lock(&self.heard).clone()
    }
}

impl Drop for Adverts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(VRRP)))?;
    socket.join_multicast_v4(&GROUP, &CLIENTS[0])?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// Of an IPv4 packet.
fn read(packet: &[u8], at: Instant) -> Option<Advert> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let from = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    Some(Advert {
        at,
        from: from.into(),
        priority: *packet.get(header + 2)?,
    })
}

fn lock(adverts: &Mutex<Vec<Advert>>) -> MutexGuard<'_, Vec<Advert>> {
    adverts.lock().unwrap_or_else(PoisonError::into_inner)
}

const VRRP: i32 = 112;
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
