//! Stories of packets against the example site's rules. Rules are in the operator's words.

extern crate std;

use core::net::Ipv4Addr;
use std::vec::Vec;

use classifier::Policy;
use policy::rule::{self, Action, Legs, Ports, Protocol, Rule};
use policy::{Check, Config, Interface, IpPrefix, Name, Prefix, VirtualRouter};
use time::{Duration, Instant};
use wire::tcp::{Flags, Segment};
use wire::{checksum, ipv4, tcp};
use zerocopy::IntoBytes;

use crate::{Drop, Filter, Kind, Tables, Unknown, Verdict, parse_v4};

mod pair;
mod quick;
mod reload;
mod stories;

const NOW: Instant = Instant::from_micros(1_000_000_000);
const USER: &str = "198.51.100.7";
const PUBLIC: &str = "203.0.113.10";
const LB1: &str = "10.20.1.11";
const LB2: &str = "10.20.1.12";
const WEB1: &str = "10.20.2.11";

const SYN: Flags = Flags::SYN;
const ACK: Flags = Flags::ACK;
const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);
const FIN: Flags = Flags::FIN.with(Flags::ACK);
const RST: Flags = Flags::RST;

#[test]
fn a_users_connection_goes_to_the_server_and_back() {
    let mut lab = Lab::new();
    let syn = lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, SYN)).unwrap();
    assert_eq!((syn.leg, &*syn.hop), (EDGE, LB1));
    assert_eq!(syn.ends(), (USER, 40_000, LB1, 8443));
    let answer = lab
        .pass(EDGE, tcp(LB1, 8443, USER, 40_000, SYN_ACK))
        .unwrap();
    assert_eq!((answer.leg, &*answer.hop), (WAN, "203.0.113.1"));
    assert_eq!(answer.ends(), (PUBLIC, 443, USER, 40_000));
    let data = lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK)).unwrap();
    assert_eq!(data.ends(), (USER, 40_000, LB1, 8443));
    assert_eq!(lab.filter.flows(), 1);
    assert_eq!(lab.filter.rule_hits(), [1, 0, 0, 0, 0]);
}

#[test]
fn what_is_refused_and_why() {
    let table = [
        // name                    leg   packet                                       reason
        (
            "unknown port",
            WAN,
            tcp(USER, 1, LB1, 22, SYN),
            Drop::NoRule,
        ),
        (
            "server without service",
            WAN,
            tcp(USER, 1, WEB1, 8080, SYN),
            Drop::NoRule,
        ),
        ("wrong way", WEB, tcp(WEB1, 1, LB1, 80, SYN), Drop::NoRule),
        ("no SYN", WAN, tcp(USER, 1, PUBLIC, 443, ACK), Drop::NoFlow),
        (
            "answer to nobody",
            EDGE,
            tcp(LB1, 8443, USER, 1, SYN_ACK),
            Drop::NoFlow,
        ),
        (
            "RST to nobody",
            WAN,
            tcp(USER, 1, PUBLIC, 443, RST),
            Drop::NoFlow,
        ),
        (
            "port zero",
            WAN,
            tcp(USER, 0, PUBLIC, 443, SYN),
            Drop::Transport,
        ),
        (
            "spoofed server",
            WAN,
            tcp(LB1, 1, WEB1, 8080, SYN),
            Drop::ReversePath,
        ),
        (
            "spoofed user",
            EDGE,
            tcp(USER, 1, WEB1, 8080, SYN),
            Drop::ReversePath,
        ),
        (
            "our own address",
            WAN,
            tcp(PUBLIC, 1, LB1, 80, SYN),
            Drop::Martian,
        ),
        ("land", WAN, tcp(PUBLIC, 443, PUBLIC, 443, SYN), Drop::Land),
        (
            "other udp port",
            EDGE,
            udp(LB1, 5353, USER, 123),
            Drop::NoRule,
        ),
        (
            "udp answer to nobody",
            WAN,
            udp(USER, 53, LB1, 5353),
            Drop::NoRule,
        ),
        (
            "ping from outside",
            WAN,
            echo(USER, LB1, ECHO_REQUEST),
            Drop::NoRule,
        ),
        (
            "pong to nobody",
            WAN,
            echo(USER, LB1, ECHO_REPLY),
            Drop::IcmpUnrelated,
        ),
        (
            "last hop",
            WAN,
            ttl(tcp(USER, 1, PUBLIC, 443, SYN), 1),
            Drop::Ttl,
        ),
    ];
    for (name, leg, packet, reason) in table {
        let mut lab = Lab::new();
        assert_eq!(lab.pass(leg, packet).map(|_| ()), Err(reason), "{name}");
    }
    let mut lab = Lab::new();
    lab.health(false, false);
    let refused = lab.pass(WAN, tcp(USER, 1, PUBLIC, 443, SYN));
    assert_eq!(refused.map(|_| ()), Err(Drop::NoHealthyServer));
}

