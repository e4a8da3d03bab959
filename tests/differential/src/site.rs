//! The small site that both worlds are configured for.
//!
//! ```text
//!   Internet ── 203.0.113.1 ──(wan)── appliance ──(lan)── 10.1.0.11 … 14
//!                                         └──────(dmz)── 10.2.0.21 … 24
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::rule::Rule;
use policy::{Config, Interface, Interface6, Name, VirtualRouter};

/// Index of the leg towards the Internet.
pub const WAN: u8 = 0;
/// Index of the leg with clients and web servers.
pub const LAN: u8 = 1;
/// Index of the leg with mail and name servers.
pub const DMZ: u8 = 2;
/// Names of the legs, which are also the kernel's interfaces.
pub const NAMES: [&str; 3] = ["wan", "lan", "dmz"];
/// The router towards the Internet.
pub const UPSTREAM: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The same for IPv6.
pub const UPSTREAM6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Longest packets of the legs.
pub const MTUS: [u16; 3] = [1500, 1500, 1400];

/// What both worlds run.
#[derive(Clone, Debug)]
pub struct Site {
    /// Everything but the rules.
    pub config: Config,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
}

/// Addresses of one leg.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    /// The appliance's own address and its prefix's length.
    pub own: (Ipv4Addr, u8),
    /// Virtual addresses; hosts have the first as their gateway.
    pub virtuals: &'static [Ipv4Addr],
    /// The appliance's own IPv6 address and its prefix's length.
    pub own6: (Ipv6Addr, u8),
    /// Virtual IPv6 addresses.
    pub virtuals6: &'static [Ipv6Addr],
    /// Last bytes of the neighbours' addresses, of both versions.
    pub neighbours: &'static [u8],
}

/// All legs.
pub const LEGS: [Leg; 3] = [
    Leg {
        own: (Ipv4Addr::new(203, 0, 113, 2), 24),
        virtuals: &[
            Ipv4Addr::new(203, 0, 113, 10),
            Ipv4Addr::new(203, 0, 113, 11),
        ],
        own6: (v6(0, 2), 64),
        virtuals6: &[v6(0, 0x10), v6(0, 0x11)],
        neighbours: &[1, 100],
    },
    Leg {
        own: (Ipv4Addr::new(10, 1, 0, 2), 24),
        virtuals: &[Ipv4Addr::new(10, 1, 0, 1)],
        own6: (v6(1, 2), 64),
        virtuals6: &[v6(1, 1)],
        neighbours: &[11, 12, 13, 14],
    },
    Leg {
        own: (Ipv4Addr::new(10, 2, 0, 2), 24),
        virtuals: &[Ipv4Addr::new(10, 2, 0, 1)],
        own6: (v6(2, 2), 64),
        virtuals6: &[v6(2, 1)],
        neighbours: &[21, 22, 23, 24],
    },
];

const fn v6(subnet: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, subnet, 0, 0, 0, host)
}

/// A host's IPv4 address on a leg.
#[must_use]
pub fn host(leg: u8, number: u8) -> Ipv4Addr {
    let [a, b, c, _] = LEGS[usize::from(leg)].own.0.octets();
    Ipv4Addr::new(a, b, c, number)
}

/// A host's IPv6 address on a leg.
#[must_use]
pub fn host6(leg: u8, number: u8) -> Ipv6Addr {
    v6(leg.into(), number.into())
}

/// The appliance's own MAC address on a leg; also that of the kernel's interface.
#[must_use]
pub const fn own_mac(leg: u8) -> [u8; 6] {
    [2, 0, 0, 0, leg, 2]
}

/// The virtual router's MAC address on a leg, for packets of a version.
#[must_use]
pub const fn virtual_mac(leg: u8, v6: bool) -> [u8; 6] {
    [0, 0, 0x5e, 0, 1 + v6 as u8, 50 + leg]
}

/// A neighbour's MAC address.
#[must_use]
pub const fn neighbour_mac(leg: u8, number: u8) -> [u8; 6] {
    [2, 0xee, 0, 0, leg, number]
}

/// The station that sends packets from this source on a leg: a neighbour, or the router to all others.
#[must_use]
pub fn station(leg: u8, source: IpAddr) -> [u8; 6] {
    let (near, number) = match source {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            (host(leg, d).octets() == [a, b, c, d], d)
        }
        IpAddr::V6(address) => {
            let number = address.octets()[15];
            (host6(leg, number) == address, number)
        }
    };
    let near = near && LEGS[usize::from(leg)].neighbours.contains(&number);
    neighbour_mac(leg, if near { number } else { 1 })
}

/// The configuration without rules, services and translations.
#[must_use]
pub fn base() -> Config {
    let interface = |index: u8| {
        let leg = LEGS[usize::from(index)];
        Interface {
            name: name(NAMES[usize::from(index)]),
            port: index,
            mac: own_mac(index),
            address: leg.own.0,
            prefix: leg.own.1,
            address6: Some(Interface6 {
                address: leg.own6.0,
                prefix: leg.own6.1,
            }),
            mtu: MTUS[usize::from(index)],
            ..Interface::default()
        }
    };
    let routers = |index: u8| {
        let leg = LEGS[usize::from(index)];
        let vrid = 50 + index;
        let link_local = VirtualRouter::link_local(vrid);
        let v6 = [&link_local].into_iter().chain(leg.virtuals6);
        [
            VirtualRouter::new(index, vrid, leg.virtuals.iter().map(|own| IpAddr::V4(*own))),
            VirtualRouter::new(index, vrid, v6.map(|own| IpAddr::V6(*own))),
        ]
    };
    Config {
        name: name("gw"),
        interfaces: (0..3).map(interface).collect(),
        routers: (0..3).flat_map(routers).collect(),
        default_route: Some(UPSTREAM),
        default_route6: Some(UPSTREAM6),
        ..Config::default()
    }
}

/// A name.
///
/// # Panics
/// If it is too long.
#[must_use]
pub fn name(text: &str) -> Name {
    Name::try_from(text).expect("a short name")
}
