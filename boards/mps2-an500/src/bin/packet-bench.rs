//! Instructions per packet on the board's own instruction set, for `ravelin bench packet`.
//!
//! Runs under `-icount shift=0`, where every instruction takes one nanosecond of guest time. The node runs the
//! configuration that the host placed (a trunk board's of any site); frames come from memory, so that driver and
//! MAC are not in the numbers. Each line of the log is `packet PATH INSTRUCTIONS`, the last one is `packet done`.
//! Paths that the configuration has no service for are left out.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;
use core::net::IpAddr;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use defmt::{info, unwrap};
use hal::Board as _;
use mps2_an500::Mps2;
use node::{Drop, Node, State, Transmit};
use policy::{Config, Transport};
use time::{Duration, Instant};
use wire::ethernet::{self, Mac, Received};
use wire::frame::HEADROOM;
use wire::tcp::{self, Flags, Segment};
use wire::{Frame, checksum, ipv4, ipv6, nd};
use zerocopy::IntoBytes;

const FLOWS: usize = 4096;
/// Packets of one measurement.
const PACKETS: u32 = 1000;
/// SysTick counts at 25 MHz, so one tick is 40 ns and 40 instructions.
const INSTRUCTIONS_PER_TICK: u32 = 40;

const CLIENT: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(198, 51, 100, 7));
const CLIENT6: IpAddr = IpAddr::V6(core::net::Ipv6Addr::new(
    0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7,
));
const CLIENT_PORT: u16 = 40_000;
/// The MAC address of everybody but the appliance.
const STATION: Mac = [2, 0, 0, 0, 0, 9];
const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);

static mut NODE: MaybeUninit<Node<'static, FLOWS>> = MaybeUninit::uninit();

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut board = Mps2::take();
    let mut systick = unwrap!(cortex_m::Peripherals::take()).SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();

    let mut policy = unwrap!(
        classifier::load(board.config()).ok(),
        "no configuration was placed"
    );
    // One measurement's SYNs open flows, those of the next are answered with cookies.
    policy.config.protection.syn_cookies_above = PACKETS as u16;
    let config = policy.config.clone();
    // SAFETY: `main` runs once, and this is the only mention of NODE.
    let node = unsafe { (*&raw mut NODE).write(Node::new(Some(policy), 1, Instant::ZERO)) };
    let now = elect(node, &mut board);
    let mut bench = Bench {
        board,
        systick,
        node,
        now,
    };

    let tcp4 = unwrap!(World::new(&config, Transport::Tcp, false), "no service");
    bench.connect(&tcp4);
    let request = tcp4.from_client(CLIENT_PORT, Flags::ACK.with(Flags::PSH));
    bench.report("established-dnat", &mut |_| request, true);
    let reply = tcp4.from_server(Flags::ACK);
    bench.report("established-undnat", &mut |_| reply, true);
    if let Some(udp) = World::new(&config, Transport::Udp, false) {
        bench.send(udp.from_client(CLIENT_PORT, Flags(0)));
        bench.send(udp.from_server(Flags(0)));
        let question = udp.from_client(CLIENT_PORT, Flags(0));
        bench.report("established-udp-dnat", &mut |_| question, true);
        let answer = udp.from_server(Flags(0));
        bench.report("established-udp-undnat", &mut |_| answer, true);
    }
    if let Some(tcp6) = World::new(&config, Transport::Tcp, true) {
        bench.connect(&tcp6);
        let request = tcp6.from_client(CLIENT_PORT, Flags::ACK.with(Flags::PSH));
        bench.report("established-dnat-ipv6", &mut |_| request, true);
        let reply = tcp6.from_server(Flags::ACK);
        bench.report("established-undnat-ipv6", &mut |_| reply, true);
    }
    // Of a connection that does not exist, to a server.
    let stray = World {
        port: tcp4.server_port,
        address: tcp4.server,
        ..tcp4
    };
    let stray = stray.from_client(CLIENT_PORT, Flags::ACK);
    bench.report("drop-no-flow", &mut |_| stray, false);
    let refused = World { port: 22, ..tcp4 };
    let refused = refused.from_client(CLIENT_PORT, Flags::SYN);
    bench.report("drop-no-rule", &mut |_| refused, false);
    let known = bench.node.flows();
    let opening = |first: u16| move |turn: u32| tcp4.from_client(first + turn as u16, Flags::SYN);
    bench.report("new-flow-dnat", &mut opening(1024), true);
    defmt::assert_eq!(bench.node.flows(), known + PACKETS as usize, "flows");
    bench.report("syn-cookie", &mut opening(8192), true);
    let cookies = bench.node.counters().dropped(Drop::SynCookie);
    defmt::assert_eq!(cookies, PACKETS, "cookies");
    info!("packet done");
    loop {
        bench.board.feed_watchdog();
        cortex_m::asm::nop();
    }
}

