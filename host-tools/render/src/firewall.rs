//! A server's own firewall: the flows of the plan that begin or end at it, in the plan's order.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;
use site::Plan;
use site::plan::{Action, Flow, Party, PortRange, Ports, Server, Traffic};

use crate::{RenderError, template};

/// One line of the input or output chain.
#[derive(PartialEq, Eq, Serialize)]
struct Rule {
    incoming: bool,
    counter: String,
    matches: String,
    verdict: String,
}

/// `/etc/nftables.conf` of one server.
pub(crate) fn nftables(plan: &Plan, server: &Server) -> Result<String, RenderError> {
    let mut rules: Vec<Rule> = Vec::new();
    for flow in &plan.flows {
        for incoming in [true, false] {
            for version in [Version::V4, Version::V6] {
                let Some(matches) = line(plan, server, flow, incoming, version) else {
                    continue;
                };
                let direction = if incoming { "in" } else { "out" };
                let rule = Rule {
                    incoming,
                    counter: format!("{direction}-{}", flow.name),
                    matches,
                    verdict: flow.action.to_string(),
                };
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    // Flows of the same name share one.
    let counters: BTreeSet<&String> = rules.iter().map(|rule| &rule.counter).collect();
    Ok(template::fill(
        "base/templates/nftables.conf",
        context! {
            name => &*server.name,
            version6 => server.address6.is_some(),
            counters => Value::from(Serde(counters)),
            rules => Value::from(Serde(&rules)),
        },
    )?)
}

/// A version of IP, with the word that nftables has for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl Version {
    fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn has(self, prefix: &IpNet) -> bool {
        match (self, prefix) {
            (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)) => true,
            (Self::V4, IpNet::V6(_)) | (Self::V6, IpNet::V4(_)) => false,
        }
    }
}

/// What a packet of the flow looks like here; `None` if there is none in this direction and version.
fn line(
    plan: &Plan,
    server: &Server,
    flow: &Flow,
    incoming: bool,
    version: Version,
) -> Option<String> {
    let (own, other) = if incoming {
        (&flow.to, &flow.from)
    } else {
        (&flow.from, &flow.to)
    };
    let mut ours: Vec<IpNet> = plan.addresses_in(own, server).map(IpNet::from).collect();
    if incoming && let Party::Address(address) = own {
        let shared = plan.returned_directly_by(server);
        ours.extend(shared.map(IpNet::from).filter(|shared| shared == address));
    }
    ours.retain(|address| version.has(address));
    let own = match ours.as_slice() {
        [] => return None,
        [one] => one.addr().to_string(),
        several => set(several),
    };
    let peers = peers(plan, server, other, version)?;
    let word = version.word();
    let addresses = if incoming {
        format!("{word} saddr {peers} {word} daddr {own}")
    } else {
        format!("{word} saddr {own} {word} daddr {peers}")
    };
    let traffic = traffic(flow, version)?;
    Some(format!("{addresses} {traffic}").trim_end().to_owned())
}

/// The other end of a flow, as the operand of `saddr` or `daddr`.
fn peers(plan: &Plan, server: &Server, party: &Party, version: Version) -> Option<String> {
    let only = |prefixes: Vec<IpNet>| {
        let prefixes: Vec<IpNet> = prefixes.into_iter().filter(|p| version.has(p)).collect();
        (!prefixes.is_empty()).then_some(prefixes)
    };
    match party {
        // Whoever is none of us. Forged addresses of ours are stopped by the appliances.
        Party::Internet => {
            let (v4, v6) = plan.inside();
            let inside = match version {
                Version::V4 => v4.into_iter().map(IpNet::V4).collect(),
                Version::V6 => v6.into_iter().chain([LINK_LOCAL]).map(IpNet::V6).collect(),
            };
            only(inside).map(|inside| format!("!= {}", set(&inside)))
        }
        Party::Role(_) | Party::Servers | Party::Server(_) => {
            let others = plan
                .servers
                .iter()
                .filter(|other| other.name != server.name);
            let others = others.flat_map(|other| plan.addresses_in(party, other));
            only(others.map(IpNet::from).collect()).map(|others| set(&others))
        }
        // An appliance talks to a server from its own leg in the server's network.
        Party::Appliances => {
            let legs = plan.appliances.iter().flat_map(|appliance| &appliance.legs);
            let addresses = legs
                .filter(|leg| leg.network == server.network)
                .flat_map(|leg| [Some(IpAddr::V4(leg.address)), leg.address6.map(IpAddr::V6)])
                .flatten();
            only(addresses.map(IpNet::from).collect()).map(|legs| set(&legs))
        }
        // Overlapping elements would be refused.
        Party::Set(_) | Party::Address(_) => {
            let prefixes = IpNet::aggregate(&plan.prefixes_of(party).to_vec());
            only(prefixes).map(|prefixes| set(&prefixes))
        }
    }
}

/// Neighbours on the same cable, not the Internet.
const LINK_LOCAL: Ipv6Net =
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

fn set(items: &[IpNet]) -> String {
    let items: Vec<String> = items.iter().map(address).collect();
    format!("{{ {} }}", items.join(", "))
}

/// A prefix, or the address alone if it is a single one.
fn address(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

/// What the flow carries; `None` if this version of IP cannot.
fn traffic(flow: &Flow, version: Version) -> Option<String> {
    Some(match (&flow.traffic, version) {
        (Traffic::Any, _) => String::new(),
        // Only a SYN begins a connection.
        (Traffic::Tcp(list), _) => match flow.action {
            Action::Accept => {
                let ports = ports("tcp", list);
                format!("{ports} tcp flags & (fin | syn | rst | ack) == syn")
            }
            Action::Drop | Action::Reject => ports("tcp", list),
        },
        (Traffic::Udp(list), _) => ports("udp", list),
        (Traffic::Ping, Version::V4) => "icmp type echo-request".to_owned(),
        (Traffic::Ping, Version::V6) => "icmpv6 type echo-request".to_owned(),
        (Traffic::Icmp(types), Version::V4) => icmp("icmp", types),
        (Traffic::Icmp6(types), Version::V6) => icmp("icmpv6", types),
        (Traffic::Icmp(_), Version::V6) | (Traffic::Icmp6(_), Version::V4) => return None,
        (Traffic::Number(number), _) => format!("meta l4proto {number}"),
    })
}

fn icmp(word: &str, types: &[u8]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    if types.is_empty() {
        return format!("meta l4proto {word}");
    }
    format!("{word} type {{ {} }}", types.join(", "))
}

fn ports(word: &str, ports: &Ports) -> String {
    let side = |key: &str, ranges: &[PortRange]| {
        let list: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        match list.as_slice() {
            [] => None,
            [one] => Some(format!("{word} {key} {one}")),
            several => Some(format!("{word} {key} {{ {} }}", several.join(", "))),
        }
    };
    let sides = [
        side("sport", &ports.source),
        side("dport", &ports.destination),
    ];
    let sides: Vec<String> = sides.into_iter().flatten().collect();
    if sides.is_empty() {
        return format!("meta l4proto {word}");
    }
    sides.join(" ")
}
