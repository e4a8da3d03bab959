//! What an operator can ask of one appliance. The host compiles a [`Config`] from the site file, the
//! device validates it and runs it; both use these very types.

#![no_std]
#![forbid(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

mod anchor;
mod blob;
mod events;
mod nat;
mod prefix;
mod protection;
mod router;
pub mod rule;
mod service;
#[cfg(test)]
mod tests;
mod validate;

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(test)]
extern crate std;

pub use anchor::{Anchor, MAX_ANCHORS, Trust};
pub use blob::{
    DecodeError, EncodeError, FORMAT_VERSION, MAX_BLOB, MAX_CONFIG, decode, encode, length,
};
pub use events::{Collector, Events, MAX_COLLECTORS, Severity};
pub use nat::{MAX_NAT, Nat};
pub use prefix::{IpPrefix, Prefix, Prefix6};
pub use protection::{Limit, LimitKind, MAX_LIMITS, Protection, Scope};
pub use router::{
    Announce, Authentication, Availability, Checksum, Hmac, HmacMode, Key, MAX_KEYS, MAX_PATHS,
    MAX_PEERS, MAX_ROUTERS, MAX_SHARED, MAX_TRACKS, MAX_VIRTUAL_ADDRESSES, Pair, Path, Track,
    Tracked, Version, VirtualRouter,
};
pub use service::{
    Balance, Check, CheckKind, Forwarding, MAX_SERVERS, MAX_SERVICES, Persistence, Server, Service,
    Text, Transport,
};
pub use validate::ConfigError;

/// Most logical interfaces of one appliance (networks it has a leg in).
pub const MAX_INTERFACES: usize = 8;
/// Most hosts whose reachability one interface tracks.
pub const MAX_TRACKED: usize = 4;

/// A name as the operator wrote it (networks, appliances, rules, servers).
pub type Name = String<31>;

/// Everything one appliance does, but for its rules, which lie beside it as compiled tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The appliance's own name, as in the site file.
    pub name: Name,
    /// One entry for each network the appliance has a leg in; other parts refer to it by index.
    pub interfaces: Vec<Interface, MAX_INTERFACES>,
    /// Virtual routers on them.
    pub routers: Vec<VirtualRouter, MAX_ROUTERS>,
    /// How they are shared with others.
    pub availability: Availability,
    /// Next hop for IPv4 destinations outside all interfaces' subnets.
    pub default_route: Option<Ipv4Addr>,
    /// The same for IPv6; a global or a link-local address of a neighbour on the first interface.
    pub default_route6: Option<Ipv6Addr>,
    /// Balanced services on virtual addresses.
    pub services: Vec<Service, MAX_SERVICES>,
    /// Address translation besides the services'; the first entry that matches applies.
    pub nat: Vec<Nat, MAX_NAT>,
    /// What rules refer to by index for their rates and numbers of flows.
    pub limits: Vec<Limit, MAX_LIMITS>,
    /// Defence against floods and odd packets.
    pub protection: Protection,
    /// Authorities that checks over TLS refer to by index.
    pub anchors: Vec<Anchor, MAX_ANCHORS>,
    /// When this was made, in seconds since 1970: the appliance has no clock, but it is not earlier than that.
    /// 0 if nobody has to know.
    pub made: u64,
    /// Who is told what happens.
    pub events: Events,
}

/// One leg of the appliance: a physical port, or one VLAN on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name of the network.
    pub name: Name,
    /// Index of the physical port of the board (0 is the first).
    pub port: u8,
    /// 802.1Q VLAN id of the frames of this leg; `None` for untagged.
    pub vlan: Option<u16>,
    /// The appliance's own MAC address on this leg.
    pub mac: [u8; 6],
    /// The appliance's own address.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix in bits.
    pub prefix: u8,
    /// The appliance's own IPv6 address and its subnet, if the network has IPv6.
    pub address6: Option<Interface6>,
    /// Longest IP packet that the network carries, 1280 to 1500.
    pub mtu: u16,
    /// Neighbours probed by ARP; see [`Tracked::Neighbours`].
    pub track: Vec<Ipv4Addr, MAX_TRACKED>,
}

impl Config {
    /// The virtual routers of an interface.
    pub fn routers_on(&self, interface: usize) -> impl Iterator<Item = &VirtualRouter> {
        (self.routers.iter()).filter(move |router| usize::from(router.interface) == interface)
    }
}

impl Interface {
    /// The network that this leg is in.
    #[must_use]
    pub fn subnet(&self) -> Prefix {
        Prefix::of(self.address, self.prefix)
    }

    /// The IPv6 network that this leg is in.
    #[must_use]
    pub fn subnet6(&self) -> Option<Prefix6> {
        self.address6
            .map(|own| Prefix6::of(own.address, own.prefix))
    }
}

impl Default for Interface {
    /// An interface without a name, for tests to fill in.
    fn default() -> Self {
        Self {
            name: Name::new(),
            port: 0,
            vlan: None,
            mac: [2, 0, 0, 0, 0, 1],
            address: Ipv4Addr::new(192, 0, 2, 1),
            prefix: 24,
            address6: None,
            mtu: MTU,
            track: Vec::new(),
        }
    }
}

/// The IPv6 side of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface6 {
    /// The appliance's own global or unique local address.
    pub address: Ipv6Addr,
    /// Length of the subnet's prefix in bits.
    pub prefix: u8,
}

/// Longest IP packet on Ethernet (RFC 894).
pub const MTU: u16 = 1500;
