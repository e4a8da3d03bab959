//! What must fit together about virtual routers: what keepalived finds out in operation, if at all, is said here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use policy::{HmacMode, Version};

use crate::{
    error::Problem,
    file::{Appliance, Network, SiteFile},
    plan::Plan,
    read::At,
    traffic::{host_address, host_address6},
    vrrp::{has_foreign, listed6},
    vrrp_file::{AuthenticationKind, TrackEntry},
};

/// Priority of the owner of the virtual addresses (RFC 9568 §5.2.4).
const OWNER: u8 = 255;

/// Reports everything that does not fit together.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    delay(file, problems);
    version2(file, problems);
    unicast(file, problems);
    authentication(file, problems);
    for (name, network) in &file.networks.entries {
        routers(name, network, problems);
        neighbours(name, network, problems);
    }
    owners(file, problems);
    ours(file, problems);
    pair(file, problems);
    tracks(file, problems);
}

/// A delay of what never happens.
fn delay(file: &SiteFile, problems: &mut Vec<Problem>) {
    let vrrp = &file.vrrp;
    if let (Some(preempt), Some(delay)) = (&vrrp.preempt, &vrrp.preempt_delay)
        && !preempt.get_ref()
        && delay.get_ref().0 > 0
    {
        problems.push(
            Problem::new("site::contradiction", "`preempt_delay` has no use")
                .at(preempt.span(), "nobody takes over from a weaker one")
                .at(delay.span(), "so there is nothing to delay")
                .help("remove `preempt_delay`, or write preempt = true"),
        );
    }
}

/// Version 2 counts in seconds (RFC 3768 §5.3.7).
fn version2(file: &SiteFile, problems: &mut Vec<Problem>) {
    let version = file.vrrp.version.as_ref();
    let Some(version) = version.filter(|version| *version.get_ref() == Version::V2) else {
        return;
    };
    let networks = file.networks.entries.iter();
    let intervals = networks.filter_map(|(_, network)| network.interval.as_ref());
    for interval in file.vrrp.interval.iter().chain(intervals) {
        if !interval.get_ref().0.is_multiple_of(100) {
            problems.push(
                Problem::new("site::version2", "VRRP version 2 counts in whole seconds")
                    .at(version.span(), "says it")
                    .at(interval.span(), "is no whole number of seconds")
                    .help("write \"1s\", or use version = 3 if all routers know it"),
            );
        }
    }
}

fn unicast(file: &SiteFile, problems: &mut Vec<Problem>) {
    let networks = &file.networks.entries;
    let asked = file
        .vrrp
        .unicast
        .as_ref()
        .filter(|unicast| *unicast.get_ref());
    // With another appliance there is a peer everywhere.
    if let (Some(unicast), 1) = (asked, file.appliances.names.len()) {
        for (name, network) in networks.iter().filter(|(_, n)| n.peers.is_empty()) {
            problems.push(
                Problem::new(
                    "site::unicast_without_peers",
                    format!("adverts in network `{}` would go to nobody", name.get_ref()),
                )
                .at(unicast.span(), "adverts go to each peer")
                .at(network.subnet.span(), "there is no peer here")
                .help(format!(
                    "add peers = [\"…\"] to [networks.{}], or a second appliance; or leave multicast on",
                    name.get_ref()
                )),
            );
        }
    }
    let any = asked.is_some() || networks.iter().any(|(_, n)| !n.peers.is_empty());
    if let (Some(ttl), false) = (&file.vrrp.ttl, any) {
        problems.push(
            Problem::new("site::contradiction", "`ttl` has no use")
                .at(
                    ttl.span(),
                    "multicast adverts always have 255 (RFC 9568 §5.1.1.3)",
                )
                .help("remove it, or send adverts to peers: unicast = true"),
        );
    }
    for (name, network) in networks {
        let others = usize::from(file.appliances.names.len() > 1);
        for version6 in [false, true] {
            let peers = (network.peers.iter()).filter(|peer| peer.get_ref().is_ipv6() == version6);
            if let Some(extra) = peers.clone().nth(policy::MAX_PEERS - others) {
                problems.push(
                    Problem::new(
                        "site::too_many_peers",
                        format!("too many peers in network `{}`", name.get_ref()),
                    )
                    .at(extra.span(), "one too many")
                    .help(format!(
                        "a virtual router has room for {}, the other appliance among them",
                        policy::MAX_PEERS
                    )),
                );
            }
        }
        for peer in &network.peers {
            if peer.get_ref().is_ipv6() && network.subnet6.is_none() {
                problems.push(
                    Problem::new(
                        "site::no_subnet6",
                        format!("network `{}` has no IPv6 subnet", name.get_ref()),
                    )
                    .at(peer.span(), "gets no adverts")
                    .help(format!(
                        "add subnet6 = \"…\" to [networks.{}]",
                        name.get_ref()
                    )),
                );
            }
        }
    }
}

