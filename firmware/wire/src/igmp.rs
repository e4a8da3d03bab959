//! Membership of IPv4 groups: reports of IGMPv2 (RFC 2236) and IGMPv3 (RFC 3376), and the queries that ask for them.

use core::time::Duration;

use crate::checksum;
use crate::ethernet::Mac;
use crate::ipv4::{self, Header};

/// All systems on the link: where queries about every group go.
pub const ALL_SYSTEMS: [u8; 4] = [224, 0, 0, 1];
/// Where reports of version 3 go (RFC 3376 §4.2.14).
pub const V3_ROUTERS: [u8; 4] = [224, 0, 0, 22];

/// Version of a querier. One of version 1 counts as one of version 2: what it does not understand does not disturb it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 2236.
    V2,
    /// RFC 3376.
    V3,
}

/// What a report says of a group (RFC 3376 §4.2.12, RFC 3810 §5.2.12): its sender wants packets from everybody or from nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is a member: an answer to a query.
    Is,
    /// It becomes one.
    Joins,
    /// It is one no more.
    Leaves,
}

impl Membership {
    pub(crate) const fn record_type(self) -> u8 {
        match self {
            Self::Is => 2,
            Self::Joins => 4,
            Self::Leaves => 3,
        }
    }
}

/// A question who is member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The version to answer in.
    pub version: Version,
    /// The group in question; `None` for all of them.
    pub group: Option<[u8; 4]>,
    /// The answer is wanted within this time.
    pub delay: Duration,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It may come from beyond this link.
    #[error("TTL or hop limit is {0} instead of 1")]
    Ttl(u8),
    /// Shorter than a query.
    #[error("truncated")]
    Truncated,
    /// The checksum is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// A report, or a protocol of routers among themselves.
    #[error("type {0} is not a query")]
    Type(u8),
    /// A group that is none, or a question that went elsewhere than to the group.
    #[error("the group is not the one that was asked")]
    Group,
    /// Without the router alert option, or from an address of another link (RFC 3810 §6.2).
    #[error("not as routers ask")]
    Unusual,
}

impl Query {
    /// Reads what follows the IP header, without Ethernet padding (RFC 3376 §7.1).
    pub fn parse(ip: &Header, message: &[u8]) -> Result<Self, ParseError> {
        if ip.ttl != 1 {
            return Err(ParseError::Ttl(ip.ttl));
        }
        let fixed = message.first_chunk::<8>().ok_or(ParseError::Truncated)?;
        let [kind, code, _, _, group @ ..] = *fixed;
        if checksum::of(message) != 0 {
            return Err(ParseError::Checksum);
        }
        if kind != QUERY {
            return Err(ParseError::Type(kind));
        }
        let (version, delay) = match (message.len(), code) {
            (8, 0) => (Version::V2, Duration::from_secs(10)),
            (8, code) => (Version::V2, DECISECOND * u32::from(code)),
            (9..12, _) => return Err(ParseError::Truncated),
            (_, code) => (Version::V3, DECISECOND * floating(code)),
        };
        let group = (group != [0; 4]).then_some(group);
        let asked = ip.destination == group.unwrap_or(ALL_SYSTEMS);
        // Version 3 may be sent to one host, to find out about it (RFC 3376 §4.1.12).
        if !asked && is_multicast(ip.destination) || group.is_some_and(|group| !is_multicast(group))
        {
            return Err(ParseError::Group);
        }
        Ok(Self {
            version,
            group,
            delay,
        })
    }
}

/// Length of the packets with reports of version 2.
pub const V2_LEN: usize = HEADER + 8;
/// Length of the packets with reports of version 3.
pub const V3_LEN: usize = HEADER + 16;

