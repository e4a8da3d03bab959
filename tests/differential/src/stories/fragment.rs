//! Datagrams in pieces.

use fastrand::Rng;
use forge::{Ip, Udp};

use super::{Setting, bytes, pick, story};
use crate::story::{Step, Story};

/// All pieces of a datagram and its answer, in order. What comes of them is compared when the last has come: the
/// kernel waits for it.
pub fn whole(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let way = setting.udp(rng, number);
    let mut steps = Vec::new();
    for direction in 0..rng.u8(1..4) {
        let (leg, source, destination) = match direction % 2 {
            0 => (way.client_leg, way.client, way.public),
            _ => (way.server_leg, way.server, way.seen),
        };
        let datagram = Udp {
            source: source.1,
            destination: destination.1,
            payload: match setting.v6 {
                true => bytes(rng, 1300..4000),
                false => bytes(rng, 200..1200),
            },
            ..Udp::default()
        };
        let length = datagram.payload.len() + 8;
        let unit = match setting.v6 {
            true => pick(rng, [1304, 1304, 1344, 1344, 520]),
            false => pick(rng, [64, 96, 200, 520]),
        };
        let cuts: Vec<usize> = (1..)
            .map(|n| n * unit)
            .take_while(|cut| *cut < length)
            .collect();
        let id = number ^ u32::from(direction) << 14;
        let packets = match Ip::new(source.0, destination.0) {
            Ip::V4(mut ip) => {
                ip.id = id as u16;
                ip.fragments(&datagram, &cuts)
            }
            Ip::V6(ip) => ip.fragments(&datagram, id, &cuts),
        };
        steps.push(Step {
            leg,
            packets,
            what: "a datagram in pieces",
        });
    }
    story(steps)
}

/// Pieces that overlap, or lack the first: nothing may come of them.
pub fn broken(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let way = setting.udp(rng, number);
    let datagram = Udp {
        source: way.client.1,
        destination: way.public.1,
        payload: match setting.v6 {
            true => bytes(rng, 4100..4400),
            false => bytes(rng, 400..800),
        },
        ..Udp::default()
    };
    let ip = Ip::new(way.client.0, way.public.0);
    let cuts = match setting.v6 {
        true => [1304, 2608, 3912],
        false => [96, 200, 296],
    };
    let mut packets = match &ip {
        Ip::V4(ip) => {
            let mut ip = ip.clone();
            ip.id = number as u16;
            ip.fragments(&datagram, &cuts)
        }
        Ip::V6(ip) => ip.fragments(&datagram, number, &cuts),
    };
    let what = match rng.u8(0..3) {
        0 => {
            packets.remove(0);
            "pieces without the first"
        }
        1 => {
            packets.pop();
            "pieces without the last"
        }
        _ => {
            // The second piece moves back by eight bytes.
            let place = if setting.v6 { 40 + 2 } else { 6 };
            let field = u16::from_be_bytes([packets[1][place], packets[1][place + 1]]);
            let moved = if setting.v6 { field - 8 } else { field - 1 };
            packets[1][place..place + 2].copy_from_slice(&moved.to_be_bytes());
            if !setting.v6 {
                packets[1][10..12].fill(0);
                let sum = forge::checksum(&[&packets[1][..20]]);
                packets[1][10..12].copy_from_slice(&sum.to_be_bytes());
            }
            "pieces that overlap"
        }
    };
    story(vec![Step {
        leg: way.client_leg,
        packets,
        what,
    }])
}
