//! UDP, pings, ICMP errors and other protocols.

use std::net::IpAddr;

use fastrand::Rng;
use forge::{Icmp, Ip, Ipv4, Sum, Tcp, Udp, flags};

use super::{Way, bytes, pick, story, stranger, tcp_way};
use crate::site::{DMZ, LAN, WAN, host};
use crate::story::{Step, Story};

/// A way for datagrams to this port.
fn way(rng: &mut Rng, number: u32) -> Way {
    let (outside, client_port) = stranger(number);
    let at = |leg, number| IpAddr::from(host(leg, number));
    let far = IpAddr::from([198, 51, 100, 250]);
    let (client_leg, client, server_leg, server) = match rng.u8(0..6) {
        0 => (WAN, outside, DMZ, (at(DMZ, 22), 53)),
        1 => (
            LAN,
            at(LAN, rng.u8(11..15)),
            DMZ,
            (at(DMZ, rng.u8(21..25)), 53),
        ),
        2 => (LAN, at(LAN, rng.u8(11..15)), WAN, (far, rng.u16(1..))),
        3 => (DMZ, at(DMZ, rng.u8(21..25)), WAN, (far, rng.u16(122..125))),
        4 => (WAN, outside, DMZ, (at(DMZ, 21), 53)),
        _ => (WAN, outside, LAN, (at(LAN, 11), 53)),
    };
    Way {
        client_leg,
        client,
        client_port,
        public: server,
        server_leg,
        server,
    }
}

