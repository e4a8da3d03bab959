//! `[events]`: who is told what happens to the appliances. As written, what must fit together, and what follows.

use std::net::{IpAddr, Ipv6Addr};

use policy::{MAX_COLLECTORS, Severity};
use toml::de::DeValue;

use crate::{
    error::Problem,
    file::SiteFile,
    flow,
    plan::{Collector, Events, Flow, Party, Port, PortRange, Role, Traffic, ports},
    read::{At, Table, Value, Wrong, text},
    traffic::{host_address, host_address6},
    version6,
};

/// What is written; what is absent has a default.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) syslog: Option<At<Targets>>,
    pub(crate) snmp: Option<At<Targets>>,
    pub(crate) community: Option<At<String>>,
    pub(crate) severity: Option<At<Severity>>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 4] = ["syslog", "snmp", "community_file", "severity"];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Self {
        Self {
            syslog: table.optional("syslog", problems).flatten(),
            snmp: table.optional("snmp", problems).flatten(),
            community: table.optional("community_file", problems).flatten(),
            severity: table.optional("severity", problems).flatten(),
        }
    }
}

/// Collectors; a list may be empty, to say that there are none.
pub(crate) struct Targets(Vec<At<Target>>);

/// A server's name or an address, and a port if it is not the usual one.
#[derive(Clone, PartialEq, Eq)]
struct Target {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq)]
enum Host {
    Server(String),
    Address(IpAddr),
}

impl Value for Targets {
    const WANTED: &'static str = "a list of servers and addresses, each with a port if need be, such as [\"mon1\", \"192.0.2.7:1514\"]";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let items = value.as_array().ok_or(Wrong::Type)?;
        let read = |item: &toml::Spanned<DeValue<'_>>| {
            Ok(At::new(item.span(), target(text(item.get_ref())?)?))
        };
        items.iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

fn target(text: &str) -> Result<Target, Wrong> {
    let host = |text: &str| match text.trim_matches(['[', ']']).parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Server(text.to_owned()),
    };
    // An IPv6 address has colons of its own.
    let bare = text.parse::<Ipv6Addr>().is_ok();
    match text
        .rsplit_once(':')
        .filter(|_| !bare && !text.ends_with(']'))
    {
        None => Ok(Target {
            host: host(text),
            port: None,
        }),
        Some((name, port)) => match port.parse() {
            Ok(port) if port > 0 => Ok(Target {
                host: host(name),
                port: Some(port),
            }),
            _ => Err(Wrong::Content(
                "what follows the colon is no port from 1 to 65535".to_owned(),
            )),
        },
    }
}

impl Value for Severity {
    const WANTED: &'static str = "\"emergency\", \"alert\", \"critical\", \"error\", \"warning\", \"notice\", \"info\" or \"debug\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let word = text(value)?;
        let known = Self::ALL.into_iter().find(|one| one.name() == word);
        known.ok_or_else(|| Wrong::Content("no severity of RFC 5424".to_owned()))
    }
}

/// Reports everything that does not fit together.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    let events = &file.events;
    for (key, of, usual) in [
        ("syslog", &events.syslog, ports::SYSLOG),
        ("snmp", &events.snmp, ports::TRAPS),
    ] {
        let Some(targets) = of else { continue };
        let Targets(list) = targets.get_ref();
        if list.len() > MAX_COLLECTORS {
            problems.push(
                Problem::new("site::too_many", format!("{} collectors", list.len()))
                    .at(targets.span(), format!("the most is {MAX_COLLECTORS}"))
                    .help("let one of them pass on to the others what it gets"),
            );
        }
        for (position, one) in list.iter().enumerate() {
            collector(file, one, problems);
            let known = (list.iter().take(position)).find(|other| {
                resolve(file, other.get_ref(), usual) == resolve(file, one.get_ref(), usual)
            });
            if let Some(other) = known {
                problems.push(
                    Problem::new(
                        "site::duplicate_collector",
                        format!("a collector stands twice in `{key}`"),
                    )
                    .at(other.span(), "here")
                    .at(one.span(), "and again here")
                    .help("remove one of them: it would be told everything twice"),
                );
            }
        }
    }
    community(file, problems);
}

/// One collector: a server of the site, or an address that is nobody's of ours and that a route leads to.
fn collector(file: &SiteFile, target: &At<Target>, problems: &mut Vec<Problem>) {
    let address = match &target.get_ref().host {
        Host::Server(name) if file.servers.has(name) => return,
        Host::Server(name) => {
            let known = file.servers.names.iter();
            problems.push(
                Problem::new(
                    "site::unknown_server",
                    format!("`{name}` is neither a server nor an address"),
                )
                .at(target.span(), "nobody is told anything there")
                .suggest(name, known.map(|name| name.get_ref().as_str())),
            );
            return;
        }
        Host::Address(address) => *address,
    };
    let problem = |label: &str, help: &str| {
        Problem::new(
            "site::unreachable_collector",
            format!("appliances cannot tell {address} anything"),
        )
        .at(target.span(), label)
        .help(help)
    };
    if is_nobody(address) {
        problems.push(problem(
            "no machine has this address",
            "name a server, or write the address of a machine that listens",
        ));
    } else if is_ours(file, address) {
        problems.push(problem(
            "an appliance's own, or virtual",
            "events go to other machines: name one that listens",
        ));
    } else if let IpAddr::V6(v6) = address
        && !has_way6(file, v6)
    {
        problems.push(problem(
            "no network leads there",
            "give the network on port wan `subnet6` and `uplink6`, or write an IPv4 address",
        ));
    }
}

