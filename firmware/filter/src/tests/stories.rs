//! Stories of first packets: balancing, limits, translation, floods, fragments. The rules accept whatever a story does not
//! say otherwise.

use std::string::String;

use policy::{
    Balance, Forwarding, Interface6, Limit, LimitKind, Nat, Persistence, Prefix6, Scope, Server,
    Transport,
};
use wire::icmp::Problem;
use wire::ipv6;

use super::*;
use crate::cookie::{self, Options};
use crate::{Address, V6, packet};

const OTHER: &str = "198.51.100.8";

#[test]
fn flows_are_dealt_out_in_turn_and_by_load() {
    let mut lab = lab(|config, _| config.services[0].balance = Balance::RoundRobin);
    let mut servers: Vec<String> = (1..=4).map(|n| lab.user(n, 443)).collect();
    assert_eq!(servers, [LB1, LB2, LB1, LB2]);
    lab.filter.drain(0, 0, true);
    servers = (5..=6).map(|n| lab.user(n, 443)).collect();
    assert_eq!(servers, [LB2, LB2]);
    lab.filter.drain(0, 0, false);
    assert_eq!(
        (lab.filter.server_flows(0, 0), lab.filter.server_flows(0, 1)),
        (2, 4)
    );

    let mut lab = self::lab(|config, _| config.services[0].balance = Balance::LeastConnections);
    for n in 1..=4 {
        lab.user(n, 443);
    }
    for n in [2, 4] {
        lab.pass(EDGE, tcp(LB2, 8443, USER, n, SYN_ACK)).unwrap();
        lab.pass(WAN, tcp(USER, n, PUBLIC, 443, ACK)).unwrap();
    }
    // Both of the first server's connections end.
    for n in [1, 3] {
        lab.pass(WAN, tcp(USER, n, PUBLIC, 443, RST)).unwrap();
    }
    lab.now = lab.now + Duration::from_secs(15);
    lab.filter.sweep(lab.now);
    let flows = [0, 1].map(|server| lab.filter.server_flows(0, server));
    assert_eq!(flows, [0, 2]);
    servers = (5..=6).map(|n| lab.user(n, 443)).collect();
    assert_eq!(servers, [LB1, LB1]);
}

#[test]
fn full_servers_and_the_sorry_server() {
    let mut lab = lab(|config, _| {
        config.services[0].servers[0].max_flows = 2;
        config.services[0].servers[1].max_flows = 1;
        config.services[1].quorum = 2;
        config.services[1].sorry = Some(Server {
            address: WEB1.parse().unwrap(),
            port: 8080,
            ..Server::default()
        });
    });
    let servers: Vec<String> = (1..=3).map(|n| lab.user(n, 443)).collect();
    assert_eq!(servers, [LB1, LB1, LB2]);
    let fourth = lab.pass(WAN, tcp(USER, 4, PUBLIC, 443, SYN));
    assert_eq!(fourth.unwrap_err(), Drop::ServersFull);

    assert_eq!(lab.user(5, 80), LB1);
    lab.health(true, false);
    let sorry = lab.pass(WAN, tcp(USER, 6, PUBLIC, 80, SYN)).unwrap();
    assert_eq!((sorry.leg, sorry.ends()), (WEB, (USER, 6, WEB1, 8080)));
    let answer = lab.pass(WEB, tcp(WEB1, 8080, USER, 6, SYN_ACK)).unwrap();
    assert_eq!(answer.ends(), (PUBLIC, 80, USER, 6));
}

#[test]
fn clients_stay_with_their_server() {
    let mut lab = lab(|config, _| {
        config.services[0].balance = Balance::RoundRobin;
        config.services[0].persistence = Some(Persistence {
            prefix: 24,
            seconds: 60,
        });
    });
    let first = lab.user(1, 443);
    for n in 2..6 {
        lab.now = lab.now + Duration::from_secs(50);
        assert_eq!(lab.user(n, 443), first);
    }
    // A server that fails keeps nobody.
    lab.health(first != LB1, first != LB2);
    let next = lab.user(7, 443);
    assert_ne!(next, first);
    lab.health(true, true);
    assert_eq!(lab.user(8, 443), next);
}

