//! Stories of a pair: what one appliance knows goes on at the other.

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;

use policy::rule::Sharing;
use policy::{Balance, Forwarding, Limit, LimitKind, Persistence, Scope};
use proptest::prelude::*;
use random::SplitMix64;
use sync::{MAX_RECORD, Path, Session, Settings, Standing, State, Store, Terms};
use zerocopy::FromZeros;

use super::stories::{lab_with, masquerade, policy_with};
use super::*;
use crate::cookie::{self, Options};
use crate::record::{FlowRecord, kind};
use crate::{Address, Imports, V4, V6};

const TRUST: Terms = Terms {
    peer_is_right: true,
    same_policy: true,
};

/// Both appliances of a pair, the first one Active; each has a seed of its own.
fn pair(change: impl Fn(&mut Config, &mut Vec<Rule>)) -> [Box<Lab>; 2] {
    let mut labs = [11, 12].map(|seed| member(tables(), seed, &change));
    labs[0].filter.take_over(NOW);
    labs
}

fn member<const FLOWS: usize, const FLOWS6: usize>(
    tables: &'static mut Tables<FLOWS, FLOWS6>,
    seed: u64,
    change: impl Fn(&mut Config, &mut Vec<Rule>),
) -> Box<Lab> {
    let lab = lab_with(tables, seed, |config, rules| {
        config.availability.pair = Some(policy::Pair {
            peer: "gw2".try_into().unwrap(),
            first: seed == 11,
            paths: [policy::Path {
                interface: EDGE,
                mac: [2, 0, 0, 0, 1, 21],
                address: "10.20.1.3".parse().unwrap(),
            }]
            .into_iter()
            .collect(),
            serial: false,
            heartbeat: 10,
            misses: 3,
            sync: true,
            defer: false,
            key: [7; 32],
            operator: [8; 32],
            fingerprint: 0,
        });
        change(config, rules);
    });
    Box::new(lab)
}

/// Tells the second what the first knows, or what has changed.
fn tell([from, to]: &mut [Box<Lab>; 2], all: bool) {
    let (now, mut record) = (from.now, [0; MAX_RECORD]);
    let mut items = Vec::new();
    while let Some(item) = from.filter.take_changed(now) {
        items.push(item);
    }
    if all {
        items.extend(0..from.filter.items());
    }
    for item in items {
        let len = from.filter.export(now, item, &mut record);
        if len > 0 {
            to.filter.import(to.now, &record[..len], TRUST);
        }
        from.filter.settle(item);
    }
}

/// The second takes over from the first, which is dead.
fn take_over(labs: &mut [Box<Lab>; 2]) -> &mut Lab {
    let now = labs[0].now;
    labs[1].now = now;
    labs[1].filter.take_over(now);
    &mut labs[1]
}

/// Flows that are not over, and what they count for.
fn known(lab: &mut Lab) -> BTreeSet<String> {
    let (now, mut record) = (lab.now, [0; MAX_RECORD]);
    let mut known = BTreeSet::new();
    for item in 0..lab.filter.items() {
        let len = lab.filter.export(now, item, &mut record);
        let text = match record[..len].split_first() {
            Some((&kind::FLOW, rest)) => text(FlowRecord::<V4>::read(rest).unwrap()),
            Some((&kind::FLOW6, rest)) => text(FlowRecord::<V6>::read(rest).unwrap()),
            _ => None,
        };
        known.extend(text);
    }
    known
}

/// Without what grows old on the way.
fn text<A: Address>(record: FlowRecord<A>) -> Option<String> {
    let FlowRecord {
        tuples,
        state,
        paths,
        owner,
        extra,
        splice,
        ..
    } = record;
    let state = match state {
        crate::track::State::Inherited => crate::track::State::Established,
        state => state,
    };
    let rest = (state, paths, owner, extra, splice);
    (!state.is_over()).then(|| std::format!("{tuples:?} {rest:?}"))
}

fn two_servers(config: &mut Config) {
    config.services[0].balance = Balance::RoundRobin;
    config.services[0].persistence = Some(Persistence {
        prefix: 24,
        seconds: 600,
    });
    config.services[1].balance = Balance::RoundRobin;
}

fn segment(from: (&str, u16), to: (&str, u16), numbers: (u32, u32), flags: Flags) -> Vec<u8> {
    let segment = Segment {
        source: (octets(from.0), from.1),
        destination: (octets(to.0), to.1),
        sequence: numbers.0,
        acknowledgment: numbers.1,
        flags,
        window: 512,
    };
    tcp::write(&segment).to_vec()
}

