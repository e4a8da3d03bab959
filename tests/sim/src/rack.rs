//! The example site as a world: its own site file, compiled as for the real appliances.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use classifier::Policy;
use policy::Config;
use policy::rule::Rule;
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
    /// Servers in the order of the site file: lb1, lb2, web1, web2, app1, app2, db1, db2, mon1.
    pub servers: Vec<HostId>,
    plan: Plan,
}

/// A user's address, behind the provider's router.
pub const USER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// The same user's address with IPv6.
pub const USER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 51, 0, 0, 0, 0, 7);

/// What the networks carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// IPv4, as the example has it.
    Four,
    /// Both: 2001:db8:203::/64 outside, 2001:db8:20:N::/64 inside instead of 10.20.N.0/24, with the same
    /// last digits.
    Both,
}

const SITE: &str = include_str!("../../../examples/foobar/site.toml");

fn plan(boards: Boards, versions: Versions) -> Plan {
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
        if versions == Versions::Both {
            text.push_str(&six(line));
        }
    }
    let plan = site::parse("site.toml", &text, &known).expect("the example is valid");
    plan.with_plain_checks()
}

/// The configuration of one of the example's appliances, `gw1` or `gw2`.
#[must_use]
pub fn config(boards: Boards, name: &str) -> Config {
    render::appliance::config(&plan(boards, Versions::Four), name).expect("the example compiles")
}

/// What one of the example's appliances runs.
#[must_use]
pub fn policy(boards: Boards, name: &str) -> Policy<'static> {
    policy_of(&plan(boards, Versions::Four), name)
}

fn policy_of(plan: &Plan, name: &str) -> Policy<'static> {
    altered(plan, name, |_, _| {})
}

fn altered(
    plan: &Plan,
    name: &str,
    alter: impl Fn(&mut Config, &mut Vec<Rule>),
) -> Policy<'static> {
    let (mut config, mut rules) =
        render::appliance::policy(plan, name).expect("the example compiles");
    alter(&mut config, &mut rules);
    classifier::policy(config, &rules).expect("its rules compile")
}

impl Rack {
    /// Builds the rack, starts both appliances, and runs until one is Active and knows its servers.
    #[must_use]
    pub fn new(seed: u64, boards: Boards) -> Self {
        Self::with(seed, boards, Versions::Four)
    }

    /// The same with networks of one version or both.
    #[must_use]
    pub fn with(seed: u64, boards: Boards, versions: Versions) -> Self {
        Self::altered(seed, boards, versions, |_, _| {})
    }

