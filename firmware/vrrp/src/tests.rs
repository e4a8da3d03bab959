//! Every transition of RFC 9568 §6.4, and what a group of several legs adds to it.

use std::vec::Vec as List;

use policy::{Availability, Config, Interface, Track, Tracked, VirtualRouter};
use proptest::prelude::*;
use time::Instant;

use super::Action::*;
use super::State::*;
use super::*;

const NOW: Instant = Instant::from_micros(1_000_000);
const INTERVAL: Duration = Duration::from_millis(100);
/// Skew_Time of priority 100 with an interval of 100 ms: 156 / 256 of it.
const SKEW: Duration = Duration::from_micros(60_937);
/// Active_Down_Interval of the same.
const DOWN: Duration = Duration::from_micros(360_937);
/// Source addresses below and above our own, which ends in 5.
const LOWER: u8 = 4;
const HIGHER: u8 = 6;

/// Rows follow RFC 9568 §6.4 for one leg; our own priority is 100, the interval 100 ms, and a Backup has
/// heard its Active at `NOW`. The last column is the timer after the step, from `NOW`.
#[test]
fn transitions() {
    let down = Some(DOWN);
    let adver = Some(INTERVAL);
    let advert_100: List<Action> = List::from([advert(0, 100)]);
    let goodbye = [
        advert(0, 0),
        Release,
        changed(Active, Initialize, Cause::Stopped),
    ];
    let yields = |priority| {
        let cause = Cause::StrongerPeer { leg: 0, priority };
        List::from([Release, changed(Active, Backup, cause)])
    };
    let starts = [changed(Initialize, Backup, Cause::Started)];
    let stops = [changed(Backup, Initialize, Cause::Stopped)];
    let none = List::new;

    #[rustfmt::skip]
    let table = [
        // name                                  before      input               after       actions          timer
        ("start",                                Initialize, Input::Start,       Backup,     starts.to_vec(), down),
        ("adverts before start",                 Initialize, heard(255, HIGHER), Initialize, none(),          None),
        ("timer before start",                   Initialize, Input::Timer,       Initialize, none(),          None),
        ("stop before start",                    Initialize, Input::Stop,        Initialize, none(),          None),

        ("start twice",                          Backup,     Input::Start,       Backup,     none(),          down),
        ("stop a Backup",                        Backup,     Input::Stop,        Initialize, stops.to_vec(),  None),
        ("timer too early",                      Backup,     Input::Timer,       Backup,     none(),          down),
        ("goodbye starts the skew time",         Backup,     heard(0, LOWER),    Backup,     none(),          Some(SKEW)),
        ("an equal Active is accepted",          Backup,     heard(100, LOWER),  Backup,     none(),          down),
        ("a stronger Active is accepted",        Backup,     heard(255, LOWER),  Backup,     none(),          down),
        ("a weaker Active is discarded",         Backup,     heard(99, HIGHER),  Backup,     none(),          down),

        ("stop an Active",                       Active,     Input::Stop,        Initialize, goodbye.to_vec(), None),
        ("start an Active",                      Active,     Input::Start,       Active,     none(),          adver),
        ("a goodbye is answered",                Active,     heard(0, HIGHER),   Active,     advert_100.clone(), adver),
        ("a weaker Active is answered",          Active,     heard(99, HIGHER),  Active,     advert_100.clone(), adver),
        ("equal and lower address is answered",  Active,     heard(100, LOWER),  Active,     advert_100.clone(), adver),
        ("equal and higher address wins",        Active,     heard(100, HIGHER), Backup,     yields(100),     down),
        ("stronger Active wins",                 Active,     heard(101, LOWER),  Backup,     yields(101),     down),
        ("the owner wins",                       Active,     heard(255, LOWER),  Backup,     yields(255),     down),
    ];
    for (name, before, input, after, actions, timer) in table {
        let mut group = group_in(before, &[100]);
        assert_eq!(group.step(NOW, input), actions[..], "{name}");
        assert_eq!(group.state(), after, "{name}");
        assert_eq!(
            running(&group).map(|timer| timer.since(NOW)),
            timer,
            "{name}"
        );
    }
}

#[test]
fn silence_elects_us() {
    let mut group = group_in(Backup, &[100]);
    let due = election(&group);
    for now in [
        NOW + INTERVAL,
        NOW + 2 * INTERVAL,
        NOW + 3 * INTERVAL,
        due - TICK,
    ] {
        assert_eq!(group.step(now, Input::Timer), []);
    }
    let takes_over = [
        Claim,
        advert(0, 100),
        Announce,
        changed(Backup, Active, Cause::Silence),
    ];
    assert_eq!(group.step(due, Input::Timer), takes_over);
    assert_eq!(group.deadline(), Some(due + INTERVAL));
}

