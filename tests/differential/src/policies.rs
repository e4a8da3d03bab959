//! Policies at random, and packets that look for their edges. The same seed gives the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use fastrand::Rng;
use forge::flags::{ACK, FIN, PSH, RST, SYN};
use forge::{Icmp, Ip, Tcp, Udp};
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{IpPrefix, Nat, Prefix, Prefix6, Transport};

use crate::site::{DMZ, LAN, LEGS, Site, WAN, host, host6, name};
use crate::story::{Step, Story};
use crate::{Emission, stories};

/// A policy with this seed: the services of [`stories::site`], and rules and translations of any kind.
///
/// # Panics
/// Never: what does not fit together is drawn again.
#[must_use]
pub fn site(seed: u64) -> Site {
    let mut rng = Rng::with_seed(seed);
    loop {
        let mut site = stories::site();
        let most = match rng.u8(0..4) {
            0 => 4,
            1 | 2 => 20,
            _ => 80,
        };
        site.rules = (0..rng.u16(1..=most)).map(|n| rule(&mut rng, n)).collect();
        for _ in 0..rng.u8(0..6) {
            let nat = translation(&mut rng);
            site.config.nat.push(nat).expect("there is room for five");
        }
        if classifier::policy(site.config.clone(), &site.rules).is_ok() {
            return site;
        }
    }
}

fn rule(rng: &mut Rng, number: u16) -> Rule {
    let state = stories::pick(
        rng,
        [
            State::New,
            State::New,
            State::New,
            State::Any,
            State::Invalid,
        ],
    );
    let refuses = [Action::Drop, Action::Reject];
    Rule {
        name: name(&format!("r{number}")),
        from: legs(rng),
        to: legs(rng),
        sources: prefixes(rng),
        destinations: prefixes(rng),
        protocol: protocol(rng),
        state,
        action: match state {
            State::New if rng.u8(0..5) < 3 => Action::Accept,
            State::New | State::Any | State::Invalid => stories::pick(rng, refuses),
        },
        log: false,
        rate: None,
        flows: None,
        sharing: policy::rule::Sharing::Usual,
    }
}

fn legs(rng: &mut Rng) -> Legs {
    match rng.u8(0..4) {
        0 => Legs::ANY,
        1 => Legs(rng.u8(1..8)),
        _ => Legs::one(rng.u8(0..3)),
    }
}

/// Prefixes of all lengths around hosts of both versions; often none.
fn prefixes(rng: &mut Rng) -> Vec<IpPrefix> {
    let many = stories::pick(rng, [0, 0, 0, 1, 2, 3, 6]);
    let prefix = |rng: &mut Rng| match rng.bool() {
        true => {
            let length = stories::pick(rng, [32, 32, 31, 30, 29, 28, 24, 23, 16, 8, 1, 0]);
            IpPrefix::V4(Prefix::of(address4(rng), length))
        }
        false => {
            let length = stories::pick(rng, [128, 128, 127, 126, 125, 124, 64, 63, 48, 32, 3, 0]);
            IpPrefix::V6(Prefix6::of(address6(rng), length))
        }
    };
    (0..many).map(|_| prefix(rng)).collect()
}

fn address4(rng: &mut Rng) -> Ipv4Addr {
    let leg = rng.u8(0..3);
    match rng.u8(0..4) {
        0 => outside4(rng),
        _ => host(leg, neighbour(rng, leg)),
    }
}

fn address6(rng: &mut Rng) -> Ipv6Addr {
    let leg = rng.u8(0..3);
    match rng.u8(0..4) {
        0 => outside6(rng),
        _ => host6(leg, neighbour(rng, leg)),
    }
}

fn neighbour(rng: &mut Rng, leg: u8) -> u8 {
    let list = LEGS[usize::from(leg)].neighbours;
    list[rng.usize(..list.len())]
}

fn outside4(rng: &mut Rng) -> Ipv4Addr {
    let net = stories::pick(
        rng,
        [[198, 51, 100], [198, 51, 101], [192, 0, 2], [9, 9, 9]],
    );
    Ipv4Addr::new(net[0], net[1], net[2], rng.u8(1..=8))
}

