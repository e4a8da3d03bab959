//! The checker against servers with smoltcp's TCP, over a link that loses, doubles and swaps packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cable::{Cable, at};
use health::{Action, Checker, Header, Input, MAX_PAYLOAD, Packet, Reason, Segment, WINDOW};
use policy::{Check, CheckKind, Config, Server, Service, Text};
use proptest::prelude::*;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::tcp;
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet,
    Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};
use time::{Duration, Instant};

const OURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
];
const THEIRS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
];
const PORT: u16 = 8080;

#[test]
fn servers_are_judged_by_what_they_say() {
    let greeting = b"\x1f\0\0\0\x0a5.5.5-10.11\0\x01\0\0\0abcdefgh\0\xff\xf7\x21\x02\0";
    let table: [(&str, CheckKind, Manners, Result<(), Reason>); 10] = [
        (
            "ok",
            http(),
            says("GET", b"HTTP/1.1 200 OK\r\n\r\nhello"),
            Ok(()),
        ),
        (
            "busy",
            http(),
            says("GET", b"HTTP/1.0 503 Busy\r\n\r\n"),
            Err(Reason::Status(503)),
        ),
        ("hangs", http(), says("never", b""), Err(Reason::Stalled)),
        ("hangs up", http(), says("GET", b""), Err(Reason::Closed)),
        ("a long page", http(), says("GET", &page(20_000)), Ok(())),
        (
            "an endless page",
            http(),
            says("GET", &page(200_000)),
            Ok(()),
        ),
        ("database", CheckKind::Mysql, says("", greeting), Ok(())),
        (
            "full database",
            CheckKind::Mysql,
            says("", b"\x17\0\0\x01\xff\x10\x04Too many connections"),
            Err(Reason::Mysql(1040)),
        ),
        (
            "half a greeting",
            CheckKind::Mysql,
            says("", &greeting[..20]),
            Err(Reason::Closed),
        ),
        ("nobody", http(), Manners::Refuses, Err(Reason::Refused)),
    ];
    for (name, kind, manners, expected) in table {
        for family in [0, 1] {
            let mut world = World::new(family, &kind, manners.clone(), Weather::FINE, 1);
            world.run(Duration::from_secs(5));
            let failure = expected.err();
            assert_eq!(world.news, [failure], "{name}, {}", THEIRS[family]);
            // Only who never ends is cut off.
            let endless = ["hangs", "an endless page"].contains(&name);
            assert_eq!(world.resets_heard > 0, endless, "{name}");
            let asked = world.checks;
            assert!((4..=6).contains(&asked), "{name}: {asked} checks in 5 s");
        }
    }
}

proptest! {
    /// A server that is well is never called anything worse than slow, whatever the link does; and no connection is left
    /// over that would keep the next check from beginning.
    #[test]
    fn bad_links_only_cost_time(
        seed: u64,
        family in 0..2_usize,
        lost in 0..25_u32,
        doubled in 0..25_u32,
        swapped in 0..40_u32,
        long: bool,
    ) {
        let page = if long { page(3000) } else { b"HTTP/1.1 200 OK\r\n\r\n".to_vec() };
        let weather = Weather { lost, doubled, swapped };
        let mut world = World::new(family, &http(), says("GET", &page), weather, seed);
        world.run(Duration::from_secs(20));
        let slow = [None, Some(Reason::Timeout), Some(Reason::Stalled)];
        prop_assert!(world.news.iter().all(|failure| slow.contains(failure)), "{:?}", world.news);
        prop_assert!(world.news.contains(&None), "{:?}", world.news);
        prop_assert!(world.checks >= 15, "{}", world.checks);
        if lost == 0 {
            prop_assert_eq!(&world.news, &[None]);
        }
    }
}

/// What a server does with a connection.
#[derive(Clone)]
enum Manners {
    Refuses,
    /// Once it has read `after`, says `answer` and closes.
    Says {
        after: &'static str,
        answer: Vec<u8>,
    },
}

fn says(after: &'static str, answer: &[u8]) -> Manners {
    Manners::Says {
        after,
        answer: answer.to_vec(),
    }
}