/// Connections to services and from servers, datagrams and pings keep server, address and port; nobody is reset.
#[test]
fn everything_goes_on() {
    let mut labs = pair(|config, _| {
        two_servers(config);
        masquerade(config);
    });
    let [active, _] = &mut labs;
    // Who came first to the second service decides who gets the next one: the other appliance could not know.
    let mut servers = BTreeMap::new();
    for port in 1..=5 {
        let server = active.user(port, 80);
        let answer = tcp(&server, 80, USER, port, SYN_ACK);
        active.pass(EDGE, answer).unwrap();
        active.pass(WAN, tcp(USER, port, PUBLIC, 80, ACK)).unwrap();
        servers.insert(port, server);
    }
    let mut ports = Vec::new();
    for from in [LB1, LB2] {
        let out = active
            .pass(EDGE, tcp(from, 40_000, USER, 443, SYN))
            .unwrap();
        let (_, port, ..) = out.ends();
        active
            .pass(WAN, tcp(USER, 443, PUBLIC, port, SYN_ACK))
            .unwrap();
        active
            .pass(EDGE, tcp(from, 40_000, USER, 443, ACK))
            .unwrap();
        ports.push((from, port));
    }
    active.pass(EDGE, udp(LB1, 40_000, USER, 53)).unwrap();
    active.pass(WAN, udp(USER, 53, PUBLIC, 40_000)).unwrap();
    active.pass(EDGE, echo(LB1, USER, ECHO_REQUEST)).unwrap();
    active.pass(WAN, echo(USER, PUBLIC, ECHO_REPLY)).unwrap();
    tell(&mut labs, false);
    let known_there = known(&mut labs[1]);
    assert_eq!((known_there.len(), known(&mut labs[0])), (9, known_there));

    let now = take_over(&mut labs);
    for (port, server) in &servers {
        let data = now.pass(WAN, tcp(USER, *port, PUBLIC, 80, ACK)).unwrap();
        assert_eq!(data.hop, *server);
        let back = now.pass(EDGE, tcp(server, 80, USER, *port, ACK)).unwrap();
        assert_eq!(back.ends(), (PUBLIC, 80, USER, *port));
    }
    for (from, port) in ports.iter().copied() {
        let back = now.pass(WAN, tcp(USER, 443, PUBLIC, port, ACK)).unwrap();
        assert_eq!(back.ends(), (USER, 443, from, 40_000));
        let out = now.pass(EDGE, tcp(from, 40_000, USER, 443, ACK)).unwrap();
        assert_eq!(out.ends(), (PUBLIC, port, USER, 443));
    }
    let back = now.pass(WAN, udp(USER, 53, PUBLIC, 40_000)).unwrap();
    assert_eq!(back.ends(), (USER, 53, LB1, 40_000));
    now.pass(WAN, echo(USER, PUBLIC, ECHO_REPLY)).unwrap();
    // The third port is left for whoever comes next, and no fourth.
    let out = now.pass(WEB, tcp(WEB1, 40_000, USER, 443, SYN)).unwrap();
    let taken: Vec<u16> = ports.iter().map(|(_, port)| *port).collect();
    assert!(!taken.contains(&out.ends().1));
    let fourth = now.pass(EDGE, tcp("10.20.1.13", 40_000, USER, 443, SYN));
    assert_eq!(fourth.unwrap_err(), Drop::NoPort);
}

/// What a rule keeps to itself is never told, neither as news nor when the peer asks for all, nor its end; and an appliance that
/// comes back does not tell of it either.
#[test]
fn flows_of_some_rules_are_never_told() {
    let mut labs = pair(|config, rules| {
        masquerade(config);
        to_names(rules, Sharing::Never);
    });
    let ask = |lab: &mut Lab| {
        lab.pass(EDGE, udp(LB1, 40_000, USER, 53)).unwrap();
        lab.pass(WAN, udp(USER, 53, PUBLIC, 40_000)).unwrap();
    };
    ask(&mut labs[0]);
    labs[0].connect(40_001);
    tell(&mut labs, false);
    tell(&mut labs, true);
    let names = |lab: &mut Lab| known(lab).len();
    assert_eq!(labs.each_mut().map(|lab| names(lab)), [1, 1]);
    // It was the Active all along, and is again.
    let now = labs[0].now;
    labs[0].filter.stand_down(now, true);
    labs[0].filter.take_over(now);
    ask(&mut labs[0]);
    tell(&mut labs, true);
    assert_eq!(labs.each_mut().map(|lab| names(lab)), [1, 1]);
    // Its place is another flow's, which is told.
    labs[0].now = labs[0].now + Duration::from_secs(700);
    let now = labs[0].now;
    for _ in 0..64 {
        labs[0].filter.sweep(now);
    }
    assert_eq!(labs[0].filter.deferred(true), None);
    labs[0].connect(40_002);
    labs[1].now = now;
    tell(&mut labs, false);
    assert_eq!(labs.each_mut().map(|lab| names(lab)), [2, 2]);
}

