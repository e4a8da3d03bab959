//! What must hold between the parts of a [`Config`], so that the code that runs it need not ask again.

use core::net::{IpAddr, Ipv4Addr};

use crate::{CheckKind, Config, Interface, Prefix, Service, VirtualRouter};

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
    #[error("interface {interface}: {address} is used twice on this appliance")]
    DuplicateAddress { interface: usize, address: Ipv4Addr },
    #[error("interface {interface}: tracked {address} is not a neighbour in its subnet")]
    Tracked { interface: usize, address: Ipv4Addr },

    #[error("interface {interface}: VRID is zero")]
    Vrid { interface: usize },
    #[error("interface {interface}: priority {priority} is not in 1 to 254")]
    Priority { interface: usize, priority: u8 },
    #[error("interface {interface}: its router has another priority or preemption than the others")]
    UnequalRouters { interface: usize },
    #[error("interface {interface}: advertisement interval {centiseconds} is not in 1 to 4095")]
    AdvertisementInterval { interface: usize, centiseconds: u16 },
    #[error("interface {interface}: its router has no virtual address")]
    NoVirtualAddress { interface: usize },
    #[error(
        "interface {interface}: virtual address {address} is its own (owners are not supported)"
    )]
    AddressOwner { interface: usize, address: Ipv4Addr },
    #[error("interface {interface}: virtual address {address} is outside its subnet")]
    VirtualAddressOutside { interface: usize, address: Ipv4Addr },

    #[error("default route {address} is not a neighbour in any subnet")]
    DefaultRoute { address: Ipv4Addr },

    #[error("service {service}: port is zero")]
    ServicePort { service: usize },
    #[error("service {service}: {address} is not a virtual address of this appliance")]
    ServiceAddress { service: usize, address: IpAddr },
    #[error("services {first} and {second} have the same address and port")]
    SharedService { first: usize, second: usize },
    #[error("service {service}: it has no servers")]
    NoServers { service: usize },
    #[error("service {service}: server {server} has port zero")]
    ServerPort { service: usize, server: usize },
    #[error("service {service}: server {server} has the address of an appliance or of nobody")]
    ServerAddress { service: usize, server: usize },
    #[error("service {service}: port, interval, timeout, rise or fall of its check is zero")]
    CheckZero { service: usize },
    #[error("service {service}: host, path, statuses or name of its check cannot be asked for")]
    CheckQuestion { service: usize },
}

