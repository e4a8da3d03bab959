//! What one appliance does: the plan compiled to the configuration language of the firmware.

use std::net::IpAddr;

use heapless::Vec as Bounded;
use policy::rule::Rule;
use site::Plan;
use site::plan::{Appliance, Leg, Nat, Network};

use crate::{RenderError, availability, rules};

/// Compiles the configuration of the appliance called `name`.
pub fn config(plan: &Plan, name: &str) -> Result<policy::Config, RenderError> {
    policy(plan, name).map(|(config, _)| config)
}

/// Compiles the configuration of the appliance called `name`, and the rules that go with it.
pub fn policy(plan: &Plan, name: &str) -> Result<(policy::Config, Vec<Rule>), RenderError> {
    let appliance = plan
        .appliances
        .iter()
        .find(|appliance| appliance.name == name)
        .ok_or_else(|| RenderError::NoSuchAppliance(name.to_owned()))?;
    let interfaces = (appliance.legs.iter())
        .map(|leg| interface(plan, appliance, leg))
        .collect::<Result<Vec<_>, RenderError>>()?;
    let services = (plan.services.iter())
        .map(|service| services(plan, service))
        .collect::<Result<Vec<_>, RenderError>>()?;
    let nat = (plan.nat.iter())
        .map(|entry| nat(plan, appliance, entry))
        .collect::<Result<Vec<_>, RenderError>>()?;
    let (rules, limits) = rules::rules(plan, appliance)?;
    let mut config = policy::Config {
        name: short(name)?,
        interfaces: bounded("networks on one appliance", interfaces)?,
        routers: availability::routers(plan, appliance)?,
        availability: availability::availability(plan, appliance)?,
        default_route: plan.networks.iter().find_map(|network| network.uplink),
        default_route6: plan.networks.iter().find_map(|network| network.uplink6),
        services: bounded("services", services.concat())?,
        nat: bounded("translations", nat.concat())?,
        limits: bounded("limits of flows", limits)?,
        protection: plan.protection,
        // Authorities that have signed nothing, at the beginning of time: who builds knows the true ones.
        anchors: bounded(
            "authorities",
            vec![policy::Anchor::default(); plan.authorities.len()],
        )?,
        made: u64::from(!plan.authorities.is_empty()),
        events: events(plan)?,
    };
    let fingerprint = availability::fingerprint(plan, &config, &rules);
    if let Some(pair) = &mut config.availability.pair {
        pair.fingerprint = fingerprint;
    }
    // The device would refuse it; better that we say so now.
    config.validate().map_err(|cause| RenderError::Refused {
        name: name.to_owned(),
        cause,
    })?;
    Ok((config, rules))
}

/// Who is told what happens. The community is filled in by who builds.
fn events(plan: &Plan) -> Result<policy::Events, RenderError> {
    let all = |of: &[site::plan::Collector]| {
        let collector = |one: &site::plan::Collector| policy::Collector {
            address: one.address,
            port: one.port,
        };
        bounded("collectors of events", of.iter().map(collector))
    };
    let events = &plan.events;
    Ok(policy::Events {
        syslog: all(&events.syslog)?,
        snmp: all(&events.snmp)?,
        community: match events.community {
            Some(_) => heapless::String::try_from("-").unwrap_or_default(),
            None => heapless::String::new(),
        },
        severity: events.severity,
    })
}

fn interface(
    plan: &Plan,
    appliance: &Appliance,
    leg: &Leg,
) -> Result<policy::Interface, RenderError> {
    let network = crate::network(plan, &appliance.name, &leg.network)?;
    Ok(policy::Interface {
        name: short(&network.name)?,
        port: leg.port,
        vlan: leg.vlan,
        mac: leg.mac,
        address: leg.address,
        prefix: network.subnet.prefix_len(),
        address6: leg
            .address6
            .zip(network.subnet6)
            .map(|(address, subnet)| policy::Interface6 {
                address,
                prefix: subnet.prefix_len(),
            }),
        mtu: network.mtu,
        track: bounded(
            "tracked neighbours",
            availability::neighbours(plan, network),
        )?,
    })
}

/// A service on each version of IP that it has: what a device calls a service has one address.
fn services(
    plan: &Plan,
    service: &site::plan::Service,
) -> Result<Vec<policy::Service>, RenderError> {
    let v4 = |server: &site::plan::Server| Some(IpAddr::V4(server.address));
    let v6 = |server: &site::plan::Server| server.address6.map(IpAddr::V6);
    let mut services = vec![versioned(plan, service, service.address.into(), &v4)?];
    if let Some(address) = service.address6 {
        let on_v6 = versioned(plan, service, address.into(), &v6)?;
        if !on_v6.servers.is_empty() {
            services.push(policy::Service {
                name: short(&format!("{}6", service.name))?,
                ..on_v6
            });
        }
    }
    Ok(services)
}

/// Whether a service is a second one on IPv6.
pub(crate) fn has_version6(plan: &Plan, service: &site::plan::Service) -> bool {
    let has = |member: &site::plan::Member| {
        plan.server(&member.server)
            .is_some_and(|server| server.address6.is_some())
    };
    service.address6.is_some() && service.servers.iter().any(has)
}

