//! What must hold between the parts of a [`Config`], so that the code that runs it need not ask again.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Config, Interface, MAX_SHARED, MTU, Prefix, Prefix6};

mod events;
mod nat;
mod router;
mod service;

/// What is wrong with a configuration. Interfaces, rules, services and servers are named by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum ConfigError {
    #[error("interface {interface}: VLAN id {vlan} is not in 1 to 4094")]
    Vlan { interface: usize, vlan: u16 },
    #[error("interfaces {first} and {second} have the same port and VLAN")]
    SharedLeg { first: usize, second: usize },
    #[error("interface {interface}: its MAC address is zero or a group address")]
    Mac { interface: usize },
    #[error("interface {interface}: prefix length {length} is not in 1 to 32")]
    PrefixLength { interface: usize, length: u8 },
    #[error("interface {interface}: {address} cannot be a host of its subnet")]
    HostAddress { interface: usize, address: Ipv4Addr },
    #[error("subnets of interfaces {first} and {second} overlap")]
    OverlappingSubnets { first: usize, second: usize },
    #[error("interface {interface}: MTU {mtu} is not in 1280 to 1500")]
    Mtu { interface: usize, mtu: u16 },
    #[error("interface {interface}: IPv6 prefix length {length} is not in 1 to 128")]
    PrefixLength6 { interface: usize, length: u8 },
    #[error("interface {interface}: {address} cannot be a host of its IPv6 subnet")]
    HostAddress6 { interface: usize, address: Ipv6Addr },
    #[error("interface {interface}: {address} is used twice on this appliance")]
    DuplicateAddress { interface: usize, address: IpAddr },
    #[error("interface {interface}: tracked {address} is not a neighbour in its subnet")]
    Tracked { interface: usize, address: Ipv4Addr },

    #[error("virtual router {router}: there is no interface {interface}")]
    RouterInterface { router: usize, interface: u8 },
    #[error("virtual router {router}: VRID is zero")]
    Vrid { router: usize },
    #[error("virtual routers {first} and {second} have the same interface, VRID and IP version")]
    SharedVrid { first: usize, second: usize },
    #[error(
        "virtual router {router}: advertisement interval {centiseconds} is not in 1 to 4095 (version 2: whole seconds up to 40)"
    )]
    AdvertisementInterval { router: usize, centiseconds: u16 },
    #[error("virtual router {router}: version 2 knows no IPv6")]
    Version { router: usize },
    #[error("virtual router {router}: it has no virtual address, or lists none")]
    NoVirtualAddress { router: usize },
    #[error("virtual router {router}: its first address is not link-local")]
    NoLinkLocal { router: usize },
    #[error(
        "interface {interface}: {count} virtual addresses of one IP version, there is room for {MAX_SHARED}"
    )]
    TooManyShared { interface: usize, count: usize },
    #[error("virtual router {router}: its addresses are of both IP versions")]
    MixedVersions { router: usize },
    #[error(
        "virtual router {router}: {address} is the appliance's own without priority 255, or not its own with it"
    )]
    AddressOwner { router: usize, address: IpAddr },
    #[error("virtual router {router}: virtual address {address} is outside its subnet")]
    VirtualAddressOutside { router: usize, address: IpAddr },
    #[error("virtual router {router}: {address} cannot be a peer")]
    Peer { router: usize, address: IpAddr },
    #[error(
        "virtual router {router}: its TTLs are reversed or zero, or not 255 although adverts are multicast"
    )]
    Ttl { router: usize },
    #[error(
        "virtual router {router}: passwords are for version 2, HMAC for version 3 with one to two keys of different ids above 0"
    )]
    Authentication { router: usize },
    #[error("the priority is zero")]
    Priority,
    #[error("a delay is longer than 1000 seconds")]
    Delay,
    #[error("addresses are announced at least once")]
    Announce,
    #[error("track {track}: there is nothing to watch, or its weight is not in -253 to 253")]
    Track { track: usize },
    #[error("heartbeats have an interval of 1 to 1000 ms, and 2 or more must be missing")]
    Heartbeat,
    #[error("path {path} to the peer is missing, doubled or leads to nobody")]
    Path { path: usize },

    #[error("default route {address} is not a neighbour in any subnet")]
    DefaultRoute { address: IpAddr },

    #[error("service {service}: its port or its agents' port is zero")]
    ServicePort { service: usize },
    #[error("service {service}: {address} is not a virtual address of this appliance")]
    ServiceAddress { service: usize, address: IpAddr },
    #[error("services {first} and {second} have the same address, port and transport")]
    SharedService { first: usize, second: usize },
    #[error("service {service}: it has no servers")]
    NoServers { service: usize },
    #[error("service {service}: server {server} has port zero")]
    ServerPort { service: usize, server: usize },
    #[error("service {service}: server {server} has the address of an appliance or of nobody")]
    ServerAddress { service: usize, server: usize },
    #[error("service {service}: server {server} at {address} is of another IP version")]
    ServerVersion {
        service: usize,
        server: usize,
        address: IpAddr,
    },
    #[error("service {service}: servers {first} and {second} are the same")]
    SharedServer {
        service: usize,
        first: usize,
        second: usize,
    },
    #[error(
        "service {service}: server {server} cannot answer directly, it has another port or is no neighbour"
    )]
    DirectReturn { service: usize, server: usize },
    #[error("service {service}: quorum {quorum} is not in 1 to {servers}, its servers")]
    Quorum {
        service: usize,
        quorum: u8,
        servers: usize,
    },
    #[error(
        "service {service}: it persists for {seconds} s by a prefix of {prefix} bits, need 1 to {most} and 1 s"
    )]
    Persistence {
        service: usize,
        prefix: u8,
        most: u8,
        seconds: u16,
    },
    #[error("service {service}: port, interval, timeout, rise or fall of its check is zero")]
    CheckZero { service: usize },
    #[error("service {service}: jitter of {percent} % is more than 50")]
    Jitter { service: usize, percent: u8 },
    #[error("service {service}: host, path, statuses or name of its check cannot be asked for")]
    CheckQuestion { service: usize },
    #[error("service {service}: its check trusts authority {anchor}, there are {count}")]
    CheckAnchor {
        service: usize,
        anchor: u8,
        count: usize,
    },
    #[error("service {service}: its check verifies certificates, and nobody says how late it is")]
    CheckTime { service: usize },

    #[error("translation {nat}: there is no interface {interface}")]
    NatInterface { nat: usize, interface: u8 },
    #[error("translation {nat}: {address} is not a virtual address of this appliance")]
    NatAddress { nat: usize, address: IpAddr },
    #[error("translation {nat}: port range {first}-{last} is reversed or begins with zero")]
    NatPorts { nat: usize, first: u16, last: u16 },
    #[error("translation {nat}: {address} is of another IP version, of an appliance or of nobody")]
    NatServer { nat: usize, address: IpAddr },
    #[error("translation {nat}: {count} ports from {port} on do not exist")]
    NatServerPorts { nat: usize, port: u16, count: u32 },
    #[error(
        "translation {nat}: its prefixes are too long, overlap, differ in length or have bits beyond it"
    )]
    NatPrefix { nat: usize },
    #[error("translation {nat} never applies, service {service} has its address and port")]
    NatService { nat: usize, service: usize },
    #[error("translation {nat} never applies, {by} comes first")]
    NatHidden { nat: usize, by: usize },

    #[error("limit {limit}: it is zero")]
    LimitZero { limit: usize },
    #[error(
        "limit {limit}: prefixes of {prefix} and {prefix6} bits are not in 1 to 32 and 1 to 128"
    )]
    LimitPrefix {
        limit: usize,
        prefix: u8,
        prefix6: u8,
    },

    #[error("collector {address}: no machine of others, or port zero")]
    Collector { address: IpAddr },
    #[error("collector {address}: no interface and no default route leads there")]
    CollectorRoute { address: IpAddr },
    #[error("collector {address} is told twice")]
    SharedCollector { address: IpAddr },
    #[error("there are collectors of traps, and no community")]
    NoCommunity,
}

