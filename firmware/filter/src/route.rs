//! Where addresses live: legs' subnets, the default route, the appliance's own addresses.

use core::net::{IpAddr, Ipv4Addr};

use policy::{Config, MAX_INTERFACES, MAX_VIRTUAL_ADDRESSES};

use crate::Drop;

/// A leg and the station on it that a packet goes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the interface.
    pub leg: u8,
    /// The destination itself, or the default router.
    pub address: IpAddr,
}

#[derive(Clone, Debug)]
struct Subnet {
    network: u32,
    mask: u32,
    own: u32,
    virtual_addresses: heapless::Vec<u32, MAX_VIRTUAL_ADDRESSES>,
}

impl Subnet {
    fn contains(&self, address: u32) -> bool {
        (address ^ self.network) & self.mask == 0
    }

    /// Network address or directed broadcast (RFC 1812 §5.3.5); a /31 or /32 has neither.
    fn is_broadcast(&self, address: u32) -> bool {
        let host = address & !self.mask;
        self.contains(address) && !self.mask > 1 && (host == 0 || host == !self.mask)
    }
}

/// Which addresses are ours, and where the others are.
#[derive(Clone, Debug)]
pub struct Routes {
    subnets: heapless::Vec<Subnet, MAX_INTERFACES>,
    default: Option<Hop>,
}

impl Routes {
    /// The routes of a validated configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let subnets = config.interfaces.iter().map(|interface| {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(interface.prefix.min(32)))
                .unwrap_or(0);
            let own = interface.address.to_bits();
            let addresses = interface.router.iter().flat_map(|router| &router.addresses);
            let virtual_addresses = addresses.map(|address| address.to_bits()).collect();
            Subnet {
                network: own & mask,
                mask,
                own,
                virtual_addresses,
            }
        });
        let mut routes = Self {
            subnets: subnets.collect(),
            default: None,
        };
        routes.default = config.default_route.and_then(|router| {
            let leg = routes.leg_of(router.to_bits())?;
            Some(Hop {
                leg,
                address: IpAddr::V4(router),
            })
        });
        routes
    }

    /// Where a packet to `destination` goes; `None` without a route.
    #[must_use]
    pub fn lookup(&self, destination: u32) -> Option<Hop> {
        match self.leg_of(destination) {
            Some(leg) => Some(Hop {
                leg,
                address: IpAddr::V4(Ipv4Addr::from_bits(destination)),
            }),
            None => self.default,
        }
    }

    /// Whether `address` is the appliance's own address on `leg`.
    #[must_use]
    pub fn is_own(&self, leg: u8, address: u32) -> bool {
        self.subnets
            .get(usize::from(leg))
            .is_some_and(|subnet| subnet.own == address)
    }

    /// Whether `address` is a virtual address on `leg`.
    #[must_use]
    pub fn is_virtual(&self, leg: u8, address: u32) -> bool {
        let subnet = self.subnets.get(usize::from(leg));
        subnet.is_some_and(|subnet| subnet.virtual_addresses.contains(&address))
    }

    /// Whether `address` is one of ours on any leg, own or virtual.
    #[must_use]
    pub fn is_ours(&self, address: u32) -> bool {
        let mut subnets = self.subnets.iter();
        subnets.any(|s| s.own == address || s.virtual_addresses.contains(&address))
    }

    /// Whether `address` is a host's address in the subnet of `leg`.
    #[must_use]
    pub fn is_neighbour(&self, leg: u8, address: u32) -> bool {
        let subnet = self.subnets.get(usize::from(leg));
        subnet.is_some_and(|subnet| subnet.contains(address) && !subnet.is_broadcast(address))
    }

    /// Refuses addresses that must not be routed, and sources that do not belong on `leg`.
    pub fn check(&self, leg: u8, source: u32, destination: u32) -> Result<(), Drop> {
        if source == destination {
            return Err(Drop::Land);
        }
        if is_special(source) || is_special(destination) || self.is_ours(source) {
            return Err(Drop::Martian);
        }
        if self
            .subnets
            .iter()
            .any(|s| s.is_broadcast(source) || s.is_broadcast(destination))
        {
            return Err(Drop::Martian);
        }
        match self.lookup(source) {
            Some(hop) if hop.leg == leg => Ok(()),
            _ => Err(Drop::ReversePath),
        }
    }

    fn leg_of(&self, address: u32) -> Option<u8> {
        let leg = self
            .subnets
            .iter()
            .position(|subnet| subnet.contains(address))?;
        u8::try_from(leg).ok()
    }
}