    /// The same, with what the appliances run changed.
    #[must_use]
    pub fn altered(
        seed: u64,
        boards: Boards,
        versions: Versions,
        alter: impl Fn(&mut Config, &mut Vec<Rule>),
    ) -> Self {
        let plan = plan(boards, versions);
        let mut world = World::new(seed);
        let wan = plan
            .networks
            .iter()
            .find(|n| n.uplink.is_some())
            .expect("a wan network");
        let wan_vlan = wan.vlan.expect("the example gives it one");
        let uplink = wan.uplink.expect("just found");
        // It routes to the servers' networks too, as a stranger who guesses them would.
        let mut addresses = vec![(IpAddr::V4(uplink), 24), (USER.into(), 32)];
        let mut guess = vec![IpAddr::V4(wan.virtual_address)];
        if let (Some(uplink), Some(gateway)) = (wan.uplink6, wan.virtual6) {
            addresses.extend([(IpAddr::V6(uplink), 64), (USER6.into(), 128)]);
            guess.push(gateway.into());
        }
        let uplink = world.host(wan_vlan, &addresses, &guess);
        let mut servers = Vec::new();
        for server in &plan.servers {
            let network = plan.networks.iter().find(|n| n.name == server.network);
            let network = network.expect("a server's network exists");
            let mut addresses = vec![(IpAddr::V4(server.address), network.subnet.prefix_len())];
            let mut gateways = vec![IpAddr::V4(network.virtual_address)];
            addresses.extend(server.address6.map(|address| (IpAddr::V6(address), 64)));
            gateways.extend(network.virtual6.map(IpAddr::V6));
            let vlan = network.vlan.expect("the example gives them all one");
            let host = world.host(vlan, &addresses, &gateways);
            for port in listens(server.role) {
                world.listen(host, *port);
            }
            servers.push(host);
        }
        let of = |name| altered(&plan, name, &alter);
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

    /// The same, as a pair that talks apart from VRRP too: over the lan first, over the wan as well.
    #[must_use]
    pub fn paired(seed: u64, boards: Boards, heartbeat: u16, misses: u8) -> Self {
        Self::paired_as(seed, boards, |pair| {
            (pair.heartbeat, pair.misses) = (heartbeat, misses);
        })
    }

    /// The same, with what they agree about changed.
    #[must_use]
    pub fn paired_as(seed: u64, boards: Boards, alter: impl Fn(&mut policy::Pair)) -> Self {
        let plan = plan(boards, Versions::Four);
        Self::altered(seed, boards, Versions::Four, |config, _| {
            let first = config.name.as_str() == "gw1";
            let peer = if first { "gw2" } else { "gw1" };
            let other = render::appliance::config(&plan, peer).expect("the example compiles");
            let path = |interface: u8| policy::Path {
                interface,
                mac: other.interfaces[usize::from(interface)].mac,
                address: other.interfaces[usize::from(interface)].address,
            };
            let mut pair = policy::Pair {
                peer: other.name.clone(),
                first,
                paths: [path(1), path(0)].into_iter().collect(),
                serial: false,
                heartbeat: 10,
                misses: 3,
                sync: true,
                defer: false,
                key: [7; 32],
                operator: [8; 32],
                fingerprint: 1,
            };
            alter(&mut pair);
            config.availability.pair = Some(pair);
        })
    }

    /// What an appliance runs, changed; the rules are those of the example.
    #[must_use]
    pub fn changed(
        &self,
        id: NodeId,
        alter: impl FnOnce(&mut Config, &mut Vec<Rule>),
    ) -> Policy<'static> {
        let mut config = self.world.config(id).clone();
        let rules = render::appliance::policy(&self.plan, &config.name);
        let (_, mut rules) = rules.expect("the example compiles");
        alter(&mut config, &mut rules);
        classifier::policy(config, &rules).expect("its rules compile")
    }

    /// The public virtual address.
    #[must_use]
    pub fn public(&self) -> Ipv4Addr {
        let wan = self.plan.networks.iter().find(|n| n.uplink.is_some());
        wan.expect("a wan network").virtual_address
    }

    /// The public virtual IPv6 address, of a rack with both versions.
    #[must_use]
    pub fn public6(&self) -> Ipv6Addr {
        let wan = self.plan.networks.iter().find(|n| n.uplink.is_some());
        let address = wan.expect("a wan network").virtual6;
        address.expect("it has both versions")
    }

    /// The IPv6 address of a server, of a rack with both versions.
    #[must_use]
    pub fn address6(&self, server: &str) -> Ipv6Addr {
        let server = self.plan.servers.iter().find(|s| s.name == server);
        let address = server.expect("a server of the example").address6;
        address.expect("it has both versions")
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

/// What a dual-stack site says after a line of the example.
fn six(line: &str) -> String {
    let Some(subnet) = line.strip_prefix("subnet = ") else {
        return String::new();
    };
    match subnet.trim_matches('"').strip_prefix("10.20.") {
        Some(rest) => {
            let third = rest.split('.').next().expect("four numbers");
            format!("subnet6 = \"2001:db8:20:{third}::/64\"\n")
        }
        None => "subnet6 = \"2001:db8:203::/64\"\nuplink6 = \"2001:db8:203::1\"\n".to_owned(),
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
