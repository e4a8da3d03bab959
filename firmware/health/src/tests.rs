//! Checks of servers that answer, refuse, keep silent or lie. `tests/peer.rs` has whole connections.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec as List;

use policy::{Check, CheckKind, Config, Server, Service, Text};
use proptest::prelude::*;
use time::{Duration, Instant};

use super::*;

const START: Instant = Instant::from_micros(1_000_000);
const LB1: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 20, 1, 11));
const LB2: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 20, 1, 12));
const LB6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd20, 0, 0, 1, 0, 0, 0, 0x11));

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

#[test]
fn the_first_answer_makes_a_server_healthy() {
    for server in [LB1, LB6] {
        let mut checker = Checker::new(&config(&[(check(), &[server])]), 1, START);
        assert!(checker.deadline().unwrap() < START + Duration::from_millis(100));
        assert!(!healthy(&checker, 0, 0));

        let syn = next(&mut checker);
        assert_eq!((syn.server, syn.payload), (server, Payload::None));
        let tcp = tcp(&syn);
        assert_eq!((tcp.to, tcp.flags), (443, SYN));
        assert!(SOURCE_PORTS.contains(&tcp.from));
        let answer = reply(&syn, SYN | ACK);
        let reset = Action::Send(Packet {
            server,
            header: Header::Tcp {
                source: tcp.from,
                destination: 443,
                sequence: tcp.sequence.wrapping_add(1),
                acknowledgment: 0,
                flags: RST,
            },
            payload: Payload::None,
        });
        let actions = checker.step(START, Input::Segment(answer));
        assert_eq!(actions, [changed(server, None), reset]);
        assert!(healthy(&checker, 0, 0));
    }
}

/// `+` is an answered check, `R` a refused one, `-` one without answer; after each the expected health.
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
        let mut checker = Checker::new(&config(&[(check(), &[LB1])]), 7, START);
        let mut before = None;
        for (step, word) in story.split(' ').enumerate() {
            let (event, up) = (word.as_bytes()[0], word.ends_with('1'));
            let syn = next(&mut checker);
            let (actions, failure) = match event {
                b'+' => (answer(&mut checker, &syn, SYN | ACK), None),
                b'R' => (answer(&mut checker, &syn, RST | ACK), Some(Reason::Refused)),
                _ => (silence(&mut checker), Some(Reason::Timeout)),
            };
            assert_eq!(healthy(&checker, 0, 0), up, "{name}, step {step}");
            let told = actions.contains(&changed(LB1, failure));
            assert_eq!(told, before != Some(up), "{name}, step {step}");
            before = Some(up);
        }
    }
}

#[test]
fn silence_is_judged_at_the_timeout() {
    for kind in [CheckKind::Tcp, CheckKind::Ping, dns("a.example"), http()] {
        let port = if kind == CheckKind::Ping { 0 } else { 443 };
        let check = Check { kind, ..check() };
        let mut checker = Checker::new(&config(&[(check, &[LB1])]), 1, START);
        let gives_up = checker.deadline().unwrap() + Duration::from_millis(300);
        let question = next(&mut checker);
        let mut changes = List::new();
        while checker.deadline().unwrap() < gives_up {
            let repeated = checker.step(checker.deadline().unwrap(), Input::Timer);
            assert!(repeated.iter().all(|action| packet(action) == question));
        }
        assert_eq!(checker.deadline(), Some(gives_up));
        changes.extend(checker.step(gives_up - Duration::from_micros(1), Input::Timer));
        assert!(changes.is_empty());
        let actions = checker.step(gives_up, Input::Timer);
        let failure = Some(Reason::Timeout);
        let server = LB1;
        assert_eq!(
            actions,
            [Action::Changed {
                server,
                port,
                failure
            }]
        );
    }
}

