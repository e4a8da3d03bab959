//! Attacks that everybody knows, as their frames: each ends at its own counter, and the connection that was there
//! before goes on. The frames are built here; none is a capture of somebody's network.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread;

use differential::ours::{self, Ours};
use differential::site::{DMZ, LAN, LEGS, WAN, host, host6, neighbour_mac, own_mac, virtual_mac};
use differential::stories;
use forge::flags::{ACK, FIN, PSH, RST, SYN, URG};
use forge::{Extension, Icmp, Ipv4, Ipv6, Sum, Tcp, Udp};
use node::Drop;

/// Frames of one attack.
struct Attack {
    name: &'static str,
    leg: u8,
    frames: Vec<Vec<u8>>,
    /// Where they end.
    drop: Drop,
}

const ATTACKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
const USER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// One by one, each against a fresh appliance with one connection through it.
#[test]
fn each_attack_ends_at_its_counter_and_harms_nobody() {
    on_a_large_stack(|| {
        for attack in attacks() {
            let mut world = Ours::new(&stories::site());
            let mut user = Connection::open(&mut world, 50_000);
            let (flows, before) = (world.flows(), world.dropped(attack.drop));
            for (number, frame) in attack.frames.iter().enumerate() {
                let (sent, drops) = world.frames(attack.leg, std::slice::from_ref(frame));
                assert!(
                    sent.is_empty(),
                    "{}, frame {number}: {sent:02x?}",
                    attack.name
                );
                assert_eq!(drops, [attack.drop], "{}, frame {number}", attack.name);
            }
            let dropped = world.dropped(attack.drop) - before;
            assert_eq!(dropped, attack.frames.len() as u32, "{}", attack.name);
            assert_eq!(world.flows(), flows, "{} left a flow", attack.name);
            user.talk(&mut world, attack.name);
        }
    });
}

/// Floods from addresses that are not the sender's: state stays bounded, who is connected stays connected, and who
/// comes during the flood gets in.
#[test]
fn floods_push_nobody_out() {
    on_a_large_stack(|| {
        let mut world = Ours::new(&stories::site());
        let mut user = Connection::open(&mut world, 50_000);
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
    });
}

/// Teardrop and its kin: the first piece is a good packet, and nothing that contradicts it follows.
#[test]
fn pieces_that_overlap_do_not_pass() {
    on_a_large_stack(|| {
        let mut world = Ours::new(&stories::site());
        let mut user = Connection::open(&mut world, 50_000);
        let datagram = Udp {
            source: 4000,
            destination: 53,
            payload: vec![7; 600],
            ..Udp::default()
        };
        let v4 = Ipv4::new(USER, host(DMZ, 22)).fragments(&datagram, &[200, 400]);
        let v6 = Ipv6::new("2001:db8:ffff::7".parse().expect("good"), host6(DMZ, 22));
        let v6 = v6.fragments(&datagram, 77, &[200, 400]);
        for (mut pieces, place, unit) in [(v4, 6, 1), (v6, 42, 8)] {
            // The second begins before the first has ended.
            let field = u16::from_be_bytes([pieces[1][place], pieces[1][place + 1]]);
            pieces[1][place..place + 2].copy_from_slice(&(field - unit * 2).to_be_bytes());
            if place == 6 {
                pieces[1][10..12].fill(0);
                let sum = forge::checksum(&[&pieces[1][..20]]);
                pieces[1][10..12].copy_from_slice(&sum.to_be_bytes());
            }
            let (sent, drops) = world.exchange(WAN, &[&pieces[0]]);
            assert_eq!((sent.len(), drops), (1, vec![]));
            for piece in &pieces[1..] {
                let (sent, drops) = world.exchange(WAN, &[piece]);
                assert_eq!((sent, drops), (vec![], vec![Drop::FragmentOverlap]));
            }
        }
        user.talk(&mut world, "teardrop");
    });
}