#[test]
fn rules_limit_rates_and_flows() {
    let mut lab = lab(|config, rules| {
        let scope = Scope::Source {
            prefix: 32,
            prefix6: 64,
        };
        config.limits = [
            Limit {
                kind: LimitKind::Rate {
                    per_second: 1,
                    burst: 3,
                },
                scope,
            },
            Limit {
                kind: LimitKind::Flows { max: 2 },
                scope,
            },
        ]
        .into_iter()
        .collect();
        rules[0].rate = Some(0);
        rules[0].flows = Some(1);
        rules[0].log = true;
    });
    let open = |lab: &mut Lab, from: &str, port| {
        let passed = lab.pass(WAN, tcp(from, port, PUBLIC, 443, SYN));
        passed.map(|passed| passed.leg)
    };
    assert_eq!(open(&mut lab, USER, 1), Ok(EDGE));
    let logged = lab.filter.take_logged().unwrap();
    assert_eq!((logged.rule, logged.accepted, logged.leg), (0, true, WAN));
    assert_eq!(
        logged.destination,
        LB1.parse::<core::net::IpAddr>().unwrap()
    );
    assert_eq!(lab.filter.take_logged(), None);
    assert_eq!(open(&mut lab, USER, 2), Ok(EDGE));
    assert_eq!(open(&mut lab, USER, 3), Err(Drop::FlowLimit));
    assert_eq!(open(&mut lab, OTHER, 1), Ok(EDGE));
    // A flow that is over makes room; the third token is the last.
    lab.filter.forget();
    assert_eq!(open(&mut lab, USER, 4), Ok(EDGE));
    assert_eq!(open(&mut lab, USER, 5), Err(Drop::RateLimit));
    lab.now = lab.now + Duration::from_secs(1);
    assert_eq!(open(&mut lab, USER, 6), Ok(EDGE));
}

#[test]
fn rejected_senders_are_told() {
    for told in [true, false] {
        let mut lab = lab(|config, rules| {
            config.protection.answer_rejects = told;
            rules[0].action = Action::Reject;
        });
        let verdict = lab.judge(WAN, udp(USER, 1, LB1, 53)).0;
        let silent = Verdict::Drop(Drop::Rejected);
        let prohibited = Verdict::Error(Problem::Prohibited, Drop::Rejected);
        assert_eq!(verdict, if told { prohibited } else { silent });
        let (verdict, answer) = lab.judge(WAN, tcp(USER, 1, LB1, 22, SYN));
        if !told {
            assert_eq!(verdict, silent);
            continue;
        }
        assert!(matches!(
            verdict,
            Verdict::Answer {
                reason: Drop::Rejected,
                ..
            }
        ));
        let reset = parse_v4(&answer).unwrap();
        assert_eq!(reset.kind, Kind::Tcp(RST.with(ACK)));
        assert_eq!(
            (reset.tuple.source_port(), reset.tuple.destination_port()),
            (22, 1)
        );
        assert!(transport_is_valid(&answer));
    }
}

/// Rules see where a segment would go, so that a forwarded port is not the virtual address to them.
#[test]
fn segments_that_no_flow_knows_are_rejected_where_they_would_go() {
    for (destination, port, rejected) in [(LB2, 22, true), (PUBLIC, 2200, true), (LB1, 22, false)] {
        let mut lab = lab(|config, rules| {
            let nat = Nat::Destination {
                transport: Transport::Tcp,
                address: PUBLIC.parse().unwrap(),
                first: 2200,
                last: 2200,
                server: LB2.parse().unwrap(),
                server_port: 22,
            };
            config.nat.push(nat).unwrap();
            let reject = Rule {
                state: rule::State::Invalid,
                action: Action::Reject,
                destinations: [IpPrefix::host(LB2.parse().unwrap())].into(),
                ..rules[0].clone()
            };
            rules.insert(0, reject);
        });
        for flags in [ACK, FIN, SYN_ACK, RST.with(ACK)] {
            let (verdict, answer) = lab.judge(WAN, tcp(USER, 1, destination, port, flags));
            // Nobody answers a reset.
            if !rejected || flags.contains(RST) {
                assert_eq!(
                    verdict,
                    Verdict::Drop(Drop::NoFlow),
                    "{destination} {flags:?}"
                );
                continue;
            }
            let reason = Drop::Rejected;
            assert_eq!(verdict, Verdict::Answer { len: 40, reason });
            let reset = parse_v4(&answer).unwrap();
            assert_eq!(reset.kind, Kind::Tcp(RST));
            let ports = (reset.tuple.source_port(), reset.tuple.destination_port());
            assert_eq!(ports, (port, 1));
        }
    }
}

