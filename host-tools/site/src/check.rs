//! What must fit together: each check compares parts of the file with each other and reports both places.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    ops::Range,
};

use ipnet::Ipv4Net;

use crate::{
    app, authority,
    boards::Boards,
    database, derive,
    error::Problem,
    events,
    file::{KEEPALIVED, SiteFile},
    flow, http, monitoring, nat,
    plan::{Flow, Party, Plan, Port, Role},
    read::At,
    service_check, ssh,
    traffic::host_address,
    version6, vrrp_check,
};

/// Most servers of a site.
const MAX_SERVERS: usize = 64;
/// Prefix lengths that leave room for two appliances, a virtual address and a server.
const SHORTEST_PREFIX: u8 = 8;
const LONGEST_PREFIX: u8 = 29;

/// Reports everything that does not fit together.
pub(crate) fn check(file: &SiteFile, boards: &Boards, problems: &mut Vec<Problem>) {
    wan(file, problems);
    subnets(file, problems);
    unique_numbers(file, problems);
    vlans_where_needed(file, boards, problems);
    appliances(file, boards, problems);
    machine_names(file, problems);
    servers(file, problems);
    addresses(file, problems);
    version6::check(file, problems);
    flow::check(file, problems);
    authority::check_site(file, problems);
    service_check::check(file, problems);
    nat::check(file, problems);
    vrrp_check::check(file, problems);
    http::check(file, problems);
    events::check(file, problems);
    database::check(file, problems);
    monitoring::check(file, problems);
    app::check(file, problems);
    ssh::check(file, problems);
    sizes(file, problems);
}

fn wan(file: &SiteFile, problems: &mut Vec<Problem>) {
    let networks = &file.networks;
    let mut first: Option<Range<usize>> = None;
    for (name, network) in &networks.entries {
        match (network.port.get_ref(), &network.uplink) {
            (Port::Wan, uplink) => {
                if let Some(first) = &first {
                    problems.push(
                        Problem::new("site::several_wans", "more than one network is on port wan")
                            .at(first.clone(), "the first")
                            .at(network.port.span(), "another")
                            .help("keep one network towards the provider and put the others on port = \"lan\""),
                    );
                }
                first.get_or_insert(network.port.span());
                if uplink.is_none() {
                    problems.push(
                        Problem::new("site::no_uplink", format!("[networks.{}] lacks `uplink`", name.get_ref()))
                            .at(name.span(), "is on port wan")
                            .help("add uplink = \"…\", the address of the provider's router: it is the default route"),
                    );
                }
            }
            (Port::Lan, Some(uplink)) => problems.push(
                Problem::new(
                    "site::uplink_on_lan",
                    format!("network `{}` is not the way out", name.get_ref()),
                )
                .at(network.port.span(), "is on port lan")
                .at(uplink.span(), "but has an uplink")
                .help("only the network on port wan has an uplink: remove it here"),
            ),
            (Port::Lan, None) => {}
        }
    }
    if first.is_none() && networks.is_complete() {
        problems.push(
            Problem::new("site::no_wan", "no network is on port wan")
                .at(
                    networks.place.clone(),
                    "one of these must lead to the provider",
                )
                .help("give the network with the public address port = \"wan\" and an `uplink`"),
        );
    }
}

fn subnets(file: &SiteFile, problems: &mut Vec<Problem>) {
    let networks = &file.networks.entries;
    for (position, (name, network)) in networks.iter().enumerate() {
        let subnet = *network.subnet.get_ref();
        let here = network.subnet.span();
        if subnet.addr() != subnet.network() {
            problems.push(
                Problem::new(
                    "site::subnet_has_host_bits",
                    format!("subnet of `{}` is an address", name.get_ref()),
                )
                .at(
                    here.clone(),
                    format!("has bits set after the first {}", subnet.prefix_len()),
                )
                .help(format!("write \"{}\"", subnet.trunc())),
            );
        }
        if !(SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&subnet.prefix_len()) {
            problems.push(
                Problem::new(
                    "site::subnet_size",
                    format!("subnet of `{}` has an unusable size", name.get_ref()),
                )
                .at(
                    here.clone(),
                    format!("{} addresses", 1_u64 << (32 - subnet.prefix_len())),
                )
                .help(format!(
                    "use a prefix from /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}"
                )),
            );
        }
        if let Some(kind) = unusable(subnet) {
            problems.push(
                Problem::new("site::subnet_reserved", format!("subnet of `{}` is reserved", name.get_ref()))
                    .at(here.clone(), kind)
                    .help("use the provider's addresses on wan and private ones (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16) elsewhere"),
            );
        }
        for (earlier, other) in &networks[..position] {
            let theirs = *other.subnet.get_ref();
            if subnet.contains(&theirs.network()) || theirs.contains(&subnet.network()) {
                problems.push(
                    Problem::new(
                        "site::overlapping_subnets",
                        format!(
                            "networks `{}` and `{}` overlap",
                            earlier.get_ref(),
                            name.get_ref()
                        ),
                    )
                    .at(
                        other.subnet.span(),
                        format!("{} to {}", theirs.network(), theirs.broadcast()),
                    )
                    .at(
                        here.clone(),
                        format!("{} to {}", subnet.network(), subnet.broadcast()),
                    )
                    .help("give each network addresses of its own"),
                );
            }
        }
    }
}