/// First packets wait where their rule says so, or all do; never where the peer is not told.
#[test]
fn rules_say_whose_first_packets_wait() {
    for (own, usual, waits) in [
        (Sharing::Usual, false, false),
        (Sharing::Usual, true, true),
        (Sharing::Deferred, false, true),
        (Sharing::Never, true, false),
    ] {
        let mut labs = pair(|config, rules| {
            masquerade(config);
            to_names(rules, own);
        });
        let [active, _] = &mut labs;
        active.pass(EDGE, udp(LB1, 40_000, USER, 53)).unwrap();
        assert_eq!(
            active.filter.deferred(usual).is_some(),
            waits,
            "{own:?} {usual}"
        );
    }
}

/// A rule of its own for questions to name servers.
fn to_names(rules: &mut Vec<Rule>, sharing: Sharing) {
    let names = Rule {
        protocol: Protocol::Udp(Ports::to(53)),
        sharing,
        ..rules[0].clone()
    };
    rules.insert(0, names);
}

/// Balancing goes on with the same counts, and clients stay with their servers, also those without a connection now.
#[test]
fn servers_and_clients_are_remembered() {
    let mut labs = pair(|config, _| {
        two_servers(config);
        config.services[1].balance = Balance::LeastConnections;
    });
    let [active, _] = &mut labs;
    let stays = active.user(1, 443);
    let answer = tcp(&stays, 8443, USER, 1, SYN_ACK);
    active.pass(EDGE, answer).unwrap();
    active.pass(WAN, tcp(USER, 1, PUBLIC, 443, RST)).unwrap();
    for port in 1..=4 {
        let server = active.user(port, 80);
        active
            .pass(EDGE, tcp(&server, 80, USER, port, SYN_ACK))
            .unwrap();
        active.pass(WAN, tcp(USER, port, PUBLIC, 80, ACK)).unwrap();
    }
    active.now = active.now + Duration::from_secs(20);
    active.filter.sweep(active.now);
    labs[1].now = labs[0].now;
    tell(&mut labs, true);
    let flows = |lab: &Lab| [0, 1].map(|server| lab.filter.server_flows(1, server));
    assert_eq!(flows(&labs[0]), [2, 2]);
    assert_eq!(flows(&labs[1]), [2, 2]);
    let now = take_over(&mut labs);
    for port in 10..14 {
        assert_eq!(now.user(port, 443), stays);
    }
}

/// For a moment after the take-over numbers are learned; then a segment beyond the window is dropped as ever.
#[test]
fn windows_are_learned_anew() {
    let mut labs = pair(|config, _| config.services[0].balance = Balance::RoundRobin);
    let (user, public, server) = ((USER, 40_000), (PUBLIC, 443), (LB1, 8443));
    labs[0].connect(40_000);
    tell(&mut labs, false);
    // Megabytes later, of which the Backup knows nothing.
    let (theirs, ours) = (5_000_000, 90_000_000);
    let now = take_over(&mut labs);
    now.unknown = Unknown::PickUp;
    let ack = |sequence, acknowledgment| segment(user, public, (sequence, acknowledgment), ACK);
    let answer = |sequence, acknowledgment| segment(server, user, (sequence, acknowledgment), ACK);
    now.pass(WAN, ack(theirs, ours)).unwrap();
    // The server sends something again that was lost, and its client has had what came behind that.
    now.pass(EDGE, answer(ours - 20_000, theirs)).unwrap();
    now.pass(WAN, ack(theirs, ours + 10_000)).unwrap();
    now.pass(EDGE, answer(ours + 10_000, theirs)).unwrap();
    now.now = now.now + Duration::from_secs(6);
    now.unknown = Unknown::Refuse;
    now.pass(WAN, ack(theirs, ours + 10_000)).unwrap();
    now.pass(EDGE, answer(ours + 10_000, theirs)).unwrap();
    for beyond in [10_000, 3_000_000] {
        let beyond = now.pass(EDGE, answer(ours + 10_000 + beyond, theirs));
        assert_eq!(beyond.map(|_| ()), Err(Drop::OutsideWindow));
    }
    let before = now.pass(WAN, ack(theirs - 200_000, ours));
    assert_eq!(before.map(|_| ()), Err(Drop::OutsideWindow));
    // A guessed reset ends nothing, one that comes next does.
    let reset = |sequence| segment(server, user, (sequence, theirs), RST);
    now.pass(EDGE, reset(ours + 10_100)).unwrap();
    now.pass(WAN, ack(theirs, ours + 10_000)).unwrap();
    assert!(known(now).iter().any(|flow| flow.contains("Established")));
    now.pass(EDGE, reset(ours + 10_000)).unwrap();
    assert_eq!(known(now), BTreeSet::new());
}

