//! What the appliances of the model were set up with, and what happens to them.

use std::net::{IpAddr, Ipv4Addr};

use policy::{
    Availability, Config, Interface, Name, Pair, Path, Track, Tracked, Version, VirtualRouter,
};
use proptest::prelude::*;

/// Legs with virtual routers.
pub const LEGS: usize = 2;
/// The legs, and a cable between the two of a pair that only heartbeats use.
pub const PATHS: usize = LEGS + 1;
/// One router of IPv4 on each leg, and one of IPv6 on the second.
pub const ROUTERS: usize = LEGS + 1;
/// The two of a pair, and a plain router of another make.
pub const NODES: usize = 3;
/// Frames may overtake each other, but do not live as long as an interval.
pub const MAX_DELAY_US: u64 = 4_000;

/// The leg of a router.
pub fn leg(router: u8) -> usize {
    usize::from(router).min(LEGS - 1)
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub nodes: [Own; NODES],
    /// Whether the third one exists, and whether the first two know of each other.
    pub third: bool,
    pub pair: bool,
    /// In milliseconds.
    pub heartbeat: u16,
    pub misses: u8,
    pub v2: bool,
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub struct Own {
    pub priority: u8,
    /// In centiseconds; they may differ.
    pub interval: u16,
    pub preempt: bool,
    pub preempt_delay: u32,
    pub start_delay: u32,
    /// Of its clock, in microseconds and parts per million.
    pub offset: u64,
    pub drift: i64,
    /// How long each turn of its loop takes at most, in microseconds: a busy board.
    pub busy: u64,
}

/// What happens. The first number is a node.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// It loses power: it is silent without a goodbye, and forgets everything.
    Kill(usize),
    Boot(usize),
    /// An orderly end.
    Stop(usize),
    /// Its loop does nothing for that many milliseconds.
    Stall(usize, u64),
    /// The carrier of one port goes or comes.
    Carrier(usize, usize, bool),
    /// A path swallows all that it sends.
    Mute(usize, usize),
    /// A path brings it nothing.
    Deafen(usize, usize),
    /// A path of it works again.
    Mend(usize, usize),
    /// It sends nothing and hears nothing on any path.
    Isolate(usize),
    /// All paths of all work again, without loss.
    MendAll,
    /// Share of frames lost everywhere, in percent.
    Loss(u64),
    /// A tracked condition.
    Track(usize, u8, bool),
    Handover(usize),
    Maintenance(usize, bool),
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let priority = prop_oneof![3 => Just(100_u8), 6 => 1..=254_u8];
    let interval = prop_oneof![6 => Just(10_u16), 3 => 2..=30_u16, 1 => 2..=100_u16];
    let delay = || prop_oneof![3 => Just(0_u32), 1 => 0..3_000_u32];
    let own = (
        priority,
        interval,
        any::<bool>(),
        delay(),
        delay(),
        0..1_000_000_000_000_u64,
        -500..500_i64,
        prop_oneof![5 => Just(0_u64), 1 => 0..100_000_u64],
    );
    let own = own.prop_map(
        |(priority, interval, preempt, preempt_delay, start_delay, offset, drift, busy)| Own {
            priority,
            interval,
            preempt,
            preempt_delay,
            start_delay,
            offset,
            drift,
            busy,
        },
    );
    (
        [own.clone(), own.clone(), own],
        prop_oneof![2 => Just(false), 1 => Just(true)],
        prop_oneof![1 => Just(false), 4 => Just(true)],
        prop_oneof![Just(50_u16), 10..200_u16],
        2..5_u8,
        prop_oneof![4 => Just(false), 1 => Just(true)],
        1..=u64::MAX,
    )
        .prop_map(|(nodes, third, pair, heartbeat, misses, v2, seed)| Setup {
            nodes,
            third,
            pair,
            heartbeat,
            misses,
            v2,
            seed,
        })
}

