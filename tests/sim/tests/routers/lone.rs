//! A node alone on two cables, without a network around it: what it sends is looked at frame by frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use node::{Drop, Event, Heard, Node, State, Tables, Transmit};
use policy::rule::{Action, Legs, Protocol, Rule};
use policy::{
    Authentication, Availability, Config, Hmac, HmacMode, Interface, Interface6, Key, Version,
    VirtualRouter,
};
use time::{Duration, Instant};
use wire::ethernet::{self, BROADCAST, Mac};
use wire::frame::HEADROOM;
use wire::vrrp::trailer::{Number, Signature};
use wire::vrrp::{self, Ends, NewAdvert};
use wire::{Frame, ipv4, ipv6, mld, nd};
use zerocopy::IntoBytes;

pub const OWN: Mac = [2, 0, 0, 0, 0, 1];
pub const OWN_LAN: Mac = [2, 0, 0, 0, 0, 2];
pub const PEER: Mac = [2, 0, 0, 0, 0, 9];
pub const WAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const WAN_PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
pub const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const WAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
pub const SHARED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77);
pub const LINK_LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 9);
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 9);
pub const LAN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub const LAN_SHARED: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub const LAN_HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
pub const HOST_MAC: Mac = [2, 0, 0, 0, 1, 0];
pub const VRID: u8 = 7;
pub const MAC4: Mac = [0, 0, 0x5e, 0, 1, VRID];
pub const MAC6: Mac = [0, 0, 0x5e, 0, 2, VRID];
pub const SECRET: [u8; 32] = [0x5a; 32];
/// When the configuration was made.
pub const MADE: u64 = 1_800_000_000;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MOMENT: Duration = Duration::from_millis(10);

pub fn v4() -> VirtualRouter {
    VirtualRouter::new(0, VRID, [SHARED.into()])
}

pub fn v6() -> VirtualRouter {
    VirtualRouter::new(0, VRID, [LINK_LOCAL6.into(), SHARED6.into()])
}

pub fn lan() -> VirtualRouter {
    VirtualRouter::new(1, 17, [LAN_SHARED.into()])
}

pub fn with_password() -> VirtualRouter {
    VirtualRouter {
        version: Version::V2,
        authentication: Authentication::Password(*b"secret12"),
        ..v4()
    }
}

pub fn signed(mode: HmacMode) -> VirtualRouter {
    let key = Key {
        id: 3,
        secret: SECRET.into_iter().collect(),
    };
    VirtualRouter {
        authentication: Authentication::Hmac(Hmac {
            keys: [key].into_iter().collect(),
            mode,
        }),
        ..v4()
    }
}

pub fn with_number(number: Number, priority: u8) -> NewAdvert<'static> {
    const ADDRESSES: [IpAddr; 1] = [IpAddr::V4(SHARED)];
    NewAdvert {
        signature: Some(Signature {
            key: 3,
            secret: &SECRET,
            number,
        }),
        ..NewAdvert::v3(VRID, priority, 100, &ADDRESSES)
    }
}

/// From the other router to all.
pub fn advert4(new: &NewAdvert<'_>) -> Vec<u8> {
    advert_of(new, &Ends::multicast(WAN_PEER.into()), 255)
}

pub fn advert_of(new: &NewAdvert<'_>, ends: &Ends, ttl: u8) -> Vec<u8> {
    let to = match ends {
        Ends::V4 { .. } => vrrp::MULTICAST_MAC,
        Ends::V6 { .. } => vrrp::MULTICAST6_MAC,
    };
    advert(new, ends, (PEER, to), ttl)
}

pub fn advert(new: &NewAdvert<'_>, ends: &Ends, (from, to): (Mac, Mac), ttl: u8) -> Vec<u8> {
    let mut buffer = [0; 512];
    let message = new.write(ends, &mut buffer).expect("it has room");
    vrrp_packet(ends, message, (from, to), ttl)
}

pub fn vrrp_packet(ends: &Ends, message: &[u8], (from, to): (Mac, Mac), ttl: u8) -> Vec<u8> {
    match *ends {
        Ends::V4 {
            source,
            destination,
        } => {
            let header = ipv4::Header::new(source, destination, ipv4::VRRP, ttl, message.len());
            frame(
                to,
                from,
                ethernet::IPV4,
                &[header.as_bytes(), message].concat(),
            )
        }
        Ends::V6 {
            source,
            destination,
        } => {
            let header = ipv6::Header::new(source, destination, ipv4::VRRP, ttl, message.len());
            frame(
                to,
                from,
                ethernet::IPV6,
                &[header.as_bytes(), message].concat(),
            )
        }
    }
}

