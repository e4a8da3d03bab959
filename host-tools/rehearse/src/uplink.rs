//! The Internet of the rehearsal: a host on the wan network that owns the uplink address and the clients
//! behind it, and a local port through which the operator's browser reaches the virtual address.
//!
//! Bytes really cross the appliances: each local connection becomes a TCP connection from a client address
//! to the virtual address, made by a network stack of its own (smoltcp) on the virtual cable.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp};
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress,
    Icmpv4Packet, Icmpv4Repr, IpCidr, Ipv4Cidr, Ipv4Packet,
};

use crate::knock::Door;
use crate::probe::{Probe, Probing};
use crate::switch::Mac;

/// Who the uplink host is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// MAC address of the provider's router.
    pub mac: Mac,
    /// Its address in the wan network.
    pub address: Ipv4Addr,
    /// Prefix length of the wan network.
    pub prefix: u8,
    /// What clients connect to.
    pub virtual_address: Ipv4Addr,
    /// MAC address of its virtual router.
    pub virtual_mac: Mac,
    /// The port they connect to.
    pub port: u16,
}

/// The running uplink host. Its thread, its port and its connections end when this is dropped.
#[derive(Debug)]
pub struct Uplink {
    shared: Arc<Shared>,
    local: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// Connections that the uplink host carries at the same time; more wait until one ends.
pub const MAX_CONNECTIONS: usize = 256;

impl Uplink {
    /// Starts the host on its end of a cable; `listener` takes the operator's connections.
    pub fn start(
        settings: Settings,
        cable: UnixDatagram,
        listener: TcpListener,
    ) -> io::Result<Self> {
        cable.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("uplink".into()).spawn({
            let shared = Arc::clone(&shared);
            move || Host::new(settings, cable, listener, shared).run()
        })?;
        Ok(Self {
            shared,
            local,
            thread: Some(thread),
        })
    }

    /// Where the operator connects.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Connections that are open now, at most [`MAX_CONNECTIONS`].
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Begins to ping the virtual address, which the Active appliance itself answers.
    pub fn probe_every(&self, interval: Duration) {
        *self.shared.pings() = Probing::every(interval, Instant::now());
    }

    /// Ends the pings and returns all of them.
    #[must_use]
    pub fn stop_probes(&self) -> Vec<Probe> {
        self.shared.pings().stop()
    }

    /// Begins to knock at the service: TCP handshakes, which a server behind the appliances answers.
    pub fn knock_every(&self, interval: Duration) {
        *self.shared.knocks() = Probing::every(interval, Instant::now());
    }

    /// Ends the knocks and returns all of them.
    #[must_use]
    pub fn stop_knocks(&self) -> Vec<Probe> {
        self.shared.knocks().stop()
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    connections: AtomicUsize,
    pings: Mutex<Probing>,
    knocks: Mutex<Probing>,
}

impl Shared {
    fn pings(&self) -> MutexGuard<'_, Probing> {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knocks(&self) -> MutexGuard<'_, Probing> {
        self.knocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything the uplink thread owns.
struct Host {
    settings: Settings,
    shared: Arc<Shared>,
    listener: TcpListener,
    cable: Cable,
    interface: Interface,
    sockets: SocketSet<'static>,
    pinger: SocketHandle,
    connections: Vec<Connection>,
    accepted: u32,
    started: Instant,
}

impl Host {
    fn new(
        settings: Settings,
        cable: UnixDatagram,
        listener: TcpListener,
        shared: Arc<Shared>,
    ) -> Self {
        let door = Door {
            from_mac: settings.mac,
            from: KNOCKER,
            to_mac: settings.virtual_mac,
            to: settings.virtual_address,
            port: settings.port,
        };
        let mut cable = Cable {
            socket: cable,
            own: settings.address,
            door,
            answered: Vec::new(),
        };
        let started = Instant::now();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(settings.mac)));
        config.random_seed = u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut cable, smoltcp::time::Instant::ZERO);
        let own = IpCidr::Ipv4(Ipv4Cidr::new(settings.address, settings.prefix));
        // An interface that has no addresses yet has room for one.
        interface.update_ip_addrs(|addresses| addresses.extend([own]));
        // The clients behind the uplink: any address that `Cable` lets in is ours.
        interface.set_any_ip(true);

