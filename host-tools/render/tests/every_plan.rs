//! Whatever a site file says, if it is taken, appliances take what is compiled from it, and their rules decide as
//! the plan's flows do.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use policy::IpPrefix;
use policy::rule::{Action as Verdict, Protocol, Rule};
use proptest::prelude::*;
use site::Boards;
use site::plan::{Action, Party, Plan, PortRange, Server, Traffic};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn appliances_take_every_plan_and_decide_like_it(text in site_file()) {
        let boards = Boards::new([("zynq7000", 2)]);
        let plan = site::parse("site.toml", &text, &boards);
        prop_assume!(plan.is_ok());
        let plan = plan.unwrap();
        for appliance in &plan.appliances {
            let (config, rules) = match render::appliance::policy(&plan, &appliance.name) {
                Ok(policy) => policy,
                Err(error) => return Err(TestCaseError::fail(format!("{error}\n{text}"))),
            };
            prop_assert_eq!(config.validate(), Ok(()));
            let points = points(&plan);
            for from in &points {
                for to in points.iter().filter(|to| to.leg != from.leg) {
                    for port in PORTS.into_iter().filter(|_| from.address.is_ipv4() == to.address.is_ipv4()) {
                        prop_assert_eq!(
                            by_rules(&rules, from, to, port),
                            by_flows(&plan, from, to, port),
                            "{} -> {} {}\n{}", from.address, to.address, port, &text
                        );
                    }
                }
            }
        }
    }
}

const PORTS: [u16; 4] = [22, 80, 443, 8080];

/// Somebody with one address: a server, or a host outside.
struct Point<'a> {
    server: Option<&'a Server>,
    leg: u8,
    address: IpAddr,
}

fn points(plan: &Plan) -> Vec<Point<'_>> {
    let leg = |name: &str| {
        let index = plan
            .networks
            .iter()
            .position(|network| network.name == name);
        u8::try_from(index.unwrap()).unwrap()
    };
    let servers = plan.servers.iter().flat_map(|server| {
        server
            .addresses()
            .map(move |address| (Some(server), server.network.as_str(), address))
    });
    // In the set `office`, beside our addresses in a prefix that has them, and anywhere.
    let outside = [
        "198.51.100.7",
        "2001:db8:7::7",
        "10.0.200.1",
        "192.0.2.1",
        "2a00::1",
    ];
    let outside = outside
        .into_iter()
        .map(|text| (None, "wan", text.parse().unwrap()));
    servers
        .chain(outside)
        .map(|(server, network, address)| Point {
            server,
            leg: leg(network),
            address,
        })
        .collect()
}

/// Whether a party of a flow stands for somebody, by its definition.
fn is_one_of(plan: &Plan, party: &Party, point: &Point<'_>) -> bool {
    match party {
        Party::Internet => point.server.is_none(),
        Party::Appliances => false,
        Party::Role(role) => point.server.is_some_and(|server| server.role == *role),
        Party::Servers => point.server.is_some(),
        Party::Server(name) => point.server.is_some_and(|server| server.name == *name),
        Party::Set(_) | Party::Address(_) => {
            let prefixes = plan.prefixes_of(party);
            prefixes
                .iter()
                .any(|prefix| prefix.contains(&point.address))
        }
    }
}

/// What the plan says about a first TCP segment.
fn by_flows(plan: &Plan, from: &Point<'_>, to: &Point<'_>, port: u16) -> Option<(String, Verdict)> {
    let flow = plan.flows.iter().find(|flow| {
        let carried = match &flow.traffic {
            Traffic::Any => true,
            Traffic::Tcp(ports) => {
                let holds = |range: &PortRange| range.range().contains(&port);
                ports.destination.is_empty() || ports.destination.iter().any(holds)
            }
            Traffic::Udp(_)
            | Traffic::Ping
            | Traffic::Icmp(_)
            | Traffic::Icmp6(_)
            | Traffic::Number(_) => false,
        };
        carried && is_one_of(plan, &flow.from, from) && is_one_of(plan, &flow.to, to)
    })?;
    let verdict = match flow.action {
        Action::Accept => Verdict::Accept,
        Action::Drop => Verdict::Drop,
        Action::Reject => Verdict::Reject,
    };
    Some((flow.name.clone(), verdict))
}

/// What the first rule says that fits.
fn by_rules(
    rules: &[Rule],
    from: &Point<'_>,
    to: &Point<'_>,
    port: u16,
) -> Option<(String, Verdict)> {
    let among = |prefixes: &[IpPrefix], address: IpAddr| {
        prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(address))
    };
    let rule = rules.iter().find(|rule| {
        let carried = match &rule.protocol {
            Protocol::Any => true,
            Protocol::Tcp(ports) => {
                ports.destination.is_empty() || ports.destination.iter().any(|r| r.contains(&port))
            }
            Protocol::Udp(_) | Protocol::Icmp(_) | Protocol::Icmp6(_) | Protocol::Number(_) => {
                false
            }
        };
        carried
            && rule.from.contains(from.leg)
            && rule.to.contains(to.leg)
            && among(&rule.sources, from.address)
            && among(&rule.destinations, to.address)
    })?;
    Some((rule.name.to_string(), rule.action))
}

