//! `[[nat]]`: the servers' way out, forwarded ports, and other IPv6 prefixes.

use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy::Transport;

use crate::{
    error::Problem,
    file::SiteFile,
    flow::{self, Terms},
    plan::{Flow, Nat, Network, Party, Plan, Port, PortRange, Traffic},
    read::{At, Label, PortNumber, Table},
    service, service_check,
    value::NatKind,
};

/// One of `[[nat]]`.
pub(crate) struct Entry {
    name: At<Label>,
    kind: At<NatKind>,
    network: Option<At<String>>,
    from: Option<At<String>>,
    ports: Option<At<PortRange>>,
    protocol: Option<At<Transport>>,
    port: Option<At<PortRange>>,
    server: Option<At<String>>,
    server_port: Option<At<PortNumber>>,
    inside: Option<At<Ipv6Net>>,
    outside: Option<At<Ipv6Net>>,
    terms: Terms,
    why: Option<At<String>>,
}

/// Ports for masqueraded flows whose own is not free: all that belong to no well-known service.
pub(crate) const FREE: PortRange = PortRange {
    first: 1024,
    last: 65535,
};

impl Entry {
    pub(crate) const KEYS: [&str; 17] = [
        "name",
        "kind",
        "network",
        "from",
        "ports",
        "protocol",
        "port",
        "server",
        "server_port",
        "inside",
        "outside",
        "log",
        "rate",
        "max_flows",
        "sync",
        "defer",
        "why",
    ];

    /// The names of its flows, and where its own stands.
    pub(crate) fn places(&self) -> impl Iterator<Item = (String, Range<usize>)> {
        let name = &self.name;
        ["reach", "forward"]
            .map(|prefix| (format!("{prefix}-{}", name.get_ref().0), name.span()))
            .into_iter()
    }

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let name = table.required("name", problems);
        let kind = table.required("kind", problems);
        let network = table.optional("network", problems);
        let from = table.optional("from", problems);
        let ports = table.optional("ports", problems);
        let protocol = table.optional("protocol", problems);
        let port = table.optional("port", problems);
        let server = table.optional("server", problems);
        let server_port = table.optional("server_port", problems);
        let inside = table.optional("inside", problems);
        let outside = table.optional("outside", problems);
        let terms = Terms::read(table, problems);
        let why = table.optional("why", problems);
        Some(Self {
            name: name?,
            kind: kind?,
            network: network?,
            from: from?,
            ports: ports?,
            protocol: protocol?,
            port: port?,
            server: server?,
            server_port: server_port?,
            inside: inside?,
            outside: outside?,
            terms: terms?,
            why: why?,
        })
    }

    /// Every key besides `name` and `kind` that is there, with the kinds that it belongs to.
    fn keys(&self) -> Vec<(&'static str, Range<usize>, &'static [NatKind])> {
        use NatKind::{Forward, Masquerade, Prefix6};
        let terms = &self.terms;
        let keys = [
            (
                "from",
                self.from.as_ref().map(At::span),
                &[Masquerade, Forward][..],
            ),
            ("ports", self.ports.as_ref().map(At::span), &[Masquerade]),
            ("protocol", self.protocol.as_ref().map(At::span), &[Forward]),
            ("port", self.port.as_ref().map(At::span), &[Forward]),
            ("server", self.server.as_ref().map(At::span), &[Forward]),
            (
                "server_port",
                self.server_port.as_ref().map(At::span),
                &[Forward],
            ),
            ("inside", self.inside.as_ref().map(At::span), &[Prefix6]),
            ("outside", self.outside.as_ref().map(At::span), &[Prefix6]),
            ("log", terms.log.as_ref().map(At::span), &[Forward]),
            ("rate", terms.rate.as_ref().map(At::span), &[Forward]),
            (
                "max_flows",
                terms.max_flows.as_ref().map(At::span),
                &[Forward],
            ),
            ("sync", terms.sync.as_ref().map(At::span), &[Forward]),
            ("defer", terms.defer.as_ref().map(At::span), &[Forward]),
            ("why", self.why.as_ref().map(At::span), &[Forward]),
        ];
        keys.into_iter()
            .filter_map(|(key, place, kinds)| Some((key, place?, kinds)))
            .collect()
    }

    /// The ports on the server.
    fn server_ports(&self) -> Option<PortRange> {
        let outer = *self.port.as_ref()?.get_ref();
        let first = self
            .server_port
            .as_ref()
            .map_or(outer.first, |port| port.get_ref().0);
        let last = first.checked_add(outer.last - outer.first)?;
        Some(PortRange { first, last })
    }
}

