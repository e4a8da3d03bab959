//! The servers' own firewalls in the kernel: one network namespace per server, with its rendered
//! nftables.conf, behind a router that forwards everything. Needs root.
//!
//! The appliances enforce the same flows; here they are absent, so that nothing hides a gap.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use common::{foobar, material};
use netns::Namespace;
use site::plan::{Flow, Network, Party, Port, Server, Traffic, ports};
use site::{Boards, Plan};
use socket2::{Domain, Socket, Type};

/// All that anything listens on by TCP, and one port that nothing should reach.
const PORTS: [u16; 20] = [
    ports::HTTP,
    ports::HTTPS,
    ports::NGINX,
    ports::APP,
    ports::DB,
    ports::NODE_EXPORTER,
    ports::HAPROXY_METRICS,
    ports::NGINX_EXPORTER,
    ports::MYSQL_EXPORTER,
    ports::LOGS,
    ports::HAPROXY_AGENT,
    ports::HAPROXY_HEALTH,
    ports::HAPROXY_PEERS,
    ports::UPDATE,
    22,
    ports::DB_STATE,
    ports::DB_BACKUP,
    ports::DB_SST,
    ports::DB_GROUP,
    ports::DB_IST,
];
const INTERNET: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const INTERNET6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7));
/// What is not answered within this is blocked. A lost SYN is repeated after one second.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Datagrams have arrived long before the knocking ends.
const LATE: Duration = Duration::from_millis(100);

#[test]
fn servers_are_reached_by_the_flows_of_the_plan_and_by_nothing_else() {
    compare(&foobar(), Version::V4);
}

/// The same site with IPv6 in every network.
#[test]
fn the_same_flows_hold_for_ipv6() {
    let mut text = String::new();
    for line in include_str!("../../../examples/foobar/site.toml").lines() {
        text += &format!("{line}\n");
        if line.starts_with("uplink = ") {
            text += "subnet6 = \"2001:db8:10::/64\"\nuplink6 = \"fe80::1\"\n";
        }
        if let Some(network) = line.strip_prefix("virtual = \"10.20.") {
            text += &format!("subnet6 = \"2001:db8:2{}::/64\"\n", &network[..1]);
        }
    }
    let plan = site::parse("site.toml", &text, &Boards::new([("zynq7000", 2)]));
    compare(
        &plan.unwrap_or_else(|errors| panic!("{errors:?}")),
        Version::V6,
    );
}

/// Knocks at every port of every server from everywhere, and compares what opened with the plan's flows.
fn compare(plan: &Plan, version: Version) {
    assert!(nix::unistd::geteuid().is_root(), "namespaces need root");
    let internet = version.of(INTERNET, Some(INTERNET6));
    let lab = Lab::new(plan, version);
    let mut listening = vec![lab.listen(ROUTER, internet)];
    for server in &plan.servers {
        listening.push(lab.listen(&server.name, version.server(server)));
    }

    let mut reached = BTreeSet::new();
    let lab = &lab;
    thread::scope(|scope| {
        let mut clients = vec![scope.spawn(|| lab.knock(ROUTER, "internet", internet, plan))];
        for server in &plan.servers {
            let address = version.server(server);
            clients.push(scope.spawn(move || lab.knock(&server.name, &server.name, address, plan)));
        }
        for leg in plan.appliances.iter().flat_map(|appliance| &appliance.legs) {
            if plan
                .servers
                .iter()
                .any(|server| server.network == leg.network)
            {
                let address = version.of(leg.address.into(), leg.address6.map(IpAddr::V6));
                clients.push(scope.spawn(move || lab.knock(ROUTER, "appliances", address, plan)));
            }
        }
        for client in clients {
            reached.append(&mut client.join().unwrap());
        }
    });

    for (server, (_, datagrams)) in plan.servers.iter().zip(&listening[1..]) {
        for who in senders(datagrams) {
            reached.insert((who, server.name.clone(), ports::SYSLOG));
        }
    }

    let mut expected = BTreeSet::new();
    for server in &plan.servers {
        let here = |flow: &&Flow| plan.addresses_in(&flow.to, server).next().is_some();
        for flow in plan.flows.iter().filter(here) {
            for from in origins(plan, flow)
                .into_iter()
                .filter(|from| *from != server.name)
            {
                for port in ports(flow) {
                    expected.insert((from.clone(), server.name.clone(), port));
                }
            }
        }
    }
    drop(listening);
    let surplus: Vec<_> = reached.difference(&expected).collect();
    let lacking: Vec<_> = expected.difference(&reached).collect();
    assert!(
        surplus.is_empty() && lacking.is_empty(),
        "open: {surplus:?}\nclosed: {lacking:?}"
    );
    assert!(!reached.is_empty());
}