/// A connection that was idle all the time has its whole time before it.
#[test]
fn idle_connections_do_not_grow_old() {
    let mut labs = pair(|_, _| {});
    labs[0].connect(40_000);
    tell(&mut labs, false);
    for _ in 0..700 {
        labs[1].now = labs[1].now + Duration::from_secs(20);
        let now = labs[1].now;
        labs[1].filter.sweep(now);
    }
    labs[0].now = labs[1].now;
    let now = take_over(&mut labs);
    now.now = now.now + Duration::from_secs(7_300);
    now.filter.sweep(now.now);
    now.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK)).unwrap();
}

/// What was never answered is nobody's business; what is over ends by itself.
#[test]
fn floods_are_not_told() {
    let mut labs = pair(|_, _| {});
    for port in 1..=40 {
        let [active, _] = &mut labs;
        active.pass(WAN, tcp(USER, port, PUBLIC, 443, SYN)).unwrap();
        active.pass(EDGE, udp(LB1, port, USER, 53)).unwrap();
    }
    assert_eq!(labs[0].filter.changed(), 0);
    labs[0].now = labs[0].now + Duration::from_secs(60);
    for _ in 0..10 {
        let now = labs[0].now;
        labs[0].filter.sweep(now);
    }
    assert_eq!((labs[0].filter.flows(), labs[0].filter.changed()), (0, 0));
    labs[0].connect(1);
    assert_eq!(labs[0].filter.changed(), 1);
    tell(&mut labs, false);
    // Segments of an established connection are nobody's business either.
    for _ in 0..10 {
        labs[0].pass(WAN, tcp(USER, 1, PUBLIC, 443, ACK)).unwrap();
    }
    assert_eq!(labs[0].filter.changed(), 0);
    labs[0].pass(WAN, tcp(USER, 1, PUBLIC, 443, RST)).unwrap();
    assert_eq!(labs[0].filter.changed(), 1);
    tell(&mut labs, false);
    for lab in &mut labs {
        lab.now = lab.now + Duration::from_secs(15);
        for _ in 0..4 {
            lab.filter.sweep(lab.now);
        }
        assert_eq!((lab.filter.flows(), lab.filter.changed()), (0, 0));
    }
}

/// Flows end at the other end too: at once if that is told, otherwise when two passes did not name them.
#[test]
fn what_is_gone_goes() {
    let mut labs = pair(|config, _| masquerade(config));
    for port in [1, 2] {
        labs[0].pass(EDGE, udp(LB1, port, USER, 53)).unwrap();
    }
    let answer = |lab: &mut Lab| {
        for port in 39_999..=40_001 {
            lab.judge(WAN, udp(USER, 53, PUBLIC, port));
        }
    };
    answer(&mut labs[0]);
    tell(&mut labs, false);
    assert_eq!(labs[1].filter.flows(), 2);
    labs[0].now = labs[0].now + Duration::from_secs(200);
    let now = labs[0].now;
    labs[0].filter.sweep(now);
    assert_eq!(labs[0].filter.changed(), 2);
    tell(&mut labs, false);
    assert_eq!((labs[1].filter.flows(), labs[0].filter.changed()), (0, 0));

    for port in [1, 2] {
        labs[0].pass(EDGE, udp(LB1, port, USER, 53)).unwrap();
    }
    answer(&mut labs[0]);
    tell(&mut labs, false);
    // All is told, but for one flow.
    let (now, mut record) = (labs[0].now, [0; MAX_RECORD]);
    for left in [2, 2, 1] {
        let len = labs[0].filter.export(now, 0, &mut record);
        labs[1].filter.import(now, &record[..len], TRUST);
        labs[1].filter.end_pass(now);
        assert_eq!(labs[1].filter.flows(), left);
    }
}

/// What the Active says stands against what a Backup remembers, not against another Active.
#[test]
fn clashes() {
    let mut labs = pair(|config, _| two_servers(config));
    let first = labs[0].user(1, 80);
    let second = labs[0].user(2, 80);
    assert_ne!(first, second);
    for (port, server) in [(1, &first), (2, &second)] {
        let answer = tcp(server, 80, USER, port, SYN_ACK);
        labs[0].pass(EDGE, answer).unwrap();
        labs[0].pass(WAN, tcp(USER, port, PUBLIC, 80, ACK)).unwrap();
    }
    // The other has the second connection only, and with another server.
    assert_eq!(labs[1].user(2, 80), first);
    let (now, mut record) = (NOW, [0; MAX_RECORD]);
    let records: Vec<Vec<u8>> = [0, 1]
        .map(|item| {
            let len = labs[0].filter.export(now, item, &mut record);
            record[..len].to_vec()
        })
        .into();
    let rival = Terms {
        peer_is_right: false,
        same_policy: true,
    };
    for record in &records {
        labs[1].filter.import(now, record, rival);
    }
    let imports = labs[1].filter.imports();
    assert_eq!((imports.taken, imports.clashed), (1, 1));
    let flows = |lab: &Lab| [0, 1].map(|server| lab.filter.server_flows(1, server));
    assert_eq!(flows(&labs[1]), [2, 0]);
    for record in &records {
        labs[1].filter.import(now, record, TRUST);
    }
    assert_eq!(flows(&labs[1]), [1, 1]);
    assert_eq!(known(&mut labs[1]), known(&mut labs[0]));
}

