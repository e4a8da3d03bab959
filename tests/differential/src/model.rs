//! A slow re-statement of what the appliance promises, to hold every packet that it sends against: no tables, no deltas,
//! flows never end. What the node sends must be explained by it; what the node drops need not be.

use std::net::IpAddr;

use policy::rule::{Action, Ports, Protocol, Rule};
use policy::{IpPrefix, Nat, Transport};

use crate::site::{LEGS, Site, WAN};
use crate::{Emission, destination, source};

/// What is known of the flows so far.
#[derive(Debug)]
pub struct Model {
    site: Site,
    flows: Vec<Flow>,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    client_leg: u8,
    server_leg: u8,
    /// As the client's packets arrive.
    original: Tuple,
    /// As the server's packets arrive.
    reply: Tuple,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

impl Tuple {
    fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }
}

/// A packet taken apart, as far as the model looks.
struct Seen<'a> {
    tuple: Tuple,
    ttl: u8,
    /// Behind IP header and extension headers.
    transport: &'a [u8],
    is_part: bool,
}

impl Model {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self {
            site,
            flows: Vec::new(),
        }
    }

    /// Whether a packet is for the appliance itself, which may take it without a word.
    #[must_use]
    pub fn is_local(&self, packet: &[u8]) -> bool {
        is_ours(destination(packet))
    }

    /// Explains what was sent because of a packet.
    ///
    /// # Panics
    /// When it cannot be explained.
    pub fn explain(&mut self, leg: u8, packet: &[u8], sent: &[Emission]) {
        assert!(sent.len() <= 1, "{} packets for one", sent.len());
        let Some(emission) = sent.first() else { return };
        let story = || {
            format!(
                "{} became {}",
                forge::read(packet),
                forge::read(&emission.packet)
            )
        };
        assert!(is_whole(&emission.packet), "a damaged header: {}", story());
        // A packet that says it is longer than it is goes on with the padding of its frame.
        let mut framed = packet.to_vec();
        framed.resize(packet.len().max(LEAST_PAYLOAD), 0);
        let packet = &framed[..packet.len().max(length(packet)).min(framed.len())];
        if let (Some(came), Some(went)) = (see(packet), see(&emission.packet))
            && self.is_forwarded(leg, &came, &went, emission.leg)
        {
            assert_eq!(went.ttl, came.ttl - 1, "{}", story());
            assert_eq!(emission.packet.len(), length(packet), "{}", story());
            if !came.is_part {
                let (before, after) = (is_good(packet, &came), is_good(&emission.packet, &went));
                assert_eq!(before, after, "checksum: {}", story());
            }
            return;
        }
        let answers = emission.leg == leg
            && (is_ours(source(&emission.packet)) || is_refusal(packet, &emission.packet))
            && destination(&emission.packet) == source(packet)
            && emission.packet.len() <= packet.len().max(40) + 60;
        assert!(answers, "unexplained: {}", story());
    }

    /// Whether a packet is the other one on its way through; a new flow is remembered.
    fn is_forwarded(&mut self, leg: u8, came: &Seen<'_>, went: &Seen<'_>, to: u8) -> bool {
        if is_error(came) {
            return self.is_error_about_flow(leg, came, went, to);
        }
        for flow in &self.flows {
            let way = [
                (flow.client_leg, flow.original, flow.server_leg, flow.reply),
                (flow.server_leg, flow.reply, flow.client_leg, flow.original),
            ];
            for (from, arrives, towards, other) in way {
                let same = (leg, came.tuple) == (from, arrives);
                if same && (to, went.tuple) == (towards, other.reversed()) {
                    return true;
                }
            }
        }
        // Parts behind the first carry no ports: their addresses must be a flow's.
        if came.is_part && came.tuple.source.1 == 0 && came.tuple.destination.1 == 0 {
            return self.flows.iter().any(|flow| {
                let ends = |t: Tuple| (t.source.0, t.destination.0);
                ends(flow.original) == ends(came.tuple) || ends(flow.reply) == ends(came.tuple)
            });
        }
        if !opens(came) {
            return false;
        }
        let Some(server) = self.server(&came.tuple) else {
            return false;
        };
        let decided = Tuple {
            destination: server,
            ..came.tuple
        };
        if to != leg_of(server.0)
            || leg != leg_of(came.tuple.source.0)
            || !self.accepts(leg, to, &decided)
        {
            return false;
        }
        if went.tuple.destination != server
            || !self.may_be_seen_as(to, &came.tuple, went.tuple.source)
        {
            return false;
        }
        let flow = Flow {
            client_leg: leg,
            server_leg: to,
            original: came.tuple,
            reply: went.tuple.reversed(),
        };
        // Answers must lead to one client alone; the node may have forgotten a flow that we have not.
        self.flows
            .retain(|known| known.original != flow.original && known.reply != flow.reply);
        self.flows.push(flow);
        true
    }

    fn is_error_about_flow(&self, leg: u8, came: &Seen<'_>, went: &Seen<'_>, to: u8) -> bool {
        let (Some(about), Some(says)) = (quoted(came), quoted(went)) else {
            return false;
        };
        self.flows.iter().any(|flow| {
            let way = [
                (flow.server_leg, flow.reply, flow.client_leg, flow.original),
                (flow.client_leg, flow.original, flow.server_leg, flow.reply),
            ];
            way.into_iter().any(|(from, arrives, towards, other)| {
                (leg, about) == (from, arrives.reversed()) && (to, says) == (towards, other)
            })
        }) && came.transport[..2] == went.transport[..2]
    }

    /// Where a first packet goes.
    fn server(&self, tuple: &Tuple) -> Option<(IpAddr, u16)> {
        let carries = |transport| match transport {
            Transport::Tcp => tuple.protocol == 6,
            Transport::Udp => tuple.protocol == 17,
        };
        for service in &self.site.config.services {
            if carries(service.transport) && tuple.destination == (service.address, service.port) {
                let server = service.servers.first()?;
                return Some((server.address, server.port));
            }
        }
        for nat in &self.site.config.nat {
            if let Nat::Destination {
                transport,
                address,
                first,
                last,
                server,
                server_port,
            } = nat
                && carries(*transport)
                && tuple.destination.0 == *address
                && (*first..=*last).contains(&tuple.destination.1)
            {
                return Some((*server, server_port + (tuple.destination.1 - first)));
            }
        }
        (!is_ours(tuple.destination.0)).then_some(tuple.destination)
    }

    fn may_be_seen_as(&self, to: u8, tuple: &Tuple, seen: (IpAddr, u16)) -> bool {
        for nat in &self.site.config.nat {
            if let Nat::Source {
                source,
                to: leg,
                address,
                first,
                last,
            } = nat
                && *leg == to
                && IpPrefix::V4(*source).contains(tuple.source.0)
            {
                let port = seen.1 == tuple.source.1 || (*first..=*last).contains(&seen.1);
                return seen.0 == IpAddr::V4(*address) && port;
            }
        }
        seen == tuple.source
    }

    fn accepts(&self, from: u8, to: u8, tuple: &Tuple) -> bool {
        let rule = self
            .site
            .rules
            .iter()
            .find(|rule| matches(rule, from, to, tuple));
        rule.is_some_and(|rule| rule.action == Action::Accept)
    }
}

