//! What stations hear from a pair by IPv6's neighbour discovery, and what the pair does not listen to.

use std::net::Ipv6Addr;

use node::{Drop, Event};
use sim::{Boards, Rack, TapId, Versions};
use time::Duration;
use wire::ethernet::{self, Mac};
use wire::ipv4;
use wire::ipv6::{self, Header};
use wire::nd::{self, Advertisement, Message};
use zerocopy::IntoBytes;

const STRANGER: Mac = [2, 0xaa, 0, 0, 0, 1];
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(50);

/// In the edge network, unused by the example.
const PROBE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x20, 1, 0, 0, 0, 99);
const EDGE_VIRTUAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x20, 1, 0, 0, 0, 1);
const EDGE_GW1: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x20, 1, 0, 0, 0, 2);
const EDGE_GW2: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x20, 1, 0, 0, 0, 3);
const EDGE_MAC: Mac = [0, 0, 0x5e, 0, 2, 21];

#[test]
fn one_station_answers_for_each_address() {
    let (mut rack, tap) = started(1);
    let (gw1, gw2) = (own(&rack, "gw1"), own(&rack, "gw2"));
    let table = [
        ("virtual", EDGE_VIRTUAL, EDGE_MAC),
        ("gw1's own", EDGE_GW1, gw1),
        ("gw2's own", EDGE_GW2, gw2),
        ("gw1's link-local", nd::link_local(gw1).into(), gw1),
        ("gw2's link-local", nd::link_local(gw2).into(), gw2),
    ];
    for (name, address, mac) in table {
        let from_global = PROBE;
        let from_link_local = Ipv6Addr::from(nd::link_local(STRANGER));
        for from in [from_global, from_link_local] {
            rack.world.inject(tap, &solicitation(from, address));
            rack.world.run(MOMENT);
            let expected = Advertisement {
                target: address.octets(),
                mac: Some(mac),
                router: true,
                solicited: true,
                overrides: true,
            };
            let answers = adverts(&mut rack, tap);
            assert_eq!(answers, [(mac, STRANGER, expected)], "{name} to {from}");
        }
    }
    rack.world.power(rack.gw1, false);
    rack.world.run(SECOND);
    rack.world.heard(tap);
    for (address, answers) in [(EDGE_VIRTUAL, 1), (EDGE_GW1, 0)] {
        rack.world.inject(tap, &solicitation(PROBE, address));
        rack.world.run(MOMENT);
        let count = adverts(&mut rack, tap).len();
        assert_eq!(count, answers, "{address} after power loss");
    }
}

#[test]
fn a_host_that_wants_our_address_is_told_that_it_is_taken() {
    let (mut rack, tap) = started(2);
    let mut message = [0; 24];
    message[0] = nd::NEIGHBOUR_SOLICITATION;
    message[8..].copy_from_slice(&EDGE_VIRTUAL.octets());
    let group = nd::solicited_node(EDGE_VIRTUAL.octets());
    let packet = icmp(Ipv6Addr::UNSPECIFIED, group.into(), 255, &message);
    rack.world
        .inject(tap, &frame(nd::multicast_mac(group), &packet));
    rack.world.run(MOMENT);
    let expected = Advertisement {
        target: EDGE_VIRTUAL.octets(),
        mac: Some(EDGE_MAC),
        router: true,
        solicited: false,
        overrides: true,
    };
    let everybody = nd::multicast_mac(nd::ALL_NODES);
    let answers = adverts(&mut rack, tap);
    assert_eq!(answers, [(EDGE_MAC, everybody, expected)]);
}

