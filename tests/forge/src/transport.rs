//! What packets carry.

use std::net::IpAddr;

use crate::Sum;

/// TCP control bits by name.
pub mod flags {
    #![allow(missing_docs, reason = "the names of RFC 9293 §3.1")]
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const URG: u8 = 32;
    pub const ECE: u8 = 64;
    pub const CWR: u8 = 128;
}

/// Something with a checksum over the addresses of its packet.
pub trait Transport {
    /// Its protocol number between these addresses.
    fn protocol(&self, ends: (IpAddr, IpAddr)) -> u8;
    /// Its bytes.
    fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8>;
}

/// Addresses, length and protocol, which checksums begin with (RFC 9293 §3.1, RFC 8200 §8.1).
pub(crate) fn pseudo(ends: (IpAddr, IpAddr), protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for end in [ends.0, ends.1] {
        match end {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, filled up with zeros to a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Data offset in 4 bytes; `None` for the right one.
    pub offset: Option<u8>,
    /// Data.
    pub payload: Vec<u8>,
    /// Checksum.
    pub checksum: Sum,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            source: 40_000,
            destination: 80,
            sequence: 1000,
            acknowledgment: 0,
            flags: flags::SYN,
            window: 0xfaf0,
            urgent: 0,
            options: Vec::new(),
            offset: None,
            payload: Vec::new(),
            checksum: Sum::Good,
        }
    }
}

impl Transport for Tcp {
    fn protocol(&self, _: (IpAddr, IpAddr)) -> u8 {
        6
    }

    fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let offset = self.offset.unwrap_or((5 + options.len() / 4) as u8);
        let mut bytes = self.source.to_be_bytes().to_vec();
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgment.to_be_bytes());
        bytes.extend([offset << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(options);
        bytes.extend(&self.payload);
        let sum = self.checksum.of(&[&pseudo(ends, 6, bytes.len()), &bytes]);
        bytes[16..18].copy_from_slice(&sum);
        bytes
    }
}

/// A UDP datagram.
#[derive(Clone, Debug, Default)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Length; `None` for the right one.
    pub length: Option<u16>,
    /// Checksum.
    pub checksum: Sum,
    /// Data.
    pub payload: Vec<u8>,
}

impl Transport for Udp {
    fn protocol(&self, _: (IpAddr, IpAddr)) -> u8 {
        17
    }

    fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let length = self.length.unwrap_or((8 + self.payload.len()) as u16);
        let mut bytes = self.source.to_be_bytes().to_vec();
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(&self.payload);
        let mut sum = self.checksum.of(&[&pseudo(ends, 17, bytes.len()), &bytes]);
        // Zero would say that there is no checksum (RFC 768).
        if self.checksum == Sum::Good && sum == [0, 0] {
            sum = [0xff, 0xff];
        }
        bytes[6..8].copy_from_slice(&sum);
        bytes
    }
}

/// An ICMP or ICMPv6 message, by the version of the addresses.
#[derive(Clone, Debug, Default)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Bytes 4 to 7: identifier and sequence number, MTU, or unused.
    pub rest: [u8; 4],
    /// What follows: data or the quote.
    pub payload: Vec<u8>,
    /// Checksum.
    pub checksum: Sum,
}

impl Icmp {
    /// An echo message with this identifier; `kind` is 8, 0, 128 or 129.
    #[must_use]
    pub fn echo(kind: u8, id: u16, sequence: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
        Self {
            kind,
            rest: [a, b, c, d],
            payload: b"abcdefgh".to_vec(),
            ..Self::default()
        }
    }

    /// An error about a packet, of which it quotes at most `most` bytes.
    #[must_use]
    pub fn about(kind: u8, code: u8, packet: &[u8], most: usize) -> Self {
        Self {
            kind,
            code,
            payload: packet[..packet.len().min(most)].to_vec(),
            ..Self::default()
        }
    }
}

impl Transport for Icmp {
    fn protocol(&self, ends: (IpAddr, IpAddr)) -> u8 {
        if ends.0.is_ipv4() { 1 } else { 58 }
    }

    fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.code, 0, 0];
        bytes.extend(self.rest);
        bytes.extend(&self.payload);
        let sum = match ends.0 {
            IpAddr::V4(_) => self.checksum.of(&[&bytes]),
            IpAddr::V6(_) => self.checksum.of(&[&pseudo(ends, 58, bytes.len()), &bytes]),
        };
        bytes[2..4].copy_from_slice(&sum);
        bytes
    }
}
