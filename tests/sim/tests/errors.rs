//! What senders are told about packets that go no further, and how often.

use std::net::Ipv4Addr;

use node::{Drop, Node};
use sim::{Boards, Rack, TapId, World};
use time::Duration;
use wire::checksum;
use wire::ethernet::{self, Mac};
use wire::ipv4::{self, Header};
use wire::tcp::{self, Flags, Segment};
use zerocopy::IntoBytes;

const STRANGER: Mac = [2, 0xaa, 0, 0, 0, 1];
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(50);

/// Behind the provider's router.
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const WAN_MAC: Mac = [0, 0, 0x5e, 0, 1, 10];
const WAN_GW1: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const EDGE_MAC: Mac = [0, 0, 0x5e, 0, 1, 21];
const EDGE_GW1: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 2);

#[test]
fn a_traceroute_sees_which_appliance_it_passes() {
    let (mut rack, tap) = started(1, "wan");
    let mut packet = syn(FAR, 40_000, rack.public(), 443);
    set_ttl(&mut packet, 1);
    rack.world.inject(tap, &frame(WAN_MAC, &packet));
    rack.world.run(MOMENT);
    let told = errors(&mut rack.world, tap);
    assert_eq!(told.len(), 1, "{}", rack.world.journal());
    assert_eq!(told[0].station, own(&rack, "wan"));
    assert_eq!((told[0].source, told[0].destination), (WAN_GW1, FAR));
    assert_eq!((told[0].kind, told[0].code), (11, 0));
    assert_eq!(told[0].quote, packet, "untranslated, and all of it");
    assert_eq!(dropped(&rack, Drop::Ttl), 1);
}

#[test]
fn errors_are_fewer_than_what_provokes_them() {
    let (mut rack, tap) = started(2, "wan");
    for port in 0..500 {
        let mut packet = syn(FAR, 40_000 + port, rack.public(), 443);
        set_ttl(&mut packet, 1);
        rack.world.inject(tap, &frame(WAN_MAC, &packet));
    }
    rack.world.run(MOMENT);
    // The burst, and what 100 per second give in the meantime.
    let told = errors(&mut rack.world, tap).len();
    assert!((10..=15).contains(&told), "{told}");
    let node = rack.world.node(rack.gw1).expect("it has power");
    assert_eq!(node.counters().errors_sent as usize, told);
    assert_eq!(node.counters().errors_withheld as usize, 500 - told);
    assert_eq!(dropped(&rack, Drop::Ttl), 500);
}

#[test]
fn the_appliance_has_no_udp_ports_and_says_so() {
    let (mut rack, tap) = started(3, "edge");
    let from = Ipv4Addr::new(10, 20, 1, 99);
    let own = own(&rack, "edge");
    let packet = ip(
        from,
        EDGE_GW1,
        ipv4::UDP,
        &[0x90, 0, 0x82, 0x9b, 0, 8, 0, 0],
    );
    rack.world.inject(tap, &frame(own, &packet));
    rack.world.run(MOMENT);
    let told = errors(&mut rack.world, tap);
    assert_eq!(told.len(), 1, "{}", rack.world.journal());
    assert_eq!((told[0].station, told[0].source), (own, EDGE_GW1));
    assert_eq!((told[0].kind, told[0].code), (3, 3));
    assert_eq!(told[0].quote, packet);
}

/// The balancer's packet waits for a server that has no power any more.
#[test]
fn a_server_that_is_not_there_is_reported_as_unreachable() {
    let (mut rack, tap) = started(4, "edge");
    let (lb1, web1) = (rack.address("lb1"), rack.address("web1"));
    let cable = rack.world.host_port(rack.server("web1"));
    rack.world.cut(cable, true);
    // Until it is forgotten where it was.
    rack.world.run(40 * SECOND);
    rack.world.heard(tap);
    rack.world
        .inject(tap, &frame(EDGE_MAC, &syn(lb1, 9, web1, 8080)));
    rack.world.run(Duration::from_millis(900));
    assert_eq!(errors(&mut rack.world, tap).len(), 0, "still asking");
    rack.world.run(MOMENT * 8);
    let told = errors(&mut rack.world, tap);
    assert_eq!(told.len(), 1, "{}", rack.world.journal());
    assert_eq!((told[0].source, told[0].destination), (EDGE_GW1, lb1));
    assert_eq!((told[0].kind, told[0].code), (3, 1));
    assert_eq!(told[0].quote[12..], syn(lb1, 9, web1, 8080)[12..]);
    assert_eq!(dropped(&rack, Drop::NeighbourSilent), 1);
}

