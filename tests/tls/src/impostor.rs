//! A server in the place of another, and what those who ask it make of it.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use render::Identity;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{Stack, peer, until};

/// Answers at a server's address until it is dropped.
pub struct Impostor {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What came.
#[derive(Default)]
struct Seen {
    /// Connections that ended before a request: whoever asks did not like what it was shown.
    refused: AtomicU32,
    /// Requests.
    asked: AtomicU32,
    stop: AtomicBool,
}

impl Impostor {
    /// Takes the address of a server that does not listen (any more). Without an identity it does not speak TLS.
    ///
    /// # Panics
    /// If the address is in use.
    #[must_use]
    pub fn start(stack: &Stack, server: &str, port: u16, identity: Option<&Identity>) -> Self {
        let address = SocketAddr::from((stack.server(server).address, port));
        let door = stack.door(server);
        let config = identity.map(|identity| {
            let (chain, key) = peer::parts(identity);
            let config = ServerConfig::builder().with_no_client_auth();
            Arc::new(config.with_single_cert(chain, key).expect("a key"))
        });
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            setns(door, CloneFlags::CLONE_NEWNET).expect("root may enter");
            let listener = TcpListener::bind(address).expect("a free address");
            listener.set_nonblocking(true).expect("a socket");
            while !shared.stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (shared, config) = (Arc::clone(&shared), config.clone());
                        thread::spawn(move || {
                            let count = match answer(stream, config) {
                                Some(()) => &shared.asked,
                                None => &shared.refused,
                            };
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                    Err(_) => thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        Self {
            seen,
            thread: Some(thread),
        }
    }

    /// Waits until somebody has come; true if it asked, false if it turned away.
    ///
    /// # Panics
    /// If nobody comes.
    #[must_use]
    pub fn is_believed(&self) -> bool {
        until("somebody asks the impostor", || {
            let [asked, refused] =
                [&self.seen.asked, &self.seen.refused].map(|count| count.load(Ordering::Relaxed));
            (asked + refused > 0)
                .then_some(())
                .ok_or("nobody came".to_owned())
        });
        self.seen.asked.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(ended.is_some_and(|end| end.is_ok()), "an impostor failed");
        }
    }
}

/// Reads a request and answers it; `None` if none came.
fn answer(mut stream: TcpStream, config: Option<Arc<ServerConfig>>) -> Option<()> {
    let limit = Some(Duration::from_secs(20));
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(limit).ok()?;
    match config {
        Some(config) => {
            let connection = ServerConnection::new(config).ok()?;
            converse(StreamOwned::new(connection, stream))
        }
        None => {
            // Whoever speaks TLS says nothing that looks like this.
            let mut start = [0; 4];
            stream.read_exact(&mut start).ok()?;
            (start == *b"GET ").then_some(())?;
            converse(stream)
        }
    }
}

fn converse(mut stream: impl std::io::Read + std::io::Write) -> Option<()> {
    let mut byte = [0];
    let mut end = 0_u32;
    while end != u32::from_be_bytes(*b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        end = end << 8 | u32::from(byte[0]);
    }
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(text.as_bytes()).ok()?;
    stream.flush().ok()
}