fn outside6(rng: &mut Rng) -> Ipv6Addr {
    let net = stories::pick(rng, [0xffff, 0xfffe, 0xfff0, 0x8000]);
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, rng.u16(1..=8))
}

fn protocol(rng: &mut Rng) -> Protocol {
    let ports = |rng: &mut Rng| Ports {
        source: match rng.u8(0..6) {
            0 => ranges(rng, 20_000, 400),
            _ => Vec::new(),
        },
        destination: match rng.u8(0..4) {
            0 => Vec::new(),
            _ => ranges(rng, 1, 100),
        },
    };
    match rng.u8(0..10) {
        0 | 1 => Protocol::Any,
        2..=4 => Protocol::Tcp(ports(rng)),
        5 | 6 => Protocol::Udp(ports(rng)),
        7 => Protocol::Icmp(types(rng, 8)),
        8 => Protocol::Icmp6(types(rng, 128)),
        _ => Protocol::Number(stories::pick(rng, OTHERS)),
    }
}

/// Protocols that netfilter keeps no account of its own of.
const OTHERS: [u8; 4] = [50, 89, 103, 253];

/// Up to four ranges, which may overlap.
fn ranges(rng: &mut Rng, first: u16, many: u16) -> Vec<RangeInclusive<u16>> {
    let range = |rng: &mut Rng| {
        let start = first + rng.u16(0..many);
        match rng.u8(0..5) {
            0 => start..=u16::MAX,
            1 | 2 => start..=start + rng.u16(0..many / 4),
            _ => start..=start,
        }
    };
    (0..rng.u8(1..5)).map(|_| range(rng)).collect()
}

fn types(rng: &mut Rng, echo: u8) -> Vec<u8> {
    match rng.u8(0..4) {
        0 => Vec::new(),
        1 => vec![echo, echo + 1],
        2 => vec![rng.u8(..)],
        _ => vec![echo],
    }
}

fn translation(rng: &mut Rng) -> Nat {
    if rng.u8(0..3) == 0 {
        let (inside, to) = (stories::pick(rng, [LAN, DMZ]), rng.u8(0..3));
        let list = LEGS[usize::from(to)].virtuals;
        return Nat::Source {
            source: Prefix::of(
                host(inside, neighbour(rng, inside)),
                stories::pick(rng, [32, 30, 24, 8, 0]),
            ),
            to,
            address: list[rng.usize(..list.len())],
            // All: which one is taken instead of one outside is random in both worlds.
            first: 1,
            last: u16::MAX,
        };
    }
    let (leg, behind) = (rng.u8(0..3), rng.u8(0..3));
    let own = LEGS[usize::from(leg)];
    let number = neighbour(rng, behind);
    let (address, server): (IpAddr, IpAddr) = match rng.bool() {
        true => {
            let address = own.virtuals[rng.usize(..own.virtuals.len())];
            (address.into(), host(behind, number).into())
        }
        false => {
            let address = own.virtuals6[rng.usize(..own.virtuals6.len())];
            (address.into(), host6(behind, number).into())
        }
    };
    let first = rng.u16(1..100);
    Nat::Destination {
        transport: stories::pick(rng, [Transport::Tcp, Transport::Udp]),
        address,
        first,
        last: first + stories::pick(rng, [0, 0, 1, 9]),
        server,
        server_port: rng.u16(1..200),
    }
}

