//! Lies about who has which MAC address, and routers that nobody asked for.

use std::net::{Ipv4Addr, Ipv6Addr};

use differential::site::{LAN, LEGS, host, host6, neighbour_mac, own_mac, virtual_mac};
use forge::{Extension, Icmp, Ipv4, Ipv6, Udp};
use node::Drop;

use crate::{Attack, USER, dropped, syn};

const EVIL: [u8; 6] = [2, 0xbd, 0, 0, 0, 1];
const EVIL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);

pub fn attacks() -> Vec<Attack> {
    [arp(), discovery(), routers()].concat()
}

fn arp() -> Vec<Attack> {
    let claim = |operation: u8, sender: [u8; 6], address: Ipv4Addr, target: Ipv4Addr| {
        let body = [
            &[0, 1, 8, 0, 6, 4, 0, operation][..],
            &sender,
            &address.octets(),
            &[0; 6],
            &target.octets(),
        ];
        forge::ethernet([0xff; 6], EVIL, 0x0806, &body.concat())
    };
    let leg = LEGS[usize::from(LAN)];
    let gateway = leg.virtuals[0];
    let own = Ipv4::new(host(LAN, 11), USER).around(&Udp {
        source: 1,
        destination: 1,
        ..Udp::default()
    });
    vec![
        dropped(
            "arp-spoofed-gateway",
            "somebody inside claims the virtual address, or the appliance's own",
            "RFC 5227, CVE-1999-0667",
            LAN,
            [
                claim(1, EVIL, gateway, gateway),
                claim(2, EVIL, gateway, host(LAN, 11)),
                claim(2, EVIL, leg.own.0, host(LAN, 11)),
            ],
            Drop::AddressConflict,
        ),
        dropped(
            "arp-elsewhere",
            "ARP from elsewhere, or with a group's MAC address",
            "RFC 1812 section 3.3.2, CVE-1999-0667",
            LAN,
            [
                claim(2, EVIL, USER, gateway),
                claim(2, [1, 0, 0x5e, 0, 0, 1], host(LAN, 11), gateway),
                claim(2, [0xff; 6], host(LAN, 11), gateway),
            ],
            Drop::Arp,
        ),
        dropped(
            "group-source",
            "a frame from a group's MAC address",
            "IEEE 802.3",
            LAN,
            [forge::ethernet(
                virtual_mac(LAN, false),
                [3, 0, 0, 0, 0, 1],
                0x0800,
                &syn(host(LAN, 11), 1),
            )],
            Drop::Ethernet,
        ),
        dropped(
            "own-mac-transit",
            "a packet on its way through, sent to the appliance's own MAC address instead of the virtual one",
            "RFC 9568 section 6.4.3",
            LAN,
            [forge::ethernet(
                own_mac(LAN),
                neighbour_mac(LAN, 11),
                0x0800,
                &own,
            )],
            Drop::NotActive,
        ),
    ]
}

fn discovery() -> Vec<Attack> {
    let gateway = LEGS[usize::from(LAN)].virtuals6[0];
    let claim = [&gateway.octets()[..], &[2, 1], &EVIL].concat();
    let advert = |hop_limit| {
        let message = Icmp {
            kind: 136,
            rest: [0x20, 0, 0, 0],
            payload: claim.clone(),
            ..Icmp::default()
        };
        to_everybody(host6(LAN, 11), hop_limit, &message)
    };
    vec![
        dropped(
            "nd-spoofed-gateway",
            "a neighbour advertisement for the virtual address",
            "RFC 3756 section 4.1.1",
            LAN,
            [advert(255)],
            Drop::AddressConflict,
        ),
        dropped(
            "nd-from-beyond",
            "neighbour discovery that a router has passed on",
            "RFC 4861 section 7.1.2, RFC 3756 section 4.1.1",
            LAN,
            [advert(254)],
            Drop::Nd,
        ),
        dropped(
            "nd-redirect",
            "a redirect of one neighbour to another",
            "RFC 3756 section 4.2.5",
            LAN,
            [to_everybody(
                EVIL6,
                255,
                &Icmp {
                    kind: 137,
                    payload: [host6(LAN, 11).octets(), host6(LAN, 12).octets()].concat(),
                    ..Icmp::default()
                },
            )],
            Drop::Redirect,
        ),
    ]
}

fn routers() -> Vec<Attack> {
    let advert = Icmp {
        kind: 134,
        rest: [64, 0, 7, 8],
        payload: vec![0; 8],
        ..Icmp::default()
    };
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let behind = |extension: Extension| {
        let ip = Ipv6 {
            hop_limit: 255,
            extensions: vec![extension],
            ..Ipv6::new(EVIL6, everybody)
        };
        multicast(&ip.around(&advert))
    };
    vec![
        dropped(
            "router-advertisement",
            "somebody inside says that he is the router",
            "RFC 6104, RFC 6105, CVE-2010-4669",
            LAN,
            [
                to_everybody(EVIL6, 255, &advert),
                to_everybody(EVIL6, 64, &advert),
            ],
            Drop::RouterAdvert,
        ),
        dropped(
            "router-advertisement-hidden",
            "the same behind an extension header, where guards do not look: nothing that the appliance listens to",
            "RFC 7113, CVE-2011-2395",
            LAN,
            [behind(Extension::Destination(vec![1, 4, 0, 0, 0, 0]))],
            Drop::OtherStation,
        ),
    ]
}

fn to_everybody(from: Ipv6Addr, hop_limit: u8, message: &Icmp) -> Vec<u8> {
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let ip = Ipv6 {
        hop_limit,
        ..Ipv6::new(from, everybody)
    };
    multicast(&ip.around(message))
}

fn multicast(packet: &[u8]) -> Vec<u8> {
    forge::ethernet([0x33, 0x33, 0, 0, 0, 1], EVIL, 0x86dd, packet)
}