        let mut sockets = SocketSet::new(Vec::new());
        let mut pinger = icmp::Socket::new(packet_buffer(), packet_buffer());
        // A fresh socket binds.
        let _ = pinger.bind(icmp::Endpoint::Ident(PING_IDENT));
        let pinger = sockets.add(pinger);
        let connections = Vec::new();
        Self {
            settings,
            shared,
            listener,
            cable,
            interface,
            sockets,
            pinger,
            connections,
            accepted: 0,
            started,
        }
    }

    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.send_probes();
            self.poll();
            self.receive_probes();
            self.accept();
            let moved = self.pump();
            self.poll();
            self.bury();
            self.sleep(moved);
        }
    }

    fn poll(&mut self) {
        let now = self.timestamp();
        self.interface.poll(now, &mut self.cable, &mut self.sockets);
    }

    fn timestamp(&self) -> smoltcp::time::Instant {
        let micros = self.started.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn send_probes(&mut self) {
        let now = Instant::now();
        if let Some(n) = self.shared.pings().send(now) {
            let echo = Icmpv4Repr::EchoRequest {
                ident: PING_IDENT,
                seq_no: (n & 0xffff) as u16,
                data: &[],
            };
            let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.pinger);
            // Without room the probe counts as lost.
            if let Ok(buffer) = socket.send(echo.buffer_len(), self.settings.virtual_address.into())
            {
                echo.emit(
                    &mut Icmpv4Packet::new_unchecked(buffer),
                    &ChecksumCapabilities::default(),
                );
            }
        }
        if let Some(n) = self.shared.knocks().send(now) {
            self.cable.send(&self.cable.door.knock(n));
        }
    }

    fn receive_probes(&mut self) {
        let now = Instant::now();
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.pinger);
        while let Ok((bytes, _)) = socket.recv() {
            let Ok(packet) = Icmpv4Packet::new_checked(bytes) else {
                continue;
            };
            let echo = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default());
            if let Ok(Icmpv4Repr::EchoReply { seq_no, .. }) = echo {
                self.shared.pings().answer_short(seq_no, now);
            }
        }
        for n in std::mem::take(&mut self.cable.answered) {
            self.shared.knocks().answer(n, now);
            self.cable.send(&self.cable.door.take_back(n));
        }
    }

    fn accept(&mut self) {
        while self.connections.len() < MAX_CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            let mut socket = tcp::Socket::new(
                tcp::SocketBuffer::new(vec![0; TCP_BUFFER]),
                tcp::SocketBuffer::new(vec![0; TCP_BUFFER]),
            );
            socket.set_nagle_enabled(false);
            socket.set_timeout(Some(TCP_TIMEOUT));
            let remote = (self.settings.virtual_address, self.settings.port);
            let client = self.next_client();
            if socket
                .connect(self.interface.context(), remote, client)
                .is_ok()
            {
                let handle = self.sockets.add(socket);
                self.connections.push(Connection::new(stream, handle));
            }
            self.count();
        }
    }

    /// Every connection comes from another address and port, as those of many users do.
    fn next_client(&mut self) -> (Ipv4Addr, u16) {
        let n = self.accepted;
        self.accepted = n.wrapping_add(1);
        let host = 1 + n % 254;
        let port = 20_000 + n.wrapping_mul(7919) % 40_000;
        (
            Ipv4Addr::from(u32::from(CLIENTS) | host),
            u16::try_from(port).unwrap_or(20_000),
        )
    }

    fn pump(&mut self) -> bool {
        let mut moved = false;
        for connection in &mut self.connections {
            moved |= connection.pump(self.sockets.get_mut(connection.handle));
        }
        moved
    }

    /// Forgets connections that are over.
    fn bury(&mut self) {
        let sockets = &mut self.sockets;
        self.connections.retain(|connection| {
            if connection.over {
                sockets.remove(connection.handle);
            }
            !connection.over
        });
        self.count();
    }

    fn count(&self) {
        self.shared
            .connections
            .store(self.connections.len(), Ordering::Relaxed);
    }

    fn sleep(&mut self, moved: bool) {
        let now = self.timestamp();
        let stack = self
            .interface
            .poll_delay(now, &self.sockets)
            .map(Duration::from);
        let probe = [self.shared.pings().due(), self.shared.knocks().due()]
            .into_iter()
            .flatten()
            .min();
        let probe = probe.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = if moved {
            Duration::ZERO
        } else {
            [stack, probe]
                .into_iter()
                .flatten()
                .fold(MAX_SLEEP, Duration::min)
        };
        let mut polled = vec![PollFd::new(self.cable.socket.as_fd(), PollFlags::POLLIN)];
        if self.connections.len() < MAX_CONNECTIONS {
            polled.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        for connection in &self.connections {
            let wanted = connection.wanted(self.sockets.get(connection.handle));
            if !wanted.is_empty() {
                polled.push(PollFd::new(connection.stream.as_fd(), wanted));
            }
        }
        // An interrupted sleep is a short one.
        let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(timeout)), None);
    }
}

