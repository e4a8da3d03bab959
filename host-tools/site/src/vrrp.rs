//! Virtual routers, what appliances watch, and how two of them share it: from the file to the plan.

use std::net::{IpAddr, Ipv6Addr};

use policy::{Checksum, HmacMode, Version, VirtualRouter};

use crate::{
    file::{Appliance, Network, SiteFile},
    plan::{
        self, Authentication, ForeignLeg, ForeignRouter, Pair, Port, Router, Track, Tracked, Vrrp,
    },
    read::At,
    traffic::{host_address, host_address6},
    vrrp_file::{AuthenticationKind, Entry, Preset, RouterEntry},
};

/// What is the same for all virtual routers of the site.
pub(crate) fn settings(file: &SiteFile) -> Option<Vrrp> {
    let vrrp = &file.vrrp;
    Some(Vrrp {
        advertisement_interval: vrrp.interval.as_ref()?.get_ref().0,
        preempt: *vrrp.preempt.as_ref()?.get_ref(),
        preempt_delay: vrrp.preempt_delay.as_ref().map_or(0, |d| d.get_ref().0),
        start_delay: vrrp.start_delay.as_ref().map_or(0, |d| d.get_ref().0),
        checksum: match &vrrp.checksum {
            Some(checksum) => *checksum.get_ref(),
            // Debian's keepalived knows no other.
            None if has_foreign(file) => Checksum::PseudoHeader,
            None => Checksum::Message,
        },
        strict_addresses: is(vrrp.strict_addresses.as_ref(), false),
        ttl: vrrp.ttl.as_ref().map_or((255, 255), |ttl| {
            let ttl = ttl.get_ref();
            (ttl.0, ttl.1)
        }),
        authentication: authentication(vrrp),
        announce: announce(vrrp),
    })
}

/// Whether a machine with keepalived stands in for an appliance.
pub(crate) fn has_foreign(file: &SiteFile) -> bool {
    let mut appliances = file.appliances.entries.iter();
    appliances.any(|(_, appliance)| appliance.is_foreign())
}

fn is(value: Option<&At<bool>>, default: bool) -> bool {
    value.map_or(default, |value| *value.get_ref())
}

fn authentication(vrrp: &Entry) -> Authentication {
    let Some(entry) = &vrrp.authentication else {
        return Authentication::None;
    };
    match entry.kind.get_ref() {
        AuthenticationKind::Password => {
            let file = entry.file.as_ref().map(|file| file.get_ref().clone());
            Authentication::Password(file.unwrap_or_default())
        }
        AuthenticationKind::Hmac => Authentication::Hmac {
            keys: (entry.keys.iter())
                .map(|key| (key.id.get_ref().0, key.file.get_ref().clone()))
                .collect(),
            mode: (entry.mode.as_ref()).map_or(HmacMode::Enforce, |mode| *mode.get_ref()),
        },
    }
}

fn announce(vrrp: &Entry) -> policy::Announce {
    let entry = vrrp.announce.as_ref();
    let preset = entry.and_then(|entry| entry.preset.as_ref());
    let mut announce = preset.map_or(Preset::Normal, |p| *p.get_ref()).announce();
    if let Some(seconds) = &vrrp.router_advertisement {
        announce.router_advertisement = seconds.get_ref().0;
    }
    let Some(entry) = entry else { return announce };
    if let Some(repeat) = &entry.repeat {
        announce.repeat = repeat.get_ref().0;
    }
    if let Some(gap) = &entry.gap {
        announce.gap = gap.get_ref().0;
    }
    if let Some(second) = &entry.second {
        announce.second = second.get_ref().0;
    }
    if let Some(refresh) = &entry.refresh {
        announce.refresh = refresh.get_ref().0;
    }
    if let Some(rival) = &entry.rival {
        announce.rival = rival.get_ref().0;
    }
    announce.replies = is(entry.replies.as_ref(), announce.replies);
    announce
}

/// All virtual routers of a network, its own first; `own6` is its IPv6 address.
pub(crate) fn routers(file: &SiteFile, network: &Network, own6: Option<Ipv6Addr>) -> Vec<Router> {
    let own = router(file, network, &network.router, own6);
    let others = (network.routers.iter()).map(|entry| router(file, network, entry, None));
    let (v4, v6) = own;
    let rest = others.flat_map(|(v4, v6)| [v4, v6]);
    [v4, v6].into_iter().chain(rest).flatten().collect()
}