/// Reports what is wrong with translations by themselves.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    for (position, entry) in file.nat.iter().enumerate() {
        let name = &entry.name.get_ref().0;
        entry.terms.check(file, problems);
        let twin = (file.nat[..position].iter()).find(|other| other.name.get_ref().0 == *name);
        if let Some(twin) = twin {
            problems.push(
                Problem::new(
                    "site::duplicate_name",
                    format!("two translations are called `{name}`"),
                )
                .at(twin.name.span(), "the first")
                .at(entry.name.span(), "another")
                .help("rename one of them"),
            );
        }
        if name.len() > service::MAX_NAME {
            problems.push(service_check::long_name(&At::new(
                entry.name.span(),
                name.clone(),
            )));
        }
        if let Some(network) = &entry.network {
            let what = format!("translation `{name}`");
            service_check::unknown_network(file, &what, network, problems);
        }
        keys(entry, problems);
        match entry.kind.get_ref() {
            NatKind::Masquerade => masquerade(file, entry, problems),
            NatKind::Forward => forward(file, entry, problems),
            NatKind::Prefix6 => prefix6(file, entry, problems),
        }
    }
}

/// Each kind has keys that it needs and keys that mean nothing to it.
fn keys(entry: &Entry, problems: &mut Vec<Problem>) {
    let name = &entry.name.get_ref().0;
    let present = entry.keys();
    for (key, place, kinds) in &present {
        if !kinds.contains(entry.kind.get_ref()) {
            problems.push(
                Problem::new(
                    "site::contradiction",
                    format!("translation `{name}` has no use for `{key}`"),
                )
                .at(entry.kind.span(), "this kind of translation")
                .at(place.clone(), "is not said by this")
                .help(format!("remove `{key}`, or choose another `kind`")),
            );
        }
    }
    let needed: &[(&str, &str)] = match entry.kind.get_ref() {
        NatKind::Masquerade => &[],
        NatKind::Forward => &[
            ("protocol", "\"tcp\" or \"udp\""),
            (
                "port",
                "the port, or range such as \"6000-6010\", that users connect to",
            ),
            ("server", "the name of the server that answers"),
            ("why", "what it is for, in your words"),
        ],
        NatKind::Prefix6 => &[
            ("inside", "the IPv6 prefix that servers have"),
            ("outside", "the one that others see"),
        ],
    };
    for (key, wanted) in needed {
        if !present.iter().any(|(there, ..)| there == key) {
            problems.push(
                Problem::new(
                    "site::missing_key",
                    format!("translation `{name}` lacks `{key}`"),
                )
                .at(entry.kind.span(), format!("needs `{key}`"))
                .help(format!("add `{key}`: {wanted}")),
            );
        }
    }
}

fn masquerade(file: &SiteFile, entry: &Entry, problems: &mut Vec<Problem>) {
    let Some(from) = &entry.from else { return };
    let name = &entry.name.get_ref().0;
    let label = match flow::party(file, from.get_ref()) {
        None => {
            problems.push(flow::unknown_party(
                file,
                &format!("translation `{name}`"),
                from,
            ));
            return;
        }
        Some(Party::Internet) => "these addresses are not ours",
        Some(Party::Appliances) => "the appliances have addresses of their own on every network",
        Some(
            Party::Role(_) | Party::Servers | Party::Server(_) | Party::Set(_) | Party::Address(_),
        ) => return,
    };
    problems.push(
        Problem::new(
            "site::impossible_nat",
            format!("translation `{name}` has nobody to hide"),
        )
        .at(from.span(), label)
        .help("write a role, a server, \"servers\", a set or a prefix of IPv4 addresses"),
    );
}

