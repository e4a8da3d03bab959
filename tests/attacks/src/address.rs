//! Addresses that cannot be the sender's, or should not be reached.

use std::net::Ipv4Addr;

use differential::site::{DMZ, LAN, WAN, host, host6};
use forge::flags::RST;
use forge::{Icmp, Ipv4, Ipv6, Tcp, Udp};
use node::Drop;

use crate::{ATTACKER6, Attack, USER, USER_PORT, dropped, framed, syn};

pub fn attacks() -> Vec<Attack> {
    let to_itself = |leg, number| {
        framed(
            leg,
            &Ipv4::new(host(leg, number), host(leg, number)).around(&Tcp {
                source: 80,
                ..Tcp::default()
            }),
        )
    };
    let land6 = Ipv6::new(host6(LAN, 11), host6(LAN, 11)).around(&Tcp {
        source: 80,
        ..Tcp::default()
    });
    let broadcasts = [host(LAN, 255), host(DMZ, 255), host(LAN, 0)];
    let martians = [
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [224, 0, 0, 1],
        [255; 4],
        [169, 254, 1, 1],
        [240, 0, 0, 1],
    ];
    let martians6 = ["::1", "::", "ff02::1", "::ffff:192.0.2.1"];
    vec![
        dropped(
            "land",
            "the server's own address and port as the source: it answers itself for ever",
            "CVE-1999-0016",
            LAN,
            [to_itself(LAN, 11), framed(LAN, &land6)],
            Drop::Land,
        ),
        dropped(
            "land-virtual",
            "the same with the virtual address, from outside",
            "CVE-1999-0016",
            WAN,
            [to_itself(WAN, 10)],
            Drop::Land,
        ),
        dropped(
            "smurf",
            "pings in a victim's name to directed broadcast addresses: all hosts answer the victim",
            "CVE-1999-0513, RFC 2644",
            WAN,
            broadcasts.map(|to| framed(WAN, &Ipv4::new(USER, to).around(&Icmp::echo(8, 1, 1)))),
            Drop::Martian,
        ),
        dropped(
            "fraggle",
            "smurf by UDP, to the echo port",
            "CVE-1999-0514, RFC 2644",
            WAN,
            broadcasts.map(|to| {
                let echo = Udp {
                    source: 7,
                    destination: 7,
                    payload: vec![0x2a; 32],
                    ..Udp::default()
                };
                framed(WAN, &Ipv4::new(USER, to).around(&echo))
            }),
            Drop::Martian,
        ),
        dropped(
            "martians",
            "sources that no wire has",
            "RFC 1812 section 5.3.7, RFC 6890",
            WAN,
            martians.map(|from| framed(WAN, &syn(from.into(), 4000))),
            Drop::Martian,
        ),
        dropped(
            "martians-ipv6",
            "the same for IPv6",
            "RFC 4291 section 2.5, RFC 6890",
            WAN,
            martians6.map(|from| {
                let from = from.parse().expect("an address");
                framed(
                    WAN,
                    &Ipv6::new(from, host6(WAN, 0x10)).around(&Tcp::default()),
                )
            }),
            Drop::Martian,
        ),
        dropped(
            "link-local-service",
            "a service asked for from a link-local address: it may talk to the appliance, but nobody passes it on",
            "RFC 4291 section 2.5.6",
            WAN,
            [framed(
                WAN,
                &Ipv6::new("fe80::1".parse().expect("an address"), host6(WAN, 0x10))
                    .around(&Tcp::default()),
            )],
            Drop::NotForUs,
        ),
        dropped(
            "spoofed-inside",
            "sources of inside networks, from outside",
            "RFC 2827, RFC 3704",
            WAN,
            [
                syn(host(LAN, 11), 4000),
                syn(host(DMZ, 21), 4000),
                Ipv6::new(host6(LAN, 11), host6(WAN, 0x10)).around(&Tcp::default()),
            ]
            .map(|packet| framed(WAN, &packet)),
            Drop::ReversePath,
        ),
        dropped(
            "spoofed-outside",
            "sources of the Internet, from inside: a server that takes part in somebody else's flood",
            "RFC 2827, RFC 3704",
            LAN,
            [
                syn(Ipv4Addr::new(198, 51, 100, 7), 4000),
                Ipv6::new(ATTACKER6, host6(WAN, 0x10)).around(&Tcp::default()),
            ]
            .map(|packet| framed(LAN, &packet)),
            Drop::ReversePath,
        ),
        dropped(
            "spoofed-connection",
            "a reset that claims to be on the user's connection, from another leg",
            "RFC 3704",
            DMZ,
            [framed(
                DMZ,
                &Ipv4::new(USER, host(WAN, 10)).around(&Tcp {
                    source: USER_PORT,
                    flags: RST,
                    sequence: 1001,
                    ..Tcp::default()
                }),
            )],
            Drop::ReversePath,
        ),
    ]
}
