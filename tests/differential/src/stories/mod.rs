//! Generators of stories. The same number gives the same story.

use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{IpPrefix, Prefix, Server, Service};

use crate::site::{DMZ, LAN, Site, WAN, base, host, name};
use crate::story::Story;

mod datagram;
mod odd;
mod tcp;

/// A way through the site that flows can take.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    client_leg: u8,
    client: IpAddr,
    client_port: u16,
    /// What the client connects to.
    public: (IpAddr, u16),
    server_leg: u8,
    /// Who answers.
    server: (IpAddr, u16),
}

/// A generator and its name.
pub type Kind = (&'static str, fn(&mut Rng, u32) -> Story);

/// All generators.
pub const KINDS: &[Kind] = &[
    ("orderly tcp", tcp::orderly),
    ("disorderly tcp", tcp::disorderly),
    ("udp", datagram::udp),
    ("ping", datagram::ping),
    ("icmp error", datagram::error),
    ("other protocol", datagram::other),
    ("odd header", odd::header),
    ("odd address", odd::address),
    ("mutated", odd::mutated),
];

/// The story of a kind with this number.
#[must_use]
pub fn tell(kind: &Kind, number: u32) -> Story {
    let seed = kind.0.bytes().fold(u64::from(number), |seed, byte| {
        seed.wrapping_mul(0x100_0000_01b3).wrapping_add(byte.into())
    });
    let mut story = (kind.1)(&mut Rng::with_seed(seed), number);
    story.name = kind.0;
    story.number = number;
    story
}

fn story(steps: Vec<crate::story::Step>) -> Story {
    Story {
        name: "",
        number: 0,
        steps,
    }
}

/// Rules of every kind over all legs, and two services.
#[must_use]
pub fn site() -> Site {
    let mut config = base();
    for (title, port, server, server_port) in [("web", 80, 11, 8080), ("tls", 443, 12, 8443)] {
        let real = Server {
            name: name(title),
            address: host(LAN, server).into(),
            port: server_port,
            ..Server::default()
        };
        let service = Service {
            name: name(title),
            address: host(WAN, 10).into(),
            port,
            servers: [real].into_iter().collect(),
            check: policy::Check {
                port: server_port,
                interval_ms: 60_000,
                ..policy::Check::default()
            },
            ..Service::default()
        };
        config
            .services
            .push(service)
            .expect("there is room for two");
    }
    let tcp = |port: u16| Protocol::Tcp(Ports::to(port));
    let udp = |port: u16| Protocol::Udp(Ports::to(port));
    let blocked = IpPrefix::V4(Prefix::of(Ipv4Addr::new(198, 51, 100, 192), 26));
    let inside = IpPrefix::V4(Prefix::of(host(LAN, 0), 24));
    let mail = IpPrefix::host(host(DMZ, 21).into());
    let names = IpPrefix::V4(Prefix::of(host(DMZ, 22), 31));
    let range = Protocol::Tcp(Ports {
        source: Vec::new(),
        destination: vec![25..=25, 5000..=5099],
    });
    let rules = vec![
        rule(
            "blocked",
            WAN,
            None,
            &[blocked],
            &[],
            Protocol::Any,
            Action::Drop,
        ),
        rule(
            "web",
            WAN,
            Some(LAN),
            &[],
            &[IpPrefix::host(host(LAN, 11).into())],
            tcp(8080),
            Action::Accept,
        ),
        rule(
            "tls",
            WAN,
            Some(LAN),
            &[],
            &[IpPrefix::host(host(LAN, 12).into())],
            tcp(8443),
            Action::Accept,
        ),
        rule(
            "not-this",
            WAN,
            Some(DMZ),
            &[],
            &[mail],
            tcp(5050),
            Action::Drop,
        ),
        rule("mail", WAN, Some(DMZ), &[], &[mail], range, Action::Accept),
        rule(
            "mail-ping",
            WAN,
            Some(DMZ),
            &[],
            &[mail],
            Protocol::Icmp(vec![8]),
            Action::Accept,
        ),
        rule(
            "names",
            LAN,
            Some(DMZ),
            &[inside],
            &[names],
            udp(53),
            Action::Accept,
        ),
        rule(
            "names-tcp",
            LAN,
            Some(DMZ),
            &[inside],
            &[names],
            tcp(53),
            Action::Accept,
        ),
        rule(
            "public-names",
            WAN,
            Some(DMZ),
            &[],
            &[names],
            udp(53),
            Action::Accept,
        ),
        rule("time", DMZ, Some(WAN), &[], &[], udp(123), Action::Accept),
        rule(
            "out",
            LAN,
            Some(WAN),
            &[inside],
            &[],
            Protocol::Any,
            Action::Accept,
        ),
    ];
    Site { config, rules }
}

fn rule(
    title: &str,
    from: u8,
    to: Option<u8>,
    sources: &[IpPrefix],
    destinations: &[IpPrefix],
    protocol: Protocol,
    action: Action,
) -> Rule {
    Rule {
        name: name(title),
        from: Legs::one(from),
        to: to.map_or(Legs::ANY, Legs::one),
        sources: sources.to_vec(),
        destinations: destinations.to_vec(),
        protocol,
        state: State::New,
        action,
        log: false,
        rate: None,
        flows: None,
    }
}

/// A stranger that no other story has.
fn stranger(number: u32) -> (IpAddr, u16) {
    let address = Ipv4Addr::new(198, 51, 100, 1 + (number / 40_000) as u8);
    (address.into(), 20_000 + (number % 40_000) as u16)
}

/// A way for TCP; some lead nowhere.
fn tcp_way(rng: &mut Rng, number: u32) -> Way {
    let (outside, port) = stranger(number);
    let inside = |leg, number| IpAddr::from(host(leg, number));
    let way = |client_leg, client, public, server_leg, server| Way {
        client_leg,
        client,
        client_port: port,
        public,
        server_leg,
        server,
    };
    let virtual_address = IpAddr::from(host(WAN, 10));
    let direct = |server_leg, server| way(WAN, outside, server, server_leg, server);
    match rng.u8(0..10) {
        0..=2 => way(
            WAN,
            outside,
            (virtual_address, 80),
            LAN,
            (inside(LAN, 11), 8080),
        ),
        3 => way(
            WAN,
            outside,
            (virtual_address, 443),
            LAN,
            (inside(LAN, 12), 8443),
        ),
        4 => direct(DMZ, (inside(DMZ, 21), 25)),
        5 => direct(DMZ, (inside(DMZ, 21), rng.u16(4999..5101))),
        6 => {
            let server = (inside(DMZ, 22), 53);
            way(LAN, inside(LAN, 13), server, DMZ, server)
        }
        7 | 8 => {
            let server = (IpAddr::from([198, 51, 100, 250]), rng.u16(1..1000));
            way(LAN, inside(LAN, rng.u8(11..15)), server, WAN, server)
        }
        _ => {
            let server = (inside(LAN, 14), 22);
            way(DMZ, inside(DMZ, 23), server, LAN, server)
        }
    }
}

/// One of a few.
fn pick<T: Copy, const N: usize>(rng: &mut Rng, list: [T; N]) -> T {
    list[rng.usize(..N)]
}

/// Any bytes, so many.
fn bytes(rng: &mut Rng, many: std::ops::Range<usize>) -> Vec<u8> {
    let many = rng.usize(many);
    std::iter::repeat_with(|| rng.u8(..)).take(many).collect()
}
