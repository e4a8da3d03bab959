//! Rules in the form that the first packet of a flow is compared with.

use policy::{Action, MAX_INTERFACES, MAX_RULES, Prefix, Protocol, Rule};
use wire::ipv4;

use crate::{Drop, Tuple};

/// A rule as masks and ranges.
#[derive(Clone, Copy, Debug)]
struct Compiled {
    source: u32,
    source_mask: u32,
    destination: u32,
    destination_mask: u32,
    /// One bit for each leg the packet may come in from.
    from: u8,
    /// One bit for each leg the packet may leave by.
    to: u8,
    /// Zero for any.
    protocol: u8,
    action: Action,
    first: u16,
    last: u16,
}

const _: () = assert!(MAX_INTERFACES <= u8::BITS as usize);

/// All rules of an appliance, in order; what no rule accepts is dropped.
#[derive(Debug)]
pub struct Rules {
    rules: heapless::Vec<Compiled, MAX_RULES>,
    hits: [u32; MAX_RULES],
}

impl Rules {
    pub fn new(rules: &[Rule]) -> Self {
        Self {
            rules: rules.iter().take(MAX_RULES).map(compile).collect(),
            hits: [0; MAX_RULES],
        }
    }

    /// The first rule that matches decides, and is counted.
    pub fn decide(&mut self, from: u8, to: u8, tuple: &Tuple) -> Result<(), Drop> {
        let (from, to) = (1_u8 << (from & 7), 1_u8 << (to & 7));
        for (rule, hits) in self.rules.iter().zip(&mut self.hits) {
            if !rule.matches(from, to, tuple) {
                continue;
            }
            *hits = hits.wrapping_add(1);
            return match rule.action {
                Action::Accept => Ok(()),
                Action::Drop => Err(Drop::Rule),
            };
        }
        Err(Drop::NoRule)
    }

    /// How many first packets each rule decided, in the order of the configuration.
    pub fn hits(&self) -> &[u32] {
        self.hits.get(..self.rules.len()).unwrap_or_default()
    }
}

impl Compiled {
    fn matches(&self, from: u8, to: u8, tuple: &Tuple) -> bool {
        (tuple.destination ^ self.destination) & self.destination_mask == 0
            && (tuple.source ^ self.source) & self.source_mask == 0
            && self.from & from != 0
            && self.to & to != 0
            && (self.protocol == 0 || self.protocol == tuple.protocol)
            && (self.first..=self.last).contains(&tuple.destination_port)
    }
}

fn compile(rule: &Rule) -> Compiled {
    let (protocol, first, last) = match rule.protocol {
        Protocol::Any => (0, 0, u16::MAX),
        Protocol::Tcp { first, last } => (ipv4::TCP, first, last),
        Protocol::Udp { first, last } => (ipv4::UDP, first, last),
        // Only an echo request can be the first packet of an ICMP flow.
        Protocol::Ping => (ipv4::ICMP, 0, u16::MAX),
    };
    Compiled {
        source: rule.source.address.to_bits(),
        source_mask: mask(rule.source),
        destination: rule.destination.address.to_bits(),
        destination_mask: mask(rule.destination),
        from: legs(rule.from),
        to: legs(rule.to),
        protocol,
        action: rule.action,
        first,
        last,
    }
}

fn mask(prefix: Prefix) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix.length.min(32)))
        .unwrap_or(0)
}