/// What guesses hit the window with would otherwise end connections that their ends go on with (RFC 5961 §3).
#[test]
fn only_a_reset_that_comes_next_ends_a_connection() {
    let none = Options::default();
    for (sequence, ends) in [(1001, true), (1101, false), (901, false)] {
        let mut lab = lab(|_, _| {});
        lab.connect(40_000);
        lab.pass(EDGE, server(sequence, 1001, RST.with(ACK), &none))
            .unwrap();
        lab.now = lab.now + Duration::from_secs(20);
        let after = lab.pass(EDGE, server(1001, 1001, ACK, &none));
        match ends {
            true => assert_eq!(after.unwrap_err(), Drop::NoFlow),
            false => assert_eq!(after.unwrap().leg, WAN, "after {sequence}"),
        }
    }
}

/// The answer of a server that has forgotten its connection: its sequence number is what the client acknowledges, which is below
/// what the client has lost.
#[test]
fn a_reset_that_may_have_ended_a_connection_lets_it_be_forgotten_in_minutes() {
    let none = Options::default();
    let minutes = |count: u64| Duration::from_secs(60 * count);
    for (asks_back, ends) in [(false, true), (true, false)] {
        let mut lab = lab(|_, _| {});
        lab.connect(40_000);
        let mut lost = [&server(1001, 1001, ACK, &none)[20..], &[0; 100]].concat();
        lost[16..18].fill(0);
        let pseudo = checksum::pseudo_header(octets(LB1), octets(USER), ipv4::TCP, 120);
        let sum = pseudo.bytes(&lost).finish();
        lost[16..18].copy_from_slice(&sum.to_be_bytes());
        lab.pass(EDGE, ip(LB1, USER, ipv4::TCP, &lost)).unwrap();
        lab.pass(EDGE, server(1001, 1001, RST, &none)).unwrap();
        lab.now = lab.now + minutes(3);
        if asks_back {
            lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK)).unwrap();
        }
        lab.now = lab.now + minutes(3);
        let after = lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK));
        match ends {
            true => assert_eq!(after.unwrap_err(), Drop::NoFlow),
            false => assert_eq!(after.unwrap().leg, EDGE),
        }
    }
}

pub(super) fn masquerade(config: &mut Config) {
    let nat = Nat::Source {
        source: Prefix::of("10.20.0.0".parse().unwrap(), 16),
        to: WAN,
        address: PUBLIC.parse().unwrap(),
        first: 39_999,
        last: 40_001,
    };
    config.nat.push(nat).unwrap();
}

#[test]
fn sources_are_translated_and_ports_never_clash() {
    let mut lab = lab(|config, _| masquerade(config));
    let mut ports = Vec::new();
    for (leg, from) in [(EDGE, LB1), (EDGE, LB2), (WEB, WEB1)] {
        let out = lab.pass(leg, tcp(from, 40_000, USER, 443, SYN)).unwrap();
        let (source, port, destination, to) = out.ends();
        assert_eq!((out.leg, source, destination, to), (WAN, PUBLIC, USER, 443));
        let back = lab
            .pass(WAN, tcp(USER, 443, PUBLIC, port, SYN_ACK))
            .unwrap();
        assert_eq!((back.leg, back.ends()), (leg, (USER, 443, from, 40_000)));
        ports.push(port);
    }
    assert_eq!(ports[0], 40_000, "kept while it is free");
    ports[1..].sort_unstable();
    assert_eq!(ports[1..], [39_999, 40_001]);
    let fourth = lab.pass(EDGE, tcp("10.20.1.13", 40_000, USER, 443, SYN));
    assert_eq!(fourth.unwrap_err(), Drop::NoPort);
    // To another destination the port is free.
    let other = lab
        .pass(EDGE, tcp("10.20.1.13", 40_000, OTHER, 443, SYN))
        .unwrap();
    let tuple = parse_v4(&other.packet).unwrap().tuple;
    assert_eq!(tuple.source_port(), 40_000);
}

#[test]
fn pings_and_datagrams_are_translated_too() {
    let mut lab = lab(|config, _| masquerade(config));
    let out = lab.pass(EDGE, udp(LB1, 40_000, USER, 53)).unwrap();
    assert_eq!(out.ends(), (PUBLIC, 40_000, USER, 53));
    let error = lab
        .pass(WAN, unreachable(USER, PUBLIC, &out.packet))
        .unwrap();
    assert_eq!(error.addresses(), (USER.into(), LB1.into()));
    error.quotes_udp(LB1, 40_000, USER, 53);
    let back = lab.pass(WAN, udp(USER, 53, PUBLIC, 40_000)).unwrap();
    assert_eq!(back.ends(), (USER, 53, LB1, 40_000));

    let out = lab.pass(EDGE, echo(LB1, USER, ECHO_REQUEST)).unwrap();
    let other = lab.pass(EDGE, echo(LB2, USER, ECHO_REQUEST)).unwrap();
    assert_ne!(
        out.packet[24..26],
        other.packet[24..26],
        "identifiers differ"
    );
    let back = lab.pass(WAN, echo(USER, PUBLIC, ECHO_REPLY)).unwrap();
    assert_eq!(back.addresses(), (USER.into(), LB1.into()));
}

