//! Blind attacks by ICMP: the attacker guesses addresses and ports, but does not know our table.

use std::net::Ipv4Addr;

use differential::site::{DMZ, LAN, WAN, host};
use forge::flags::ACK;
use forge::{Icmp, Ipv4, Sum, Tcp};
use node::Drop;

use crate::{ATTACKER, Attack, USER, USER_PORT, dropped, framed, syn};

pub fn attacks() -> Vec<Attack> {
    let (service, mail) = ((host(WAN, 10), 80), (host(DMZ, 21), 25));
    let broken = Icmp {
        checksum: Sum::Flipped(1),
        ..Icmp::about(3, 1, &syn(USER, USER_PORT), 28)
    };
    let answer = Icmp::echo(0, 7, 7);
    vec![
        dropped(
            "source-quench",
            "a source quench about the user's connection",
            "RFC 5927 section 6, RFC 6633, CVE-2004-0791",
            WAN,
            [about(4, 0, service)],
            Drop::IcmpType,
        ),
        dropped(
            "icmp-redirect",
            "a redirect of the user's connection",
            "RFC 1812 section 5.2.7.2, CVE-1999-0265",
            WAN,
            [about(5, 1, service)],
            Drop::Redirect,
        ),
        dropped(
            "blind-icmp",
            "hard errors, a small MTU and a time exceeded about connections that there are not",
            "RFC 5927, CVE-2004-0790, CVE-2004-1060",
            WAN,
            [about(3, 1, mail), about(3, 4, mail), about(11, 0, mail)],
            Drop::IcmpUnrelated,
        ),
        dropped(
            "damaged-icmp",
            "an error with a wrong checksum",
            "RFC 792",
            WAN,
            [framed(
                WAN,
                &Ipv4::new(ATTACKER, host(WAN, 10)).around(&broken),
            )],
            Drop::Transport,
        ),
        dropped(
            "ping-answers",
            "answers to nobody's ping, which tunnel data or tell of a smurf elsewhere",
            "CVE-1999-0513",
            WAN,
            [framed(
                WAN,
                &Ipv4::new(ATTACKER, host(DMZ, 21)).around(&answer),
            )],
            Drop::IcmpUnrelated,
        ),
        dropped(
            "icmp-queries",
            "timestamp, information and mask requests: how a network looks inside",
            "CVE-1999-0524",
            WAN,
            [13, 15, 17].map(|kind| {
                framed(
                    WAN,
                    &Ipv4::new(ATTACKER, host(LAN, 11)).around(&Icmp::echo(kind, 1, 1)),
                )
            }),
            Drop::IcmpType,
        ),
    ]
}

/// An error about a segment from a server to the user.
fn about(kind: u8, code: u8, server: (Ipv4Addr, u16)) -> Vec<u8> {
    let quoted = Ipv4::new(server.0, USER).around(&Tcp {
        source: server.1,
        destination: USER_PORT,
        flags: ACK,
        ..Tcp::default()
    });
    let error = Icmp::about(kind, code, &quoted, 28);
    framed(WAN, &Ipv4::new(ATTACKER, server.0).around(&error))
}