impl Config {
    /// Checks everything that the types cannot say. [`crate::decode`] has done it already.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (index, interface) in self.interfaces.iter().enumerate() {
            check_interface(index, interface)?;
        }
        self.check_pairs_of_interfaces()?;
        self.check_routers()?;
        self.check_shared_addresses()?;
        self.check_availability()?;
        self.check_default_route()?;
        self.check_default_route6()?;
        for (index, service) in self.services.iter().enumerate() {
            self.check_service(index, service)?;
        }
        for (index, entry) in self.nat.iter().enumerate() {
            self.check_nat(index, entry)?;
        }
        for (index, limit) in self.limits.iter().enumerate() {
            nat::check_limit(index, limit)?;
        }
        self.check_events()
    }

    /// All addresses that this appliance has, with their interface.
    fn addresses(&self) -> impl Iterator<Item = (usize, IpAddr)> {
        (self.interfaces.iter().enumerate()).flat_map(|(index, interface)| {
            let own = core::iter::once(IpAddr::V4(interface.address));
            let own6 = interface.address6.map(|own| IpAddr::V6(own.address));
            own.chain(own6).map(move |address| (index, address))
        })
    }

    /// All addresses that it may answer for, with their virtual router.
    fn shared(&self) -> impl Iterator<Item = (usize, IpAddr)> {
        (self.routers.iter().enumerate())
            .flat_map(|(index, router)| router.addresses.iter().map(move |own| (index, *own)))
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.addresses().any(|(_, ours)| ours == address) || self.is_virtual(address)
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        self.shared().any(|(_, ours)| ours == address)
    }

    fn check_pairs_of_interfaces(&self) -> Result<(), ConfigError> {
        for (second, b) in self.interfaces.iter().enumerate() {
            for (first, a) in self.interfaces.iter().enumerate().take(second) {
                if (a.port, a.vlan) == (b.port, b.vlan) {
                    return Err(ConfigError::SharedLeg { first, second });
                }
                if a.subnet().overlaps(b.subnet()) {
                    return Err(ConfigError::OverlappingSubnets { first, second });
                }
                let subnets = a.subnet6().zip(b.subnet6());
                if subnets.is_some_and(|(a, b)| a.overlaps(b)) {
                    return Err(ConfigError::OverlappingSubnets { first, second });
                }
            }
        }
        for (n, (interface, address)) in self.addresses().enumerate() {
            if self.addresses().take(n).any(|(_, other)| other == address) {
                return Err(ConfigError::DuplicateAddress { interface, address });
            }
        }
        Ok(())
    }

    fn check_shared_addresses(&self) -> Result<(), ConfigError> {
        for interface in 0..self.interfaces.len() {
            for six in [false, true] {
                let routers = self
                    .routers_on(interface)
                    .filter(|router| router.is_v6() == six);
                let count = routers.map(|router| router.addresses.len()).sum();
                if count > MAX_SHARED {
                    return Err(ConfigError::TooManyShared { interface, count });
                }
            }
        }
        for (n, (router, address)) in self.shared().enumerate() {
            // Link-local ones may be the same on every link.
            let place = |router: usize| match address {
                IpAddr::V6(address) if address.is_unicast_link_local() => {
                    self.routers.get(router).map(|router| router.interface)
                }
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            };
            let twice = (self.shared().take(n))
                .any(|(other, theirs)| theirs == address && place(other) == place(router));
            if twice {
                let interface = self.routers.get(router).map_or(0, |r| r.interface.into());
                return Err(ConfigError::DuplicateAddress { interface, address });
            }
        }
        Ok(())
    }

    fn check_default_route(&self) -> Result<(), ConfigError> {
        let Some(address) = self.default_route else {
            return Ok(());
        };
        let neighbour = self
            .interfaces
            .iter()
            .any(|interface| is_host(interface.subnet(), address));
        let address = IpAddr::V4(address);
        if self.is_ours(address) || !neighbour {
            return Err(ConfigError::DefaultRoute { address });
        }
        Ok(())
    }

    /// A link-local next hop is one of the first interface.
    fn check_default_route6(&self) -> Result<(), ConfigError> {
        let Some(address) = self.default_route6 else {
            return Ok(());
        };
        let mut subnets = self.interfaces.iter().map(Interface::subnet6);
        let other = IpAddr::V6(address);
        let (neighbour, ours) = if address.is_unicast_link_local() {
            // On other links, the same one may be ours.
            let mut there = self.routers_on(0);
            let ours = there.any(|router| router.addresses.contains(&other));
            (subnets.next().flatten().is_some(), ours)
        } else {
            let neighbour = subnets.flatten().any(|subnet| is_host6(subnet, address));
            (neighbour, self.is_ours(other))
        };
        if ours || !neighbour {
            let address = other;
            return Err(ConfigError::DefaultRoute { address });
        }
        Ok(())
    }
}