/// Who was Active beside us for a moment has drawn switches to itself.
#[test]
fn an_active_that_was_contested_announces_again() {
    for rival in [heard(99, HIGHER), heard(0, HIGHER)] {
        let mut group = group_in(Active, &[100]);
        let later = settled(&mut group);
        assert_eq!(group.step(later, rival), [advert(0, 100)]);
        let soon = later + Duration::from_millis(100);
        // More of the same does not put it off.
        let _ = group.step(soon - TICK, rival);
        assert!(group.step(soon, Input::Timer).contains(&Announce));
    }
}

/// A stalled emulator or a busy processor must not be taken for a dead Active.
#[test]
fn who_slept_listens_for_one_more_interval() {
    let late = NOW + Duration::from_secs(5);
    let mut group = group_in(Backup, &[100]);
    assert_eq!(
        group.step(late, Input::Timer),
        [],
        "adverts may still be in the queue"
    );
    assert_eq!(election(&group), late + INTERVAL);
    let _ = group.step(late, heard(200, HIGHER));
    assert_eq!(election(&group), late + DOWN, "there was one");
    assert_eq!(
        group.step(late + Duration::from_secs(5), Input::Timer),
        [],
        "so the next sleep is excused as well"
    );

    let mut group = group_in(Backup, &[100]);
    assert_eq!(group.step(late, Input::Timer), []);
    let later = late + Duration::from_secs(5);
    assert_eq!(
        group.step(later, Input::Timer).len(),
        4,
        "but who always sleeps is elected too"
    );
}

#[test]
fn an_active_advertises_without_drift() {
    let mut group = group_in(Active, &[100]);
    let first = settled(&mut group) + INTERVAL;
    assert_eq!(group.deadline(), Some(first));
    let late = first + INTERVAL / 2;
    assert_eq!(group.step(late, Input::Timer), [advert(0, 100)]);
    assert_eq!(
        group.deadline(),
        Some(first + INTERVAL),
        "a late call does not shift the next one"
    );
    let much_later = first + 10 * INTERVAL;
    assert_eq!(
        group.step(much_later, Input::Timer),
        [advert(0, 100)],
        "no burst to catch up"
    );
    assert_eq!(group.deadline(), Some(much_later + INTERVAL));
}

#[test]
fn announcements_are_repeated_after_a_take_over() {
    let mut group = group_in(Backup, &[100]);
    let start = election(&group);
    let mut times = List::new();
    while group.deadline().unwrap() < start + Duration::from_secs(60) {
        let now = group.deadline().unwrap();
        if group.step(now, Input::Timer).contains(&Announce) {
            times.push(now.since(start).as_millis());
        }
    }
    assert_eq!(times, [0, 100, 1100, 5100]);
}

#[test]
fn the_interval_of_the_active_is_learned_and_forgotten() {
    let mut group = group_in(Backup, &[100]);
    let slow = Duration::from_secs(1);
    assert_eq!(group.step(NOW, heard_at(slow, 200)), []);
    let slow_down = 3 * slow + slow * 156 / 256;
    assert_eq!(running(&group), Some(NOW + slow_down));
    assert_eq!(group.step(NOW, heard_at(slow / 2, 50)), []);
    assert_eq!(
        running(&group),
        Some(NOW + slow_down),
        "nothing is learned from a weaker one"
    );

    let _ = group.step(NOW, Input::Stop);
    let _ = group.step(NOW, Input::Start);
    assert_eq!(running(&group), Some(NOW + 3 * INTERVAL + SKEW));

    let mut group = group_in(Active, &[100]);
    let _ = group.step(NOW, heard_at(slow, 200));
    assert_eq!(
        running(&group),
        Some(NOW + slow_down),
        "learned while falling"
    );
}

#[test]
fn without_preemption_a_weaker_active_is_left_alone() {
    let mut config = config(&[100]);
    config.availability.preempt = false;
    let mut group = Group::new(&config);
    let _ = group.step(Instant::ZERO, Input::Start);
    assert_eq!(group.step(NOW, heard(1, LOWER)), []);
    assert_eq!(running(&group), Some(NOW + 3 * INTERVAL + SKEW));
}

