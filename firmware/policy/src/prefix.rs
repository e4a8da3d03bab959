//! Prefixes of both IP versions, as subnets and as parts of rules.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// An IPv4 prefix. `0.0.0.0/0` is any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Prefix {
    /// Network address; bits beyond `length` are zero.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub length: u8,
}

impl Prefix {
    /// Every address.
    pub const ANY: Self = Self {
        address: Ipv4Addr::UNSPECIFIED,
        length: 0,
    };

    /// The prefix of `length` bits that `address` is in. More than 32 bits count as 32.
    #[must_use]
    pub const fn of(address: Ipv4Addr, length: u8) -> Self {
        let length = if length > 32 { 32 } else { length };
        Self {
            address: Ipv4Addr::from_bits(address.to_bits() & mask(length)),
            length,
        }
    }

    /// Whether `address` is in this prefix.
    #[must_use]
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & mask(self.length) == 0
    }

    /// Whether some address is in both prefixes.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The highest address: the directed broadcast address of a subnet.
    #[must_use]
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.length))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// An IPv6 prefix. `::/0` is any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Prefix6 {
    /// Network address; bits beyond `length` are zero.
    pub address: Ipv6Addr,
    /// 0 to 128.
    pub length: u8,
}

impl Prefix6 {
    /// Every address.
    pub const ANY: Self = Self {
        address: Ipv6Addr::UNSPECIFIED,
        length: 0,
    };

    /// The prefix of `length` bits that `address` is in. More than 128 bits count as 128.
    #[must_use]
    pub const fn of(address: Ipv6Addr, length: u8) -> Self {
        let length = if length > 128 { 128 } else { length };
        Self {
            address: Ipv6Addr::from_bits(address.to_bits() & mask6(length)),
            length,
        }
    }

    /// Whether `address` is in this prefix.
    #[must_use]
    pub const fn contains(self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & mask6(self.length) == 0
    }

    /// Whether some address is in both prefixes.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The highest address.
    #[must_use]
    pub const fn last(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() | !mask6(self.length))
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A prefix of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpPrefix {
    /// IPv4.
    V4(Prefix),
    /// IPv6.
    V6(Prefix6),
}

impl IpPrefix {
    /// The prefix that holds only `address`.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(Prefix::of(address, 32)),
            IpAddr::V6(address) => Self::V6(Prefix6::of(address, 128)),
        }
    }

    /// Whether `address` is of the same version and in this prefix.
    #[must_use]
    pub const fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4(prefix), IpAddr::V4(address)) => prefix.contains(address),
            (Self::V6(prefix), IpAddr::V6(address)) => prefix.contains(address),
            (Self::V4(_), IpAddr::V6(_)) | (Self::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(prefix) => prefix.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}

/// The netmask of a prefix length; 128 and more give all ones.
const fn mask6(length: u8) -> u128 {
    match 128_u32.checked_sub(length as u32) {
        Some(128) => 0,
        Some(host_bits) => u128::MAX << host_bits,
        None => u128::MAX,
    }
}

/// The netmask of a prefix length; 32 and more give all ones.
const fn mask(length: u8) -> u32 {
    match 32_u32.checked_sub(length as u32) {
        Some(32) => 0,
        Some(host_bits) => u32::MAX << host_bits,
        None => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_at_the_edges() {
        let table = [
            ("any", 0, [0, 0, 0, 0], [255, 255, 255, 255], true),
            ("first of a /24", 24, [10, 20, 1, 0], [10, 20, 1, 0], true),
            ("last of a /24", 24, [10, 20, 1, 0], [10, 20, 1, 255], true),
            (
                "one beyond a /24",
                24,
                [10, 20, 1, 0],
                [10, 20, 2, 0],
                false,
            ),
            (
                "one before a /24",
                24,
                [10, 20, 1, 0],
                [10, 20, 0, 255],
                false,
            ),
            (
                "halves of a /1",
                1,
                [128, 0, 0, 0],
                [127, 255, 255, 255],
                false,
            ),
            (
                "other half of a /31",
                31,
                [10, 0, 0, 2],
                [10, 0, 0, 3],
                true,
            ),
            ("a host is itself", 32, [10, 0, 0, 2], [10, 0, 0, 2], true),
            (
                "a host is no other",
                32,
                [10, 0, 0, 2],
                [10, 0, 0, 3],
                false,
            ),
        ];
        for (name, length, network, address, inside) in table {
            let prefix = Prefix {
                address: network.into(),
                length,
            };
            assert_eq!(prefix.contains(address.into()), inside, "{name}");
        }
    }

    #[test]
    fn a_prefix_knows_its_ends() {
        let prefix = Prefix::of([10, 20, 1, 77].into(), 26);
        assert_eq!(
            prefix,
            Prefix {
                address: [10, 20, 1, 64].into(),
                length: 26
            }
        );
        assert_eq!(prefix.last(), Ipv4Addr::new(10, 20, 1, 127));
        assert_eq!(Prefix::ANY.last(), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn overlap_is_containment_either_way() {
        let wide = Prefix::of([10, 0, 0, 0].into(), 8);
        let narrow = Prefix::of([10, 20, 0, 0].into(), 16);
        let other = Prefix::of([11, 0, 0, 0].into(), 16);
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!wide.overlaps(other) && !other.overlaps(wide));
    }
}
