//! The policy of the measured node: a service for every path, and access lists of any length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use classifier::generate::{self, Kind, Random, Version};
use classifier::{Addresses, Key, State, linear};
use policy::rule::{self, Action, Legs, Ports, Protocol, Rule};
use policy::{
    Check, Config, Interface, Interface6, IpPrefix, Name, Prefix, Prefix6, Protection, Server,
    Service, Transport, VirtualRouter,
};
use treadmill::CLIENT;

use crate::BenchError;

/// Numbers of rules that the node is measured with.
pub const RULES: [usize; 4] = [10, 100, 1000, 4096];

/// A policy of `count` rules (10 or more) like access lists, of which one of the last accepts the TCP service.
///
/// # Errors
/// If no rule of the set can be that one.
pub fn subject(count: usize) -> Result<(Config, Vec<Rule>), BenchError> {
    let unfit = || BenchError::Site(format!("{count} rules: none is like a service's"));
    let mut lists = (0..SEEDS).filter_map(|seed| access_list(count - 2, seed));
    let (mut rules, port) = lists.next().ok_or_else(unfit)?;
    let server = IpPrefix::V4(Prefix::of(SERVER, 32));
    let server6 = IpPrefix::V6(Prefix6::of(SERVER6, 128));
    rules.push(accept(server6, Protocol::Tcp(Ports::to(port))));
    let free = |port: &u16| linear::first_match(&rules, &key(wire::ipv4::UDP, *port)).is_none();
    let udp = (1..=u16::MAX).find(free).ok_or_else(unfit)?;
    rules.push(accept(server, Protocol::Udp(Ports::to(udp))));
    Ok((config(port, udp), rules))
}

/// Rules as generated, moved in the space of addresses until one of the last accepts what [`CLIENT`] sends to a port of
/// [`SERVER`]: so these two are where many rules are, and not in a corner that a look-up soon leaves.
fn access_list(count: usize, seed: u64) -> Option<(Vec<Rule>, u16)> {
    let rules = generate::rules(Kind::Acl, Version::V4, count, seed);
    let mut random = Random::new(seed);
    let late = rules.iter().enumerate().skip(count * 9 / 10);
    late.rev().find_map(|(index, last)| {
        let port = service_port(last)?;
        let inside = generate::key(last, Version::V4, &mut random);
        let Addresses::V4 {
            source,
            destination,
        } = inside.addresses
        else {
            return None;
        };
        let source = source ^ CLIENT.to_bits();
        let destination = destination ^ SERVER.to_bits();
        let moved = rules.iter().map(|rule| Rule {
            sources: shifted(&rule.sources, source),
            destinations: shifted(&rule.destinations, destination),
            ..rule.clone()
        });
        let moved: Vec<Rule> = moved.collect();
        let found = linear::first_match(&moved, &key(wire::ipv4::TCP, port))?;
        (usize::from(found.rule) == index).then_some((moved, port))
    })
}

/// The port of a rule that accepts TCP from outside to one port of somebody.
fn service_port(rule: &Rule) -> Option<u16> {
    let Protocol::Tcp(ports) = &rule.protocol else {
        return None;
    };
    let [range] = &ports.destination[..] else {
        return None;
    };
    let fits = rule.action == Action::Accept
        && rule.from.contains(OUTSIDE)
        && ports.source.is_empty()
        && !rule.sources.is_empty()
        && !rule.destinations.is_empty();
    (fits && range.start() == range.end()).then_some(*range.start())
}

/// Prefixes with the same bits of the address turned over: their relations stay.
fn shifted(prefixes: &[IpPrefix], by: u32) -> Vec<IpPrefix> {
    let shift = |prefix: &IpPrefix| match prefix {
        IpPrefix::V4(prefix) => {
            let address = Ipv4Addr::from_bits(prefix.address.to_bits() ^ by);
            IpPrefix::V4(Prefix::of(address, prefix.length))
        }
        IpPrefix::V6(prefix) => IpPrefix::V6(*prefix),
    };
    prefixes.iter().map(shift).collect()
}

/// What the rules see of the client's first packet to a port of the server.
fn key(protocol: u8, destination_port: u16) -> Key {
    Key {
        addresses: Addresses::V4 {
            source: CLIENT.to_bits(),
            destination: SERVER.to_bits(),
        },
        source_port: 50_000,
        destination_port,
        protocol,
        from: OUTSIDE,
        to: INSIDE,
        state: State::New,
    }
}

fn accept(destination: IpPrefix, protocol: Protocol) -> Rule {
    Rule {
        name: Name::new(),
        from: Legs::one(OUTSIDE),
        to: Legs::one(INSIDE),
        sources: Vec::new(),
        destinations: [destination].into(),
        protocol,
        state: rule::State::New,
        action: Action::Accept,
        log: false,
        rate: None,
        flows: None,
        sharing: rule::Sharing::Usual,
    }
}