#[test]
fn malformed_packets_are_refused_before_any_state_is_touched() {
    type Change = fn(&mut Vec<u8>);
    let table: [(&str, Change, Drop); 11] = [
        ("empty", |p| p.clear(), Drop::Ipv4Header),
        ("cut short", |p| p.truncate(39), Drop::Ipv4Header),
        ("version 5", |p| p[0] = 0x55, Drop::Ipv4Header),
        ("wrong checksum", |p| p[10] ^= 1, Drop::Ipv4Checksum),
        ("first fragment", |p| p[6] = 0x20, Drop::FragmentLength),
        ("last fragment", |p| p[7] = 3, Drop::FragmentOrder),
        ("ttl zero", |p| p[8] = 0, Drop::Ttl),
        ("tcp offset", |p| p[32] = 0x40, Drop::Transport),
        ("no tcp header", |p| p[3] = 39, Drop::Transport),
        ("null scan", |p| p[33] = 0, Drop::TcpFlags),
        ("xmas scan", |p| p[33] = 0x29, Drop::TcpFlags),
    ];
    for (name, change, reason) in table {
        let mut packet = tcp(USER, 1, PUBLIC, 443, SYN);
        change(&mut packet);
        // A router on the way would have given it a right checksum, except where that is the point.
        if reason != Drop::Ipv4Checksum && packet.len() >= 20 {
            packet[10..12].fill(0);
            let sum = checksum::of(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        assert_eq!(judge(&packet), Err(reason), "{name}");
    }
    let mut source_route = tcp(USER, 1, PUBLIC, 443, SYN);
    source_route.splice(20..20, [131, 3, 4, 0]);
    source_route[0] = 0x46;
    source_route[3] += 4;
    source_route[10..12].fill(0);
    let sum = checksum::of(&source_route[..24]);
    source_route[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(judge(&source_route), Err(Drop::SourceRoute));
    source_route[20] = 7; // record route
    source_route[10..12].fill(0);
    let sum = checksum::of(&source_route[..24]);
    source_route[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(judge(&source_route), Err(Drop::Ipv4Options));
}

#[test]
fn datagrams_and_pings_are_answered_within_their_flow() {
    let mut lab = Lab::new();
    lab.pass(EDGE, udp(LB1, 5353, USER, 53)).unwrap();
    let answer = lab.pass(WAN, udp(USER, 53, LB1, 5353)).unwrap();
    assert_eq!((answer.leg, &*answer.hop), (EDGE, LB1));
    lab.pass(EDGE, echo(LB1, USER, ECHO_REQUEST)).unwrap();
    lab.pass(WAN, echo(USER, LB1, ECHO_REPLY)).unwrap();
    // Half a minute is enough for one question, three minutes for a conversation.
    lab.now = lab.now + Duration::from_secs(200);
    assert_eq!(
        lab.pass(WAN, udp(USER, 53, LB1, 5353)).map(|_| ()),
        Err(Drop::NoRule)
    );
}

#[test]
fn flows_come_in_where_they_did_at_first() {
    let mut lab = Lab::new();
    lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, SYN)).unwrap();
    let elsewhere = lab.pass(WEB, tcp(LB1, 8443, USER, 40_000, SYN_ACK));
    assert_eq!(elsewhere.map(|_| ()), Err(Drop::ReversePath));
}

#[test]
fn idle_connections_outlive_two_hours_and_closed_ones_do_not() {
    let mut lab = Lab::new();
    lab.connect(40_000);
    lab.now = lab.now + Duration::from_secs(7_400);
    lab.pass(EDGE, tcp(LB1, 8443, USER, 40_000, ACK)).unwrap();
    lab.pass(EDGE, tcp(LB1, 8443, USER, 40_000, FIN)).unwrap();
    lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, FIN)).unwrap();
    lab.pass(EDGE, tcp(LB1, 8443, USER, 40_000, ACK)).unwrap();
    lab.now = lab.now + Duration::from_secs(11);
    let late = lab.pass(EDGE, tcp(LB1, 8443, USER, 40_000, ACK));
    assert_eq!(late.map(|_| ()), Err(Drop::NoFlow));
    assert_eq!(lab.filter.flows(), 0);
}

