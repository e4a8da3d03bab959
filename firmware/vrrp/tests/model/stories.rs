//! Sequences that once broke a promise.

use crate::setup::{Event, Own, Setup};
use crate::world;

/// Two of a pair with heartbeats every 50 ms, dead after two, and adverts every 100 ms.
fn pair(priorities: [u8; 2]) -> Setup {
    let own = |priority| Own {
        priority,
        interval: 10,
        preempt: false,
        preempt_delay: 0,
        start_delay: 0,
        offset: 0,
        drift: 0,
        busy: 0,
    };
    Setup {
        nodes: [own(priorities[0]), own(priorities[1]), own(100)],
        third: false,
        pair: true,
        heartbeat: 50,
        misses: 2,
        v2: false,
        seed: 1,
    }
}

fn tell(setup: &Setup, events: &[(u64, Event)]) {
    if let Err(why) = world::tell(setup, events) {
        panic!("{why}");
    }
}

#[test]
fn a_hand_over_crosses_adverts() {
    let setup = Setup {
        seed: 10_830_151_081_146_817_629,
        ..pair([135, 100])
    };
    tell(&setup, &[(2644, Event::Handover(0))]);
}
