//! The trailer by which keepalived from 2.4 on authenticates advertisements (`auth_hmac`, draft-cassen-vrrp-auth-hmac):
//! HMAC-SHA256, truncated to 128 bits, and a number that only grows.
//!
//! ```text
//!  type (1)   key id   reserved (0)       type and key
//!  seconds since 1970                     the number: 64 bits in a row, made of the time
//!  fraction of a second   counter
//!  digest (16 bytes)
//! ```
//!
//! The digest is over IP version, VRRP version, VRID, zero and the sender's address (20 bytes, zeros behind an IPv4 address), the
//! message with a zero checksum, and the trailer with a zero digest.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Ends;

/// Length of a trailer.
pub const LEN: usize = PREFIX + DIGEST;
/// Shortest secret that keepalived takes.
pub const MIN_SECRET: usize = 32;
/// Longest secret that keepalived takes.
pub const MAX_SECRET: usize = 64;

/// A received trailer, and the message that it follows.
#[derive(Clone, Copy, Debug)]
pub struct Trailer<'a> {
    message: &'a [u8],
    prefix: &'a [u8; PREFIX],
    digest: &'a [u8; DIGEST],
}

/// Why a trailer authenticates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TrailerError {
    /// Another scheme, or reserved bits that are set.
    #[error("the trailer is of another kind")]
    Malformed,
    /// None of the receiver's keys.
    #[error("key {0} is unknown")]
    UnknownKey(u8),
    /// Another secret, or somebody has changed the message.
    #[error("the digest is wrong")]
    Digest,
}

impl<'a> Trailer<'a> {
    /// What follows a message, if it can be a trailer: keepalived tells it by its length, which no padding has.
    pub(super) fn after(message: &'a [u8], rest: &'a [u8]) -> Option<Self> {
        let (prefix, digest) = rest.split_first_chunk()?;
        let digest = digest.try_into().ok()?;
        Some(Self {
            message,
            prefix,
            digest,
        })
    }

    /// Checks who has signed the message; its number. `secret` finds a key by its id.
    pub fn authenticate<'k>(
        &self,
        ends: &Ends,
        secret: impl FnOnce(u8) -> Option<&'k [u8]>,
    ) -> Result<Number, TrailerError> {
        let [kind, key, 0, 0, number @ ..] = *self.prefix else {
            return Err(TrailerError::Malformed);
        };
        if kind != HMAC_SHA256 {
            return Err(TrailerError::Malformed);
        }
        let secret = secret(key).ok_or(TrailerError::UnknownKey(key))?;
        let right = digest(secret, ends, self.message, self.prefix).ok_or(TrailerError::Digest)?;
        if !bool::from(right.ct_eq(self.digest)) {
            return Err(TrailerError::Digest);
        }
        Ok(Number(u64::from_be_bytes(number)))
    }
}

/// How an advertisement is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Identifier of the key, 1 to 255.
    pub key: u8,
    /// The key.
    pub secret: &'a [u8],
    /// Higher than that of any advertisement before; the same for all copies of one.
    pub number: Number,
}

impl Signature<'_> {
    /// Writes the trailer of `message`, whose checksum may still be anything.
    pub(super) fn write(&self, ends: &Ends, message: &[u8], place: &mut [u8]) -> Option<()> {
        let (prefix, place) = place.split_first_chunk_mut::<PREFIX>()?;
        let (start, number) = prefix.split_first_chunk_mut::<4>()?;
        *start = [HMAC_SHA256, self.key, 0, 0];
        number.copy_from_slice(&self.number.0.to_be_bytes());
        let digest = digest(self.secret, ends, message, prefix)?;
        place.first_chunk_mut().map(|place| *place = digest)
    }
}

/// Numbers of a sender's advertisements: seconds since 1970 in the high half, then 16 bits of fraction, then a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u64);

impl Number {
    /// The number of a moment, in microseconds since 1970.
    #[must_use]
    pub const fn at(micros: u64) -> Self {
        let (seconds, rest) = (micros / SECOND, micros % SECOND);
        Self((seconds << 32) | (((rest << 16) / SECOND) << 16))
    }

    /// The moment, in microseconds since 1970 (until 2106, when the seconds begin anew).
    #[must_use]
    pub const fn micros(self) -> u64 {
        let fraction = (self.0 >> 16) & 0xffff;
        (self.0 >> 32) * SECOND + ((fraction * SECOND) >> 16)
    }

    /// Whether it comes after `other`, across the end of the numbers too (RFC 1982).
    #[must_use]
    pub const fn follows(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i64 > 0
    }

    /// What a sender whose last number was this one uses at `now`: the time, or the next number if that has not moved.
    #[must_use]
    pub const fn next(self, now: Self) -> Self {
        match now.follows(self) {
            true => now,
            false => Self(self.0.wrapping_add(1)),
        }
    }
}

fn digest(
    secret: &[u8],
    ends: &Ends,
    message: &[u8],
    prefix: &[u8; PREFIX],
) -> Option<[u8; DIGEST]> {
    let ([kind, vrid, priority, count, a, b, _, _], rest) = message.split_first_chunk::<8>()?;
    let mut pseudo = [0; PSEUDO];
    pseudo[1..3].copy_from_slice(&[kind >> 4, *vrid]);
    match ends {
        Ends::V4 { source, .. } => {
            pseudo[0] = 4;
            pseudo[4..8].copy_from_slice(source);
        }
        Ends::V6 { source, .. } => {
            pseudo[0] = 6;
            pseudo[4..].copy_from_slice(source);
        }
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(&pseudo);
    mac.update(&[*kind, *vrid, *priority, *count, *a, *b, 0, 0]);
    mac.update(rest);
    mac.update(prefix);
    mac.update(&[0; DIGEST]);
    mac.finalize().into_bytes().first_chunk().copied()
}

/// All before the digest.
const PREFIX: usize = 12;
/// Half of what SHA-256 gives.
const DIGEST: usize = 16;
const PSEUDO: usize = 20;
const HMAC_SHA256: u8 = 1;
/// In microseconds.
const SECOND: u64 = 1_000_000;
