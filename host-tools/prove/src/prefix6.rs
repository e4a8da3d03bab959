//! IPv6 prefix translation (RFC 6296), written apart from the appliance's so that the two check each other.

use std::net::Ipv6Addr;

use policy::Prefix6;

/// The address of `from` as it reads in `to`; `None` if it is not in `from`. Prefixes are of equal length, at
/// most 64 bits.
#[must_use]
pub fn translate(from: Prefix6, to: Prefix6, address: Ipv6Addr) -> Option<Ipv6Addr> {
    if !from.contains(address) {
        return None;
    }
    let mask = u128::MAX
        .checked_shl(128 - u32::from(from.length))
        .unwrap_or(0);
    let moved = to.address.to_bits() & mask | address.to_bits() & !mask;
    let mut words = Ipv6Addr::from_bits(moved).segments();
    // Checksums of transports stay right: the prefixes' difference goes into another word (§3.1): the subnet
    // if the prefix leaves it free (§3.4), else the first word of the interface identifier that is not 0xffff (§3.5).
    let word = if from.length <= 48 {
        3
    } else {
        (4..8).find(|word| words[*word] != 0xffff)?
    };
    let difference = sum(from.address).wrapping_sub_ones(sum(to.address));
    let adjusted = Ones(words[word]).add(difference);
    words[word] = if adjusted.0 == 0xffff { 0 } else { adjusted.0 };
    Some(words.into())
}

/// A word in one's complement arithmetic.
#[derive(Clone, Copy)]
struct Ones(u16);

impl Ones {
    fn add(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Self(sum + u16::from(carry))
    }

    fn wrapping_sub_ones(self, other: Self) -> Self {
        self.add(Self(!other.0))
    }
}

fn sum(prefix: Ipv6Addr) -> Ones {
    prefix
        .segments()
        .into_iter()
        .fold(Ones(0), |sum, word| sum.add(Ones(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6296 appendix A.1 and §3.4: FD01:203:405::/48 and 2001:DB8:1::/48.
        let inside = Prefix6::of("fd01:203:405::".parse().expect("an address"), 48);
        let outside = Prefix6::of("2001:db8:1::".parse().expect("an address"), 48);
        let own = "fd01:203:405:1::1234".parse().expect("an address");
        let seen: Ipv6Addr = "2001:db8:1:d550::1234".parse().expect("an address");
        assert_eq!(translate(inside, outside, own), Some(seen));
        assert_eq!(translate(outside, inside, seen), Some(own));
        assert_eq!(translate(outside, inside, own), None);
    }

    #[test]
    fn a_longer_prefix_changes_the_identifier() {
        let inside = Prefix6::of("fd00:1:2:3::".parse().expect("an address"), 64);
        let outside = Prefix6::of("2001:db8:1:2::".parse().expect("an address"), 64);
        let own = "fd00:1:2:3::11".parse().expect("an address");
        let seen = translate(inside, outside, own).expect("inside");
        assert_eq!(translate(outside, inside, seen), Some(own));
        assert!(outside.contains(seen));
        assert_eq!(
            sum(seen).add(Ones(!sum(own).0)).0 % 0xffff,
            0,
            "checksum neutral"
        );
    }
}