#[test]
fn ports_are_forwarded_and_neighbours_come_back() {
    let mut lab = lab(|config, _| {
        let nat = Nat::Destination {
            transport: Transport::Tcp,
            address: PUBLIC.parse().unwrap(),
            first: 2200,
            last: 2299,
            server: LB2.parse().unwrap(),
            server_port: 22,
        };
        config.nat.push(nat).unwrap();
    });
    let syn = lab.pass(WAN, tcp(USER, 1000, PUBLIC, 2201, SYN)).unwrap();
    assert_eq!(syn.ends(), (USER, 1000, LB2, 23));
    let answer = lab.pass(EDGE, tcp(LB2, 23, USER, 1000, SYN_ACK)).unwrap();
    assert_eq!(answer.ends(), (PUBLIC, 2201, USER, 1000));

    // From the server's own leg: it must not answer directly.
    for (port, server_port, own) in [(2200, 22, 1000), (2201, 23, 1000)] {
        let syn = lab.pass(EDGE, tcp(LB1, own, PUBLIC, port, SYN)).unwrap();
        assert_eq!(syn.leg, EDGE);
        assert_eq!(syn.addresses(), ("10.20.1.1".into(), LB2.into()));
        let from = parse_v4(&syn.packet).unwrap().tuple.source_port();
        let answer = tcp(LB2, server_port, "10.20.1.1", from, SYN_ACK);
        let answer = lab.pass(EDGE, answer).unwrap();
        assert_eq!(answer.ends(), (PUBLIC, port, LB1, own));
    }
    let outside = lab.judge(WAN, tcp(USER, 1000, PUBLIC, 2300, SYN)).0;
    assert_eq!(outside, Verdict::Drop(Drop::NotForUs));
}

#[test]
fn servers_may_answer_directly() {
    let mut lab = lab(|config, _| {
        config.services[0].forwarding = Forwarding::DirectReturn;
        for server in &mut config.services[0].servers {
            server.port = 443;
        }
    });
    for (flags, seconds) in [(SYN, 1), (ACK, 100), (ACK, 100), (FIN, 1), (ACK, 1)] {
        let passed = lab
            .pass(WAN, tcp(USER, 40_000, PUBLIC, 443, flags))
            .unwrap();
        assert_eq!((passed.leg, &*passed.hop), (EDGE, LB1));
        assert_eq!(passed.ends(), (USER, 40_000, PUBLIC, 443));
        lab.now = lab.now + Duration::from_secs(seconds);
        // Whatever becomes of others, this connection stays where it is.
        lab.filter.drain(0, 0, true);
    }
    assert_eq!(lab.filter.flows(), 1);
    assert_eq!(lab.filter.server_flows(0, 0), 1);
}

#[test]
fn segment_sizes_fit_both_legs() {
    let mut lab = lab(|config, _| config.interfaces[1].mtu = 1400);
    let offer = Options {
        mss: Some(1460),
        ..Options::default()
    };
    let syn = cookie::tests::segment(false, 1, 0, SYN, &offer);
    let passed = lab.pass(WAN, syn).unwrap();
    assert_eq!(Options::parse(&passed.packet[40..]).mss, Some(1360));
}

