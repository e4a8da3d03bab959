//! What must hold for virtual routers, and for what two appliances share.

use core::net::IpAddr;

use super::{ConfigError, is_host, is_host6, is_unicast};
use crate::{
    Authentication, Availability, Config, Hmac, Interface, Tracked, Version, VirtualRouter,
};

impl Config {
    pub(super) fn check_routers(&self) -> Result<(), ConfigError> {
        for (index, router) in self.routers.iter().enumerate() {
            let interface = self.interfaces.get(usize::from(router.interface));
            let interface = interface.ok_or(ConfigError::RouterInterface {
                router: index,
                interface: router.interface,
            })?;
            check_protocol(index, router)?;
            check_addresses(index, router, interface, self.availability.priority)?;
            check_peers(index, router, interface)?;
            check_authentication(index, router)?;
            let before = self.routers.iter().take(index);
            let same = |other: &VirtualRouter| {
                (other.interface, other.vrid, other.is_v6())
                    == (router.interface, router.vrid, router.is_v6())
            };
            if let Some(first) = before.clone().position(same) {
                let second = index;
                return Err(ConfigError::SharedVrid { first, second });
            }
        }
        Ok(())
    }

    pub(super) fn check_availability(&self) -> Result<(), ConfigError> {
        let Availability {
            priority,
            preempt_delay,
            start_delay,
            announce,
            tracks,
            pair,
            ..
        } = &self.availability;
        if *priority == 0 {
            return Err(ConfigError::Priority);
        }
        if *preempt_delay.max(start_delay) > MAX_DELAY {
            return Err(ConfigError::Delay);
        }
        if announce.repeat == 0 {
            return Err(ConfigError::Announce);
        }
        for (index, track) in tracks.iter().enumerate() {
            let exists = match track.what {
                Tracked::Port(port) => self.interfaces.iter().any(|leg| leg.port == port),
                Tracked::Neighbours(leg) => {
                    let leg = self.interfaces.get(usize::from(leg));
                    leg.is_some_and(|leg| !leg.track.is_empty())
                }
                Tracked::Service(service) => usize::from(service) < self.services.len(),
                Tracked::Posted(_) => true,
            };
            if !exists || !(-253..=253).contains(&track.weight) {
                return Err(ConfigError::Track { track: index });
            }
        }
        let Some(pair) = pair else { return Ok(()) };
        if !(1..=1000).contains(&pair.heartbeat) || pair.misses < 2 {
            return Err(ConfigError::Heartbeat);
        }
        for (index, path) in pair.paths.iter().enumerate() {
            let leg = self.interfaces.get(usize::from(path.interface));
            let neighbour = leg.is_some_and(|leg| {
                is_host(leg.subnet(), path.address)
                    && leg.address != path.address
                    && leg.mac != path.mac
            });
            let mut before = pair.paths.iter().take(index);
            let twice = before.any(|other| other.interface == path.interface);
            if !neighbour || twice || path.mac == [0; 6] || path.mac[0] & 1 != 0 {
                return Err(ConfigError::Path { path: index });
            }
        }
        if pair.paths.is_empty() {
            return Err(ConfigError::Path { path: 0 });
        }
        Ok(())
    }
}

fn check_protocol(index: usize, router: &VirtualRouter) -> Result<(), ConfigError> {
    let interval = router.advertisement_interval;
    if router.vrid == 0 {
        return Err(ConfigError::Vrid { router: index });
    }
    let (last, step) = match router.version {
        // One byte of seconds (RFC 3768 §5.3.7), of which our timers take as many as version 3's.
        Version::V2 => (4000, 100),
        Version::V3 => (4095, 1),
    };
    if !(1..=last).contains(&interval) || !interval.is_multiple_of(step) {
        return Err(ConfigError::AdvertisementInterval {
            router: index,
            centiseconds: interval,
        });
    }
    if router.version == Version::V2 && router.is_v6() {
        return Err(ConfigError::Version { router: index });
    }
    Ok(())
}

fn check_addresses(
    index: usize,
    router: &VirtualRouter,
    interface: &Interface,
    priority: u8,
) -> Result<(), ConfigError> {
    let first = router.addresses.first();
    if first.is_none() || router.advertised == 0 {
        return Err(ConfigError::NoVirtualAddress { router: index });
    }
    if let Some(IpAddr::V6(first)) = first
        && !first.is_unicast_link_local()
    {
        return Err(ConfigError::NoLinkLocal { router: index });
    }
    for &address in &router.addresses {
        if address.is_ipv6() != router.is_v6() {
            return Err(ConfigError::MixedVersions { router: index });
        }
        let own6 = interface.address6.map(|own| IpAddr::V6(own.address));
        let own = address == IpAddr::V4(interface.address) || Some(address) == own6;
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        // The owner has them all as its own (RFC 9568 §6.1), nobody else has any.
        if own != (priority == OWNER) && !link_local {
            return Err(ConfigError::AddressOwner {
                router: index,
                address,
            });
        }
        let inside = match address {
            IpAddr::V4(address) => is_host(interface.subnet(), address),
            IpAddr::V6(address) => interface
                .subnet6()
                .is_some_and(|subnet| is_host6(subnet, address) || link_local),
        };
        if !inside {
            return Err(ConfigError::VirtualAddressOutside {
                router: index,
                address,
            });
        }
    }
    Ok(())
}

fn check_peers(
    index: usize,
    router: &VirtualRouter,
    interface: &Interface,
) -> Result<(), ConfigError> {
    for &peer in &router.peers {
        let right = match peer {
            IpAddr::V4(peer) => !router.is_v6() && is_unicast(peer) && peer != interface.address,
            IpAddr::V6(peer) => {
                let own = interface.address6.map(|own| own.address);
                router.is_v6() && !peer.is_multicast() && own != Some(peer)
            }
        };
        if !right || router.addresses.contains(&peer) {
            return Err(ConfigError::Peer {
                router: index,
                address: peer,
            });
        }
    }
    let (lowest, highest) = router.ttl;
    // Without a limit anybody in the world could send adverts; multicast ones never cross a router (RFC 9568 §5.1.1.3).
    let multicast = router.peers.is_empty() && router.ttl != (255, 255);
    if lowest == 0 || lowest > highest || multicast {
        return Err(ConfigError::Ttl { router: index });
    }
    Ok(())
}

fn check_authentication(index: usize, router: &VirtualRouter) -> Result<(), ConfigError> {
    let right = match &router.authentication {
        Authentication::None => true,
        Authentication::Password(_) => router.version == Version::V2,
        Authentication::Hmac(Hmac { keys, .. }) => {
            let distinct = (keys.iter().enumerate())
                .all(|(n, key)| keys.iter().take(n).all(|other| other.id != key.id));
            let usable = keys.iter().all(|key| key.id != 0 && !key.secret.is_empty());
            router.version == Version::V3 && !keys.is_empty() && distinct && usable
        }
    };
    match right {
        true => Ok(()),
        false => Err(ConfigError::Authentication { router: index }),
    }
}

/// Priority of the owner of the addresses (RFC 9568 §5.2.4).
const OWNER: u8 = 255;
/// Longest delay in milliseconds.
const MAX_DELAY: u32 = 1_000_000;