/// The node under measurement.
struct Bench {
    board: Mps2,
    systick: SYST,
    node: &'static mut Node<'static, FLOWS>,
    now: Instant,
}

impl Bench {
    /// Opens a connection through the node.
    fn connect(&mut self, world: &World) {
        self.send(world.from_client(CLIENT_PORT, Flags::SYN));
        self.send(world.from_server(SYN_ACK));
        self.send(world.from_client(CLIENT_PORT, Flags::ACK));
    }

    /// Sends a packet through and answers what neighbours are asked for it.
    fn send(&mut self, packet: Packet) {
        let mut sent = Mailbox::default();
        let mut packet = packet;
        self.node.ingress(self.now, 0, packet.frame(), &mut sent);
        answer_all(self.node, self.now, &mut sent);
    }

    /// Measures one path, and makes sure that it is the one.
    fn report(&mut self, path: &str, make: &mut dyn FnMut(u32) -> Packet, leaves: bool) {
        let mut sink = Sink::default();
        let ticks = self.measure(|bench, turn| {
            let mut packet = make(turn);
            bench.node.ingress(bench.now, 0, packet.frame(), &mut sink);
            core::hint::black_box(packet);
        });
        let copying = self.measure(|_, turn| {
            let mut packet = make(turn);
            core::hint::black_box(packet.frame());
            core::hint::black_box(packet);
        });
        let expected = if leaves { PACKETS } else { 0 };
        defmt::assert_eq!(
            sink.frames,
            expected,
            "{=str}: not the path that it is called",
            path
        );
        let cost = (ticks - copying) * INSTRUCTIONS_PER_TICK / PACKETS;
        info!("packet {=str} {=u32}", path, cost);
    }

    /// `SysTick` ticks of `PACKETS` turns.
    fn measure(&mut self, mut turn: impl FnMut(&mut Self, u32)) -> u32 {
        self.board.feed_watchdog();
        self.systick.clear_current();
        let begin = SYST::get_current();
        for number in 0..PACKETS {
            turn(self, core::hint::black_box(number));
        }
        begin.wrapping_sub(SYST::get_current()) & 0x00ff_ffff
    }
}

/// Turns the node until it is Active and its services have healthy servers.
fn elect(node: &mut Node<'_, FLOWS>, board: &mut Mps2) -> Instant {
    let mut now = Instant::ZERO;
    let mut settled = 0;
    while settled < 3000 {
        board.feed_watchdog();
        now = now + Duration::from_millis(1);
        let mut sent = Mailbox::default();
        node.poll(now, &mut sent);
        answer_all(node, now, &mut sent);
        while node.next_event().is_some() {}
        settled += u32::from(node.state() == Some(State::Active));
    }
    now
}

fn answer_all(node: &mut Node<'_, FLOWS>, now: Instant, sent: &mut Mailbox) {
    while let Some(frame) = sent.0.pop_front() {
        if let Some(mut answer) = answer(&frame) {
            node.ingress(now, 0, answer.frame(), sent);
        }
    }
}

/// The world around the node: a client behind the uplink router, and the first server of a service.
#[derive(Clone, Copy)]
struct World {
    client: IpAddr,
    address: IpAddr,
    port: u16,
    server: IpAddr,
    server_port: u16,
    udp: bool,
    wan: Leg,
    edge: Leg,
}

/// How frames reach the node on one leg.
#[derive(Clone, Copy)]
struct Leg {
    vlan: Option<u16>,
    virtual_mac: Mac,
}

/// A frame in a buffer of its own, as a driver would have received it.
#[derive(Clone, Copy)]
#[repr(align(4))]
struct Packet {
    bytes: [u8; 128],
    len: usize,
}

impl Packet {
    fn frame(&mut self) -> Frame<'_> {
        unwrap!(Frame::new(&mut self.bytes, HEADROOM, self.len))
    }
}

/// Counts what the node sends.
#[derive(Default)]
struct Sink {
    frames: u32,
}

impl Transmit for Sink {
    fn transmit(&mut self, _port: u8, frame: &[u8]) {
        self.frames += 1;
        core::hint::black_box(frame);
    }
}