/// Whether addresses can be compared with this subnet; it is reported where it stands if not.
fn is_sound(subnet: Ipv4Net) -> bool {
    (SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&subnet.prefix_len()) && unusable(subnet).is_none()
}

fn unusable(subnet: Ipv4Net) -> Option<&'static str> {
    let first = subnet.network();
    match first.octets()[0] {
        0 => Some("0.0.0.0/8 means \"this host\""),
        127 => Some("127.0.0.0/8 never leaves a machine"),
        224..=239 => Some("multicast"),
        240..=255 => Some("no machine accepts these addresses"),
        _ if first.is_link_local() => Some("link-local addresses are not routed"),
        _ => None,
    }
}

/// VRIDs and VLANs: each number once in the site.
fn unique_numbers(file: &SiteFile, problems: &mut Vec<Problem>) {
    let mut vrids: BTreeMap<u8, (&str, Range<usize>)> = BTreeMap::new();
    let mut vlans: BTreeMap<u16, (&str, Range<usize>)> = BTreeMap::new();
    for (name, network) in &file.networks.entries {
        let numbers = network.all_routers().flat_map(|router| {
            // Both halves of one virtual router may share a number.
            let other = router.vrid6.as_ref();
            let other = other.filter(|other| other.get_ref().0 != router.vrid.get_ref().0);
            std::iter::once(&router.vrid).chain(other)
        });
        for number in numbers {
            let (vrid, here) = (number.get_ref().0, number.span());
            if let Some((earlier, place)) = vrids.get(&vrid) {
                problems.push(
                    Problem::new("site::duplicate_vrid", format!("VRID {vrid} is used twice"))
                        .at(place.clone(), format!("by `{earlier}`"))
                        .at(here.clone(), format!("and by `{}`", name.get_ref()))
                        .help("the virtual MAC address is made of it: give each virtual router a VRID of its own, 1 to 255"),
                );
            }
            vrids.entry(vrid).or_insert((name.get_ref(), here));
        }
        let Some(vlan) = &network.vlan else { continue };
        let id = vlan.get_ref().0;
        if let Some((earlier, place)) = vlans.get(&id) {
            problems.push(
                Problem::new("site::duplicate_vlan", format!("VLAN {id} is used twice"))
                    .at(place.clone(), format!("by `{earlier}`"))
                    .at(vlan.span(), format!("and by `{}`", name.get_ref()))
                    .help("give each network a VLAN of its own, 1 to 4094"),
            );
        }
        vlans.entry(id).or_insert((name.get_ref(), vlan.span()));
    }
}

/// A network that shares its cable needs a tag to be told apart.
fn vlans_where_needed(file: &SiteFile, boards: &Boards, problems: &mut Vec<Problem>) {
    let networks = &file.networks.entries;
    let trunk = file.appliances.entries.iter().find(|(_, appliance)| {
        boards
            .get(appliance.board.get_ref())
            .is_some_and(|board| board.is_trunk())
    });
    for (name, network) in networks
        .iter()
        .filter(|(_, network)| network.vlan.is_none())
    {
        let sharing = networks
            .iter()
            .find(|(other, o)| other != name && o.port.get_ref() == network.port.get_ref());
        let problem = Problem::new(
            "site::vlan_needed",
            format!("network `{}` needs a VLAN", name.get_ref()),
        );
        let problem = match (sharing, trunk) {
            (Some((other, _)), _) => problem
                .at(other.span(), "this network is on the same cable")
                .at(name.span(), "so frames of this one must be tagged"),
            (None, Some((own, appliance))) if networks.len() > 1 => {
                problem.at(name.span(), "has no `vlan`").at(
                    appliance.board.span(),
                    format!(
                        "the board of `{}` has one port for all networks",
                        own.get_ref()
                    ),
                )
            }
            (None, _) => continue,
        };
        problems.push(problem.help(format!(
            "add vlan = … (1 to 4094, not used elsewhere) to [networks.{}]",
            name.get_ref()
        )));
    }
}

