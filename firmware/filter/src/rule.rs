//! The rules for first packets: compiled tables, and a counter for each rule.

use core::net::{IpAddr, Ipv6Addr};

pub use classifier::State;
use classifier::{Addresses, Key, Match, Tables};
use policy::rule::{Action, MAX_RULES, Sharing};

use crate::Drop;
use crate::address::Address;
use crate::packet::{Class, Tuple};

/// What a rule that accepts says more: its limits, as indices into `Config::limits`, and who is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Of new flows per second.
    pub rate: Option<u8>,
    /// Of flows at a time.
    pub flows: Option<u8>,
    /// What the other appliance of a pair is told of the flow.
    pub sharing: Sharing,
}

/// All rules of an appliance; what none of them accepts is dropped.
#[derive(Debug)]
pub struct Rules<'t> {
    tables: Tables<'t>,
    /// Whether some rule may say something about packets that can open no flow.
    pub judge_strays: bool,
    hits: [u32; MAX_RULES],
}

impl<'t> Rules<'t> {
    pub fn new(tables: Tables<'t>) -> Self {
        Self {
            tables,
            judge_strays: tables.may_match(State::Invalid),
            hits: [0; MAX_RULES],
        }
    }

    /// Goes on with other rules. Those that count are counted from now on, unless they are the same.
    pub fn reload(&mut self, tables: Tables<'t>) {
        if self.tables != tables {
            self.judge_strays = tables.may_match(State::Invalid);
            self.hits.fill(0);
        }
        self.tables = tables;
    }

    /// The first rule that matches, which is counted.
    pub fn find(&mut self, key: &Key) -> Option<Match> {
        let found = self.tables.lookup(key)?;
        if let Some(hits) = self.hits.get_mut(usize::from(found.rule)) {
            *hits = hits.wrapping_add(1);
        }
        Some(found)
    }

    /// What the rules say about the first packet of a flow, or about one that can open none.
    pub fn decide<A: Address>(
        &mut self,
        from: u8,
        to: u8,
        tuple: &Tuple<A>,
        class: Class,
        state: State,
    ) -> (Option<Match>, Result<Allowed, Drop>) {
        let found = self.find(&key(from, to, tuple, class, state));
        let answer = match found {
            Some(Match {
                action: Action::Accept,
                rate,
                flows,
                sharing,
                ..
            }) => Ok(Allowed {
                rate,
                flows,
                sharing,
            }),
            Some(Match {
                action: Action::Drop,
                ..
            }) => Err(Drop::Rule),
            Some(Match {
                action: Action::Reject,
                ..
            }) => Err(Drop::Rejected),
            None => Err(Drop::NoRule),
        };
        (found, answer)
    }

    /// The limits of a flow that was opened before, if its first packet would be accepted now. Counts nothing.
    pub fn still_allow<A: Address>(
        &self,
        from: u8,
        to: u8,
        tuple: &Tuple<A>,
        class: Class,
    ) -> Option<Allowed> {
        let found = self
            .tables
            .lookup(&key(from, to, tuple, class, State::New))?;
        let Match {
            rate,
            flows,
            sharing,
            ..
        } = found;
        (found.action == Action::Accept).then_some(Allowed {
            rate,
            flows,
            sharing,
        })
    }

    /// Whether no rule matches the first packet of a flow. Counts nothing.
    pub fn are_silent<A: Address>(&self, from: u8, to: u8, tuple: &Tuple<A>, class: Class) -> bool {
        let key = key(from, to, tuple, class, State::New);
        self.tables.lookup(&key).is_none()
    }

    /// How many first packets each rule decided, in the order of the configuration.
    pub fn hits(&self) -> &[u32] {
        let rules = usize::from(self.tables.rules());
        self.hits.get(..rules).unwrap_or_default()
    }
}

/// A packet as the tables see it.
#[inline]
fn key<A: Address>(from: u8, to: u8, tuple: &Tuple<A>, class: Class, state: State) -> Key {
    let protocol = class.protocol::<A>(tuple.ports);
    Key {
        addresses: addresses(tuple.source.into(), tuple.destination.into()),
        source_port: tuple.source_port(),
        destination_port: match class {
            // The type and code of the only ICMP message that opens a flow: an echo request.
            Class::Echo => u16::from_be_bytes([A::ECHO_REQUEST, 0]),
            Class::Tcp | Class::Udp | Class::Other => tuple.destination_port(),
        },
        protocol,
        from,
        to,
        state,
    }
}

/// Addresses in the order of numbers; both are of one version.
fn addresses(source: IpAddr, destination: IpAddr) -> Addresses {
    let words =
        |address: Ipv6Addr| [96, 64, 32, 0].map(|shift| (address.to_bits() >> shift) as u32);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4 {
            source: source.to_bits(),
            destination: destination.to_bits(),
        },
        (source, destination) => Addresses::V6 {
            source: words(six(source)),
            destination: words(six(destination)),
        },
    }
}

fn six(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use policy::rule::{Legs, Ports, Protocol, Rule, Sharing, State};
    use policy::{IpPrefix, Name, Prefix};
    use std::vec::Vec;

    use super::*;
    use crate::address::V4;
    use crate::packet;
    use crate::tests::bits;

    #[test]
    fn rules_decide_and_count() {
        let rules = [
            rule("10.0.0.66", Protocol::Any, Action::Drop),
            rule("10.0.0.5", Protocol::Tcp(Ports::to(80)), Action::Accept),
            rule("10.0.0.5", Protocol::Icmp([8].into()), Action::Accept),
            rule("10.0.0.7", Protocol::Any, Action::Reject),
        ];
        let config = policy::Config::default();
        let policy = classifier::policy(config, &rules).expect("good rules");
        let mut rules = Rules::new(policy.tables);
        let table = [
            ("dropped", "10.0.0.66", wire::ipv4::TCP, 80, Err(Drop::Rule)),
            ("accepted", "10.0.0.5", wire::ipv4::TCP, 80, Ok(())),
            (
                "another port",
                "10.0.0.5",
                wire::ipv4::TCP,
                81,
                Err(Drop::NoRule),
            ),
            ("a ping", "10.0.0.5", wire::ipv4::ICMP, 7, Ok(())),
            (
                "rejected",
                "10.0.0.7",
                wire::ipv4::UDP,
                7,
                Err(Drop::Rejected),
            ),
            (
                "unknown",
                "10.0.0.8",
                wire::ipv4::TCP,
                80,
                Err(Drop::NoRule),
            ),
        ];
        for (name, to, protocol, port, expected) in table {
            let tuple = Tuple {
                source: V4::from_bits(bits("192.0.2.1")),
                destination: V4::from_bits(bits(to)),
                ports: packet::Ports::new(40_000, port),
            };
            let class = match protocol {
                wire::ipv4::TCP => Class::Tcp,
                wire::ipv4::UDP => Class::Udp,
                _ => Class::Echo,
            };
            assert_eq!(
                rules
                    .decide(0, 1, &tuple, class, super::State::New)
                    .1
                    .map(|_| ()),
                expected,
                "{name}"
            );
        }
        assert_eq!(rules.hits(), [1, 1, 1, 1]);
    }

    fn rule(to: &str, protocol: Protocol, action: Action) -> Rule {
        let host = Prefix::of(to.parse().expect("an address"), 32);
        Rule {
            name: Name::new(),
            from: Legs::one(0),
            to: Legs::one(1),
            sources: Vec::new(),
            destinations: [IpPrefix::V4(host)].into(),
            protocol,
            state: State::New,
            action,
            log: false,
            rate: None,
            flows: None,
            sharing: Sharing::Usual,
        }
    }
}
