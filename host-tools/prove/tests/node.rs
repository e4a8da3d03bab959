//! A trace says what the whole node does, and for first packets what the proof says.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{DUALSTACK, FOOBAR, plan};
use node::{Node, State, Tables, Transmit};
use policy::rule::{Ports, Protocol};
use policy::{Check, CheckKind, Config};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use prove::packet::{Packet, Version, flags, protocol};
use prove::reach::View;
use prove::space::Space;
use prove::{Component, End, Moment, Question, Rack, Trace};
use time::{Duration, Instant};
use wire::{Frame, frame::HEADROOM};

/// What a node did with one packet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    /// The reason by which it was dropped.
    reason: Option<&'static str>,
    /// The rule that was asked.
    rule: Option<usize>,
    /// Where it went: leg, next station, both addresses, both ports, TTL.
    sent: Option<Sent>,
}

#[derive(Debug, PartialEq, Eq)]
struct Sent {
    leg: usize,
    next: IpAddr,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    ttl: u8,
}

/// A node that is Active, knows its neighbours when it asks, and has healthy servers.
struct Appliance {
    config: Config,
    node: Box<Node<'static>>,
    now: Instant,
}

#[derive(Default)]
struct Cable(Vec<(u8, Vec<u8>)>);

impl Transmit for Cable {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        self.0.push((port, frame.to_vec()));
    }
}

impl Appliance {
    fn new(appliance: &prove::gate::Appliance, taken_over: bool) -> Self {
        let mut config = appliance.config.clone();
        // How health is found out is not what is compared: half-open connections are answered with ease.
        for service in &mut config.services {
            service.agent = None;
            service.check = Check {
                kind: CheckKind::Tcp,
                ..service.check.clone()
            };
        }
        let policy = classifier::policy(config.clone(), &appliance.rules).expect("a policy");
        // Not given back, but the test is short.
        let tables = Box::leak(Box::new(Tables::<64, 64>::new()));
        let mut this = Self {
            config,
            node: Box::new(Node::new(Some(policy), tables, 1, Instant::ZERO)),
            now: Instant::ZERO,
        };
        // Checks pass within seconds, a take-over's minute takes a minute.
        let span = if taken_over { 20 } else { 70 };
        let end = Instant::ZERO + Duration::from_secs(span);
        while this.now < end {
            this.now = this
                .node
                .deadline()
                .max(this.now + Duration::from_micros(1));
            let mut cable = Cable::default();
            this.node.poll(this.now, &mut cable);
            this.answer(cable);
        }
        assert_eq!(this.node.state(), Some(State::Active));
        this
    }

    /// Hands it a frame.
    fn take(&mut self, port: u8, frame: &[u8]) -> Cable {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(frame);
        buffer.resize(buffer.len() + 1280, 0);
        let mut cable = Cable::default();
        let frame = Frame::new(&mut buffer, HEADROOM, frame.len()).expect("it fits");
        self.node.ingress(self.now, port, frame, &mut cable);
        cable
    }

    /// Everybody that it asks for is there, and every server accepts connections; the rest is returned.
    fn answer(&mut self, cable: Cable) -> Vec<(u8, Vec<u8>)> {
        let mut rest = Vec::new();
        let mut queue = cable.0;
        while let Some((port, frame)) = queue.pop() {
            match self.reply(port, &frame) {
                Some(reply) => queue.extend(self.take(port, &reply).0),
                None => rest.push((port, frame)),
            }
        }
        rest
    }