/// The first packet of a conversation under a site's policy, most often one that a rule or a translation is about.
#[must_use]
pub fn begin(rng: &mut Rng, site: &Site, number: u32) -> Story {
    let rule = rng.choice(&site.rules);
    let v6 = rng.bool();
    let leg = match rule {
        Some(rule) if rng.u8(0..4) > 0 => {
            let legs: Vec<u8> = (0..3).filter(|leg| rule.from.contains(*leg)).collect();
            rng.choice(legs).unwrap_or(WAN)
        }
        _ => rng.u8(0..3),
    };
    let to = match rule {
        Some(rule) if rng.u8(0..4) > 0 => {
            let legs: Vec<u8> = (0..3).filter(|leg| rule.to.contains(*leg)).collect();
            rng.choice(legs).unwrap_or(LAN)
        }
        _ => rng.u8(0..3),
    };
    let (sources, destinations) = match rule {
        Some(rule) => (&rule.sources[..], &rule.destinations[..]),
        None => (&[][..], &[][..]),
    };
    let source = end(rng, leg, v6, sources);
    let mut destination = end(rng, to, v6, destinations);
    let mut kind = rule.map_or(Protocol::Any, |rule| rule.protocol.clone());
    if rng.u8(0..4) == 0 {
        kind = protocol(rng);
    }
    let mut port = stories::pick(rng, [1, 22, 53, 80, 99]);
    if let Protocol::Tcp(ports) | Protocol::Udp(ports) = &kind
        && let Some(range) = rng.choice(&ports.destination)
    {
        let ends = [*range.start(), *range.end()];
        port = stories::pick(rng, ends).saturating_add_signed(stories::pick(rng, [0, 0, 0, -1, 1]));
    }
    // The port of its own that no other story has.
    let own = 20_000 + (number % 40_000) as u16;
    // What is forwarded, its neighbours and what is served.
    if rng.u8(0..3) == 0 {
        let forwarded = site.config.nat.iter().filter_map(|nat| match nat {
            Nat::Destination {
                transport,
                address,
                first,
                last,
                ..
            } if address.is_ipv6() == v6 => Some((*transport, *address, *first, *last)),
            Nat::Destination { .. } | Nat::Source { .. } | Nat::Prefix6 { .. } => None,
        });
        let served = site.config.services.iter();
        let served = served.filter(|service| service.address.is_ipv6() == v6);
        let served = served.map(|it| (it.transport, it.address, it.port, it.port));
        let list: Vec<_> = forwarded.chain(served).collect();
        if let Some((transport, address, first, last)) = rng.choice(list) {
            destination = address;
            port = rng
                .u16(first..=last)
                .saturating_add_signed(stories::pick(rng, [0, 0, 0, 1]));
            kind = match transport {
                Transport::Tcp => Protocol::Tcp(Ports::default()),
                Transport::Udp => Protocol::Udp(Ports::default()),
            };
        }
    }
    let ip = Ip::new(source, destination);
    let (what, packet) = first(rng, &ip, &kind, v6, (own, port));
    Story {
        name: "a conversation",
        number,
        steps: vec![Step::one(leg, what, packet)],
    }
}

/// An address behind a leg, in one of the prefixes if one has any.
fn end(rng: &mut Rng, leg: u8, v6: bool, prefixes: &[IpPrefix]) -> IpAddr {
    let mut candidates: Vec<IpAddr> = Vec::new();
    for number in LEGS[usize::from(leg)].neighbours {
        candidates.push(match v6 {
            true => host6(leg, *number).into(),
            false => host(leg, *number).into(),
        });
    }
    if leg == WAN {
        for _ in 0..16 {
            candidates.push(match v6 {
                true => outside6(rng).into(),
                false => outside4(rng).into(),
            });
        }
    }
    let inside = candidates
        .iter()
        .filter(|it| prefixes.iter().any(|prefix| prefix.contains(**it)));
    let inside: Vec<IpAddr> = inside.copied().collect();
    let list = if inside.is_empty() || rng.u8(0..8) == 0 {
        candidates
    } else {
        inside
    };
    list[rng.usize(..list.len())]
}

/// A packet that begins something, or should not.
fn first(
    rng: &mut Rng,
    ip: &Ip,
    protocol: &Protocol,
    v6: bool,
    (own, port): (u16, u16),
) -> (&'static str, Vec<u8>) {
    let echo = if v6 { 128 } else { 8 };
    let udp = Udp {
        source: own,
        destination: port,
        payload: b"question".to_vec(),
        ..Udp::default()
    };
    let tcp = |flags| Tcp {
        source: own,
        destination: port,
        flags,
        acknowledgment: if flags & ACK == 0 { 0 } else { 5000 },
        ..Tcp::default()
    };
    match protocol {
        Protocol::Tcp(_) => match rng.u8(0..5) {
            0 => {
                let flags = stories::pick(rng, [ACK, ACK | PSH, ACK | FIN, RST, SYN | ACK]);
                ("stray", ip.around(&tcp(flags)))
            }
            _ => ("syn", ip.around(&tcp(SYN))),
        },
        Protocol::Udp(_) => ("datagram", ip.around(&udp)),
        Protocol::Icmp(_) | Protocol::Icmp6(_) => {
            let kind = stories::pick(rng, [echo, echo, echo, echo + 1]);
            ("ping", ip.around(&Icmp::echo(kind, own, 1)))
        }
        Protocol::Number(number) => ("other protocol", ip.raw(*number, b"whatever")),
        Protocol::Any => match rng.u8(0..4) {
            0 => ("ping", ip.around(&Icmp::echo(echo, own, 1))),
            1 => ("datagram", ip.around(&udp)),
            2 => ("syn", ip.around(&tcp(SYN))),
            _ => (
                "other protocol",
                ip.raw(stories::pick(rng, OTHERS), b"whatever"),
            ),
        },
    }
}

