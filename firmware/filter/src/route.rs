//! Where addresses live: legs' subnets, the default route, the appliance's own addresses.

use core::net::IpAddr;

use heapless::Vec;
use policy::{Config, MAX_INTERFACES, MAX_SHARED};

use crate::Drop;
use crate::address::{Address, V4, V6};
use crate::flow::Path;

/// A leg and the station on it that a packet goes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the interface.
    pub leg: u8,
    /// The destination itself, or the default router.
    pub address: IpAddr,
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<A> {
    /// The leg, and whether the default router is behind it.
    pub path: Path,
    /// The next station.
    pub next: A,
}

impl<A: Address> From<Way<A>> for Hop {
    fn from(way: Way<A>) -> Self {
        Self {
            leg: way.path.leg,
            address: way.next.into(),
        }
    }
}

/// Which addresses are ours, and where the others are. What every packet needs stands first.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Routes {
    mtus: [u16; MAX_INTERFACES],
    v4: Family<V4>,
    v6: Family<V6>,
}

/// The same for one IP version.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Family<A> {
    /// The default router, if there is one.
    router: A,
    /// The leg that it is on.
    default: Option<u8>,
    /// By leg; not every leg has IPv6.
    subnets: Vec<Option<Subnet<A>>, MAX_INTERFACES>,
}

#[derive(Clone, Debug)]
struct Subnet<A> {
    network: A,
    mask: A,
    own: A,
    virtual_addresses: Vec<A, MAX_SHARED>,
}

impl<A: Address> Subnet<A> {
    fn new<B: Into<A>>(own: B, prefix: u8, virtual_addresses: impl Iterator<Item = B>) -> Self {
        let (own, mask) = (own.into(), A::mask(prefix));
        Self {
            network: own.masked(mask),
            mask,
            own,
            virtual_addresses: virtual_addresses.map(Into::into).collect(),
        }
    }

    fn contains(&self, address: A) -> bool {
        address.masked(self.mask) == self.network
    }

    fn is_ours(&self, address: A) -> bool {
        self.own == address || self.virtual_addresses.contains(&address)
    }

    fn is_broadcast(&self, address: A) -> bool {
        self.contains(address) && address.is_broadcast_of(self.mask)
    }
}

impl Routes {
    /// The routes of a validated configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let interfaces = &config.interfaces;
        let shared = |interface| {
            let routers = config.routers_on(interface);
            routers.flat_map(|router| router.addresses.iter().copied())
        };
        let v4 = interfaces.iter().enumerate().map(|(index, interface)| {
            let shared = shared(index).filter_map(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            });
            Some(Subnet::new(interface.address, interface.prefix, shared))
        });
        let v6 = interfaces.iter().enumerate().map(|(index, interface)| {
            let own = interface.address6?;
            // Link-local ones are never routed, and the same on every link.
            let shared = shared(index).filter_map(|address| match address {
                IpAddr::V6(address) if !address.is_unicast_link_local() => Some(address),
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            });
            Some(Subnet::new(own.address, own.prefix, shared))
        });
        let mut routes = Self {
            v4: Family::without_default(v4.collect()),
            v6: Family::without_default(v6.collect()),
            mtus: [u16::MAX; MAX_INTERFACES],
        };
        for (mtu, interface) in routes.mtus.iter_mut().zip(interfaces) {
            *mtu = interface.mtu;
        }
        if let Some(router) = config.default_route {
            routes.v4.router = router.into();
            routes.v4.default = routes.v4.leg_of(router.into());
        }
        if let Some(router) = config.default_route6 {
            routes.v6.router = router.into();
            routes.v6.default = match router.is_unicast_link_local() {
                true => Some(0),
                false => routes.v6.leg_of(router.into()),
            };
        }
        routes
    }

    /// The IPv4 side.
    #[must_use]
    #[inline(always)]
    pub const fn v4(&self) -> &Family<V4> {
        &self.v4
    }

    /// The IPv6 side.
    #[must_use]
    #[inline(always)]
    pub const fn v6(&self) -> &Family<V6> {
        &self.v6
    }

    /// Longest packet that a leg's network carries.
    #[must_use]
    #[inline(always)]
    pub const fn mtu(&self, leg: u8) -> u16 {
        self.mtus[leg as usize % MAX_INTERFACES]
    }

    /// Where a packet to `destination` goes; `None` without a route.
    #[must_use]
    pub fn lookup(&self, destination: u32) -> Option<Hop> {
        Some(self.v4.lookup(V4::from_bits(destination))?.into())
    }

    /// Whether `address` is one of ours on any leg, own or virtual.
    #[must_use]
    pub fn is_ours(&self, address: u32) -> bool {
        self.v4.is_ours(V4::from_bits(address))
    }

    /// Whether `address` is a host's address in the subnet of `leg`.
    #[must_use]
    pub fn is_neighbour(&self, leg: u8, address: u32) -> bool {
        self.v4.is_neighbour(leg, V4::from_bits(address))
    }

    /// Refuses addresses that must not be routed, and sources that do not belong on `leg`.
    ///
    /// # Errors
    /// Why the packet must be dropped.
    pub fn check(&self, leg: u8, source: u32, destination: u32) -> Result<(), Drop> {
        self.v4
            .check(leg, V4::from_bits(source), V4::from_bits(destination))
    }
}

