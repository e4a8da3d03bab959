//! Packets that nobody sends in good faith.

use std::net::Ipv4Addr;

use fastrand::Rng;
use forge::{Ipv4, Sum, Tcp, Udp};

use super::{Setting, pick, story};
use crate::site::{DMZ, LAN, WAN, host};
use crate::story::{Step, Story};

fn v4(address: std::net::IpAddr) -> Ipv4Addr {
    match address {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

/// A good datagram under a header with one field that is wrong or rare.
pub fn header(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let setting = Setting {
        v6: false,
        ..setting
    };
    let (outside, port) = setting.stranger(number);
    let datagram = Udp {
        source: port,
        destination: 53,
        payload: vec![1; rng.usize(0..64)],
        ..Udp::default()
    };
    let mut steps = Vec::new();
    for _ in 0..rng.u8(1..5) {
        let mut ip = Ipv4 {
            id: rng.u16(..),
            tos: rng.u8(..),
            ..Ipv4::new(v4(outside), host(DMZ, 22))
        };
        let what = match rng.u8(0..11) {
            0 => {
                ip.checksum = Sum::Flipped(1 << rng.u8(0..16));
                "wrong header checksum"
            }
            1 => {
                ip.total_len = Some(rng.u16(0..130));
                "any total length"
            }
            2 => {
                ip.header_len = Some(rng.u8(0..16));
                "any header length"
            }
            3 => {
                ip.version = rng.u8(0..16);
                "any version"
            }
            4 => {
                ip.options = match rng.u8(0..4) {
                    0 => vec![1, 1, 1, 0],
                    1 => vec![7, 7, 4, 0, 0, 0, 0],
                    2 => vec![0x83, 7, 4, 10, 2, 0, 21],
                    _ => vec![0x89, 7, 4, 10, 2, 0, 21],
                };
                "options"
            }
            5 => {
                ip.fragment = rng.u16(..);
                "any fragment field"
            }
            6 => {
                ip.ttl = rng.u8(0..3);
                "short-lived"
            }
            7 => {
                ip.fragment = pick(rng, [0x4000, 0x8000, 0xc000]);
                "flags"
            }
            8 => {
                ip.checksum = Sum::Zero;
                "header checksum zero"
            }
            _ => "any tos and id",
        };
        steps.push(Step::one(WAN, what, ip.around(&datagram)));
    }
    story(steps)
}

/// Addresses that do not belong where they are.
pub fn address(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let setting = Setting {
        v6: false,
        ..setting
    };
    let (outside, port) = setting.stranger(number);
    let mut steps = Vec::new();
    let any = |rng: &mut Rng| -> Ipv4Addr {
        match rng.u8(0..14) {
            0 => v4(outside),
            1 => host(WAN, pick(rng, [0, 2, 10, 100, 255])),
            2 => host(LAN, pick(rng, [0, 1, 2, 11, 12, 255])),
            3 => host(DMZ, pick(rng, [0, 1, 2, 21, 22, 255])),
            4 => Ipv4Addr::new(127, 0, 0, rng.u8(..)),
            5 => Ipv4Addr::new(0, 0, 0, rng.u8(0..2)),
            6 => Ipv4Addr::BROADCAST,
            7 => Ipv4Addr::new(224, 0, 0, rng.u8(..)),
            8 => Ipv4Addr::new(169, 254, 1, 1),
            9 => Ipv4Addr::new(240, 0, 0, 1),
            10 => Ipv4Addr::new(198, 51, 100, 192 + rng.u8(0..64)),
            11 | 12 => host(DMZ, rng.u8(21..25)),
            _ => host(LAN, rng.u8(11..15)),
        }
    };
    for _ in 0..rng.u8(1..5) {
        let ip = Ipv4::new(any(rng), any(rng));
        let leg = rng.u8(0..3);
        let (what, packet) = match rng.bool() {
            true => (
                "datagram",
                ip.around(&Udp {
                    source: port,
                    destination: 53,
                    ..Udp::default()
                }),
            ),
            false => (
                "syn",
                ip.around(&Tcp {
                    source: port,
                    destination: 25,
                    ..Tcp::default()
                }),
            ),
        };
        steps.push(Step::one(leg, what, packet));
    }
    story(steps)
}

/// A good packet with a few bytes changed.
pub fn mutated(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let mut steps = match rng.u8(0..4) {
        0 => super::datagram::udp(rng, number, setting),
        1 => super::datagram::ping(rng, number, setting),
        2 => super::datagram::error(rng, number, setting),
        _ => super::tcp::orderly(rng, number, setting),
    }
    .steps;
    let chosen = rng.usize(..steps.len());
    let step = &mut steps[chosen];
    step.what = "mutated";
    let packet = &mut step.packets[0];
    // Addresses, ports and identifiers of pings stay, so that nobody else's flows are hit.
    let places: &[usize] = match (packet[0] >> 4, packet[6], packet[9]) {
        (6, 58, _) => &[0, 1, 2, 3, 4, 5, 6, 7, 40, 41, 42, 43, 46, 47, 48, 52, 53],
        (6, ..) => &[0, 1, 2, 3, 4, 5, 6, 7, 44, 45, 46, 47, 48, 52, 53],
        (_, _, 1) => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 26, 27, 28, 32, 33, 34, 35],
        _ => &[
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 24, 25, 26, 27, 28, 32, 33, 34, 35,
        ],
    };
    for _ in 0..rng.u8(1..4) {
        let place = places[rng.usize(..places.len())];
        if let Some(byte) = packet.get_mut(place) {
            *byte ^= 1 << rng.u8(0..8);
        }
    }
    if rng.bool() && packet[0] >> 4 == 4 && packet.len() >= 20 {
        packet[10..12].fill(0);
        let sum = forge::checksum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    story(steps)
}