    /// A neighbour's answer to a frame, if it is a question.
    fn reply(&self, port: u8, frame: &[u8]) -> Option<Vec<u8>> {
        let (tag, ethertype, body) = split(frame);
        let leg = self.leg(port, tag)?;
        let own = self.config.interfaces[leg].clone();
        let asker: [u8; 6] = frame[6..12].try_into().expect("six bytes");
        if ethertype == 0x0806 {
            let asked = Ipv4Addr::new(body[24], body[25], body[26], body[27]);
            let is_ours = self.addresses().contains(&IpAddr::V4(asked));
            if body[7] != 1 || is_ours {
                return None;
            }
            let mac = mac(asked.into());
            let arp = [
                &[0, 1, 8, 0, 6, 4, 0, 2][..],
                &mac,
                &asked.octets(),
                &body[8..18],
            ]
            .concat();
            return Some(tagged(forge::ethernet(asker, mac, 0x0806, &arp), tag));
        }
        let (source, destination) = ends(body);
        let (kind, start) = if ethertype == 0x86dd {
            (body[6], 40)
        } else {
            (body[9], 20)
        };
        if kind == 58 && body[start] == 135 {
            let octets: [u8; 16] = body[start + 8..start + 24].try_into().expect("an address");
            let asked = Ipv6Addr::from(octets);
            if self.addresses().contains(&IpAddr::V6(asked)) {
                return None;
            }
            let IpAddr::V6(to) = source else { return None };
            let mac = mac(asked.into());
            let mut ip = forge::Ipv6::new(asked, to);
            ip.hop_limit = 255;
            let advertisement = ip.around(&forge::Icmp {
                kind: 136,
                rest: [0x60, 0, 0, 0],
                payload: [&octets[..], &[2, 1], &mac].concat(),
                ..forge::Icmp::default()
            });
            return Some(tagged(
                forge::ethernet(asker, mac, 0x86dd, &advertisement),
                tag,
            ));
        }
        let ours = source == own.address || own.address6.is_some_and(|six| source == six.address);
        if kind != 6 || !ours || body[start + 13] != forge::flags::SYN {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let sequence = u32::from(word(start + 4)) << 16 | u32::from(word(start + 6));
        let accepts = forge::Ip::new(destination, source).around(&forge::Tcp {
            source: word(start + 2),
            destination: word(start),
            acknowledgment: sequence.wrapping_add(1),
            flags: forge::flags::SYN | forge::flags::ACK,
            ..forge::Tcp::default()
        });
        Some(tagged(
            forge::ethernet(asker, mac(destination), ethertype, &accepts),
            tag,
        ))
    }

    fn leg(&self, port: u8, tag: Option<u16>) -> Option<usize> {
        let mut legs = self.config.interfaces.iter();
        legs.position(|leg| leg.port == port && leg.vlan == tag)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let of = |leg: &policy::Interface| {
            let own = [
                Some(leg.address.into()),
                leg.address6.map(|own| own.address.into()),
            ];
            own.into_iter().flatten().collect::<Vec<_>>()
        };
        let own = self.config.interfaces.iter().flat_map(of);
        let shared = self.config.routers.iter().filter_map(|r| r.routed());
        own.chain(shared).collect()
    }

    /// What it does with a packet that a neighbour on `leg` sends it.
    fn judge(&mut self, leg: usize, packet: &Packet) -> Done {
        let on = self.config.interfaces[leg].clone();
        let v6 = packet.version() == Version::V6;
        let router = (self.config.routers_on(leg)).find(|router| router.is_v6() == v6);
        let is_own = packet.destination == on.address
            || on
                .address6
                .is_some_and(|own| packet.destination == own.address);
        let station = match router {
            Some(router) if !is_own => router.mac(),
            _ => on.mac,
        };
        let bytes = forged(packet);
        let frame = forge::ethernet(
            station,
            mac(packet.source),
            forge::ethertype(&bytes),
            &bytes,
        );
        let before = (self.node.counters().clone(), self.node.rule_hits().to_vec());
        let cable = self.take(on.port, &tagged(frame, on.vlan));
        let sent = self.answer(cable);
        let counters = self.node.counters();
        let reason = counters
            .drops()
            .find(|(reason, count)| before.0.dropped(*reason) != *count);
        let hits = self.node.rule_hits().iter().zip(&before.1);
        let reason = reason.map(|(reason, _)| reason.name());
        Done {
            reason,
            rule: hits
                .enumerate()
                .find(|(_, (after, before))| after != before)
                .map(|(rule, _)| rule),
            // What it says about a packet that it drops, and its echo replies, are packets of its own.
            sent: (sent.iter().filter(|_| reason.is_none()))
                .map(|(port, frame)| self.sent(*port, frame))
                .find(|sent| {
                    !self.addresses().contains(&sent.source.0) || is_translated(packet, sent)
                }),
        }
    }

    /// Whether the next packet may be judged otherwise because of this one: it opened a flow, counted for a limit, or had
    /// its turn at a service.
    fn remembers(&self, done: &Done, packet: &Packet) -> bool {
        let mut services = self.config.services.iter();
        self.node.flows() > 0
            || done.rule.is_some()
            || services.any(|service| service.address == packet.destination)
    }

    fn sent(&self, port: u8, frame: &[u8]) -> Sent {
        let (tag, _, body) = split(frame);
        let leg = self.leg(port, tag).expect("one of its legs");
        let (source, destination) = ends(body);
        let v6 = source.is_ipv6();
        let (kind, start, ttl) = if v6 {
            (body[6], 40, body[7])
        } else {
            (body[9], 20, body[8])
        };
        let word = |at: usize| u16::from_be_bytes([body[start + at], body[start + at + 1]]);
        let (from, to) = match kind {
            6 | 17 => (word(0), word(2)),
            1 | 58 => (word(4), word(0)),
            _ => (0, 0),
        };
        let station: [u8; 6] = frame[..6].try_into().expect("six bytes");
        let defaults = [
            self.config.default_route.map(IpAddr::V4),
            self.config.default_route6.map(IpAddr::V6),
        ];
        let mut near = defaults
            .into_iter()
            .flatten()
            .chain([destination])
            .chain(servers(&self.config));
        Sent {
            leg,
            next: near
                .find(|address| mac(*address) == station)
                .expect("a neighbour"),
            source: (source, from),
            destination: (destination, to),
            ttl,
        }
    }
}

/// Whether it can be the packet that was judged, from an address of the appliance.
fn is_translated(packet: &Packet, sent: &Sent) -> bool {
    sent.ttl == packet.hops - 1 && sent.destination.0 != packet.source
}

fn servers(config: &Config) -> impl Iterator<Item = IpAddr> {
    (config.services.iter()).flat_map(|service| service.servers.iter().map(|server| server.address))
}

/// A neighbour's MAC address, for whatever address it answers.
fn mac(address: IpAddr) -> [u8; 6] {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) | 4 << 64,
        IpAddr::V6(address) => address.to_bits(),
    };
    let hash = (bits % 0xff_ffff_fffb) as u64;
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    [2, a, b, c, d, e]
}

