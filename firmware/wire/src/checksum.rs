//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Running one's complement sum of 16-bit words, not yet folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u32);

impl Sum {
    /// Adds bytes as big-endian words; an odd last byte counts as the high half of a word.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<2>();
        let mut sum = self.0;
        for word in words {
            sum = add(sum, u32::from(u16::from_be_bytes(*word)));
        }
        if let [last] = rest {
            sum = add(sum, u32::from(*last) << 8);
        }
        Self(sum)
    }

    /// Adds one word.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(add(self.0, u32::from(word)))
    }

    /// The checksum to put on the wire: the complement of the folded sum.
    #[must_use]
    pub fn finish(self) -> u16 {
        !fold(self.0)
    }
}

/// The checksum of `bytes`. Zero for data that carries its own valid checksum.
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::default().bytes(bytes).finish()
}

/// The pseudo-header of TCP, UDP (RFC 9293 §3.1) and of VRRP as keepalived computes it.
#[must_use]
pub fn pseudo_header(source: [u8; 4], destination: [u8; 4], protocol: u8, length: u16) -> Sum {
    Sum::default()
        .bytes(&source)
        .bytes(&destination)
        .word(u16::from(protocol))
        .word(length)
}

/// How a checksum changes when covered words change: the `~m + m'` of RFC 1624 equation 3, folded.
/// Computed once per flow, applied to each packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const NONE: Self = Self(0);

    /// One step of the TTL down: the word `ttl << 8 | protocol` loses 0x0100.
    pub const TTL_STEP: Self = Self(0xfeff);

    /// This change and the one from `old` to `new`.
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(fold(self.0 as u32 + !old as u32 + new as u32))
    }

    /// This change and the one from address `old` to `new`.
    #[must_use]
    pub const fn address(self, old: [u8; 4], new: [u8; 4]) -> Self {
        self.word(high(old), high(new)).word(low(old), low(new))
    }

    /// This change and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 as u32 + other.0 as u32))
    }

    /// The change that takes this one back.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self(!self.0)
    }

    /// The checksum after the change (RFC 1624 equation 3).
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(!checksum as u32 + self.0 as u32)
    }
}

const fn high(a: [u8; 4]) -> u16 {
    u16::from_be_bytes([a[0], a[1]])
}

const fn low(a: [u8; 4]) -> u16 {
    u16::from_be_bytes([a[2], a[3]])
}

/// Adds with the carry folded back at once, so that no length of input overflows.
const fn add(sum: u32, word: u32) -> u32 {
    let (sum, carry) = sum.overflowing_add(word);
    sum + carry as u32
}

const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header from RFC-era textbooks: 0xb861 is its known checksum.
    const HEADER: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn known_header() {
        assert_eq!(of(&HEADER), 0xb861);
        let mut valid = HEADER;
        valid[10..12].copy_from_slice(&0xb861_u16.to_be_bytes());
        assert_eq!(of(&valid), 0);
    }

    #[test]
    fn odd_tail_is_a_high_byte() {
        assert_eq!(of(&[0x12, 0x34, 0x56]), !(0x1234 + 0x5600));
    }

    #[test]
    fn incremental_update_equals_recomputation() {
        let mut word = 0x1234_u16;
        for _ in 0..20_000 {
            word = word.wrapping_mul(25_173).wrapping_add(13_849);
            let mut header = HEADER;
            let before = of(&header);
            let old = [header[16], header[17], header[18], header[19]];
            let new = [10, (word >> 8) as u8, word as u8, 7];
            header[16..20].copy_from_slice(&new);
            header[8] -= 1;
            let delta = Delta::NONE.address(old, new);
            let updated = delta.and(Delta::TTL_STEP).apply(before);
            assert_eq!(updated, of(&header));
            let back = delta.reversed().apply(updated);
            header[16..20].copy_from_slice(&old);
            assert_eq!(back, of(&header));
        }
    }
}
