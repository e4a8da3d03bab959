//! The tester's end of a virtual cable: unix datagrams that tell when the kernel took them.

use std::io::IoSliceMut;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

/// A moment on the clock of frames.
pub type Moment = Duration;

/// One end of a cable.
#[derive(Debug)]
pub struct Cable {
    socket: UnixDatagram,
    here: PathBuf,
    there: PathBuf,
}

impl Cable {
    /// The end at `here` of a cable whose other end is a socket at `there`.
    ///
    /// # Panics
    /// If there can be no such socket.
    #[must_use]
    pub fn new(here: &Path, there: &Path) -> Self {
        let socket = UnixDatagram::bind(here).expect("a cable's end");
        Self::over(socket, here, there)
    }

    /// The same with a socket that is bound to `here` already.
    ///
    /// # Panics
    /// If the kernel does not tell times.
    #[must_use]
    pub fn over(socket: UnixDatagram, here: &Path, there: &Path) -> Self {
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("datagrams have times");
        socket.set_nonblocking(true).expect("a socket");
        let (here, there) = (here.to_owned(), there.to_owned());
        Self {
            socket,
            here,
            there,
        }
    }

    /// Puts a frame on the cable; when that was.
    ///
    /// # Panics
    /// If nobody takes it for long.
    pub fn send(&self, frame: &[u8]) -> Moment {
        let begun = Instant::now();
        loop {
            let now = now();
            match self.socket.send_to(frame, &self.there) {
                Ok(_) => return now,
                Err(error) if begun.elapsed() > PATIENCE => panic!("nobody takes a frame: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// The next frame and when it came, waiting for it until `until`.
    ///
    /// # Panics
    /// If the cable is no more.
    pub fn receive(&self, until: Moment) -> Option<(Moment, Vec<u8>)> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let left = until.checked_sub(now())?;
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            // Interrupted or not, the next turn looks again.
            let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None);
        }
    }

    fn take(&self) -> Option<(Moment, Vec<u8>)> {
        let mut bytes = vec![0; 2048];
        let mut control = nix::cmsg_space!(nix::libc::timespec);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let fd = self.socket.as_raw_fd();
        let message =
            recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)
                .ok()?;
        let time = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
            _ => None,
        });
        let len = message.bytes;
        bytes.truncate(len);
        Some((time.expect("every datagram has a time"), bytes))
    }

    /// Pulls this end out, or puts it back: the other end sees that nobody receives.
    ///
    /// # Panics
    /// If the file of the socket is gone.
    pub fn plug(&self, is_in: bool) {
        let away = self.here.with_extension("away");
        let (from, to) = if is_in {
            (&away, &self.here)
        } else {
            (&self.here, &away)
        };
        std::fs::rename(from, to).expect("the socket's file");
    }
}

/// Now, on the clock of frames.
///
/// # Panics
/// Before 1970.
#[must_use]
pub fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("now")
}

const PATIENCE: Duration = Duration::from_secs(20);