fn forward(file: &SiteFile, entry: &Entry, problems: &mut Vec<Problem>) {
    let name = &entry.name.get_ref().0;
    let what = format!("translation `{name}`");
    if let Some(server) = &entry.server {
        service_check::unknown_server(file, &what, server, problems);
    }
    if let Some(from) = &entry.from
        && flow::party(file, from.get_ref()).is_none()
    {
        problems.push(flow::unknown_party(file, &what, from));
    }
    if let (Some(ports), Some(first), None) =
        (&entry.port, &entry.server_port, entry.server_ports())
    {
        problems.push(
            Problem::new("site::impossible_nat", format!("{what} runs out of ports"))
                .at(ports.span(), "so many ports")
                .at(first.span(), "counted up from here pass 65535")
                .help("use a lower `server_port`, or fewer ports"),
        );
    }
}

fn prefix6(file: &SiteFile, entry: &Entry, problems: &mut Vec<Problem>) {
    let name = &entry.name.get_ref().0;
    for prefix in [&entry.inside, &entry.outside].into_iter().flatten() {
        let net = prefix.get_ref();
        let label = if net.prefix_len() > 64 || net.prefix_len() == 0 {
            "must have 1 to 64 bits".to_owned()
        } else if net.addr() != net.network() {
            format!("has bits set after the first {}", net.prefix_len())
        } else {
            continue;
        };
        problems.push(
            Problem::new(
                "site::impossible_nat",
                format!("translation `{name}` has an impossible prefix"),
            )
            .at(prefix.span(), label)
            .help("write a prefix of at most 64 bits, such as \"fd00:1::/48\""),
        );
    }
    if let (Some(inside), Some(outside)) = (&entry.inside, &entry.outside)
        && inside.get_ref().prefix_len() != outside.get_ref().prefix_len()
    {
        problems.push(
            Problem::new(
                "site::impossible_nat",
                format!("the prefixes of translation `{name}` differ in length"),
            )
            .at(inside.span(), "so many bits inside")
            .at(outside.span(), "and so many outside")
            .help("give both the same length: every address needs one on the other side"),
        );
    }
    let network = match &entry.network {
        Some(network) => file.networks.get(network.get_ref()),
        None => (file.networks.entries.iter())
            .find(|(_, network)| *network.port.get_ref() == Port::Wan)
            .map(|(_, network)| network),
    };
    if network.is_some_and(|network| network.subnet6.is_none()) {
        problems.push(
            Problem::new(
                "site::impossible_nat",
                format!("translation `{name}` leads to a network without IPv6"),
            )
            .at(entry.kind.span(), "translates IPv6 prefixes")
            .help("give the network a `subnet6`, or remove the translation"),
        );
    }
}

/// Whether port forwarding brings along a flow of this name.
pub(crate) fn has_flow(file: &SiteFile, name: &str) -> bool {
    name.split_once('-').is_some_and(|(prefix, rest)| {
        (prefix == "forward" || prefix == "reach")
            && (file.nat.iter()).any(|entry| entry.name.get_ref().0 == rest)
    })
}

