//! Stories of packets against the example site's rules. Rules are in the operator's words.

use core::net::Ipv4Addr;

use policy::{Action, Check, Config, Interface, Name, Prefix, Protocol, Rule, VirtualRouter};

pub const WAN: u8 = 0;
pub const EDGE: u8 = 1;
pub const WEB: u8 = 2;

pub fn bits(address: &str) -> u32 {
    address.parse::<Ipv4Addr>().unwrap().to_bits()
}

/// Three legs; the Internet reaches 80 and 443 of the balanced servers, they reach the web tier.
pub fn config() -> Config {
    let legs = [
        ("wan", None, "203.0.113.2", "203.0.113.10", 10),
        ("edge", Some(21), "10.20.1.2", "10.20.1.1", 21),
        ("web", Some(22), "10.20.2.2", "10.20.2.1", 22),
    ];
    let interfaces = legs.map(|(name, vlan, own, virtual_address, vrid)| Interface {
        name: name.try_into().unwrap(),
        port: u8::from(vlan.is_some()),
        vlan,
        mac: [2, 0, 0, 0, 0, vrid],
        address: own.parse().unwrap(),
        prefix: 24,
        router: Some(VirtualRouter {
            vrid,
            priority: 200,
            advertisement_interval: 10,
            preempt: true,
            addresses: [virtual_address.parse().unwrap()].into_iter().collect(),
        }),
        track: heapless::Vec::new(),
        track_weight: 0,
    });
    let servers = [("lb1", "10.20.1.11"), ("lb2", "10.20.1.12")].map(|(name, address)| {
        (
            Name::try_from(name).unwrap(),
            address.parse::<Ipv4Addr>().unwrap(),
        )
    });
    let services =
        [("https", 443, 8443), ("http", 80, 80)].map(|(name, port, server_port)| policy::Service {
            name: name.try_into().unwrap(),
            address: "203.0.113.10".parse().unwrap(),
            port,
            servers: (servers.iter().cloned())
                .map(|(name, address)| policy::Server {
                    name,
                    address,
                    port: server_port,
                })
                .collect(),
            check: Check {
                port: 80,
                interval_ms: 500,
                timeout_ms: 300,
                rise: 2,
                fall: 2,
            },
        });
    let rules = [
        rule(
            "internet-https",
            WAN,
            EDGE,
            "0.0.0.0/0",
            "10.20.1.0/28",
            tcp(8443),
        ),
        rule(
            "internet-http",
            WAN,
            EDGE,
            "0.0.0.0/0",
            "10.20.1.0/28",
            tcp(80),
        ),
        rule(
            "edge-web",
            EDGE,
            WEB,
            "10.20.1.0/28",
            "10.20.2.0/28",
            tcp(8080),
        ),
        rule(
            "edge-dns",
            EDGE,
            WAN,
            "10.20.1.0/28",
            "0.0.0.0/0",
            Protocol::Udp {
                first: 53,
                last: 53,
            },
        ),
        rule(
            "edge-ping",
            EDGE,
            WAN,
            "10.20.1.0/28",
            "0.0.0.0/0",
            Protocol::Ping,
        ),
    ];
    Config {
        name: "gw1".try_into().unwrap(),
        interfaces: interfaces.into_iter().collect(),
        default_route: Some("203.0.113.1".parse().unwrap()),
        rules: rules.into_iter().collect(),
        services: services.into_iter().collect(),
    }
}

fn tcp(port: u16) -> Protocol {
    Protocol::Tcp {
        first: port,
        last: port,
    }
}

fn rule(name: &str, from: u8, to: u8, source: &str, destination: &str, protocol: Protocol) -> Rule {
    Rule {
        name: name.try_into().unwrap(),
        from: Some(from),
        to: Some(to),
        source: prefix(source),
        destination: prefix(destination),
        protocol,
        action: Action::Accept,
    }
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix {
        address: address.parse().unwrap(),
        length: length.parse().unwrap(),
    }
}