/// A flood of SYNs to a service is answered with cookies, keeps no state, and who means it gets through to the server.
#[test]
fn a_flood_of_syns_turns_to_cookies() {
    on_a_large_stack(|| {
        let mut site = stories::site();
        site.config.protection.syn_cookies_above = 100;
        let mut world = Ours::new(&site);
        let mut user = Connection::open(&mut world, 50_000);
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
    });
}

fn attacks() -> Vec<Attack> {
    let mut list = vec![
        Attack {
            name: "land: the victim's own address and port as the source",
            leg: LAN,
            frames: vec![packet(
                LAN,
                &Ipv4::new(host(LAN, 11), host(LAN, 11)).around(&Tcp {
                    source: 80,
                    destination: 80,
                    ..Tcp::default()
                }),
            )],
            drop: Drop::Land,
        },
        Attack {
            name: "land against the virtual address",
            leg: WAN,
            frames: vec![packet(
                WAN,
                &Ipv4::new(host(WAN, 10), host(WAN, 10)).around(&Tcp::default()),
            )],
            drop: Drop::Land,
        },
        Attack {
            name: "smurf: pings to directed broadcast addresses",
            leg: WAN,
            frames: [host(LAN, 255), host(DMZ, 255), host(LAN, 0)]
                .iter()
                .map(|to| packet(WAN, &Ipv4::new(USER, *to).around(&Icmp::echo(8, 1, 1))))
                .collect(),
            drop: Drop::Martian,
        },
        Attack {
            name: "martian sources",
            leg: WAN,
            frames: [
                [127, 0, 0, 1],
                [0, 0, 0, 0],
                [224, 0, 0, 1],
                [255; 4],
                [169, 254, 1, 1],
                [240, 0, 0, 1],
            ]
            .iter()
            .map(|from| packet(WAN, &syn((*from).into(), 4000)))
            .collect(),
            drop: Drop::Martian,
        },
        Attack {
            name: "inside sources from outside",
            leg: WAN,
            frames: vec![
                packet(WAN, &syn(host(LAN, 11), 4000)),
                packet(WAN, &syn(host(DMZ, 21), 4000)),
            ],
            drop: Drop::ReversePath,
        },
        Attack {
            name: "outside sources from inside",
            leg: LAN,
            frames: vec![packet(LAN, &syn(USER, 4000))],
            drop: Drop::ReversePath,
        },
        Attack {
            name: "segments that claim to be on the connection from another leg",
            leg: DMZ,
            frames: vec![packet(
                DMZ,
                &Ipv4::new(USER, host(WAN, 10)).around(&Tcp {
                    source: 50_000,
                    flags: RST,
                    sequence: 1001,
                    ..Tcp::default()
                }),
            )],
            drop: Drop::ReversePath,
        },
        Attack {
            name: "scans: null, FIN, Xmas, SYN+FIN, SYN+RST, everything",
            leg: WAN,
            frames: [0, FIN, FIN | PSH | URG, SYN | FIN, SYN | RST, 0x3f]
                .iter()
                .map(|flags| {
                    packet(
                        WAN,
                        &Ipv4::new(ATTACKER, host(WAN, 10)).around(&Tcp {
                            flags: *flags,
                            ..Tcp::default()
                        }),
                    )
                })
                .collect(),
            drop: Drop::TcpFlags,
        },
        Attack {
            name: "ACK scan of a machine that is not a service",
            leg: WAN,
            frames: vec![packet(
                WAN,
                &Ipv4::new(ATTACKER, host(DMZ, 21)).around(&Tcp {
                    destination: 25,
                    flags: ACK,
                    ..Tcp::default()
                }),
            )],
            drop: Drop::NoFlow,
        },
        Attack {
            name: "port 0",
            leg: WAN,
            frames: vec![
                packet(WAN, &syn(ATTACKER, 0)),
                packet(
                    WAN,
                    &Ipv4::new(ATTACKER, host(DMZ, 22)).around(&Udp {
                        source: 0,
                        destination: 53,
                        ..Udp::default()
                    }),
                ),
            ],
            drop: Drop::Transport,
        },
        Attack {
            name: "headers cut short",
            leg: WAN,
            frames: [0, 1, 13, 19]
                .iter()
                .map(|length| {
                    let whole = Ipv4::new(ATTACKER, host(WAN, 10));
                    packet(WAN, &whole.raw(6, &vec![0x50; *length]))
                })
                .collect(),
            drop: Drop::Transport,
        },
        Attack {
            name: "wrong header checksums",
            leg: WAN,
            frames: (0..16)
                .map(|bit| {
                    let ip = Ipv4 {
                        checksum: Sum::Flipped(1 << bit),
                        ..Ipv4::new(USER, host(WAN, 10))
                    };
                    packet(WAN, &ip.around(&Tcp::default()))
                })
                .collect(),
            drop: Drop::Ipv4Checksum,
        },
        Attack {
            name: "lengths and versions that lie",
            leg: WAN,
            frames: [
                (Some(4), None, 4),
                (None, Some(19), 4),
                (None, Some(1400), 4),
                (Some(15), None, 4),
                (None, None, 5),
            ]
            .iter()
            .map(|(header_len, total_len, version)| {
                let ip = Ipv4 {
                    header_len: *header_len,
                    total_len: *total_len,
                    version: *version,
                    ..Ipv4::new(USER, host(WAN, 10))
                };
                packet(WAN, &ip.around(&Tcp::default()))
            })
            .collect(),
            drop: Drop::Ipv4Header,
        },
    ];
    list.extend(pieces());
    list.extend(routes());
    list.extend(spoofed_errors());
    list.extend(neighbours());
    list.extend(neighbours6());
    list
}