/// Names mean something else where the configuration is another one: what needs none is believed, if it would be accepted here.
#[test]
fn other_configurations() {
    let mut labs = pair(|config, _| masquerade(config));
    let other = policy_with(|config, _| {
        masquerade(config);
        config.services.swap(0, 1);
        config.services[1].servers.swap(0, 1);
    });
    labs[1].filter.reload(NOW, &other, false);
    labs[0].connect(1);
    labs[0].pass(EDGE, udp(LB1, 40_000, USER, 53)).unwrap();
    labs[0].pass(WAN, udp(USER, 53, PUBLIC, 40_000)).unwrap();
    let strange = Terms {
        peer_is_right: true,
        same_policy: false,
    };
    let (now, mut record) = (NOW, [0; MAX_RECORD]);
    for item in 0..2 {
        let len = labs[0].filter.export(now, item, &mut record);
        labs[1].filter.import(now, &record[..len], strange);
    }
    let imports = labs[1].filter.imports();
    assert_eq!((imports.taken, imports.unfit), (2, 0));
    assert_eq!(labs[1].filter.server_flows(1, 1), 1, "by its new name");
    let now = take_over(&mut labs);
    let data = now.pass(WAN, tcp(USER, 1, PUBLIC, 443, ACK)).unwrap();
    assert_eq!(data.ends(), (USER, 1, LB1, 8443));
    let back = now.pass(WAN, udp(USER, 53, PUBLIC, 40_000)).unwrap();
    assert_eq!(back.ends(), (USER, 53, LB1, 40_000));
}

/// Who has used up his tokens has not got them back because another appliance asks.
#[test]
fn limits_hold() {
    let scope = Scope::Source {
        prefix: 32,
        prefix6: 64,
    };
    let mut labs = pair(|config, rules| {
        let limit = |kind| Limit { kind, scope };
        config.limits = [
            limit(LimitKind::Rate {
                per_second: 1,
                burst: 5,
            }),
            limit(LimitKind::Flows { max: 4 }),
        ]
        .into_iter()
        .collect();
        rules[0].rate = Some(0);
        rules[0].flows = Some(1);
    });
    for port in 1..=4 {
        labs[0].connect(port);
    }
    let fifth = labs[0].pass(WAN, tcp(USER, 5, PUBLIC, 443, SYN));
    assert_eq!(fifth.map(|_| ()), Err(Drop::FlowLimit));
    tell(&mut labs, false);
    let now = take_over(&mut labs);
    let fifth = now.pass(WAN, tcp(USER, 5, PUBLIC, 443, SYN));
    assert_eq!(fifth.map(|_| ()), Err(Drop::FlowLimit));
    for port in 1..=4 {
        now.pass(WAN, tcp(USER, port, PUBLIC, 443, RST)).unwrap();
        now.pass(EDGE, tcp(LB1, 8443, USER, port, RST)).unwrap();
    }
    // Four of five tokens are used, and none is back yet.
    let refused: Vec<_> = (0..3)
        .map(|n| {
            now.pass(WAN, tcp("198.51.100.8", 10 + n, PUBLIC, 443, SYN))
                .is_ok()
        })
        .collect();
    assert_eq!(refused, [true; 3], "another source has its own");
    now.now = now.now + Duration::from_millis(500);
    for _ in 0..2 {
        now.filter.sweep(now.now);
    }
    now.filter.forget();
    let passed: Vec<_> = (0..3)
        .map(|n| now.pass(WAN, tcp(USER, 20 + n, PUBLIC, 443, SYN)).is_ok())
        .collect();
    assert_eq!(passed, [true, false, false]);
}

/// A client answers the cookie of one appliance to the other.
#[test]
fn cookies_are_recognised() {
    let mut labs = pair(|config, _| config.protection.syn_cookies_above = 0);
    let none = Options::default();
    let (_, answer) = labs[0].judge(WAN, cookie::tests::segment(false, 1000, 0, SYN, &none));
    let cookie = tcp::Header::parse(&answer[20..]).unwrap().sequence.get();
    let ack = cookie::tests::segment(false, 1001, cookie.wrapping_add(1), ACK, &none);
    // The other one started at another time.
    labs[1].now = NOW + Duration::from_secs(12_345);
    tell(&mut labs, false);
    let lab = &mut labs[1];
    lab.filter.take_over(lab.now);
    lab.now = lab.now + Duration::from_secs(20);
    let syn = lab.pass_new(WAN, ack.clone()).unwrap();
    assert_eq!(syn.ends().2, LB1);
    lab.filter.forget();
    lab.now = lab.now + Duration::from_secs(200);
    assert_eq!(lab.pass(WAN, ack).map(|_| ()), Err(Drop::NoFlow));
}

