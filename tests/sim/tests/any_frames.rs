//! Frames of any content never stop a node, and a node that is not Active passes none of them on.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use classifier::Policy;
use node::{Event, Node, State, Tables, Transmit};
use policy::Config;
use proptest::prelude::*;
use sim::{Boards, config, policy};
use time::{Duration, Instant};
use wire::ethernet::{self, Mac};
use wire::frame::HEADROOM;
use wire::tcp::{Flags, Segment};
use wire::{Frame, ipv4, tcp};
use zerocopy::IntoBytes;

/// Keeps what is sent; every frame must fit the wire and have a port.
#[derive(Default)]
struct Sent(Vec<(u8, Vec<u8>)>);

impl Transmit for Sent {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        assert!(port < 2, "no such port");
        assert!(
            (60..=1518).contains(&frame.len()),
            "{} bytes do not fit the wire",
            frame.len()
        );
        self.0.push((port, frame.to_vec()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(frames in prop::collection::vec((0..3_u8, bytes()), 1..20), active: bool) {
        let mut node = node(active);
        for (port, frame) in frames {
            take(&mut node, port, frame);
        }
        prop_assert_eq!(node.state() == Some(State::Active), active);
    }

    /// Packets that are nearly right reach deeper: a valid one, then a few bytes changed.
    #[test]
    fn nearly_valid_packets(
        packets in prop::collection::vec((packet(), prop::collection::vec(change(), 0..4)), 1..40),
        active: bool,
    ) {
        let mut node = node(active);
        for (packet, changes) in packets {
            let mut frame = packet;
            for (place, value) in changes {
                let place = place.index(frame.len());
                frame[place] = value;
            }
            take(&mut node, 0, frame.clone());
            take(&mut node, 1, frame);
        }
    }
}

/// The same frames that an Active passes on get nowhere at a Backup.
#[test]
fn plausible_packets_pass_an_active_node_only() {
    for (port, frame) in plausible() {
        for active in [true, false] {
            let mut node = node(active);
            let before = node.counters().forwarded;
            take(&mut node, port, frame.clone());
            let passed = node.counters().forwarded - before;
            assert_eq!(passed, u64::from(active), "{frame:02x?}");
        }
    }
}

/// Frames that the example's rules let through, with the port they come in from.
fn plausible() -> Vec<(u8, Vec<u8>)> {
    let segment = |source, destination, flags| {
        let (sequence, acknowledgment, window) = (1, 2, 3);
        tcp::write(&Segment {
            source,
            destination,
            sequence,
            acknowledgment,
            flags,
            window,
        })
    };
    let (user, public) = (([198, 51, 100, 7], 40_000), ([203, 0, 113, 10], 443));
    let (lb1, web1) = ([10, 20, 1, 11], [10, 20, 2, 11]);
    let router = |vrid| [0, 0, 0x5e, 0, 1, vrid];
    let station = |number| [2, 0xee, 0, 0, 0, number];
    let ip = ethernet::IPV4;
    vec![
        (
            0,
            wrap(
                router(10),
                station(1),
                None,
                ip,
                &segment(user, public, Flags::SYN),
            ),
        ),
        (
            0,
            wrap(
                router(10),
                station(1),
                None,
                ip,
                &segment(user, public, Flags::ACK),
            ),
        ),
        (
            1,
            wrap(
                router(21),
                station(11),
                Some(21),
                ip,
                &segment((lb1, 443), user, Flags::ACK),
            ),
        ),
        (
            1,
            wrap(
                router(21),
                station(11),
                Some(21),
                ip,
                &segment((lb1, 9), (web1, 8080), Flags::SYN),
            ),
        ),
    ]
}

/// Hands a frame to the node and checks what comes of it. No time passes.
fn take(node: &mut Node<'_>, port: u8, bytes: Vec<u8>) {
    let quiet = node.state() != Some(State::Active);
    let length = bytes.len();
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(&bytes);
    buffer.resize(HEADROOM + length.max(64), 0xaa); // a tag may go before it is padded to 60
    let mut sent = Sent::default();
    let forwarded = node.counters().forwarded;
    let frame = Frame::new(&mut buffer, HEADROOM, length).expect("it fits");
    node.ingress(NOW, port, frame, &mut sent);
    if quiet {
        assert_eq!(
            node.counters().forwarded,
            forwarded,
            "a Backup forwarded {bytes:02x?}"
        );
        for (_, frame) in &sent.0 {
            let header = ethernet::parse(frame).expect("a whole header");
            assert!(
                !is_virtual(header.source),
                "a Backup spoke as a virtual router: {frame:02x?}"
            );
        }
    }
    while node.next_event().is_some() {}
}

static GW1: LazyLock<Policy<'static>> = LazyLock::new(|| policy(Boards::TwoPorts, "gw1"));
static GW2: LazyLock<Config> = LazyLock::new(|| config(Boards::TwoPorts, "gw2"));

const NOW: Instant = Instant::from_micros(5_000_000);

/// A node of the example site that has run for five seconds: Active, or Backup of a stronger peer. Its
/// neighbours answer ARP and its servers their checks, so that packets get as far as they can.
/// On the heap: a test's thread has a small stack.
fn node(active: bool) -> Box<Node<'static>> {
    let mut node = Box::new(Node::new(
        Some(GW1.clone()),
        Box::leak(Tables::<64, 512>::boxed()),
        1,
        Instant::ZERO,
    ));
    let mut now = Instant::ZERO;
    let mut next_advert = now;
    while now < NOW {
        let mut sent = Sent::default();
        node.poll(now, &mut sent);
        if !active && now >= next_advert {
            next_advert = now + Duration::from_millis(100);
            for (port, advert) in adverts() {
                hand(&mut node, now, port, &advert, &mut sent);
            }
        }
        while let Some((port, frame)) = sent.0.pop() {
            if let Some(answer) = answer(&frame) {
                hand(&mut node, now, port, &answer, &mut sent);
            }
        }
        now = node.deadline().max(now + Duration::from_millis(1));
    }
    let healthy = std::iter::from_fn(|| node.next_event())
        .filter(|event| matches!(event, Event::Server { failure: None, .. }));
    assert_eq!(healthy.count(), 4, "two ports of two servers");
    assert_eq!(node.state() == Some(State::Active), active);
    node
}

fn hand(node: &mut Node<'_>, now: Instant, port: u8, frame: &[u8], sent: &mut Sent) {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(frame);
    let frame = Frame::new(&mut buffer, HEADROOM, frame.len()).expect("it fits");
    node.ingress(now, port, frame, sent);
}

/// What a stronger gw2 sends every 100 ms.
fn adverts() -> Vec<(u8, Vec<u8>)> {
    let routers = GW2.routers.iter().filter(|router| !router.is_v6());
    let adverts = routers.filter_map(|router| {
        let leg = &GW2.interfaces[usize::from(router.interface)];
        let source = leg.address.octets();
        let interval = router.advertisement_interval;
        let advert = wire::vrrp::NewAdvert::v3(router.vrid, 254, interval, &router.addresses);
        let mut message = [0; 64];
        let ends = wire::vrrp::Ends::multicast(leg.address.into());
        let message = advert.write(&ends, &mut message)?;
        let to = wire::vrrp::MULTICAST;
        let header = ipv4::Header::new(source, to, ipv4::VRRP, 255, message.len());
        let packet = [header.as_bytes(), message].concat();
        let (to, from) = (wire::vrrp::MULTICAST_MAC, [0, 0, 0x5e, 0, 1, router.vrid]);
        Some((leg.port, wrap(to, from, leg.vlan, ethernet::IPV4, &packet)))
    });
    adverts.collect()
}

/// What the neighbours of a node say to its ARP requests and health checks.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let header = ethernet::parse(frame)?;
    let payload = frame.get(header.payload..)?;
    if header.ethertype == ethernet::ARP {
        let asker: [u8; 4] = payload[14..18].try_into().ok()?;
        let asked: [u8; 4] = payload[24..28].try_into().ok()?;
        let mac = [2, 0xee, 0, 0, 0, asked[3]];
        let reply = arp(mac, asked, asker, 1);
        // Nobody has a virtual address but the virtual routers.
        return (asker != asked)
            .then(|| wrap(header.source, mac, header.vlan, ethernet::ARP, &reply));
    }
    let (ip, len) = ipv4::Header::parse(payload).ok()?;
    let syn = (ip.protocol == ipv4::TCP).then(|| tcp::Header::parse(&payload[len..]))??;
    let answer = tcp::write(&Segment {
        source: (ip.destination, syn.destination.get()),
        destination: (ip.source, syn.source.get()),
        sequence: 1,
        acknowledgment: syn.sequence.get().wrapping_add(1),
        flags: Flags::SYN.with(Flags::ACK),
        window: 1024,
    });
    let from = header.destination;
    let opens = syn.flags().opens();
    opens.then(|| wrap(header.source, from, header.vlan, ethernet::IPV4, &answer))
}