#[test]
fn a_new_connection_may_reuse_the_ports_of_a_closed_one() {
    let mut lab = Lab::new();
    lab.connect(40_000);
    lab.pass(EDGE, tcp(LB1, 8443, USER, 40_000, RST)).unwrap();
    lab.health(false, true);
    let syn = lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, SYN)).unwrap();
    assert_eq!(syn.ends(), (USER, 40_000, LB2, 8443));
}

#[test]
fn when_a_server_fails_its_flows_go_and_retries_reach_the_next() {
    let mut lab = Lab::new();
    lab.connect(40_000);
    lab.connect(40_001);
    lab.pass(EDGE, udp(LB1, 5353, USER, 53)).unwrap();
    lab.health(false, true);
    assert_eq!(lab.filter.flows(), 1, "the routed flow stays");
    let old = lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK));
    assert_eq!(old.map(|_| ()), Err(Drop::NoFlow));
    let retry = lab.pass(WAN, tcp(USER, 40_001, PUBLIC, 443, SYN)).unwrap();
    assert_eq!(retry.ends(), (USER, 40_001, LB2, 8443));
    lab.pass(EDGE, tcp(LB2, 8443, USER, 40_001, SYN_ACK))
        .unwrap();
    lab.health(true, true);
    let goes_on = lab.pass(WAN, tcp(USER, 40_001, PUBLIC, 443, ACK)).unwrap();
    assert_eq!(
        goes_on.ends(),
        (USER, 40_001, LB2, 8443),
        "the choice is for the flow's life"
    );
    let new = lab.pass(WAN, tcp(USER, 40_002, PUBLIC, 443, SYN)).unwrap();
    assert_eq!(new.ends(), (USER, 40_002, LB1, 8443));
}

#[test]
fn users_of_a_lost_connection_are_told_and_nobody_else_is() {
    const RESET: Verdict = Verdict::Answer {
        len: 40,
        reason: Drop::NoFlow,
    };
    let mut lab = Lab::new();
    let table = [
        (
            "data to a service",
            WAN,
            tcp(USER, 1, PUBLIC, 443, ACK),
            RESET,
        ),
        (
            "FIN to a service",
            WAN,
            tcp(USER, 1, PUBLIC, 443, FIN),
            RESET,
        ),
        (
            "RST",
            WAN,
            tcp(USER, 1, PUBLIC, 443, RST),
            Verdict::Drop(Drop::NoFlow),
        ),
        (
            "SYN-ACK",
            WAN,
            tcp(USER, 1, PUBLIC, 443, SYN_ACK),
            Verdict::Drop(Drop::NoFlow),
        ),
        (
            "no service",
            WAN,
            tcp(USER, 1, LB1, 8443, ACK),
            Verdict::Drop(Drop::NoFlow),
        ),
        (
            "a server's answer",
            EDGE,
            tcp(LB1, 8443, USER, 1, ACK),
            Verdict::Drop(Drop::NoFlow),
        ),
        (
            "spoofed",
            WAN,
            tcp(LB2, 1, PUBLIC, 443, ACK),
            Verdict::Drop(Drop::ReversePath),
        ),
    ];
    for (name, leg, packet, expected) in table {
        let (mut bytes, ends) = (packet.clone(), parse_v4(&packet).unwrap().tuple);
        let verdict = {
            let received = bytes.len();
            lab.filter
                .judge(NOW, leg, &mut bytes, received, Unknown::Refuse)
        };
        assert_eq!(verdict, expected, "{name}");
        if verdict == RESET {
            let answer = parse_v4(&bytes).unwrap();
            assert_eq!(answer.tuple, ends.reversed());
            assert_eq!(answer.kind, Kind::Tcp(RST));
            assert!(transport_is_valid(&bytes));
            assert_eq!(bytes[24..28], packet[28..32], "the sequence it waits for");
        }
    }
    // Not in the minute after a take-over: the connection may be alive.
    lab.unknown = Unknown::PickUp;
    lab.pass(WAN, tcp(USER, 1, PUBLIC, 443, ACK)).unwrap();
}

