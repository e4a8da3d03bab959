//! Virtual routers of an appliance, what it watches, and how it talks to its peer.

use std::net::{IpAddr, Ipv4Addr};

use heapless::Vec as Bounded;
use policy::rule::Rule;
use policy::{Hmac, Key, Track, Tracked, VirtualRouter};
use sha2::{Digest as _, Sha256};
use site::Plan;
use site::plan::{self, Appliance, Authentication, Network, Port, Router};

use crate::RenderError;
use crate::appliance::{bounded, short};

/// How far an appliance without tracked neighbours falls below the weakest of its healthy peers.
const TRACK_MARGIN: u8 = 10;

/// The virtual routers of all legs.
pub(crate) fn routers(
    plan: &Plan,
    appliance: &Appliance,
) -> Result<Bounded<VirtualRouter, { policy::MAX_ROUTERS }>, RenderError> {
    let mut routers = Vec::new();
    for (index, leg) in (0..).zip(&appliance.legs) {
        let network = crate::network(plan, &appliance.name, &leg.network)?;
        for one in &network.routers {
            routers.push(router(plan, appliance, network, index, one)?);
        }
    }
    bounded("virtual routers", routers)
}

fn router(
    plan: &Plan,
    appliance: &Appliance,
    network: &Network,
    interface: u8,
    router: &Router,
) -> Result<VirtualRouter, RenderError> {
    let vrrp = &plan.vrrp;
    let peers = match router.unicast {
        true => others(plan, appliance, &network.name, router.is_v6())
            .chain(router.peers.iter().copied())
            .collect(),
        false => Vec::new(),
    };
    Ok(VirtualRouter {
        version: router.version,
        advertisement_interval: (router.advertisement_interval)
            .unwrap_or(vrrp.advertisement_interval),
        advertised: router.advertised,
        accept: router.accept,
        virtual_mac: router.virtual_mac,
        checksum: vrrp.checksum,
        strict_addresses: vrrp.strict_addresses,
        // Multicast never crosses a router, so that only one TTL is right (RFC 9568 §5.1.1.3).
        ttl: if peers.is_empty() {
            (255, 255)
        } else {
            vrrp.ttl
        },
        peers: bounded("peers of a virtual router", peers)?,
        authentication: authentication(&vrrp.authentication, router)?,
        ..VirtualRouter {
            interface,
            vrid: router.vrid,
            addresses: bounded(
                "addresses of a virtual router",
                router.addresses.iter().copied(),
            )?,
            ..VirtualRouter::default()
        }
    })
}

/// Addresses of the other appliance in a network, be it ours or a keepalived.
fn others<'a>(
    plan: &'a Plan,
    appliance: &'a Appliance,
    network: &'a str,
    version6: bool,
) -> impl Iterator<Item = IpAddr> {
    let address = move |v4: Ipv4Addr, v6: Option<std::net::Ipv6Addr>| match version6 {
        true => v6.map(IpAddr::V6),
        false => Some(IpAddr::V4(v4)),
    };
    let ours = (plan.appliances.iter())
        .filter(|other| other.name != appliance.name)
        .flat_map(|other| &other.legs)
        .filter(move |leg| leg.network == network)
        .filter_map(move |leg| address(leg.address, leg.address6));
    let foreign = (plan.foreign.iter().flat_map(|other| &other.legs))
        .filter(move |leg| leg.network == network)
        .filter_map(move |leg| address(leg.address, leg.address6));
    ours.chain(foreign)
}

/// Secrets are filled in by who builds; here stand others of the same shape.
fn authentication(
    of: &Authentication,
    router: &Router,
) -> Result<policy::Authentication, RenderError> {
    Ok(match (of, router.version) {
        (Authentication::Password(_), policy::Version::V2) => {
            policy::Authentication::Password([0; 8])
        }
        (Authentication::Hmac { keys, mode }, policy::Version::V3) => {
            let key = |(id, _): &(u8, String)| Key {
                id: *id,
                secret: [0; 32].into_iter().collect(),
            };
            policy::Authentication::Hmac(Hmac {
                keys: bounded("keys of a virtual router", keys.iter().map(key))?,
                mode: *mode,
            })
        }
        (Authentication::None | Authentication::Password(_) | Authentication::Hmac { .. }, _) => {
            policy::Authentication::None
        }
    })
}

