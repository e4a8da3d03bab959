//! Headers that lie.

use differential::site::{DMZ, WAN, host};
use forge::{Ipv4, Sum, Tcp, Udp};
use node::Drop;

use crate::{ATTACKER, Attack, dropped, framed, syn};

pub fn attacks() -> Vec<Attack> {
    let service = Ipv4::new(ATTACKER, host(WAN, 10));
    let lie = |header_len, total_len, version| Ipv4 {
        header_len,
        total_len,
        version,
        ..service.clone()
    };
    let lies = [
        lie(Some(4), None, 4),
        lie(None, Some(19), 4),
        lie(None, Some(1400), 4),
        lie(Some(15), None, 4),
        lie(None, None, 5),
    ];
    let from_nowhere = Udp {
        source: 0,
        destination: 53,
        ..Udp::default()
    };
    vec![
        dropped(
            "port-zero",
            "ports that nobody can use",
            "RFC 6335 section 6",
            WAN,
            [
                framed(WAN, &syn(ATTACKER, 0)),
                framed(
                    WAN,
                    &Ipv4::new(ATTACKER, host(DMZ, 22)).around(&from_nowhere),
                ),
            ],
            Drop::Transport,
        ),
        dropped(
            "cut-short",
            "TCP headers that end too early",
            "RFC 9293 section 3.1",
            WAN,
            [0, 1, 13, 19].map(|length| framed(WAN, &service.raw(6, &vec![0x50; length]))),
            Drop::Transport,
        ),
        dropped(
            "wrong-checksums",
            "every bit of the header's checksum",
            "RFC 1812 section 5.2.2",
            WAN,
            (0..16).map(|bit| {
                let ip = Ipv4 {
                    checksum: Sum::Flipped(1 << bit),
                    ..service.clone()
                };
                framed(WAN, &ip.around(&Tcp::default()))
            }),
            Drop::Ipv4Checksum,
        ),
        dropped(
            "lying-lengths",
            "header length, total length and version that contradict the frame",
            "RFC 1812 section 5.2.2",
            WAN,
            lies.map(|ip| framed(WAN, &ip.around(&Tcp::default()))),
            Drop::Ipv4Header,
        ),
    ]
}
