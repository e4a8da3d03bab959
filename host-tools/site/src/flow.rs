//! `[[flows]]` and `[sets]`: reading them, checking them, and what they become in the plan.

use std::{collections::BTreeMap, ops::Range};

use ipnet::IpNet;
use policy::rule::Sharing;

use crate::{
    derive,
    error::{Problem, nearest},
    file::SiteFile,
    plan::{Action, Flow, Network, Party, Plan, Port, Ports, Role, Set, Traffic},
    read::{At, Label, Table},
    value::{self, IcmpTypes, MaxFlows, PortList, Prefixes, Protocol, Rate},
};

/// What a flow lets pass and how much of it; services and port forwarding have it too.
pub(crate) struct Terms {
    pub(crate) log: Option<At<bool>>,
    pub(crate) rate: Option<At<Rate>>,
    pub(crate) max_flows: Option<At<MaxFlows>>,
    pub(crate) sync: Option<At<bool>>,
    pub(crate) defer: Option<At<bool>>,
}

impl Terms {
    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let log = table.optional("log", problems);
        let rate = table.optional("rate", problems);
        let max_flows = table.optional("max_flows", problems);
        let sync = table.optional("sync", problems);
        let defer = table.optional("defer", problems);
        Some(Self {
            log: log?,
            rate: rate?,
            max_flows: max_flows?,
            sync: sync?,
            defer: defer?,
        })
    }

    /// The flow with these terms.
    pub(crate) fn applied(&self, flow: Flow) -> Flow {
        Flow {
            log: self.log.as_ref().is_some_and(|log| *log.get_ref()),
            rate: self.rate.as_ref().map(|rate| rate.get_ref().0),
            max_flows: self.max_flows.as_ref().map(|most| most.get_ref().0),
            sharing: self.sharing(),
            ..flow
        }
    }

    /// Reports first packets that wait for a peer that is told nothing.
    pub(crate) fn check(&self, file: &SiteFile, problems: &mut Vec<Problem>) {
        let Some(defer) = self.defer.as_ref().filter(|defer| *defer.get_ref()) else {
            return;
        };
        let of_pair = file.pair.as_ref().and_then(|pair| pair.sync.as_ref());
        let mut places = [self.sync.as_ref(), of_pair].into_iter().flatten();
        if let Some(sync) = places.find(|sync| !*sync.get_ref()) {
            problems.push(
                Problem::new("site::contradiction", "`defer` has no use")
                    .at(sync.span(), "the peer is not told of the flows")
                    .at(defer.span(), "so there is nothing to wait for")
                    .help("remove `defer`, or write sync = true"),
            );
        }
    }

    fn sharing(&self) -> Sharing {
        let says = |key: &Option<At<bool>>| key.as_ref().map(|value| *value.get_ref());
        match (says(&self.sync), says(&self.defer)) {
            (Some(false), _) => Sharing::Never,
            (_, Some(true)) => Sharing::Deferred,
            _ => Sharing::Usual,
        }
    }
}

/// One of `[[flows]]`.
pub(crate) struct Entry {
    name: At<Label>,
    from: At<String>,
    to: At<String>,
    protocol: At<Protocol>,
    port: Option<At<PortList>>,
    source_port: Option<At<PortList>>,
    types: Option<At<IcmpTypes>>,
    action: Option<At<Action>>,
    terms: Terms,
    why: At<String>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 14] = [
        "name",
        "from",
        "to",
        "protocol",
        "port",
        "why",
        "source_port",
        "types",
        "action",
        "log",
        "rate",
        "max_flows",
        "sync",
        "defer",
    ];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let name = table.required("name", problems);
        let from = table.required("from", problems);
        let to = table.required("to", problems);
        let protocol = table.required("protocol", problems);
        let port = table.optional("port", problems);
        let source_port = table.optional("source_port", problems);
        let types = table.optional("types", problems);
        let action = table.optional("action", problems);
        let terms = Terms::read(table, problems);
        let why = table.required("why", problems);
        Some(Self {
            name: name?,
            from: from?,
            to: to?,
            protocol: protocol?,
            port: port?,
            source_port: source_port?,
            types: types?,
            action: action?,
            terms: terms?,
            why: why?,
        })
    }

    /// Its name and where that stands.
    pub(crate) fn place(&self) -> (String, Range<usize>) {
        (self.name.get_ref().0.clone(), self.name.span())
    }

    /// Where it says a limit, if it does.
    pub(crate) fn limit(&self) -> Option<Range<usize>> {
        let rate = self.terms.rate.as_ref().map(At::span);
        rate.or(self.terms.max_flows.as_ref().map(At::span))
    }

    fn action(&self) -> Action {
        self.action
            .as_ref()
            .map_or(Action::Accept, |action| *action.get_ref())
    }

    fn traffic(&self) -> Traffic {
        let ports = || {
            let list = |ports: &Option<At<PortList>>| {
                ports
                    .as_ref()
                    .map_or_else(Vec::new, |ports| ports.get_ref().0.clone())
            };
            Ports {
                source: list(&self.source_port),
                destination: list(&self.port),
            }
        };
        let types = |version6| {
            self.types.as_ref().map_or_else(Vec::new, |types| {
                let types = types.get_ref().0.iter();
                types.map(|kind| kind.number(version6)).collect()
            })
        };
        match *self.protocol.get_ref() {
            Protocol::Any => Traffic::Any,
            Protocol::Tcp => Traffic::Tcp(ports()),
            Protocol::Udp => Traffic::Udp(ports()),
            Protocol::Ping => Traffic::Ping,
            Protocol::Icmp => Traffic::Icmp(types(false)),
            Protocol::Icmp6 => Traffic::Icmp6(types(true)),
            Protocol::Number(number) => Traffic::Number(number),
        }
    }

    /// The flow of the plan; `None` if an end is unknown.
    pub(crate) fn flow(&self, file: &SiteFile) -> Option<Flow> {
        let flow = Flow {
            action: self.action(),
            ..plain(
                self.name.get_ref().0.clone(),
                party(file, self.from.get_ref())?,
                party(file, self.to.get_ref())?,
                self.traffic(),
                self.why.get_ref(),
            )
        };
        Some(self.terms.applied(flow))
    }
}