/// Servers that answer directly, and connections whose numbers differ on both sides.
#[test]
fn special_flows() {
    let mut labs = pair(|config, _| {
        config.services[0].forwarding = Forwarding::DirectReturn;
        for server in &mut config.services[0].servers {
            server.port = 443;
        }
    });
    for flags in [SYN, ACK] {
        labs[0]
            .pass(WAN, tcp(USER, 40_000, PUBLIC, 443, flags))
            .unwrap();
    }
    tell(&mut labs, false);
    let now = take_over(&mut labs);
    let passed = now.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK)).unwrap();
    assert_eq!((passed.leg, &*passed.hop), (EDGE, LB1));
    assert_eq!(passed.ends(), (USER, 40_000, PUBLIC, 443));

    let mut labs = pair(|config, _| config.protection.syn_cookies_above = 0);
    let none = Options::default();
    let [active, _] = &mut labs;
    let (_, answer) = active.judge(WAN, cookie::tests::segment(false, 1000, 0, SYN, &none));
    let cookie = tcp::Header::parse(&answer[20..]).unwrap().sequence.get();
    let client = |acknowledgment| {
        cookie::tests::segment(false, 1001, acknowledgment, ACK, &Options::default())
    };
    active
        .pass_new(WAN, client(cookie.wrapping_add(1)))
        .unwrap();
    let server = |sequence, flags| segment((LB1, 8443), (USER, 40_000), (sequence, 1001), flags);
    let spliced = active.judge(EDGE, server(5000, SYN_ACK)).0;
    assert!(matches!(spliced, Verdict::Splice { .. }), "{spliced:?}");
    tell(&mut labs, false);
    let now = take_over(&mut labs);
    for _ in 0..2 {
        let to = now.pass(WAN, client(cookie.wrapping_add(1))).unwrap();
        let header = tcp::Header::parse(&to.packet[20..]).unwrap();
        assert_eq!(header.acknowledgment.get(), 5001);
        let from = now.pass(EDGE, server(5001, ACK)).unwrap();
        let header = tcp::Header::parse(&from.packet[20..]).unwrap();
        assert_eq!(header.sequence.get(), cookie.wrapping_add(1));
        now.now = now.now + Duration::from_secs(6);
    }
}

/// A smaller table takes what it has room for.
#[test]
fn tables_of_different_sizes() {
    let leak = |tables| Box::leak(Box::new(tables));
    let mut labs = [
        member(tables(), 11, |_, _| {}),
        member(leak(Tables::<16, 16>::new()), 12, |_, _| {}),
    ];
    labs[0].filter.take_over(NOW);
    for port in 1..=40 {
        labs[0].connect(port);
    }
    tell(&mut labs, true);
    assert_eq!(labs[1].filter.flows(), 16);
    let Imports { full, taken, .. } = labs[1].filter.imports();
    assert!(full >= 24 && taken >= 16);
    let both = known(&mut labs[1]);
    assert!(both.is_subset(&known(&mut labs[0])));
}

/// A Backup's own checks take nothing away from the Active; if it takes over, its word counts.
#[test]
fn servers_that_fall_meanwhile() {
    let mut labs = pair(|config, _| two_servers(config));
    for port in 1..=4 {
        let server = labs[0].user(port, 80);
        labs[0]
            .pass(EDGE, tcp(&server, 80, USER, port, SYN_ACK))
            .unwrap();
        labs[0].pass(WAN, tcp(USER, port, PUBLIC, 80, ACK)).unwrap();
    }
    tell(&mut labs, false);
    labs[1].health(false, false);
    assert_eq!(labs[1].filter.flows(), 4);
    labs[1].health(true, false);
    let now = take_over(&mut labs);
    assert_eq!(now.filter.flows(), 2);
    assert_eq!(
        [0, 1].map(|server| now.filter.server_flows(1, server)),
        [2, 0]
    );
}

/// A router that is relieved keeps what the other knows, and takes it back.
#[test]
fn there_and_back() {
    let mut labs = pair(|config, _| masquerade(config));
    labs[0].connect(1);
    tell(&mut labs, true);
    take_over(&mut labs);
    labs[0].filter.stand_down(NOW, true);
    labs[1].connect(2);
    labs.swap(0, 1);
    tell(&mut labs, true);
    assert_eq!(known(&mut labs[1]), known(&mut labs[0]));
    let back = take_over(&mut labs);
    for port in [1, 2] {
        back.pass(WAN, tcp(USER, port, PUBLIC, 443, ACK)).unwrap();
    }
    back.filter.stand_down(NOW, false);
    assert_eq!(back.filter.flows(), 0);
}

