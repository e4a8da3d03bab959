//! Interfaces with virtual routers become networks.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use toml_edit::{Array, InlineTable, Table};

use super::{
    Watched,
    write::{label, put, time, to_do},
};
use crate::{
    conf::Place,
    model::{Address, At, Instance, Keepalived, Kind, Note},
};

/// What will be one network.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) name: String,
    pub(super) interface: String,
    pub(super) subnet: Option<At<Ipv4Net>>,
    subnet6: Option<At<Ipv6Net>>,
    pub(super) uplink: Option<At<Ipv4Addr>>,
    uplink6: Option<At<Ipv6Addr>>,
    pub(super) routers: Vec<Router>,
    /// Whether it is known to be the one towards the provider, or not to be.
    is_wan: Option<bool>,
    /// The first instance here, whose settings hold for the network.
    sample: Option<Instance>,
}

/// One virtual router of both versions of IP.
#[derive(Clone, Debug, Default)]
pub(super) struct Router {
    vrid: Option<At<u8>>,
    vrid6: Option<At<u8>>,
    pub(super) v4: Vec<At<Ipv4Addr>>,
    pub(super) v6: Vec<At<Ipv6Addr>>,
    excluded: Vec<At<IpAddr>>,
}

impl Net {
    fn new(interface: &str) -> Self {
        Self {
            name: label(interface),
            interface: interface.to_owned(),
            subnet: None,
            subnet6: None,
            uplink: None,
            uplink6: None,
            routers: Vec::new(),
            is_wan: None,
            sample: None,
        }
    }

    /// Its port, if known.
    pub(super) fn port(&self) -> Option<&'static str> {
        self.is_wan.map(|is_wan| if is_wan { "wan" } else { "lan" })
    }

    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        self.subnet
            .as_ref()
            .is_some_and(|subnet| subnet.value.contains(&address))
    }

    /// Every virtual address, the one that stands for the network first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.routers.iter().flat_map(|router| {
            let v4 = router.v4.iter().map(|address| IpAddr::V4(address.value));
            let v6 = router.v6.iter().map(|address| IpAddr::V6(address.value));
            let excluded = router.excluded.iter().map(|address| address.value);
            v4.chain(v6).chain(excluded)
        })
    }

    /// The address that services have unless another is asked for.
    pub(super) fn first(&self, version6: bool) -> Option<IpAddr> {
        let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        self.addresses()
            .find(|ip| ip.is_ipv6() == version6 && !link_local(ip))
    }
}

/// The networks of a configuration.
pub(super) fn nets(keepalived: &Keepalived, notes: &mut Vec<Note>) -> Vec<Net> {
    let mut nets: Vec<Net> = Vec::new();
    for instance in &keepalived.instances {
        let Some(interface) = instance.interface.as_ref().map(|name| name.value.as_str()) else {
            notes.push(note(&instance.place, &instance.name, "names no interface"));
            continue;
        };
        let at = index(&mut nets, interface);
        nets[at].sample.get_or_insert_with(|| instance.clone());
        let router = router(&mut nets[at], instance);
        for (listed, addresses) in [(true, &instance.addresses), (false, &instance.excluded)] {
            for address in addresses {
                let elsewhere =
                    (address.value.device.as_deref()).filter(|device| *device != interface);
                if let Some(device) = elsewhere {
                    let other = index(&mut nets, device);
                    notes.push(Note {
                        kind: Kind::Changed,
                        ..note(
                            &address.place,
                            &address.value.ip.to_string(),
                            "is in a network of its own, which gets a virtual router of its own",
                        )
                    });
                    let there = match nets[other].routers.is_empty() {
                        true => {
                            nets[other].routers.push(Router::default());
                            0
                        }
                        false => 0,
                    };
                    take(&mut nets[other], there, address, true, notes);
                } else {
                    take(&mut nets[at], router, address, listed, notes);
                }
            }
        }
        for route in &instance.routes {
            let via = nets.iter_mut().find(|net| match route.value.via {
                IpAddr::V4(via) => net.contains(via),
                IpAddr::V6(via) => net
                    .subnet6
                    .as_ref()
                    .is_some_and(|subnet| subnet.value.contains(&via)),
            });
            let place = route.place.clone();
            match (via, route.value.via) {
                (Some(net), IpAddr::V4(value)) => net.uplink = Some(At { value, place }),
                (Some(net), IpAddr::V6(value)) => net.uplink6 = Some(At { value, place }),
                (None, via) => notes.push(note(
                    &place,
                    &format!("default via {via}"),
                    "is in no network of a virtual router: write it as `uplink` of the wan",
                )),
            }
        }
    }
    sides(&mut nets);
    nets
}

