//! Plans compiled to appliance configurations.

#![allow(clippy::unwrap_used)]

mod common;

use common::{foobar, listed};
use policy::rule::Protocol;
use render::RenderError;
use render::appliance::{config, policy};
use site::plan::{Party, PortRange, Ports, Role, Traffic};

#[test]
fn rules_name_interfaces_and_hosts() {
    let (config, rules) = policy(&foobar(), "gw1").unwrap();
    insta::assert_snapshot!(listed(&config, &rules));
}

#[test]
fn a_leg_carries_its_virtual_router_and_its_neighbours() {
    let config = config(&foobar(), "gw2").unwrap();
    let legs: Vec<String> = (config.interfaces.iter().enumerate())
        .map(|(index, leg)| {
            let router = config.routers_on(index).next().unwrap();
            format!(
                "{} port {} vlan {:?} {}/{} vrid {} priority {} for {:?}, tracks {:?} by {:?}",
                leg.name,
                leg.port,
                leg.vlan,
                leg.address,
                leg.prefix,
                router.vrid,
                config.availability.priority,
                router.addresses,
                leg.track,
                weight(&config, index)
            )
        })
        .collect();
    insta::assert_snapshot!(legs.join("\n"));
    assert_eq!(config.default_route, Some([203, 0, 113, 1].into()));
}

#[test]
fn services_list_their_servers_in_file_order() {
    let config = config(&foobar(), "gw1").unwrap();
    let https = &config.services[0];
    assert_eq!(
        (https.name.as_str(), https.port, https.check.port),
        ("https", 443, 8008)
    );
    let servers: Vec<&str> = https
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    assert_eq!(servers, ["lb1", "lb2"]);
}

/// An appliance cut off from its neighbours must rank below a healthy peer, whatever the priorities.
#[test]
fn track_weight_outweighs_the_spread_of_priorities() {
    for (strong, weak) in [(200, 150), (254, 10), (100, 100), (150, 149), (254, 2)] {
        let mut plan = foobar();
        plan.appliances[0].priority = strong;
        plan.appliances[1].priority = weak;
        let weight = weight(&config(&plan, "gw1").unwrap(), 0).unwrap();
        assert!(weight < strong, "{strong} {weak}: never below 1");
        assert!(
            strong - weight < weak,
            "{strong} {weak}: falls by {weight} only"
        );
    }
}

/// What the appliance loses while an interface's neighbours are silent.
fn weight(config: &policy::Config, interface: usize) -> Option<u8> {
    let tracks = config.availability.tracks.iter();
    let mut weights = tracks.filter_map(|track| match track.what {
        policy::Tracked::Neighbours(leg) if usize::from(leg) == interface => Some(-track.weight),
        _ => None,
    });
    u8::try_from(weights.next()?).ok()
}

#[test]
fn only_wan_and_the_service_network_decide() {
    let config = config(&foobar(), "gw1").unwrap();
    let weighed: Vec<&str> = (config.interfaces.iter().enumerate())
        .filter(|(index, _)| weight(&config, *index).is_some())
        .map(|(_, leg)| leg.name.as_str())
        .collect();
    assert_eq!(weighed, ["wan", "edge"]);
}

#[test]
fn flows_of_the_appliances_and_between_neighbours_need_no_rule() {
    let mut plan = foobar();
    plan.flows.retain(|flow| flow.from == Party::Appliances);
    let mut neighbours = plan.flows[0].clone();
    neighbours.from = Party::Role(Role::Haproxy);
    plan.flows.push(neighbours);
    assert_eq!(policy(&plan, "gw1").unwrap().1, []);
}

#[test]
fn every_kind_of_traffic_compiles() {
    let ports = || Ports {
        source: vec![PortRange::one(53)],
        destination: vec![PortRange {
            first: 80,
            last: 90,
        }],
    };
    let both = || policy::rule::Ports {
        source: vec![53..=53],
        destination: vec![80..=90],
    };
    let table = [
        (Traffic::Any, vec![Protocol::Any]),
        (Traffic::Tcp(ports()), vec![Protocol::Tcp(both())]),
        (Traffic::Udp(ports()), vec![Protocol::Udp(both())]),
        (
            Traffic::Ping,
            vec![Protocol::Icmp(vec![8]), Protocol::Icmp6(vec![128])],
        ),
        (
            Traffic::Icmp(vec![8, 13]),
            vec![Protocol::Icmp(vec![8, 13])],
        ),
        (Traffic::Icmp6(vec![]), vec![Protocol::Icmp6(vec![])]),
        (Traffic::Number(47), vec![Protocol::Number(47)]),
    ];
    for (traffic, expected) in table {
        let mut plan = foobar();
        plan.flows.truncate(1);
        plan.flows[0].traffic = traffic;
        let (_, rules) = policy(&plan, "gw1").unwrap();
        let protocols: Vec<Protocol> = rules.into_iter().map(|rule| rule.protocol).collect();
        assert_eq!(protocols, expected);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let mut many_servers = foobar();
    for n in 0..9 {
        let mut server = many_servers.servers[0].clone();
        server.name = format!("lb{}", n + 3);
        let mut member = many_servers.services[0].servers[0].clone();
        member.server.clone_from(&server.name);
        many_servers.servers.push(server);
        many_servers.services[0].servers.push(member);
    }
    let mut long_name = foobar();
    long_name.flows[0].name = "a-flow-with-a-name-that-is-too-long".into();
    let mut stray = foobar();
    stray.servers[0].network = "moon".into();
    let mut impostor = foobar();
    impostor.servers[0].address = impostor.appliances[1].legs[1].address;
    let table = [
        (
            impostor,
            "gw2",
            "appliance `gw2` would refuse its configuration: interface 1: tracked 10.20.1.3 is not a \
             neighbour in its subnet",
        ),
        (
            many_servers,
            "gw1",
            "the site needs 11 servers behind one service, an appliance has room for 8",
        ),
        (
            long_name,
            "gw1",
            "the name `a-flow-with-a-name-that-is-too-long` has 35 bytes, an appliance has room for 31",
        ),
        (
            stray,
            "gw1",
            "`lb1` is in network `moon`, which the plan does not have",
        ),
        (foobar(), "gw9", "the site has no appliance named `gw9`"),
    ];
    for (plan, name, text) in table {
        let error: RenderError = config(&plan, name).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}