/// Addresses that no router may forward from or to: "this network", loopback, link-local, multicast,
/// reserved and broadcast (RFC 6890 §2.2.2).
fn is_special(address: u32) -> bool {
    let [a, b, ..] = address.to_be_bytes();
    matches!(a, 0 | 127 | 224..=255) || (a, b) == (169, 254)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{EDGE, WAN, bits, config};

    #[test]
    fn lookups() {
        let routes = Routes::new(&config());
        let table = [
            ("10.20.1.11", Some((EDGE, "10.20.1.11"))),
            ("203.0.113.77", Some((WAN, "203.0.113.77"))),
            ("198.51.100.7", Some((WAN, "203.0.113.1"))),
        ];
        for (destination, expected) in table {
            let expected = expected.map(|(leg, hop)| Hop {
                leg,
                address: hop.parse().unwrap(),
            });
            assert_eq!(routes.lookup(bits(destination)), expected, "{destination}");
        }
        let alone = Routes::new(&Config {
            default_route: None,
            ..config()
        });
        assert_eq!(alone.lookup(bits("198.51.100.7")), None);
    }

    #[test]
    fn checks() {
        let routes = Routes::new(&config());
        let table = [
            (
                "stranger from wan",
                WAN,
                "198.51.100.7",
                "10.20.1.11",
                Ok(()),
            ),
            (
                "server from its leg",
                EDGE,
                "10.20.1.11",
                "198.51.100.7",
                Ok(()),
            ),
            (
                "server from wan",
                WAN,
                "10.20.1.11",
                "10.20.2.11",
                Err(Drop::ReversePath),
            ),
            (
                "stranger from edge",
                EDGE,
                "198.51.100.7",
                "10.20.2.11",
                Err(Drop::ReversePath),
            ),
            (
                "ourselves",
                WAN,
                "203.0.113.2",
                "10.20.1.11",
                Err(Drop::Martian),
            ),
            (
                "our virtual address",
                WAN,
                "203.0.113.10",
                "10.20.1.11",
                Err(Drop::Martian),
            ),
            ("land", WAN, "203.0.113.10", "203.0.113.10", Err(Drop::Land)),
            (
                "loopback",
                WAN,
                "127.0.0.1",
                "10.20.1.11",
                Err(Drop::Martian),
            ),
            (
                "multicast source",
                WAN,
                "224.0.0.18",
                "10.20.1.11",
                Err(Drop::Martian),
            ),
            (
                "to multicast",
                EDGE,
                "10.20.1.11",
                "239.1.1.1",
                Err(Drop::Martian),
            ),
            (
                "to broadcast",
                EDGE,
                "10.20.1.11",
                "255.255.255.255",
                Err(Drop::Martian),
            ),
            (
                "directed broadcast",
                WAN,
                "198.51.100.7",
                "10.20.1.255",
                Err(Drop::Martian),
            ),
            (
                "network address",
                WAN,
                "198.51.100.7",
                "10.20.1.0",
                Err(Drop::Martian),
            ),
            (
                "from broadcast",
                EDGE,
                "10.20.1.255",
                "198.51.100.7",
                Err(Drop::Martian),
            ),
            (
                "link-local",
                EDGE,
                "169.254.1.1",
                "198.51.100.7",
                Err(Drop::Martian),
            ),
            (
                "this network",
                EDGE,
                "0.0.0.0",
                "198.51.100.7",
                Err(Drop::Martian),
            ),
        ];
        for (name, leg, source, destination, expected) in table {
            assert_eq!(
                routes.check(leg, bits(source), bits(destination)),
                expected,
                "{name}"
            );
        }
    }
}