/// A flood leaves the half-open limit behind; then a client comes that has time for a handshake.
#[test]
fn under_a_flood_only_whole_handshakes_reach_the_server() {
    let mut lab = flooded();
    let flows = lab.filter.flows();
    let offer = Options {
        mss: Some(1460),
        scale: Some(9),
        sack: true,
        timestamp: Some((100, 0)),
    };
    let (verdict, answer) = lab.judge(WAN, cookie::tests::segment(false, 1000, 0, SYN, &offer));
    assert!(matches!(
        verdict,
        Verdict::Answer {
            reason: Drop::SynCookie,
            ..
        }
    ));
    let (cookie, given) = numbers(&answer);
    let (ours, _) = given.timestamp.unwrap();
    assert_eq!(lab.filter.flows(), flows, "nothing is remembered");

    let stamp = |own, echo| Options {
        timestamp: Some((own, echo)),
        ..Options::default()
    };
    let client = |sequence, acknowledgment, own, echo| {
        cookie::tests::segment(false, sequence, acknowledgment, ACK, &stamp(own, echo))
    };
    // The ACK becomes the client's SYN, with all that it had offered; as often as the client asks.
    for _ in 0..2 {
        let syn = lab
            .pass_new(WAN, client(1001, cookie.wrapping_add(1), 101, ours))
            .unwrap();
        assert_eq!((syn.ends(), &*syn.hop), ((USER, 40_000, LB1, 8443), LB1));
        let header = tcp::Header::parse(&syn.packet[20..]).unwrap();
        assert_eq!((header.flags(), header.sequence.get()), (SYN, 1000));
        let offered = Options::parse(&syn.packet[40..]);
        assert_eq!(
            (offered.mss, offered.scale, offered.sack),
            (Some(1460), Some(9), true)
        );
    }

    // The server's answer completes its handshake, and opens the client's window.
    let server_options = Options {
        mss: Some(1460),
        scale: Some(7),
        sack: true,
        timestamp: Some((7000, 101)),
    };
    let syn_ack = server(5000, 1001, SYN_ACK, &server_options);
    let (verdict, ack) = lab.judge(EDGE, syn_ack);
    assert!(matches!(verdict, Verdict::Splice { .. }), "{verdict:?}");
    let header = tcp::Header::parse(&ack[20..]).unwrap();
    assert_eq!(
        (header.sequence.get(), header.acknowledgment.get()),
        (1001, 5001)
    );
    assert!(transport_is_valid(&ack));
    let mut update = [0; 100];
    let (hop, len) = lab.filter.update(&mut update).unwrap();
    assert_eq!(hop.leg, WAN);
    let header = tcp::Header::parse(&update[20..len]).unwrap();
    assert_eq!(header.sequence.get(), cookie.wrapping_add(1));
    assert!(transport_is_valid(&update[..len]) && header.window.get() > 0);
    assert_eq!(lab.filter.update(&mut update), None);

    // Data passes both ways, with the numbers that either side knows.
    for _ in 0..3 {
        let to = lab
            .pass(WAN, client(1001, cookie.wrapping_add(1), 102, ours))
            .unwrap();
        assert_eq!(to.numbers(), (1001, 5001, Some((102, 7000))));
        let from = server(5001, 1001, ACK, &stamp(7005, 102));
        let from = lab.pass(EDGE, from).unwrap();
        let expected = (
            cookie.wrapping_add(1),
            1001,
            Some((ours.wrapping_add(5), 102)),
        );
        assert_eq!(
            (from.ends(), from.numbers()),
            ((PUBLIC, 443, USER, 40_000), expected)
        );
    }
    let strayed = server(5001 + 2_000_000, 1001, ACK, &stamp(7005, 102));
    assert_eq!(
        lab.judge(EDGE, strayed).0,
        Verdict::Drop(Drop::OutsideWindow)
    );
}

#[test]
fn what_is_no_cookie_opens_nothing() {
    let mut lab = flooded();
    let none = Options::default();
    let guess = cookie::tests::segment(false, 1001, 77, ACK, &none);
    let (_, answer) = lab.judge(WAN, cookie::tests::segment(false, 1000, 0, SYN, &none));
    assert_eq!(lab.pass(WAN, guess).unwrap_err(), Drop::NoFlow);
    let (cookie, _) = numbers(&answer);
    let ack = cookie::tests::segment(false, 1001, cookie.wrapping_add(1), ACK, &none);
    lab.now = lab.now + Duration::from_secs(140);
    assert_eq!(lab.pass(WAN, ack.clone()).unwrap_err(), Drop::NoFlow);

    // The server's refusal reaches the client as one that it believes.
    let mut lab = flooded();
    let (_, answer) = lab.judge(WAN, cookie::tests::segment(false, 1000, 0, SYN, &none));
    let (cookie, _) = numbers(&answer);
    let ack = cookie::tests::segment(false, 1001, cookie.wrapping_add(1), ACK, &none);
    lab.pass_new(WAN, ack).unwrap();
    let reset = lab
        .pass(EDGE, server(0, 1001, RST.with(ACK), &none))
        .unwrap();
    assert_eq!(reset.numbers(), (cookie.wrapping_add(1), 1001, None));
}

