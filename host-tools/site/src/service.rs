//! `[services]`: the public services that the roles bring along with their settings, and the operator's own.

use std::net::IpAddr;

use policy::{Balance, Forwarding, Transport};

use crate::{
    derive,
    error::Problem,
    file::{Section, SiteFile},
    flow::{self, Terms},
    plan::{
        Flow, Member, Network, Party, Persistence, Plan, Port, PortRange, Role, Server, Service,
        Sorry, Traffic, ports,
    },
    read::{At, Bits, Bits6, Count, Jitter, Most, PortNumber, Table, Weight},
    value::{CheckKind, CheckText, CheckTime, Seconds, Status},
};

/// Longest name of a service or of port forwarding: that of its flow has a word in front.
pub(crate) const MAX_NAME: usize = 22;

/// Settings of one service; what is absent has a default.
pub(crate) struct Entry {
    port: Option<At<PortNumber>>,
    server_port: Option<At<PortNumber>>,
    transport: Option<At<Transport>>,
    network: Option<At<String>>,
    role: Option<At<String>>,
    members: Vec<(At<String>, MemberEntry)>,
    from: Option<At<String>>,
    forwarding: Option<At<Forwarding>>,
    balance: Option<At<Balance>>,
    persistence: Option<PersistenceEntry>,
    quorum: Option<At<Count>>,
    sorry: Option<SorryEntry>,
    slow_start: Option<At<Seconds>>,
    check: Option<CheckEntry>,
    agent: Option<At<PortNumber>>,
    terms: Terms,
    why: Option<At<String>>,
}

#[derive(Default)]
struct MemberEntry {
    weight: Option<At<Weight>>,
    max_flows: Option<At<Most>>,
    drain: Option<At<bool>>,
}

struct PersistenceEntry {
    prefix: Option<At<Bits>>,
    prefix6: Option<At<Bits6>>,
    time: At<Seconds>,
}

struct SorryEntry {
    server: At<String>,
    port: Option<At<PortNumber>>,
}

struct CheckEntry {
    kind: At<CheckKind>,
    port: Option<At<PortNumber>>,
    host: Option<At<CheckText>>,
    path: Option<At<CheckText>>,
    status: Option<At<Status>>,
    name: Option<At<CheckText>>,
    interval: Option<At<CheckTime>>,
    timeout: Option<At<CheckTime>>,
    rise: Option<At<Count>>,
    fall: Option<At<Count>>,
    jitter: Option<At<Jitter>>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 19] = [
        "port",
        "server_port",
        "transport",
        "network",
        "role",
        "servers",
        "from",
        "forwarding",
        "balance",
        "persistence",
        "quorum",
        "sorry",
        "slow_start",
        "check",
        "agent",
        "log",
        "rate",
        "max_flows",
        "why",
    ];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let port = table.optional("port", problems);
        let server_port = table.optional("server_port", problems);
        let transport = table.optional("transport", problems);
        let network = table.optional("network", problems);
        let role = table.optional("role", problems);
        let members = members(table, problems);
        let from = table.optional("from", problems);
        let forwarding = table.optional("forwarding", problems);
        let balance = table.optional("balance", problems);
        let persistence = part(table, "persistence", &PERSISTENCE, persistence, problems);
        let quorum = table.optional("quorum", problems);
        let sorry = part(table, "sorry", &SORRY, sorry, problems);
        let slow_start = table.optional("slow_start", problems);
        let check = part(table, "check", &CHECK, check_entry, problems);
        let agent = table.optional("agent", problems);
        let terms = Terms::read(table, problems);
        let why = table.optional("why", problems);
        Some(Self {
            port: port?,
            server_port: server_port?,
            transport: transport?,
            network: network?,
            role: role?,
            members: members?,
            from: from?,
            forwarding: forwarding?,
            balance: balance?,
            persistence: persistence?,
            quorum: quorum?,
            sorry: sorry?,
            slow_start: slow_start?,
            check: check?,
            agent: agent?,
            terms: terms?,
            why: why?,
        })
    }
}