/// What comes next in a conversation, after these steps and what came of the last one: an answer to what got through, as long
/// as somebody has something to say.
#[must_use]
pub fn next(rng: &mut Rng, steps: &[Step], sent: &[Emission]) -> Option<Step> {
    let [one] = sent else { return None };
    let came = steps.last()?.packets.first()?;
    // What the appliance says itself is no packet with a hop less.
    let passed = hops(&one.packet)? + 1 == hops(came)?;
    if !passed || steps.len() > 5 {
        return None;
    }
    let (what, packet) = match rng.u8(0..8) {
        0 => ("an error", error(rng, &one.packet)?),
        1 => ("an answer that ends it", answer(&one.packet, true)?),
        _ => ("an answer", answer(&one.packet, false)?),
    };
    Some(Step::one(one.leg, what, packet))
}

fn hops(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => packet.get(8).copied(),
        _ => packet.get(7).copied(),
    }
}

/// An error about a packet from whom it was for.
fn error(rng: &mut Rng, packet: &[u8]) -> Option<Vec<u8>> {
    let v6 = packet.first()? >> 4 == 6;
    let (kind, code) = match v6 {
        false => stories::pick(rng, [(3, 3), (3, 1), (3, 4), (11, 0)]),
        true => stories::pick(rng, [(1, 4), (1, 0), (2, 0), (3, 0)]),
    };
    let most = if v6 { 48 } else { 28 };
    let ip = Ip::new(crate::destination(packet), crate::source(packet));
    Some(ip.around(&Icmp {
        rest: [0, 0, 5, 0x14],
        ..Icmp::about(kind, code, packet, most)
    }))
}

/// What whom a packet was for says to it.
fn answer(packet: &[u8], ends: bool) -> Option<Vec<u8>> {
    let v6 = packet.first()? >> 4 == 6;
    let (protocol, start) = match v6 {
        false => (*packet.get(9)?, 20),
        true => (*packet.get(6)?, 40),
    };
    let word = |at: usize| {
        let pair = packet.get(start + at..start + at + 2)?;
        Some(u16::from_be_bytes([pair[0], pair[1]]))
    };
    let long = |at: usize| Some(u32::from(word(at)?) << 16 | u32::from(word(at + 2)?));
    let ip = Ip::new(crate::destination(packet), crate::source(packet));
    Some(match protocol {
        6 => {
            let flags = *packet.get(start + 13)?;
            let data = packet.len() - start - usize::from(*packet.get(start + 12)? >> 4) * 4;
            let counted = data as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            let begins = flags & ACK == 0;
            ip.around(&Tcp {
                source: word(2)?,
                destination: word(0)?,
                sequence: if begins { 70_000 } else { long(8)? },
                acknowledgment: long(4)?.wrapping_add(counted),
                flags: match (begins, ends) {
                    (true, false) => SYN | ACK,
                    (true, true) | (false, true) => RST | ACK,
                    (false, false) => ACK | PSH,
                },
                payload: if begins || ends {
                    Vec::new()
                } else {
                    b"data".to_vec()
                },
                ..Tcp::default()
            })
        }
        17 => ip.around(&Udp {
            source: word(2)?,
            destination: word(0)?,
            payload: b"answer".to_vec(),
            ..Udp::default()
        }),
        1 | 58 => {
            let kind = match *packet.get(start)? {
                8 => 0,
                0 => 8,
                128 => 129,
                129 => 128,
                _ => return None,
            };
            ip.around(&Icmp::echo(kind, word(4)?, word(6)?))
        }
        number => ip.raw(number, b"something else"),
    })
}
