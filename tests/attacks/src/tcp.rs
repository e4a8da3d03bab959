//! Segments that no TCP sends, or too many of those that it does.

use std::net::Ipv4Addr;

use differential::site::{DMZ, WAN, host};
use forge::flags::{ACK, FIN, PSH, RST, SYN, URG};
use forge::{Ipv4, Tcp};
use node::Drop;

use crate::{
    ATTACKER, Attack, End, Frame, SYN_COOKIES_ABOVE, USER, USER_PORT, attack, dropped, framed,
};

pub fn attacks() -> Vec<Attack> {
    let scan = |name, what, described, flags: &[u8]| {
        let segment = |flags: &u8| {
            let tcp = Tcp {
                flags: *flags,
                ..Tcp::default()
            };
            framed(WAN, &Ipv4::new(ATTACKER, host(WAN, 10)).around(&tcp))
        };
        let frames: Vec<Vec<u8>> = flags.iter().map(segment).collect();
        dropped(name, what, described, WAN, frames, Drop::TcpFlags)
    };
    vec![
        scan(
            "null-scan",
            "no flag at all",
            "RFC 9293 section 3.10.7, CVE-1999-0454",
            &[0],
        ),
        scan(
            "xmas-scan",
            "FIN, PSH and URG, and the whole tree",
            "RFC 9293 section 3.10.7, CVE-1999-0454",
            &[FIN | PSH | URG, 0x3f],
        ),
        scan(
            "fin-scan",
            "FIN without ACK",
            "RFC 9293 section 3.10.7, CVE-1999-0454",
            &[FIN],
        ),
        scan(
            "syn-fin",
            "SYN with FIN or RST: begins a connection at hosts, but not at filters that look for a plain SYN",
            "CERT VU#464113",
            &[SYN | FIN, SYN | RST, SYN | FIN | PSH, SYN | FIN | RST],
        ),
        dropped(
            "ack-scan",
            "an ACK out of nowhere to a machine that is not a service: tells filters with state from others",
            "RFC 9293 section 3.10.7",
            WAN,
            [framed(
                WAN,
                &Ipv4::new(ATTACKER, host(DMZ, 21)).around(&Tcp {
                    destination: 25,
                    flags: ACK,
                    ..Tcp::default()
                }),
            )],
            Drop::NoFlow,
        ),
        dropped(
            "blind-reset",
            "resets in the user's name whose sequence numbers are guesses",
            "RFC 5961 section 3, CVE-2004-0230",
            WAN,
            (1..16).map(|guess| {
                framed(
                    WAN,
                    &Ipv4::new(USER, host(WAN, 10)).around(&Tcp {
                        source: USER_PORT,
                        flags: RST,
                        sequence: guess << 28,
                        ..Tcp::default()
                    }),
                )
            }),
            Drop::OutsideWindow,
        ),
        dropped(
            "blind-data",
            "data in the user's name whose numbers are guesses",
            "RFC 5961 section 5",
            WAN,
            (1..16).map(|guess| {
                framed(
                    WAN,
                    &Ipv4::new(USER, host(WAN, 10)).around(&Tcp {
                        source: USER_PORT,
                        flags: ACK | PSH,
                        sequence: guess << 28,
                        acknowledgment: 9001,
                        payload: b"DELETE / HTTP/1.1\r\n".to_vec(),
                        ..Tcp::default()
                    }),
                )
            }),
            Drop::OutsideWindow,
        ),
        syn_flood(),
    ]
}

/// SYNs from addresses that are not the sender's: once as many connections are half-open as the site lets, cookies
/// answer.
fn syn_flood() -> Attack {
    let frame = |number: u16| {
        let [a, b] = number.to_be_bytes();
        let from = Ipv4Addr::new(198, 18, a, b);
        Frame {
            leg: WAN,
            bytes: framed(WAN, &syn(from, 1024 + number)),
            end: match number < SYN_COOKIES_ABOVE {
                true => End::Passes,
                false => End::Answered(Drop::SynCookie),
            },
        }
    };
    attack(
        "syn-flood",
        "SYNs from addresses that never answer: the first few pass, then cookies answer and keep no state",
        "RFC 4987, CVE-1999-0116",
        (0..4 * SYN_COOKIES_ABOVE).map(frame),
    )
}

/// An attempt to connect to the web service.
#[must_use]
pub fn syn(source: Ipv4Addr, port: u16) -> Vec<u8> {
    Ipv4::new(source, host(WAN, 10)).around(&Tcp {
        source: port,
        ..Tcp::default()
    })
}