fn appliances(file: &SiteFile, boards: &Boards, problems: &mut Vec<Problem>) {
    let appliances = &file.appliances;
    if !appliances.place.is_empty() && !(1..=2).contains(&appliances.names.len()) {
        let place = appliances
            .names
            .get(2)
            .map_or(appliances.place.clone(), At::span);
        problems.push(
            Problem::new("site::appliance_count", format!("{} appliances", appliances.names.len()))
                .at(place, if appliances.names.is_empty() { "none here" } else { "one too many" })
                .help("a site has two appliances, one active and one backup (or a single one without fail-over)"),
        );
    }
    for (own, appliance) in &appliances.entries {
        let board = appliance.board.get_ref();
        if boards.get(board).is_none() && !appliance.is_foreign() {
            problems.push(
                Problem::new(
                    "site::unknown_board",
                    format!("`{}` has an unknown board `{board}`", own.get_ref()),
                )
                .at(appliance.board.span(), "no folder of this name in boards/")
                .suggest(board, boards.names().chain([KEEPALIVED])),
            );
        }
    }
    if let [(first, a), (second, b), ..] = &appliances.entries[..]
        && a.priority.get_ref().0 == b.priority.get_ref().0
    {
        problems.push(
            Problem::new(
                "site::equal_priorities",
                "both appliances have the same priority",
            )
            .at(a.priority.span(), format!("of `{}`", first.get_ref()))
            .at(b.priority.span(), format!("and of `{}`", second.get_ref()))
            .help("give the one that should normally be active the higher number"),
        );
    }
}

fn machine_names(file: &SiteFile, problems: &mut Vec<Problem>) {
    for server in &file.servers.names {
        let twin = file
            .appliances
            .names
            .iter()
            .find(|own| own.get_ref() == server.get_ref());
        if let Some(appliance) = twin {
            problems.push(
                Problem::new(
                    "site::duplicate_name",
                    format!("two machines are called `{}`", server.get_ref()),
                )
                .at(appliance.span(), "an appliance")
                .at(server.span(), "a server")
                .help("rename one of them"),
            );
        }
    }
}

fn servers(file: &SiteFile, problems: &mut Vec<Problem>) {
    // With several, which one is meant is not known yet.
    let wans = (file.networks.entries.iter())
        .filter(|(_, network)| *network.port.get_ref() == Port::Wan)
        .count();
    for (name, server) in &file.servers.entries {
        let role = server.role.get_ref();
        if derive::role(role).is_none() {
            problems.push(
                Problem::new(
                    "site::unknown_role",
                    format!("`{}` has an unknown role `{role}`", name.get_ref()),
                )
                .at(server.role.span(), "no server can do this")
                .suggest(role, Role::ALL.into_iter().map(Role::name)),
            );
        }
        let network = server.network.get_ref();
        let known = file
            .networks
            .names
            .iter()
            .map(|name| name.get_ref().as_str());
        if !file.networks.has(network) {
            problems.push(
                Problem::new(
                    "site::unknown_network",
                    format!("`{}` is in an unknown network `{network}`", name.get_ref()),
                )
                .at(server.network.span(), "there is no such network")
                .suggest(network, known),
            );
        } else if wans == 1
            && (file.networks.get(network))
                .is_some_and(|network| *network.port.get_ref() == Port::Wan)
        {
            problems.push(
                Problem::new(
                    "site::server_on_wan",
                    format!("server `{}` is outside the firewall", name.get_ref()),
                )
                .at(server.network.span(), "this network leads to the provider")
                .help(
                    "put it into a network on port lan; users reach it through the virtual address",
                ),
            );
        }
    }
    members(file, problems);
}

/// Every role has a server, and none more than can share the work.
fn members(file: &SiteFile, problems: &mut Vec<Problem>) {
    let servers = &file.servers;
    // A misspelt role is reported as such; its own role then looks empty.
    let known = servers
        .entries
        .iter()
        .all(|(_, server)| derive::role(server.role.get_ref()).is_some());
    for role in Role::ALL {
        let members: Vec<_> = servers
            .entries
            .iter()
            .filter(|(_, s)| s.role.get_ref() == role.name())
            .collect();
        match &members[..] {
            [] if servers.is_complete() && known => problems.push(
                Problem::new("site::role_without_server", format!("no server has the role `{}`", role.name()))
                    .at(servers.place.clone(), format!("one of these must {}", duty(role)))
                    .help(format!("add a server such as {}1 = {{ role = \"{0}\", network = \"…\", address = \"…\" }}", role.name())),
            ),
            [.., (name, last)] if role == Role::Haproxy && members.len() > policy::MAX_SERVERS => problems.push(
                Problem::new("site::too_many_servers", format!("{} balancers", members.len()))
                    .at(last.role.span(), format!("`{}` is one too many", name.get_ref()))
                    .help(format!("an appliance balances over at most {} servers", policy::MAX_SERVERS)),
            ),
            _ => {}
        }
    }
}

