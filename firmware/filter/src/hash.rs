//! One hash for two purposes: with a secret key for tables and cookies that strangers must not aim at, with the
//! published key where two appliances have to come to the same result.

use core::net::IpAddr;

/// Key of [HalfSipHash-2-4](https://github.com/veorq/SipHash), a keyed pseudo-random function of 32-bit
/// operations only.
#[derive(Clone, Copy, Debug)]
pub struct Key([u32; 2]);

impl Key {
    /// The key that is no secret: every appliance hashes alike with it.
    pub const PUBLIC: Self = Self([0x6576_6172, 0x006e_696c]);

    /// A key that somebody else has made.
    #[must_use]
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self(words)
    }

    /// The key itself, for somebody who is trusted.
    #[must_use]
    pub const fn words(self) -> [u32; 2] {
        self.0
    }

    /// The key made of a secret seed; `purpose` tells several keys of one seed apart.
    #[must_use]
    pub const fn secret(seed: u64, purpose: u32) -> Self {
        let whole = Self([seed as u32, (seed >> 32) as u32]);
        Self([whole.hash([purpose, 0]), whole.hash([purpose, 1])])
    }

    /// The hash of some words.
    #[inline]
    #[must_use]
    pub const fn hash<const N: usize>(self, words: [u32; N]) -> u32 {
        let [k0, k1] = self.0;
        let mut state = State(k0, k1, 0x6c79_6765 ^ k0, 0x7465_6462 ^ k1);
        let mut at = 0;
        while at < N {
            state = state.absorb(words[at]);
            at += 1;
        }
        // The last block is the length in bytes.
        state = state.absorb((N as u32 * 4) << 24);
        state.2 ^= 0xff;
        let State(_, v1, _, v3) = state.round().round().round().round();
        v1 ^ v3
    }

    /// The hash of an address and one more word.
    #[must_use]
    pub const fn address(self, address: u128, more: u32) -> u32 {
        let [a, b, c, d] = words(address);
        self.hash([a, b, c, d, more])
    }
}

/// An address of either version as one number: IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2).
#[must_use]
pub const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether a [`number`] stands for an IPv4 address.
#[must_use]
pub const fn is_v4(number: u128) -> bool {
    number >> 32 == 0xffff
}

/// The first `length` bits of an address that a [`number`] stands for; a longer length counts as the whole.
#[must_use]
pub const fn prefix(number: u128, length: u8) -> u128 {
    let bits = if is_v4(number) { 96 } else { 0 } + length as u32;
    if bits >= u128::BITS {
        return number;
    }
    number & !(u128::MAX >> bits)
}

/// The words of a [`number`], the first ones first: it takes less room in tables, for it need not be aligned.
#[must_use]
pub const fn words(number: u128) -> [u32; 4] {
    [
        (number >> 96) as u32,
        (number >> 64) as u32,
        (number >> 32) as u32,
        number as u32,
    ]
}

/// The [`number`] of [`words`].
#[must_use]
pub const fn from_words([a, b, c, d]: [u32; 4]) -> u128 {
    (a as u128) << 96 | (b as u128) << 64 | (c as u128) << 32 | d as u128
}

#[derive(Clone, Copy)]
struct State(u32, u32, u32, u32);

impl State {
    #[inline]
    const fn absorb(mut self, word: u32) -> Self {
        self.3 ^= word;
        self = self.round().round();
        self.0 ^= word;
        self
    }

    #[inline]
    const fn round(self) -> Self {
        let Self(a, b, c, d) = self;
        let (a, c) = (a.wrapping_add(b), c.wrapping_add(d));
        let (b, d) = (b.rotate_left(5) ^ a, d.rotate_left(8) ^ c);
        let (a, c) = (a.rotate_left(16).wrapping_add(d), c.wrapping_add(b));
        let (b, d) = (b.rotate_left(13) ^ c, d.rotate_left(7) ^ a);
        Self(a, b, c.rotate_left(16), d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation: key 00..07, messages of 0 and 4 bytes 00, 01, 02, …
    #[test]
    fn reference_vectors() {
        let key = Key([0x0302_0100, 0x0706_0504]);
        assert_eq!(key.hash([]).to_le_bytes(), [0xa9, 0x35, 0x9f, 0x5b]);
        let four = key.hash([0x0302_0100]).to_le_bytes();
        assert_eq!(four, [0x2a, 0x6e, 0x46, 0x89]);
    }

    #[test]
    fn prefixes_of_both_versions() {
        let table = [
            ("198.51.100.7", 24, "198.51.100.0"),
            ("198.51.100.7", 32, "198.51.100.7"),
            ("198.51.100.7", 1, "128.0.0.0"),
            ("198.51.100.7", 200, "198.51.100.7"),
            ("2001:db8:1:2:3::4", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3::4", 128, "2001:db8:1:2:3::4"),
        ];
        for (address, length, expected) in table {
            let of = |text: &str| number(text.parse().unwrap());
            assert_eq!(prefix(of(address), length), of(expected), "{address}");
            assert_eq!(is_v4(of(address)), address.contains('.'));
        }
    }
}
