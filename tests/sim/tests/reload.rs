//! Configurations that change while a pair works, told on the example site: nobody notices what does not concern them.

use std::net::IpAddr;

use node::Event;
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{Config, Limit, LimitKind, Name, Scope, Service, Track, Tracked, VirtualRouter};
use proptest::prelude::*;
use sim::{Boards, NodeId, Rack, StreamId, USER};
use time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// Something an operator may change. None of it concerns the connections of users to HTTPS.
#[derive(Clone, Copy, Debug)]
enum Change {
    Router(bool),
    Address(bool),
    Service(bool),
    Order,
    Rule,
    Limit,
    Pace(u16),
    Interval(u16),
    Heartbeat(u16),
    PreemptDelay(u32),
    Track(i16),
    Masquerade,
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            any::<bool>().prop_map(Self::Router),
            any::<bool>().prop_map(Self::Address),
            any::<bool>().prop_map(Self::Service),
            Just(Self::Order),
            Just(Self::Rule),
            Just(Self::Limit),
            (500..2000_u16).prop_map(Self::Pace),
            prop_oneof![Just(5), Just(10), Just(50)].prop_map(Self::Interval),
            prop_oneof![Just(5), Just(10), Just(50)].prop_map(Self::Heartbeat),
            (0..5000_u32).prop_map(Self::PreemptDelay),
            (-50..=-1_i16).prop_map(Self::Track),
            Just(Self::Masquerade),
        ]
    }

    fn apply(self, config: &mut Config, rules: &mut Vec<Rule>) {
        let availability = &mut config.availability;
        match self {
            Self::Router(true) => {
                config.routers.retain(|router| router.vrid != NEW);
                let new = VirtualRouter {
                    advertisement_interval: config.routers[0].advertisement_interval,
                    ..VirtualRouter::new(1, NEW, [address(&config.interfaces[1], 250)])
                };
                config.routers.push(new).expect("there is room");
            }
            Self::Router(false) => config.routers.retain(|router| router.vrid != NEW),
            Self::Address(on) => {
                let new = address(&config.interfaces[0], 99);
                let addresses = &mut config.routers[0].addresses;
                addresses.retain(|address| *address != new);
                if on {
                    addresses.push(new).expect("there is room");
                }
            }
            Self::Service(true) => {
                config.services.retain(|service| service.port != 8080);
                let new = Service {
                    name: Name::try_from("new").expect("a name"),
                    port: 8080,
                    ..config.services[0].clone()
                };
                config.services.insert(0, new).expect("there is room");
            }
            Self::Service(false) => config.services.retain(|service| service.port != 8080),
            Self::Order => {
                let last = config.services.len() - 1;
                config.services.swap(0, last);
                for service in &mut config.services {
                    service.servers.swap(0, 1);
                }
            }
            Self::Rule => rules.insert(0, drops(8080)),
            Self::Limit => {
                let limit = Limit {
                    kind: LimitKind::Flows { max: 1000 },
                    scope: Scope::Rule,
                };
                let new = config.limits.len() as u8;
                config.limits.push(limit).expect("there is room");
                for rule in rules
                    .iter_mut()
                    .filter(|rule| rule.action == Action::Accept)
                {
                    rule.flows = Some(new);
                }
            }
            Self::Pace(interval) => {
                for service in &mut config.services {
                    service.check.interval_ms = interval;
                }
            }
            Self::Interval(interval) => {
                for router in &mut config.routers {
                    router.advertisement_interval = interval;
                }
            }
            Self::Heartbeat(heartbeat) => {
                let pair = availability.pair.as_mut().expect("a pair");
                pair.heartbeat = heartbeat;
            }
            Self::PreemptDelay(delay) => availability.preempt_delay = delay,
            Self::Track(weight) => {
                availability.tracks.clear();
                let track = Track {
                    what: Tracked::Service(0),
                    weight,
                    reverse: false,
                };
                availability.tracks.push(track).expect("there is room");
            }
            Self::Masquerade => {
                let IpAddr::V4(shared) = config.routers[0].addresses[0] else {
                    unreachable!("the example's first router is one of IPv4");
                };
                let nat = policy::Nat::Source {
                    source: policy::Prefix::of([10, 99, 0, 0].into(), 16),
                    to: 0,
                    address: shared,
                    first: 32_768,
                    last: 60_999,
                };
                config.nat.clear();
                config.nat.push(nat).expect("there is room");
            }
        }
    }
}

const NEW: u8 = 200;

fn address(interface: &policy::Interface, host: u8) -> IpAddr {
    let [a, b, c, _] = interface.address.octets();
    IpAddr::from([a, b, c, host])
}