fn origins(plan: &Plan, flow: &Flow) -> Vec<String> {
    match &flow.from {
        Party::Internet => vec!["internet".into()],
        Party::Appliances => vec!["appliances".into()],
        Party::Role(_) | Party::Servers | Party::Server(_) | Party::Set(_) | Party::Address(_) => {
            let servers = plan.servers_in(&flow.from);
            let mut origins: Vec<String> = servers.map(|server| server.name.clone()).collect();
            // They have addresses of their own in every network.
            let prefixes = plan.prefixes_of(&flow.from);
            let inside = |address: IpAddr| prefixes.iter().any(|prefix| prefix.contains(&address));
            let legs = plan.appliances.iter().flat_map(|one| &one.legs);
            if legs.into_iter().any(|leg| inside(leg.address.into())) {
                origins.push("appliances".into());
            }
            origins
        }
    }
}

/// Who has sent a datagram that arrived: each says its name.
fn senders(socket: &UdpSocket) -> BTreeSet<String> {
    socket.set_read_timeout(Some(LATE)).unwrap();
    let mut name = [0; 64];
    let mut senders = BTreeSet::new();
    while let Ok(len) = socket.recv(&mut name) {
        senders.insert(String::from_utf8_lossy(&name[..len]).into_owned());
    }
    senders
}

/// The few ports of a flow, of TCP or UDP.
fn ports(flow: &Flow) -> Vec<u16> {
    match &flow.traffic {
        Traffic::Tcp(ports) | Traffic::Udp(ports) => {
            let ranges = ports.destination.iter();
            ranges.flat_map(|range| range.range()).collect()
        }
        Traffic::Any
        | Traffic::Ping
        | Traffic::Icmp(_)
        | Traffic::Icmp6(_)
        | Traffic::Number(_) => Vec::new(),
    }
}

const ROUTER: &str = "router";

/// The version of IP that is tried.
#[derive(Clone, Copy)]
enum Version {
    V4,
    V6,
}

impl Version {
    fn of(self, v4: IpAddr, v6: Option<IpAddr>) -> IpAddr {
        match self {
            Self::V4 => v4,
            Self::V6 => v6.unwrap(),
        }
    }

    fn server(self, server: &Server) -> IpAddr {
        self.of(server.address.into(), server.address6.map(IpAddr::V6))
    }

    fn prefix(self, network: &Network) -> u8 {
        match self {
            Self::V4 => network.subnet.prefix_len(),
            Self::V6 => network.subnet6.unwrap().prefix_len(),
        }
    }

    fn gateway(self, network: &Network) -> IpAddr {
        let v6 = network.virtual6.map(IpAddr::V6);
        self.of(network.virtual_address.into(), v6)
    }
}

/// A namespace for each server and one for the router. They go when it is dropped.
struct Lab {
    prefix: String,
    namespaces: Vec<Namespace>,
    version: Version,
}

impl Lab {
    fn new(plan: &Plan, version: Version) -> Self {
        let mut lab = Self {
            // Two runs of these tests may not meet.
            prefix: netns::prefix("rv"),
            namespaces: Vec::new(),
            version,
        };
        lab.add(ROUTER);
        let (internet, forwarding) = match version {
            Version::V4 => (format!("{INTERNET}/32"), "ipv4/ip_forward"),
            Version::V6 => (format!("{INTERNET6}/128"), "ipv6/conf/all/forwarding"),
        };
        lab.ip(ROUTER, &format!("address add {internet} dev lo"));
        let forward = || std::fs::write(format!("/proc/sys/net/{forwarding}"), "1").unwrap();
        lab.inside(ROUTER, forward);
        // All networks meet on one bridge: it is the servers' routes that send packets to the router.
        lab.ip(ROUTER, "link add rack type bridge");
        lab.ip(ROUTER, "link set rack up");
        for network in plan
            .networks
            .iter()
            .filter(|network| network.port == Port::Lan)
        {
            lab.address(ROUTER, "rack", version.gateway(network), network);
            for leg in plan.appliances.iter().flat_map(|appliance| &appliance.legs) {
                if leg.network == network.name {
                    let address = version.of(leg.address.into(), leg.address6.map(IpAddr::V6));
                    lab.address(ROUTER, "rack", address, network);
                }
            }
        }
        for server in &plan.servers {
            lab.add_server(plan, server);
        }
        lab
    }