fn tagged(frame: Vec<u8>, tag: Option<u16>) -> Vec<u8> {
    let Some(tag) = tag else { return frame };
    [&frame[..12], &[0x81, 0], &tag.to_be_bytes(), &frame[12..]].concat()
}

fn split(frame: &[u8]) -> (Option<u16>, u16, &[u8]) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    match word(12) {
        0x8100 => (Some(word(14) & 0xfff), word(16), &frame[18..]),
        ethertype => (None, ethertype, &frame[14..]),
    }
}

fn ends(packet: &[u8]) -> (IpAddr, IpAddr) {
    let six = |at: usize| -> IpAddr {
        let octets: [u8; 16] = packet[at..at + 16].try_into().expect("an address");
        Ipv6Addr::from(octets).into()
    };
    let four = |at: usize| -> IpAddr {
        let octets: [u8; 4] = packet[at..at + 4].try_into().expect("an address");
        Ipv4Addr::from(octets).into()
    };
    match packet[0] >> 4 {
        6 => (six(8), six(24)),
        _ => (four(12), four(16)),
    }
}

/// The packet's bytes, written by code that shares nothing with what is tested.
fn forged(packet: &Packet) -> Vec<u8> {
    let ip = forge::Ip::new(packet.source, packet.destination).ttl(packet.hops);
    match packet.protocol {
        protocol::TCP => {
            let acknowledges = packet.flags & flags::ACK != 0;
            ip.around(&forge::Tcp {
                source: packet.source_port,
                destination: packet.destination_port,
                acknowledgment: if acknowledges { 9001 } else { 0 },
                flags: packet.flags,
                ..forge::Tcp::default()
            })
        }
        protocol::UDP => ip.around(&forge::Udp {
            source: packet.source_port,
            destination: packet.destination_port,
            payload: b"payload".to_vec(),
            ..forge::Udp::default()
        }),
        protocol::ICMP | protocol::ICMP6 => {
            let [kind, code] = packet.destination_port.to_be_bytes();
            ip.around(&forge::Icmp {
                code,
                ..forge::Icmp::echo(kind, packet.source_port, 1)
            })
        }
        other => ip.raw(other, b"payload"),
    }
}

