//! The form in which a [`Config`] lies in an appliance's memory: a header of 16 bytes, then postcard.
//!
//! | offset | size | content (little-endian) |
//! |---|---|---|
//! | 0 | 4 | `RVLN` |
//! | 4 | 2 | format version, 2 |
//! | 6 | 2 | zero |
//! | 8 | 4 | length of the payload |
//! | 12 | 4 | CRC-32 (ISO-HDLC) of the payload |
//! | 16 | … | payload: the [`Config`] in postcard |
//!
//! Released bytes keep their meaning for ever: a change of the types is a new format version.

use crc::{CRC_32_ISO_HDLC, Crc};

use crate::{Config, ConfigError};

/// The version of the format that this code writes and reads.
pub const FORMAT_VERSION: u16 = 2;

/// A buffer of this size holds every valid [`Config`].
pub const MAX_BLOB: usize = 32 * 1024;

/// Why a [`Config`] cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It could not be decoded again.
    #[error("invalid configuration: {0}")]
    Invalid(#[from] ConfigError),
    /// [`MAX_BLOB`] bytes are always enough.
    #[error("the configuration does not fit a buffer of {have} bytes")]
    BufferTooSmall {
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
    /// The payload is whole but no configuration.
    #[error("the payload is not a configuration")]
    Malformed,
    /// The payload goes on after the configuration.
    #[error("{0} bytes after the configuration")]
    Trailing(usize),
    /// The configuration contradicts itself.
    #[error("invalid configuration: {0}")]
    Invalid(#[from] ConfigError),
}

/// Validates `config` and writes its blob to the front of `buffer`; returns the written part.
pub fn encode<'a>(config: &Config, buffer: &'a mut [u8]) -> Result<&'a [u8], EncodeError> {
    config.validate()?;
    let have = buffer.len();
    let too_small = EncodeError::BufferTooSmall { have };
    let (header, rest) = buffer.split_first_chunk_mut::<HEADER>().ok_or(too_small)?;
    let payload: &[u8] = postcard::to_slice(config, rest).map_err(|_| too_small)?;
    let length = u32::try_from(payload.len()).map_err(|_| too_small)?;

    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&[0, 0]);
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..].copy_from_slice(&CRC.checksum(payload).to_le_bytes());

    let total = HEADER + payload.len();
    Ok(&buffer[..total])
}

/// Reads and validates the blob at the front of `bytes`. What follows the blob is not looked at, so a
/// whole memory region can be passed.
pub fn decode(bytes: &[u8]) -> Result<Config, DecodeError> {
    let truncated = |need| DecodeError::Truncated {
        need,
        have: bytes.len(),
    };
    let (header, rest) = bytes
        .split_first_chunk::<HEADER>()
        .ok_or(truncated(HEADER))?;
    if [[0xff; HEADER], [0; HEADER]].contains(header) {
        return Err(DecodeError::Erased);
    }
    let &[
        m0,
        m1,
        m2,
        m3,
        v0,
        v1,
        r0,
        r1,
        l0,
        l1,
        l2,
        l3,
        c0,
        c1,
        c2,
        c3,
    ] = header;

    let magic = [m0, m1, m2, m3];
    if magic != MAGIC {
        return Err(DecodeError::Magic(magic));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != FORMAT_VERSION {
        return Err(DecodeError::UnsupportedVersion(version));
    }
    let reserved = u16::from_le_bytes([r0, r1]);
    if reserved != 0 {
        return Err(DecodeError::Reserved(reserved));
    }
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let payload = rest
        .get(..length)
        .ok_or(truncated(HEADER.saturating_add(length)))?;
    let stored = u32::from_le_bytes([c0, c1, c2, c3]);
    let computed = CRC.checksum(payload);
    if stored != computed {
        return Err(DecodeError::Checksum { stored, computed });
    }

    let (config, trailing) =
        postcard::take_from_bytes::<Config>(payload).map_err(|_| DecodeError::Malformed)?;
    if !trailing.is_empty() {
        return Err(DecodeError::Trailing(trailing.len()));
    }
    config.validate()?;
    Ok(config)
}

const MAGIC: [u8; 4] = *b"RVLN";
const HEADER: usize = 16;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
