//! ICMP errors of both versions: which packets may be answered by one, and the error with its quote.

use zerocopy::IntoBytes;

use crate::checksum;
use crate::ipv4;
use crate::ipv6;

/// Longest error for IPv4 (RFC 1812 §4.3.2.3).
pub const MAX_V4: usize = 576;
/// Longest error for IPv6 (RFC 4443 §2.4 c).
pub const MAX_V6: usize = ipv6::MIN_MTU;

/// Length of an ICMP header, with the four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Its TTL or hop limit ran out here.
    HopLimit,
    /// No route leads to its destination.
    NoRoute,
    /// Its destination does not answer ARP or neighbour discovery.
    HostUnreachable,
    /// Nobody listens on its port.
    PortUnreachable,
    /// The policy does not let it through.
    Prohibited,
    /// It is too long for the next link and must not be fragmented on the way.
    TooBig {
        /// Longest packet that the link carries.
        mtu: u16,
    },
}

impl Problem {
    /// Every problem, for tests and tables; the length of a link is that of Ethernet.
    pub const ALL: [Self; 6] = [
        Self::HopLimit,
        Self::NoRoute,
        Self::HostUnreachable,
        Self::PortUnreachable,
        Self::Prohibited,
        Self::TooBig { mtu: 1500 },
    ];

    /// Type, code and the second word of the header (RFC 792, RFC 1812 §5.2.7.1, RFC 1191 §4).
    #[must_use]
    pub const fn v4(self) -> (u8, u8, u32) {
        match self {
            Self::HopLimit => (11, 0, 0),
            Self::NoRoute => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::Prohibited => (3, 13, 0),
            Self::TooBig { mtu } => (3, 4, mtu as u32),
        }
    }

    /// Type, code and the second word of the header (RFC 4443 §3).
    #[must_use]
    pub const fn v6(self) -> (u8, u8, u32) {
        match self {
            Self::HopLimit => (3, 0, 0),
            Self::NoRoute => (1, 0, 0),
            Self::HostUnreachable => (1, 3, 0),
            Self::PortUnreachable => (1, 4, 0),
            Self::Prohibited => (1, 1, 0),
            Self::TooBig { mtu } => (2, 0, mtu as u32),
        }
    }
}

/// Writes an error about `packet`, as it was received, from `source` to its sender. The length of the whole
/// IPv4 packet; `None` if no error may be sent about it (RFC 1812 §4.3.2.7) or `buffer` is too short.
#[must_use]
pub fn write_v4(
    buffer: &mut [u8],
    source: [u8; 4],
    packet: &[u8],
    problem: Problem,
) -> Option<usize> {
    let (header, header_len) = ipv4::Header::parse(packet).ok()?;
    let packet = packet.get(..header.total_len.get().into())?;
    if header.fragment_offset() != 0
        || !is_host_v4(header.source)
        || !is_host_v4(header.destination)
        || header.protocol == ipv4::ICMP && is_error_v4(packet.get(header_len..)?)
    {
        return None;
    }
    let room = MAX_V4 - ipv4::HEADER_LEN - HEADER_LEN;
    let quote = packet.get(..room).unwrap_or(packet);
    let payload = HEADER_LEN + quote.len();
    // Errors are sent with precedence "internetwork control" (RFC 1812 §4.3.2.5).
    let ip = ipv4::Header::new(source, header.source, ipv4::ICMP, TTL, payload).with_tos(0xc0);
    let out = buffer.get_mut(..ipv4::HEADER_LEN + payload)?;
    let (front, message) = out.split_at_mut(ipv4::HEADER_LEN);
    front.copy_from_slice(ip.as_bytes());
    write_message(message, problem.v4(), quote);
    let sum = checksum::of(message);
    put_checksum(message, sum);
    Some(out.len())
}

/// The same for IPv6 (RFC 4443 §2.4 e). Fragments other than the first are not answered either: nobody
/// can see what they are part of.
#[must_use]
pub fn write_v6(
    buffer: &mut [u8],
    source: [u8; 16],
    packet: &[u8],
    problem: Problem,
) -> Option<usize> {
    let header = ipv6::Header::parse(packet).ok()?;
    let packet = packet.get(..header.total_len())?;
    let chain = ipv6::walk(header, packet).ok()?;
    if chain.fragment.is_some_and(|fragment| fragment.offset != 0)
        || !is_host_v6(header.source)
        || !is_host_v6(header.destination)
        || chain.protocol == ipv6::ICMP && is_error_v6(packet.get(chain.offset..)?)
    {
        return None;
    }
    let room = MAX_V6 - ipv6::HEADER_LEN - HEADER_LEN;
    let quote = packet.get(..room).unwrap_or(packet);
    let payload = HEADER_LEN + quote.len();
    let ip = ipv6::Header::new(source, header.source, ipv6::ICMP, TTL, payload);
    let out = buffer.get_mut(..ipv6::HEADER_LEN + payload)?;
    let (front, message) = out.split_at_mut(ipv6::HEADER_LEN);
    front.copy_from_slice(ip.as_bytes());
    write_message(message, problem.v6(), quote);
    let len = u16::try_from(payload).ok()?;
    let sum = ipv6::pseudo_header(source, header.source, ipv6::ICMP, len).bytes(message);
    put_checksum(message, sum.finish());
    Some(out.len())
}

