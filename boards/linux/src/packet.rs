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

    /// Two ports on the ends of a veth pair, in a network namespace of this thread's own.
    #[test]
    fn frames_pass_as_they_are_on_a_cable() {
        let root = nix::unistd::Uid::effective().is_root();
        assert!(
            root,
            "network namespaces need root: run `sudo ./ravelin test`"
        );
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add left type veth peer name right");
        for end in ["left", "right"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1").ok();
        }
        let down = PacketPort::open("left").err().unwrap();
        assert_eq!(down, "interface is down: `ip link set left up`");
        assert!(
            PacketPort::open("none")
                .err()
                .unwrap()
                .starts_with("no such interface")
        );
        ip("link set left up");
        ip("link set right up");
        let (mut a, mut b) = (
            PacketPort::open("left").unwrap(),
            PacketPort::open("right").unwrap(),
        );
        wait_for(|| a.link_up() && b.link_up());

        let stranger = b"\x00\x00\x5e\x00\x01\x15\x02\x00\x00\x00\x00\x09";
        let long = [7; 1500];
        for (name, rest) in [
            ("untagged", &b"\x88\xb5untagged"[..]),
            ("tagged", b"\x81\x00\x60\x15\x88\xb5tagged"),
            (
                "tagged twice",
                b"\x88\xa8\x00\x64\x81\x00\x00\x16\x88\xb5tagged twice",
            ),
            (
                "full size, tagged",
                &[b"\x81\x00\x00\x17\x88\xb5", &long[..]].concat(),
            ),
        ] {
            let frame = [&stranger[..], rest].concat();
            assert!(b.transmit(&frame), "{name}");
            let mut buffer = [0; 2000];
            let mut len = None;
            wait_for(|| {
                len = a.receive(&mut buffer, 6);
                len.is_some()
            });
            assert_eq!(buffer[6..6 + len.unwrap()], frame, "{name}");
            assert_eq!(
                b.receive(&mut buffer, 6),
                None,
                "{name}: our own frames do not come back"
            );
        }
        let mut short = [0; 100];
        assert!(b.transmit(&[&stranger[..], b"\x88\xb5", &long[..]].concat()));
        wait_for(|| {
            assert_eq!(a.receive(&mut short, 6), None, "it does not fit");
            a.losses().receive == 1
        });
        assert!(!b.transmit(&[0; 3000]), "longer than the interface takes");
        assert_eq!(b.losses().transmit, 1);

        ip("link set right down");
        wait_for(|| !a.link_up());
        ip("link del left");
        wait_for(|| !a.link_up() && !a.transmit(stranger));
    }

    fn ip(arguments: &str) {
        let status = std::process::Command::new("ip")
            .args(arguments.split(' '))
            .status();
        let status = status.expect("ip is missing: apt-get install iproute2");
        assert!(status.success(), "ip {arguments}");
    }

    fn wait_for(mut condition: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !condition() {
            assert!(start.elapsed().as_secs() < 20, "never happened");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