/// A rule that drops what asks for a port.
fn drops(port: u16) -> Rule {
    Rule {
        name: Name::try_from("drops").expect("a name"),
        from: Legs::ANY,
        to: Legs::ANY,
        sources: Vec::new(),
        destinations: Vec::new(),
        protocol: Protocol::Tcp(Ports::to(port)),
        state: State::New,
        action: Action::Drop,
        log: false,
        rate: None,
        flows: None,
        sharing: policy::rule::Sharing::Usual,
    }
}

fn started(seed: u64, boards: Boards) -> Rack {
    let mut rack = Rack::paired(seed, boards, 10, 3);
    let (gw1, gw2) = (rack.gw1, rack.gw2);
    let up = rack.world.run_until(10 * SECOND, |world| {
        world.is_active(gw1) && world.node(gw2).is_some_and(|node| node.state().is_some())
    });
    assert!(up.is_some(), "{}", rack.world.journal());
    rack.world.run(2 * SECOND);
    rack
}

fn user(rack: &mut Rack, port: u16) -> StreamId {
    let public = rack.public();
    rack.world.connect(rack.uplink, USER, public, port)
}

/// Gives both a changed configuration, the Backup first, and lets time pass after each.
fn give(
    rack: &mut Rack,
    fingerprint: u64,
    pause: Duration,
    alter: impl Fn(&mut Config, &mut Vec<Rule>),
) {
    for id in [rack.gw2, rack.gw1] {
        let policy = rack.changed(id, |config, rules| {
            alter(config, rules);
            let pair = config.availability.pair.as_mut().expect("a pair");
            pair.fingerprint = fingerprint;
        });
        assert_eq!(rack.world.reload(id, policy), Ok(()));
        watched(rack, pause);
    }
}

/// Lets time pass, in which there is never nobody, nor two.
fn watched(rack: &mut Rack, span: Duration) {
    let (gw1, gw2) = (rack.gw1, rack.gw2);
    let wrong = |world: &sim::World| world.is_active(gw1) == world.is_active(gw2);
    let wrong = rack.world.run_until(span, wrong);
    assert_eq!(wrong, None, "{}", rack.world.journal());
}

fn states(rack: &Rack) -> usize {
    let state = |event: &Event| matches!(event, Event::State { .. });
    let events = rack.world.events().iter();
    events.filter(|(_, _, event)| state(event)).count()
}

fn told(rack: &Rack, id: NodeId, what: impl Fn(&Event) -> bool) -> usize {
    let events = rack.world.events().iter();
    events
        .filter(|(_, node, event)| *node == id && what(event))
        .count()
}

