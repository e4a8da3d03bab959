//! Connections of clients through the virtual address, each with data going both ways at its own pace.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::{CLIENTS, ECHO, Error, Lab, VIRTUAL, system};

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// Bytes in one block; every block has to come back as it was.
    pub block: usize,
    /// Time between two blocks; `None` for a connection that is idle until [`Load::ask_all`].
    pub pause: Option<Duration>,
}

/// How a connection fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Blocks that came back.
    pub blocks: u64,
    /// When the last one did, or when it was opened.
    pub last: Instant,
    /// Longest time between two since [`Load::mark`].
    pub stall: Duration,
    /// Why there will be no more.
    pub broken: Option<String>,
}

/// Some connections that carry the same.
#[derive(Debug)]
pub struct Load {
    connections: Arc<[Mutex<Connection>]>,
    asked: watch::Sender<u64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A stream inside the TCP connection, as TLS is one.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What makes of a TCP connection what is spoken over it.
pub type Wrap = Arc<
    dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>
        + Send
        + Sync,
>;

/// Nothing else than TCP.
#[must_use]
pub fn plain() -> Wrap {
    Arc::new(|stream| Box::pin(async { Ok::<Box<dyn Stream>, _>(Box::new(stream)) }))
}

impl Load {
    /// Opens connections to the TCP service, and returns when all of them are open.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn open(lab: &Lab, count: usize, talk: Talk) -> Result<Self, Error> {
        Self::open_with(lab, CLIENTS[0], ECHO, count, talk, plain())
    }

    /// The same from another client, to another port, with something in the TCP connection.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn open_with(
        lab: &Lab,
        from: Ipv4Addr,
        port: u16,
        count: usize,
        talk: Talk,
        wrap: Wrap,
    ) -> Result<Self, Error> {
        let new = || {
            Mutex::new(Connection {
                blocks: 0,
                last: Instant::now(),
                stall: Duration::ZERO,
                broken: None,
            })
        };
        let connections: Arc<[_]> = std::iter::repeat_with(new).take(count).collect();
        let (asked, asking) = watch::channel(0);
        let (stop, stopped) = oneshot::channel();
        let (opened, all_open) = std::sync::mpsc::channel();
        let all = Arc::clone(&connections);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                for index in 0..count {
                    let stream = match open(from, port, &wrap).await {
                        Ok(stream) => stream,
                        Err(error) => return drop(opened.send(Err(error))),
                    };
                    let (all, asking) = (Arc::clone(&all), asking.clone());
                    tokio::spawn(async move {
                        let result = converse(stream, talk, &all[index], asking).await;
                        let broken = result.err().map(|error| error.to_string());
                        lock(&all[index]).broken = broken;
                    });
                }
                let _ = opened.send(Ok(()));
                let _ = stopped.await;
            });
        };
        let thread = lab.clients().spawn(work)?;
        let result = all_open.recv();
        let result = result.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        result.map_err(system("opening connections"))?;
        Ok(Self {
            connections,
            asked,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Stalls are measured from now on.
    pub fn mark(&self) {
        for connection in &*self.connections {
            lock(connection).stall = Duration::ZERO;
        }
    }

    /// Every idle connection sends a block.
    pub fn ask_all(&self) {
        self.asked.send_modify(|number| *number += 1);
    }

    /// How all of them fare; who waits for a block now has stalled since the last one.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let connections = self
            .connections
            .iter()
            .map(|connection| lock(connection).clone());
        connections.collect()
    }

    /// Waits until every connection has had a block since `moment` or is broken; how many are not well in the end.
    #[must_use]
    pub fn broken_after(&self, moment: Instant, patience: Duration) -> Vec<Connection> {
        let begun = Instant::now();
        loop {
            let mut connections = self.connections();
            connections.retain(|one| one.broken.is_some() || one.last <= moment);
            let waiting = connections.iter().any(|one| one.broken.is_none());
            if !waiting || begun.elapsed() > patience {
                return connections;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Lab {
    /// Opens so many connections at once from a client to a port of the virtual address, and closes them; how many opened in
    /// time.
    ///
    /// # Errors
    /// If the client cannot try.
    pub fn knock(
        &self,
        from: Ipv4Addr,
        port: u16,
        count: usize,
        patience: Duration,
    ) -> Result<usize, Error> {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let attempt = || async move {
                let connected = connect(from, port);
                matches!(tokio::time::timeout(patience, connected).await, Ok(Ok(_)))
            };
            let attempts: Vec<_> = {
                let _inside = runtime.enter();
                (0..count).map(|_| tokio::spawn(attempt())).collect()
            };
            runtime.block_on(async {
                let mut opened = 0;
                for attempt in attempts {
                    opened += usize::from(attempt.await.unwrap_or(false));
                }
                Ok(opened)
            })
        };
        self.clients().enter(work)?.map_err(system("knocking"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn open(from: Ipv4Addr, port: u16, wrap: &Wrap) -> io::Result<Box<dyn Stream>> {
    let stream = tokio::time::timeout(PATIENCE, connect(from, port)).await??;
    tokio::time::timeout(PATIENCE, wrap(stream)).await?
}

async fn connect(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.set_nodelay(true)?;
    socket.connect(SocketAddr::from((VIRTUAL, port))).await
}

/// Sends and takes back blocks until something is not as it should be.
async fn converse(
    stream: Box<dyn Stream>,
    talk: Talk,
    state: &Mutex<Connection>,
    mut asking: watch::Receiver<u64>,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let send = async {
        for number in 0_u64.. {
            match talk.pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None if asking.changed().await.is_err() => break,
                None => {}
            }
            to.write_all(&block(number, talk.block)).await?;
            to.flush().await?;
        }
        Ok::<_, io::Error>(())
    };
    let receive = async {
        let mut buffer = vec![0; talk.block];
        for number in 0_u64.. {
            from.read_exact(&mut buffer).await?;
            if buffer != block(number, talk.block) {
                return Err(io::Error::other("other bytes came back"));
            }
            let mut state = lock(state);
            let now = Instant::now();
            state.stall = state.stall.max(now.duration_since(state.last));
            state.last = now;
            state.blocks += 1;
        }
        Ok(())
    };
    tokio::try_join!(send, receive).map(drop)
}

/// No two blocks of a connection are alike for long.
fn block(number: u64, length: usize) -> Vec<u8> {
    let of = |at: usize| (number.wrapping_mul(31).wrapping_add(at as u64) % 251) as u8;
    (0..length).map(of).collect()
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

const PATIENCE: Duration = Duration::from_secs(10);
