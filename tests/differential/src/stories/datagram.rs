//! UDP, pings, ICMP errors and other protocols.

use std::net::IpAddr;

use fastrand::Rng;
use forge::{Icmp, Ip, Sum, Tcp, Transport, Udp, flags};

use super::way::Way;
use super::{Setting, bytes, pick, story};
use crate::site::{LAN, WAN};
use crate::story::{Step, Story};

/// Questions and answers, with lies about lengths and checksums in between.
pub fn udp(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let way = setting.udp(rng, number);
    let mut steps = Vec::new();
    for _ in 0..rng.u8(1..8) {
        let from_client = steps.is_empty() && rng.u8(0..8) > 0 || rng.bool();
        let (leg, source, destination) = match from_client {
            true => (way.client_leg, way.client, way.public),
            false => (way.server_leg, way.server, way.seen),
        };
        let mut ip = Ip::new(source.0, destination.0);
        let mut datagram = Udp {
            source: source.1,
            destination: destination.1,
            payload: bytes(rng, 0..100),
            ..Udp::default()
        };
        let mut what = "datagram";
        match rng.u8(0..10) {
            0 => {
                what = "any length";
                datagram.length = Some(rng.u16(0..120));
            }
            1 => {
                what = "wrong checksum";
                datagram.checksum = Sum::Flipped(1 << rng.u8(0..16));
            }
            2 => {
                what = "no checksum";
                datagram.checksum = Sum::Zero;
            }
            3 => {
                what = "short-lived";
                ip = ip.ttl(rng.u8(0..3));
            }
            4 => {
                what = "port 0";
                datagram.source = 0;
            }
            _ => {}
        }
        steps.push(Step::one(leg, what, ip.around(&datagram)));
    }
    story(steps)
}

/// Pings through the appliance and to it.
pub fn ping(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let way = setting.ping(rng, number);
    let mut steps = Vec::new();
    for sequence in 0..rng.u16(1..6) {
        let asks = steps.is_empty() && rng.u8(0..8) > 0 || rng.bool();
        let (leg, source, destination) = match asks {
            true => (way.client_leg, way.client, way.public),
            false => (way.server_leg, way.server, way.seen),
        };
        let mut ip = Ip::new(source.0, destination.0);
        let mut kind = match (setting.v6, asks) {
            (false, true) => 8,
            (false, false) => 0,
            (true, true) => 128,
            (true, false) => 129,
        };
        let mut what = if asks { "ping" } else { "pong" };
        let mut checksum = Sum::Good;
        match rng.u8(0..10) {
            0 => {
                what = "any type";
                kind = if setting.v6 {
                    rng.u8(120..133)
                } else {
                    rng.u8(0..20)
                };
            }
            1 => {
                what = "wrong checksum";
                checksum = Sum::Flipped(1 << rng.u8(0..16));
            }
            2 => {
                what = "short-lived";
                ip = ip.ttl(rng.u8(0..3));
            }
            _ => {}
        }
        let echo = Icmp {
            checksum,
            ..Icmp::echo(kind, source.1, sequence)
        };
        steps.push(Step::one(leg, what, ip.around(&echo)));
    }
    story(steps)
}

/// A packet of a flow, between any two of its four ends.
fn packet(udp: bool, from: (IpAddr, u16), to: (IpAddr, u16), control: u8) -> Vec<u8> {
    let transport: Box<dyn Transport> = match udp {
        true => Box::new(Udp {
            source: from.1,
            destination: to.1,
            payload: vec![7; 40],
            ..Udp::default()
        }),
        false => Box::new(Tcp {
            source: from.1,
            destination: to.1,
            flags: control,
            acknowledgment: if control & flags::ACK == 0 { 0 } else { 1001 },
            ..Tcp::default()
        }),
    };
    Ip::new(from.0, to.0).around(&*transport)
}