impl Config {
    /// Checks everything that the types cannot say. [`crate::decode`] has done it already.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (index, interface) in self.interfaces.iter().enumerate() {
            check_interface(index, interface)?;
            if let Some(router) = &interface.router {
                check_router(index, interface, router)?;
            }
        }
        self.check_pairs_of_interfaces()?;
        self.check_routers_agree()?;
        self.check_default_route()?;
        for (index, service) in self.services.iter().enumerate() {
            self.check_service(index, service)?;
        }
        Ok(())
    }

    /// All addresses that this appliance has or may answer for, with their interface.
    fn addresses(&self) -> impl Iterator<Item = (usize, Ipv4Addr)> {
        self.interfaces
            .iter()
            .enumerate()
            .flat_map(|(index, interface)| {
                let shared = interface.router.iter().flat_map(|router| &router.addresses);
                core::iter::once(&interface.address)
                    .chain(shared)
                    .map(move |address| (index, *address))
            })
    }

    fn virtual_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let routers = self
            .interfaces
            .iter()
            .filter_map(|interface| interface.router.as_ref());
        routers.flat_map(|router| {
            let v4 = router.addresses.iter().copied().map(IpAddr::V4);
            v4.chain(router.addresses6.iter().copied().map(IpAddr::V6))
        })
    }

    fn check_pairs_of_interfaces(&self) -> Result<(), ConfigError> {
        for (second, b) in self.interfaces.iter().enumerate() {
            for (first, a) in self.interfaces.iter().enumerate().take(second) {
                // With it goes "one VRID once per link": an interface has one router.
                if (a.port, a.vlan) == (b.port, b.vlan) {
                    return Err(ConfigError::SharedLeg { first, second });
                }
                if a.subnet().overlaps(b.subnet()) {
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

    /// All routers move together, so an election must have the same result on every leg.
    fn check_routers_agree(&self) -> Result<(), ConfigError> {
        let mut routers = (self.interfaces.iter().enumerate())
            .filter_map(|(index, interface)| Some((index, interface.router.as_ref()?)));
        let Some((_, first)) = routers.next() else {
            return Ok(());
        };
        let same = |other: &VirtualRouter| {
            (first.priority, first.preempt) == (other.priority, other.preempt)
        };
        match routers.find(|(_, router)| !same(router)) {
            Some((interface, _)) => Err(ConfigError::UnequalRouters { interface }),
            None => Ok(()),
        }
    }

    fn check_default_route(&self) -> Result<(), ConfigError> {
        let Some(address) = self.default_route else {
            return Ok(());
        };
        let ours = self.addresses().any(|(_, other)| other == address);
        let neighbour = self
            .interfaces
            .iter()
            .any(|interface| is_host(interface.subnet(), address));
        if ours || !neighbour {
            return Err(ConfigError::DefaultRoute { address });
        }
        Ok(())
    }

    fn check_service(&self, index: usize, service: &Service) -> Result<(), ConfigError> {
        let &Service {
            address,
            port,
            ref servers,
            ref check,
            ..
        } = service;
        if port == 0 {
            return Err(ConfigError::ServicePort { service: index });
        }
        if !self.virtual_addresses().any(|other| other == address) {
            return Err(ConfigError::ServiceAddress {
                service: index,
                address,
            });
        }
        let mut earlier = self.services.iter().take(index);
        if let Some(first) = earlier.position(|other| {
            (other.address, other.port, other.transport) == (address, port, service.transport)
        }) {
            return Err(ConfigError::SharedService {
                first,
                second: index,
            });
        }
        if servers.is_empty() {
            return Err(ConfigError::NoServers { service: index });
        }
        for (n, server) in servers.iter().enumerate() {
            if server.port == 0 {
                return Err(ConfigError::ServerPort {
                    service: index,
                    server: n,
                });
            }
            let ours = self
                .addresses()
                .any(|(_, other)| IpAddr::V4(other) == server.address);
            let unicast = match server.address {
                IpAddr::V4(address) => is_unicast(address),
                IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified(),
            };
            if ours || !unicast {
                return Err(ConfigError::ServerAddress {
                    service: index,
                    server: n,
                });
            }
        }
        let portless = check.port == 0 && check.kind != CheckKind::Ping;
        let times = [check.interval_ms, check.timeout_ms];
        if portless || times.contains(&0) || check.rise == 0 || check.fall == 0 {
            return Err(ConfigError::CheckZero { service: index });
        }
        if !can_be_asked(&check.kind) {
            return Err(ConfigError::CheckQuestion { service: index });
        }
        Ok(())
    }
}

/// Whether a check's texts fit into its question: they are sent as they are.
fn can_be_asked(kind: &CheckKind) -> bool {
    match kind {
        CheckKind::Ping | CheckKind::Tcp | CheckKind::Mysql => true,
        CheckKind::Http {
            host,
            path,
            lowest,
            highest,
        }
        | CheckKind::Https {
            host,
            path,
            lowest,
            highest,
        } => {
            // No blank or line break that would end the request line or add a header (RFC 9112 §3).
            let clean = [host, path]
                .iter()
                .all(|text| text.bytes().all(|b| b.is_ascii_graphic()));
            clean && path.starts_with('/') && lowest <= highest && (100..1000).contains(lowest)
        }
        CheckKind::Dns { name } => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.is_empty() || name.split('.').all(|label| (1..64).contains(&label.len()))
        }
    }
}

fn check_interface(index: usize, interface: &Interface) -> Result<(), ConfigError> {
    let &Interface {
        vlan,
        mac,
        address,
        prefix: length,
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

fn check_router(
    index: usize,
    interface: &Interface,
    router: &VirtualRouter,
) -> Result<(), ConfigError> {
    let &VirtualRouter {
        vrid,
        priority,
        advertisement_interval,
        ref addresses,
        ..
    } = router;
    if vrid == 0 {
        return Err(ConfigError::Vrid { interface: index });
    }
    if !(1..=254).contains(&priority) {
        return Err(ConfigError::Priority {
            interface: index,
            priority,
        });
    }
    if !(1..=4095).contains(&advertisement_interval) {
        let centiseconds = advertisement_interval;
        return Err(ConfigError::AdvertisementInterval {
            interface: index,
            centiseconds,
        });
    }
    if addresses.is_empty() {
        return Err(ConfigError::NoVirtualAddress { interface: index });
    }
    for &address in addresses {
        if address == interface.address {
            return Err(ConfigError::AddressOwner {
                interface: index,
                address,
            });
        }
        if !is_host(interface.subnet(), address) {
            return Err(ConfigError::VirtualAddressOutside {
                interface: index,
                address,
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