fn duty(role: Role) -> &'static str {
    match role {
        Role::Haproxy => "take the users' connections",
        Role::Nginx => "pass requests on to the app",
        Role::App => "run the app",
        Role::Db => "keep the data",
        Role::Monitor => "watch the others",
    }
}

/// An address that someone uses.
pub(crate) struct Claim {
    address: IpAddr,
    place: Range<usize>,
    who: String,
}

fn addresses(file: &SiteFile, problems: &mut Vec<Problem>) {
    let mut claims: Vec<Claim> = Vec::new();
    let sound = || {
        file.networks
            .entries
            .iter()
            .filter(|(_, network)| is_sound(*network.subnet.get_ref()))
    };
    for (name, network) in sound() {
        let (name, subnet) = (name.get_ref(), &network.subnet);
        let who = format!("virtual address of `{name}`");
        for router in network.all_routers() {
            let excluded = router
                .excluded
                .iter()
                .filter_map(|one| match one.get_ref() {
                    IpAddr::V4(v4) => Some(At::new(one.span(), *v4)),
                    IpAddr::V6(_) => None,
                });
            for own in router.v4.iter().cloned().chain(excluded) {
                place_in(subnet, &own, &who, problems);
                claim(&mut claims, &own, who.clone(), problems);
            }
        }
        if let Some(uplink) = &network.uplink {
            place_in(subnet, uplink, &format!("uplink of `{name}`"), problems);
            claim(&mut claims, uplink, format!("uplink of `{name}`"), problems);
        }
    }
    for (own, appliance) in &file.appliances.entries {
        let host = appliance.host.get_ref().0;
        let too_small = sound().find(|(_, network)| host >= last_host(*network.subnet.get_ref()));
        if let Some((name, network)) = too_small {
            let last = last_host(*network.subnet.get_ref()).saturating_sub(1);
            problems.push(
                Problem::new(
                    "site::host_outside_subnet",
                    format!(
                        "`{}` has no address in network `{}`",
                        own.get_ref(),
                        name.get_ref()
                    ),
                )
                .at(network.subnet.span(), format!("has hosts 1 to {last}"))
                .at(appliance.host.span(), "is not one of them")
                .help(format!(
                    "choose a host number from 1 to {last} that is free in every network"
                )),
            );
            continue;
        }
        for (name, network) in sound() {
            let address = host_address(*network.subnet.get_ref(), host);
            if vrrp_check::is_owner(appliance) && is_virtual(network, address) {
                continue;
            }
            let at = At::new(appliance.host.span(), address);
            claim(
                &mut claims,
                &at,
                format!("`{}` in network `{}`", own.get_ref(), name.get_ref()),
                problems,
            );
        }
    }
    for (name, server) in &file.servers.entries {
        let network = file.networks.get(server.network.get_ref());
        if let Some(network) = network.filter(|network| is_sound(*network.subnet.get_ref())) {
            place_in(
                &network.subnet,
                &server.address,
                &format!("address of `{}`", name.get_ref()),
                problems,
            );
        }
        claim(
            &mut claims,
            &server.address,
            format!("server `{}`", name.get_ref()),
            problems,
        );
    }
}

/// Whether an address is one of the network's virtual ones.
fn is_virtual(network: &crate::file::Network, address: Ipv4Addr) -> bool {
    let mut listed = network.all_routers().flat_map(|router| &router.v4);
    listed.any(|own| *own.get_ref() == address)
}

/// Number of the broadcast address: one more than the last host.
fn last_host(subnet: Ipv4Net) -> u32 {
    subnet.broadcast().to_bits() - subnet.network().to_bits()
}

fn place_in(subnet: &At<Ipv4Net>, address: &At<Ipv4Addr>, what: &str, problems: &mut Vec<Problem>) {
    let (net, ip) = (*subnet.get_ref(), *address.get_ref());
    let problem = |code, text: String| {
        Problem::new(code, text).at(
            subnet.span(),
            format!("{} to {}", net.network(), net.broadcast()),
        )
    };
    if !net.contains(&ip) {
        let text = format!("{what} is outside its subnet");
        problems.push(
            problem("site::address_outside_subnet", text)
                .at(address.span(), "not in this range")
                .help(format!("use a free address of {}", net.trunc())),
        );
    } else if ip == net.network() || ip == net.broadcast() {
        let text = format!("{what} is not the address of a host");
        let label = if ip == net.network() {
            "the network itself"
        } else {
            "the broadcast address"
        };
        problems.push(
            problem("site::not_a_host", text)
                .at(address.span(), label)
                .help("use an address between the first and the last of the subnet"),
        );
    }
}

