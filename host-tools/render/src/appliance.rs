//! What one appliance does: the plan compiled to the configuration language of the firmware.

use std::net::Ipv4Addr;

use heapless::Vec as Bounded;
use site::Plan;
use site::plan::{Appliance, Flow, Leg, Network, Party, Port, Role, Transport};

use crate::RenderError;

/// How servers of a public service are checked. A refused connection counts at once, so a stopped
/// daemon is noticed within three seconds; a busy machine has nearly a second to answer.
const CHECK_INTERVAL_MS: u16 = 1000;
const CHECK_TIMEOUT_MS: u16 = 900;
const CHECK_RISE: u8 = 2;
const CHECK_FALL: u8 = 3;

/// How far an appliance without tracked neighbours falls below the weakest of its healthy peers.
const TRACK_MARGIN: u8 = 10;

/// Compiles the configuration of the appliance called `name`.
pub fn config(plan: &Plan, name: &str) -> Result<policy::Config, RenderError> {
    let appliance = plan
        .appliances
        .iter()
        .find(|appliance| appliance.name == name)
        .ok_or_else(|| RenderError::NoSuchAppliance(name.to_owned()))?;
    let interfaces = (appliance.legs.iter())
        .map(|leg| interface(plan, appliance, leg))
        .collect::<Result<Vec<_>, RenderError>>()?;
    let services = plan
        .services
        .iter()
        .map(|service| self::service(plan, service));
    let config = policy::Config {
        name: short(name)?,
        interfaces: bounded("networks on one appliance", interfaces)?,
        default_route: plan.networks.iter().find_map(|network| network.uplink),
        rules: bounded("filter rules", rules(plan, appliance)?)?,
        services: bounded(
            "services",
            services.collect::<Result<Vec<_>, RenderError>>()?,
        )?,
        ..policy::Config::default()
    };
    // The device would refuse it; better that we say so now.
    config.validate().map_err(|cause| RenderError::Refused {
        name: name.to_owned(),
        cause,
    })?;
    Ok(config)
}

fn interface(
    plan: &Plan,
    appliance: &Appliance,
    leg: &Leg,
) -> Result<policy::Interface, RenderError> {
    let network = crate::network(plan, &appliance.name, &leg.network)?;
    let track = tracked(plan, network);
    let decisive = network.port == Port::Wan
        || plan.servers.iter().any(|server| {
            server.network == network.name
                && plan
                    .services
                    .iter()
                    .any(|service| service.role == server.role)
        });
    Ok(policy::Interface {
        name: short(&network.name)?,
        port: leg.port,
        vlan: leg.vlan,
        mac: leg.mac,
        address: leg.address,
        prefix: network.subnet.prefix_len(),
        address6: None,
        mtu: policy::MTU,
        router: Some(policy::VirtualRouter {
            vrid: network.vrid,
            priority: appliance.priority,
            advertisement_interval: plan.vrrp.advertisement_interval,
            preempt: plan.vrrp.preempt,
            addresses: bounded("virtual addresses", [network.virtual_address])?,
            addresses6: Bounded::new(),
        }),
        track_weight: if decisive && !track.is_empty() {
            track_weight(plan, appliance)
        } else {
            0
        },
        track: bounded("tracked neighbours", track)?,
    })
}

/// The neighbours whose silence means that this leg leads nowhere: the provider's router on wan, the
/// first few servers elsewhere.
fn tracked(plan: &Plan, network: &Network) -> Vec<Ipv4Addr> {
    if let Some(uplink) = network.uplink {
        return vec![uplink];
    }
    (plan.servers.iter())
        .filter(|server| server.network == network.name)
        .map(|server| server.address)
        .take(policy::MAX_TRACKED)
        .collect()
}

/// Enough that an appliance whose users or service servers are out of reach ranks below every healthy
/// one. If all are cut off alike they all fall by it, and their order stays.
fn track_weight(plan: &Plan, appliance: &Appliance) -> u8 {
    let priorities = || plan.appliances.iter().map(|appliance| appliance.priority);
    let spread = priorities()
        .max()
        .unwrap_or(0)
        .saturating_sub(priorities().min().unwrap_or(0));
    spread
        .saturating_add(TRACK_MARGIN)
        .min(appliance.priority.saturating_sub(1))
}