#[test]
fn after_a_take_over_connections_are_taken_up_from_either_side() {
    let mut lab = Lab::new();
    lab.unknown = Unknown::PickUp;
    let data = lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK)).unwrap();
    assert_eq!(data.ends(), (USER, 40_000, LB1, 8443));
    let answer = lab.pass(EDGE, tcp(LB1, 8443, USER, 40_001, ACK)).unwrap();
    assert_eq!(answer.ends(), (PUBLIC, 443, USER, 40_001));
    let then = lab.pass(WAN, tcp(USER, 40_001, PUBLIC, 443, ACK)).unwrap();
    assert_eq!(then.ends(), (USER, 40_001, LB1, 8443));
    // A server that is no longer the choice keeps its connections.
    let other = lab.pass(EDGE, tcp(LB2, 8443, USER, 40_002, FIN)).unwrap();
    assert_eq!(other.ends(), (PUBLIC, 443, USER, 40_002));
    let routed = lab.pass(WEB, tcp(WEB1, 8080, LB1, 50_000, ACK)).unwrap();
    assert_eq!(
        (routed.leg, routed.ends()),
        (EDGE, (WEB1, 8080, LB1, 50_000))
    );
    lab.unknown = Unknown::Refuse;
    lab.pass(EDGE, tcp(LB1, 50_000, WEB1, 8080, ACK)).unwrap();

    lab.unknown = Unknown::PickUp;
    let refused = [
        (WAN, tcp(USER, 1, PUBLIC, 443, RST), Drop::NoFlow),
        (EDGE, tcp(LB1, 8443, USER, 1, SYN_ACK), Drop::NoFlow),
        (WAN, tcp(USER, 1, LB1, 22, ACK), Drop::NoRule),
        (WEB, tcp(WEB1, 1, LB1, 80, ACK), Drop::NoRule),
        (WAN, tcp(LB1, 8443, USER, 1, ACK), Drop::ReversePath),
    ];
    for (leg, packet, reason) in refused {
        assert_eq!(lab.pass(leg, packet).map(|_| ()), Err(reason));
    }
}

#[test]
fn icmp_errors_follow_their_flow_with_the_quote_translated() {
    for quote in [8, 20] {
        let mut lab = Lab::new();
        lab.connect(40_000);
        // The server's network says that a user's packet, as the server saw it, did not arrive.
        let about = tcp(USER, 40_000, LB1, 8443, ACK);
        let error = lab
            .pass(EDGE, unreachable(LB1, USER, &about[..20 + quote]))
            .unwrap();
        assert_eq!(
            (error.leg, error.addresses()),
            (WAN, (PUBLIC.into(), USER.into()))
        );
        error.quotes(USER, 40_000, PUBLIC, 443);
        // A router at the user's end says so of the server's packet, as that router saw it.
        let about = tcp(PUBLIC, 443, USER, 40_000, ACK);
        let router = "192.0.2.99";
        let error = lab
            .pass(WAN, unreachable(router, PUBLIC, &about[..20 + quote]))
            .unwrap();
        assert_eq!(
            (error.leg, error.addresses()),
            (EDGE, (router.into(), LB1.into()))
        );
        error.quotes(LB1, 8443, USER, 40_000);
    }
}

