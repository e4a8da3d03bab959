//! What an operator can ask of one appliance. The host compiles a [`Config`] from the site file, the
//! device validates it and runs it; both use these very types.

#![no_std]
#![forbid(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

mod anchor;
mod blob;
mod nat;
mod prefix;
mod protection;
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
pub use blob::{DecodeError, EncodeError, FORMAT_VERSION, MAX_BLOB, MAX_CONFIG, decode, encode};
pub use nat::{MAX_NAT, Nat};
pub use prefix::{IpPrefix, Prefix, Prefix6};
pub use protection::{Limit, LimitKind, MAX_LIMITS, Protection, Scope};
pub use service::{
    Balance, Check, CheckKind, Forwarding, MAX_SERVERS, MAX_SERVICES, Persistence, Server, Service,
    Text, Transport,
};
pub use validate::ConfigError;

/// Most logical interfaces of one appliance (networks it has a leg in).
pub const MAX_INTERFACES: usize = 8;
/// Most addresses that one virtual router answers for.
pub const MAX_VIRTUAL_ADDRESSES: usize = 4;
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
    /// The virtual router on this leg, if it has one.
    pub router: Option<VirtualRouter>,
    /// Neighbours probed by ARP; the leg counts as unreachable while none of them answers.
    pub track: Vec<Ipv4Addr, MAX_TRACKED>,
    /// Taken from the priority of every virtual router while this leg is unreachable.
    pub track_weight: u8,
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
            router: None,
            track: Vec::new(),
            track_weight: 0,
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

/// One VRRPv3 virtual router (RFC 9568 §5.2, §6.1). All routers of an appliance move together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualRouter {
    /// Virtual router identifier, 1 to 255.
    pub vrid: u8,
    /// Priority 1 to 254 (255 is the address owner and not supported yet).
    pub priority: u8,
    /// Advertisement interval in centiseconds, 1 to 4095.
    pub advertisement_interval: u16,
    /// Whether a router of higher priority takes over from an Active of lower priority.
    pub preempt: bool,
    /// Addresses that the Active answers for.
    pub addresses: Vec<Ipv4Addr, MAX_VIRTUAL_ADDRESSES>,
    /// IPv6 addresses that the Active answers for.
    pub addresses6: Vec<Ipv6Addr, MAX_VIRTUAL_ADDRESSES>,
}

impl VirtualRouter {
    /// The virtual router MAC address (RFC 9568 §7.3).
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        [0x00, 0x00, 0x5e, 0x00, 0x01, self.vrid]
    }

    /// The virtual router MAC address for IPv6 (RFC 9568 §7.3).
    #[must_use]
    pub const fn mac6(&self) -> [u8; 6] {
        [0x00, 0x00, 0x5e, 0x00, 0x02, self.vrid]
    }
}