/// A packet of version 2 that says so of `group`, and where it goes.
#[must_use]
pub fn report_v2(
    source: [u8; 4],
    group: [u8; 4],
    membership: Membership,
) -> ([u8; 4], [u8; V2_LEN]) {
    let (kind, destination) = match membership {
        Membership::Is | Membership::Joins => (0x16, group),
        Membership::Leaves => (0x17, [224, 0, 0, 2]),
    };
    let [a, b, c, d] = group;
    (
        destination,
        packet(source, destination, [kind, 0, 0, 0, a, b, c, d]),
    )
}

/// A packet of version 3 that says so of `group`; it goes to [`V3_ROUTERS`].
#[must_use]
pub fn report_v3(source: [u8; 4], group: [u8; 4], membership: Membership) -> [u8; V3_LEN] {
    let [a, b, c, d] = group;
    let record = membership.record_type();
    let message = [0x22, 0, 0, 0, 0, 0, 0, 1, record, 0, 0, 0, a, b, c, d];
    packet(source, V3_ROUTERS, message)
}

/// The MAC address of a group (RFC 1112 §6.4).
#[must_use]
pub const fn multicast_mac(group: [u8; 4]) -> Mac {
    let [_, a, b, c] = group;
    [0x01, 0x00, 0x5e, a & 0x7f, b, c]
}

