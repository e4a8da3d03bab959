//! Packets on their way through: from the leg they came in by to the frame that goes out.

use core::net::Ipv6Addr;

use filter::{Drop, Hop, Left, Ticks, Unknown, V4, V6, Verdict};
use time::Instant;
use wire::Frame;
use wire::ethernet::{self, Mac, Received};
use wire::igmp;
use wire::ipv4;
use wire::vrrp::{MULTICAST_MAC, MULTICAST6_MAC};

use crate::appliance::Appliance;
use crate::error::version;
use crate::held::{MTU, Owner};
use crate::leg::{On, Station};
use crate::neighbour::Macs;
use crate::{Log, Transmit, emit};

impl Appliance<'_> {
    /// The way of nearly every frame: a usual packet of a known flow to a known neighbour, or one that nobody wants.
    ///
    /// # Errors
    /// Nothing has changed. An unusual frame wants a closer look, a refused one only while connections are taken up in the
    /// middle.
    #[inline(always)]
    pub(crate) fn quick(
        &mut self,
        now: Instant,
        port: u8,
        frame: &mut Frame<'_>,
        out: &mut impl Transmit,
    ) -> Result<(), Left> {
        let arrival = self.legs.arrival(port, frame.bytes());
        let arrival = arrival.ok_or(Left::Unusual)?;
        let (now, leg, payload) = (Ticks::at(now), arrival.leg, arrival.payload);
        // Each kind has code of its own: what they share would cost all of them.
        match (arrival.version, arrival.protocol) {
            (4, ipv4::TCP) => self.through::<4, { ipv4::TCP }>(now, leg, payload, frame, out),
            (4, ipv4::UDP) => self.through::<4, { ipv4::UDP }>(now, leg, payload, frame, out),
            (6, ipv4::TCP) => self.through::<6, { ipv4::TCP }>(now, leg, payload, frame, out),
            (6, ipv4::UDP) => self.through::<6, { ipv4::UDP }>(now, leg, payload, frame, out),
            _ => Err(Left::Unusual),
        }
    }

    /// The same, for one IP version and protocol.
    #[inline(never)]
    fn through<const VERSION: u8, const PROTOCOL: u8>(
        &mut self,
        now: Ticks,
        leg: u8,
        payload: u8,
        frame: &mut Frame<'_>,
        out: &mut impl Transmit,
    ) -> Result<(), Left> {
        let Self {
            legs,
            neighbours,
            filter,
            active: true,
            ..
        } = self
        else {
            return Err(Left::Unusual);
        };
        let around = frame.around::<TAGGED>(payload.into());
        let (space, received) = around.ok_or(Left::Unusual)?;
        let split = space.split_first_chunk_mut::<TAGGED>();
        let (head, packet) = split.ok_or(Left::Unusual)?;
        let known = Macs(neighbours);
        let passed = filter.pass::<VERSION, PROTOCOL, _>(now, leg, packet, received, known);
        let ((leg, mac), len) = passed?;
        let exit = legs.exit(leg);
        let ethertype = match VERSION {
            4 => ethernet::IPV4,
            _ => ethernet::IPV6,
        };
        head[16..].copy_from_slice(&ethertype.to_be_bytes());
        let header = match exit.tagged {
            true => {
                head[..6].copy_from_slice(mac);
                head[6..16].copy_from_slice(&exit.middle);
                TAGGED
            }
            false => {
                head[4..10].copy_from_slice(mac);
                head[10..16].copy_from_slice(&exit.middle[..6]);
                ethernet::HEADER_LEN
            }
        };
        let (start, end) = (TAGGED - header, TAGGED + len);
        let end = match header + len < ethernet::MIN_LEN {
            // Not with the sender's padding: it may carry anything.
            true => pad(space, end, start + ethernet::MIN_LEN),
            false => end,
        };
        out.transmit(exit.port, space.get(start..end).unwrap_or_default());
        Ok(())
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
            // The filter routes nothing to or from link-local addresses, but virtual routers have one, and users on the link.
            (Station::Virtual | Station::Own, true)
                if stays_on_link(&on, frame.bytes().get(received.payload..)) =>
            {
                return self.addressed(now, leg, received, frame, log, out);
            }
            (Station::Virtual, true) => {}
            (Station::Virtual, false) => return Err(Drop::NotActive),
            // Virtual routers without a MAC address of their own have this one.
            (Station::Own, true) if on.is_for_router(frame.bytes().get(received.payload..)) => {}
            (Station::Own, _) => return self.addressed(now, leg, received, frame, log, out),
            (Station::Other, _) => {
                let packet = frame.bytes().get(received.payload..).unwrap_or_default();
                return match received.destination {
                    MULTICAST_MAC if packet.get(PROTOCOL) == Some(&ipv4::IGMP) => {
                        self.asked_by_igmp(now, leg, packet)
                    }
                    MULTICAST_MAC | MULTICAST6_MAC => {
                        self.multicast_advert(now, leg, packet, log, out)
                    }
                    ALL_SYSTEMS_MAC => self.asked_by_igmp(now, leg, packet),
                    _ => Err(Drop::OtherStation),
                };
            }
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
                let packet = frame.bytes().get(received.payload..).unwrap_or_default();
                if self.defers(now, (leg, received.source), hop, packet, out) {
                    return Ok(());
                }
                self.forward(now, leg, received, hop, len, frame, log, out)
            }
            Verdict::Local => self.local(now, leg, received, frame, log, out),
            Verdict::Answer { len, reason } => {
                let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
                frame.resize(received.payload + len);
                // From the station that it was sent to, back to the one that it came from.
                let from = self.station(&on, received);
                let to = received.source;
                if ethernet::rewrite(&mut frame, received, to, from, on.vlan) {
                    frame.pad(ethernet::MIN_LEN);
                    out.transmit(on.port, frame.bytes());
                }
                Err(reason)
            }
            Verdict::Splice { len } => {
                let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
                let answer = packet.get(..len).unwrap_or_default();
                emit::packet(
                    &on,
                    self.station(&on, received),
                    received.source,
                    answer,
                    out,
                );
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

    /// The MAC address that answers what came to a virtual one: a virtual one only as long as it is ours.
    fn station(&self, on: &On<'_>, received: &Received) -> Mac {
        match self.answers {
            true => received.destination,
            false => on.mac,
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
            let (header, _) = ipv4::Header::parse(packet).map_err(|_| Drop::Ipv4Header)?;
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

    /// Who is told if a packet of somebody else's cannot go on.
    pub(crate) fn owner(&mut self, from: (u8, Mac), packet: &[u8]) -> Owner {
        let untouched = !self.filter.is_translated(packet);
        Owner::Transit {
            from: untouched.then_some(from),
        }
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
            let owner = self.owner((from, received.source), packet);
            let held = self
                .neighbours
                .hold(now, hop, packet, owner, &self.legs, out);
            self.reschedule();
            return held;
        };
        if len > leg.mtu {
            let packet = frame.bytes().get(received.payload..).unwrap_or_default();
            if len > MTU || !emit::fragments(&leg, mac, packet, out) {
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

/// Whether it is a packet of IPv6 to one of our addresses from or to a link-local one.
fn stays_on_link(on: &On<'_>, packet: Option<&[u8]>) -> bool {
    let header = packet.and_then(|packet| wire::ipv6::Header::parse(packet).ok());
    header.is_some_and(|header| {
        let ends = [header.source, header.destination].map(Ipv6Addr::from);
        ends.iter().any(Ipv6Addr::is_unicast_link_local) && on.mac_of(ends[1].into()).is_some()
    })
}

/// Zeros from `from` up to `to`; where that is, or where the buffer ends.
#[inline(always)]
fn pad(buffer: &mut [u8], from: usize, to: usize) -> usize {
    match buffer.get_mut(from..).and_then(<[u8]>::first_chunk_mut) {
        // Usually it is a few bytes, and a call takes longer. What lies behind the frame is nothing.
        Some(few) if to <= from + few.len() => {
            *few = [0; 16];
            to
        }
        _ => pad_more(buffer, from, to),
    }
}

#[inline(never)]
fn pad_more(buffer: &mut [u8], from: usize, to: usize) -> usize {
    let to = to.min(buffer.len());
    if let Some(rest) = buffer.get_mut(from..to) {
        rest.fill(0);
    }
    to
}

/// Where an IPv4 header says what follows it.
const PROTOCOL: usize = 9;
const ALL_SYSTEMS_MAC: Mac = igmp::multicast_mac(igmp::ALL_SYSTEMS);
/// Length of the header of a frame with a tag.
const TAGGED: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;
