//! Checks of servers that answer, refuse, keep silent or lie.

use std::vec::Vec as List;

use policy::{Check, CheckKind, Config, Name, Server, Service};
use proptest::prelude::*;
use time::{Duration, Instant};

use super::*;

const START: Instant = Instant::from_micros(1_000_000);
const CHECK: Check = Check {
    port: 443,
    interval_ms: 1000,
    timeout_ms: 300,
    rise: 2,
    fall: 3,
    kind: CheckKind::Tcp,
    jitter: 6,
};
const LB1: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 11);
const LB2: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 12);

const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;
const ACK: u8 = 0x10;

#[test]
fn the_first_answer_makes_a_server_healthy() {
    let mut checker = Checker::new(&config(&[(CHECK, &[LB1])]), 1, START);
    assert!(checker.deadline().unwrap() < START + Duration::from_millis(100));
    assert_eq!((checker.healthy(0, 0), checker.choice(0)), (false, None));

    let probe = next_probe(&mut checker);
    assert_eq!((probe.server, probe.port), (LB1, 443));
    assert!(SOURCE_PORTS.contains(&probe.source_port));
    let reset = Action::SendReset(Probe {
        sequence: probe.sequence.wrapping_add(1),
        ..probe
    });
    let healthy = Action::Changed {
        server: LB1,
        port: 443,
        healthy: true,
    };
    assert_eq!(answer(&mut checker, probe, SYN_ACK), [healthy, reset]);
    assert_eq!((checker.healthy(0, 0), checker.choice(0)), (true, Some(0)));
}

/// `+` is an answered probe, `R` a refused one, `-` one without answer; after each the expected health.
#[test]
fn rise_and_fall() {
    let table = [
        ("first success decides", "+1"),
        ("first failure decides", "R0 +0 +1"),
        ("first silence decides", "-0 +0 +1"),
        ("three failures in a row", "+1 -1 -1 -0"),
        ("refusals count the same", "+1 R1 -1 R0"),
        ("a success between starts again", "+1 -1 -1 +1 -1 -1 -0"),
        ("two successes in a row", "-0 +0 -0 +0 +1"),
    ];
    for (name, story) in table {
        let mut checker = Checker::new(&config(&[(CHECK, &[LB1])]), 7, START);
        let mut before = None;
        for (step, word) in story.split(' ').enumerate() {
            let (event, healthy) = (word.as_bytes()[0], word.ends_with('1'));
            let probe = next_probe(&mut checker);
            let actions = match event {
                b'+' => answer(&mut checker, probe, SYN_ACK),
                b'R' => answer(&mut checker, probe, RST_ACK),
                _ => checker.step(checker.deadline().unwrap(), Input::Timer),
            };
            assert_eq!(checker.healthy(0, 0), healthy, "{name}, step {step}");
            let told = actions
                .iter()
                .any(|action| matches!(action, Action::Changed { .. }));
            assert_eq!(told, before != Some(healthy), "{name}, step {step}");
            before = Some(healthy);
        }
    }
}

#[test]
fn silence_is_judged_at_the_timeout() {
    let mut checker = Checker::new(&config(&[(CHECK, &[LB1])]), 1, START);
    let begun = checker.deadline().unwrap();
    let _ = next_probe(&mut checker);
    let gives_up = begun + Duration::from_millis(300);
    assert_eq!(checker.deadline(), Some(gives_up));
    assert_eq!(
        checker.step(gives_up - Duration::from_micros(1), Input::Timer),
        []
    );
    let down = Action::Changed {
        server: LB1,
        port: 443,
        healthy: false,
    };
    assert_eq!(checker.step(gives_up, Input::Timer), [down]);
}

#[test]
fn a_refusal_is_not_answered() {
    let mut checker = Checker::new(&config(&[(CHECK, &[LB1])]), 1, START);
    let probe = next_probe(&mut checker);
    let down = Action::Changed {
        server: LB1,
        port: 443,
        healthy: false,
    };
    assert_eq!(answer(&mut checker, probe, RST_ACK), [down]);
    assert_eq!(
        answer(&mut checker, probe, RST_ACK),
        [],
        "nor counted twice"
    );
}

