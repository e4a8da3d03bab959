//! IPv6 in networks and on machines: what the file leaves out follows from the IPv4 addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    check::{Claim, claim},
    error::Problem,
    file::{Network, Server, SiteFile},
    plan::Port,
    read::At,
    traffic::host_address6,
};

/// Prefix lengths that leave room for every host number, and are not whole providers.
const SHORTEST_PREFIX: u8 = 32;
const LONGEST_PREFIX: u8 = 96;

/// The virtual address of a network with IPv6: as written, or with the digits of the IPv4 one.
pub(crate) fn virtual_address(network: &Network) -> Option<Ipv6Addr> {
    let subnet6 = *network.subnet6.as_ref()?.get_ref();
    match written(network) {
        Some(address) => Some(*address.get_ref()),
        None => Some(same_digits(
            *network.subnet.get_ref(),
            *network.router.v4.first()?.get_ref(),
            subnet6,
        )),
    }
}

/// The first virtual address that is written and not link-local.
fn written(network: &Network) -> Option<&At<Ipv6Addr>> {
    (network.router.v6.iter()).find(|address| !address.get_ref().is_unicast_link_local())
}

/// The address of a server whose network has IPv6: as written, or with the digits of the IPv4 one.
pub(crate) fn server(file: &SiteFile, server: &Server) -> Option<Ipv6Addr> {
    let network = file.networks.get(server.network.get_ref())?;
    let subnet6 = *network.subnet6.as_ref()?.get_ref();
    Some(match &server.address6 {
        Some(address) => *address.get_ref(),
        None => same_digits(
            *network.subnet.get_ref(),
            *server.address.get_ref(),
            subnet6,
        ),
    })
}

fn same_digits(subnet: Ipv4Net, address: Ipv4Addr, subnet6: Ipv6Net) -> Ipv6Addr {
    let host = address.to_bits() & subnet.hostmask().to_bits();
    host_address6(subnet6, host)
}

/// Reports what is wrong with IPv6 subnets and addresses.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    subnets(file, problems);
    uplinks(file, problems);
    addresses(file, problems);
}

fn subnets(file: &SiteFile, problems: &mut Vec<Problem>) {
    let networks = &file.networks.entries;
    for (position, (name, network)) in networks.iter().enumerate() {
        let name = name.get_ref();
        let Some(subnet) = &network.subnet6 else {
            without(name, network, problems);
            continue;
        };
        let net = *subnet.get_ref();
        if net.addr() != net.network() {
            problems.push(
                Problem::new(
                    "site::subnet_has_host_bits",
                    format!("IPv6 subnet of `{name}` is an address"),
                )
                .at(
                    subnet.span(),
                    format!("has bits set after the first {}", net.prefix_len()),
                )
                .help(format!("write \"{}\"", net.trunc())),
            );
        }
        if !(SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&net.prefix_len()) {
            problems.push(
                Problem::new(
                    "site::subnet_size",
                    format!("IPv6 subnet of `{name}` has an unusable size"),
                )
                .at(subnet.span(), format!("{} bits", net.prefix_len()))
                .help(format!(
                    "use a prefix from /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}, normally a /64"
                )),
            );
        }
        if let Some(kind) = unusable(net) {
            problems.push(
                Problem::new(
                    "site::subnet_reserved",
                    format!("IPv6 subnet of `{name}` is reserved"),
                )
                .at(subnet.span(), kind)
                .help(
                    "use the provider's addresses, or private ones of your own fd…/48 (RFC 4193)",
                ),
            );
        }
        for (earlier, other) in &networks[..position] {
            let Some(theirs) = &other.subnet6 else {
                continue;
            };
            let their = *theirs.get_ref();
            if net.contains(&their.network()) || their.contains(&net.network()) {
                problems.push(
                    Problem::new(
                        "site::overlapping_subnets",
                        format!(
                            "IPv6 subnets of `{}` and `{name}` overlap",
                            earlier.get_ref()
                        ),
                    )
                    .at(theirs.span(), "this one")
                    .at(subnet.span(), "and this one")
                    .help("give each network addresses of its own"),
                );
            }
        }
    }
}

/// Without a subnet no other IPv6 address of the network means anything.
fn without(name: &str, network: &Network, problems: &mut Vec<Problem>) {
    let routers = network.all_routers().flat_map(|router| &router.v6);
    for address in routers.chain(&network.uplink6) {
        problems.push(no_subnet6(name, address));
    }
}

fn no_subnet6(name: &str, address: &At<Ipv6Addr>) -> Problem {
    Problem::new(
        "site::no_subnet6",
        format!("network `{name}` has an IPv6 address and no IPv6 subnet"),
    )
    .at(address.span(), "is in no subnet")
    .help(format!("add subnet6 = \"…\" to [networks.{name}]"))
}

fn unusable(subnet: Ipv6Net) -> Option<&'static str> {
    let first = subnet.network();
    if first.is_multicast() {
        Some("multicast")
    } else if first.is_unicast_link_local() {
        Some("link-local addresses are not routed")
    } else if first.segments()[0] == 0 {
        Some("addresses that begin with zeros have meanings of their own")
    } else {
        None
    }
}

