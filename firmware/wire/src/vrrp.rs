//! VRRP advertisements: version 3 for IPv4 and IPv6 (RFC 9568 §5), version 2 (RFC 3768 §5), keepalived's HMAC trailer, and what
//! CARP looks like.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::{self, Sum};
use crate::ethernet::Mac;
use crate::{ipv4, ipv6};

mod advert;
pub mod carp;
mod new_advert;
#[cfg(test)]
mod tests;
pub mod trailer;

pub use advert::{Addresses, Advert, Expected, ParseError, peek};
pub use new_advert::NewAdvert;

/// Where advertisements go by IPv4 (RFC 9568 §5.1.1.2).
pub const MULTICAST: [u8; 4] = [224, 0, 0, 18];
/// The MAC address of [`MULTICAST`] (RFC 1112 §6.4).
pub const MULTICAST_MAC: Mac = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12];
/// Where advertisements go by IPv6 (RFC 9568 §5.1.2.2).
pub const MULTICAST6: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12];
/// The MAC address of [`MULTICAST6`] (RFC 2464 §7).
pub const MULTICAST6_MAC: Mac = [0x33, 0x33, 0x00, 0x00, 0x00, 0x12];
/// The only TTL or hop limit that an advertisement may arrive with from its link (RFC 9568 §5.1.1.3, §5.1.2.3).
pub const TTL: u8 = 255;
/// Most addresses that one advertisement can carry.
pub const MAX_ADDRESSES: usize = u8::MAX as usize;

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds.
    V2,
    /// RFC 9568.
    V3,
}

impl Version {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// What a checksum is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The message alone: version 2, and version 3 with IPv4 (RFC 9568 §5.2.8).
    Message,
    /// Also a pseudo-header: always with IPv6; with IPv4 as RFC 5798 was read by many, keepalived up to 2.3 among them.
    PseudoHeader,
}

/// Source and destination of the packet that an advertisement is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// By IPv4.
    V4 {
        /// The sender's primary address.
        source: [u8; 4],
        /// [`MULTICAST`], or a router's address.
        destination: [u8; 4],
    },
    /// By IPv6.
    V6 {
        /// The sender's link-local address.
        source: [u8; 16],
        /// [`MULTICAST6`], or a router's address.
        destination: [u8; 16],
    },
}

impl Ends {
    /// From `source` to the group of all routers.
    #[must_use]
    pub fn multicast(source: IpAddr) -> Self {
        match source {
            IpAddr::V4(source) => Self::V4 {
                source: source.octets(),
                destination: MULTICAST,
            },
            IpAddr::V6(source) => Self::V6 {
                source: source.octets(),
                destination: MULTICAST6,
            },
        }
    }

    /// From `source` to one router; `None` if they are of two IP versions.
    #[must_use]
    pub fn unicast(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4 {
                source: source.octets(),
                destination: destination.octets(),
            }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6 {
                source: source.octets(),
                destination: destination.octets(),
            }),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// The sender.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        match self {
            Self::V4 { source, .. } => Ipv4Addr::from(*source).into(),
            Self::V6 { source, .. } => Ipv6Addr::from(*source).into(),
        }
    }

    /// Whom it is for.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        match self {
            Self::V4 { destination, .. } => Ipv4Addr::from(*destination).into(),
            Self::V6 { destination, .. } => Ipv6Addr::from(*destination).into(),
        }
    }

    /// Whether it goes to the group of all routers.
    #[must_use]
    pub fn is_multicast(&self) -> bool {
        match self {
            Self::V4 { destination, .. } => *destination == MULTICAST,
            Self::V6 { destination, .. } => *destination == MULTICAST6,
        }
    }

    fn address_len(&self) -> usize {
        match self {
            Self::V4 { .. } => 4,
            Self::V6 { .. } => 16,
        }
    }

    fn pseudo_header(&self, len: usize) -> Sum {
        // Longer ones do not fit any packet.
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        match *self {
            Self::V4 {
                source,
                destination,
            } => checksum::pseudo_header(source, destination, ipv4::VRRP, len),
            Self::V6 {
                source,
                destination,
            } => ipv6::pseudo_header(source, destination, ipv4::VRRP, len),
        }
    }
}

const ADVERTISEMENT: u8 = 1;
/// Length of the fixed part of both versions.
const HEADER: usize = 8;
/// Length of version 2's authentication data (RFC 3768 §5.3.10), which is there even if it is unused.
const PASSWORD: usize = 8;
const NO_AUTHENTICATION: u8 = 0;
const SIMPLE_PASSWORD: u8 = 1;

/// Length of a message without trailer.
const fn message_len(version: Version, address_len: usize, addresses: usize) -> usize {
    let rest = match version {
        Version::V2 => PASSWORD,
        Version::V3 => 0,
    };
    HEADER + address_len * addresses + rest
}

/// The fields of the header that versions share, and the two bytes that each reads in its own way.
const fn header(
    version: Version,
    vrid: u8,
    priority: u8,
    count: u8,
    own: [u8; 2],
    sum: [u8; 2],
) -> [u8; HEADER] {
    let kind = version.number() << 4 | ADVERTISEMENT;
    [kind, vrid, priority, count, own[0], own[1], sum[0], sum[1]]
}