#[test]
fn fragments_follow_the_first() {
    let mut lab = lab(|config, _| {
        config.services[0].transport = Transport::Udp;
    });
    let whole = long_datagram();
    let pieces = cut(&whole, &[480, 480, 248]);
    let mut arrived = Vec::new();
    for piece in &pieces {
        let (verdict, packet) = lab.judge(WAN, piece.clone());
        let Verdict::Forward { hop, .. } = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!((hop.leg, hop.address), (EDGE, LB1.parse().unwrap()));
        assert_eq!(packet[16..20], octets(LB1));
        assert_eq!(checksum::of(&packet[..20]), 0);
        arrived.extend_from_slice(&packet[20..]);
    }
    let header = ipv4::Header::new(octets(USER), octets(LB1), ipv4::UDP, 63, arrived.len());
    let joined = [header.as_bytes(), &arrived].concat();
    assert!(transport_is_valid(&joined), "its checksum covers all of it");
    assert_eq!(parse_v4(&joined).unwrap().tuple.destination_port(), 8443);
    // The datagram is complete: nothing follows it any more.
    let (again, _) = lab.judge(WAN, pieces[1].clone());
    assert_eq!(again, Verdict::Drop(Drop::FragmentOrder));
}

/// Who could not put a packet together in time quotes its first piece (RFC 792), nobody another one (RFC 1122 §3.2.2).
#[test]
fn icmp_errors_about_first_pieces_follow_their_flow() {
    let piece = |from: &str, to: (&str, u16), place: u16| {
        let mut about = tcp(from, 40_000, to.0, to.1, ACK);
        about[6..8].copy_from_slice(&place.to_be_bytes());
        ttl(about, 64)
    };
    let mut lab = Lab::new();
    lab.connect(40_000);
    let late = |place| icmp(LB1, USER, [11, 1, 0, 0], &piece(USER, (LB1, 8443), place));
    let error = lab.pass(EDGE, late(0x2000)).unwrap();
    assert_eq!(
        (error.leg, &error.packet[28 + 6..][..2]),
        (WAN, &[0x20, 0][..])
    );
    error.quotes(USER, 40_000, PUBLIC, 443);
    let refused = lab.pass(EDGE, late(0x2001)).map(|_| ());
    assert_eq!(refused, Err(Drop::IcmpUnrelated));

    let mut quote = ip6(
        "2001:db8::1",
        "2001:db8::2",
        44,
        &[6, 0, 0, 1, 0, 0, 0, 7, 0, 80, 1, 187, 0, 0, 0, 0],
    );
    let quoted = packet::quoted_v6(&quote).unwrap();
    assert_eq!(
        (quoted.tuple.ports, quoted.transport),
        (packet::Ports::new(80, 443), 48)
    );
    quote[43] = 9;
    assert_eq!(packet::quoted_v6(&quote), None);
}

#[test]
fn broken_fragments_end_their_datagram() {
    let pieces = cut(&long_datagram(), &[480, 480, 248]);
    let tiny = cut(&long_datagram(), &[0]).remove(0);
    let mut overlapping = pieces[1].clone();
    overlapping[7] -= 1;
    let overlapping = ttl(overlapping, 64);
    let table: [(&str, Vec<Vec<u8>>, Drop); 3] = [
        ("overtaken", [pieces[1].clone()].into(), Drop::FragmentOrder),
        ("tiny", [tiny].into(), Drop::FragmentTiny),
        (
            "overlap",
            [pieces[0].clone(), overlapping].into(),
            Drop::FragmentOverlap,
        ),
    ];
    for (name, packets, reason) in table {
        let mut lab = lab(|config, _| config.services[0].transport = Transport::Udp);
        let verdicts: Vec<Verdict> = packets.into_iter().map(|p| lab.judge(WAN, p).0).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Drop(reason)), "{name}");
        let (rest, _) = lab.judge(WAN, pieces[2].clone());
        assert!(matches!(rest, Verdict::Drop(_)), "{name}: {rest:?}");
    }
}

/// The prefix outside is the provider's; inside nobody knows it.
#[test]
fn prefixes_are_translated_both_ways() {
    let address = |text: &str| text.parse::<core::net::Ipv6Addr>().unwrap();
    let mut lab = lab(|config, _| {
        for (leg, own) in [(0, "2001:db8:ffff::2"), (1, "fd01:203:405:1::2")] {
            config.interfaces[leg].address6 = Some(Interface6 {
                address: address(own),
                prefix: 64,
            });
        }
        config.default_route6 = Some(address("2001:db8:ffff::1"));
        let nat = Nat::Prefix6 {
            to: WAN,
            inside: Prefix6::of(address("fd01:203:405::"), 48),
            outside: Prefix6::of(address("2001:db8:1::"), 48),
        };
        config.nat.push(nat).unwrap();
    });
    let (inside, outside, peer) = (
        "fd01:203:405:1::1234",
        "2001:db8:1:d550::1234",
        "2001:db8:2::7",
    );
    let out = lab.forwarded(EDGE, udp6(inside, 5000, peer, 53));
    assert_eq!(ends6(&out), (outside.into(), peer.into()));
    assert!(is_valid6(&out));
    let back = lab.forwarded(WAN, udp6(peer, 53, outside, 5000));
    assert_eq!(ends6(&back), (peer.into(), inside.into()));
    assert!(is_valid6(&back));
    // An error from the outside quotes the outside's view.
    let error = lab.forwarded(WAN, unreachable6(peer, outside, &out));
    assert_eq!(ends6(&error), (peer.into(), inside.into()));
    assert_eq!(ends6(&error[48..]), (inside.into(), peer.into()));
    assert!(is_valid6(&error));
    // What is too long is told so in terms that its sender knows.
    let mut long = udp6(peer, 53, outside, 5000);
    long[7] = 1;
    let (verdict, packet) = lab.judge(WAN, long.clone());
    assert_eq!(verdict, Verdict::Error(Problem::HopLimit, Drop::Ttl));
    assert_eq!(packet, long);
}