/// FACTS of other implementations: a stream of adverts that are discarded must not keep a router silent,
/// and a stream of goodbyes must not keep a Backup from its election.
#[test]
fn no_stream_of_adverts_holds_timers_up() {
    for (priority, elected) in [(0, NOW + SKEW), (99, NOW + 3 * INTERVAL + SKEW)] {
        let mut group = group_in(Backup, &[100]);
        let mut now = NOW;
        while group.state() == Backup {
            let _ = group.step(now, heard(priority, HIGHER));
            let _ = group.step(now, Input::Timer);
            assert!(now < elected + SKEW / 2, "priority {priority}");
            now = now + SKEW / 2;
        }
    }
    let mut group = group_in(Active, &[100]);
    let start = settled(&mut group);
    for step in 0..100 {
        let now = start + INTERVAL / 2 * step;
        assert_eq!(
            group.step(now, heard(99, HIGHER)),
            [advert(0, 100)],
            "answered at once"
        );
        let regular = group.step(now, Input::Timer);
        assert_eq!(
            regular.contains(&advert(0, 100)),
            step > 0 && step % 2 == 0,
            "the regular ones go on, step {step}"
        );
    }
}

#[test]
fn foreign_and_impossible_inputs_change_nothing() {
    let own_address = Input::Advert(Advert {
        source: own(0),
        ..received(0, 255, HIGHER)
    });
    let table = [
        ("reflected", own_address),
        ("interval zero", heard_at(Duration::ZERO, 255)),
        (
            "a leg without router",
            Input::Advert(received(2, 255, HIGHER)),
        ),
        (
            "a leg that is not there",
            Input::Advert(received(3, 255, HIGHER)),
        ),
        (
            "the last leg of all",
            Input::Advert(received(255, 255, HIGHER)),
        ),
        (
            "a port that is not there",
            Input::Link { port: 9, up: false },
        ),
        (
            "a port that is up already",
            Input::Link { port: 2, up: true },
        ),
        (
            "tracking of a leg that is not there",
            Input::Track {
                leg: 200,
                reachable: false,
            },
        ),
    ];
    for state in [Initialize, Backup, Active, Fault] {
        for (name, input) in table {
            let mut group = group_in(state, &[100, 100]);
            let deadline = group.deadline();
            assert_eq!(group.step(NOW, input), [], "{name} in {state:?}");
            assert_eq!(
                (group.state(), group.deadline()),
                (state, deadline),
                "{name} in {state:?}"
            );
        }
    }
}

#[test]
fn one_silent_leg_elects_nobody() {
    let mut group = group_in(Backup, &[100, 100]);
    let mut now = NOW;
    for _ in 0..100 {
        assert_eq!(group.step(now, Input::Advert(received(1, 200, HIGHER))), []);
        now = now + INTERVAL;
        assert_eq!(group.step(now, Input::Timer), []);
    }
    assert_eq!(
        running(&group),
        Some(now + 2 * INTERVAL + SKEW),
        "the leg heard last decides"
    );
    let due = elected(&mut group.clone());
    let _ = group.step(due - TICK, Input::Timer);
    let takes_over = [
        Claim,
        advert(0, 100),
        advert(1, 100),
        Announce,
        changed(Backup, Active, Cause::Silence),
    ];
    assert_eq!(group.step(due, Input::Timer), takes_over);
}

#[test]
fn a_stronger_peer_on_one_leg_takes_all() {
    let mut group = group_in(Active, &[100, 100]);
    let cause = Cause::StrongerPeer {
        leg: 1,
        priority: 200,
    };
    let actions = group.step(NOW, Input::Advert(received(1, 200, HIGHER)));
    assert_eq!(actions, [Release, changed(Active, Backup, cause)]);
}

#[test]
fn a_goodbye_on_one_leg_shortens_the_wait_on_the_others() {
    let mut group = group_in(Backup, &[100, 100]);
    let now = NOW + INTERVAL / 2;
    assert_eq!(group.step(now, heard(0, HIGHER)), []);
    assert_eq!(
        running(&group),
        Some(NOW + 2 * INTERVAL),
        "one advert may be late by an interval"
    );
    assert_eq!(group.step(now, Input::Advert(received(1, 0, HIGHER))), []);
    assert_eq!(
        running(&group),
        Some(now + SKEW),
        "with a goodbye everywhere only the skew is left"
    );

    let mut group = group_in(Backup, &[100, 100]);
    assert_eq!(group.step(now, heard(0, HIGHER)), []);
    assert_eq!(group.step(now, Input::Advert(received(1, 200, HIGHER))), []);
    assert_eq!(
        running(&group),
        Some(now + 3 * INTERVAL + SKEW),
        "who goes on is believed"
    );
}

