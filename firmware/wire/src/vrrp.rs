//! VRRPv3 advertisements for IPv4 (RFC 9568 §5).

use core::net::Ipv4Addr;
use core::time::Duration;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;
use crate::ethernet::Mac;
use crate::ipv4;

/// Where all advertisements go (RFC 9568 §5.1.1.2).
pub const MULTICAST: [u8; 4] = [224, 0, 0, 18];
/// The MAC address of [`MULTICAST`] (RFC 1112 §6.4).
pub const MULTICAST_MAC: Mac = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12];
/// The only TTL that an advertisement may arrive with (RFC 9568 §5.1.1.3).
pub const TTL: u8 = 255;
/// Most addresses that one advertisement can carry.
pub const MAX_ADDRESSES: usize = u8::MAX as usize;

/// Fixed part of a VRRPv3 advertisement, in wire order (RFC 9568 §5.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    version_type: u8,
    /// The virtual router that this is about.
    pub vrid: u8,
    /// 0 when the sender gives up, 255 for the owner of the addresses.
    pub priority: u8,
    addr_count: u8,
    max_interval: U16,
    /// Over the message, with or without pseudo-header: see [`Advert::parse`].
    pub checksum: U16,
}

impl Header {
    /// Max Advertise Interval; its four reserved bits are ignored (RFC 9568 §5.2.6).
    #[must_use]
    pub fn interval(&self) -> Duration {
        CENTISECOND * u32::from(self.max_interval.get() & 0x0fff)
    }
}

/// A complete advertisement, borrowed from the receive buffer.
#[derive(Debug)]
pub struct Advert<'a> {
    /// The fixed part.
    pub header: &'a Header,
    /// The addresses that the sender answers for; at least one.
    pub addresses: &'a [[u8; 4]],
}

/// Why an advertisement is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ParseError {
    /// It may come from beyond this link.
    #[error("TTL is {0} instead of {TTL}")]
    Ttl(u8),
    /// VRRPv2, for example.
    #[error("VRRP version {0} is not supported")]
    UnsupportedVersion(u8),
    /// Advertisement is the only type that exists.
    #[error("VRRP message type {0} is unknown")]
    UnknownType(u8),
    /// Shorter than it says.
    #[error("truncated: need {need} bytes, have {have}")]
    Truncated {
        /// Bytes that the header asks for.
        need: usize,
        /// Bytes that came.
        have: usize,
    },
    /// Neither form of the checksum is right.
    #[error("wrong checksum")]
    Checksum,
    /// It is about no address at all.
    #[error("it carries no address")]
    NoAddress,
    /// With it every Backup would time out at once.
    #[error("its interval is zero")]
    ZeroInterval,
}

impl<'a> Advert<'a> {
    /// Checks a received packet in the order of RFC 9568 §7.1 (with its errata 8299 and 8301), except
    /// for the VRID: only the receiver knows which ones it has. `payload` may be longer than the
    /// message (Ethernet padding).
    ///
    /// For IPv4, RFC 9568 §5.2.8 leaves the pseudo-header out of the checksum; keepalived up to 2.3
    /// includes it by default. Both forms are accepted.
    pub fn parse(ip: &ipv4::Header, payload: &'a [u8]) -> Result<Self, ParseError> {
        if ip.ttl != TTL {
            return Err(ParseError::Ttl(ip.ttl));
        }
        let truncated = |need| ParseError::Truncated {
            need,
            have: payload.len(),
        };
        let (header, rest) =
            Header::ref_from_prefix(payload).map_err(|_| truncated(size_of::<Header>()))?;
        let (version, kind) = (header.version_type >> 4, header.version_type & 0x0f);
        if version != VERSION {
            return Err(ParseError::UnsupportedVersion(version));
        }
        if kind != ADVERTISEMENT {
            return Err(ParseError::UnknownType(kind));
        }
        let len = message_len(usize::from(header.addr_count));
        let message = payload.get(..len).ok_or(truncated(len))?;
        let (addresses, _) = rest.as_chunks::<4>();
        let addresses = addresses
            .get(..usize::from(header.addr_count))
            .ok_or(truncated(len))?;
        let with_pseudo_header = pseudo_header(ip.source, ip.destination, len).bytes(message);
        if checksum::of(message) != 0 && with_pseudo_header.finish() != 0 {
            return Err(ParseError::Checksum);
        }
        if addresses.is_empty() {
            return Err(ParseError::NoAddress);
        }
        if header.interval().is_zero() {
            return Err(ParseError::ZeroInterval);
        }
        Ok(Self { header, addresses })
    }

    /// Whether it carries exactly `configured` (no address twice), in any order.
    #[must_use]
    pub fn has_addresses(&self, configured: &[Ipv4Addr]) -> bool {
        let listed = |address: &Ipv4Addr| self.addresses.contains(&address.octets());
        self.addresses.len() == configured.len() && configured.iter().all(listed)
    }
}