/// Both appliances with their sessions, and a cable that does to datagrams what it likes.
struct Cable {
    labs: [Box<Lab>; 2],
    sessions: [Session; 2],
    boots: u8,
    random: SplitMix64,
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
    /// Percent of datagrams that are lost, repeated and damaged.
    weather: [u64; 3],
    /// Most microseconds that one takes longer than another.
    late: u64,
}

impl Cable {
    fn new(labs: [Box<Lab>; 2], seed: u64) -> Self {
        let mut cable = Self {
            labs,
            sessions: [0, 1].map(|index| session(index, index as u8 + 1)),
            boots: 2,
            random: SplitMix64::new(seed),
            wire: BTreeMap::new(),
            sent: 0,
            weather: [0; 3],
            late: 0,
        };
        cable.stand();
        cable
    }

    fn stand(&mut self) {
        for (index, state) in [State::Active, State::Backup].into_iter().enumerate() {
            let standing = Standing {
                state,
                ..Standing::default()
            };
            self.give(index, sync::Input::Standing(standing));
        }
    }

    fn give(&mut self, index: usize, input: sync::Input<'_>) {
        let (lab, random) = (&mut self.labs[index], &mut self.random);
        let (now, wire, sent) = (lab.now, &mut self.wire, &mut self.sent);
        let ([lost, repeated, damaged], late) = (self.weather, self.late);
        let mut out = |_: Path, bytes: &[u8]| {
            let mut chance = |percent| random.draw() % 100 < percent;
            let copies = match (chance(lost), chance(repeated)) {
                (true, _) => 0,
                (_, true) => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let mut bytes = bytes.to_vec();
                if random.draw() % 100 < damaged {
                    let at = random.draw() as usize % bytes.len();
                    bytes[at] ^= 1 << (random.draw() % 8);
                }
                let delay = Duration::from_micros(200 + random.draw() % (late + 1));
                *sent += 1;
                wire.insert((now + delay, *sent), (1 - index, bytes));
            }
        };
        self.sessions[index].step(now, input, &mut lab.filter, &mut out);
    }

    fn run(&mut self, millis: u64) {
        let end = self.labs[0].now + Duration::from_millis(millis);
        // Before the sessions run: what ends now is told.
        for lab in &mut self.labs {
            lab.filter.sweep(lab.now);
        }
        loop {
            let timer = self.sessions.iter().map(Session::deadline).min();
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let next = timer.into_iter().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            let now = self.labs[0].now.max(next);
            for lab in &mut self.labs {
                lab.now = now;
            }
            if arrival == Some(next) {
                let (_, (to, mut bytes)) = self.wire.pop_first().unwrap();
                let (path, bytes) = (Path(0), &mut bytes[..]);
                self.give(to, sync::Input::Datagram { path, bytes });
                continue;
            }
            for index in 0..2 {
                if self.sessions[index].deadline() <= now {
                    self.give(index, sync::Input::Timer);
                }
            }
        }
        for lab in &mut self.labs {
            lab.now = end;
        }
    }

    fn in_sync(&self) -> [bool; 2] {
        [0, 1].map(|index| self.sessions[index].in_sync())
    }
}

fn session(index: usize, boot: u8) -> Session {
    let settings = Settings {
        first: index == 0,
        key: [7; 32],
        heartbeat: Duration::from_millis(200),
        misses: 8,
        ..Settings::default()
    };
    Session::new(settings, [boot; 32])
}