fn versioned(
    plan: &Plan,
    service: &site::plan::Service,
    address: IpAddr,
    address_of: &dyn Fn(&site::plan::Server) -> Option<IpAddr>,
) -> Result<policy::Service, RenderError> {
    let find = |name: &str| {
        plan.server(name).ok_or_else(|| RenderError::NoSuchServer {
            of: service.name.clone(),
            server: name.to_owned(),
        })
    };
    let mut servers = Vec::new();
    for member in &service.servers {
        if let Some(address) = address_of(find(&member.server)?) {
            servers.push(policy::Server {
                name: short(&member.server)?,
                address,
                port: service.server_port,
                weight: member.weight,
                max_flows: member.max_flows,
            });
        }
    }
    let sorry = match &service.sorry {
        Some(sorry) => address_of(find(&sorry.server)?)
            .map(|address| {
                Ok::<_, RenderError>(policy::Server {
                    name: short(&sorry.server)?,
                    address,
                    port: sorry.port,
                    ..policy::Server::default()
                })
            })
            .transpose()?,
        None => None,
    };
    let have = u8::try_from(servers.len()).unwrap_or(u8::MAX);
    Ok(policy::Service {
        name: short(&service.name)?,
        address,
        port: service.port,
        transport: service.transport,
        forwarding: service.forwarding,
        balance: service.balance,
        persistence: service.persistence.map(|persistence| policy::Persistence {
            prefix: match address {
                IpAddr::V4(_) => persistence.prefix,
                IpAddr::V6(_) => persistence.prefix6,
            },
            seconds: persistence.seconds,
        }),
        // Not every server has to have both versions.
        quorum: service.quorum.min(have.max(1)),
        servers: bounded("servers behind one service", servers)?,
        sorry,
        slow_start: service.slow_start,
        check: service.check.clone(),
        agent: service.agent,
    })
}

/// What one entry of the site becomes: a prefix or version of IP each.
fn nat(plan: &Plan, appliance: &Appliance, nat: &Nat) -> Result<Vec<policy::Nat>, RenderError> {
    match nat {
        Nat::Masquerade {
            name,
            sources,
            network,
            ports,
        } => {
            let (to, network) = leg(plan, appliance, name, network)?;
            let entry = |source: &ipnet::Ipv4Net| policy::Nat::Source {
                source: policy::Prefix::of(source.addr(), source.prefix_len()),
                to,
                address: network.virtual_address,
                first: ports.first,
                last: ports.last,
            };
            Ok(sources.iter().map(entry).collect())
        }
        Nat::Forward {
            name,
            transport,
            network,
            ports,
            server,
            server_port,
        } => {
            let (_, network) = leg(plan, appliance, name, network)?;
            let server = plan
                .server(server)
                .ok_or_else(|| RenderError::NoSuchServer {
                    of: name.clone(),
                    server: server.clone(),
                })?;
            let entry = |address: IpAddr, server: IpAddr| policy::Nat::Destination {
                transport: *transport,
                address,
                first: ports.first,
                last: ports.last,
                server,
                server_port: *server_port,
            };
            let v6 = network.virtual6.zip(server.address6);
            let v4 = entry(network.virtual_address.into(), server.address.into());
            Ok([Some(v4), v6.map(|(a, b)| entry(a.into(), b.into()))]
                .into_iter()
                .flatten()
                .collect())
        }
        Nat::Prefix6 {
            name,
            network,
            inside,
            outside,
        } => {
            let (to, _) = leg(plan, appliance, name, network)?;
            let prefix = |net: &ipnet::Ipv6Net| policy::Prefix6::of(net.addr(), net.prefix_len());
            Ok(vec![policy::Nat::Prefix6 {
                to,
                inside: prefix(inside),
                outside: prefix(outside),
            }])
        }
    }
}

fn leg<'a>(
    plan: &'a Plan,
    appliance: &Appliance,
    of: &str,
    network: &str,
) -> Result<(u8, &'a Network), RenderError> {
    let index = (appliance.legs.iter()).position(|leg| leg.network == network);
    let index = index.and_then(|index| u8::try_from(index).ok());
    let network_there = crate::network(plan, of, network)?;
    index
        .map(|index| (index, network_there))
        .ok_or_else(|| RenderError::NoSuchNetwork {
            of: of.to_owned(),
            network: network.to_owned(),
        })
}

pub(crate) fn short(name: &str) -> Result<policy::Name, RenderError> {
    let mut short = policy::Name::new();
    short.push_str(name).map_err(|_| RenderError::NameTooLong {
        name: name.to_owned(),
        have: name.len(),
        room: short.capacity(),
    })?;
    Ok(short)
}

pub(crate) fn bounded<T, const N: usize>(
    what: &'static str,
    items: impl IntoIterator<Item = T>,
) -> Result<Bounded<T, N>, RenderError> {
    let mut need = 0;
    let mut bounded = Bounded::new();
    for item in items {
        need += 1;
        let _ = bounded.push(item); // counted: the error below tells how many did not fit
    }
    if need > N {
        return Err(RenderError::TooMany {
            what,
            need,
            room: N,
        });
    }
    Ok(bounded)
}
