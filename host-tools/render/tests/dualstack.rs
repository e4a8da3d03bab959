//! The example that uses everything a site file can say, compiled for appliances and servers.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{dualstack, foobar, listed, material};
use render::appliance::policy;
use render::server::files;

#[test]
fn rules_of_both_versions_follow_the_flows() {
    let (config, rules) = policy(&dualstack(), "gw1").unwrap();
    insta::assert_snapshot!(listed(&config, &rules));
}

#[test]
fn services_translations_and_limits_follow_the_file() {
    let (config, _) = policy(&dualstack(), "gw2").unwrap();
    let mut text = String::new();
    for (index, leg) in config.interfaces.iter().enumerate() {
        let routers: Vec<_> = (config.routers_on(index).map(|router| &router.addresses)).collect();
        text += &format!(
            "{} mtu {} {:?} {routers:?}\n",
            leg.name, leg.mtu, leg.address6
        );
    }
    text += &format!("{:?} {:?}\n", config.default_route, config.default_route6);
    for service in &config.services {
        text += &format!("{service:?}\n");
    }
    for nat in &config.nat {
        text += &format!("{nat:?}\n");
    }
    for limit in &config.limits {
        text += &format!("{limit:?}\n");
    }
    text += &format!("{:?}", config.protection);
    insta::assert_snapshot!(text);
}

/// One server of a dual-stack network, one of a network of IPv4 with short packets.
#[test]
fn files_of_servers() {
    let plan = dualstack();
    for name in ["lb2", "db1"] {
        let server = plan.server(name).unwrap();
        let mut text = String::new();
        for file in files(&plan, server, &material(server)).unwrap() {
            let body = String::from_utf8(file.bytes).unwrap();
            text.push_str(&format!("=== {} {:o}\n{body}\n", file.path, file.mode));
        }
        insta::assert_snapshot!(format!("dualstack-{name}"), text);
    }
}

/// Beside what their roles bring along: a sorry server, and Prometheus once a flow leads to it.
#[test]
fn daemons_listen_where_the_plan_leads() {
    let text_of = |plan: &site::Plan, name: &str, path: &str| {
        let server = plan.server(name).unwrap();
        let files = files(plan, server, &material(server)).unwrap();
        let file = files.into_iter().find(|file| file.path == path).unwrap();
        String::from_utf8(file.bytes).unwrap()
    };
    let nginx = text_of(&dualstack(), "web1", "/etc/nginx/nginx.conf");
    for address in ["10.20.2.11", "[2001:db8:0:22::11]"] {
        let line = format!("listen {address}:8081 default_server;");
        assert!(nginx.contains(&line), "{nginx}");
    }
    let nginx = text_of(&dualstack(), "web2", "/etc/nginx/nginx.conf");
    assert!(!nginx.contains("8081") && !nginx.contains("503"), "{nginx}");

    for (plan, address) in [(dualstack(), ":9090"), (foobar(), "127.0.0.1:9090")] {
        let arguments = text_of(&plan, "mon1", "/etc/default/prometheus");
        let listens = format!("--web.listen-address={address} ");
        assert!(arguments.contains(&listens), "{arguments}");
    }
}

#[test]
fn nftables_takes_every_rule_of_every_server() {
    let plan = dualstack();
    for server in &plan.servers {
        let files = files(&plan, server, &material(server)).unwrap();
        let rules = files
            .iter()
            .find(|file| file.path == "/etc/nftables.conf")
            .unwrap();
        let mut child = Command::new("nft")
            .args(["-c", "-f", "-"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("nft is needed for this test: {error}"));
        child.stdin.take().unwrap().write_all(&rules.bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", server.name);
    }
}

/// A service that servers answer directly: they have its address, and its clients talk to that.
#[test]
fn direct_return_gives_the_servers_the_virtual_address() {
    let text = include_str!("../../../examples/dualstack/site.toml").to_owned()
        + "[services.direct]\nport = 8081\nservers = [\"web1\"]\nnetwork = \"web\"\nfrom = \"web2\"\n\
           forwarding = \"direct-return\"\nwhy = \"a cache\"\n";
    let boards = site::Boards::new([("zynq7000", 2)]);
    let plan = site::parse("site.toml", &text, &boards).unwrap_or_else(|e| panic!("{e:?}"));
    let (config, rules) = policy(&plan, "gw1").unwrap();
    let rules: Vec<_> = rules
        .into_iter()
        .filter(|rule| rule.name.ends_with("-direct"))
        .collect();
    insta::assert_snapshot!(listed(&config, &rules));

    let server = plan.server("web1").unwrap();
    let files = files(&plan, server, &material(server)).unwrap();
    let text_of = |path: &str| {
        let file = files.iter().find(|file| file.path == path).unwrap();
        String::from_utf8(file.bytes.clone()).unwrap()
    };
    let loopback = text_of("/etc/systemd/network/20-direct-return.network");
    assert!(loopback.contains("Address=10.20.2.1/32\nAddress=2001:db8:0:22::ffff/128\n"));
    let firewall = text_of("/etc/nftables.conf");
    let line = "ip saddr { 10.20.2.12 } ip daddr 10.20.2.1 tcp dport 8081 tcp flags & (fin | syn | rst | ack) \
                == syn counter name \"in-reach-direct\" accept";
    assert!(firewall.contains(line), "{firewall}");
}