/// What a trace says of the appliance's part.
fn told(rack: &Rack<'_>, trace: &Trace) -> Option<Done> {
    let decision = trace.decision.as_ref()?;
    let legs = &rack.plan.appliances[0].legs;
    let leg = |name: &String| legs.iter().position(|leg| leg.network == *name);
    let seen = &trace.seen;
    let sent = decision
        .to
        .as_ref()
        .and_then(leg)
        .zip(decision.next)
        .map(|(leg, next)| Sent {
            leg,
            next,
            source: (seen.source, seen.source_port),
            destination: (seen.destination, seen.destination_port),
            ttl: seen.hops,
        });
    Some(Done {
        reason: decision.reason,
        rule: decision.rule.as_ref().map(|rule| rule.index),
        sent,
    })
}

/// Packets between addresses and ports that mean something to the site, and others.
fn packets(plan: &site::Plan, version: Version) -> impl Strategy<Value = Packet> + use<> {
    let is_of = move |address: &IpAddr| Version::of(*address) == version;
    let servers = plan.servers.iter().flat_map(site::plan::Server::addresses);
    let virtuals = plan.networks.iter().flat_map(|network| {
        [
            Some(IpAddr::V4(network.virtual_address)),
            network.virtual6.map(IpAddr::V6),
        ]
    });
    let own = plan
        .appliances
        .iter()
        .flat_map(|appliance| &appliance.legs)
        .flat_map(|leg| [Some(IpAddr::V4(leg.address)), leg.address6.map(IpAddr::V6)]);
    let others = OTHERS
        .iter()
        .map(|text| text.parse::<IpAddr>().expect("an address"));
    let servers: Vec<IpAddr> = servers.filter(is_of).collect();
    let others: Vec<IpAddr> = others.filter(is_of).collect();
    let virtuals: Vec<IpAddr> = virtuals.flatten().filter(is_of).collect();
    let own: Vec<IpAddr> = own.flatten().filter(is_of).collect();
    let source = prop_oneof![
        4 => select(servers.clone()),
        4 => select(others.clone()),
        1 => select([virtuals.clone(), own.clone()].concat()),
    ];
    let destination = prop_oneof![
        4 => select(servers),
        4 => select(virtuals),
        2 => select(others),
        1 => select(own),
    ];
    let port = prop_oneof![8 => select(PORTS.to_vec()), 1 => any::<u16>()];
    let source_port = prop_oneof![8 => 1024_u16.., 1 => any::<u16>()];
    let flag = prop_oneof![6 => Just(flags::SYN), 2 => 0_u8..0x20];
    let hops = prop_oneof![6 => Just(64_u8), 1 => select(vec![1, 2, 255])];
    let (icmp, request) = match version {
        Version::V4 => (protocol::ICMP, 8),
        Version::V6 => (protocol::ICMP6, 128),
    };
    let kinds = prop_oneof![
        6 => Just(protocol::TCP),
        3 => Just(protocol::UDP),
        2 => Just(icmp),
        1 => select(vec![47, 50, 132]),
    ];
    // Not neighbour discovery, which is no packet on its way.
    let icmp_type = prop_oneof![3 => Just(request), 1 => 0_u8..130];
    (
        source,
        destination,
        kinds,
        source_port,
        port,
        flag,
        hops,
        icmp_type,
    )
        .prop_map(
            move |(source, destination, kind, source_port, port, flag, hops, icmp_type)| {
                let (source_port, destination_port) = match kind {
                    protocol::TCP | protocol::UDP => (source_port, port),
                    protocol::ICMP | protocol::ICMP6 => (source_port, u16::from(icmp_type) << 8),
                    _ => (0, 0),
                };
                Packet {
                    source,
                    destination,
                    protocol: kind,
                    source_port,
                    destination_port,
                    // No PSH and URG, which no rule asks for.
                    flags: if kind == protocol::TCP {
                        flag & 0x17
                    } else {
                        0
                    },
                    hops,
                }
            },
        )
}

