//! Datagrams, in the clear and sealed.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::MAX_DATAGRAM;

/// A number that is used for one command only.
pub type Challenge = [u8; 16];

/// What a datagram is: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To the appliance: which is the challenge? As long as the answer, so that nobody's traffic grows by asking.
    Ask,
    /// From the appliance: this one.
    Challenge,
    /// To the appliance, sealed.
    Command,
    /// From it, sealed.
    Answer,
}

/// In front of every datagram; sealed ones have a nonce too.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    kind: u8,
    version: u8,
    /// The challenge that is named, or that is met.
    pub challenge: Challenge,
}

/// The version of the protocol, which both must speak.
const VERSION: u8 = 2;
pub const HEADER_LEN: usize = size_of::<Header>();
/// Of a sealed datagram: header and nonce.
const FRONT: usize = HEADER_LEN + 12;
pub const TAG_LEN: usize = 16;
/// Most bytes that are sealed.
pub const MAX_BODY: usize = MAX_DATAGRAM - FRONT - TAG_LEN;

impl Header {
    /// A header of this kind.
    pub const fn new(kind: Kind, challenge: Challenge) -> Self {
        Self {
            kind: kind as u8 + 1,
            version: VERSION,
            challenge,
        }
    }

    /// Reads the header of a datagram of our version.
    pub fn read(datagram: &[u8]) -> Option<(Kind, Challenge)> {
        let (header, _) = Self::ref_from_prefix(datagram).ok()?;
        let kind = match header.kind {
            1 => Kind::Ask,
            2 => Kind::Challenge,
            3 => Kind::Command,
            4 => Kind::Answer,
            _ => return None,
        };
        (header.version == VERSION).then_some((kind, header.challenge))
    }
}

/// The operators' secret.
pub struct Secret(Hkdf<Sha256>);

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Hkdf::new(None, key))
    }

    /// The challenge with this number of a seed: nobody else can tell which one follows.
    pub fn challenge(&self, seed: u64, number: u64) -> Challenge {
        let mut challenge = Challenge::default();
        let info = [
            &b"challenge"[..],
            &seed.to_be_bytes(),
            &number.to_be_bytes(),
        ];
        self.expand(&info, &mut challenge);
        challenge
    }

    fn cipher(&self, kind: Kind, challenge: &Challenge) -> ChaCha20Poly1305 {
        let mut key = chacha20poly1305::Key::default();
        self.expand(&[&[kind as u8], challenge], &mut key);
        ChaCha20Poly1305::new(&key)
    }

    fn expand(&self, info: &[&[u8]], okm: &mut [u8]) {
        let expanded = self.0.expand_multi_info(info, okm);
        debug_assert!(expanded.is_ok(), "a key is shorter than all that HKDF has");
    }

    /// Seals `body`; the length of the datagram. Of one kind and challenge no two datagrams may have the same nonce.
    pub fn seal(
        &self,
        kind: Kind,
        challenge: Challenge,
        nonce: [u8; 12],
        body: &[u8],
        datagram: &mut [u8; MAX_DATAGRAM],
    ) -> Option<usize> {
        let (front, rest) = datagram.split_at_mut(FRONT);
        let header = Header::new(kind, challenge);
        front[..HEADER_LEN].copy_from_slice(header.as_bytes());
        front[HEADER_LEN..].copy_from_slice(&nonce);
        let (sealed, rest) = rest.split_at_mut_checked(body.len())?;
        sealed.copy_from_slice(body);
        let cipher = self.cipher(kind, &challenge);
        let tag = cipher.encrypt_inout_detached(&nonce.into(), front, sealed.into());
        rest.get_mut(..TAG_LEN)?.copy_from_slice(&tag.ok()?);
        Some(FRONT + body.len() + TAG_LEN)
    }

    /// Opens a datagram in place: its nonce and what was sealed.
    pub fn open<'d>(
        &self,
        kind: Kind,
        challenge: &Challenge,
        datagram: &'d mut [u8],
    ) -> Option<([u8; 12], &'d [u8])> {
        let (front, rest) = datagram.split_at_mut_checked(FRONT)?;
        let (sealed, tag) = rest.split_at_mut_checked(rest.len().checked_sub(TAG_LEN)?)?;
        let nonce = *front.last_chunk::<12>()?;
        let tag = Tag::try_from(&*tag).ok()?;
        let cipher = self.cipher(kind, challenge);
        let opened =
            cipher.decrypt_inout_detached(&nonce.into(), front, (&mut *sealed).into(), &tag);
        opened.ok()?;
        Some((nonce, sealed))
    }
}