/// A lab whose first rule accepts everything; `change` changes the configuration and the rules.
pub(super) fn lab(change: impl FnOnce(&mut Config, &mut Vec<Rule>)) -> Lab {
    lab_with(tables(), 1, change)
}

/// The same with other memory, and a seed of its own.
pub(super) fn lab_with<const FLOWS: usize, const FLOWS6: usize>(
    tables: &'static mut Tables<FLOWS, FLOWS6>,
    seed: u64,
    change: impl FnOnce(&mut Config, &mut Vec<Rule>),
) -> Lab {
    let mut lab = Lab {
        filter: Filter::new(&policy_with(change), tables, seed),
        now: NOW,
        unknown: Unknown::Refuse,
    };
    lab.health(true, true);
    lab
}

/// What a lab runs.
pub(super) fn policy_with(change: impl FnOnce(&mut Config, &mut Vec<Rule>)) -> Policy<'static> {
    let mut config = policy().config;
    let mut any = rule("any", 0, 0, "0.0.0.0/0", "0.0.0.0/0", Protocol::Any);
    any.from = Legs::ANY;
    any.to = Legs::ANY;
    any.sources.clear();
    any.destinations.clear();
    let mut rules = Vec::from([any]);
    change(&mut config, &mut rules);
    classifier::policy(config, &rules).expect("good rules")
}

/// More half-open connections than the policy likes.
fn flooded() -> Lab {
    let mut lab = lab(|config, _| config.protection.syn_cookies_above = 8);
    for port in 1..=8 {
        lab.pass(WAN, tcp("192.0.2.66", port, PUBLIC, 443, SYN))
            .unwrap();
    }
    lab
}

impl Lab {
    /// The server that a new connection of the user's reaches.
    pub(super) fn user(&mut self, port: u16, service: u16) -> String {
        let passed = self.pass(WAN, tcp(USER, port, PUBLIC, service, SYN));
        passed.unwrap().hop
    }

    pub(super) fn judge(&mut self, leg: u8, mut packet: Vec<u8>) -> (Verdict, Vec<u8>) {
        let received = packet.len();
        packet.resize(received + 40, 0);
        let verdict = self
            .filter
            .judge(self.now, leg, &mut packet, received, self.unknown);
        let len = match verdict {
            Verdict::Forward { len, .. }
            | Verdict::Answer { len, .. }
            | Verdict::Splice { len } => len,
            Verdict::Local | Verdict::Error(..) | Verdict::Drop(_) => received,
        };
        packet.truncate(len);
        (verdict, packet)
    }

    fn forwarded(&mut self, leg: u8, packet: Vec<u8>) -> Vec<u8> {
        let (verdict, packet) = self.judge(leg, packet);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        packet
    }

    /// A packet whose place another one takes.
    pub(super) fn pass_new(&mut self, leg: u8, packet: Vec<u8>) -> Result<Passed, Drop> {
        match self.judge(leg, packet) {
            (Verdict::Forward { hop, .. }, packet) => {
                assert!(transport_is_valid(&packet), "{packet:02x?}");
                Ok(Passed {
                    leg: hop.leg,
                    hop: std::format!("{}", hop.address),
                    packet,
                })
            }
            (Verdict::Drop(reason), _) => Err(reason),
            (verdict, _) => panic!("{verdict:?}"),
        }
    }
}

impl Passed {
    fn numbers(&self) -> (u32, u32, Option<(u32, u32)>) {
        let header = tcp::Header::parse(&self.packet[20..]).unwrap();
        let options = Options::parse(&self.packet[40..20 + header.header_len()]);
        (
            header.sequence.get(),
            header.acknowledgment.get(),
            options.timestamp,
        )
    }

