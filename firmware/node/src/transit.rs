//! Packets on their way through: from the leg they came in by to the frame that goes out.

use filter::{Drop, Forward, Packet, Rewrite, Unknown, Verdict};
use time::Instant;
use wire::Frame;
use wire::ethernet::{self, Received};
use wire::icmp::Problem;
use wire::ipv4;
use wire::vrrp::MULTICAST_MAC;

use crate::answer::reset;
use crate::appliance::Appliance;
use crate::held::{MTU, Owner};
use crate::leg::Station;
use crate::{Log, Transmit, emit};

impl<const FLOWS: usize> Appliance<'_, FLOWS> {
    pub(crate) fn ipv4(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let payload = frame.bytes().get(received.payload..).unwrap_or_default();
        let station = self
            .legs
            .get(leg)
            .map_or(Station::Other, |l| l.station(received.destination));
        match (station, self.active) {
            (Station::Virtual, true) => {
                let packet = parse(payload)?;
                let unknown = match now < self.pick_up_until {
                    true => Unknown::PickUp,
                    false => Unknown::Refuse,
                };
                match self.filter.judge(now, leg, &packet, unknown) {
                    Verdict::Forward(forward) => {
                        self.forward(now, leg, received, &packet, &forward, frame, log, out)
                    }
                    Verdict::Local => self.local(now, leg, received, frame, log, out),
                    Verdict::Reset => {
                        let on = self.legs.get(leg).ok_or(Drop::NoFlow)?;
                        reset(on, received, &packet, payload, out);
                        Err(Drop::NoFlow)
                    }
                    Verdict::Drop(reason) => {
                        let problem = match reason {
                            Drop::Ttl => Some(Problem::HopLimit),
                            Drop::NoRoute => Some(Problem::NoRoute),
                            _ => None,
                        };
                        if let Some(problem) = problem {
                            self.error(now, (leg, received.source), payload, problem, log, out);
                        }
                        Err(reason)
                    }
                }
            }
            (Station::Virtual, false) => Err(Drop::NotActive),
            (Station::Own, _) => {
                let packet = parse(payload)?;
                let (source, destination) = (packet.tuple.source, packet.tuple.destination);
                self.filter.routes().check(leg, source, destination)?;
                if !self.filter.routes().is_ours(destination) {
                    return Err(Drop::NotActive);
                }
                self.local(now, leg, received, frame, log, out)
            }
            (Station::Other, _) if received.destination == MULTICAST_MAC => {
                self.advert(now, leg, payload, log, out)
            }
            (Station::Other, _) => Err(Drop::OtherStation),
        }
    }

    /// IPv6 packets other than neighbour discovery: only those to the appliance's own addresses are taken, from
    /// stations on the link.
    pub(crate) fn ipv6(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        match (on.station(received.destination), self.active) {
            (Station::Own, _) | (Station::Virtual, true) => {}
            (Station::Virtual, false) => return Err(Drop::NotActive),
            (Station::Other, _) => return Err(Drop::OtherStation),
        }
        if on.six.is_none() {
            return Err(Drop::NoIpv6);
        }
        let payload = frame.bytes().get(received.payload..).unwrap_or_default();
        let header = wire::ipv6::Header::parse(payload).map_err(|_| Drop::Ipv6Header)?;
        if !on.is_neighbour6(header.source.into()) {
            return Err(Drop::ReversePath);
        }
        self.local(now, leg, received, frame, log, out)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn forward(
        &mut self,
        now: Instant,
        from: u8,
        received: &Received,
        packet: &Packet,
        forward: &Forward,
        mut frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let hop = forward.hop;
        let leg = self.legs.get(hop.leg).ok_or(Drop::NoRoute)?;
        let bytes = frame
            .bytes_mut()
            .get_mut(received.payload..)
            .unwrap_or_default();
        if packet.len > leg.mtu && ipv4::Header::parse(bytes).is_ok_and(|(h, _)| h.dont_fragment())
        {
            let mtu = leg.mtu as u16; // of an interface of the configuration
            self.error(
                now,
                (from, received.source),
                bytes,
                Problem::TooBig { mtu },
                log,
                out,
            );
            return Err(Drop::TooBig);
        }
        forward.rewrite.apply(bytes);
        let Some(mac) = self.neighbours.lookup(hop) else {
            let packet = bytes.get(..packet.len).unwrap_or_default();
            let untouched = forward.rewrite == Rewrite::Route;
            let owner = Owner::Transit {
                from: untouched.then_some((from, received.source)),
            };
            let held = self
                .neighbours
                .hold(now, hop, packet, owner, &self.legs, out);
            self.reschedule();
            return held;
        };
        if packet.len > leg.mtu {
            emit::fragments(leg, mac, bytes, out);
            log.counters.forwarded += 1;
            return Ok(());
        }
        if !ethernet::rewrite(&mut frame, received, mac, leg.mac, leg.vlan) {
            return Err(Drop::Headroom);
        }
        // Not with the sender's padding: it may carry anything.
        frame.truncate(ethernet::header_len(leg.vlan) + packet.len);
        frame.pad(ethernet::MIN_LEN);
        out.transmit(leg.port, frame.bytes());
        log.counters.forwarded += 1;
        Ok(())
    }
}

fn parse(payload: &[u8]) -> Result<Packet, Drop> {
    let packet = Packet::parse(payload)?;
    if packet.len > MTU {
        Err(Drop::TooLong)
    } else {
        Ok(packet)
    }
}