fn matches(rule: &Rule, from: u8, to: u8, tuple: &Tuple) -> bool {
    let among = |list: &[IpPrefix], address| {
        list.is_empty() || list.iter().any(|prefix| prefix.contains(address))
    };
    let ports = |ports: &Ports| {
        let among = |list: &[std::ops::RangeInclusive<u16>], port| {
            list.is_empty() || list.iter().any(|range| range.contains(&port))
        };
        among(&ports.source, tuple.source.1) && among(&ports.destination, tuple.destination.1)
    };
    rule.from.contains(from)
        && rule.to.contains(to)
        && among(&rule.sources, tuple.source.0)
        && among(&rule.destinations, tuple.destination.0)
        && match &rule.protocol {
            Protocol::Any => true,
            Protocol::Tcp(list) => tuple.protocol == 6 && ports(list),
            Protocol::Udp(list) => tuple.protocol == 17 && ports(list),
            Protocol::Icmp(list) => tuple.protocol == 1 && (list.is_empty() || list.contains(&8)),
            Protocol::Icmp6(list) => {
                tuple.protocol == 58 && (list.is_empty() || list.contains(&128))
            }
            Protocol::Number(number) => tuple.protocol == *number,
        }
}

fn leg_of(address: IpAddr) -> u8 {
    let near = LEGS.iter().position(|leg| match address {
        IpAddr::V4(address) => policy::Prefix::of(leg.own.0, leg.own.1).contains(address),
        IpAddr::V6(address) => policy::Prefix6::of(leg.own6.0, leg.own6.1).contains(address),
    });
    near.map_or(WAN, |leg| leg as u8)
}

pub(crate) fn is_ours(address: IpAddr) -> bool {
    LEGS.iter().any(|leg| match address {
        IpAddr::V4(address) => leg.own.0 == address || leg.virtuals.contains(&address),
        IpAddr::V6(address) => leg.own6.0 == address || leg.virtuals6.contains(&address),
    })
}

