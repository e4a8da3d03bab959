//! Raw frames on every interface of a namespace, through one packet socket, so that their order is known.

use std::collections::BTreeMap;
use std::io::{self, Error};
use std::os::fd::{AsRawFd, OwnedFd};

use netns::Namespace;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto,
    setsockopt, socket,
};
use nix::sys::time::TimeVal;
use nix::{setsockopt_impl, sockopt_impl};

/// Sends on and hears all interfaces of one namespace.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// By index.
    interfaces: BTreeMap<u32, LinkAddr>,
}

/// `struct virtio_net_hdr`, in front of every frame: says whether the kernel left a checksum to the hardware.
const VNET_HEADER: usize = 10;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const NEEDS_CHECKSUM: u8 = 1;

sockopt_impl!(VnetHeader, SetOnly, libc::SOL_PACKET, PACKET_VNET_HDR, i32);
sockopt_impl!(
    IgnoreOutgoing,
    SetOnly,
    libc::SOL_PACKET,
    PACKET_IGNORE_OUTGOING,
    i32
);

impl Wire {
    /// A socket in this namespace, for the interfaces that it has now.
    ///
    /// # Errors
    /// When the kernel refuses, as it does without root.
    pub fn open(namespace: &Namespace) -> io::Result<Self> {
        namespace.enter(Self::here).map_err(Error::other)?
    }

    fn here() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        setsockopt(&socket, IgnoreOutgoing, &1)?;
        setsockopt(&socket, VnetHeader, &1)?;
        setsockopt(&socket, RcvBufForce, &(8 << 20))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(5, 0))?;
        let addresses = getifaddrs()?.filter_map(|interface| interface.address);
        let links = addresses.filter_map(|address| address.as_link_addr().copied());
        Ok(Self {
            socket,
            interfaces: links.map(|link| (link.ifindex() as u32, link)).collect(),
        })
    }

    /// Sends one frame out of an interface. With `card`, a TCP segment without options or extension headers in front arrives as
    /// from a card that vouches for its checksum.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&self, interface: u32, frame: &[u8], card: bool) -> io::Result<()> {
        let to = self
            .interfaces
            .get(&interface)
            .ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = [&[0; VNET_HEADER], frame].concat();
        if card {
            vouch(&mut bytes);
        }
        sendto(self.socket.as_raw_fd(), &bytes, to, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame that arrived, and the index of its interface. Waits for at most five seconds.
    ///
    /// # Errors
    /// When nothing came.
    pub fn receive(&self) -> io::Result<(u32, Vec<u8>)> {
        let mut bytes = vec![0; 1 << 16];
        let (len, from) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut bytes)?;
        let from = from.ok_or(io::ErrorKind::InvalidData)?;
        bytes.truncate(len);
        let mut frame = bytes.split_off(VNET_HEADER.min(len));
        if bytes.first() == Some(&NEEDS_CHECKSUM) {
            let word = |at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
            let (start, place) = (word(6), word(6) + word(8));
            // The field holds the sum of the pseudo-header.
            let sum = forge::checksum(&[&frame[start..]]);
            frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Ok((from.ifindex() as u32, frame))
    }
}

/// Leaves a segment's checksum to the card, which is none here: the field holds the sum of the pseudo-header.
fn vouch(bytes: &mut [u8]) {
    const ETHERNET: usize = 14;
    let (header, frame) = bytes.split_at_mut(VNET_HEADER);
    let (start, addresses) = match (frame.get(12..14), frame.get(23), frame.get(20)) {
        (Some([0x08, 0x00]), Some(6), _) => (ETHERNET + 20, ETHERNET + 12..ETHERNET + 20),
        (Some([0x86, 0xdd]), _, Some(6)) => (ETHERNET + 40, ETHERNET + 8..ETHERNET + 40),
        _ => return,
    };
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let len = match start {
        34 => word(ETHERNET + 2) - 20,
        _ => word(ETHERNET + 4),
    };
    let sum = forge::checksum(&[&frame[addresses], &[0, 6], &(len as u16).to_be_bytes()]);
    frame[start + 16..start + 18].copy_from_slice(&(!sum).to_be_bytes());
    header[0] = NEEDS_CHECKSUM;
    header[6..8].copy_from_slice(&(start as u16).to_ne_bytes());
    header[8..10].copy_from_slice(&16_u16.to_ne_bytes());
}