pub fn carp() -> Vec<u8> {
    let mut message = [0x5a; 36];
    message[..8].copy_from_slice(&[0x21, VRID, 100, 7, 0, 1, 0, 0]);
    let sum = wire::checksum::of(&message).to_be_bytes();
    message[6..8].copy_from_slice(&sum);
    vrrp_packet(
        &Ends::multicast(WAN_PEER.into()),
        &message,
        (PEER, vrrp::MULTICAST_MAC),
        255,
    )
}

pub fn frame(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut frame, to, from, None, ethertype).expect("it has room");
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(ethernet::MIN_LEN), 0);
    frame
}

pub fn arp(
    from: Mac,
    to: Mac,
    operation: u8,
    sender: (Mac, Ipv4Addr),
    target: Ipv4Addr,
) -> Vec<u8> {
    let body = [
        &[0, 1, 8, 0, 6, 4, 0, operation][..],
        &sender.0,
        &sender.1.octets(),
        &[0; 6],
        &target.octets(),
    ];
    frame(to, from, ethernet::ARP, &body.concat())
}

pub fn ping4(to: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut message = [8, 0, 0, 0, 1, 2, 3, 4];
    let sum = wire::checksum::of(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let header = ipv4::Header::new(WAN_PEER.octets(), address.octets(), ipv4::ICMP, 64, 8);
    frame(
        to,
        PEER,
        ethernet::IPV4,
        &[header.as_bytes(), &message].concat(),
    )
}

pub fn ping6(to: Mac, address: Ipv6Addr) -> Vec<u8> {
    ping6_from(HOST6, to, address)
}

pub fn ping6_from(source: Ipv6Addr, to: Mac, address: Ipv6Addr) -> Vec<u8> {
    let (source, destination) = (source.octets(), address.octets());
    let mut message = [128, 0, 0, 0, 1, 2, 3, 4];
    let sum = ipv6::pseudo_header(source, destination, ipv6::ICMP, 8)
        .bytes(&message)
        .finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = ipv6::Header::new(source, destination, ipv6::ICMP, 64, 8);
    frame(
        to,
        PEER,
        ethernet::IPV6,
        &[header.as_bytes(), &message].concat(),
    )
}

pub fn udp(from: Mac, to: Mac, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let header = ipv4::Header::new(source.octets(), destination.octets(), ipv4::UDP, 64, 12);
    let datagram = [0x10, 0, 0x20, 0, 0, 12, 0, 0, 1, 2, 3, 4];
    frame(
        to,
        from,
        ethernet::IPV4,
        &[header.as_bytes(), &datagram].concat(),
    )
}

/// The address that its adverts of IPv6 come from.
pub fn own_link_local() -> IpAddr {
    Ipv6Addr::from(nd::link_local(OWN)).into()
}

#[derive(Default)]
pub struct Sent(pub Vec<(u8, Vec<u8>)>);

impl Transmit for Sent {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        self.0.push((port, frame.to_vec()));
    }
}

/// An advertisement that the node sent.
pub struct SentAdvert {
    pub port: u8,
    pub from: Mac,
    pub to: Mac,
    pub ends: Ends,
    pub ttl: u8,
    pub message: Vec<u8>,
}

/// A node with a wan and a lan, alone.
pub struct Lone {
    /// Several on a test's stack would be too many.
    pub node: Box<Node<'static>>,
    pub now: Instant,
    pub sent: Sent,
    pub told: Vec<Event>,
}

impl Lone {
    pub fn new<const N: usize>(routers: [VirtualRouter; N]) -> Self {
        Self::altered(routers, |_| {})
    }

    /// One that nobody has contradicted yet.
    pub fn active<const N: usize>(routers: [VirtualRouter; N]) -> Self {
        let mut bench = Self::new(routers);
        while bench.node.state() != Some(State::Active) {
            bench.run(MOMENT);
        }
        bench.sent.0.clear();
        bench.events();
        bench
    }