/// Packets that a rule, or a service before it, was written for; most of them at least.
fn fitting(
    appliance: &prove::gate::Appliance,
    version: Version,
) -> impl Strategy<Value = Packet> + use<> {
    let (rules, services) = (appliance.rules.clone(), appliance.config.services.clone());
    let stranger: IpAddr = match version {
        Version::V4 => [198, 51, 100, 7].into(),
        Version::V6 => "2001:db8:ffff::7".parse().expect("an address"),
    };
    let place = any::<prop::sample::Index>;
    let picks = (place(), place(), place(), place(), place(), any::<bool>());
    picks.prop_filter_map(
        "a rule of the other version",
        move |(rule, from, to, one, other, asks)| {
            let rule = rule.get(&rules);
            let address = |prefixes: &[policy::IpPrefix], pick: &prop::sample::Index| {
                let of: Vec<_> = prefixes
                    .iter()
                    .filter_map(|prefix| host(prefix, one, version))
                    .collect();
                match prefixes.is_empty() {
                    true => Some(stranger),
                    false => (!of.is_empty()).then(|| *pick.get(&of)),
                }
            };
            let port =
                |ranges: &[std::ops::RangeInclusive<u16>], pick: &prop::sample::Index| match ranges
                {
                    [] => 40_000,
                    ranges => {
                        let range = pick.get(ranges);
                        range.start()
                            + pick.index(usize::from(range.end() - range.start()) + 1) as u16
                    }
                };
            let mut packet = Packet {
                source: address(&rule.sources, &from)?,
                destination: address(&rule.destinations, &to)?,
                protocol: 0,
                source_port: 0,
                destination_port: 0,
                flags: 0,
                hops: 64,
            };
            let (number, ports) = match &rule.protocol {
                Protocol::Any => (protocol::UDP, Some(Ports::default())),
                Protocol::Tcp(ports) => (protocol::TCP, Some(ports.clone())),
                Protocol::Udp(ports) => (protocol::UDP, Some(ports.clone())),
                Protocol::Icmp(_) if version == Version::V4 => (protocol::ICMP, None),
                Protocol::Icmp6(_) if version == Version::V6 => (protocol::ICMP6, None),
                Protocol::Icmp(_) | Protocol::Icmp6(_) => return None,
                Protocol::Number(number) => (*number, None),
            };
            packet.protocol = number;
            if number == protocol::TCP {
                packet.flags = flags::SYN;
            }
            match (&rule.protocol, ports) {
                (_, Some(ports)) => {
                    packet.source_port = port(&ports.source, &other);
                    packet.destination_port = port(&ports.destination, &one);
                }
                (Protocol::Icmp(types) | Protocol::Icmp6(types), None) => {
                    packet.source_port = 7;
                    packet.destination_port = u16::from(types.first().copied().unwrap_or(8)) << 8;
                }
                (_, None) => {}
            }
            let service = services.iter().find(|service| {
                service.servers.iter().chain(&service.sorry).any(|server| {
                    (server.address, server.port) == (packet.destination, packet.destination_port)
                })
            });
            if let Some(service) = service.filter(|_| asks) {
                packet.destination = service.address;
                packet.destination_port = service.port;
            }
            Some(packet)
        },
    )
}

/// An address of a prefix.
fn host(prefix: &policy::IpPrefix, pick: prop::sample::Index, version: Version) -> Option<IpAddr> {
    let bits = |length: u8, width: u8| pick.index(1 << (width - length).min(12)) as u32;
    match (prefix, version) {
        (policy::IpPrefix::V4(prefix), Version::V4) => {
            let host = prefix.address.to_bits() + bits(prefix.length, 32);
            Some(Ipv4Addr::from_bits(host).into())
        }
        (policy::IpPrefix::V6(prefix), Version::V6) => {
            let host = prefix.address.to_bits() + u128::from(bits(prefix.length, 128));
            Some(Ipv6Addr::from_bits(host).into())
        }
        (policy::IpPrefix::V4(_) | policy::IpPrefix::V6(_), _) => None,
    }
}

const PORTS: [u16; 12] = [22, 23, 53, 80, 123, 443, 3306, 8080, 9000, 9090, 9091, 9100];
/// Strangers, sets of the examples, and what no router forwards.
const OTHERS: [&str; 18] = [
    "198.51.100.7",
    "198.51.100.9",
    "198.51.100.66",
    "198.51.100.130",
    "192.0.2.9",
    "203.0.113.1",
    "203.0.113.77",
    "203.0.113.255",
    "10.20.1.99",
    "10.20.9.9",
    "127.0.0.1",
    "224.0.0.1",
    "2001:db8:ffff::7",
    "2001:db8:7::7",
    "2001:db8:9::80",
    "2001:db8:0:23:cf47::11",
    "2001:db8:0:21::99",
    "fe80::7",
];

