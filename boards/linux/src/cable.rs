//! A virtual cable: a pair of unix datagram sockets, one frame per datagram, as QEMU's
//! `-netdev dgram` speaks it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hal::{Losses, Port};

/// Time between two looks whether the other end is there.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a full socket is waited for.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long it is not after that was in vain.
const HURRY: Duration = Duration::from_millis(20);

/// One end of a cable. It has a carrier while somebody receives at the other end.
pub struct Cable {
    socket: UnixDatagram,
    local: PathBuf,
    remote: PathBuf,
    up: bool,
    checked: Option<Instant>,
    /// Until when nobody is waited for.
    hurry_until: Option<Instant>,
    losses: Losses,
}

impl Cable {
    pub fn open(local: &Path, remote: &Path) -> Result<Self, String> {
        let socket = bind(local).map_err(|error| {
            let path = local.display();
            match error.kind() {
                ErrorKind::NotFound => format!("cannot bind {path}: its directory does not exist"),
                ErrorKind::AddrInUse => {
                    format!("{path} is in use: does the appliance run already?")
                }
                _ => format!("cannot bind {path}: {error}"),
            }
        })?;
        socket
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            socket,
            local: local.to_owned(),
            remote: remote.to_owned(),
            up: true,
            checked: None,
            hurry_until: None,
            losses: Losses::default(),
        })
    }
}

impl Cable {
    /// A socket holds ten datagrams (`net.unix.max_dgram_qlen`), fewer than an appliance may have to say at once. Who reads them
    /// gets a moment to; but not with every frame if it reads none.
    fn send(&mut self, frame: &[u8]) -> io::Result<usize> {
        let is_full = |sent: &io::Result<usize>| {
            (sent.as_ref()).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        let mut sent = self.socket.send_to(frame, &self.remote);
        let now = Instant::now();
        if !is_full(&sent) || self.hurry_until.is_some_and(|until| now < until) {
            return sent;
        }
        while is_full(&sent) && now.elapsed() < PATIENCE {
            std::thread::yield_now();
            sent = self.socket.send_to(frame, &self.remote);
        }
        self.hurry_until = is_full(&sent).then(|| now + HURRY);
        sent
    }
}

impl Port for Cable {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        // A frame that fills the buffer to its last byte may have been cut: it counts as too long.
        let room = buffer.get_mut(start..)?;
        loop {
            match self.socket.recv(room) {
                Ok(len) if len < room.len() => return Some(len),
                Ok(_) => self.losses.receive += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let sent = self.send(frame);
        if let Err(error) = &sent {
            self.losses.transmit += 1;
            if error.kind() != ErrorKind::WouldBlock {
                self.checked = None; // look at once
            }
        }
        sent.is_ok()
    }

    fn link_up(&mut self) -> bool {
        if self
            .checked
            .is_none_or(|when| when.elapsed() >= CHECK_INTERVAL)
        {
            self.checked = Some(Instant::now());
            self.up = is_bound(&self.remote);
        }
        self.up
    }

    fn arm(&mut self) -> bool {
        true // the loop polls the file descriptor
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

impl AsFd for Cable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        std::fs::remove_file(&self.local).ok();
    }
}

/// Binds `path`, over what a killed process left there but not over a live socket.
fn bind(path: &Path) -> io::Result<UnixDatagram> {
    match UnixDatagram::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            UnixDatagram::bind(path)
        }
        bound => bound,
    }
}

/// Whether `path` is a socket that nobody receives at any more.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    is_socket && !is_bound(path)
}

/// Whether a socket receives at `path`.
fn is_bound(path: &Path) -> bool {
    let Ok(probe) = UnixDatagram::unbound() else {
        return false;
    };
    match probe.connect(path) {
        Ok(()) => true,
        // It is there, but connected to its own peer.
        Err(error) => error.raw_os_error() == Some(libc::EPERM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_carrier() {
        let dir = std::env::temp_dir().join(format!("rv-cable-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (a, b) = (dir.join("a"), dir.join("b"));
        let mut cable = Cable::open(&a, &b).unwrap();
        let mut buffer = [0; 64];

        assert!(!cable.link_up(), "nobody at the other end");
        assert!(!cable.transmit(b"lost"));

        let peer = UnixDatagram::bind(&b).unwrap();
        assert!(cable.link_up(), "a failed transmit makes it look again");
        assert!(cable.transmit(b"hello"));
        assert_eq!(peer.recv(&mut buffer).unwrap(), 5);

        peer.send_to(&[7; 100], &a).unwrap();
        peer.send_to(&[8; 10], &a).unwrap();
        assert_eq!(
            cable.receive(&mut buffer, 6),
            Some(10),
            "the long one is dropped"
        );
        assert_eq!(buffer[6..16], [8; 10]);
        assert_eq!(cable.receive(&mut buffer, 6), None);
        assert_eq!(
            cable.losses(),
            Losses {
                receive: 1,
                transmit: 1
            }
        );

        assert!(Cable::open(&a, &b).err().unwrap().contains("in use"));
        drop(peer);
        std::fs::remove_dir_all(&dir).unwrap();
        cable.checked = None;
        assert!(!cable.link_up(), "the socket file is gone");
    }
}