impl<A: Address> Family<A> {
    fn without_default(subnets: Vec<Option<Subnet<A>>, MAX_INTERFACES>) -> Self {
        Self {
            router: A::default(),
            default: None,
            subnets,
        }
    }

    /// Where a packet to `destination` goes; `None` without a route.
    #[must_use]
    pub fn lookup(&self, destination: A) -> Option<Way<A>> {
        if let Some(leg) = self.leg_of(destination) {
            let path = Path { leg, routed: false };
            return Some(Way {
                path,
                next: destination,
            });
        }
        let path = Path {
            leg: self.default?,
            routed: true,
        };
        Some(Way {
            path,
            next: self.router,
        })
    }

    /// Whether there is a leg with this index and version.
    #[must_use]
    pub fn is_leg(&self, leg: u8) -> bool {
        matches!(self.subnets.get(usize::from(leg)), Some(Some(_)))
    }

    /// The next station on a path to `destination`.
    #[must_use]
    #[inline(always)]
    pub const fn next(&self, path: Path, destination: A) -> A {
        match path.routed {
            true => self.router,
            false => destination,
        }
    }

    /// Whether `address` is one of ours on any leg, own or virtual.
    #[must_use]
    pub fn is_ours(&self, address: A) -> bool {
        let mut subnets = self.subnets.iter().flatten();
        subnets.any(|subnet| subnet.is_ours(address))
    }

    /// The first virtual address on a leg, or the own one.
    #[must_use]
    pub fn virtual_address(&self, leg: u8) -> Option<A> {
        let subnet = self.subnets.get(usize::from(leg))?.as_ref()?;
        Some(
            subnet
                .virtual_addresses
                .first()
                .copied()
                .unwrap_or(subnet.own),
        )
    }

    /// Whether `address` is a host's address in the subnet of `leg`.
    #[must_use]
    pub fn is_neighbour(&self, leg: u8, address: A) -> bool {
        let subnet = self.subnets.get(usize::from(leg)).and_then(Option::as_ref);
        subnet.is_some_and(|subnet| subnet.contains(address) && !subnet.is_broadcast(address))
    }

    /// Refuses addresses that must not be routed, and sources that do not belong on `leg`.
    ///
    /// # Errors
    /// Why the packet must be dropped.
    pub fn check(&self, leg: u8, source: A, destination: A) -> Result<(), Drop> {
        if source == destination {
            return Err(Drop::Land);
        }
        if source.is_special() || destination.is_special() || self.is_ours(source) {
            return Err(Drop::Martian);
        }
        let mut subnets = self.subnets.iter().flatten();
        if subnets.any(|s| s.is_broadcast(source) || s.is_broadcast(destination)) {
            return Err(Drop::Martian);
        }
        match self.lookup(source) {
            Some(way) if way.path.leg == leg => Ok(()),
            _ => Err(Drop::ReversePath),
        }
    }

    /// Where a first packet goes, if [`Self::check`] finds nothing wrong with it and it is not for us: the same in one look
    /// at each subnet. `None` for all others.
    #[must_use]
    pub fn transit(&self, leg: u8, source: A, destination: A) -> Option<u8> {
        if source == destination || source.is_special() || destination.is_special() {
            return None;
        }
        let (mut from, mut to) = (None, None);
        for (index, subnet) in (0..).zip(&self.subnets) {
            let Some(subnet) = subnet else { continue };
            for (address, found) in [(source, &mut from), (destination, &mut to)] {
                if !subnet.contains(address) {
                    continue;
                }
                if address.is_broadcast_of(subnet.mask) || subnet.is_ours(address) {
                    return None;
                }
                *found = found.or(Some(index));
            }
        }
        match from.or(self.default) {
            Some(from) if from == leg => to.or(self.default),
            _ => None,
        }
    }

    /// Whether a first packet that [`Self::check`] finds nothing wrong with is for a virtual address of its leg.
    #[must_use]
    pub fn is_virtual(&self, leg: u8, source: A, destination: A) -> bool {
        let subnet = self.subnets.get(usize::from(leg)).and_then(Option::as_ref);
        subnet.is_some_and(|subnet| subnet.virtual_addresses.contains(&destination))
            && self.check(leg, source, destination).is_ok()
    }

    fn leg_of(&self, address: A) -> Option<u8> {
        let mut subnets = self.subnets.iter();
        let leg = subnets.position(|s| s.as_ref().is_some_and(|s| s.contains(address)))?;
        u8::try_from(leg).ok()
    }
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
