//! A pair of appliances that talk apart from VRRP, told on the example site.

use node::Event;
use sim::{Boards, NodeId, Rack, StreamId, USER};
use time::Duration;

const ALL: [Boards; 3] = [Boards::TwoPorts, Boards::Trunk, Boards::Mixed];
/// Heartbeats every 10 ms, three may be missing.
const HEARTBEAT: u16 = 10;
const MISSES: u8 = 3;
const HTTPS: u16 = 443;
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Adverts come every 100 ms: they alone would take three times as long.
#[test]
fn a_dead_active_is_missed_by_its_heartbeats() {
    for boards in ALL {
        let mut rack = started(1, boards);
        let stream = user(&mut rack);
        rack.world.run(SECOND);
        rack.world.power(rack.gw1, false);
        let taken = until_active(&mut rack, |rack| rack.gw2, 50 * MS);
        assert!(taken, "{boards:?}\n{}", rack.world.journal());
        let before = answers(&rack, stream);
        rack.world.run(SECOND);
        assert!(
            answers(&rack, stream) > before + 30,
            "{boards:?}\n{}",
            rack.world.journal()
        );
    }
}

#[test]
fn one_cut_path_is_no_dead_peer() {
    let mut rack = started(2, Boards::TwoPorts);
    let stream = user(&mut rack);
    rack.world.run(SECOND);
    let (port, wan) = (rack.world.port(rack.gw2, 0), rack.vlan("wan"));
    rack.world.mute(port, wan, true);
    rack.world.run(3 * SECOND);
    assert!(is_alone(&rack, rack.gw1), "{}", rack.world.journal());
    let silent = |event: &Event| matches!(event, Event::Silent { routers: 1 });
    assert!(told(&rack, rack.gw2, silent), "{}", rack.world.journal());
    rack.world.mute(port, wan, false);
    rack.world.run(SECOND);
    let again = |event: &Event| matches!(event, Event::Silent { routers: 0 });
    assert!(told(&rack, rack.gw2, again), "{}", rack.world.journal());
    assert!(!rack.world.stream(rack.uplink, stream).broken);
}

#[test]
fn a_hand_over_loses_nothing() {
    for boards in ALL {
        let mut rack = started(3, boards);
        let streams: Vec<StreamId> = (0..4).map(|_| user(&mut rack)).collect();
        rack.world.run(SECOND);
        assert_eq!(rack.world.hand_over(rack.gw1), Ok(()));
        rack.world.run(100 * MS);
        assert!(
            is_alone(&rack, rack.gw2),
            "{boards:?}\n{}",
            rack.world.journal()
        );
        let before: Vec<usize> = streams
            .iter()
            .map(|stream| answers(&rack, *stream))
            .collect();
        rack.world.run(2 * SECOND);
        for (stream, before) in streams.iter().zip(before) {
            assert!(
                !rack.world.stream(rack.uplink, *stream).broken,
                "{boards:?}"
            );
            assert!(
                answers(&rack, *stream) > before + 50,
                "{boards:?}\n{}",
                rack.world.journal()
            );
        }
        let done = |event: &Event| matches!(event, Event::HandOver { refusal: None });
        assert!(
            told(&rack, rack.gw1, done),
            "{boards:?}\n{}",
            rack.world.journal()
        );
        // It stands back, although it has the higher priority, until somebody says otherwise.
        rack.world.run(5 * SECOND);
        assert!(
            is_alone(&rack, rack.gw2),
            "{boards:?}\n{}",
            rack.world.journal()
        );
    }
}

#[test]
fn nobody_hands_over_to_nobody() {
    let mut rack = started(4, Boards::TwoPorts);
    rack.world.power(rack.gw2, false);
    rack.world.run(SECOND);
    assert!(rack.world.hand_over(rack.gw1).is_err());
    rack.world.run(5 * SECOND);
    assert!(is_alone(&rack, rack.gw1), "{}", rack.world.journal());
}

/// Frames that waited while it stood still are not answered: by then the other one is Active.
#[test]
fn who_stood_still_looks_before_it_goes_on() {
    for boards in ALL {
        let mut rack = started(5, boards);
        let stream = user(&mut rack);
        rack.world.run(SECOND);
        rack.world.freeze(rack.gw1, SECOND);
        rack.world.run(999 * MS);
        assert!(
            rack.world.is_active(rack.gw2),
            "{boards:?}\n{}",
            rack.world.journal()
        );
        rack.world.run(2 * MS);
        assert!(
            !rack.world.is_active(rack.gw1),
            "{boards:?}\n{}",
            rack.world.journal()
        );
        rack.world.run(3 * SECOND);
        let one = is_alone(&rack, rack.gw1) || is_alone(&rack, rack.gw2);
        assert!(one, "{boards:?}\n{}", rack.world.journal());
        assert!(!rack.world.stream(rack.uplink, stream).broken, "{boards:?}");
    }
}

fn started(seed: u64, boards: Boards) -> Rack {
    let mut rack = Rack::paired(seed, boards, HEARTBEAT, MISSES);
    rack.world.run(4 * SECOND);
    assert!(
        is_alone(&rack, rack.gw1),
        "{boards:?}\n{}",
        rack.world.journal()
    );
    rack
}

fn user(rack: &mut Rack) -> StreamId {
    let public = rack.public();
    rack.world.connect(rack.uplink, USER, public, HTTPS)
}

fn answers(rack: &Rack, stream: StreamId) -> usize {
    rack.world.stream(rack.uplink, stream).answers.len()
}

fn is_alone(rack: &Rack, node: NodeId) -> bool {
    let active = |other: &NodeId| rack.world.is_active(*other);
    let all: Vec<NodeId> = [rack.gw1, rack.gw2].into_iter().filter(active).collect();
    all == [node]
}

fn until_active(rack: &mut Rack, which: impl Fn(&Rack) -> NodeId, most: Duration) -> bool {
    let node = which(rack);
    rack.world
        .run_until(most, |world| world.is_active(node))
        .is_some()
}

fn told(rack: &Rack, node: NodeId, what: impl Fn(&Event) -> bool) -> bool {
    rack.world
        .events()
        .iter()
        .any(|(_, id, event)| *id == node && what(event))
}