fn page(len: usize) -> Vec<u8> {
    let mut page = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    page.resize(len, b'x');
    page
}

/// What a link does to packets, in percent.
#[derive(Clone, Copy, Debug)]
struct Weather {
    lost: u32,
    doubled: u32,
    swapped: u32,
}

impl Weather {
    const FINE: Self = Self {
        lost: 0,
        doubled: 0,
        swapped: 0,
    };
}

/// A checker, a server, and the link between them.
struct World {
    now: Instant,
    family: usize,
    checker: Checker,
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
    said: Vec<usize>,
    manners: Manners,
    cable: Cable,
    weather: Weather,
    random: u64,
    /// Packets on their way, with the time when they arrive: to the server, or from it.
    under_way: Vec<(Instant, bool, Vec<u8>)>,
    news: Vec<Option<Reason>>,
    checks: usize,
    resets_heard: usize,
}

impl World {
    fn new(family: usize, kind: &CheckKind, manners: Manners, weather: Weather, seed: u64) -> Self {
        let server = Server {
            address: THEIRS[family],
            port: PORT,
            ..Server::default()
        };
        let service = Service {
            servers: [server].into_iter().collect(),
            check: Check {
                kind: kind.clone(),
                port: PORT,
                interval_ms: 1000,
                timeout_ms: 900,
                rise: 1,
                fall: 1,
                jitter: 5,
            },
            ..Service::default()
        };
        let config = Config {
            services: [service].into_iter().collect(),
            ..Config::default()
        };
        let mut cable = Cable::ip();
        let mut settings = smoltcp::iface::Config::new(HardwareAddress::Ip);
        settings.random_seed = seed;
        let mut interface = Interface::new(settings, &mut cable, at(Instant::ZERO));
        interface.update_ip_addrs(|list| {
            let prefix = if family == 0 { 24 } else { 64 };
            list.push(IpCidr::new(THEIRS[family].into(), prefix))
                .expect("the only one");
        });
        Self {
            now: Instant::ZERO,
            family,
            checker: Checker::new(&config, seed, Instant::ZERO),
            interface,
            sockets: SocketSet::new(Vec::new()),
            said: Vec::new(),
            handles: Vec::new(),
            manners,
            cable,
            weather,
            random: seed | 1,
            under_way: Vec::new(),
            news: Vec::new(),
            checks: 0,
            resets_heard: 0,
        }
    }