#[test]
fn answers_to_something_else_prove_nothing() {
    let config = config(&[(CHECK, &[LB1])]);
    let probe = next_probe(&mut Checker::new(&config, 1, START));
    let right = reply(probe, SYN_ACK);
    let reset = |port, sequence| {
        let probe = Probe {
            source_port: port,
            sequence,
            ..probe
        };
        List::from([Action::SendReset(probe)])
    };
    let acknowledged = right.acknowledgment;
    let older = acknowledged.wrapping_sub(1000);
    let other_port = probe.source_port ^ 1;
    let table = [
        (
            "another host",
            Segment {
                source: LB2,
                ..right
            },
            List::new(),
        ),
        (
            "another port of it",
            Segment {
                source_port: 80,
                ..right
            },
            List::new(),
        ),
        (
            "a SYN",
            Segment {
                flags: 0x02,
                ..right
            },
            List::new(),
        ),
        (
            "a RST without ACK",
            Segment {
                flags: 0x04,
                ..right
            },
            List::new(),
        ),
        ("nothing", Segment { flags: 0, ..right }, List::new()),
        (
            "a RST of an older probe",
            Segment {
                flags: RST_ACK,
                acknowledgment: older,
                ..right
            },
            List::new(),
        ),
        (
            "a SYN-ACK of an older probe",
            Segment {
                acknowledgment: older,
                ..right
            },
            reset(right.destination_port, older),
        ),
        (
            "a SYN-ACK to an older port",
            Segment {
                destination_port: other_port,
                ..right
            },
            reset(other_port, acknowledged),
        ),
        (
            "a bare ACK",
            Segment {
                flags: ACK,
                ..right
            },
            reset(right.destination_port, acknowledged),
        ),
    ];
    for (name, segment, actions) in table {
        let mut checker = Checker::new(&config, 1, START);
        let probe = next_probe(&mut checker);
        assert_eq!(
            checker.step(START, Input::Segment(segment)),
            actions[..],
            "{name}"
        );
        assert!(!checker.healthy(0, 0), "{name}");
        let _ = answer(&mut checker, probe, SYN_ACK);
        assert!(
            checker.healthy(0, 0),
            "the right answer still counts after {name}"
        );
    }
}

#[test]
fn a_service_goes_to_its_first_healthy_server() {
    let mut checker = Checker::new(&config(&[(CHECK, &[LB1, LB2])]), 3, START);
    let mut run = |down: &[Ipv4Addr]| {
        for _ in 0..12 {
            let probe = next_probe(&mut checker);
            let flags = if down.contains(&probe.server) {
                RST_ACK
            } else {
                SYN_ACK
            };
            let _ = answer(&mut checker, probe, flags);
        }
        checker.choice(0)
    };
    assert_eq!(run(&[]), Some(0));
    assert_eq!(run(&[LB1]), Some(1));
    assert_eq!(run(&[LB1, LB2]), None);
    assert_eq!(run(&[]), Some(0), "the preferred one gets them back");
}

#[test]
fn equal_checks_share_a_probe() {
    let other = Check { port: 80, ..CHECK };
    let config = config(&[(CHECK, &[LB1, LB2]), (CHECK, &[LB2, LB1]), (other, &[LB1])]);
    let mut checker = Checker::new(&config, 3, START);
    let probes = first_probes(&mut checker);
    assert_eq!(probes.len(), 3);
    for probe in probes.into_iter().filter(|probe| probe.server == LB2) {
        let _ = answer(&mut checker, probe, SYN_ACK);
    }
    assert_eq!(
        (checker.choice(0), checker.choice(1), checker.choice(2)),
        (Some(1), Some(0), None)
    );
}

#[test]
fn all_servers_there_can_be_are_probed_with_bounded_steps() {
    let servers: List<List<Ipv4Addr>> = (0..policy::MAX_SERVICES as u8)
        .map(|n| {
            (0..policy::MAX_SERVERS as u8)
                .map(|host| Ipv4Addr::new(10, 20, n, host))
                .collect()
        })
        .collect();
    let services: List<(Check, &[Ipv4Addr])> =
        servers.iter().map(|list| (CHECK, &list[..])).collect();
    let mut checker = Checker::new(&config(&services), 3, START);

    let late = START + Duration::from_secs(1);
    let mut probes = List::new();
    let mut steps = 0;
    while checker.deadline().unwrap() <= late {
        probes.extend(checker.step(late, Input::Timer).iter().filter_map(syn));
        steps += 1;
        assert!(steps <= 64, "each step gets on");
    }
    assert_eq!(probes.len(), 64);
    let ports: std::collections::BTreeSet<u16> =
        probes.iter().map(|probe| probe.source_port).collect();
    assert_eq!(ports.len(), 64, "each from its own port");
    for probe in probes {
        let _ = answer(&mut checker, probe, SYN_ACK);
    }
    assert!((0..8).all(|service| (0..8).all(|server| checker.healthy(service, server))));
    assert!(!checker.healthy(8, 0) && !checker.healthy(0, 8) && checker.choice(8).is_none());
}