/// Notes who uses an address; reports it if someone has it, once per place.
pub(crate) fn claim<A: Copy + Into<IpAddr>>(
    claims: &mut Vec<Claim>,
    address: &At<A>,
    who: String,
    problems: &mut Vec<Problem>,
) {
    let (ip, place) = ((*address.get_ref()).into(), address.span());
    let taken = claims
        .iter()
        .find(|claim| claim.address == ip && claim.place != place);
    let known = claims
        .iter()
        .any(|claim| claim.place == place && claim.who.is_empty());
    if let (Some(taken), false) = (taken, known) {
        problems.push(
            Problem::new("site::duplicate_address", format!("{ip} is used twice"))
                .at(taken.place.clone(), format!("by {}", taken.who))
                .at(place.clone(), format!("and by {who}"))
                .help("give one of them another address"),
        );
        // An appliance's host number makes one address per network: one message is enough.
        claims.push(Claim {
            address: ip,
            place,
            who: String::new(),
        });
        return;
    }
    claims.push(Claim {
        address: ip,
        place,
        who,
    });
}

/// What an appliance has room for.
fn sizes(file: &SiteFile, problems: &mut Vec<Problem>) {
    if let Some(extra) = file.networks.names.get(policy::MAX_INTERFACES) {
        problems.push(
            Problem::new(
                "site::too_many_networks",
                format!("{} networks", file.networks.names.len()),
            )
            .at(extra.span(), "one too many")
            .help(format!(
                "an appliance has room for {}",
                policy::MAX_INTERFACES
            )),
        );
    }
    if let Some(extra) = file.servers.names.get(MAX_SERVERS) {
        problems.push(
            Problem::new(
                "site::too_many_servers",
                format!("{} servers", file.servers.names.len()),
            )
            .at(extra.span(), "one too many")
            .help(format!("a site has room for {MAX_SERVERS}")),
        );
    }
}

/// What only the whole plan shows.
pub(crate) fn fit(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    flow::impossible(plan, file)
        .or_else(|| service_check::fit(plan, file))
        .or_else(|| nat::fit(plan, file))
        .or_else(|| vrrp_check::fit(plan, file))
        .or_else(|| limits_fit(plan, file))
        .or_else(|| rules_fit(plan, file))
}

/// Each flow with a limit has one of its own in the appliances.
fn limits_fit(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    let limits = |flow: &Flow| {
        [flow.rate, flow.max_flows]
            .into_iter()
            .flatten()
            .map(|limit| (flow.name.clone(), format!("{limit:?}")))
            .collect::<Vec<_>>()
    };
    let all: BTreeSet<_> = plan.flows.iter().flat_map(limits).collect();
    (all.len() > policy::MAX_LIMITS).then(|| {
        let last = file.flows.iter().rev().find_map(flow::Entry::limit);
        let place = last.unwrap_or(file.services.place.clone());
        Problem::new(
            "site::too_many_limits",
            format!("{} limits of flows", all.len()),
        )
        .at(place, "one too many")
        .help(format!(
            "an appliance has room for {}: each `rate` and `max_flows` of a flow is one",
            policy::MAX_LIMITS
        ))
    })
}

/// Whether all rules fit into an appliance: at most one per flow and network that it comes from.
fn rules_fit(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    let rules = |flow: &Flow| match &flow.from {
        Party::Internet => 1,
        Party::Appliances => 0,
        Party::Role(_) | Party::Servers | Party::Server(_) => {
            let networks = plan.servers_in(&flow.from).map(|server| &server.network);
            networks.collect::<BTreeSet<_>>().len()
        }
        Party::Set(_) | Party::Address(_) => plan.networks.len(),
    };
    let count: usize = plan.flows.iter().map(rules).sum();
    (count > policy::rule::MAX_RULES).then(|| {
        Problem::new(
            "site::too_many_rules",
            format!("the flows make {count} firewall rules"),
        )
        .at(
            file.servers.place.clone(),
            "one for each flow and network that it may come from",
        )
        .help(format!(
            "an appliance has room for {}: use fewer flows",
            policy::rule::MAX_RULES
        ))
    })
}
