//! The Internet of the rehearsal, as far as one version of IP reaches: a host on the wan network that owns the
//! uplink address and everything behind it, and a local port through which the operator's browser reaches the
//! virtual address. A site of both versions has two of them.
//!
//! Bytes really cross the appliances: each local connection becomes a TCP connection from a client address
//! to the virtual address, made by a network stack of its own (smoltcp) on the virtual cable.

mod end;
mod internet;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpCidr,
};

use end::End;
use internet::Internet;

use crate::card::Card;
use crate::knock::Door;
use crate::probe::{Probe, Probing};
use crate::switch::Mac;

/// Who the uplink host is. All addresses are of the version of IP that it speaks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// MAC address of the provider's router.
    pub mac: Mac,
    /// Its address in the wan network; of IPv6, it may be a link-local one.
    pub address: IpAddr,
    /// The wan network.
    pub subnet: IpNet,
    /// Users in the Internet: connections come from one after the other. There is at least one.
    pub clients: Vec<IpAddr>,
    /// What they connect to.
    pub virtual_address: IpAddr,
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

    /// Opens another way into the site: connections to `listener` come from `from` and go to `to`, which any
    /// address may be that is routed to the appliances.
    pub fn open(&self, listener: TcpListener, from: IpAddr, to: SocketAddr) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let from = Some(from);
        self.shared.ways().push(Way { listener, from, to });
        Ok(())
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
    /// Ways that were opened and not yet seen by the thread.
    ways: Mutex<Vec<Way>>,
}

/// A local port and where it leads.
#[derive(Debug)]
struct Way {
    listener: TcpListener,
    /// Who asks; the users one after the other if nobody in particular does.
    from: Option<IpAddr>,
    to: SocketAddr,
}