/// Frames of the node that somebody has to answer.
#[derive(Default)]
struct Mailbox(heapless::Deque<heapless::Vec<u8, 96>, 64>);

impl Transmit for Mailbox {
    fn transmit(&mut self, _port: u8, frame: &[u8]) {
        if let Ok(copy) = heapless::Vec::from_slice(frame) {
            let _ = self.0.push_back(copy);
        }
    }
}

impl World {
    /// The world of the first such service.
    fn new(config: &Config, transport: Transport, ipv6: bool) -> Option<Self> {
        let mut services = config.services.iter();
        let service = services.find(|s| s.transport == transport && s.address.is_ipv6() == ipv6)?;
        let server = service.servers.first()?;
        let leg = |address: IpAddr| {
            let interface = config.interfaces.iter().find(|leg| match address {
                IpAddr::V4(address) => leg.subnet().contains(address),
                IpAddr::V6(address) => leg.address6.is_some_and(|own| {
                    let host = u128::MAX.checked_shr(own.prefix.into()).unwrap_or(0);
                    (own.address.to_bits() ^ address.to_bits()) & !host == 0
                }),
            })?;
            let router = interface.router.as_ref()?;
            Some(Leg {
                vlan: interface.vlan,
                virtual_mac: if ipv6 { router.mac6() } else { router.mac() },
            })
        };
        Some(Self {
            client: if ipv6 { CLIENT6 } else { CLIENT },
            address: service.address,
            port: service.port,
            server: server.address,
            server_port: server.port,
            udp: transport == Transport::Udp,
            wan: leg(service.address)?,
            edge: leg(server.address)?,
        })
    }

    fn from_client(&self, port: u16, flags: Flags) -> Packet {
        let (from, to) = ((self.client, port), (self.address, self.port));
        self.packet(&self.wan, from, to, flags)
    }

    fn from_server(&self, flags: Flags) -> Packet {
        let from = (self.server, self.server_port);
        self.packet(&self.edge, from, (self.client, CLIENT_PORT), flags)
    }

    /// Sequence numbers are of a connection whose handshake began at 0 on both sides.
    fn packet(&self, leg: &Leg, from: (IpAddr, u16), to: (IpAddr, u16), flags: Flags) -> Packet {
        let mut transport = [0; tcp::HEADER_LEN];
        let (transport, protocol) = if self.udp {
            let (udp, _) = transport.split_at_mut(tcp::UDP_HEADER_LEN);
            udp[0..2].copy_from_slice(&from.1.to_be_bytes());
            udp[2..4].copy_from_slice(&to.1.to_be_bytes());
            udp[4..6].copy_from_slice(&(tcp::UDP_HEADER_LEN as u16).to_be_bytes());
            (udp, ipv4::UDP)
        } else {
            let whole = tcp::write(&Segment {
                source: ([0; 4], from.1),
                destination: ([0; 4], to.1),
                sequence: u32::from(!flags.contains(Flags::SYN)),
                acknowledgment: u32::from(flags.contains(Flags::ACK)),
                flags,
                window: 65_000,
            });
            transport.copy_from_slice(&whole[ipv4::HEADER_LEN..]);
            (&mut transport[..], ipv4::TCP)
        };
        let place = if self.udp { 6 } else { 16 };
        transport[place..place + 2].fill(0);
        let len = transport.len() as u16;
        let mut bytes = [0; 128];
        let space = &mut bytes[HEADROOM..];
        let ethertype = match to.0 {
            IpAddr::V4(_) => ethernet::IPV4,
            IpAddr::V6(_) => ethernet::IPV6,
        };
        let start = ethernet::write(space, leg.virtual_mac, STATION, leg.vlan, ethertype);
        let start = unwrap!(start);
        let (header, sum) = match (from.0, to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let ip = ipv4::Header::new(from, to, protocol, tcp::DEFAULT_TTL, len.into());
                space[start..start + ipv4::HEADER_LEN].copy_from_slice(ip.as_bytes());
                let sum = checksum::pseudo_header(from, to, protocol, len);
                (ipv4::HEADER_LEN, sum)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let ip = ipv6::Header::new(from, to, protocol, tcp::DEFAULT_TTL, len.into());
                space[start..start + ipv6::HEADER_LEN].copy_from_slice(ip.as_bytes());
                (
                    ipv6::HEADER_LEN,
                    ipv6::pseudo_header(from, to, protocol, len),
                )
            }
            _ => defmt::panic!("both ends have the same version"),
        };
        let sum = sum.bytes(transport).finish();
        transport[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        let end = start + header + transport.len();
        space[start + header..end].copy_from_slice(transport);
        // As an Ethernet MAC delivers it.
        let len = end.max(ethernet::MIN_LEN);
        Packet { bytes, len }
    }
}

