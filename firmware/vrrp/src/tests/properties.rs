//! Any inputs in any order.

use std::vec;

use policy::{Announce, MAX_ROUTERS, Track, Tracked};
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(cases(64))]

    /// As many routers as there can be, all that can be configured: every answer fits (the pushes assert it), a timer served at
    /// its deadline is not due again at once, a Backup is silent, and claims and releases alternate.
    #[test]
    fn any_inputs(
        priority in prop_oneof![1..=255_u8, Just(255)],
        preempt in any::<bool>(),
        delays in [prop_oneof![Just(0), 0..5_000_u32], prop_oneof![Just(0), 0..5_000_u32]],
        announce in [0..5_u8, 0..5_u8],
        inputs in prop::collection::vec((pause(), input()), 0..200),
    ) {
        let mut config = pair_config(policy::MAX_INTERFACES as u8);
        for n in 0..policy::MAX_INTERFACES as u8 {
            let mut six = VirtualRouter::new(n, 1, [VirtualRouter::link_local(1).into()]);
            six.advertisement_interval = 100;
            config.routers.push(six).unwrap();
        }
        config.availability.priority = priority;
        config.availability.preempt = preempt;
        [config.availability.preempt_delay, config.availability.start_delay] = delays;
        config.availability.announce = Announce {
            repeat: announce[0],
            rival: announce[1],
            gap: 0,
            ..Announce::default()
        };
        let conditions = [
            (Tracked::Port(1), -30, false),
            (Tracked::Neighbours(1), 30, true),
            (Tracked::Service(1), 253, false),
            (Tracked::Posted(1), 0, false),
        ];
        let tracks = conditions.map(|(what, weight, reverse)| Track { what, weight, reverse });
        config.availability.tracks = tracks.into_iter().collect();
        let mut group = Group::new(&config);
        prop_assert_eq!(config.routers.len(), MAX_ROUTERS);

        let mut now = NOW;
        let mut claimed = false;
        let mut lingers = false;
        for (pause, input) in inputs {
            now = now + Duration::from_micros(pause);
            for input in [input, Input::Timer] {
                let mut state = group.state();
                for action in group.step(now, input) {
                    match action {
                        SendAdvert { .. } | Announce => prop_assert!(claimed),
                        Claim => {
                            prop_assert!(!claimed);
                            (claimed, lingers) = (true, false);
                        }
                        Linger => {
                            prop_assert!(claimed);
                            (claimed, lingers) = (false, true);
                        }
                        Release => {
                            prop_assert!(claimed || lingers);
                            (claimed, lingers) = (false, false);
                        }
                        StateChanged { from, to, .. } => {
                            prop_assert_eq!(from, state);
                            prop_assert_ne!(to, state);
                            state = to;
                        }
                        Handover(_) | Silent { .. } => {}
                    }
                }
                prop_assert_eq!(group.state(), state);
                prop_assert_eq!(claimed, state == Active);
                prop_assert!(group.priority() > 0);
            }
            prop_assert!(group.deadline().is_none_or(|deadline| deadline > now));
        }
    }
}

/// That many, or what the environment asks for.
fn cases(quick: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        None => ProptestConfig::with_cases(quick),
        Some(_) => ProptestConfig::default(),
    }
}

fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..5_000_u64,
        0..30_000_u64,
        0..400_000_u64,
        0..5_000_000_u64
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let port = 0..9_u8;
    let priority = prop_oneof![Just(0), Just(1), Just(100), any::<u8>()];
    let advert = (
        0..17_u8,
        priority.clone(),
        any::<u8>(),
        prop_oneof![Just(100_000), 0..50_000_000_u64],
    )
        .prop_map(|(router, priority, host, interval)| {
            let interval = Duration::from_micros(interval);
            Input::Advert(Advert {
                interval,
                ..received(router, priority, host)
            })
        });
    let state = prop_oneof![
        1 => Just(Initialize),
        4 => Just(Backup),
        4 => Just(Active),
        1 => Just(Fault)
    ];
    let alive = (state, priority, any::<bool>(), any::<bool>());
    let alive = alive.prop_map(|(state, priority, yielding, in_sync)| Peer::Alive {
        state,
        priority,
        yielding,
        in_sync,
    });
    let peer = prop_oneof![1 => Just(Peer::Unknown), 2 => Just(Peer::Lost), 6 => alive];
    let reason = (0..Reason::ALL.len()).prop_map(|index| Reason::ALL[index]);
    prop_oneof![
        2 => Just(Input::Start),
        1 => Just(Input::Stop),
        4 => Just(Input::Timer),
        8 => advert,
        1 => (port.clone(), any::<bool>()).prop_map(|(port, up)| Input::Link { port, up }),
        2 => (port, Just(true)).prop_map(|(port, up)| Input::Link { port, up }),
        1 => (0..6_u8, any::<bool>()).prop_map(|(track, good)| Input::Track { track, good }),
        2 => (0..6_u8, Just(true)).prop_map(|(track, good)| Input::Track { track, good }),
        2 => (reason, any::<bool>()).prop_map(|(reason, on)| Input::Demote { reason, on }),
        8 => peer.prop_map(Input::Peer),
        1 => Just(Input::Handover),
    ]
}
