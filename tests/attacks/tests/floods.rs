//! Floods longer than a capture: state stays bounded, and nobody who was there or comes meanwhile is pushed out.

use std::net::Ipv4Addr;

use attacks::{Connection, USER, USER_PORT, syn};
use differential::ours::{self, Ours};
use differential::site::{DMZ, LAN, WAN, host};
use differential::stories;
use forge::flags::{ACK, PSH, SYN};
use forge::{Ipv4, Tcp, Udp};

/// Floods from addresses that are not the sender's: state stays bounded, who is connected stays connected, and who
/// comes during the flood gets in.
#[test]
fn floods_push_nobody_out() {
    let mut world = Ours::new(&stories::site());
    let mut user = Connection::open(&mut world, USER_PORT);
    for number in 0..40_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let from = Ipv4Addr::new(198, 18 + a, b, c);
        let (leg, attack) = match number % 2 {
            0 => (WAN, syn(from, 1024 + (number % 60_000) as u16)),
            _ => (
                WAN,
                Ipv4::new(from, host(DMZ, 22)).around(&Udp {
                    source: 1024 + (number % 60_000) as u16,
                    destination: 53,
                    ..Udp::default()
                }),
            ),
        };
        let (sent, _) = world.exchange(leg, &[&attack]);
        assert!(sent.len() <= 1, "one packet for one");
        assert!(world.flows() <= ours::FLOWS);
    }
    user.talk(&mut world, "the flood");
    let mut other = Connection::open(&mut world, 50_001);
    other.talk(&mut world, "the flood");
}

/// A flood of SYNs to a service is answered with cookies, keeps no state, and who means it gets through to the server.
#[test]
fn a_flood_of_syns_turns_to_cookies() {
    let mut site = stories::site();
    site.config.protection.syn_cookies_above = 100;
    let mut world = Ours::new(&site);
    let mut user = Connection::open(&mut world, USER_PORT);
    for number in 0..2_000_u16 {
        let [a, b] = number.to_be_bytes();
        let attack = syn(Ipv4Addr::new(198, 18, a, b), 1024 + number);
        let (sent, _) = world.exchange(WAN, &[&attack]);
        assert!(sent.len() <= 1, "one packet for one");
    }
    assert!(world.flows() < 200, "{} flows", world.flows());
    user.talk(&mut world, "the flood");

    let segment = |side, flags, numbers: (u32, u32), data: &[u8]| {
        let (ip, ports) = match side {
            WAN => (Ipv4::new(USER, host(WAN, 10)), (50_001, 80)),
            _ => (Ipv4::new(host(LAN, 11), USER), (8080, 50_001)),
        };
        ip.around(&Tcp {
            source: ports.0,
            destination: ports.1,
            sequence: numbers.0,
            acknowledgment: numbers.1,
            flags,
            payload: data.to_vec(),
            ..Tcp::default()
        })
    };
    let one = |world: &mut Ours, leg, packet: &[u8], to| {
        let (sent, drops) = world.exchange(leg, &[packet]);
        let [one] = &sent[..] else {
            panic!("{sent:02x?} {drops:?}");
        };
        assert_eq!(one.leg, to, "{}", forge::read(&one.packet));
        one.packet.clone()
    };
    let number = |packet: &[u8], at: usize| {
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    };
    let cookie = one(&mut world, WAN, &segment(WAN, SYN, (1000, 0), b""), WAN);
    assert_eq!((cookie[33], number(&cookie, 28)), (SYN | ACK, 1001));
    let next = number(&cookie, 24).wrapping_add(1);
    let ack = segment(WAN, ACK, (1001, next), b"");
    let asked = one(&mut world, WAN, &ack, LAN);
    assert_eq!(asked[33] & (SYN | ACK), SYN, "the server is asked only now");
    let answer = (9000, number(&asked, 24).wrapping_add(1));
    let _ = world.exchange(LAN, &[&segment(LAN, SYN | ACK, answer, b"")]);
    let request = segment(WAN, ACK | PSH, (1001, next), b"GET / HTTP/1.1\r\n\r\n");
    let came = one(&mut world, WAN, &request, LAN);
    assert_eq!(number(&came, 28), 9001, "in the server's numbers");
    assert!(came.ends_with(b"GET / HTTP/1.1\r\n\r\n"));
    let acknowledged = number(&came, 24).wrapping_add(18);
    let page = segment(
        LAN,
        ACK | PSH,
        (9001, acknowledged),
        b"HTTP/1.1 200 OK\r\n\r\n",
    );
    let back = one(&mut world, LAN, &page, WAN);
    assert_eq!(number(&back, 24), next, "in the numbers of the cookie");
    assert!(back.ends_with(b"HTTP/1.1 200 OK\r\n\r\n"));
}
