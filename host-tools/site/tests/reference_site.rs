//! The reference site becomes the plan that its comments promise.

use std::net::Ipv4Addr;

use site::{
    Boards, Plan,
    plan::{DbMode, Party, Port, Role, Traffic},
};

const REFERENCE: &str = include_str!("../../../examples/foobar/site.toml");

#[test]
fn servers_and_networks_keep_the_order_of_the_file() {
    let plan = reference(2);
    let networks: Vec<&str> = plan
        .networks
        .iter()
        .map(|network| network.name.as_str())
        .collect();
    assert_eq!(networks, ["wan", "edge", "web", "app", "data", "ops"]);
    let servers: Vec<&str> = plan
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    assert_eq!(
        servers,
        [
            "lb1", "lb2", "web1", "web2", "app1", "app2", "db1", "db2", "mon1"
        ]
    );
    assert_eq!(plan.servers_of(Role::Haproxy).count(), 2);
}

#[test]
fn two_ports_leave_the_wan_untagged() {
    for appliance in reference(2).appliances {
        let (wan, lan) = appliance.legs.split_first().expect("six legs");
        assert_eq!((wan.port, wan.vlan), (0, None));
        assert!(
            lan.iter()
                .all(|leg| leg.port == 1 && leg.vlan.is_some() && leg.mac == lan[0].mac)
        );
        assert_ne!(wan.mac, lan[0].mac);
    }
}

#[test]
fn one_port_tags_everything() {
    for appliance in reference(1).appliances {
        assert!(
            appliance
                .legs
                .iter()
                .all(|leg| leg.port == 0 && leg.vlan.is_some())
        );
    }
}

#[test]
fn appliances_take_their_host_number_in_every_network() {
    let plan = reference(2);
    for (appliance, host) in plan.appliances.iter().zip([2, 3]) {
        for (leg, network) in appliance.legs.iter().zip(&plan.networks) {
            assert_eq!(leg.network, network.name);
            assert!(network.subnet.contains(&leg.address));
            assert_eq!(leg.address.octets()[3], host);
        }
    }
}

#[test]
fn every_port_has_a_mac_address_of_its_own() {
    let plan = reference(2);
    let ports = plan
        .appliances
        .iter()
        .flat_map(|a| a.legs.iter().map(|leg| (a.name.clone(), leg.port, leg.mac)));
    let mut macs: Vec<[u8; 6]> = std::collections::BTreeSet::from_iter(ports)
        .into_iter()
        .map(|(_, _, mac)| mac)
        .collect();
    macs.extend(plan.servers.iter().map(|server| server.mac));
    let count = macs.len();
    assert!(macs.iter().all(|mac| mac[0] == 0x02));
    macs.sort_unstable();
    macs.dedup();
    assert_eq!((count, macs.len()), (13, 13));
    assert_eq!(plan, reference(2), "nothing in a plan is random");
}

#[test]
fn the_flows_are_the_path_of_a_request_and_its_watchers() {
    let plan = reference(2);
    let flows: Vec<(&str, String)> = plan
        .flows
        .iter()
        .map(|flow| (flow.name.as_str(), flow.traffic.to_string()))
        .collect();
    assert_eq!(
        flows,
        [
            ("internet-https", "tcp 443".to_owned()),
            ("check-https", "tcp 8008".to_owned()),
            ("agent-https", "tcp 8009".to_owned()),
            ("internet-http", "tcp 80".to_owned()),
            ("check-http", "tcp 8008".to_owned()),
            ("agent-http", "tcp 8009".to_owned()),
            ("haproxy-nginx", "tcp 8080".to_owned()),
            ("nginx-app", "tcp 9000".to_owned()),
            ("app-db", "tcp 3306".to_owned()),
            ("haproxy-peers", "tcp 10000".to_owned()),
            ("syslog-mon1", "udp 514".to_owned()),
            ("app-db-state", "tcp 9200".to_owned()),
            ("db-db", "tcp 4444, 4567-4568".to_owned()),
            ("db-db-state", "tcp 9200".to_owned()),
            ("db-arbiter", "tcp 4567".to_owned()),
            ("arbiter-db", "tcp 4567".to_owned()),
            ("db-arbiter-state", "tcp 9200".to_owned()),
            ("arbiter-db-state", "tcp 9200".to_owned()),
            ("db-backup", "tcp 9201".to_owned()),
            ("monitor-nodes", "tcp 9100".to_owned()),
            ("monitor-haproxy", "tcp 8405".to_owned()),
            ("monitor-nginx", "tcp 9113".to_owned()),
            ("monitor-db", "tcp 9104".to_owned()),
            ("servers-logs", "tcp 6514".to_owned()),
            ("monitor-appliances", "ping".to_owned()),
            ("monitor-site", "tcp 443".to_owned()),
            ("monitor-site", "tcp 443".to_owned()),
            ("operator-updates", "tcp 9443".to_owned()),
        ]
    );
    assert!(plan.flows.iter().all(|flow| !flow.why.is_empty()));
    let wan = plan
        .networks
        .iter()
        .find(|network| network.port == Port::Wan)
        .expect("a wan");
    assert_eq!(wan.virtual_address, Ipv4Addr::new(203, 0, 113, 10));
    assert!(
        plan.services
            .iter()
            .all(|service| service.address == wan.virtual_address)
    );
    assert_eq!(plan.vrrp.advertisement_interval, 10);
}

