//! Why an appliance does with a packet what it does, in the words of the site file.

use std::net::IpAddr;

use filter::Drop;
use policy::{Balance, Config, Nat, Server, Service, Transport};
use wire::icmp::Problem;

use crate::device::Moment;
use crate::gate::{self, Gate};
use crate::packet::{Packet, protocol};

/// The service that a packet asks for.
pub fn service<'c>(config: &'c Config, packet: &Packet) -> Option<&'c Service> {
    config.services.iter().find(|service| {
        number(service.transport) == packet.protocol
            && (service.address, service.port) == (packet.destination, packet.destination_port)
    })
}

/// That a service chose a server, and how.
pub fn choice(service: &Service, chosen: &Server, moment: &Moment) -> String {
    let is_sorry = !service
        .servers
        .iter()
        .any(|server| server.name == chosen.name);
    if is_sorry || service.sorry.as_ref() == Some(chosen) {
        return format!(
            "service `{}` has no quorum ({}): its sorry server {} answers",
            service.name,
            servers(service, moment),
            chosen.name
        );
    }
    let how = match service.balance {
        Balance::Failover => "the first healthy one",
        Balance::RoundRobin => "in turn",
        Balance::LeastConnections => "the one with the fewest flows",
        Balance::SourceHash => "by the client's address",
        Balance::Maglev => "by the client's address and port",
    };
    format!(
        "service `{}` chooses {} (of {}; {how})",
        service.name,
        chosen.name,
        servers(service, moment)
    )
}

/// What translated the destination of a packet that asked for no service.
pub fn forwarding(config: &Config, packet: &Packet) -> &'static str {
    let forwarded = config.nat.iter().any(|nat| match *nat {
        Nat::Destination { address, .. } => address == packet.destination,
        Nat::Source { .. } | Nat::Prefix6 { .. } => false,
    });
    match forwarded {
        true => "port forwarding: ",
        false => "prefix translation: ",
    }
}

/// An ICMP error's name.
pub const fn problem(problem: Problem) -> &'static str {
    match problem {
        Problem::HopLimit => "time exceeded",
        Problem::NoRoute => "no route to destination",
        Problem::HostUnreachable => "host unreachable",
        Problem::PortUnreachable => "port unreachable",
        Problem::Prohibited => "administratively prohibited",
        Problem::TooBig { .. } => "packet too big",
    }
}

/// What a person has to know about a drop besides its name.
pub fn drop(
    reason: Drop,
    gate: &Gate<'_>,
    leg: u8,
    packet: &Packet,
    moment: &Moment,
) -> Option<String> {
    let config = &gate.appliance.config;
    match reason {
        Drop::Martian => Some(martian(config, packet)),
        Drop::ReversePath => Some(reverse_path(gate, leg, packet.source)),
        Drop::NotForUs => Some(offered(config, packet)),
        Drop::NoHealthyServer | Drop::ServersFull => service(config, packet).map(|service| {
            let sorry = match &service.sorry {
                Some(_) => "",
                None => ", and it has no sorry server",
            };
            format!(
                "service `{}` needs {} healthy of {}{sorry}",
                service.name,
                service.quorum.max(1),
                servers(service, moment)
            )
        }),
        Drop::SynCookie => Some(format!(
            "more than {} connections are half-open: the client has to come back with a cookie",
            config.protection.syn_cookies_above
        )),
        other => WORDS
            .iter()
            .find(|(known, _)| *known == other)
            .map(|(_, words)| (*words).to_owned()),
    }
}

/// What is the same for every packet.
const WORDS: [(Drop, &str); 8] = [
    (
        Drop::NoFlow,
        "knows no flow with these addresses and ports, and only a SYN opens one",
    ),
    (
        Drop::IcmpUnrelated,
        "lets errors and echo replies pass only with a flow that it knows",
    ),
    (
        Drop::IcmpType,
        "lets pings pass by its rules and errors with their flows, and no other ICMP",
    ),
    (
        Drop::TcpFlags,
        "knows that no TCP sends these flags together",
    ),
    (
        Drop::Land,
        "sees the same address as source and destination",
    ),
    (Drop::Transport, "finds a port 0, or a header cut short"),
    (
        Drop::Untranslatable,
        "has no counterpart for the address in the other prefix",
    ),
    (Drop::NoPort, "has no free port left for the new source"),
];

/// A service's servers, and what keeps some from getting flows.
fn servers(service: &Service, moment: &Moment) -> String {
    let among =
        |list: &[String], server: &Server| list.iter().any(|name| *name == server.name.as_str());
    let one = |server: &Server| {
        let state = if among(&moment.down, server) {
            " (down)"
        } else if server.weight == 0 || among(&moment.drained, server) {
            " (drained)"
        } else {
            ""
        };
        format!("{}{state}", server.name)
    };
    let list: Vec<String> = service.servers.iter().map(one).collect();
    list.join(", ")
}

fn martian(config: &Config, packet: &Packet) -> String {
    let own = |address: IpAddr| gate::addresses(config).any(|own| own == address);
    let edge = |address: IpAddr| {
        gate::subnets(config)
            .find(|(_, subnet)| {
                gate::edges(*subnet)
                    .iter()
                    .any(|edge| edge.contains(address))
            })
            .map(|(leg, _)| config.interfaces[usize::from(leg)].name.as_str())
    };
    let ends = [
        ("source", packet.source),
        ("destination", packet.destination),
    ];
    for (end, address) in ends {
        if gate::special().any(|prefix| prefix.contains(address)) {
            return format!("{end} {address} is of a range that no router forwards");
        }
        if let Some(network) = edge(address) {
            return format!("{end} {address} is {network}'s network address or broadcast");
        }
        if end == "source" && own(address) {
            return format!("{end} {address} is an address of the appliances");
        }
    }
    "an address must not be on this wire".to_owned()
}

fn reverse_path(gate: &Gate<'_>, leg: u8, source: IpAddr) -> String {
    let config = &gate.appliance.config;
    match gate.leg_to(source) {
        Some(back) if back == leg => {
            "the flow with these addresses and ports came from another network".to_owned()
        }
        Some(back) => format!(
            "answers to {source} would go to {}",
            config.interfaces[usize::from(back)].name
        ),
        None => format!("answers to {source} would go to nowhere"),
    }
}

/// What there is at an address of the appliance.
fn offered(config: &Config, packet: &Packet) -> String {
    let address = packet.destination;
    let services = (config.services.iter())
        .filter(|service| service.address == address)
        .map(|service| {
            let transport = transport(service.transport);
            format!("{transport} {} (service `{}`)", service.port, service.name)
        });
    let forwarded = config.nat.iter().filter_map(|nat| match *nat {
        Nat::Destination {
            transport: of,
            address: at,
            first,
            last,
            ..
        } if at == address => Some(match first == last {
            true => format!("{} {first} (forwarded)", transport(of)),
            false => format!("{} {first}-{last} (forwarded)", transport(of)),
        }),
        Nat::Destination { .. } | Nat::Source { .. } | Nat::Prefix6 { .. } => None,
    });
    let list: Vec<String> = services.chain(forwarded).collect();
    match list.is_empty() {
        true => format!("offers nothing but pings at {address}"),
        false => format!("offers at {address}: {}", list.join(", ")),
    }
}

const fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => protocol::TCP,
        Transport::Udp => protocol::UDP,
    }
}

const fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}