type Part<T> = fn(&Table<'_>, &mut Vec<Problem>) -> Option<T>;

/// A sub-table that may be absent: `None` if it is there but wrong.
fn part<T>(
    table: &Table<'_>,
    key: &'static str,
    keys: &[&'static str],
    read: Part<T>,
    problems: &mut Vec<Problem>,
) -> Option<Option<T>> {
    if !table.has(key) {
        return Some(None);
    }
    let table = table.table(key, keys, problems)?;
    read(&table, problems).map(Some)
}

pub(crate) const PERSISTENCE: [&str; 3] = ["time", "prefix", "prefix6"];

fn persistence(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<PersistenceEntry> {
    let time = table.required("time", problems);
    let prefix = table.optional("prefix", problems);
    let prefix6 = table.optional("prefix6", problems);
    Some(PersistenceEntry {
        prefix: prefix?,
        prefix6: prefix6?,
        time: time?,
    })
}

pub(crate) const SORRY: [&str; 2] = ["server", "port"];

fn sorry(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<SorryEntry> {
    let server = table.required("server", problems);
    let port = table.optional("port", problems);
    Some(SorryEntry {
        server: server?,
        port: port?,
    })
}

pub(crate) const CHECK: [&str; 11] = [
    "kind", "port", "host", "path", "status", "name", "interval", "timeout", "rise", "fall",
    "jitter",
];

fn check_entry(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<CheckEntry> {
    let kind = table.required("kind", problems);
    let port = table.optional("port", problems);
    let host = table.optional("host", problems);
    let path = table.optional("path", problems);
    let status = table.optional("status", problems);
    let name = table.optional("name", problems);
    let interval = table.optional("interval", problems);
    let timeout = table.optional("timeout", problems);
    let rise = table.optional("rise", problems);
    let fall = table.optional("fall", problems);
    let jitter = table.optional("jitter", problems);
    Some(CheckEntry {
        kind: kind?,
        port: port?,
        host: host?,
        path: path?,
        status: status?,
        name: name?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        jitter: jitter?,
    })
}

pub(crate) const MEMBER: [&str; 3] = ["weight", "max_flows", "drain"];

/// `servers`: a list of names, or a table of names with settings.
fn members(
    table: &Table<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<(At<String>, MemberEntry)>> {
    if let Some(names) = table.names("servers", problems) {
        let names = names?.into_iter();
        return Some(names.map(|name| (name, MemberEntry::default())).collect());
    }
    let Some(section) = table.optional_section("servers", problems) else {
        return (!table.has("servers")).then(Vec::new);
    };
    let mut members = Vec::new();
    for (name, entries) in section.tables(problems) {
        let title = format!("settings of `{}`", name.get_ref());
        let table = Table::new(title, name.span(), entries?, &MEMBER, problems);
        let weight = table.optional("weight", problems);
        let max_flows = table.optional("max_flows", problems);
        let drain = table.optional("drain", problems);
        let settings = MemberEntry {
            weight: weight?,
            max_flows: max_flows?,
            drain: drain?,
        };
        members.push((name, settings));
    }
    Some(members)
}

/// What the roles bring along: name, port, and the role that serves it.
pub(crate) const PUBLIC: [(&str, u16, Role); 2] = [
    ("https", ports::HTTPS, Role::Haproxy),
    ("http", ports::HTTP, Role::Haproxy),
];

/// Names of all services, those of the roles first.
pub(crate) fn names(file: &SiteFile) -> impl Iterator<Item = &str> {
    let own = file
        .services
        .names
        .iter()
        .map(|name| name.get_ref().as_str());
    let public = PUBLIC.iter().map(|(name, ..)| *name);
    public.chain(own.filter(|name| !is_public(name)))
}

fn is_public(name: &str) -> bool {
    PUBLIC.iter().any(|(public, ..)| *public == name)
}

/// A service and its settings, where its role comes from, and its flows' sources.
struct Resolved<'a> {
    name: &'a str,
    entry: Option<&'a Entry>,
    role: Option<Role>,
    from: Party,
}

fn resolved<'a>(file: &'a SiteFile, name: &'a str) -> Option<Resolved<'a>> {
    let entry = file.services.get(name);
    let public = PUBLIC.iter().find(|(public, ..)| *public == name);
    if entry.is_none() && public.is_none() {
        return None;
    }
    let written = entry.and_then(|entry| entry.role.as_ref());
    let role = match public {
        Some((.., role)) => Some(*role),
        None => written.and_then(|role| derive::role(role.get_ref())),
    };
    let from = match entry.and_then(|entry| entry.from.as_ref()) {
        Some(from) => flow::party(file, from.get_ref())?,
        None => Party::Internet,
    };
    Some(Resolved {
        name,
        entry,
        role,
        from,
    })
}

/// Reports what is wrong with services by themselves.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    for (name, entry) in &file.services.entries {
        if is_public(name.get_ref()) {
            fixed(name, entry, problems);
        } else {
            own(name, entry, problems);
        }
        if name.get_ref().len() > MAX_NAME {
            problems.push(long_name(name));
        }
        references(file, name, entry, problems);
        who_serves(file, name, entry, problems);
        if let Some(check) = &entry.check {
            check_of(file, name, check, problems);
        }
    }
}

/// A name that leaves no room for `internet-` in front of it.
pub(crate) fn long_name(name: &At<String>) -> Problem {
    Problem::new(
        "site::bad_name",
        format!("`{}` is too long a name", name.get_ref()),
    )
    .at(name.span(), format!("{} characters", name.get_ref().len()))
    .help(format!(
        "use at most {MAX_NAME} characters: its flows are called internet-NAME and check-NAME"
    ))
}

/// What the roles' own services do is not for the operator to say.
fn fixed(name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let places = [
        (entry.port.as_ref().map(At::span), "port"),
        (entry.server_port.as_ref().map(At::span), "server_port"),
        (entry.transport.as_ref().map(At::span), "transport"),
        (entry.role.as_ref().map(At::span), "role"),
        (entry.network.as_ref().map(At::span), "network"),
        (entry.forwarding.as_ref().map(At::span), "forwarding"),
    ];
    for (place, key) in places {
        let Some(place) = place else { continue };
        problems.push(
            Problem::new(
                "site::fixed_service",
                format!("`{key}` of service `{}` cannot be chosen", name.get_ref()),
            )
            .at(name.span(), "brought along by the haproxy role")
            .at(place, "which says this")
            .help(format!("remove `{key}`, or make a service of another name")),
        );
    }
}

/// A service of the operator's own says where it is and who serves it.
fn own(name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let service = name.get_ref();
    let lacks = |key: &str, help: &str| {
        Problem::new(
            "site::missing_key",
            format!("[services.{service}] lacks `{key}`"),
        )
        .at(name.span(), format!("needs `{key}`"))
        .help(help)
    };
    if entry.port.is_none() {
        problems.push(lacks(
            "port",
            "add port = …, the port that users connect to",
        ));
    }
    if entry.role.is_none() && entry.members.is_empty() {
        problems.push(lacks(
            "servers",
            "add servers = [\"…\"], the real servers in the order of preference, or role = \"…\"",
        ));
    }
}

/// Networks, parties and servers that settings name must be there.
fn references(file: &SiteFile, name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let service = name.get_ref();
    if let Some(network) = &entry.network {
        unknown_network(file, &format!("service `{service}`"), network, problems);
    }
    if let Some(from) = &entry.from {
        match flow::party(file, from.get_ref()) {
            None => problems.push(flow::unknown_party(
                file,
                &format!("service `{service}`"),
                from,
            )),
            Some(Party::Appliances) => problems.push(
                Problem::new(
                    "site::impossible_flow",
                    format!("nobody can use service `{service}`"),
                )
                .at(from.span(), "not possible as `from`")
                .help("the appliances use no service: write who does"),
            ),
            Some(
                Party::Internet
                | Party::Role(_)
                | Party::Servers
                | Party::Server(_)
                | Party::Set(_)
                | Party::Address(_),
            ) => {}
        }
    }
    let sorry = entry.sorry.as_ref().map(|sorry| &sorry.server);
    for server in entry.members.iter().map(|(name, _)| name).chain(sorry) {
        unknown_server(file, &format!("service `{service}`"), server, problems);
    }
    if let Some(role) = &entry.role
        && derive::role(role.get_ref()).is_none()
    {
        problems.push(
            Problem::new(
                "site::unknown_role",
                format!(
                    "service `{service}` has an unknown role `{}`",
                    role.get_ref()
                ),
            )
            .at(role.span(), "no server can do this")
            .suggest(role.get_ref(), Role::ALL.into_iter().map(Role::name)),
        );
    }
}

/// Reports a server that does not exist.
pub(crate) fn unknown_server(
    file: &SiteFile,
    what: &str,
    server: &At<String>,
    problems: &mut Vec<Problem>,
) {
    let word = server.get_ref();
    if !file.servers.has(word) {
        let known = file
            .servers
            .names
            .iter()
            .map(|name| name.get_ref().as_str());
        problems.push(
            Problem::new(
                "site::unknown_server",
                format!("{what} names an unknown server `{word}`"),
            )
            .at(server.span(), "there is no such server")
            .suggest(word, known),
        );
    }
}

/// Reports a network that does not exist.
pub(crate) fn unknown_network(
    file: &SiteFile,
    what: &str,
    network: &At<String>,
    problems: &mut Vec<Problem>,
) {
    let word = network.get_ref();
    if !file.networks.has(word) {
        let known = file
            .networks
            .names
            .iter()
            .map(|name| name.get_ref().as_str());
        problems.push(
            Problem::new(
                "site::unknown_network",
                format!("{what} is in an unknown network `{word}`"),
            )
            .at(network.span(), "there is no such network")
            .suggest(word, known),
        );
    }
}

/// The servers of a service: each once, of its role, as many as it needs and fit.
fn who_serves(file: &SiteFile, name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let service = name.get_ref();
    let role = resolved(file, service).and_then(|service| service.role);
    for (position, (member, settings)) in entry.members.iter().enumerate() {
        let word = member.get_ref();
        let earlier = &entry.members[..position];
        if let Some((first, _)) = earlier.iter().find(|(other, _)| other.get_ref() == word) {
            problems.push(
                Problem::new(
                    "site::duplicate_name",
                    format!("service `{service}` has server `{word}` twice"),
                )
                .at(first.span(), "the first")
                .at(member.span(), "another")
                .help("remove one: a larger share is said by `weight`"),
            );
        }
        if let (Some(weight), Some(drain)) = (&settings.weight, &settings.drain)
            && *drain.get_ref()
        {
            problems.push(
                Problem::new(
                    "site::contradiction",
                    format!("`{word}` has a share of `{service}` and gets nothing"),
                )
                .at(weight.span(), "its share of new flows")
                .at(drain.span(), "no new flows")
                .help("remove one of them"),
            );
        }
        if let (Some(role), Some(server)) = (role, file.servers.get(word))
            && server.role.get_ref() != role.name()
        {
            problems.push(
                Problem::new(
                    "site::wrong_role",
                    format!("`{word}` does not serve `{service}`"),
                )
                .at(server.role.span(), "its role")
                .at(member.span(), format!("not one of role {}", role.name()))
                .help("name servers of that role here; the others serve nothing of it"),
            );
        }
    }
    let count = match role {
        Some(role) => (file.servers.entries.iter())
            .filter(|(_, server)| server.role.get_ref() == role.name())
            .count(),
        None => entry.members.len(),
    };
    let place = entry.role.as_ref().map_or(name.span(), At::span);
    if count > policy::MAX_SERVERS && !is_public(service) {
        problems.push(
            Problem::new(
                "site::too_many_servers",
                format!("{count} servers behind `{service}`"),
            )
            .at(place, "too many for one service")
            .help(format!(
                "an appliance balances over at most {} servers",
                policy::MAX_SERVERS
            )),
        );
    }
    if let Some(quorum) = &entry.quorum
        && count > 0
        && usize::from(quorum.get_ref().0) > count
    {
        problems.push(
            Problem::new(
                "site::contradiction",
                format!("service `{service}` can never have its quorum"),
            )
            .at(quorum.span(), "more than it has servers")
            .help(format!("write a number from 1 to {count}")),
        );
    }
}

fn check_of(file: &SiteFile, name: &At<String>, check: &CheckEntry, problems: &mut Vec<Problem>) {
    let kind = *check.kind.get_ref();
    let http = matches!(kind, CheckKind::Http | CheckKind::Https);
    let idle = [
        (check.host.as_ref().map(At::span), "host", http),
        (check.path.as_ref().map(At::span), "path", http),
        (check.status.as_ref().map(At::span), "status", http),
        (
            check.name.as_ref().map(At::span),
            "name",
            kind == CheckKind::Dns,
        ),
        (
            check.port.as_ref().map(At::span),
            "port",
            kind != CheckKind::Ping,
        ),
    ];
    for (place, key, meant) in idle {
        if let (Some(place), false) = (place, meant) {
            problems.push(
                Problem::new(
                    "site::contradiction",
                    format!("the check of `{}` has no use for `{key}`", name.get_ref()),
                )
                .at(check.kind.span(), "this kind asks nothing of the sort")
                .at(place, "so this means nothing")
                .help(format!("remove `{key}`, or choose another `kind`")),
            );
        }
    }
    if let Some(path) = check
        .path
        .as_ref()
        .filter(|path| !path.get_ref().0.starts_with('/'))
    {
        problems.push(
            Problem::new("site::wrong_value", "`path` has an impossible value")
                .at(path.span(), "has no slash in front")
                .help("write the path as a browser asks for it, such as \"/healthz\""),
        );
    }
    // Names in DNS have labels of 1 to 63 bytes (RFC 1035 §2.3.4).
    let is_name = |name: &str| {
        let mut labels = name.trim_end_matches('.').split('.');
        name == "." || labels.all(|label| (1..=63).contains(&label.len()))
    };
    if let Some(asked) = check.name.as_ref().filter(|n| !is_name(&n.get_ref().0)) {
        problems.push(
            Problem::new("site::wrong_value", "`name` has an impossible value")
                .at(asked.span(), "not a DNS name")
                .help("write the name that is asked for, such as \"www.example.com\""),
        );
    }
    let (key, given) = match kind {
        CheckKind::Dns => ("name", check.name.is_some()),
        CheckKind::Http | CheckKind::Https => ("host", check.host.is_some()),
        CheckKind::Tcp | CheckKind::Ping | CheckKind::Mysql => ("", true),
    };
    let domain = file.domain.as_deref().unwrap_or_default();
    if !given && policy::Text::try_from(domain).is_err() {
        problems.push(
            Problem::new(
                "site::missing_key",
                format!("the check of `{}` lacks `{key}`", name.get_ref()),
            )
            .at(
                check.kind.span(),
                "asks for the domain of the site, which is too long",
            )
            .help(format!("add `{key}`, of at most 63 characters")),
        );
    }
    let defaults = policy::Check::default();
    let interval = time(check.interval.as_ref(), defaults.interval_ms);
    let timeout = time(check.timeout.as_ref(), defaults.timeout_ms.min(interval));
    if let Some(given) = check.timeout.as_ref().filter(|_| timeout > interval) {
        let place = check.interval.as_ref().map_or(name.span(), At::span);
        problems.push(
            Problem::new(
                "site::contradiction",
                format!("the check of `{}` outlasts its interval", name.get_ref()),
            )
            .at(place, format!("asks every {interval} ms"))
            .at(given.span(), "and waits longer")
            .help(format!("write a timeout of at most \"{interval}ms\"")),
        );
    }
}

fn time(value: Option<&At<CheckTime>>, default: u16) -> u16 {
    value.map_or(default, |time| time.get_ref().0)
}

/// The services of the plan, those of the roles first.
pub(crate) fn services(file: &SiteFile, networks: &[Network], servers: &[Server]) -> Vec<Service> {
    let wan = networks.iter().find(|network| network.port == Port::Wan);
    let service = |name| {
        let resolved = resolved(file, name)?;
        let network = match resolved.entry.and_then(|entry| entry.network.as_ref()) {
            Some(network) => networks
                .iter()
                .find(|other| other.name == *network.get_ref()),
            None => wan,
        };
        service(file, &resolved, network?, servers)
    };
    names(file).filter_map(service).collect()
}

fn service(
    file: &SiteFile,
    of: &Resolved<'_>,
    network: &Network,
    servers: &[Server],
) -> Option<Service> {
    let public = PUBLIC.iter().find(|(public, ..)| *public == of.name);
    let port = match (public, of.entry) {
        (Some((_, port, _)), _) => *port,
        (None, entry) => entry?.port.as_ref()?.get_ref().0,
    };
    let entry = of.entry;
    let server_port = entry
        .and_then(|entry| entry.server_port.as_ref())
        .map_or(port, |port| port.get_ref().0);
    let transport = entry
        .and_then(|entry| entry.transport.as_ref())
        .map_or(Transport::Tcp, |transport| *transport.get_ref());
    let kind = match transport {
        Transport::Tcp => CheckKind::Tcp,
        Transport::Udp => CheckKind::Ping,
    };
    Some(Service {
        name: of.name.to_owned(),
        address: network.virtual_address,
        address6: network.virtual6,
        port,
        transport,
        servers: list(of, servers),
        server_port,
        forwarding: entry
            .and_then(|entry| entry.forwarding.as_ref())
            .map_or(Forwarding::Nat, |forwarding| *forwarding.get_ref()),
        balance: entry
            .and_then(|entry| entry.balance.as_ref())
            .map_or(Balance::Failover, |balance| *balance.get_ref()),
        persistence: entry
            .and_then(|entry| entry.persistence.as_ref())
            .map(|p| Persistence {
                prefix: p.prefix.as_ref().map_or(32, |bits| bits.get_ref().0),
                prefix6: p.prefix6.as_ref().map_or(64, |bits| bits.get_ref().0),
                seconds: p.time.get_ref().0,
            }),
        quorum: entry
            .and_then(|entry| entry.quorum.as_ref())
            .map_or(1, |quorum| quorum.get_ref().0),
        sorry: entry
            .and_then(|entry| entry.sorry.as_ref())
            .map(|sorry| Sorry {
                server: sorry.server.get_ref().clone(),
                port: sorry
                    .port
                    .as_ref()
                    .map_or(server_port, |port| port.get_ref().0),
            }),
        slow_start: entry
            .and_then(|entry| entry.slow_start.as_ref())
            .map_or(0, |time| time.get_ref().0),
        check: match entry.and_then(|entry| entry.check.as_ref()) {
            Some(check) => check_plan(file, check, server_port),
            None => policy::Check {
                kind: check_kind(file, kind, None),
                port: server_port,
                ..policy::Check::default()
            },
        },
        agent: entry
            .and_then(|entry| entry.agent.as_ref())
            .map(|port| port.get_ref().0),
    })
}

/// The real servers: all of the role, or those that are listed.
fn list(of: &Resolved<'_>, servers: &[Server]) -> Vec<Member> {
    let written: &[(At<String>, MemberEntry)] = of.entry.map_or(&[], |entry| &entry.members);
    let names: Vec<&str> = match of.role {
        Some(role) => (servers.iter())
            .filter(|server| server.role == role)
            .map(|server| server.name.as_str())
            .collect(),
        None => written
            .iter()
            .map(|(name, _)| name.get_ref().as_str())
            .collect(),
    };
    let member = |name: &str| {
        let settings = (written.iter())
            .find(|(other, _)| other.get_ref() == name)
            .map(|(_, settings)| settings);
        let weight = settings.and_then(|settings| settings.weight.as_ref());
        let most = settings.and_then(|settings| settings.max_flows.as_ref());
        let drains = settings
            .and_then(|settings| settings.drain.as_ref())
            .is_some_and(|drain| *drain.get_ref());
        Member {
            server: name.to_owned(),
            weight: if drains {
                0
            } else {
                weight.map_or(1, |weight| weight.get_ref().0)
            },
            max_flows: most.map_or(0, |most| most.get_ref().0),
        }
    };
    names.into_iter().map(member).collect()
}

fn check_plan(file: &SiteFile, check: &CheckEntry, server_port: u16) -> policy::Check {
    let defaults = policy::Check::default();
    let interval_ms = time(check.interval.as_ref(), defaults.interval_ms);
    policy::Check {
        kind: check_kind(file, *check.kind.get_ref(), Some(check)),
        port: check
            .port
            .as_ref()
            .map_or(server_port, |port| port.get_ref().0),
        interval_ms,
        timeout_ms: time(check.timeout.as_ref(), defaults.timeout_ms.min(interval_ms)),
        rise: check.rise.as_ref().map_or(defaults.rise, |n| n.get_ref().0),
        fall: check.fall.as_ref().map_or(defaults.fall, |n| n.get_ref().0),
        jitter: check
            .jitter
            .as_ref()
            .map_or(defaults.jitter, |n| n.get_ref().0),
    }
}

fn check_kind(file: &SiteFile, kind: CheckKind, check: Option<&CheckEntry>) -> policy::CheckKind {
    let domain = || policy::Text::try_from(file.domain.as_deref().unwrap_or_default());
    let text = |value: Option<&At<CheckText>>| value.map(|text| text.get_ref().0.clone());
    let host = || {
        text(check.and_then(|check| check.host.as_ref()))
            .unwrap_or_else(|| domain().unwrap_or_default())
    };
    let path = || {
        text(check.and_then(|check| check.path.as_ref()))
            .unwrap_or_else(|| policy::Text::try_from("/").unwrap_or_default())
    };
    let (lowest, highest) = check
        .and_then(|check| check.status.as_ref())
        .map_or((200, 299), |status| {
            (status.get_ref().0, status.get_ref().1)
        });
    match kind {
        CheckKind::Tcp => policy::CheckKind::Tcp,
        CheckKind::Ping => policy::CheckKind::Ping,
        CheckKind::Mysql => policy::CheckKind::Mysql,
        CheckKind::Http => policy::CheckKind::Http {
            host: host(),
            path: path(),
            lowest,
            highest,
        },
        CheckKind::Https => policy::CheckKind::Https {
            host: host(),
            path: path(),
            lowest,
            highest,
        },
        CheckKind::Dns => policy::CheckKind::Dns {
            name: text(check.and_then(|check| check.name.as_ref()))
                .unwrap_or_else(|| domain().unwrap_or_default()),
        },
    }
}

/// Words in front of the names of a service's flows.
const FLOW_PREFIXES: [&str; 6] = ["internet", "clients", "reach", "check", "agent", "sorry"];

/// Whether services bring along a flow of this name.
pub(crate) fn has_flow(file: &SiteFile, name: &str) -> bool {
    name.split_once('-').is_some_and(|(prefix, rest)| {
        FLOW_PREFIXES.contains(&prefix) && names(file).any(|service| service == rest)
    })
}

/// The flows that a service needs.
pub(crate) fn flows(file: &SiteFile, service: &Service) -> Vec<Flow> {
    let Some(of) = resolved(file, &service.name) else {
        return Vec::new();
    };
    let name = &service.name;
    let written = of.entry.and_then(|entry| entry.why.as_ref());
    let why = written.map_or("users reach the site", |why| why.get_ref().as_str());
    let parties: Vec<Party> = match of.role {
        Some(role) => vec![Party::Role(role)],
        None => (service.servers.iter())
            .map(|member| Party::Server(member.server.clone()))
            .collect(),
    };
    let terms = |flow: Flow| match of.entry {
        Some(entry) => entry.terms.applied(flow),
        None => flow,
    };
    let to = |port| Traffic::to(service.transport, PortRange::one(port));
    let (users, inside) = match of.from {
        Party::Internet => ("internet", false),
        Party::Role(_) | Party::Servers | Party::Server(_) => ("clients", true),
        Party::Appliances | Party::Set(_) | Party::Address(_) => ("clients", false),
    };
    let mut flows = Vec::new();
    let direct = service.forwarding == Forwarding::DirectReturn;
    if inside || direct {
        // What the clients' own firewalls see, and with direct return everybody.
        let addresses = [
            Some(IpAddr::V4(service.address)),
            service.address6.map(IpAddr::V6),
        ];
        for address in addresses.into_iter().flatten() {
            flows.push(terms(flow::plain(
                format!("reach-{name}"),
                of.from.clone(),
                Party::Address(address.into()),
                to(service.port),
                why,
            )));
        }
    }
    for party in parties.iter().filter(|_| !direct) {
        flows.push(terms(flow::plain(
            format!("{users}-{name}"),
            of.from.clone(),
            party.clone(),
            to(service.server_port),
            why,
        )));
    }
    let appliances = |name: String, party: &Party, traffic, why| {
        flow::plain(name, Party::Appliances, party.clone(), traffic, why)
    };
    for party in &parties {
        flows.push(appliances(
            format!("check-{name}"),
            party,
            check_traffic(&service.check),
            match of.role {
                Some(Role::Haproxy) => "the appliances send users only to a balancer that answers",
                Some(Role::Nginx | Role::App | Role::Db | Role::Monitor) | None => {
                    "the appliances send users only to a server that answers"
                }
            },
        ));
        flows.extend(service.agent.map(|port| {
            appliances(
                format!("agent-{name}"),
                party,
                Traffic::tcp(port),
                "the appliances ask servers how much they can take",
            )
        }));
    }
    flows.extend(service.sorry.as_ref().map(|sorry| {
        terms(flow::plain(
            format!("sorry-{name}"),
            of.from.clone(),
            Party::Server(sorry.server.clone()),
            to(sorry.port),
            "somebody tells users that the service is away",
        ))
    }));
    flows
}

fn check_traffic(check: &policy::Check) -> Traffic {
    match check.kind {
        policy::CheckKind::Ping => Traffic::Ping,
        policy::CheckKind::Tcp
        | policy::CheckKind::Http { .. }
        | policy::CheckKind::Https { .. }
        | policy::CheckKind::Mysql => Traffic::tcp(check.port),
        policy::CheckKind::Dns { .. } => Traffic::to(Transport::Udp, PortRange::one(check.port)),
    }
}

/// What only the whole plan shows about services: clashes, sizes, and ways on which answers come back.
pub(crate) fn fit(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    let place = |name: &str| {
        let names: &Section<Entry> = &file.services;
        (names.names.iter())
            .find(|known| known.get_ref() == name)
            .map_or(names.place.clone(), At::span)
    };
    for (position, service) in plan.services.iter().enumerate() {
        let same = |other: &&Service| {
            (other.address, other.port, other.transport)
                == (service.address, service.port, service.transport)
        };
        if let Some(other) = plan.services[..position].iter().find(same) {
            let problem = Problem::new(
                "site::duplicate_service",
                format!(
                    "services `{}` and `{}` are the same",
                    other.name, service.name
                ),
            );
            return Some(
                problem
                    .at(
                        place(&service.name),
                        format!(
                            "{} port {}, as `{}` has it",
                            service.address, service.port, other.name
                        ),
                    )
                    .help("give one of them another port, or put both into one"),
            );
        }
        if let Some(problem) = way_back(plan, file, service, place(&service.name)) {
            return Some(problem);
        }
    }
    let on_appliance = |service: &Service| 1 + usize::from(has_version6(plan, service));
    let count: usize = plan.services.iter().map(on_appliance).sum();
    (count > policy::MAX_SERVICES).then(|| {
        Problem::new(
            "site::too_many_services",
            format!("the appliances would have {count} services"),
        )
        .at(
            file.services.place.clone(),
            "each counts for every version of IP",
        )
        .help(format!(
            "an appliance has room for {}",
            policy::MAX_SERVICES
        ))
    })
}

/// Whether a service is offered on IPv6 too.
fn has_version6(plan: &Plan, service: &Service) -> bool {
    let has = |member: &Member| {
        plan.server(&member.server)
            .is_some_and(|server| server.address6.is_some())
    };
    service.address6.is_some() && service.servers.iter().any(has)
}

/// Translated answers must pass the appliances again; those of direct return must not have to.
fn way_back(
    plan: &Plan,
    file: &SiteFile,
    service: &Service,
    place: std::ops::Range<usize>,
) -> Option<Problem> {
    let of = resolved(file, &service.name)?;
    let members: Vec<&Server> = (service.servers.iter())
        .filter_map(|member| plan.server(&member.server))
        .collect();
    let home = (plan.networks.iter())
        .find(|network| network.virtual_address == service.address)
        .map(|network| network.name.as_str());
    let clients: Vec<&Server> = plan.servers_in(&of.from).collect();
    match service.forwarding {
        Forwarding::Nat => {
            let pair = clients.iter().find_map(|client| {
                let neighbour = |server: &&&Server| server.network == client.network;
                members
                    .iter()
                    .find(neighbour)
                    .map(|server| (client, server))
            });
            let (client, server) = pair?;
            Some(
                Problem::new(
                    "site::no_way_back",
                    format!("`{}` would get no answers from service `{}`", client.name, service.name),
                )
                .at(
                    place,
                    format!("`{}` is its neighbour and would answer past the appliance", server.name),
                )
                .help("put clients and servers into different networks, or use forwarding = \"direct-return\""),
            )
        }
        Forwarding::DirectReturn => {
            let away = (clients.iter().chain(&members))
                .find(|server| Some(server.network.as_str()) != home)
                .map(|server| format!("`{}` is in another network", server.name));
            let outside = clients
                .is_empty()
                .then(|| "its users are outside the rack".to_owned());
            let port = (service.port != service.server_port)
                .then(|| "the port cannot change on the way".to_owned());
            let label = outside.or(away).or(port)?;
            Some(
                Problem::new(
                    "site::no_way_back",
                    format!("service `{}` cannot be direct-return", service.name),
                )
                .at(place, label)
                .help("its users and servers must be in the network of its virtual address, and both ports the same: otherwise leave forwarding = \"nat\""),
            )
        }
    }
}
