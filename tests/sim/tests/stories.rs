//! What users and operators see of a pair of appliances, told on the example site.

use node::{Drop, Event, State};
use sim::{Boards, Rack, StreamId, USER};
use time::Duration;

const ALL: [Boards; 3] = [Boards::TwoPorts, Boards::Trunk, Boards::Mixed];

/// Longer than any take-over at 100 ms advertisements: Active_Down is below 0.4 s (RFC 9568 §6.1).
const TAKE_OVER: Duration = Duration::from_millis(400);
const HTTPS: u16 = 443;

#[test]
fn the_stronger_node_becomes_active_and_users_reach_the_first_server() {
    for boards in ALL {
        let mut rack = started(1, boards);
        let stream = user(&mut rack, HTTPS);
        rack.world.run(SECOND);
        let first = rack.world.number(rack.server("lb1"));
        let seen = rack.world.stream(rack.uplink, stream);
        assert!(
            seen.established && !seen.broken,
            "{boards:?}\n{}",
            rack.world.journal()
        );
        assert!(
            seen.answers.len() > 20,
            "{boards:?}: {} answers",
            seen.answers.len()
        );
        assert!(
            seen.answers.iter().all(|number| *number == first),
            "{boards:?}"
        );
    }
}

#[test]
fn when_the_active_loses_power_connections_go_on_through_the_other() {
    for boards in ALL {
        let mut rack = started(2, boards);
        let stream = user(&mut rack, HTTPS);
        rack.world.run(SECOND);
        rack.world.power(rack.gw1, false);
        let gw2 = rack.gw2;
        let taken = rack
            .world
            .run_until(TAKE_OVER, |world| world.is_active(gw2));
        assert!(taken.is_some(), "{boards:?}\n{}", rack.world.journal());
        let before = answers(&rack, stream);
        rack.world.run(3 * SECOND);
        let seen = rack.world.stream(rack.uplink, stream);
        assert!(!seen.broken, "{boards:?}\n{}", rack.world.journal());
        assert!(
            seen.answers.len() > before + 50,
            "{boards:?}: {} answers",
            seen.answers.len()
        );
        let new = user(&mut rack, HTTPS);
        rack.world.run(SECOND);
        assert!(
            answers(&rack, new) > 10,
            "{boards:?}\n{}",
            rack.world.journal()
        );
    }
}

/// The server speaks first after the take-over: its answer alone must be enough to take the flow up.
#[test]
fn a_connection_is_taken_up_whichever_side_speaks_first() {
    let mut rack = started(3, Boards::TwoPorts);
    let stream = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    // The user's side falls silent, with a byte of it on the way to the server.
    let (port, wan) = (rack.world.host_port(rack.uplink), rack.vlan("wan"));
    let before = answers(&rack, stream);
    rack.world.run(Duration::from_millis(19));
    rack.world.power(rack.gw1, false);
    rack.world.mute(port, wan, true);
    rack.world.run(SECOND);
    rack.world.mute(port, wan, false);
    rack.world.run(5 * SECOND);
    assert!(
        !rack.world.stream(rack.uplink, stream).broken,
        "{}",
        rack.world.journal()
    );
    assert!(
        answers(&rack, stream) > before + 10,
        "{}",
        rack.world.journal()
    );
}

#[test]
fn cutting_either_cable_moves_everything_together() {
    for (boards, port) in [
        (Boards::TwoPorts, 0),
        (Boards::TwoPorts, 1),
        (Boards::Mixed, 0),
        (Boards::Mixed, 1),
        (Boards::Trunk, 0),
    ] {
        let mut rack = started(4, boards);
        let stream = user(&mut rack, HTTPS);
        rack.world.run(SECOND);
        let cable = rack.world.port(rack.gw1, port);
        rack.world.cut(cable, true);
        let (gw1, gw2) = (rack.gw1, rack.gw2);
        let taken = rack
            .world
            .run_until(TAKE_OVER, |world| world.is_active(gw2));
        assert!(
            taken.is_some(),
            "{boards:?} port {port}\n{}",
            rack.world.journal()
        );
        assert_eq!(
            rack.world.node(gw1).and_then(|n| n.state()),
            Some(State::Fault)
        );
        let before = answers(&rack, stream);
        rack.world.run(3 * SECOND);
        assert!(
            answers(&rack, stream) > before + 50,
            "{boards:?}\n{}",
            rack.world.journal()
        );

        rack.world.cut(cable, false);
        let back = rack.world.run_until(5 * SECOND, |world| {
            world.is_active(gw1) && !world.is_active(gw2)
        });
        assert!(
            back.is_some(),
            "{boards:?} port {port}\n{}",
            rack.world.journal()
        );
        rack.world.run(SECOND);
        assert!(
            !rack.world.stream(rack.uplink, stream).broken,
            "{}",
            rack.world.journal()
        );
    }
}