/// Events, each with the milliseconds before it.
pub fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let node = || prop_oneof![3 => 0..2_usize, 1 => Just(2_usize)];
    let path = || 0..PATHS;
    let event = prop_oneof![
        1 => node().prop_map(Event::Kill),
        2 => node().prop_map(Event::Boot),
        1 => node().prop_map(Event::Stop),
        2 => (node(), prop_oneof![0..100_u64, 0..3_000_u64]).prop_map(|(n, ms)| Event::Stall(n, ms)),
        1 => (node(), 0..LEGS, any::<bool>()).prop_map(|(n, leg, up)| Event::Carrier(n, leg, up)),
        1 => (node(), 0..LEGS).prop_map(|(n, leg)| Event::Carrier(n, leg, true)),
        2 => (node(), path()).prop_map(|(n, path)| Event::Mute(n, path)),
        2 => (node(), path()).prop_map(|(n, path)| Event::Deafen(n, path)),
        4 => (node(), path()).prop_map(|(n, path)| Event::Mend(n, path)),
        1 => node().prop_map(Event::Isolate),
        3 => Just(Event::MendAll),
        1 => prop_oneof![Just(0), 0..60_u64].prop_map(Event::Loss),
        2 => (node(), 0..4_u8, any::<bool>()).prop_map(|(n, track, yes)| Event::Track(n, track, yes)),
        1 => (0..2_usize).prop_map(Event::Handover),
        1 => (0..2_usize, any::<bool>()).prop_map(|(n, on)| Event::Maintenance(n, on)),
    ];
    let pause = prop_oneof![0..50_u64, 0..3_000_u64, 0..12_000_u64];
    prop::collection::vec((pause, event), 0..25)
}

/// Own address of a node on a leg; the order of the nodes is the same on all of them.
pub fn address(n: usize, leg: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, leg as u8, 2 + n as u8)
}

pub fn mac(n: usize, leg: usize) -> [u8; 6] {
    [2, 0, 0, 0, leg as u8, n as u8]
}

pub fn source(n: usize, router: u8) -> IpAddr {
    match usize::from(router) < LEGS {
        true => address(n, leg(router)).into(),
        false => IpAddr::V6(wire::nd::link_local(mac(n, leg(router))).into()),
    }
}

pub fn config(n: usize, setup: &Setup) -> Config {
    let own = &setup.nodes[n];
    let interval = match setup.v2 {
        true => 100, // of version 2 all have the same
        false => own.interval,
    };
    let four = |leg: usize| VirtualRouter {
        advertisement_interval: interval,
        version: if setup.v2 { Version::V2 } else { Version::V3 },
        ..VirtualRouter::new(leg as u8, 1, [Ipv4Addr::new(10, 0, leg as u8, 1).into()])
    };
    let six = VirtualRouter {
        advertisement_interval: interval,
        ..VirtualRouter::new(LEGS as u8 - 1, 1, [VirtualRouter::link_local(1).into()])
    };
    let path = |leg: usize| Path {
        interface: leg as u8,
        mac: mac(1 - n, leg),
        address: address(1 - n, leg),
    };
    let pair = (setup.pair && n < 2).then(|| Pair {
        peer: Name::new(),
        first: n == 1, // it has the higher addresses
        paths: (0..LEGS).map(path).collect(),
        serial: true,
        heartbeat: setup.heartbeat,
        misses: setup.misses,
        sync: true,
        defer: false,
        key: [1; 32],
        operator: [2; 32],
        fingerprint: 0,
    });
    let tracks = [
        (Tracked::Neighbours(0), -50, false),
        (Tracked::Service(0), 30, false),
        (Tracked::Posted(0), 20, true),
        (Tracked::Posted(1), 0, false),
    ];
    Config {
        interfaces: (0..LEGS)
            .map(|leg| Interface {
                port: leg as u8,
                mac: mac(n, leg),
                address: address(n, leg),
                ..Interface::default()
            })
            .collect(),
        routers: (0..LEGS).map(four).chain([six]).collect(),
        availability: Availability {
            priority: own.priority,
            preempt: own.preempt,
            preempt_delay: own.preempt_delay,
            start_delay: own.start_delay,
            tracks: tracks
                .into_iter()
                .map(|(what, weight, reverse)| Track {
                    what,
                    weight,
                    reverse,
                })
                .collect(),
            pair,
            ..Availability::default()
        },
        ..Config::default()
    }
}