/// Compares many packets of one version over one site.
fn compare(site: &str, version: Version, cases: u32) {
    let plan = plan(site);
    let rack = Rack::of(&plan).expect("a rack");
    let space = Space::new(version);
    let view = View::new(&rack, &space);
    let gate = 0;
    let any = packets(&plan, version);
    let fitting = fitting(&rack.appliances[gate], version);
    let packet = prop_oneof![1 => any, 2 => fitting];
    let asked = (packet, prop::bool::weighted(0.3), prop::bool::weighted(0.1));
    let nodes = RefCell::new([None, None]);
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let mut counts = RefCell::new(BTreeMap::<String, u32>::new());
    let result = runner.run(&asked, |(packet, outside, taken_over)| {
        let from = if outside {
            Component::Internet
        } else {
            view.sender(&packet)
        };
        let question = Question {
            from: Some(from),
            moment: Moment {
                taken_over,
                ..Moment::default()
            },
            ..Question::new(packet, gate)
        };
        let traces = view.ask(&question).expect("a device");
        let first = &traces[0];
        prop_assert!(
            traces.iter().all(|trace| trace.agrees),
            "sets and device differ"
        );
        let end = match &first.end {
            End::Delivered { .. } => "delivered".to_owned(),
            End::Dropped { why, .. } => why.chars().take(30).collect(),
        };
        *counts.borrow_mut().entry(end).or_default() += 1;
        if let (Some(told), Some(leg)) = (told(&rack, first), view.leg(gate, from)) {
            let node = &mut nodes.borrow_mut()[usize::from(taken_over)];
            let appliance =
                node.get_or_insert_with(|| Appliance::new(&rack.appliances[gate], taken_over));
            let done = appliance.judge(leg.into(), &packet);
            if appliance.remembers(&done, &packet) {
                *node = None;
            }
            prop_assert_eq!(done, told);
        }
        // The answer comes back as an answer to what was sent.
        if let (Some(answer), Component::Internet | Component::Server(_)) = (&first.answer, from)
            && packet.opens()
        {
            prop_assert!(
                packet.is_answered_by(&answer.seen),
                "{} is no answer",
                answer.seen
            );
        }
        if packet.opens() && !matches!(from, Component::Appliance(_)) {
            let reached: BTreeSet<&str> = (rack.components().into_iter())
                .filter(|to| !matches!(to, Component::Appliance(_)) && *to != from)
                .filter(|to| {
                    let direct = view.direct(from, *to);
                    let routes = view.routes(gate, from, *to);
                    (direct.iter().chain(&routes)).any(|route| space.contains(&route.sent, &packet))
                })
                .map(|to| rack.name(to))
                .collect();
            for trace in &traces {
                match &trace.end {
                    End::Delivered { to } if rack.plan.appliances.iter().any(|a| a.name == *to) => {
                    }
                    End::Delivered { to } => prop_assert!(
                        reached.contains(to.as_str()) || *to == rack.name(from),
                        "the proof says {:?}, the trace {}",
                        reached,
                        to
                    ),
                    End::Dropped { at, why } => prop_assert!(
                        reached.is_empty(),
                        "the proof says {:?}, the trace is dropped at {}: {}",
                        reached,
                        at,
                        why
                    ),
                }
            }
        }
        Ok(())
    });
    let counts = counts.get_mut();
    assert!(result.is_ok(), "{}", result.expect_err("just asked"));
    // Not all of one kind.
    assert!(
        counts
            .get("delivered")
            .is_some_and(|count| *count > cases / 10),
        "{counts:?}"
    );
    assert!(counts.len() > 4, "{counts:?}");
}

/// Without optimisation a node is copied several times on its way to the heap: more than a test's thread has room for.
fn with_room(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(test);
    if let Err(panic) = thread.expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn traces_of_the_small_example() {
    with_room(|| compare(FOOBAR, Version::V4, 200));
}

#[test]
fn traces_of_the_large_example() {
    with_room(|| compare(DUALSTACK, Version::V4, 200));
}

#[test]
fn traces_of_the_large_example_with_ipv6() {
    with_room(|| compare(DUALSTACK, Version::V6, 200));
}
