//! First packets that wait until the peer knows their flows, told on the example site.

use node::Drop;
use sim::{Boards, Rack, StreamId, USER};
use time::Duration;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// Way of a frame to or from the Backup, the switch's other port included.
const WAY: Duration = Duration::from_millis(3);
const OTHER_PORT: Duration = Duration::from_micros(20);
/// The world's clock moves a microsecond after each event.
const TICKS: Duration = Duration::from_micros(50);

#[test]
fn a_first_packet_waits_for_the_way_to_the_backup_and_back() {
    for boards in [Boards::TwoPorts, Boards::Trunk] {
        let [usual, deferred] = [false, true].map(|defer| {
            let mut rack = started(1, boards, 3, defer);
            opening(&mut rack).expect("the server answers")
        });
        let longer = deferred.saturating_sub(usual);
        let expected = 2 * (WAY + OTHER_PORT);
        assert!(
            longer >= expected && longer < expected + TICKS,
            "{boards:?}: {longer:?} longer than {usual:?}"
        );
    }
}

/// The next ones of the connection do not.
#[test]
fn only_the_first_packet_waits() {
    let [usual, deferred] = [false, true].map(|defer| {
        let mut rack = started(2, Boards::TwoPorts, 3, defer);
        let stream = user(&mut rack);
        rack.world.run(SECOND);
        let stream = rack.world.stream(rack.uplink, stream);
        (stream.longest_gap, stream.answers.len())
    });
    assert!(usual.1 > 40);
    assert_eq!(usual, deferred);
}

/// Nobody hears the peer, but it is not dead yet.
#[test]
fn a_first_packet_waits_no_longer_than_twenty_milliseconds() {
    let [usual, deferred] = [false, true].map(|defer| {
        let mut rack = started(3, Boards::TwoPorts, 9, defer);
        cut_off(&mut rack, true);
        opening(&mut rack).expect("the server answers")
    });
    let longer = deferred.saturating_sub(usual);
    assert!(
        longer >= 20 * MS && longer < 20 * MS + TICKS,
        "{longer:?} longer than {usual:?}"
    );
}

#[test]
fn nothing_waits_for_a_dead_peer() {
    let [usual, deferred] = [false, true].map(|defer| {
        let mut rack = started(4, Boards::TwoPorts, 3, defer);
        rack.world.power(rack.gw2, false);
        rack.world.run(SECOND);
        opening(&mut rack).expect("the server answers")
    });
    assert_eq!(usual, deferred);
}

/// A seventh one finds no place, and goes on at once.
#[test]
fn no_more_wait_than_there_is_room_for() {
    let [usual, deferred] = [false, true].map(|defer| {
        let mut rack = started(5, Boards::TwoPorts, 9, defer);
        cut_off(&mut rack, true);
        let streams: Vec<StreamId> = (0..7)
            .map(|n| connect(&mut rack, [HTTP, HTTPS][n % 2]))
            .collect();
        rack.world.run(10 * MS);
        let early = |stream: &&StreamId| rack.world.stream(rack.uplink, **stream).established;
        let early = streams.iter().filter(early).count();
        rack.world.run(20 * MS);
        let all = |stream: &StreamId| rack.world.stream(rack.uplink, *stream).established;
        assert!(streams.iter().all(all), "{}", rack.world.journal());
        early
    });
    assert_eq!((usual, deferred), (7, 1));
}

/// Whoever is no longer Active sends nothing on any more, as the world makes sure.
#[test]
fn what_waits_is_forgotten_with_the_addresses() {
    let mut rack = started(6, Boards::TwoPorts, 9, true);
    cut_off(&mut rack, true);
    let stream = user(&mut rack);
    rack.world.run(5 * MS);
    let dropped = |rack: &Rack| {
        let node = rack.world.node(rack.gw1).expect("it has power");
        node.counters().dropped(Drop::NotActive)
    };
    let before = dropped(&rack);
    rack.world.stop(rack.gw1);
    assert_eq!(dropped(&rack), before + 1, "{}", rack.world.journal());
    // The client begins again, with the other one.
    cut_off(&mut rack, false);
    rack.world.run(2 * SECOND);
    assert!(rack.world.stream(rack.uplink, stream).established);
}

