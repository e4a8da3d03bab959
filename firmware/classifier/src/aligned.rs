//! Memory for tables on a host, where a `Vec<u8>` promises no alignment.

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

/// Bytes at an address that [`crate::load`] takes.
#[derive(Clone, Debug)]
pub struct Aligned {
    words: Vec<u32>,
    len: usize,
}

impl Aligned {
    /// A copy of `bytes`.
    #[must_use]
    pub fn copy(bytes: &[u8]) -> Self {
        let mut words = vec![0; bytes.len().div_ceil(4)];
        if let Some(space) = words.as_mut_bytes().get_mut(..bytes.len()) {
            space.copy_from_slice(bytes);
        }
        Self {
            words,
            len: bytes.len(),
        }
    }

    /// The same bytes, for the rest of the process, as the one is used that an appliance starts with.
    #[must_use]
    pub fn leak(self) -> &'static [u8] {
        let Self { words, len } = self;
        words.leak().as_bytes().get(..len).unwrap_or_default()
    }
}

impl core::ops::Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.words.as_bytes().get(..self.len).unwrap_or_default()
    }
}