#[test]
fn carrier_decides_about_fault() {
    let lost = Cause::LinkLost { port: 1 };
    let down = Input::Link { port: 1, up: false };
    let up = Input::Link { port: 1, up: true };

    let mut group = group_in(Active, &[100, 100]);
    let actions = [advert(0, 0), Release, changed(Active, Fault, lost)];
    assert_eq!(
        group.step(NOW, down),
        actions,
        "goodbye on the leg that is left"
    );
    assert_eq!(group.deadline(), None);
    assert_eq!(group.step(NOW, down), [], "once");
    assert_eq!(group.step(NOW, heard(0, HIGHER)), []);
    assert_eq!(
        group.step(NOW + INTERVAL * 100, Input::Timer),
        [],
        "nobody is elected in Fault"
    );
    let back = NOW + INTERVAL * 200;
    assert_eq!(
        group.step(back, up),
        [changed(Fault, Backup, Cause::LinksBack)]
    );
    assert_eq!(running(&group), Some(back + 3 * INTERVAL + SKEW));

    let mut group = group_in(Backup, &[100, 100]);
    assert_eq!(
        group.step(NOW, down),
        [changed(Backup, Fault, lost)],
        "a Backup has nothing to give up"
    );
    assert_eq!(group.step(NOW, Input::Link { port: 0, up: false }), []);
    assert_eq!(group.step(NOW, up), [], "one of two is not enough");
    assert_eq!(
        group.step(NOW, Input::Stop),
        [changed(Fault, Initialize, Cause::Stopped)]
    );
    let lost = Cause::LinkLost { port: 0 };
    assert_eq!(
        group.step(NOW, Input::Start),
        [changed(Initialize, Fault, lost)]
    );
}

#[test]
fn tracking_lowers_the_priority_on_every_leg() {
    let mut group = group_in(Active, &[100, 100]);
    let lowered = [advert(0, 40), advert(1, 40)];
    assert_eq!(
        group.step(
            NOW,
            Input::Track {
                leg: 1,
                reachable: false
            }
        ),
        lowered
    );
    assert_eq!((group.penalty(), group.priority(0)), (60, Some(40)));
    assert_eq!(
        group.step(
            NOW,
            Input::Track {
                leg: 1,
                reachable: false
            }
        ),
        [],
        "no news"
    );
    assert_eq!(
        group.step(
            NOW,
            Input::Track {
                leg: 0,
                reachable: false
            }
        ),
        [advert(0, 1), advert(1, 1)]
    );
    assert_eq!(group.priority(0), Some(1), "never 0, which is a goodbye");
    assert_eq!(
        group.step(
            NOW,
            Input::Track {
                leg: 0,
                reachable: true
            }
        ),
        lowered
    );
    assert_eq!(
        group.step(
            NOW,
            Input::Track {
                leg: 1,
                reachable: true
            }
        ),
        [advert(0, 100), advert(1, 100)]
    );

    let mut group = group_in(Backup, &[100, 100]);
    assert_eq!(
        group.step(
            NOW,
            Input::Track {
                leg: 0,
                reachable: false
            }
        ),
        []
    );
    let deadline = election(&group);
    assert_eq!(group.step(deadline - TICK, heard(41, LOWER)), []);
    assert!(
        election(&group) > deadline,
        "stronger than what tracking has left us"
    );
    assert_eq!(group.priority(2), None, "a leg without router");
}

#[test]
fn an_appliance_without_routers_is_active_at_once() {
    let mut group = Group::new(&config(&[]));
    assert_eq!(
        group.step(NOW, Input::Start),
        [changed(Initialize, Backup, Cause::Started)]
    );
    assert!(group.deadline() <= Some(NOW));
    let actions = group.step(NOW, Input::Timer);
    assert_eq!(
        actions,
        [Claim, Announce, changed(Backup, Active, Cause::Silence)]
    );
}

proptest! {
    /// Any inputs in any order on as many legs as there can be: every answer fits (the pushes assert it),
    /// and a timer served at its deadline is not due again at once.
    #[test]
    fn any_inputs(inputs in prop::collection::vec((0..400_000_u64, input()), 0..200)) {
        let mut group = Group::new(&config(&[100; MAX_INTERFACES]));
        let mut now = NOW;
        for (pause, input) in inputs {
            now = now + Duration::from_micros(pause);
            let _ = group.step(now, input);
            let _ = group.step(now, Input::Timer);
            prop_assert!(group.deadline().is_none_or(|deadline| deadline > now));
        }
    }
}

