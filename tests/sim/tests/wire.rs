//! What stations on the wire hear from a pair: ARP, pings, announcements, and silence.

use std::net::Ipv4Addr;

use node::{Drop, Event, Node, Tables, Transmit};
use sim::{Boards, Rack, STRAY, TapId};
use time::{Duration, Instant};
use wire::ethernet::{self, BROADCAST, Mac};
use wire::{checksum, ipv4};
use zerocopy::IntoBytes;

const STRANGER: Mac = [2, 0xaa, 0, 0, 0, 1];
const SECOND: Duration = Duration::from_secs(1);

/// In the edge network, unused by the example.
const PROBE: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 99);
const EDGE_VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 1);
const EDGE_GW1: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 2);
const EDGE_GW2: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 3);
const EDGE_MAC: Mac = [0, 0, 0x5e, 0, 1, 21];

#[test]
fn one_station_answers_for_each_address() {
    let (mut rack, tap) = started(1);
    let own = |rack: &Rack, node| {
        let config = sim::config(Boards::TwoPorts, node);
        let vlan = Some(rack.vlan("edge"));
        config
            .interfaces
            .iter()
            .find(|leg| leg.vlan == vlan)
            .expect("an edge leg")
            .mac
    };
    let table = [
        ("virtual", EDGE_VIRTUAL, EDGE_MAC),
        ("gw1's own", EDGE_GW1, own(&rack, "gw1")),
        ("gw2's own", EDGE_GW2, own(&rack, "gw2")),
    ];
    for (name, address, mac) in table {
        rack.world.inject(tap, &arp_request(PROBE, address));
        rack.world.run(Duration::from_millis(50));
        let answers = arp_answers(&mut rack, tap);
        assert_eq!(answers, [(mac, mac, address)], "{name}");
    }
    rack.world.power(rack.gw1, false);
    rack.world.run(SECOND);
    rack.world.heard(tap);
    for (address, answers) in [(EDGE_VIRTUAL, 1), (EDGE_GW1, 0)] {
        rack.world.inject(tap, &arp_request(PROBE, address));
        rack.world.run(Duration::from_millis(50));
        assert_eq!(
            arp_answers(&mut rack, tap).len(),
            answers,
            "{address} after power loss"
        );
    }
}

#[test]
fn a_take_over_is_announced_for_every_virtual_address() {
    let (mut rack, _) = started(2);
    let networks = ["wan", "edge", "web", "app", "data", "ops"];
    let taps = networks.map(|network| {
        let vlan = rack.vlan(network);
        rack.world.tap(vlan)
    });
    rack.world.power(rack.gw1, false);
    rack.world.run(SECOND);
    for (network, tap) in networks.iter().zip(taps) {
        let vrid = rack.vlan(network) as u8;
        let mac = [0, 0, 0x5e, 0, 1, vrid];
        let announced = rack.world.heard(tap).into_iter().any(|frame| {
            let header = ethernet::parse(&frame).expect("whole");
            let body = &frame[header.payload..];
            header.ethertype == ethernet::ARP
                && header.destination == BROADCAST
                && header.source == mac
                && body[8..14] == mac
                && body[14..18] == body[24..28]
        });
        assert!(announced, "{network}");
    }
}

#[test]
fn pings_to_own_and_virtual_addresses_are_answered_once() {
    let (mut rack, tap) = started(3);
    let gw2 = sim::config(Boards::TwoPorts, "gw2");
    let gw2 = gw2
        .interfaces
        .iter()
        .find(|leg| leg.address == EDGE_GW2)
        .expect("edge")
        .mac;
    for (address, mac, answers) in [
        (EDGE_VIRTUAL, EDGE_MAC, 1),
        (EDGE_GW2, gw2, 1),
        // Not an address of this leg, though the node has it elsewhere.
        (Ipv4Addr::new(203, 0, 113, 10), EDGE_MAC, 0),
        (EDGE_VIRTUAL, gw2, 0),
    ] {
        rack.world.inject(tap, &ping(mac, PROBE, address));
        rack.world.run(Duration::from_millis(50));
        let heard = rack.world.heard(tap);
        let pongs = heard.iter().filter(|frame| is_pong(frame, address, PROBE));
        assert_eq!(pongs.count(), answers, "{address} at {mac:02x?}");
    }
}

