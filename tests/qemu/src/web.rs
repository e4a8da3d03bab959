//! An HTTPS server at the other end of a board's cable: smoltcp's TCP, rustls's TLS.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use cable::Cable;
use rustls::{ServerConfig, ServerConnection};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use crate::mac_of;

/// A web server with one certificate. It answers every request with status 200.
pub struct Web {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Cable,
    secure: SocketHandle,
    plain: SocketHandle,
    tls: Option<ServerConnection>,
    config: Arc<ServerConfig>,
    started: Instant,
}

const HTTPS: u16 = 443;
const HTTP: u16 = 80;

impl Web {
    /// A server at this address; on its port 80 it only listens.
    ///
    /// # Panics
    /// If smoltcp has no room for one address.
    pub fn new(address: Ipv4Addr, gateway: Ipv4Addr, config: Arc<ServerConfig>) -> Self {
        let mut wire = Cable::ethernet();
        let mac = HardwareAddress::Ethernet(EthernetAddress(mac_of(address)));
        let mut interface =
            Interface::new(Config::new(mac), &mut wire, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(address.into(), 24)).expect("one");
        });
        (interface.routes_mut().add_default_ipv4_route(gateway)).expect("one");
        let mut sockets = SocketSet::new(Vec::new());
        let [secure, plain] = [(); 2].map(|()| sockets.add(socket()));
        Self {
            interface,
            sockets,
            wire,
            secure,
            plain,
            tls: None,
            config,
            started: Instant::now(),
        }
    }

    /// Shows another certificate from the next connection on.
    pub fn set_config(&mut self, config: Arc<ServerConfig>) {
        self.config = config;
    }

    /// Takes a frame without its tag.
    pub fn receive(&mut self, frame: Vec<u8>) {
        self.wire.incoming.push_back(frame);
    }

    /// Runs TCP, TLS and the web server; the frames that go out.
    pub fn poll(&mut self) -> Vec<Vec<u8>> {
        let now = smoltcp::time::Instant::from_micros(self.started.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        self.serve();
        let plain = self.sockets.get_mut::<tcp::Socket<'_>>(self.plain);
        if !plain.is_open() {
            plain.listen(HTTP).expect("closed before");
        }
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        core::mem::take(&mut self.wire.outgoing)
    }

    /// Whether the client has acknowledged all that was said for the handshake, and has not answered it yet.
    pub fn awaits_the_client(&self) -> bool {
        let socket = self.sockets.get::<tcp::Socket<'_>>(self.secure);
        let said = |tls: &ServerConnection| tls.is_handshaking() && tls.server_name().is_some();
        self.tls.as_ref().is_some_and(said) && socket.may_send() && socket.send_queue() == 0
    }

    fn serve(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.secure);
        if !socket.is_open() {
            self.tls = None;
            socket.listen(HTTPS).expect("closed before");
        }
        if !socket.may_send() {
            return;
        }
        let config = &self.config;
        let tls = self.tls.get_or_insert_with(|| {
            ServerConnection::new(Arc::clone(config)).expect("a server's configuration")
        });
        let mut bytes = [0; 2048];
        while let Ok(count @ 1..) = socket.recv_slice(&mut bytes) {
            tls.read_tls(&mut &bytes[..count]).expect("bytes in memory");
            let _ = tls.process_new_packets(); // what it thinks of them goes out as an alert
        }
        let mut asked = [0; 1024];
        if let Ok(1..) = tls.reader().read(&mut asked) {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            tls.writer().write_all(answer).expect("memory");
            tls.send_close_notify();
        }
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out).expect("memory");
        }
        let sent = socket.send_slice(&out).expect("it may send");
        assert_eq!(sent, out.len(), "the buffer holds a handshake");
        if !socket.may_recv() {
            socket.close();
        }
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
    tcp::Socket::new(buffer(8192), buffer(32_768))
}
