//! Packets that are addressed to the appliance itself.

use core::net::{IpAddr, Ipv4Addr};

use filter::{Drop, Kind, Packet};
use time::Instant;
use wire::Frame;
use wire::ethernet::Received;
use wire::ipv4;

use crate::answer::{echo_reply, transport};
use crate::appliance::Appliance;
use crate::{Log, Transmit};

impl<const FLOWS: usize> Appliance<FLOWS> {
    /// A packet addressed to the appliance itself.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    pub(crate) fn local(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        packet: &Packet,
        frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let destination = Ipv4Addr::from_bits(packet.tuple.destination);
        let on = self.legs.get(leg).ok_or(Drop::NotForUs)?;
        // Only the addresses of this very leg; the virtual ones only while Active.
        let mac = on.mac_of(destination).ok_or(Drop::NotForUs)?;
        if destination != on.address && !self.active {
            return Err(Drop::NotActive);
        }
        let protocol = match packet.kind {
            Kind::EchoRequest => return echo_reply(on, mac, received, packet, frame, out),
            Kind::Tcp(_) => ipv4::TCP,
            Kind::Udp => ipv4::UDP,
            Kind::EchoReply => ipv4::ICMP,
            Kind::Error(_) | Kind::Other => return Err(Drop::NotForUs),
        };
        if destination != on.address {
            return Err(Drop::NotForUs);
        }
        let source = IpAddr::V4(Ipv4Addr::from_bits(packet.tuple.source));
        let bytes = transport(received, packet, &frame);
        self.check_answer(now, source, destination.into(), protocol, bytes, log, out)
    }
}
