//! Packets that are addressed to the appliance itself.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use filter::Drop;
use time::Instant;
use wire::Frame;
use wire::ethernet::Received;
use wire::icmp::Problem;
use wire::tcp::{UDP_HEADER_LEN, UdpHeader};
use wire::{ipv4, ipv6};
use zerocopy::FromBytes;

use crate::answer::{ECHO_REQUEST_6, echo_reply};
use crate::appliance::Appliance;
use crate::error::version;
use crate::leg::Router;
use crate::office::Asker;
use crate::{Log, Transmit};

/// What matters of such a packet. It is looked at once more, apart from the filter: few come, and the filter's view
/// is made for speed.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Length of the IP header, which has no options or extension headers.
    pub header: usize,
    /// Length of the packet, without Ethernet padding.
    pub len: usize,
}

impl Local {
    /// Reads the header. Nothing that needs reassembly and no extension headers are taken here.
    pub fn parse(packet: &[u8]) -> Result<Self, Drop> {
        if version(packet) == Some(6) {
            let header = ipv6::Header::parse(packet).map_err(|_| Drop::Ipv6Header)?;
            let chain = ipv6::walk(header, packet).map_err(|_| Drop::ExtensionHeaders)?;
            if chain.fragment.is_some() {
                return Err(Drop::Fragment);
            }
            if chain.offset != ipv6::HEADER_LEN {
                return Err(Drop::ExtensionHeaders);
            }
            return Ok(Self {
                source: Ipv6Addr::from(header.source).into(),
                destination: Ipv6Addr::from(header.destination).into(),
                protocol: header.next_header,
                header: ipv6::HEADER_LEN,
                len: header.total_len(),
            });
        }
        let (header, len) = ipv4::Header::parse(packet).map_err(|_| Drop::Ipv4Header)?;
        if len != ipv4::HEADER_LEN {
            return Err(Drop::Ipv4Options);
        }
        if header.is_fragment() {
            return Err(Drop::Fragment);
        }
        Ok(Self {
            source: Ipv4Addr::from(header.source).into(),
            destination: Ipv4Addr::from(header.destination).into(),
            protocol: header.protocol,
            header: ipv4::HEADER_LEN,
            len: header.total_len.get().into(),
        })
    }
}

impl Appliance<'_> {
    /// A packet to one of the appliance's addresses, from a source that belongs on the leg.
    pub(crate) fn local(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        mut frame: Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let packet = frame.bytes().get(received.payload..).unwrap_or_default();
        let local = Local::parse(packet)?;
        let on = self.legs.get(leg).ok_or(Drop::NotForUs)?;
        // Only the addresses of this very leg; the virtual ones only while Active.
        let Some(mac) = on.answers_for(local.destination, self.active) else {
            let shared = on.router_of(local.destination);
            return Err(shared.map_or(Drop::NotForUs, |_| Drop::NotActive));
        };
        let own = on.is_own(local.destination);
        // Who has handed over still takes what is under way to it, but the virtual MAC address is the other one's.
        let mac = if own || self.answers { mac } else { on.mac };
        if own && local.protocol == ipv4::VRRP {
            return self.unicast_advert(now, leg, packet, log, out);
        }
        let accepted = |router: &Router| router.config.accept;
        if !own && !on.router_of(local.destination).is_some_and(accepted) {
            return Err(Drop::NotAccepted);
        }
        let transport = packet.get(local.header..local.len).unwrap_or_default();
        if is_echo_request(&local, transport) {
            return echo_reply(&on, mac, received, &local, frame, out);
        }
        if own
            && local.protocol == ipv4::UDP
            && let Some(answered) =
                self.correspondence(now, leg, received, &local, &mut frame, log, out)
        {
            return answered;
        }
        let packet = frame.bytes().get(received.payload..).unwrap_or_default();
        let transport = packet.get(local.header..local.len).unwrap_or_default();
        let answer = match own {
            true => self.check_answer(
                now,
                local.source,
                local.destination,
                local.protocol,
                transport,
                log,
                out,
            ),
            false => Err(Drop::NotForUs),
        };
        let ends = (local.source, local.destination);
        if answer == Err(Drop::NotForUs)
            && local.protocol == ipv4::UDP
            && filter::is_intact(ends, ipv4::UDP, transport)
        {
            let from = (leg, received.source);
            self.error(now, from, packet, Problem::PortUnreachable, log, out);
        }
        match (answer, local.protocol, transport.first()) {
            (Err(Drop::NotForUs), ipv4::ICMP | ipv6::ICMP, Some(kind)) => {
                Err(unwanted_icmp(local.destination, *kind))
            }
            (answer, ..) => answer,
        }
    }
}

impl Appliance<'_> {
    /// A datagram of the peer's or of an operator's; `None` if it is nothing of both.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet path hands everything down"
    )]
    fn correspondence(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        local: &Local,
        frame: &mut Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Option<Result<(), Drop>> {
        let IpAddr::V4(address) = local.source else {
            return None;
        };
        let packet = frame.bytes_mut().get_mut(received.payload..)?;
        let transport = packet.get_mut(local.header..local.len)?;
        let header = UdpHeader::read_from_prefix(transport).ok()?.0;
        let (port, length) = (header.source.get(), usize::from(header.length.get()));
        let to = header.destination.get();
        if ![sync::PORT, mgmt::PORT].contains(&to) {
            return None;
        }
        if !filter::is_intact((local.source, local.destination), ipv4::UDP, transport) {
            return Some(Err(Drop::Transport));
        }
        let bytes = transport.get_mut(UDP_HEADER_LEN..length)?;
        Some(match to {
            sync::PORT => self.heard_from_peer(now, leg, address, bytes, log, out),
            _ => {
                let mac = received.source;
                let asker = Asker {
                    leg,
                    mac,
                    address,
                    port,
                };
                self.asked(now, asker, bytes, log, out)
            }
        })
    }
}

/// Why an ICMP message other than a ping and its answer ends here.
fn unwanted_icmp(destination: IpAddr, kind: u8) -> Drop {
    match (destination, kind) {
        (IpAddr::V4(_), REDIRECT) => Drop::Redirect,
        (IpAddr::V4(_), 3 | 11 | 12) | (IpAddr::V6(_), 1..=4) => Drop::IcmpUnrelated,
        (IpAddr::V4(_), filter::ECHO_REPLY) | (IpAddr::V6(_), filter::ECHO_REPLY_V6) => {
            Drop::NotForUs
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => Drop::IcmpType,
    }
}

/// ICMP type of a redirect (RFC 792).
const REDIRECT: u8 = 5;

fn is_echo_request(local: &Local, transport: &[u8]) -> bool {
    let request = match local.destination {
        IpAddr::V4(_) => (ipv4::ICMP, filter::ECHO_REQUEST),
        IpAddr::V6(_) => (ipv6::ICMP, ECHO_REQUEST_6),
    };
    transport
        .first()
        .is_some_and(|kind| (local.protocol, *kind) == request)
}