/// What a neighbour says when it is asked for its MAC address, and a listening server to a SYN.
fn answer(frame: &[u8]) -> Option<Packet> {
    let received = ethernet::parse(frame)?;
    let body = frame.get(received.payload..)?;
    let mut bytes = [0; 128];
    let space = &mut bytes[HEADROOM..];
    let start = ethernet::write(
        space,
        received.source,
        STATION,
        received.vlan,
        received.ethertype,
    )?;
    let room = space.get_mut(start..)?;
    let len = match received.ethertype {
        ethernet::ARP => answer_arp(body, room)?,
        ethernet::IPV4 => answer_syn(body, room)?,
        ethernet::IPV6 => answer_v6(&received, body, room)?,
        _ => return None,
    };
    let len = (start + len).max(ethernet::MIN_LEN);
    Some(Packet { bytes, len })
}

/// RFC 826: the target of a request becomes the sender of the reply. Announcements get no answer.
fn answer_arp(body: &[u8], room: &mut [u8]) -> Option<usize> {
    let body = body.first_chunk::<28>()?;
    if body[7] != 1 || body[14..18] == body[24..28] {
        return None;
    }
    let out = room.first_chunk_mut::<28>()?;
    out[..8].copy_from_slice(&body[..8]);
    out[7] = 2;
    out[8..14].copy_from_slice(&STATION);
    out[14..18].copy_from_slice(&body[24..28]);
    out[18..28].copy_from_slice(&body[8..18]);
    Some(out.len())
}

fn answer_syn(body: &[u8], room: &mut [u8]) -> Option<usize> {
    let (ip, header) = ipv4::Header::parse(body).ok()?;
    let syn = tcp::Header::parse(body.get(header..)?)?;
    if ip.protocol != ipv4::TCP || !syn.flags().opens() {
        return None;
    }
    let reply = listening(syn, ip.destination, ip.source);
    room.get_mut(..reply.len())?.copy_from_slice(&reply);
    Some(reply.len())
}

fn listening(syn: &tcp::Header, from: [u8; 4], to: [u8; 4]) -> [u8; tcp::SEGMENT_LEN] {
    tcp::write(&Segment {
        source: (from, syn.destination.get()),
        destination: (to, syn.source.get()),
        sequence: 0,
        acknowledgment: syn.sequence.get().wrapping_add(1),
        flags: SYN_ACK,
        window: 65_000,
    })
}

fn answer_v6(received: &Received, body: &[u8], room: &mut [u8]) -> Option<usize> {
    let header = ipv6::Header::parse(body).ok()?;
    let message = body.get(ipv6::HEADER_LEN..header.total_len())?;
    if header.next_header == ipv4::TCP {
        let syn = tcp::Header::parse(message)?;
        if !syn.flags().opens() {
            return None;
        }
        let reply = listening(syn, [0; 4], [0; 4]);
        let segment = room.get_mut(ipv6::HEADER_LEN..ipv6::HEADER_LEN + tcp::HEADER_LEN)?;
        segment.copy_from_slice(&reply[ipv4::HEADER_LEN..]);
        segment[16..18].fill(0);
        let (from, to) = (header.destination, header.source);
        let sum = ipv6::pseudo_header(from, to, ipv4::TCP, tcp::HEADER_LEN as u16);
        let sum = sum.bytes(segment).finish();
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let ip = ipv6::Header::new(from, to, ipv4::TCP, tcp::DEFAULT_TTL, tcp::HEADER_LEN);
        room.get_mut(..ipv6::HEADER_LEN)?
            .copy_from_slice(ip.as_bytes());
        return Some(ipv6::HEADER_LEN + tcp::HEADER_LEN);
    }
    let nd::Message::Solicitation { target, .. } = nd::Message::parse(header, message).ok()? else {
        return None;
    };
    // Whoever asks for his own address wants no answer.
    if header.source == [0; 16] || received.source == STATION {
        return None;
    }
    let advert = nd::Advertisement {
        target,
        mac: Some(STATION),
        router: false,
        solicited: true,
        overrides: true,
    };
    let packet = nd::advertisement(&advert, STATION, header.source);
    room.get_mut(..packet.len())?.copy_from_slice(&packet);
    Some(packet.len())
}