fn service(plan: &Plan, service: &site::plan::Service) -> Result<policy::Service, RenderError> {
    let servers = (plan
        .servers
        .iter()
        .filter(|server| server.role == service.role))
    .map(|server| {
        Ok(policy::Server {
            name: short(&server.name)?,
            address: server.address.into(),
            port: service.server_port,
            ..policy::Server::default()
        })
    })
    .collect::<Result<Vec<_>, RenderError>>()?;
    Ok(policy::Service {
        name: short(&service.name)?,
        address: service.address.into(),
        port: service.port,
        servers: bounded("servers behind one service", servers)?,
        check: policy::Check {
            port: service.server_port,
            interval_ms: CHECK_INTERVAL_MS,
            timeout_ms: CHECK_TIMEOUT_MS,
            rise: CHECK_RISE,
            fall: CHECK_FALL,
            ..policy::Check::default()
        },
        ..policy::Service::default()
    })
}

/// Where packets of one end of a flow come in or go out, and which addresses they carry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct End {
    interface: u8,
    prefix: policy::Prefix,
}

fn rules(plan: &Plan, appliance: &Appliance) -> Result<Vec<policy::Rule>, RenderError> {
    let mut rules = Vec::new();
    for flow in &plan.flows {
        let sources = ends(plan, appliance, &flow.from)?;
        let destinations = ends(plan, appliance, &flow.to)?;
        for source in &sources {
            for destination in &destinations {
                // Neighbours talk directly: their packets never reach an appliance.
                if source.interface != destination.interface {
                    rules.push(rule(flow, *source, *destination)?);
                }
            }
        }
    }
    Ok(rules)
}

fn rule(flow: &Flow, source: End, destination: End) -> Result<policy::Rule, RenderError> {
    Ok(policy::Rule {
        name: short(&flow.name)?,
        from: Some(source.interface),
        to: Some(destination.interface),
        source: source.prefix,
        destination: destination.prefix,
        protocol: match flow.protocol {
            Transport::Tcp => policy::Protocol::Tcp {
                first: flow.port,
                last: flow.port,
            },
            Transport::Udp => policy::Protocol::Udp {
                first: flow.port,
                last: flow.port,
            },
            Transport::Ping => policy::Protocol::Ping,
        },
        action: policy::Action::Accept,
    })
}

/// The ends that a party stands for. Rules are about forwarded packets, so the appliances' own
/// packets (health checks, answers to pings) need none and give an empty list.
fn ends(plan: &Plan, appliance: &Appliance, party: &Party) -> Result<Vec<End>, RenderError> {
    match party {
        Party::Internet => Ok((plan.networks.iter())
            .filter(|network| network.port == Port::Wan)
            .filter_map(|network| leg_to(appliance, &network.name))
            .map(|interface| End {
                interface,
                prefix: policy::Prefix {
                    address: Ipv4Addr::UNSPECIFIED,
                    length: 0,
                },
            })
            .collect()),
        Party::Role(role) => servers(plan, appliance, |of| of == *role),
        Party::Servers => servers(plan, appliance, |_| true),
        Party::Appliances => Ok(Vec::new()),
    }
}

fn servers(
    plan: &Plan,
    appliance: &Appliance,
    wanted: impl Fn(Role) -> bool,
) -> Result<Vec<End>, RenderError> {
    (plan.servers.iter())
        .filter(|server| wanted(server.role))
        .map(|server| {
            let interface =
                leg_to(appliance, &server.network).ok_or_else(|| RenderError::NoSuchNetwork {
                    of: server.name.clone(),
                    network: server.network.clone(),
                })?;
            Ok(End {
                interface,
                prefix: policy::Prefix {
                    address: server.address,
                    length: 32,
                },
            })
        })
        .collect()
}

fn leg_to(appliance: &Appliance, network: &str) -> Option<u8> {
    let index = appliance
        .legs
        .iter()
        .position(|leg| leg.network == network)?;
    u8::try_from(index).ok()
}

fn short(name: &str) -> Result<policy::Name, RenderError> {
    let mut short = policy::Name::new();
    short.push_str(name).map_err(|_| RenderError::NameTooLong {
        name: name.to_owned(),
        have: name.len(),
        room: short.capacity(),
    })?;
    Ok(short)
}

fn bounded<T, const N: usize>(
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