/// Whether a packet is the RST that a rule answers a segment with, in the name of whom it was for.
fn is_refusal(packet: &[u8], answer: &[u8]) -> bool {
    let (Some(came), Some(went)) = (see(packet), see(answer)) else {
        return false;
    };
    let is_reset = went.transport.get(13).is_some_and(|flags| flags & 4 != 0);
    came.tuple.protocol == 6 && came.tuple == went.tuple.reversed() && is_reset
}

/// Whether a packet can begin a flow.
fn opens(seen: &Seen<'_>) -> bool {
    match seen.tuple.protocol {
        6 => seen
            .transport
            .get(13)
            .is_some_and(|flags| flags & 0x17 == 2),
        1 => seen.transport.first() == Some(&8),
        58 => seen.transport.first() == Some(&128),
        _ => true,
    }
}

fn is_error(seen: &Seen<'_>) -> bool {
    match (seen.tuple.protocol, seen.transport.first()) {
        (1, Some(kind)) => [3, 4, 5, 11, 12].contains(kind),
        (58, Some(kind)) => *kind < 128,
        _ => false,
    }
}

fn quoted(seen: &Seen<'_>) -> Option<Tuple> {
    // Of the version that the message is of, whatever the quote says.
    let mut quote = seen.transport.get(8..)?.to_vec();
    let version = if seen.tuple.protocol == 1 { 4 } else { 6 };
    *quote.first_mut()? = quote.first()? & 15 | version << 4;
    see(&quote).map(|seen| seen.tuple)
}

fn see(packet: &[u8]) -> Option<Seen<'_>> {
    let (mut protocol, mut start, ttl, mut part) = match packet.first()? >> 4 {
        4 => {
            let field = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
            let start = usize::from(packet[0] & 15) * 4;
            (*packet.get(9)?, start, *packet.get(8)?, field & 0x3fff)
        }
        6 => (*packet.get(6)?, 40, *packet.get(7)?, 0),
        _ => return None,
    };
    if packet[0] >> 4 == 6 {
        while [0, 43, 44, 51, 60].contains(&protocol) && part & !7 == 0 {
            let header = packet.get(start..start + 8)?;
            let units = usize::from(header[1]);
            start += match protocol {
                44 => {
                    part = u16::from_be_bytes([header[2], header[3]]) & 0xfff9;
                    8
                }
                51 => (units + 2) * 4,
                _ => (units + 1) * 8,
            };
            protocol = header[0];
        }
    }
    let transport = packet.get(start..)?;
    let word = |at: usize| {
        transport
            .get(at..at + 2)
            .map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
    };
    let offset = if packet[0] >> 4 == 4 {
        part & 0x1fff
    } else {
        part >> 3
    };
    let (from, to) = match protocol {
        _ if offset != 0 => (0, 0),
        6 | 17 => (word(0), word(2)),
        1 | 58 => (word(4), word(4)),
        _ => (0, 0),
    };
    Some(Seen {
        tuple: Tuple {
            protocol,
            source: (source(packet), from),
            destination: (destination(packet), to),
        },
        ttl,
        transport,
        is_part: part != 0,
    })
}

/// Length of the packet without what follows it.
fn length(packet: &[u8]) -> usize {
    match packet[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
    }
}

/// Whether a sent packet's header is sound.
fn is_whole(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            let header = usize::from(packet[0] & 15) * 4;
            length(packet) == packet.len() && forge::checksum(&[&packet[..header]]) == 0
        }
        Some(6) => length(packet) == packet.len(),
        _ => false,
    }
}

/// Whether the transport's checksum is right.
fn is_good(packet: &[u8], seen: &Seen<'_>) -> bool {
    let start = packet.len() - seen.transport.len();
    let transport = packet.get(start..length(packet)).unwrap_or_default();
    let sum = match seen.tuple.protocol {
        6 => transport.get(16..18),
        17 => transport.get(6..8),
        1 | 58 => transport.get(2..4),
        _ => return true,
    };
    if seen.tuple.protocol == 17 && sum == Some(&[0, 0]) {
        return true;
    }
    let mut pseudo = Vec::new();
    for end in [source(packet), destination(packet)] {
        match end {
            IpAddr::V4(address) => pseudo.extend(address.octets()),
            IpAddr::V6(address) => pseudo.extend(address.octets()),
        }
    }
    pseudo.extend((transport.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, seen.tuple.protocol]);
    if seen.tuple.protocol == 1 {
        pseudo.clear();
    }
    forge::checksum(&[&pseudo, transport]) == 0
}

/// What the shortest Ethernet frame carries (IEEE 802.3 §4A.4.2).
const LEAST_PAYLOAD: usize = 46;