#[test]
fn answers_to_something_else_prove_nothing() {
    let config = config(&[(check(), &[LB1])]);
    let syn = next(&mut Checker::new(&config, 1, START));
    let right = reply(&syn, SYN | ACK);
    let older = right.acknowledgment.wrapping_sub(1000);
    let other_port = right.destination_port ^ 1;
    // With the number and port of the reset that it gets, if it gets one.
    let table = [
        (
            "another host",
            Segment {
                source: LB2,
                ..right
            },
            None,
        ),
        (
            "another port of it",
            Segment {
                source_port: 80,
                ..right
            },
            None,
        ),
        (
            "a SYN",
            Segment {
                flags: SYN,
                ..right
            },
            None,
        ),
        (
            "a RST without ACK",
            Segment {
                flags: RST,
                ..right
            },
            None,
        ),
        ("nothing", Segment { flags: 0, ..right }, None),
        (
            "a RST of an older check",
            Segment {
                flags: RST | ACK,
                acknowledgment: older,
                ..right
            },
            None,
        ),
        (
            "a SYN-ACK of an older check",
            Segment {
                acknowledgment: older,
                ..right
            },
            Some((older, right.destination_port)),
        ),
        (
            "a SYN-ACK to an older port",
            Segment {
                destination_port: other_port,
                ..right
            },
            Some((right.acknowledgment, other_port)),
        ),
        (
            "a bare ACK",
            Segment {
                flags: ACK,
                ..right
            },
            Some((right.acknowledgment, right.destination_port)),
        ),
    ];
    for (name, segment, reset) in table {
        let mut checker = Checker::new(&config, 1, START);
        let syn = next(&mut checker);
        let actions = checker.step(START, Input::Segment(segment));
        let resets: List<_> = actions.iter().map(|action| tcp(&packet(action))).collect();
        let expected: List<_> = reset
            .iter()
            .map(|&(sequence, from)| Tcp {
                from,
                to: 443,
                sequence,
                flags: RST,
            })
            .collect();
        assert_eq!(resets, expected, "{name}");
        assert!(!healthy(&checker, 0, 0), "{name}");
        let _ = answer(&mut checker, &syn, SYN | ACK);
        assert!(
            healthy(&checker, 0, 0),
            "the right answer still counts after {name}"
        );
        assert!(
            answer(&mut checker, &syn, RST | ACK).is_empty(),
            "and only once"
        );
    }
}

#[test]
fn pings_are_recognised_by_all_that_they_carry() {
    for server in [LB1, LB6] {
        let check = Check {
            kind: CheckKind::Ping,
            ..check()
        };
        let config = config(&[(check, &[server])]);
        let mut checker = Checker::new(&config, 5, START);
        let ping = next(&mut checker);
        let Header::Echo { id, sequence } = ping.header else {
            panic!("{ping:?}");
        };
        let data = payload(&checker, &ping);
        assert_eq!(data.len(), 8);
        let right = EchoReply {
            source: server,
            id,
            sequence,
            data: &data,
        };
        let mut bent = data.clone();
        bent[7] ^= 1;
        let table = [
            (
                "another host",
                EchoReply {
                    source: LB2,
                    ..right
                },
            ),
            (
                "another id",
                EchoReply {
                    id: id ^ 1,
                    ..right
                },
            ),
            (
                "another number",
                EchoReply {
                    sequence: sequence ^ 1,
                    ..right
                },
            ),
            (
                "another payload",
                EchoReply {
                    data: &bent,
                    ..right
                },
            ),
            ("no payload", EchoReply { data: &[], ..right }),
            (
                "cut payload",
                EchoReply {
                    data: &data[..7],
                    ..right
                },
            ),
        ];
        for (name, wrong) in table {
            assert_eq!(checker.step(START, Input::EchoReply(wrong)), [], "{name}");
        }
        let up = Action::Changed {
            server,
            port: 0,
            failure: None,
        };
        assert_eq!(checker.step(START, Input::EchoReply(right)), [up]);
        assert_eq!(
            checker.step(START, Input::EchoReply(right)),
            [],
            "only once"
        );
    }
}

