//! The example site as a world: its own site file, compiled as for the real appliances.

use std::net::Ipv4Addr;

use classifier::Policy;
use policy::Config;
use site::plan::{Plan, ports};

use crate::world::{HostId, NodeId, World};

/// What the two appliances are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boards {
    /// Both have a port for wan and one for lan.
    TwoPorts,
    /// Both have one port with everything tagged.
    Trunk,
    /// The stronger one has two ports, the other a trunk.
    Mixed,
}

/// The example site's appliances and hosts.
pub struct Rack {
    /// The world that they are in.
    pub world: World,
    /// The appliance of higher priority.
    pub gw1: NodeId,
    /// The other one.
    pub gw2: NodeId,
    /// The provider's router, which users are behind.
    pub uplink: HostId,
    /// Servers in the order of the site file: lb1, lb2, web1, web2, app1, app2, db1, mon1.
    pub servers: Vec<HostId>,
    plan: Plan,
}

/// A user's address, behind the provider's router.
pub const USER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

const SITE: &str = include_str!("../../../examples/foobar/site.toml");

fn plan(boards: Boards) -> Plan {
    let known = site::Boards::new([("zynq7000", 2), ("mps2-an500", 1)]);
    let (gw1, gw2) = match boards {
        Boards::TwoPorts => ("zynq7000", "zynq7000"),
        Boards::Trunk => ("mps2-an500", "mps2-an500"),
        Boards::Mixed => ("zynq7000", "mps2-an500"),
    };
    let mut text = String::new();
    for line in SITE.lines() {
        let board = match line.split_whitespace().next() {
            Some("gw1") => gw1,
            Some("gw2") => gw2,
            _ => "zynq7000",
        };
        text.push_str(&line.replace("zynq7000", board));
        text.push('\n');
    }
    site::parse("site.toml", &text, &known).expect("the example is valid")
}

/// The configuration of one of the example's appliances, `gw1` or `gw2`.
#[must_use]
pub fn config(boards: Boards, name: &str) -> Config {
    render::appliance::config(&plan(boards), name).expect("the example compiles")
}

/// What one of the example's appliances runs.
#[must_use]
pub fn policy(boards: Boards, name: &str) -> Policy<'static> {
    policy_of(&plan(boards), name)
}

fn policy_of(plan: &Plan, name: &str) -> Policy<'static> {
    let (config, rules) = render::appliance::policy(plan, name).expect("the example compiles");
    classifier::policy(config, &rules).expect("its rules compile")
}

impl Rack {
    /// Builds the rack, starts both appliances, and runs until one is Active and knows its servers.
    #[must_use]
    pub fn new(seed: u64, boards: Boards) -> Self {
        let plan = plan(boards);
        let mut world = World::new(seed);
        let wan = plan
            .networks
            .iter()
            .find(|n| n.uplink.is_some())
            .expect("a wan network");
        let wan_vlan = wan.vlan.expect("the example gives it one");
        let uplink = wan.uplink.expect("just found");
        // It routes to the servers' networks too, as a stranger who guesses them would.
        let guess = Some(wan.virtual_address);
        let uplink = world.host(wan_vlan, &[(uplink, 24), (USER, 32)], guess);
        let mut servers = Vec::new();
        for server in &plan.servers {
            let network = plan.networks.iter().find(|n| n.name == server.network);
            let network = network.expect("a server's network exists");
            let address = (server.address, network.subnet.prefix_len());
            let vlan = network.vlan.expect("the example gives them all one");
            let host = world.host(vlan, &[address], Some(network.virtual_address));
            for port in listens(server.role) {
                world.listen(host, *port);
            }
            servers.push(host);
        }
        let of = |name| policy_of(&plan, name);
        let gw1 = world.appliance(of("gw1"), wan_vlan);
        let gw2 = world.appliance(of("gw2"), wan_vlan);
        Self {
            world,
            gw1,
            gw2,
            uplink,
            servers,
            plan,
        }
    }

    /// The public virtual address.
    #[must_use]
    pub fn public(&self) -> Ipv4Addr {
        let wan = self.plan.networks.iter().find(|n| n.uplink.is_some());
        wan.expect("a wan network").virtual_address
    }

    /// The VLAN of a network.
    #[must_use]
    pub fn vlan(&self, network: &str) -> u16 {
        let network = self.plan.networks.iter().find(|n| n.name == network);
        network
            .and_then(|n| n.vlan)
            .expect("the example gives them all one")
    }

    /// The address of a server.
    #[must_use]
    pub fn address(&self, server: &str) -> Ipv4Addr {
        let server = self.plan.servers.iter().find(|s| s.name == server);
        server.expect("a server of the example").address
    }

    /// The host that plays a server.
    #[must_use]
    pub fn server(&self, server: &str) -> HostId {
        let index = self.plan.servers.iter().position(|s| s.name == server);
        self.servers[index.expect("a server of the example")]
    }
}

fn listens(role: site::plan::Role) -> &'static [u16] {
    use site::plan::Role;
    match role {
        Role::Haproxy => &[
            ports::HTTPS,
            ports::HTTP,
            ports::HAPROXY_METRICS,
            ports::NODE_EXPORTER,
        ],
        Role::Nginx => &[ports::NGINX, ports::NODE_EXPORTER],
        Role::App => &[ports::APP, ports::NODE_EXPORTER],
        Role::Db => &[ports::DB, ports::NODE_EXPORTER],
        Role::Monitor => &[ports::NODE_EXPORTER],
    }
}
