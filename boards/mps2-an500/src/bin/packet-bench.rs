//! Instructions per packet on the board's own instruction set, for `ravelin bench packet`.
//!
//! Runs under `-icount shift=0`, where every instruction takes one nanosecond of guest time. The node runs the
//! configuration that the host placed (a trunk board's of any site); frames come from memory, so that driver and
//! MAC are not in the numbers. Each line of the log is `packet PATH INSTRUCTIONS`, the last one is `packet done`.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;
use core::net::{IpAddr, Ipv4Addr};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use defmt::{info, unwrap};
use hal::Board as _;
use mps2_an500::Mps2;
use node::{Node, State, Transmit};
use policy::{Config, Service};
use time::{Duration, Instant};
use wire::ethernet::{self, Mac};
use wire::frame::HEADROOM;
use wire::tcp::{self, Flags, Segment};
use wire::{Frame, ipv4};

const FLOWS: usize = 4096;
/// Packets of one measurement.
const PACKETS: u32 = 1000;
/// SysTick counts at 25 MHz, so one tick is 40 ns and 40 instructions.
const INSTRUCTIONS_PER_TICK: u32 = 40;

const CLIENT: [u8; 4] = [198, 51, 100, 7];
const CLIENT_PORT: u16 = 40_000;

static mut NODE: MaybeUninit<Node<'static, FLOWS>> = MaybeUninit::uninit();

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut board = Mps2::take();
    let mut systick = unwrap!(cortex_m::Peripherals::take()).SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();

    let policy = unwrap!(
        classifier::load(board.config()).ok(),
        "no configuration was placed"
    );
    let config = &policy.config;
    let service = unwrap!(config.services.iter().find(|service| service.port == 443)).clone();
    let bench = Bench::new(config, service);
    // SAFETY: `main` runs once, and this is the only mention of NODE.
    let node = unsafe { (*&raw mut NODE).write(Node::new(Some(policy), 1, Instant::ZERO)) };
    let now = bench.elect(node, &mut board);

    let request = bench.from_client(CLIENT_PORT, Flags::ACK.with(Flags::PSH));
    bench.send(node, now, bench.from_client(CLIENT_PORT, Flags::SYN));
    bench.send(node, now, bench.from_server(Flags::SYN.with(Flags::ACK)));
    bench.send(node, now, bench.from_client(CLIENT_PORT, Flags::ACK));

    let idle = measure(&mut systick, &mut board, |_| request);
    let mut report = |path: &str, make: &mut dyn FnMut(u32) -> Packet, forwards: bool| {
        let mut sink = Sink::default();
        let ticks = measure(&mut systick, &mut board, |turn| {
            let mut packet = make(turn);
            node.ingress(now, 0, packet.frame(), &mut sink);
            packet
        });
        let expected = if forwards { PACKETS } else { 0 };
        defmt::assert_eq!(
            sink.frames,
            expected,
            "{=str}: not the path that it is called",
            path
        );
        info!(
            "packet {=str} {=u32}",
            path,
            (ticks - idle) * INSTRUCTIONS_PER_TICK / PACKETS
        );
    };
    let reply = bench.from_server(Flags::ACK);
    report("established-dnat", &mut |_| request, true);
    report("established-undnat", &mut |_| reply, true);
    report("drop-no-rule", &mut |_| bench.refused(), false);
    let opening = bench.from_client(0, Flags::SYN);
    let port = bench.port_offset();
    report(
        "new-flow-dnat",
        &mut |turn| {
            let mut packet = opening;
            let number = 1024 + turn as u16; // the filter does not check the checksum of TCP
            packet.bytes[port..port + 2].copy_from_slice(&number.to_be_bytes());
            packet
        },
        true,
    );
    info!("packet done");
    loop {
        board.feed_watchdog();
        cortex_m::asm::nop();
    }
}

/// SysTick ticks of `PACKETS` turns.
fn measure(systick: &mut SYST, board: &mut Mps2, mut turn: impl FnMut(u32) -> Packet) -> u32 {
    board.feed_watchdog();
    systick.clear_current();
    let begin = SYST::get_current();
    for number in 0..PACKETS {
        core::hint::black_box(turn(core::hint::black_box(number)));
    }
    begin.wrapping_sub(SYST::get_current()) & 0x00ff_ffff
}

/// The world around the node: a client behind the uplink router, and one real server.
struct Bench {
    service: Service,
    wan: Leg,
    edge: Leg,
}

/// How frames reach the node on one leg.
struct Leg {
    vlan: Option<u16>,
    virtual_mac: Mac,
}

/// A frame in a buffer of its own, as a driver would have received it.
#[derive(Clone, Copy)]
struct Packet {
    bytes: [u8; 96],
    len: usize,
}

impl Packet {
    fn frame(&mut self) -> Frame<'_> {
        unwrap!(Frame::new(&mut self.bytes, HEADROOM, self.len))
    }
}

/// Counts what the node forwards, and keeps the latest frame to answer it.
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

impl Bench {
    fn new(config: &Config, service: Service) -> Self {
        let leg = |address: IpAddr| {
            let address = Ipv4Addr::from(octets(address));
            let interface = config
                .interfaces
                .iter()
                .find(|leg| leg.subnet().contains(address));
            let interface = unwrap!(interface, "no leg towards an address of the service");
            let vrid = interface.router.as_ref().map_or(0, |router| router.vrid);
            Leg {
                vlan: interface.vlan,
                virtual_mac: [0, 0, 0x5e, 0, 1, vrid],
            }
        };
        let server = unwrap!(service.servers.first(), "a service without servers").address;
        Self {
            wan: leg(service.address),
            edge: leg(server),
            service,
        }
    }