fn note(place: &Place, what: &str, why: &str) -> Note {
    Note {
        place: place.clone(),
        kind: Kind::Lost,
        what: what.to_owned(),
        why: why.to_owned(),
    }
}

fn index(nets: &mut Vec<Net>, interface: &str) -> usize {
    match nets.iter().position(|net| net.interface == interface) {
        Some(at) => at,
        None => {
            nets.push(Net::new(interface));
            nets.len() - 1
        }
    }
}

/// Where an instance's addresses belong: with the other version's instance of the same VRID, or the first one that has none yet.
fn router(net: &mut Net, instance: &Instance) -> usize {
    let vrid = instance.vrid.as_ref().map(|vrid| vrid.value);
    let version6 = instance.is_v6();
    let same = |router: &Router| {
        let other = if version6 {
            &router.vrid
        } else {
            &router.vrid6
        };
        let own = if version6 {
            router.v6.is_empty()
        } else {
            router.v4.is_empty()
        };
        own && other.as_ref().map(|other| other.value) == vrid
    };
    let lonely = |router: &Router| match version6 {
        true => router.vrid6.is_none() && router.v6.is_empty(),
        false => router.vrid.is_none() && router.v4.is_empty(),
    };
    let found = net.routers.iter().position(same);
    let at = match found.or_else(|| net.routers.iter().position(lonely)) {
        Some(at) => at,
        None => {
            net.routers.push(Router::default());
            net.routers.len() - 1
        }
    };
    let router = &mut net.routers[at];
    match version6 {
        true => router.vrid6.clone_from(&instance.vrid),
        false => router.vrid.clone_from(&instance.vrid),
    }
    at
}