/// A local connection and its other half on the virtual cable.
struct Connection {
    stream: TcpStream,
    handle: SocketHandle,
    /// The local side has sent all it will.
    local_done: bool,
    /// The far side has sent all it will, and the local side was told.
    remote_done: bool,
    over: bool,
}

impl Connection {
    fn new(stream: TcpStream, handle: SocketHandle) -> Self {
        Self {
            stream,
            handle,
            local_done: false,
            remote_done: false,
            over: false,
        }
    }

    /// Moves bytes in both directions; `true` if any moved.
    fn pump(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let mut moved = false;
        while !self.local_done && socket.can_send() {
            match socket.send(|room| transfer(self.stream.read(room))) {
                Ok(Transfer::Moved) => moved = true,
                Ok(Transfer::Blocked) => break,
                Ok(Transfer::End) => {
                    self.local_done = true;
                    socket.close();
                }
                Ok(Transfer::Broken) | Err(_) => return self.break_off(socket),
            }
        }
        while socket.can_recv() {
            match socket.recv(|bytes| transfer(self.stream.write(bytes))) {
                Ok(Transfer::Moved) => moved = true,
                Ok(Transfer::Blocked) => break,
                Ok(Transfer::End | Transfer::Broken) | Err(_) => return self.break_off(socket),
            }
        }
        match socket.state() {
            tcp::State::CloseWait
            | tcp::State::LastAck
            | tcp::State::TimeWait
            | tcp::State::Closing
                if !socket.can_recv() && !self.remote_done =>
            {
                self.remote_done = true;
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            _ => {}
        }
        match socket.state() {
            tcp::State::TimeWait => self.over = self.remote_done,
            // Reset, refused or timed out: the local side shall see that, not an ordinary end.
            tcp::State::Closed if !(self.local_done && self.remote_done) => {
                return self.break_off(socket);
            }
            tcp::State::Closed => self.over = true,
            tcp::State::SynSent if self.local_gone() => return self.break_off(socket),
            _ => {}
        }
        moved
    }

    /// Resets both halves.
    fn break_off(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let reset = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let _ = setsockopt(&self.stream, sockopt::Linger, &reset);
        socket.abort();
        self.over = true;
        true
    }

    /// Whether the local side gave up before the connection stood.
    fn local_gone(&self) -> bool {
        matches!(self.stream.peek(&mut [0]), Ok(0))
    }

    fn wanted(&self, socket: &tcp::Socket<'_>) -> PollFlags {
        let mut wanted = PollFlags::empty();
        if !self.local_done && socket.can_send() {
            wanted |= PollFlags::POLLIN;
        }
        if socket.can_recv() {
            wanted |= PollFlags::POLLOUT;
        }
        wanted
    }
}

enum Transfer {
    Moved,
    Blocked,
    End,
    Broken,
}

/// What smoltcp wants to know about a read or write into its buffers: bytes used, and a result.
fn transfer(result: io::Result<usize>) -> (usize, Transfer) {
    match result {
        Ok(0) => (0, Transfer::End),
        Ok(n) => (n, Transfer::Moved),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            (0, Transfer::Blocked)
        }
        Err(_) => (0, Transfer::Broken),
    }
}