/// Packets that bring their own route along.
/// Pieces that no honest sender makes.
fn pieces() -> Vec<Attack> {
    let tiny = Ipv4::new(USER, host(WAN, 10)).fragments(&Tcp::default(), &[8]);
    let end_of_ping = Ipv4 {
        fragment: 65_528 / 8,
        ..Ipv4::new(USER, host(DMZ, 21))
    };
    vec![
        Attack {
            name: "tiny fragments: flags in the second piece (RFC 1858)",
            leg: WAN,
            frames: vec![packet(WAN, &tiny[0])],
            drop: Drop::FragmentTiny,
        },
        Attack {
            name: "the rest of a tiny fragment",
            leg: WAN,
            frames: vec![packet(WAN, &tiny[1])],
            drop: Drop::FragmentOrder,
        },
        Attack {
            name: "ping of death: the last piece ends beyond 65,535 bytes",
            leg: WAN,
            frames: vec![packet(WAN, &end_of_ping.raw(1, &[0; 600]))],
            drop: Drop::FragmentLength,
        },
    ]
}

/// Source routes of both versions.
fn routes() -> Vec<Attack> {
    let via = host(DMZ, 21).octets();
    let option = |kind: u8| {
        let ip = Ipv4 {
            options: [&[kind, 7, 4][..], &via].concat(),
            ..Ipv4::new(ATTACKER, host(WAN, 10))
        };
        packet(WAN, &ip.around(&Tcp::default()))
    };
    let header = |kind: u8| {
        let source = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 66);
        let mut ip = Ipv6::new(source, host6(WAN, 0x10));
        let address = host6(DMZ, 21).octets();
        let data = [&[0; 4][..], &address].concat();
        ip.extensions.push(Extension::Routing(kind, 1, data));
        packet(WAN, &ip.around(&Tcp::default()))
    };
    vec![
        Attack {
            name: "loose and strict source routes",
            leg: WAN,
            frames: vec![option(0x83), option(0x89)],
            drop: Drop::SourceRoute,
        },
        Attack {
            name: "other options: record route, timestamp",
            leg: WAN,
            frames: vec![option(7), option(0x44)],
            drop: Drop::Ipv4Options,
        },
        Attack {
            name: "IPv6 routing headers with a segment left",
            leg: WAN,
            frames: vec![header(0), header(2), header(4)],
            drop: Drop::RoutingHeader,
        },
    ]
}

