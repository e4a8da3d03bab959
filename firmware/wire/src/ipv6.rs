//! IPv6 headers, and the walk along their extension headers to the transport (RFC 8200).

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::Sum;

/// Length of the fixed header.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Packets up to this length reach everybody without fragmentation (RFC 8200 §5).
pub const MIN_MTU: usize = 1280;

/// Next Header value of hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next Header value of a routing header.
pub const ROUTING: u8 = 43;
/// Next Header value of a fragment header.
pub const FRAGMENT: u8 = 44;
/// Next Header value of an authentication header (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next Header value of ICMPv6.
pub const ICMP: u8 = 58;
/// Next Header value of "nothing follows".
pub const NO_NEXT_HEADER: u8 = 59;
/// Next Header value of destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Most extension headers that [`walk`] passes. Every order that RFC 8200 §4.1 recommends fits.
pub const MAX_EXTENSIONS: usize = 8;
/// Most bytes of extension headers that [`walk`] passes. Real ones have 8 to 40 (RFC 9098).
pub const MAX_EXTENSION_BYTES: usize = 256;

/// Fixed header, in wire order (RFC 8200 §3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    version_class_flow: U32,
    /// Length of all that follows this header.
    pub payload_len: U16,
    /// What follows: an extension header or the transport.
    pub next_header: u8,
    /// Counted down by each router.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

/// Why bytes are not an IPv6 packet that may be looked at.
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
    /// Not version 6.
    #[error("IP version {0} is not supported")]
    Version(u8),
}

impl Header {
    /// Checks version and lengths. Bytes after the payload (Ethernet padding) are allowed; jumbograms
    /// (RFC 2675) have a payload length of zero and count as empty.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<&Self, ParseError> {
        let (header, rest) = Self::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated {
            need: HEADER_LEN,
            have: bytes.len(),
        })?;
        if header.version() != 6 {
            return Err(ParseError::Version(header.version()));
        }
        let payload = usize::from(header.payload_len.get());
        if payload > rest.len() {
            return Err(ParseError::Truncated {
                need: HEADER_LEN + payload,
                have: bytes.len(),
            });
        }
        Ok(header)
    }

    /// A header for `payload` bytes; traffic class and flow label are zero.
    #[must_use]
    pub fn new(
        source: [u8; 16],
        destination: [u8; 16],
        next_header: u8,
        hop_limit: u8,
        payload: usize,
    ) -> Self {
        Self {
            version_class_flow: (6 << 28).into(),
            payload_len: u16::try_from(payload).unwrap_or(u16::MAX).into(),
            next_header,
            hop_limit,
            source,
            destination,
        }
    }

    /// Length of header and payload, as it says itself.
    #[must_use]
    pub fn total_len(&self) -> usize {
        HEADER_LEN + usize::from(self.payload_len.get())
    }

    /// The same header with another traffic class.
    #[must_use]
    pub fn with_traffic_class(mut self, class: u8) -> Self {
        let rest = self.version_class_flow.get() & 0xf00f_ffff;
        self.version_class_flow = (rest | u32::from(class) << 20).into();
        self
    }

    /// Differentiated services and ECN.
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    /// The flow label (RFC 6437).
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0x000f_ffff
    }

    fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }
}

/// Where the chain of extension headers ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What the chain ends with: TCP, UDP, ICMPv6, ESP or anything else that is no extension header. In a
    /// fragment other than the first it is what the fragment header says, and may be an extension header.
    pub protocol: u8,
    /// Where that begins, from the start of the IPv6 header; at most the length of the packet.
    pub offset: usize,
    /// The fragment header, if there is one.
    pub fragment: Option<Fragment>,
}

/// What a fragment header says (RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where the fragment header is, from the start of the IPv6 header.
    pub place: usize,
    /// Where this fragment's bytes belong in the original, in bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// The same in all fragments of a packet.
    pub id: u32,
}

