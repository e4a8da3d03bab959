//! The flows of the plan as rules of one appliance, and the limits that they refer to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use policy::rule::{self, Legs, Rule, State};
use policy::{IpPrefix, Limit, Prefix, Prefix6};
use site::Plan;
use site::plan::{Action, Appliance, Flow, Network, Party, Port, PortRange, Ports, Traffic};

use crate::{RenderError, appliance};

/// All rules of an appliance in the order of the plan's flows, and its limits.
pub(crate) fn rules(
    plan: &Plan,
    appliance: &Appliance,
) -> Result<(Vec<Rule>, Vec<Limit>), RenderError> {
    let mut limits = Limits::default();
    let mut rules = Vec::new();
    for flow in &plan.flows {
        let rate = limits.index(flow, flow.rate)?;
        let flows = limits.index(flow, flow.max_flows)?;
        let destinations = ends(plan, appliance, &flow.to)?;
        for source in ends(plan, appliance, &flow.from)? {
            let Some((to, destinations)) = beyond(plan, flow, source.leg, &destinations) else {
                continue;
            };
            for protocol in protocols(&flow.traffic) {
                rules.push(Rule {
                    name: appliance::short(&flow.name)?,
                    from: Legs::one(source.leg),
                    to,
                    sources: source.prefixes.clone(),
                    destinations: destinations.clone(),
                    protocol,
                    // What is dropped needs no flow to be found out of place.
                    state: match flow.action {
                        Action::Accept => State::New,
                        Action::Drop | Action::Reject => State::Any,
                    },
                    action: match flow.action {
                        Action::Accept => rule::Action::Accept,
                        Action::Drop => rule::Action::Drop,
                        Action::Reject => rule::Action::Reject,
                    },
                    log: flow.log,
                    rate,
                    flows,
                    sharing: flow.sharing,
                });
            }
        }
    }
    Ok((rules, limits.list))
}

/// One end of a flow on one leg: where its packets come in or go out, and which addresses they carry.
#[derive(Clone, Debug)]
struct End {
    leg: u8,
    /// Empty for any.
    prefixes: Vec<IpPrefix>,
}

/// The legs and destinations of a flow that lie beyond the leg its packets come in from. Neighbours talk
/// directly: their packets never reach an appliance, except those to a virtual address with direct return.
fn beyond(plan: &Plan, flow: &Flow, from: u8, to: &[End]) -> Option<(Legs, Vec<IpPrefix>)> {
    let direct = returns_directly(plan, &flow.to);
    let reached: Vec<&End> = (to.iter())
        .filter(|end| direct || end.leg != from)
        .collect();
    let legs = (reached.iter()).fold(0, |legs, end| legs | Legs::one(end.leg).0);
    let any = reached.iter().any(|end| end.prefixes.is_empty());
    let prefixes = reached.iter().flat_map(|end| end.prefixes.iter().copied());
    let prefixes = if any { Vec::new() } else { prefixes.collect() };
    (legs != 0).then_some((Legs(legs), prefixes))
}

/// Whether a party is the virtual address of a service whose servers answer clients themselves.
fn returns_directly(plan: &Plan, party: &Party) -> bool {
    plan.services.iter().any(|service| {
        let direct = service.forwarding == policy::Forwarding::DirectReturn;
        direct
            && is_virtual(
                party,
                service.address.into(),
                service.address6.map(IpAddr::V6),
            )
    })
}

fn is_virtual(party: &Party, address: IpAddr, address6: Option<IpAddr>) -> bool {
    matches!(party, Party::Address(prefix)
        if *prefix == IpNet::from(address) || address6.is_some_and(|a| *prefix == IpNet::from(a)))
}

/// The ends that a party stands for. Rules are about forwarded packets, so the appliances' own packets (health
/// checks, answers to pings) need none, and neither do virtual addresses, which are translated before.
fn ends(plan: &Plan, appliance: &Appliance, party: &Party) -> Result<Vec<End>, RenderError> {
    let mut ends = Vec::new();
    match party {
        Party::Appliances => {}
        Party::Internet => {
            for (leg, network) in legs(plan, appliance)? {
                if network.port == Port::Wan {
                    let prefixes = Vec::new();
                    ends.push(End { leg, prefixes });
                }
            }
        }
        Party::Role(_) | Party::Servers | Party::Server(_) => {
            for server in &plan.servers {
                crate::network(plan, &server.name, &server.network)?;
            }
            for (leg, network) in legs(plan, appliance)? {
                let prefixes: Vec<IpPrefix> = (plan.servers.iter())
                    .filter(|server| server.network == network.name)
                    .flat_map(|server| plan.addresses_in(party, server))
                    .map(IpPrefix::host)
                    .collect();
                if !prefixes.is_empty() {
                    ends.push(End { leg, prefixes });
                }
            }
        }
        Party::Set(_) | Party::Address(_) => {
            let translated = !returns_directly(plan, party)
                && (plan.networks.iter()).any(|network| {
                    (network.virtual_addresses()).any(|own| is_virtual(party, own, None))
                });
            for (leg, network) in legs(plan, appliance)? {
                let prefixes: Vec<IpPrefix> = (plan.prefixes_of(party).iter())
                    .filter_map(|prefix| part_on(plan, network, prefix))
                    .map(ip_prefix)
                    .collect();
                if !prefixes.is_empty() && !translated {
                    ends.push(End { leg, prefixes });
                }
            }
        }
    }
    Ok(ends)
}

