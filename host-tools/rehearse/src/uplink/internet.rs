//! What servers find in the Internet of the rehearsal: at every address a web server that answers with the
//! address it was asked from, so that one sees what was translated on the way.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

/// Web servers of the whole Internet.
pub(super) struct Internet(Vec<SocketHandle>);

impl Internet {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Self {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let socket = |_| sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self((0..CONNECTIONS).map(socket).collect())
    }

    /// Who has connected.
    pub(super) fn open(&self, sockets: &SocketSet<'static>) -> BTreeSet<SocketAddr> {
        let sockets = (self.0.iter()).map(|handle| sockets.get::<tcp::Socket<'_>>(*handle));
        let peers = sockets.filter_map(tcp::Socket::remote_endpoint);
        peers
            .map(|peer| SocketAddr::new(peer.addr.into(), peer.port))
            .collect()
    }

    /// Answers whoever has asked.
    pub(super) fn turn(&self, sockets: &mut SocketSet<'static>) {
        for handle in &self.0 {
            serve(sockets.get_mut(*handle));
        }
    }
}

fn serve(socket: &mut tcp::Socket<'_>) {
    if !socket.is_open() {
        // Who is gone without a word does not keep its place.
        socket.set_timeout(Some(PATIENCE));
        socket.set_keep_alive(Some(PATIENCE / 2));
        // A closed socket can listen.
        let _ = socket.listen(PORT);
        return;
    }
    let Some(asker) = socket.remote_endpoint() else {
        return;
    };
    // The request stays in the buffer until it is whole; all are answered alike.
    let asked = |bytes: &mut [u8]| {
        let whole = bytes.ends_with(b"\r\n\r\n");
        (if whole { bytes.len() } else { 0 }, whole)
    };
    if socket.can_recv() && socket.recv(asked) == Ok(true) {
        let body = format!("{}\n", asker.addr);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // The answer is shorter than the buffer.
        let _ = socket.send_slice((head + &body).as_bytes());
    } else if socket.state() == tcp::State::CloseWait {
        socket.close();
    }
}

const PORT: u16 = 80;
/// At the same time; more are refused.
const CONNECTIONS: usize = 16;
const BUFFER: usize = 4096;
const PATIENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(10);