/// How the appliance shares its virtual routers.
pub(crate) fn availability(
    plan: &Plan,
    appliance: &Appliance,
) -> Result<policy::Availability, RenderError> {
    let vrrp = &plan.vrrp;
    let mut tracks = derived(plan, appliance)?;
    for track in &plan.tracks {
        tracks.push(Track {
            what: tracked(plan, appliance, &track.what)?,
            weight: track.weight,
            reverse: track.reverse,
        });
    }
    Ok(policy::Availability {
        priority: appliance.priority,
        preempt: vrrp.preempt,
        preempt_delay: vrrp.preempt_delay,
        start_delay: vrrp.start_delay,
        announce: vrrp.announce,
        tracks: bounded("things to watch", tracks)?,
        pair: pair(plan, appliance)?,
    })
}

/// What an appliance loses when a network is out of reach that users or service servers are in, unless the site says itself
/// what that costs.
fn derived(plan: &Plan, appliance: &Appliance) -> Result<Vec<Track>, RenderError> {
    let mut tracks = Vec::new();
    for (index, leg) in (0..).zip(&appliance.legs) {
        let network = crate::network(plan, &appliance.name, &leg.network)?;
        let mut members = (plan.services.iter()).flat_map(|service| &service.servers);
        let decisive = network.port == Port::Wan
            || members.any(|member| {
                let mut servers = plan.servers.iter();
                servers.any(|server| server.network == network.name && member.server == server.name)
            });
        if decisive && !is_weighed(plan, network) && !neighbours(plan, network).is_empty() {
            tracks.push(Track {
                what: Tracked::Neighbours(index),
                weight: -i16::from(track_weight(plan, appliance)),
                reverse: false,
            });
        }
    }
    Ok(tracks)
}

/// Whether the site says what it costs that a network is out of reach.
fn is_weighed(plan: &Plan, network: &Network) -> bool {
    (plan.tracks.iter()).any(
        |track| matches!(&track.what, plan::Tracked::Neighbours(name) if *name == network.name),
    )
}

/// By its index on this appliance.
fn tracked(
    plan: &Plan,
    appliance: &Appliance,
    what: &plan::Tracked,
) -> Result<Tracked, RenderError> {
    let leg = |network: &str| {
        let mut legs = (0..).zip(&appliance.legs);
        let found = legs.find(|(_, leg)| leg.network == network);
        found.map(|(index, leg)| (index, leg.port))
    };
    Ok(match what {
        plan::Tracked::Port(port) => {
            let there = (plan.networks.iter()).find(|network| network.port == *port);
            let port = there.and_then(|network| leg(&network.name));
            Tracked::Port(port.map_or(0, |(_, port)| port))
        }
        plan::Tracked::Neighbours(name) => {
            let there = leg(name).ok_or_else(|| RenderError::NoSuchNetwork {
                of: appliance.name.clone(),
                network: name.clone(),
            })?;
            Tracked::Neighbours(there.0)
        }
        // On the device, a service on both versions of IP is two, the one on IPv4 first.
        plan::Tracked::Service(name) => {
            let before = plan.services.iter().take_while(|other| other.name != *name);
            let count: usize = before
                .map(|other| 1 + usize::from(crate::appliance::has_version6(plan, other)))
                .sum();
            Tracked::Service(u8::try_from(count).unwrap_or(u8::MAX))
        }
        plan::Tracked::Posted(name) => {
            let index = plan.posted().position(|other| other == name);
            Tracked::Posted(index.and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX))
        }
    })
}

/// The neighbours whose silence means that this leg leads nowhere: those that the site names, else the provider's router on
/// wan, the first few servers elsewhere.
pub(crate) fn neighbours(plan: &Plan, network: &Network) -> Vec<Ipv4Addr> {
    if !network.neighbours.is_empty() {
        return network.neighbours.clone();
    }
    if let Some(uplink) = network.uplink {
        return vec![uplink];
    }
    (plan.servers.iter())
        .filter(|server| server.network == network.name)
        .map(|server| server.address)
        .take(policy::MAX_TRACKED)
        .collect()
}

