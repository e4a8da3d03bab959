//! Packets that wait for the MAC address of their next hop. While an answer is outstanding the first packet to
//! each neighbour is kept, since that is a connection's SYN.

use filter::{Drop, Hop};
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
    owner: Owner,
    len: usize,
    data: [u8; HEADER + MTU],
}

/// Longest IP packet that a leg carries.
pub const MTU: usize = policy::MTU as usize;

const PACKETS: usize = 8;
const HEADER: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;

impl Held {
    pub fn new() -> Self {
        Self(core::array::from_fn(|_| Packet {
            to: None,
            owner: Owner::Ourselves,
            len: 0,
            data: [0; HEADER + MTU],
        }))
    }

    /// Keeps a packet, if none waits for the same neighbour and there is room.
    pub fn keep(&mut self, hop: Hop, packet: &[u8], owner: Owner) -> Result<(), Drop> {
        if self.0.iter().any(|held| held.to == Some(hop)) {
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
        for held in self.0.iter_mut().filter(|held| held.to == Some(hop)) {
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
        for held in self.0.iter_mut().filter(|held| held.to == Some(hop)) {
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

    /// Drops packets of others: for a router that is no longer Active.
    pub fn release(&mut self, log: &mut Log) {
        for held in self.0.iter_mut().filter(|held| held.to.is_some()) {
            if matches!(held.owner, Owner::Transit { .. }) {
                held.to = None;
                log.counters.drop(Drop::NotActive);
            }
        }
    }
}

impl Packet {
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
