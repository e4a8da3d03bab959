//! The example site with both versions of IP: what users and operators see of the IPv6 side.

use std::net::IpAddr;

use node::{Drop, Event};
use sim::{Boards, Rack, StreamId, USER6, Versions};
use time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HTTPS: u16 = 443;

#[test]
fn servers_are_checked_with_both_versions() {
    let rack = started(1);
    for node in [rack.gw1, rack.gw2] {
        let healthy = rack.world.events().iter().filter(|(_, id, event)| {
            *id == node
                && matches!(
                    event,
                    Event::Server {
                        address: IpAddr::V6(_),
                        failure: None,
                        ..
                    }
                )
        });
        assert_eq!(healthy.count(), 4, "two ports of two servers");
    }
}

#[test]
fn users_reach_the_first_server_and_stay_with_it_when_the_active_loses_power() {
    let mut rack = started(2);
    let stream = user(&mut rack);
    rack.world.run(SECOND);
    let first = rack.world.number(rack.server("lb1"));
    let seen = rack.world.stream(rack.uplink, stream);
    assert!(seen.established && !seen.broken, "{}", rack.world.journal());
    assert!(seen.answers.len() > 20, "{} answers", seen.answers.len());
    assert!(seen.answers.iter().all(|number| *number == first));
    let before = seen.answers.len();

    rack.world.power(rack.gw1, false);
    rack.world.run(4 * SECOND);
    let seen = rack.world.stream(rack.uplink, stream);
    assert!(!seen.broken, "{}", rack.world.journal());
    assert!(seen.answers.len() > before + 50, "{}", rack.world.journal());
}

#[test]
fn only_what_the_rules_name_gets_through() {
    let mut rack = started(3);
    let table = [
        // name                       from     to     port  through
        ("users reach nothing else", "uplink", "public", 8405, false),
        ("users do not reach servers", "uplink", "web1", 8080, false),
        ("haproxy reaches nginx", "lb1", "web1", 8080, true),
        ("nginx reaches the app", "web1", "app1", 9000, true),
        (
            "nginx may not reach the database",
            "web1",
            "db1",
            3306,
            false,
        ),
        ("the database reaches nobody", "db1", "app1", 9000, false),
    ];
    for (name, from, to, port, through) in table {
        let (host, source) = match from {
            "uplink" => (rack.uplink, USER6),
            server => (rack.server(server), rack.address6(server)),
        };
        let to = match to {
            "public" => rack.public6(),
            server => rack.address6(server),
        };
        let denied = denied(&rack);
        let stream = rack.world.connect(host, source, to, port);
        rack.world.run(SECOND);
        let established = rack.world.stream(host, stream).established;
        assert_eq!(established, through, "{name}\n{}", rack.world.journal());
        assert_eq!(self::denied(&rack) > denied, !through, "{name}: counted");
        rack.world.hang_up(host, stream);
        rack.world.run(SECOND);
    }
}

/// A rack whose stronger node is Active and whose servers were all checked.
fn started(seed: u64) -> Rack {
    let mut rack = Rack::with(seed, Boards::TwoPorts, Versions::Both);
    rack.world.run(4 * SECOND);
    assert!(rack.world.is_active(rack.gw1), "{}", rack.world.journal());
    assert!(!rack.world.is_active(rack.gw2), "{}", rack.world.journal());
    rack
}

fn user(rack: &mut Rack) -> StreamId {
    let public = rack.public6();
    rack.world.connect(rack.uplink, USER6, public, HTTPS)
}

/// Packets that no rule accepts, or that the appliance itself has no use for.
fn denied(rack: &Rack) -> u32 {
    let node = rack.world.node(rack.gw1).expect("it has power");
    [Drop::NoRule, Drop::Rule, Drop::NotForUs]
        .map(|reason| node.counters().dropped(reason))
        .iter()
        .sum()
}
