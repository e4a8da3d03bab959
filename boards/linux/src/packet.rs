//! A port on an interface of the kernel, by a raw packet socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hal::{Losses, Port};

use crate::offload::{self, Offload};
use crate::sys::{self, MAX_BATCH, Received, VNET_HEADER};

/// Room for one received frame; segments merged by the kernel are up to 64 KiB long.
const SLOT: usize = TAG + (64 << 10) + 64;

/// Free bytes before the frame, for the tag that goes back in.
const TAG: usize = 4;

/// One interface. The kernel removes VLAN tags, leaves checksums to the hardware and merges TCP
/// segments; this port gives the node the frames as they are on a cable.
pub struct PacketPort {
    name: String,
    socket: OwnedFd,
    control: OwnedFd,
    headers: Vec<[u8; VNET_HEADER]>,
    storage: Vec<u8>,
    batch: Vec<Received>,
    next: usize,
    count: usize,
    segments: VecDeque<Vec<u8>>,
    losses: Losses,
}

impl PacketPort {
    pub fn open(name: &str) -> Result<Self, String> {
        let control = sys::control_socket().map_err(|error| error.to_string())?;
        match sys::is_set_up(&control, name) {
            Ok(true) => {}
            Ok(false) => return Err(format!("interface is down: `ip link set {name} up`")),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                return Err("no such interface here; `ip link` lists them".into());
            }
            Err(error) => return Err(error.to_string()),
        }
        let socket = sys::packet_socket(name).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                "no permission for packet sockets: run as root, or give the program the \
                 capability with `setcap cap_net_raw,cap_net_admin+ep`"
                    .into()
            }
            _ => format!("cannot open a packet socket: {error}"),
        })?;
        Ok(Self {
            name: name.to_owned(),
            socket,
            control,
            headers: vec![[0; VNET_HEADER]; MAX_BATCH],
            storage: vec![0; SLOT * MAX_BATCH],
            batch: vec![Received::default(); MAX_BATCH],
            next: 0,
            count: 0,
            segments: VecDeque::new(),
            losses: Losses::default(),
        })
    }

    fn refill(&mut self) -> io::Result<bool> {
        self.next = 0;
        self.count = 0; // in case of an error
        self.count = sys::receive_batch(
            self.socket.as_fd(),
            &mut self.headers,
            &mut self.storage,
            SLOT,
            TAG,
            &mut self.batch,
        )?;
        Ok(self.count > 0)
    }
}

impl Port for PacketPort {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        let room = buffer.get_mut(start..)?;
        loop {
            if let Some(segment) = self.segments.pop_front() {
                if let Some(to) = room.get_mut(..segment.len()) {
                    to.copy_from_slice(&segment);
                    return Some(segment.len());
                }
                self.losses.receive += 1;
                continue;
            }
            if self.next == self.count && !self.refill().unwrap_or(false) {
                return None; // nothing there, or the interface is down: `link_up` tells
            }
            let index = self.next;
            self.next += 1;
            let received = self.batch[index];
            if received.outgoing {
                continue;
            }
            let slot = &mut self.storage[index * SLOT..(index + 1) * SLOT];
            let offload = Offload::parse(&self.headers[index]);
            let frame = match received.tag {
                Some(tag) => put_tag_back(&mut slot[..TAG + received.len], tag),
                None => Some(&mut slot[TAG..TAG + received.len]),
            };
            let Some(frame) = frame.filter(|_| !received.cut) else {
                self.losses.receive += 1;
                continue;
            };
            let shift = if received.tag.is_some() { TAG } else { 0 };
            match offload {
                Offload::None => {}
                Offload::Checksum { start, offset } => {
                    offload::complete_checksum(frame, start + shift, offset);
                }
                Offload::TcpSegments { size } => {
                    match offload::segment(frame, size) {
                        Some(segments) => self.segments = segments,
                        None => self.losses.receive += 1,
                    }
                    continue;
                }
                Offload::Unknown => {
                    self.losses.receive += 1;
                    continue;
                }
            }
            let Some(to) = room.get_mut(..frame.len()) else {
                self.losses.receive += 1;
                continue;
            };
            to.copy_from_slice(frame);
            return Some(frame.len());
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let sent = sys::send_packet(self.socket.as_fd(), frame).is_ok();
        if !sent {
            self.losses.transmit += 1;
        }
        sent
    }

    fn link_up(&mut self) -> bool {
        sys::has_carrier(&self.control, &self.name)
    }

    fn arm(&mut self) -> bool {
        self.next == self.count && self.segments.is_empty()
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

impl AsFd for PacketPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Moves the two MAC addresses of a frame that begins after [`TAG`] free bytes to the front, and puts
/// the tag behind them.
fn put_tag_back(slot: &mut [u8], (tpid, tci): (u16, u16)) -> Option<&mut [u8]> {
    if slot.len() < TAG + 14 {
        return None;
    }
    slot.copy_within(TAG..TAG + 12, 0);
    slot[12..14].copy_from_slice(&tpid.to_be_bytes());
    slot[14..16].copy_from_slice(&tci.to_be_bytes());
    Some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_returns_behind_the_addresses() {
        let mut slot = *b"....ddddddssssss\x08\x00payload";
        let frame = put_tag_back(&mut slot, (0x8100, 0x6015)).unwrap();
        assert_eq!(frame, b"ddddddssssss\x81\x00\x60\x15\x08\x00payload");
        assert_eq!(
            put_tag_back(&mut [0; 17], (0x8100, 1)),
            None,
            "too short to have addresses"
        );
    }
}