fn authentication(file: &SiteFile, problems: &mut Vec<Problem>) {
    let Some(entry) = &file.vrrp.authentication else {
        return;
    };
    let kind = &entry.kind;
    let version = file.vrrp.version.as_ref();
    let is_v2 = version.is_some_and(|version| *version.get_ref() == Version::V2);
    let idle = |place: Option<std::ops::Range<usize>>, key: &str, problems: &mut Vec<Problem>| {
        if let Some(place) = place {
            problems.push(
                Problem::new("site::contradiction", format!("`{key}` has no use"))
                    .at(kind.span(), "this kind has none")
                    .at(place, "so this means nothing")
                    .help(format!("remove `{key}`, or choose another `kind`")),
            );
        }
    };
    let missing = |key: &str, example: &str| {
        Problem::new(
            "site::missing_key",
            format!("[vrrp.authentication] lacks `{key}`"),
        )
        .at(kind.span(), format!("needs `{key}`"))
        .help(format!(
            "add {example}: a file beside the site file, which is read by `build`"
        ))
    };
    let first_key = entry.keys.first().map(|key| key.id.span());
    match kind.get_ref() {
        AuthenticationKind::Password => {
            if !is_v2 {
                let problem = Problem::new(
                    "site::contradiction",
                    "VRRP version 3 knows no passwords (RFC 9568 §9)",
                )
                .at(kind.span(), "is for version 2 only")
                .help("use kind = \"hmac\"; or version = 2 if an old router asks for the password");
                problems.push(match version {
                    Some(version) => problem.at(version.span(), "this version"),
                    None => problem,
                });
            }
            if entry.file.is_none() {
                problems.push(missing("file", "file = \"vrrp.password\""));
            }
            idle(first_key, "keys", problems);
            idle(entry.mode.as_ref().map(At::span), "mode", problems);
        }
        AuthenticationKind::Hmac => {
            if let (Some(version), true) = (version, is_v2) {
                problems.push(
                    Problem::new("site::contradiction", "adverts of version 2 carry no HMAC")
                        .at(version.span(), "this version")
                        .at(kind.span(), "is for version 3 only")
                        .help("use version = 3, or kind = \"password\""),
                );
            }
            if entry.keys.is_empty() {
                problems.push(missing("keys", "keys = [{ id = 1, file = \"vrrp.key\" }]"));
            }
            let mut ids: BTreeSet<u8> = BTreeSet::new();
            for (position, key) in entry.keys.iter().enumerate() {
                let place = key.id.span();
                let label = if !ids.insert(key.id.get_ref().0) {
                    "used twice"
                } else if position == policy::MAX_KEYS {
                    "one too many"
                } else {
                    continue;
                };
                problems.push(
                    Problem::new("site::wrong_value", "these keys cannot stand beside each other")
                        .at(place, label)
                        .help(format!(
                            "use up to {} keys with ids of their own: the new one first, then the old one",
                            policy::MAX_KEYS
                        )),
                );
            }
            idle(entry.file.as_ref().map(At::span), "file", problems);
            let receives =
                (entry.mode.as_ref()).is_some_and(|m| *m.get_ref() == HmacMode::ReceiveOnly);
            if let (Some((name, appliance)), false) = (foreign(file), receives) {
                problems.push(
                    Problem::new(
                        "site::keepalived_disagrees",
                        format!("`{}` would drop adverts with an HMAC", name.get_ref()),
                    )
                    .at(appliance.board.span(), "Debian's keepalived knows no HMAC")
                    .at(kind.span(), "adverts are signed")
                    .help("use mode = \"receive-only\" until both are appliances"),
                );
            }
        }
    }
}

fn foreign(file: &SiteFile) -> Option<&(At<String>, Appliance)> {
    let mut appliances = file.appliances.entries.iter();
    appliances.find(|(_, appliance)| appliance.is_foreign())
}