/// Site files of which most are sound.
fn site_file() -> impl Strategy<Value = String> {
    let networks = (
        any::<bool>(),
        proptest::collection::vec(any::<bool>(), 4),
        1280..=1500_u16,
    );
    (
        networks,
        proptest::collection::vec(flow(), 0..8),
        proptest::collection::vec(service(), 0..3),
        proptest::collection::vec(nat(), 0..3),
    )
        .prop_map(|((wan6, lans6, mtu), flows, services, nat)| {
            let mut text = HEAD.to_owned();
            text += "[networks.wan]\nport = \"wan\"\nsubnet = \"203.0.113.0/24\"\nvlan = 10\nvrid = 10\n\
                     virtual = \"203.0.113.10\"\nuplink = \"203.0.113.1\"\n";
            if wan6 {
                text += "subnet6 = \"2001:db8:10::/64\"\nuplink6 = \"2001:db8:10::1\"\n";
            }
            for (index, v6) in lans6.into_iter().enumerate() {
                text += &format!(
                    "[networks.n{index}]\nport = \"lan\"\nsubnet = \"10.0.{index}.0/24\"\nvlan = 2{index}\n\
                     vrid = 2{index}\nvirtual = \"10.0.{index}.1\"\nmtu = {mtu}\n"
                );
                if v6 {
                    text += &format!("subnet6 = \"2001:db8:2{index}::/64\"\n");
                }
            }
            text += SERVERS;
            let names = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];
            for (name, flow) in names.iter().zip(flows) {
                text += &format!("[[flows]]\nname = \"{name}\"\nwhy = \"chance\"\n{flow}");
            }
            for (name, service) in names.iter().zip(services) {
                text += &format!("[services.{name}]\n{service}");
            }
            for (name, entry) in names.iter().zip(nat) {
                // The same once more would never apply, which appliances refuse.
                if text.contains(&entry) {
                    continue;
                }
                text += &format!("[[nat]]\nname = \"{name}\"\n{entry}");
            }
            text
        })
}

const HEAD: &str = "[site]\nname = \"chance\"\ndomain = \"www.chance.example\"\n\
                    [vrrp]\nadvertisement_interval = \"1s\"\npreempt = true\n";
const SERVERS: &str = "\
[appliances]
gw1 = { board = \"zynq7000\", priority = 200, host = 2 }
gw2 = { board = \"zynq7000\", priority = 100, host = 3 }
[servers]
lb1 = { role = \"haproxy\", network = \"n0\", address = \"10.0.0.11\" }
lb2 = { role = \"haproxy\", network = \"n1\", address = \"10.0.1.11\" }
web1 = { role = \"nginx\", network = \"n1\", address = \"10.0.1.12\" }
app1 = { role = \"app\", network = \"n2\", address = \"10.0.2.11\" }
db1 = { role = \"db\", network = \"n3\", address = \"10.0.3.11\" }
mon1 = { role = \"monitor\", network = \"n0\", address = \"10.0.0.12\" }
[sets]
office = [\"198.51.100.0/24\", \"2001:db8:7::/48\"]
mixed = [\"10.0.0.0/23\", \"10.0.3.11\", \"2001:db8:20::/60\"]
";

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(words)
}

fn party() -> impl Strategy<Value = &'static str> {
    one_of(&[
        "haproxy",
        "nginx",
        "app",
        "db",
        "monitor",
        "servers",
        "lb1",
        "web1",
        "mixed",
        "10.0.0.0/16",
        "10.0.2.11",
    ])
}

fn flow() -> impl Strategy<Value = String> {
    let what = one_of(&[
        "protocol = \"tcp\"\nport = 22\n",
        "protocol = \"tcp\"\nport = [\"20-30\", 443]\nrate = \"5/s per source\"\n",
        "protocol = \"tcp\"\nport = 8080\nmax_flows = 9\nlog = true\n",
        "protocol = \"tcp\"\naction = \"drop\"\n",
        "protocol = \"any\"\naction = \"reject\"\n",
        "protocol = \"udp\"\nport = 53\n",
        "protocol = \"ping\"\n",
        "protocol = 47\n",
    ]);
    let outside = one_of(&["internet", "office"]);
    (party(), party(), outside, 0..4, what).prop_map(|(from, to, outside, end, what)| {
        let (from, to) = match end {
            0 => (from, outside),
            1 => (outside, to),
            _ => (from, to),
        };
        format!("from = \"{from}\"\nto = \"{to}\"\n{what}")
    })
}

fn service() -> impl Strategy<Value = String> {
    let settings = one_of(&[
        "",
        "balance = \"maglev\"\npersistence = { time = \"1m\" }\n",
        "check = { kind = \"http\", path = \"/healthz\" }\nagent = 8009\n",
        "check = { kind = \"ping\" }\nsorry = { server = \"mon1\", port = 81 }\n",
        "from = \"office\"\nrate = \"9/s\"\n",
        "transport = \"udp\"\n",
        "network = \"n3\"\nfrom = \"monitor\"\n",
    ]);
    let servers = one_of(&["role = \"haproxy\"\n", "servers = [\"web1\", \"app1\"]\n"]);
    (settings, servers, 1000..1020_u16)
        .prop_map(|(settings, servers, port)| format!("port = {port}\n{servers}{settings}"))
}

fn nat() -> impl Strategy<Value = String> {
    prop_oneof![
        party().prop_map(|from| format!("kind = \"masquerade\"\nfrom = \"{from}\"\n")),
        (2000..2020_u16).prop_map(|port| format!(
            "kind = \"forward\"\nprotocol = \"tcp\"\nport = \"{port}-{}\"\nserver = \"db1\"\nserver_port = 22\n\
             why = \"chance\"\n",
            port + 3
        )),
        Just("kind = \"prefix6\"\ninside = \"fd00:1::/48\"\noutside = \"2001:db8:3::/48\"\n".to_owned()),
    ]
}
