//! Ways through the site that flows can take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::Setting;
use crate::site::{DMZ, LAN, WAN, host, host6};

/// One way, from the client to the server and back.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub client_leg: u8,
    pub client: (IpAddr, u16),
    /// What the client connects to.
    pub public: (IpAddr, u16),
    pub server_leg: u8,
    /// Who answers.
    pub server: (IpAddr, u16),
    /// Whom the server answers.
    pub seen: (IpAddr, u16),
}

impl Setting {
    /// A host's address in the version of the setting.
    pub fn at(self, leg: u8, number: u8) -> IpAddr {
        match self.v6 {
            true => host6(leg, number).into(),
            false => host(leg, number).into(),
        }
    }

    /// A client outside, and a port that no other story has.
    pub fn stranger(self, number: u32) -> (IpAddr, u16) {
        let (part, port) = (number / 40_000, 20_000 + (number % 40_000) as u16);
        let address = match self.v6 {
            true => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1 + part as u16).into(),
            false => Ipv4Addr::new(198, 51, 100, 1 + part as u8).into(),
        };
        (address, port)
    }

    /// A server outside.
    pub fn far(self) -> IpAddr {
        match self.v6 {
            true => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 250).into(),
            false => Ipv4Addr::new(198, 51, 100, 250).into(),
        }
    }

    /// Somebody outside who has nothing to do with it, such as a router on the way.
    pub fn bystander(self) -> IpAddr {
        match self.v6 {
            true => Ipv6Addr::new(0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, 77).into(),
            false => Ipv4Addr::new(192, 0, 2, 77).into(),
        }
    }

    /// From inside to outside: translated if the setting says so.
    fn out(self, client_leg: u8, client: (IpAddr, u16), server: (IpAddr, u16)) -> Way {
        let translated = self.translated && !self.v6 && client_leg == LAN;
        let seen = match translated {
            true => (host(WAN, 11).into(), client.1),
            false => client,
        };
        Way {
            seen,
            ..straight(client_leg, client, WAN, server)
        }
    }

    /// A way for TCP; some lead nowhere.
    pub fn tcp(self, rng: &mut Rng, number: u32) -> Way {
        let outside = self.stranger(number);
        let port = outside.1;
        let service = |public, server: (IpAddr, u16)| Way {
            public: (
                self.at(WAN, public),
                if server.1 == 8080 { 80 } else { 443 },
            ),
            ..straight(WAN, outside, LAN, server)
        };
        let direct = |server| straight(WAN, outside, DMZ, server);
        match rng.u8(0..10) {
            0..=2 => service(self.public(), (self.at(LAN, 11), 8080)),
            3 => service(self.public(), (self.at(LAN, 12), 8443)),
            4 if self.translated => Way {
                public: (self.at(WAN, self.public()), 2222),
                ..straight(WAN, outside, LAN, (self.at(LAN, 14), 22))
            },
            4 => direct((self.at(DMZ, 21), 25)),
            5 => direct((self.at(DMZ, 21), rng.u16(4999..5101))),
            6 => straight(LAN, (self.at(LAN, 13), port), DMZ, (self.at(DMZ, 22), 53)),
            7 | 8 => {
                let client = (self.at(LAN, rng.u8(11..15)), port);
                self.out(LAN, client, (self.far(), rng.u16(1..1000)))
            }
            _ => straight(DMZ, (self.at(DMZ, 23), port), LAN, (self.at(LAN, 14), 22)),
        }
    }

    /// A way for datagrams.
    pub fn udp(self, rng: &mut Rng, number: u32) -> Way {
        let outside = self.stranger(number);
        let port = outside.1;
        let client = (self.at(LAN, rng.u8(11..15)), port);
        match rng.u8(0..6) {
            0 => straight(WAN, outside, DMZ, (self.at(DMZ, 22), 53)),
            1 => straight(LAN, client, DMZ, (self.at(DMZ, rng.u8(21..25)), 53)),
            2 => self.out(LAN, client, (self.far(), rng.u16(1..))),
            3 => {
                let client = (self.at(DMZ, rng.u8(21..25)), port);
                self.out(DMZ, client, (self.far(), rng.u16(122..125)))
            }
            4 => straight(WAN, outside, DMZ, (self.at(DMZ, 21), 53)),
            _ => straight(WAN, outside, LAN, (self.at(LAN, 11), 53)),
        }
    }

    /// A way for pings; the port stands for the identifier.
    pub fn ping(self, rng: &mut Rng, number: u32) -> Way {
        let outside = self.stranger(number);
        let id = outside.1;
        let to_us = |leg, number| straight(WAN, outside, leg, (self.at(leg, number), id));
        match rng.u8(0..7) {
            0 | 1 => to_us(DMZ, 21),
            2 => self.out(LAN, (self.at(LAN, rng.u8(11..15)), id), (self.far(), id)),
            3 => {
                let number = super::pick(rng, [2, self.public(), self.public() + 1]);
                to_us(WAN, number)
            }
            4 => {
                let gateway = (self.at(LAN, rng.u8(1..3)), id);
                straight(LAN, (self.at(LAN, 11), id), LAN, gateway)
            }
            5 => straight(
                LAN,
                (self.at(LAN, 11), id),
                WAN,
                (self.at(WAN, self.public()), id),
            ),
            _ => to_us(DMZ, 22),
        }
    }

    /// Last byte of the first virtual address on the WAN.
    pub fn public(self) -> u8 {
        if self.v6 { 0x10 } else { 10 }
    }
}

fn straight(client_leg: u8, client: (IpAddr, u16), server_leg: u8, server: (IpAddr, u16)) -> Way {
    Way {
        client_leg,
        client,
        public: server,
        server_leg,
        server,
        seen: client,
    }
}
