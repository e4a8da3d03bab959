//! Network cards of hosts inside this process: the end of a cable as smoltcp's device.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::segment::opener;

/// A network card.
pub struct Card<F> {
    /// Does not wait.
    cable: UnixDatagram,
    /// Which frames the host takes.
    pub filter: F,
    /// Who is connected: a SYN that comes from there once more is kept away.
    pub open: BTreeSet<SocketAddr>,
}

/// Chooses among the frames that come in.
pub trait Filter {
    /// Whether the host takes this frame, as it is afterwards.
    fn takes(&mut self, frame: &mut [u8]) -> bool;
}

/// Takes all frames.
pub struct Everything;

impl Filter for Everything {
    fn takes(&mut self, _: &mut [u8]) -> bool {
        true
    }
}

impl<F> Card<F> {
    /// A card on a cable that does not wait.
    pub const fn new(cable: UnixDatagram, filter: F) -> Self {
        Self {
            cable,
            filter,
            open: BTreeSet::new(),
        }
    }

    /// A full cable loses the frame, as cables do.
    pub(crate) fn send(&self, frame: &[u8]) {
        let _ = self.cable.send(frame);
    }

    /// Whether the switch takes another frame now. The kernel queues few; without room smoltcp waits.
    fn has_room(&self) -> bool {
        let mut polled = [PollFd::new(self.cable.as_fd(), PollFlags::POLLOUT)];
        ppoll(
            &mut polled,
            Some(TimeSpec::from_duration(Duration::ZERO)),
            None,
        )
        .is_ok_and(|ready| ready > 0)
    }
}

impl<F> AsFd for Card<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cable.as_fd()
    }
}

impl<F: Filter> Device for Card<F> {
    type RxToken<'a>
        = Received
    where
        F: 'a;
    type TxToken<'a>
        = Transmitter<'a>
    where
        F: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received, Transmitter<'_>)> {
        let mut frame = vec![0; MAX_FRAME];
        loop {
            let length = self.cable.recv(&mut frame).ok()?;
            let bytes = &mut frame[..length];
            let again = opener(bytes).is_some_and(|opener| self.open.contains(&opener));
            if !again && self.filter.takes(bytes) {
                frame.truncate(length);
                return Some((Received(frame), Transmitter(&self.cable)));
            }
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmitter<'_>> {
        self.has_room().then_some(Transmitter(&self.cable))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A frame that has come in.
pub struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame that goes out.
pub struct Transmitter<'a>(&'a UnixDatagram);

impl TxToken for Transmitter<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        // A full cable loses the frame, as cables do.
        let _ = self.0.send(&frame);
        result
    }
}

const MAX_FRAME: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::Door;

    #[test]
    fn a_syn_that_comes_once_more_goes_to_no_other_socket() {
        let (cable, far) = UnixDatagram::pair().expect("a cable");
        cable.set_nonblocking(true).expect("it does not wait");
        let mut card = Card::new(cable, Everything);
        let takes = |card: &mut Card<_>, frame: &[u8]| {
            far.send(frame).expect("room on the cable");
            card.receive(Instant::ZERO).is_some()
        };
        // As a server would send it.
        let syn = Door {
            from_mac: [2, 0, 0, 0, 0, 2],
            from: vec!["2001:db8:0:22::11".parse().expect("an address")],
            to_mac: [2, 0, 0, 0, 0, 1],
            to: "2001:db8:9::80".parse().expect("an address"),
            port: 80,
        }
        .knock(7);
        assert!(takes(&mut card, &syn));
        card.open.extend(opener(&syn));
        assert!(!takes(&mut card, &syn));
        card.open.clear();
        assert!(takes(&mut card, &syn));
    }
}