#[test]
fn icmp_errors_about_no_flow_are_dropped() {
    let mut lab = Lab::new();
    lab.connect(40_000);
    let strange = tcp(PUBLIC, 443, USER, 40_009, ACK);
    let known = tcp(USER, 40_000, LB1, 8443, ACK);
    let cases = [
        (
            EDGE,
            unreachable(LB1, USER, &tcp(USER, 9, LB1, 8443, ACK)),
            Drop::IcmpUnrelated,
        ),
        (WEB, unreachable(WEB1, USER, &known), Drop::IcmpUnrelated),
        (EDGE, unreachable(LB1, WEB1, &known), Drop::IcmpUnrelated),
        (
            EDGE,
            unreachable(LB1, USER, &known[..24]),
            Drop::IcmpUnrelated,
        ),
    ];
    for (leg, packet, reason) in cases {
        assert_eq!(lab.pass(leg, packet).map(|_| ()), Err(reason));
    }
    let mut wrong = unreachable(LB1, USER, &known);
    wrong[30] ^= 1;
    assert_eq!(lab.pass(EDGE, wrong).map(|_| ()), Err(Drop::Transport));
    let redirect = icmp(LB1, USER, [5, 0, 0, 0], &known);
    assert_eq!(lab.pass(EDGE, redirect).map(|_| ()), Err(Drop::IcmpType));
    // About a connection that we know nothing of, but to our own address.
    let mut packet = unreachable("192.0.2.99", PUBLIC, &strange);
    let whole = packet.clone();
    let received = packet.len();
    let verdict = lab
        .filter
        .judge(NOW, WAN, &mut packet, received, Unknown::Refuse);
    assert_eq!(verdict, Verdict::Local);
    assert_eq!(packet, whole);
}

#[test]
fn a_flood_of_syns_does_not_push_out_established_connections() {
    let mut lab = Lab::new();
    lab.connect(40_000);
    for port in 1..5_000 {
        // Refused now and then is fine; pushing out is not.
        let _ = lab.pass(WAN, tcp("192.0.2.66", port, PUBLIC, 443, SYN));
    }
    assert!(lab.filter.flows() <= 64);
    lab.pass(WAN, tcp(USER, 40_000, PUBLIC, 443, ACK)).unwrap();
    lab.connect(40_001);
}

pub const WAN: u8 = 0;
pub const EDGE: u8 = 1;
pub const WEB: u8 = 2;

pub fn bits(address: &str) -> u32 {
    address.parse::<Ipv4Addr>().unwrap().to_bits()
}

/// Three legs; the Internet reaches 80 and 443 of the balanced servers, they reach the web tier.
pub fn policy() -> Policy<'static> {
    let legs = [
        ("wan", None, "203.0.113.2", "203.0.113.10", 10),
        ("edge", Some(21), "10.20.1.2", "10.20.1.1", 21),
        ("web", Some(22), "10.20.2.2", "10.20.2.1", 22),
    ];
    let routers = (0..).zip(legs).map(|(index, (.., shared, vrid))| {
        VirtualRouter::new(index, vrid, [shared.parse().unwrap()])
    });
    let interfaces = legs.map(|(name, vlan, own, _, vrid)| Interface {
        name: name.try_into().unwrap(),
        port: u8::from(vlan.is_some()),
        vlan,
        mac: [2, 0, 0, 0, 0, vrid],
        address: own.parse().unwrap(),
        prefix: 24,
        ..Interface::default()
    });
    let servers = [("lb1", "10.20.1.11"), ("lb2", "10.20.1.12")].map(|(name, address)| {
        (
            Name::try_from(name).unwrap(),
            address.parse::<Ipv4Addr>().unwrap(),
        )
    });
    let services =
        [("https", 443, 8443), ("http", 80, 80)].map(|(name, port, server_port)| policy::Service {
            name: name.try_into().unwrap(),
            address: "203.0.113.10".parse().unwrap(),
            port,
            servers: (servers.iter().cloned())
                .map(|(name, address)| policy::Server {
                    name,
                    address: address.into(),
                    port: server_port,
                    ..policy::Server::default()
                })
                .collect(),
            check: Check {
                port: 80,
                interval_ms: 500,
                timeout_ms: 300,
                rise: 2,
                fall: 2,
                ..Check::default()
            },
            ..policy::Service::default()
        });
    let rules = [
        rule(
            "internet-https",
            WAN,
            EDGE,
            "0.0.0.0/0",
            "10.20.1.0/28",
            port(8443),
        ),
        rule(
            "internet-http",
            WAN,
            EDGE,
            "0.0.0.0/0",
            "10.20.1.0/28",
            port(80),
        ),
        rule(
            "edge-web",
            EDGE,
            WEB,
            "10.20.1.0/28",
            "10.20.2.0/28",
            port(8080),
        ),
        rule(
            "edge-dns",
            EDGE,
            WAN,
            "10.20.1.0/28",
            "0.0.0.0/0",
            Protocol::Udp(Ports::to(53)),
        ),
        rule(
            "edge-ping",
            EDGE,
            WAN,
            "10.20.1.0/28",
            "0.0.0.0/0",
            Protocol::Icmp([8].into()),
        ),
    ];
    let config = Config {
        name: "gw1".try_into().unwrap(),
        interfaces: interfaces.into_iter().collect(),
        routers: routers.collect(),
        default_route: Some("203.0.113.1".parse().unwrap()),
        services: services.into_iter().collect(),
        ..Config::default()
    };
    classifier::policy(config, &rules).unwrap()
}