/// A flow that is accepted without further terms.
pub(crate) fn plain(name: String, from: Party, to: Party, traffic: Traffic, why: &str) -> Flow {
    Flow {
        name,
        from,
        to,
        traffic,
        action: Action::Accept,
        log: false,
        rate: None,
        max_flows: None,
        sharing: Sharing::Usual,
        why: why.to_owned(),
    }
}

/// The sets of the plan.
pub(crate) fn sets(file: &SiteFile) -> Vec<Set> {
    let set = |(name, prefixes): &(At<String>, Option<At<Prefixes>>)| {
        Some(Set {
            name: name.get_ref().clone(),
            prefixes: prefixes.as_ref()?.get_ref().0.clone(),
        })
    };
    file.sets.iter().filter_map(set).collect()
}

/// Words that stand for a party of their own.
const GROUPS: [&str; 3] = ["internet", "servers", "appliances"];

/// The party that an end of a flow means.
pub(crate) fn party(file: &SiteFile, name: &str) -> Option<Party> {
    match name {
        "internet" => return Some(Party::Internet),
        "servers" => return Some(Party::Servers),
        "appliances" => return Some(Party::Appliances),
        _ => {}
    }
    if let Some(role) = derive::role(name) {
        return Some(Party::Role(role));
    }
    if file.servers.has(name) {
        return Some(Party::Server(name.to_owned()));
    }
    if file.sets.iter().any(|(set, _)| set.get_ref() == name) {
        return Some(Party::Set(name.to_owned()));
    }
    value::prefix(name)
        .filter(|prefix| prefix.addr() == prefix.network())
        .map(Party::Address)
}

/// Reports an end of a flow that nobody is.
pub(crate) fn unknown_party(file: &SiteFile, what: &str, end: &At<String>) -> Problem {
    let word = end.get_ref();
    let problem = Problem::new(
        "site::unknown_party",
        format!("{what} has an unknown end `{word}`"),
    );
    if let Some(prefix) = value::prefix(word) {
        let label = format!("has bits set after the first {}", prefix.prefix_len());
        return problem
            .at(end.span(), label)
            .help(format!("write \"{}\"", prefix.trunc()));
    }
    let mut known: Vec<&str> = Role::ALL.into_iter().map(Role::name).collect();
    known.extend(GROUPS);
    known.extend(file.sets.iter().map(|(name, _)| name.get_ref().as_str()));
    // Servers may be many: they are only named if one is meant.
    let servers: Vec<&str> = (file.servers.names.iter())
        .map(|name| name.get_ref().as_str())
        .collect();
    if nearest(word, &known).is_none() && nearest(word, &servers).is_some() {
        known = servers;
    }
    problem
        .at(
            end.span(),
            "neither a role, a group, a server, a set nor an address",
        )
        .suggest(word, known.into_iter())
}

/// Reports what is wrong with sets and flows by themselves.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    set_names(file, problems);
    let mut names: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    for flow in &file.flows {
        let name = flow.name.get_ref().0.as_str();
        if derive::is_derived_flow(file, name) {
            problems.push(
                Problem::new(
                    "site::duplicate_name",
                    format!("the flow `{name}` exists without being asked for"),
                )
                .at(flow.name.span(), "the roles bring it along")
                .help("remove it, or give it another name if it is a different flow"),
            );
        }
        if let Some(earlier) = names.get(name) {
            problems.push(
                Problem::new(
                    "site::duplicate_name",
                    format!("two flows are called `{name}`"),
                )
                .at(earlier.clone(), "the first")
                .at(flow.name.span(), "another")
                .help("rename one of them"),
            );
        }
        names.entry(name).or_insert(flow.name.span());
        ends(file, flow, problems);
        ports(flow, problems);
        icmp(flow, problems);
        terms(file, flow, problems);
    }
}