fn is_virtual(mac: Mac) -> bool {
    mac.starts_with(&[0, 0, 0x5e, 0, 1])
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1515)
}

fn change() -> impl Strategy<Value = (prop::sample::Index, u8)> {
    (any::<prop::sample::Index>(), any::<u8>())
}

fn wrap(to: Mac, from: Mac, vlan: Option<u16>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::header_len(vlan)];
    ethernet::write(&mut frame, to, from, vlan, ethertype).expect("it has room");
    frame.extend_from_slice(payload);
    frame
}

/// An IPv4 or ARP packet from some station of the example to another, in a frame to the node.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let plausible = plausible()
        .into_iter()
        .map(|(_, frame)| frame)
        .collect::<Vec<_>>();
    prop_oneof![1 => prop::sample::select(plausible), 2 => any_packet()]
}

fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let vlan = prop::sample::select(vec![None, Some(21), Some(22), Some(23), Some(24), Some(25)]);
    let macs = prop::sample::select(vec![
        [0, 0, 0x5e, 0, 1, 10],
        [0, 0, 0x5e, 0, 1, 21],
        [0, 0, 0x5e, 0, 1, 22],
        GW1.config.interfaces[0].mac,
        GW1.config.interfaces[1].mac,
        ethernet::BROADCAST,
        wire::vrrp::MULTICAST_MAC,
    ]);
    let addresses = || {
        prop::sample::select(vec![
            [203, 0, 113, 1],
            [203, 0, 113, 2],
            [203, 0, 113, 3],
            [203, 0, 113, 10],
            [198, 51, 100, 7],
            [10, 20, 1, 1],
            [10, 20, 1, 2],
            [10, 20, 1, 11],
            [10, 20, 2, 11],
            [224, 0, 0, 18],
        ])
    };
    let ports = || prop::sample::select(vec![0, 80, 443, 8080, 40_000, 50_000, 60_000]);
    let kind = 0..6_u8;
    (
        vlan,
        macs,
        addresses(),
        addresses(),
        ports(),
        ports(),
        kind,
        any::<[u8; 64]>(),
    )
        .prop_map(|(vlan, mac, from, to, source, destination, kind, noise)| {
            let sender = [2, 0xee, 0, 0, 0, from[3]];
            if kind == 0 {
                return wrap(
                    mac,
                    sender,
                    vlan,
                    ethernet::ARP,
                    &arp(sender, from, to, noise[0]),
                );
            }
            wrap(
                mac,
                sender,
                vlan,
                ethernet::IPV4,
                &ip(kind, (from, source), (to, destination), noise),
            )
        })
}

