//! Advertisements as they are received.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use subtle::ConstantTimeEq;

use crate::checksum;

use super::trailer::Trailer;
use super::{
    ADVERTISEMENT, Checksum, Ends, HEADER, NO_AUTHENTICATION, PASSWORD, SIMPLE_PASSWORD, TTL,
    Version, message_len,
};

/// A valid advertisement, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Advert<'a> {
    /// Which version it is of.
    pub version: Version,
    /// The virtual router that this is about.
    pub vrid: u8,
    /// 0 when the sender gives up, 255 for the owner of the addresses.
    pub priority: u8,
    /// How often the sender advertises; never zero. Of version 2 whole seconds.
    pub interval: Duration,
    /// What its checksum is over.
    pub checksum: Checksum,
    /// The addresses that the sender answers for; at least one.
    pub addresses: Addresses<'a>,
    /// keepalived's HMAC trailer, if there is one. Nobody has looked at it yet.
    pub trailer: Option<Trailer<'a>>,
}

/// The addresses of an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses<'a> {
    /// Of IPv4.
    V4(&'a [[u8; 4]]),
    /// Of IPv6; the first one is link-local (RFC 9568 §5.2.9).
    V6(&'a [[u8; 16]]),
}

impl<'a> Addresses<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::V4(addresses) => addresses.len(),
            Self::V6(addresses) => addresses.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let (four, six): (&[[u8; 4]], &[[u8; 16]]) = match self {
            Self::V4(addresses) => (addresses, &[]),
            Self::V6(addresses) => (&[], addresses),
        };
        let four = four.iter().map(|address| Ipv4Addr::from(*address).into());
        four.chain(six.iter().map(|address| Ipv6Addr::from(*address).into()))
    }

    /// Whether these are exactly `configured` (no address twice), in any order.
    #[must_use]
    pub fn are(&self, configured: &[IpAddr]) -> bool {
        // Routers list them in the same order always, most also in that of their peer.
        if self.iter().eq(configured.iter().copied()) {
            return true;
        }
        let listed = |address: &IpAddr| match (self, address) {
            (Self::V4(addresses), IpAddr::V4(address)) => addresses.contains(&address.octets()),
            (Self::V6(addresses), IpAddr::V6(address)) => addresses.contains(&address.octets()),
            (Self::V4(_), IpAddr::V6(_)) | (Self::V6(_), IpAddr::V4(_)) => false,
        };
        self.len() == configured.len() && configured.iter().all(listed)
    }
}

/// What a router expects of the advertisements about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The version that is spoken.
    pub version: Version,
    /// Lowest and highest TTL or hop limit. [`TTL`] alone for what comes by multicast, whatever is said here.
    pub ttl: (u8, u8),
    /// The password of version 2's authentication type 1; type 0 is expected without one.
    pub password: Option<[u8; PASSWORD]>,
}

impl Expected {
    /// What version 3's standard demands.
    pub const V3: Self = Self {
        version: Version::V3,
        ttl: (TTL, TTL),
        password: None,
    };
}

/// Why an advertisement is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ParseError {
    /// It may come from beyond this link, or from further away than is allowed.
    #[error("TTL or hop limit {0} is not allowed")]
    Ttl(u8),
    /// Another version than the router speaks.
    #[error("VRRP version {0} is not the router's")]
    Version(u8),
    /// Advertisement is the only type that exists.
    #[error("VRRP message type {0} is unknown")]
    Type(u8),
    /// Shorter than it says.
    #[error("truncated: need {need} bytes, have {have}")]
    Truncated {
        /// Bytes that the header asks for.
        need: usize,
        /// Bytes that came.
        have: usize,
    },
    /// No form of the checksum is right.
    #[error("wrong checksum")]
    Checksum,
    /// Authenticated in another way than the router's.
    #[error("authentication type {0} is not the router's")]
    AuthenticationType(u8),
    /// Not the router's password.
    #[error("wrong password")]
    Password,
    /// It is about no address at all.
    #[error("it carries no address")]
    NoAddress,
    /// With it every Backup would time out at once.
    #[error("its interval is zero")]
    ZeroInterval,
}

/// Version number and VRID of what may become an advertisement, to find out whom it concerns; `None` if it is shorter than a
/// header.
#[must_use]
pub fn peek(message: &[u8]) -> Option<(u8, u8)> {
    let [kind, vrid, ..] = *message.first_chunk::<HEADER>()?;
    Some((kind >> 4, vrid))
}

