//! IPv6-to-IPv6 prefix translation, NPTv6 (RFC 6296): stateless, one address to one address, and neutral to all
//! checksums, so that no transport and no quoted packet has to be looked into.

use policy::{Config, MAX_NAT, Nat, Prefix6};
use wire::ipv6;

/// The prefix translations of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Prefixes {
    pairs: heapless::Vec<Pair, MAX_NAT>,
}

/// One inside prefix and the outside prefix in its stead, of the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    to: u8,
    inside: Prefix6,
    outside: Prefix6,
    /// One's complement sum of the inside prefix less that of the outside prefix (RFC 6296 §3.1).
    adjustment: u16,
}

/// An address that cannot be translated, since no word of it can take up the difference of the checksums
/// (RFC 6296 §3.4, §3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untranslatable;

impl Prefixes {
    /// The prefix translations of a validated configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let pairs = config.nat.iter().filter_map(|nat| match *nat {
            Nat::Prefix6 {
                to,
                inside,
                outside,
            } => Some(Pair::new(to, inside, outside)),
            Nat::Source { .. } | Nat::Destination { .. } => None,
        });
        Self {
            pairs: pairs.collect(),
        }
    }

    /// Whether nothing is ever translated.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Translates a packet that comes in by `leg`: its destination, and the source of one that it quotes (RFC 6296 §3.3).
    ///
    /// # Errors
    /// Nothing has changed.
    pub fn enter(&self, leg: u8, packet: &mut [u8]) -> Result<(), Untranslatable> {
        let quoted = quote(packet).map(|at| at + SOURCE);
        self.put(packet, DESTINATION, |address| self.inside(leg, address))?;
        match quoted {
            Some(at) => self.put(packet, at, |address| self.inside(leg, address)),
            None => Ok(()),
        }
    }

    /// Takes [`Self::enter`] back.
    ///
    /// # Errors
    /// Never after `enter` has said yes.
    pub fn undo(&self, leg: u8, packet: &mut [u8]) -> Result<(), Untranslatable> {
        let quoted = quote(packet).map(|at| at + SOURCE);
        self.put(packet, DESTINATION, |address| self.outside(leg, address))?;
        match quoted {
            Some(at) => self.put(packet, at, |address| self.outside(leg, address)),
            None => Ok(()),
        }
    }

    /// Translates a packet that leaves by `leg`: its source, and the destination of one that it quotes.
    ///
    /// # Errors
    /// It must not leave.
    pub fn leave(&self, leg: u8, packet: &mut [u8]) -> Result<(), Untranslatable> {
        let quoted = quote(packet).map(|at| at + DESTINATION);
        self.put(packet, SOURCE, |address| self.outside(leg, address))?;
        match quoted {
            Some(at) => self.put(packet, at, |address| self.outside(leg, address)),
            None => Ok(()),
        }
    }

    fn put(
        &self,
        packet: &mut [u8],
        at: usize,
        translate: impl Fn(u128) -> Result<u128, Untranslatable>,
    ) -> Result<(), Untranslatable> {
        if let Some(place) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = translate(u128::from_be_bytes(*place))?.to_be_bytes();
        }
        Ok(())
    }

    /// The source, inside, of a packet that leaves by `leg`, as the outside sees it.
    pub fn outside(&self, leg: u8, address: u128) -> Result<u128, Untranslatable> {
        let mut pairs = self.pairs.iter();
        match pairs.find(|pair| pair.to == leg && pair.inside.contains(address.into())) {
            Some(pair) => pair.translate(pair.outside, address, pair.adjustment),
            None => Ok(address),
        }
    }

    /// The destination of a packet that comes in by `leg`, as the inside knows it.
    pub fn inside(&self, leg: u8, address: u128) -> Result<u128, Untranslatable> {
        let mut pairs = self.pairs.iter();
        match pairs.find(|pair| pair.to == leg && pair.outside.contains(address.into())) {
            Some(pair) => pair.translate(pair.inside, address, !pair.adjustment),
            None => Ok(address),
        }
    }
}

impl Pair {
    fn new(to: u8, inside: Prefix6, outside: Prefix6) -> Self {
        Self {
            to,
            inside,
            outside,
            adjustment: add(
                sum(inside.address.to_bits()),
                !sum(outside.address.to_bits()),
            ),
        }
    }