#[test]
fn a_site_may_add_flows() {
    let text = format!(
        "{REFERENCE}\n[[flows]]\nname = \"backup\"\nfrom = \"monitor\"\nto = \"db\"\nprotocol = \"tcp\"\n\
         port = 22\nwhy = \"nightly copies\"\n"
    );
    let plan =
        site::parse("site.toml", &text, &Boards::new([("zynq7000", 2)])).expect("a good site");
    // In front of what the roles need, so that a flow can except something from it.
    let flow = plan.flows.first().expect("flows");
    assert_eq!(
        (flow.name.as_str(), &flow.from, &flow.traffic),
        ("backup", &Party::Role(Role::Monitor), &Traffic::tcp(22))
    );
}

/// An appliance has room for 4,096 rules, so this file is written by a loop.
#[test]
fn more_flows_than_an_appliance_has_rules_for_are_refused() {
    let mut text = REFERENCE.to_owned();
    for port in 1..=900 {
        text.push_str(&format!(
            "[[flows]]\nname = \"flow-{port}\"\nfrom = \"servers\"\nto = \"servers\"\nprotocol = \"tcp\"\n\
             port = {port}\nwhy = \"too much\"\n"
        ));
    }
    let boards = Boards::new([("zynq7000", 2)]);
    let errors = site::parse("site.toml", &text, &boards).expect_err("too many rules");
    let problems: Vec<(&str, String)> = (errors.problems().iter())
        .map(|problem| (problem.code(), problem.to_string()))
        .collect();
    let message = "the flows make 4532 firewall rules".to_owned();
    assert_eq!(problems, [("site::too_many_rules", message)]);
}

#[test]
fn the_database_follows_the_number_of_its_servers() {
    let with = |servers: &[&str], db: &str| {
        let (head, _) = REFERENCE.split_once("\n# Two servers").expect("[db]");
        let second = head
            .lines()
            .find(|line| line.starts_with("db2"))
            .expect("db2");
        let lines: Vec<String> = (servers.iter().zip(12..))
            .map(|(name, host)| {
                format!(
                    "{name} = {{ role = \"db\", network = \"data\", address = \"10.20.4.{host}\" }}"
                )
            })
            .collect();
        let text = head.replace(second, &lines.join("\n")) + db;
        let plan = site::parse("site.toml", &text, &Boards::new([("zynq7000", 2)]));
        plan.unwrap_or_else(|errors| panic!("{errors:?}")).database
    };
    let mon1 = Some("mon1".to_owned());
    let alone = with(&[], "");
    assert_eq!((alone.mode, alone.arbiter), (DbMode::Primary, None));
    let two = with(&["db2"], "");
    assert_eq!((two.mode, two.arbiter), (DbMode::Galera, mon1.clone()));
    assert_eq!((two.backup.every, two.backup.keep), (86_400, 7));
    assert_eq!(two.backup.to, "mon1");
    let three = with(&["db2", "db3"], "");
    assert_eq!((three.mode, three.arbiter), (DbMode::Galera, None));
    let pair = with(
        &["db2"],
        "\n[db]\nmode = \"semisync\"\nbackup = { every = \"6h\" }\n",
    );
    assert_eq!((pair.mode, pair.arbiter), (DbMode::Semisync, None));
    assert_eq!((pair.backup.every, pair.backup.keep), (21_600, 7));
}

/// The reference site, if its board had this many ports.
fn reference(ports: u8) -> Plan {
    site::parse("site.toml", REFERENCE, &Boards::new([("zynq7000", ports)]))
        .expect("the reference site is good")
}