fn routers(name: &At<String>, network: &Network, problems: &mut Vec<Problem>) {
    for (position, entry) in network.all_routers().enumerate() {
        if entry.v4.is_empty() && entry.v6.is_empty() {
            problems.push(
                Problem::new(
                    "site::missing_key",
                    format!("a virtual router of `{}` has no address", name.get_ref()),
                )
                .at(entry.vrid.span(), "lists none in its adverts")
                .help("add virtual = [\"…\"] or virtual6 = [\"…\"] to it"),
            );
            continue;
        }
        let link_local =
            |address: &&At<std::net::Ipv6Addr>| address.get_ref().is_unicast_link_local();
        if let Some(late) = entry.v6.iter().skip(1).find(link_local) {
            problems.push(
                Problem::new(
                    "site::wrong_value",
                    format!(
                        "link-local address of `{}` is not the first",
                        name.get_ref()
                    ),
                )
                .at(
                    late.span(),
                    "adverts list a link-local address first (RFC 9568 §5.2.9)",
                )
                .help("put it in front; without one, that of the virtual MAC address is taken"),
            );
        }
        let version6 = usize::from(network.subnet6.is_some());
        // The network's own IPv6 address may follow from the IPv4 one.
        let derived = if position == 0 && entry.v6.is_empty() {
            2 * version6
        } else {
            0
        };
        for (version6, listed) in [
            (false, entry.v4.len()),
            (true, listed6(entry, None).len() + derived),
        ] {
            let mut excluded =
                (entry.excluded.iter()).filter(|address| address.get_ref().is_ipv6() == version6);
            let most = policy::MAX_VIRTUAL_ADDRESSES;
            let count = listed + excluded.clone().count();
            if count > most {
                let place = match excluded.next_back() {
                    Some(last) => last.span(),
                    None => entry.vrid.span(),
                };
                problems.push(
                    Problem::new(
                        "site::too_many_addresses",
                        format!("virtual router {} has {count} addresses", entry.vrid.get_ref().0),
                    )
                    .at(place, format!("{} too many", count - most))
                    .help(format!(
                        "a virtual router has room for {most} of each version of IP: use several, by routers = [{{ vrid = …, virtual = […] }}]"
                    )),
                );
            } else if listed == 0 && count > 0 {
                problems.push(
                    Problem::new(
                        "site::wrong_value",
                        format!(
                            "virtual router {} would list no address",
                            entry.vrid.get_ref().0
                        ),
                    )
                    .at(
                        excluded.next_back().map_or(entry.vrid.span(), At::span),
                        "no address of its version of IP is in adverts",
                    )
                    .help("put one of them into `virtual` or `virtual6`"),
                );
            }
        }
    }
}

fn neighbours(name: &At<String>, network: &Network, problems: &mut Vec<Problem>) {
    for (position, neighbour) in network.neighbours.iter().enumerate() {
        let (subnet, address) = (*network.subnet.get_ref(), *neighbour.get_ref());
        let label = if !subnet.contains(&address) {
            "not in this network"
        } else if position == policy::MAX_TRACKED {
            "one too many"
        } else {
            continue;
        };
        problems.push(
            Problem::new(
                "site::wrong_value",
                format!("`{}` cannot have this neighbour", name.get_ref()),
            )
            .at(neighbour.span(), label)
            .help(format!(
                "name up to {} hosts of {}",
                policy::MAX_TRACKED,
                subnet.trunc()
            )),
        );
    }
}

/// Whether an appliance says that the virtual addresses are its own.
pub(crate) fn is_owner(appliance: &Appliance) -> bool {
    appliance.priority.get_ref().0 == OWNER
}

