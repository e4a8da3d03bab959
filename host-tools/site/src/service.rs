//! `[services]`: the public services that the roles bring along with their settings, and the operator's own.

use std::{net::IpAddr, ops::Range};

use policy::{Balance, Forwarding, Transport};

use crate::{
    authority, derive,
    file::SiteFile,
    flow,
    plan::{
        Flow, HEALTH_PATH, Member, Network, Party, Persistence, Port, PortRange, Role, Server,
        Service, Sorry, Traffic, ports,
    },
    read::At,
    service_file::{CheckEntry, Entry, MemberEntry},
    value::{CheckKind, CheckText, CheckTime},
};

/// Longest name of a service or of port forwarding: that of its flow has a word in front.
pub(crate) const MAX_NAME: usize = 22;

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

pub(crate) fn is_public(name: &str) -> bool {
    PUBLIC.iter().any(|(public, ..)| *public == name)
}

/// A service and its settings, where its role comes from, and its flows' sources.
pub(crate) struct Resolved<'a> {
    pub(crate) name: &'a str,
    pub(crate) entry: Option<&'a Entry>,
    pub(crate) role: Option<Role>,
    pub(crate) from: Party,
}

pub(crate) fn resolved<'a>(file: &'a SiteFile, name: &'a str) -> Option<Resolved<'a>> {
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

pub(crate) fn time(value: Option<&At<CheckTime>>, default: u16) -> u16 {
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
        address: entry
            .and_then(|entry| entry.address.as_ref())
            .map_or(network.virtual_address, |address| *address.get_ref()),
        address6: match entry.and_then(|entry| entry.address6.as_ref()) {
            Some(address) => Some(*address.get_ref()),
            None => network.virtual6,
        },
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
            None if public.is_some() => policy::Check {
                kind: policy::CheckKind::Http {
                    host: policy::Text::try_from("haproxy").unwrap_or_default(),
                    path: policy::Text::try_from(HEALTH_PATH).unwrap_or_default(),
                    lowest: 200,
                    highest: 200,
                },
                port: ports::HAPROXY_HEALTH,
                ..policy::Check::default()
            },
            None => policy::Check {
                kind: check_kind(file, kind, None),
                port: server_port,
                ..policy::Check::default()
            },
        },
        agent: match entry.and_then(|entry| entry.agent.as_ref()) {
            Some(port) => Some(port.get_ref().0),
            None => public.map(|_| ports::HAPROXY_AGENT),
        },
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
            trust: authority::trust(file, check),
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

/// The names that flows of written services may have, and where the services' own stand.
pub(crate) fn places(file: &SiteFile) -> impl Iterator<Item = (String, Range<usize>)> {
    file.services.names.iter().flat_map(|name| {
        FLOW_PREFIXES.map(|prefix| (format!("{prefix}-{}", name.get_ref()), name.span()))
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
