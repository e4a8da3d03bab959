//! Hosts with smoltcp's ARP, neighbour discovery, ICMP and TCP: servers that answer with their own number, clients that talk.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cable::{Cable, at};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use time::{Duration, Instant};
use wire::ethernet::Mac;
use wire::nd;

/// A client's connection, by number on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(pub(crate) usize);

/// What a client's connection has come to.
#[derive(Clone, Debug)]
pub struct Stream {
    handle: SocketHandle,
    next_send: Instant,
    /// Whether the connection was ever established.
    pub established: bool,
    /// Whether it ended after that, or was refused.
    pub broken: bool,
    /// The servers' numbers, one for each byte sent.
    pub answers: Vec<u8>,
    /// When the last answer came.
    pub last_answer: Instant,
    /// Longest time between two answers.
    pub longest_gap: Duration,
}

pub(crate) struct Host {
    pub number: u8,
    interface: Interface,
    sockets: SocketSet<'static>,
    cable: Cable,
    servers: Vec<(SocketHandle, u16)>,
    /// What is said at once on a port, instead of answering.
    lines: BTreeMap<u16, String>,
    pub streams: Vec<Stream>,
    next_port: u16,
}

const BACKLOG: usize = 6;
const TALK: Duration = Duration::from_millis(20);

impl Host {
    pub fn new(number: u8, mac: Mac, addresses: &[(IpAddr, u8)], gateways: &[IpAddr]) -> Self {
        let mut cable = Cable::ethernet();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = u64::from(number);
        let mut interface = Interface::new(config, &mut cable, at(Instant::ZERO));
        interface.update_ip_addrs(|list| {
            let link_local = (IpAddr::from(nd::link_local(mac)), 64);
            for (address, prefix) in addresses.iter().chain([&link_local]) {
                let cidr = IpCidr::new((*address).into(), *prefix);
                list.push(cidr).expect("eight at most");
            }
        });
        for gateway in gateways {
            let routes = interface.routes_mut();
            match gateway {
                IpAddr::V4(gateway) => routes.add_default_ipv4_route(*gateway),
                IpAddr::V6(gateway) => routes.add_default_ipv6_route(*gateway),
            }
            .expect("one of each version");
        }
        Self {
            number,
            interface,
            sockets: SocketSet::new(Vec::new()),
            cable,
            servers: Vec::new(),
            lines: BTreeMap::new(),
            streams: Vec::new(),
            next_port: 40_000,
        }
    }

    pub fn listen(&mut self, port: u16) {
        for _ in 0..BACKLOG {
            let mut socket = socket();
            socket.listen(port).expect("a port");
            self.servers.push((self.sockets.add(socket), port));
        }
    }

    /// Says a line to whoever connects to a port, from now on.
    pub fn say(&mut self, port: u16, line: &str) {
        if self.lines.insert(port, line.to_owned()).is_none() {
            self.listen(port);
        }
    }

    /// Stops listening on a port and resets its connections, as a daemon that exits.
    pub fn close(&mut self, port: u16) {
        for (handle, _) in self.servers.iter().filter(|(_, on)| *on == port) {
            self.sockets.get_mut::<tcp::Socket<'_>>(*handle).abort();
        }
        self.servers.retain(|(_, on)| *on != port);
    }

    pub fn connect(&mut self, now: Instant, from: IpAddr, to: IpAddr, port: u16) -> StreamId {
        let mut socket = socket();
        self.next_port += 1;
        let local = (from, self.next_port);
        socket
            .connect(self.interface.context(), (to, port), local)
            .expect("fresh");
        self.streams.push(Stream {
            handle: self.sockets.add(socket),
            next_send: now,
            established: false,
            broken: false,
            answers: Vec::new(),
            last_answer: now,
            longest_gap: Duration::ZERO,
        });
        StreamId(self.streams.len() - 1)
    }

    pub fn hang_up(&mut self, stream: StreamId) {
        let handle = self.streams[stream.0].handle;
        self.sockets.get_mut::<tcp::Socket<'_>>(handle).abort();
    }

    pub fn receive(&mut self, frame: Vec<u8>) {
        self.cable.incoming.push_back(frame);
    }

    /// Runs TCP and the programs on top of it; the frames that go out.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.interface
            .poll(at(now), &mut self.cable, &mut self.sockets);
        self.serve();
        self.talk(now);
        self.interface
            .poll(at(now), &mut self.cable, &mut self.sockets);
        core::mem::take(&mut self.cable.outgoing)
    }

    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let stack = self.interface.poll_at(at(now), &self.sockets);
        let stack = stack.map(|t| Instant::from_micros(t.total_micros().max(0).cast_unsigned()));
        let open = self.streams.iter().filter(|stream| !stream.broken);
        open.map(|stream| stream.next_send).chain(stack).min()
    }

    fn serve(&mut self) {
        for (handle, port) in &self.servers {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            if let Some(line) = self.lines.get(port) {
                if socket.may_send() {
                    socket.send_slice(line.as_bytes()).expect("a short line");
                    socket.close();
                }
            } else if socket.can_recv() {
                let mut bytes = [0; 64];
                let count = socket.recv_slice(&mut bytes).expect("just asked");
                bytes.fill(self.number);
                socket
                    .send_slice(&bytes[..count])
                    .expect("room for as much as came");
            } else if !socket.may_recv() && socket.may_send() {
                socket.close();
            }
            if !socket.is_open() {
                socket.listen(*port).expect("closed before");
            }
        }
    }

    fn talk(&mut self, now: Instant) {
        for stream in &mut self.streams {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(stream.handle);
            stream.broken |= !socket.is_active();
            if stream.broken || !socket.may_send() {
                if now >= stream.next_send {
                    stream.next_send = now + TALK;
                }
                continue;
            }
            if !stream.established {
                stream.established = true;
                stream.last_answer = now;
            }
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = socket.recv_slice(&mut bytes) {
                stream.answers.extend_from_slice(&bytes[..count]);
                stream.longest_gap = stream.longest_gap.max(now.since(stream.last_answer));
                stream.last_answer = now;
            }
            if now >= stream.next_send {
                stream.next_send = now + TALK;
                // Full while nobody answers.
                let _sent = socket.send_slice(b"?");
            }
        }
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 1024]);
    tcp::Socket::new(buffer(), buffer())
}