/// The carrier stays, but nothing comes through: the silent neighbours tell.
#[test]
fn a_leg_that_leads_nowhere_moves_everything_to_the_peer() {
    for boards in ALL {
        for network in ["wan", "edge"] {
            let mut rack = started(5, boards);
            rack.world.run(SECOND);
            let vlan = rack.vlan(network);
            let index = if boards == Boards::Trunk || network == "wan" {
                0
            } else {
                1
            };
            let port = rack.world.port(rack.gw1, index);
            rack.world.mute(port, vlan, true);
            let (gw1, gw2) = (rack.gw1, rack.gw2);
            let moved = rack.world.run_until(3 * SECOND, |world| {
                world.is_active(gw2) && !world.is_active(gw1)
            });
            assert!(
                moved.is_some(),
                "{boards:?} {network}\n{}",
                rack.world.journal()
            );
            let stream = user(&mut rack, HTTPS);
            rack.world.run(2 * SECOND);
            assert!(
                answers(&rack, stream) > 20,
                "{boards:?} {network}\n{}",
                rack.world.journal()
            );
            assert!(rack.world.is_active(gw2) && !rack.world.is_active(gw1));

            rack.world.mute(port, vlan, false);
            let back = rack.world.run_until(5 * SECOND, |world| {
                world.is_active(gw1) && !world.is_active(gw2)
            });
            assert!(
                back.is_some(),
                "{boards:?} {network}\n{}",
                rack.world.journal()
            );
        }
    }
}

#[test]
fn the_stronger_node_takes_over_again_when_it_returns() {
    let mut rack = started(6, Boards::TwoPorts);
    let (gw1, gw2) = (rack.gw1, rack.gw2);
    rack.world.power(gw1, false);
    rack.world.run(2 * SECOND);
    assert!(rack.world.is_active(gw2));
    let stream = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    rack.world.power(gw1, true);
    let back = rack
        .world
        .run_until(5 * SECOND, |w| w.is_active(gw1) && !w.is_active(gw2));
    assert!(back.is_some(), "{}", rack.world.journal());
    let before = answers(&rack, stream);
    rack.world.run(5 * SECOND);
    assert!(
        !rack.world.stream(rack.uplink, stream).broken,
        "{}",
        rack.world.journal()
    );
    assert!(
        answers(&rack, stream) > before + 50,
        "{}",
        rack.world.journal()
    );
}

#[test]
fn an_orderly_stop_hands_over_faster_than_silence() {
    let mut rack = started(7, Boards::TwoPorts);
    let stream = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    rack.world.stop(rack.gw1);
    let gw2 = rack.gw2;
    let taken = rack.world.run_until(SECOND, |world| world.is_active(gw2));
    // Skew_Time of priority 150 at 100 ms (RFC 9568 §6.1) is 41 ms.
    assert!(
        taken.is_some_and(|t| t < Duration::from_millis(50)),
        "{taken:?}"
    );
    let before = answers(&rack, stream);
    rack.world.run(2 * SECOND);
    assert!(
        answers(&rack, stream) > before + 50,
        "{}",
        rack.world.journal()
    );
}

#[test]
fn when_haproxy_stops_users_reach_the_second_server() {
    let mut rack = started(8, Boards::TwoPorts);
    let old = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    let (lb1, lb2) = (rack.server("lb1"), rack.server("lb2"));
    rack.world.close(lb1, HTTPS);
    rack.world.run(5 * SECOND);
    assert!(rack.world.stream(rack.uplink, old).broken);
    let new = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    assert_eq!(
        last_answer(&rack, new),
        Some(rack.world.number(lb2)),
        "{}",
        rack.world.journal()
    );

    rack.world.listen(lb1, HTTPS);
    rack.world.run(5 * SECOND);
    let later = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    assert_eq!(
        last_answer(&rack, later),
        Some(rack.world.number(lb1)),
        "{}",
        rack.world.journal()
    );
    assert_eq!(
        last_answer(&rack, new),
        Some(rack.world.number(lb2)),
        "kept where it was"
    );
    assert!(!rack.world.stream(rack.uplink, new).broken);
}

/// Nobody is left to close the connection, so the appliance does, and the user may try again at once.
#[test]
fn users_of_a_server_that_loses_power_are_told() {
    let mut rack = started(12, Boards::TwoPorts);
    rack.world.run(60 * SECOND);
    let stream = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    let (lb1, uplink) = (rack.server("lb1"), rack.uplink);
    let cable = rack.world.host_port(lb1);
    rack.world.cut(cable, true);
    let told = rack
        .world
        .run_until(10 * SECOND, |world| world.stream(uplink, stream).broken);
    assert!(told.is_some(), "{}", rack.world.journal());
    assert!(rack.world.is_active(rack.gw1));
}

#[test]
fn a_dead_server_is_replaced_and_no_server_is_counted() {
    let mut rack = started(9, Boards::TwoPorts);
    let (lb1, lb2) = (rack.server("lb1"), rack.server("lb2"));
    let cable = rack.world.host_port(lb1);
    rack.world.cut(cable, true);
    rack.world.run(6 * SECOND);
    let new = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    assert_eq!(
        last_answer(&rack, new),
        Some(rack.world.number(lb2)),
        "{}",
        rack.world.journal()
    );
    let cable = rack.world.host_port(lb2);
    rack.world.cut(cable, true);
    rack.world.run(6 * SECOND);
    let nobody = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    assert!(!rack.world.stream(rack.uplink, nobody).established);
    assert!(
        dropped(&rack, Drop::NoHealthyServer) > 0,
        "{}",
        rack.world.journal()
    );
}

