//! One node of a table: 8 bytes in flash.
//!
//! A node compares one word of the key. The low word says how:
//!
//! | bits | content |
//! |---|---|
//! | 0–2 | operation |
//! | 3–6 | dimension: index of the key's word |
//! | 7–11 | shift, for `PREFIX` |
//! | 12–31 | target: index of a later node; of a leaf the rule |

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A node as it lies in memory, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Node {
    word: u32,
    value: u32,
}

/// Goes on at the target if the key is at most the value, and behind the target if it is greater.
pub const SPLIT: u32 = 0;
/// Goes on at the target; the value is zero.
pub const GOTO: u32 = 1;
/// Ends here with the rule of the target and the verdict of the value, or without a match.
pub const LEAF: u32 = 2;
/// The tests go on with the next node if they hold, and at the target if not. This one: key ≤ value.
pub const AT_MOST: u32 = 3;
/// Key ≥ value.
pub const AT_LEAST: u32 = 4;
/// Key and value are equal but for the `shift` lowest bits.
pub const PREFIX: u32 = 5;
/// Key is between the low half and the high half of the value.
pub const RANGE: u32 = 6;
/// The bit of the value that the key counts out is set.
pub const SET: u32 = 7;

/// Rule of a leaf that is no match.
pub const NO_RULE: u32 = 0xffff;
/// Most nodes: targets have 20 bits.
pub const MAX_NODES: usize = 1 << 20;

impl Node {
    /// Encodes a node. Fields must fit their bits.
    #[cfg(feature = "compile")]
    pub fn new(operation: u32, dimension: usize, shift: u32, target: u32, value: u32) -> Self {
        debug_assert!(operation < 8 && dimension < 16 && shift < 32 && target < 1 << 20);
        let word = operation | (dimension as u32) << 3 | shift << 7 | target << 12;
        Self {
            word: word.to_le(),
            value: value.to_le(),
        }
    }

    /// The leaf that is no match.
    pub const fn nothing() -> Self {
        Self {
            word: (LEAF | NO_RULE << 12).to_le(),
            value: 0,
        }
    }

    #[inline]
    pub fn word(self) -> Word {
        Word(u32::from_le(self.word))
    }

    #[inline]
    pub fn value(self) -> u32 {
        u32::from_le(self.value)
    }
}

/// The low word of a node.
#[derive(Clone, Copy, Debug)]
pub struct Word(u32);

impl Word {
    #[inline]
    pub fn operation(self) -> u32 {
        self.0 & 7
    }

    #[inline]
    pub fn dimension(self) -> usize {
        (self.0 >> 3 & 15) as usize
    }

    #[inline]
    pub fn shift(self) -> u32 {
        self.0 >> 7 & 31
    }

    #[inline]
    pub fn target(self) -> usize {
        (self.0 >> 12) as usize
    }
}