impl<'a> Advert<'a> {
    /// Checks a received packet in the order of RFC 9568 §7.1 (with its errata 8299 and 8301) and of RFC 3768 §7.1, except for
    /// what only the receiver knows: VRID, addresses, trailer, and whether version 2's interval is its own. `payload` is all
    /// that follows the IP header, without Ethernet padding.
    ///
    /// For IPv4, RFC 9568 §5.2.8 leaves the pseudo-header out of version 3's checksum; keepalived up to 2.3 includes it by
    /// default. Both forms are accepted.
    pub fn parse(
        ends: &Ends,
        ttl: u8,
        payload: &'a [u8],
        expected: &Expected,
    ) -> Result<Self, ParseError> {
        let (low, high) = if ends.is_multicast() {
            (TTL, TTL)
        } else {
            expected.ttl
        };
        if !(low..=high).contains(&ttl) {
            return Err(ParseError::Ttl(ttl));
        }
        let have = payload.len();
        let truncated = |need| ParseError::Truncated { need, have };
        let (header, rest) = payload
            .split_first_chunk::<HEADER>()
            .ok_or(truncated(HEADER))?;
        let [kind, vrid, priority, count, a, b, _, _] = *header;
        let version = expected.version;
        if kind >> 4 != version.number() {
            return Err(ParseError::Version(kind >> 4));
        }
        if kind & 0x0f != ADVERTISEMENT {
            return Err(ParseError::Type(kind & 0x0f));
        }
        let len = message_len(version, ends.address_len(), count.into());
        let (message, trailer) = payload.split_at_checked(len).ok_or(truncated(len))?;
        let count = usize::from(count);
        let addresses = match ends {
            Ends::V4 { .. } => rest.as_chunks().0.get(..count).map(Addresses::V4),
            Ends::V6 { .. } => rest.as_chunks().0.get(..count).map(Addresses::V6),
        };
        let addresses = addresses.ok_or(truncated(len))?;
        let checksum =
            checksum_form(ends, version, message, payload).ok_or(ParseError::Checksum)?;
        if version == Version::V2 {
            authenticate(a, message, expected)?;
        }
        if addresses.is_empty() {
            return Err(ParseError::NoAddress);
        }
        let interval = match version {
            Version::V2 => Duration::from_secs(b.into()),
            // Four reserved bits are ignored (RFC 9568 §5.2.6).
            Version::V3 => CENTISECOND * u32::from(u16::from_be_bytes([a & 0x0f, b])),
        };
        if interval.is_zero() {
            return Err(ParseError::ZeroInterval);
        }
        Ok(Self {
            version,
            vrid,
            priority,
            interval,
            checksum,
            addresses,
            trailer: Trailer::after(message, trailer),
        })
    }
}

/// Which form of the checksum is right, if any.
fn checksum_form(
    ends: &Ends,
    version: Version,
    message: &[u8],
    payload: &[u8],
) -> Option<Checksum> {
    let with_pseudo_header =
        |bytes: &[u8]| ends.pseudo_header(bytes.len()).bytes(bytes).finish() == 0;
    match (ends, version) {
        // That of an upper layer (RFC 8200 §8.1): over all of the payload, a trailer included.
        (Ends::V6 { .. }, _) => with_pseudo_header(payload).then_some(Checksum::PseudoHeader),
        (Ends::V4 { .. }, _) if checksum::of(message) == 0 => Some(Checksum::Message),
        (Ends::V4 { .. }, Version::V2) => None,
        (Ends::V4 { .. }, Version::V3) => {
            with_pseudo_header(message).then_some(Checksum::PseudoHeader)
        }
    }
}

/// Version 2's authentication (RFC 2338 §5.3.6).
fn authenticate(kind: u8, message: &[u8], expected: &Expected) -> Result<(), ParseError> {
    match (kind, expected.password) {
        (NO_AUTHENTICATION, None) => Ok(()),
        (SIMPLE_PASSWORD, Some(password)) => {
            let given = message.last_chunk::<PASSWORD>();
            let right = given.is_some_and(|given| given.ct_eq(&password).into());
            right.then_some(()).ok_or(ParseError::Password)
        }
        (other, _) => Err(ParseError::AuthenticationType(other)),
    }
}

const CENTISECOND: Duration = Duration::from_millis(10);