#[test]
fn dns_answers_come_from_the_server_to_the_port_that_asked() {
    let check = Check {
        kind: dns("www.example.org"),
        port: 53,
        ..check()
    };
    let mut checker = Checker::new(&config(&[(check, &[LB1])]), 5, START);
    let asked = next(&mut checker);
    let Header::Udp {
        source,
        destination: 53,
    } = asked.header
    else {
        panic!("{asked:?}");
    };
    let mut data = payload(&checker, &asked);
    data[2] |= 0x80;
    let mut refused = data.clone();
    refused[3] = 5;
    let mut other = data.clone();
    other[1] ^= 1;
    let right = Datagram {
        source: LB1,
        source_port: 53,
        destination_port: source,
        data: &refused,
    };
    let table = [
        (
            "another host",
            Datagram {
                source: LB2,
                ..right
            },
        ),
        (
            "another source port",
            Datagram {
                source_port: 54,
                ..right
            },
        ),
        (
            "another port",
            Datagram {
                destination_port: source ^ 1,
                ..right
            },
        ),
        (
            "another id",
            Datagram {
                data: &other,
                ..right
            },
        ),
        ("nothing", Datagram { data: &[], ..right }),
    ];
    for (name, wrong) in table {
        assert_eq!(checker.step(START, Input::Datagram(wrong)), [], "{name}");
    }
    let failure = |failure| Action::Changed {
        server: LB1,
        port: 53,
        failure,
    };
    let actions = checker.step(START, Input::Datagram(right));
    assert_eq!(actions, [failure(Some(Reason::Rcode(5)))]);
    for expected in [&[][..], &[failure(None)]] {
        let asked = next(&mut checker);
        let Header::Udp { source, .. } = asked.header else {
            panic!("{asked:?}");
        };
        let mut data = payload(&checker, &asked);
        data[2] |= 0x80;
        let answer = Datagram {
            destination_port: source,
            data: &data,
            ..right
        };
        assert_eq!(checker.step(START, Input::Datagram(answer)), expected);
    }
}

#[test]
fn equal_checks_share_a_target() {
    let other = Check {
        port: 80,
        ..check()
    };
    let ping = Check {
        kind: CheckKind::Ping,
        ..check()
    };
    let ping_too = Check {
        port: 80,
        ..ping.clone()
    };
    let config = config(&[
        (check(), &[LB1, LB2]),
        (check(), &[LB2, LB1]),
        (other, &[LB1]),
        (ping, &[LB1]),
        (ping_too, &[LB2]),
    ]);
    let mut checker = Checker::new(&config, 3, START);
    let packets = first(&mut checker);
    assert_eq!(packets.len(), 5);
    let of_lb2 = |packet: &&Packet| packet.server == LB2 && !is_echo(packet);
    for syn in packets.iter().filter(of_lb2) {
        let _ = answer(&mut checker, syn, SYN | ACK);
    }
    let up: List<bool> = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0)]
        .iter()
        .map(|(service, server)| healthy(&checker, *service, *server))
        .collect();
    assert_eq!(up, [false, true, true, false, false, false]);
}

#[test]
fn all_servers_there_can_be_are_checked_with_bounded_steps() {
    let servers: List<List<IpAddr>> = (0..policy::MAX_SERVICES as u8)
        .map(|n| {
            (0..policy::MAX_SERVERS as u8)
                .map(|host| IpAddr::V4(Ipv4Addr::new(10, 20, n, host)))
                .collect()
        })
        .collect();
    let total = policy::MAX_SERVICES * policy::MAX_SERVERS;
    // A half-open check of all of them is under way at once.
    let services: List<(Check, &[IpAddr])> =
        servers.iter().map(|list| (check(), &list[..])).collect();
    let mut checker = Checker::new(&config(&services), 3, START);
    let late = START + Duration::from_millis(200);
    let mut packets = List::new();
    let mut steps = 0;
    while checker.deadline().unwrap() <= late {
        packets.extend(checker.step(late, Input::Timer).iter().map(packet));
        steps += 1;
        assert!(steps <= total, "each step gets on");
    }
    assert_eq!(packets.len(), total);
    let ports: std::collections::BTreeSet<u16> =
        packets.iter().map(|packet| tcp(packet).from).collect();
    assert_eq!(ports.len(), total, "each from its own port");
    for syn in packets {
        let _ = answer(&mut checker, &syn, SYN | ACK);
    }
    let pairs = |service| (0..policy::MAX_SERVERS).map(move |server| (service, server));
    assert!(
        (0..policy::MAX_SERVICES)
            .flat_map(pairs)
            .all(|(s, n)| healthy(&checker, s, n))
    );
    assert!(checker.standing(policy::MAX_SERVICES, 0).is_none());
    assert!(checker.standing(0, policy::MAX_SERVERS).is_none());

    // Connections are fewer; dead servers' checks end, so that everybody gets a turn.
    let check = Check {
        kind: http(),
        ..check()
    };
    let mut config = config(&[]);
    for list in &servers {
        let mut service = service(&check, list);
        service.agent = Some(5555);
        config.services.push(service).unwrap();
    }
    let mut checker = Checker::new(&config, 3, START);
    let mut asked = std::collections::BTreeSet::new();
    let end = START + Duration::from_secs(4);
    while checker.deadline().unwrap() < end {
        let at = checker.deadline().unwrap();
        for action in checker.step(at, Input::Timer) {
            if let Action::Send(packet) = action {
                asked.insert((packet.server, tcp(&packet).to));
            }
        }
    }
    assert_eq!(asked.len(), 2 * total);
}

