//! Sealed datagrams: keys for each direction of a session, counters and replay windows for each path.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{MAX_DATAGRAM, PATHS, Path};

/// In front of every sealed datagram, readable but authenticated.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// [`SEALED`].
    pub kind: u8,
    /// Version of the protocol that the session speaks.
    pub version: u8,
    /// The path that it was sent on.
    pub path: u8,
    reserved: u8,
    /// Tells sessions apart without work.
    pub label: U32,
    /// Counts the sender's datagrams of this session on this path.
    pub counter: U64,
}

/// First byte of a sealed datagram.
pub const SEALED: u8 = 2;
/// Bytes in front of the sealed ones.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Bytes behind them.
pub const TAG_LEN: usize = 16;
/// Most bytes that one datagram has room for.
pub const MAX_BODY: usize = MAX_DATAGRAM - HEADER_LEN - TAG_LEN;

/// The two ends of one session.
#[derive(Debug)]
pub struct Seal {
    version: u8,
    label: u32,
    sender: Cipher,
    receiver: Cipher,
    sent: [u64; PATHS],
    windows: [Window; PATHS],
}

struct Cipher(ChaCha20Poly1305);

impl core::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Cipher(..)")
    }
}

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It has not the form of a sealed datagram of this session and path.
    Foreign,
    /// Its counter was seen before, or is too old to tell.
    Replayed,
    /// It is not what the peer sealed.
    Forged,
}

impl Seal {
    /// The session that both nonces name; `first`: this is the first appliance of the pair.
    #[must_use]
    pub fn new(key: &[u8; 32], first: bool, own: &[u8; 16], peer: &[u8; 16], version: u8) -> Self {
        let (a, b) = if first { (own, peer) } else { (peer, own) };
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(a);
        salt[16..].copy_from_slice(b);
        let hkdf = Hkdf::<Sha256>::new(Some(&salt), key);
        let mut okm = [0; 68];
        let expanded = hkdf.expand_multi_info(&[b"ravelin pair session", &[version]], &mut okm);
        debug_assert!(expanded.is_ok(), "68 bytes are fewer than HKDF has");
        let [from_first, from_second] = [&okm[..32], &okm[32..64]].map(Cipher::new);
        let (sender, receiver) = match first {
            true => (from_first, from_second),
            false => (from_second, from_first),
        };
        Self {
            version,
            label: u32::from_le_bytes([okm[64], okm[65], okm[66], okm[67]]),
            sender,
            receiver,
            sent: [0; PATHS],
            windows: [Window::default(); PATHS],
        }
    }

    /// The version that is spoken.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// Seals the `len` bytes behind the room for the header in place; the length of the whole datagram.
    pub fn seal(
        &mut self,
        path: Path,
        len: usize,
        datagram: &mut [u8; MAX_DATAGRAM],
    ) -> Option<usize> {
        let sent = self.sent.get_mut(path.index())?;
        let header = Header {
            kind: SEALED,
            version: self.version,
            path: path.0,
            reserved: 0,
            label: self.label.into(),
            counter: (*sent).into(),
        };
        *sent += 1;
        let (front, rest) = datagram.split_at_mut(HEADER_LEN);
        front.copy_from_slice(header.as_bytes());
        let (body, rest) = rest.split_at_mut_checked(len)?;
        let cipher = &self.sender.0;
        let tag = cipher
            .encrypt_inout_detached(&nonce(&header), front, body.into())
            .ok()?;
        rest.get_mut(..TAG_LEN)?.copy_from_slice(&tag);
        Some(HEADER_LEN + len + TAG_LEN)
    }

    /// Opens a datagram in place: what was sealed.
    pub fn open<'a>(&mut self, path: Path, datagram: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let (front, rest) = datagram
            .split_at_mut_checked(HEADER_LEN)
            .ok_or(OpenError::Foreign)?;
        let header = Header::read_from_bytes(front).map_err(|_| OpenError::Foreign)?;
        let expected = Header {
            kind: SEALED,
            version: self.version,
            path: path.0,
            reserved: 0,
            label: self.label.into(),
            counter: header.counter,
        };
        let window = self.windows.get_mut(path.index());
        let window = window.ok_or(OpenError::Foreign)?;
        let sealed = rest.len().checked_sub(TAG_LEN);
        let sealed = sealed.filter(|len| header == expected && *len <= MAX_BODY);
        let (body, tag) = rest.split_at_mut(sealed.ok_or(OpenError::Foreign)?);
        let counter = header.counter.get();
        if !window.is_new(counter) {
            return Err(OpenError::Replayed);
        }
        let tag = Tag::try_from(&*tag).map_err(|_| OpenError::Foreign)?;
        let cipher = &self.receiver.0;
        cipher
            .decrypt_inout_detached(&nonce(&header), front, (&mut *body).into(), &tag)
            .map_err(|_| OpenError::Forged)?;
        window.accept(counter);
        Ok(body)
    }
}