fn ip(kind: u8, from: ([u8; 4], u16), to: ([u8; 4], u16), noise: [u8; 64]) -> Vec<u8> {
    let segment = Segment {
        source: from,
        destination: to,
        sequence: 1,
        acknowledgment: 2,
        flags: [
            Flags::SYN,
            Flags::ACK,
            Flags::RST,
            Flags::SYN.with(Flags::ACK),
        ][usize::from(noise[0] % 4)],
        window: 3,
    };
    let (protocol, body) = match kind {
        1 | 2 => return tcp::write(&segment).to_vec(),
        3 => (
            ipv4::UDP,
            [
                &from.1.to_be_bytes()[..],
                &to.1.to_be_bytes(),
                &[0, 8, 0, 0],
            ]
            .concat(),
        ),
        4 => (ipv4::ICMP, icmp([8, 0, 0, 0], &noise)),
        _ => {
            let answered = Segment {
                source: to,
                destination: from,
                ..segment
            };
            (
                ipv4::ICMP,
                icmp([3 + 8 * (noise[0] & 1), 0, 0, 0], &tcp::write(&answered)),
            )
        }
    };
    let header = ipv4::Header::new(from.0, to.0, protocol, 1 + noise[1] % 64, body.len());
    [header.as_bytes(), &body].concat()
}

fn icmp(head: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = [&head[..], &[0; 4], body].concat();
    let sum = wire::checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn arp(mac: Mac, from: [u8; 4], to: [u8; 4], noise: u8) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1 + noise % 2];
    [
        &head[..],
        &mac,
        &Ipv4Addr::from(from).octets(),
        &[0; 6],
        &to,
    ]
    .concat()
}
