//! Who advertises on the WAN, as the switch sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns::Namespace;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use nix::{setsockopt_impl, sockopt_impl};

use crate::Side;

const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
sockopt_impl!(
    IgnoreOutgoing,
    SetOnly,
    libc::SOL_PACKET,
    PACKET_IGNORE_OUTGOING,
    i32
);

/// Hears all advertisements of both routers from now on.
#[derive(Debug)]
pub struct Watch {
    heard: Arc<Mutex<Vec<Heard>>>,
    thread: Option<JoinHandle<()>>,
    end: Option<Sender<()>>,
}

/// One advertisement.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Instant,
    side: Side,
    /// Of IPv6.
    six: bool,
    priority: u8,
}

impl Watch {
    /// Listens where both routers' WAN cables end.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn new(switch: &Namespace) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = channel();
        let (socket, sides) = switch
            .enter(open)
            .expect("root may")
            .expect("a packet socket");
        let list = Arc::clone(&heard);
        let thread = std::thread::spawn(move || listen(&socket, &sides, &list, &ended));
        Self {
            heard,
            thread: Some(thread),
            end: Some(end),
        }
    }

    /// The longest time since `since` in which both routers went on advertising the same virtual router.
    #[must_use]
    pub fn both_active(&self, since: Instant, interval: Duration) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = [false, true].map(|six| {
            let spans = |side| {
                let theirs = heard
                    .iter()
                    .filter(|heard| heard.at >= since && (heard.side, heard.six) == (side, six));
                spans(theirs, interval)
            };
            let (left, right) = (spans(Side::Left), spans(Side::Right));
            let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
            let shared = pairs.map(|(a, b)| a.1.min(b.1).saturating_duration_since(a.0.max(b.0)));
            shared.max().unwrap_or_default()
        });
        versions[0].max(versions[1])
    }
}

impl fmt::Display for Watch {
    /// Who advertised when, runs of adverts in one line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(begun) = heard.first().map(|heard| heard.at) else {
            return f.write_str("nobody advertised");
        };
        let what = |heard: &Heard| (heard.side, heard.six, heard.priority);
        for run in heard.chunk_by(|a, b| what(a) == what(b)) {
            let (first, last) = (run[0].at - begun, run[run.len() - 1].at - begun);
            let (side, six, priority) = what(&run[0]);
            let version = if six { 6 } else { 4 };
            writeln!(
                f,
                "{first:?} to {last:?}: {} of {side:?}, IPv{version}, priority {priority}",
                run.len()
            )?;
        }
        Ok(())
    }
}

/// From when to when a router advertised without a pause or a goodbye.
fn spans<'a>(
    heard: impl Iterator<Item = &'a Heard>,
    interval: Duration,
) -> Vec<(Instant, Instant)> {
    let mut spans: Vec<(Instant, Instant)> = Vec::new();
    let mut goes_on = false;
    for Heard { at, priority, .. } in heard {
        match spans.last_mut() {
            Some((_, last)) if goes_on && *at - *last < interval * 5 / 2 => *last = *at,
            _ if *priority > 0 => spans.push((*at, *at)),
            _ => {}
        }
        goes_on = *priority > 0;
    }
    spans
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open() -> io::Result<(OwnedFd, BTreeMap<u32, Side>)> {
    let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Packet, kind.0, kind.1, SockProtocol::EthAll)?;
    setsockopt(&socket, IgnoreOutgoing, &1)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 50_000))?;
    let mut sides = BTreeMap::new();
    for side in [Side::Left, Side::Right] {
        sides.insert(
            if_nametoindex(format!("{}-wan", side.name()).as_str())?,
            side,
        );
    }
    Ok((socket, sides))
}

fn listen(
    socket: &OwnedFd,
    sides: &BTreeMap<u32, Side>,
    list: &Mutex<Vec<Heard>>,
    ended: &Receiver<()>,
) {
    let mut bytes = [0; 2048];
    while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
        let Ok((len, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut bytes) else {
            continue; // time is up
        };
        let Some(side) = sides.get(&(from.ifindex() as u32)) else {
            continue;
        };
        let packet = bytes.get(14..len).unwrap_or_default();
        let (six, message) = match (
            packet.first().map(|byte| byte >> 4),
            packet.get(9),
            packet.get(6),
        ) {
            (Some(4), Some(112), _) => (false, packet.get(20..)),
            (Some(6), _, Some(112)) => (true, packet.get(40..)),
            _ => continue,
        };
        let Some(priority) = message.and_then(|message| message.get(2)) else {
            continue;
        };
        let heard = Heard {
            at: Instant::now(),
            side: *side,
            six,
            priority: *priority,
        };
        list.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(heard);
    }
}