    /// Puts `prefix` in front of the address and makes up for the change of the sum in one word: the one after a
    /// prefix of up to 48 bits (§3.4), otherwise the first one beyond bit 64 that is not 0xffff (§3.5).
    fn translate(
        &self,
        prefix: Prefix6,
        address: u128,
        adjustment: u16,
    ) -> Result<u128, Untranslatable> {
        let candidates = if prefix.length <= 48 { 3..4 } else { 4..8 };
        let word = |index: u32| (address >> (112 - 16 * index)) as u16;
        let index = candidates
            .into_iter()
            .find(|index| word(*index) != u16::MAX)
            .ok_or(Untranslatable)?;
        // Of the two zeros of one's complement only 0x0000 is used, so that the way back is unique.
        let adjusted = match add(word(index), adjustment) {
            u16::MAX => 0,
            adjusted => adjusted,
        };
        let shift = 112 - 16 * index;
        let host = u128::MAX
            .checked_shr(prefix.length.into())
            .unwrap_or_default();
        let kept = address & host & !(0xffff << shift);
        Ok(prefix.address.to_bits() | kept | u128::from(adjusted) << shift)
    }
}

/// Where the packet begins that an ICMPv6 error quotes.
fn quote(packet: &[u8]) -> Option<usize> {
    let header = ipv6::Header::parse(packet).ok()?;
    let chain = ipv6::walk(header, packet).ok()?;
    let is_error = chain.protocol == ipv6::ICMP && *packet.get(chain.offset)? < 128;
    is_error.then_some(chain.offset + ICMP_HEADER_LEN)
}

const SOURCE: usize = 8;
const DESTINATION: usize = 24;
const ICMP_HEADER_LEN: usize = 8;

/// One's complement sum of the words of an address.
const fn sum(address: u128) -> u16 {
    let mut sum = 0;
    let mut shift = 0;
    while shift < 128 {
        sum = add(sum, (address >> shift) as u16);
        shift += 16;
    }
    sum
}

/// One's complement addition.
const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn prefixes(inside: &str, outside: &str, length: u8) -> Prefixes {
        let prefix = |text: &str| Prefix6::of(text.parse().unwrap(), length);
        Prefixes {
            pairs: [Pair::new(0, prefix(inside), prefix(outside))]
                .into_iter()
                .collect(),
        }
    }

    fn bits(text: &str) -> u128 {
        text.parse::<Ipv6Addr>().unwrap().to_bits()
    }

    /// The examples of RFC 6296 §3.4 and appendix B, and the corners of §3.5.
    #[test]
    fn examples_of_the_rfc() {
        let table = [
            (
                "fd01:203:405::",
                "2001:db8:1::",
                48,
                "fd01:203:405:1::1234",
                Ok("2001:db8:1:d550::1234"),
            ),
            (
                "fd01:203:405::",
                "2001:db8:1::",
                48,
                "fd01:203:405:ffff::1",
                Err(Untranslatable),
            ),
            (
                "fd01:203:405:1::",
                "2001:db8:1:2::",
                64,
                "fd01:203:405:1:ffff:ffff:ffff:ffff",
                Err(Untranslatable),
            ),
            // Not in the prefix: not translated.
            (
                "fd01:203:405::",
                "2001:db8:1::",
                48,
                "fd01:203:406:1::1",
                Ok("fd01:203:406:1::1"),
            ),
        ];
        for (inside, outside, length, address, expected) in table {
            let prefixes = prefixes(inside, outside, length);
            let translated = prefixes.outside(0, bits(address));
            assert_eq!(translated, expected.map(bits), "{address}");
            if let Ok(translated) = translated {
                assert_eq!(prefixes.inside(0, translated), Ok(bits(address)));
            }
            assert_eq!(prefixes.outside(1, bits(address)), Ok(bits(address)));
        }
        let skips = prefixes("fd01:203:405:1::", "2001:db8:1:2::", 64);
        let outside = skips.outside(0, bits("fd01:203:405:1:ffff::1")).unwrap();
        assert_eq!(outside >> 48, bits("2001:db8:1:2:ffff::") >> 48);
        assert_eq!(skips.inside(0, outside), Ok(bits("fd01:203:405:1:ffff::1")));
    }

    proptest! {
        /// Any address, any prefixes: the sum of all words stays, the prefix changes, and the way back leads home.
        #[test]
        fn neutral_to_checksums_and_reversible(a: u128, b: u128, length in 1_u8..=64, host: u128) {
            let inside = Prefix6::of(a.into(), length);
            let outside = Prefix6::of(b.into(), length);
            let prefixes = Prefixes { pairs: [Pair::new(0, inside, outside)].into_iter().collect() };
            let address = inside.address.to_bits() | host & (u128::MAX >> length);
            let Ok(translated) = prefixes.outside(0, address) else {
                prop_assert_eq!(address >> 64 & 0xffff == 0xffff, length <= 48);
                return Ok(());
            };
            prop_assert!(outside.contains(translated.into()));
            let (before, after) = (sum(address), sum(translated));
            // Both zeros of one's complement are the same number.
            prop_assert!(before == after || before.min(after) == 0 && before.max(after) == u16::MAX);
            let back = prefixes.inside(0, translated).unwrap();
            prop_assert_eq!(back, address);
        }
    }
}
