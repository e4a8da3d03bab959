//! What hosts, switches and routers on the cable ask the device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forge::{Extension, Icmp, Ipv4, Ipv6};

use crate::frame::Mac;
use crate::profile::{HOST, HOST6};
use crate::tester::frame;

/// Everyone.
pub const BROADCAST: Mac = [0xff; 6];

/// An ARP message.
#[must_use]
pub fn arp(to: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        bytes.extend(mac);
        bytes.extend(address.octets());
    }
    forge::ethernet(to, sender.0, 0x0806, &bytes)
}

/// Who has this address? The host asks.
#[must_use]
pub fn who_has(to: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(to, 1, HOST, ([0; 6], address))
}

/// The group of a solicited node, and its MAC address (RFC 4291 §2.7.1, RFC 2464 §7).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = address.octets();
    let low = [u16::from(a) | 0xff00, u16::from_be_bytes([b, c])];
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low[0], low[1]);
    (group, [0x33, 0x33, 0xff, a, b, c])
}

/// A neighbour solicitation for an address, from this one; without it, from someone who looks for a duplicate.
#[must_use]
pub fn solicitation(address: Ipv6Addr, from: Option<Ipv6Addr>, hop_limit: u8) -> Vec<u8> {
    let (group, mac) = solicited_node(address);
    let mut message = Icmp {
        kind: 135,
        payload: address.octets().to_vec(),
        ..Icmp::default()
    };
    if from.is_some() {
        message.payload.extend([1, 1]);
        message.payload.extend(HOST.0);
    }
    let header = Ipv6 {
        hop_limit,
        ..Ipv6::new(from.unwrap_or(Ipv6Addr::UNSPECIFIED), group)
    };
    frame(mac, HOST.0, &header.around(&message))
}

/// The answer to a neighbour solicitation.
#[must_use]
pub fn neighbour_advert(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr)) -> Vec<u8> {
    let message = Icmp {
        kind: 136,
        rest: [0x60, 0, 0, 0],
        payload: [&from.1.octets()[..], &[2, 1], &from.0].concat(),
        ..Icmp::default()
    };
    let header = Ipv6 {
        hop_limit: 255,
        ..Ipv6::new(from.1, to.1)
    };
    frame(to.0, from.0, &header.around(&message))
}

/// An echo request of the host to an address at a MAC address.
#[must_use]
pub fn ping(to: (Mac, IpAddr)) -> Vec<u8> {
    let packet = match to.1 {
        IpAddr::V4(address) => Ipv4::new(HOST.1, address).around(&Icmp::echo(8, 7, 1)),
        IpAddr::V6(address) => Ipv6::new(HOST6, address).around(&Icmp::echo(128, 7, 1)),
    };
    frame(to.0, HOST.0, &packet)
}

/// A general membership query of IGMPv3 (RFC 3376 §4.1), or of IGMPv2 (RFC 2236 §2), answered within so many tenths of a second.
#[must_use]
pub fn igmp_query(version: u8, tenths: u8) -> Vec<u8> {
    let mut message = vec![0x11, tenths, 0, 0, 0, 0, 0, 0];
    if version == 3 {
        message.extend([0x02, 125, 0, 0]); // robustness 2, every 125 s, no sources
    }
    let sum = forge::checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = Ipv4 {
        ttl: 1,
        options: vec![0x94, 4, 0, 0],
        ..Ipv4::new(HOST.1, Ipv4Addr::new(224, 0, 0, 1))
    };
    frame([1, 0, 0x5e, 0, 0, 1], HOST.0, &header.raw(2, &message))
}

/// A general query of MLDv2 (RFC 3810 §5.1), answered within so many milliseconds.
#[must_use]
pub fn mld_query(millis: u16) -> Vec<u8> {
    let [a, b] = millis.to_be_bytes();
    let mut payload = Ipv6Addr::UNSPECIFIED.octets().to_vec();
    payload.extend([0x02, 125, 0, 0]);
    let message = Icmp {
        kind: 130,
        rest: [a, b, 0, 0],
        payload,
        ..Icmp::default()
    };
    let header = Ipv6 {
        hop_limit: 1,
        extensions: vec![Extension::HopByHop(vec![5, 2, 0, 0, 1, 0])],
        ..Ipv6::new(HOST6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1))
    };
    frame([0x33, 0x33, 0, 0, 0, 1], HOST.0, &header.around(&message))
}

/// A router solicitation (RFC 4861 §4.1).
#[must_use]
pub fn router_solicitation() -> Vec<u8> {
    let message = Icmp {
        kind: 133,
        payload: [&[1, 1][..], &HOST.0].concat(),
        ..Icmp::default()
    };
    let header = Ipv6 {
        hop_limit: 255,
        ..Ipv6::new(HOST6, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2))
    };
    frame([0x33, 0x33, 0, 0, 0, 2], HOST.0, &header.around(&message))
}