#[test]
fn a_take_over_is_announced_for_every_virtual_address() {
    let (mut rack, _) = started(3);
    let networks = ["wan", "edge", "web", "app", "data", "ops"];
    let taps = networks.map(|network| {
        let vlan = rack.vlan(network);
        rack.world.tap(vlan)
    });
    rack.world.power(rack.gw1, false);
    rack.world.run(SECOND);
    for (network, tap) in networks.iter().zip(taps) {
        let mac = [0, 0, 0x5e, 0, 2, rack.vlan(network) as u8];
        let announced = adverts(&mut rack, tap).into_iter().any(|(from, to, a)| {
            let flags = (a.router, a.solicited, a.overrides);
            (from, to) == (mac, nd::multicast_mac(nd::ALL_NODES))
                && a.mac == Some(mac)
                && flags == (true, false, true)
        });
        assert!(announced, "{network}");
    }
}

/// A Backup that took itself for Active has drawn switches to itself, and for IPv6 no advert of the Active leads them back.
#[test]
fn an_active_that_had_a_rival_announces_itself_again() {
    let (mut rack, tap) = started(6);
    let networks = ["wan", "edge", "web", "app", "data", "ops"];
    let mute = |rack: &mut Rack, muted| {
        for port in [0, 1].map(|port| rack.world.port(rack.gw2, port)) {
            for vlan in networks.map(|network| rack.vlan(network)) {
                rack.world.mute(port, vlan, muted);
            }
        }
    };
    // The announcements of its own beginning are over.
    for _ in 0..10 {
        rack.world.run(SECOND);
    }
    mute(&mut rack, true);
    // The rival is heard before it hears: its advert is the next one.
    rack.world.run(SECOND + MOMENT);
    assert!(rack.world.is_active(rack.gw1) && rack.world.is_active(rack.gw2));
    adverts(&mut rack, tap);
    mute(&mut rack, false);
    rack.world.run(MOMENT * 6);
    assert!(rack.world.is_active(rack.gw1) && !rack.world.is_active(rack.gw2));
    let everybody = nd::multicast_mac(nd::ALL_NODES);
    let announced = |(from, to, _)| (from, to) == (EDGE_MAC, everybody);
    assert!(adverts(&mut rack, tap).into_iter().any(announced));
}

#[test]
fn pings_to_own_and_virtual_addresses_are_answered_once() {
    let (mut rack, tap) = started(4);
    let (gw1, gw2) = (own(&rack, "gw1"), own(&rack, "gw2"));
    let table = [
        (EDGE_VIRTUAL, EDGE_MAC, PROBE, 1),
        // The other version's virtual MAC is the same station.
        (EDGE_VIRTUAL, [0, 0, 0x5e, 0, 1, 21], PROBE, 1),
        (EDGE_GW2, gw2, PROBE, 1),
        (
            nd::link_local(gw1).into(),
            gw1,
            nd::link_local(STRANGER).into(),
            1,
        ),
        // Not an address of this leg, though the node has it elsewhere.
        (rack.public6(), EDGE_MAC, PROBE, 0),
        (EDGE_VIRTUAL, gw2, PROBE, 0),
    ];
    for (address, mac, from, answers) in table {
        let packet = icmp(from, address, 64, &[128, 0, 0, 0, 0, 7, 0, 1, b'h', b'i']);
        let mut ping = frame(mac, &packet);
        // What Ethernet adds to short frames is not echoed.
        ping.resize(70, 0xee);
        rack.world.inject(tap, &ping);
        rack.world.run(MOMENT);
        let heard = rack.world.heard(tap);
        let pongs = heard.iter().filter(|frame| is_pong(frame, address, from));
        assert_eq!(pongs.count(), answers, "{address} at {mac:02x?}");
    }
}