/// Priority 255 is for a router whose own addresses the virtual ones are, and all of them (RFC 9568 §6.1).
fn owners(file: &SiteFile, problems: &mut Vec<Problem>) {
    let owners = (file.appliances.entries.iter()).filter(|(_, one)| is_owner(one));
    for (own, appliance) in owners {
        let host = appliance.host.get_ref().0;
        let stranger = file.networks.entries.iter().find_map(|(name, network)| {
            let mine = IpAddr::V4(host_address(*network.subnet.get_ref(), host));
            let mine6 = (network.subnet6.as_ref())
                .map(|subnet| IpAddr::V6(host_address6(*subnet.get_ref(), host)));
            let own6 = crate::version6::virtual_address(network);
            let all = network.all_routers().flat_map(|entry| {
                let v4 = entry
                    .v4
                    .iter()
                    .map(|address| IpAddr::V4(*address.get_ref()));
                let excluded = entry.excluded.iter().map(|address| *address.get_ref());
                v4.chain(excluded)
                    .chain(listed6(entry, None))
                    .collect::<Vec<_>>()
            });
            let link_local =
                |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            let mut all = all
                .chain(own6.map(IpAddr::V6))
                .filter(|one| !link_local(one));
            let other = all.find(|one| *one != mine && Some(*one) != mine6)?;
            Some((
                name,
                network,
                other,
                if other.is_ipv6() { mine6? } else { mine },
            ))
        });
        if let Some((name, network, other, mine)) = stranger {
            problems.push(
                Problem::new(
                    "site::not_owner",
                    format!("`{}` does not own the virtual addresses", own.get_ref()),
                )
                .at(
                    network.router.vrid.span(),
                    format!("{other} in `{}`, its own is {mine}", name.get_ref()),
                )
                .at(appliance.priority.span(), "255 is for their owner only")
                .help("write a priority from 1 to 254; an owner has every virtual address as its own, by `host`"),
            );
        }
    }
}

/// At least one of the machines is ours.
fn ours(file: &SiteFile, problems: &mut Vec<Problem>) {
    let appliances = &file.appliances.entries;
    let all = appliances
        .iter()
        .all(|(_, appliance)| appliance.is_foreign());
    if let (Some((own, appliance)), true) = (appliances.last(), all) {
        problems.push(
            Problem::new("site::no_appliance", "no appliance is one of ours")
                .at(
                    appliance.board.span(),
                    format!("`{}` is a machine with keepalived", own.get_ref()),
                )
                .help("give one of them the name of a folder in boards/"),
        );
    }
}

fn pair(file: &SiteFile, problems: &mut Vec<Problem>) {
    let Some(pair) = &file.pair else { return };
    if file.appliances.names.len() < 2 || has_foreign(file) {
        problems.push(
            Problem::new("site::contradiction", "there is no pair of appliances")
                .at(pair.place.clone(), "how two of them talk to each other")
                .help("remove [pair]: a single appliance has nobody to talk to, and keepalived speaks VRRP only"),
        );
    }
    if let (Some(defer), Some(sync)) = (&pair.defer, &pair.sync)
        && *defer.get_ref()
        && !*sync.get_ref()
    {
        problems.push(
            Problem::new("site::contradiction", "`defer` has no use")
                .at(sync.span(), "the peer is told of no flows")
                .at(defer.span(), "so there is nothing to wait for")
                .help("remove `defer`, or write sync = true"),
        );
    }
    for (position, network) in pair.networks.iter().enumerate() {
        let name = network.get_ref();
        if !file.networks.has(name) {
            let known = file
                .networks
                .names
                .iter()
                .map(|name| name.get_ref().as_str());
            problems.push(
                Problem::new(
                    "site::unknown_network",
                    format!("there is no network `{name}`"),
                )
                .at(network.span(), "cannot be a path")
                .suggest(name, known),
            );
        } else if (pair.networks[..position].iter()).any(|other| other.get_ref() == name) {
            problems.push(
                Problem::new("site::wrong_value", format!("`{name}` is a path twice"))
                    .at(network.span(), "again")
                    .help("name each network once"),
            );
        } else if position == policy::MAX_PATHS {
            problems.push(
                Problem::new("site::wrong_value", "too many paths")
                    .at(network.span(), "one too many")
                    .help(format!("name up to {} networks", policy::MAX_PATHS)),
            );
        }
    }
}