fn uplinks(file: &SiteFile, problems: &mut Vec<Problem>) {
    for (name, network) in &file.networks.entries {
        match (network.port.get_ref(), &network.uplink6, &network.subnet6) {
            (Port::Wan, None, Some(subnet)) => problems.push(
                Problem::new(
                    "site::no_uplink",
                    format!("[networks.{}] lacks `uplink6`", name.get_ref()),
                )
                .at(subnet.span(), "has IPv6")
                .help("add uplink6 = \"…\", the IPv6 address of the provider's router; \"fe80::1\" is one too"),
            ),
            (Port::Lan, Some(uplink), _) => problems.push(
                Problem::new(
                    "site::uplink_on_lan",
                    format!("network `{}` is not the way out", name.get_ref()),
                )
                .at(network.port.span(), "is on port lan")
                .at(uplink.span(), "but has an uplink6")
                .help("only the network on port wan has an uplink: remove it here"),
            ),
            (Port::Wan, Some(_), _) | (Port::Wan, None, None) | (Port::Lan, None, _) => {}
        }
    }
}

fn addresses(file: &SiteFile, problems: &mut Vec<Problem>) {
    // What is given twice in IPv4 would be derived twice: one message is enough.
    let compare = !problems
        .iter()
        .any(|problem| problem.code() == "site::duplicate_address");
    let mut claims: Vec<Claim> = Vec::new();
    let mut note = |address: &At<Ipv6Addr>, who: String, problems: &mut Vec<Problem>| {
        if compare {
            claim(&mut claims, address, who, problems);
        }
    };
    for (name, network) in &file.networks.entries {
        let (name, Some(subnet)) = (name.get_ref(), &network.subnet6) else {
            continue;
        };
        if unusable(*subnet.get_ref()).is_some() {
            continue;
        }
        let who = format!("virtual address of `{name}`");
        if let (None, Some(address)) = (written(network), virtual_address(network)) {
            let place = network.router.v4.first().map_or(0..0, At::span);
            note(&At::new(place, address), who.clone(), problems);
        }
        for router in network.all_routers() {
            let excluded = router
                .excluded
                .iter()
                .filter_map(|one| match one.get_ref() {
                    IpAddr::V6(v6) => Some(At::new(one.span(), *v6)),
                    IpAddr::V4(_) => None,
                });
            let listed = router.v6.iter().cloned();
            for address in listed.chain(excluded) {
                if !address.get_ref().is_unicast_link_local() {
                    place_in(subnet, &address, &format!("virtual6 of `{name}`"), problems);
                    note(&address, who.clone(), problems);
                }
            }
        }
        if let Some(uplink) = &network.uplink6 {
            if !uplink.get_ref().is_unicast_link_local() {
                place_in(subnet, uplink, &format!("uplink6 of `{name}`"), problems);
            }
            note(uplink, format!("uplink of `{name}`"), problems);
        }
        for (own, appliance) in &file.appliances.entries {
            let address = host_address6(*subnet.get_ref(), appliance.host.get_ref().0);
            if crate::vrrp_check::is_owner(appliance) && virtual_address(network) == Some(address) {
                continue;
            }
            let who = format!("`{}` in network `{name}`", own.get_ref());
            note(&At::new(appliance.host.span(), address), who, problems);
        }
    }
    for (own, server) in &file.servers.entries {
        let Some(network) = file.networks.get(server.network.get_ref()) else {
            continue;
        };
        match (&network.subnet6, &server.address6) {
            (Some(subnet), Some(address)) => {
                place_in(
                    subnet,
                    address,
                    &format!("address6 of `{}`", own.get_ref()),
                    problems,
                );
            }
            (None, Some(address)) => {
                problems.push(no_subnet6(server.network.get_ref(), address));
            }
            (_, None) => {}
        }
        if let Some(address) = self::server(file, server) {
            let place = server
                .address6
                .as_ref()
                .map_or(server.address.span(), At::span);
            note(
                &At::new(place, address),
                format!("server `{}`", own.get_ref()),
                problems,
            );
        }
    }
}

fn place_in(subnet: &At<Ipv6Net>, address: &At<Ipv6Addr>, what: &str, problems: &mut Vec<Problem>) {
    let (net, ip) = (*subnet.get_ref(), *address.get_ref());
    let (code, text, label) = if !net.contains(&ip) {
        (
            "site::address_outside_subnet",
            format!("{what} is outside its subnet"),
            "not in this subnet",
        )
    } else if ip == net.network() {
        (
            "site::not_a_host",
            format!("{what} is not the address of a host"),
            "means any router of the subnet (RFC 4291 §2.6.1)",
        )
    } else {
        return;
    };
    problems.push(
        Problem::new(code, text)
            .at(subnet.span(), net.trunc().to_string())
            .at(address.span(), label)
            .help(format!("use a free address of {}", net.trunc())),
    );
}