/// A set may not be called like anything else that a flow can begin or end at.
fn set_names(file: &SiteFile, problems: &mut Vec<Problem>) {
    for (name, _) in &file.sets {
        let word = name.get_ref();
        if let Some(fault) = Label::fault(word) {
            problems.push(derive::bad_name(name, fault));
        }
        let problem = Problem::new(
            "site::duplicate_name",
            format!("the set `{word}` cannot be told from something else"),
        );
        let help = "give the set another name: flows name both in the same way";
        if GROUPS.contains(&word.as_str()) || derive::role(word).is_some() {
            problems.push(
                problem
                    .at(name.span(), "a group or role of servers")
                    .help(help),
            );
        } else if let Some(server) = file.servers.names.iter().find(|s| s.get_ref() == word) {
            problems.push(
                problem
                    .at(name.span(), "a set")
                    .at(server.span(), "a server")
                    .help(help),
            );
        }
    }
}

fn ends(file: &SiteFile, flow: &Entry, problems: &mut Vec<Problem>) {
    let name = &flow.name.get_ref().0;
    for (end, key) in [(&flow.from, "from"), (&flow.to, "to")] {
        let problem = match (party(file, end.get_ref()), key) {
            (None, _) => {
                problems.push(unknown_party(file, &format!("flow `{name}`"), end));
                continue;
            }
            (Some(Party::Internet), "from") if flow.action() == Action::Accept && !any6(file) => {
                "users from the Internet reach only public services: see [services] in docs/site-file.md, or open a port with a [[nat]] of kind \"forward\""
            }
            (Some(Party::Appliances), "to") => {
                "the appliances open no service: use roles, servers or \"internet\""
            }
            (
                Some(
                    Party::Internet
                    | Party::Appliances
                    | Party::Role(_)
                    | Party::Servers
                    | Party::Server(_)
                    | Party::Set(_)
                    | Party::Address(_),
                ),
                _,
            ) => continue,
        };
        problems.push(
            Problem::new(
                "site::impossible_flow",
                format!("no rule can be made for flow `{name}`"),
            )
            .at(end.span(), format!("not possible as `{key}`"))
            .help(problem),
        );
    }
}

/// Whether servers have addresses that the Internet can reach without translation.
fn any6(file: &SiteFile) -> bool {
    let networks = &file.networks.entries;
    networks
        .iter()
        .any(|(_, network)| *network.port.get_ref() == Port::Lan && network.subnet6.is_some())
}

fn ports(flow: &Entry, problems: &mut Vec<Problem>) {
    let name = &flow.name.get_ref().0;
    let has_ports = match flow.protocol.get_ref() {
        Protocol::Tcp | Protocol::Udp => true,
        Protocol::Any | Protocol::Ping | Protocol::Icmp | Protocol::Icmp6 | Protocol::Number(_) => {
            false
        }
    };
    if has_ports && flow.port.is_none() && flow.action() == Action::Accept {
        problems.push(
            Problem::new("site::missing_key", format!("flow `{name}` lacks `port`"))
                .at(flow.protocol.span(), "has ports")
                .help("add port = …, the port that is connected to"),
        );
    }
    for (port, key) in [(&flow.port, "port"), (&flow.source_port, "source_port")] {
        if let (Some(port), false) = (port, has_ports) {
            problems.push(
                Problem::new("site::impossible_flow", format!("flow `{name}` has a port"))
                    .at(flow.protocol.span(), "has no ports")
                    .at(port.span(), "so this means nothing")
                    .help(format!("remove `{key}`")),
            );
        }
    }
}

/// Types belong to ICMP, and only echo requests open a flow.
fn icmp(flow: &Entry, problems: &mut Vec<Problem>) {
    let name = &flow.name.get_ref().0;
    let echo = match flow.protocol.get_ref() {
        Protocol::Icmp => 8,
        Protocol::Icmp6 => 128,
        Protocol::Any | Protocol::Tcp | Protocol::Udp | Protocol::Ping | Protocol::Number(_) => {
            if let Some(types) = &flow.types {
                problems.push(
                    Problem::new(
                        "site::impossible_flow",
                        format!("flow `{name}` has ICMP types"),
                    )
                    .at(flow.protocol.span(), "has no such types")
                    .at(types.span(), "so this means nothing")
                    .help("remove `types`, or write protocol = \"icmp\" or \"icmp6\""),
                );
            }
            return;
        }
    };
    let listed = match flow.traffic() {
        Traffic::Icmp(types) | Traffic::Icmp6(types) => types,
        Traffic::Any | Traffic::Tcp(_) | Traffic::Udp(_) | Traffic::Ping | Traffic::Number(_) => {
            return;
        }
    };
    if flow.action() == Action::Accept && (listed.is_empty() || listed.iter().any(|t| *t != echo)) {
        let place = flow.types.as_ref().map_or(flow.protocol.span(), At::span);
        problems.push(
            Problem::new(
                "site::impossible_flow",
                format!("flow `{name}` accepts more than echo requests"),
            )
            .at(place, "other messages open no flow")
            .help("write protocol = \"ping\": answers, and errors about known flows, pass by themselves"),
        );
    }
}