#[test]
fn checks_keep_their_interval_on_average_but_not_in_step() {
    for (jitter, range) in [
        (6, 940_000..=1_060_000),
        (0, 1_000_000..=1_000_000),
        (50, 500_000..=1_500_000),
    ] {
        let check = Check { jitter, ..check() };
        let mut checker = Checker::new(&config(&[(check, &[LB1])]), 3, START);
        let mut begins = List::new();
        for _ in 0..1000 {
            begins.push(checker.deadline().unwrap());
            let syn = next(&mut checker);
            let _ = answer(&mut checker, &syn, SYN | ACK);
        }
        let gaps: List<u64> = begins
            .windows(2)
            .map(|w| w[1].since(w[0]).as_micros() as u64)
            .collect();
        assert!(gaps.iter().all(|gap| range.contains(gap)));
        let mean = gaps.iter().sum::<u64>() / gaps.len() as u64;
        assert!((970_000..1_030_000).contains(&mean), "{mean}");
    }
}

#[test]
fn a_timeout_longer_than_the_interval_is_waited_for() {
    let check = Check {
        interval_ms: 100,
        timeout_ms: 1000,
        ..check()
    };
    let mut checker = Checker::new(&config(&[(check, &[LB1])]), 3, START);
    let begun = checker.deadline().unwrap();
    let question = next(&mut checker);
    let again = checker.step(checker.deadline().unwrap(), Input::Timer);
    assert_eq!(again, [Action::Send(question)], "the first check's, once");
    let gives_up = begun + Duration::from_secs(1);
    assert_eq!(checker.deadline(), Some(gives_up));
    let actions = checker.step(gives_up, Input::Timer);
    let failed = Action::Changed {
        server: LB1,
        port: 443,
        failure: Some(Reason::Timeout),
    };
    assert!(matches!(&actions[..], [first, Action::Send(_)] if *first == failed));
}

#[test]
fn without_servers_there_is_nothing_to_do() {
    let mut checker = Checker::new(&config(&[]), 3, START);
    assert_eq!(checker.deadline(), None);
    assert_eq!(checker.step(START, Input::Timer), []);
}

/// A request, its answer byte by byte, and an end in good order.
#[test]
fn a_connection_from_syn_to_fin() {
    let check = Check {
        kind: http(),
        ..check()
    };
    let mut checker = Checker::new(&config(&[(check, &[LB6])]), 3, START);
    let syn = next(&mut checker);
    let actions = answer(&mut checker, &syn, SYN | ACK);
    let [Action::Send(request)] = actions[..] else {
        panic!("{actions:?}");
    };
    let asked = payload(&checker, &request);
    assert!(
        asked.starts_with(b"GET /health HTTP/1.1\r\nHost: www.example.org\r\n"),
        "{asked:?}"
    );
    assert_eq!(tcp(&request).flags, PSH | ACK);

    let mut server = reply(&syn, ACK);
    server.sequence = server.sequence.wrapping_add(1);
    server.acknowledgment = tcp(&request).sequence.wrapping_add(asked.len() as u32);
    let mut changes = List::new();
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" {
        let data = &[*byte][..];
        let actions = checker.step(START, Input::Segment(Segment { data, ..server }));
        server.sequence = server.sequence.wrapping_add(1);
        for action in actions {
            match action {
                Action::Send(packet) => assert_eq!(tcp(&packet).flags, ACK),
                other => changes.push(other),
            }
        }
    }
    assert_eq!(changes, [changed(LB6, None)]);
    let end = Segment {
        flags: FIN | ACK,
        ..server
    };
    let actions = checker.step(START, Input::Segment(end));
    let [Action::Send(fin)] = actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(tcp(&fin).flags, FIN | ACK);
    let last = Segment {
        sequence: server.sequence.wrapping_add(1),
        acknowledgment: server.acknowledgment.wrapping_add(1),
        ..server
    };
    assert_eq!(checker.step(START, Input::Segment(last)), []);
    // The connection is gone: what comes now is answered as by a closed port.
    let actions = checker.step(START, Input::Segment(last));
    assert_eq!(tcp(&packet(&actions[0])).flags, RST);
}

