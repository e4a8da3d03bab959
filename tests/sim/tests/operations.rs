//! What an operator asks for while the rack runs: a server drained by its agent, packets logged, servers behind a router.

use std::net::IpAddr;

use node::{Decided, Event};
use policy::Balance;
use sim::{Boards, Rack, StreamId, USER, USER6, Versions};
use time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HTTPS: u16 = 443;
const AGENT: u16 = 8009;

#[test]
fn a_drained_server_keeps_its_flows_and_gets_no_new_ones() {
    let mut rack = Rack::altered(1, Boards::TwoPorts, Versions::Four, |config, _| {
        for service in &mut config.services {
            service.balance = Balance::RoundRobin;
            service.agent = Some(AGENT);
        }
    });
    let (lb1, lb2) = (rack.server("lb1"), rack.server("lb2"));
    for server in [lb1, lb2] {
        rack.world.say(server, AGENT, "up ready 100%\n");
    }
    rack.world.run(4 * SECOND);
    let old = users(&mut rack, 4);
    rack.world.run(SECOND);
    let of = |rack: &Rack, streams: &[StreamId], server| {
        let number = rack.world.number(server);
        let answers = streams.iter().map(|stream| last(rack, *stream));
        answers.filter(|answer| *answer == Some(number)).count()
    };
    assert_eq!((of(&rack, &old, lb1), of(&rack, &old, lb2)), (2, 2));

    rack.world.say(lb1, AGENT, "drain\n");
    rack.world.run(5 * SECOND);
    let new = users(&mut rack, 3);
    rack.world.run(SECOND);
    assert_eq!((of(&rack, &new, lb1), of(&rack, &new, lb2)), (0, 3));
    let before: Vec<usize> = old.iter().map(|stream| answers(&rack, *stream)).collect();
    rack.world.run(SECOND);
    for (stream, before) in old.iter().zip(before) {
        assert!(!rack.world.stream(rack.uplink, *stream).broken);
        assert!(answers(&rack, *stream) > before + 20);
    }
    assert_eq!((of(&rack, &old, lb1), of(&rack, &old, lb2)), (2, 2));

    rack.world.say(lb1, AGENT, "ready\n");
    rack.world.run(5 * SECOND);
    let later = users(&mut rack, 2);
    rack.world.run(SECOND);
    assert!(of(&rack, &later, lb1) >= 1, "{}", rack.world.journal());
}

#[test]
fn what_an_agent_says_of_share_and_maximum_counts() {
    let mut rack = Rack::altered(2, Boards::TwoPorts, Versions::Four, |config, _| {
        for service in &mut config.services {
            service.balance = Balance::RoundRobin;
            service.agent = Some(AGENT);
        }
    });
    let (lb1, lb2) = (rack.server("lb1"), rack.server("lb2"));
    rack.world.say(lb1, AGENT, "up ready 100% maxconn:2\n");
    rack.world.say(lb2, AGENT, "up ready 100%\n");
    rack.world.run(6 * SECOND);
    let streams = users(&mut rack, 6);
    rack.world.run(SECOND);
    let first = Some(rack.world.number(lb1));
    let of_first = |rack: &Rack| {
        let answers = streams.iter().map(|stream| last(rack, *stream));
        answers.filter(|answer| *answer == first).count()
    };
    assert_eq!(of_first(&rack), 2, "{}", rack.world.journal());

    rack.world.say(lb1, AGENT, "0%\n");
    rack.world.run(5 * SECOND);
    let new = users(&mut rack, 1);
    rack.world.run(SECOND);
    assert_eq!(last(&rack, new[0]), Some(rack.world.number(lb2)));
    assert_eq!(of_first(&rack), 2, "kept");
}

/// The rules of users' services log: each connection once, then as many as a person can read.
#[test]
fn a_rule_with_log_tells_of_first_packets_within_its_rate() {
    let mut rack = Rack::altered(3, Boards::TwoPorts, Versions::Four, |_, rules| {
        for rule in rules {
            rule.log = true;
        }
    });
    rack.world.run(4 * SECOND);
    let from = rack.world.events().len();
    let stream = users(&mut rack, 1);
    rack.world.run(SECOND);
    assert!(answers(&rack, stream[0]) > 20);
    let told = decided(&rack, from);
    let [(rule, decided_one)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(decided_one.accepted);
    assert_eq!(decided_one.leg.as_str(), "wan");
    assert_eq!(decided_one.source, IpAddr::from(USER));
    assert_eq!(decided_one.destination, IpAddr::from(rack.address("lb1")));
    assert_eq!(
        (decided_one.protocol, decided_one.ports.destination()),
        (6, HTTPS)
    );
    let hits = rack.world.node(rack.gw1).expect("has power").rule_hits();
    assert_eq!(hits.get(usize::from(*rule)), Some(&1));

    let from = rack.world.events().len();
    let _more = users(&mut rack, 60);
    rack.world.run(SECOND);
    let told = decided(&rack, from).len();
    assert!((20..=31).contains(&told), "{told}");
    let node = rack.world.node(rack.gw1).expect("has power");
    let withheld = node.counters().rules_withheld;
    assert!(withheld >= 29, "{withheld} withheld, {told} told");
}

/// A server of IPv6 in a network that no leg is in: its checks go to the router that leads there.
#[test]
fn servers_behind_a_router_are_checked() {
    let mut rack = Rack::altered(4, Boards::TwoPorts, Versions::Both, |config, _| {
        for service in config.services.iter_mut().filter(|s| s.address.is_ipv6()) {
            service.servers[0].address = USER6.into();
        }
    });
    rack.world.listen(rack.uplink, HTTPS);
    rack.world.run(6 * SECOND);
    let healthy = rack.world.events().iter().filter(|(_, id, event)| {
        *id == rack.gw1
            && matches!(event, Event::Server { address, port: HTTPS, failure: None } if *address == IpAddr::from(USER6))
    });
    assert_eq!(healthy.count(), 1, "{}", rack.world.journal());
}

fn users(rack: &mut Rack, count: usize) -> Vec<StreamId> {
    let (uplink, public) = (rack.uplink, rack.public());
    let streams = (0..count).map(|_| rack.world.connect(uplink, USER, public, HTTPS));
    streams.collect()
}

fn answers(rack: &Rack, stream: StreamId) -> usize {
    rack.world.stream(rack.uplink, stream).answers.len()
}

/// The number of the server that answered last.
fn last(rack: &Rack, stream: StreamId) -> Option<u8> {
    let stream = rack.world.stream(rack.uplink, stream);
    stream.answers.last().copied()
}

/// What rules decided, of the events from `from` on.
fn decided(rack: &Rack, from: usize) -> Vec<(u16, Decided)> {
    let events = rack.world.events()[from..].iter();
    let decided = events.filter_map(|(_, _, event)| match event {
        Event::Rule { rule, decided } => Some((*rule, decided.clone())),
        _ => None,
    });
    decided.collect()
}