impl Shared {
    fn pings(&self) -> MutexGuard<'_, Probing> {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knocks(&self) -> MutexGuard<'_, Probing> {
        self.knocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ways(&self) -> MutexGuard<'_, Vec<Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything the uplink thread owns.
struct Host {
    settings: Settings,
    shared: Arc<Shared>,
    ways: Vec<Way>,
    card: Card<End>,
    interface: Interface,
    sockets: SocketSet<'static>,
    pinger: SocketHandle,
    internet: Internet,
    connections: Vec<Connection>,
    accepted: usize,
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
            from: settings.clients.clone(),
            to_mac: settings.virtual_mac,
            to: settings.virtual_address,
            port: settings.port,
        };
        let own = own_addresses(&settings);
        let end = End {
            own: own.iter().map(|own| own.address().into()).collect(),
            subnet: settings.subnet,
            door,
            answered: Vec::new(),
        };
        let mut card = Card::new(cable, end);
        let started = Instant::now();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(settings.mac)));
        config.random_seed = u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut card, smoltcp::time::Instant::ZERO);
        // An interface that has no addresses yet has room for two, and for a route.
        interface.update_ip_addrs(|addresses| addresses.extend(own));
        // What the provider routes to the site: over IPv6 every server has an address of its own.
        if let IpAddr::V6(gateway) = settings.virtual_address {
            let _ = interface.routes_mut().add_default_ipv6_route(gateway);
        }
        // The Internet behind the uplink: any address that `End` lets in is ours.
        interface.set_any_ip(true);

        let mut sockets = SocketSet::new(Vec::new());
        let mut pinger = icmp::Socket::new(packet_buffer(), packet_buffer());
        // A fresh socket binds.
        let _ = pinger.bind(icmp::Endpoint::Ident(PING_IDENT));
        let pinger = sockets.add(pinger);
        let internet = Internet::new(&mut sockets);
        let to = SocketAddr::new(settings.virtual_address, settings.port);
        let ways = vec![Way {
            listener,
            from: None,
            to,
        }];
        Self {
            settings,
            shared,
            ways,
            card,
            interface,
            sockets,
            pinger,
            internet,
            connections: Vec::new(),
            accepted: 0,
            started,
        }
    }

    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.send_probes();
            self.poll();
            self.receive_probes();
            self.internet.turn(&mut self.sockets);
            self.card.open = self.internet.open(&self.sockets);
            self.accept();
            let moved = self.pump();
            self.poll();
            self.bury();
            self.sleep(moved);
        }
    }

    fn poll(&mut self) {
        let now = self.timestamp();
        self.interface.poll(now, &mut self.card, &mut self.sockets);
    }

    fn timestamp(&self) -> smoltcp::time::Instant {
        let micros = self.started.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn send_probes(&mut self) {
        let now = Instant::now();
        if let Some(n) = self.shared.pings().send(now) {
            let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.pinger);
            // Without room the probe counts as lost.
            let _ = ping(socket, self.settings.virtual_address, (n & 0xffff) as u16);
        }
        if let Some(n) = self.shared.knocks().send(now) {
            self.card.send(&self.card.filter.door.knock(n));
        }
    }

    fn receive_probes(&mut self) {
        let now = Instant::now();
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.pinger);
        while let Ok((bytes, from)) = socket.recv() {
            if let Some(n) = answered(bytes, from.into()) {
                self.shared.pings().answer_short(n, now);
            }
        }
        for n in std::mem::take(&mut self.card.filter.answered) {
            self.shared.knocks().answer(n, now);
            self.card.send(&self.card.filter.door.take_back(n));
        }
    }

    fn accept(&mut self) {
        self.ways.append(&mut self.shared.ways());
        for index in 0..self.ways.len() {
            while self.connections.len() < MAX_CONNECTIONS {
                let Ok((stream, _)) = self.ways[index].listener.accept() else {
                    break;
                };
                self.connect(stream, index);
            }
        }
        self.count();
    }

    fn connect(&mut self, stream: TcpStream, way: usize) {
        if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; TCP_BUFFER]),
            tcp::SocketBuffer::new(vec![0; TCP_BUFFER]),
        );
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(TCP_TIMEOUT));
        let client = self.next_client(self.ways[way].from);
        let to = self.ways[way].to;
        let context = self.interface.context();
        if socket.connect(context, to, client).is_ok() {
            let handle = self.sockets.add(socket);
            self.connections.push(Connection::new(stream, handle));
        }
    }

    /// Every connection comes from another address and port, as those of many users do.
    fn next_client(&mut self, from: Option<IpAddr>) -> SocketAddr {
        let n = self.accepted;
        self.accepted = n.wrapping_add(1);
        let clients = &self.settings.clients;
        let address = from.unwrap_or(clients[n % clients.len()]);
        let port = PORTS + (n.wrapping_mul(7919) % 40_000) as u16;
        SocketAddr::new(address, port)
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
        let mut polled = vec![PollFd::new(self.card.as_fd(), PollFlags::POLLIN)];
        if self.connections.len() < MAX_CONNECTIONS {
            let listeners = self.ways.iter().map(|way| way.listener.as_fd());
            polled.extend(listeners.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
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

/// The addresses of the uplink on the wan network. A link-local one cannot speak for the network, so that there is
/// one more, made from the MAC address (RFC 4291, appendix A).
fn own_addresses(settings: &Settings) -> Vec<IpCidr> {
    let length = settings.subnet.prefix_len();
    let own = IpCidr::new(settings.address.into(), length);
    match settings.subnet {
        IpNet::V6(subnet) if !settings.subnet.contains(&settings.address) => {
            let [a, b, c, d, e, f] = settings.mac;
            let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
            let address = Ipv6Addr::from(u128::from(subnet.network()) | u128::from(interface));
            vec![own, IpCidr::new(address.into(), length)]
        }
        IpNet::V4(_) | IpNet::V6(_) => vec![own],
    }
}

/// Queues an echo request with this number.
fn ping(socket: &mut icmp::Socket<'_>, to: IpAddr, number: u16) -> Result<(), icmp::SendError> {
    let (ident, seq_no, data) = (PING_IDENT, number, &[][..]);
    match to {
        IpAddr::V4(_) => {
            let echo = Icmpv4Repr::EchoRequest {
                ident,
                seq_no,
                data,
            };
            let mut packet =
                Icmpv4Packet::new_unchecked(socket.send(echo.buffer_len(), to.into())?);
            echo.emit(&mut packet, &ChecksumCapabilities::default());
        }
        IpAddr::V6(to) => {
            let echo = Icmpv6Repr::EchoRequest {
                ident,
                seq_no,
                data,
            };
            let buffer = socket.send(echo.buffer_len(), to.into())?;
            let (packet, unknown) = (
                &mut Icmpv6Packet::new_unchecked(buffer),
                Ipv6Addr::UNSPECIFIED,
            );
            // The socket chooses the source and sums up when it sends.
            echo.emit(&unknown, &to, packet, &ChecksumCapabilities::ignored());
        }
    }
    Ok(())
}

/// The number of the echo request that this message from `from` answers; its checksum was looked at.
fn answered(message: &[u8], from: IpAddr) -> Option<u16> {
    let checked = ChecksumCapabilities::ignored();
    match from {
        IpAddr::V4(_) => {
            let packet = Icmpv4Packet::new_checked(message).ok()?;
            match Icmpv4Repr::parse(&packet, &checked).ok()? {
                Icmpv4Repr::EchoReply { seq_no, .. } => Some(seq_no),
                _ => None,
            }
        }
        IpAddr::V6(from) => {
            let packet = Icmpv6Packet::new_checked(message).ok()?;
            match Icmpv6Repr::parse(&from, &Ipv6Addr::UNSPECIFIED, &packet, &checked).ok()? {
                Icmpv6Repr::EchoReply { seq_no, .. } => Some(seq_no),
                _ => None,
            }
        }
    }
}

fn packet_buffer() -> icmp::PacketBuffer<'static> {
    icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 64], vec![0; 4096])
}

const PING_IDENT: u16 = 0x5256;
/// Connections come from this port and higher ones, knocks from lower ones.
const PORTS: u16 = 20_000;
const TCP_BUFFER: usize = 65_535;
/// A connection whose peer is silent for so long is given up.
const TCP_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);
const MAX_SLEEP: Duration = Duration::from_millis(100);
