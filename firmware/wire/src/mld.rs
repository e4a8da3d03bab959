//! Membership of IPv6 groups: reports of MLDv1 (RFC 2710) and MLDv2 (RFC 3810), and the queries that ask for them.

use core::time::Duration;

use zerocopy::IntoBytes;

pub use crate::igmp::{Membership, ParseError};
use crate::ipv6::{self, Header};
use crate::nd::ALL_NODES;

/// Where reports of version 2 go (RFC 3810 §5.2.14).
pub const V2_ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16];
/// Most groups that one report of version 2 names, so that it fits every link.
pub const MAX_GROUPS: usize = (ipv6::MIN_MTU - HEADER - 8) / RECORD;

/// Version of a querier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 2710.
    V1,
    /// RFC 3810.
    V2,
}

/// A question who is member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The version to answer in.
    pub version: Version,
    /// The group in question; `None` for all of them.
    pub group: Option<[u8; 16]>,
    /// The answer is wanted within this time.
    pub delay: Duration,
}

/// Whether a packet is one to a link's members of groups, or among them: hop-by-hop options come first, as in no packet that
/// is forwarded or taken otherwise.
#[must_use]
pub fn is_membership(packet: &[u8]) -> bool {
    let kind = packet.get(HEADER).copied().unwrap_or_default();
    packet.get(6) == Some(&ipv6::HOP_BY_HOP)
        && packet.get(ipv6::HEADER_LEN..ipv6::HEADER_LEN + 2) == Some(&[ipv6::ICMP, 0])
        && matches!(kind, QUERY | V1_REPORT | V1_DONE | V2_REPORT)
}

impl Query {
    /// Reads a packet for which [`is_membership`] holds (RFC 3810 §6.2).
    pub fn parse(packet: &[u8]) -> Result<Self, ParseError> {
        let ip = Header::parse(packet).map_err(|_| ParseError::Truncated)?;
        if ip.hop_limit != 1 {
            return Err(ParseError::Ttl(ip.hop_limit));
        }
        let payload = packet
            .get(ipv6::HEADER_LEN..ip.total_len())
            .unwrap_or_default();
        let (options, message) = payload
            .split_first_chunk::<OPTIONS>()
            .ok_or(ParseError::Truncated)?;
        if !has_router_alert(options) || ip.source[..2] != [0xfe, 0x80] {
            return Err(ParseError::Unusual);
        }
        let fixed = message.first_chunk::<24>().ok_or(ParseError::Truncated)?;
        let [kind, _, _, _, a, b, _, _, group @ ..] = *fixed;
        let len = u16::try_from(message.len()).map_err(|_| ParseError::Truncated)?;
        let sum = ipv6::pseudo_header(ip.source, ip.destination, ipv6::ICMP, len);
        if sum.bytes(message).finish() != 0 {
            return Err(ParseError::Checksum);
        }
        if kind != QUERY {
            return Err(ParseError::Type(kind));
        }
        let code = u16::from_be_bytes([a, b]);
        let (version, millis) = match message.len() {
            24 => (Version::V1, code.into()),
            25..28 => return Err(ParseError::Truncated),
            _ => (Version::V2, floating(code)),
        };
        let group = (group != [0; 16]).then_some(group);
        let asked = ip.destination == group.unwrap_or(ALL_NODES);
        if !asked && ip.destination[0] == 0xff || group.is_some_and(|group| group[0] != 0xff) {
            return Err(ParseError::Group);
        }
        Ok(Self {
            version,
            group,
            delay: Duration::from_millis(millis),
        })
    }
}

/// Length of the packets with reports of version 1.
pub const V1_LEN: usize = HEADER + 24;

/// A packet of version 1 that says so of `group`, and where it goes.
#[must_use]
pub fn report_v1(
    source: [u8; 16],
    group: [u8; 16],
    membership: Membership,
) -> ([u8; 16], [u8; V1_LEN]) {
    let (kind, destination) = match membership {
        Membership::Is | Membership::Joins => (V1_REPORT, group),
        Membership::Leaves => (V1_DONE, crate::nd::ALL_ROUTERS),
    };
    let mut packet = [0; V1_LEN];
    packet[HEADER] = kind;
    packet[HEADER + 8..].copy_from_slice(&group);
    seal(source, destination, &mut packet);
    (destination, packet)
}