#[test]
fn connections_that_go_wrong() {
    let get = Check {
        kind: http(),
        ..check()
    };
    let greet = Check {
        kind: CheckKind::Mysql,
        ..check()
    };
    let table: [(&str, &Check, u8, &[u8], Reason); 8] = [
        (
            "503",
            &get,
            ACK,
            b"HTTP/1.1 503 Busy\r\n\r\n",
            Reason::Status(503),
        ),
        ("garbage", &get, ACK, b"hello", Reason::Garbage),
        ("a silent end", &get, FIN | ACK, b"", Reason::Closed),
        (
            "an early end",
            &get,
            FIN | ACK,
            b"HTTP/1.1 2",
            Reason::Closed,
        ),
        ("a reset", &get, RST, b"", Reason::Reset),
        ("no greeting", &greet, FIN | ACK, b"", Reason::Closed),
        (
            "full",
            &greet,
            FIN | ACK,
            b"\x17\0\0\0\xff\x10\x04Too many connections",
            Reason::Mysql(1040),
        ),
        (
            "another protocol",
            &greet,
            ACK,
            b"SSH-2.0-OpenSSH\r\n",
            Reason::TooLong,
        ),
    ];
    for (name, check, flags, data, reason) in table {
        let mut checker = Checker::new(&config(&[(check.clone(), &[LB1])]), 3, START);
        let syn = next(&mut checker);
        let actions = answer(&mut checker, &syn, SYN | ACK);
        let request = packet(&actions[0]);
        let segment = Segment {
            flags,
            sequence: SERVER.wrapping_add(1),
            acknowledgment: tcp(&request)
                .sequence
                .wrapping_add(payload(&checker, &request).len() as u32),
            data,
            ..reply(&syn, 0)
        };
        let actions = checker.step(START, Input::Segment(segment));
        assert_eq!(actions[0], changed(LB1, Some(reason)), "{name}");
    }

    let mut checker = Checker::new(&config(&[(get.clone(), &[LB1])]), 3, START);
    let syn = next(&mut checker);
    let actions = answer(&mut checker, &syn, RST | ACK);
    assert_eq!(actions, [changed(LB1, Some(Reason::Refused))]);

    // Accepted, and then nothing: the request is sent again, and the connection reset at the end.
    let mut checker = Checker::new(&config(&[(get, &[LB1])]), 3, START);
    let syn = next(&mut checker);
    let request = packet(&answer(&mut checker, &syn, SYN | ACK)[0]);
    let again = checker.step(checker.deadline().unwrap(), Input::Timer);
    assert_eq!(packet(&again[0]), request);
    let actions = checker.step(checker.deadline().unwrap(), Input::Timer);
    assert_eq!(tcp(&packet(&actions[0])).flags, RST | ACK);
    assert_eq!(actions[1], changed(LB1, Some(Reason::Stalled)));
}