#[test]
fn who_claims_our_address_is_reported() {
    let (mut rack, tap) = started(4);
    rack.world
        .inject(tap, &arp_request(EDGE_VIRTUAL, EDGE_VIRTUAL));
    rack.world.run(Duration::from_millis(50));
    let conflict = rack.world.events().iter().any(|(_, node, event)| {
        *node == rack.gw1
            && matches!(
                event,
                Event::AddressConflict {
                    address,
                    mac: STRANGER,
                    ..
                } if *address == EDGE_VIRTUAL
            )
    });
    assert!(conflict, "{}", rack.world.journal());
    let node = rack.world.node(rack.gw1).expect("it has power");
    assert_eq!(node.counters().dropped(Drop::AddressConflict), 1);
}

#[test]
fn frames_of_unknown_networks_are_dropped_and_counted() {
    let (mut rack, _) = started(5);
    let nowhere = rack.world.tap(STRAY);
    rack.world
        .inject(nowhere, &arp_request(PROBE, EDGE_VIRTUAL));
    rack.world.run(Duration::from_millis(50));
    assert!(rack.world.heard(nowhere).is_empty());
    let node = rack.world.node(rack.gw1).expect("it has power");
    assert_eq!(node.counters().dropped(Drop::UnknownVlan), 1);
}

#[test]
fn without_a_configuration_a_node_is_closed_and_says_so() {
    struct Nothing;
    impl Transmit for Nothing {
        fn transmit(&mut self, _: u8, frame: &[u8]) {
            panic!("a closed node sent {frame:02x?}");
        }
    }
    let mut tables = Tables::<64, 64>::new();
    let mut node = Node::new(None, &mut tables, 1, Instant::ZERO);
    assert_eq!(node.next_event(), Some(Event::Closed));
    let mut frame = arp_request(PROBE, EDGE_VIRTUAL);
    let len = frame.len();
    let mut now = Instant::ZERO;
    for _ in 0..100 {
        let frame = wire::Frame::new(&mut frame, 0, len).expect("whole");
        node.ingress(now, 0, frame, &mut Nothing);
        node.poll(now, &mut Nothing);
        now = node.deadline().min(now + SECOND);
    }
    node.stop(now, &mut Nothing);
    assert_eq!(node.counters().dropped(Drop::Closed), 100);
    assert_eq!(
        node.next_event(),
        Some(Event::Dropped {
            reason: Drop::Closed,
            count: 11
        })
    );
}

/// A rack in order, and a tap in its edge network.
fn started(seed: u64) -> (Rack, TapId) {
    let mut rack = Rack::new(seed, Boards::TwoPorts);
    let vlan = rack.vlan("edge");
    let tap = rack.world.tap(vlan);
    rack.world.run(4 * SECOND);
    assert!(rack.world.is_active(rack.gw1), "{}", rack.world.journal());
    rack.world.heard(tap);
    (rack, tap)
}

fn frame(to: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut frame, to, STRANGER, None, ethertype).expect("it has room");
    frame.extend_from_slice(payload);
    frame
}

fn arp_request(from: Ipv4Addr, about: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [
        &head[..],
        &STRANGER,
        &from.octets(),
        &[0; 6],
        &about.octets(),
    ]
    .concat();
    frame(BROADCAST, ethernet::ARP, &body)
}

/// ARP replies to the stranger: Ethernet source, sender's MAC and address.
fn arp_answers(rack: &mut Rack, tap: TapId) -> Vec<(Mac, Mac, Ipv4Addr)> {
    let heard = rack.world.heard(tap).into_iter();
    let answers = heard.filter_map(|frame| {
        let header = ethernet::parse(&frame)?;
        let body = frame.get(header.payload..header.payload + 28)?;
        let reply = header.ethertype == ethernet::ARP && body[7] == 2;
        let address: [u8; 4] = body[14..18].try_into().ok()?;
        (reply && header.destination == STRANGER).then_some((
            header.source,
            body[8..14].try_into().ok()?,
            address.into(),
        ))
    });
    answers.collect()
}

fn ping(mac: Mac, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 7, 0, 1, b'h', b'i'];
    let sum = checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = ipv4::Header::new(from.octets(), to.octets(), ipv4::ICMP, 64, message.len());
    frame(mac, ethernet::IPV4, &[header.as_bytes(), &message].concat())
}

fn is_pong(frame: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> bool {
    let Some(header) = ethernet::parse(frame) else {
        return false;
    };
    let payload = &frame[header.payload..];
    let Ok((ip, len)) = ipv4::Header::parse(payload) else {
        return false;
    };
    let message = &payload[len..usize::from(ip.total_len.get())];
    header.ethertype == ethernet::IPV4
        && (ip.source, ip.destination) == (from.octets(), to.octets())
        && message[0] == 0
        && message[4..] == [0, 7, 0, 1, b'h', b'i']
        && checksum::of(message) == 0
}
