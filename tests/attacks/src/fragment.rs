//! Pieces that no honest sender makes.

use differential::site::{DMZ, WAN, host, host6};
use forge::{Extension, Ipv4, Ipv6, Tcp, Udp};
use node::Drop;

use crate::{ATTACKER, ATTACKER6, Attack, End, Frame, attack, dropped, framed};

pub fn attacks() -> Vec<Attack> {
    vec![
        teardrop(),
        aligned_teardrop(),
        bonk(),
        overlap(),
        overlap6(),
        rewritten_ports(),
        tiny(),
        tiny6(),
        ping_of_death(),
        ping_of_death6(),
        jolt2(),
    ]
}

/// The second piece lies within the first one, of 36 bytes as in the program of 1997.
fn teardrop() -> Attack {
    attack(
        "teardrop",
        "the second piece lies within the first: its length becomes negative where they are put together",
        "CVE-1999-0015, CERT CA-1997-28",
        [
            // No piece but the last ends between multiples of 8.
            from_wan(
                piece(0, true, &datagram(28)),
                End::Dropped(Drop::FragmentLength),
            ),
            from_wan(
                piece(24, false, &[0x2a; 4]),
                End::Dropped(Drop::FragmentOrder),
            ),
        ],
    )
}

/// The same where the first piece by itself is a good one.
fn aligned_teardrop() -> Attack {
    attack(
        "teardrop-aligned",
        "the same with a first piece of proper length",
        "CVE-1999-0015, CVE-1999-0104",
        [
            from_wan(piece(0, true, &datagram(32)), End::Passes),
            from_wan(
                piece(24, false, &[0x2a; 4]),
                End::Dropped(Drop::FragmentOverlap),
            ),
        ],
    )
}

/// Two last pieces that end at different places.
fn bonk() -> Attack {
    attack(
        "bonk",
        "a last piece, then another one that reaches back and beyond its end",
        "CVE-1999-0258",
        [
            from_wan(piece(0, true, &datagram(32)), End::Passes),
            from_wan(piece(40, false, &[0x2a; 8]), End::Passes),
            from_wan(
                piece(16, false, &[0x2a; 40]),
                End::Dropped(Drop::FragmentOrder),
            ),
        ],
    )
}

fn overlap() -> Attack {
    let whole = datagram(600);
    let frames = [
        piece(0, true, &whole[..200]),
        piece(184, true, &whole[184..400]),
        piece(400, false, &whole[400..]),
    ];
    attack(
        "overlapping-fragments",
        "a piece repeats the end of the one before, with which a filter and a host can see different data",
        "RFC 1858 section 4, CVE-2018-5391",
        overlapping(frames.map(|packet| framed(WAN, &packet))),
    )
}

fn overlap6() -> Attack {
    let whole = datagram(600);
    let frames = [
        piece6(0, true, &whole[..200]),
        piece6(184, true, &whole[184..400]),
        piece6(400, false, &whole[400..]),
    ];
    attack(
        "overlapping-fragments-ipv6",
        "the same by IPv6, where overlaps are forbidden",
        "RFC 5722, CVE-2012-4444",
        overlapping(frames.map(|packet| framed(WAN, &packet))),
    )
}

/// RFC 1858's overlapping fragment attack: the ports that the rules saw are overwritten.
fn rewritten_ports() -> Attack {
    let ip = Ipv4 {
        id: 0x5858,
        ..Ipv4::new(ATTACKER, host(DMZ, 21))
    };
    let allowed = Tcp {
        destination: 25,
        options: vec![1; 4],
        ..Tcp::default()
    };
    let forbidden = Tcp {
        destination: 23,
        ..allowed.clone()
    };
    let (good, bad) = (ip.around(&allowed), ip.around(&forbidden));
    let fragment = |place: u16, more: bool, data: &[u8]| {
        let ip = Ipv4 {
            fragment: (place / 8) | if more { Ipv4::MF } else { 0 },
            ..ip.clone()
        };
        framed(WAN, &ip.raw(6, data))
    };
    attack(
        "rewritten-ports",
        "a good first piece, then one that overwrites its ports and flags",
        "RFC 1858 section 4, RFC 3128",
        overlapping([
            fragment(0, true, &good[20..]),
            fragment(8, true, &bad[28..]),
            fragment(0, true, &bad[20..]),
        ]),
    )
}

