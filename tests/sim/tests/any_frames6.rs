//! IPv6 frames of any content never stop a node, and a node that is not Active speaks only for itself.

use std::net::IpAddr;
use std::sync::LazyLock;

use classifier::Policy;
use node::{Node, State, Tables, Transmit};
use policy::{Interface6, VirtualRouter};
use proptest::prelude::*;
use sim::{Boards, policy};
use time::{Duration, Instant};
use wire::ethernet::{self, Mac};
use wire::frame::HEADROOM;
use wire::ipv6::{self, Header};
use wire::{Frame, ipv4, nd};
use zerocopy::IntoBytes;

/// Keeps what is sent; every frame must fit the wire and have a port.
#[derive(Default)]
struct Sent(Vec<Vec<u8>>);

impl Transmit for Sent {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        assert!(port < 2, "no such port");
        let fits = (60..=1518).contains(&frame.len());
        assert!(fits, "{} bytes do not fit the wire", frame.len());
        self.0.push(frame.to_vec());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Packets that are right, then a few bytes changed, with and without their ICMPv6 checksum mended.
    #[test]
    fn nearly_valid_packets(
        packets in prop::collection::vec((frame(), prop::collection::vec(change(), 0..4), any::<bool>()), 1..40),
        active: bool,
    ) {
        let (mut node, now) = node(active);
        for (mut frame, changes, mend) in packets {
            for (place, value) in changes {
                let place = place.index(frame.len());
                frame[place] = value;
            }
            if mend {
                mend_checksum(&mut frame);
            }
            take(&mut node, now, 0, &frame);
            take(&mut node, now, 1, &frame);
        }
        prop_assert_eq!(node.state() == Some(State::Active), active);
    }
}

/// Hands a frame to the node and checks what comes of it. No time passes.
fn take(node: &mut Node<'_>, now: Instant, port: u8, bytes: &[u8]) {
    let quiet = node.state() != Some(State::Active);
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(bytes);
    buffer.resize(HEADROOM + bytes.len().max(64), 0xaa); // a tag may go before it is padded to 60
    let mut sent = Sent::default();
    let forwarded = node.counters().forwarded;
    let frame = Frame::new(&mut buffer, HEADROOM, bytes.len()).expect("it fits");
    node.ingress(now, port, frame, &mut sent);
    for frame in &sent.0 {
        let received = ethernet::parse(frame).expect("a whole header");
        let speaks_for_both = received.source.starts_with(&[0, 0, 0x5e, 0]);
        assert!(!(quiet && speaks_for_both), "{bytes:02x?} -> {frame:02x?}");
        if received.ethertype == ethernet::IPV6 {
            let packet = &frame[received.payload..];
            let header = Header::parse(packet).expect("a whole packet");
            assert!(
                ipv6::walk(header, packet).is_ok(),
                "{bytes:02x?} -> {frame:02x?}"
            );
        }
    }
    if quiet {
        let now_forwarded = node.counters().forwarded;
        assert_eq!(now_forwarded, forwarded, "a Backup forwarded {bytes:02x?}");
    }
    while node.next_event().is_some() {}
}

/// gw1 of the example, with IPv6 on each leg: 2001:db8:N::2, virtual ::1.
static GW1: LazyLock<Policy<'static>> = LazyLock::new(|| {
    let mut policy = policy(Boards::TwoPorts, "gw1");
    for (index, leg) in (0..).zip(&mut policy.config.interfaces) {
        leg.address6 = Some(Interface6 {
            address: address(index, 2).into(),
            prefix: 64,
        });
        let four = policy.config.routers[usize::from(index)].clone();
        let shared = [
            VirtualRouter::link_local(four.vrid),
            address(index, 1).into(),
        ];
        let router = VirtualRouter {
            addresses: shared.map(IpAddr::V6).into_iter().collect(),
            ..four
        };
        policy.config.routers.push(router).expect("room for one");
    }
    policy
});

fn address(leg: u8, host: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, leg, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]
}

/// A Backup that just started, or a node that heard nobody for a second.
/// On the heap: a test's thread has a small stack.
fn node(active: bool) -> (Box<Node<'static>>, Instant) {
    let mut node = Box::new(Node::new(
        Some(GW1.clone()),
        Box::leak(Tables::<64, 512>::boxed()),
        1,
        Instant::ZERO,
    ));
    let end = Instant::ZERO + Duration::from_secs(u64::from(active));
    let mut now = Instant::ZERO;
    node.poll(now, &mut Sent::default());
    while now < end {
        now = node.deadline().max(now + Duration::from_millis(1));
        node.poll(now, &mut Sent::default());
    }
    assert_eq!(node.state() == Some(State::Active), active);
    (node, now)
}

fn change() -> impl Strategy<Value = (prop::sample::Index, u8)> {
    (any::<prop::sample::Index>(), any::<u8>())
}