/// Blind ICMP attacks on connections (RFC 5927): the attacker guesses addresses and ports, but not our table.
fn spoofed_errors() -> Vec<Attack> {
    let about = |kind, code, server: (Ipv4Addr, u16)| {
        let quoted = Ipv4::new(server.0, USER).around(&Tcp {
            source: server.1,
            destination: 50_000,
            flags: ACK,
            ..Tcp::default()
        });
        let error = Icmp::about(kind, code, &quoted, 28);
        packet(WAN, &Ipv4::new(ATTACKER, server.0).around(&error))
    };
    let (service, mail) = ((host(WAN, 10), 80), (host(DMZ, 21), 25));
    let broken = Icmp {
        checksum: Sum::Flipped(1),
        ..Icmp::about(3, 1, &syn(USER, 50_000), 28)
    };
    vec![
        Attack {
            name: "source quench and redirects about the connection",
            leg: WAN,
            frames: vec![about(4, 0, service)],
            drop: Drop::IcmpType,
        },
        Attack {
            name: "errors about connections that there are not",
            leg: WAN,
            frames: vec![about(3, 1, mail), about(3, 4, mail), about(11, 0, mail)],
            drop: Drop::IcmpUnrelated,
        },
        Attack {
            name: "an error with a wrong checksum",
            leg: WAN,
            frames: vec![packet(
                WAN,
                &Ipv4::new(ATTACKER, host(WAN, 10)).around(&broken),
            )],
            drop: Drop::Transport,
        },
        Attack {
            name: "answers to nobody's ping",
            leg: WAN,
            frames: vec![packet(
                WAN,
                &Ipv4::new(ATTACKER, host(DMZ, 21)).around(&Icmp::echo(0, 7, 7)),
            )],
            drop: Drop::IcmpUnrelated,
        },
    ]
}

/// Lies about who has which MAC address.
fn neighbours() -> Vec<Attack> {
    let evil = [2, 0xbd, 0, 0, 0, 1];
    let claim = |operation: u8, sender: [u8; 6], address: Ipv4Addr, target: Ipv4Addr| {
        let body = [
            &[0, 1, 8, 0, 6, 4, 0, operation][..],
            &sender,
            &address.octets(),
            &[0; 6],
            &target.octets(),
        ];
        forge::ethernet([0xff; 6], evil, 0x0806, &body.concat())
    };
    let gateway = LEGS[usize::from(LAN)].virtuals[0];
    vec![
        Attack {
            name: "ARP for the virtual address",
            leg: LAN,
            frames: vec![
                claim(1, evil, gateway, gateway),
                claim(2, evil, gateway, host(LAN, 11)),
                claim(2, evil, LEGS[usize::from(LAN)].own.0, host(LAN, 11)),
            ],
            drop: Drop::AddressConflict,
        },
        Attack {
            name: "ARP from elsewhere, or with a group's MAC address",
            leg: LAN,
            frames: vec![
                claim(2, evil, USER, gateway),
                claim(2, [1, 0, 0x5e, 0, 0, 1], host(LAN, 11), gateway),
                claim(2, [0xff; 6], host(LAN, 11), gateway),
            ],
            drop: Drop::Arp,
        },
        Attack {
            name: "frames from a group's MAC address",
            leg: LAN,
            frames: vec![forge::ethernet(
                virtual_mac(LAN, false),
                [3, 0, 0, 0, 0, 1],
                0x0800,
                &syn(host(LAN, 11), 1),
            )],
            drop: Drop::Ethernet,
        },
        Attack {
            name: "transit through the appliance's own MAC address",
            leg: LAN,
            frames: vec![forge::ethernet(
                own_mac(LAN),
                neighbour_mac(LAN, 11),
                0x0800,
                &Ipv4::new(host(LAN, 11), USER).around(&Udp {
                    source: 1,
                    destination: 1,
                    ..Udp::default()
                }),
            )],
            drop: Drop::NotActive,
        },
    ]
}