/// Puts an address into a network, and learns the network's subnet from it.
fn take(net: &mut Net, router: usize, address: &At<Address>, listed: bool, notes: &mut Vec<Note>) {
    let place = address.place.clone();
    let router = &mut net.routers[router];
    match (address.value.ip, listed) {
        (IpAddr::V4(value), true) => router.v4.push(At {
            value,
            place: place.clone(),
        }),
        (IpAddr::V6(value), true) => router.v6.push(At {
            value,
            place: place.clone(),
        }),
        (value, false) => router.excluded.push(At {
            value,
            place: place.clone(),
        }),
    }
    match (address.value.ip, address.value.prefix) {
        (IpAddr::V4(ip), Some(bits @ 8..=29)) => {
            if let Ok(subnet) = Ipv4Net::new(ip, bits) {
                let value = subnet.trunc();
                match &net.subnet {
                    Some(known) if known.value.contains(&ip) => {}
                    Some(known) => notes.push(second_subnet(address, &known.value)),
                    None => net.subnet = Some(At { value, place }),
                }
            }
        }
        (IpAddr::V6(ip), Some(bits @ 32..=96)) if !ip.is_unicast_link_local() => {
            if let Ok(subnet) = Ipv6Net::new(ip, bits) {
                let value = subnet.trunc();
                match &net.subnet6 {
                    Some(known) if known.value.contains(&ip) => {}
                    Some(known) => notes.push(second_subnet(address, &known.value)),
                    None => net.subnet6 = Some(At { value, place }),
                }
            }
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => {}
    }
}

fn second_subnet(address: &At<Address>, known: &impl Display) -> Note {
    let text = format!("is not in {known}, and a network has one subnet of each version of IP");
    note(&address.place, &address.value.ip.to_string(), &text)
}

/// Which network leads to the provider: the one with the default route, else the only one with public addresses.
fn sides(nets: &mut [Net]) {
    let public = |net: &Net| {
        (net.addresses())
            .any(|ip| matches!(ip, IpAddr::V4(ip) if !ip.is_private() && !ip.is_link_local()))
    };
    let by_route = nets
        .iter()
        .position(|net| net.uplink.is_some() || net.uplink6.is_some());
    let mut by_address = (0..nets.len()).filter(|at| public(&nets[*at]));
    let by_address = by_address.next().filter(|_| by_address.next().is_none());
    if let Some(wan) = by_route.or(by_address) {
        for (at, net) in nets.iter_mut().enumerate() {
            net.is_wan = Some(at == wan);
        }
    }
}

/// `[networks.NAME]`.
pub(super) fn table(net: &Net, nets: &[Net], keepalived: &Keepalived, watched: &Watched) -> Table {
    let mut table = Table::new();
    table
        .decor_mut()
        .set_prefix(format!("\n# {}\n", net.interface));
    match net.port() {
        Some(port) => put(&mut table, "port", port, None),
        None => to_do(
            &mut table,
            "port",
            "wan for the one towards the provider, else lan",
        ),
    }
    match (&net.subnet, net.first(false)) {
        (Some(subnet), _) => put(
            &mut table,
            "subnet",
            subnet.value.to_string(),
            Some(&subnet.place),
        ),
        (None, Some(ip)) => to_do(&mut table, "subnet", &format!("that {ip} is in")),
        (None, None) => to_do(&mut table, "subnet", "IPv4 addresses for this network"),
    }
    let vlan = net
        .interface
        .rsplit_once('.')
        .and_then(|(_, tag)| tag.parse::<u16>().ok());
    match vlan {
        Some(vlan) => put(&mut table, "vlan", i64::from(vlan), None),
        None if nets.len() > 2 && net.is_wan != Some(true) => {
            to_do(&mut table, "vlan", "1 to 4094: networks share this cable");
        }
        None => {}
    }
    let empty = Router::default();
    let (own, others) = match net.routers.split_first() {
        Some((own, others)) => (own, others),
        None => (&empty, &[][..]),
    };
    match (&own.vrid, &own.vrid6) {
        (Some(vrid), other) => {
            put(&mut table, "vrid", i64::from(vrid.value), Some(&vrid.place));
            if let Some(other) = other.as_ref().filter(|other| other.value != vrid.value) {
                put(
                    &mut table,
                    "vrid6",
                    i64::from(other.value),
                    Some(&other.place),
                );
            }
        }
        (None, Some(vrid6)) => put(
            &mut table,
            "vrid",
            i64::from(vrid6.value),
            Some(&vrid6.place),
        ),
        (None, None) => to_do(&mut table, "vrid", "1 to 255, not used elsewhere"),
    }
    match own.v4.first() {
        Some(first) => put(&mut table, "virtual", list(&own.v4), Some(&first.place)),
        None => to_do(&mut table, "virtual", "an IPv4 address of this network"),
    }
    if let Some(first) = own.excluded.first() {
        put(
            &mut table,
            "excluded",
            list(&own.excluded),
            Some(&first.place),
        );
    }
    match (&net.uplink, net.is_wan) {
        (Some(uplink), _) => put(
            &mut table,
            "uplink",
            uplink.value.to_string(),
            Some(&uplink.place),
        ),
        (None, Some(true)) => to_do(&mut table, "uplink", "address of the provider's router"),
        (None, Some(false) | None) => {}
    }
    let global = own.v6.iter().find(|ip| !ip.value.is_unicast_link_local());
    match (&net.subnet6, global.or(own.v6.first())) {
        (Some(subnet), _) => put(
            &mut table,
            "subnet6",
            subnet.value.to_string(),
            Some(&subnet.place),
        ),
        (None, Some(_)) => to_do(&mut table, "subnet6", "the IPv6 subnet of this network"),
        (None, None) => {}
    }
    if let Some(first) = own.v6.first() {
        put(&mut table, "virtual6", list(&own.v6), Some(&first.place));
        match (&net.uplink6, net.is_wan) {
            (Some(uplink), _) => put(
                &mut table,
                "uplink6",
                uplink.value.to_string(),
                Some(&uplink.place),
            ),
            (None, Some(true)) => to_do(
                &mut table,
                "uplink6",
                "IPv6 address of the provider's router",
            ),
            (None, Some(false) | None) => {}
        }
    }
    if !others.is_empty() {
        let mut routers: Array = others.iter().map(entry).collect();
        for one in routers.iter_mut() {
            one.decor_mut().set_prefix("\n    ");
        }
        routers.set_trailing("\n");
        routers.set_trailing_comma(true);
        put(&mut table, "routers", routers, None);
    }
    settings(net, keepalived, &mut table);
    let neighbours = watched
        .neighbours
        .iter()
        .filter(|(name, ..)| *name == net.name);
    let mut addresses: Vec<Ipv4Addr> = neighbours.clone().map(|(_, ip, _)| *ip).collect();
    addresses.dedup();
    if let Some((_, _, place)) = neighbours.clone().next() {
        let list: Array = addresses.iter().map(ToString::to_string).collect();
        put(&mut table, "neighbours", list, Some(place));
    }
    table
}

/// What is said of a network because its instance differs from the first one.
fn settings(net: &Net, keepalived: &Keepalived, table: &mut Table) {
    let (Some(own), Some(first)) = (&net.sample, keepalived.instances.first()) else {
        return;
    };
    if own.interval.value != first.interval.value {
        let ms = u32::from(own.interval.value) * 10;
        put(
            table,
            "advertisement_interval",
            time(ms),
            Some(&own.interval.place),
        );
    }
    if own.accept != first.accept {
        put(table, "accept", own.accept, Some(&own.place));
    }
    if own.virtual_mac != first.virtual_mac {
        put(table, "virtual_mac", own.virtual_mac, Some(&own.place));
    }
    // The first peer is the other appliance, which is one without being asked.
    let peers: Array = own
        .peers
        .iter()
        .skip(1)
        .map(|peer| peer.value.ip.to_string())
        .collect();
    if let (Some(peer), false) = (own.peers.get(1), peers.is_empty()) {
        put(table, "peers", peers, Some(&peer.place));
    }
}

fn list<T: ToString>(addresses: &[At<T>]) -> toml_edit::Value {
    match addresses {
        [one] => one.value.to_string().into(),
        several => several
            .iter()
            .map(|one| one.value.to_string())
            .collect::<Array>()
            .into(),
    }
}

/// One of `routers`.
fn entry(router: &Router) -> InlineTable {
    let mut table = InlineTable::new();
    let vrid = router.vrid.as_ref().or(router.vrid6.as_ref());
    if let Some(vrid) = vrid {
        table.insert("vrid", i64::from(vrid.value).into());
    }
    if let (Some(vrid), Some(vrid6)) = (&router.vrid, &router.vrid6)
        && vrid.value != vrid6.value
    {
        table.insert("vrid6", i64::from(vrid6.value).into());
    }
    if !router.v4.is_empty() {
        table.insert("virtual", list(&router.v4));
    }
    if !router.v6.is_empty() {
        table.insert("virtual6", list(&router.v6));
    }
    if !router.excluded.is_empty() {
        table.insert("excluded", list(&router.excluded));
    }
    table
}

/// A site has a wan and at least one lan: the one that the configuration does not show.
pub(super) fn other_side(nets: &[Net]) -> Option<(&'static str, Table)> {
    let [only] = nets else { return None };
    let (name, port) = match only.is_wan {
        Some(true) => ("inside", "lan"),
        Some(false) | None => ("outside", "wan"),
    };
    let mut table = Table::new();
    table.decor_mut().set_prefix(
        "\n# The other side of the appliances: keepalived had no virtual router there.\n",
    );
    match only.is_wan {
        Some(_) => put(&mut table, "port", port, None),
        None => to_do(
            &mut table,
            "port",
            "wan for the one towards the provider, else lan",
        ),
    }
    to_do(&mut table, "subnet", "IPv4 subnet");
    to_do(&mut table, "vrid", "1 to 255, not used elsewhere");
    to_do(&mut table, "virtual", "what the Active answers for");
    if port == "wan" {
        to_do(&mut table, "uplink", "address of the provider's router");
    }
    Some((name, table))
}

/// A machine's host number, if its own address is known.
pub(super) fn host(keepalived: &Keepalived, nets: &[Net]) -> Option<(u32, Place)> {
    let sources = keepalived
        .instances
        .iter()
        .filter_map(|instance| instance.source.as_ref());
    let mut sources =
        sources.filter_map(|source| Some((number(source.value, nets)?, source.place.clone())));
    sources.next()
}

/// The other machine's, if there is only one peer.
pub(super) fn peer_host(keepalived: &Keepalived, nets: &[Net]) -> Option<(u32, Place)> {
    keepalived
        .instances
        .iter()
        .find_map(|instance| match &instance.peers[..] {
            [peer] => Some((number(peer.value.ip, nets)?, peer.place.clone())),
            _ => None,
        })
}

fn number(address: IpAddr, nets: &[Net]) -> Option<u32> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    let net = nets.iter().find(|net| net.contains(address))?;
    let subnet = net.subnet.as_ref()?.value;
    Some(address.to_bits() & subnet.hostmask().to_bits())
}