#[derive(Clone, Debug)]
enum Event {
    /// A segment of a user's connection, or of its server.
    Segment(u16, bool, Flags),
    /// A datagram of a server, or its answer.
    Datagram(u16, bool),
    Wait(u64),
    Weather([u64; 3], u64),
    Restart(usize),
    Fall(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let flags = prop::sample::select(&[SYN, ACK, SYN_ACK, ACK, FIN, RST][..]);
    let weather = [0_u64..40, 0_u64..30, 0_u64..10];
    prop_oneof![
        30 => (1_u16..30, any::<bool>(), flags).prop_map(|(n, up, flags)| Event::Segment(n, up, flags)),
        6 => (1_u16..30, any::<bool>()).prop_map(|(n, up)| Event::Datagram(n, up)),
        12 => (0_u64..60).prop_map(Event::Wait),
        1 => (3_000_u64..40_000).prop_map(Event::Wait),
        2 => (weather, 0_u64..6_000).prop_map(|(weather, late)| Event::Weather(weather, late)),
        1 => (0_usize..2).prop_map(Event::Restart),
        1 => any::<bool>().prop_map(Event::Fall),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever happens to users, servers and the cable, and whichever appliance starts anew: soon after it is quiet both know
    /// the same flows, and count the same for every server.
    #[test]
    fn both_know_the_same(seed: u64, events in prop::collection::vec(event(), 1..200)) {
        let change = |config: &mut Config, _: &mut Vec<Rule>| {
            two_servers(config);
            masquerade(config);
        };
        let mut cable = Cable::new(pair(change), seed);
        cable.run(1_000);
        for event in events {
            let active = &mut cable.labs[0];
            match event {
                Event::Segment(port, true, flags) => {
                    active.judge(WAN, tcp(USER, port, PUBLIC, 443, flags));
                }
                Event::Segment(port, false, flags) => {
                    for server in [LB1, LB2] {
                        active.judge(EDGE, tcp(server, 8443, USER, port, flags));
                    }
                }
                Event::Datagram(port, true) => {
                    active.judge(EDGE, udp(LB1, port, USER, 53));
                }
                Event::Datagram(port, false) => {
                    active.judge(WAN, udp(USER, 53, PUBLIC, 39_999 + port % 3));
                }
                Event::Wait(millis) => cable.run(millis),
                Event::Weather(weather, late) => (cable.weather, cable.late) = (weather, late),
                Event::Fall(first) => active.health(!first, true),
                Event::Restart(index) => {
                    cable.boots += 1;
                    let seed = 11 + index as u64;
                    let mut lab = member(tables(), seed, change);
                    lab.now = cable.labs[index].now;
                    if index == 0 {
                        lab.filter.take_over(lab.now);
                    }
                    cable.labs[index] = lab;
                    cable.sessions[index] = session(index, cable.boots);
                    cable.stand();
                }
            }
        }
        (cable.weather, cable.late) = ([0; 3], 0);
        cable.run(2_000);
        prop_assert_eq!(cable.in_sync(), [true, true]);
        let [active, backup] = &mut cable.labs;
        let (there, here) = (known(active), known(backup));
        prop_assert!(there.is_subset(&here), "{:?}\n{:?}", there, here);
        // What was deleted while nobody could be told, or is unknown to a new Active, goes with the second pass.
        for _ in 0..26 {
            cable.run(5_000);
        }
        let [active, backup] = &mut cable.labs;
        prop_assert_eq!(known(active), known(backup));
        let flows = |lab: &Lab| [0, 1].map(|server| lab.filter.server_flows(0, server));
        let known_only = |lab: &mut Lab| {
            let over = lab.filter.flows() - known(lab).len();
            (over == 0).then(|| flows(lab))
        };
        if let (Some(there), Some(here)) = (known_only(active), known_only(backup)) {
            prop_assert_eq!(there, here);
        }
        let imports = backup.filter.imports();
        prop_assert_eq!((imports.unfit, imports.full, imports.clashed), (0, 0, 0));
    }
}

/// Ten thousand flows, of which the Backup knows all within seconds.
#[test]
fn ten_thousand_flows() {
    let large = || Box::leak(Tables::<12_288, 16>::new_box_zeroed().unwrap());
    let mut labs = [11, 12].map(|seed| member(large(), seed, |_, _| {}));
    labs[0].filter.take_over(NOW);
    for port in 1..=10_000 {
        labs[0].connect(port);
    }
    let mut cable = Cable::new(labs, 1);
    cable.run(2_000);
    assert_eq!(cable.in_sync(), [true, true]);
    let [active, backup] = &mut cable.labs;
    assert_eq!(backup.filter.flows(), 10_000);
    assert_eq!(known(active), known(backup));
    let status = cable.sessions[0].status(cable.labs[0].now, &cable.labs[0].filter);
    assert_eq!(status.lag.entries, 0);
    assert!(status.last_bulk.is_some());
}

/// A flow that nobody has answered is told if its first packet waits for that: then the answer may go another way.
#[test]
fn first_packets_may_wait() {
    let mut labs = pair(|_, _| {});
    let [active, _] = &mut labs;
    active.pass(WAN, tcp(USER, 1, PUBLIC, 443, SYN)).unwrap();
    let item = active.filter.deferred(true).unwrap();
    assert_eq!(active.filter.deferred(true), None);
    let (now, mut record) = (active.now, [0; MAX_RECORD]);
    let len = active.filter.export(now, item, &mut record);
    labs[1].filter.import(now, &record[..len], TRUST);
    let there = take_over(&mut labs);
    assert_eq!(there.filter.half_open(), 1);
    let answer = there.pass(EDGE, tcp(LB1, 8443, USER, 1, SYN_ACK)).unwrap();
    assert_eq!(answer.ends(), (PUBLIC, 443, USER, 1));
    there.pass(WAN, tcp(USER, 1, PUBLIC, 443, ACK)).unwrap();
    assert!(known(there).iter().any(|flow| flow.contains("Established")));
    there.pass(WAN, tcp(USER, 1, PUBLIC, 443, ACK)).unwrap();
    assert_eq!(there.filter.deferred(true), None);
}
