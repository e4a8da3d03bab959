//! Frames as a MAC delivers them, in buffers of their own.

use core::net::IpAddr;

use wire::ethernet::{self, Mac};
use wire::frame::HEADROOM;
use wire::tcp::{self, Flags};
use wire::{Frame, checksum, ipv4, ipv6};
use zerocopy::IntoBytes;

/// A frame in the middle of a buffer, as a driver would have received it.
#[derive(Clone, Copy, Debug)]
#[repr(align(4))]
pub struct Packet {
    bytes: [u8; 128],
    len: usize,
}

/// What a TCP segment or UDP datagram without data says.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    /// Sequence and acknowledgment number and flags; `None` for UDP.
    pub tcp: Option<(u32, u32, Flags)>,
    pub ttl: u8,
}

impl Packet {
    /// A frame whose body `write` writes; `None` if it does not.
    pub fn new(
        (destination, source): (Mac, Mac),
        vlan: Option<u16>,
        ethertype: u16,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<Self> {
        let mut bytes = [0; 128];
        let space = bytes.get_mut(HEADROOM..)?;
        let start = ethernet::write(space, destination, source, vlan, ethertype)?;
        let len = start + write(space.get_mut(start..)?)?;
        Some(Self {
            bytes,
            len: len.max(ethernet::MIN_LEN),
        })
    }

    /// The frame, to be rewritten in place.
    #[inline]
    pub fn frame(&mut self) -> Option<Frame<'_>> {
        Frame::new(&mut self.bytes, HEADROOM, self.len)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
            .get(HEADROOM..HEADROOM + self.len)
            .unwrap_or_default()
    }
}

impl Content {
    pub fn ethertype(&self) -> u16 {
        match self.to.0 {
            IpAddr::V4(_) => ethernet::IPV4,
            IpAddr::V6(_) => ethernet::IPV6,
        }
    }

    /// Writes the IP packet with all its checksums; its length. Both ends must be of one version.
    pub fn write(&self, space: &mut [u8]) -> Option<usize> {
        let mut transport = [0; tcp::HEADER_LEN];
        let ports = (self.from.1, self.to.1);
        let (transport, sum_at, protocol) = match self.tcp {
            Some((sequence, acknowledgment, flags)) => {
                let tcp = tcp::Header::new(ports, sequence, acknowledgment, flags, 65_000);
                tcp.write_to(&mut transport).ok()?;
                (&mut transport[..], 16, ipv4::TCP)
            }
            None => {
                let udp = transport.get_mut(..tcp::UDP_HEADER_LEN)?;
                udp[0..2].copy_from_slice(&ports.0.to_be_bytes());
                udp[2..4].copy_from_slice(&ports.1.to_be_bytes());
                udp[4..6].copy_from_slice(&(tcp::UDP_HEADER_LEN as u16).to_be_bytes());
                (udp, 6, ipv4::UDP)
            }
        };
        let len = transport.len() as u16;
        let (header, sum) = match (self.from.0, self.to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let ip = ipv4::Header::new(from, to, protocol, self.ttl, len.into());
                ip.write_to_prefix(space).ok()?;
                let sum = checksum::pseudo_header(from, to, protocol, len);
                (ipv4::HEADER_LEN, sum)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let ip = ipv6::Header::new(from, to, protocol, self.ttl, len.into());
                ip.write_to_prefix(space).ok()?;
                let sum = ipv6::pseudo_header(from, to, protocol, len);
                (ipv6::HEADER_LEN, sum)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        let sum = sum.bytes(transport).finish();
        transport[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        let end = header + transport.len();
        space.get_mut(header..end)?.copy_from_slice(transport);
        Some(end)
    }
}