fn is_nobody(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => {
            v6.is_multicast()
                || v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
        }
    }
}

fn is_ours(file: &SiteFile, address: IpAddr) -> bool {
    file.networks.entries.iter().any(|(_, network)| {
        let own = file.appliances.entries.iter().any(|(_, appliance)| {
            let host = appliance.host.get_ref().0;
            match address {
                IpAddr::V4(v4) => host_address(*network.subnet.get_ref(), host) == v4,
                IpAddr::V6(v6) => (network.subnet6.as_ref())
                    .is_some_and(|subnet| host_address6(*subnet.get_ref(), host) == v6),
            }
        });
        let shared = network.all_routers().any(|router| {
            let v4 = router.v4.iter().map(|v4| IpAddr::V4(*v4.get_ref()));
            let v6 = router.v6.iter().map(|v6| IpAddr::V6(*v6.get_ref()));
            let more = router.excluded.iter().map(|one| *one.get_ref());
            v4.chain(v6).chain(more).any(|one| one == address)
        });
        let derived = version6::virtual_address(network).map(IpAddr::V6);
        own || shared || derived == Some(address)
    })
}

/// Whether a network, or the provider's router, leads to an IPv6 address; to IPv4 addresses the provider's always does.
fn has_way6(file: &SiteFile, address: Ipv6Addr) -> bool {
    file.networks.entries.iter().any(|(_, network)| {
        let inside =
            (network.subnet6.as_ref()).is_some_and(|subnet| subnet.get_ref().contains(&address));
        let way_out = *network.port.get_ref() == Port::Wan && network.uplink6.is_some();
        inside || way_out
    })
}

/// Traps need a community, and nothing else does.
fn community(file: &SiteFile, problems: &mut Vec<Problem>) {
    let events = &file.events;
    let snmp = (events.snmp.as_ref()).filter(|list| !list.get_ref().0.is_empty());
    match (snmp, &events.community) {
        (Some(snmp), None) => problems.push(
            Problem::new("site::missing_key", "[events] lacks `community_file`")
                .at(snmp.span(), "traps have a community")
                .help("add community_file = \"snmp.community\": a file beside the site file, which is read by `build`"),
        ),
        (None, Some(community)) => problems.push(
            Problem::new("site::contradiction", "`community_file` has no use")
                .at(community.span(), "nobody gets traps")
                .help("remove it, or add snmp = [\"…\"]"),
        ),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// Who is told, and of what. Unless the site says otherwise, the first monitor gets syslog messages.
pub(crate) fn events(file: &SiteFile) -> Events {
    let written = |targets: &At<Targets>, port| {
        (targets.get_ref().0.iter())
            .filter_map(|one| resolve(file, one.get_ref(), port))
            .collect()
    };
    let entry = &file.events;
    Events {
        syslog: match &entry.syslog {
            Some(targets) => written(targets, ports::SYSLOG),
            None => monitor(file).into_iter().collect(),
        },
        snmp: (entry.snmp.as_ref()).map_or(Vec::new(), |targets| written(targets, ports::TRAPS)),
        community: (entry.community.as_ref()).map(|file| file.get_ref().clone()),
        severity: (entry.severity.as_ref()).map_or(Severity::default(), |one| *one.get_ref()),
    }
}

/// The collector that is meant; `None` if there is no such server.
fn resolve(file: &SiteFile, target: &Target, usual: u16) -> Option<Collector> {
    let servers = &file.servers.entries;
    let (server, address) = match &target.host {
        Host::Server(name) => {
            let (_, server) = servers.iter().find(|(own, _)| own.get_ref() == name)?;
            (Some(name.clone()), IpAddr::V4(*server.address.get_ref()))
        }
        Host::Address(address) => {
            let there = servers.iter().find(|(_, server)| {
                let v6 = version6::server(file, server).map(IpAddr::V6);
                *address == IpAddr::V4(*server.address.get_ref()) || Some(*address) == v6
            });
            (there.map(|(own, _)| own.get_ref().clone()), *address)
        }
    };
    Some(Collector {
        server,
        address,
        port: target.port.unwrap_or(usual),
    })
}

fn monitor(file: &SiteFile) -> Option<Collector> {
    let mut servers = file.servers.entries.iter();
    let (name, server) =
        servers.find(|(_, server)| *server.role.get_ref() == *Role::Monitor.name())?;
    Some(Collector {
        server: Some(name.get_ref().clone()),
        address: IpAddr::V4(*server.address.get_ref()),
        port: ports::SYSLOG,
    })
}

/// The flows that collectors among the servers need.
pub(crate) fn flows(events: &Events) -> Vec<Flow> {
    let mut flows = Vec::new();
    let (what, who) = (
        "the appliances tell what happens to them",
        "the appliances tell who is Active",
    );
    for (kind, of, usual, why) in [
        ("syslog", &events.syslog, ports::SYSLOG, what),
        ("traps", &events.snmp, ports::TRAPS, who),
    ] {
        for collector in of {
            let Some(server) = &collector.server else {
                continue;
            };
            let name = match collector.port == usual {
                true => format!("{kind}-{server}"),
                false => format!("{kind}-{server}-{}", collector.port),
            };
            flows.push(flow::plain(
                name,
                Party::Appliances,
                Party::Server(server.clone()),
                Traffic::to(policy::Transport::Udp, PortRange::one(collector.port)),
                why,
            ));
        }
    }
    flows
}