    pub fn altered<const N: usize>(
        routers: [VirtualRouter; N],
        alter: impl Fn(&mut Config),
    ) -> Self {
        let leg = |name: &str, port, mac, address, address6| Interface {
            name: name.try_into().expect("a short name"),
            port,
            mac,
            address,
            address6,
            ..Interface::default()
        };
        let six = Interface6 {
            address: WAN6,
            prefix: 64,
        };
        let mut config = Config {
            interfaces: [
                leg("wan", 0, OWN, WAN, Some(six)),
                leg("lan", 1, OWN_LAN, LAN, None),
            ]
            .into_iter()
            .collect(),
            routers: routers.into_iter().collect(),
            availability: Availability::default(),
            default_route: Some(Ipv4Addr::new(192, 0, 2, 254)),
            made: MADE,
            ..Config::default()
        };
        alter(&mut config);
        assert_eq!(config.validate(), Ok(()));
        let rule = Rule {
            name: "all".try_into().expect("a short name"),
            from: Legs::ANY,
            to: Legs::ANY,
            sources: Vec::new(),
            destinations: Vec::new(),
            protocol: Protocol::Any,
            state: policy::rule::State::New,
            action: Action::Accept,
            log: false,
            rate: None,
            flows: None,
            sharing: policy::rule::Sharing::Usual,
        };
        let policy = classifier::policy(config, &[rule]).expect("it compiles");
        let tables = Box::leak(Tables::<64, 64>::boxed());
        let mut bench = Self {
            node: Box::new(Node::new(Some(policy), tables, 1, Instant::ZERO)),
            now: Instant::ZERO,
            sent: Sent::default(),
            told: Vec::new(),
        };
        bench.node.poll(bench.now, &mut bench.sent);
        bench
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self
                .node
                .deadline()
                .max(self.now + Duration::from_micros(1))
                .min(end);
            self.node.poll(self.now, &mut self.sent);
        }
    }

    pub fn take(&mut self, port: u8, bytes: &[u8]) {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(bytes);
        let frame = Frame::new(&mut buffer, HEADROOM, bytes.len()).expect("it fits");
        self.node.ingress(self.now, port, frame, &mut self.sent);
    }

    pub fn link(&mut self, port: u8, up: bool) {
        self.node.link(self.now, port, up, &mut self.sent);
    }

    /// Reasons for which frames were dropped since the start, each once.
    pub fn drops(&self) -> Vec<Drop> {
        let drops = self.node.counters().drops();
        drops
            .filter(|(_, count)| *count > 0)
            .map(|(reason, _)| reason)
            .collect()
    }

    /// Events since the last look.
    pub fn events(&mut self) -> Vec<Event> {
        self.told.clear();
        while let Some(event) = self.node.next_event() {
            self.told.push(event);
        }
        self.told.clone()
    }

    pub fn told(&mut self) -> Vec<(u8, Heard)> {
        let events = self.events().into_iter();
        let adverts = events.filter_map(|event| match event {
            Event::Advert { vrid, heard, .. } => Some((vrid, heard)),
            _ => None,
        });
        adverts.collect()
    }

    /// Headers and payloads of what was sent of this type.
    pub fn frames(&self, ethertype: u16) -> impl Iterator<Item = (ethernet::Received, &[u8])> {
        let frames = self.sent.0.iter().map(|(_, frame)| {
            let header = ethernet::parse(frame).expect("whole");
            (header, &frame[header.payload..])
        });
        frames.filter(move |(header, _)| header.ethertype == ethertype)
    }

    pub fn adverts(&self) -> Vec<SentAdvert> {
        let read = |(port, frame): &(u8, Vec<u8>)| {
            let header = ethernet::parse(frame).expect("whole");
            let body = &frame[header.payload..];
            let (ends, ttl, protocol, message) = match header.ethertype {
                ethernet::IPV4 => {
                    let (ip, len) = ipv4::Header::parse(body).expect("good");
                    let ends = Ends::V4 {
                        source: ip.source,
                        destination: ip.destination,
                    };
                    (
                        ends,
                        ip.ttl,
                        ip.protocol,
                        &body[len..ip.total_len.get().into()],
                    )
                }
                ethernet::IPV6 => {
                    let ip = ipv6::Header::parse(body).expect("good");
                    let ends = Ends::V6 {
                        source: ip.source,
                        destination: ip.destination,
                    };
                    (
                        ends,
                        ip.hop_limit,
                        ip.next_header,
                        &body[ipv6::HEADER_LEN..ip.total_len()],
                    )
                }
                _ => return None,
            };
            (protocol == ipv4::VRRP).then(|| SentAdvert {
                port: *port,
                from: header.source,
                to: header.destination,
                ends,
                ttl,
                message: message.to_vec(),
            })
        };
        self.sent.0.iter().filter_map(read).collect()
    }

    /// MAC address and IP address of each ARP reply to one station.
    pub fn arp_replies(&self) -> Vec<(Mac, Ipv4Addr)> {
        let replies = self
            .frames(ethernet::ARP)
            .filter(|(header, body)| body[7] == 2 && header.destination != BROADCAST);
        let read = |(header, body): (ethernet::Received, &[u8])| {
            assert_eq!(header.source, body[8..14]);
            let address: [u8; 4] = body[14..18].try_into().expect("four bytes");
            (header.source, address.into())
        };
        replies.map(read).collect()
    }

    pub fn neighbour_adverts(&self) -> Vec<(Mac, nd::Advertisement)> {
        let read = |(header, body): (ethernet::Received, &[u8])| {
            let ip = ipv6::Header::parse(body).expect("good");
            match nd::Message::parse(ip, &body[ipv6::HEADER_LEN..ip.total_len()]) {
                Ok(nd::Message::Advertisement(advert)) => Some((header.source, advert)),
                _ => None,
            }
        };
        self.frames(ethernet::IPV6).filter_map(read).collect()
    }

    /// MAC address, source and lifetime.
    pub fn router_adverts(&self) -> Vec<(Mac, Ipv6Addr, u16)> {
        let adverts = self
            .frames(ethernet::IPV6)
            .filter(|(_, body)| body[6] == ipv6::ICMP && body[40] == 134);
        let read = |(header, body): (ethernet::Received, &[u8])| {
            let ip = ipv6::Header::parse(body).expect("good");
            (
                header.source,
                ip.source.into(),
                u16::from_be_bytes([body[46], body[47]]),
            )
        };
        adverts.map(read).collect()
    }

    /// Answered pings; what was sent is forgotten.
    pub fn pongs(&mut self) -> usize {
        let four = self
            .frames(ethernet::IPV4)
            .filter(|(_, body)| body[9] == ipv4::ICMP && body[20] == 0)
            .count();
        let six = self
            .frames(ethernet::IPV6)
            .filter(|(_, body)| body[6] == ipv6::ICMP && body[40] == 129)
            .count();
        self.sent.0.clear();
        four + six
    }

    /// Types of IGMP reports and their groups; all from the own MAC address.
    pub fn joins(&self) -> Vec<(u8, [u8; 4])> {
        let reports = self
            .frames(ethernet::IPV4)
            .filter(|(_, body)| body[9] == ipv4::IGMP);
        let read = |(header, body): (ethernet::Received, &[u8])| {
            assert_eq!(header.source, OWN);
            let at = if body[24] == 0x22 { 36 } else { 28 };
            let group: [u8; 4] = body[at..at + 4].try_into().expect("four bytes");
            (body[24], group)
        };
        reports.map(read).collect()
    }

    /// Reports of MLD; all from the own MAC address.
    pub fn reports6(&self) -> impl Iterator<Item = &[u8]> {
        let reports = self
            .frames(ethernet::IPV6)
            .filter(|(_, body)| mld::is_membership(body));
        reports.map(|(header, body)| {
            assert_eq!(header.source, OWN);
            body
        })
    }

    pub fn joined6(&self) -> Vec<[u8; 16]> {
        self.groups6(&[2, 4])
    }

    pub fn left6(&self) -> Vec<[u8; 16]> {
        self.groups6(&[3])
    }

    fn groups6(&self, records: &[u8]) -> Vec<[u8; 16]> {
        let mut groups = Vec::new();
        for report in self.reports6().filter(|body| body[48] == 143) {
            let (chunks, _) = report[56..56 + 20 * usize::from(report[55])].as_chunks::<20>();
            for record in chunks.iter().filter(|record| records.contains(&record[0])) {
                groups.push(record[4..].try_into().expect("sixteen bytes"));
            }
        }
        groups
    }
}