#[test]
fn only_what_the_rules_name_gets_through() {
    let mut rack = started(10, Boards::TwoPorts);
    let table = [
        // name                       from     to     port  through
        ("users reach https", "uplink", "public", 443, true),
        ("users reach http", "uplink", "public", 80, true),
        ("users reach nothing else", "uplink", "public", 8405, false),
        ("users do not reach servers", "uplink", "web1", 8080, false),
        ("haproxy reaches nginx", "lb1", "web1", 8080, true),
        ("nginx reaches the app", "web1", "app1", 9000, true),
        ("the app reaches the database", "app1", "db1", 3306, true),
        (
            "nginx may not reach the database",
            "web1",
            "db1",
            3306,
            false,
        ),
        ("haproxy may not reach the app", "lb1", "app1", 9000, false),
        ("the database reaches nobody", "db1", "app1", 9000, false),
        ("the monitor reaches exporters", "mon1", "db1", 9100, true),
        ("others may not", "web1", "db1", 9100, false),
    ];
    for (name, from, to, port, through) in table {
        let (host, source) = match from {
            "uplink" => (rack.uplink, USER),
            server => (rack.server(server), rack.address(server)),
        };
        let to = if to == "public" {
            rack.public()
        } else {
            rack.address(to)
        };
        let denied = dropped(&rack, Drop::NoRule) + dropped(&rack, Drop::NotForUs);
        let stream = rack.world.connect(host, source, to, port);
        rack.world.run(SECOND);
        let seen = rack.world.stream(host, stream);
        assert_eq!(
            seen.established,
            through,
            "{name}\n{}",
            rack.world.journal()
        );
        let denied_now = dropped(&rack, Drop::NoRule) + dropped(&rack, Drop::NotForUs);
        assert_eq!(denied_now > denied, !through, "{name}: counted");
        rack.world.hang_up(host, stream);
        rack.world.run(SECOND);
    }
}

#[test]
fn there_is_one_active_node_even_on_bad_links() {
    for seed in 0..4 {
        let mut rack = started(100 + seed, Boards::TwoPorts);
        for node in [rack.gw1, rack.gw2] {
            for port in 0..2 {
                let port = rack.world.port(node, port);
                rack.world.degrade(port, 30, Duration::from_millis(3));
            }
        }
        let stream = user(&mut rack, HTTPS);
        let (mut both, mut none) = (0, 0);
        for _ in 0..600 {
            rack.world.run(Duration::from_millis(100));
            let active = [rack.gw1, rack.gw2].map(|node| rack.world.is_active(node));
            both += u32::from(active == [true, true]);
            none += u32::from(active == [false, false]);
        }
        // Three lost in a row of all five networks at once do not happen in a minute.
        assert_eq!((both, none), (0, 0), "{}", rack.world.journal());
        assert!(!rack.world.stream(rack.uplink, stream).broken);
        assert!(answers(&rack, stream) > 100);
    }
}

#[test]
fn without_any_peer_a_node_serves_alone() {
    let mut rack = started(11, Boards::Trunk);
    rack.world.power(rack.gw2, false);
    rack.world.run(2 * SECOND);
    let stream = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    assert!(answers(&rack, stream) > 20);
    let states = rack.world.events().iter().filter(|(_, node, event)| {
        *node == rack.gw1
            && matches!(
                event,
                Event::State {
                    to: State::Active,
                    ..
                }
            )
    });
    assert_eq!(states.count(), 1, "{}", rack.world.journal());
}

const SECOND: Duration = Duration::from_secs(1);

/// A rack whose stronger node is Active and whose servers were all checked.
fn started(seed: u64, boards: Boards) -> Rack {
    let mut rack = Rack::new(seed, boards);
    rack.world.run(4 * SECOND);
    assert!(
        rack.world.is_active(rack.gw1),
        "{boards:?}\n{}",
        rack.world.journal()
    );
    assert!(
        !rack.world.is_active(rack.gw2),
        "{boards:?}\n{}",
        rack.world.journal()
    );
    rack
}

fn user(rack: &mut Rack, port: u16) -> StreamId {
    let public = rack.public();
    rack.world.connect(rack.uplink, USER, public, port)
}

fn answers(rack: &Rack, stream: StreamId) -> usize {
    rack.world.stream(rack.uplink, stream).answers.len()
}

fn last_answer(rack: &Rack, stream: StreamId) -> Option<u8> {
    rack.world
        .stream(rack.uplink, stream)
        .answers
        .last()
        .copied()
}

fn dropped(rack: &Rack, reason: Drop) -> u32 {
    let nodes = [rack.gw1, rack.gw2]
        .into_iter()
        .filter_map(|node| rack.world.node(node));
    nodes.map(|node| node.counters().dropped(reason)).sum()
}