fn check_interface(index: usize, interface: &Interface) -> Result<(), ConfigError> {
    let &Interface {
        vlan,
        mac,
        address,
        prefix: length,
        address6,
        mtu,
        ref track,
        ..
    } = interface;
    if let Some(vlan) = vlan
        && !(1..=4094).contains(&vlan)
    {
        return Err(ConfigError::Vlan {
            interface: index,
            vlan,
        });
    }
    if mac == [0; 6] || mac[0] & 1 != 0 {
        return Err(ConfigError::Mac { interface: index });
    }
    if !(1..=32).contains(&length) {
        return Err(ConfigError::PrefixLength {
            interface: index,
            length,
        });
    }
    if !is_host(interface.subnet(), address) {
        return Err(ConfigError::HostAddress {
            interface: index,
            address,
        });
    }
    if !(MIN_MTU..=MTU).contains(&mtu) {
        return Err(ConfigError::Mtu {
            interface: index,
            mtu,
        });
    }
    if let Some(own) = address6 {
        if !(1..=128).contains(&own.prefix) {
            return Err(ConfigError::PrefixLength6 {
                interface: index,
                length: own.prefix,
            });
        }
        if !is_host6(Prefix6::of(own.address, own.prefix), own.address) {
            return Err(ConfigError::HostAddress6 {
                interface: index,
                address: own.address,
            });
        }
    }
    for &other in track {
        if other == address || !is_host(interface.subnet(), other) {
            return Err(ConfigError::Tracked {
                interface: index,
                address: other,
            });
        }
    }
    Ok(())
}

/// Whether `address` may belong to a machine in `subnet`: not its first or last address, except where
/// the subnet is too small to have such (RFC 3021).
fn is_host(subnet: Prefix, address: Ipv4Addr) -> bool {
    let special = subnet.length <= 30 && (address == subnet.address || address == subnet.last());
    subnet.contains(address) && !special && is_unicast(address)
}

fn is_unicast(address: Ipv4Addr) -> bool {
    // 0/8 is "this network", 127/8 the machine itself, 224/3 multicast and reserved.
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

/// The same for IPv6: not the subnet's anycast address (RFC 4291 §2.6.1), except where the subnet is too small to
/// have one (RFC 6164).
fn is_host6(subnet: Prefix6, address: Ipv6Addr) -> bool {
    let special = subnet.length <= 126 && address == subnet.address;
    subnet.contains(address)
        && !special
        && !address.is_unicast_link_local()
        && is_unicast_ip(IpAddr::V6(address))
}

fn is_unicast_ip(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_unicast(address),
        IpAddr::V6(address) => {
            let special = address.is_multicast() || address.is_unspecified();
            !special && !address.is_loopback() && address.to_ipv4_mapped().is_none()
        }
    }
}

/// RFC 8200 §5.
const MIN_MTU: u16 = 1280;