fn packet<const MESSAGE: usize, const LEN: usize>(
    source: [u8; 4],
    destination: [u8; 4],
    mut message: [u8; MESSAGE],
) -> [u8; LEN] {
    let sum = checksum::of(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let mut packet = [0; LEN];
    let (front, body) = packet.split_at_mut(HEADER);
    front.copy_from_slice(&Header::with_router_alert(
        source,
        destination,
        ipv4::IGMP,
        MESSAGE,
    ));
    body.copy_from_slice(&message);
    packet
}

/// A code of eight bits with an exponent for large ones (RFC 3376 §4.1.1).
fn floating(code: u8) -> u32 {
    let code = u32::from(code);
    match code {
        0..128 => code,
        _ => ((code & 0x0f) | 0x10) << (((code >> 4) & 7) + 3),
    }
}

fn is_multicast(address: [u8; 4]) -> bool {
    address[0] & 0xf0 == 0xe0
}

const QUERY: u8 = 0x11;
const DECISECOND: Duration = Duration::from_millis(100);
/// With the router alert option.
const HEADER: usize = ipv4::HEADER_LEN + 4;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    const SOURCE: [u8; 4] = [192, 0, 2, 9];
    const GROUP: [u8; 4] = [224, 0, 0, 18];

    /// Captured from Linux, which joined and left 224.0.0.18 with `force_igmp_version` 3 and 2.
    #[test]
    fn reports_are_what_linux_sends() {
        use Membership::{Joins, Leaves};
        let alert = b"\x94\x04\x00\x00";
        let joins =
            b"\x46\xc0\x00\x28\x00\x00\x40\x00\x01\x02\x41\xf0\xc0\x00\x02\x09\xe0\x00\x00\x16";
        let record = b"\x22\x00\xf9\xeb\x00\x00\x00\x01\x04\x00\x00\x00\xe0\x00\x00\x12";
        assert_eq!(
            report_v3(SOURCE, GROUP, Joins)[..],
            [&joins[..], alert, record].concat()
        );
        let record = b"\x22\x00\xfa\xeb\x00\x00\x00\x01\x03\x00\x00\x00\xe0\x00\x00\x12";
        assert_eq!(
            report_v3(SOURCE, GROUP, Leaves)[..],
            [&joins[..], alert, record].concat()
        );
        let header =
            b"\x46\xc0\x00\x20\x00\x00\x40\x00\x01\x02\x41\xfc\xc0\x00\x02\x09\xe0\x00\x00\x12";
        let (to, packet) = report_v2(SOURCE, GROUP, Joins);
        let message = b"\x16\x00\x09\xed\xe0\x00\x00\x12";
        assert_eq!(
            (to, &packet[..]),
            (GROUP, &[&header[..], alert, message].concat()[..])
        );
        let header =
            b"\x46\xc0\x00\x20\x00\x00\x40\x00\x01\x02\x42\x0c\xc0\x00\x02\x09\xe0\x00\x00\x02";
        let (to, packet) = report_v2(SOURCE, GROUP, Leaves);
        let message = b"\x17\x00\x08\xed\xe0\x00\x00\x12";
        assert_eq!(
            (to, &packet[..]),
            ([224, 0, 0, 2], &[&header[..], alert, message].concat()[..])
        );
    }

    #[test]
    fn queries() {
        let all = [0; 4];
        type Row<'a> = (&'a str, [u8; 4], u8, &'a [u8], Result<Query, ParseError>);
        let table: [Row<'_>; 13] = [
            (
                "version 1",
                ALL_SYSTEMS,
                1,
                &query(0, all, 8),
                query_of(Version::V2, None, 10_000),
            ),
            (
                "version 2",
                ALL_SYSTEMS,
                1,
                &query(100, all, 8),
                query_of(Version::V2, None, 10_000),
            ),
            (
                "a group's",
                GROUP,
                1,
                &query(10, GROUP, 8),
                query_of(Version::V2, Some(GROUP), 1_000),
            ),
            (
                "version 3",
                ALL_SYSTEMS,
                1,
                &query(127, all, 12),
                query_of(Version::V3, None, 12_700),
            ),
            (
                "a long delay",
                ALL_SYSTEMS,
                1,
                &query(0x80, all, 12),
                query_of(Version::V3, None, 12_800),
            ),
            (
                "the longest",
                ALL_SYSTEMS,
                1,
                &query(255, all, 16),
                query_of(Version::V3, None, 3_174_400),
            ),
            (
                "to one host",
                [192, 0, 2, 1],
                1,
                &query(1, all, 12),
                query_of(Version::V3, None, 100),
            ),
            (
                "routed",
                ALL_SYSTEMS,
                2,
                &query(1, all, 12),
                Err(ParseError::Ttl(2)),
            ),
            (
                "short",
                ALL_SYSTEMS,
                1,
                &query(1, all, 7),
                Err(ParseError::Truncated),
            ),
            (
                "between",
                ALL_SYSTEMS,
                1,
                &query(1, all, 10),
                Err(ParseError::Truncated),
            ),
            (
                "another group's",
                GROUP,
                1,
                &query(1, all, 12),
                Err(ParseError::Group),
            ),
            (
                "no group",
                SOURCE,
                1,
                &query(1, SOURCE, 12),
                Err(ParseError::Group),
            ),
            (
                "a report",
                GROUP,
                1,
                &report_v2(SOURCE, GROUP, Membership::Is).1[24..],
                Err(ParseError::Type(0x16)),
            ),
        ];
        for (name, destination, ttl, message, result) in table {
            let ip = Header::new(
                [192, 0, 2, 254],
                destination,
                ipv4::IGMP,
                ttl,
                message.len(),
            );
            assert_eq!(Query::parse(&ip, message), result, "{name}");
            for bit in 0..8 * message.len() {
                let mut damaged = message.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Query::parse(&ip, &damaged).is_err(), "{name}: bit {bit}");
            }
        }
    }

    #[test]
    fn macs_of_groups() {
        assert_eq!(multicast_mac(GROUP), crate::vrrp::MULTICAST_MAC);
        assert_eq!(multicast_mac([239, 0xff, 1, 2]), [1, 0, 0x5e, 0x7f, 1, 2]);
    }

    fn query_of(
        version: Version,
        group: Option<[u8; 4]>,
        millis: u64,
    ) -> Result<Query, ParseError> {
        Ok(Query {
            version,
            group,
            delay: Duration::from_millis(millis),
        })
    }

    fn query(code: u8, group: [u8; 4], len: usize) -> Vec<u8> {
        let mut message = [&[QUERY, code, 0, 0], &group[..], &[0; 8]].concat();
        message.truncate(len);
        let sum = checksum::of(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        message
    }
}
