//! What is exported for keepalived is what keepalived takes, and what comes back when it is imported.

use std::{collections::BTreeSet, fs, path::Path};

use migrate::{
    conf::{self, NoFiles},
    export::{self, Export, ExportError, Interfaces},
    import::{self, Node},
    model::{Keepalived, Kind, Note},
};
use netns::Namespace;
use policy::Checksum;
use proptest::prelude::*;
use site::{Boards, Plan, plan::Router};

const FOOBAR: &str = include_str!("../../../examples/foobar/site.toml");
const DUALSTACK: &str = include_str!("../../../examples/dualstack/site.toml");
const REFERENCE: &str = include_str!("../../../docs/site-file.md");

fn parse(text: &str) -> Plan {
    let boards = Boards::new([("zynq7000", 2), ("linux", 2)]);
    let plan = site::parse("site.toml", text, &boards);
    plan.unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

/// The site that the examples of the reference make.
fn reference() -> String {
    let blocks = REFERENCE.split("```toml\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

fn exported(plan: &Plan, name: &str) -> Export {
    let exported = export::keepalived(plan, name, &Interfaces::default());
    exported.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_machine_beside_an_appliance() {
    let text = DUALSTACK
        .replace(
            "gw2 = { board = \"zynq7000\"",
            "gw2 = { board = \"keepalived\"",
        )
        .replace("preempt = true", "preempt = true\nunicast = true");
    let export = exported(&parse(&text), "gw2");
    let missing: Vec<String> = (export.missing.iter())
        .map(|missing| format!("{}: {}", missing.what, missing.why))
        .collect();
    insta::assert_snapshot!(format!("{}--\n{}", export.conf, missing.join("\n")));
}

#[test]
fn who_is_in_no_site_has_no_configuration() {
    let error = export::keepalived(&parse(FOOBAR), "gw3", &Interfaces::default());
    let expected = ExportError::NoSuchAppliance {
        name: "gw3".to_owned(),
        known: vec!["gw1".to_owned(), "gw2".to_owned()],
    };
    assert_eq!(error.expect_err("there is none"), expected);
}

/// The program itself says what it thinks of each: nothing.
#[test]
fn keepalived_takes_every_export() {
    assert!(nix::unistd::geteuid().is_root(), "namespaces need root");
    let old = DUALSTACK.replace("\"100ms\"", "\"2s\"").replace(
        "preempt = true",
        "preempt = false\nversion = 2\naccept = false",
    );
    let foreign = |text: &str| {
        text.replace(
            "gw2 = { board = \"zynq7000\"",
            "gw2 = { board = \"keepalived\"",
        )
    };
    // Debian's knows neither signed adverts nor the checksum of RFC 9568.
    let all = foreign(&reference())
        .replace("checksum = \"rfc9568\"", "checksum = \"pseudo-header\"")
        .replace("mode = \"permissive\"", "mode = \"receive-only\"");
    let (pair, rest) = all.split_once("[pair]").expect("a pair");
    let all = format!(
        "{pair}[[track]]{}",
        rest.split_once("[[track]]").expect("tracks").1
    );
    let password = old.replace(
        "version = 2",
        "version = 2\nauthentication = { kind = \"password\", file = \"p\" }",
    );
    let space = Namespace::new(netns::prefix("rvmg")).expect("root and iproute2");
    let mut known: BTreeSet<String> = BTreeSet::new();
    let folder = tempfile::tempdir().expect("a temporary directory");
    for text in [
        foreign(FOOBAR),
        foreign(DUALSTACK),
        foreign(&old),
        foreign(&password),
        all,
    ] {
        let plan = parse(&text);
        let conf = exported(&plan, "gw2").conf;
        let lines = conf.lines().map(str::trim);
        let named = lines.filter_map(|line| line.strip_prefix("interface "));
        for line in named.chain(["eth0", "eth1"]) {
            if known.insert(line.to_owned()) {
                let peer = format!("p{}", known.len());
                space
                    .ip(&format!("link add {line} type veth peer name {peer}"))
                    .expect("a new interface");
            }
        }
        let path = folder.path().join("keepalived.conf");
        fs::write(&path, &conf).expect("room for a file");
        let auth = folder.path().join("auth_pass.conf");
        fs::write(auth, "auth_pass 12345678\n").expect("room for a file");
        let mut command = space.command("keepalived");
        command.arg("--config-test").arg("--use-file").arg(&path);
        let output = command
            .output()
            .expect("keepalived is installed (apt-get install keepalived)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}\n{conf}");
    }
}

/// What importing the configurations of both machines gives, with everything filled in that was open.
fn imported(plan: &Plan) -> (Plan, Vec<Note>) {
    let names = ["gw1", "gw2"];
    let nodes = names.map(|name| {
        let conf = exported(plan, name).conf;
        let statements = conf::read(Path::new(name), &conf, None, &NoFiles);
        Node {
            name: name.to_owned(),
            keepalived: Keepalived::of(&statements.unwrap_or_else(|e| panic!("{e}\n{conf}"))),
        }
    });
    let import = import::site(&nodes);
    (parse(&filled(&import.site)), import.notes)
}

/// The text without its open places.
fn filled(site: &str) -> String {
    let mut document: toml_edit::DocumentMut = site.parse().expect("TOML");
    document["site"]["name"] = toml_edit::value("again");
    document["site"]["domain"] = toml_edit::value("www.again.example");
    for (_, appliance) in document["appliances"]
        .as_table_mut()
        .expect("appliances")
        .iter_mut()
    {
        appliance["board"] = toml_edit::value("linux");
    }
    let mut roles = ["nginx", "app", "db", "monitor"].into_iter().cycle();
    for (_, server) in document["servers"]
        .as_table_mut()
        .expect("servers")
        .iter_mut()
    {
        if server["role"]
            .as_str()
            .is_some_and(|role| role.starts_with("TODO"))
        {
            server["role"] = toml_edit::value(roles.next().expect("a cycle"));
        }
    }
    document.to_string()
}

/// A virtual router as both sites have to have it.
fn essence(plan: &Plan, router: &Router) -> String {
    let interval = (router.advertisement_interval).unwrap_or(plan.vrrp.advertisement_interval);
    format!(
        "{} {:?} {:?} {} every {interval} accept {} vmac {} unicast {} {:?}",
        router.vrid,
        router.version,
        router.addresses,
        router.advertised,
        router.accept,
        router.virtual_mac,
        router.unicast,
        router.peers
    )
}

#[derive(Debug, Clone)]
struct Case {
    interval: u16,
    preempt: bool,
    delays: (u16, u16),
    version: u8,
    accept: bool,
    virtual_mac: bool,
    unicast: bool,
    second_router: bool,
    excluded: u8,
    version6: bool,
    vrid6: Option<u8>,
    overrides: bool,
    priorities: (u8, u8),
    announce: (u8, u8, u16, u8),
    service: (usize, u8, u8),
    checks: (usize, u16),
}

fn cases() -> impl Strategy<Value = Case> {
    let booleans = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let more = (any::<bool>(), any::<bool>(), any::<bool>());
    let numbers = (1u16..4000, (0u16..1000, 0u16..1000), 2u8..=3, 0u8..4);
    let rest = (
        proptest::option::of(200u8..250),
        (1u8..=254, 1u8..=254),
        (1u8..=255, 0u8..=60, 0u16..600, 0u8..=255),
        (0usize..5, 1u8..=2, 1u8..=255),
        (0usize..4, 100u16..5000),
    );
    (booleans, more, numbers, rest).prop_map(|(booleans, more, numbers, rest)| Case {
        interval: numbers.0,
        preempt: booleans.0,
        delays: numbers.1,
        version: numbers.2,
        accept: booleans.1,
        virtual_mac: booleans.2,
        unicast: booleans.3,
        second_router: more.0,
        excluded: numbers.3,
        version6: more.1,
        vrid6: rest.0,
        overrides: more.2,
        priorities: rest.1,
        announce: rest.2,
        service: rest.3,
        checks: rest.4,
    })
}

impl Case {
    fn text(&self) -> String {
        let interval = match self.version {
            2 => 1000 * (1 + self.interval % 40),
            _ => 10 * self.interval,
        };
        let (strong, weak) = self.priorities;
        let weak = if weak == strong {
            strong % 254 + 1
        } else {
            weak
        };
        let v6 = |subnet: &str, uplink: &str| match self.version6 {
            true => {
                let vrid6 = self
                    .vrid6
                    .map_or(String::new(), |vrid| format!("vrid6 = {vrid}\n"));
                let vrid6 = if uplink.is_empty() { "" } else { &vrid6 };
                format!("subnet6 = \"{subnet}\"\n{vrid6}{uplink}")
            }
            false => String::new(),
        };
        let routers = match (self.second_router, self.version6) {
            (false, _) => String::new(),
            (true, false) => "routers = [{ vrid = 12, virtual = [\"203.0.113.30\", \"203.0.113.31\"] }]\n".to_owned(),
            (true, true) => "routers = [{ vrid = 12, virtual = \"203.0.113.30\", virtual6 = \"2001:db8:1::30\" }]\n".to_owned(),
        };
        let excluded: Vec<String> = (0..self.excluded)
            .map(|n| format!("\"203.0.113.{}\"", 40 + n))
            .collect();
        let excluded = match excluded.is_empty() {
            true => String::new(),
            false => format!("excluded = [{}]\n", excluded.join(", ")),
        };
        let overrides = match self.overrides {
            true => format!(
                "accept = {}\nvirtual_mac = {}\nadvertisement_interval = \"3s\"\n",
                !self.accept, !self.virtual_mac
            ),
            false => String::new(),
        };
        let (repeat, second, refresh, rival) = self.announce;
        let balance = [
            "failover",
            "round-robin",
            "least-connections",
            "source-hash",
            "maglev",
        ][self.service.0];
        let kind = ["tcp", "ping", "http", "dns"][self.checks.0];
        let weights = match self.service.0 {
            1 | 2 => format!("{{ weight = {} }}", self.service.2),
            _ => "{}".to_owned(),
        };
        format!(
            "[site]\nname = \"tiny\"\ndomain = \"www.tiny.example\"\n\
             [vrrp]\nadvertisement_interval = \"{interval}ms\"\npreempt = {}\npreempt_delay = \"{}s\"\nstart_delay = \"{}ms\"\n\
             version = {}\naccept = {}\nvirtual_mac = {}\nunicast = {}\nchecksum = \"pseudo-header\"\n\
             announce = {{ repeat = {repeat}, gap = \"20ms\", second = \"{second}s\", refresh = \"{refresh}s\", rival = {rival} }}\n\
             [networks.wan]\nport = \"wan\"\nsubnet = \"203.0.113.0/24\"\nvrid = 10\nvirtual = \"203.0.113.10\"\n\
             uplink = \"203.0.113.1\"\n{routers}{excluded}{}\
             [networks.rack]\nport = \"lan\"\nsubnet = \"10.0.0.0/24\"\nvrid = 20\nvirtual = \"10.0.0.1\"\n{overrides}{}\
             [appliances]\ngw1 = {{ board = \"linux\", priority = {strong}, host = 2 }}\n\
             gw2 = {{ board = \"linux\", priority = {weak}, host = 3 }}\n\
             [servers]\nlb1 = {{ role = \"haproxy\", network = \"rack\", address = \"10.0.0.11\" }}\n\
             lb2 = {{ role = \"haproxy\", network = \"rack\", address = \"10.0.0.12\" }}\n\
             web1 = {{ role = \"nginx\", network = \"rack\", address = \"10.0.0.13\" }}\n\
             app1 = {{ role = \"app\", network = \"rack\", address = \"10.0.0.14\" }}\n\
             db1 = {{ role = \"db\", network = \"rack\", address = \"10.0.0.15\" }}\n\
             mon1 = {{ role = \"monitor\", network = \"rack\", address = \"10.0.0.16\" }}\n\
             [services.a]\nport = 1001\nservers = {{ web1 = {weights}, app1 = {{ max_flows = 77 }} }}\nbalance = \"{balance}\"\n\
             quorum = {}\nwhy = \"a\"\ncheck = {{ kind = \"{kind}\", interval = \"{}ms\", timeout = \"100ms\", rise = 1, fall = {} }}\n\
             [services.b]\nport = 1002\nserver_port = 53\ntransport = \"udp\"\nservers = [\"db1\", \"mon1\"]\nwhy = \"b\"\n\
             persistence = {{ time = \"90s\", prefix = 24 }}\nsorry = {{ server = \"web1\", port = 54 }}\n",
            self.preempt,
            if self.preempt { self.delays.0 } else { 0 },
            self.delays.1,
            self.version,
            self.accept,
            self.virtual_mac,
            self.unicast,
            v6("2001:db8:1::/64", "uplink6 = \"2001:db8:1::1\"\n"),
            v6("2001:db8:2::/64", ""),
            self.service.1,
            self.checks.1,
            1 + self.service.2 % 200,
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_comes_back(case in cases()) {
        let plan = parse(&case.text());
        let (again, notes) = imported(&plan);
        for (a, b) in plan.networks.iter().zip(&again.networks) {
            prop_assert_eq!((a.port, a.subnet, a.vlan, a.uplink), (b.port, b.subnet, b.vlan, b.uplink));
            prop_assert_eq!((a.subnet6, a.uplink6), (b.subnet6, b.uplink6));
            let [a, b] = [(&plan, a), (&again, b)].map(|(plan, network)| -> Vec<String> {
                network.routers.iter().map(|router| essence(plan, router)).collect()
            });
            prop_assert_eq!(a, b);
        }
        prop_assert_eq!(plan.networks.len(), again.networks.len());
        let shared = |plan: &Plan| {
            let vrrp = &plan.vrrp;
            // Adverts of version 2 have one checksum.
            let checksum = if case.version == 2 { Checksum::Message } else { vrrp.checksum };
            let announce = vrrp.announce;
            (vrrp.preempt, vrrp.preempt_delay, vrrp.start_delay, checksum,
             (announce.repeat, announce.gap, announce.second, announce.refresh, announce.rival))
        };
        prop_assert_eq!(shared(&plan), shared(&again));
        let members = |plan: &Plan| -> Vec<_> {
            let legs = |appliance: &site::plan::Appliance| -> Vec<_> { appliance.legs.iter().map(|leg| leg.address).collect() };
            plan.appliances.iter().map(|one| (one.name.clone(), one.priority, legs(one))).collect()
        };
        prop_assert_eq!(members(&plan), members(&again));
        let services = |plan: &Plan| -> BTreeSet<String> {
            plan.services.iter().map(|service| {
                let members: Vec<_> = service.servers.iter().map(|member| {
                    // By their order where their weights mean nothing.
                    let address = plan.server(&member.server).expect("it exists").address;
                    let weight = if matches!(service.balance, policy::Balance::RoundRobin | policy::Balance::LeastConnections) { member.weight } else { 1 };
                    (address, weight, member.max_flows)
                }).collect();
                let sorry = service.sorry.as_ref().map(|sorry| (plan.server(&sorry.server).expect("it exists").address, sorry.port));
                let persistence = service.persistence.map(|p| (p.prefix, p.seconds));
                let check = (&service.check.kind, service.check.port, service.check.interval_ms, service.check.timeout_ms, service.check.fall);
                format!("{} {:?} {} {:?} {:?} {} {sorry:?} {persistence:?} {members:?} {check:?}",
                    service.address, service.transport, service.port, service.balance, service.forwarding, service.quorum)
            }).collect()
        };
        prop_assert_eq!(services(&plan), services(&again));
        let lost: Vec<&Note> = notes.iter().filter(|note| note.kind == Kind::Lost).collect();
        prop_assert!(lost.is_empty(), "{:?}", lost);
    }
}