    /// Turns the node until it is Active and forwards a connection to the service's first server.
    fn elect(&self, node: &mut Node<'_, FLOWS>, board: &mut Mps2) -> Instant {
        let mut now = Instant::ZERO;
        let mut settled = 0;
        while settled < 3000 {
            board.feed_watchdog();
            now = now + Duration::from_millis(1);
            let mut sent = Mailbox::default();
            node.poll(now, &mut sent);
            while let Some(mut frame) = sent.0.pop_front() {
                if let Some(mut answer) = answer(&mut frame) {
                    node.ingress(now, 0, answer.frame(), &mut sent);
                }
            }
            while node.next_event().is_some() {}
            settled += u32::from(node.state() == Some(State::Active));
        }
        now
    }

    /// Sends a packet through and answers the ARP requests that it causes.
    fn send(&self, node: &mut Node<'_, FLOWS>, now: Instant, mut packet: Packet) {
        let mut sent = Mailbox::default();
        node.ingress(now, 0, packet.frame(), &mut sent);
        while let Some(mut frame) = sent.0.pop_front() {
            if let Some(mut answer) = answer(&mut frame) {
                node.ingress(now, 0, answer.frame(), &mut sent);
            }
        }
    }

    fn from_client(&self, port: u16, flags: Flags) -> Packet {
        let to = (octets(self.service.address), self.service.port);
        packet(&self.wan, segment((CLIENT, port), to, flags))
    }

    /// To a port of the virtual address that no rule opens.
    fn refused(&self) -> Packet {
        let to = (octets(self.service.address), 22);
        packet(&self.wan, segment((CLIENT, CLIENT_PORT), to, Flags::SYN))
    }

    fn from_server(&self, flags: Flags) -> Packet {
        let server = unwrap!(self.service.servers.first());
        let from = (octets(server.address), server.port);
        packet(&self.edge, segment(from, (CLIENT, CLIENT_PORT), flags))
    }

    /// Where the source port of [`Bench::from_client`] stands in the packet's buffer.
    fn port_offset(&self) -> usize {
        HEADROOM + ethernet::header_len(self.wan.vlan) + ipv4::HEADER_LEN
    }
}

/// The service of the bench is an IPv4 one.
fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => defmt::panic!("an IPv4 service is needed"),
    }
}

fn segment(source: ([u8; 4], u16), destination: ([u8; 4], u16), flags: Flags) -> Segment {
    // Sequence numbers of a connection whose handshake began at 0 on both sides.
    let sequence = u32::from(!flags.contains(Flags::SYN));
    let acknowledgment = u32::from(flags.contains(Flags::ACK));
    Segment {
        source,
        destination,
        sequence,
        acknowledgment,
        flags,
        window: 65_000,
    }
}

fn packet(leg: &Leg, segment: Segment) -> Packet {
    let mut bytes = [0; 96];
    let source = [2, 0, 0, 0, 0, 9];
    let space = &mut bytes[HEADROOM..];
    let header = ethernet::write(space, leg.virtual_mac, source, leg.vlan, ethernet::IPV4);
    let header = unwrap!(header);
    let len = header + tcp::SEGMENT_LEN;
    space[header..len].copy_from_slice(&tcp::write(&segment));
    Packet { bytes, len }
}

/// What a neighbour says to an ARP request, and a listening server to a SYN.
fn answer(frame: &mut [u8]) -> Option<Packet> {
    let received = ethernet::parse(frame)?;
    let (head, body) = frame.split_at_mut_checked(received.payload)?;
    match received.ethertype {
        ethernet::ARP => answer_arp(body)?,
        ethernet::IPV4 => answer_syn(body)?,
        _ => return None,
    }
    let (to, from) = head.get_mut(..12)?.split_at_mut(6);
    to.copy_from_slice(from);
    from.copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    let mut bytes = [0; 96];
    bytes
        .get_mut(HEADROOM..HEADROOM + frame.len())?
        .copy_from_slice(frame);
    Some(Packet {
        bytes,
        len: frame.len(),
    })
}

/// RFC 826: the target of a request becomes the sender of the reply. Announcements get no answer.
fn answer_arp(body: &mut [u8]) -> Option<()> {
    let body = body.get_mut(..28)?;
    if body[7] != 1 || body[14..18] == body[24..28] {
        return None;
    }
    body[7] = 2;
    let mut address = [0; 4];
    address.copy_from_slice(&body[24..28]);
    body.copy_within(8..18, 18);
    body[8..14].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    body[14..18].copy_from_slice(&address);
    Some(())
}

fn answer_syn(body: &mut [u8]) -> Option<()> {
    let (ip, header) = ipv4::Header::parse(body).ok()?;
    let syn = tcp::Header::parse(body.get(header..)?)?;
    if ip.protocol != ipv4::TCP || !syn.flags().opens() {
        return None;
    }
    let reply = tcp::write(&Segment {
        source: (ip.destination, syn.destination.get()),
        destination: (ip.source, syn.source.get()),
        sequence: 0,
        acknowledgment: syn.sequence.get().wrapping_add(1),
        flags: Flags::SYN.with(Flags::ACK),
        window: 65_000,
    });
    body.get_mut(..reply.len())?.copy_from_slice(&reply);
    Some(())
}