    fn quotes_udp(&self, source: &str, source_port: u16, destination: &str, destination_port: u16) {
        let quoted = parse_v4(&self.packet[28..]).unwrap().tuple;
        assert_eq!(quoted.source.octets(), octets(source));
        assert_eq!(quoted.destination.octets(), octets(destination));
        let ports = (quoted.source_port(), quoted.destination_port());
        assert_eq!(ports, (source_port, destination_port));
    }
}

/// Sequence number and options of an answer.
fn numbers(packet: &[u8]) -> (u32, Options) {
    let header = tcp::Header::parse(&packet[20..]).unwrap();
    let options = Options::parse(&packet[40..20 + header.header_len()]);
    (header.sequence.get(), options)
}

/// A segment from the first server to the user's connection.
fn server(sequence: u32, acknowledgment: u32, flags: Flags, options: &Options) -> Vec<u8> {
    let segment = crate::synproxy::Segment {
        sequence,
        acknowledgment,
        flags,
        window: 500,
        options: *options,
    };
    let mut buffer = std::vec![0; 100];
    let (from, to) = (
        (LB1.parse().unwrap(), 8443),
        (USER.parse().unwrap(), 40_000),
    );
    let len = segment.write(from, to, &mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

/// A datagram of 1,208 bytes to the service, its checksum valid.
fn long_datagram() -> Vec<u8> {
    let mut datagram = std::vec![0_u8; 1208];
    datagram[..8].copy_from_slice(&[0x9c, 0x40, 1, 0xbb, 4, 0xb8, 0, 0]);
    for (n, byte) in datagram[8..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    let pseudo = checksum::pseudo_header(octets(USER), octets(PUBLIC), ipv4::UDP, 1208);
    let sum = pseudo.bytes(&datagram).finish();
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(USER, PUBLIC, ipv4::UDP, &datagram)
}

/// The packet in pieces of these lengths.
fn cut(packet: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut at = 20;
    let mut pieces = Vec::new();
    for len in lengths {
        // A piece of no length stands for one that is too short for a header.
        let len = if *len == 0 { 7 } else { *len };
        let last = at + len == packet.len();
        let mut piece = ip(USER, PUBLIC, ipv4::UDP, &packet[at..at + len]);
        let offset = ((at - 20) / 8) as u16 | if last { 0 } else { 0x2000 };
        piece[4..6].copy_from_slice(&[7, 7]);
        piece[6..8].copy_from_slice(&offset.to_be_bytes());
        pieces.push(ttl(piece, 64));
        at += len;
    }
    pieces
}

fn octets6(text: &str) -> [u8; 16] {
    text.parse::<core::net::Ipv6Addr>().unwrap().octets()
}

fn ip6(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = ipv6::Header::new(octets6(from), octets6(to), protocol, 64, payload.len());
    [header.as_bytes(), payload].concat()
}

fn udp6(from: &str, source: u16, to: &str, destination: u16) -> Vec<u8> {
    let mut datagram = [
        &source.to_be_bytes()[..],
        &destination.to_be_bytes(),
        &[0, 12, 0, 0],
        b"text",
    ]
    .concat();
    let pseudo = ipv6::pseudo_header(octets6(from), octets6(to), ipv4::UDP, 12);
    let sum = pseudo.bytes(&datagram).finish();
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ip6(from, to, ipv4::UDP, &datagram)
}

fn unreachable6(from: &str, to: &str, about: &[u8]) -> Vec<u8> {
    let mut message = [&[1, 4, 0, 0, 0, 0, 0, 0], about].concat();
    let len = message.len() as u16;
    let pseudo = ipv6::pseudo_header(octets6(from), octets6(to), ipv6::ICMP, len);
    let sum = pseudo.bytes(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip6(from, to, ipv6::ICMP, &message)
}

fn ends6(packet: &[u8]) -> (String, String) {
    let text = |at: usize| {
        let octets: [u8; 16] = packet[at..at + 16].try_into().unwrap();
        let address: core::net::IpAddr = V6::from_octets(&octets).into();
        std::format!("{address}")
    };
    (text(8), text(24))
}

fn is_valid6(packet: &[u8]) -> bool {
    let at = |at: usize| packet[at..at + 16].try_into().unwrap();
    let payload = &packet[40..];
    let pseudo = ipv6::pseudo_header(at(8), at(24), packet[6], payload.len() as u16);
    pseudo.bytes(payload).finish() == 0 && V6::parse(packet).is_ok()
}