/// Enough that an appliance whose users or service servers are out of reach ranks below every healthy
/// one. If all are cut off alike they all fall by it, and their order stays.
fn track_weight(plan: &Plan, appliance: &Appliance) -> u8 {
    let priorities = || {
        let ours = plan.appliances.iter().map(|appliance| appliance.priority);
        ours.chain(plan.foreign.iter().map(|foreign| foreign.priority))
    };
    let spread = priorities()
        .max()
        .unwrap_or(0)
        .saturating_sub(priorities().min().unwrap_or(0));
    spread
        .saturating_add(TRACK_MARGIN)
        .min(appliance.priority.saturating_sub(1))
}

/// The other appliance and the ways to it. Keys are filled in by who builds.
fn pair(plan: &Plan, appliance: &Appliance) -> Result<Option<policy::Pair>, RenderError> {
    let mut others = (plan.appliances.iter()).filter(|other| other.name != appliance.name);
    let (Some(pair), Some(peer)) = (&plan.pair, others.next()) else {
        return Ok(None);
    };
    let mut paths = Vec::new();
    for name in &pair.networks {
        let missing = || RenderError::NoSuchNetwork {
            of: appliance.name.clone(),
            network: name.clone(),
        };
        let mut own = (0..).zip(&appliance.legs);
        let (interface, _) = own
            .find(|(_, leg)| leg.network == *name)
            .ok_or_else(missing)?;
        let mut theirs = peer.legs.iter();
        let leg = theirs
            .find(|leg| leg.network == *name)
            .ok_or_else(missing)?;
        paths.push(policy::Path {
            interface,
            mac: leg.mac,
            address: leg.address,
        });
    }
    Ok(Some(policy::Pair {
        peer: short(&peer.name)?,
        first: (plan.appliances.first()).is_some_and(|first| first.name == appliance.name),
        paths: bounded("paths to the peer", paths)?,
        serial: pair.serial,
        heartbeat: pair.heartbeat,
        misses: pair.misses,
        sync: pair.sync,
        defer: pair.defer,
        key: [0; 32],
        operator: [0; 32],
        fingerprint: 0,
    }))
}

/// Digest of all that two appliances must agree about: everything but what is each one's own.
pub(crate) fn fingerprint(plan: &Plan, config: &policy::Config, rules: &[Rule]) -> u64 {
    let mut common = config.clone();
    common.name.clear();
    common.made = 0;
    common.anchors.clear();
    for leg in &mut common.interfaces {
        // Boards of a pair may have other ports.
        (leg.port, leg.vlan, leg.mac) = (0, None, [0; 6]);
        leg.address = Ipv4Addr::UNSPECIFIED;
        if let Some(own) = &mut leg.address6 {
            own.address = std::net::Ipv6Addr::UNSPECIFIED;
        }
    }
    for router in &mut common.routers {
        router.peers.clear();
    }
    common.availability.priority = 0;
    for track in &mut common.availability.tracks {
        match &mut track.what {
            Tracked::Port(port) => *port = 0,
            // What follows from its own priority.
            Tracked::Neighbours(leg) => {
                let network = plan.networks.get(usize::from(*leg));
                if !network.is_some_and(|network| is_weighed(plan, network)) {
                    track.weight = 0;
                }
            }
            Tracked::Service(_) | Tracked::Posted(_) => {}
        }
    }
    if let Some(pair) = &mut common.availability.pair {
        pair.peer.clear();
        pair.first = false;
        for path in &mut pair.paths {
            (path.mac, path.address) = ([0; 6], Ipv4Addr::UNSPECIFIED);
        }
    }
    // These types have no maps and no floating point, so that writing them cannot fail.
    let text = serde_json::to_vec(&(common, rules)).unwrap_or_default();
    let digest = Sha256::digest(text);
    digest
        .iter()
        .take(8)
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}