#[test]
fn who_claims_our_address_is_reported_and_not_believed() {
    let (mut rack, tap) = started(5);
    let lie = Advertisement {
        target: EDGE_VIRTUAL.octets(),
        mac: Some(STRANGER),
        router: true,
        solicited: false,
        overrides: true,
    };
    let everybody = nd::multicast_mac(nd::ALL_NODES);
    let by_advert = frame(everybody, &nd::advertisement(&lie, STRANGER, nd::ALL_NODES));
    let by_question = solicitation(EDGE_VIRTUAL, EDGE_GW1);
    for (count, claim) in [(1, by_advert), (2, by_question)] {
        rack.world.inject(tap, &claim);
        rack.world.run(2 * SECOND);
        let node = rack.world.node(rack.gw1).expect("it has power");
        assert_eq!(node.counters().dropped(Drop::AddressConflict), count);
        let conflicts = rack.world.events().iter().filter(|(_, node, event)| {
            *node == rack.gw1
                && matches!(event, Event::AddressConflict { address, mac: STRANGER, .. }
                    if *address == EDGE_VIRTUAL)
        });
        assert_eq!(
            conflicts.count(),
            count as usize,
            "{}",
            rack.world.journal()
        );
    }
}

/// Each row is dropped for its own reason by both appliances, and nothing is answered.
#[test]
fn what_is_never_listened_to() {
    let (mut rack, tap) = started(6);
    let everybody = nd::multicast_mac(nd::ALL_NODES);
    let link_local = Ipv6Addr::from(nd::link_local(STRANGER));
    let all = Ipv6Addr::from(nd::ALL_NODES);
    let advert = |target: Ipv6Addr, from: Ipv6Addr, hop_limit| {
        let mut message = [0; 32];
        message[0] = nd::NEIGHBOUR_ADVERTISEMENT;
        message[4] = 0x20;
        message[8..24].copy_from_slice(&target.octets());
        message[24..].copy_from_slice(&[2, 1, 2, 0xaa, 0, 0, 0, 1]);
        icmp(from, all, hop_limit, &message)
    };
    let router = icmp(
        link_local,
        all,
        255,
        &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let redirect = icmp(link_local, all, 255, &[137; 40]);
    let elsewhere: Ipv6Addr = "2001:db8:20:2::9".parse().expect("an address");
    let mut damaged = advert(PROBE, PROBE, 255);
    damaged[71] ^= 1;
    let table = [
        ("a router's advertisement", router, Drop::RouterAdvert),
        ("a redirect", redirect, Drop::Redirect),
        ("a routed advert", advert(PROBE, PROBE, 254), Drop::Nd),
        ("another network's", advert(elsewhere, PROBE, 255), Drop::Nd),
        ("a stranger's", advert(PROBE, elsewhere, 255), Drop::Nd),
        ("a damaged one", damaged, Drop::Nd),
    ];
    for (name, packet, reason) in table {
        rack.world.heard(tap);
        let before = [rack.gw1, rack.gw2].map(|id| dropped(&rack, id, reason));
        rack.world.inject(tap, &frame(everybody, &packet));
        rack.world.run(MOMENT);
        let after = [rack.gw1, rack.gw2].map(|id| dropped(&rack, id, reason));
        assert_eq!(after, before.map(|count| count + 1), "{name}");
        assert!(adverts(&mut rack, tap).is_empty(), "{name}");
    }
}

#[test]
fn a_datagram_to_the_appliance_is_answered_with_port_unreachable() {
    let (mut rack, tap) = started(7);
    let gw1 = own(&rack, "gw1");
    let datagram = [0x90, 0, 0x82, 0x9b, 0, 8, 0, 0];
    let (from, to) = (PROBE.octets(), EDGE_GW1.octets());
    let header = Header::new(from, to, ipv4::UDP, 64, datagram.len());
    let packet = [header.as_bytes(), &datagram].concat();
    rack.world.inject(tap, &frame(gw1, &packet));
    rack.world.run(MOMENT);
    let heard = rack.world.heard(tap).into_iter();
    let told = heard.filter(|frame| frame[..6] == STRANGER && frame[12..14] == [0x86, 0xdd]);
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{}", rack.world.journal());
    let answer = Header::parse(&told[0][14..]).expect("whole");
    assert_eq!((answer.source, answer.destination), (to, from));
    let message = &told[0][54..14 + answer.total_len()];
    assert_eq!(message[..2], [1, 4], "RFC 4443 §3.1");
    assert_eq!(message[8..], packet);
    let sum = ipv6::pseudo_header(to, from, ipv6::ICMP, message.len() as u16);
    assert_eq!(sum.bytes(message).finish(), 0);
}

/// A rack with both versions in order, and a tap in its edge network.
fn started(seed: u64) -> (Rack, TapId) {
    let mut rack = Rack::with(seed, Boards::TwoPorts, Versions::Both);
    let vlan = rack.vlan("edge");
    let tap = rack.world.tap(vlan);
    rack.world.run(4 * SECOND);
    assert!(rack.world.is_active(rack.gw1), "{}", rack.world.journal());
    rack.world.heard(tap);
    (rack, tap)
}

/// The own MAC address of an appliance in the edge network.
fn own(rack: &Rack, node: &str) -> Mac {
    let config = sim::config(Boards::TwoPorts, node);
    let vlan = Some(rack.vlan("edge"));
    let leg = config.interfaces.iter().find(|leg| leg.vlan == vlan);
    leg.expect("an edge leg").mac
}

fn dropped(rack: &Rack, id: sim::NodeId, reason: Drop) -> u32 {
    let node = rack.world.node(id).expect("it has power");
    node.counters().dropped(reason)
}

fn frame(to: Mac, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut frame, to, STRANGER, None, ethernet::IPV6).expect("it has room");
    frame.extend_from_slice(packet);
    frame
}