/// Errors about a flow from both sides, honest ones and others.
pub fn error(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let udp = rng.bool();
    let way: Way = match udp {
        true => setting.udp(rng, number),
        false => setting.tcp(rng, number),
    };
    let answer = flags::SYN | flags::ACK;
    let mut steps = Vec::new();
    if rng.u8(0..8) > 0 {
        let first = packet(udp, way.client, way.public, flags::SYN);
        steps.push(Step::one(way.client_leg, "first", first));
        if rng.bool() {
            let second = packet(udp, way.server, way.seen, answer);
            steps.push(Step::one(way.server_leg, "answer", second));
        }
    }
    for _ in 0..rng.u8(1..5) {
        // About a packet as it looked where it went wrong.
        let about_first = rng.bool();
        let (mut leg, mut to, quoted) = match about_first {
            true => (
                way.server_leg,
                way.seen.0,
                packet(udp, way.seen, way.server, flags::SYN),
            ),
            false => (
                way.client_leg,
                way.public.0,
                packet(udp, way.public, way.client, answer),
            ),
        };
        let (kind, code) = match setting.v6 {
            false => pick(
                rng,
                [
                    (3, 0),
                    (3, 1),
                    (3, 3),
                    (3, 4),
                    (3, 13),
                    (11, 0),
                    (11, 1),
                    (4, 0),
                    (5, 1),
                    (12, 0),
                ],
            ),
            true => pick(
                rng,
                [
                    (1, 0),
                    (1, 1),
                    (1, 3),
                    (1, 4),
                    (2, 0),
                    (3, 0),
                    (3, 1),
                    (4, 0),
                    (4, 1),
                    (137, 0),
                ],
            ),
        };
        let from = match (about_first, rng.u8(0..3)) {
            (true, 0) => way.server.0,
            (true, _) if way.server_leg != WAN => setting.at(way.server_leg, 24),
            (false, 0) => way.client.0,
            (false, _) if way.client_leg != WAN => setting.at(way.client_leg, 14),
            _ => setting.bystander(),
        };
        let header = if setting.v6 { 40 } else { 20 };
        let most = header + pick(rng, [8, 8, 7, 0, 28, 556]);
        let mut message = Icmp {
            rest: [0, 0, 5, 0xa0],
            ..Icmp::about(kind, code, &quoted, most)
        };
        let mut what = "error";
        match rng.u8(0..8) {
            0 => {
                what = "error with a wrong checksum";
                message.checksum = Sum::Flipped(1 << rng.u8(0..16));
            }
            1 => {
                what = "error with a changed quote";
                let place = rng.usize(0..message.payload.len().min(header + 8));
                message.payload[place] ^= 1 << rng.u8(0..8);
            }
            2 => {
                what = "error from any leg";
                leg = rng.u8(0..3);
            }
            3 => {
                what = "error to somebody else";
                to = setting.at(LAN, 13);
            }
            _ => {}
        }
        steps.push(Step::one(leg, what, Ip::new(from, to).around(&message)));
    }
    story(steps)
}

/// Protocols without ports.
pub fn other(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let [.., a, b] = number.to_be_bytes();
    let far = match setting.v6 {
        true => IpAddr::from([0x2001, 0xdb8, 0xfff0, u16::from(a), 0, 0, 0, u16::from(b)]),
        false => IpAddr::from([198, 18, a, b]),
    };
    let near = setting.at(LAN, rng.u8(11..15));
    let seen = match setting.translated && !setting.v6 {
        true => setting.at(WAN, 11),
        false => near,
    };
    let protocol = pick(rng, [2, 4, 41, 50, 89, 103, 253]);
    let mut steps = Vec::new();
    for _ in 0..rng.u8(1..5) {
        let out = steps.is_empty() && rng.u8(0..4) > 0 || rng.bool();
        let (leg, ip) = match out {
            true => (LAN, Ip::new(near, far)),
            false => (WAN, Ip::new(far, seen)),
        };
        let payload = vec![rng.u8(..); rng.usize(0..60)];
        steps.push(Step::one(leg, "other protocol", ip.raw(protocol, &payload)));
    }
    story(steps)
}