impl Cipher {
    fn new(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(key);
        Self(ChaCha20Poly1305::new(&bytes.into()))
    }
}

fn nonce(header: &Header) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = header.path;
    nonce[4..].copy_from_slice(header.counter.as_bytes());
    nonce.into()
}

/// Which of the latest counters were seen (RFC 4303 §3.4.3).
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// One more than the highest counter.
    next: u64,
    /// Bit n: `next − 1 − n` was seen.
    seen: u128,
}

impl Window {
    const fn is_new(self, counter: u64) -> bool {
        let Some(back) = self.next.checked_sub(counter) else {
            return true;
        };
        match back {
            0 => true,
            1..=128 => self.seen >> (back - 1) & 1 == 0,
            _ => false,
        }
    }

    const fn accept(&mut self, counter: u64) {
        if counter >= self.next {
            let ahead = counter - self.next + 1;
            self.seen = if ahead < 128 { self.seen << ahead } else { 0 };
            self.next = counter.saturating_add(1);
        }
        self.seen |= 1 << (self.next - 1 - counter);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn pair(version: u8) -> (Seal, Seal) {
        let key = [7; 32];
        let first = Seal::new(&key, true, &[1; 16], &[2; 16], version);
        let second = Seal::new(&key, false, &[2; 16], &[1; 16], version);
        (first, second)
    }

    fn sealed(seal: &mut Seal, path: Path, body: &[u8]) -> Vec<u8> {
        let mut datagram = [0; MAX_DATAGRAM];
        datagram[HEADER_LEN..HEADER_LEN + body.len()].copy_from_slice(body);
        let len = seal.seal(path, body.len(), &mut datagram).unwrap();
        datagram[..len].to_vec()
    }

    /// Computed apart from this code, with Python's `cryptography` (HKDF, ChaCha20Poly1305).
    #[test]
    fn vectors() {
        let (mut first, mut second) = pair(1);
        let datagrams = [
            sealed(&mut first, Path(0), b"beat"),
            sealed(&mut first, Path(2), b""),
            sealed(&mut second, Path(0), b"beat"),
        ];
        let hex = |bytes: &[u8]| -> std::string::String {
            bytes
                .iter()
                .map(|byte| std::format!("{byte:02x}"))
                .collect()
        };
        let expected = [
            "02010000755cd5da0000000000000000920212e1abcbab9c2fea26b6e92f32f366cdfc56",
            "02010200755cd5da000000000000000089d694b0504dd26656c8839764324ae3",
            "02010000755cd5da00000000000000001cdb5fd51779f67d308cb4c7ac5299c2d329413d",
        ];
        for (datagram, expected) in datagrams.iter().zip(expected) {
            assert_eq!(hex(datagram), expected);
        }
    }

    #[test]
    fn what_is_not_the_peers_is_not_opened() {
        let (mut first, mut second) = pair(1);
        let good = sealed(&mut first, Path(1), b"hello");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(second.open(Path(1), &mut bad).is_err(), "byte {at}");
        }
        for len in 0..good.len() {
            let mut short = good[..len].to_vec();
            assert!(second.open(Path(1), &mut short).is_err(), "length {len}");
        }
        let open = |seal: &mut Seal, path| {
            let mut datagram = good.clone();
            seal.open(path, &mut datagram).map(<[u8]>::to_vec)
        };
        assert_eq!(open(&mut second, Path(0)), Err(OpenError::Foreign));
        assert_eq!(
            open(&mut first, Path(1)),
            Err(OpenError::Forged),
            "reflected"
        );
        assert_eq!(open(&mut pair(2).1, Path(1)), Err(OpenError::Foreign));
        assert_eq!(open(&mut second, Path(1)), Ok(b"hello".to_vec()));
        assert_eq!(open(&mut second, Path(1)), Err(OpenError::Replayed));
    }

    proptest! {
        /// Nothing twice; everything once that is not older than the window.
        #[test]
        fn windows(steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..300)) {
            let mut window = Window::default();
            let mut seen = HashSet::new();
            let mut highest = 0;
            for (counter, far) in steps {
                let counter = if far { counter * 1000 } else { counter };
                let fresh = !seen.contains(&counter) && counter + 128 > highest;
                prop_assert_eq!(window.is_new(counter), fresh, "{}", counter);
                if window.is_new(counter) {
                    window.accept(counter);
                    seen.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}
