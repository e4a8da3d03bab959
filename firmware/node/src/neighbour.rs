//! Who has which MAC address on each leg, and the packets that wait for an answer.
//!
//! Entries lie in sets of four, chosen by address, so that a look-up compares at most four. While an
//! answer is outstanding the first packet to each neighbour is kept, since that is a connection's SYN.

use core::net::{IpAddr, Ipv4Addr};

use filter::{Drop, Hop};
use time::{Duration, Instant};
use wire::ethernet::{self, Mac};

use crate::leg::Legs;
use crate::{Counters, Transmit, emit};

/// The neighbours of all legs.
#[derive(Debug)]
pub struct Neighbours {
    sets: [[Entry; WAYS]; SETS],
    held: [Held; HELD],
    next: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hop: Hop,
    state: State,
    mac: Mac,
    /// Last time that the neighbour was heard, or that the first request was sent.
    since: Instant,
    /// Asked for since the last tick.
    used: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Asked { tries: u8 },
    Known,
}

/// One packet that waits, with room for an Ethernet header in front.
#[derive(Clone, Debug)]
struct Held {
    hop: Option<Hop>,
    /// Somebody else's packet on its way through, not one of ours.
    transit: bool,
    len: usize,
    data: [u8; HEADER + MTU],
}

/// Longest IP packet that a leg carries.
pub const MTU: usize = 1500;

const SETS: usize = 16;
const WAYS: usize = 4;
const HELD: usize = 8;
const HEADER: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;

/// How often requests are repeated and entries looked through.
const TICK: Duration = Duration::from_millis(250);
/// Requests without answer after which a neighbour counts as silent.
const TRIES: u8 = 4;
/// After this long without being heard, an entry that is used is confirmed by a request to its MAC.
const CONFIRM: Duration = Duration::from_secs(30);
/// Without an answer to that, it is asked for anew.
const STALE: Duration = Duration::from_secs(35);
/// Entries that nobody uses are kept this long.
const UNUSED: Duration = Duration::from_secs(300);

const FREE: Entry = Entry {
    hop: Hop {
        leg: 0,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    },
    state: State::Free,
    mac: [0; 6],
    since: Instant::ZERO,
    used: false,
};

impl Neighbours {
    pub fn new(now: Instant) -> Self {
        Self {
            sets: [[FREE; WAYS]; SETS],
            held: core::array::from_fn(|_| Held {
                hop: None,
                transit: false,
                len: 0,
                data: [0; HEADER + MTU],
            }),
            next: now + TICK,
        }
    }

    /// The MAC address of a neighbour, if it is known.
    #[inline]
    pub fn lookup(&mut self, hop: Hop) -> Option<Mac> {
        let set = self.sets.get_mut(set(hop))?;
        let entry = set
            .iter_mut()
            .find(|entry| entry.hop == hop && entry.state == State::Known)?;
        entry.used = true;
        Some(entry.mac)
    }

    /// Keeps a packet until its neighbour answers, and asks for it unless that is under way.
    pub fn hold(
        &mut self,
        now: Instant,
        hop: Hop,
        packet: &[u8],
        transit: bool,
        legs: &Legs,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        if self.entry(hop).is_none() {
            let entry = self.room(hop).ok_or(Drop::NeighbourTableFull)?;
            *entry = Entry {
                hop,
                state: State::Asked { tries: 1 },
                since: now,
                ..FREE
            };
            emit::arp_request(legs, hop, None, out);
        }
        if self.held.iter().any(|held| held.hop == Some(hop)) {
            return Err(Drop::NeighbourBusy);
        }
        let free = self.held.iter_mut().find(|held| held.hop.is_none());
        let held = free.ok_or(Drop::NeighbourBusy)?;
        let place = held
            .data
            .get_mut(HEADER..HEADER + packet.len())
            .ok_or(Drop::NeighbourBusy)?;
        place.copy_from_slice(packet);
        held.hop = Some(hop);
        held.transit = transit;
        held.len = packet.len();
        Ok(())
    }