/// TTL and hop limit of errors (RFC 1700).
const TTL: u8 = 64;

/// Writes header and quote; the checksum is zero.
fn write_message(message: &mut [u8], (kind, code, word): (u8, u8, u32), quote: &[u8]) {
    let [a, b, c, d] = word.to_be_bytes();
    if let Some((header, rest)) = message.split_at_mut_checked(HEADER_LEN) {
        header.copy_from_slice(&[kind, code, 0, 0, a, b, c, d]);
        rest.copy_from_slice(quote);
    }
}

fn put_checksum(message: &mut [u8], sum: u16) {
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Whether a message is, or may be, an error: everything but the queries and answers of RFC 792 and RFC 950.
fn is_error_v4(message: &[u8]) -> bool {
    !matches!(message.first(), Some(0 | 8 | 13..=18))
}

/// Errors have types below 128; a redirect (137) is not answered either (RFC 4443 §2.4 e.2).
fn is_error_v6(message: &[u8]) -> bool {
    message
        .first()
        .is_none_or(|kind| *kind < 128 || *kind == 137)
}

/// Whether an address can be one host's: not "this network", loopback, multicast, reserved or broadcast.
const fn is_host_v4([first, ..]: [u8; 4]) -> bool {
    !matches!(first, 0 | 127 | 224..=255)
}

/// Whether an address can be one host's: not multicast, unspecified or loopback.
const fn is_host_v6(address: [u8; 16]) -> bool {
    address[0] != 0xff && u128::from_be_bytes(address) > 1
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::ipv4::UDP;

    const OUR4: [u8; 4] = [10, 0, 0, 1];
    const OUR6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const USER4: [u8; 4] = [198, 51, 100, 7];
    const USER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    const HOST4: [u8; 4] = [10, 0, 1, 9];
    const HOST6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

    fn v4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = ipv4::Header::new(from, to, protocol, 1, payload.len());
        [header.as_bytes(), payload].concat()
    }

    fn v6(from: [u8; 16], to: [u8; 16], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = ipv6::Header::new(from, to, protocol, 1, payload.len());
        [header.as_bytes(), payload].concat()
    }

    #[test]
    fn errors_for_ipv4_quote_up_to_576_bytes() {
        for problem in Problem::ALL {
            for len in [0, 8, 519, 520, 521, 1480] {
                let packet = v4(USER4, HOST4, UDP, &vec![0xab; len]);
                // Ethernet padding is not part of the packet.
                let padded = [&packet[..], &[0xee; 18]].concat();
                let mut buffer = [0; 1500];
                let written = write_v4(&mut buffer, OUR4, &padded, problem).unwrap();
                assert_eq!(written, (28 + packet.len()).min(MAX_V4), "{len}");
                let (ip, start) = ipv4::Header::parse(&buffer[..written]).unwrap();
                assert_eq!((ip.source, ip.destination), (OUR4, USER4));
                assert_eq!((ip.protocol, ip.tos, ip.ttl), (ipv4::ICMP, 0xc0, 64));
                let message = &buffer[start..written];
                assert_eq!(checksum::of(message), 0);
                let (kind, code, word) = problem.v4();
                assert_eq!(message[..2], [kind, code]);
                assert_eq!(message[4..8], word.to_be_bytes());
                assert_eq!(message[8..], packet[..written - 28]);
            }
        }
    }

    #[test]
    fn errors_for_ipv6_quote_up_to_1280_bytes() {
        for problem in Problem::ALL {
            for len in [0, 8, 1191, 1192, 1193, 1460] {
                let packet = v6(USER6, HOST6, UDP, &vec![0xab; len]);
                let padded = [&packet[..], &[0xee; 18]].concat();
                let mut buffer = [0; 1500];
                let written = write_v6(&mut buffer, OUR6, &padded, problem).unwrap();
                assert_eq!(written, (48 + packet.len()).min(MAX_V6), "{len}");
                let ip = ipv6::Header::parse(&buffer[..written]).unwrap();
                assert_eq!((ip.source, ip.destination), (OUR6, USER6));
                assert_eq!((ip.next_header, ip.hop_limit), (ipv6::ICMP, 64));
                let message = &buffer[ipv6::HEADER_LEN..written];
                let size = u16::try_from(message.len()).unwrap();
                let sum = ipv6::pseudo_header(OUR6, USER6, ipv6::ICMP, size).bytes(message);
                assert_eq!(sum.finish(), 0);
                let (kind, code, word) = problem.v6();
                assert_eq!(message[..2], [kind, code]);
                assert_eq!(message[4..8], word.to_be_bytes());
                assert_eq!(message[8..], packet[..written - 48]);
            }
        }
    }

    /// Rows follow RFC 1812 §4.3.2.7.
    #[test]
    fn what_is_never_answered_with_ipv4() {
        let icmp = |kind: u8| v4(USER4, HOST4, ipv4::ICMP, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        let fragment = |word: u16| {
            let mut packet = v4(USER4, HOST4, UDP, &[0; 16]);
            packet[6..8].copy_from_slice(&word.to_be_bytes());
            packet[10..12].fill(0);
            let sum = checksum::of(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet
        };
        let mut damaged = v4(USER4, HOST4, UDP, &[0; 8]);
        damaged[1] ^= 1;
        let table = [
            ("a plain packet", v4(USER4, HOST4, UDP, &[0; 8]), true),
            ("a ping", icmp(8), true),
            ("a pong", icmp(0), true),
            ("unreachable", icmp(3), false),
            ("source quench", icmp(4), false),
            ("redirect", icmp(5), false),
            ("time exceeded", icmp(11), false),
            ("parameter problem", icmp(12), false),
            ("an unknown ICMP type", icmp(200), false),
            (
                "ICMP without type",
                v4(USER4, HOST4, ipv4::ICMP, &[]),
                false,
            ),
            ("a first fragment", fragment(0x2000), true),
            ("a later fragment", fragment(0x2001), false),
            ("the last fragment", fragment(0x0001), false),
            ("to multicast", v4(USER4, [239, 1, 1, 1], UDP, &[]), false),
            ("to broadcast", v4(USER4, [255; 4], UDP, &[]), false),
            ("from multicast", v4([224, 0, 0, 1], HOST4, UDP, &[]), false),
            ("from nobody", v4([0; 4], HOST4, UDP, &[]), false),
            ("from loopback", v4([127, 0, 0, 1], HOST4, UDP, &[]), false),
            ("from class E", v4([240, 0, 0, 1], HOST4, UDP, &[]), false),
            ("a damaged header", damaged, false),
            ("half a header", vec![0x45; 10], false),
        ];
        for (name, packet, answered) in table {
            let written = write_v4(&mut [0; MAX_V4], OUR4, &packet, Problem::HopLimit);
            assert_eq!(written.is_some(), answered, "{name}");
        }
    }

    /// Rows follow RFC 4443 §2.4 e.
    #[test]
    fn what_is_never_answered_with_ipv6() {
        let icmp = |kind: u8| v6(USER6, HOST6, ipv6::ICMP, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        let fragment = |offset, inner: &[u8]| {
            let header = ipv6::fragment_header_bytes(ipv6::ICMP, offset, true, 1);
            v6(USER6, HOST6, ipv6::FRAGMENT, &[&header[..], inner].concat())
        };
        let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let table = [
            ("a plain packet", v6(USER6, HOST6, UDP, &[0; 8]), true),
            ("a ping", icmp(128), true),
            ("unreachable", icmp(1), false),
            ("too big", icmp(2), false),
            ("time exceeded", icmp(3), false),
            ("parameter problem", icmp(4), false),
            ("an unknown error", icmp(127), false),
            ("redirect", icmp(137), false),
            (
                "ICMP without type",
                v6(USER6, HOST6, ipv6::ICMP, &[]),
                false,
            ),
            ("a ping's first fragment", fragment(0, &[128; 8]), true),
            ("an error's first fragment", fragment(0, &[1; 8]), false),
            ("a later fragment", fragment(8, &[128; 8]), false),
            ("to multicast", v6(USER6, group, UDP, &[]), false),
            ("from multicast", v6(group, HOST6, UDP, &[]), false),
            ("from nobody", v6([0; 16], HOST6, UDP, &[]), false),
            ("a chain cut short", v6(USER6, HOST6, 0, &[]), false),
            ("half a header", vec![0x60; 10], false),
        ];
        for (name, packet, answered) in table {
            let written = write_v6(&mut [0; MAX_V6], OUR6, &packet, Problem::HopLimit);
            assert_eq!(written.is_some(), answered, "{name}");
        }
    }

    #[test]
    fn nothing_is_written_without_room() {
        let packet = v4(USER4, HOST4, UDP, &[0; 8]);
        assert_eq!(
            write_v4(&mut [0; 55], OUR4, &packet, Problem::NoRoute),
            None
        );
        let packet = v6(USER6, HOST6, UDP, &[0; 8]);
        assert_eq!(
            write_v6(&mut [0; 95], OUR6, &packet, Problem::NoRoute),
            None
        );
    }
}
