//! TCP segments (RFC 9293) as the filter and the health checks look at them, and UDP's header.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;
use crate::ipv4;

/// Length of a header without options.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Length of a UDP header.
pub const UDP_HEADER_LEN: usize = size_of::<UdpHeader>();

/// Fixed part of the header, in wire order (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Sequence number.
    pub sequence: U32,
    /// Acknowledgment number.
    pub acknowledgment: U32,
    offset: u8,
    flags: u8,
    /// Receive window, unscaled.
    pub window: U16,
    /// Checksum over pseudo-header, header and data.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl Header {
    /// A header without options; its checksum is still zero.
    #[must_use]
    pub fn new(
        ports: (u16, u16),
        sequence: u32,
        acknowledgment: u32,
        flags: Flags,
        window: u16,
    ) -> Self {
        Self {
            source: ports.0.into(),
            destination: ports.1.into(),
            sequence: sequence.into(),
            acknowledgment: acknowledgment.into(),
            offset: (HEADER_LEN as u8 / 4) << 4,
            flags: flags.0,
            window: window.into(),
            checksum: 0.into(),
            urgent: 0.into(),
        }
    }

    /// Checks the data offset against the length; the checksum is the receiver's business.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        let (header, _) = Self::ref_from_prefix(bytes).ok()?;
        let len = header.header_len();
        (len >= HEADER_LEN && len <= bytes.len()).then_some(header)
    }

    /// Length of the header with options.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.offset >> 4) * 4
    }

    /// The control bits.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags(self.flags)
    }
}

/// Header of a UDP datagram (RFC 768).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Length of header and data.
    pub length: U16,
    /// Checksum; zero if the sender computed none.
    pub checksum: U16,
}

/// TCP control bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this opens a connection: SYN without ACK.
    #[must_use]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0) == Self::SYN.0
    }

    /// Whether a real TCP can have sent this: exactly the segments of RFC 9293 §3.10 have a SYN alone or
    /// with ACK, or an ACK, or an RST without urgent data. Scans use the others (null, FIN, Xmas, SYN+FIN, SYN+RST).
    #[must_use]
    pub const fn valid(self) -> bool {
        let control = self.0 & (Self::SYN.0 | Self::RST.0 | Self::FIN.0);
        match control {
            0 | 0x01 => self.contains(Self::ACK),
            0x02 | 0x04 => !self.contains(Self::URG),
            _ => false,
        }
    }
}

/// What a segment without data says, for [`write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source address and port.
    pub source: ([u8; 4], u16),
    /// Destination address and port.
    pub destination: ([u8; 4], u16),
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Control bits.
    pub flags: Flags,
    /// Receive window.
    pub window: u16,
}

/// Length of the packet that [`write`] makes.
pub const SEGMENT_LEN: usize = ipv4::HEADER_LEN + HEADER_LEN;

/// Writes a complete IPv4 packet with a TCP segment that has no options and no data.
#[must_use]
pub fn write(segment: &Segment) -> [u8; SEGMENT_LEN] {
    let (source, destination) = (segment.source.0, segment.destination.0);
    let ports = (segment.source.1, segment.destination.1);
    let mut tcp = Header::new(
        ports,
        segment.sequence,
        segment.acknowledgment,
        segment.flags,
        segment.window,
    );
    let pseudo = checksum::pseudo_header(source, destination, ipv4::TCP, HEADER_LEN as u16);
    tcp.checksum = pseudo.bytes(tcp.as_bytes()).finish().into();
    let ip = ipv4::Header::new(source, destination, ipv4::TCP, DEFAULT_TTL, HEADER_LEN);
    let mut packet = [0; SEGMENT_LEN];
    let (front, back) = packet.split_at_mut(ipv4::HEADER_LEN);
    front.copy_from_slice(ip.as_bytes());
    back.copy_from_slice(tcp.as_bytes());
    packet
}

/// TTL of packets that the appliance itself originates (RFC 1700).
pub const DEFAULT_TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let segment = Segment {
            source: ([10, 0, 0, 1], 40_000),
            destination: ([10, 0, 0, 2], 443),
            sequence: 0xdead_beef,
            acknowledgment: 7,
            flags: Flags::SYN.with(Flags::ACK),
            window: 1024,
        };
        let packet = write(&segment);
        let (ip, len) = ipv4::Header::parse(&packet).unwrap();
        let tcp = Header::parse(&packet[len..]).unwrap();
        assert_eq!((ip.source, tcp.source.get()), segment.source);
        assert_eq!((ip.destination, tcp.destination.get()), segment.destination);
        assert_eq!(tcp.sequence.get(), segment.sequence);
        assert_eq!(tcp.acknowledgment.get(), segment.acknowledgment);
        assert_eq!(tcp.flags(), segment.flags);
        let pseudo = checksum::pseudo_header(ip.source, ip.destination, ipv4::TCP, 20);
        assert_eq!(pseudo.bytes(&packet[len..]).finish(), 0);
    }

    #[test]
    fn offset_must_fit() {
        let segment = Segment {
            source: ([1; 4], 1),
            destination: ([2; 4], 2),
            sequence: 0,
            acknowledgment: 0,
            flags: Flags::RST,
            window: 0,
        };
        let mut tcp = write(&segment)[20..].to_vec();
        assert!(Header::parse(&tcp).is_some());
        for (offset, fits) in [(0x40, false), (0x50, true), (0x60, false), (0xf0, false)] {
            tcp[12] = offset;
            assert_eq!(Header::parse(&tcp).is_some(), fits, "{offset:#x}");
        }
    }

    /// Every combination of the six classic bits; ECN bits change nothing.
    #[test]
    fn flag_combinations() {
        let (fin, syn, rst, ack, urg) = (1, 2, 4, 16, 32);
        for bits in 0..64_u8 {
            let has = |bit: u8| bits & bit != 0;
            let control = [fin, syn, rst].into_iter().filter(|b| has(*b)).count();
            let expected = control <= 1
                && (has(syn) || has(rst) || has(ack))
                && !((has(syn) || has(rst)) && has(urg));
            assert_eq!(Flags(bits).valid(), expected, "{bits:#08b}");
            assert_eq!(Flags(bits | 0xc0).valid(), expected, "{bits:#08b} with ECN");
        }
    }
}
