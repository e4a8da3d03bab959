//! Tests of the group, and what they share: one or two legs, our own priority 100, an interval of 100 ms, and addresses above
//! and below our own.

use core::net::Ipv4Addr;
use std::vec::Vec as List;

use policy::{Config, Interface, Pair, Path, VirtualRouter};
use time::Instant;

use super::Action::*;
use super::State::*;
use super::*;

mod legs;
mod pair;
mod properties;
mod rfc;
mod standing;

const NOW: Instant = Instant::from_micros(1_000_000_000);
const INTERVAL: Duration = Duration::from_millis(100);
/// Skew_Time of priority 100 with an interval of 100 ms: 156 / 256 of it.
const SKEW: Duration = Duration::from_micros(60_937);
/// Active_Down_Interval of the same.
const DOWN: Duration = Duration::from_micros(360_937);
const TICK: Duration = Duration::from_micros(1);
/// Hosts whose addresses are below and above our own.
const LOWER: u8 = 4;
const OWN: u8 = 5;
const HIGHER: u8 = 6;

/// A group of that many legs in `state` at [`NOW`]; a Backup has heard its Active just then, an Active was elected.
fn group_in(state: State, legs: u8) -> Group {
    group_of(&config(legs), state)
}

fn group_of(config: &Config, state: State) -> Group {
    let mut group = Group::new(config);
    match state {
        Initialize => {}
        Fault => {
            let _ = group.step(NOW, Input::Link { port: 0, up: false });
            let _ = group.step(NOW, Input::Start);
        }
        Backup => {
            let _ = group.step(NOW, Input::Start);
        }
        Active => {
            let _ = group.step(NOW - election_takes(config), Input::Start);
            assert_eq!(elected(&mut group), NOW);
        }
    }
    assert_eq!(group.state(), state);
    group
}

/// How long a group takes from its start to its election if it hears nothing.
fn election_takes(config: &Config) -> Duration {
    let mut group = Group::new(config);
    let _ = group.step(NOW, Input::Start);
    elected(&mut group).since(NOW)
}

/// Lets time pass until the election; its time.
fn elected(group: &mut Group) -> Instant {
    for _ in 0..100_000 {
        let now = group.deadline().unwrap();
        let _ = group.step(now, Input::Timer);
        if group.state() == Active {
            return now;
        }
    }
    panic!("never elected");
}

/// When `group` is going to be elected if it hears nothing more.
fn election(group: &Group) -> Instant {
    elected(&mut group.clone())
}

/// The one timer of RFC 9568 that runs: Active_Down_Timer or Adver_Timer.
fn running(group: &Group) -> Option<Instant> {
    match group.state() {
        Backup => Some(election(group)),
        Active => {
            let mut group = group.clone();
            loop {
                let now = group.deadline()?;
                let actions = group.step(now, Input::Timer);
                if actions.iter().any(|a| matches!(a, SendAdvert { .. })) {
                    return Some(now);
                }
            }
        }
        Initialize | Fault => group.deadline(),
    }
}

/// Serves every timer until `until`; what happened, with its time.
fn served(group: &mut Group, until: Instant) -> List<(Instant, Action)> {
    let mut all = List::new();
    while let Some(now) = group.deadline().filter(|at| *at <= until) {
        let actions = group.step(now, Input::Timer);
        all.extend(actions.into_iter().map(|action| (now, action)));
    }
    all
}

/// Legs 0 and 1 … with routers on ports 0 and 1 …, then one leg without.
fn config(legs: u8) -> Config {
    let router = |n: u8| VirtualRouter {
        advertisement_interval: 10,
        ..VirtualRouter::new(n, 1 + n, [Ipv4Addr::new(10, 0, n, 1).into()])
    };
    let interfaces = (0..=legs).take(policy::MAX_INTERFACES);
    Config {
        interfaces: interfaces.map(interface).collect(),
        routers: (0..legs).map(router).collect(),
        ..Config::default()
    }
}

fn interface(n: u8) -> Interface {
    Interface {
        port: n,
        mac: [2, 0, 0, 0, 0, n],
        address: Ipv4Addr::new(10, 0, n, OWN),
        ..Interface::default()
    }
}

/// The same with a peer on leg 0, heartbeats every 10 ms, dead after three.
fn pair_config(legs: u8) -> Config {
    let path = Path {
        interface: 0,
        mac: [2, 0, 0, 0, 0, 0xff],
        address: Ipv4Addr::new(10, 0, 0, HIGHER),
    };
    let mut config = config(legs);
    config.availability.pair = Some(Pair {
        peer: policy::Name::new(),
        first: false,
        paths: [path].into_iter().collect(),
        serial: false,
        heartbeat: 10,
        misses: 3,
        sync: true,
        defer: false,
        key: [1; 32],
        operator: [2; 32],
        fingerprint: 0,
    });
    config
}

fn received(router: u8, priority: u8, host: u8) -> Advert {
    Advert {
        router,
        source: Ipv4Addr::new(10, 0, router, host).into(),
        priority,
        interval: INTERVAL,
    }
}

fn heard(priority: u8, host: u8) -> Input {
    heard_on(0, priority, host)
}

fn heard_on(router: u8, priority: u8, host: u8) -> Input {
    Input::Advert(received(router, priority, host))
}

fn heard_at(interval: Duration, priority: u8) -> Input {
    Input::Advert(Advert {
        interval,
        ..received(0, priority, HIGHER)
    })
}

fn advert(router: u8, priority: u8) -> Action {
    SendAdvert { router, priority }
}

fn changed(from: State, to: State, cause: Cause) -> Action {
    StateChanged { from, to, cause }
}