    /// Takes what a neighbour said about itself, and sends what waited for it. New neighbours are only
    /// taken into free places: shouting strangers push nobody out.
    pub fn learn(
        &mut self,
        now: Instant,
        hop: Hop,
        mac: Mac,
        legs: &Legs,
        counters: &mut Counters,
        out: &mut impl Transmit,
    ) {
        if self.entry(hop).is_none() {
            let free = self.sets.get_mut(set(hop)).into_iter().flatten();
            let Some(entry) = free.into_iter().find(|entry| entry.state == State::Free) else {
                return;
            };
            entry.hop = hop;
            entry.used = false;
        }
        let Some(entry) = self.entry_or_new(hop) else {
            return;
        };
        entry.mac = mac;
        entry.since = now;
        entry.state = State::Known;
        for held in self.held.iter_mut().filter(|held| held.hop == Some(hop)) {
            held.hop = None;
            if held.send(hop.leg, mac, legs, out).is_some() && held.transit {
                counters.forwarded += 1;
            }
        }
    }

    /// Drops held packets of others: for a router that is no longer Active.
    pub fn release(&mut self, counters: &mut Counters) {
        for held in self
            .held
            .iter_mut()
            .filter(|held| held.transit && held.hop.is_some())
        {
            held.hop = None;
            counters.drop(Drop::NotActive);
        }
    }

    /// When [`Self::tick`] has work next.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Repeats requests, confirms entries in use, forgets the silent and the unused.
    pub fn tick(
        &mut self,
        now: Instant,
        legs: &Legs,
        counters: &mut Counters,
        out: &mut impl Transmit,
    ) {
        if now < self.next {
            return;
        }
        self.next = now + TICK;
        for entry in self.sets.iter_mut().flatten() {
            let age = now.since(entry.since);
            match entry.state {
                State::Free => {}
                State::Asked { tries } if tries < TRIES => {
                    entry.state = State::Asked { tries: tries + 1 };
                    emit::arp_request(legs, entry.hop, None, out);
                }
                State::Asked { .. } => {
                    let hop = entry.hop;
                    *entry = FREE;
                    for held in self.held.iter_mut().filter(|held| held.hop == Some(hop)) {
                        held.hop = None;
                        counters.drop(Drop::NeighbourSilent);
                    }
                }
                State::Known if entry.used && age > STALE => *entry = FREE,
                State::Known if entry.used && age > CONFIRM => {
                    emit::arp_request(legs, entry.hop, Some(entry.mac), out);
                }
                State::Known if age > UNUSED => *entry = FREE,
                State::Known => {}
            }
            // Uses are noticed again once the entry is old enough to be confirmed.
            if age < CONFIRM {
                entry.used = false;
            }
        }
    }

    fn entry(&mut self, hop: Hop) -> Option<&mut Entry> {
        let set = self.sets.get_mut(set(hop))?;
        set.iter_mut()
            .find(|entry| entry.hop == hop && entry.state != State::Free)
    }

    fn entry_or_new(&mut self, hop: Hop) -> Option<&mut Entry> {
        self.sets
            .get_mut(set(hop))?
            .iter_mut()
            .find(|entry| entry.hop == hop)
    }

    /// A place in the set of `hop`: a free one, otherwise that of the neighbour not heard for longest.
    /// One with a request under way keeps its place.
    fn room(&mut self, hop: Hop) -> Option<&mut Entry> {
        let set = self.sets.get_mut(set(hop))?;
        set.iter_mut()
            .filter(|entry| !matches!(entry.state, State::Asked { .. }))
            .min_by_key(|entry| (entry.state != State::Free, entry.used, entry.since))
    }
}

impl Held {
    fn send(&mut self, leg: u8, mac: Mac, legs: &Legs, out: &mut impl Transmit) -> Option<()> {
        let leg = legs.get(leg)?;
        let start = HEADER - ethernet::header_len(leg.vlan);
        let end = (HEADER + self.len).max(start + ethernet::MIN_LEN);
        self.data.get_mut(HEADER + self.len..end)?.fill(0);
        let frame = self.data.get_mut(start..end)?;
        ethernet::write(frame, mac, leg.mac, leg.vlan, ethernet::IPV4)?;
        out.transmit(leg.port, frame);
        Some(())
    }
}

fn set(hop: Hop) -> usize {
    let address = match hop.address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => address.to_bits() as u32,
    };
    let mixed = (address ^ u32::from(hop.leg) << 24).wrapping_mul(0x9e37_79b1);
    (mixed >> 28) as usize % SETS
}