/// An advertisement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAdvert<'a> {
    /// The virtual router that this is about.
    pub vrid: u8,
    /// 0 to give up.
    pub priority: u8,
    /// Max Advertise Interval in centiseconds, 1 to 4095.
    pub interval: u16,
    /// The addresses that the sender answers for; those beyond [`MAX_ADDRESSES`] are left out.
    pub addresses: &'a [Ipv4Addr],
}

impl NewAdvert<'_> {
    /// Bytes that [`Self::write`] needs.
    #[must_use]
    pub fn size(&self) -> usize {
        message_len(self.addresses().len())
    }

    /// Writes the message to the front of `buffer`, for a packet from `source` to [`MULTICAST`];
    /// `None` (and nothing written) if it does not fit. The checksum includes the pseudo-header.
    pub fn write<'b>(&self, source: [u8; 4], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let len = self.size();
        let message = buffer.get_mut(..len)?;
        let mut header = Header {
            version_type: VERSION << 4 | ADVERTISEMENT,
            vrid: self.vrid,
            priority: self.priority,
            addr_count: u8::try_from(self.addresses().len()).ok()?,
            max_interval: (self.interval & 0x0fff).into(),
            checksum: 0.into(),
        };
        let mut sum = pseudo_header(source, MULTICAST, len).bytes(header.as_bytes());
        let (front, rest) = message.split_first_chunk_mut::<{ size_of::<Header>() }>()?;
        for (slot, address) in rest.as_chunks_mut().0.iter_mut().zip(self.addresses()) {
            *slot = address.octets();
            sum = sum.bytes(slot);
        }
        header.checksum = sum.finish().into();
        front.copy_from_slice(header.as_bytes());
        Some(message)
    }

    fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses[..self.addresses.len().min(MAX_ADDRESSES)]
    }
}

const VERSION: u8 = 3;
const ADVERTISEMENT: u8 = 1;
const CENTISECOND: Duration = Duration::from_millis(10);

const fn message_len(addresses: usize) -> usize {
    size_of::<Header>() + 4 * addresses
}

