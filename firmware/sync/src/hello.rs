//! How two appliances begin a session: each proves that it has the pair's key and is here now.
//!
//! Each side draws a number that it never used. A hello says that number and, in answer to a hello, the other's. Who
//! hears its own number knows that the answer is no recording, and has all that the session's keys are made of. Nothing
//! else changes anything: a recorded hello earns one answer, that its sender can do nothing with.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First byte of a hello.
pub const HELLO: u8 = 1;

/// A number that is used for one session only.
pub type Nonce = [u8; 16];

/// The datagram, in wire order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Hello {
    /// [`HELLO`].
    pub kind: u8,
    /// The oldest version that the sender speaks.
    pub oldest: u8,
    /// The newest one.
    pub newest: u8,
    /// Demotions of the receiver that the sender remembers.
    pub remembered: u8,
    /// The sender's number.
    pub own: Nonce,
    /// The receiver's, zeros if the sender asks for it.
    pub echo: Nonce,
    tag: [u8; 16],
}

/// Bytes of a hello.
pub const HELLO_LEN: usize = size_of::<Hello>();
/// No number.
pub const NOBODY: Nonce = [0; 16];

/// The keys of hellos, one for each direction so that none can be sent back.
#[derive(Debug)]
pub struct Keys {
    sent: Key,
    received: Key,
}

struct Key(Hmac<Sha256>);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Keys {
    /// The keys made of the pair's; `first`: this is the first appliance of the pair.
    #[must_use]
    pub fn new(key: &[u8; 32], first: bool) -> Self {
        let hkdf = Hkdf::<Sha256>::new(None, key);
        let [from_first, from_second] = [b'1', b'2'].map(|side| {
            let mut okm = [0; 32];
            let expanded = hkdf.expand_multi_info(&[b"ravelin pair hello", &[side]], &mut okm);
            debug_assert!(expanded.is_ok(), "32 bytes are fewer than HKDF has");
            Key(Hmac::new(&hmac_key(&okm)))
        });
        match first {
            true => Self {
                sent: from_first,
                received: from_second,
            },
            false => Self {
                sent: from_second,
                received: from_first,
            },
        }
    }

    /// A hello, ready to be sent.
    #[must_use]
    pub fn hello(&self, versions: (u8, u8), remembered: u8, own: Nonce, echo: Nonce) -> Hello {
        let mut hello = Hello {
            kind: HELLO,
            oldest: versions.0,
            newest: versions.1,
            remembered,
            own,
            echo,
            tag: [0; 16],
        };
        let tag = self.sent.over(&hello).finalize().into_bytes();
        hello.tag.copy_from_slice(&tag[..16]);
        hello
    }

    /// Reads a hello that the peer made at some time.
    #[must_use]
    pub fn open(&self, datagram: &[u8]) -> Option<Hello> {
        let hello = Hello::read_from_bytes(datagram).ok()?;
        let mac = self.received.over(&hello);
        mac.verify_truncated_left(&hello.tag).ok()?;
        (hello.kind == HELLO && hello.own != NOBODY).then_some(hello)
    }
}

impl Key {
    fn over(&self, hello: &Hello) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&hello.as_bytes()[..HELLO_LEN - hello.tag.len()]);
        mac
    }
}

/// The newest version that both speak.
#[must_use]
pub fn common(ours: (u8, u8), theirs: (u8, u8)) -> Option<u8> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0 && newest >= theirs.0).then_some(newest)
}

/// A key as long as a block, so that the type says that it fits.
pub fn hmac_key(key: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..32].copy_from_slice(key);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed apart from this code, with Python's `hmac` and `cryptography` (HKDF).
    #[test]
    fn vector() {
        let keys = Keys::new(&[7; 32], true);
        let hello = keys.hello((1, 3), 0x10, [1; 16], [2; 16]);
        let mut expected = [0; HELLO_LEN];
        expected[..4].copy_from_slice(&[1, 1, 3, 0x10]);
        expected[4..20].fill(1);
        expected[20..36].fill(2);
        let tag = 0xeb73_4602_791b_feb2_cb4e_0ecd_cc05_05cf_u128;
        expected[36..].copy_from_slice(&tag.to_be_bytes());
        assert_eq!(hello.as_bytes(), expected);
        let peer = Keys::new(&[7; 32], false);
        assert_eq!(peer.open(&expected), Some(hello));
        assert_eq!(keys.open(&expected), None, "reflected");
        for at in 0..HELLO_LEN {
            let mut bad = expected;
            bad[at] ^= 0x80;
            assert_eq!(peer.open(&bad), None, "byte {at}");
        }
        assert_eq!(peer.open(&expected[..HELLO_LEN - 1]), None);
    }

    #[test]
    fn versions() {
        let table = [
            ((1, 1), (1, 1), Some(1)),
            ((1, 3), (2, 5), Some(3)),
            ((2, 5), (1, 3), Some(3)),
            ((1, 1), (2, 3), None),
            ((2, 3), (1, 1), None),
            ((3, 1), (1, 3), None),
        ];
        for (ours, theirs, expected) in table {
            assert_eq!(common(ours, theirs), expected, "{ours:?} {theirs:?}");
        }
    }
}