fn tiny() -> Attack {
    let pieces = Ipv4::new(ATTACKER, host(WAN, 10)).fragments(&Tcp::default(), &[8]);
    let [first, second] = &pieces[..] else {
        return attack("tiny-fragments", "", "", []);
    };
    attack(
        "tiny-fragments",
        "the flags of TCP are in the second piece, where no filter looks",
        "RFC 1858 section 3, RFC 3128",
        [
            from_wan(first.clone(), End::Dropped(Drop::FragmentTiny)),
            from_wan(second.clone(), End::Dropped(Drop::FragmentOrder)),
        ],
    )
}

fn tiny6() -> Attack {
    let mut ip = Ipv6::new(ATTACKER6, host6(WAN, 0x10));
    ip.extensions.push(Extension::Fragment(0, true, 0x7112));
    // The chain goes on in the second piece.
    let first = ip.raw(60, &[6, 1, 1, 12, 0, 0, 0, 0]);
    ip.extensions = vec![Extension::Fragment(1, false, 0x7112)];
    let second = ip.raw(60, &[&[0; 8][..], &[0x2a; 20]].concat());
    attack(
        "tiny-fragments-ipv6",
        "the chain of extension headers goes on in the second piece",
        "RFC 7112",
        [
            from_wan(first, End::Dropped(Drop::ExtensionHeaders)),
            from_wan(second, End::Dropped(Drop::FragmentOrder)),
        ],
    )
}

fn ping_of_death() -> Attack {
    let ip = Ipv4 {
        fragment: 65_528 / 8,
        id: 0xdead,
        ..Ipv4::new(ATTACKER, host(DMZ, 21))
    };
    dropped(
        "ping-of-death",
        "the last piece of a ping ends beyond 65,535 bytes",
        "CVE-1999-0128, CERT CA-1996-26",
        WAN,
        [framed(WAN, &ip.raw(1, &[0x2a; 600]))],
        Drop::FragmentLength,
    )
}

fn ping_of_death6() -> Attack {
    let mut ip = Ipv6::new(ATTACKER6, host6(DMZ, 21));
    ip.extensions
        .push(Extension::Fragment(65_528 / 8, false, 0xdead));
    dropped(
        "ping-of-death-ipv6",
        "the same by IPv6",
        "CVE-2013-3183",
        WAN,
        [framed(WAN, &ip.raw(58, &[0x2a; 600]))],
        Drop::FragmentLength,
    )
}

/// One late piece over and over, which never becomes a packet.
fn jolt2() -> Attack {
    let ip = Ipv4 {
        fragment: 65_520 / 8,
        id: 0x0455,
        ttl: 255,
        ..Ipv4::new(ATTACKER, host(DMZ, 21))
    };
    let piece = framed(WAN, &ip.raw(1, &[0x2a; 9]));
    dropped(
        "jolt2",
        "the same late piece over and over, which keeps those busy that wait for the others",
        "CVE-2000-0305",
        WAN,
        vec![piece; 20],
        Drop::FragmentOrder,
    )
}

/// The first piece passes, and no other.
fn overlapping(frames: [Vec<u8>; 3]) -> impl Iterator<Item = Frame> {
    frames.into_iter().enumerate().map(|(index, bytes)| Frame {
        leg: WAN,
        bytes,
        end: match index {
            0 => End::Passes,
            _ => End::Dropped(Drop::FragmentOverlap),
        },
    })
}

fn from_wan(packet: Vec<u8>, end: End) -> Frame {
    Frame {
        leg: WAN,
        bytes: framed(WAN, &packet),
        end,
    }
}

/// A question to the name server that the rules let through, so many bytes of data.
fn datagram(data: usize) -> Vec<u8> {
    let question = Udp {
        source: 4000,
        destination: 53,
        payload: vec![7; data],
        ..Udp::default()
    };
    Ipv4::new(ATTACKER, host(DMZ, 22)).around(&question)[20..].to_vec()
}

fn piece(place: u16, more: bool, data: &[u8]) -> Vec<u8> {
    let ip = Ipv4 {
        fragment: (place / 8) | if more { Ipv4::MF } else { 0 },
        id: 0x0dad,
        ..Ipv4::new(ATTACKER, host(DMZ, 22))
    };
    ip.raw(17, data)
}

fn piece6(place: u16, more: bool, data: &[u8]) -> Vec<u8> {
    let mut ip = Ipv6::new(ATTACKER6, host6(DMZ, 22));
    ip.extensions
        .push(Extension::Fragment(place / 8, more, 0x5722));
    ip.raw(17, data)
}