    fn add_server(&mut self, plan: &Plan, server: &Server) {
        let network = plan
            .networks
            .iter()
            .find(|network| network.name == server.network)
            .unwrap();
        let (name, space) = (&server.name, self.add(&server.name));
        let peer = format!("link add eth0 netns {space} type veth peer name v-{name}");
        self.ip(ROUTER, &peer);
        self.ip(ROUTER, &format!("link set v-{name} master rack up"));
        self.address(name, "eth0", self.version.server(server), network);
        self.ip(name, "link set eth0 up");
        let gateway = self.version.gateway(network);
        self.ip(name, &format!("route add default via {gateway}"));
        let files = render::server::files(plan, server, &material(server)).unwrap();
        let rules = files
            .into_iter()
            .find(|file| file.path == "/etc/nftables.conf")
            .unwrap()
            .bytes;
        let rules = String::from_utf8(rules).unwrap();
        self.namespace(name)
            .run("nft", &["-f", "-"], &rules)
            .unwrap();
    }

    /// Gives an address to a link; nobody has it already, so it need not be tried first (RFC 4862 §5.4).
    fn address(&self, name: &str, link: &str, address: IpAddr, network: &Network) {
        let length = self.version.prefix(network);
        let sure = if address.is_ipv6() { " nodad" } else { "" };
        self.ip(
            name,
            &format!("address add {address}/{length} dev {link}{sure}"),
        );
    }

    /// Listens on all ports of an address, from inside its namespace.
    fn listen(&self, name: &str, address: IpAddr) -> (Vec<TcpListener>, UdpSocket) {
        self.inside(name, || {
            let streams = PORTS.map(|port| TcpListener::bind((address, port)).unwrap());
            let datagrams = UdpSocket::bind((address, ports::SYSLOG)).unwrap();
            (streams.into(), datagrams)
        })
    }

    /// Knocks at all ports of all others at once; returns what opened as (who, server, port).
    fn knock(
        &self,
        namespace: &str,
        who: &str,
        source: IpAddr,
        plan: &Plan,
    ) -> BTreeSet<(String, String, u16)> {
        self.inside(namespace, || {
            thread::scope(|scope| {
                let servers = plan
                    .servers
                    .iter()
                    .map(|server| (&*server.name, self.version.server(server)));
                let internet = self.version.of(INTERNET, Some(INTERNET6));
                // The Internet has no firewall: what gets there was let out by the server's own.
                let mut targets: Vec<_> = servers.chain([("internet", internet)]).collect();
                targets.retain(|(target, _)| {
                    *target != who && !(namespace == ROUTER && *target == "internet")
                });
                let mut knocks = Vec::new();
                let datagrams = UdpSocket::bind((source, 0)).unwrap();
                for (target, address) in targets {
                    // Its own firewall may forbid it.
                    let _ = datagrams.send_to(who.as_bytes(), (address, ports::SYSLOG));
                    for port in PORTS {
                        // Threads begin in the namespace of their parent.
                        let opens = scope.spawn(move || opens(source, (address, port).into()));
                        knocks.push(((who.to_owned(), target.to_owned(), port), opens));
                    }
                }
                let answered = knocks
                    .into_iter()
                    .filter_map(|(what, opens)| opens.join().unwrap().then_some(what));
                answered.collect()
            })
        })
    }

    fn add(&mut self, name: &str) -> String {
        let space = Namespace::new(self.space(name)).unwrap();
        self.namespaces.push(space);
        self.ip(name, "link set lo up");
        self.space(name)
    }

    fn space(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn namespace(&self, name: &str) -> &Namespace {
        let name = self.space(name);
        let mut spaces = self.namespaces.iter();
        spaces.find(|space| space.name() == name).unwrap()
    }

    fn ip(&self, name: &str, arguments: &str) {
        self.namespace(name).ip(arguments).unwrap();
    }

    /// Runs `work` in a thread of the namespace.
    fn inside<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        self.namespace(name).enter(work).unwrap()
    }
}

fn opens(source: IpAddr, target: SocketAddr) -> bool {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect_timeout(&target.into(), PATIENCE).is_ok()
}