/// The part of a prefix that a network has: its subnet's, or on wan all that is in no other network.
fn part_on(plan: &Plan, network: &Network, prefix: &IpNet) -> Option<IpNet> {
    let subnets = |network: &Network| {
        [
            Some(IpNet::V4(network.subnet)),
            network.subnet6.map(IpNet::V6),
        ]
    };
    match network.port {
        Port::Wan => {
            let lan = (plan.networks.iter()).filter(|network| network.port == Port::Lan);
            let inside = lan
                .flat_map(subnets)
                .flatten()
                .any(|subnet| subnet.contains(prefix));
            (!inside).then_some(*prefix)
        }
        Port::Lan => subnets(network).into_iter().flatten().find_map(|subnet| {
            if subnet.contains(prefix) {
                Some(*prefix)
            } else {
                prefix.contains(&subnet).then_some(subnet)
            }
        }),
    }
}

fn legs<'a>(plan: &'a Plan, appliance: &Appliance) -> Result<Vec<(u8, &'a Network)>, RenderError> {
    (0..)
        .zip(&appliance.legs)
        .map(|(index, leg)| Ok((index, crate::network(plan, &appliance.name, &leg.network)?)))
        .collect()
}

/// What a rule of the device says about the same traffic; pings are of both versions.
fn protocols(traffic: &Traffic) -> Vec<rule::Protocol> {
    let ports = |ports: &Ports| {
        let ranges = |ranges: &[PortRange]| ranges.iter().map(|range| range.range()).collect();
        rule::Ports {
            source: ranges(&ports.source),
            destination: ranges(&ports.destination),
        }
    };
    match traffic {
        Traffic::Any => vec![rule::Protocol::Any],
        Traffic::Tcp(list) => vec![rule::Protocol::Tcp(ports(list))],
        Traffic::Udp(list) => vec![rule::Protocol::Udp(ports(list))],
        Traffic::Ping => vec![
            rule::Protocol::Icmp(vec![ECHO_REQUEST]),
            rule::Protocol::Icmp6(vec![ECHO_REQUEST6]),
        ],
        Traffic::Icmp(types) => vec![rule::Protocol::Icmp(types.clone())],
        Traffic::Icmp6(types) => vec![rule::Protocol::Icmp6(types.clone())],
        Traffic::Number(number) => vec![rule::Protocol::Number(*number)],
    }
}

/// RFC 792 and RFC 4443 §4.1.
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST6: u8 = 128;

/// The limits of flows: those of one name share theirs.
#[derive(Default)]
struct Limits {
    list: Vec<Limit>,
    known: BTreeMap<(String, bool), u8>,
}

impl Limits {
    fn index(&mut self, flow: &Flow, limit: Option<Limit>) -> Result<Option<u8>, RenderError> {
        let Some(limit) = limit else { return Ok(None) };
        let is_rate = matches!(limit.kind, policy::LimitKind::Rate { .. });
        let key = (flow.name.clone(), is_rate);
        if let Some(index) = self.known.get(&key) {
            return Ok(Some(*index));
        }
        let index = u8::try_from(self.list.len()).map_err(|_| RenderError::TooMany {
            what: "limits of flows",
            need: self.list.len() + 1,
            room: policy::MAX_LIMITS,
        })?;
        self.list.push(limit);
        self.known.insert(key, index);
        Ok(Some(index))
    }
}

/// The same prefix in the device's type.
pub(crate) fn ip_prefix(prefix: IpNet) -> IpPrefix {
    match prefix {
        IpNet::V4(prefix) => IpPrefix::V4(Prefix::of(prefix.addr(), prefix.prefix_len())),
        IpNet::V6(prefix) => IpPrefix::V6(Prefix6::of(prefix.addr(), prefix.prefix_len())),
    }
}