/// The same for IPv6, and routers that nobody asked for.
fn neighbours6() -> Vec<Attack> {
    let evil = [2, 0xbd, 0, 0, 0, 1];
    let gateway = LEGS[usize::from(LAN)].virtuals6[0];
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let multicast = [0x33, 0x33, 0, 0, 0, 1];
    let message = |from: Ipv6Addr, hop_limit: u8, kind: u8, rest: [u8; 4], payload: Vec<u8>| {
        let ip = Ipv6 {
            hop_limit,
            ..Ipv6::new(from, everybody)
        };
        let icmp = Icmp {
            kind,
            rest,
            payload,
            ..Icmp::default()
        };
        forge::ethernet(multicast, evil, 0x86dd, &ip.around(&icmp))
    };
    let claim = [&gateway.octets()[..], &[2, 1], &evil].concat();
    let advert = |hop_limit| {
        let times = vec![0, 0, 0, 0, 0, 0, 0, 0];
        message(link_local, hop_limit, 134, [64, 0, 7, 8], times)
    };
    let elsewhere = [&host6(LAN, 11).octets()[..], &host6(LAN, 12).octets()].concat();
    vec![
        Attack {
            name: "a router advertisement from inside",
            leg: LAN,
            frames: vec![advert(255), advert(64)],
            drop: Drop::RouterAdvert,
        },
        Attack {
            name: "a redirect",
            leg: LAN,
            frames: vec![message(link_local, 255, 137, [0; 4], elsewhere)],
            drop: Drop::Redirect,
        },
        Attack {
            name: "a neighbour advertisement for the virtual address",
            leg: LAN,
            frames: vec![message(
                host6(LAN, 11),
                255,
                136,
                [0x20, 0, 0, 0],
                claim.clone(),
            )],
            drop: Drop::AddressConflict,
        },
        Attack {
            name: "neighbour discovery from beyond the link",
            leg: LAN,
            frames: vec![message(host6(LAN, 11), 254, 136, [0x20, 0, 0, 0], claim)],
            drop: Drop::Nd,
        },
    ]
}

/// A user's connection to the web service.
struct Connection {
    port: u16,
    next: [u32; 2],
}

impl Connection {
    fn open(world: &mut Ours, port: u16) -> Self {
        let mut user = Self {
            port,
            next: [1000, 9000],
        };
        user.say(world, "the handshake", 0, SYN, b"");
        user.say(world, "the handshake", 1, SYN | ACK, b"");
        user.say(world, "the handshake", 0, ACK, b"");
        user
    }

    fn talk(&mut self, world: &mut Ours, after: &str) {
        self.say(world, after, 0, ACK | PSH, b"GET / HTTP/1.1\r\n\r\n");
        self.say(world, after, 1, ACK | PSH, b"HTTP/1.1 200 OK\r\n\r\n");
        self.say(world, after, 0, ACK, b"");
    }

    /// One segment, which must come out on the other side.
    fn say(&mut self, world: &mut Ours, after: &str, side: usize, flags: u8, data: &[u8]) {
        let (service, server) = (host(WAN, 10), host(LAN, 11));
        let (leg, ip, source, destination) = match side {
            0 => (WAN, Ipv4::new(USER, service), self.port, 80),
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
        assert_eq!(sent.leg, if side == 0 { LAN } else { WAN }, "after {after}");
        assert!(sent.packet.ends_with(data), "after {after}");
        let length = data.len() as u32 + u32::from(flags & SYN != 0);
        self.next[side] = self.next[side].wrapping_add(length);
    }
}

/// An attempt to connect to the web service.
fn syn(source: Ipv4Addr, port: u16) -> Vec<u8> {
    Ipv4::new(source, host(WAN, 10)).around(&Tcp {
        source: port,
        ..Tcp::default()
    })
}

/// A packet as the leg's router sends it on, or a neighbour.
fn packet(leg: u8, packet: &[u8]) -> Vec<u8> {
    let from = neighbour_mac(leg, LEGS[usize::from(leg)].neighbours[0]);
    forge::ethernet(
        virtual_mac(leg, forge::ethertype(packet) == 0x86dd),
        from,
        forge::ethertype(packet),
        packet,
    )
}

/// Nodes are built on the stack before they move to the heap.
fn on_a_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(64 << 20).spawn(test);
    if let Err(panic) = thread.expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}
