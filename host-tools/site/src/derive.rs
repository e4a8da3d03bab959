//! From a checked file to the plan: legs, MAC addresses, flows and services.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::{
    boards::{Board, Boards},
    error::Problem,
    file::{self, SiteFile},
    plan::{
        Appliance, Flow, Leg, Network, Party, Plan, Port, Role, Server, Service, Transport, Vrrp,
        ports,
    },
};

/// Completes the plan of a file without problems.
pub(crate) fn plan(file: &SiteFile, boards: &Boards) -> Result<Plan, Problem> {
    // `check` has reported every absence, so that these are never hit from `parse`.
    let absent =
        |what: &str| Problem::new("site::missing_key", format!("the site file lacks {what}"));
    let name = file.name.clone().ok_or_else(|| absent("`name`"))?;
    let networks: Vec<Network> = file
        .networks
        .entries
        .iter()
        .map(|(name, n)| network(name.get_ref(), n))
        .collect();
    let mut appliances = Vec::new();
    for (own, appliance) in &file.appliances.entries {
        let board = boards
            .get(appliance.board.get_ref())
            .ok_or_else(|| absent("a known board"))?;
        appliances.push(Appliance {
            name: own.get_ref().clone(),
            board: board.name.clone(),
            priority: appliance.priority.get_ref().0,
            legs: legs(
                &name,
                own.get_ref(),
                board,
                appliance.host.get_ref().0,
                &networks,
            ),
        });
    }
    let mut servers = Vec::new();
    for (own, server) in &file.servers.entries {
        servers.push(Server {
            name: own.get_ref().clone(),
            role: role(server.role.get_ref()).ok_or_else(|| absent("a known role"))?,
            network: server.network.get_ref().clone(),
            address: *server.address.get_ref(),
            mac: mac(&name, own.get_ref(), 0),
        });
    }
    let wan = networks.iter().find(|network| network.port == Port::Wan);
    let services = public_services(wan.ok_or_else(|| absent("a wan network"))?.virtual_address);
    let mut flows = derived_flows(&services);
    for extra in &file.flows {
        flows.push(extra_flow(extra).ok_or_else(|| absent("a party of a flow"))?);
    }
    Ok(Plan {
        domain: file.domain.clone().ok_or_else(|| absent("`domain`"))?,
        vrrp: Vrrp {
            advertisement_interval: file
                .interval
                .ok_or_else(|| absent("`advertisement_interval`"))?,
            preempt: file.preempt.ok_or_else(|| absent("`preempt`"))?,
        },
        name,
        networks,
        appliances,
        servers,
        flows,
        services,
    })
}

fn network(name: &str, network: &file::Network) -> Network {
    Network {
        name: name.to_owned(),
        port: *network.port.get_ref(),
        subnet: *network.subnet.get_ref(),
        vlan: network.vlan.as_ref().map(|vlan| vlan.get_ref().0),
        vrid: network.vrid.get_ref().0,
        virtual_address: *network.virtual_address.get_ref(),
        uplink: network.uplink.as_ref().map(|uplink| *uplink.get_ref()),
    }
}

/// The address at position `host` of a subnet.
pub(crate) fn host_address(subnet: Ipv4Net, host: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits().wrapping_add(host))
}

fn legs(site: &str, appliance: &str, board: &Board, host: u32, networks: &[Network]) -> Vec<Leg> {
    let port_of = |port: Port| match (board.is_trunk(), port) {
        (true, Port::Wan | Port::Lan) | (false, Port::Wan) => 0,
        (false, Port::Lan) => 1,
    };
    let alone = |port: u8| {
        networks
            .iter()
            .filter(|other| port_of(other.port) == port)
            .count()
            == 1
    };
    let leg = |network: &Network| {
        let port = port_of(network.port);
        Leg {
            network: network.name.clone(),
            port,
            vlan: if alone(port) { None } else { network.vlan },
            mac: mac(site, appliance, port),
            address: host_address(network.subnet, host),
        }
    };
    networks.iter().map(leg).collect()
}

/// A locally administered unicast address: 02 and 40 bits of FNV-1a over site, machine and port.
pub(crate) fn mac(site: &str, machine: &str, port: u8) -> [u8; 6] {
    let bytes = site
        .bytes()
        .chain([0])
        .chain(machine.bytes())
        .chain([0, port]);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = (hash ^ hash >> 40).to_le_bytes();
    [0x02, a, b, c, d, e]
}

/// What users reach on the virtual address of the wan network.
fn public_services(address: Ipv4Addr) -> Vec<Service> {
    let service = |name: &str, port| Service {
        name: name.to_owned(),
        address,
        port,
        role: Role::Haproxy,
        server_port: port,
    };
    vec![service("https", ports::HTTPS), service("http", ports::HTTP)]
}

/// The flows that the roles need, and no other.
fn derived_flows(services: &[Service]) -> Vec<Flow> {
    let tcp = |name: &str, from, to, port, why: &str| Flow {
        name: name.to_owned(),
        from,
        to,
        protocol: Transport::Tcp,
        port,
        why: why.to_owned(),
    };
    let role = Party::Role;
    let mut flows = Vec::new();
    for service in services {
        let (name, to, port) = (&service.name, role(service.role), service.server_port);
        flows.push(tcp(
            &format!("internet-{name}"),
            Party::Internet,
            to.clone(),
            port,
            "users reach the site",
        ));
        let why = "the appliances send users only to a balancer that answers";
        flows.push(tcp(
            &format!("check-{name}"),
            Party::Appliances,
            to,
            port,
            why,
        ));
    }
    let (haproxy, nginx, app) = (role(Role::Haproxy), role(Role::Nginx), role(Role::App));
    let (db, monitor) = (role(Role::Db), role(Role::Monitor));
    flows.extend([
        tcp(
            "haproxy-nginx",
            haproxy.clone(),
            nginx.clone(),
            ports::NGINX,
            "the balancer passes requests on",
        ),
        tcp(
            "nginx-app",
            nginx,
            app.clone(),
            ports::APP,
            "the reverse proxy asks the app",
        ),
        tcp(
            "app-db",
            app,
            db,
            ports::DB,
            "the app keeps its data in the database",
        ),
        tcp(
            "monitor-nodes",
            monitor.clone(),
            Party::Servers,
            ports::NODE_EXPORTER,
            "the monitor watches every server",
        ),
        tcp(
            "monitor-haproxy",
            monitor,
            haproxy,
            ports::HAPROXY_METRICS,
            "the monitor reads the balancers' figures",
        ),
    ]);
    flows
}

/// Whether the roles bring along a flow of this name, so that `[[flows]]` must not take it.
pub(crate) fn is_derived_flow(name: &str) -> bool {
    let services = public_services(Ipv4Addr::UNSPECIFIED);
    derived_flows(&services)
        .iter()
        .any(|flow| flow.name == name)
}

fn extra_flow(flow: &file::Flow) -> Option<Flow> {
    Some(Flow {
        name: flow.name.get_ref().0.clone(),
        from: party(flow.from.get_ref())?,
        to: party(flow.to.get_ref())?,
        protocol: *flow.protocol.get_ref(),
        port: flow.port.as_ref().map_or(0, |port| port.get_ref().0),
        why: flow.why.get_ref().clone(),
    })
}

/// The role of this name.
pub(crate) fn role(name: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.name() == name)
}

/// The party of this name.
pub(crate) fn party(name: &str) -> Option<Party> {
    match name {
        "internet" => Some(Party::Internet),
        "servers" => Some(Party::Servers),
        "appliances" => Some(Party::Appliances),
        other => role(other).map(Party::Role),
    }
}