fn legs(leg: Option<u8>) -> u8 {
    leg.map_or(u8::MAX, |leg| 1_u8.checked_shl(leg.into()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    const TCP: u8 = ipv4::TCP;
    const UDP: u8 = ipv4::UDP;
    const ICMP: u8 = ipv4::ICMP;

    #[test]
    fn first_match_decides_and_the_rest_is_denied() {
        let mut rules = Rules::new(&[
            rule(
                Some(0),
                Some(1),
                "0.0.0.0/0",
                "10.0.0.66/32",
                Protocol::Any,
                Action::Drop,
            ),
            rule(
                Some(0),
                Some(1),
                "0.0.0.0/0",
                "10.0.0.0/24",
                tcp(80, 443),
                Action::Accept,
            ),
            rule(
                None,
                Some(2),
                "10.0.0.0/24",
                "10.0.9.9/32",
                udp(53),
                Action::Accept,
            ),
            rule(
                Some(1),
                None,
                "10.0.0.0/24",
                "0.0.0.0/0",
                Protocol::Ping,
                Action::Accept,
            ),
        ]);
        let table = [
            (
                "web",
                0,
                1,
                tuple("198.51.100.7", "10.0.0.5", TCP, 80),
                Ok(()),
            ),
            (
                "last port",
                0,
                1,
                tuple("198.51.100.7", "10.0.0.5", TCP, 443),
                Ok(()),
            ),
            (
                "port after",
                0,
                1,
                tuple("198.51.100.7", "10.0.0.5", TCP, 444),
                Err(Drop::NoRule),
            ),
            (
                "port before",
                0,
                1,
                tuple("198.51.100.7", "10.0.0.5", TCP, 79),
                Err(Drop::NoRule),
            ),
            (
                "other leg in",
                2,
                1,
                tuple("198.51.100.7", "10.0.0.5", TCP, 80),
                Err(Drop::NoRule),
            ),
            (
                "other leg out",
                0,
                2,
                tuple("198.51.100.7", "10.0.0.5", TCP, 80),
                Err(Drop::NoRule),
            ),
            (
                "other protocol",
                0,
                1,
                tuple("198.51.100.7", "10.0.0.5", UDP, 80),
                Err(Drop::NoRule),
            ),
            (
                "next subnet",
                0,
                1,
                tuple("198.51.100.7", "10.0.1.5", TCP, 80),
                Err(Drop::NoRule),
            ),
            (
                "dropped first",
                0,
                1,
                tuple("198.51.100.7", "10.0.0.66", TCP, 80),
                Err(Drop::Rule),
            ),
            (
                "any leg in",
                7,
                2,
                tuple("10.0.0.1", "10.0.9.9", UDP, 53),
                Ok(()),
            ),
            (
                "wrong source",
                7,
                2,
                tuple("10.0.1.1", "10.0.9.9", UDP, 53),
                Err(Drop::NoRule),
            ),
            (
                "ping",
                1,
                5,
                tuple("10.0.0.1", "192.0.2.1", ICMP, 7),
                Ok(()),
            ),
        ];
        for (name, from, to, tuple, expected) in table {
            assert_eq!(rules.decide(from, to, &tuple), expected, "{name}");
        }
        assert_eq!(rules.hits(), [1, 2, 1, 1]);
    }

    #[test]
    fn no_rules_deny() {
        let mut rules = Rules::new(&[]);
        assert_eq!(
            rules.decide(0, 1, &tuple("1.2.3.4", "5.6.7.8", TCP, 80)),
            Err(Drop::NoRule)
        );
    }

    fn tcp(first: u16, last: u16) -> Protocol {
        Protocol::Tcp { first, last }
    }

    fn udp(port: u16) -> Protocol {
        Protocol::Udp {
            first: port,
            last: port,
        }
    }

    fn rule(
        from: Option<u8>,
        to: Option<u8>,
        source: &str,
        destination: &str,
        protocol: Protocol,
        action: Action,
    ) -> Rule {
        let (source, destination) = (prefix(source), prefix(destination));
        Rule {
            name: policy::Name::new(),
            from,
            to,
            source,
            destination,
            protocol,
            action,
        }
    }

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix {
            address: address.parse().unwrap(),
            length: length.parse().unwrap(),
        }
    }

    fn tuple(source: &str, destination: &str, protocol: u8, port: u16) -> Tuple {
        Tuple {
            source: source.parse::<Ipv4Addr>().unwrap().to_bits(),
            destination: destination.parse::<Ipv4Addr>().unwrap().to_bits(),
            source_port: 40_000,
            destination_port: port,
            protocol,
        }
    }
}