fn solicitation(from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = nd::solicited_node(target.octets());
    let packet = nd::solicitation(from.octets(), STRANGER, group, target.octets());
    frame(nd::multicast_mac(group), &packet)
}

/// A packet with an ICMPv6 message, whose checksum is filled in.
fn icmp(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let (from, to) = (from.octets(), to.octets());
    let header = Header::new(from, to, ipv6::ICMP, hop_limit, message.len());
    let mut packet = [header.as_bytes(), message].concat();
    packet[42..44].fill(0);
    let len = message.len() as u16;
    let sum = ipv6::pseudo_header(from, to, ipv6::ICMP, len).bytes(&packet[40..]);
    packet[42..44].copy_from_slice(&sum.finish().to_be_bytes());
    packet
}

/// Advertisements that a tap heard: the stations they came from and went to.
fn adverts(rack: &mut Rack, tap: TapId) -> Vec<(Mac, Mac, Advertisement)> {
    let heard = rack.world.heard(tap).into_iter();
    let adverts = heard.filter_map(|frame| {
        let received = ethernet::parse(&frame)?;
        let packet = &frame[received.payload..];
        let header = Header::parse(packet).ok()?;
        let message = packet.get(ipv6::HEADER_LEN..header.total_len())?;
        match Message::parse(header, message) {
            Ok(Message::Advertisement(advert)) => {
                // The servers' own are not of interest.
                let server = received.source[..2] == [2, 0xee];
                (!server).then_some((received.source, received.destination, advert))
            }
            _ => None,
        }
    });
    adverts.collect()
}

fn is_pong(frame: &[u8], from: Ipv6Addr, to: Ipv6Addr) -> bool {
    let Some(received) = ethernet::parse(frame) else {
        return false;
    };
    let Ok(header) = Header::parse(&frame[received.payload..]) else {
        return false;
    };
    let start = received.payload + ipv6::HEADER_LEN;
    let message = &frame[start..received.payload + header.total_len()];
    let len = message.len() as u16;
    let sum = ipv6::pseudo_header(header.source, header.destination, ipv6::ICMP, len);
    received.ethertype == ethernet::IPV6
        && (header.source, header.destination) == (from.octets(), to.octets())
        && message[0] == 129
        && message[4..] == [0, 7, 0, 1, b'h', b'i']
        && sum.bytes(message).finish() == 0
}
