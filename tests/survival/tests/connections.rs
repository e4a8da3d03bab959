//! Established connections through all that can happen to the Active: none breaks, and nobody is told to give up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{CLIENTS, Cable, Load, Probes, Talk, Target};
use survival::{Pair, TLS, rounds};

const PROGRAM: &str = env!("CARGO_BIN_EXE_survivor");

#[test]
fn connections_survive_a_power_loss() {
    let mut pair = Pair::new(PROGRAM, "");
    let loads = Loads::open(&pair);
    for _ in 0..rounds() {
        pair.kill(0);
        pair.wait_for(1);
        loads.all_well(&pair);
        pair.start(0);
        pair.settle();
        loads.all_well(&pair);
    }
}

#[test]
fn connections_survive_a_cut_cable() {
    let pair = Pair::new(PROGRAM, "");
    let loads = Loads::open(&pair);
    for cable in [Cable::Wan, Cable::Lan].repeat(rounds()) {
        pair.cut(0, cable);
        pair.wait_for(1);
        loads.all_well(&pair);
        pair.mend(0, cable);
        pair.settle();
        loads.all_well(&pair);
    }
}

/// The Active comes back at once, without any state, and takes over again.
#[test]
fn connections_survive_a_reset() {
    let mut pair = Pair::new(PROGRAM, "");
    let loads = Loads::open(&pair);
    for _ in 0..rounds() {
        pair.kill(0);
        pair.start(0);
        pair.settle();
        loads.all_well(&pair);
    }
}

/// Make before break: not one of a stream of datagrams is lost, in either direction of a hand-over.
#[test]
fn nothing_is_lost_by_a_hand_over() {
    let pair = Pair::new(PROGRAM, "");
    let loads = Loads::open(&pair);
    let streams = Streams::start(&pair);
    let mut orders = Vec::new();
    for _ in 0..rounds() {
        orders.push(("hand over", Instant::now()));
        pair.hand_over(0);
        pair.wait_for(1);
        loads.all_well(&pair);
        orders.push(("take back", Instant::now()));
        pair.maintained(0);
        pair.settle();
        loads.all_well(&pair);
    }
    streams.none_lost(&orders, &pair);
}

/// Who stops in good order lets the other one take over first, and does not stand back when it returns.
#[test]
fn nothing_is_lost_by_a_stop() {
    let mut pair = Pair::new(PROGRAM, "");
    let loads = Loads::open(&pair);
    for _ in 0..rounds() {
        let streams = Streams::start(&pair);
        let stop = ("stop", Instant::now());
        pair.stop(0);
        pair.wait_for(1);
        loads.all_well(&pair);
        streams.none_lost(&[stop], &pair);
        pair.start(0);
        pair.settle();
        loads.all_well(&pair);
    }
}

/// Pings of the virtual address and datagrams to a service behind it, one after the other.
struct Streams([Probes; 2]);

impl Streams {
    fn start(pair: &Pair) -> Self {
        let streams = [Target::Address, Target::Service]
            .map(|target| Probes::start(&pair.lab, target, PROBE_INTERVAL).expect("a socket"));
        sleep(Duration::from_millis(200));
        Self(streams)
    }

    fn none_lost(self, orders: &[(&str, Instant)], pair: &Pair) {
        for (probes, what) in self.0.into_iter().zip(["pings", "datagrams"]) {
            let probes = probes.stop();
            let lost = probes.iter().filter(|probe| probe.answered.is_none());
            let lost: Vec<_> = lost
                .map(|probe| {
                    let last = orders.iter().rev().find(|(_, at)| *at <= probe.sent);
                    last.map(|(order, at)| format!("{:?} after {order}", probe.sent - *at))
                })
                .collect();
            assert!(
                lost.is_empty(),
                "{} of {} {what} lost: {lost:?}\n{}",
                lost.len(),
                probes.len(),
                pair.logs()
            );
        }
    }
}

const PROBE_INTERVAL: Duration = Duration::from_millis(2);

/// A long transfer, conversations with and without TLS, and many connections on which nothing is said.
struct Loads {
    transfer: Load,
    talks: Load,
    sessions: Load,
    idle: Load,
}

impl Loads {
    fn open(pair: &Pair) -> Self {
        let talk = |block, pause: Option<u64>| Talk {
            block,
            pause: pause.map(Duration::from_millis),
        };
        let open = |count, talk| Load::open(&pair.lab, count, talk).expect("the service");
        let (session, tls) = (talk(1000, Some(20)), pair.tls.clone());
        let loads = Self {
            transfer: open(1, talk(16384, Some(5))),
            talks: open(20, talk(64, Some(20))),
            sessions: Load::open_with(&pair.lab, CLIENTS[1], TLS, 4, session, tls)
                .expect("the service"),
            idle: open(1000, talk(64, None)),
        };
        loads.all_well(pair);
        loads
    }

    fn all_well(&self, pair: &Pair) {
        pair.all_well(&[
            ("transfer", &self.transfer),
            ("talks", &self.talks),
            ("TLS sessions", &self.sessions),
            ("idle", &self.idle),
        ]);
    }
}