fn input() -> impl Strategy<Value = Input> {
    let leg = 0..9_u8;
    let advert = (leg.clone(), any::<[u8; 2]>(), 0..50_000_000_u64).prop_map(
        |(leg, [priority, host], interval)| {
            let interval = Duration::from_micros(interval);
            Input::Advert(Advert {
                interval,
                ..received(leg, priority, host)
            })
        },
    );
    prop_oneof![
        1 => Just(Input::Start),
        1 => Just(Input::Stop),
        4 => Just(Input::Timer),
        8 => advert,
        1 => (leg.clone(), any::<bool>()).prop_map(|(port, up)| Input::Link { port, up }),
        1 => (leg.clone(), Just(true)).prop_map(|(port, up)| Input::Link { port, up }),
        1 => (leg, any::<bool>()).prop_map(|(leg, reachable)| Input::Track { leg, reachable }),
    ]
}

const TICK: Duration = Duration::from_micros(1);

fn group_in(state: State, priorities: &[u8]) -> Group {
    let mut group = Group::new(&config(priorities));
    if state == Fault {
        let _ = group.step(NOW, Input::Link { port: 0, up: false });
        let _ = group.step(NOW, Input::Start);
    }
    if matches!(state, Backup) {
        let _ = group.step(NOW, Input::Start);
    }
    if state == Active {
        let _ = group.step(NOW - DOWN, Input::Start);
        assert_eq!(elected(&mut group), NOW);
    }
    assert_eq!(group.state(), state);
    group
}

/// Lets time pass until the election; its time.
fn elected(group: &mut Group) -> Instant {
    loop {
        let now = group.deadline().unwrap();
        let _ = group.step(now, Input::Timer);
        if group.state() == Active {
            return now;
        }
    }
}

/// When `group` is going to be elected if it hears nothing more.
fn election(group: &Group) -> Instant {
    elected(&mut group.clone())
}

/// The one timer of RFC 9568 that runs: Active_Down_Timer or Adver_Timer.
fn running(group: &Group) -> Option<Instant> {
    match group.state() {
        Backup => Some(election(group)),
        Initialize | Active | Fault => group.deadline(),
    }
}

/// Lets the announcements of a new Active pass; the time of its last advertisement.
fn settled(group: &mut Group) -> Instant {
    let mut now = NOW;
    for _ in 0..200 {
        now = group.deadline().unwrap();
        let _ = group.step(now, Input::Timer);
    }
    now
}

/// Legs 0 and 1 … with routers of these priorities on ports 0 and 1 …, then one leg without.
fn config(priorities: &[u8]) -> Config {
    let mut interfaces: List<Interface> =
        (0..).zip(priorities).map(|(n, _)| interface(n)).collect();
    interfaces.push(interface(priorities.len() as u8));
    let router = |n: u8| VirtualRouter {
        advertisement_interval: 10,
        ..VirtualRouter::new(n, 1 + n, [Ipv4Addr::new(10, 0, n, 1).into()])
    };
    let track = |n: u8| Track {
        what: Tracked::Neighbours(n),
        weight: -60,
        reverse: false,
    };
    Config {
        name: policy::Name::new(),
        interfaces: interfaces.into_iter().take(MAX_INTERFACES).collect(),
        routers: (0..priorities.len() as u8).map(router).collect(),
        availability: Availability {
            priority: priorities.first().copied().unwrap_or(100),
            tracks: (0..=priorities.len() as u8).map(track).collect(),
            ..Availability::default()
        },
        ..Config::default()
    }
}

fn interface(n: u8) -> Interface {
    Interface {
        name: policy::Name::new(),
        port: n,
        vlan: None,
        mac: [2, 0, 0, 0, 0, n],
        address: own(n),
        prefix: 24,
        ..Interface::default()
    }
}

fn own(leg: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, leg, 5)
}

fn received(leg: u8, priority: u8, host: u8) -> Advert {
    Advert {
        leg,
        source: Ipv4Addr::new(10, 0, leg, host),
        priority,
        interval: INTERVAL,
    }
}

fn heard(priority: u8, host: u8) -> Input {
    Input::Advert(received(0, priority, host))
}

fn heard_at(interval: Duration, priority: u8) -> Input {
    Input::Advert(Advert {
        interval,
        ..received(0, priority, HIGHER)
    })
}

fn advert(leg: u8, priority: u8) -> Action {
    SendAdvert { leg, priority }
}

fn changed(from: State, to: State, cause: Cause) -> Action {
    StateChanged { from, to, cause }
}