#[test]
fn agents_change_what_a_server_may_get() {
    let mut config = config(&[(check(), &[LB1])]);
    config.services[0].agent = Some(5555);
    let mut checker = Checker::new(&config, 3, START);
    let packets = first(&mut checker);
    let syn = |port| {
        *packets
            .iter()
            .find(|packet| tcp(packet).to == port)
            .unwrap()
    };
    let agent_syn = syn(5555);
    let _ = answer(&mut checker, &syn(443), SYN | ACK);
    let standing = |checker: &Checker| checker.standing(0, 0).unwrap();
    let full = Standing {
        healthy: true,
        drain: false,
        percent: 100,
        max_flows: None,
    };
    assert_eq!(standing(&checker), full, "nobody waits for an agent");

    let mut agent = agent_syn;
    let (half, full) = (
        Standing {
            percent: 50,
            max_flows: Some(7),
            ..full
        },
        Standing {
            max_flows: Some(7),
            ..full
        },
    );
    let stories: [(&[u8], Standing, bool); 7] = [
        (b"50% maxconn:7\n", half, true),
        (
            b"drain\n",
            Standing {
                drain: true,
                ..half
            },
            true,
        ),
        (
            b"drain\n",
            Standing {
                drain: true,
                ..half
            },
            false,
        ),
        (b"ready 100%\n", full, true),
        (
            b"down#disk\n",
            Standing {
                healthy: false,
                ..full
            },
            true,
        ),
        (
            b"what?\n",
            Standing {
                healthy: false,
                ..full
            },
            false,
        ),
        (b"up\n", full, true),
    ];
    for (line, expected, news) in stories {
        let actions = talk(&mut checker, &agent, line);
        let told = actions
            .iter()
            .any(|action| matches!(action, Action::Agent { said: Ok(_), .. }));
        assert_eq!(told, news, "{}", line.escape_ascii());
        assert_eq!(standing(&checker), expected, "{}", line.escape_ascii());
        agent = next_to(&mut checker, 5555);
    }
    // A dead agent is reported, and changes nothing.
    let mut told = List::new();
    for _ in 0..40 {
        let at = checker.deadline().unwrap();
        for action in checker.step(at, Input::Timer) {
            match action {
                Action::Agent { said, .. } => told.push(said),
                Action::Send(packet) if tcp(&packet).to == 443 && tcp(&packet).flags == SYN => {
                    let _ = answer(&mut checker, &packet, SYN | ACK);
                }
                Action::Send(_) | Action::Changed { .. } => {}
            }
        }
    }
    assert_eq!(told, [Err(Reason::Timeout)]);
    assert_eq!(standing(&checker), full);
}

proptest! {
    /// Whatever arrives whenever: no panic, no server that is healthy without having been reached, and
    /// at most one answer for each segment.
    #[test]
    fn only_the_right_answer_proves_health(
        seed: u64,
        kind in prop::sample::select(List::from([CheckKind::Tcp, CheckKind::Mysql, http(), CheckKind::Ping, dns("a.b")])),
        events in prop::collection::vec(
            (0..400_000_u64, 0..3_u8, any::<[u16; 2]>(), any::<u8>(), any::<[u32; 2]>(), prop::collection::vec(any::<u8>(), 0..20)),
            0..100,
        ),
    ) {
        let check = Check { kind, ..check() };
        let mut checker = Checker::new(&config(&[(check, &[LB1, LB2])]), seed, START);
        let mut now = START;
        let mut last = None;
        for (pause, host, [source_port, destination_port], flags, [sequence, acknowledgment], data) in events {
            now = now + Duration::from_micros(pause);
            let sent = checker.step(now, Input::Timer);
            let mut syns = sent.iter().filter_map(|action| match action {
                Action::Send(packet @ Packet { header: Header::Tcp { .. }, .. }) => Some(tcp(packet)),
                _ => None,
            });
            last = syns.next_back().or(last);
            // Half of them are aimed at the right ports.
            let aimed = last.filter(|_| flags & 0x80 != 0);
            let source = IpAddr::V4(Ipv4Addr::new(10, 20, 1, 10 + host));
            let data = &data[..];
            let segment = Segment {
                source,
                source_port: aimed.map_or(source_port, |tcp| tcp.to),
                destination_port: aimed.map_or(destination_port, |tcp| tcp.from),
                flags,
                sequence,
                acknowledgment,
                data,
            };
            let actions = checker.step(now, Input::Segment(segment));
            prop_assert!(actions.len() <= 1, "{:?}", actions);
            let datagram = Datagram { source, source_port, destination_port, data };
            prop_assert_eq!(checker.step(now, Input::Datagram(datagram)), []);
            let reply = EchoReply { source, id: source_port, sequence: destination_port, data };
            prop_assert_eq!(checker.step(now, Input::EchoReply(reply)), []);
            prop_assert!(!healthy(&checker, 0, 0) && !healthy(&checker, 0, 1));
        }
    }
}

/// The fields of a TCP header that tests look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tcp {
    from: u16,
    to: u16,
    sequence: u32,
    flags: u8,
}

/// First number of every server.
const SERVER: u32 = 0xffff_fff0;

fn tcp(packet: &Packet) -> Tcp {
    let Header::Tcp {
        source: from,
        destination: to,
        sequence,
        flags,
        ..
    } = packet.header
    else {
        panic!("no TCP: {packet:?}");
    };
    Tcp {
        from,
        to,
        sequence,
        flags,
    }
}

fn is_echo(packet: &Packet) -> bool {
    matches!(packet.header, Header::Echo { .. })
}