/// Writes a packet of version 2 that says so of each of `groups`, up to [`MAX_GROUPS`] of them, to the front of `buffer`; `None`
/// if it does not fit. It goes to [`V2_ROUTERS`].
pub fn report_v2(
    source: [u8; 16],
    groups: impl Iterator<Item = [u8; 16]>,
    membership: Membership,
    buffer: &mut [u8],
) -> Option<&[u8]> {
    let mut end = HEADER + 8;
    let mut count = 0_u8;
    for group in groups.take(MAX_GROUPS) {
        let record = buffer.get_mut(end..end + RECORD)?;
        let (start, place) = record.split_first_chunk_mut::<4>()?;
        *start = [membership.record_type(), 0, 0, 0];
        place.copy_from_slice(&group);
        end += RECORD;
        count += 1;
    }
    let start = buffer.get_mut(HEADER..HEADER + 8)?;
    start.copy_from_slice(&[V2_REPORT, 0, 0, 0, 0, 0, 0, count]);
    let packet = buffer.get_mut(..end)?;
    seal(source, V2_ROUTERS, packet);
    Some(packet)
}

/// Puts the headers before a message that stands in its place already, and the checksum into it.
fn seal(source: [u8; 16], destination: [u8; 16], packet: &mut [u8]) {
    let payload = packet.len().saturating_sub(ipv6::HEADER_LEN);
    let Some((headers, message)) = packet.split_at_mut_checked(HEADER) else {
        return;
    };
    let (fixed, options) = headers.split_at_mut(ipv6::HEADER_LEN);
    let header = Header::new(source, destination, ipv6::HOP_BY_HOP, 1, payload);
    fixed.copy_from_slice(header.as_bytes());
    options.copy_from_slice(&ROUTER_ALERT);
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let sum = ipv6::pseudo_header(source, destination, ipv6::ICMP, len).bytes(message);
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&sum.finish().to_be_bytes());
    }
}

/// Whether these options, all of eight bytes with the header, say router alert for MLD (RFC 2711 §2.1) in any place.
fn has_router_alert(options: &[u8; OPTIONS]) -> bool {
    options[2..].windows(4).any(|option| option == [5, 2, 0, 0])
}

/// A code of sixteen bits with an exponent for large ones (RFC 3810 §5.1.3).
fn floating(code: u16) -> u64 {
    let code = u64::from(code);
    match code {
        0..0x8000 => code,
        _ => ((code & 0x0fff) | 0x1000) << (((code >> 12) & 7) + 3),
    }
}