/// Some station's packet to some other, in a frame to the node.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let vlans = prop::sample::select(vec![None, Some(21), Some(22)]);
    let macs = prop::sample::select(vec![
        [0, 0, 0x5e, 0, 2, 10],
        [0, 0, 0x5e, 0, 2, 21],
        [0, 0, 0x5e, 0, 1, 22],
        GW1.config.interfaces[0].mac,
        GW1.config.interfaces[1].mac,
        nd::multicast_mac(nd::ALL_NODES),
        nd::multicast_mac(nd::solicited_node(address(1, 1))),
    ]);
    let addresses = || {
        let mut all = vec![
            nd::ALL_NODES,
            nd::solicited_node(address(1, 1)),
            nd::link_local(GW1.config.interfaces[1].mac),
            nd::link_local([2, 0xee, 0, 0, 0, 9]),
            [0; 16],
        ];
        for leg in 0..3 {
            all.extend([1, 2, 9, 10].map(|host| address(leg, host)));
        }
        prop::sample::select(all)
    };
    let body = (0..8_u8, addresses(), any::<[u8; 16]>());
    let extensions = prop::collection::vec(
        prop::sample::select(vec![
            ipv6::HOP_BY_HOP,
            ipv6::ROUTING,
            ipv6::FRAGMENT,
            ipv6::DESTINATION_OPTIONS,
        ]),
        0..3,
    );
    let hops = prop::sample::select(vec![255_u8, 255, 64, 1]);
    (
        vlans,
        macs,
        addresses(),
        addresses(),
        body,
        extensions,
        hops,
    )
        .prop_map(
            |(vlan, mac, from, to, (kind, target, noise), extensions, hops)| {
                let (protocol, body) = payload(kind, target, noise);
                // Extension headers are rare, or nothing else would be tried.
                let extensions = &extensions[..extensions.len() * usize::from(noise[0] < 64)];
                let mut rest = Vec::new();
                for (index, _) in extensions.iter().enumerate() {
                    let next = extensions.get(index + 1).unwrap_or(&protocol);
                    rest.extend([*next, 0, 0, noise[1] & 1, 0, 0, 0, noise[2]]);
                }
                rest.extend(body);
                let first = *extensions.first().unwrap_or(&protocol);
                let header = Header::new(from, to, first, hops, rest.len());
                let mut frame = vec![0; ethernet::header_len(vlan)];
                let sender = [2, 0xee, 0, 0, 0, from[15]];
                ethernet::write(&mut frame, mac, sender, vlan, ethernet::IPV6)
                    .expect("it has room");
                frame.extend_from_slice(header.as_bytes());
                frame.extend(rest);
                mend_checksum(&mut frame);
                frame
            },
        )
}

/// A protocol and a payload of it; checksums are filled in later.
fn payload(kind: u8, target: [u8; 16], noise: [u8; 16]) -> (u8, Vec<u8>) {
    let mac: Mac = [2, 0xee, 0, 0, 0, noise[3] & 0x0f];
    let discovery = |kind: u8, flags: u8, option: u8| {
        let head = [kind, 0, 0, 0, flags, 0, 0, 0];
        [&head[..], &target, &[option, 1], &mac].concat()
    };
    match kind {
        0 | 1 => (ipv6::ICMP, discovery(135, 0, 1)),
        2 | 3 => (ipv6::ICMP, discovery(136, noise[4] & 0xe0, 2)),
        4 => (ipv6::ICMP, discovery(133 + noise[4] % 5, 0, 1)),
        5 => (
            ipv6::ICMP,
            [&[128, 0, 0, 0, 0, 1, 0, 2], &noise[..]].concat(),
        ),
        6 => (ipv4::UDP, vec![0x80, 0, 0, 53, 0, 8, 0, 0]),
        _ => {
            let flags = [0x02, 0x10, 0x12, 0x04][usize::from(noise[4] % 4)];
            let head = [0x80, 0, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags];
            (ipv4::TCP, [&head[..], &[4, 0, 0, 0, 0, 0]].concat())
        }
    }
}

/// Gives an ICMPv6 message right behind the header its checksum, if the frame is sound enough to have one.
fn mend_checksum(frame: &mut [u8]) {
    let Some(received) = ethernet::parse(frame) else {
        return;
    };
    let packet = &mut frame[received.payload..];
    let Ok(header) = Header::parse(packet).copied() else {
        return;
    };
    if header.next_header != ipv6::ICMP || header.payload_len.get() < 4 {
        return;
    }
    let message = &mut packet[ipv6::HEADER_LEN..header.total_len()];
    message[2..4].fill(0);
    let len = header.payload_len.get();
    let sum = ipv6::pseudo_header(header.source, header.destination, ipv6::ICMP, len);
    let sum = sum.bytes(message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}
