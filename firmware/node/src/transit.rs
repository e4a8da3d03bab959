//! Packets on their way through: from the leg they came in by to the frame that goes out.

use core::net::Ipv6Addr;

use filter::{Drop, Hop, Unknown, V4, V6, Verdict};
use time::Instant;
use wire::Frame;
use wire::ethernet::{self, Received};
use wire::vrrp::MULTICAST_MAC;

use crate::appliance::Appliance;
use crate::error::version;
use crate::held::{MTU, Owner};
use crate::leg::Station;
use crate::{Log, Transmit, emit};

impl<const FLOWS: usize> Appliance<'_, FLOWS> {
    /// A packet of either version (neighbour discovery apart).
    #[inline]
    pub(crate) fn ip(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        mut frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        match (on.station(received.destination), self.active) {
            (Station::Virtual, true) => {}
            (Station::Virtual, false) => return Err(Drop::NotActive),
            (Station::Own, _) => return self.addressed(now, leg, received, frame, log, out),
            (Station::Other, _) if received.destination == MULTICAST_MAC => {
                let packet = frame.bytes().get(received.payload..).unwrap_or_default();
                return self.advert(now, leg, packet, log, out);
            }
            (Station::Other, _) => return Err(Drop::OtherStation),
        }
        let unknown = match now < self.pick_up_until {
            true => Unknown::PickUp,
            false => Unknown::Refuse,
        };
        let len = frame.bytes().len().saturating_sub(received.payload);
        let packet = frame.room(received.payload);
        match self.filter.judge(now, leg, packet, len, unknown) {
            Verdict::Forward { hop, len } => {
                // Usually shorter, without the sender's padding.
                frame.resize(received.payload + len);
                self.forward(now, leg, received, hop, len, frame, log, out)
            }
            Verdict::Local => self.local(now, leg, received, frame, log, out),
            Verdict::Answer { len, reason } => {
                let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
                let packet = packet.get(..len).unwrap_or_default();
                // From the station that it was sent to, back to the one that it came from.
                emit::packet(on, received.destination, received.source, packet, out);
                Err(reason)
            }
            Verdict::Splice { len } => {
                let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
                let answer = packet.get(..len).unwrap_or_default();
                emit::packet(on, received.destination, received.source, answer, out);
                let Some((hop, len)) = self.filter.update(packet) else {
                    return Err(Drop::Spliced);
                };
                frame.resize(received.payload + len);
                self.forward(now, leg, received, hop, len, frame, log, out)
            }
            Verdict::Error(problem, reason) => {
                let packet = packet.get(..len).unwrap_or_default();
                let from = (leg, received.source);
                self.error(now, from, packet, problem, log, out);
                Err(reason)
            }
            Verdict::Drop(reason) => Err(reason),
        }
    }

    /// A packet to the own MAC address: only for ourselves.
    #[inline(never)]
    fn addressed(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let packet = frame.bytes().get(received.payload..).unwrap_or_default();
        let routes = self.filter.routes();
        if version(packet) == Some(6) {
            let header = wire::ipv6::Header::parse(packet).map_err(|_| Drop::Ipv6Header)?;
            let source = Ipv6Addr::from(header.source);
            let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
            // Link-local addresses are never routed, but those on the link may talk to us.
            if !source.is_unicast_link_local() || !on.is_neighbour6(source) {
                let destination = V6::from_octets(&header.destination);
                routes
                    .v6()
                    .check(leg, V6::from_octets(&header.source), destination)?;
                if !routes.v6().is_ours(destination) {
                    return Err(Drop::NotActive);
                }
            }
        } else {
            let (header, _) = wire::ipv4::Header::parse(packet).map_err(|_| Drop::Ipv4Header)?;
            let destination = V4::from_octets(header.destination);
            routes
                .v4()
                .check(leg, V4::from_octets(header.source), destination)?;
            if !routes.v4().is_ours(destination) {
                return Err(Drop::NotActive);
            }
        }
        self.local(now, leg, received, frame, log, out)
    }

    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn forward(
        &mut self,
        now: Instant,
        from: u8,
        received: &Received,
        hop: Hop,
        len: usize,
        mut frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let leg = self.legs.get(hop.leg).ok_or(Drop::NoRoute)?;
        let Some(mac) = self.neighbours.lookup(hop) else {
            let packet = frame.bytes().get(received.payload..).unwrap_or_default();
            let packet = packet.get(..len).unwrap_or_default();
            let untouched = !self.filter.is_translated(packet);
            let owner = Owner::Transit {
                from: untouched.then_some((from, received.source)),
            };
            let held = self
                .neighbours
                .hold(now, hop, packet, owner, &self.legs, out);
            self.reschedule();
            return held;
        };
        if len > leg.mtu {
            let packet = frame.bytes().get(received.payload..).unwrap_or_default();
            if len > MTU || !emit::fragments(leg, mac, packet, out) {
                return Err(Drop::TooBig);
            }
            log.counters.forwarded += 1;
            return Ok(());
        }
        if !ethernet::rewrite(&mut frame, received, mac, leg.mac, leg.vlan) {
            return Err(Drop::Headroom);
        }
        // Not with the sender's padding: it may carry anything.
        frame.truncate(ethernet::header_len(leg.vlan) + len);
        frame.pad(ethernet::MIN_LEN);
        out.transmit(leg.port, frame.bytes());
        log.counters.forwarded += 1;
        Ok(())
    }
}
