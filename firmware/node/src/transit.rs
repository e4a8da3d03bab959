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

impl<const FLOWS: usize, const FLOWS6: usize> Appliance<'_, FLOWS, FLOWS6> {
    /// The way of nearly every frame: a usual packet of a known flow to a known neighbour. `None`, and nothing has
    /// changed: somebody has to take a closer look.
    #[inline(never)]
    pub(crate) fn quick(
        &mut self,
        now: Instant,
        port: u8,
        frame: &mut Frame<'_>,
        out: &mut impl Transmit,
    ) -> Option<()> {
        let Self {
            legs,
            neighbours,
            filter,
            active: true,
            ..
        } = self
        else {
            return None;
        };
        let arrival = legs.arrival(port, frame.bytes())?;
        let (front, packet) = frame.split(arrival.payload)?;
        if packet.first()? >> 4 != arrival.version {
            return None;
        }
        let room = front.len();
        let resolve = |hop: Hop| {
            let leg = legs.get(hop.leg)?;
            let mac = neighbours.lookup(hop)?;
            (room >= ethernet::header_len(leg.vlan)).then_some((leg, mac))
        };
        let ((leg, mac), len) = filter.pass(now, arrival.leg, packet, resolve)?;
        let ethertype = match arrival.version {
            4 => ethernet::IPV4,
            _ => ethernet::IPV6,
        };
        let header = match leg.vlan {
            Some(vlan) => {
                let header = front.last_chunk_mut::<18>()?;
                header[12..14].copy_from_slice(&ethernet::VLAN.to_be_bytes());
                header[14..16].copy_from_slice(&vlan.to_be_bytes());
                header[16..18].copy_from_slice(&ethertype.to_be_bytes());
                &mut header[..]
            }
            None => {
                let header = front.last_chunk_mut::<14>()?;
                header[12..14].copy_from_slice(&ethertype.to_be_bytes());
                &mut header[..]
            }
        };
        header[..6].copy_from_slice(&mac);
        header[6..12].copy_from_slice(&leg.mac);
        let header = header.len();
        // Not with the sender's padding: it may carry anything.
        frame.reframe(arrival.payload, header, len, ethernet::MIN_LEN);
        out.transmit(leg.port, frame.bytes());
        Some(())
    }

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
        match self.filter.judge_thoroughly(now, leg, packet, len, unknown) {
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