/// The web network carries 1400 bytes only.
#[test]
fn packets_that_are_too_long_for_the_next_link() {
    let mut world = World::new(5);
    let mut policy = sim::policy(Boards::TwoPorts, "gw1");
    let web = policy
        .config
        .interfaces
        .iter_mut()
        .find(|leg| leg.vlan == Some(22))
        .expect("a web leg");
    web.mtu = 1400;
    let (web_mac, virtual_mac) = (web.mac, [0, 0, 0x5e, 0, 1, 22]);
    let gw1 = world.appliance(policy, 10);
    let (edge, server) = (world.tap(21), world.tap(22));
    world.run(4 * SECOND);
    assert!(world.is_active(gw1), "{}", world.journal());
    let (lb1, web1) = (Ipv4Addr::new(10, 20, 1, 11), Ipv4Addr::new(10, 20, 2, 11));
    let arp = [
        &[0, 1, 8, 0, 6, 4, 0, 1][..],
        &STRANGER,
        &web1.octets(),
        &[0; 6],
        &[10, 20, 2, 1],
    ];
    let mut question = vec![0; ethernet::HEADER_LEN];
    ethernet::write(
        &mut question,
        ethernet::BROADCAST,
        STRANGER,
        None,
        ethernet::ARP,
    )
    .expect("it has room");
    question.extend(arp.concat());
    world.inject(server, &question);
    world.run(MOMENT);

    for (len, dont_fragment) in [(1400, true), (1401, true), (1400, false), (1500, false)] {
        world.heard(server);
        world.heard(edge);
        let mut packet = syn(lb1, len, web1, 8080);
        packet.resize(usize::from(len), 0x5a);
        set_lengths(&mut packet, dont_fragment);
        world.inject(edge, &frame(EDGE_MAC, &packet));
        world.run(MOMENT);
        let parts: Vec<_> = world
            .heard(server)
            .into_iter()
            .filter(|frame| from(frame) == Some((web_mac, ethernet::IPV4)))
            .collect();
        let told = errors(&mut world, edge);
        match (len, dont_fragment) {
            (1400, _) => {
                assert_eq!((parts.len(), told.len()), (1, 0), "it fits");
                assert_eq!(parts[0][34..], packet[20..], "untouched");
            }
            (_, true) => {
                assert_eq!((parts.len(), told.len()), (0, 1), "{}", world.journal());
                assert_eq!((told[0].kind, told[0].code), (3, 4));
                assert_eq!(told[0].word, 1400, "RFC 1191");
                assert_eq!(told[0].quote, packet[..548]);
            }
            (_, false) => {
                assert_eq!((parts.len(), told.len()), (2, 0), "in two parts");
                let mut whole = Vec::new();
                for part in &parts {
                    let (header, start) = Header::parse(&part[14..]).expect("whole");
                    assert!(usize::from(header.total_len.get()) <= 1400);
                    assert_eq!(usize::from(header.fragment_offset()), whole.len());
                    let end = usize::from(header.total_len.get());
                    whole.extend_from_slice(&part[14 + start..14 + end]);
                }
                assert_eq!(whole, packet[20..], "nothing is lost");
            }
        }
    }
    let node = world.node(gw1).expect("it has power");
    assert_eq!(node.counters().dropped(Drop::TooBig), 1);
    assert_ne!(web_mac, virtual_mac);
}

/// An ICMP error that a tap heard.
struct Told {
    station: Mac,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    kind: u8,
    code: u8,
    word: u32,
    quote: Vec<u8>,
}

/// The errors among the frames that came to the stranger since the last call.
fn errors(world: &mut World, tap: TapId) -> Vec<Told> {
    let heard = world.heard(tap).into_iter();
    let told = heard.filter_map(|frame| {
        let received = ethernet::parse(&frame)?;
        let packet = &frame[received.payload..];
        let (header, start) = Header::parse(packet).ok()?;
        let message = &packet[start..usize::from(header.total_len.get())];
        if header.protocol != ipv4::ICMP || received.destination != STRANGER {
            return None;
        }
        assert_eq!(checksum::of(message), 0, "a good checksum");
        Some(Told {
            station: received.source,
            source: header.source.into(),
            destination: header.destination.into(),
            kind: message[0],
            code: message[1],
            word: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
            quote: message[8..].to_vec(),
        })
    });
    told.collect()
}

/// A rack in order, and a tap in one of its networks.
fn started(seed: u64, network: &str) -> (Rack, TapId) {
    let mut rack = Rack::new(seed, Boards::TwoPorts);
    let vlan = rack.vlan(network);
    let tap = rack.world.tap(vlan);
    rack.world.run(4 * SECOND);
    assert!(rack.world.is_active(rack.gw1), "{}", rack.world.journal());
    rack.world.heard(tap);
    (rack, tap)
}

/// gw1's own MAC address in a network.
fn own(rack: &Rack, network: &str) -> Mac {
    let config = sim::config(Boards::TwoPorts, "gw1");
    let vlan = Some(rack.vlan(network)).filter(|_| network != "wan");
    let leg = config.interfaces.iter().find(|leg| leg.vlan == vlan);
    leg.expect("a leg of this network").mac
}

fn dropped(rack: &Rack, reason: Drop) -> u32 {
    let node = rack.world.node(rack.gw1);
    node.map(Node::counters)
        .expect("it has power")
        .dropped(reason)
}

fn from(frame: &[u8]) -> Option<(Mac, u16)> {
    let received = ethernet::parse(frame)?;
    Some((received.source, received.ethertype))
}

fn frame(to: Mac, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    ethernet::write(&mut frame, to, STRANGER, None, ethernet::IPV4).expect("it has room");
    frame.extend_from_slice(packet);
    frame
}

fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(from.octets(), to.octets(), protocol, 64, payload.len());
    [header.as_bytes(), payload].concat()
}

fn syn(from: Ipv4Addr, port: u16, to: Ipv4Addr, to_port: u16) -> Vec<u8> {
    let segment = Segment {
        source: (from.octets(), port),
        destination: (to.octets(), to_port),
        sequence: 1,
        acknowledgment: 0,
        flags: Flags::SYN,
        window: 1024,
    };
    tcp::write(&segment).to_vec()
}

fn set_ttl(packet: &mut [u8], ttl: u8) {
    packet[8] = ttl;
    seal(packet);
}

/// Fits total length, "don't fragment" and the checksums to what the packet has become.
fn set_lengths(packet: &mut [u8], dont_fragment: bool) {
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[6] = if dont_fragment { 0x40 } else { 0 };
    seal(packet);
    packet[36..38].fill(0);
    let (source, destination) = (four(&packet[12..]), four(&packet[16..]));
    let pseudo = checksum::pseudo_header(source, destination, ipv4::TCP, len - 20);
    let sum = pseudo.bytes(&packet[20..]).finish();
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
}

fn seal(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn four(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}
