//! Who must not notice any of it.

use differential::ours::Ours;
use differential::site::{LAN, WAN, host};
use forge::flags::{ACK, PSH, SYN};
use forge::{Ipv4, Tcp};

use crate::USER;

/// A user's connection to the web service.
#[derive(Debug)]
pub struct Connection {
    port: u16,
    /// Next sequence numbers of the user and of the server.
    next: [u32; 2],
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Connection {
    /// Connects from this port.
    ///
    /// # Panics
    /// If a segment does not get through.
    #[must_use]
    pub fn open(world: &mut Ours, port: u16) -> Self {
        let mut user = Self {
            port,
            next: [1000, 9000],
        };
        user.say(world, "the handshake", CLIENT, SYN, b"");
        user.say(world, "the handshake", SERVER, SYN | ACK, b"");
        user.say(world, "the handshake", CLIENT, ACK, b"");
        user
    }

    /// A request and its answer.
    ///
    /// # Panics
    /// If a segment does not get through.
    pub fn talk(&mut self, world: &mut Ours, after: &str) {
        self.say(world, after, CLIENT, ACK | PSH, b"GET / HTTP/1.1\r\n\r\n");
        self.say(world, after, SERVER, ACK | PSH, b"HTTP/1.1 200 OK\r\n\r\n");
        self.say(world, after, CLIENT, ACK, b"");
    }

    /// One segment, which must come out on the other side.
    fn say(&mut self, world: &mut Ours, after: &str, side: usize, flags: u8, data: &[u8]) {
        let (service, server) = (host(WAN, 10), host(LAN, 11));
        let (leg, ip, source, destination) = match side {
            CLIENT => (WAN, Ipv4::new(USER, service), self.port, 80),
            _ => (LAN, Ipv4::new(server, USER), 8080, self.port),
        };
        let segment = ip.around(&Tcp {
            source,
            destination,
            sequence: self.next[side],
            acknowledgment: if flags & ACK == 0 {
                0
            } else {
                self.next[1 - side]
            },
            flags,
            payload: data.to_vec(),
            ..Tcp::default()
        });
        let (sent, drops) = world.exchange(leg, &[&segment]);
        assert_eq!(drops, [], "after {after}: {}", forge::read(&segment));
        let [sent] = &sent[..] else {
            panic!("after {after}: {} frames", sent.len());
        };
        assert_eq!(
            sent.leg,
            if side == CLIENT { LAN } else { WAN },
            "after {after}"
        );
        assert!(sent.packet.ends_with(data), "after {after}");
        let length = data.len() as u32 + u32::from(flags & SYN != 0);
        self.next[side] = self.next[side].wrapping_add(length);
    }
}
