//! What an operator can ask of one appliance. The host compiles a [`Config`] from the site file, the
//! device validates it and runs it; both use these very types.

#![no_std]
#![forbid(unsafe_code)]

use core::fmt;
use core::net::Ipv4Addr;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

mod blob;
mod prefix;
#[cfg(test)]
mod tests;
mod validate;

#[cfg(test)]
extern crate std;

pub use blob::{DecodeError, EncodeError, FORMAT_VERSION, MAX_BLOB, decode, encode};
pub use prefix::Prefix;
pub use validate::ConfigError;

/// Most logical interfaces of one appliance (networks it has a leg in).
pub const MAX_INTERFACES: usize = 8;
/// Most addresses that one virtual router answers for.
pub const MAX_VIRTUAL_ADDRESSES: usize = 4;
/// Most hosts whose reachability one interface tracks.
pub const MAX_TRACKED: usize = 4;
/// Most filter rules.
pub const MAX_RULES: usize = 128;
/// Most balanced services.
pub const MAX_SERVICES: usize = 8;
/// Most real servers behind one service.
pub const MAX_SERVERS: usize = 8;

/// A name as the operator wrote it (networks, appliances, rules, servers).
pub type Name = String<31>;

/// Everything one appliance does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The appliance's own name, as in the site file.
    pub name: Name,
    /// One entry for each network the appliance has a leg in; other parts refer to it by index.
    pub interfaces: Vec<Interface, MAX_INTERFACES>,
    /// Next hop for destinations outside all interfaces' subnets.
    pub default_route: Option<Ipv4Addr>,
    /// First match decides; what no rule accepts is dropped.
    pub rules: Vec<Rule, MAX_RULES>,
    /// Balanced services on virtual addresses.
    pub services: Vec<Service, MAX_SERVICES>,
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
}

/// One VRRPv3 virtual router (RFC 9568 §5.2, §6.1). All routers of an appliance move together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl VirtualRouter {
    /// The virtual router MAC address (RFC 9568 §7.3).
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        [0x00, 0x00, 0x5e, 0x00, 0x01, self.vrid]
    }
}

/// One filter rule for the first packet of a flow. Packets of known flows do not see the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Name for counters and logs.
    pub name: Name,
    /// Index of the interface the packet comes in from; `None` for any.
    pub from: Option<u8>,
    /// Index of the interface the packet would leave by; `None` for any.
    pub to: Option<u8>,
    /// Source prefix.
    pub source: Prefix,
    /// Destination prefix, after DNAT.
    pub destination: Prefix,
    /// What it carries.
    pub protocol: Protocol,
    /// What happens.
    pub action: Action,
}

/// Protocol part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Protocol {
    /// Any IPv4 packet.
    Any,
    /// TCP with a destination port in `first..=last`.
    Tcp {
        /// First destination port.
        first: u16,
        /// Last destination port.
        last: u16,
    },
    /// UDP with a destination port in `first..=last`.
    Udp {
        /// First destination port.
        first: u16,
        /// Last destination port.
        last: u16,
    },
    /// ICMP echo request.
    Ping,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::Tcp { first, last } if first == last => write!(f, "tcp {first}"),
            Self::Tcp { first, last } => write!(f, "tcp {first}-{last}"),
            Self::Udp { first, last } if first == last => write!(f, "udp {first}"),
            Self::Udp { first, last } => write!(f, "udp {first}-{last}"),
            Self::Ping => f.write_str("ping"),
        }
    }
}

/// Verdict of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Let the flow through.
    Accept,
    /// Drop silently and count.
    Drop,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}

/// A TCP service on a virtual address, carried to one real server by DNAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name for counters and logs.
    pub name: Name,
    /// The virtual address that users connect to.
    pub address: Ipv4Addr,
    /// The TCP port that users connect to.
    pub port: u16,
    /// Active/passive in this order: the first healthy one gets all new flows.
    pub servers: Vec<Server, MAX_SERVERS>,
    /// How servers are checked.
    pub check: Check,
}

/// One real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Name of the machine.
    pub name: Name,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its TCP port.
    pub port: u16,
}

/// TCP connect check of the real servers of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Check {
    /// Port that is connected to.
    pub port: u16,
    /// Time between two checks in milliseconds.
    pub interval_ms: u16,
    /// A check without an answer after so many milliseconds has failed.
    pub timeout_ms: u16,
    /// Successes in a row that make a server healthy.
    pub rise: u8,
    /// Failures in a row that make it unhealthy.
    pub fall: u8,
}
