//! A server's own firewall: the flows of the plan that begin or end at it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;
use site::Plan;
use site::plan::{Flow, Party, Port, Server, Transport};

use crate::{RenderError, template};

/// One accepting line of the input or output chain.
#[derive(Serialize)]
struct Rule {
    incoming: bool,
    counter: String,
    matches: String,
}

/// `/etc/nftables.conf` of one server.
pub(crate) fn nftables(plan: &Plan, server: &Server) -> Result<String, RenderError> {
    // By counter: flows of the same name share one.
    let mut rules = BTreeMap::new();
    for flow in &plan.flows {
        for incoming in [true, false] {
            let (own, other) = if incoming {
                (&flow.to, &flow.from)
            } else {
                (&flow.from, &flow.to)
            };
            if !is_one_of(server, own) {
                continue;
            }
            let Some(peers) = peers(plan, server, other) else {
                continue;
            };
            let direction = if incoming { "in" } else { "out" };
            let counter = format!("{direction}-{}", flow.name);
            let matches = matches(flow, server.address, &peers, incoming);
            rules.insert(
                (counter.clone(), matches.clone()),
                Rule {
                    incoming,
                    counter,
                    matches,
                },
            );
        }
    }
    let mut counters: Vec<&String> = rules.keys().map(|(counter, _)| counter).collect();
    counters.dedup();
    Ok(template::fill(
        "base/templates/nftables.conf",
        context! {
            name => &*server.name,
            counters => Value::from(Serde(counters)),
            rules => Value::from(Serde(rules.values().collect::<Vec<_>>())),
        },
    )?)
}

fn is_one_of(server: &Server, party: &Party) -> bool {
    match party {
        Party::Role(role) => server.role == *role,
        Party::Servers => true,
        Party::Internet | Party::Appliances => false,
    }
}

/// The other end of a flow, as the operand of `ip saddr` or `ip daddr`.
fn peers(plan: &Plan, server: &Server, party: &Party) -> Option<String> {
    match party {
        // Whoever is none of us. Forged addresses of ours are stopped by the appliances.
        Party::Internet => {
            let inside: Vec<Ipv4Net> = (plan.networks.iter())
                .filter(|network| network.port == Port::Lan)
                .map(|network| network.subnet)
                .collect();
            Some(format!("!= {}", set(&inside)))
        }
        Party::Role(_) | Party::Servers => {
            let others: Vec<Ipv4Addr> = (plan.servers.iter())
                .filter(|other| other.name != server.name && is_one_of(other, party))
                .map(|other| other.address)
                .collect();
            (!others.is_empty()).then(|| set(&others))
        }
        // An appliance talks to a server from its own leg in the server's network.
        Party::Appliances => {
            let legs: Vec<Ipv4Addr> = (plan.appliances.iter())
                .flat_map(|appliance| &appliance.legs)
                .filter(|leg| leg.network == server.network)
                .map(|leg| leg.address)
                .collect();
            (!legs.is_empty()).then(|| set(&legs))
        }
    }
}

fn set<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", items.join(", "))
}

fn matches(flow: &Flow, own: Ipv4Addr, peers: &str, incoming: bool) -> String {
    let addresses = if incoming {
        format!("ip saddr {peers} ip daddr {own}")
    } else {
        format!("ip saddr {own} ip daddr {peers}")
    };
    let port = flow.port;
    match flow.protocol {
        // Only a SYN begins a connection.
        Transport::Tcp => {
            format!("{addresses} tcp dport {port} tcp flags & (fin | syn | rst | ack) == syn")
        }
        Transport::Udp => format!("{addresses} udp dport {port}"),
        Transport::Ping => format!("{addresses} icmp type echo-request"),
    }
}