fn tracks(file: &SiteFile, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<String, std::ops::Range<usize>> = BTreeMap::new();
    for (position, entry) in file.tracks.iter().enumerate() {
        let what = [
            entry
                .port
                .as_ref()
                .map(|port| (port.span(), format!("port {:?}", port.get_ref()))),
            entry
                .neighbours
                .as_ref()
                .map(|one| (one.span(), format!("neighbours {}", one.get_ref()))),
            entry
                .service
                .as_ref()
                .map(|one| (one.span(), format!("service {}", one.get_ref()))),
            entry
                .posted
                .as_ref()
                .map(|one| (one.span(), format!("posted {}", one.get_ref().0))),
        ];
        let mut what = what.into_iter().flatten();
        let (Some((place, key)), None) = (what.next(), what.next()) else {
            problems.push(
                Problem::new(
                    "site::missing_key",
                    "[[track]] watches not exactly one thing",
                )
                .at(entry.place.clone(), "here")
                .help("write one of port, neighbours, service and posted"),
            );
            continue;
        };
        known(file, entry, problems);
        if let Some(earlier) = seen.get(&key) {
            problems.push(
                Problem::new("site::duplicate_name", "the same is watched twice")
                    .at(earlier.clone(), "here")
                    .at(place.clone(), "and here")
                    .help("remove one of them"),
            );
        }
        seen.entry(key).or_insert(place.clone());
        if position == policy::MAX_TRACKS {
            problems.push(
                Problem::new(
                    "site::too_many_tracks",
                    format!("{} tracks", file.tracks.len()),
                )
                .at(place.clone(), "one too many")
                .help(format!("an appliance has room for {}", policy::MAX_TRACKS)),
            );
        }
        weight(file, entry, place, problems);
    }
}

fn known(file: &SiteFile, entry: &TrackEntry, problems: &mut Vec<Problem>) {
    if let Some(network) = (entry.neighbours.as_ref()).filter(|n| !file.networks.has(n.get_ref())) {
        let known = file
            .networks
            .names
            .iter()
            .map(|name| name.get_ref().as_str());
        problems.push(
            Problem::new(
                "site::unknown_network",
                format!("there is no network `{}`", network.get_ref()),
            )
            .at(network.span(), "has no neighbours")
            .suggest(network.get_ref(), known),
        );
    }
    let names: Vec<&str> = crate::service::names(file).collect();
    if let Some(service) =
        (entry.service.as_ref()).filter(|s| !names.contains(&s.get_ref().as_str()))
    {
        problems.push(
            Problem::new(
                "site::unknown_service",
                format!("there is no service `{}`", service.get_ref()),
            )
            .at(service.span(), "has no servers")
            .suggest(service.get_ref(), names.into_iter()),
        );
    }
}

/// Whether a weight does what somebody wanted: it moves the addresses, and never leaves nobody to have them.
fn weight(
    file: &SiteFile,
    entry: &TrackEntry,
    place: std::ops::Range<usize>,
    problems: &mut Vec<Problem>,
) {
    let own = weight_of(entry);
    let at = entry.weight.as_ref().map_or(place.clone(), At::span);
    if own == 0 {
        if entry.port.is_none() {
            problems.push(
                Problem::new("site::nobody_left", "if this fails for both appliances, nobody has the addresses")
                    .at(at, "without a weight it is a fault, and an appliance with a fault is never Active")
                    .help(match gap(file) {
                        Some(gap) => format!("give it a weight below -{gap}, the difference of the priorities, such as -{}", gap + 10),
                        None => "give it a weight".to_owned(),
                    }),
            );
        }
        return;
    }
    if let Some(preempt) = (file.vrrp.preempt.as_ref()).filter(|preempt| !preempt.get_ref()) {
        problems.push(
            Problem::new(
                "site::idle_weight",
                "this weight can never move the addresses",
            )
            .at(preempt.span(), "no router takes over from a weaker one")
            .at(at, "so being weaker changes nothing")
            .help("use preempt = true, with a preempt_delay if moving back should wait"),
        );
        return;
    }
    let [(_, a), (_, b)] = &file.appliances.entries[..] else {
        if file.appliances.is_complete() && file.appliances.names.len() == 1 {
            problems.push(
                Problem::new(
                    "site::idle_weight",
                    "this weight can never move the addresses",
                )
                .at(at, "there is nobody to move them to")
                .help("remove it, or add a second appliance"),
            );
        }
        return;
    };
    let (strong, weak) = match a.priority.get_ref().0 > b.priority.get_ref().0 {
        true => (a, b),
        false => (b, a),
    };
    // What a keepalived tracks is its own business; as the stronger one it does not mind what we track.
    if strong.is_foreign() || strong.priority.get_ref().0 == weak.priority.get_ref().0 {
        return;
    }
    let others: Vec<i32> = (file.tracks.iter())
        .filter(|other| !std::ptr::eq(*other, entry))
        .map(|other| i32::from(weight_of(other)).abs())
        .collect();
    let strength = i32::from(strong.priority.get_ref().0);
    // Positive weights count while all is well, and a keepalived has none.
    let bonus: i32 = (file.tracks.iter())
        .map(|track| i32::from(weight_of(track)).max(0))
        .sum();
    let bonus = if weak.is_foreign() { bonus } else { 0 };
    let distance = strength + bonus - i32::from(weak.priority.get_ref().0);
    if is_owner(strong) || !is_pivotal(distance, i32::from(own).abs(), &others, weak.is_foreign()) {
        problems.push(
            Problem::new(
                "site::idle_weight",
                "this weight can never move the addresses",
            )
            .at(strong.priority.span(), "the stronger appliance")
            .at(weak.priority.span(), "stays the stronger one")
            .at(at, "whichever of the other tracks fail")
            .help(match is_owner(strong) {
                true => "nothing changes the priority of the addresses' owner".to_owned(),
                false => format!(
                    "use a weight beyond {distance}, such as {}, or priorities that are closer",
                    own.signum() * i16::try_from((distance + 10).min(253)).unwrap_or(253)
                ),
            }),
        );
    }
}

