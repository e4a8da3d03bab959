//! Packets that wait for the MAC address of their next hop, or for the peer before that. While a neighbour's answer is
//! outstanding the first packet to it is kept, since that is a connection's SYN.

use filter::{Drop, Hop};
use sync::{Deferred, Session};
use time::Instant;
use wire::ethernet::{self, Mac};
use wire::icmp::Problem;

use crate::error::{Errors, version};
use crate::leg::Legs;
use crate::{Log, Transmit, emit};

/// The packets that wait.
#[derive(Debug)]
pub struct Held([Packet; PACKETS]);

/// Whose packet waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One of ours; whoever sent it notices by itself that no answer comes.
    Ourselves,
    /// Somebody else's, on its way through.
    Transit {
        /// The leg and the station that it came from, if it is as its sender sent it: then the sender is told
        /// in case the neighbour stays silent (RFC 1812 §5.2.7.1, RFC 4861 §7.2.2).
        from: Option<(u8, Mac)>,
    },
}

/// One packet, with room for an Ethernet header in front.
#[derive(Clone, Debug)]
struct Packet {
    to: Option<Hop>,
    /// Until when it waits for the peer; then for its neighbour.
    deferred: Option<Deferred>,
    owner: Owner,
    len: usize,
    data: [u8; HEADER + MTU],
}

/// Longest IP packet that a leg carries.
pub const MTU: usize = policy::MTU as usize;

const PACKETS: usize = 8;
/// Most that wait for neighbours, and for the peer: neither takes all places.
const EITHER: usize = 6;
const HEADER: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;

impl Held {
    pub fn new() -> Self {
        Self(core::array::from_fn(|_| Packet {
            to: None,
            deferred: None,
            owner: Owner::Ourselves,
            len: 0,
            data: [0; HEADER + MTU],
        }))
    }

    /// Keeps a packet, if none waits for the same neighbour and there is room.
    pub fn keep(&mut self, hop: Hop, packet: &[u8], owner: Owner) -> Result<(), Drop> {
        if self.0.iter().any(|held| held.waits_for(hop)) {
            return Err(Drop::NeighbourBusy);
        }
        self.put(hop, packet, owner, None)
    }

    /// Whether one more packet can wait for the peer.
    pub fn can_defer(&self) -> bool {
        let free = self.0.iter().any(|held| held.to.is_none());
        free && self.count(true) < EITHER
    }

    /// Keeps a packet until the peer knows its flow.
    pub fn defer(
        &mut self,
        hop: Hop,
        packet: &[u8],
        owner: Owner,
        deferred: Deferred,
    ) -> Result<(), Drop> {
        self.put(hop, packet, owner, Some(deferred))
    }

    /// The next hop of a packet that waits for the peer no longer, but for its neighbour from now on.
    pub fn ready(&mut self, now: Instant, session: &Session) -> Option<Hop> {
        self.0.iter_mut().find_map(|held| {
            held.deferred
                .take_if(|deferred| !session.is_held(now, deferred))?;
            held.to
        })
    }

    /// When a packet has waited for the peer long enough.
    pub fn deadline(&self) -> Option<Instant> {
        let deferred = self.0.iter().filter_map(|held| held.deferred.as_ref());
        deferred.map(Deferred::until).min()
    }

    fn count(&self, deferred: bool) -> usize {
        let those = |held: &&Packet| held.to.is_some() && held.deferred.is_some() == deferred;
        self.0.iter().filter(those).count()
    }

    fn put(
        &mut self,
        hop: Hop,
        packet: &[u8],
        owner: Owner,
        deferred: Option<Deferred>,
    ) -> Result<(), Drop> {
        if self.count(deferred.is_some()) >= EITHER {
            return Err(Drop::NeighbourBusy);
        }
        let free = self.0.iter_mut().find(|held| held.to.is_none());
        let held = free.ok_or(Drop::NeighbourBusy)?;
        let place = held
            .data
            .get_mut(HEADER..HEADER + packet.len())
            .ok_or(Drop::TooLong)?;
        place.copy_from_slice(packet);
        held.to = Some(hop);
        held.deferred = deferred;
        held.owner = owner;
        held.len = packet.len();
        Ok(())
    }

    /// Sends what waits for a neighbour.
    pub fn send(
        &mut self,
        hop: Hop,
        mac: Mac,
        legs: &Legs,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        for held in self.0.iter_mut().filter(|held| held.waits_for(hop)) {
            held.to = None;
            let sent = held.send(hop.leg, mac, legs, out).is_some();
            if sent && matches!(held.owner, Owner::Transit { .. }) {
                log.counters.forwarded += 1;
            }
        }
    }

    /// Drops what waits for a silent neighbour, and tells the senders.
    pub fn give_up(
        &mut self,
        now: Instant,
        hop: Hop,
        legs: &Legs,
        errors: &mut Errors,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        for held in self.0.iter_mut().filter(|held| held.waits_for(hop)) {
            held.to = None;
            let Owner::Transit { from } = held.owner else {
                continue;
            };
            log.counters.drop(Drop::NeighbourSilent);
            if let Some((leg, mac)) = from
                && let Some(leg) = legs.get(leg)
            {
                let problem = Problem::HostUnreachable;
                errors.send(now, (&leg, mac), held.packet(), problem, log, out);
            }
        }
    }

    /// Drops what waits for a neighbour that cannot be asked.
    pub fn drop(&mut self, hop: Hop, reason: Drop, log: &mut Log) {
        for held in self.0.iter_mut().filter(|held| held.waits_for(hop)) {
            held.to = None;
            log.counters.drop(reason);
        }
    }

    /// Drops packets of others: for a router that is no longer Active.
    pub fn release(&mut self, log: &mut Log) {
        for held in self.0.iter_mut().filter(|held| held.to.is_some()) {
            if matches!(held.owner, Owner::Transit { .. }) {
                (held.to, held.deferred) = (None, None);
                log.counters.drop(Drop::NotActive);
            }
        }
    }
}

impl Packet {
    fn waits_for(&self, hop: Hop) -> bool {
        self.to == Some(hop) && self.deferred.is_none()
    }

    fn packet(&self) -> &[u8] {
        self.data.get(HEADER..HEADER + self.len).unwrap_or_default()
    }

    fn send(&mut self, leg: u8, mac: Mac, legs: &Legs, out: &mut impl Transmit) -> Option<()> {
        let leg = legs.get(leg)?;
        if self.len > leg.mtu {
            return emit::fragments(&leg, mac, self.packet(), out).then_some(());
        }
        let ethertype = match version(self.packet())? {
            4 => ethernet::IPV4,
            _ => ethernet::IPV6,
        };
        let start = HEADER - ethernet::header_len(leg.vlan);
        let end = (HEADER + self.len).max(start + ethernet::MIN_LEN);
        self.data.get_mut(HEADER + self.len..end)?.fill(0);
        let frame = self.data.get_mut(start..end)?;
        ethernet::write(frame, mac, leg.mac, leg.vlan, ethertype)?;
        out.transmit(leg.port, frame);
        Some(())
    }
}
