//! The form in which a policy lies in an appliance's memory: a header of 20 bytes, the configuration, the rules.
//!
//! | offset | size | content (little-endian) |
//! |---|---|---|
//! | 0 | 4 | `RVLN` |
//! | 4 | 2 | format version, 5 |
//! | 6 | 2 | zero |
//! | 8 | 4 | length of the configuration, c |
//! | 12 | 4 | length of the tables |
//! | 16 | 4 | CRC-32 (ISO-HDLC) of all that follows |
//! | 20 | c | the [`Config`] in postcard |
//! | 20 + c | 0–3 | zeros up to a multiple of 4 |
//! | … | … | the rules' tables (crate `classifier`), or nothing for no rules |
//!
//! Released bytes keep their meaning for ever: a change of the types is a new format version. Version 1 had the
//! rules inside of the configuration, version 2 no authorities for checks over TLS, version 3 one virtual router for each
//! interface and nothing about a peer, version 4 nobody to tell of events.

use crc::{CRC_32_ISO_HDLC, Crc};

use crate::{Config, ConfigError};

/// The version of the format that this code writes and reads.
pub const FORMAT_VERSION: u16 = 5;

/// A buffer of this size holds every valid [`Config`] without tables.
pub const MAX_CONFIG: usize = 32 * 1024;
/// Room for configuration and tables where no board says how much there is: an appliance that is a process.
pub const MAX_BLOB: usize = 4 * 1024 * 1024;

/// Why a [`Config`] cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It could not be decoded again.
    #[error("invalid configuration: {0}")]
    Invalid(#[from] ConfigError),
    /// The buffer, or the region of the board, is too small.
    #[error("the configuration and {tables} bytes of rules do not fit {have} bytes")]
    TooLarge {
        /// Size of the tables.
        tables: usize,
        /// Size of the buffer.
        have: usize,
    },
}

/// Why a blob is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DecodeError {
    /// The memory is as its erasure left it: all ones or all zeros.
    #[error("no configuration: the region is erased")]
    Erased,
    /// It ends too early.
    #[error("truncated: need {need} bytes, have {have}")]
    Truncated {
        /// Bytes that the header asks for.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// It is something else.
    #[error("not a configuration: it begins with {0:02x?}")]
    Magic([u8; 4]),
    /// It was made for other firmware.
    #[error("format version {0} is not supported (this firmware reads {FORMAT_VERSION})")]
    UnsupportedVersion(u16),
    /// The two bytes that must be zero are not.
    #[error("reserved header field is {0:#06x} instead of zero")]
    Reserved(u16),
    /// It was damaged on its way or in its memory.
    #[error("damaged: checksum is {computed:08x}, header says {stored:08x}")]
    Checksum {
        /// As the header has it.
        stored: u32,
        /// As the payload gives it.
        computed: u32,
    },
    /// The bytes are whole but no configuration.
    #[error("the payload is not a configuration")]
    Malformed,
    /// There are bytes behind the configuration that do not belong to it.
    #[error("{0} bytes after the configuration")]
    Trailing(usize),
    /// The bytes between configuration and tables are not zero.
    #[error("the bytes before the rules are not zero")]
    Padding,
    /// The configuration contradicts itself.
    #[error("invalid configuration: {0}")]
    Invalid(#[from] ConfigError),
}

/// Validates `config` and writes its blob with the rules' `tables` to the front of `buffer`; returns the written
/// part.
///
/// # Errors
/// If the configuration is wrong, or the buffer too small.
pub fn encode<'a>(
    config: &Config,
    tables: &[u8],
    buffer: &'a mut [u8],
) -> Result<&'a [u8], EncodeError> {
    config.validate()?;
    let too_large = EncodeError::TooLarge {
        tables: tables.len(),
        have: buffer.len(),
    };
    let space = buffer.get_mut(HEADER..).ok_or(too_large)?;
    let length = postcard::to_slice(config, space)
        .map_err(|_| too_large)?
        .len();
    let begin = length.next_multiple_of(ALIGN);
    let total = begin + tables.len();
    space.get_mut(length..begin).ok_or(too_large)?.fill(0);
    space
        .get_mut(begin..total)
        .ok_or(too_large)?
        .copy_from_slice(tables);
    let checksum = CRC.checksum(space.get(..total).ok_or(too_large)?);
    let field = |value: usize| u32::try_from(value).map_err(|_| too_large);
    let (length, tables) = (field(length)?, field(tables.len())?);

    let header = buffer.first_chunk_mut::<HEADER>().ok_or(too_large)?;
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&[0, 0]);
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&tables.to_le_bytes());
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    buffer.get(..HEADER + total).ok_or(too_large)
}