/// The Active dies with the server's first answer under way. It comes to the other one, which knows the flow only if the first
/// packet waited for that; if not, the client must begin again.
#[test]
fn a_connection_outlives_the_active_in_the_middle_of_its_handshake() {
    let kept = |seed: &u64, defer: bool| {
        let mut rack = started(100 + seed, Boards::TwoPorts, 3, defer);
        for server in ["lb1", "lb2"] {
            let port = rack.world.host_port(rack.server(server));
            rack.world.degrade(port, 0, 50 * MS);
        }
        backup_is(&mut rack, Boards::TwoPorts, OTHER_PORT);
        let stream = user(&mut rack);
        // After the packet has left, and so early that the peer is missed before the answer is there.
        rack.world.run(Duration::from_micros(200 + 700 * seed));
        rack.world.power(rack.gw1, false);
        // The client would say it again after a second.
        let kept = established(&mut rack, stream, SECOND / 2).is_some();
        rack.world.run(SECOND);
        let stream = rack.world.stream(rack.uplink, stream);
        assert!(!stream.broken, "{}", rack.world.journal());
        let answers = stream.answers.len();
        assert!(!kept || answers > 5, "{}", rack.world.journal());
        kept
    };
    let count =
        |seeds: core::ops::Range<u64>, defer| seeds.filter(|seed| kept(seed, defer)).count();
    assert_eq!(count(0..50, true), 50);
    assert!(count(0..5, false) < 5);
}

/// A pair whose Backup is far away, and whose hosts know their neighbours.
fn started(seed: u64, boards: Boards, misses: u8, defer: bool) -> Rack {
    let mut rack = Rack::paired_as(seed, boards, |pair| {
        (pair.misses, pair.defer) = (misses, defer);
    });
    rack.world.run(SECOND);
    let [gw1, gw2] = [rack.gw1, rack.gw2].map(|node| rack.world.is_active(node));
    assert!(gw1 && !gw2, "{}", rack.world.journal());
    opening(&mut rack).expect("the server answers");
    backup_is(&mut rack, boards, WAY);
    rack.world.run(SECOND / 2);
    rack
}

/// Puts the Backup this far away.
fn backup_is(rack: &mut Rack, boards: Boards, away: Duration) {
    let ports = match boards {
        Boards::TwoPorts => 2,
        Boards::Trunk | Boards::Mixed => 1,
    };
    for port in 0..ports {
        let port = rack.world.port(rack.gw2, port);
        rack.world.degrade(port, 0, away);
    }
}

/// Mutes both paths to the Backup, or mends them.
fn cut_off(rack: &mut Rack, cut: bool) {
    for (port, network) in [(0, "wan"), (1, "edge")] {
        let (port, vlan) = (rack.world.port(rack.gw2, port), rack.vlan(network));
        rack.world.mute(port, vlan, cut);
    }
}

fn user(rack: &mut Rack) -> StreamId {
    connect(rack, HTTPS)
}

fn connect(rack: &mut Rack, port: u16) -> StreamId {
    let public = rack.public();
    rack.world.connect(rack.uplink, USER, public, port)
}

/// How long it takes to open a connection.
fn opening(rack: &mut Rack) -> Option<Duration> {
    let stream = user(rack);
    established(rack, stream, SECOND / 2)
}

fn established(rack: &mut Rack, stream: StreamId, most: Duration) -> Option<Duration> {
    let uplink = rack.uplink;
    let done = |world: &sim::World| world.stream(uplink, stream).established;
    rack.world.run_until(most, done)
}