/// A handful, and more if there is time.
fn cases() -> u32 {
    match std::env::var_os("RAVELIN_SOAK") {
        Some(_) => 200,
        None => 6,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    /// Whatever changes: one appliance is Active all the time, and it is the same one; connections go on without a pause; and
    /// after a hand-over in the middle of all that too.
    #[test]
    fn nobody_notices_what_changes(
        seed: u64,
        trunk: bool,
        changes in prop::collection::vec((Change::any(), 0..400_u64), 1..5),
        hands_over: bool,
    ) {
        let boards = if trunk { Boards::Trunk } else { Boards::TwoPorts };
        let mut rack = started(seed, boards);
        let streams: Vec<StreamId> = (0..4).map(|_| user(&mut rack, HTTPS)).collect();
        rack.world.run(SECOND);
        let before = states(&rack);
        for (number, (change, pause)) in (2..).zip(&changes) {
            give(&mut rack, number, *pause as u32 * MS, |config, rules| change.apply(config, rules));
        }
        prop_assert_eq!(states(&rack), before, "{}", rack.world.journal());
        for stream in &streams {
            let stream = rack.world.stream(rack.uplink, *stream);
            prop_assert!(stream.established && !stream.broken, "{}", rack.world.journal());
            prop_assert!(stream.longest_gap < 60 * MS, "{:?}\n{}", stream.longest_gap, rack.world.journal());
        }
        if hands_over {
            watched(&mut rack, SECOND);
            prop_assert_eq!(rack.world.hand_over(rack.gw1), Ok(()), "{}", rack.world.journal());
        }
        rack.world.run(2 * SECOND);
        let now = rack.world.now();
        for stream in &streams {
            let stream = rack.world.stream(rack.uplink, *stream);
            prop_assert!(!stream.broken && now.since(stream.last_answer) < 100 * MS, "{}", rack.world.journal());
        }
    }
}

/// Flows that a Backup with another configuration hears of are named by their addresses: all go on there, through services too.
#[test]
fn connections_survive_a_hand_over_between_configurations() {
    let mut rack = started(1, Boards::TwoPorts);
    let old = user(&mut rack, HTTPS);
    rack.world.run(SECOND);
    let policy = rack.changed(rack.gw2, |config, rules| {
        Change::Service(true).apply(config, rules);
        Change::Order.apply(config, rules);
        config.availability.pair.as_mut().unwrap().fingerprint = 2;
    });
    assert_eq!(rack.world.reload(rack.gw2, policy), Ok(()));
    let new = user(&mut rack, HTTPS);
    // For longer than what a Backup is not told of again stays there.
    watched(&mut rack, 30 * SECOND);
    let differ = |event: &Event| matches!(event, Event::Pair(sync_event) if format!("{sync_event:?}").starts_with("Mismatch"));
    assert!(
        told(&rack, rack.gw1, differ) > 0,
        "{}",
        rack.world.journal()
    );
    assert_eq!(rack.world.hand_over(rack.gw1), Ok(()));
    rack.world.run(3 * SECOND);
    assert!(rack.world.is_active(rack.gw2), "{}", rack.world.journal());
    for stream in [old, new] {
        let stream = rack.world.stream(rack.uplink, stream);
        let ago = rack.world.now().since(stream.last_answer);
        assert!(!stream.broken && ago < 100 * MS, "{}", rack.world.journal());
    }
}

#[test]
fn what_rules_no_longer_accept_is_over() {
    let mut rack = started(2, Boards::TwoPorts);
    let (stays, goes) = (user(&mut rack, HTTPS), user(&mut rack, HTTP));
    rack.world.run(SECOND);
    let answers = |rack: &Rack, stream| rack.world.stream(rack.uplink, stream).answers.len();
    assert!(answers(&rack, goes) > 10, "{}", rack.world.journal());
    give(&mut rack, 2, 100 * MS, |_, rules| {
        rules.insert(0, drops(HTTP))
    });
    let before = [stays, goes].map(|stream| answers(&rack, stream));
    rack.world.run(2 * SECOND);
    let after = [stays, goes].map(|stream| answers(&rack, stream));
    assert!(after[0] > before[0] + 50, "{}", rack.world.journal());
    assert!(after[1] <= before[1] + 1, "{}", rack.world.journal());
    let over = |event: &Event| matches!(event, Event::Configured { flows: 1.. });
    assert_eq!(told(&rack, rack.gw1, over), 1, "{}", rack.world.journal());
}

#[test]
fn what_cannot_change_is_refused_before_anything_has() {
    let mut rack = started(3, Boards::TwoPorts);
    let table: [(Damage, &str); 5] = [
        (|config| config.interfaces[0].mac[5] ^= 1, "network wan"),
        (
            |config| config.interfaces[1].vlan = Some(4000),
            "network edge",
        ),
        (
            |config| {
                let last = config.interfaces.len() - 1;
                let mut new = config.interfaces[last].clone();
                (new.name, new.vlan) = (Name::try_from("new").unwrap(), Some(77));
                new.address = [10, 77, 0, 2].into();
                new.track.clear();
                config.interfaces.push(new).unwrap();
            },
            "network new",
        ),
        (|config| config.name = Name::try_from("gw9").unwrap(), "gw9"),
        (|config| config.availability.pair = None, "no operator"),
    ];
    for (alter, word) in table {
        let policy = rack.changed(rack.gw1, |config, _| alter(config));
        let before = rack.world.events().len();
        let refused = rack.world.reload(rack.gw1, policy).unwrap_err();
        assert!(refused.contains(word), "{refused}");
        assert_eq!(rack.world.events().len(), before);
    }
}

/// A preempting Backup waits for what is left of its delay, not for all of it again.
#[test]
fn a_preempt_delay_goes_on() {
    let mut rack = started(4, Boards::TwoPorts);
    let delay = |config: &mut Config, _: &mut Vec<Rule>| {
        config.availability.preempt_delay = 4000;
    };
    give(&mut rack, 2, 100 * MS, delay);
    rack.world.power(rack.gw1, false);
    rack.world.run(SECOND);
    rack.world.power(rack.gw1, true);
    let (gw1, gw2) = (rack.gw1, rack.gw2);
    // Every half second something changes.
    for number in 3..10 {
        for id in [gw1, gw2] {
            let policy = rack.changed(id, |config, rules| {
                Change::Address(number % 2 == 0).apply(config, rules);
                config.availability.pair.as_mut().unwrap().fingerprint = number;
            });
            assert_eq!(rack.world.reload(id, policy), Ok(()));
        }
        rack.world.run(500 * MS);
    }
    assert!(rack.world.is_active(gw2), "{}", rack.world.journal());
    let back = rack
        .world
        .run_until(2 * SECOND, |world| world.is_active(gw1));
    assert!(back.is_some(), "{}", rack.world.journal());
}

/// What somebody does to a configuration.
type Damage = fn(&mut Config);