/// Reads and validates the configuration of the blob at the front of `bytes`, and returns it with the bytes of the
/// rules' tables. What follows the blob is not looked at, so a whole memory region can be passed; if it is aligned
/// to 4, the tables are too.
///
/// # Errors
/// If the bytes are erased, foreign or damaged, or contradict themselves.
pub fn decode(bytes: &[u8]) -> Result<(Config, &[u8]), DecodeError> {
    let truncated = |need| DecodeError::Truncated {
        need,
        have: bytes.len(),
    };
    let start = bytes
        .first_chunk::<VERSIONED>()
        .ok_or(truncated(VERSIONED))?;
    if [[0xff; VERSIONED], [0; VERSIONED]].contains(start) {
        return Err(DecodeError::Erased);
    }
    // Of other versions only so much is known.
    let [m0, m1, m2, m3, v0, v1, r0, r1] = *start;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(DecodeError::Magic([m0, m1, m2, m3]));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != FORMAT_VERSION {
        return Err(DecodeError::UnsupportedVersion(version));
    }
    let reserved = u16::from_le_bytes([r0, r1]);
    if reserved != 0 {
        return Err(DecodeError::Reserved(reserved));
    }
    let (header, rest) = bytes
        .split_first_chunk::<HEADER>()
        .ok_or(truncated(HEADER))?;
    let [_, _, length, tables, stored] = words(header);
    // Sums of untrusted lengths, which on the device could go round.
    let begin = (length as usize).checked_next_multiple_of(ALIGN);
    let total = begin.and_then(|begin| begin.checked_add(tables as usize));
    let need = total.and_then(|total| total.checked_add(HEADER));
    let (begin, total) = begin.zip(total).ok_or(truncated(usize::MAX))?;
    let payload = rest
        .get(..total)
        .ok_or(truncated(need.unwrap_or(usize::MAX)))?;
    let computed = CRC.checksum(payload);
    if computed != stored {
        return Err(DecodeError::Checksum { stored, computed });
    }
    let (payload, tables) = payload
        .split_at_checked(begin)
        .ok_or(DecodeError::Malformed)?;
    let (payload, padding) = payload
        .split_at_checked(length as usize)
        .ok_or(DecodeError::Malformed)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Padding);
    }
    let (config, trailing) =
        postcard::take_from_bytes::<Config>(payload).map_err(|_| DecodeError::Malformed)?;
    if !trailing.is_empty() {
        return Err(DecodeError::Trailing(trailing.len()));
    }
    config.validate()?;
    Ok((config, tables))
}

/// How long the blob at the front of `bytes` is, if its header is right.
#[must_use]
pub fn length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER>()?;
    let [magic, _, length, tables, _] = words(header);
    let begin = (length as usize).checked_next_multiple_of(ALIGN)?;
    let total = begin.checked_add(tables as usize)?.checked_add(HEADER)?;
    (magic.to_le_bytes() == MAGIC && total <= bytes.len()).then_some(total)
}

fn words(header: &[u8; HEADER]) -> [u32; HEADER / 4] {
    let mut words = [0; HEADER / 4];
    for (word, bytes) in words.iter_mut().zip(header.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

const MAGIC: [u8; 4] = *b"RVLN";
/// What every version begins with: magic, version, zero.
const VERSIONED: usize = 8;
const HEADER: usize = 20;
const ALIGN: usize = 4;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