/// The uplink's end of its cable. Lets in only what is meant for the uplink or a client behind it.
struct Cable {
    socket: UnixDatagram,
    own: Ipv4Addr,
    door: Door,
    /// Knocks whose answers came in.
    answered: Vec<u32>,
}

impl Cable {
    /// A full cable loses the frame, as cables do.
    fn send(&self, frame: &[u8]) {
        let _ = self.socket.send(frame);
    }

    /// Whether the switch takes another frame now. The kernel queues few; without room smoltcp waits.
    fn has_room(&self) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        ppoll(
            &mut polled,
            Some(TimeSpec::from_duration(Duration::ZERO)),
            None,
        )
        .is_ok_and(|ready| ready > 0)
    }

    fn is_ours(&self, frame: &[u8]) -> bool {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            return false;
        };
        match ethernet.ethertype() {
            EthernetProtocol::Arp => ArpPacket::new_checked(ethernet.payload()).is_ok_and(|arp| {
                arp.operation() == ArpOperation::Reply
                    || arp.target_protocol_addr() == self.own.octets()
                    || is_announcement(&arp)
            }),
            EthernetProtocol::Ipv4 => {
                Ipv4Packet::new_checked(ethernet.payload()).is_ok_and(|packet| {
                    let to = packet.dst_addr();
                    to == self.own || u32::from(to) & CLIENTS_MASK == u32::from(CLIENTS)
                })
            }
            _ => false,
        }
    }
}

impl Device for Cable {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmitter<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Transmitter<'_>)> {
        let mut frame = vec![0; MAX_FRAME];
        loop {
            let length = self.socket.recv(&mut frame).ok()?;
            if let Some(n) = self.door.answered(&frame[..length]) {
                self.answered.push(n);
            } else if self.is_ours(&frame[..length]) {
                frame.truncate(length);
                hear_announcement(&mut frame);
                return Some((Received(frame), Transmitter(&self.socket)));
            }
        }
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Transmitter<'_>> {
        self.has_room().then_some(Transmitter(&self.socket))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// Gratuitous ARP as a request (RFC 5227 §3): whoever has the address says so to everybody.
fn is_announcement<T: AsRef<[u8]>>(arp: &ArpPacket<T>) -> bool {
    arp.operation() == ArpOperation::Request
        && arp.source_protocol_addr() == arp.target_protocol_addr()
}

/// A router takes the sender of an announcement into its table and does not answer. smoltcp does that with
/// replies, while it would answer a request, because it stands in for every client's address.
fn hear_announcement(frame: &mut [u8]) {
    let mut ethernet = EthernetFrame::new_unchecked(frame);
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return;
    }
    if let Ok(mut arp) = ArpPacket::new_checked(ethernet.payload_mut())
        && is_announcement(&arp)
    {
        arp.set_operation(ArpOperation::Reply);
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Transmitter<'a>(&'a UnixDatagram);

impl TxToken for Transmitter<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        // A full cable loses the frame, as cables do.
        let _ = self.0.send(&frame);
        result
    }
}

fn packet_buffer() -> icmp::PacketBuffer<'static> {
    icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 64], vec![0; 4096])
}

/// TEST-NET-2 (RFC 5737): the users of the rehearsal.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);
const CLIENTS_MASK: u32 = 0xffff_ff00;
/// The client that knocks; no connection comes from this address.
const KNOCKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 255);
const PING_IDENT: u16 = 0x5256;
const TCP_BUFFER: usize = 65_535;
/// A connection whose peer is silent for so long is given up.
const TCP_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);
const MAX_SLEEP: Duration = Duration::from_millis(100);
const MAX_FRAME: usize = 2048;