fn packet(action: &Action) -> Packet {
    match action {
        Action::Send(packet) => *packet,
        other => panic!("no packet: {other:?}"),
    }
}

fn payload(checker: &Checker, packet: &Packet) -> List<u8> {
    let mut buffer = [0; MAX_PAYLOAD];
    let len = checker.payload(packet.payload, &mut buffer);
    buffer[..len].to_vec()
}

fn healthy(checker: &Checker, service: usize, server: usize) -> bool {
    checker
        .standing(service, server)
        .is_some_and(|standing| standing.healthy)
}

fn changed(server: IpAddr, failure: Option<Reason>) -> Action {
    Action::Changed {
        server,
        port: 443,
        failure,
    }
}

/// Goes to the next time when something is sent.
fn next(checker: &mut Checker) -> Packet {
    loop {
        for action in checker.step(checker.deadline().unwrap(), Input::Timer) {
            if let Action::Send(packet) = action {
                return packet;
            }
        }
    }
}

/// Goes to the next SYN to this port; other checks get their answers.
fn next_to(checker: &mut Checker, port: u16) -> Packet {
    loop {
        for action in checker.step(checker.deadline().unwrap(), Input::Timer) {
            if let Action::Send(packet) = action
                && tcp(&packet).flags == SYN
            {
                if tcp(&packet).to == port {
                    return packet;
                }
                let _ = answer(checker, &packet, SYN | ACK);
            }
        }
    }
}

/// All packets of the first tenth of a second.
fn first(checker: &mut Checker) -> List<Packet> {
    let mut packets = List::new();
    while checker.deadline().unwrap() < START + Duration::from_millis(100) {
        packets.push(next(checker));
    }
    packets
}

/// Nothing comes until the check is over.
fn silence(checker: &mut Checker) -> Actions {
    loop {
        let actions = checker.step(checker.deadline().unwrap(), Input::Timer);
        if !actions
            .iter()
            .any(|action| matches!(action, Action::Send(_)))
        {
            return actions;
        }
    }
}

fn answer(checker: &mut Checker, to: &Packet, flags: u8) -> Actions {
    checker.step(START, Input::Segment(reply(to, flags)))
}

fn reply(to: &Packet, flags: u8) -> Segment<'static> {
    let tcp = tcp(to);
    Segment {
        source: to.server,
        source_port: tcp.to,
        destination_port: tcp.from,
        flags,
        sequence: SERVER,
        acknowledgment: tcp.sequence.wrapping_add(1),
        data: &[],
    }
}

/// A server that accepts, says this and closes.
fn talk(checker: &mut Checker, syn: &Packet, line: &[u8]) -> List<Action> {
    let mut actions = List::from_iter(answer(checker, syn, SYN | ACK));
    let mut segment = reply(syn, FIN | PSH | ACK);
    segment.sequence = SERVER.wrapping_add(1);
    segment.data = line;
    actions.extend(checker.step(START, Input::Segment(segment)));
    // The acknowledgment of our FIN.
    let last = Segment {
        flags: ACK,
        sequence: segment.sequence.wrapping_add(line.len() as u32 + 1),
        acknowledgment: segment.acknowledgment.wrapping_add(1),
        data: &[],
        ..segment
    };
    actions.extend(checker.step(START, Input::Segment(last)));
    actions
}

fn check() -> Check {
    Check {
        kind: CheckKind::Tcp,
        port: 443,
        interval_ms: 1000,
        timeout_ms: 300,
        rise: 2,
        fall: 3,
        jitter: 6,
    }
}

fn http() -> CheckKind {
    CheckKind::Http {
        host: Text::try_from("www.example.org").unwrap(),
        path: Text::try_from("/health").unwrap(),
        lowest: 200,
        highest: 399,
    }
}

fn dns(name: &str) -> CheckKind {
    CheckKind::Dns {
        name: Text::try_from(name).unwrap(),
    }
}

fn service(check: &Check, servers: &[IpAddr]) -> Service {
    let server = |address: &IpAddr| Server {
        address: *address,
        port: 443,
        ..Server::default()
    };
    Service {
        port: 443,
        servers: servers.iter().map(server).collect(),
        check: check.clone(),
        ..Service::default()
    }
}

fn config(services: &[(Check, &[IpAddr])]) -> Config {
    Config {
        services: services
            .iter()
            .map(|(check, servers)| service(check, servers))
            .collect(),
        ..Config::default()
    }
}