const QUERY: u8 = 130;
const V1_REPORT: u8 = 131;
const V1_DONE: u8 = 132;
const V2_REPORT: u8 = 143;
/// ICMPv6 follows; router alert for MLD, and padding.
const ROUTER_ALERT: [u8; OPTIONS] = [ipv6::ICMP, 0, 5, 2, 0, 0, 1, 0];
/// Hop-by-hop options without more than a router alert.
const OPTIONS: usize = 8;
/// With the hop-by-hop options.
const HEADER: usize = ipv6::HEADER_LEN + OPTIONS;
/// A group without sources.
const RECORD: usize = 20;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::{nd, vrrp};

    const SOURCE: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    const LINUX: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 9];

    /// Captured from Linux, which joined and left ff02::12 with `force_mld_version` 2 and 1.
    #[test]
    fn reports_are_what_linux_sends() {
        use Membership::{Joins, Leaves};
        let group = vrrp::MULTICAST6;
        let headers = |destination: [u8; 16], len| {
            let fixed = [0x60, 0, 0, 0, 0, len, 0, 1];
            let options = [0x3a, 0, 5, 2, 0, 0, 1, 0];
            [&fixed[..], &LINUX, &destination, &options].concat()
        };
        for (membership, start) in [
            (Joins, *b"\x8f\x00\x70\xf0\x00\x00\x00\x01\x04\x00\x00\x00"),
            (Leaves, *b"\x8f\x00\x71\xf0\x00\x00\x00\x01\x03\x00\x00\x00"),
        ] {
            let expected = [&headers(V2_ROUTERS, 0x24)[..], &start, &group].concat();
            let mut buffer = [0xaa; 100];
            let packet = report_v2(LINUX, [group].into_iter(), membership, &mut buffer);
            assert_eq!(packet, Some(&expected[..]));
        }
        for (membership, to, start) in [
            (Joins, group, *b"\x83\x00\x80\xf9\x00\x00\x00\x00"),
            (
                Leaves,
                nd::ALL_ROUTERS,
                *b"\x84\x00\x80\x09\x00\x00\x00\x00",
            ),
        ] {
            let expected = [&headers(to, 0x20)[..], &start, &group].concat();
            let (destination, packet) = report_v1(LINUX, group, membership);
            assert_eq!((destination, &packet[..]), (to, &expected[..]));
        }
    }

    #[test]
    fn reports_are_no_queries() {
        let mut buffer = [0xaa; 128];
        let groups = [vrrp::MULTICAST6, nd::solicited_node(SOURCE)];
        let v2 = report_v2(SOURCE, groups.into_iter(), Membership::Joins, &mut buffer).unwrap();
        assert_eq!(v2.len(), 48 + 8 + 40);
        assert_eq!((&v2[60..76], &v2[80..]), (&groups[0][..], &groups[1][..]));
        let (_, v1) = report_v1(SOURCE, groups[0], Membership::Is);
        for packet in [v2, &v1] {
            let header = Header::parse(packet).unwrap();
            let chain = ipv6::walk(header, packet).unwrap();
            assert_eq!((chain.protocol, chain.offset), (ipv6::ICMP, HEADER));
            assert!(is_membership(packet));
            assert!(matches!(Query::parse(packet), Err(ParseError::Type(_))));
        }
        assert_eq!(
            report_v2(SOURCE, groups.into_iter(), Membership::Is, &mut [0; 95]),
            None
        );
    }

    #[test]
    fn a_report_of_very_many_groups_fits_the_link() {
        let mut buffer = [0; 1400];
        let many = std::iter::repeat_n(vrrp::MULTICAST6, 100);
        let report = report_v2(SOURCE, many, Membership::Is, &mut buffer).unwrap();
        assert!(report.len() <= ipv6::MIN_MTU && report.len() > ipv6::MIN_MTU - RECORD);
        assert_eq!(usize::from(report[55]), MAX_GROUPS);
    }

    #[test]
    fn queries() {
        type Change = fn(&mut Vec<u8>);
        let group = vrrp::MULTICAST6;
        type Row<'a> = (
            &'a str,
            [u8; 16],
            [u8; 16],
            u16,
            usize,
            Change,
            Result<Query, ParseError>,
        );
        let table: [Row<'_>; 12] = [
            (
                "version 1",
                ALL_NODES,
                [0; 16],
                10_000,
                24,
                same,
                query_of(Version::V1, None, 10_000),
            ),
            (
                "version 2",
                ALL_NODES,
                [0; 16],
                1_000,
                28,
                same,
                query_of(Version::V2, None, 1_000),
            ),
            (
                "a group's",
                group,
                group,
                0,
                28,
                same,
                query_of(Version::V2, Some(group), 0),
            ),
            (
                "a long delay",
                ALL_NODES,
                [0; 16],
                0x8000,
                28,
                same,
                query_of(Version::V2, None, 32_768),
            ),
            (
                "the longest",
                ALL_NODES,
                [0; 16],
                0xffff,
                44,
                same,
                query_of(Version::V2, None, 8_387_584),
            ),
            (
                "to one host",
                SOURCE,
                [0; 16],
                1,
                28,
                same,
                query_of(Version::V2, None, 1),
            ),
            (
                "routed",
                ALL_NODES,
                [0; 16],
                1,
                28,
                |p| p[7] = 2,
                Err(ParseError::Ttl(2)),
            ),
            (
                "no alert",
                ALL_NODES,
                [0; 16],
                1,
                28,
                |p| p[42] = 1,
                Err(ParseError::Unusual),
            ),
            (
                "short",
                ALL_NODES,
                [0; 16],
                1,
                23,
                same,
                Err(ParseError::Truncated),
            ),
            (
                "between",
                ALL_NODES,
                [0; 16],
                1,
                27,
                same,
                Err(ParseError::Truncated),
            ),
            (
                "another group's",
                group,
                [0; 16],
                1,
                28,
                same,
                Err(ParseError::Group),
            ),
            (
                "no group",
                SOURCE,
                SOURCE,
                1,
                28,
                same,
                Err(ParseError::Group),
            ),
        ];
        for (name, destination, group, code, len, change, result) in table {
            let mut packet = query(destination, group, code, len);
            assert!(is_membership(&packet), "{name}");
            change(&mut packet);
            assert_eq!(Query::parse(&packet), result, "{name}");
            for bit in 8 * HEADER..8 * packet.len() {
                let mut damaged = packet.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Query::parse(&damaged).is_err(), "{name}: bit {bit}");
            }
        }
    }

    #[test]
    fn a_query_from_elsewhere_is_refused() {
        let mut packet = query(ALL_NODES, [0; 16], 1, 28);
        packet[8] = 0x20;
        assert_eq!(Query::parse(&packet), Err(ParseError::Unusual));
    }

    fn same(_: &mut Vec<u8>) {}

    fn query_of(
        version: Version,
        group: Option<[u8; 16]>,
        millis: u64,
    ) -> Result<Query, ParseError> {
        Ok(Query {
            version,
            group,
            delay: Duration::from_millis(millis),
        })
    }

    fn query(destination: [u8; 16], group: [u8; 16], code: u16, len: usize) -> Vec<u8> {
        let [a, b] = code.to_be_bytes();
        let mut message = [&[QUERY, 0, 0, 0, a, b, 0, 0], &group[..], &[0; 20]].concat();
        message.truncate(len);
        let mut packet = [&[0; HEADER], &message[..]].concat();
        seal(SOURCE, destination, &mut packet);
        packet
    }
}
