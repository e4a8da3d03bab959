//! IPv4 headers (RFC 791).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{self, Delta};

/// Length of a header without options.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IGMP.
pub const IGMP: u8 = 2;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of VRRP.
pub const VRRP: u8 = 112;

/// Fixed part of the header, in wire order (RFC 791 §3.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    version_ihl: u8,
    /// Differentiated services and ECN.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: U16,
    /// Identification, for reassembly.
    pub id: U16,
    flags_fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// Why bytes are not an IPv4 packet that may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Shorter than a header, or than the header says.
    #[error("truncated: need {need} bytes, have {have}")]
    Truncated {
        /// Bytes that the header asks for.
        need: usize,
        /// Bytes that came.
        have: usize,
    },
    /// Not version 4.
    #[error("IP version {0} is not supported")]
    Version(u8),
    /// Header length below five words, or longer than the packet.
    #[error("header length of {0} bytes is impossible")]
    HeaderLength(usize),
    /// The header checksum is wrong.
    #[error("wrong header checksum")]
    Checksum,
}

impl Header {
    /// Checks version, lengths and checksum; the header and the length of the header with options.
    /// Bytes after `total_len` (Ethernet padding) are allowed.
    pub fn parse(bytes: &[u8]) -> Result<(&Self, usize), ParseError> {
        let (header, _) = Self::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated {
            need: HEADER_LEN,
            have: bytes.len(),
        })?;
        if header.version_ihl >> 4 != 4 {
            return Err(ParseError::Version(header.version_ihl >> 4));
        }
        let len = header.header_len();
        let total = usize::from(header.total_len.get());
        if len < HEADER_LEN || len > total {
            return Err(ParseError::HeaderLength(len));
        }
        let Some(covered) = bytes.get(..len).filter(|_| total <= bytes.len()) else {
            return Err(ParseError::Truncated {
                need: total,
                have: bytes.len(),
            });
        };
        if checksum::of(covered) != 0 {
            return Err(ParseError::Checksum);
        }
        Ok((header, len))
    }

    /// A header without options for `payload` bytes, checksum in place, "don't fragment" set.
    #[must_use]
    pub fn new(
        source: [u8; 4],
        destination: [u8; 4],
        protocol: u8,
        ttl: u8,
        payload: usize,
    ) -> Self {
        let total = u16::try_from(HEADER_LEN + payload).unwrap_or(u16::MAX);
        let mut header = Self {
            version_ihl: 0x45,
            tos: 0,
            total_len: total.into(),
            id: 0.into(),
            flags_fragment: DONT_FRAGMENT.into(),
            ttl,
            protocol,
            checksum: 0.into(),
            source,
            destination,
        };
        header.checksum = checksum::of(header.as_bytes()).into();
        header
    }

    /// A header with the router alert option (RFC 2113) for `payload` bytes that stay on this link: TTL 1, and the precedence of
    /// routers' own packets (RFC 3376 §4).
    #[must_use]
    pub fn with_router_alert(
        source: [u8; 4],
        destination: [u8; 4],
        protocol: u8,
        payload: usize,
    ) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (fixed, option) = bytes.split_at_mut(HEADER_LEN);
        let mut header = Self::new(
            source,
            destination,
            protocol,
            1,
            ROUTER_ALERT.len() + payload,
        );
        header.version_ihl = 0x46;
        header.tos = 0xc0;
        header.checksum = 0.into();
        option.copy_from_slice(&ROUTER_ALERT);
        let sum = checksum::Sum::default()
            .bytes(header.as_bytes())
            .bytes(option);
        header.checksum = sum.finish().into();
        fixed.copy_from_slice(header.as_bytes());
        bytes
    }

    /// Length of the header with options, as it says itself.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// The same header with another type of service.
    #[must_use]
    pub fn with_tos(mut self, tos: u8) -> Self {
        let delta = Delta::NONE.word(u16::from(self.tos), u16::from(tos));
        self.checksum = delta.apply(self.checksum.get()).into();
        self.tos = tos;
        self
    }

    /// The header of a part of this packet: `len` bytes of its payload from `offset` (a multiple of 8) on; `more` if
    /// that is not its end. Only for headers without options.
    #[must_use]
    pub fn fragment(&self, offset: usize, len: usize, more: bool) -> Self {
        let mut part = *self;
        let total = u16::try_from(HEADER_LEN + len).unwrap_or(u16::MAX);
        part.total_len = total.into();
        let mut flags = self.flags_fragment.get();
        flags += u16::try_from(offset / 8).unwrap_or(0);
        if more {
            flags |= MORE_FRAGMENTS;
        }
        part.flags_fragment = flags.into();
        part.checksum = 0.into();
        part.checksum = checksum::of(part.as_bytes()).into();
        part
    }

    /// Where this fragment's bytes belong in the original, in bytes.
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        (self.flags_fragment.get() & FRAGMENT_OFFSET) * 8
    }

    /// Whether routers must not fragment the packet.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.flags_fragment.get() & DONT_FRAGMENT != 0
    }

    /// Whether more fragments follow this one.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.flags_fragment.get() & MORE_FRAGMENTS != 0
    }

    /// Whether this is a part of a fragmented packet, the first one included.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.flags_fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn packet() -> [u8; 24] {
        let mut bytes = [0; 24];
        let header = Header::new([10, 0, 0, 1], [10, 0, 0, 2], UDP, 64, 4);
        header.write_to_prefix(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = packet();
        let (header, len) = Header::parse(&bytes).unwrap();
        assert_eq!(
            (header.source, header.destination),
            ([10, 0, 0, 1], [10, 0, 0, 2])
        );
        assert_eq!((header.ttl, header.protocol, len), (64, UDP, HEADER_LEN));
        assert!(!header.is_fragment());
    }

    #[test]
    fn refusals() {
        type Change = fn(&mut [u8; 24]);
        let table: [(&str, Change, ParseError); 5] = [
            ("version 6", |b| b[0] = 0x65, ParseError::Version(6)),
            ("four words", |b| b[0] = 0x44, ParseError::HeaderLength(16)),
            (
                "header beyond total",
                |b| b[3] = 19,
                ParseError::HeaderLength(20),
            ),
            (
                "total beyond end",
                |b| b[3] = 25,
                ParseError::Truncated { need: 25, have: 24 },
            ),
            ("one bit", |b| b[8] ^= 1, ParseError::Checksum),
        ];
        for (name, change, error) in table {
            let mut bytes = packet();
            change(&mut bytes);
            assert_eq!(Header::parse(&bytes).map(|_| ()), Err(error), "{name}");
        }
        for len in 0..HEADER_LEN {
            assert!(Header::parse(&packet()[..len]).is_err(), "{len}");
        }
    }

    /// A packet, or itself a fragment, in two parts: RFC 791 §3.2.
    #[test]
    fn fragments_of_fragments() {
        for (word, first, last) in [
            (0x0000_u16, 0x2000_u16, 0x0002_u16),
            (0x2005, 0x2005, 0x2007),
            (0x0005, 0x2005, 0x0007),
        ] {
            let mut bytes = packet();
            bytes[6..8].copy_from_slice(&word.to_be_bytes());
            let (header, _) = Header::ref_from_prefix(&bytes).unwrap();
            for (part, flags, len) in [
                (header.fragment(0, 16, true), first, 16),
                (header.fragment(16, 4, false), last, 4),
            ] {
                let whole = [part.as_bytes(), &[0; 16]].concat();
                let (part, _) = Header::parse(&whole).unwrap();
                assert_eq!(part.flags_fragment.get(), flags, "{word:#x}");
                assert_eq!(usize::from(part.total_len.get()), HEADER_LEN + len);
                assert_eq!((part.id, part.ttl), (header.id, header.ttl));
            }
        }
    }

    #[test]
    fn both_ends_of_a_fragmented_packet_are_fragments() {
        for (word, fragment) in [
            (0x4000_u16, false),
            (0x2000, true),
            (0x0001, true),
            (0x3fff, true),
        ] {
            let mut bytes = packet();
            bytes[6..8].copy_from_slice(&word.to_be_bytes());
            let (header, _) = Header::ref_from_prefix(&bytes).unwrap();
            assert_eq!(header.is_fragment(), fragment, "{word:#x}");
        }
    }
}