/// The IPv4 and the IPv6 half of what is written as one virtual router.
fn router(
    file: &SiteFile,
    network: &Network,
    entry: &RouterEntry,
    own6: Option<Ipv6Addr>,
) -> (Option<Router>, Option<Router>) {
    let vrrp = &file.vrrp;
    let version = vrrp.version.as_ref().map_or(Version::V3, |v| *v.get_ref());
    let half = |version6: bool, listed: Vec<IpAddr>| {
        if listed.is_empty() {
            return None;
        }
        let excluded = (entry.excluded.iter()).map(|address| *address.get_ref());
        let excluded = excluded.filter(|address| address.is_ipv6() == version6);
        let peers = (network.peers.iter()).map(|address| *address.get_ref());
        Some(Router {
            vrid: if version6 {
                entry.vrid6()
            } else {
                entry.vrid.get_ref().0
            },
            version: if version6 { Version::V3 } else { version },
            advertised: u8::try_from(listed.len()).unwrap_or(u8::MAX),
            addresses: listed.into_iter().chain(excluded).collect(),
            advertisement_interval: network.interval.as_ref().map(|i| i.get_ref().0),
            accept: is(network.accept.as_ref().or(vrrp.accept.as_ref()), true),
            virtual_mac: is(
                network.virtual_mac.as_ref().or(vrrp.virtual_mac.as_ref()),
                true,
            ),
            unicast: is(vrrp.unicast.as_ref(), false) || !network.peers.is_empty(),
            peers: (peers)
                .filter(|address| address.is_ipv6() == version6)
                .collect(),
        })
    };
    let v4 = entry
        .v4
        .iter()
        .map(|address| IpAddr::V4(*address.get_ref()));
    (half(false, v4.collect()), half(true, listed6(entry, own6)))
}

/// The IPv6 addresses that adverts list: a link-local one first (RFC 9568 §5.2.9), then the network's own.
pub(crate) fn listed6(entry: &RouterEntry, own6: Option<Ipv6Addr>) -> Vec<IpAddr> {
    let mut listed: Vec<Ipv6Addr> = entry.v6.iter().map(|address| *address.get_ref()).collect();
    if let Some(own6) = own6.filter(|own6| !listed.contains(own6)) {
        listed.push(own6);
    }
    if listed
        .first()
        .is_some_and(|first| !first.is_unicast_link_local())
    {
        listed.insert(0, VirtualRouter::link_local(entry.vrid6()));
    }
    listed.into_iter().map(IpAddr::V6).collect()
}

/// A machine with keepalived in the place of an appliance.
pub(crate) fn foreign(
    name: &str,
    appliance: &Appliance,
    networks: &[plan::Network],
) -> ForeignRouter {
    let host = appliance.host.get_ref().0;
    let leg = |network: &plan::Network| {
        let alone = |other: &&plan::Network| other.port == network.port;
        ForeignLeg {
            network: network.name.clone(),
            vlan: network
                .vlan
                .filter(|_| networks.iter().filter(alone).count() > 1),
            address: host_address(network.subnet, host),
            address6: network.subnet6.map(|subnet| host_address6(subnet, host)),
        }
    };
    ForeignRouter {
        name: name.to_owned(),
        priority: appliance.priority.get_ref().0,
        legs: networks.iter().map(leg).collect(),
    }
}

/// How two appliances of ours talk to each other; one that is alone, or has a keepalived beside it, has nobody to talk to.
pub(crate) fn pair(file: &SiteFile) -> Option<Pair> {
    if file.appliances.entries.len() != 2 || has_foreign(file) {
        return None;
    }
    let entry = file.pair.as_ref();
    let interval = file.vrrp.interval.as_ref()?.get_ref().0;
    let heartbeat = entry.and_then(|entry| entry.heartbeat.as_ref());
    let misses = entry.and_then(|entry| entry.misses.as_ref());
    let written: Vec<String> = entry.map_or(Vec::new(), |entry| {
        (entry.networks.iter())
            .map(|network| network.get_ref().clone())
            .collect()
    });
    Some(Pair {
        // Half of an advertisement's, so that a dead peer is known before VRRP finds out.
        heartbeat: heartbeat.map_or((interval * 5).clamp(10, 500), |h| h.get_ref().0),
        misses: misses.map_or(4, |misses| misses.get_ref().0),
        networks: if written.is_empty() {
            default_paths(file)
        } else {
            written
        },
        serial: entry.is_some_and(|entry| is(entry.serial.as_ref(), false)),
        sync: entry.is_none_or(|entry| is(entry.sync.as_ref(), true)),
        defer: entry.is_some_and(|entry| is(entry.defer.as_ref(), false)),
    })
}

/// The first network of each port, the lan before the wan: flows of others are nobody's business outside.
fn default_paths(file: &SiteFile) -> Vec<String> {
    let first = |port: Port| {
        let mut networks = file.networks.entries.iter();
        let found = networks.find(|(_, network)| *network.port.get_ref() == port);
        found.map(|(name, _)| name.get_ref().clone())
    };
    [first(Port::Lan), first(Port::Wan)]
        .into_iter()
        .flatten()
        .collect()
}

/// What is watched, in the order of the file.
pub(crate) fn tracks(file: &SiteFile) -> Vec<Track> {
    let track = |entry: &crate::vrrp_file::TrackEntry| {
        let port = entry
            .port
            .as_ref()
            .map(|port| Tracked::Port(*port.get_ref()));
        let neighbours = (entry.neighbours.as_ref())
            .map(|network| Tracked::Neighbours(network.get_ref().clone()));
        let service = (entry.service.as_ref()).map(|s| Tracked::Service(s.get_ref().clone()));
        let posted = (entry.posted.as_ref()).map(|name| Tracked::Posted(name.get_ref().0.clone()));
        Some(Track {
            what: port.or(neighbours).or(service).or(posted)?,
            weight: entry.weight.as_ref().map_or(0, |weight| weight.get_ref().0),
            reverse: is(entry.reverse.as_ref(), false),
        })
    };
    file.tracks.iter().filter_map(track).collect()
}
