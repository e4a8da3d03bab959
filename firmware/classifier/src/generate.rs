//! Sets of rules like those of ClassBench (Taylor and Turner, 2007), and keys that hit them: the same on every
//! run, for tests and benches.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{IpPrefix, Name, Prefix, Prefix6};
use random::SplitMix64;

use crate::{Addresses, Key, linear};

/// What a set looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Access lists: narrow destinations below some networks, few wildcards, exact ports.
    Acl,
    /// Firewalls: one of source and destination is often any or wide, ports are often ranges.
    Firewall,
}

/// IP version of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// `count` rules that differ in what they match.
#[must_use]
pub fn rules(kind: Kind, version: Version, count: usize, seed: u64) -> Vec<Rule> {
    let mut random = Random::new(seed);
    let networks: Vec<u32> = (0..count / 16 + 4).map(|_| random.next() as u32).collect();
    let mut rules: Vec<Rule> = Vec::new();
    let mut seen = alloc::collections::BTreeSet::new();
    while rules.len() < count {
        let rule = rule(kind, version, &networks, &mut random);
        if seen.insert(alloc::format!("{rule:?}")) {
            rules.push(rule);
        }
    }
    // As administrators write them: what is special stands before what is general.
    rules.sort_by_key(|rule| core::cmp::Reverse(specificity(rule)));
    rules
}

/// A key that the rule matches, at an end or inside of each of its fields; lists by their first entry.
#[must_use]
pub fn key(rule: &Rule, version: Version, random: &mut Random) -> Key {
    let any = match version {
        Version::V4 => IpPrefix::V4(Prefix::ANY),
        Version::V6 => IpPrefix::V6(Prefix6::ANY),
    };
    let pick = |list: &[IpPrefix], random: &mut Random| match *list.first().unwrap_or(&any) {
        IpPrefix::V4(prefix) => {
            let (first, last) = (prefix.address.to_bits(), prefix.last().to_bits());
            [random.between(first, last), 0, 0, 0]
        }
        IpPrefix::V6(prefix) => {
            let (first, last) = (prefix.address.to_bits(), prefix.last().to_bits());
            [96, 64, 32, 0]
                .map(|shift| random.between((first >> shift) as u32, (last >> shift) as u32))
        }
    };
    let port = |list: &[RangeInclusive<u16>], random: &mut Random| {
        let range = list.first().cloned().unwrap_or(0..=u16::MAX);
        random.between((*range.start()).into(), (*range.end()).into()) as u16
    };
    let (source, destination) = (
        pick(&rule.sources, random),
        pick(&rule.destinations, random),
    );
    let (protocol, source_port, destination_port) = match &rule.protocol {
        Protocol::Any => (linear::TCP, random.next() as u16, random.next() as u16),
        Protocol::Tcp(ports) => (
            linear::TCP,
            port(&ports.source, random),
            port(&ports.destination, random),
        ),
        Protocol::Udp(ports) => (
            linear::UDP,
            port(&ports.source, random),
            port(&ports.destination, random),
        ),
        Protocol::Icmp(_) => (linear::ICMP, 0, 0x0800),
        Protocol::Icmp6(_) => (linear::ICMP6, 0, 0x8000),
        Protocol::Number(number) => (*number, 0, 0),
    };
    let leg = |legs: Legs| legs.0.trailing_zeros().min(7) as u8;
    Key {
        addresses: match version {
            Version::V4 => Addresses::V4 {
                source: source[0],
                destination: destination[0],
            },
            Version::V6 => Addresses::V6 {
                source,
                destination,
            },
        },
        source_port,
        destination_port,
        protocol,
        from: leg(rule.from),
        to: leg(rule.to),
        state: crate::State::New,
    }
}

