//! What a list of rules means: the plain evaluation, rule by rule. Tables must give the same answer.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use policy::IpPrefix;
use policy::rule::{self, Protocol, Rule};

use crate::{Addresses, Key, Match, State};

/// IP protocol numbers that rules know by name.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;

/// The first rule that matches.
#[must_use]
pub fn first_match(rules: &[Rule], key: &Key) -> Option<Match> {
    let index = rules.iter().position(|rule| matches(rule, key))?;
    Some(match_of(index, rules.get(index)?))
}

/// Whether a rule matches.
#[must_use]
pub fn matches(rule: &Rule, key: &Key) -> bool {
    let (source, destination) = ips(key.addresses);
    let v4 = source.is_ipv4();
    let ports = |ports: &rule::Ports| {
        in_ranges(&ports.source, key.source_port)
            && in_ranges(&ports.destination, key.destination_port)
    };
    let icmp = |types: &[u8]| {
        let [kind, _code] = key.destination_port.to_be_bytes();
        types.is_empty() || types.contains(&kind)
    };
    in_prefixes(&rule.sources, source)
        && in_prefixes(&rule.destinations, destination)
        && rule.from.contains(key.from)
        && rule.to.contains(key.to)
        && match rule.state {
            rule::State::New => key.state == State::New,
            rule::State::Invalid => key.state == State::Invalid,
            rule::State::Any => true,
        }
        && match &rule.protocol {
            Protocol::Any => true,
            Protocol::Tcp(list) => key.protocol == TCP && ports(list),
            Protocol::Udp(list) => key.protocol == UDP && ports(list),
            Protocol::Icmp(types) => v4 && key.protocol == ICMP && icmp(types),
            Protocol::Icmp6(types) => !v4 && key.protocol == ICMP6 && icmp(types),
            Protocol::Number(number) => key.protocol == *number,
        }
}

/// What a match of this rule says.
pub(crate) fn match_of(index: usize, rule: &Rule) -> Match {
    Match {
        rule: index as u16,
        action: rule.action,
        log: rule.log,
        rate: rule.rate,
        flows: rule.flows,
        sharing: rule.sharing,
    }
}

fn ips(addresses: Addresses) -> (IpAddr, IpAddr) {
    let v6 = |words: [u32; 4]| {
        let bits = words
            .iter()
            .fold(0_u128, |bits, word| bits << 32 | u128::from(*word));
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    };
    let v4 = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
    match addresses {
        Addresses::V4 {
            source,
            destination,
        } => (v4(source), v4(destination)),
        Addresses::V6 {
            source,
            destination,
        } => (v6(source), v6(destination)),
    }
}

fn in_prefixes(list: &[IpPrefix], address: IpAddr) -> bool {
    list.is_empty() || list.iter().any(|prefix| prefix.contains(address))
}

fn in_ranges(list: &[RangeInclusive<u16>], port: u16) -> bool {
    list.is_empty() || list.iter().any(|range| range.contains(&port))
}