impl Fragment {
    /// Whether the "fragment" is the whole packet, which some translators send (RFC 6946).
    #[must_use]
    pub const fn is_atomic(self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Why a chain of extension headers is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// The chain runs beyond the packet: in a first fragment too (RFC 7112).
    #[error("the chain of extension headers is cut short")]
    Truncated,
    /// More than [`MAX_EXTENSIONS`] headers, or more than [`MAX_EXTENSION_BYTES`].
    #[error("too many extension headers")]
    TooLong,
    /// Hop-by-hop options that are not the first header (RFC 8200 §4.1), or a second fragment header.
    #[error("extension header {0} in a wrong place")]
    Misplaced(u8),
    /// A routing header of type 0 (RFC 5095), or any with segments left: then the destination in the
    /// header is not where the packet goes.
    #[error("routing header of type {0}")]
    Routing(u8),
}

/// Follows the extension headers of a packet that [`Header::parse`] accepted; bytes beyond its length are
/// not looked at.
#[inline]
pub fn walk(header: &Header, packet: &[u8]) -> Result<Chain, WalkError> {
    if !is_extension(header.next_header) {
        return Ok(Chain {
            protocol: header.next_header,
            offset: HEADER_LEN,
            fragment: None,
        });
    }
    walk_extensions(header, packet)
}

#[inline(never)]
fn walk_extensions(header: &Header, packet: &[u8]) -> Result<Chain, WalkError> {
    let packet = packet.get(..header.total_len()).unwrap_or(packet);
    let mut next = header.next_header;
    let mut offset = HEADER_LEN;
    let mut fragment = None;
    for _ in 0..=MAX_EXTENSIONS {
        if !is_extension(next) {
            return Ok(Chain {
                protocol: next,
                offset,
                fragment,
            });
        }
        if next == HOP_BY_HOP && offset != HEADER_LEN || next == FRAGMENT && fragment.is_some() {
            return Err(WalkError::Misplaced(next));
        }
        let rest = packet.get(offset..).ok_or(WalkError::Truncated)?;
        let start = rest.first_chunk::<8>().ok_or(WalkError::Truncated)?;
        let len = extension_len(next, start[1]);
        if len > rest.len() {
            return Err(WalkError::Truncated);
        }
        if next == ROUTING {
            let [_, _, kind, left, ..] = *start;
            if kind == 0 || left != 0 {
                return Err(WalkError::Routing(kind));
            }
        }
        let place = offset;
        offset += len;
        if offset > HEADER_LEN + MAX_EXTENSION_BYTES {
            return Err(WalkError::TooLong);
        }
        let following = start[0];
        if next == FRAGMENT {
            let found = fragment_header(place, start);
            if found.offset != 0 {
                return Ok(Chain {
                    protocol: following,
                    offset,
                    fragment: Some(found),
                });
            }
            fragment = Some(found);
        }
        next = following;
    }
    Err(WalkError::TooLong)
}

/// Writes a fragment header for bytes at `offset` (a multiple of 8) of the original.
#[must_use]
pub fn fragment_header_bytes(next_header: u8, offset: u16, more: bool, id: u32) -> [u8; 8] {
    let [a, b] = (offset & 0xfff8 | u16::from(more)).to_be_bytes();
    let [c, d, e, f] = id.to_be_bytes();
    [next_header, 0, a, b, c, d, e, f]
}

/// The pseudo-header of TCP, UDP and ICMPv6 (RFC 8200 §8.1).
#[must_use]
pub fn pseudo_header(source: [u8; 16], destination: [u8; 16], protocol: u8, length: u16) -> Sum {
    Sum::default()
        .bytes(&source)
        .bytes(&destination)
        .word(u16::from(protocol))
        .word(length)
}

/// The headers that RFC 8200 §4 has, and authentication. What else the registry calls an extension header
/// (mobility, HIP, shim6) ends the chain: nothing follows it that could be judged.
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

const fn extension_len(kind: u8, len: u8) -> usize {
    match kind {
        FRAGMENT => 8,
        AUTHENTICATION => (len as usize + 2) * 4,
        _ => (len as usize + 1) * 8,
    }
}

const fn fragment_header(place: usize, bytes: &[u8; 8]) -> Fragment {
    let [_, _, a, b, c, d, e, f] = *bytes;
    let word = u16::from_be_bytes([a, b]);
    Fragment {
        place,
        offset: word & 0xfff8,
        more: word & 1 != 0,
        id: u32::from_be_bytes([c, d, e, f]),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::ipv4::{TCP, UDP};

    const A: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const B: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    /// Extension headers: what each is, and its bytes, of which the first is filled in.
    type Extensions<'a> = &'a [(u8, &'a [u8])];

    /// A packet with these extension headers and 20 bytes of TCP.
    fn packet(chain: Extensions<'_>) -> Vec<u8> {
        let mut rest = Vec::new();
        for (index, (_, bytes)) in chain.iter().enumerate() {
            let next = chain.get(index + 1).map_or(TCP, |(kind, _)| *kind);
            rest.push(next);
            rest.extend_from_slice(&bytes[1..]);
        }
        rest.extend_from_slice(&[0x55; 20]);
        let first = chain.first().map_or(TCP, |(kind, _)| *kind);
        let header = Header::new(A, B, first, 64, rest.len());
        [header.as_bytes(), &rest].concat()
    }

    fn walked(packet: &[u8]) -> Result<Chain, WalkError> {
        walk(Header::parse(packet).unwrap(), packet)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = packet(&[]);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.source, header.destination), (A, B));
        assert_eq!((header.next_header, header.hop_limit), (TCP, 64));
        let marked = header.with_traffic_class(0xc0);
        assert_eq!((header.traffic_class(), marked.traffic_class()), (0, 0xc0));
        assert_eq!((marked.version(), marked.flow_label()), (6, 0));
        assert_eq!((header.traffic_class(), header.flow_label()), (0, 0));
        assert_eq!(header.total_len(), bytes.len());
        let mut marked = bytes;
        marked[..4].copy_from_slice(&[0x6a, 0xb1, 0x23, 0x45]);
        let header = Header::parse(&marked).unwrap();
        assert_eq!(
            (header.traffic_class(), header.flow_label()),
            (0xab, 0x1_2345)
        );
    }

    #[test]
    fn refusals() {
        let bytes = packet(&[]);
        for len in 0..bytes.len() {
            let need = if len < HEADER_LEN { HEADER_LEN } else { 60 };
            let error = ParseError::Truncated { need, have: len };
            assert_eq!(Header::parse(&bytes[..len]).map(|_| ()), Err(error));
        }
        for version in (0..16).filter(|v| *v != 6) {
            let mut bytes = packet(&[]);
            bytes[0] = version << 4;
            let error = ParseError::Version(version);
            assert_eq!(Header::parse(&bytes).map(|_| ()), Err(error));
        }
    }

    #[test]
    fn chains_that_are_followed() {
        let options: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
        let long = &[0; 48][..];
        let long = &[&[0, 5][..], &long[2..]].concat()[..];
        let spent: &[u8] = &[0, 0, 2, 0, 0, 0, 0, 0];
        // Payload length 4 in words of four bytes, less two: 24 bytes.
        let authentication = &[&[0, 4][..], &[0; 22]].concat()[..];
        let atomic = &fragment_header_bytes(0, 0, false, 7)[..];
        let table: [(&str, Extensions<'_>, usize); 8] = [
            ("none", &[], 40),
            ("hop-by-hop", &[(HOP_BY_HOP, options)], 48),
            ("long options", &[(DESTINATION_OPTIONS, long)], 88),
            ("a routing header at its end", &[(ROUTING, spent)], 48),
            ("authentication", &[(AUTHENTICATION, authentication)], 64),
            ("atomic fragment", &[(FRAGMENT, atomic)], 48),
            (
                "the recommended order",
                &[
                    (HOP_BY_HOP, options),
                    (DESTINATION_OPTIONS, options),
                    (ROUTING, spent),
                    (FRAGMENT, atomic),
                    (AUTHENTICATION, authentication),
                    (DESTINATION_OPTIONS, options),
                ],
                104,
            ),
            (
                "as many as there may be",
                &[(DESTINATION_OPTIONS, options); MAX_EXTENSIONS],
                104,
            ),
        ];
        for (name, chain, offset) in table {
            let found = walked(&packet(chain)).unwrap();
            assert_eq!((found.protocol, found.offset), (TCP, offset), "{name}");
            let fragmented = chain.iter().any(|(kind, _)| *kind == FRAGMENT);
            assert_eq!(
                found.fragment.map(Fragment::is_atomic),
                fragmented.then_some(true),
                "{name}"
            );
        }
    }

    #[test]
    fn chains_that_are_refused() {
        let options: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
        let big = &[&[0, 31][..], &[0; 254]].concat()[..];
        let first = &fragment_header_bytes(0, 0, true, 7)[..];
        let routing = |kind, left| [0, 0, kind, left, 0, 0, 0, 0];
        let table: [(&str, Extensions<'_>, WalkError); 9] = [
            (
                "hop-by-hop second",
                &[(DESTINATION_OPTIONS, options), (HOP_BY_HOP, options)],
                WalkError::Misplaced(HOP_BY_HOP),
            ),
            (
                "hop-by-hop twice",
                &[(HOP_BY_HOP, options), (HOP_BY_HOP, options)],
                WalkError::Misplaced(HOP_BY_HOP),
            ),
            (
                "two fragment headers",
                &[(FRAGMENT, first), (FRAGMENT, first)],
                WalkError::Misplaced(FRAGMENT),
            ),
            (
                "type 0 with segments left",
                &[(ROUTING, &routing(0, 1))],
                WalkError::Routing(0),
            ),
            (
                "type 0 at its end",
                &[(ROUTING, &routing(0, 0))],
                WalkError::Routing(0),
            ),
            (
                "mobile IPv6's with a segment left",
                &[(ROUTING, &routing(2, 1))],
                WalkError::Routing(2),
            ),
            (
                "segment routing",
                &[(ROUTING, &routing(4, 255))],
                WalkError::Routing(4),
            ),
            (
                "one too many",
                &[(DESTINATION_OPTIONS, options); MAX_EXTENSIONS + 1],
                WalkError::TooLong,
            ),
            (
                "too many bytes",
                &[(HOP_BY_HOP, options), (DESTINATION_OPTIONS, big)],
                WalkError::TooLong,
            ),
        ];
        for (name, chain, error) in table {
            assert_eq!(walked(&packet(chain)), Err(error), "{name}");
        }
    }

    #[test]
    fn fragments_are_reported() {
        let options: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
        for (offset, more) in [(0, true), (8, true), (8, false), (0xfff8, false)] {
            let header = fragment_header_bytes(0, offset, more, 0xdead_beef);
            let found = walked(&packet(&[(FRAGMENT, &header)])).unwrap();
            let expected = Fragment {
                place: 40,
                offset,
                more,
                id: 0xdead_beef,
            };
            assert_eq!(found.fragment, Some(expected));
            assert_eq!((found.protocol, found.offset), (TCP, 48));
            // Behind a later fragment's header are bytes of any kind, and nobody takes them for headers.
            let found = walked(&packet(&[
                (FRAGMENT, &header),
                (DESTINATION_OPTIONS, options),
            ]))
            .unwrap();
            let end = match offset {
                0 => (TCP, 56),
                _ => (DESTINATION_OPTIONS, 48),
            };
            assert_eq!((found.protocol, found.offset), end);
        }
    }

    /// However the packet ends inside its chain, the walk ends with it: padding is not read.
    #[test]
    fn chains_that_are_cut_short() {
        let options: &[u8] = &[0, 1, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let fragment = fragment_header_bytes(0, 0, true, 7);
        let mut bytes = packet(&[(HOP_BY_HOP, options), (FRAGMENT, &fragment)]);
        for payload in 0..24_u16 {
            bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            assert_eq!(walked(&bytes), Err(WalkError::Truncated), "{payload}");
        }
        bytes[4..6].copy_from_slice(&24_u16.to_be_bytes());
        assert_eq!(walked(&bytes).map(|chain| chain.offset), Ok(64));
    }

    /// Any two bytes of the chain's beginning, any protocol: an offset within the packet or a refusal.
    #[test]
    fn walks_stay_inside() {
        for next in 0..=255 {
            for len in 0..=255 {
                let mut bytes = packet(&[(DESTINATION_OPTIONS, &[0; 8])]);
                bytes[6] = next;
                bytes[41] = len;
                bytes[40] = DESTINATION_OPTIONS;
                if let Ok(chain) = walked(&bytes) {
                    assert!(chain.offset <= bytes.len(), "{next} {len}");
                }
            }
        }
    }

    /// Computed by hand from RFC 8200 §8.1.
    #[test]
    fn pseudo_headers_cover_addresses_protocol_and_length() {
        let sum = pseudo_header(A, B, UDP, 8).finish();
        let by_hand = 2 * (0x2001_u32 + 0x0db8) + 1 + 2 + 17 + 8;
        assert_eq!(u32::from(!sum), by_hand);
    }
}