/// The flows that port forwarding needs.
pub(crate) fn flows(file: &SiteFile, networks: &[Network]) -> Vec<Flow> {
    let mut flows = Vec::new();
    for entry in &file.nat {
        let (Some(protocol), Some(outer), Some(inner), Some(server)) = (
            &entry.protocol,
            &entry.port,
            entry.server_ports(),
            &entry.server,
        ) else {
            continue;
        };
        let from = match &entry.from {
            Some(from) => flow::party(file, from.get_ref()),
            None => Some(Party::Internet),
        };
        let Some(from) = from else { continue };
        let name = &entry.name.get_ref().0;
        let why = entry
            .why
            .as_ref()
            .map_or(name.as_str(), |why| why.get_ref());
        let inside = matches!(from, Party::Role(_) | Party::Servers | Party::Server(_));
        let network = network_of(entry, networks).filter(|_| inside);
        let addresses = network.into_iter().flat_map(|network| {
            let v4 = IpNet::from(std::net::IpAddr::V4(network.virtual_address));
            [
                Some(v4),
                network.virtual6.map(|v6| std::net::IpAddr::V6(v6).into()),
            ]
        });
        for address in addresses.flatten() {
            flows.push(entry.terms.applied(flow::plain(
                format!("reach-{name}"),
                from.clone(),
                Party::Address(address),
                Traffic::to(*protocol.get_ref(), *outer.get_ref()),
                why,
            )));
        }
        flows.push(entry.terms.applied(flow::plain(
            format!("forward-{name}"),
            from,
            Party::Server(server.get_ref().clone()),
            Traffic::to(*protocol.get_ref(), inner),
            why,
        )));
    }
    flows
}

fn network_of<'a>(entry: &Entry, networks: &'a [Network]) -> Option<&'a Network> {
    match &entry.network {
        Some(name) => networks
            .iter()
            .find(|network| network.name == *name.get_ref()),
        None => networks.iter().find(|network| network.port == Port::Wan),
    }
}

/// The translations of a plan that has everything else.
pub(crate) fn translations(file: &SiteFile, plan: &Plan) -> Vec<Nat> {
    let translation = |entry: &Entry| {
        let name = entry.name.get_ref().0.clone();
        let network = network_of(entry, &plan.networks)?.name.clone();
        match entry.kind.get_ref() {
            NatKind::Masquerade => Some(Nat::Masquerade {
                sources: sources(file, entry, plan)?,
                ports: entry.ports.as_ref().map_or(FREE, |ports| *ports.get_ref()),
                name,
                network,
            }),
            NatKind::Forward => Some(Nat::Forward {
                transport: *entry.protocol.as_ref()?.get_ref(),
                ports: *entry.port.as_ref()?.get_ref(),
                server: entry.server.as_ref()?.get_ref().clone(),
                server_port: entry.server_ports()?.first,
                name,
                network,
            }),
            NatKind::Prefix6 => Some(Nat::Prefix6 {
                inside: *entry.inside.as_ref()?.get_ref(),
                outside: *entry.outside.as_ref()?.get_ref(),
                name,
                network,
            }),
        }
    };
    file.nat.iter().filter_map(translation).collect()
}

/// Whose addresses are hidden: whole subnets for all servers, otherwise exactly those of the party.
fn sources(file: &SiteFile, entry: &Entry, plan: &Plan) -> Option<Vec<Ipv4Net>> {
    let party = match &entry.from {
        Some(from) => flow::party(file, from.get_ref())?,
        None => Party::Servers,
    };
    Some(match party {
        Party::Servers => plan.inside().0,
        Party::Role(_) | Party::Server(_) => (plan.servers_in(&party))
            .map(|server| server.address.into())
            .collect(),
        Party::Set(_) | Party::Address(_) => (plan.prefixes_of(&party).iter())
            .filter_map(|prefix| match prefix {
                IpNet::V4(prefix) => Some(*prefix),
                IpNet::V6(_) => None,
            })
            .collect(),
        Party::Internet | Party::Appliances => Vec::new(),
    })
}