fn terms(file: &SiteFile, flow: &Entry, problems: &mut Vec<Problem>) {
    flow.terms.check(file, problems);
    let limits = [
        (flow.terms.rate.as_ref().map(At::span), "rate"),
        (flow.terms.max_flows.as_ref().map(At::span), "max_flows"),
    ];
    let shared = [
        (flow.terms.sync.as_ref().map(At::span), "sync"),
        (flow.terms.defer.as_ref().map(At::span), "defer"),
    ];
    for (place, key) in shared {
        if let (Some(place), Some(action), true) =
            (place, &flow.action, flow.action() != Action::Accept)
        {
            let name = &flow.name.get_ref().0;
            problems.push(
                Problem::new(
                    "site::impossible_flow",
                    format!("flow `{name}` shares what does not pass"),
                )
                .at(action.span(), "nothing passes")
                .at(place, "so this means nothing")
                .help(format!("remove `{key}`")),
            );
        }
    }
    for (place, key) in limits {
        if let (Some(place), Some(action), true) =
            (place, &flow.action, flow.action() != Action::Accept)
        {
            problems.push(
                Problem::new(
                    "site::impossible_flow",
                    format!("flow `{}` limits what does not pass", flow.name.get_ref().0),
                )
                .at(action.span(), "nothing passes")
                .at(place, "so this means nothing")
                .help(format!(
                    "remove `{key}`: what exceeds the limit of an accepted flow is dropped anyway"
                )),
            );
        }
    }
}

/// A flow of the operator that cannot exist, for reasons that only the whole plan shows.
pub(crate) fn impossible(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    file.flows
        .iter()
        .zip(&plan.flows)
        .find_map(|(entry, flow)| {
            let problem = Problem::new(
                "site::impossible_flow",
                format!("no packet can belong to flow `{}`", flow.name),
            );
            let (from, to) = (entry.from.span(), entry.to.span());
            if let Some(network) = virtual_network(plan, &flow.to) {
                let label = format!("what the appliances answer for in network `{network}`");
                return Some(problem.at(to, label).help(
                    "flows lead to servers, after services and translations have chosen: write the server or role",
                ));
            }
            if [&flow.from, &flow.to]
                .iter()
                .all(|end| plan.servers_in(end).next().is_none())
            {
                return Some(
                    problem
                        .at(from, "none of our servers is here")
                        .at(to, "nor here")
                        .help("one end must be a server of the site, a role, or an address of one"),
                );
            }
            let (a, b) = (versions(plan, &flow.from), versions(plan, &flow.to));
            let words = |(v4, _): (bool, bool)| if v4 { "IPv4 only" } else { "IPv6 only" };
            if (a.0 && b.0) || (a.1 && b.1) {
                return None;
            }
            Some(
                problem
                    .at(from, words(a))
                    .at(to, words(b))
                    .help("both ends need addresses of the same version of IP"),
            )
        })
}

/// The network whose virtual address a party is.
fn virtual_network<'a>(plan: &'a Plan, party: &Party) -> Option<&'a str> {
    let Party::Address(address) = party else {
        return None;
    };
    let is_virtual = |network: &&Network| {
        let mut all = network.virtual_addresses();
        all.any(|own| IpNet::from(own) == *address)
    };
    let network = plan.networks.iter().find(is_virtual);
    network.map(|network| network.name.as_str())
}

/// Whether a party has addresses of IPv4 and of IPv6.
fn versions(plan: &Plan, party: &Party) -> (bool, bool) {
    let prefixes = plan.prefixes_of(party);
    match party {
        Party::Internet | Party::Appliances => (true, true),
        Party::Role(_) | Party::Servers | Party::Server(_) => (
            plan.servers_in(party).next().is_some(),
            plan.servers_in(party)
                .any(|server| server.address6.is_some()),
        ),
        Party::Set(_) | Party::Address(_) => (
            prefixes.iter().any(|prefix| prefix.addr().is_ipv4()),
            prefixes.iter().any(|prefix| prefix.addr().is_ipv6()),
        ),
    }
}