fn weight_of(entry: &TrackEntry) -> i16 {
    entry.weight.as_ref().map_or(0, |weight| weight.get_ref().0)
}

/// How far the priorities are apart.
fn gap(file: &SiteFile) -> Option<u8> {
    let [(_, a), (_, b)] = &file.appliances.entries[..] else {
        return None;
    };
    Some(a.priority.get_ref().0.abs_diff(b.priority.get_ref().0))
}

/// Whether there is a state of all others in which `weight` alone decides who is stronger: with the stronger appliance `distance`
/// ahead, each of the others may cost it something, and the peer too, unless nobody knows what the peer tracks.
fn is_pivotal(distance: i32, weight: i32, others: &[i32], peer_is_foreign: bool) -> bool {
    let mut leads = BTreeSet::from([distance]);
    for other in others {
        let lower: Vec<i32> = leads.iter().map(|lead| lead - other).collect();
        let higher: Vec<i32> = leads.iter().map(|lead| lead + other).collect();
        leads.extend(lower);
        if !peer_is_foreign {
            leads.extend(higher);
        }
    }
    // A router of the same priority does not take over (RFC 9568 §6.4.2).
    leads.iter().any(|lead| *lead >= 0 && lead - weight < 0)
}

/// What only the whole plan shows.
pub(crate) fn fit(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    for (network, (name, _)) in plan.networks.iter().zip(&file.networks.entries) {
        for version6 in [false, true] {
            let routers = (network.routers.iter()).filter(|router| router.is_v6() == version6);
            let count: usize = routers.map(|router| router.addresses.len()).sum();
            if count > policy::MAX_SHARED {
                return Some(
                    Problem::new(
                        "site::too_many_addresses",
                        format!("network `{}` has {count} virtual addresses", name.get_ref()),
                    )
                    .at(
                        name.span(),
                        format!("{} too many", count - policy::MAX_SHARED),
                    )
                    .help(format!(
                        "an appliance has room for {} of one version of IP in each network",
                        policy::MAX_SHARED
                    )),
                );
            }
        }
    }
    let count: usize = plan
        .networks
        .iter()
        .map(|network| network.routers.len())
        .sum();
    (count > policy::MAX_ROUTERS).then(|| {
        Problem::new("site::too_many_routers", format!("{count} virtual routers"))
            .at(
                file.networks.place.clone(),
                "each counts for every version of IP",
            )
            .help(format!("an appliance has room for {}", policy::MAX_ROUTERS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_decide_something() {
        let table = [
            ("more than the distance", 50, 60, &[][..], false, true),
            ("exactly the distance: a tie", 50, 50, &[], false, false),
            ("too small alone", 50, 20, &[], false, false),
            ("small, but together", 50, 20, &[40], false, true),
            ("small, and together too", 50, 20, &[20], false, false),
            ("three that count", 50, 20, &[20, 20], false, true),
            ("only the peer's failures help", 5, 20, &[], false, true),
            ("beside a keepalived", 50, 60, &[], true, true),
            ("many", 100, 1, &[10; 10], false, true),
            ("many that are too few", 100, 1, &[10; 9], false, false),
        ];
        for (name, distance, weight, others, foreign, expected) in table {
            assert_eq!(
                is_pivotal(distance, weight, others, foreign),
                expected,
                "{name}"
            );
        }
    }
}