/// What only the whole plan shows: clashes of ports, and sizes.
pub(crate) fn fit(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    let mut count = 0;
    for (position, (nat, entry)) in plan.nat.iter().zip(&file.nat).enumerate() {
        count += match nat {
            Nat::Masquerade { sources, .. } => sources.len(),
            Nat::Forward {
                network, server, ..
            } => {
                let v6 = plan.network(network).and_then(|network| network.virtual6);
                let v6 = v6.and(plan.server(server).and_then(|server| server.address6));
                1 + usize::from(v6.is_some())
            }
            Nat::Prefix6 { .. } => 1,
        };
        if matches!(nat, Nat::Masquerade { sources, .. } if sources.is_empty()) {
            let place = entry.from.as_ref().map_or(entry.name.span(), At::span);
            return Some(
                Problem::new(
                    "site::impossible_nat",
                    format!("translation `{}` has nobody to hide", entry.name.get_ref().0),
                )
                .at(place, "no IPv4 address")
                .help("only IPv4 is masqueraded: IPv6 addresses go out as they are, or by kind = \"prefix6\""),
            );
        }
        if let Some(problem) = past_the_appliance(plan, file, nat, entry) {
            return Some(problem);
        }
        let taken = service_at(plan, nat).map(|name| format!("the service `{name}` has it"));
        let earlier = plan.nat[..position].iter().find(|other| clash(nat, other));
        let label = taken.or(earlier.map(|other| format!("`{}` has it", name(other))));
        if let (Some(label), Some(port)) = (label, &entry.port) {
            return Some(
                Problem::new(
                    "site::duplicate_service",
                    format!(
                        "a port of translation `{}` is taken",
                        entry.name.get_ref().0
                    ),
                )
                .at(port.span(), label)
                .help("choose another port"),
            );
        }
    }
    let last = file.nat.last()?;
    (count > policy::MAX_NAT).then(|| {
        Problem::new(
            "site::too_many_translations",
            format!("the appliances would have {count} translations"),
        )
        .at(
            last.name.span(),
            "each network or server that is hidden counts, and each version of IP of a forwarded port",
        )
        .help(format!("an appliance has room for {}", policy::MAX_NAT))
    })
}

fn name(nat: &Nat) -> &str {
    match nat {
        Nat::Masquerade { name, .. } | Nat::Forward { name, .. } | Nat::Prefix6 { name, .. } => {
            name
        }
    }
}

/// A forwarded port is of no use to neighbours of its server: answers would not be translated back.
fn past_the_appliance(plan: &Plan, file: &SiteFile, nat: &Nat, entry: &Entry) -> Option<Problem> {
    let Nat::Forward { name, server, .. } = nat else {
        return None;
    };
    let from = entry.from.as_ref()?;
    let party = flow::party(file, from.get_ref())?;
    let server = plan.server(server)?;
    let neighbour = plan
        .servers_in(&party)
        .find(|client| client.network == server.network)?;
    Some(
        Problem::new(
            "site::no_way_back",
            format!(
                "`{}` would get no answers by translation `{name}`",
                neighbour.name
            ),
        )
        .at(
            from.span(),
            format!("`{}` is a neighbour of `{}`", neighbour.name, server.name),
        )
        .help("neighbours connect to the server itself: write others here"),
    )
}

/// The service that has one of these ports.
fn service_at<'a>(plan: &'a Plan, nat: &Nat) -> Option<&'a str> {
    let Nat::Forward {
        transport,
        network,
        ports,
        ..
    } = nat
    else {
        return None;
    };
    let address = plan.network(network)?.virtual_address;
    (plan.services.iter())
        .find(|service| {
            (service.address, service.transport) == (address, *transport)
                && ports.range().contains(&service.port)
        })
        .map(|service| service.name.as_str())
}

fn clash(a: &Nat, b: &Nat) -> bool {
    match (a, b) {
        (
            Nat::Forward {
                transport,
                network,
                ports,
                ..
            },
            Nat::Forward {
                transport: other,
                network: elsewhere,
                ports: others,
                ..
            },
        ) => {
            (transport, network) == (other, elsewhere)
                && ports.first <= others.last
                && others.first <= ports.last
        }
        (Nat::Masquerade { .. } | Nat::Prefix6 { .. } | Nat::Forward { .. }, _) => false,
    }
}