fn pseudo_header(source: [u8; 4], destination: [u8; 4], len: usize) -> checksum::Sum {
    // `len` is 8 + 4 * 255 at most.
    checksum::pseudo_header(
        source,
        destination,
        ipv4::VRRP,
        u16::try_from(len).unwrap_or(u16::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from keepalived in its three IPv4 VRRPv3 modes: sender, priority, message. The first
    /// four have the pseudo-header in the checksum; the others, of RFC 9568 mode, do not.
    const CAPTURED: [([u8; 4], u8, [u8; 16]); 7] = [
        (
            [10, 44, 0, 1],
            200,
            *b"\x31\x2c\xc8\x02\x00\x64\x05\x5a\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd",
        ),
        (
            [10, 44, 0, 1],
            0,
            *b"\x31\x2c\x00\x02\x00\x64\xcd\x5a\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd",
        ),
        (
            [10, 44, 0, 2],
            100,
            *b"\x31\x2c\x64\x02\x00\x64\x69\x59\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd",
        ),
        (
            [10, 44, 0, 2],
            0,
            *b"\x31\x2c\x00\x02\x00\x64\xcd\x59\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd",
        ),
        (
            [10, 44, 0, 1],
            200,
            *b"\x31\x2c\xc8\x02\x00\x64\xf0\x19\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd",
        ),
        (
            [10, 44, 0, 1],
            0,
            *b"\x31\x2c\x00\x02\x00\x64\xb8\x1a\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd",
        ),
        (
            [10, 44, 0, 2],
            100,
            *b"\x31\x2c\x64\x02\x00\x64\x54\x1a\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd",
        ),
    ];
    const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 44, 0, 254), Ipv4Addr::new(10, 44, 0, 253)];

    #[test]
    fn captured_adverts_are_understood() {
        for (source, priority, message) in CAPTURED {
            let advert = Advert::parse(&from(source), &message).unwrap();
            assert_eq!((advert.header.vrid, advert.header.priority), (44, priority));
            assert_eq!(advert.header.interval(), Duration::from_secs(1));
            assert!(advert.has_addresses(&ADDRESSES));
        }
    }

    #[test]
    fn what_is_written_is_what_keepalived_writes() {
        for (source, priority, message) in &CAPTURED[..4] {
            let advert = NewAdvert {
                vrid: 44,
                priority: *priority,
                interval: 100,
                addresses: &ADDRESSES,
            };
            assert_eq!(advert.write(*source, &mut [0xaa; 20]), Some(&message[..]));
            assert_eq!(advert.write(*source, &mut [0xaa; 15]), None);
        }
    }

    #[test]
    fn every_interval_and_priority_is_read_as_written() {
        for interval in 1..=4095 {
            let priority = interval as u8;
            let advert = NewAdvert {
                vrid: 7,
                priority,
                interval,
                addresses: &ADDRESSES[..1],
            };
            let mut buffer = [0; 12];
            let message = advert.write([10, 44, 0, 9], &mut buffer).unwrap();
            let read = Advert::parse(&from([10, 44, 0, 9]), message).unwrap();
            assert_eq!(
                read.header.interval(),
                Duration::from_millis(10 * u64::from(interval))
            );
            assert_eq!((read.header.vrid, read.header.priority), (7, priority));
            assert_eq!(read.addresses, [[10, 44, 0, 254]]);
        }
    }

    #[test]
    fn the_most_addresses() {
        let many = [ADDRESSES[0]; 300];
        let advert = NewAdvert {
            vrid: 1,
            priority: 1,
            interval: 1,
            addresses: &many,
        };
        let mut buffer = [0; 2000];
        let message = advert.write([10, 44, 0, 1], &mut buffer).unwrap();
        assert_eq!(message.len(), advert.size());
        assert_eq!(
            Advert::parse(&from([10, 44, 0, 1]), message)
                .unwrap()
                .addresses
                .len(),
            255
        );
    }

    /// Each row spoils one captured advertisement; checks are made in the order of RFC 9568 §7.1, so
    /// rows from the checksum on have their checksum mended.
    #[test]
    fn refusals() {
        type Change = fn(&mut [u8; 16]);
        let table: [(&str, bool, Change, ParseError); 8] = [
            (
                "version 2",
                false,
                |m| m[0] = 0x21,
                ParseError::UnsupportedVersion(2),
            ),
            ("type 2", false, |m| m[0] = 0x32, ParseError::UnknownType(2)),
            (
                "one address more",
                false,
                |m| m[3] = 3,
                ParseError::Truncated { need: 20, have: 16 },
            ),
            (
                "255 addresses",
                false,
                |m| m[3] = 255,
                ParseError::Truncated {
                    need: 1028,
                    have: 16,
                },
            ),
            (
                "a bit of an address",
                false,
                |m| m[11] ^= 1,
                ParseError::Checksum,
            ),
            (
                "one address less",
                false,
                |m| m[3] = 1,
                ParseError::Checksum,
            ),
            ("no address", true, |m| m[3] = 0, ParseError::NoAddress),
            (
                "interval zero but for reserved bits",
                true,
                |m| {
                    [m[4], m[5]] = [0xf0, 0];
                },
                ParseError::ZeroInterval,
            ),
        ];
        for (name, mend, change, error) in table {
            let (source, _, mut message) = CAPTURED[0];
            change(&mut message);
            if mend {
                let len = message_len(usize::from(message[3]));
                message[6..8].fill(0);
                let sum = checksum::of(&message[..len]);
                message[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(
                Advert::parse(&from(source), &message).map(|_| ()),
                Err(error),
                "{name}"
            );
        }
    }

    #[test]
    fn a_routed_packet_is_refused_before_anything_else() {
        for ttl in 0..=254 {
            let ip = ipv4::Header::new([10, 44, 0, 1], MULTICAST, ipv4::VRRP, ttl, 0);
            assert_eq!(
                Advert::parse(&ip, &[]).map(|_| ()),
                Err(ParseError::Ttl(ttl))
            );
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        for (source, _, message) in CAPTURED {
            for len in 0..message.len() {
                assert!(
                    Advert::parse(&from(source), &message[..len]).is_err(),
                    "{len}"
                );
            }
            for bit in 0..8 * message.len() {
                let mut damaged = message;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Advert::parse(&from(source), &damaged).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn padding_after_the_message_is_ignored() {
        let mut padded = [0xee; 46];
        padded[..16].copy_from_slice(&CAPTURED[0].2);
        assert_eq!(
            Advert::parse(&from(CAPTURED[0].0), &padded)
                .unwrap()
                .addresses
                .len(),
            2
        );
    }

    #[test]
    fn addresses_match_in_any_order_only() {
        let advert = Advert::parse(&from([10, 44, 0, 1]), &CAPTURED[0].2).unwrap();
        let [a, b] = ADDRESSES;
        assert!(advert.has_addresses(&[b, a]));
        for other in [&[a][..], &[a, Ipv4Addr::LOCALHOST], &[a, b, b], &[]] {
            assert!(!advert.has_addresses(other), "{other:?}");
        }
    }

    fn from(source: [u8; 4]) -> ipv4::Header {
        ipv4::Header::new(source, MULTICAST, ipv4::VRRP, TTL, 16)
    }
}