/// Questions and answers, with lies about lengths and checksums in between.
pub fn udp(rng: &mut Rng, number: u32) -> Story {
    let way = way(rng, number);
    let mut steps = Vec::new();
    for _ in 0..rng.u8(1..8) {
        let from_client = steps.is_empty() && rng.u8(0..8) > 0 || rng.bool();
        let mut datagram = Udp {
            source: way.client_port,
            destination: way.server.1,
            payload: bytes(rng, 0..100),
            ..Udp::default()
        };
        let (mut leg, mut ip) = (way.client_leg, Ip::new(way.client, way.server.0));
        if !from_client {
            (leg, ip) = (way.server_leg, Ip::new(way.server.0, way.client));
            (datagram.source, datagram.destination) = (datagram.destination, datagram.source);
        }
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
pub fn ping(rng: &mut Rng, number: u32) -> Story {
    let (outside, id) = stranger(number);
    let at = |leg, number| IpAddr::from(host(leg, number));
    let far = IpAddr::from([198, 51, 100, 250]);
    let (client_leg, client, server_leg, server) = match rng.u8(0..7) {
        0 | 1 => (WAN, outside, DMZ, at(DMZ, 21)),
        2 => (LAN, at(LAN, rng.u8(11..15)), WAN, far),
        3 => (WAN, outside, WAN, at(WAN, pick(rng, [2, 10, 11]))),
        4 => (LAN, at(LAN, 11), LAN, at(LAN, rng.u8(1..3))),
        5 => (LAN, at(LAN, 11), WAN, at(WAN, 10)),
        _ => (WAN, outside, DMZ, at(DMZ, 22)),
    };
    let mut steps = Vec::new();
    for sequence in 0..rng.u16(1..6) {
        let asks = steps.is_empty() && rng.u8(0..8) > 0 || rng.bool();
        let mut kind = if asks { 8 } else { 0 };
        let (leg, mut ip) = match asks {
            true => (client_leg, Ip::new(client, server)),
            false => (server_leg, Ip::new(server, client)),
        };
        let mut what = if asks { "ping" } else { "pong" };
        let mut checksum = Sum::Good;
        match rng.u8(0..10) {
            0 => {
                what = "any type";
                kind = rng.u8(0..20);
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
            code: if rng.u8(0..10) == 0 { 1 } else { 0 },
            ..Icmp::echo(kind, id, sequence)
        };
        steps.push(Step::one(leg, what, ip.around(&echo)));
    }
    story(steps)
}

/// Errors about a flow from both sides, honest ones and others.
pub fn error(rng: &mut Rng, number: u32) -> Story {
    let udp = rng.bool();
    let way = if udp {
        way(rng, number)
    } else {
        tcp_way(rng, number)
    };
    let transport = |client: bool, flags: u8| -> Box<dyn forge::Transport> {
        let (source, destination) = match client {
            true => (way.client_port, way.public.1),
            false => (way.server.1, way.client_port),
        };
        match udp {
            true => Box::new(Udp {
                source,
                destination,
                payload: vec![7; 40],
                ..Udp::default()
            }),
            false => Box::new(Tcp {
                source,
                destination,
                flags,
                acknowledgment: if flags & flags::ACK == 0 { 0 } else { 1001 },
                ..Tcp::default()
            }),
        }
    };
    let there = Ip::new(way.client, way.public.0).around(&*transport(true, flags::SYN));
    let back =
        Ip::new(way.server.0, way.client).around(&*transport(false, flags::SYN | flags::ACK));
    let mut steps = Vec::new();
    if rng.u8(0..8) > 0 {
        steps.push(Step::one(way.client_leg, "first", there.clone()));
        if rng.bool() {
            steps.push(Step::one(way.server_leg, "answer", back.clone()));
        }
    }
    for _ in 0..rng.u8(1..5) {
        // About a packet as it looked where it went wrong.
        let about_first = rng.bool();
        let (leg, to, quoted) = match about_first {
            true => {
                let seen = Ip::new(way.client, way.server.0).around(&*{
                    let mut way = way;
                    way.public = way.server;
                    let (source, destination) = (way.client_port, way.server.1);
                    let inner: Box<dyn forge::Transport> = match udp {
                        true => Box::new(Udp {
                            source,
                            destination,
                            payload: vec![7; 40],
                            ..Udp::default()
                        }),
                        false => Box::new(Tcp {
                            source,
                            destination,
                            ..Tcp::default()
                        }),
                    };
                    inner
                });
                (way.server_leg, way.client, seen)
            }
            false => {
                let seen = Ip::new(way.public.0, way.client).around(&*transport_back(&way, udp));
                (way.client_leg, way.public.0, seen)
            }
        };
        let (kind, code) = pick(
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
        );
        let from = match (about_first, rng.u8(0..3)) {
            (true, 0) => way.server.0,
            (true, _) if way.server_leg != WAN => IpAddr::from(host(way.server_leg, 24)),
            (false, 0) => way.client,
            (false, _) if way.client_leg != WAN => IpAddr::from(host(way.client_leg, 14)),
            _ => IpAddr::from([192, 0, 2, 77]),
        };
        let most = pick(rng, [28, 28, 27, 20, 48, 576]);
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
                let place = rng.usize(0..message.payload.len().min(28));
                message.payload[place] ^= 1 << rng.u8(0..8);
            }
            _ => {}
        }
        let leg = if rng.u8(0..10) == 0 {
            rng.u8(0..3)
        } else {
            leg
        };
        let to = if rng.u8(0..10) == 0 {
            IpAddr::from(host(LAN, 13))
        } else {
            to
        };
        steps.push(Step::one(leg, what, Ip::new(from, to).around(&message)));
    }
    story(steps)
}

/// What the client got from the server, as the client saw it.
fn transport_back(way: &Way, udp: bool) -> Box<dyn forge::Transport> {
    let (source, destination) = (way.public.1, way.client_port);
    match udp {
        true => Box::new(Udp {
            source,
            destination,
            payload: vec![7; 40],
            ..Udp::default()
        }),
        false => Box::new(Tcp {
            source,
            destination,
            flags: flags::SYN | flags::ACK,
            acknowledgment: 1001,
            ..Tcp::default()
        }),
    }
}

/// Protocols without ports.
pub fn other(rng: &mut Rng, number: u32) -> Story {
    let far = std::net::Ipv4Addr::from([198, 18, (number >> 8) as u8, number as u8]);
    let near = host(LAN, rng.u8(11..15));
    let protocol = pick(rng, [2, 4, 41, 50, 51, 89, 103, 253]);
    let mut steps = Vec::new();
    for _ in 0..rng.u8(1..5) {
        let out = steps.is_empty() && rng.u8(0..4) > 0 || rng.bool();
        let (leg, ip) = match out {
            true => (LAN, Ipv4::new(near, far)),
            false => (WAN, Ipv4::new(far, near)),
        };
        let payload = vec![rng.u8(..); rng.usize(0..60)];
        steps.push(Step::one(leg, "other protocol", ip.raw(protocol, &payload)));
    }
    story(steps)
}