/// Two legs on a trunk; services for TCP, UDP, and TCP over IPv6, each with a server that gets the flows and one to spare.
fn config(tcp: u16, udp: u16) -> Config {
    let mut config = Config {
        default_route: Some(Ipv4Addr::new(203, 0, 113, 1)),
        default_route6: Some(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
        protection: Protection {
            syn_cookies_above: treadmill::COOKIES_ABOVE,
            ..Protection::default()
        },
        ..Config::default()
    };
    let legs = [
        leg(10, Ipv4Addr::new(203, 0, 113, 0), VIRTUAL6, OUTSIDE),
        leg(20, Ipv4Addr::new(10, 20, 0, 0), SERVER6, INSIDE),
    ];
    let services = [
        service(VIRTUAL.into(), Transport::Tcp, 443, SERVER.into(), tcp),
        service(VIRTUAL.into(), Transport::Udp, 53, SERVER.into(), udp),
        service(VIRTUAL6.into(), Transport::Tcp, 443, SERVER6.into(), tcp),
    ];
    for (interface, routers) in legs {
        config.interfaces.extend([interface]);
        config.routers.extend(routers);
    }
    config.services.extend(services);
    config
}

/// A leg and its virtual routers in the /24 at `network` and in the /64 that `near` is in.
fn leg(vlan: u16, network: Ipv4Addr, near: Ipv6Addr, index: u8) -> (Interface, [VirtualRouter; 2]) {
    let host = |host: u8| Ipv4Addr::from_bits(network.to_bits() | u32::from(host));
    let host6 = |host: u8| {
        let network = near.to_bits() >> 64 << 64;
        Ipv6Addr::from_bits(network | u128::from(host))
    };
    let v4 = VirtualRouter::new(index, 51 + index, [host(10).into()]);
    let link_local = VirtualRouter::link_local(51 + index);
    let v6 = VirtualRouter::new(index, 51 + index, [link_local.into(), host6(10).into()]);
    let interface = Interface {
        vlan: Some(vlan),
        mac: [2, 0, 0, 0, 1, index],
        address: host(2),
        address6: Some(Interface6 {
            address: host6(2),
            prefix: 64,
        }),
        ..Interface::default()
    };
    (interface, [v4, v6])
}

fn service(address: IpAddr, transport: Transport, port: u16, server: IpAddr, to: u16) -> Service {
    let second = match server {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + 1).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + 1).into(),
    };
    let mut service = Service {
        address,
        port,
        transport,
        check: Check {
            port: to,
            ..Check::default()
        },
        ..Service::default()
    };
    service
        .servers
        .extend([server, second].map(|address| Server {
            address,
            port: to,
            ..Server::default()
        }));
    service
}

/// Lists that are tried.
const SEEDS: u64 = 100;
const OUTSIDE: u8 = 0;
const INSIDE: u8 = 1;
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const VIRTUAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 11);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 11);

#[cfg(test)]
mod tests {
    use node::Node;
    use time::Instant;
    use treadmill::{Cost, Fault, Meter};

    use super::*;

    #[test]
    fn every_path_is_what_it_is_called() {
        for count in RULES {
            let (config, rules) = subject(count).unwrap();
            assert_eq!(rules.len(), count);
            let mut paths = Vec::new();
            run(config, &rules, &mut |path, _| paths.push(path)).unwrap();
            assert_eq!(paths.len(), 12, "{paths:?}");
        }
    }

    #[test]
    fn the_rule_that_accepts_stands_among_the_last() {
        for count in RULES {
            let (config, rules) = subject(count).unwrap();
            let port = config.services[0].servers[0].port;
            let found = linear::first_match(&rules, &key(wire::ipv4::TCP, port)).unwrap();
            assert!(
                usize::from(found.rule) >= count * 7 / 10,
                "{count}: {found:?}"
            );
        }
    }

    #[test]
    fn a_path_that_is_not_taken_is_no_measurement() {
        let (config, mut rules) = subject(10).unwrap();
        rules.retain(|rule| rule.action != Action::Accept);
        let fault = run(config, &rules, &mut |_, _| ()).unwrap_err();
        let path = "established-dnat";
        assert_eq!(fault, Fault::Bytes { path });
    }

    struct Nothing;

    impl Meter for Nothing {
        fn cost(&mut self, work: &mut dyn FnMut()) -> u64 {
            work();
            0
        }
    }

    fn run(
        config: Config,
        rules: &[Rule],
        report: &mut impl FnMut(&'static str, Cost),
    ) -> Result<(), Fault> {
        let policy = classifier::policy(config.clone(), rules).unwrap();
        let tables = policy.tables;
        let mut room = node::Tables::<2048, 64>::boxed();
        let mut node = Box::new(Node::new(Some(policy), &mut room, 1, Instant::ZERO));
        treadmill::run(&mut node, (&config, &tables), &mut Nothing, report)
    }
}
