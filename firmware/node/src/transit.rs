//! Packets on their way through: from the leg they came in by to the frame that goes out.

use filter::{Drop, Forward, Packet, Unknown, Verdict};
use time::Instant;
use wire::Frame;
use wire::ethernet::{self, Received};
use wire::vrrp::MULTICAST_MAC;

use crate::answer::reset;
use crate::appliance::Appliance;
use crate::leg::Station;
use crate::neighbour::MTU;
use crate::{Log, Transmit};

impl<const FLOWS: usize> Appliance<FLOWS> {
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
                        self.forward(now, received, &packet, &forward, frame, log, out)
                    }
                    Verdict::Local => self.local(now, leg, received, &packet, frame, log, out),
                    Verdict::Reset => {
                        let on = self.legs.get(leg).ok_or(Drop::NoFlow)?;
                        reset(on, received, &packet, payload, out);
                        Err(Drop::NoFlow)
                    }
                    Verdict::Drop(reason) => Err(reason),
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
                self.local(now, leg, received, &packet, frame, log, out)
            }
            (Station::Other, _) if received.destination == MULTICAST_MAC => {
                self.advert(now, leg, payload, log, out)
            }
            (Station::Other, _) => Err(Drop::OtherStation),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn forward(
        &mut self,
        now: Instant,
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
        forward.rewrite.apply(bytes);
        let Some(mac) = self.neighbours.lookup(hop) else {
            let packet = bytes.get(..packet.len).unwrap_or_default();
            let held = self
                .neighbours
                .hold(now, hop, packet, true, &self.legs, out);
            self.reschedule();
            return held;
        };
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
