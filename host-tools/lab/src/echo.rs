//! The servers: what is sent to them comes back.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;

use crate::load::{Wrap, plain};
use crate::{ECHO, Error, Lab, PROBE, SERVERS, system};

/// Answers on the TCP and the UDP port of every server.
#[derive(Debug)]
pub struct Echo {
    accepted: Arc<[AtomicUsize; 2]>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Echo {
    /// Begins to answer.
    ///
    /// # Errors
    /// If it cannot be made in the servers' namespace.
    pub fn start(lab: &Lab) -> Result<Self, Error> {
        Self::start_with(lab, &[])
    }

    /// The same, and on further TCP ports with something in the TCP connection.
    ///
    /// # Errors
    /// If it cannot be made in the servers' namespace.
    pub fn start_with(lab: &Lab, more: &[(u16, Wrap)]) -> Result<Self, Error> {
        let ports: Vec<(u16, Wrap)> = more.iter().cloned().chain([(ECHO, plain())]).collect();
        let accepted = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counts = Arc::clone(&accepted);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                for (server, address) in SERVERS.into_iter().enumerate() {
                    for (port, wrap) in &ports {
                        serve(server, *port, wrap.clone(), &counts).await?;
                    }
                    answer(address).await?;
                }
                let _ = ready.send(());
                let _ = stopped.await;
                Ok(())
            })
        };
        let thread = lab.servers().spawn(work)?;
        if is_ready.recv().is_err() {
            let ended = thread.join().unwrap_or(Ok(()));
            let cause = ended.err().unwrap_or_else(|| io::ErrorKind::Other.into());
            return Err(system("the servers")(cause));
        }
        Ok(Self {
            accepted,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Connections that each server has accepted so far.
    #[must_use]
    pub fn accepted(&self) -> [usize; 2] {
        [0, 1].map(|server: usize| self.accepted[server].load(Ordering::Relaxed))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(
    server: usize,
    port: u16,
    wrap: Wrap,
    counts: &Arc<[AtomicUsize; 2]>,
) -> io::Result<()> {
    let listener = TcpListener::bind((SERVERS[server], port)).await?;
    let counts = Arc::clone(counts);
    let accept = async move {
        while let Ok((stream, _)) = listener.accept().await {
            counts[server].fetch_add(1, Ordering::Relaxed);
            let _ = stream.set_nodelay(true);
            let stream = wrap(stream);
            tokio::spawn(async move {
                if let Ok(stream) = stream.await {
                    echo(stream).await;
                }
            });
        }
    };
    tokio::spawn(accept);
    Ok(())
}

async fn answer(server: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((server, PROBE)).await?;
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        }
    });
    Ok(())
}

/// Sends back what comes, until either end has enough.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