fn rule(kind: Kind, version: Version, networks: &[u32], random: &mut Random) -> Rule {
    let (source, destination) = match (kind, random.below(100)) {
        (Kind::Acl, 0..6) => (0, length(random, 20, 32)),
        (Kind::Acl, 6..20) => (length(random, 8, 24), length(random, 24, 32)),
        (Kind::Acl, 20..99) => (length(random, 20, 32), length(random, 20, 32)),
        (Kind::Acl, _) => (length(random, 8, 32), 0),
        (Kind::Firewall, 0..40) => (0, length(random, 16, 32)),
        (Kind::Firewall, 40..65) => (length(random, 16, 32), 0),
        (Kind::Firewall, 65..70) => (0, 0),
        (Kind::Firewall, 70..85) => (length(random, 4, 16), length(random, 20, 32)),
        (Kind::Firewall, _) => (length(random, 20, 32), length(random, 20, 32)),
    };
    let protocol = protocol(kind, version, random);
    let legs = |random: &mut Random| match random.below(3) {
        0 => Legs::ANY,
        1 => Legs::one(0),
        _ => Legs::one(1),
    };
    Rule {
        name: Name::new(),
        from: legs(random),
        to: Legs::ANY,
        sources: prefix(version, source, networks, random),
        destinations: prefix(version, destination, networks, random),
        protocol,
        state: State::New,
        action: if random.below(4) == 0 {
            Action::Drop
        } else {
            Action::Accept
        },
        log: false,
        rate: None,
        flows: None,
        sharing: policy::rule::Sharing::Usual,
    }
}

fn length(random: &mut Random, first: u32, last: u32) -> u8 {
    // Whole octets and hosts are more common than the rest.
    let length = random.between(first, last);
    let common = [16, 24, 32][random.below(3)];
    if random.below(2) == 0 && (first..=last).contains(&common) {
        return common as u8;
    }
    length as u8
}

/// A prefix near one of the networks; of IPv6 the same bits behind a /32.
fn prefix(version: Version, length: u8, networks: &[u32], random: &mut Random) -> Vec<IpPrefix> {
    if length == 0 {
        return Vec::new();
    }
    let network = networks
        .get(random.below(networks.len()))
        .copied()
        .unwrap_or(0);
    let bits = network & 0xffff_f000 | random.next() as u32 & 0x0fff;
    let prefix = match version {
        Version::V4 => IpPrefix::V4(Prefix::of(Ipv4Addr::from_bits(bits), length)),
        Version::V6 => {
            let address = 0x2001_0db8_u128 << 96 | u128::from(bits) << 64;
            let host = u128::from(random.next()) & 3;
            match length {
                32 => IpPrefix::V6(Prefix6::of(Ipv6Addr::from_bits(address | host), 128)),
                _ => IpPrefix::V6(Prefix6::of(Ipv6Addr::from_bits(address), 32 + length)),
            }
        }
    };
    [prefix].into()
}

fn protocol(kind: Kind, version: Version, random: &mut Random) -> Protocol {
    const KNOWN: [u16; 16] = [
        22, 25, 53, 80, 110, 123, 143, 161, 389, 443, 445, 993, 1433, 3306, 5432, 8080,
    ];
    let source = match (kind, random.below(100)) {
        (Kind::Firewall, 0..15) => [1024..=u16::MAX].into(),
        (Kind::Firewall, 15..20) => [53..=53].into(),
        (Kind::Acl | Kind::Firewall, _) => Vec::new(),
    };
    let known = KNOWN[random.below(KNOWN.len())];
    let destination = match (kind, random.below(100)) {
        (Kind::Acl, 0..70) | (Kind::Firewall, 0..45) => [known..=known].into(),
        (Kind::Acl, 70..80) | (Kind::Firewall, 45..65) => [1024..=u16::MAX].into(),
        (Kind::Acl, 80..90) | (Kind::Firewall, 65..85) => {
            let first = random.next() as u16 & 0x7fff;
            [first..=first + (random.next() as u16 & 0x01ff)].into()
        }
        (Kind::Acl | Kind::Firewall, _) => Vec::new(),
    };
    let ports = Ports {
        source,
        destination,
    };
    match random.below(100) {
        0..70 => Protocol::Tcp(ports),
        70..90 => Protocol::Udp(ports),
        90..95 if version == Version::V4 => Protocol::Icmp([8].into()),
        90..95 => Protocol::Icmp6([128].into()),
        95..97 => Protocol::Number(50),
        _ => Protocol::Any,
    }
}

fn specificity(rule: &Rule) -> u32 {
    let of = |list: &[IpPrefix]| match list.first() {
        Some(IpPrefix::V4(prefix)) => u32::from(prefix.length),
        Some(IpPrefix::V6(prefix)) => u32::from(prefix.length) / 4,
        None => 0,
    };
    of(&rule.sources) + of(&rule.destinations)
}

/// The same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// Begins a sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `count`, or 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() >> 1) as usize % count.max(1)
    }

    /// A number in `first..=last`.
    pub fn between(&mut self, first: u32, last: u32) -> u32 {
        let span = u64::from(last.saturating_sub(first)) + 1;
        first.wrapping_add((self.next() % span) as u32)
    }
}