    /// A millisecond at a time.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            while self.checker.deadline().is_some_and(|at| at <= self.now) {
                self.step(Input::Timer);
            }
            let now = self.now;
            let (arrived, rest) = self.under_way.drain(..).partition(|(at, ..)| *at <= now);
            self.under_way = rest;
            let arrived: Vec<(Instant, bool, Vec<u8>)> = arrived;
            for (_, to_server, packet) in arrived {
                if to_server {
                    self.cable.incoming.push_back(packet);
                } else {
                    self.hear(&packet);
                }
            }
            self.interface
                .poll(at(now), &mut self.cable, &mut self.sockets);
            self.serve();
            self.interface
                .poll(at(now), &mut self.cable, &mut self.sockets);
            for packet in std::mem::take(&mut self.cable.outgoing) {
                self.carry(false, packet);
            }
            self.now = now + Duration::from_millis(1);
        }
    }

    fn step(&mut self, input: Input<'_>) {
        for action in self.checker.step(self.now, input) {
            match action {
                Action::Send(packet) => {
                    let mut payload = [0; MAX_PAYLOAD];
                    let len = self.checker.payload(packet.payload, &mut payload);
                    let (bytes, control) = write(OURS[self.family], &packet, &payload[..len]);
                    match control {
                        TcpControl::Syn => self.checks += 1,
                        TcpControl::Rst => self.resets_heard += 1,
                        TcpControl::None | TcpControl::Psh | TcpControl::Fin => {}
                    }
                    self.carry(true, bytes);
                }
                Action::Changed { failure, .. } => self.news.push(failure),
                Action::Agent { .. } => panic!("there is no agent"),
            }
        }
    }

    fn carry(&mut self, to_server: bool, packet: Vec<u8>) {
        if self.chance(self.weather.lost) {
            return;
        }
        let copies = 1 + usize::from(self.chance(self.weather.doubled));
        for _ in 0..copies {
            let late = if self.chance(self.weather.swapped) {
                7
            } else {
                1
            };
            let arrives = self.now + Duration::from_millis(late);
            self.under_way.push((arrives, to_server, packet.clone()));
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) % 100 < percent.into()
    }

    /// A packet from the server.
    fn hear(&mut self, bytes: &[u8]) {
        let transport = match self.family {
            0 => Ipv4Packet::new_checked(bytes).expect("IPv4").payload(),
            _ => Ipv6Packet::new_checked(bytes).expect("IPv6").payload(),
        };
        let tcp = TcpPacket::new_checked(transport).expect("TCP");
        self.step(Input::Segment(Segment {
            source: THEIRS[self.family],
            source_port: tcp.src_port(),
            destination_port: tcp.dst_port(),
            flags: transport[13],
            sequence: tcp.seq_number().0 as u32,
            acknowledgment: tcp.ack_number().0 as u32,
            data: tcp.payload(),
        }));
    }

    fn serve(&mut self) {
        let Manners::Says { after, answer } = &self.manners else {
            return;
        };
        // One listens, and it is the last: smoltcp asks sockets in their order, and an earlier listener would take a
        // doubled SYN for a second connection.
        let listens = self.handles.last().is_some_and(|last| {
            self.sockets.get::<tcp::Socket<'_>>(*last).state() == tcp::State::Listen
        });
        if !listens {
            self.handles.push(self.sockets.add(listener()));
            self.said.push(0);
        }
        for (handle, said) in self.handles.iter().zip(&mut self.said) {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            let read = |bytes: &[u8]| {
                bytes
                    .windows(after.len().max(1))
                    .any(|w| w == after.as_bytes())
            };
            let asked = after.is_empty() || *said > 0 || socket.peek(1024).is_ok_and(read);
            if !socket.may_send() || !asked {
                if !socket.may_recv() && socket.may_send() {
                    socket.close();
                }
                continue;
            }
            while socket
                .recv(|bytes| (bytes.len(), bytes.len()))
                .is_ok_and(|n| n > 0)
            {}
            *said += socket.send_slice(&answer[*said..]).expect("open");
            if *said == answer.len() {
                socket.close();
            }
        }
    }
}

fn write(source: IpAddr, packet: &Packet, payload: &[u8]) -> (Vec<u8>, TcpControl) {
    let Header::Tcp {
        source: src_port,
        destination,
        sequence,
        acknowledgment,
        flags,
    } = packet.header
    else {
        panic!("no TCP: {packet:?}");
    };
    let control = match flags & 0x0f {
        0x01 => TcpControl::Fin,
        0x02 => TcpControl::Syn,
        0x04 => TcpControl::Rst,
        0x08 => TcpControl::Psh,
        0x00 => TcpControl::None,
        _ => panic!("odd flags {flags:#x}"),
    };
    let tcp = TcpRepr {
        src_port,
        dst_port: destination,
        control,
        seq_number: TcpSeqNumber(sequence as i32),
        ack_number: (flags & 0x10 != 0).then_some(TcpSeqNumber(acknowledgment as i32)),
        window_len: WINDOW,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let ip: IpRepr = match (source, packet.server) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => Ipv4Repr {
            src_addr,
            dst_addr,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        }
        .into(),
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => Ipv6Repr {
            src_addr,
            dst_addr,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        }
        .into(),
        _ => panic!("two families"),
    };
    let checksums = ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.buffer_len()];
    let (head, body) = bytes.split_at_mut(ip.header_len());
    ip.emit(head, &checksums);
    let (from, to): (IpAddress, IpAddress) = (source.into(), packet.server.into());
    tcp.emit(&mut TcpPacket::new_unchecked(body), &from, &to, &checksums);
    (bytes, control)
}

fn http() -> CheckKind {
    CheckKind::Http {
        host: Text::try_from("www.example.org").expect("short"),
        path: Text::try_from("/").expect("short"),
        lowest: 200,
        highest: 399,
    }
}

fn listener() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.listen(PORT).expect("a port");
    socket
}