#[test]
fn checks_keep_their_interval_on_average_but_not_in_step() {
    let mut checker = Checker::new(&config(&[(CHECK, &[LB1])]), 3, START);
    let mut begins = List::new();
    for _ in 0..1000 {
        let due = checker.deadline().unwrap();
        let probe = next_probe(&mut checker);
        let _ = answer(&mut checker, probe, SYN_ACK);
        begins.push(due);
    }
    let gaps: List<u64> = begins
        .windows(2)
        .map(|w| w[1].since(w[0]).as_micros() as u64)
        .collect();
    assert!(gaps.iter().all(|gap| (937_500..1_062_500).contains(gap)));
    let mean = gaps.iter().sum::<u64>() / gaps.len() as u64;
    assert!((990_000..1_010_000).contains(&mean), "{mean}");
}

#[test]
fn a_timeout_longer_than_the_interval_is_waited_for() {
    let check = Check {
        interval_ms: 100,
        timeout_ms: 1000,
        ..CHECK
    };
    let mut checker = Checker::new(&config(&[(check, &[LB1])]), 3, START);
    let begun = checker.deadline().unwrap();
    let _ = next_probe(&mut checker);
    let gives_up = begun + Duration::from_secs(1);
    assert_eq!(checker.deadline(), Some(gives_up));
    let actions = checker.step(gives_up, Input::Timer);
    assert!(matches!(
        actions[..],
        [Action::Changed { healthy: false, .. }, Action::SendSyn(_)]
    ));
}

#[test]
fn without_servers_there_is_nothing_to_do() {
    let mut checker = Checker::new(&config(&[]), 3, START);
    assert_eq!(checker.deadline(), None);
    assert_eq!(checker.step(START, Input::Timer), []);
}

proptest! {
    /// Whatever arrives whenever: no panic, no server that is healthy without having been reached, and
    /// at most one reset for each segment.
    #[test]
    fn only_the_right_answer_proves_health(
        seed: u64,
        events in prop::collection::vec((0..2_000_000_u64, 0..3_u8, any::<[u16; 2]>(), any::<u8>(), any::<u32>()), 0..100),
    ) {
        let mut checker = Checker::new(&config(&[(CHECK, &[LB1, LB2])]), seed, START);
        let mut now = START;
        for (pause, host, [source_port, destination_port], flags, acknowledgment) in events {
            now = now + Duration::from_micros(pause);
            let probes: List<Probe> = checker.step(now, Input::Timer).iter().filter_map(syn).collect();
            // Half of them are aimed at the right ports.
            let aimed = probes.first().filter(|_| flags & 0x80 != 0);
            let segment = Segment {
                source: Ipv4Addr::new(10, 20, 1, 10 + host),
                source_port: aimed.map_or(source_port, |probe| probe.port),
                destination_port: aimed.map_or(destination_port, |probe| probe.source_port),
                flags,
                acknowledgment,
            };
            let actions = checker.step(now, Input::Segment(segment));
            let resets = actions.iter().filter(|action| matches!(action, Action::SendReset(_))).count();
            prop_assert!(resets <= 1);
            prop_assert_eq!(checker.choice(0), None);
        }
    }
}

/// Goes to the next time when a SYN is sent.
fn next_probe(checker: &mut Checker) -> Probe {
    loop {
        let actions = checker.step(checker.deadline().unwrap(), Input::Timer);
        if let Some(probe) = actions.iter().find_map(syn) {
            return probe;
        }
    }
}

/// All SYNs of the first tenth of a second.
fn first_probes(checker: &mut Checker) -> List<Probe> {
    let mut probes = List::new();
    while checker.deadline().unwrap() < START + Duration::from_millis(100) {
        probes.push(next_probe(checker));
    }
    probes
}

fn syn(action: &Action) -> Option<Probe> {
    match action {
        Action::SendSyn(probe) => Some(*probe),
        Action::SendReset(_) | Action::Changed { .. } => None,
    }
}

fn answer(checker: &mut Checker, probe: Probe, flags: u8) -> Actions {
    checker.step(START, Input::Segment(reply(probe, flags)))
}

fn reply(probe: Probe, flags: u8) -> Segment {
    Segment {
        source: probe.server,
        source_port: probe.port,
        destination_port: probe.source_port,
        flags,
        acknowledgment: probe.sequence.wrapping_add(1),
    }
}

fn config(services: &[(Check, &[Ipv4Addr])]) -> Config {
    let server = |address: &Ipv4Addr| Server {
        name: Name::new(),
        address: (*address).into(),
        port: 443,
        ..Server::default()
    };
    let service = |(check, servers): &(Check, &[Ipv4Addr])| Service {
        name: Name::new(),
        address: Ipv4Addr::new(203, 0, 113, 10).into(),
        port: 443,
        servers: servers.iter().map(server).collect(),
        check: check.clone(),
        ..Service::default()
    };
    Config {
        name: Name::new(),
        interfaces: heapless::Vec::new(),
        default_route: None,
        rules: heapless::Vec::new(),
        services: services.iter().map(service).collect(),
        ..Config::default()
    }
}