pub fn config() -> Config {
    policy().config
}

fn port(port: u16) -> Protocol {
    Protocol::Tcp(Ports::to(port))
}

fn rule(name: &str, from: u8, to: u8, source: &str, destination: &str, protocol: Protocol) -> Rule {
    Rule {
        name: name.try_into().unwrap(),
        from: Legs::one(from),
        to: Legs::one(to),
        sources: [prefix(source)].into(),
        destinations: [prefix(destination)].into(),
        protocol,
        state: rule::State::New,
        action: Action::Accept,
        log: false,
        rate: None,
        flows: None,
        sharing: rule::Sharing::Usual,
    }
}

fn prefix(text: &str) -> IpPrefix {
    let (address, length) = text.split_once('/').unwrap();
    IpPrefix::V4(Prefix::of(
        address.parse().unwrap(),
        length.parse().unwrap(),
    ))
}

/// A filter whose servers are healthy, and the packets' way through it.
struct Lab {
    filter: Filter<'static>,
    now: Instant,
    unknown: Unknown,
}

/// A packet as it left, every checksum verified.
#[derive(Debug)]
struct Passed {
    leg: u8,
    hop: std::string::String,
    packet: Vec<u8>,
}

impl Lab {
    fn new() -> Self {
        let mut lab = Self {
            filter: Filter::new(&policy(), tables(), 1),
            now: NOW,
            unknown: Unknown::Refuse,
        };
        lab.health(true, true);
        lab
    }

    fn health(&mut self, lb1: bool, lb2: bool) {
        for service in 0..2 {
            self.filter.set_health(self.now, service, 0, lb1);
            self.filter.set_health(self.now, service, 1, lb2);
        }
    }

    fn connect(&mut self, port: u16) {
        self.pass(WAN, tcp(USER, port, PUBLIC, 443, SYN)).unwrap();
        self.pass(EDGE, tcp(LB1, 8443, USER, port, SYN_ACK))
            .unwrap();
        self.pass(WAN, tcp(USER, port, PUBLIC, 443, ACK)).unwrap();
    }

    fn pass(&mut self, leg: u8, mut packet: Vec<u8>) -> Result<Passed, Drop> {
        let ttl = packet.get(8).copied();
        let whole = packet.clone();
        let received = packet.len();
        packet.resize(received + 40, 0);
        let verdict = self
            .filter
            .judge(self.now, leg, &mut packet, received, self.unknown);
        let (hop, len) = match verdict {
            Verdict::Forward { hop, len } => (hop, len),
            Verdict::Local => panic!("{packet:02x?} is for the appliance"),
            Verdict::Answer { reason, .. } => return Err(reason),
            Verdict::Splice { .. } => return Err(Drop::Spliced),
            Verdict::Error(_, reason) | Verdict::Drop(reason) => {
                packet.truncate(received);
                assert_eq!(packet, whole, "who is told gets what was sent");
                return Err(reason);
            }
        };
        packet.truncate(len);
        assert_eq!(len, packet.len());
        let left = parse_v4(&packet).expect("a forwarded packet is still a good one");
        assert_eq!(Some(left.ttl + 1), ttl);
        assert!(transport_is_valid(&packet), "{packet:02x?}");
        let address = std::format!("{}", hop.address);
        Ok(Passed {
            leg: hop.leg,
            hop: address,
            packet,
        })
    }
}

