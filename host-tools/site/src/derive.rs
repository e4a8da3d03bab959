//! From a checked file to the plan: legs, MAC addresses, flows and services.

use crate::{
    app, authority,
    boards::{Board, Boards},
    database,
    error::Problem,
    events,
    file::{self, SiteFile},
    flow, http, monitoring, nat, nginx,
    plan::{Appliance, Flow, Leg, Network, Party, Plan, Port, Role, Server, Traffic, ports},
    read::At,
    service, ssh,
    traffic::{host_address, host_address6},
    version6, vrrp,
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
        .map(|(name, n)| network(file, name.get_ref(), n))
        .collect();
    let mut appliances = Vec::new();
    let mut foreign = Vec::new();
    for (own, appliance) in &file.appliances.entries {
        if appliance.is_foreign() {
            foreign.push(vrrp::foreign(own.get_ref(), appliance, &networks));
            continue;
        }
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
            address6: version6::server(file, server),
            mac: mac(&name, own.get_ref(), 0),
        });
    }
    let services = service::services(file, &networks, &servers);
    let mut flows = Vec::new();
    for written in &file.flows {
        flows.push(
            written
                .flow(file)
                .ok_or_else(|| absent("a party of a flow"))?,
        );
    }
    flows.extend(nat::flows(file, &networks));
    flows.extend(
        services
            .iter()
            .flat_map(|service| service::flows(file, service)),
    );
    let events = events::events(file);
    flows.extend(roles_flows());
    flows.extend(http::flows(file));
    flows.extend(events::flows(&events));
    let database = database::database(file);
    flows.extend(database::flows(&database));
    flows.extend(monitoring::flows(file, &services));
    flows.extend(ssh::flows(file));
    flows.extend(updates(&networks, &servers));
    let mut plan = Plan {
        domain: file.domain.clone().ok_or_else(|| absent("`domain`"))?,
        certificate: authority::site_certificate(file),
        vrrp: vrrp::settings(file).ok_or_else(|| absent("`advertisement_interval`"))?,
        pair: vrrp::pair(file),
        tracks: vrrp::tracks(file),
        foreign,
        name,
        networks,
        appliances,
        servers,
        database,
        sets: flow::sets(file),
        flows,
        services,
        nat: Vec::new(),
        protection: file.protection,
        http: http::settings(file),
        nginx: nginx::settings(file),
        app: app::settings(file),
        ssh: ssh::settings(file),
        authorities: authority::authorities(file),
        events,
        monitoring: monitoring::settings(file),
    };
    plan.nat = nat::translations(file, &plan);
    plan.nat.extend(monitoring::translation(&plan));
    Ok(plan)
}

fn network(file: &SiteFile, name: &str, network: &file::Network) -> Network {
    let (virtual_address, virtual6) = (
        network.router.v4.first().map(|address| *address.get_ref()),
        version6::virtual_address(network),
    );
    Network {
        name: name.to_owned(),
        port: *network.port.get_ref(),
        subnet: *network.subnet.get_ref(),
        vlan: network.vlan.as_ref().map(|vlan| vlan.get_ref().0),
        vrid: network.router.vrid.get_ref().0,
        // There is always one: the list is not empty.
        virtual_address: virtual_address.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED),
        uplink: network.uplink.as_ref().map(|uplink| *uplink.get_ref()),
        subnet6: network.subnet6.as_ref().map(|subnet| *subnet.get_ref()),
        virtual6,
        uplink6: network.uplink6.as_ref().map(|uplink| *uplink.get_ref()),
        mtu: network
            .mtu
            .as_ref()
            .map_or(policy::MTU, |mtu| mtu.get_ref().0),
        routers: vrrp::routers(file, network, virtual6),
        neighbours: (network.neighbours.iter())
            .map(|address| *address.get_ref())
            .collect(),
    }
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
            address6: network.subnet6.map(|subnet| host_address6(subnet, host)),
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

/// The flows that the roles need among themselves.
fn roles_flows() -> Vec<Flow> {
    let tcp = |name: &str, from, to, port, why| {
        flow::plain(name.to_owned(), from, to, Traffic::tcp(port), why)
    };
    let role = Party::Role;
    let (haproxy, nginx, app) = (role(Role::Haproxy), role(Role::Nginx), role(Role::App));
    let db = role(Role::Db);
    vec![
        tcp(
            "haproxy-nginx",
            haproxy,
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
    ]
}

/// Operators update servers from the network that the monitor is in.
fn updates(networks: &[Network], servers: &[Server]) -> Vec<Flow> {
    let monitor = servers.iter().find(|server| server.role == Role::Monitor);
    let network = networks
        .iter()
        .find(|network| monitor.is_some_and(|monitor| monitor.network == network.name));
    let subnets = network.iter().flat_map(|network| {
        let subnets = [Some(network.subnet.into()), network.subnet6.map(Into::into)];
        subnets.into_iter().flatten()
    });
    let flow = |subnet: ipnet::IpNet| {
        flow::plain(
            UPDATES.to_owned(),
            Party::Address(subnet.trunc()),
            Party::Servers,
            Traffic::tcp(ports::UPDATE),
            "operators update servers",
        )
    };
    subnets.map(flow).collect()
}

const UPDATES: &str = "operator-updates";

/// Whether a flow of this name exists without being asked for, so that `[[flows]]` must not take it.
pub(crate) fn is_derived_flow(file: &SiteFile, name: &str) -> bool {
    service::has_flow(file, name)
        || nat::has_flow(file, name)
        || (events::flows(&events::events(file)).iter())
            .chain(&roles_flows())
            .any(|flow| flow.name == name)
        || database::has_flow(name)
        || [http::PEERS, ssh::FLOW].contains(&name)
        || monitoring::NAMES.contains(&name)
        || name == UPDATES
}

/// Reports a name that cannot be one.
pub(crate) fn bad_name(name: &At<String>, fault: String) -> Problem {
    Problem::new(
        "site::bad_name",
        format!("`{}` cannot be a name", name.get_ref()),
    )
    .at(name.span(), fault)
    .help("use 1 to 31 lower-case letters, digits and hyphens, a letter first")
}

/// The role of this name.
pub(crate) fn role(name: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.name() == name)
}
