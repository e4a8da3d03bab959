//! Packets that are addressed to the appliance itself.

use core::net::Ipv4Addr;

use filter::{Drop, Kind, Packet};
use time::Instant;
use wire::Frame;
use wire::ethernet::Received;

use crate::answer::echo_reply;
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
        match packet.kind {
            Kind::EchoRequest => echo_reply(on, mac, received, packet, frame, out),
            Kind::Tcp(flags) if destination == on.address => {
                self.segment(now, received, packet, flags, frame, log, out)
            }
            Kind::Tcp(_) | Kind::Udp | Kind::EchoReply | Kind::Error(_) | Kind::Other => {
                Err(Drop::NotForUs)
            }
        }
    }
}