/// Memory for a filter; a test is short.
fn tables() -> &'static mut Tables<64, 512> {
    std::boxed::Box::leak(std::boxed::Box::default())
}

/// What a new filter says to a packet from the Internet.
fn judge(packet: &[u8]) -> Result<(), Drop> {
    Lab::new().pass(WAN, packet.to_vec()).map(|_| ())
}

impl Passed {
    fn addresses(&self) -> (std::string::String, std::string::String) {
        let text = |at: usize| {
            let [a, b, c, d] = self.packet[at..at + 4].try_into().unwrap();
            std::format!("{}", Ipv4Addr::new(a, b, c, d))
        };
        (text(12), text(16))
    }

    fn ends(&self) -> (&'static str, u16, &'static str, u16) {
        let (source, destination) = self.addresses();
        let name = |text: &str| {
            [USER, PUBLIC, LB1, LB2, WEB1]
                .into_iter()
                .find(|known| *known == text)
                .unwrap()
        };
        let tuple = parse_v4(&self.packet).unwrap().tuple;
        (
            name(&source),
            tuple.source_port(),
            name(&destination),
            tuple.destination_port(),
        )
    }

    /// The quoted packet is about these ends, and its header is still valid.
    fn quotes(&self, source: &str, source_port: u16, destination: &str, destination_port: u16) {
        let quote = &self.packet[28..];
        assert_eq!(checksum::of(&quote[..20]), 0);
        let whole = tcp(source, source_port, destination, destination_port, ACK);
        assert_eq!(quote[12..24], whole[12..24]);
        if quote.len() >= 40 {
            assert_eq!(quote[36..38], whole[36..38], "the quoted checksum");
        }
    }
}

fn transport_is_valid(packet: &[u8]) -> bool {
    let (ip, payload) = (&packet[..20], &packet[20..]);
    let (source, destination) = (
        ip[12..16].try_into().unwrap(),
        ip[16..20].try_into().unwrap(),
    );
    let pseudo = checksum::pseudo_header(source, destination, ip[9], payload.len() as u16);
    match ip[9] {
        ipv4::ICMP => checksum::of(payload) == 0,
        // No checksum at all.
        ipv4::UDP if payload[6..8] == [0, 0] => true,
        _ => pseudo.bytes(payload).finish() == 0,
    }
}

const ECHO_REQUEST: u8 = crate::ECHO_REQUEST;
const ECHO_REPLY: u8 = crate::ECHO_REPLY;

fn octets(address: &str) -> [u8; 4] {
    address.parse::<Ipv4Addr>().unwrap().octets()
}

/// A segment of a connection whose handshake began at 1000 on both sides, and which has carried no data yet.
fn tcp(from: &str, source: u16, to: &str, destination: u16, flags: Flags) -> Vec<u8> {
    let sequence = 1000 + u32::from(!flags.contains(SYN));
    let acknowledgment = 1001 * u32::from(flags.contains(ACK));
    let segment = Segment {
        source: (octets(from), source),
        destination: (octets(to), destination),
        sequence,
        acknowledgment,
        flags,
        window: 512,
    };
    tcp::write(&segment).to_vec()
}

fn ip(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = ipv4::Header::new(octets(from), octets(to), protocol, 64, payload.len());
    [header.as_bytes(), payload].concat()
}

fn udp(from: &str, source: u16, to: &str, destination: u16) -> Vec<u8> {
    let [ports, ends] = [source.to_be_bytes(), destination.to_be_bytes()];
    ip(
        from,
        to,
        ipv4::UDP,
        &[&ports[..], &ends, &[0, 8, 0, 0]].concat(),
    )
}

fn icmp(from: &str, to: &str, head: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = [&head[..], &[0, 7, 0, 1], body].concat();
    let sum = checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, ipv4::ICMP, &message)
}

fn echo(from: &str, to: &str, kind: u8) -> Vec<u8> {
    icmp(from, to, [kind, 0, 0, 0], b"ping")
}

fn unreachable(from: &str, to: &str, about: &[u8]) -> Vec<u8> {
    icmp(from, to, [3, 1, 0, 0], about)
}

fn ttl(mut packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    packet[8] = ttl;
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}
