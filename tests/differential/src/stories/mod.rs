//! Generators of stories. The same number gives the same story.

use std::net::Ipv4Addr;

use fastrand::Rng;
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{Check, IpPrefix, Nat, Prefix, Prefix6, Protection, Server, Service, Transport};

use crate::site::{DMZ, LAN, Site, WAN, base, host, host6, name};
use crate::story::Story;

mod datagram;
mod extension;
mod fragment;
mod odd;
mod tcp;
mod way;

/// What all stories of a run have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// The site is [`translating`]: it has more translations than those of services.
    pub translated: bool,
}

/// A generator and its name.
pub type Kind = (&'static str, fn(&mut Rng, u32, Setting) -> Story);

/// All generators.
pub const KINDS: &[Kind] = &[
    ("orderly tcp", tcp::orderly),
    ("disorderly tcp", tcp::disorderly),
    ("announced sizes", tcp::announced),
    ("udp", datagram::udp),
    ("ping", datagram::ping),
    ("icmp error", datagram::error),
    ("other protocol", datagram::other),
    ("datagram in pieces", fragment::whole),
    ("broken pieces", fragment::broken),
    ("extension headers", extension::headers),
    ("odd header", odd::header),
    ("odd address", odd::address),
    ("mutated", odd::mutated),
];

/// The story of a kind with this number.
#[must_use]
pub fn tell(kind: &Kind, number: u32, setting: Setting) -> Story {
    let seed = kind.0.bytes().fold(u64::from(number), |seed, byte| {
        seed.wrapping_mul(0x100_0000_01b3).wrapping_add(byte.into())
    });
    let mut story = (kind.1)(&mut Rng::with_seed(seed), number, setting);
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

/// Rules of every kind over all legs, and two services of each version.
#[must_use]
pub fn site() -> Site {
    let mut config = base();
    config.protection = Protection {
        // Neither is what is compared here.
        syn_cookies_above: u16::MAX,
        icmp_errors_per_second: u16::MAX,
        clamp_mss: false,
        ..Protection::default()
    };
    for (title, port, server, server_port) in [("web", 80, 11, 8080), ("tls", 443, 12, 8443)] {
        for v6 in [false, true] {
            let setting = Setting {
                v6,
                translated: false,
            };
            let real = Server {
                name: name(title),
                address: setting.at(LAN, server),
                port: server_port,
                ..Server::default()
            };
            let service = Service {
                name: name(&format!("{title}{}", if v6 { "-v6" } else { "" })),
                address: setting.at(WAN, setting.public()),
                port,
                servers: [real].into_iter().collect(),
                check: Check {
                    port: server_port,
                    interval_ms: 60_000,
                    ..Check::default()
                },
                ..Service::default()
            };
            let room = config.services.push(service);
            room.expect("there is room for four");
        }
    }
    let (tcp, udp) = (
        |port: u16| Protocol::Tcp(Ports::to(port)),
        |port: u16| Protocol::Udp(Ports::to(port)),
    );
    let both = |leg, number: u8| {
        [
            IpPrefix::host(host(leg, number).into()),
            IpPrefix::host(host6(leg, number).into()),
        ]
    };
    let blocked = [
        IpPrefix::V4(Prefix::of(Ipv4Addr::new(198, 51, 100, 192), 26)),
        IpPrefix::V6(Prefix6::of(
            [0x2001, 0xdb8, 0xfff1, 0, 0, 0, 0, 0].into(),
            48,
        )),
    ];
    let inside = [
        IpPrefix::V4(Prefix::of(host(LAN, 0), 24)),
        IpPrefix::V6(Prefix6::of(host6(LAN, 0), 64)),
    ];
    let names = [
        IpPrefix::V4(Prefix::of(host(DMZ, 22), 31)),
        IpPrefix::V6(Prefix6::of(host6(DMZ, 22), 127)),
    ];
    let mail = both(DMZ, 21);
    let range = Protocol::Tcp(Ports {
        source: Vec::new(),
        destination: vec![25..=25, 5000..=5099],
    });
    let refused = Protocol::Tcp(Ports {
        source: Vec::new(),
        destination: vec![5060..=5079],
    });
    let (accept, drop, reject) = (Action::Accept, Action::Drop, Action::Reject);
    let (echo, echo6) = (Protocol::Icmp(vec![8]), Protocol::Icmp6(vec![128]));
    let rules = vec![
        rule("blocked", WAN, None, &blocked, &[], Protocol::Any, drop),
        rule(
            "web",
            WAN,
            Some(LAN),
            &[],
            &both(LAN, 11),
            tcp(8080),
            accept,
        ),
        rule(
            "tls",
            WAN,
            Some(LAN),
            &[],
            &both(LAN, 12),
            tcp(8443),
            accept,
        ),
        rule(
            "forwarded",
            WAN,
            Some(LAN),
            &[],
            &both(LAN, 14),
            tcp(22),
            accept,
        ),
        rule("not-this", WAN, Some(DMZ), &[], &mail, tcp(5050), drop),
        Rule {
            state: State::Any,
            ..rule("refused", WAN, Some(DMZ), &[], &mail, refused, reject)
        },
        Rule {
            state: State::Any,
            ..rule("no-names", WAN, Some(DMZ), &[], &mail, udp(53), reject)
        },
        rule("mail", WAN, Some(DMZ), &[], &mail, range, accept),
        rule("mail-ping", WAN, Some(DMZ), &[], &mail, echo, accept),
        rule("mail-ping6", WAN, Some(DMZ), &[], &mail, echo6, accept),
        rule("names", LAN, Some(DMZ), &inside, &names, udp(53), accept),
        rule(
            "names-tcp",
            LAN,
            Some(DMZ),
            &inside,
            &names,
            tcp(53),
            accept,
        ),
        rule("public-names", WAN, Some(DMZ), &[], &names, udp(53), accept),
        rule("time", DMZ, Some(WAN), &[], &[], udp(123), accept),
        rule("out", LAN, Some(WAN), &inside, &[], Protocol::Any, accept),
    ];
    Site { config, rules }
}

/// The same with source translation for the LAN, and a forwarded port.
#[must_use]
pub fn translating() -> Site {
    let mut site = site();
    let list = [
        Nat::Source {
            source: Prefix::of(host(LAN, 0), 24),
            to: WAN,
            address: host(WAN, 11),
            // All: which one is taken instead of one outside is random in both worlds.
            first: 1,
            last: u16::MAX,
        },
        Nat::Destination {
            transport: Transport::Tcp,
            address: host(WAN, 10).into(),
            first: 2222,
            last: 2222,
            server: host(LAN, 14).into(),
            server_port: 22,
        },
    ];
    for nat in list {
        site.config.nat.push(nat).expect("there is room for two");
    }
    site
}

/// The same with a maximum segment size that fits every leg.
#[must_use]
pub fn clamping() -> Site {
    let mut site = translating();
    site.config.protection.clamp_mss = true;
    site
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
        sharing: policy::rule::Sharing::Usual,
    }
}

/// One of a few.
pub(crate) fn pick<T: Copy, const N: usize>(rng: &mut Rng, list: [T; N]) -> T {
    list[rng.usize(..N)]
}

/// Any bytes, so many.
fn bytes(rng: &mut Rng, many: std::ops::Range<usize>) -> Vec<u8> {
    let many = rng.usize(many);
    std::iter::repeat_with(|| rng.u8(..)).take(many).collect()
}
